// python-socketio, the synchronous client and the asyncio one, over each transport. What they do stands in `python/`.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { SHARDS, startGateway } from "./support/gateway.mjs";
import { python } from "./support/programs.mjs";
import { startTwin } from "./support/twin.mjs";

let run;
before(async () => {
  run = await python();
});

for (const shards of SHARDS) {
  describe(`python-socketio on ${shards} shard(s)`, () => {
    let twin;
    let demo;
    before(async () => {
      [twin, demo] = await Promise.all([startTwin({ shards }), startGateway({ profile: "demo", shards })]);
    });
    after(() => Promise.all([twin.stop(), demo.stop()]));

    for (const [name, held] of [["sync_client.py", "a refusal with its data"], ["async_client.py", "upgrade: an answer in a second namespace"]]) {
      it(`${name} talks to a gateway within a program`, async () => assert.match(await run(name, twin.url), new RegExp(`ok ${held}\n$`)));
    }

    it("two clients, a synchronous one and an asyncio one, talk in a room of a gateway with a profile", async () => {
      assert.match(await run("room.py", demo.url), /ok polling: the room's word to an asyncio client\n$/);
    });
  });
}
