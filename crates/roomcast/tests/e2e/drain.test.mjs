// A gateway is taken out of service under its clients: stock clients come back elsewhere by themselves, and none gives up.

import assert from "node:assert/strict";
import { after, describe, it } from "node:test";

import { closeClients, connected, socketIo } from "./support/clients.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { startProxy } from "./support/proxy.mjs";
import { until } from "./support/recorder.mjs";
import { tokenOf } from "./support/token.mjs";

/** Half of them on WebSocket, half on polling. */
const CLIENTS = Number(process.env.DRAIN_CLIENTS ?? 1000);

for (const shards of SHARDS) {
  describe(`SIGTERM on ${shards} shard(s)`, () => {
    after(closeClients);

    it(`under ${CLIENTS} stock clients behind a proxy: all are back, and none was told not to come back`, async () => {
      const [first, second] = [await startGateway({ shards }), await startGateway({ shards })];
      const proxy = await startProxy([first, second]);
      const come = (index) =>
        connected(proxy.url, {
          name: `client ${index}`,
          token: tokenOf(`u${index}`),
          transports: index % 2 ? ["websocket"] : ["polling"],
          reconnection: true,
          reconnectionAttempts: 5,
        });
      const clients = [];
      while (clients.length < CLIENTS) clients.push(...(await Promise.all(Array.from({ length: Math.min(100, CLIENTS - clients.length) }, (_, index) => come(clients.length + index)))));
      const connectedSockets = async (gateway) => (await gateway.get("/metrics")).json.connectedSockets;
      assert.equal(await connectedSockets(first), CLIENTS);
      const failed = [];
      for (const client of clients) client.socket.io.on("reconnect_failed", () => failed.push(client.events.name));

      first.signal("SIGTERM");
      await until(() => connectedSockets(second), (count) => count === CLIENTS, `${CLIENTS} clients on the second gateway`, 60_000);
      assert.deepEqual(failed, []);
      for (const client of clients) {
        const reasons = client.events.items.filter((item) => item.event === "disconnect").map((item) => item.args[0]);
        assert.equal(reasons.length, 1, `${client.events.name}: ${reasons}`);
        assert.match(reasons[0], /^transport (close|error)$/);
      }
      assert.deepEqual((({ code, signal }) => ({ code, signal }))(await first.ended), { code: 0, signal: null });
      closeClients();
      proxy.close();
      await second.stop();
    });

    it("not ready at once, no new sessions, the clients of the drain delay still served, then exit 0", async () => {
      const gateway = await startGateway({ shards, env: { DRAIN_DELAY: "5s" } });
      const client = await connected(gateway.url, { token: tokenOf("ann") });
      gateway.signal("SIGTERM");
      await until(() => gateway.get("/health/ready"), (answer) => answer.status === 503, "not ready");
      assert.equal((await fetch(`${gateway.url}/socket.io/?EIO=4&transport=polling`)).status, 503);
      const answer = await client.ask("join_room", { roomType: "conversation", roomId: "1" });
      assert.equal(answer.success, true);
      assert.equal(await client.next("disconnect"), "transport close");
      assert.equal((await gateway.ended).code, 0);
    });

    it("a second signal ends it at once", async () => {
      const gateway = await startGateway({ shards, env: { DRAIN_DELAY: "60s" } });
      const client = socketIo(gateway.url, { token: tokenOf("ann") });
      await client.next("connected");
      gateway.signal("SIGTERM");
      await gateway.log.next((line) => line.message === "draining", "the drain");
      gateway.signal("SIGTERM");
      assert.notEqual((await gateway.ended).code, 0);
    });
  });
}
