// Clients that dawdle: at every stage of a connection, however many bytes they send to look alive, they are gone in the time that
// `docs/operations.md` names, and what they held is free. The profile's times are short here; SLOW_FULL=1 takes those of the product.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";
import { connect } from "node:net";
import { after, afterEach, before, describe, it } from "node:test";
import tls from "node:tls";

import { certificate } from "./support/certificate.mjs";
import { closeClients, plain } from "./support/clients.mjs";
import { frame, rawWebSocket } from "./support/frames.mjs";
import { API_KEY, SHARDS, freePort, startGateway } from "./support/gateway.mjs";
import { rooms } from "./support/profiles.mjs";
import { until } from "./support/recorder.mjs";

const FULL = process.env.SLOW_FULL === "1";
const CROWD = FULL ? 1_000 : 200;
/** The time between two bytes of a client that dawdles. */
const BYTE_MS = FULL ? 1_000 : 40;
/** Has the allocator give back what it can, so that what the process has is nearly what it holds. */
const ALLOCATOR = { MALLOC_MMAP_THRESHOLD_: "4096", MALLOC_TRIM_THRESHOLD_: "0", MALLOC_TOP_PAD_: "0", MALLOC_ARENA_MAX: "1" };
/** What the allocator may keep for the next crowd, for each connection of one: some of its small pieces lie between longer-lived ones. */
const KEPT_KIB = 32;
/** Longer than any connection may take, by the product's own times. */
const DEADLINE_MS = 130_000;

/** Short, but no shorter than a busy machine and the clients of this test need: `fetch` keeps its connections for four seconds. */
const PROFILE = FULL
  ? rooms()
  : rooms({
      socketIo: 'ping_interval = "300ms"\nping_timeout = "300ms"\nconnect_timeout = "500ms"\nupgrade_timeout = "300ms"',
      json: 'heartbeat = { every = "1s", silent = 2 }',
      limits: 'head_timeout = "2s"\nbody_timeout = "1s"\nkeep_alive = "6s"\nmessage_timeout = "500ms"\nwrite_timeout = "500ms"\nclose_timeout = "300ms"\nsend_queue = "256MiB"',
    });
const PLAIN = "/ws";
const SOCKET_IO = "/socket.io/?EIO=4&transport=websocket";
const POLLING = "/socket.io/?EIO=4&transport=polling";
const NEVER_ENDS = Buffer.from([0x81, 0xfe, 0xc3, 0x50, 0, 0, 0, 0]);

const filler = () => Buffer.from("a");
const randomByte = () => Buffer.from([Math.floor(Math.random() * 256)]);
const request = (line, ...headers) => [`${line} HTTP/1.1`, "Host: localhost", ...headers, "", ""].join("\r\n");

/** A TCP connection that says this first. */
function tcp(port, text = "") {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.on("data", () => {});
  if (text) socket.write(text);
  return socket;
}

/** Sends one byte after the other, as long as it is let. */
function drip(socket, byte = filler) {
  const timer = setInterval(() => socket.writable && socket.write(byte()), BYTE_MS);
  socket.on("error", () => {});
  socket.on("close", () => clearInterval(timer));
}

/** A new session, over a connection that is not kept. */
const sessionOf = (gateway) =>
  new Promise((resolve, reject) => {
    const request = http.get(gateway.url + POLLING, { agent: false }, async (answer) => {
      let body = "";
      for await (const piece of answer) body += piece;
      resolve(JSON.parse(body.slice(1)).sid);
    });
    request.on("error", reject);
  });

