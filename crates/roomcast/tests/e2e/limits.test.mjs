// What is too much: too large, too slow, malformed. Each gets its documented answer, and nobody else notices.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected, plain, rawSocketIo, socketIo } from "./support/clients.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";
import { tokenOf } from "./support/token.mjs";

const TEN_MB = "x".repeat(10_000_000);

for (const shards of SHARDS) {
  describe(`limits on ${shards} shard(s)`, () => {
    let gateway;
    let witness;
    before(async () => {
      gateway = await startGateway({ shards });
    });
    after(() => gateway.stop());
    afterEach(closeClients);

    const join = (client) => client.ask("join_room", { roomType: "conversation", roomId: "42" });
    const publish = (n, filler = "") => gateway.api("POST", "/api/publish", { rooms: ["conversation:42"], event: "new_message", data: { n, filler } });

    /** Someone who must not notice: in the room, and counting. */
    const startWitness = async () => {
      witness = await connected(gateway.url, { token: tokenOf("witness"), name: "the witness" });
      assert.equal((await join(witness)).success, true);
    };
    /** What is published now arrives at the witness, who is still on the same connection. */
    const seeWitness = async (n) => {
      await publish(n);
      await witness.next("new_message", (data) => data.n === n);
      assert.ok(!witness.names().includes("disconnect"));
    };

    it("a message of 10 MB over WebSocket is closed with 1009", async () => {
      await startWitness();
      const raw = await rawSocketIo(gateway.url, tokenOf("big"));
      raw.send(`42["join_room","${TEN_MB}"]`);
      assert.equal((await raw.closed()).close, 1009);
      await seeWitness(1);
    });

    it("a message of 10 MB over polling is answered with 413, and the session stays usable", async () => {
      const url = `${gateway.url}/socket.io/?EIO=4&transport=polling`;
      const { sid } = JSON.parse((await (await fetch(url)).text()).slice(1));
      const post = async (body) => (await fetch(`${url}&sid=${sid}`, { method: "POST", body, headers: { "content-type": "text/plain;charset=UTF-8" } })).status;
      assert.equal(await post(`42["join_room","${TEN_MB}"]`), 413);
      assert.equal(await post(`40${JSON.stringify({ token: tokenOf("big") })}`), 200);
      assert.match(await (await fetch(`${url}&sid=${sid}`)).text(), /40\{"sid":/);
      assert.equal(await post("1"), 200);
    });

    it("a stock client that sends 10 MB is disconnected, and the others go on", async () => {
      await startWitness();
      const client = await connected(gateway.url, { token: tokenOf("big") });
      client.socket.emit("join_room", { roomType: "conversation", roomId: TEN_MB });
      assert.match(await client.next("disconnect"), /transport (close|error)/);
      await seeWitness(2);
    });

    it("a client that stops reading is cut, and everyone else gets everything in order", async () => {
      await startWitness();
      const slow = await rawSocketIo(gateway.url, tokenOf("slow"));
      slow.send('420["join_room",{"roomType":"conversation","roomId":"42"}]');
      await slow.events.next((item) => item.text?.startsWith("430["), "the answer");
      slow.socket._socket.pause();
      const [before, filler] = [await gateway.metric("roomcast_slow_consumers_total"), "y".repeat(20_000)];
      let n = 1000;
      const isCut = async () => (await gateway.metric("roomcast_slow_consumers_total")) > before;
      do {
        for (let batch = 0; batch < 50; batch += 1) await publish((n += 1), filler);
        assert.ok(n < 20_000, "the slow client is never cut");
      } while (!(await isCut()));
      await seeWitness((n += 1));
      const numbers = witness.events.items.filter((item) => item.event === "new_message").map((item) => item.args[0].n).filter((number) => number > 1000);
      assert.deepEqual(numbers, Array.from({ length: n - 1000 }, (_, index) => 1001 + index));
      // When it reads again, it reads what was queued before, and then the reason.
      slow.socket._socket.resume();
      const { close, reason } = await slow.closed();
      assert.ok(close === 4008 || close === 1006, `${close} ${reason}`);
    });

    it("what is no packet ends its own session only", async () => {
      await startWitness();
      for (const text of ["42[", "42{}", "9", "4", '42["disconnect"]', "451-[]", "x".repeat(100)]) {
        const raw = await rawSocketIo(gateway.url, tokenOf("odd"));
        raw.send(text);
        await raw.closed();
      }
      const bytes = await rawSocketIo(gateway.url, tokenOf("odd"));
      bytes.socket.send(Buffer.from([1, 2, 3]));
      await bytes.closed();
      await seeWitness(3);
    });

    it("a broken WebSocket frame is a protocol error", async () => {
      const raw = await rawSocketIo(gateway.url, tokenOf("odd"));
      // A text frame with a reserved bit, unmasked.
      raw.socket._socket.write(Buffer.from([0xf1, 0x01, 0x41]));
      assert.equal((await raw.closed()).close, 1002);
    });

    it("an unknown namespace and unknown paths are named", async () => {
      const client = socketIo(gateway.url, { token: tokenOf("a"), namespace: "/nowhere" });
      assert.equal((await client.next("connect_error")).message, "Invalid namespace");
      assert.equal((await gateway.get("/nowhere")).status, 404);
      const answer = await gateway.get("/socket.io/?EIO=4&transport=polling&sid=unknown");
      assert.deepEqual([answer.status, answer.json], [400, { code: 1, message: "Session ID unknown" }]);
      const stray = plain(`${gateway.ws}/nowhere`);
      await stray.events.next((item) => item.error || item.close, "the end");
    });

    it("closed connections leave nothing behind", async () => {
      closeClients();
      const empty = ({ connectedSockets, totalRooms }) => connectedSockets === 0 && totalRooms === 0;
      await until(async () => (await gateway.get("/metrics")).json, empty, "no socket and no room");
    });
  });
}
