// Engine.IO 4 to the letter, on raw bytes: the rules that every server of it keeps, and what this one lets its operator set.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { after, afterEach, before, describe, it } from "node:test";

import { engineRules } from "./support/engine_rules.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { closeConnections, request, upgrade } from "./support/raw_http.mjs";
import { within } from "./support/recorder.mjs";

/** A gateway in which everyone may talk in any room. */
const profile = (endpoint = "", rest = "") => `
[service]
name = "rules"
host = "127.0.0.1"
port = "\${PORT}"

[auth]
token = "ignored"

${rest}

[[endpoint]]
protocol = "socket.io"
${endpoint}

[room.any]
name  = "{name}"
enter = true

[command.join]
args   = { room = "id" }
join   = "{args.room}"
answer = { ack = { room = "{room}" } }

[command.say]
args = { data = "any" }
emit = { to = "self", event = "said", data = { data = "{args.data}" } }
`;

/** The part of a Socket.IO server in the rules. */
const server = (shards) => ({
  start: () => startGateway({ text: profile(), shards }),
  path: "/socket.io/",
  maxPayload: 1_000_000,
  ready: [{ post: "40", until: (packet) => packet.startsWith("40{") }],
  ask: (n) => `42${n}["join",{"room":"r"}]`,
  isAnswer: (packet, n) => packet === `43${n}[{"room":"r"}]`,
  askLarge: (text) => `42["say",${JSON.stringify({ data: text })}]`,
  isLarge: (packet, text) => packet.startsWith('42["said"') && packet.includes(text),
});

for (const shards of SHARDS) engineRules(`Engine.IO on ${shards} shard(s)`, server(shards));

const POLLING = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET = "/socket.io/?EIO=4&transport=websocket";

/** Runs a test on a gateway of its own. */
function on(text, test) {
  return async () => {
    const gateway = await startGateway({ text });
    try {
      await test(gateway.url);
    } finally {
      await gateway.stop();
    }
  };
}

describe("heartbeats", () => {
  let gateway;
  before(async () => {
    gateway = await startGateway({ text: profile('ping_interval = "300ms"\nping_timeout = "2s"') });
  });
  after(() => gateway.stop());
  afterEach(closeConnections);

  const open = async () => JSON.parse((await request(gateway.url, "GET", POLLING)).text.slice(1)).sid;

  it("a poll is ended by a ping, and a client that answers each stays", async () => {
    const query = `${POLLING}&sid=${await open()}`;
    for (let n = 0; n < 3; n += 1) {
      assert.equal((await request(gateway.url, "GET", query)).text, "2");
      assert.equal((await request(gateway.url, "POST", query, {}, "3")).text, "ok");
    }
  });

  it("a client that does not answer is told of the end by its next poll", async () => {
    const query = `${POLLING}&sid=${await open()}`;
    assert.equal((await request(gateway.url, "GET", query)).text, "2");
    assert.equal((await request(gateway.url, "GET", query)).text, "1");
    assert.equal((await request(gateway.url, "GET", query)).json.code, 1);
  });

  it("a client that never polls is gone, too", async () => {
    const query = `${POLLING}&sid=${await open()}`;
    const gone = async () => {
      while ((await request(gateway.url, "POST", query, {}, "6")).status === 200);
    };
    await within(gone(), "the session to be over");
  });

  it("a WebSocket is pinged, and closed without a pong", async () => {
    const { connection } = await upgrade(gateway.url, WEBSOCKET);
    await connection.frame();
    for (let n = 0; n < 3; n += 1) {
      assert.equal((await connection.frame()).text, "2");
      connection.send("3");
    }
    assert.equal((await connection.frame()).text, "2");
    assert.equal(await connection.closeCode(), 1005);
  });

  it("go on across an upgrade, and a pong may come on the new transport", async () => {
    const sid = await open();
    assert.equal((await request(gateway.url, "GET", `${POLLING}&sid=${sid}`)).text, "2");
    const { connection } = await upgrade(gateway.url, `${WEBSOCKET}&sid=${sid}`);
    connection.send("2probe");
    assert.equal((await connection.frame()).text, "3probe");
    connection.send("5");
    for (let n = 0; n < 3; n += 1) {
      connection.send("3");
      assert.equal((await connection.frame()).text, "2");
    }
    assert.equal(await connection.closeCode(), 1005);
  });
});

describe("answers to polls", () => {
  it("hold 16 packets at most: more end the sessions of python-engineio", on(profile(), async (url) => {
    const { sid } = JSON.parse((await request(url, "GET", POLLING)).text.slice(1));
    const asks = Array.from({ length: 40 }, (_, n) => `42${n}["join",{"room":"r"}]`);
    await request(url, "POST", `${POLLING}&sid=${sid}`, {}, ["40", ...asks].join("\x1e"));
    const sizes = [];
    for (let left = 41; left > 0; left -= sizes.at(-1)) sizes.push((await request(url, "GET", `${POLLING}&sid=${sid}`)).text.split("\x1e").length);
    assert.deepEqual(sizes, [16, 16, 9]);
  }));
});