/** What a client does that dawdles, by where in its life it does. Each opens one connection, and gives it. */
const STAGES = {
  "connects and says nothing": (gateway) => tcp(gateway.port),
  "sends the head of its first request byte by byte": (gateway) => {
    const socket = tcp(gateway.port, `GET ${PLAIN} HTTP/1.1\r\nX-Slow: `);
    drip(socket);
    return socket;
  },
  "says nothing after a request": (gateway) => tcp(gateway.port, request("GET /nowhere")),
  "sends the head of its second request byte by byte": (gateway) => {
    const socket = tcp(gateway.port, `${request("GET /nowhere")}GET /no`);
    drip(socket);
    return socket;
  },
  "sends the body of a POST to its session byte by byte": async (gateway) => {
    const socket = tcp(gateway.port, request(`POST ${POLLING}&sid=${await sessionOf(gateway)}`, "Content-Length: 50000"));
    drip(socket);
    return socket;
  },
  "sends a body over the limit byte by byte": async (gateway) => {
    const socket = tcp(gateway.port, request(`POST ${POLLING}&sid=${await sessionOf(gateway)}`, "Content-Length: 50000000"));
    drip(socket);
    return socket;
  },
  "sends a body that nobody wants byte by byte": (gateway) => {
    const socket = tcp(gateway.port, request("POST /nowhere", "Content-Length: 50000"));
    drip(socket);
    return socket;
  },
  "sends the body of an API request byte by byte": (gateway) => {
    const socket = tcp(gateway.port, request("POST /api/publish", "Content-Type: application/json", `Authorization: Bearer ${API_KEY}`, "Content-Length: 50000"));
    drip(socket);
    return socket;
  },
  "polls once and never again": async (gateway) => {
    await sessionOf(gateway);
    return tcp(gateway.port);
  },
  "starts an upgrade and sends a frame byte by byte": async (gateway) => {
    const { socket } = await rawWebSocket(gateway.port, `${SOCKET_IO}&sid=${await sessionOf(gateway)}`);
    socket.write(NEVER_ENDS);
    drip(socket);
    return socket;
  },
  "enters no namespace": async (gateway) => (await rawWebSocket(gateway.port, SOCKET_IO)).socket,
  ...Object.fromEntries(
    Object.entries({ "Socket.IO": SOCKET_IO, JSON: PLAIN }).flatMap(([dialect, path]) => {
      const open = async (gateway, options) => {
        const raw = await rawWebSocket(gateway.port, path, options);
        if (path === SOCKET_IO) raw.send(frame(0x81, "40"));
        return raw;
      };
      return Object.entries({
        "is half-open": async (gateway) => (await open(gateway)).socket,
        "sends a frame byte by byte": async (gateway) => {
          const { socket } = await open(gateway);
          socket.write(NEVER_ENDS);
          drip(socket);
          return socket;
        },
        "sends a message fragment by fragment, and answers pings": async (gateway) => {
          const raw = await open(gateway);
          raw.send(frame(0x01, "a"));
          drip(raw.socket, () => Buffer.concat([frame(0x8a), frame(0x00, "a")]));
          return raw.socket;
        },
        "does not answer the close frame, and goes on": async (gateway) => {
          const raw = await open(gateway, { allowHalfOpen: true });
          raw.send(frame(0x81, "unmasked", { masked: false }));
          await raw.next("close");
          drip(raw.socket);
          return raw.socket;
        },
      }).map(([name, start]) => [`${name} (${dialect})`, start]);
    }),
  ),
};

