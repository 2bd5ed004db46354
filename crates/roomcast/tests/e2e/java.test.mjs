// The Java client, socket.io-client-java, over each transport. What it does stands in `java/Client.java`.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { SHARDS } from "./support/gateway.mjs";
import { java } from "./support/programs.mjs";
import { startTwin } from "./support/twin.mjs";

let run;
before(async () => {
  run = await java();
});

for (const shards of SHARDS) {
  describe(`the Java client on ${shards} shard(s)`, () => {
    let gateway;
    before(async () => {
      gateway = await startTwin({ shards });
    });
    after(() => gateway.stop());

    it("talks, with bytes and answers both ways, over each transport", async () => {
      const output = await run(gateway.url);
      for (const way of ["websocket", "polling", "upgrade"]) assert.match(output, new RegExp(`^ok ${way}: an end that the server wants$`, "m"));
      assert.match(output, /^ok a refusal: its data$/m);
    });
  });
}
