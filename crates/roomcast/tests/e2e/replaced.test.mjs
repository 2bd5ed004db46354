// One connection for each user: the last one wins, whatever it speaks and on whichever shard it is.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected, plain, socketIo } from "./support/clients.mjs";
import { roomcast, SHARDS, startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";

for (const shards of SHARDS) {
  describe(`one connection for each user on ${shards} shard(s)`, () => {
    let gateway;
    before(async () => {
      const { stdout } = await roomcast(["profile", "show", "demo"]).ended;
      gateway = await startGateway({ shards, text: `${stdout}\n[user]\nconnections = 1\n` });
    });
    after(() => gateway.stop());
    afterEach(closeClients);

    const open = () => plain(`${gateway.url.replace(/^http/, "ws")}/ws?userId=mia`);

    it("a plain client is told `replaced` and closed with 4409", async () => {
      const older = open();
      await older.next("connected");
      const newer = open();
      await newer.next("connected");
      assert.equal((await older.next("error")).code, "replaced");
      const { close, reason } = await older.closed();
      assert.deepEqual({ close, reason }, { close: 4409, reason: "replaced" });
      newer.send({ type: "join", room: "still-here" });
      await newer.next("joined");
    });

    it("a stock client is told `replaced` and does not come back", async () => {
      const older = await connected(gateway.url, { query: { userId: "mia" }, reconnection: true });
      await open().next("connected");
      assert.equal((await older.next("error")).code, "replaced");
      assert.equal(await older.next("disconnect"), "io server disconnect");
    });

    it("of twenty that come at once one stays, in whatever dialect, each other is told, and no place is lost", async () => {
      const here = (count, what) => until(() => gateway.metric("roomcast_sockets"), (sockets) => sockets === count, what);
      const presence = async () => (await gateway.api("GET", "/api/presence/ida")).json.online;
      for (let round = 1; round <= 3; round += 1) {
        const comers = Array.from({ length: 20 }, (_, index) => {
          if (index % 2 === 0) return plain(`${gateway.ws}/ws?userId=ida`, { name: `plain ${index}` });
          const transports = [["websocket"], ["polling"]][index % 4 < 2 ? 0 : 1];
          return socketIo(gateway.url, { name: `stock ${index}`, query: { userId: "ida" }, transports });
        });
        await here(1, "all but one to be gone");
        const isOver = (comer) => comer.events.items.some((item) => item.close !== undefined || item.event === "disconnect");
        await until(() => comers.filter((comer) => !isOver(comer)).length, (left) => left === 1, "each but one to know it");
        for (const comer of comers.filter(isOver)) {
          const told = comer.events.items.map((item) => item.json ?? { type: item.event, code: item.args?.[0]?.code });
          assert.equal(told.find(({ type }) => type === "error")?.code, "replaced", `${comer.events.name}: ${JSON.stringify(comer.events.items)}`);
          const end = comer.events.items.at(-1);
          assert.ok(comer.socket.io ? end.args[0] === "io server disconnect" : end.close === 4409, JSON.stringify(end));
        }
        const stayed = comers.find((comer) => !isOver(comer));
        assert.equal((await gateway.api("GET", "/api/rooms/user:ida")).json.members, 1);
        assert.equal(await presence(), true);
        stayed.close();
        await here(0, "the last one to be gone");
        assert.equal(await presence(), false);
      }
      const alone = plain(`${gateway.ws}/ws?userId=ida`);
      await alone.next("connected");
      alone.send({ type: "join", room: "alone" });
      await alone.next("joined");
      assert.ok(!alone.events.items.some((item) => item.json?.type === "error"), "nobody is in its way");
    });

    it("code and error are the profile's", async () => {
      const { stdout } = await roomcast(["profile", "show", "demo"]).ended;
      const own = await startGateway({ shards, text: `${stdout}\n[user]\nconnections = 2\nsurplus = { code = 4900, error = "forbidden" }\n` });
      const comers = [];
      for (let index = 0; index < 3; index += 1) {
        comers.push(plain(`${own.ws}/ws?userId=mia`));
        await comers[index].next("connected");
      }
      assert.equal((await comers[0].next("error")).code, "forbidden");
      const { close, reason } = await comers[0].closed();
      assert.deepEqual({ close, reason }, { close: 4900, reason: "forbidden" });
      comers[1].send({ type: "join", room: "still-here" });
      await comers[1].next("joined");
      await own.stop();
    });

    it("another user is left alone", async () => {
      const other = await connected(gateway.url, { query: { userId: "sam" } });
      await open().next("connected");
      assert.equal((await other.ask("join", { room: "a" })).success, true);
    });
  });
}