for (const shards of SHARDS) {
  describe(`clients that dawdle, on ${shards} shard(s)`, () => {
    let gateway;
    let descriptors;
    const open = () => readdirSync(`/proc/${gateway.pid}/fd`).length;
    const allGone = (what) => until(open, (count) => count <= descriptors, `no descriptor of ${what} to be open`, DEADLINE_MS);
    const memoryKib = () => Number(readFileSync(`/proc/${gateway.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1]);
    before(async () => {
      gateway = await startGateway({ text: PROFILE, shards, env: ALLOCATOR });
      // Everything that is made at the first use is made, and gone as far as it goes.
      descriptors = open();
      await sessionOf(gateway);
      await allGone("the first session");
    });
    after(() => gateway.stop());
    afterEach(closeClients);

    it("at every stage: the connection ends by itself", async () => {
      const gone = Object.entries(STAGES).map(async ([name, start]) => {
        const socket = await start(gateway);
        if (!socket.closed && !socket.allowHalfOpen) await until(() => socket.closed, Boolean, `a client that ${name} to be gone`, DEADLINE_MS);
        return socket;
      });
      // Those who do not answer a close see no end; what they held is free all the same.
      const sockets = await Promise.all(gone);
      await allGone("theirs");
      sockets.forEach((socket) => socket.destroy());
      // A polling session that was closed waits half a minute for a poll that asks why.
      if (FULL) await until(() => gateway.metric("roomcast_connections"), (count) => count === 0, "no session to be left", DEADLINE_MS);
    });

    it("over TLS: within the handshake, and after it", async () => {
      const own = certificate();
      const secure = await startGateway({ text: PROFILE, shards, env: own.env });
      const handshaken = () =>
        new Promise((resolve, reject) => {
          const socket = tls.connect({ port: secure.port, host: "127.0.0.1", ca: own.ca() }, () => resolve(socket));
          socket.on("error", reject);
          socket.on("data", () => {});
        });
      const hello = tcp(secure.port, Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]));
      drip(hello);
      const head = await handshaken();
      head.write("GET / HTTP/1.1\r\nX-Slow: ");
      drip(head);
      const sockets = [tcp(secure.port), hello, head, await handshaken()];
      await until(() => sockets.every((socket) => socket.closed), Boolean, "all of them to be gone", DEADLINE_MS);
      await secure.stop();
    });

    it("on the operators' port", async () => {
      const port = await freePort();
      const other = await startGateway({ text: PROFILE, shards, env: { OPS_PORT: String(port) } });
      const stages = ["connects and says nothing", "sends the head of its first request byte by byte", "sends the body of an API request byte by byte", "says nothing after a request"];
      const sockets = stages.map((name) => STAGES[name]({ port }));
      await until(() => sockets.every((socket) => socket.closed), Boolean, "all of them to be gone", DEADLINE_MS);
      await other.stop();
    });

    it("does not read an answer: its connection is gone", async () => {
      const socket = connect(gateway.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.pause();
      await until(open, (count) => count > descriptors, "the connection");
      for (let count = 0; count < 3_000; count += 1) socket.write(request("GET /metrics"));
      await allGone("it");
      socket.destroy();
    });

    it("takes nothing of what waits for it: it is cut long before its queue is full", { skip: FULL }, async () => {
      const raw = await rawWebSocket(gateway.port, PLAIN);
      raw.send(frame(0x81, '{"type":"join","room":"slow"}'));
      await raw.next("text", ({ text }) => text.includes("joined"));
      raw.socket.pause();
      const pongs = setInterval(() => raw.socket.writable && raw.send(frame(0x8a)), BYTE_MS);
      const data = "y".repeat(1_000_000);
      for (let count = 0; count < 20; count += 1) await gateway.api("POST", "/api/publish", { rooms: ["slow"], event: "message", data });
      await until(() => gateway.metric("roomcast_slow_consumers_total"), (count) => count === 1, "it to be cut");
      clearInterval(pongs);
      raw.destroy();
    });

    it("a crowd that has left: the system has its memory back", { skip: FULL }, async () => {
      const own = await startGateway({ text: rooms(), shards });
      const kib = () => Number(readFileSync(`/proc/${own.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1]);
      await own.get("/health");
      const start = kib();
      const sockets = Array.from({ length: 1_500 }, () => tcp(own.port, `GET ${POLLING} HTTP/1.1\r\nX-Slow: `));
      // Some 10 KiB each.
      await until(kib, (now) => now > start + 10_000, "their memory to be in use");
      const most = kib();
      sockets.forEach((socket) => socket.destroy());
      await until(kib, (now) => now < start + (most - start) / 2, "most of it to be given back");
      await own.stop();
    });

    it(`${CROWD} that each send one random byte after the other are gone, and their memory is free for the next ones`, async () => {
      const starts = [
        () => tcp(gateway.port),
        () => tcp(gateway.port, `GET ${PLAIN} HTTP/1.1\r\nX-Slow: `),
        async () => tcp(gateway.port, request(`POST ${POLLING}&sid=${await sessionOf(gateway)}`, "Content-Length: 50000")),
        async () => (await rawWebSocket(gateway.port, PLAIN)).socket,
        async () => (await rawWebSocket(gateway.port, SOCKET_IO)).socket,
      ];
      const witness = plain(`${gateway.ws}${PLAIN}`);
      await witness.next("connected");
      const round = async () => {
        const started = Date.now();
        const sockets = await Promise.all(Array.from({ length: CROWD }, (_, index) => starts[index % starts.length]()));
        sockets.forEach((socket) => drip(socket, randomByte));
        const most = memoryKib();
        await until(() => sockets.every((socket) => socket.closed), Boolean, "all of them to be gone", DEADLINE_MS);
        await until(open, (count) => count <= descriptors + 1, "no descriptor of theirs to be open", DEADLINE_MS);
        return { most, left: memoryKib(), seconds: (Date.now() - started) / 1000 };
      };
      const start = memoryKib();
      const rounds = [await round(), await round(), await round()];
      if (FULL) console.log(JSON.stringify({ shards, crowd: CROWD, start, rounds }));
      assert.ok(rounds[2].left - start <= CROWD * KEPT_KIB, `three crowds leave no more than one: ${JSON.stringify({ start, rounds })}`);
      witness.send({ type: "join", room: "still" });
      await witness.next("joined");
    });
  });
}
