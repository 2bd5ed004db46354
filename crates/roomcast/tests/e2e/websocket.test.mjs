// WebSockets, to the letter: RFC 6455 frame by frame from a client by hand, and RFC 7692 with one by hand and stock ones. Each test is
// named by the section that it checks, and holds for Socket.IO and plain connections alike.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { deflateRawSync, inflateRawSync } from "node:zlib";

import { chromium } from "playwright-core";

import { closeClients, plain, socketIo } from "./support/clients.mjs";
import { ACCEPT, closeFrame, frame, rawWebSocket } from "./support/frames.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { rooms } from "./support/profiles.mjs";

const MAX = 100_000;
const THRESHOLD = 512;
const LONG = "long ".repeat(1_000);
const DEFLATE = "permessage-deflate";
const AGREED = `${DEFLATE}; server_no_context_takeover; client_no_context_takeover`;
const limits = `message = ${MAX}\ndeflate_threshold = ${THRESHOLD}`;

/** Both dialects: where they are, and how a room is entered and spoken in. */
const DIALECTS = {
  "Socket.IO": {
    path: "/socket.io/?EIO=4&transport=websocket",
    enter: ["40", '42["join",{"room":"r"}]'],
    say: (data) => `42["say",${JSON.stringify({ room: "r", data })}]`,
    heard: (text) => text.startsWith('42["message",') && JSON.parse(text.slice(2))[1].data,
    entered: (text) => text.startsWith('42["joined"'),
  },
  JSON: {
    path: "/ws",
    enter: ['{"type":"join","room":"r"}'],
    say: (data) => JSON.stringify({ type: "say", room: "r", data }),
    heard: (text) => text.startsWith('{"type":"message"') && JSON.parse(text).data,
    entered: (text) => text.startsWith('{"type":"joined"'),
  },
};

/** A message of ours, compressed as a client does it that takes over no context. */
const compress = (text) => deflateRawSync(Buffer.from(text), { finishFlush: 2 }).subarray(0, -4);
const inflate = (payload) => inflateRawSync(Buffer.concat([payload, Buffer.from([0, 0, 255, 255])]), { finishFlush: 2 }).toString();

let browser;
before(async () => {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  browser = await chromium.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
});
after(() => browser?.close());

