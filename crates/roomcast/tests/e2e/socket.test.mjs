// Socket.IO to the letter: what each packet is answered with, and what stock clients can do with all of it. Each test is named by the
// rule that it checks. The packets are sent to a gateway with a profile and to one within a program; they cannot be told apart.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { TRANSPORTS, closeClients, plain, socketIo } from "./support/clients.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { within } from "./support/recorder.mjs";
import { startTwin } from "./support/twin.mjs";

const CONNECT_TIMEOUT_MS = 2_000;

/** What the example `twin` does, as far as a profile can say it. */
const profile = (connectTimeoutMs = 45_000) => `
[auth]
token = "ignored"

[[endpoint]]
protocol = "socket.io"
namespaces = ["/", "/custom"]
connect_timeout = "${connectTimeoutMs}ms"

[command.echo]
args   = { value = "any?" }
bare   = "value"
answer = { ack = "{args.value}", event = "echo", data = "{args.value}" }
`;

const SERVERS = {
  "a gateway with a profile": (shards, connectTimeoutMs) => startGateway({ text: profile(connectTimeoutMs), shards }),
  "a gateway within a program": (shards, connectTimeoutMs) => startTwin({ shards, ...(connectTimeoutMs && { connectTimeoutMs }) }),
};

const binary = (num) => `{"_placeholder":true,"num":${num}}`;
const BYTES = Buffer.from([0, 1, 255]);

/** What ends a session: the rule, and what a client sends that is in `/`. */
const FATAL = [
  ["a namespace is entered once", ["40"]],
  ["an event needs its namespace entered", ['42/custom,["echo"]']],
  ["an event of an unknown namespace", ['42/nowhere,["echo"]']],
  ["an answer needs its namespace entered", ["43/custom,1[]"]],
  ["a disconnect needs its namespace entered", ["41/custom,"]],
  ["an event after the disconnect", ["41", '42["echo"]']],
  ["CONNECT_ERROR is the server's", ['44{"message":"x"}']],
  ["an event has a name", ["42[]"]],
  ["an event is a list", ["42{}"]],
  ["an event's name is no null", ["42[null]"]],
  ["an event's name is no object", ["42[{}]"]],
  ["an event is whole JSON", ['42["echo"']],
  ["an event is JSON alone", ['42["echo"]x']],
  ["an answer is a list", ["431{}"]],
  ["more than ten attachments", [`4511-["echo"]`]],
  ["no attachment at all", ['450-["echo"]']],
  ["attachments are counted once", ['45-1-["echo"]']],
  ["attachments are counted", ['451["echo"]']],
  ["text between a packet and its attachments", [`451-["echo",${binary(0)}]`, '42["echo"]']],
  ["bytes that belong to no packet", [BYTES]],
  ["a placeholder beyond the attachments", [`451-["echo",${binary(1)}]`, BYTES]],
  ["a placeholder below the attachments", [`451-["echo",${binary(-1)}]`, BYTES]],
  ["a placeholder that is no number", [`451-["echo",${binary('"0"')}]`, BYTES]],
  ["an unknown type of packet", ["47"]],
  ["a message without a packet", ["4"]],
  ...["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"].map((name) => [`the reserved name ${name}`, [`42["${name}"]`]]),
];

/** What is no CONNECT packet. */
const NO_CONNECT = ['40["a"]', '40"a"', "40null", "40{bad"];

/** What is answered, and leaves the session as it was: the rule, what is sent, what comes. */
const ANSWERED = [
  ["an unknown namespace is refused", ["40/nope,"], ['44/nope,{"message":"Invalid namespace"}']],
  ["a namespace may end with the packet", ["40/nope"], ['44/nope,{"message":"Invalid namespace"}']],
  ["a namespace is taken literally", ["40/custom?token=1,"], ['44/custom?token=1,{"message":"Invalid namespace"}']],
  ["an answer bears the event's number", ['4212["echo","x"]'], ['4312["x"]']],
  ["a number may be 0", ['420["echo","x"]'], ['430["x"]']],
  ["a number may have leading zeros", ['42007["echo","x"]'], ['437["x"]']],
  ["an answer that nobody waits for is ignored", ["4399[]", '421["echo","x"]'], ['431["x"]']],
];

