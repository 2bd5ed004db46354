// TLS on the service port: nothing else is different.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { Duplex } from "node:stream";
import { after, afterEach, before, describe, it } from "node:test";
import tls from "node:tls";

import { certificate } from "./support/certificate.mjs";
import { TRANSPORTS, closeClients, connected, plain } from "./support/clients.mjs";
import { API_KEY, SHARDS, freePort, roomcast, startGateway } from "./support/gateway.mjs";
import { UPGRADE, frame, requestText } from "./support/raw_http.mjs";
import { until } from "./support/recorder.mjs";
import { rooms } from "./support/profiles.mjs";

/** The fingerprint of the certificate that a client sees. */
const seen = (port) =>
  new Promise((resolve, reject) => {
    const socket = tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.end();
    });
    socket.on("error", reject);
  });

/** A plain WebSocket over TLS whose last words and its end go out as one piece. */
async function heldBack(port) {
  const tcp = net.connect(port, "127.0.0.1");
  let held;
  const wire = new Duplex({
    read() {},
    write(chunk, _, done) {
      if (held) held.push(chunk);
      else tcp.write(chunk);
      done();
    },
    final(done) {
      tcp.end(Buffer.concat(held ?? []));
      done();
    },
  });
  tcp.on("data", (chunk) => wire.push(chunk));
  tcp.on("close", () => wire.destroy());
  const socket = tls.connect({ socket: wire, rejectUnauthorized: false });
  socket.on("error", () => {});
  socket.write(requestText("GET", "/ws", UPGRADE));
  await once(socket, "data");
  return {
    end(bytes) {
      held = [];
      socket.end(bytes);
    },
  };
}

