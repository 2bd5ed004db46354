// Any request on any node: clients behind a balancer without a memory, which leads each connection to the next of three gateways.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { gunzipSync } from "node:zlib";

import io from "socket.io-client-2";

import { certificate } from "./support/certificate.mjs";
import { TRANSPORTS, closeClients, connected } from "./support/clients.mjs";
import { engineRules } from "./support/engine_rules.mjs";
import { freePort, startGateway } from "./support/gateway.mjs";
import { Connection, closeConnections, frame, request, requestText, upgrade } from "./support/raw_http.mjs";
import { Recorder, until, within } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { EACH_ALONE, startRoundRobin } from "./support/round_robin.mjs";

const NODES = 3;

const PROFILE = `
[service]
name = "any node"
host = "127.0.0.1"
port = "\${PORT}"

[cors]
origins = ["https://app.example"]
credentials = true

[auth]
token = "with_key"
secret = "\${SECRET:-}"
anonymous = { guest = "guest-" }

[[endpoint]]
protocol = "socket.io"
namespaces = ["/", "/custom"]
allow_eio3 = true
cookie = { name = "io" }
compress_polls_from = "1KiB"

[on.connect]
emit = { to = "self", event = "connected", data = { socketId = "{socket.id}", userId = "{user.id}" } }

[room.any]
name  = "{name}"
enter = true

[command.join]
args   = { room = "id" }
join   = "{args.room}"
answer = { ack = { success = true, room = "{room}" } }

[command.echo]
args = { data = "any" }
emit = { to = "self", event = "said", data = { data = "{args.data}" } }

[command.say]
args = { room = "id", data = "any" }
emit = { to = "{args.room}", event = "message", data = { from = "{socket.id}", data = "{args.data}" } }
answer = { ack = { success = true } }
`;

const POLLING = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET = "/socket.io/?EIO=4&transport=websocket";
const UNKNOWN = { code: 1, message: "Session ID unknown" };

async function startNode(redis, options = {}) {
  const gateway = await startGateway({ text: PROFILE, shards: 2, ...options, env: { ...redis.env, ...options.env } });
  const { address } = await gateway.log.next((line) => line.message === "listening for other nodes", "the port for other nodes");
  gateway.forNodes = address;
  const health = async () => JSON.parse((await request(`http://127.0.0.1:${options.env?.OPS_PORT ?? gateway.port}`, "GET", "/health/ready")).text);
  await until(health, ({ parts }) => parts.bus.state === "connected" && parts.directory.state === "connected", "the cluster");
  return gateway;
}

async function startCluster(options) {
  const redis = await Redis.start();
  const nodes = await Promise.all(Array.from({ length: NODES }, () => startNode(redis, options)));
  const balancer = await startRoundRobin(nodes);
  const stop = async () => {
    balancer.close();
    await Promise.all(nodes.map((node) => node.kill()));
    await redis.kill();
  };
  return { redis, nodes, balancer, stop, url: balancer.url };
}

