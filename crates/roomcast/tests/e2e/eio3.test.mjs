// Old clients: Engine.IO 3 and Socket.IO 4, with the stock client 2.5 over each of its transports and on raw bytes.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { after, afterEach, before, describe, it } from "node:test";

import { chromium } from "playwright-core";
import io from "socket.io-client-2";

import { TRANSPORTS, closeClients, connected } from "./support/clients.mjs";
import { startConformance } from "./support/conformance.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { closeConnections, request, upgrade } from "./support/raw_http.mjs";
import { Recorder, within } from "./support/recorder.mjs";
import { tokenOf } from "./support/token.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const CLIENT_2 = createRequire(import.meta.url).resolve("socket.io-client-2/dist/socket.io.js");

const PROFILE = `
[service]
name = "old clients"
host = "127.0.0.1"
port = "\${PORT}"
page = "chat"

[auth]
token = "with_key"
secret = "\${SECRET:-}"
anonymous = { guest = "guest-" }

[[endpoint]]
protocol    = "socket.io"
namespaces  = ["/", "/custom"]
allow_eio3  = true

[on.connect]
emit = { to = "self", event = "connected", data = { socketId = "{socket.id}", userId = "{user.id}" } }

[room.any]
name  = "{name}"
enter = true

[command.join]
args   = { room = "id" }
join   = "{args.room}"
answer = { ack = { success = true, room = "{room}" } }

[command.say]
args = { room = "id", data = "any" }
emit = { to = "{args.room}", event = "message", data = { from = "{socket.id}", data = "{args.data}" } }
`;

const open = new Set();

/** A stock client of version 2, whose every event is recorded. */
function oldClient(url, options = {}) {
  const socket = io(url, { reconnection: false, forceNew: true, transports: ["websocket"], ...options });
  open.add(socket);
  const events = new Recorder("an old client");
  const onevent = socket.onevent;
  socket.onevent = (packet) => {
    events.add({ event: packet.data[0], args: packet.data.slice(1) });
    onevent.call(socket, packet);
  };
  for (const event of ["connect", "disconnect", "error", "connect_error", "pong"]) {
    socket.on(event, (...args) => events.add({ event, args }));
  }
  return {
    socket,
    events,
    async next(event, accept = () => true) {
      const item = await events.next((item) => item.event === event && accept(...item.args), `\`${event}\``);
      return item.args[0];
    },
    ask: (...args) => within(new Promise((resolve) => socket.emit(...args, (...answer) => resolve(answer))), `the answer to \`${args[0]}\``),
  };
}

function closeAll() {
  closeClients();
  closeConnections();
  for (const socket of open) socket.close();
  open.clear();
}

const OLD = "/socket.io/?EIO=3&transport=polling";
const post = (url, sid, body, headers) => request(url, "POST", `${OLD}&sid=${sid}`, headers, body);
const get = (url, sid) => request(url, "GET", `${OLD}&sid=${sid}`);