for (const shards of SHARDS) {
  describe(`WebSockets on ${shards} shard(s)`, () => {
    let gateway;
    let deflating;
    const opened = [];
    before(async () => {
      gateway = await startGateway({ text: rooms({ limits }), shards });
      deflating = await startGateway({ text: rooms({ limits, endpoint: "deflate = true" }), shards });
    });
    after(() => Promise.all([gateway.stop(), deflating.stop()]));
    afterEach(() => (closeClients(), opened.splice(0).forEach((raw) => raw.destroy())));

    const open = async (path, options = {}, at = gateway) => {
      const raw = await rawWebSocket(at.port, path, options);
      opened.push(raw);
      return raw;
    };

    for (const [dialect, { path, enter, say, heard, entered }] of Object.entries(DIALECTS)) {
      describe(dialect, () => {
        const inRoom = async (options = {}, at = gateway) => {
          const raw = await open(path, options, at);
          assert.equal(raw.head.status, 101);
          raw.send(...enter.map((text) => frame(0x81, text)));
          await raw.next("text", ({ text }) => entered(text));
          return raw;
        };
        /** The frame that carries `data` to the client. */
        const carried = (raw, data) => raw.next("text", (item) => heard(item.first & 0x40 ? inflate(item.payload) : item.text) === data);
        const closesWith = async (expected, ...frames) => {
          const raw = await inRoom();
          raw.send(...frames);
          assert.equal(await raw.closed(), expected, frames.map((bytes) => bytes.subarray(0, 20).toString("hex")).join(" "));
        };

        it("4.2.2: the handshake is answered with the key's hash and the first subprotocol offered", async () => {
          const { head } = await open(path, { headers: { "Sec-WebSocket-Protocol": "chat, superchat" } });
          assert.deepEqual([head.status, head.headers["sec-websocket-accept"], head.headers["sec-websocket-protocol"]], [101, ACCEPT, "chat"]);
          assert.equal(head.headers["sec-websocket-extensions"], undefined);
          const { head: silent } = await open(path);
          assert.equal(silent.headers["sec-websocket-protocol"], undefined);
        });

        it("a handshake that is refused counts once", async () => {
          const before = await gateway.metric("roomcast_refused_total");
          await open(path, { headers: { "Sec-WebSocket-Version": "12" } });
          assert.equal(await gateway.metric("roomcast_refused_total"), before + 1);
        });

        it("4.2.1: a handshake that lacks something is refused; version 8 is as good as 13", async () => {
          const status = async (headers) => (await open(path, { headers })).head;
          assert.equal((await status({ "Sec-WebSocket-Version": "8" })).status, 101);
          const wrong = await status({ "Sec-WebSocket-Version": "12" });
          assert.deepEqual([wrong.status, wrong.headers["sec-websocket-version"]], [426, "13, 8"]);
          for (const headers of [{ "Sec-WebSocket-Key": undefined }, { "Sec-WebSocket-Key": "c2hvcnQ=" }, { Connection: "keep-alive" }, { Upgrade: "h2c" }]) {
            const { status: refusal } = await status(headers);
            // What asks for no upgrade is a request like any other: Engine.IO's own, or one that a plain endpoint has no answer for.
            assert.ok([400, 426].includes(refusal), `${refusal} ${JSON.stringify(headers)}`);
          }
        });

        it("5.1: the server masks nothing; a client that masks nothing is closed", async () => {
          const raw = await inRoom();
          assert.ok(raw.frames.items.every(({ masked }) => !masked));
          await closesWith(1002, frame(0x81, say("x"), { masked: false }));
        });

        it("5.2: reserved bits and opcodes are protocol errors, and lengths take the fewest bytes", async () => {
          for (const first of [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f]) await closesWith(1002, frame(first, "x"));
          await closesWith(1002, Buffer.from([0x81, 0xfe, 0, 5, 0, 0, 0, 0]));
          await closesWith(1002, Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        });

        it("5.4: fragments become one message, with pings in between; anything else in between is an error", async () => {
          const raw = await inRoom();
          const text = Buffer.from(say("in pieces: ü"));
          const pieces = [...text].map((byte, index) => frame((index === 0 ? 0x01 : 0x00) | (index === text.length - 1 ? 0x80 : 0), [byte]));
          raw.send(...pieces.slice(0, 5), frame(0x89, "between"), ...pieces.slice(5));
          await carried(raw, "in pieces: ü");
          await raw.next("pong", ({ text }) => text === "between");
          await closesWith(1002, frame(0x80, "x"));
          await closesWith(1002, frame(0x00, "x"));
          await closesWith(1002, frame(0x01, "x"), frame(0x81, "x"));
        });

        it("5.5: control frames are whole and short", async () => {
          await closesWith(1002, frame(0x09, "x"));
          await closesWith(1002, frame(0x08));
          await closesWith(1002, frame(0x89, "x".repeat(126)));
        });

        it("5.5.1: a close frame is answered with its code, and the server ends the connection", async () => {
          for (const code of [1000, 1001, 1011, 3000, 4999]) await closesWith(code, closeFrame(code, "reason"));
          await closesWith(undefined, frame(0x88));
          for (const code of [0, 999, 1004, 1005, 1006, 1015, 2999, 5000]) await closesWith(1002, closeFrame(code));
          await closesWith(1002, frame(0x88, "x"));
          await closesWith(1007, frame(0x88, Buffer.from([0x03, 0xe8, 0xff])));
        });

        it("5.5.2: a ping is answered by a pong with its payload, however it is cut; a pong by nothing", async () => {
          const raw = await inRoom();
          raw.send(frame(0x8a, "unasked"));
          for (const byte of frame(0x89, "p".repeat(125))) raw.send(Buffer.from([byte]));
          const pong = await raw.next("pong");
          assert.equal(pong.text, "p".repeat(125));
          raw.send(frame(0x89));
          await raw.next("pong", ({ payload }) => payload.length === 0);
        });

        it("7.4.1: a message over the limit is closed with 1009 as soon as its header says so", async () => {
          const announced = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]);
          await closesWith(1009, announced);
          await closesWith(1009, frame(0x01, "x".repeat(MAX)), frame(0x80, "x"));
        });

        it("8.1: text that is not UTF-8 is closed with 1007 at its first bad byte", async () => {
          await closesWith(1007, frame(0x81, Buffer.from([0x61, 0xff])));
          await closesWith(1007, frame(0x01, Buffer.from([0xed, 0xa0, 0x80])));
          await closesWith(1007, frame(0x81, Buffer.concat([Buffer.from("42\xff", "latin1"), Buffer.alloc(1000)])).subarray(0, 20));
        });

        it("7692/5.1: compression is agreed on where the endpoint has it and the offer is understood", async () => {
          const answer = async (offer, at = deflating) => (await open(path, { headers: { "Sec-WebSocket-Extensions": offer } }, at)).head.headers["sec-websocket-extensions"];
          assert.equal(await answer(DEFLATE), AGREED);
          assert.equal(await answer(`${DEFLATE}; client_max_window_bits`), AGREED);
          assert.equal(await answer(`${DEFLATE}; server_max_window_bits=10`), `${AGREED}; server_max_window_bits=10`);
          assert.equal(await answer(`${DEFLATE}; unheard_of, x-other, ${DEFLATE}`), AGREED);
          for (const offer of ["x-other", `${DEFLATE}; unheard_of`, `${DEFLATE}; server_max_window_bits=7`]) assert.equal(await answer(offer), undefined, offer);
          assert.equal(await answer(DEFLATE, gateway), undefined);
        });

        it("7692/6: messages from the threshold on are compressed for those who agreed, and all members get the same", async () => {
          const offer = { headers: { "Sec-WebSocket-Extensions": DEFLATE } };
          const [one, two] = [await inRoom(offer, deflating), await inRoom(offer, deflating)];
          const small = await inRoom({ headers: { "Sec-WebSocket-Extensions": `${DEFLATE}; server_max_window_bits=10` } }, deflating);
          const without = await inRoom({}, deflating);
          one.send(frame(0x81, say("short")), frame(0x81, say(LONG)));
          for (const raw of [one, two, small, without]) assert.equal((await carried(raw, "short")).first, 0x81);
          const [first, second, ...whole] = await Promise.all([one, two, small, without].map((raw) => carried(raw, LONG)));
          assert.deepEqual([first.first, second.first, ...whole.map((item) => item.first)], [0xc1, 0xc1, 0x81, 0x81]);
          assert.ok(first.payload.length < LONG.length / 20 && first.payload.equals(second.payload));
        });

        it("7692/6.1: a client's compressed messages are read, in fragments, too; the bit stands in the first alone", async () => {
          const offer = { headers: { "Sec-WebSocket-Extensions": DEFLATE } };
          const raw = await inRoom(offer, deflating);
          const payload = compress(say(LONG));
          raw.send(frame(0x41, payload.subarray(0, 7)), frame(0x89, "between"), frame(0x00, ""), frame(0x80, payload.subarray(7)));
          await carried(raw, LONG);
          raw.send(frame(0xc1, compress(say("small and compressed"))), frame(0x81, say("not compressed")));
          await carried(raw, "small and compressed");
          await carried(raw, "not compressed");
          raw.send(frame(0x41, payload.subarray(0, 7)), frame(0xc0, payload.subarray(7)));
          assert.equal(await raw.closed(), 1002);
          for (const first of [0xc8, 0xc9, 0xca]) {
            const other = await inRoom(offer, deflating);
            other.send(frame(first));
            assert.equal(await other.closed(), 1002);
          }
        });

        it("7692/7.2: what inflates beyond the limit is closed with 1009, what does not inflate with 1007", async () => {
          const offer = { headers: { "Sec-WebSocket-Extensions": DEFLATE } };
          const bomb = compress("x".repeat(50_000_000));
          assert.ok(bomb.length < MAX);
          for (const [payload, code] of [[bomb, 1009], [Buffer.from("no deflate"), 1007], [compress(Buffer.from([0xff])), 1007]]) {
            const raw = await inRoom(offer, deflating);
            raw.send(frame(0xc1, payload));
            assert.equal(await raw.closed(), code);
          }
        });
      });
    }

    it("a browser agrees on compression and talks with a client that does not", async () => {
      const page = await browser.newPage();
      await page.goto(`${deflating.url}/health/live`);
      const other = plain(`${deflating.ws}/ws`, { perMessageDeflate: false });
      await other.next("connected");
      other.send({ type: "join", room: "r" });
      await other.next("joined");
      const heard = page.evaluate(
        ([url, data]) =>
          new Promise((resolve, reject) => {
            const socket = new WebSocket(url);
            socket.onerror = () => reject(new Error("the socket failed"));
            socket.onmessage = ({ data: text }) => {
              const message = JSON.parse(text);
              if (message.type === "connected") socket.send(JSON.stringify({ type: "join", room: "r" }));
              if (message.type === "joined") socket.send(JSON.stringify({ type: "say", room: "r", data }));
              if (message.type === "message") resolve({ extensions: socket.extensions, data: message.data });
            };
          }),
        [`${deflating.ws}/ws`, LONG],
      );
      await other.next("message", ({ data }) => data === LONG);
      const { extensions, data } = await heard;
      assert.match(extensions, /permessage-deflate/);
      assert.equal(data, LONG);
      await page.close();
    });

    it("stock clients of both dialects talk compressed, over an upgrade, too, and others beside them", async () => {
      const perMessageDeflate = { threshold: 0 };
      const transports = [["websocket"], ["polling", "websocket"], ["polling"]];
      const clients = transports.map((transports) => socketIo(deflating.url, { transports, perMessageDeflate }));
      const json = plain(`${deflating.ws}/ws`, { perMessageDeflate });
      const uncompressed = plain(`${deflating.ws}/ws`, { perMessageDeflate: false });
      for (const client of clients) await client.ask("join", { room: "r" });
      for (const client of [json, uncompressed]) {
        await client.next("connected");
        client.send({ type: "join", room: "r" });
        await client.next("joined");
      }
      const engine = clients[1].socket.io.engine;
      if (engine.transport.name !== "websocket") await new Promise((resolve) => engine.once("upgrade", resolve));
      assert.match(json.socket.extensions, /permessage-deflate/);
      assert.match(engine.transport.ws.extensions, /permessage-deflate/);
      for (const say of [...clients.map((client) => (data) => client.socket.emit("say", { room: "r", data })), (data) => json.send({ type: "say", room: "r", data })]) {
        for (const data of ["short", LONG + Math.random()]) {
          say(data);
          await Promise.all([...clients, json, uncompressed].map((client) => client.next("message", (message) => message.data === data)));
        }
      }
    });
  });
}
