// The rules of Engine.IO 4 over HTTP and WebSocket, each as a test on raw bytes, for any server that plays a part:
//
//   start()      starts it; gives { url, stop() }
//   path         where it serves, with the slash at the end
//   maxPayload   the largest body of a POST, in bytes
//   ready        packets that a new session posts so that it may ask, and what comes of them; none where it may ask at once
//   ask(n)       a packet to which the server answers one message
//   isAnswer     (packet, n): whether that packet is the answer
//   askLarge(text), isLarge(packet, text)   the same with a text of the client's in the answer
//
// Knows nothing of what the packets mean to the server.

import assert from "node:assert/strict";
import { inflateSync, gunzipSync } from "node:zlib";
import { after, afterEach, before, describe, it } from "node:test";

import { within } from "./recorder.mjs";
import { Connection, closeConnections, frame, request, requestText, upgrade } from "./raw_http.mjs";

const SEPARATOR = "\x1e";
const refusal = (code, message) => ({ code, message });
const TRANSPORT_UNKNOWN = refusal(0, "Transport unknown");
const SESSION_UNKNOWN = refusal(1, "Session ID unknown");
const BAD_METHOD = refusal(2, "Bad handshake method");
const BAD_REQUEST = refusal(3, "Bad request");
const UNSUPPORTED = refusal(5, "Unsupported protocol version");

/** Tries again where what was done beside a GET came before it, so that the GET found the session over: that says nothing of one that waits. */
async function heldFirst(attempt, attempts = 20) {
  let answer;
  do answer = await attempt();
  while (answer.status === 400 && (attempts -= 1));
  return answer;
}

