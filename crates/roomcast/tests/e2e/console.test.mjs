// The console as an operator has it in a browser: every way in, commands from forms, events, errors, figures, the gateway's side, on a phone too.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, it } from "node:test";

import { chromium } from "playwright-core";

import { closeClients, connected } from "./support/clients.mjs";
import { API_KEY, freePort, SHARDS, startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";
import { badTokens, tokenOf } from "./support/token.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const HOSTILE = '<img src=x onerror="document.title=\'taken\'"><script>document.title="taken"</script>';

/** Every kind of field that a form can be made of. */
const EVERY_FIELD = `
[auth]
token = "ignored"

[[endpoint]]
protocol   = "socket.io"
namespaces = ["/", "/places"]

[[endpoint]]
protocol = "json"
paths    = { "/ws/places" = "/places" }
envelope = "data"

[room.place]
name  = "place:{id}"
enter = true

[command.enter]
namespace = "/places"
args      = { id = "id" }
join      = "place:{args.id}"
answer    = { ack = { success = true }, event = "entered", data = { id = "{args.id}" } }

[command.exit]
namespace = "/places"
args      = { id = "id" }
leave     = "place:{args.id}"
answer    = { ack = { success = true }, event = "left", data = { id = "{args.id}" } }

[command.everything]
args   = { text = { text = [0, 300] }, at = { lat = { number = [-90, 90] }, floor = { integer = [0, 9] } }, kind = ["a", "b"], open = "bool", tags = { list = "id", max = 3 }, more = "object", any = "any", note = { is = "text", default = "none" }, maybe = "id?" }
answer = { ack = "{args}" }
`;

let browser;
before(async () => {
  assert.ok(existsSync(CHROMIUM), `this test needs Chromium at ${CHROMIUM}: apt-get install chromium`);
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: ARGUMENTS });
});
after(() => browser?.close());

/** A console in a window of its own; `ended()` closes it and says what went wrong in it. */
async function openConsole(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const [errors, asked] = [[], []];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("request", (request) => asked.push(request.url()));
  page.on("websocket", (socket) => asked.push(socket.url()));
  await page.goto(`${url}/console`);
  await page.getByRole("heading", { name: "Connect" }).waitFor();
  const lines = page.getByRole("log");
  return {
    page,
    errors,
    asked,
    lines,
    state: (text) => page.locator("#state").getByText(text).waitFor(),
    way: (name) => page.getByLabel("Way in").selectOption({ label: name }),
    connect: () => page.getByRole("button", { name: "Connect", exact: true }).click(),
    command: (name) => page.getByLabel("Command").selectOption(name),
    fill: (label, text) => page.locator("#fields").getByLabel(label, { exact: true }).fill(text),
    send: () => page.getByRole("button", { name: "Send", exact: true }).click(),
    line: (kind, text) => lines.locator(`.line.${kind}`, { hasText: text }).last().waitFor(),
    answer: async () => JSON.parse(await page.locator("#answer-data").textContent()),
    answered: (text) => page.locator("#answer", { hasText: text }).waitFor(),
    async ended() {
      await context.close();
      return errors;
    },
  };
}