for (const [name, start] of Object.entries(SERVERS)) {
  for (const shards of SHARDS) {
    describe(`packets to ${name} on ${shards} shard(s)`, { concurrency: 8 }, () => {
      let gateway;
      before(async () => {
        gateway = await start(shards);
      });
      after(async () => {
        closeClients();
        await gateway.stop();
      });

      const opened = async (at = gateway) => {
        const client = plain(`${at.ws}/socket.io/?EIO=4&transport=websocket`);
        await client.events.next((item) => item.text?.startsWith("0"), "the opening");
        return client;
      };
      const entered = async () => {
        const client = await opened();
        client.send("40");
        await client.events.next((item) => item.text?.startsWith("40{"), "the namespace");
        return client;
      };
      const send = (client, packets) => packets.forEach((packet) => client.socket.send(packet));
      const comes = (client, text) => client.events.next((item) => item.text === text, text);

      for (const [rule, packets] of FATAL) {
        it(`ends the session: ${rule}`, async () => {
          const client = await entered();
          send(client, packets);
          assert.equal((await client.closed()).close, 1005);
        });
      }

      it("ends the session: what is no CONNECT packet", async () => {
        for (const packet of NO_CONNECT) {
          const client = await opened();
          client.send(packet);
          assert.equal((await client.closed()).close, 1005, packet);
        }
      });

      it("ends the session: bytes before any CONNECT", async () => {
        const client = await opened();
        send(client, [BYTES]);
        assert.equal((await client.closed()).close, 1005);
      });

      for (const [rule, packets, answers] of ANSWERED) {
        it(rule, async () => {
          const client = await entered();
          send(client, packets);
          for (const answer of answers) await comes(client, answer);
          // And it is still in.
          send(client, ['42123["echo","still here"]']);
          await comes(client, '43123["still here"]');
        });
      }

      it("attachments may be unused, and empty", async () => {
        const client = await entered();
        send(client, [`451-1["echo","unused"]`, BYTES, `421["echo","after"]`, `451-["echo",${binary(0)}]`, Buffer.alloc(0), '422["echo","the end"]']);
        // A program's echo hands on what it was given, attachments that nobody asks for too.
        await client.events.next((item) => /^4(3|61-)1\["unused"\]$/.test(item.text), "the answer");
        await comes(client, '432["the end"]');
      });

      it("the only namespace may be left, and entered again as someone new", async () => {
        const client = await entered();
        const sid = () => client.events.items.findLast((item) => item.text?.startsWith("40{")).text;
        const before = sid();
        send(client, ["41", "40/nope,"]);
        await comes(client, '44/nope,{"message":"Invalid namespace"}');
        send(client, ["40", '421["echo","again"]']);
        await comes(client, '431["again"]');
        assert.notEqual(sid(), before);
      });

      it("an auth payload is optional, and an object", async () => {
        const client = await opened();
        client.send('40/custom,{"token":"x"}');
        await client.events.next((item) => /^40\/custom,\{"sid":"[\w-]{20}"\}$/.test(item.text), "the namespace");
      });

      it("the ids of a session and of its sockets differ", async () => {
        const client = await entered();
        client.send("40/custom,");
        const sids = async () => client.events.items.map((item) => /"sid":"([^"]+)"/.exec(item.text)?.[1]).filter(Boolean);
        await client.events.next((item) => item.text?.startsWith("40/custom,"), "the second namespace");
        assert.equal(new Set(await sids()).size, 3);
      });

      it("a client that enters no namespace is ended by the connect time-out, on both transports", async () => {
        const hasty = await start(shards, CONNECT_TIMEOUT_MS);
        const client = await opened(hasty);
        client.send("40/nope,");
        const polling = `${hasty.url}/socket.io/?EIO=4&transport=polling`;
        const { sid } = JSON.parse((await (await fetch(polling)).text()).slice(1));
        assert.equal(await (await fetch(`${polling}&sid=${sid}`)).text(), "1");
        assert.equal((await client.closed()).close, 1005);
        const member = await opened(hasty);
        member.send("40");
        await member.events.next((item) => item.text?.startsWith("40{"), "the namespace");
        await hasty.stop();
      });
    });
  }
}

