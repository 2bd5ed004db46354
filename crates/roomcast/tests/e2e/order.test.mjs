// One order for all: members of a room who sit on different shards see what several of them send at once in the same order.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected, plain } from "./support/clients.mjs";
import { startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";

const MEMBERS = 12;
const EACH = 200;

describe("senders on four shards", () => {
  let gateway;
  before(async () => {
    gateway = await startGateway({ profile: "demo", shards: 4 });
  });
  after(() => gateway.stop());
  afterEach(closeClients);

  it("are heard in one order by every member, whatever it speaks, and each in the order in which it spoke", async () => {
    const members = [];
    for (let index = 0; index < MEMBERS; index += 1) {
      const seen = [];
      const hear = ({ data }) => seen.push(data);
      if (index % 2) {
        const client = await connected(gateway.url);
        client.socket.on("message", hear);
        assert.deepEqual(await client.ask("join", { room: "r" }), { success: true, room: "r" });
        members.push({ seen, say: (data) => client.socket.emit("say", { room: "r", data }) });
      } else {
        const client = plain(`${gateway.url.replace("http", "ws")}/ws`);
        await client.next("connected");
        client.socket.on("message", (bytes) => {
          const message = JSON.parse(bytes);
          if (message.type === "message") hear(message);
        });
        client.send({ type: "join", room: "r" });
        await client.next("joined");
        members.push({ seen, say: (data) => client.send({ type: "say", room: "r", data }) });
      }
    }
    for (let round = 0; round < EACH; round += 1) {
      for (const [index, member] of members.entries()) member.say(`${index}/${round}`);
      // Not all at once, so that shards sleep, wake and meet.
      if (round % 10 === 0) await new Promise(setImmediate);
    }
    await until(() => members.map(({ seen }) => seen.length), (counts) => counts.every((count) => count === MEMBERS * EACH), "every line at every member");
    for (const { seen } of members) assert.deepEqual(seen, members[0].seen);
    for (const index of members.keys()) {
      const own = members[0].seen.filter((data) => data.startsWith(`${index}/`));
      assert.deepEqual(own, Array.from({ length: EACH }, (_, round) => `${index}/${round}`));
    }
  });
});