describe("time-outs", () => {
  afterEach(closeConnections);

  it("a WebSocket that enters no namespace is closed", on(profile('connect_timeout = "100ms"'), async (url) => {
    const { connection } = await upgrade(url, WEBSOCKET);
    assert.equal(await connection.closeCode(), 1005);
  }));

  it("an upgrade that is not finished leaves the polls", on(profile('upgrade_timeout = "100ms"'), async (url) => {
    const { sid } = JSON.parse((await request(url, "GET", POLLING)).text.slice(1));
    const { connection } = await upgrade(url, `${WEBSOCKET}&sid=${sid}`);
    assert.equal(await connection.closeCode(), 1005);
    assert.equal((await request(url, "POST", `${POLLING}&sid=${sid}`, {}, "40")).text, "ok");
    assert.match((await request(url, "GET", `${POLLING}&sid=${sid}`)).text, /^40\{/);
  }));
});

describe("other origins", () => {
  const PREFLIGHT = { Origin: "http://good.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a, x-b" };
  /** The headers of an answer that are for browsers. */
  const told = ({ status, headers }) => [status, ...Object.entries(headers).filter(([name]) => /^(access-control|vary)/.test(name)).map(([name, value]) => `${name}: ${value}`).sort()];
  const METHODS = "access-control-allow-methods: GET,HEAD,PUT,PATCH,POST,DELETE";

  const listed = profile("", '[cors]\norigins = ["http://good.example", "http://other.example"]');
  it("that are listed are told so, on errors too", on(listed, async (url) => {
    const good = ["access-control-allow-credentials: true", "access-control-allow-origin: http://good.example", "vary: Origin"];
    const bad = [good[0], good[2]];
    assert.deepEqual(told(await request(url, "GET", POLLING, { Origin: "http://good.example" })), [200, ...good]);
    assert.deepEqual(told(await request(url, "GET", POLLING, { Origin: "http://bad.example" })), [200, ...bad]);
    assert.deepEqual(told(await request(url, "GET", `${POLLING}&sid=x`, { Origin: "http://good.example" })), [400, ...good]);
    assert.deepEqual(told(await request(url, "GET", `${POLLING}&sid=x`, { Origin: "http://bad.example" })), [400, ...bad]);
    const preflight = await request(url, "OPTIONS", "/socket.io/", PREFLIGHT);
    assert.deepEqual(told(preflight), [204, good[0], "access-control-allow-headers: x-a, x-b", METHODS, good[1], "vary: Origin, Access-Control-Request-Headers"]);
    const refused = await upgrade(url, WEBSOCKET, { Origin: "http://bad.example" });
    assert.equal(refused.answer.status, 403);
    const accepted = await upgrade(url, WEBSOCKET, { Origin: "http://good.example" });
    assert.deepEqual(told(accepted.answer), [101, ...good]);
    closeConnections();
  }));

  it("are all told so with `*`", on(profile("", '[cors]\norigins = "*"'), async (url) => {
    const any = "access-control-allow-origin: *";
    assert.deepEqual(told(await request(url, "GET", POLLING, { Origin: "http://good.example" })), [200, any]);
    assert.deepEqual(told(await request(url, "GET", POLLING)), [200, any]);
    assert.deepEqual(told(await request(url, "OPTIONS", POLLING)), [204, METHODS, any, "vary: Access-Control-Request-Headers"]);
  }));

  it("may be kept from sending cookies", on(profile("", '[cors]\norigins = "http://good.example"\ncredentials = false'), async (url) => {
    assert.deepEqual(told(await request(url, "GET", POLLING, { Origin: "http://good.example" })), [200, "access-control-allow-origin: http://good.example", "vary: Origin"]);
  }));

  it("are told nothing with `own`", on(profile("", '[cors]\norigins = "own"'), async (url) => {
    assert.deepEqual(told(await request(url, "GET", POLLING, { Origin: "http://good.example" })), [200]);
    const options = await request(url, "OPTIONS", POLLING, PREFLIGHT);
    assert.deepEqual([options.status, options.json], [400, { code: 2, message: "Bad handshake method" }]);
    const { sid } = JSON.parse((await request(url, "GET", POLLING)).text.slice(1));
    assert.deepEqual(told(await request(url, "OPTIONS", `${POLLING}&sid=${sid}`, PREFLIGHT)), [500]);
    assert.equal((await upgrade(url, WEBSOCKET, { Origin: "http://good.example" })).answer.status, 403);
    assert.equal((await upgrade(url, WEBSOCKET, { Origin: "http://localhost" })).answer.status, 101);
    closeConnections();
  }));
});

describe("what the operator sets", () => {
  it("no cookie, unless it is asked for, and then on the handshake alone", on(profile("cookie = {}"), async (url) => {
    const { headers, text } = await request(url, "GET", POLLING);
    const { sid } = JSON.parse(text.slice(1));
    assert.equal(headers["set-cookie"], `io=${sid}; Path=/; HttpOnly; SameSite=Lax`);
    assert.equal((await request(url, "POST", `${POLLING}&sid=${sid}`, {}, "3")).headers["set-cookie"], undefined);
    const { answer } = await upgrade(url, WEBSOCKET);
    assert.equal(answer.headers["set-cookie"], undefined);
    closeConnections();
  }));

  it("a cookie of another kind", on(profile('cookie = { name = "lb", path = "/x", http_only = false, secure = true, same_site = "none" }'), async (url) => {
    const { headers, text } = await request(url, "GET", POLLING);
    assert.equal(headers["set-cookie"], `lb=${JSON.parse(text.slice(1)).sid}; Path=/x; Secure; SameSite=None`);
  }));

  it("a path without a slash", on(profile("trailing_slash = false"), async (url) => {
    assert.equal((await request(url, "GET", "/socket.io?EIO=4&transport=polling")).status, 200);
    assert.equal((await request(url, "GET", POLLING)).status, 200);
    assert.equal((await request(url, "GET", "/socket.iox?EIO=4&transport=polling")).status, 404);
  }));

  it("one transport alone", on(profile('transports = ["websocket"]'), async (url) => {
    assert.deepEqual((await request(url, "GET", POLLING)).json, { code: 0, message: "Transport unknown" });
    assert.equal((await upgrade(url, WEBSOCKET)).answer.status, 101);
    closeConnections();
  }));

  it("polling alone offers no upgrade", on(profile('transports = ["polling"]'), async (url) => {
    assert.deepEqual(JSON.parse((await request(url, "GET", POLLING)).text.slice(1)).upgrades, []);
    assert.equal((await upgrade(url, WEBSOCKET)).answer.text, "Transport unknown");
  }));

  for (const [endpoint, isCompressed] of [["compress_polls = false", false], ["compress_polls_from = 50", true]]) {
    it(`polls ${isCompressed ? "compressed from another size on" : "never compressed"}`, on(profile(endpoint), async (url) => {
      const { sid } = JSON.parse((await request(url, "GET", POLLING)).text.slice(1));
      const text = isCompressed ? "x".repeat(60) : "x".repeat(5000);
      await request(url, "POST", `${POLLING}&sid=${sid}`, {}, `40\x1e42["say",{"data":"${text}"}]`);
      const { headers, body } = await request(url, "GET", `${POLLING}&sid=${sid}`, { "Accept-Encoding": "gzip" });
      assert.equal(headers["content-encoding"], isCompressed ? "gzip" : undefined);
      assert.ok((isCompressed ? gunzipSync(body) : body).includes(text));
    }));
  }

  it("the client's files, and nothing else", async () => {
    const folder = mkdtempSync(join(tmpdir(), "roomcast-client-"));
    try {
      writeFileSync(join(folder, "socket.io.min.js"), "let client;".repeat(100));
      writeFileSync(join(folder, "socket.io.min.js.map"), "{}");
      writeFileSync(join(folder, "secret.js"), "let secret;");
      await on(profile(`client_files = "${folder}"`), async (url) => {
        const get = (name, headers) => request(url, "GET", `/socket.io/${name}`, headers);
        const script = await get("socket.io.min.js?v=1");
        const kind = ({ headers }) => [headers["content-type"], headers["cache-control"]];
        assert.deepEqual([script.status, script.text, ...kind(script)], [200, "let client;".repeat(100), "application/javascript; charset=utf-8", "public, max-age=0"]);
        assert.deepEqual(kind(await get("socket.io.min.js.map")), ["application/json; charset=utf-8", "public, max-age=0"]);
        for (const tag of [script.headers.etag, `W/${script.headers.etag}`]) {
          const known = await get("socket.io.min.js", { "If-None-Match": tag });
          assert.deepEqual([known.status, known.text], [304, ""]);
        }
        const compressed = await get("socket.io.min.js", { "Accept-Encoding": "gzip" });
        assert.deepEqual([compressed.headers["content-encoding"], gunzipSync(compressed.body).toString()], ["gzip", script.text]);
        const head = await request(url, "HEAD", "/socket.io/socket.io.min.js");
        assert.deepEqual([head.status, head.headers.etag], [200, script.headers.etag]);
        // What is none of the files is an Engine.IO request, here as everywhere.
        for (const name of ["secret.js", "socket.io.js", "../secret.js", "%2e%2e/secret.js", "a/socket.io.min.js", "socket.io.min.js/"]) {
          assert.notEqual((await get(name)).status, 200, name);
        }
      })();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