export function engineRules(name, server) {
  describe(name, () => {
    let url;
    let running;
    before(async () => {
      running = await server.start();
      url = running.url;
    });
    after(() => running?.stop());
    afterEach(closeConnections);

    const at = (query) => `${server.path}?${query}`;
    const send = (method, query, headers, body) => request(url, method, at(query), headers, body);
    const POLLING = "EIO=4&transport=polling";
    const WEBSOCKET = "EIO=4&transport=websocket";

    /** A session on polling that has not asked anything yet. */
    async function open(query = POLLING, headers = {}) {
      const answer = await send("GET", query, headers);
      assert.equal(answer.status, 200, answer.text);
      const { sid } = JSON.parse(answer.text.slice(1));
      const session = {
        sid,
        answer,
        query: `${POLLING}&sid=${sid}`,
        get: (headers) => send("GET", session.query, headers),
        post: (body, headers) => send("POST", session.query, headers, body),
        /** A GET that is on its way, by a connection of its own: which of two connections is heard first nothing says. */
        startGet() {
          const connection = new Connection(url);
          connection.write(requestText("GET", at(session.query)));
          return { connection, answer: connection.answer() };
        },
        /** Packets, one after the other, over as many GETs as it takes. */
        waiting: [],
        async next() {
          while (session.waiting.length === 0) {
            const answer = await session.get();
            assert.equal(answer.status, 200, answer.text);
            for (const packet of answer.text.split(SEPARATOR)) {
              if (packet === "2") await session.post("3");
              else if (packet !== "6") session.waiting.push(packet);
            }
          }
          return session.waiting.shift();
        },
        async isOver() {
          const answer = await session.get();
          return answer.status === 400 && answer.json?.code === 1;
        },
        async isAlive() {
          const answer = await session.post("3");
          return answer.status === 200 && (await session.post("6")).status === 200;
        },
      };
      return session;
    }

    /** A session that may ask. */
    async function ready(headers) {
      const session = await open(POLLING, headers);
      for (const { post, until } of server.ready ?? []) {
        assert.equal((await session.post(post)).status, 200);
        while (!until(await session.next()));
      }
      return session;
    }

    async function isAsked(session, n) {
      for (;;) {
        const packet = await session.next();
        if (server.isAnswer(packet, n)) return;
      }
    }

    /** Waits until a session that was ended from afar is over. */
    async function gone(session) {
      const ended = async () => {
        while (!(await session.isOver()));
      };
      await within(ended(), "the session to be over");
    }

    describe("handshake", () => {
      it("opens with the session's parameters", async () => {
        const { answer, sid } = await open();
        assert.equal(answer.headers["content-type"], "text/plain; charset=UTF-8");
        assert.equal(answer.headers["cache-control"], "no-store");
        assert.equal(Number(answer.headers["content-length"]), answer.body.length);
        assert.match(answer.text, /^0\{"sid":"[\w-]{20}","upgrades":\["websocket"\],"pingInterval":\d+,"pingTimeout":\d+,"maxPayload":\d+\}$/);
        assert.equal(answer.json, undefined, sid);
        assert.equal(JSON.parse(answer.text.slice(1)).maxPayload, server.maxPayload);
      });

      it("takes any other parameter, and of one that came twice the last", async () => {
        await open(`${POLLING}&t=abc&b64=1&token=%C3%A9&sid=`);
        await open(`transport=foo&EIO=3&${POLLING}`);
      });

      it("is served below the path, and not without its slash", async () => {
        assert.equal((await request(url, "GET", `${server.path}foo/bar?${POLLING}`)).status, 200);
        assert.equal((await request(url, "GET", `${server.path.slice(0, -1)}?${POLLING}`)).status, 404);
      });

      const refused = [
        ["GET", "EIO=4", TRANSPORT_UNKNOWN],
        ["GET", "", TRANSPORT_UNKNOWN],
        ...["foo", "constructor", "__proto__", "webtransport", ""].map((transport) => ["GET", `EIO=4&transport=${transport}`, TRANSPORT_UNKNOWN]),
        ["POST", POLLING, BAD_METHOD],
        ["PUT", POLLING, BAD_METHOD],
        ["DELETE", POLLING, BAD_METHOD],
        ["POST", WEBSOCKET, BAD_METHOD],
        ["GET", WEBSOCKET, BAD_REQUEST],
        ["GET", "transport=polling", UNSUPPORTED],
        ["GET", "EIO=3&transport=polling", UNSUPPORTED],
        ["GET", "EIO=5&transport=polling", UNSUPPORTED],
      ];
      for (const [method, query, body] of refused) {
        it(`refuses ${method} ${query} with code ${body.code}`, async () => {
          const answer = await send(method, query, {}, method === "POST" ? "" : undefined);
          assert.deepEqual([answer.status, answer.headers["content-type"], answer.json], [400, "application/json", body]);
        });
      }

      it("refuses HEAD without a body", async () => {
        const connection = new Connection(url);
        assert.equal((await connection.request("HEAD", at(POLLING))).status, 400);
        // Whatever followed would be taken for the next answer.
        assert.equal((await connection.request("GET", at(POLLING))).status, 200);
      });

      it("refuses an Origin with a control character", async () => {
        assert.equal((await send("GET", POLLING, { Origin: "http://a\x7f" })).status, 400);
      });
    });

    describe("a known session", () => {
      for (const sid of ["unknown", "__proto__", "constructor", "A".repeat(20)]) {
        it(`is none with the id ${sid}`, async () => {
          for (const method of ["GET", "POST", "PUT"]) {
            const answer = await send(method, `${POLLING}&sid=${sid}`, {}, method === "GET" ? undefined : "4");
            assert.deepEqual([answer.status, answer.json], [400, SESSION_UNKNOWN], method);
          }
          const answer = await send("GET", `${WEBSOCKET}&sid=${sid}`);
          assert.deepEqual([answer.status, answer.json], [400, SESSION_UNKNOWN]);
        });
      }

      it("is served by its own revision and transport alone", async () => {
        const session = await open();
        for (const query of ["EIO=3&transport=polling", "transport=polling", WEBSOCKET]) {
          const answer = await send("GET", `${query}&sid=${session.sid}`);
          assert.deepEqual([answer.status, answer.json], [400, BAD_REQUEST], query);
        }
        const transport = await send("GET", `EIO=4&transport=foo&sid=${session.sid}`);
        assert.deepEqual([transport.status, transport.json], [400, TRANSPORT_UNKNOWN]);
        assert.ok(await session.isAlive());
      });

      it("answers other methods with 500", async () => {
        const session = await open();
        for (const method of ["PUT", "DELETE", "HEAD", "PATCH"]) {
          const answer = await send(method, session.query);
          assert.deepEqual([answer.status, answer.text], [500, ""], method);
        }
        assert.ok(await session.isAlive());
      });
    });

    describe("POST", () => {
      it("is answered `ok`", async () => {
        const session = await open();
        const answer = await session.post("3");
        assert.deepEqual([answer.status, answer.text], [200, "ok"]);
        assert.deepEqual([answer.headers["content-type"], answer.headers["content-length"], answer.headers["cache-control"]], ["text/html", "2", "no-store"]);
      });

      it("takes text of any kind, in pieces, in the midst of a character", async () => {
        const session = await ready();
        for (const type of ["text/plain;charset=UTF-8", "text/plain", "application/json", "application/octet-stream;a=b"]) {
          assert.equal((await session.post("6", { "Content-Type": type })).status, 200);
        }
        const connection = new Connection(url);
        const body = Buffer.from(server.askLarge("é€😀"));
        connection.write(requestText("POST", at(session.query), { "Transfer-Encoding": "chunked" }));
        for (const byte of body) connection.write(Buffer.concat([Buffer.from("1\r\n"), Buffer.from([byte]), Buffer.from("\r\n")]));
        connection.write("0\r\n\r\n");
        assert.equal((await connection.answer()).status, 200);
        let packet;
        do packet = await session.next();
        while (!server.isLarge(packet, "é€😀"));
      });

      it("of the largest size is taken, one byte more is answered 413, and the session goes on", async () => {
        const session = await open();
        const body = `6${"x".repeat(server.maxPayload - 1)}`;
        assert.equal((await session.post(body)).status, 200);
        const answer = await session.post(`${body}x`);
        assert.deepEqual([answer.status, answer.text], [413, ""]);
        const connection = new Connection(url);
        connection.write(requestText("POST", at(session.query), { "Transfer-Encoding": "chunked" }));
        connection.write(`${(body.length + 1).toString(16)}\r\n${body}x\r\n0\r\n\r\n`);
        assert.equal((await connection.answer()).status, 413);
        assert.ok(await session.isAlive());
      });

      it("with a binary body ends the session (CVE-2026-59725)", async () => {
        for (const body of ["4x", Buffer.from([0xff, 0xfe, 0]), ""]) {
          const session = await open();
          const answer = await session.post(body, { "Content-Type": "application/octet-stream" });
          assert.deepEqual([answer.status, answer.text], [400, ""]);
          await gone(session);
        }
        await open();
      });

      for (const body of ["abc", "7", "", "2", "2probe", `6${SEPARATOR}7`, `6${SEPARATOR}`, SEPARATOR, "é"]) {
        it(`of ${JSON.stringify(body)} is answered, and ends the session`, async () => {
          const session = await open();
          assert.equal((await session.post(body)).status, 200);
          assert.ok(await session.isOver());
        });
      }

      it("of packets that say nothing is ignored", async () => {
        const session = await open();
        for (const body of ["3", "0", "5", "6", "3probe", `3${SEPARATOR}6`]) assert.equal((await session.post(body)).status, 200);
        assert.ok(await session.isAlive());
      });

      it("of bytes that are no text is answered, and its messages are what is left of it", async () => {
        const session = await ready();
        const [before, after] = server.askLarge("<>").split("<>");
        assert.equal((await session.post(Buffer.concat([Buffer.from(`${before}<`), Buffer.from([0xff]), Buffer.from(`>${after}`)]))).status, 200);
        let packet;
        do packet = await session.next();
        while (!server.isLarge(packet, "<\ufffd>"));
      });

      it("of a close ends the session, and the waiting GET with a noop", async () => {
        const answer = await heldFirst(async () => {
          const session = await open();
          const waiting = session.startGet();
          assert.ok(await session.isAlive());
          assert.equal((await session.post("1")).text, "ok");
          const answer = await waiting.answer;
          assert.ok(await session.isOver());
          return answer;
        });
        assert.equal(answer.text, "6");
      });
    });

    describe("requests at the same time", () => {
      it("a second GET ends the session, and tells both", async () => {
        const session = await ready();
        const [one, two] = [session.startGet(), session.startGet()];
        const answers = await Promise.all([one.answer, two.answer]);
        answers.sort((a, b) => a.status - b.status);
        assert.deepEqual(answers.map(({ status, text }) => [status, text]), [[200, "1"], [400, ""]]);
        assert.ok(await session.isOver());
      });

      it("a second POST while one arrives ends the session, and breaks the first one off", async () => {
        const session = await open();
        const first = new Connection(url);
        first.write(requestText("POST", at(session.query), { "Content-Length": 100 }));
        first.write("4");
        // The first one has arrived once a second is one too many.
        let second;
        do second = await session.post("6");
        while (second.status === 200);
        assert.deepEqual([second.status, second.text], [400, ""]);
        assert.equal((await within(first.closed, "the first POST to be broken off")).length, 0);
        assert.ok(await session.isOver());
      });

      it("a GET whose client goes ends the session", async () => {
        const session = await open();
        const waiting = session.startGet();
        waiting.answer.catch(() => {});
        assert.ok(await session.isAlive());
        waiting.connection.destroy();
        const ended = async () => {
          // One that arrives in the very moment is broken off.
          while (await session.post("6").then(({ status }) => status === 200, () => false));
        };
        await within(ended(), "the session to be over");
        assert.ok(await session.isOver());
      });

      it("a POST whose client goes ends the session", async () => {
        const answer = await heldFirst(async () => {
          const session = await open();
          const waiting = session.startGet();
          const post = new Connection(url);
          post.write(requestText("POST", at(session.query), { "Content-Length": 100 }));
          post.write("4");
          post.socket.end();
          const answer = await waiting.answer;
          assert.ok(await session.isOver());
          return answer;
        });
        assert.equal(answer.text, "1");
      });

      it("a connection may end after each request", async () => {
        const session = await open(POLLING, { Connection: "close" });
        for (let n = 0; n < 3; n += 1) {
          const answer = await session.post("3", { Connection: "close" });
          assert.deepEqual([answer.status, answer.headers.connection], [200, "close"]);
        }
        assert.ok(await session.isAlive());
      });

      it("a connection may carry the next requests before the first is answered", async () => {
        const session = await open();
        const connection = new Connection(url);
        const post = requestText("POST", at(session.query), {}, "3");
        // Not two POSTs: Node takes the second one for one too many.
        connection.write(Buffer.concat([post, requestText("GET", at(POLLING)), requestText("GET", at("EIO=4"))]));
        const answers = [];
        for (let n = 0; n < 3; n += 1) answers.push((await connection.answer()).text.slice(0, 8));
        assert.deepEqual(answers, ["ok", '0{"sid":', '{"code":']);
      });
    });

    describe("GET", () => {
      it("waits for packets", async () => {
        const session = await ready();
        const waiting = session.startGet();
        await session.post(server.ask(0));
        const answer = await waiting.answer;
        assert.ok(answer.text.split(SEPARATOR).some((packet) => server.isAnswer(packet, 0)), answer.text);
        assert.deepEqual([answer.headers["content-type"], answer.headers["cache-control"]], ["text/plain; charset=UTF-8", "no-store"]);
      });

      it("gives packets in order", async () => {
        const session = await ready();
        // More than a server need take in one go.
        const numbers = Array.from({ length: 200 }, (_, n) => n);
        assert.equal((await session.post(numbers.map(server.ask).join(SEPARATOR))).status, 200);
        for (const n of numbers) await isAsked(session, n);
      });

      const compressed = [
        ["gzip", "gzip"],
        ["deflate", "deflate"],
        ["deflate, gzip", "deflate"],
        ["gzip;q=0.1, identity", "gzip"],
        ["gzip;q=0, *", "deflate"],
        ["br", undefined],
        ["gzip;q=0", undefined],
      ];
      for (const [accepted, coding] of compressed) {
        it(`is compressed with ${coding} where the client takes ${accepted}`, async () => {
          const session = await ready();
          const text = "é".repeat(600);
          await session.post(server.askLarge(text), { "Accept-Encoding": accepted });
          let packet = "";
          for (;;) {
            const answer = await session.get({ "Accept-Encoding": accepted });
            const body = answer.headers["content-encoding"] === "gzip" ? gunzipSync(answer.body) : answer.headers["content-encoding"] === "deflate" ? inflateSync(answer.body) : answer.body;
            packet = body.toString();
            if (!server.isLarge(packet, text)) continue;
            assert.equal(answer.headers["content-encoding"], coding);
            break;
          }
        });
      }

      it("is not compressed below 1024 bytes, nor is the answer to a POST", async () => {
        const session = await ready();
        const headers = { "Accept-Encoding": "gzip" };
        const post = await session.post(server.askLarge("x".repeat(100)), headers);
        assert.equal(post.headers["content-encoding"], undefined);
        assert.equal((await session.get(headers)).headers["content-encoding"], undefined);
      });

      it("switches off the filter of old Internet Explorers", async () => {
        for (const agent of ["Mozilla/4.0 (compatible;MSIE 8.0)", "Mozilla/5.0 (Trident/7.0)"]) {
          const session = await open(POLLING, { "User-Agent": agent });
          assert.equal(session.answer.headers["x-xss-protection"], "0");
          assert.equal((await session.post("3", { "User-Agent": agent })).headers["x-xss-protection"], "0");
        }
        assert.equal((await open()).answer.headers["x-xss-protection"], undefined);
      });

      it("is a script where the handshake asks for one", async () => {
        const answer = await send("GET", `${POLLING}&j=5a7`);
        assert.equal(answer.headers["content-type"], "text/plain; charset=UTF-8");
        const [, literal] = answer.text.match(/^___eio\[57\]\((".*")\);$/);
        const { sid } = JSON.parse(JSON.parse(literal).slice(1));
        const form = `d=${encodeURIComponent("3\x1e6")}`;
        const post = await send("POST", `${POLLING}&j=5&sid=${sid}`, { "Content-Type": "application/x-www-form-urlencoded" }, form);
        assert.deepEqual([post.status, post.text], [200, "ok"]);
      });
    });

    describe("WebSocket", () => {
      async function opened(headers) {
        const { connection, answer } = await upgrade(url, at(WEBSOCKET), headers);
        assert.equal(answer.status, 101, answer.text);
        const { sid, upgrades } = JSON.parse((await connection.frame()).text.slice(1));
        return { connection, answer, sid, upgrades };
      }

      it("is opened, and offers no upgrade", async () => {
        const { answer, upgrades } = await opened();
        assert.deepEqual([answer.headers["upgrade"], answer.headers["connection"], answer.headers["sec-websocket-accept"]], ["websocket", "Upgrade", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
        assert.deepEqual([upgrades, answer.headers["set-cookie"], answer.headers["sec-websocket-extensions"]], [[], undefined, undefined]);
      });

      it("takes the first subprotocol, and version 8", async () => {
        assert.equal((await opened({ "Sec-WebSocket-Protocol": "one, two" })).answer.headers["sec-websocket-protocol"], "one");
        await opened({ "Sec-WebSocket-Version": "8" });
      });

      it("is opened by fields that came in several lines, too", async () => {
        const fields = { Connection: "keep-alive\r\nConnection: Upgrade", "Sec-WebSocket-Protocol": "one\r\nSec-WebSocket-Protocol: two" };
        assert.equal((await opened(fields)).answer.headers["sec-websocket-protocol"], "one");
      });

      for (const protocols of ["", "one two", "one, one", "one,"]) {
        it(`is refused to the subprotocols ${JSON.stringify(protocols)}`, async () => {
          const { connection, answer } = await upgrade(url, at(WEBSOCKET), { "Sec-WebSocket-Protocol": protocols });
          assert.equal(answer.status, 400, answer.text);
          await connection.closed;
        });
      }

      const refused = [
        ["an unknown transport", "GET", "EIO=4&transport=foo", "Transport unknown"],
        ["__proto__ as its transport", "GET", "EIO=4&transport=__proto__", "Transport unknown"],
        ["an unknown session", "GET", `${WEBSOCKET}&sid=unknown`, "Session ID unknown"],
        ["__proto__ as its session", "GET", `${WEBSOCKET}&sid=__proto__`, "Session ID unknown"],
        ["a POST", "POST", WEBSOCKET, "Bad handshake method"],
      ];
      for (const [what, method, query, message] of refused) {
        it(`is refused to ${what}`, async () => {
          const { connection, answer } = await upgrade(url, at(query), {}, method);
          assert.deepEqual([answer.status, answer.text, answer.headers.connection, answer.headers["content-type"]], [400, message, "close", "text/html"]);
          await within(connection.closed, "the connection to be closed");
        });
      }

      it("is refused without a key, and with an unsupported revision", async () => {
        const { answer } = await upgrade(url, at(WEBSOCKET), { "Sec-WebSocket-Key": "" });
        assert.equal(answer.status, 400);
        const { connection } = await upgrade(url, at("EIO=3&transport=websocket"));
        await within(connection.closed, "the connection to be closed");
      });

      it("is none where `Connection` does not say so", async () => {
        const { answer } = await upgrade(url, at(WEBSOCKET), { Connection: "keep-alive" });
        assert.deepEqual([answer.status, answer.json], [400, BAD_REQUEST]);
      });

      it("for polling is closed at once, and a session named by it goes on", async () => {
        const { connection } = await upgrade(url, at(POLLING));
        assert.equal(await connection.closeCode(), 1005);
        const session = await open();
        const named = await upgrade(url, at(session.query));
        assert.equal(await named.connection.closeCode(), 1005);
        assert.ok(await session.isAlive());
      });

      it("that begins with nonsense harms nobody", async () => {
        for (const bytes of ["\xff\xfe\xfd\r\n\r\n", `GET ${at(WEBSOCKET)} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\x00\xff: \xff\r\n\r\n`]) {
          const connection = new Connection(url);
          connection.write(Buffer.from(bytes, "latin1"));
          await within(connection.closed, "the connection to be closed");
        }
        const { connection } = await opened();
        connection.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
        await within(connection.closed, "the connection to be closed");
        await open();
      });

      for (const text of ["abc", "", "2", "2probe", "7"]) {
        it(`is closed over ${JSON.stringify(text)}`, async () => {
          const { connection } = await opened();
          connection.send(text);
          assert.equal(await connection.closeCode(), 1005);
        });
      }

      it("stays over packets that say nothing", async () => {
        const { connection } = await opened();
        for (const text of ["3", "5", "6"]) connection.send(text);
        connection.write(frame(9, "still here?"));
        let pong;
        do pong = await connection.frame();
        while (pong.opcode !== 10);
        assert.equal(pong.text, "still here?");
      });

      it("is closed with 1009 over a message that is too large", async () => {
        const { connection } = await opened();
        connection.write(frame(1, `6${"x".repeat(server.maxPayload)}`));
        assert.equal(await connection.closeCode(), 1009);
      });

      it("of a session is not polled", async () => {
        const { sid } = await opened();
        for (const method of ["GET", "POST"]) {
          const answer = await send(method, `${POLLING}&sid=${sid}`, {}, method === "POST" ? "6" : undefined);
          assert.deepEqual([answer.status, answer.json], [400, BAD_REQUEST], method);
        }
      });
    });

    describe("upgrade", () => {
      async function probing(session) {
        const { connection, answer } = await upgrade(url, at(`${WEBSOCKET}&sid=${session.sid}`));
        assert.equal(answer.status, 101, answer.text);
        connection.send("2probe");
        assert.equal(await connection.text(), "3probe");
        return connection;
      }

      it("ends each waiting GET with a noop, until the client has moved", async () => {
        const session = await ready();
        const waiting = session.startGet();
        const connection = await probing(session);
        assert.equal((await waiting.answer).text, "6");
        assert.equal((await session.get()).text, "6");
        connection.send("5");
        connection.send(server.ask(7));
        let packet;
        do packet = await connection.text();
        while (!server.isAnswer(packet, 7));
        for (const method of ["GET", "POST"]) {
          const answer = await send(method, session.query, {}, method === "POST" ? "6" : undefined);
          assert.deepEqual([answer.status, answer.json], [400, BAD_REQUEST], method);
        }
      });

      it("loses and doubles nothing that waited for a GET", async () => {
        const session = await ready();
        const connection = await probing(session);
        const numbers = Array.from({ length: 30 }, (_, n) => n);
        assert.equal((await session.post(numbers.map(server.ask).join(SEPARATOR))).status, 200);
        connection.send("5");
        connection.send(server.ask(30));
        for (const n of [...numbers, 30]) {
          let packet;
          do packet = await connection.text();
          while (!numbers.concat(30).some((any) => server.isAnswer(packet, any)));
          assert.ok(server.isAnswer(packet, n), `${packet} came for ${n}`);
        }
      });

      it("leaves the polls as they were while it is tried", async () => {
        const session = await ready();
        await probing(session);
        await session.post(server.ask(1));
        await isAsked(session, 1);
      });

      it("may be done without a probe", async () => {
        const answer = await heldFirst(async () => {
          const session = await ready();
          const waiting = session.startGet();
          const { connection } = await upgrade(url, at(`${WEBSOCKET}&sid=${session.sid}`));
          connection.send("5");
          connection.send(server.ask(2));
          let packet;
          do packet = await connection.text();
          while (!server.isAnswer(packet, 2));
          return waiting.answer;
        });
        // The client has paused its polls and does not look at it.
        assert.equal(answer.status, 200);
      });

      for (const [what, spoil] of [
        ["another packet", (connection) => connection.send("4x")],
        ["another probe", (connection) => connection.send("2foo")],
        ["a binary message", (connection) => connection.sendBinary([1])],
      ]) {
        it(`is over with ${what}, and the polls go on`, async () => {
          const session = await ready();
          const connection = await probing(session);
          spoil(connection);
          assert.equal(await connection.closeCode(), 1005);
          await session.post(server.ask(3));
          await isAsked(session, 3);
        });
      }

      it("that breaks off leaves the polls, and may be tried again", async () => {
        const session = await ready();
        (await probing(session)).destroy();
        await session.post(server.ask(4));
        await isAsked(session, 4);
        const again = async () => {
          for (;;) {
            const { connection } = await upgrade(url, at(`${WEBSOCKET}&sid=${session.sid}`));
            connection.send("2probe");
            const { text } = await connection.frame();
            if (text === "3probe") return connection;
          }
        };
        (await within(again(), "the next probe")).send("5");
      });

      it("is for one WebSocket at a time, and for none after it", async () => {
        const session = await ready();
        const connection = await probing(session);
        const second = await upgrade(url, at(`${WEBSOCKET}&sid=${session.sid}`));
        assert.equal(second.answer.status, 101);
        assert.equal(await second.connection.closeCode(), 1005);
        connection.send("5");
        connection.send(server.ask(5));
        let packet;
        do packet = await connection.text();
        while (!server.isAnswer(packet, 5));
        const third = await upgrade(url, at(`${WEBSOCKET}&sid=${session.sid}`));
        assert.equal(await third.connection.closeCode(), 1005);
        connection.send(server.ask(6));
        do packet = await connection.text();
        while (!server.isAnswer(packet, 6));
      });

      it("is refused to another revision", async () => {
        const session = await open();
        const { answer } = await upgrade(url, at(`EIO=3&transport=websocket&sid=${session.sid}`));
        assert.deepEqual([answer.status, answer.text], [400, "Bad request"]);
      });
    });
  });
}
