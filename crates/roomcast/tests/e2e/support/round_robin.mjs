// A plain TCP balancer without a memory: each connection goes to the next gateway, past those that nobody can connect to.

import { connect, createServer } from "node:net";

/** What has a client send each of its polls over a connection of its own, so that each comes to the next gateway. */
export const EACH_ALONE = { transportOptions: { polling: { extraHeaders: { connection: "close" } } } };

export async function startRoundRobin(gateways) {
  let turn = 0;
  const sockets = new Set();
  const server = createServer({ pauseOnConnect: true }, (client) => {
    track(client);
    lead(client, gateways.length);
  });
  function track(socket) {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  }
  function lead(client, attempts) {
    if (attempts === 0) return client.destroy();
    const upstream = connect(gateways[turn++ % gateways.length].port, "127.0.0.1");
    let isConnected = false;
    track(upstream);
    upstream.on("connect", () => {
      isConnected = true;
      client.pipe(upstream).pipe(client);
      // A connection that one side breaks is broken for the other.
      client.on("close", () => upstream.destroy());
      client.resume();
    });
    upstream.on("close", () => (isConnected ? client.destroySoon() : lead(client, attempts - 1)));
  }
  server.unref();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", 4096, resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    ws: `ws://127.0.0.1:${server.address().port}`,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
