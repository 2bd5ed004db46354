// A plain TCP proxy, as it stands in front of several gateways: new connections go to the first gateway that says it is ready.

import { connect, createServer } from "node:net";

const CHECK_MS = 50;

export async function startProxy(gateways) {
  let ready = gateways[0];
  const sockets = new Set();
  const check = setInterval(async () => {
    for (const gateway of gateways) {
      const answer = await gateway.get("/health/ready").catch(() => undefined);
      if (answer?.status === 200) {
        ready = gateway;
        return;
      }
    }
  }, CHECK_MS).unref();
  const server = createServer((client) => {
    const upstream = connect(ready.port, "127.0.0.1");
    for (const [one, other] of [[client, upstream], [upstream, client]]) {
      sockets.add(one);
      one.setNoDelay(true);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroySoon();
      });
      one.pipe(other);
    }
  });
  server.unref();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", 4096, resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close() {
      clearInterval(check);
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