for (const shards of SHARDS) {
  for (const [way, transports] of Object.entries(TRANSPORTS)) {
    describe(`socket.io-client by ${way} on ${shards} shard(s)`, () => {
      let gateway;
      before(async () => {
        gateway = await startTwin({ shards, answerTimeoutMs: 3_000 });
      });
      after(() => gateway.stop());
      afterEach(closeClients);

      const client = async (options = {}) => {
        const client = socketIo(gateway.url, { transports, ...options });
        await client.next("connect");
        return client;
      };
      const ask = (client, ...event) => within(client.socket.emitWithAck(...event), `the answer to ${event[0]}`);

      it("what is sent comes back: JSON of every kind, in order", async () => {
        const { socket, events, next } = await client();
        const values = [1, -1.5, true, null, "", "€✈\"\\\u2028", [], {}, [1, [2]], { a: { b: [null] } }, "x".repeat(100_000)];
        for (const value of values) socket.emit("echo", value);
        socket.emit("echo", "the end");
        await next("echo", (value) => value === "the end");
        assert.deepEqual(events.items.filter((item) => item.event === "echo").map((item) => item.args[0]), [...values, "the end"]);
        assert.equal(await ask({ socket }, "echo", 7), 7);
      });

      it("bytes go both ways, in events and answers, at any depth", async () => {
        const { socket, next } = await client();
        const value = { name: "a", parts: [BYTES, { deep: Buffer.alloc(0) }, Buffer.alloc(70_000, 7)] };
        assert.deepEqual(await ask({ socket }, "echo", value), value);
        socket.emit("echo", BYTES);
        assert.deepEqual(await next("echo"), BYTES);
      });

      it("the server asks, and the client answers, with bytes too", async () => {
        const { socket, next } = await client();
        socket.once("question", (data, answer) => answer({ data, bytes: BYTES }));
        socket.emit("ask", "who?");
        assert.deepEqual(await next("answered"), { data: "who?", bytes: BYTES });
      });

      it("the server's question runs out of time", async () => {
        const { socket, next } = await client();
        socket.emit("ask", "who?");
        await next("unanswered");
      });

      it("the client's question runs out of time", async () => {
        const { socket } = await client();
        await assert.rejects(within(socket.timeout(50).emitWithAck("nothing"), "the time-out"), /operation has timed out/);
      });

      it("a room is asked: who answers is counted, and who does not", async () => {
        const [one, other, silent] = await Promise.all([client(), client(), client()]);
        const room = `asked by ${way}`;
        for (const member of [one, other]) member.socket.on("question", (data, answer) => answer(data));
        for (const member of [one, other, silent]) assert.equal(await ask(member, "join", room), room);
        one.socket.emit("ask all", room, "who?");
        const { args } = await one.events.next((item) => item.event === "answers", "the count");
        assert.deepEqual(args, [2, 1]);
      });

      it("several namespaces share a connection, each with its own socket, and one may end alone", async () => {
        const main = await client();
        const { io } = main.socket;
        const custom = io.socket("/custom", { auth: { token: "t" } });
        const dynamic = io.socket("/dynamic-7");
        const auth = new Promise((resolve) => custom.on("auth", resolve));
        await within(Promise.all([custom, dynamic].map((socket) => new Promise((resolve) => socket.on("connect", resolve)))), "the namespaces");
        assert.deepEqual(await within(auth, "its auth"), { token: "t" });
        assert.equal(new Set([main.socket.id, custom.id, dynamic.id, io.engine.id]).size, 4);
        const reason = new Promise((resolve) => custom.on("disconnect", resolve));
        custom.emit("bye");
        assert.equal(await within(reason, "the end"), "io server disconnect");
        assert.equal(await ask(main, "echo", "main"), "main");
        assert.equal(await ask({ socket: dynamic }, "echo", "dynamic"), "dynamic");
      });

      it("a refusal reaches its own namespace, with its data", async () => {
        const main = await client();
        const refused = (name) => new Promise((resolve) => main.socket.io.socket(name).on("connect_error", resolve));
        const [denied, away, unknown] = await within(Promise.all(["/deny", "/refuse", "/dynamic-x"].map(refused)), "the refusals");
        assert.deepEqual([denied.message, denied.data], ["not authorized", { code: 42 }]);
        assert.deepEqual([away.message, away.data], ["go away", undefined]);
        assert.equal(unknown.message, "Invalid namespace");
        assert.equal(await ask(main, "echo", "here"), "here");
      });

      it("a connection that the server ends takes all its namespaces along, and does not come back", async () => {
        const main = await client({ reconnection: true });
        const custom = main.socket.io.socket("/custom");
        await within(new Promise((resolve) => custom.on("connect", resolve)), "the second namespace");
        const reason = new Promise((resolve) => custom.on("disconnect", resolve));
        main.socket.emit("bye all");
        assert.equal(await main.next("disconnect"), "io server disconnect");
        assert.equal(await within(reason, "the end of the second namespace"), "io server disconnect");
        assert.equal(main.socket.active, false);
      });

      it("a broadcast reaches the others, and a room its members", async () => {
        const [one, other] = await Promise.all([client(), client()]);
        const room = `told by ${way}`;
        await ask(other, "join", room);
        one.socket.emit("to", room, { to: room });
        assert.deepEqual(await other.next("said", (data) => data.to === room), { to: room });
        await ask(other, "leave", room);
        one.socket.emit("to", room, { to: "nobody" });
        one.socket.emit("broadcast", { to: "all" });
        assert.deepEqual(await other.next("said", (data) => data.to !== room), { to: "all" });
        assert.equal(await ask(one, "echo", 1), 1);
        assert.ok(!one.names().includes("said"));
      });
    });
  }

  it(`an event that may be dropped waits for nobody, on ${shards} shard(s)`, async () => {
    const gateway = await startTwin({ shards });
    const url = `${gateway.url}/socket.io/?EIO=4&transport=polling`;
    const { sid } = JSON.parse((await (await fetch(url)).text()).slice(1));
    const session = `${url}&sid=${sid}`;
    const post = async (body) => assert.equal((await fetch(session, { method: "POST", body })).status, 200);
    await post("40");
    assert.match(await (await fetch(session)).text(), /^40\{/);
    // Nobody polls while it is sent: it is gone, and what may not be dropped is there.
    await post('42["volatile",1]');
    await post('42["echo",2]');
    assert.equal(await (await fetch(session)).text(), '42["echo",2]');
    const client = plain(`${gateway.ws}/socket.io/?EIO=4&transport=websocket`);
    await client.events.next((item) => item.text?.startsWith("0"), "the opening");
    client.send("40");
    await client.events.next((item) => item.text === '42["auth",{}]', "the namespace");
    client.send('42["volatile",3]');
    await client.events.next((item) => item.text === '42["volatile",3]', "the event on an idle connection");
    closeClients();
    await gateway.stop();
  });
}