for (const shards of SHARDS) {
  describe(`old clients of a gateway on ${shards} shard(s)`, () => {
    let gateway;
    before(async () => {
      gateway = await startGateway({ text: PROFILE, shards });
    });
    after(() => gateway.stop());
    afterEach(closeAll);

    for (const [name, transports] of Object.entries(TRANSPORTS)) {
      it(`over ${name} are let in, ask, and talk with new ones`, async () => {
        const old = oldClient(gateway.url, { transports });
        const { socketId } = await old.next("connected");
        // The client works its id out by itself: it must be the one that others see.
        assert.equal(old.socket.id, socketId);
        const fresh = await connected(gateway.url);
        for (const client of [old, fresh]) {
          const answer = await client.ask("join", { room: "r" });
          assert.deepEqual([answer].flat()[0], { success: true, room: "r" });
        }
        if (name === "upgrade") {
          const { engine } = old.socket.io;
          if (engine.transport.name !== "websocket") await within(new Promise((resolve) => engine.once("upgrade", resolve)), "the upgrade");
        }
        old.socket.emit("say", { room: "r", data: "é€😀 from the old" });
        fresh.socket.emit("say", { room: "r", data: "from the new" });
        for (const client of [old, fresh]) {
          const said = await client.next("message", ({ data }) => data === "é€😀 from the old");
          assert.equal(said.from, socketId);
          await client.next("message", ({ data }) => data === "from the new");
        }
      });
    }

    it("are reached by their id, whatever shard they are on", async () => {
      const clients = Array.from({ length: 6 }, (_, n) => oldClient(gateway.url, { transports: [n % 2 ? "polling" : "websocket"] }));
      for (const client of clients) await client.next("connected");
      const fresh = await connected(gateway.url);
      for (const { socket } of clients) fresh.socket.emit("say", { room: socket.id, data: socket.id });
      for (const client of clients) {
        await client.next("message", ({ data }) => data === client.socket.id);
        assert.equal(client.events.items.filter(({ event }) => event === "message").length, 1);
      }
    });

    it("join other namespaces, leave them, and learn which there are not", async () => {
      const old = oldClient(`${gateway.url}/custom`, { query: { token: "ignored" } });
      const { socketId } = await old.next("connected");
      assert.equal(old.socket.id, `/custom#${socketId}`);
      const fresh = await connected(`${gateway.url}/custom`);
      fresh.socket.emit("say", { room: old.socket.id, data: "by its own name" });
      await old.next("message", ({ data }) => data === "by its own name");
      assert.deepEqual(await old.ask("join", { room: "r" }), [{ success: true, room: "r" }]);
      const nowhere = oldClient(`${gateway.url}/nowhere`);
      assert.deepEqual(await nowhere.next("error"), { message: "Invalid namespace" });
      old.socket.close();
      assert.equal(await old.next("disconnect"), "io client disconnect");
    });

    it("are disconnected for good by the server API", async () => {
      for (const transports of Object.values(TRANSPORTS)) {
        const old = oldClient(gateway.url, { transports });
        const { userId } = await old.next("connected");
        assert.deepEqual((await gateway.api("POST", "/api/disconnect", { userId })).status, 200);
        assert.equal(await old.next("disconnect"), "io server disconnect");
      }
    });

    it("are asked for a token, which they have in the query", async () => {
      const guarded = await startGateway({ text: PROFILE.replace("${SECRET:-}", "${JWT_SECRET}"), shards });
      try {
        const known = oldClient(guarded.url, { query: { token: tokenOf("ada") } });
        assert.equal((await known.next("connected")).userId, "ada");
        const custom = oldClient(`${guarded.url}/custom?token=${tokenOf("grace")}`);
        assert.equal((await custom.next("connected")).userId, "grace");
        const stranger = oldClient(guarded.url);
        assert.equal(await stranger.next("error"), "Authentication required");
      } finally {
        await guarded.stop();
      }
    });
  });

  describe(`old clients of a program on ${shards} shard(s)`, () => {
    let server;
    before(async () => {
      server = await startConformance("socket-io", { shards, flags: ["--eio3", "--ping-timeout-ms", "3000"] });
    });
    after(() => server.stop());
    afterEach(closeAll);

    const BYTES = Buffer.from([0, 1, 2, 254, 255]);
    for (const [name, transports] of Object.entries({ ...TRANSPORTS, "polling in base64": ["polling"] })) {
      it(`send and get binary over ${name}`, async () => {
        const old = oldClient(server.url, { transports, forceBase64: name.endsWith("base64") });
        await old.next("connect");
        const rounds = name === "upgrade" ? 20 : 3;
        for (let n = 0; n < rounds; n += 1) {
          assert.deepEqual(await old.ask("message-with-ack", n, BYTES, { nested: [Buffer.from("é"), "€"] }), [n, BYTES, { nested: [Buffer.from("é"), "€"] }]);
        }
        old.socket.emit("message", BYTES, Buffer.alloc(0), "text");
        const { args } = await old.events.next(({ event }) => event === "message-back", "the echo");
        assert.deepEqual(args, [BYTES, Buffer.alloc(0), "text"]);
      });
    }

    it("ping, and are answered", async () => {
      for (const transports of [["polling"], ["websocket"]]) {
        const old = oldClient(server.url, { transports });
        await old.next("pong");
        await old.events.next(({ event }, index) => event === "pong", "another pong", old.events.items.length);
        assert.ok(old.socket.connected);
      }
    });

    it("that do not ping are gone after both times", async () => {
      const { connection, answer } = await upgrade(server.url, "/socket.io/?EIO=3&transport=websocket");
      assert.equal(answer.status, 101);
      assert.equal(await connection.closeCode(), 1005);
      const { sid } = JSON.parse((await request(server.url, "GET", OLD)).text.replace(/^\d+:0/, ""));
      const ended = async () => {
        while ((await post(server.url, sid, "1:6")).status === 200);
      };
      await within(ended(), "the session to be over");
    });
  });
}

