// The profile that Roomcast is measured with keeps the contract of the benchmark's servers, over each of its dialects.

import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";

import { io } from "socket.io-client";
import { WebSocket } from "ws";

import { checkPlain, checkSocketIo } from "../../../../bench/peers/contract.mjs";
import { SECRET, SHARDS, startGateway } from "./support/gateway.mjs";

const text = readFileSync(new URL("../../../../bench/roomcast.toml", import.meta.url), "utf8");

for (const shards of SHARDS) {
  describe(`the benchmark's profile on ${shards} shard(s)`, () => {
    let gateway;
    before(async () => {
      gateway = await startGateway({ text, shards });
    });
    after(() => gateway.stop());

    it("over Socket.IO", () => checkSocketIo({ io, url: gateway.url, secret: SECRET }));
    it("over long-polling", () => checkSocketIo({ io, url: gateway.url, secret: SECRET, transports: ["polling"] }));
    it("in plain JSON", () => checkPlain({ WebSocket, url: gateway.url, secret: SECRET }));
  });
}