/** A session on polling that has entered, opened on this node. */
async function open(url, query = POLLING, headers = {}) {
  const opened = await request(url, "GET", query, headers);
  const { sid } = JSON.parse(opened.text.replace(/^[^{]*/, ""));
  const session = { sid, path: `${query}&sid=${sid}` };
  session.post = (via, body, more) => request(via, "POST", session.path, { ...headers, ...more }, body);
  session.get = (via, more) => request(via, "GET", session.path, { ...headers, ...more });
  return session;
}

/** The same, let into the main namespace. */
async function enter(url, headers) {
  const session = await open(url, POLLING, headers);
  await session.post(url, "40");
  const answer = await session.get(url);
  assert.match(answer.text, /^40\{.*42\["connected"/);
  return session;
}

/** Waits until a session has ended. A POST that arrives in the very moment is broken off. */
async function over(session, via) {
  const status = () => session.post(via, "6").then(({ status }) => status, () => 0);
  await until(status, (status) => status === 400, "the session's end");
}

/** An answer without what differs from one to the next. */
function comparable({ status, headers, text }) {
  const { date, ...fields } = headers;
  assert.ok(date);
  return { status, fields, text };
}

function oldClient(url, options) {
  const socket = io(url, { reconnection: false, forceNew: true, ...EACH_ALONE, ...options });
  const events = new Recorder("an old client");
  for (const event of ["connect", "connected", "disconnect", "message"]) socket.on(event, (data) => events.add({ event, args: [data] }));
  return {
    socket,
    events,
    next: async (event, accept = () => true) => (await events.next((item) => item.event === event && accept(...item.args), event)).args[0],
    ask: (event, data) => within(new Promise((resolve) => socket.emit(event, data, (answer) => resolve(answer))), event),
  };
}

const answered = async (nodes) => {
  const counts = await Promise.all(nodes.map((node) => node.metric('roomcast_passed_on_total{outcome="answered"}')));
  return counts.reduce((sum, count) => sum + count);
};

describe("behind a balancer without a memory", () => {
  let cluster;
  before(async () => (cluster = await startCluster()));
  after(() => cluster.stop());
  afterEach(() => {
    closeClients();
    closeConnections();
  });

  for (const [name, transports] of Object.entries(TRANSPORTS)) {
    for (const kind of ["a stock client", "an old client"]) {
      it(`${kind} over ${name} talks with others, in order and once, whatever node its requests come to`, async () => {
        const before = await answered(cluster.nodes);
        const make = async () => {
          if (kind === "a stock client") return connected(cluster.url, { transports, ...EACH_ALONE });
          const client = oldClient(cluster.url, { transports });
          await client.next("connected");
          return client;
        };
        const clients = [await make(), await make()];
        const room = `${kind} ${name}`;
        for (const client of clients) assert.deepEqual([await client.ask("join", { room })].flat()[0], { success: true, room });
        const large = "é".repeat(200_000);
        for (let n = 0; n < 50; n += 1) for (const [index, { socket }] of clients.entries()) socket.emit("say", { room, data: `${index} ${n}` });
        assert.deepEqual([await clients[0].ask("say", { room, data: large })].flat()[0], { success: true });
        clients[1].socket.emit("say", { room, data: "end" });
        for (const client of clients) {
          await client.next("message", ({ data }) => data === "end");
          await client.next("message", ({ data }) => data === large);
          const heard = client.events.items.filter(({ event }) => event === "message").map(({ args }) => args[0].data);
          for (const index of [0, 1]) {
            const of = heard.filter((data) => data.startsWith(`${index} `));
            assert.deepEqual(of, Array.from({ length: 50 }, (_, n) => `${index} ${n}`));
          }
        }
        for (const { socket } of clients) {
          const { engine } = socket.io;
          if (name === "upgrade" && engine.transport.name !== "websocket") await within(new Promise((resolve) => engine.once("upgrade", resolve)), "the upgrade");
          socket.close();
        }
        const passed = (await answered(cluster.nodes)) - before;
        assert.ok(name === "websocket" ? passed === 0 : passed >= 2, `${passed} requests were passed on`);
      });
    }
  }

  it("a request is answered as if it had come to its session's node, byte for byte", async () => {
    const [own, other] = cluster.nodes.map((node) => node.url);
    const origin = { Origin: "https://app.example" };
    const requests = [
      (session, via) => session.get(via, origin),
      (session, via) => session.post(via, `42["say",{"room":"${"x".repeat(100)}"}]`, origin),
      (session, via) => session.post(via, "x".repeat(1_000_001)),
      (session, via) => session.post(via, Buffer.alloc(2_000_000), { "Content-Length": 2_000_000 }),
      (session, via) => session.post(via, "", { "Content-Type": "application/octet-stream" }),
      (session, via) => session.post(via, "no packet"),
      (session, via) => request(via, "PUT", session.path),
      (session, via) => request(via, "OPTIONS", session.path, { ...origin, "Access-Control-Request-Method": "POST" }),
      (session, via) => request(via, "GET", session.path.replace("polling", "websocket")),
      (session, via) => request(via, "GET", session.path.replace("polling", "pigeon")),
      (session, via) => request(via, "GET", session.path.replace("EIO=4", "EIO=3")),
      (session, via) => request(via, "GET", session.path, { "User-Agent": "Trident/7.0" }),
      (session, via) => request(via, "GET", `${session.path}&j=0`),
      (session, via) => request(via, "GET", session.path, { "roomcast-client": "nonsense", "roomcast-session": session.sid, "roomcast-leaving": "poll" }),
    ];
    for (const [index, ask] of requests.entries()) {
      const answers = [];
      for (const via of [own, other]) {
        const session = await open(own, POLLING, origin);
        await session.post(own, "40");
        const answer = comparable(await ask(session, via));
        answer.text = answer.text.replace(/"(sid|socketId|userId)":"[^"]*"/g, "$1");
        answers.push(answer);
      }
      assert.deepEqual(answers[1], answers[0], `request ${index}`);
    }
  });

  it("a compressed answer comes as it is, and a large body whole", async () => {
    const [own, other, third] = cluster.nodes.map((node) => node.url);
    const session = await enter(own);
    const text = "€".repeat(300_000);
    assert.equal((await session.post(other, '420["join",{"room":"compressed"}]')).text, "ok");
    assert.match((await session.get(third)).text, /^430/);
    assert.equal((await session.post(third, `42["say",{"room":"compressed","data":"${text}"}]`)).text, "ok");
    const answer = await session.get(other, { "Accept-Encoding": "gzip" });
    assert.equal(answer.headers["content-encoding"], "gzip");
    assert.ok(gunzipSync(answer.body).toString().includes(text));
  });

  it("a GET whose client goes away on the other node ends the session", async () => {
    const [own, other] = cluster.nodes;
    const session = await enter(own.url);
    await session.post(other.url, '420["join",{"room":"gone"}]');
    await session.get(other.url);
    const connection = new Connection(other.url);
    connection.write(requestText("GET", session.path));
    await until(() => other.metric("roomcast_passing_on"), (count) => count === 1, "the GET to wait");
    connection.destroy();
    await over(session, own.url);
    const answer = await session.get(other.url);
    assert.deepEqual([answer.status, answer.json], [400, UNKNOWN]);
    assert.equal(await other.metric("roomcast_passing_on"), 0);
  });

  it("a POST that breaks off within its body ends the session; one for a session that ends is broken off", async () => {
    const [own, other] = cluster.nodes;
    let session = await enter(own.url);
    let connection = new Connection(other.url);
    connection.write(requestText("POST", session.path, { "Content-Length": 100 }, "42"));
    await until(() => other.metric("roomcast_passing_on"), (count) => count === 1, "the POST to be on its way");
    connection.destroy();
    await over(session, own.url);

    session = await enter(own.url);
    connection = new Connection(other.url);
    connection.write(requestText("POST", session.path, { "Content-Length": 100 }, "42"));
    await until(() => other.metric("roomcast_passing_on"), (count) => count === 1, "the POST to be on its way");
    // Two at a time are one too many: the session ends, and the first with it.
    await until(async () => (await session.post(own.url, "42")).status, (status) => status === 400, "the session's end");
    assert.equal((await connection.closed).length, 0);
  });

  it("a GET whose client goes as soon as it is sent ends the session", async () => {
    const [own, other] = cluster.nodes.map((node) => node.url);
    const ends = async (via) => {
      const session = await open(own);
      new Connection(via).socket.end(requestText("GET", session.path));
      await over(session, own);
    };
    for (let n = 0; n < 10; n += 1) await Promise.all([own, other].flatMap((via) => Array.from({ length: 5 }, () => ends(via))));
  });

  it("a POST that breaks off as soon as it is sent ends the session, whichever of its client's requests are passed on", async () => {
    const [own, other] = cluster.nodes.map((node) => node.url);
    const half = { "Content-Length": 100 };
    const ends = async (getVia, postVia) => {
      const session = await open(own);
      const get = new Connection(getVia);
      get.write(requestText("GET", session.path));
      const post = new Connection(postVia);
      post.socket.end(Buffer.concat([requestText("POST", session.path, half), Buffer.from("4")]));
      const { status, text } = await get.answer();
      // The GET that waits is told; one that comes later finds no session.
      assert.ok([`200 1`, `400 ${JSON.stringify(UNKNOWN)}`].includes(`${status} ${text}`), `${status} ${text}`);
      assert.deepEqual((await session.get(own)).json, UNKNOWN);
    };
    // Many at once, so that what is told of one request comes together, or one by one.
    const ways = [[other, other], [own, other], [other, own], [own, own]];
    for (let n = 0; n < 10; n += 1) await Promise.all(ways.flatMap(([get, post]) => Array.from({ length: 5 }, () => ends(get, post))));
  });

  it("an upgrade over another node: packets both ways, large ones, and a close that is said", async () => {
    const [own, other] = cluster.nodes;
    const session = await enter(own.url);
    const { connection, answer } = await upgrade(other.url, `${WEBSOCKET}&sid=${session.sid}`, { Origin: "https://app.example" });
    assert.equal(answer.status, 101);
    assert.equal(answer.headers["access-control-allow-origin"], "https://app.example");
    connection.send("2probe");
    assert.equal((await connection.frame()).text, "3probe");
    connection.send("5");
    connection.send('420["join",{"room":"tunnel"}]');
    assert.match(await connection.text(), /^430/);
    const text = "€".repeat(200_000);
    connection.send(`42["say",{"room":"tunnel","data":"${text}"}]`);
    assert.ok((await connection.text()).includes(text));
    assert.equal(await other.metric("roomcast_passing_on"), 1);
    connection.write(frame(8, Buffer.from([3, 232])));
    assert.equal(await connection.closeCode(), 1000);
    await connection.closed;
    await until(() => other.metric("roomcast_passing_on"), (count) => count === 0, "the tunnel's end");
  });

  it("a session of a node that nobody knows is unknown at once, and so is its WebSocket", async () => {
    const before = await cluster.nodes[0].metric('roomcast_passed_on_total{outcome="unknown"}');
    for (const sid of ["AAAAAAAAAAAAAAAAAAAA", "zzzzzzzzzzzzzzzzzzzz"]) {
      for (const version of ["EIO=4", "EIO=3"]) {
        const answer = await request(cluster.nodes[0].url, "GET", `${POLLING.replace("EIO=4", version)}&sid=${sid}`);
        assert.deepEqual([answer.status, answer.json], [400, UNKNOWN]);
      }
      const { answer } = await upgrade(cluster.nodes[0].url, `${WEBSOCKET}&sid=${sid}`);
      assert.deepEqual([answer.status, answer.text], [400, UNKNOWN.message]);
    }
    assert.equal((await cluster.nodes[0].metric('roomcast_passed_on_total{outcome="unknown"}')) - before, 6);
  });

  it("whoever comes as a node without the cluster's secret is shown the door, and nothing else", async () => {
    const [node] = cluster.nodes;
    const before = await node.metric('roomcast_refused_total{reason="node"}');
    const nonsense = [
      requestText("GET", POLLING),
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      Buffer.concat([Buffer.from("roomcast node 1\n"), Buffer.alloc(16), Buffer.alloc(32, 7), Buffer.from("P"), Buffer.alloc(18)]),
    ];
    for (const said of nonsense) {
      const connection = new Connection(`http://${node.forNodes}`);
      connection.write(said);
      // Its own proof at most, which says nothing to others.
      assert.ok((await connection.closed).length <= 48);
    }
    assert.equal((await node.metric('roomcast_refused_total{reason="node"}')) - before, nonsense.length);
  });

  it("goes on while Redis is away: nodes that knew each other still do", async () => {
    const client = await connected(cluster.url, { transports: ["polling"], ...EACH_ALONE });
    await client.ask("join", { room: "without" });
    await cluster.redis.kill();
    for (let n = 0; n < 10; n += 1) assert.deepEqual(await client.ask("join", { room: `without ${n}` }), { success: true, room: `without ${n}` });
    await cluster.redis.start();
    client.close();
  });

  it("goes on after Redis was emptied, or started anew: to nodes that came meanwhile, too", async () => {
    for (const forget of [() => cluster.redis.command("FLUSHALL"), async () => (await cluster.redis.kill(), cluster.redis.start())]) {
      const before = await enter(cluster.nodes[0].url);
      await forget();
      const fresh = await startNode(cluster.redis);
      const [there, here] = [await enter(fresh.url), await enter(cluster.nodes[1].url)];
      const passes = async (session, via, number) => {
        // A node that came while Redis was away is known once it stands there.
        await until(async () => (await session.post(via.url, `42${number}["join",{"room":"again"}]`)).status, (status) => status === 200, "a way to the session's node");
        await until(async () => (await session.get(via.url)).text, (text) => text.includes(`43${number}[`), "the answer");
      };
      for (const [index, node] of cluster.nodes.entries()) {
        await passes(before, node, index);
        await passes(there, node, index);
      }
      await passes(here, fresh, 9);
      await fresh.kill();
    }
  });
});

describe("behind a balancer that knows nothing of TLS either", () => {
  let cluster;
  before(async () => {
    const own = certificate();
    const redis = await Redis.start();
    const nodes = [];
    for (let n = 0; n < 2; n += 1) nodes.push(await startNode(redis, { env: { ...own.env, OPS_PORT: String(await freePort()) } }));
    cluster = { redis, nodes, balancer: await startRoundRobin(nodes) };
  });
  after(async () => {
    cluster.balancer.close();
    await Promise.all(cluster.nodes.map((node) => node.kill()));
    await cluster.redis.kill();
  });
  afterEach(closeClients);

  for (const [name, transports] of Object.entries(TRANSPORTS)) {
    it(`a client over ${name} talks to its node through the other`, async () => {
      const url = cluster.balancer.url.replace("http", "https");
      const client = await connected(url, { transports, rejectUnauthorized: false, ...EACH_ALONE });
      await client.ask("join", { room: name });
      const { engine } = client.socket.io;
      if (name === "upgrade" && engine.transport.name !== "websocket") await within(new Promise((resolve) => engine.once("upgrade", resolve)), "the upgrade");
      const large = "é".repeat(300_000);
      client.socket.emit("say", { room: name, data: large });
      await client.next("message", ({ data }) => data === large);
    });
  }
});

describe("a node that is killed", () => {
  let cluster;
  before(async () => (cluster = await startCluster()));
  after(() => cluster.stop());
  afterEach(closeClients);

  it("loses its sessions at once: their clients begin anew, and hear what comes later", async () => {
    const [, , victim] = cluster.nodes;
    const options = { reconnection: true, reconnectionAttempts: 5, reconnectionDelay: 50, reconnectionDelayMax: 200 };
    const clients = [];
    for (let n = 0; n < 24; n += 1) {
      const transports = Object.values(TRANSPORTS)[n % 3];
      clients.push(await connected(cluster.url, { name: `client ${n}`, transports, ...options, ...EACH_ALONE }));
    }
    const failed = [];
    for (const { socket, events } of clients) {
      socket.on("connected", () => socket.emit("join", { room: "all" }, () => events.add({ event: "joined", args: [] })));
      socket.io.on("reconnect_failed", () => failed.push(events.name));
      socket.emit("join", { room: "all" }, () => events.add({ event: "joined", args: [] }));
      await events.next(({ event }) => event === "joined", "the join");
      const { engine, opts } = socket.io;
      // Who is killed in the middle of an upgrade for another has its client wait for a ping.
      if (opts.transports.length > 1 && engine.transport.name !== "websocket") await within(new Promise((resolve) => engine.once("upgrade", resolve)), "the upgrade");
    }
    const lost = await victim.metric("roomcast_connections");
    assert.ok(lost > 0);
    await victim.kill();
    await until(async () => (await Promise.all(cluster.nodes.slice(0, 2).map((node) => node.metric("roomcast_sockets")))).reduce((a, b) => a + b), (count) => count === clients.length, "all to be back");
    for (const { socket, events } of clients) {
      const dropped = events.items.findLastIndex(({ event }) => event === "disconnect");
      await events.next(({ event }) => event === "joined", "the join", dropped + 1);
      assert.ok(socket.connected);
    }
    clients[0].socket.emit("say", { room: "all", data: "later" });
    for (const client of clients) await client.next("message", ({ data }) => data === "later");
    assert.deepEqual(failed, []);
  });
});

describe("a node that is held up", () => {
  let cluster;
  before(async () => (cluster = await startCluster()));
  after(() => cluster.stop());
  afterEach(closeConnections);

  it("costs its clients their sessions, whose ends the other nodes tell, and is of use again when it goes on", async () => {
    const [own, other] = cluster.nodes;
    const session = await enter(own.url);
    // The way is there: one that is still being made when the node stops would not be had at all.
    assert.equal((await session.post(other.url, "6")).text, "ok");
    const waiting = session.get(other.url);
    await until(() => other.metric("roomcast_passing_on"), (count) => count === 1, "the poll to be passed on");
    own.signal("SIGSTOP");
    assert.equal((await waiting).status, 502);
    // The next way to it is not to be had either.
    const next = await session.post(other.url, "3");
    assert.deepEqual([next.status, next.json], [400, UNKNOWN]);
    own.signal("SIGCONT");
    // It has heard meanwhile that the GET was dropped.
    await until(async () => (await session.get(other.url)).json, (answer) => answer?.code === 1, "the session's end");
    const anew = await enter(own.url);
    await until(async () => (await anew.post(other.url, "6")).text, (text) => text === "ok", "the way to be there again");
  });
});

describe("a node that is taken out of service", () => {
  let cluster;
  before(async () => (cluster = await startCluster()));
  after(() => cluster.stop());
  afterEach(() => {
    closeClients();
    closeConnections();
  });

  it("lets the polls go that it passes on, whose sessions go on by other ways, and closes WebSockets the gentle way", async () => {
    const [own, leaving, third] = cluster.nodes;
    const polling = await enter(own.url);
    const waiting = polling.get(leaving.url);
    const upgraded = await enter(own.url);
    const { connection } = await upgrade(leaving.url, `${WEBSOCKET}&sid=${upgraded.sid}`);
    connection.send("2probe");
    assert.equal((await connection.frame()).text, "3probe");
    connection.send("5");
    connection.send('420["join",{"room":"drain"}]');
    assert.match(await connection.text(), /^430/);
    await until(() => leaving.metric("roomcast_passing_on"), (count) => count === 2, "both to be passed on");
    leaving.signal("SIGTERM");
    const answer = await waiting;
    assert.deepEqual([answer.status, answer.text, answer.headers.connection], [200, "6", "close"]);
    assert.equal(await connection.closeCode(), 1001);
    connection.write(frame(8, Buffer.from([3, 233])));
    await polling.post(third.url, '421["join",{"room":"drain"}]');
    assert.match((await polling.get(third.url)).text, /^431/);
    assert.deepEqual((({ code, signal }) => ({ code, signal }))(await leaving.ended), { code: 0, signal: null });
  });

  it("lets a client finish its move to a WebSocket before it is closed; one that has not begun stays on polling", async () => {
    const [own, , third] = cluster.nodes;
    const leaving = await startNode(cluster.redis);
    const [moving, trying] = [await enter(own.url), await enter(own.url)];
    const before = await own.metric("roomcast_sockets");
    const [{ connection: moves }, { connection: tries }] = [
      await upgrade(leaving.url, `${WEBSOCKET}&sid=${moving.sid}`),
      await upgrade(leaving.url, `${WEBSOCKET}&sid=${trying.sid}`),
    ];
    moves.send("2probe");
    assert.equal((await moves.frame()).text, "3probe");
    leaving.signal("SIGTERM");
    assert.equal(await tries.closeCode(), 1005);
    // From here on a stock client polls no more, and would not hear of a WebSocket that failed.
    await until(() => own.metric("roomcast_sockets"), (count) => count === before - 1, "the one that moves to be closed");
    moves.send("5");
    assert.equal(await moves.closeCode(), 1001);
    moves.write(frame(8, Buffer.from([3, 233])));
    tries.write(frame(8, Buffer.alloc(0)));
    await trying.post(third.url, '421["join",{"room":"drain"}]');
    assert.match((await trying.get(third.url)).text, /^431/);
    assert.equal((await leaving.ended).code, 0);
  });

  it("begins no WebSocket for others any more, and polls that keep coming do not keep it", async () => {
    const [own] = cluster.nodes;
    const leaving = await startNode(cluster.redis, { env: { SHUTDOWN_TIMEOUT: "1600s" } });
    const [polling, posting] = [await enter(own.url), await enter(own.url)];
    // Has gone for a moment: as long as it is waited for, the node listens.
    const itsOwn = await enter(leaving.url);
    // As long as this is not whole, the node is there.
    const [post, late] = [new Connection(leaving.url), new Connection(leaving.url)];
    const body = requestText("POST", posting.path, {}, "3");
    post.write(body.subarray(0, -1));
    await until(() => leaving.metric("roomcast_passing_on"), (count) => count === 1, "the POST to be passed on");
    leaving.signal("SIGTERM");
    await until(() => leaving.metric("roomcast_sockets"), (count) => count === 0, "its own to be closed");
    const { answer: refused } = await upgrade(leaving.url, `${WEBSOCKET}&sid=${polling.sid}`);
    assert.deepEqual([refused.status, refused.json.code], [503, "draining"]);
    let answers = 0;
    let isOver = false;
    const asking = async () => {
      for (;;) {
        const answer = await polling.get(leaving.url).catch((error) => error);
        // Nobody listens any more.
        if (isOver && answer instanceof Error) return;
        assert.deepEqual([answer.status, answer.text], [200, "6"], answer.message);
        answers += 1;
      }
    };
    const asked = asking();
    await until(() => answers, (count) => count > 0, "its polls to go back");
    isOver = true;
    assert.equal((await itsOwn.get(own.url)).text, "6\x1e1");
    await within(asked, "the listener to be closed");
    // One that comes by a connection which is there goes back as well.
    const last = await late.request("GET", polling.path);
    assert.deepEqual([last.status, last.text], [200, "6"]);
    post.write(body.subarray(-1));
    assert.equal((await post.answer()).text, "ok");
    assert.equal((await within(leaving.ended, "its end")).code, 0);
    await polling.post(own.url, '421["join",{"room":"drain"}]');
    assert.match((await polling.get(own.url)).text, /^431/);
  });

  it("closes its own sessions the gentle way, whichever node their polls come to", async () => {
    const [own, , third] = cluster.nodes;
    const session = await enter(own.url);
    const waiting = session.get(third.url);
    await until(() => third.metric("roomcast_passing_on"), (count) => count === 1, "the poll to be passed on");
    own.signal("SIGTERM");
    const answer = await waiting;
    assert.deepEqual([answer.status, answer.text], [200, "1"]);
    assert.equal((await own.ended).code, 0);
  });

  it("waits a moment for those of its own who are between two polls, and tells them by whichever node they come", async () => {
    const [, , third] = cluster.nodes;
    // An eighth of it is the moment.
    const own = await startNode(cluster.redis, { env: { SHUTDOWN_TIMEOUT: "1600s" } });
    const sessions = [await enter(own.url), await enter(own.url)];
    own.signal("SIGTERM");
    await own.log.next((line) => line.message === "draining", "the drain");
    // None is closed before it: whoever comes late enough finds its session closed already.
    await until(() => own.metric("roomcast_sockets"), (count) => count === 0, "both to be closed");
    for (const [index, session] of sessions.entries()) {
      const { status, text } = await session.get(index === 0 ? third.url : own.url);
      assert.deepEqual([status, text], [200, "6\x1e1"]);
    }
    // Then nobody is left to be waited for.
    assert.equal((await within(own.ended, "its end")).code, 0);
  });
});

engineRules(`Engine.IO, each connection to the next of ${NODES} nodes`, {
  start: () => startCluster({ text: PROFILE.replace("allow_eio3 = true", "") }),
  path: "/socket.io/",
  maxPayload: 1_000_000,
  ready: [{ post: "40", until: (packet) => packet.startsWith('42["connected"') }],
  ask: (n) => `42${n}["join",{"room":"r"}]`,
  isAnswer: (packet, n) => packet.startsWith(`43${n}[{"success":true`),
  askLarge: (text) => `42["echo",${JSON.stringify({ data: text })}]`,
  isLarge: (packet, text) => packet.startsWith('42["said"') && packet.includes(text),
});
