// The quick start as a visitor has it: two windows of a real browser, one for each protocol, and clients beside them.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";

import { chromium } from "playwright-core";

import { closeClients, connected, plain } from "./support/clients.mjs";
import { SHARDS, freePort, startGateway } from "./support/gateway.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let browser;
before(async () => {
  assert.ok(existsSync(CHROMIUM), `this test needs Chromium at ${CHROMIUM}: apt-get install chromium`);
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: ARGUMENTS });
});
after(() => browser?.close());

for (const shards of SHARDS) {
  describe(`the demo on ${shards} shard(s)`, () => {
    let gateway;
    before(async () => {
      gateway = await startGateway({ profile: "demo", shards });
    });
    after(() => gateway.stop());
    afterEach(closeClients);

    const openWindow = async (query) => {
      const page = await browser.newPage({ viewport: { width: 390, height: 800 } });
      const errors = [];
      page.on("pageerror", (error) => errors.push(error.message));
      await page.goto(`${gateway.url}/${query}`);
      await page.getByText("You are in “lobby”.").waitFor();
      return {
        page,
        errors,
        say: async (text) => {
          await page.getByLabel("Message", { exact: true }).fill(text);
          await page.getByRole("button", { name: "Say" }).click();
        },
        sees: (text) => page.getByRole("log").getByText(text).waitFor(),
      };
    };

    it("two windows talk in one room, one over Socket.IO, one over plain WebSocket", async () => {
      const socketIoWindow = await openWindow("?userId=ada");
      const plainWindow = await openWindow("?userId=grace&protocol=json");
      await socketIoWindow.page.getByText("Connected as ada.").waitFor();
      await plainWindow.page.getByText("Connected as grace.").waitFor();
      await socketIoWindow.say("hello from Socket.IO");
      await plainWindow.sees("hello from Socket.IO");
      await plainWindow.say('hello <b>"plain"</b> ✈');
      await socketIoWindow.sees('hello <b>"plain"</b> ✈');
      await socketIoWindow.sees("hello from Socket.IO");
      await plainWindow.sees('hello <b>"plain"</b> ✈');
      const lines = await plainWindow.page.locator("#log .message").allTextContents();
      assert.deepEqual(lines, ["ada: hello from Socket.IO", 'grace (you): hello <b>"plain"</b> ✈']);
      assert.deepEqual([...socketIoWindow.errors, ...plainWindow.errors], []);
      await Promise.all([socketIoWindow.page.close(), plainWindow.page.close()]);
    });

    it("a window changes its protocol and its room, and comes back to them after the gateway was away", async () => {
      const one = await startGateway({ profile: "demo", shards, port: await freePort() });
      const page = await browser.newPage();
      await page.goto(one.url);
      await page.getByText("You are in “lobby”.").waitFor();
      await page.getByLabel("over plain WebSocket").check();
      await page.getByText("You are in “lobby”.").nth(1).waitFor();
      await page.getByLabel("Room").fill("kitchen");
      await page.getByRole("button", { name: "Join" }).click();
      await page.getByText("You are in “kitchen”.").waitFor();
      await one.kill();
      await page.getByText("The gateway is away").waitFor();
      const again = await startGateway({ profile: "demo", shards, port: one.port });
      await page.getByText("You are in “kitchen”.").nth(1).waitFor();
      await page.close();
      await again.stop();
    });

    it("both protocols share rooms, and both get the contract's events and answers", async () => {
      const socket = await connected(gateway.url, { query: { userId: "ada" } });
      const other = plain(`${gateway.ws}/ws?userId=grace`);
      const { socketId, userId } = await other.next("connected");
      assert.equal(userId, "grace");
      assert.equal(socketId.length, 20);
      assert.equal(socket.greeting.userId, "ada");
      assert.deepEqual(await socket.ask("join", { room: "lobby" }), { success: true, room: "lobby" });
      other.send({ type: "join", room: "lobby" });
      assert.deepEqual(await other.next("joined"), { type: "joined", room: "lobby" });
      other.send('{"type":"say","room":"lobby","data":{"n":1.0}}');
      const raw = await other.events.next((item) => item.json?.type === "message", "the message");
      assert.ok(raw.text.includes('{"n":1.0}'), raw.text);
      assert.deepEqual(await socket.next("message"), { room: "lobby", from: "grace", data: { n: 1 } });
      socket.socket.emit("say", { room: "lobby", data: "hi" });
      assert.deepEqual(await other.next("message", (message) => message.from === "ada"), { type: "message", room: "lobby", from: "ada", data: "hi" });
      assert.equal(await socket.next("message", (message) => message.from === "ada").then((message) => message.data), "hi");
      other.send({ type: "leave", room: "lobby" });
      await other.next("left");
      other.send({ type: "say", room: "lobby", data: "still here?" });
      assert.equal((await other.next("error")).code, "not_a_member");
    });

    it("a plain client's bad message is answered with what is wrong, and the connection stays", async () => {
      const client = plain(`${gateway.ws}/ws`);
      await client.next("connected");
      for (const [text, code] of [
        ["hi", "bad_message"],
        ["[]", "bad_message"],
        ["{}", "bad_message"],
        ['{"type":7}', "bad_message"],
        ['{"type":"fly"}', "unknown_command"],
        ['{"type":"join"}', "bad_field"],
      ]) {
        const from = client.events.items.length;
        client.send(text);
        assert.equal((await client.next("error", () => true, from)).code, code, text);
      }
      client.send({ type: "join", room: "lobby" });
      await client.next("joined");
    });
  });
}