for (const shards of SHARDS) {
  describe(`TLS, on ${shards} shard(s)`, () => {
    const own = certificate();
    let gateway;
    let https;
    let wss;
    let operators;
    before(async () => {
      const text = rooms({ limits: 'send_queue = "256KiB"' });
      operators = await freePort();
      gateway = await startGateway({ text, shards, env: { ...own.env, OPS_PORT: String(operators) } });
      [https, wss] = [`https://127.0.0.1:${gateway.port}`, `wss://127.0.0.1:${gateway.port}/ws`];
    });
    after(() => gateway.stop());
    afterEach(closeClients);

    for (const [name, transports] of Object.entries(TRANSPORTS)) {
      it(`the stock client talks over ${name}, and a plain one with it`, async () => {
        const ca = own.ca();
        const stock = await connected(https, { transports, ca });
        const other = plain(wss, { ca });
        await other.next("connected");
        await stock.ask("join", { room: name });
        other.send({ type: "join", room: name });
        await other.next("joined");
        if (name === "upgrade") {
          await until(() => stock.socket.io.engine.transport.name, (transport) => transport === "websocket", "the upgrade");
        }
        for (let count = 0; count < 20; count++) {
          stock.socket.emit("say", { room: name, data: { count, long: "x".repeat(count * 1000) } });
        }
        for (let count = 0; count < 20; count++) {
          const said = (message) => message.data?.count === count;
          assert.equal((await other.next("message", said)).data.long.length, count * 1000);
          assert.equal((await stock.next("message", said)).data.long.length, count * 1000);
        }
      });
    }

    it("binary and large messages pass whole", async () => {
      const ca = own.ca();
      const [one, other] = [await connected(https, { ca }), await connected(https, { ca })];
      for (const client of [one, other]) await client.ask("join", { room: "large" });
      const long = "é".repeat(100_000);
      one.socket.emit("say", { room: "large", data: long });
      assert.equal((await other.next("message")).data, long);
    });

    it("a client that reads too slowly is cut, and the others do not wait", async () => {
      const ca = own.ca();
      const [talker, slow] = [plain(wss, { ca }), plain(wss, { ca })];
      for (const client of [talker, slow]) {
        await client.next("connected");
        client.send({ type: "join", room: "flood" });
        await client.next("joined");
      }
      slow.socket.pause();
      let said = 0;
      const cut = () => gateway.log.items.some((line) => /too slowly/.test(line.message));
      while (!cut()) {
        talker.send({ type: "say", room: "flood", data: `${said}-${"x".repeat(60_000)}` });
        await talker.next("message", (message) => message.data.startsWith(`${said}-`));
        said += 1;
      }
      assert.ok(said > 4);
    });

    it("a client whose socket was full gets everything, in order, once it reads again", async () => {
      const ca = own.ca();
      const [talker, slow] = [plain(wss, { ca }), plain(wss, { ca })];
      for (const client of [talker, slow]) {
        await client.next("connected");
        client.send({ type: "join", room: "pause" });
        await client.next("joined");
      }
      slow.socket.pause();
      let said = 0;
      const waits = async () => Number((await (await fetch(`http://127.0.0.1:${operators}/metrics?format=prometheus`)).text()).match(/^roomcast_queued_bytes (\d+)/m)[1]) > 0;
      await until(waits, (some) => !some, "nothing of the clients before to wait");
      while (!(await waits())) {
        talker.send({ type: "say", room: "pause", data: `${said}-${"x".repeat(60_000)}` });
        await talker.next("message", (message) => message.data.startsWith(`${said}-`));
        said += 1;
      }
      slow.socket.resume();
      await slow.next("message", (message) => message.data.startsWith(`${said - 1}-`));
      const messages = slow.events.items.filter(({ json }) => json?.type === "message");
      const heard = messages.map(({ json }) => Number(json.data.split("-")[0]));
      assert.deepEqual(heard, Array.from({ length: said }, (_, count) => count));
    });

    it("whoever says the last word at once with many others is heard to the end", async () => {
      const listener = plain(wss, { ca: own.ca() });
      await listener.next("connected");
      listener.send({ type: "join", room: "last" });
      await listener.next("joined");
      const talker = await heldBack(gateway.port);
      const count = 300;
      const say = (message) => frame(1, JSON.stringify({ type: "say", room: "last", data: message }));
      const join = frame(1, JSON.stringify({ type: "join", room: "last" }));
      talker.end(Buffer.concat([join, ...Array.from({ length: count }, (_, message) => say(message))]));
      await listener.next("message", (message) => message.data === count - 1);
      const heard = listener.events.items.filter(({ json }) => json?.type === "message").map(({ json }) => json.data);
      assert.deepEqual(heard, Array.from({ length: count }, (_, message) => message));
    });

    it("half a handshake, and no handshake at all, harm nobody", async () => {
      const client = await connected(https, { ca: own.ca() });
      const answer = await fetch(`http://127.0.0.1:${gateway.port}/health`).catch((error) => error.message);
      assert.equal(answer, "fetch failed");
      assert.deepEqual(await client.ask("join", { room: "a" }), { success: true });
    });

    it("a certificate that is renewed is in use without a restart, and those who are in stay", async () => {
      const client = await connected(https, { ca: own.ca() });
      const before = await seen(gateway.port);
      own.renew();
      await until(() => seen(gateway.port), (now) => now !== before, "the new certificate");
      assert.deepEqual(await client.ask("join", { room: "b" }), { success: true });
      await connected(https, { ca: own.ca() });
    });
  });
}

describe("a gateway that speaks TLS", () => {
  it("is asked by the commands of its own machine", async () => {
    const env = { ...certificate().env, API_KEY };
    const gateway = await startGateway({ profile: "demo", env });
    for (const args of [
      ["health", "--profile", "demo"],
      ["publish", "--profile", "demo", "--room", "lobby", "--event", "news", "1"],
    ]) {
      const { code, stderr } = await roomcast(args, { env: { ...env, PORT: String(gateway.port) } }).ended;
      assert.equal(code, 0, stderr);
    }
    await gateway.stop();
  });
});

describe("a certificate that is none", () => {
  const serve = (env) => roomcast(["serve", "--profile", "demo", "--port", "0"], { env }).ended;

  it("ends the start, and says which file and why", async () => {
    const own = certificate();
    for (const [env, said] of [
      [{ TLS_CERT_FILE: own.env.TLS_CERT_FILE }, /TLS_KEY_FILE/],
      [{ ...own.env, TLS_KEY_FILE: "/nowhere.key" }, /TLS_KEY_FILE: \/nowhere.key/],
      [{ ...own.env, TLS_CERT_FILE: own.key }, /TLS_CERT_FILE: .* holds no certificate/],
      [{ ...own.env, TLS_KEY_FILE: certificate().key }, /TLS_KEY_FILE: .* does not fit/],
    ]) {
      const { code, stderr } = await serve(env);
      assert.notEqual(code, 0);
      assert.match(stderr, said);
    }
  });
});