describe("Engine.IO 3 on raw bytes", () => {
  let url;
  let gateway;
  before(async () => {
    gateway = await startGateway({ text: PROFILE, shards: 2 });
    ({ url } = gateway);
  });
  after(() => gateway.stop());
  afterEach(closeAll);

  async function opened(query = OLD) {
    const answer = await request(url, "GET", query);
    assert.equal(answer.status, 200, answer.text);
    const [, length, packet] = answer.text.match(/^(\d+):0(.*)$/);
    assert.equal(Number(length), packet.length + 1);
    const { sid, upgrades } = JSON.parse(packet);
    assert.deepEqual(upgrades, ["websocket"]);
    // Let in without asking.
    assert.match((await get(url, sid)).text, /^2:40\d+:42\["connected"/);
    return sid;
  }

  it("a missing or unknown EIO is revision 3", async () => {
    for (const query of ["EIO=3", "x=1", "EIO=5", "EIO=2"]) await opened(`/socket.io/?transport=polling&${query}`);
  });

  it("a session is served by its own revision alone", async () => {
    const sid = await opened();
    const answer = await request(url, "GET", `/socket.io/?EIO=4&transport=polling&sid=${sid}`);
    assert.deepEqual([answer.status, answer.json], [400, { code: 3, message: "Bad request" }]);
    const { answer: refused } = await upgrade(url, `/socket.io/?EIO=4&transport=websocket&sid=${sid}`);
    assert.deepEqual([refused.status, refused.text], [400, "Bad request"]);
    assert.equal((await post(url, sid, "1:2")).text, "ok");
    assert.equal((await get(url, sid)).text, "1:3");
  });

  it("lengths count UTF-16 code units", async () => {
    const sid = await opened();
    const packet = '420["join",{"room":"é€😀"}]';
    assert.equal((await post(url, sid, `1:2${packet.length}:${packet}`)).text, "ok");
    const answer = '430[{"success":true,"room":"é€😀"}]';
    assert.equal((await get(url, sid)).text, `1:3${answer.length}:${answer}`);
  });

  it("a body may be bytes", async () => {
    const sid = await opened();
    const packet = Buffer.from('420["join",{"room":"é"}]');
    const digits = [...String(packet.length)].map(Number);
    const body = Buffer.concat([Buffer.from([0, ...digits, 255]), packet, Buffer.from([0, 1, 255]), Buffer.from("2")]);
    assert.equal((await post(url, sid, body, { "Content-Type": "application/octet-stream" })).text, "ok");
    assert.match((await get(url, sid)).text, /430\[\{"success":true,"room":"é"\}\]/);
  });

  for (const body of ["", "1", "1:", "abc", "2:2", "1:2x", "1:7", "1:3"]) {
    it(`a POST of ${JSON.stringify(body)} is answered, and ends the session`, async () => {
      const sid = await opened();
      assert.equal((await post(url, sid, body)).text, "ok");
      assert.deepEqual((await get(url, sid)).json, { code: 1, message: "Session ID unknown" });
    });
  }

  it("an empty packet is none, as in Node", async () => {
    const sid = await opened();
    assert.equal((await post(url, sid, "0:1:2")).text, "ok");
    assert.equal((await get(url, sid)).text, "1:3");
  });

  it("over a WebSocket binary messages begin with their type, and a pong is an error", async () => {
    const { connection } = await upgrade(url, "/socket.io/?EIO=3&transport=websocket");
    assert.deepEqual(JSON.parse((await connection.frame()).text.slice(1)).upgrades, []);
    assert.equal((await connection.frame()).text, "40");
    assert.match((await connection.frame()).text, /^42\["connected"/);
    connection.sendBinary([2]);
    assert.equal((await connection.frame()).text, "3");
    connection.send("3");
    assert.equal(await connection.closeCode(), 1005);
  });

  it("a CONNECT to a namespace may have a query, and is answered without a payload", async () => {
    const { connection } = await upgrade(url, "/socket.io/?EIO=3&transport=websocket");
    connection.send("40/custom?token=1,");
    connection.send("40/nowhere?a=b,");
    const came = [];
    while (came.length < 6) came.push((await connection.frame()).text);
    assert.ok(came.includes("40/custom,"), came.join(" "));
    assert.ok(came.includes('44/nowhere,{"message":"Invalid namespace"}'), came.join(" "));
    // As in Node a second CONNECT to a namespace breaks the protocol, and so does one to `/`.
    connection.send("40");
    assert.equal(await connection.closeCode(), 1005);
  });

  it("is refused where it is not let in", async () => {
    const other = await startGateway({ profile: "demo" });
    try {
      for (const query of ["EIO=3&transport=polling", "transport=polling"]) {
        const answer = await request(other.url, "GET", `/socket.io/?${query}`);
        assert.deepEqual([answer.status, answer.json], [400, { code: 5, message: "Unsupported protocol version" }]);
      }
    } finally {
      await other.stop();
    }
  });
});

describe("JSONP in a real browser", () => {
  let browser;
  let gateway;
  before(async () => {
    assert.ok(existsSync(CHROMIUM), `this test needs Chromium at ${CHROMIUM}: apt-get install chromium`);
    browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
    gateway = await startGateway({ text: PROFILE });
  });
  after(() => Promise.all([browser?.close(), gateway?.stop()]));

  it("the stock client 2 asks and is answered through script tags and forms", async () => {
    const page = await browser.newPage();
    await page.goto(gateway.url);
    // In place of the client of the page itself, which came with it.
    await page.evaluate(() => delete globalThis.io);
    await page.addScriptTag({ path: CLIENT_2 });
    const answer = await within(
      page.evaluate(
        () =>
          new Promise((resolve, reject) => {
            const socket = globalThis.io({ forceNew: true, forceJSONP: true, transports: ["polling"], reconnection: false });
            socket.on("connect_error", (error) => reject(new Error(String(error))));
            socket.on("connected", ({ socketId }) => {
              const text = 'a "line"\nand \\n, \u2028, é€😀';
              socket.emit("join", { room: "r" }, () => socket.emit("say", { room: "r", data: text }));
              socket.on("message", ({ data }) => resolve({ isSame: data === text, isId: socketId === socket.id, transport: socket.io.engine.transport.constructor.name, query: socket.io.engine.transport.query.j }));
            });
          }),
      ),
      "the answer through JSONP",
    );
    assert.deepEqual([answer.isSame, answer.isId], [true, true]);
    assert.notEqual(answer.query, undefined, "it was JSONP");
    await page.close();
  });
});
