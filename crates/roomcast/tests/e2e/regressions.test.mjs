// Things that once went wrong: each would come back unseen without its test.

import assert from "node:assert/strict";
import net from "node:net";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected, plain } from "./support/clients.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";
import { tokenOf } from "./support/token.mjs";

/** A client's text frame; the mask is zero, which masks nothing. */
const frame = (text) => Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
const UPGRADE = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

for (const shards of SHARDS) {
  describe(`what once went wrong, on ${shards} shard(s)`, () => {
    let demo;
    let hometrip;
    before(async () => {
      demo = await startGateway({ profile: "demo", shards });
      hometrip = await startGateway({ shards });
    });
    after(() => Promise.all([demo.stop(), hometrip.stop()]));
    afterEach(closeClients);

    const join = (client, roomId) => client.ask("join_room", { roomType: "conversation", roomId });
    const sockets = async () => (await (await fetch(`${demo.url}/metrics`)).text()).match(/^roomcast_sockets (\d+)/m)?.[1];

    it("a client that says something and ends its side in one go is gone", async () => {
      const { port } = new URL(demo.url);
      for (let count = 0; count < 50; count++) {
        await new Promise((resolve) => {
          const socket = net.connect(Number(port), "127.0.0.1", () => socket.write(`GET /ws HTTP/1.1\r\n${UPGRADE}`));
          socket.on("data", (data) => data.includes("connected") && socket.end(frame('{"type":"join","room":"x"}')));
          socket.on("error", () => {});
          socket.on("close", resolve);
        });
      }
      await until(sockets, (count) => count === "0", "no socket is left");
    });

    it("a member gets its own word even if it leaves with the same breath", async () => {
      const client = plain(`${demo.url.replace(/^http/, "ws")}/ws`);
      await client.next("connected");
      client.socket._socket.cork();
      for (const type of ["join", "say", "leave"]) client.send({ type, room: "r", data: 1 });
      client.socket._socket.uncork();
      assert.equal((await client.next("message")).data, 1);
      await client.next("left");
    });

    it("a client that causes nothing but errors is ended, with 1008", async () => {
      const client = plain(`${demo.url.replace(/^http/, "ws")}/ws`);
      await client.next("connected");
      for (let count = 0; count < 1_200; count++) client.send("{}");
      assert.equal((await client.closed()).close, 1008);
    });

    it("`offline` reaches the rooms of all of a user's sockets that went together", async () => {
      const [one, two] = await Promise.all(["one", "two"].map((id) => connected(hometrip.url, { token: tokenOf(`${id}-witness`) })));
      await join(one, "tab-1");
      await join(two, "tab-2");
      const tabs = await Promise.all([1, 2].map(() => connected(hometrip.url, { token: tokenOf("tabs") })));
      await join(tabs[0], "tab-1");
      await join(tabs[1], "tab-2");
      tabs.forEach((tab) => tab.close());
      const offline = (data) => data.userId === "tabs" && data.status === "offline";
      await Promise.all([one, two].map((witness) => witness.next("presence_update", offline)));
    });

    it("commands that nobody reads the answers of end their session, and the gateway goes on", async () => {
      const url = `${hometrip.url}/socket.io/?EIO=4&transport=polling`;
      const { sid } = JSON.parse((await (await fetch(url)).text()).slice(1));
      const post = async (body) => (await fetch(`${url}&sid=${sid}`, { method: "POST", body })).status;
      assert.equal(await post(`40${JSON.stringify({ token: tokenOf("deaf") })}`), 200);
      assert.match(await (await fetch(`${url}&sid=${sid}`)).text(), /connected/);
      const words = (kind) => Array.from({ length: 300 }, (_, id) => `42${id}["${kind}_room",{"roomType":"conversation","roomId":"${"r".repeat(200)}${id}"}]`).join("\x1e");
      for (let round = 0; round < 60 && (await post(words(round % 2 ? "leave" : "join"))) === 200; round++);
      const witness = await connected(hometrip.url, { token: tokenOf("still-here") });
      assert.equal((await join(witness, "a")).success, true);
    });

    it("a POST that says it is binary ends its session", async () => {
      const url = `${demo.url}/socket.io/?EIO=4&transport=polling`;
      const { sid } = JSON.parse((await (await fetch(url)).text()).slice(1));
      const answer = await fetch(`${url}&sid=${sid}`, { method: "POST", body: "x", headers: { "content-type": "application/octet-stream" } });
      assert.equal(answer.status, 400);
      const next = await fetch(`${url}&sid=${sid}`);
      assert.notEqual(next.status, 200);
    });
  });
}
