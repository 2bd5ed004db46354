// One connection for each user: the last one wins, whatever it speaks and on whichever shard it is.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected, plain } from "./support/clients.mjs";
import { roomcast, SHARDS, startGateway } from "./support/gateway.mjs";

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

    it("another user is left alone", async () => {
      const other = await connected(gateway.url, { query: { userId: "sam" } });
      await open().next("connected");
      assert.equal((await other.ask("join", { room: "a" })).success, true);
    });
  });
}
