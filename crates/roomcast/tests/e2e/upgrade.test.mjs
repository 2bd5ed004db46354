// Sessions that are ended in the middle of their move from polling to a WebSocket: the client is told why, and does not come back.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected, socketIo, TRANSPORTS } from "./support/clients.mjs";
import { roomcast, SHARDS, startGateway } from "./support/gateway.mjs";
import { closeConnections, frame, request, upgrade } from "./support/raw_http.mjs";
import { until, within } from "./support/recorder.mjs";

/** How soon a session is gone whose client was told: well within the 30 s that one waits for a client which does not ask. */
const GONE_MS = 20_000;

for (const shards of SHARDS) {
  describe(`a session that is ended in the middle of its upgrade, on ${shards} shard(s)`, () => {
    let gateway;
    before(async () => {
      const { stdout } = await roomcast(["profile", "show", "demo"]).ended;
      // No time-out hides that somebody is waited for in vain.
      const patient = stdout.replace('protocol = "socket.io"', '$&\nupgrade_timeout = "5m"');
      gateway = await startGateway({ shards, text: `${patient}\n[limits]\nclose_timeout = "5m"\n\n[user]\nconnections = 1\n` });
    });
    after(() => gateway.stop());
    afterEach(() => {
      closeClients();
      closeConnections();
    });

    const left = (count, what) => until(() => gateway.metric("roomcast_connections"), (open) => open === count, what, GONE_MS);
    const disconnect = async (userId) => (await gateway.api("POST", "/api/disconnect", { userId })).json.disconnected;

    /** A session by hand that has entered, and the WebSocket that it moves to: the client has paused its polling. */
    async function moving(userId) {
      const path = `/socket.io/?EIO=4&userId=${userId}`;
      const { sid } = JSON.parse((await request(gateway.url, "GET", `${path}&transport=polling`)).text.slice(1));
      const polling = `${path}&transport=polling&sid=${sid}`;
      await request(gateway.url, "POST", polling, {}, "40");
      const got = (await request(gateway.url, "GET", polling)).text;
      assert.match(got, /^40\{.*"connected"/s);
      const { connection } = await upgrade(gateway.url, `${path}&transport=websocket&sid=${sid}`);
      connection.send("2probe");
      assert.equal((await connection.frame()).text, "3probe");
      assert.equal((await request(gateway.url, "GET", polling)).text, "6");
      return { connection, polling };
    }

    it("finishes it, says what is due, and is closed then", async () => {
      const { connection, polling } = await moving("mia");
      assert.equal(await disconnect("mia"), 1);
      connection.send("5");
      assert.equal((await connection.frame()).text, "41");
      assert.equal(await connection.closeCode(), 1005);
      assert.equal((await request(gateway.url, "GET", polling)).status, 400);
      connection.destroy();
      await left(0, "the session to be gone");
    });

    it("says that it was replaced, too, with the code of that", async () => {
      const { connection } = await moving("mia");
      const newer = await connected(gateway.url, { query: { userId: "mia" } });
      connection.send("5");
      assert.match((await connection.frame()).text, /^42\["error",\{"code":"replaced"/);
      assert.equal((await connection.frame()).text, "41");
      assert.equal(await connection.closeCode(), 4409);
      connection.destroy();
      await left(1, "the older session to be gone");
      assert.equal((await newer.ask("join", { room: "still-here" })).success, true);
      newer.close();
      await left(0, "the newer session to be gone");
    });

    it("hears what stands right behind the `5`", async () => {
      const { connection, polling } = await moving("mia");
      connection.write(Buffer.concat([frame(1, "5"), frame(9, "are you there?"), frame(1, '420["join",{"room":"r"}]'), frame(8, "")]));
      assert.deepEqual([await connection.frame(), await connection.frame()].map(({ opcode, text }) => [opcode, text]), [
        [10, "are you there?"],
        [1, '430[{"success":true,"room":"r"}]'],
      ]);
      assert.equal(await connection.closeCode(), 1005);
      await left(0, "the session to be gone");
      assert.equal((await request(gateway.url, "GET", polling)).status, 400);
    });

    it("that never finishes it says so by its polls", async () => {
      const { connection, polling } = await moving("mia");
      assert.equal(await disconnect("mia"), 1);
      connection.destroy();
      assert.equal((await request(gateway.url, "GET", polling)).text, "41");
      assert.equal((await request(gateway.url, "GET", polling)).text, "6\x1e1");
      await left(0, "the session to be gone");
    });

    it("of stock clients that come at once as one user one stays, and each other is told and does not come back", async () => {
      for (let round = 1; round <= 4; round += 1) {
        const comers = [];
        for (let index = 0; index < 20; index += 1) {
          comers.push(socketIo(gateway.url, { name: `comer ${index}`, query: { userId: "ida" }, transports: TRANSPORTS.upgrade, reconnection: true, reconnectionDelay: 10 }));
          // They come on each other's heels, so that each is somewhere else on its way when it is replaced.
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 30));
        }
        const isOver = (comer) => comer.events.items.some((item) => item.event === "disconnect");
        await until(() => comers.filter((comer) => !isOver(comer)).length, (stay) => stay === 1, "each but one to know its end");
        for (const comer of comers.filter(isOver)) {
          const told = JSON.stringify(comer.events.items);
          const names = comer.events.items.map((item) => item.event);
          assert.deepEqual(names, ["connect", "connected", "error", "disconnect"], `${comer.events.name}: ${told}`);
          assert.equal(comer.events.items[2].args[0].code, "replaced", told);
          assert.equal(comer.events.items[3].args[0], "io server disconnect", told);
        }
        await left(1, "the sessions of the others to be gone");
        comers.find((comer) => !isOver(comer)).close();
        await left(0, "the last session to be gone");
      }
    });

    it("a stock client that is disconnected at any moment of it knows so, and does not come back", async () => {
      const users = Array.from({ length: 40 }, (_, index) => `user ${index}`);
      const ended = users.map(async (userId, index) => {
        const client = socketIo(gateway.url, { name: userId, query: { userId }, transports: TRANSPORTS.upgrade, reconnection: true, reconnectionDelay: 10 });
        // Every other one once its WebSocket has answered, which is when it pauses its polling.
        const isPausing = index % 2 === 1 && within(new Promise((resolve) => client.socket.io.engine.once("upgrading", resolve)), `the upgrade of ${userId}`);
        await client.next("connected");
        await isPausing;
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 120));
        assert.equal(await disconnect(userId), 1, userId);
        assert.equal(await client.next("disconnect"), "io server disconnect", userId);
        return client;
      });
      const clients = await Promise.all(ended);
      await left(0, "the sessions to be gone");
      for (const client of clients) {
        assert.deepEqual(client.events.items.map((item) => item.event), ["connect", "connected", "disconnect"], client.events.name);
      }
    });
  });
}