for (const shards of SHARDS) {
  describe(`the console on ${shards} shard(s)`, () => {
    let demo;
    let places;
    let hometrip;
    before(async () => {
      [demo, places, hometrip] = await Promise.all([
        startGateway({ profile: "demo", shards }),
        startGateway({ text: EVERY_FIELD, shards }),
        startGateway({ profile: "hometrip", shards }),
      ]);
    });
    after(() => Promise.all([demo.stop(), places.stop(), hometrip.stop()]));

    for (const [way, name] of [["Socket.IO · /", "socket.io"], ["JSON · /ws", "json"]]) {
      it(`over ${name}: connects as someone, sends from forms, sees answers, events and errors, knows its rooms`, async () => {
        const other = await connected(demo.url, { query: { userId: "grace" } });
        await other.ask("join", { room: "lobby" });
        const console_ = await openConsole(demo.url);
        const { page } = console_;
        await console_.way(way);
        await page.getByLabel("User").fill("ada");
        await console_.connect();
        await console_.line("event", "connected");
        await console_.line("event", '"userId":"ada"');

        await console_.command("join");
        await console_.fill("room", "lobby");
        await console_.send();
        await console_.line("answer", "lobby");
        await page.locator("#rooms").getByText("lobby").waitFor();

        await console_.command("say");
        await console_.fill("room", "lobby");
        await console_.fill("data", HOSTILE);
        await console_.send();
        assert.deepEqual(await other.next("message"), { room: "lobby", from: "ada", data: HOSTILE });
        await console_.line("event", "onerror");
        other.socket.emit("say", { room: "lobby", data: { [HOSTILE]: HOSTILE } });
        const line = console_.lines.locator(".line.event", { hasText: "grace" }).last();
        await line.locator("summary").click();
        await line.locator("pre").getByText("onerror").first().waitFor();
        assert.equal(await console_.lines.locator("img, script").count(), 0);
        assert.equal(await page.title(), "roomcast-demo · console");

        await console_.fill("room", "elsewhere");
        await console_.send();
        await console_.line("error", "not_a_member");

        await console_.command("…");
        await page.getByLabel("Name", { exact: true }).fill("hello");
        for (const [typed, plainly] of [
          ["a text", { type: "hello", data: "a text" }],
          ['{"type":"x","a":1}', { type: "hello", a: 1 }],
          ["", { type: "hello" }],
        ]) {
          await page.getByLabel("Data", { exact: true }).fill(typed);
          const shown = JSON.parse(await page.locator("#preview").textContent());
          const asEvent = typed === "" ? ["hello"] : ["hello", typed === "a text" ? typed : JSON.parse(typed)];
          assert.deepEqual(shown, name === "json" ? plainly : asEvent, "what goes out is shown as it goes");
        }

        await page.getByRole("button", { name: "Leave lobby" }).click();
        await page.getByText("None yet").waitFor();
        await until(() => page.locator("#total-error").textContent(), (text) => text === "1", "the count of errors");
        await page.locator("#chart-trips output", { hasText: "ms" }).waitFor();

        await page.getByRole("button", { name: "Disconnect" }).click();
        await console_.state("Not connected.");
        for (const asked of console_.asked) assert.equal(new URL(asked).host, new URL(demo.url).host, asked);
        assert.deepEqual(await console_.ended(), []);
        closeClients();
      });
    }

    it("namespaces and paths are ways in, each with its own commands; rooms without a name in the answer are known, too", async () => {
      const console_ = await openConsole(places.url);
      const { page } = console_;
      const ways = await page.getByLabel("Way in").locator("option").allTextContents();
      assert.deepEqual(ways, ["Socket.IO · /", "Socket.IO · /places", "JSON · /ws/places"]);
      const commands = async () => page.getByLabel("Command").locator("option").allTextContents();
      assert.deepEqual(await commands(), ["everything", "any other event …"]);
      for (const way of ways.slice(1)) {
        await console_.way(way);
        assert.deepEqual(await commands(), ["enter", "exit", "everything", "any other event …"]);
        await console_.connect();
        await console_.state("Connected");
        await console_.command("enter");
        await console_.fill("id", "7");
        await console_.send();
        await page.locator("#rooms").getByText("place:7").waitFor();
        await page.getByRole("button", { name: "Leave place:7" }).click();
        await page.getByText("None yet").waitFor();
      }
      assert.deepEqual(await console_.ended(), []);
    });

    it("a form gives every kind of field its own type, and the gateway says what is wrong with a field", async () => {
      const console_ = await openConsole(places.url);
      const { page } = console_;
      await console_.connect();
      await console_.state("Connected");
      const fields = { text: "€ ✈", lat: "52.5", floor: "3", tags: "a, 7", more: '{"x":1}', any: "[1,2]" };
      for (const [name, value] of Object.entries(fields)) await console_.fill(name, value);
      await page.locator("#fields").getByLabel("kind").selectOption("b");
      await page.locator("#fields").getByLabel("open").check();
      await console_.send();
      await console_.answered("✈");
      const read = { text: "€ ✈", at: { lat: 52.5, floor: 3 }, kind: "b", open: true, tags: ["a", "7"], more: { x: 1 }, any: [1, 2], note: "none" };
      assert.deepEqual(await console_.answer(), read);
      assert.deepEqual(JSON.parse(await page.locator("#preview").textContent()), ["everything", read]);
      for (const [name, value, error] of [["lat", "91", "at.lat must be a number from -90 to 90"], ["floor", "", "at.floor is missing"], ["floor", "x", "at.floor must be an integer"]]) {
        await console_.fill("lat", "1");
        await console_.fill(name, value);
        await console_.send();
        await console_.answered(error);
      }
      await page.getByLabel("Command").selectOption({ label: "any other event …" });
      await page.getByLabel("Name", { exact: true }).fill("fly");
      await page.getByLabel("Data", { exact: true }).fill('{"high":true}');
      await console_.send();
      await console_.answered("unknown_command");
      assert.deepEqual(await console_.ended(), []);
    });

    it("a token lets in; without one, and with every bad one, the refusal is shown and nobody tries again", async () => {
      const console_ = await openConsole(hometrip.url);
      const { page } = console_;
      await console_.connect();
      await console_.state("Refused: Authentication required");
      for (const token of [badTokens().expired, "no token, but a text: äöü"]) {
        await page.getByLabel("Token").fill(token);
        await console_.connect();
        await console_.state("Refused: Invalid or expired token");
      }
      await page.getByLabel("Token").fill(tokenOf("alice"));
      await console_.connect();
      await console_.line("event", '"userId":"alice"');
      await console_.command("refresh_token");
      await console_.fill("token", tokenOf("alice", { role: "host" }));
      await console_.send();
      await console_.answered("expiresIn");
      const published = await hometrip.api("POST", "/api/publish", { rooms: ["user:alice"], event: "hello", data: { from: "the backend" } });
      assert.deepEqual(published, { status: 200, json: { delivered: 1 } });
      await console_.line("event", "the backend");
      assert.equal(await page.evaluate(() => Object.keys(localStorage).length + Object.keys(sessionStorage).length), 0);
      assert.deepEqual(await console_.ended(), []);
    });

    it("the stream is filtered, paused, cleared, and bounded", async () => {
      const console_ = await openConsole(hometrip.url);
      const { page, lines } = console_;
      await page.getByLabel("Token").fill(tokenOf("bob"));
      await console_.connect();
      await console_.line("event", "connected");
      const publish = (event, data) => hometrip.api("POST", "/api/publish", { rooms: ["user:bob"], event, data });
      await publish("first", { n: 1 });
      await console_.line("event", "first");
      await page.getByLabel("Filter by name or data").fill("FIRST");
      await page.getByText("1 of 2 lines").waitFor();
      await page.getByLabel("Filter by name or data").fill("");
      await page.getByLabel("events", { exact: true }).uncheck();
      await page.getByText("0 of 2 lines").waitFor();
      await page.getByLabel("events", { exact: true }).check();
      await page.getByRole("button", { name: "Pause" }).click();
      await publish("second", { n: 2 });
      await page.getByText("paused, 1 wait").waitFor();
      assert.equal(await lines.getByText("second").count(), 0);
      await page.getByRole("button", { name: "Pause" }).click();
      await console_.line("event", "second");
      await page.getByRole("button", { name: "Clear" }).click();
      await page.getByText("0 lines").waitFor();
      for (let at = 0; at < 12; at += 1) await Promise.all(Array.from({ length: 50 }, (_, n) => publish("many", { n: at * 50 + n })));
      await publish("last", {});
      await console_.line("event", "last");
      assert.ok((await lines.locator("li").count()) <= 500);
      await until(() => page.locator("#total-event").textContent(), (text) => text === "604", "all events to be counted");
      assert.deepEqual(await console_.ended(), []);
    });

    it("comes back after the gateway was away, and into its rooms", async () => {
      const one = await startGateway({ profile: "demo", shards, port: await freePort() });
      const console_ = await openConsole(one.url);
      await console_.connect();
      await console_.state("Connected");
      await console_.command("join");
      await console_.fill("room", "kitchen");
      await console_.send();
      await console_.page.locator("#rooms").getByText("kitchen").waitFor();
      await one.kill();
      await console_.state("trying again");
      const again = await startGateway({ profile: "demo", shards, port: one.port });
      await console_.state("Connected");
      await console_.page.locator("#rooms").getByText("kitchen").waitFor();
      assert.deepEqual((await again.api("GET", "/api/rooms")).json.rooms.kitchen, 1);
      await console_.ended();
      await again.stop();
    });

    it("the gateway's side opens with the key alone: connections, rooms, members, an event to publish", async () => {
      const console_ = await openConsole(demo.url);
      const { page } = console_;
      await console_.connect();
      await console_.state("Connected");
      await console_.command("join");
      await console_.fill("room", "lobby");
      await console_.send();
      await page.locator("#rooms").getByText("lobby").waitFor();
      assert.deepEqual(console_.asked.filter((url) => /\/(api|metrics)/.test(url)), []);

      await page.getByLabel("Key of the server API").fill("a wrong key");
      await page.getByRole("button", { name: "Open" }).click();
      await page.getByText("the key is wrong").waitFor();
      assert.equal(await page.locator("#key-opened").isVisible(), false);
      await page.getByLabel("Key of the server API").fill(API_KEY);
      await page.getByRole("button", { name: "Open" }).click();
      await page.locator("#rooms-list").getByText("lobby").click();
      await page.getByRole("heading", { name: "lobby: 1" }).waitFor();
      await page.locator("#chart-connections output", { hasText: /^1$/ }).waitFor();
      const { rooms } = (await demo.api("GET", "/api/rooms")).json;
      await page.locator("#chart-rooms output", { hasText: new RegExp(`^${Object.keys(rooms).length}$`) }).waitFor();

      await page.getByLabel("To rooms").fill("lobby");
      await page.getByLabel("Event", { exact: true }).fill("news");
      await page.getByLabel("Its data").fill('{"from":"the console"}');
      await page.getByRole("button", { name: "Publish" }).click();
      await page.getByText("Reached 1.").waitFor();
      await console_.line("event", "the console");
      await page.getByLabel("To rooms").fill("");
      await page.getByRole("button", { name: "Publish" }).click();
      await page.getByText("Reached 0.").waitFor();
      await page.getByRole("button", { name: "Forget the key" }).click();
      await page.getByLabel("Key of the server API").waitFor();
      // The refusal of the wrong key stands in the browser's own log.
      assert.deepEqual((await console_.ended()).filter((error) => !/401/.test(error)), []);
    });

    it("works on a phone, light and dark, and by keyboard alone", async () => {
      for (const colorScheme of ["light", "dark"]) {
        const console_ = await openConsole(demo.url, { viewport: { width: 360, height: 740 }, colorScheme });
        const { page } = console_;
        const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0));
        assert.equal((await paper()) > 400, colorScheme === "light");
        await page.getByLabel("User").focus();
        await page.keyboard.type("ada");
        await page.keyboard.press("Enter");
        await console_.line("event", "ada");
        await console_.command("say");
        await console_.fill("room", "a room with a name that is as long as names of rooms can be ".repeat(4));
        await console_.fill("data", "x".repeat(3000));
        await page.locator("#fields").getByLabel("room").press("Enter");
        await console_.line("error", "not_a_member");
        assert.deepEqual(await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]), [360, 360]);
        await page.getByRole("button", { name: "Switch between light and dark" }).click();
        assert.equal((await paper()) > 400, colorScheme === "dark");
        await page.reload();
        await page.getByRole("heading", { name: "Connect" }).waitFor();
        assert.equal((await paper()) > 400, colorScheme === "dark", "the choice is kept");
        assert.deepEqual(await console_.ended(), []);
      }
    });

    it("CONSOLE=false takes it away; its page comes with a policy that lets nothing in from elsewhere", async () => {
      const off = await startGateway({ profile: "demo", shards, env: { CONSOLE: "false" } });
      for (const path of ["/console", "/console/", "/console/console.js", "/console/profile.json"]) assert.equal((await off.get(path)).status, 404, path);
      await off.stop();
      const answer = await fetch(`${demo.url}/console`);
      const policy = answer.headers.get("content-security-policy");
      const { host } = new URL(demo.url);
      for (const rule of ["default-src 'none'", "script-src 'self'", "style-src 'self'", `connect-src 'self' ws://${host} wss://${host}`, "frame-ancestors 'none'"]) {
        assert.ok(policy.split("; ").includes(rule), `${rule}: ${policy}`);
      }
      assert.equal((await demo.get("/console/nothing.js")).status, 404);
      const moved = await fetch(`${demo.url}/console/`, { redirect: "manual" });
      assert.deepEqual([moved.status, moved.headers.get("location")], [308, "../console"]);
    });

    it("what the profile yields names no secret, no service and no condition", async () => {
      const env = { API_KEY: "the-key-of-the-api", JWT_SECRET: "the-secret-of-tokens", CONVERSATION_ACCESS_URL: "http://access.internal/{conversationId}/{userId}", RABBITMQ_PASSWORD: "the-broker's" };
      const gateway = await startGateway({ profile: "hometrip", shards, env });
      const { body, json } = await gateway.get("/console/profile.json");
      for (const secret of ["the-key", "the-secret", "internal", "the-broker", "rabbit", "queue", "message.sent"]) assert.ok(!body.includes(secret), secret);
      assert.deepEqual(json.commands.map(({ name }) => name), ["join_room", "leave_room", "typing", "stop_typing", "get_presence", "refresh_token"]);
      assert.equal(json.access, "token");
      await gateway.stop();
    });

    it("with a port for operators it is on both: theirs has the API, and its clients connect to the other", async () => {
      const [port, operators] = [await freePort(), await freePort()];
      const gateway = await startGateway({ profile: "demo", shards, port, env: { OPS_PORT: String(operators) } });
      const clients = await openConsole(gateway.url);
      await clients.page.getByText("on the operators’ port").waitFor();
      const console_ = await openConsole(`http://127.0.0.1:${operators}`);
      for (const way of ["Socket.IO · /", "JSON · /ws"]) {
        await console_.way(way);
        await console_.connect();
        await console_.line("event", "connected");
      }
      await console_.page.getByLabel("Key of the server API").fill(API_KEY);
      await console_.page.getByRole("button", { name: "Open" }).click();
      await console_.page.locator("#chart-connections output", { hasText: /^1$/ }).waitFor();
      assert.deepEqual([await clients.ended(), await console_.ended()], [[], []]);
      await gateway.stop();
    });
  });
}
