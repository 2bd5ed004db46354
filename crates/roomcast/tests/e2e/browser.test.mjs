// socket.io-client as pages load it, in headless Chromium: from another origin, over each transport, with the browser's own kinds of bytes.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

import { TRANSPORTS } from "./support/clients.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { startTwin } from "./support/twin.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const CLIENT = fileURLToPath(new URL("node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url));

let browser;
before(async () => {
  assert.ok(existsSync(CHROMIUM), `this test needs Chromium at ${CHROMIUM}: apt-get install chromium`);
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
});
after(() => browser?.close());

for (const shards of SHARDS) {
  for (const [way, transports] of Object.entries(TRANSPORTS)) {
    describe(`socket.io-client in Chromium by ${way} on ${shards} shard(s)`, () => {
      let twin;
      let demo;
      let page;
      const errors = [];
      before(async () => {
        [twin, demo] = await Promise.all([startTwin({ shards }), startGateway({ profile: "demo", shards })]);
        // An empty page is of no origin, so that every request of it crosses one.
        page = await browser.newPage();
        page.setDefaultTimeout(30_000);
        page.on("pageerror", (error) => errors.push(error.message));
        await page.addScriptTag({ path: CLIENT });
      });
      after(async () => {
        await page.close();
        await Promise.all([twin.stop(), demo.stop()]);
        assert.deepEqual(errors, []);
      });

      it("JSON and every kind of bytes go both ways, in events and answers", async () => {
        const seen = await page.evaluate(
          async ([url, transports]) => {
            const socket = io(url, { transports, forceNew: true, auth: { token: "t" } });
            const next = (event) => new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
            const [auth] = await next("auth");
            const bytes = Uint8Array.from([0, 1, 255]);
            const list = (buffer) => [...new Uint8Array(buffer)];
            const answer = await socket.emitWithAck("echo", { text: "€✈", view: bytes, buffer: bytes.buffer, blob: new Blob([bytes]) });
            socket.emit("echo", bytes, "x");
            const [event, text] = await next("echo");
            socket.once("question", (asked, give) => give(asked, bytes));
            socket.emit("ask", "who?");
            const [asked, given] = await next("answered");
            const transport = socket.io.engine.transport.name;
            socket.disconnect();
            return { auth, answer: [answer.text, list(answer.view), list(answer.buffer), list(answer.blob)], event: [list(event), text], question: [asked, list(given)], transport };
          },
          [twin.url, transports],
        );
        const bytes = [0, 1, 255];
        const { transport, ...rest } = seen;
        assert.deepEqual(rest, { auth: { token: "t" }, answer: ["€✈", bytes, bytes, bytes], event: [bytes, "x"], question: ["who?", bytes] });
        if (way !== "upgrade") assert.equal(transport, way);
      });

      it("namespaces share the page's connection, and a refusal names itself", async () => {
        const seen = await page.evaluate(
          async ([url, transports]) => {
            const main = io(url, { transports, forceNew: true });
            const custom = main.io.socket("/custom");
            const once = (socket, event) => new Promise((resolve) => socket.once(event, resolve));
            await Promise.all([once(main, "connect"), once(custom, "connect")]);
            const refusal = await once(main.io.socket("/deny"), "connect_error");
            const answers = [await main.emitWithAck("echo", 1), await custom.emitWithAck("echo", 2)];
            const gone = once(custom, "disconnect");
            custom.emit("bye");
            const reason = await gone;
            const still = await main.emitWithAck("echo", 3);
            main.disconnect();
            return { refusal: [refusal.message, refusal.data], answers, reason, still };
          },
          [twin.url, transports],
        );
        assert.deepEqual(seen, { refusal: ["not authorized", { code: 42 }], answers: [1, 2], reason: "io server disconnect", still: 3 });
      });

      it("two clients of a page talk in a room of a gateway with a profile", async () => {
        const heard = await page.evaluate(
          async ([url, transports]) => {
            const [one, other] = ["ada", "grace"].map((userId) => io(url, { transports, forceNew: true, query: { userId } }));
            const heard = new Promise((resolve) => other.on("message", resolve));
            for (const member of [one, other]) await member.emitWithAck("join", { room: "lobby" });
            one.emit("say", { room: "lobby", data: "hello ✈" });
            const message = await heard;
            one.disconnect();
            other.disconnect();
            return message;
          },
          [demo.url, transports],
        );
        assert.deepEqual(heard, { room: "lobby", from: "ada", data: "hello ✈" });
      });
    });
  }
}
