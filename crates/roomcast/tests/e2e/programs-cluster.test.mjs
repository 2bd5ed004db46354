// Programs that embed the gateway in one cluster, with each other and with a Node server: `examples/cluster.rs`.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected } from "./support/clients.mjs";
import { startPeer } from "./support/peer.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { startExample } from "./support/twin.mjs";

const NAMESPACES = ["/", "/chat"];

/** For questions that somebody does not answer: the whole time passes, and the others must answer within it. */
const SHORT_MS = 4_000;
const LONG_MS = 10_000;

const sorted = (answers) => [...answers].sort((one, other) => JSON.stringify(one).localeCompare(JSON.stringify(other)));

for (const mode of ["classic", "sharded"]) {
  describe(`programs in a cluster, ${mode}`, () => {
    let redis;
    let one;
    let two;
    let peer;
    const start = (name) => startExample("cluster", { redis: redis.url, sharded: mode === "sharded", name });
    /** All of them know of so many. */
    const together = async (count) => {
      for (const name of NAMESPACES) await until(() => peer.io.of(name).adapter.serverCount(), (members) => members === count, `a cluster of ${count}`);
    };
    before(async () => {
      redis = await Redis.start();
      const adapter = mode === "classic" ? 8 : "sharded";
      [one, two, peer] = await Promise.all([start("one"), start("two"), startPeer(redis, { adapter, namespaces: NAMESPACES })]);
      await together(3);
    });
    after(async () => {
      await Promise.all([one.stop(), two.stop(), peer.close()]);
      await redis.kill();
    });
    afterEach(() => {
      closeClients();
      for (const name of NAMESPACES) for (const event of ["hello", "ping", "never"]) peer.io.of(name).removeAllListeners(event);
    });

    const clients = (namespace = "/chat") => Promise.all([one, two, peer].map(({ url }) => connected(url, { namespace })));
    const ask = (client, question) => client.ask("ask", { room: null, data: null, timeout_ms: LONG_MS, ...question });
    const askServers = (client, question) => client.ask("ask servers", { data: null, timeout_ms: LONG_MS, ...question });
    const heardBy = (client, by, what) => client.next("heard", (heard) => heard.by === by && heard.what === what);

    it("share the namespaces that they open: everyone, rooms and single sockets, and nobody of another one", async () => {
      const members = await clients();
      const [outsider] = await clients("/");
      for (const client of members) {
        await client.ask("join", client === members[2] ? { room: "r" } : "r");
        // A room's channel may be listened to a moment later.
        let attempt = 0;
        const reached = () => {
          members[0].socket.emit("say", { room: "r", data: `attempt ${(attempt += 1)}` });
          return client.events.items.some(({ event }) => event === "said");
        };
        await until(reached, Boolean, "the room to be shared");
      }
      for (let index = 0; index < 100; index += 1) members[index % 2].socket.emit("say", { room: "r", data: index });
      members[0].socket.emit("say", { room: "r", data: "last of one" });
      members[1].socket.emit("say", { room: "r", data: "last of two" });
      for (const client of members) {
        for (const last of ["last of one", "last of two"]) await client.events.next(({ event, args }) => event === "said" && args[0] === last, last);
        const numbers = client.events.items.filter(({ event, args }) => event === "said" && typeof args[0] === "number").map(({ args }) => args[0]);
        for (const parity of [0, 1]) assert.deepEqual(numbers.filter((number) => number % 2 === parity), Array.from({ length: 50 }, (_, index) => 2 * index + parity));
      }
      peer.io.of("/chat").to(members[1].greeting.socketId).emit("by id", 7);
      assert.equal(await members[1].next("by id"), 7);
      const found = await peer.io.of("/chat").in("r").fetchSockets();
      assert.deepEqual(found.map(({ id }) => id).sort(), members.map(({ greeting }) => greeting.socketId).sort());
      peer.io.of("/chat").in(members[0].greeting.socketId).disconnectSockets();
      assert.equal(await members[0].next("disconnect"), "io server disconnect");
      peer.io.of("/").emit("said", "end");
      assert.equal(await outsider.next("said"), "end");
    });

    it("tell each other what is for servers, in order, and are told by Node servers", async () => {
      const [here, there] = await clients();
      const told = [];
      const isThere = new Promise((resolve) => {
        peer.io.of("/chat").on("hello", (what) => {
          told.push(what);
          if (what === "last") resolve();
        });
      });
      peer.io.of("/").on("hello", () => told.push("in the wrong namespace"));
      for (let index = 0; index < 50; index += 1) assert.equal(await here.ask("tell servers", index), true);
      await here.ask("tell servers", "last");
      await isThere;
      assert.deepEqual(told, [...Array(50).keys(), "last"]);
      await heardBy(there, "two", "last");
      const heard = there.events.items.filter(({ event }) => event === "heard").map(({ args }) => args[0]);
      assert.deepEqual(heard, told.map((what) => ({ by: "two", what })), "who tells is not told, nor is anybody twice");
      peer.io.of("/chat").serverSideEmit("hello", { from: ["Node"] });
      for (const name of ["one", "two"]) {
        const { what } = await here.next("heard", (heard) => heard.by === name && heard.what.from);
        assert.deepEqual(what, { from: ["Node"] });
      }
    });

    it("answer each other and Node servers, whoever listens", async () => {
      const [here] = await clients();
      peer.io.of("/chat").on("ping", (number, answer) => answer({ from: "node", number }));
      const ofNode = { from: "node", number: 7 };
      const [ofOne, ofTwo] = ["one", "two"].map((from) => ({ from, number: 7 }));
      const { answers, missing } = await askServers(here, { event: "ping", data: 7 });
      assert.deepEqual([sorted(answers), missing], [sorted([ofNode, ofTwo]), 0]);
      assert.deepEqual(sorted(await peer.io.of("/chat").serverSideEmitWithAck("ping", 7)), sorted([ofOne, ofTwo]));
      assert.deepEqual(await peer.io.of("/chat").serverSideEmitWithAck("nobody listens", 7), [null, null]);
      const failure = { error: "no such thing", code: "internal" };
      assert.deepEqual(await peer.io.of("/chat").serverSideEmitWithAck("fail"), [failure, failure]);
      const [{ error, code }] = await peer.io.of("/chat").serverSideEmitWithAck("ping", "no number");
      assert.match(error, /^argument 1: invalid type/);
      assert.equal(code, "bad_field");
      // Those of socket.io are the server's own.
      assert.match((await askServers(here, { event: "connection" })).error, /the server's own/);
    });

    it("have clients answer an event, wherever they are and whoever is slow", async () => {
      const [here, there, ofNode] = await clients();
      const mute = await connected(one.url, { namespace: "/chat" });
      here.socket.on("q", (value, answer) => answer({ at: "one", value }));
      there.socket.on("q", (value, answer) => setTimeout(answer, 200, { at: "two", value }, "a second argument"));
      ofNode.socket.on("q", (value, answer) => answer(Buffer.from([value])));
      const room = ofNode.greeting.socketId;
      assert.deepEqual(await ask(here, { event: "q", room, data: 1 }), { answers: [{ _placeholder: true, num: 0 }], missing: 0, missingNodes: null });
      const expected = [{ at: "one", value: 2 }, { at: "two", value: 2 }, { _placeholder: true, num: 0 }];
      mute.socket.on("q", (_, answer) => answer("not mute yet"));
      const all = await ask(here, { event: "q", data: 2 });
      assert.deepEqual([sorted(all.answers), all.missing, all.missingNodes], [sorted([...expected, "not mute yet"]), 0, null]);
      mute.socket.off("q");
      const some = await ask(there, { event: "q", data: 2, timeout_ms: SHORT_MS });
      assert.deepEqual([sorted(some.answers), some.missing, some.missingNodes], [sorted(expected), 1, null]);
      assert.deepEqual(await ask(here, { event: "q", room: "nobody" }), { answers: [], missing: 0, missingNodes: null });
      const ofProgram = await peer.io.of("/chat").except(mute.greeting.socketId).timeout(LONG_MS).emitWithAck("q", 3);
      assert.deepEqual(sorted(ofProgram), sorted([{ at: "one", value: 3 }, { at: "two", value: 3 }, Buffer.from([3])]));
    });

    it("have sockets enter and leave rooms and go, on Node servers, too", async () => {
      const [here, there, ofNode] = await clients();
      const room = async (client) => client.ask("join", client === ofNode ? { room: "a" } : "a");
      for (const client of [here, there, ofNode]) await room(client);
      const inRoom = (name, count) => until(() => peer.io.of("/chat").in(name).fetchSockets(), ({ length }) => length === count, `${count} to be in ${name}`);
      await inRoom("a", 3);
      assert.equal(await here.ask("order", { order: "join", of: "a", room: "b" }), 1);
      await inRoom("b", 3);
      // Node's own clients hear what is said there.
      await until(() => {
        there.socket.emit("say", { room: "b", data: "in b" });
        return ofNode.events.items.some(({ event, args }) => event === "said" && args[0] === "in b");
      }, Boolean, "the room to be heard");
      assert.equal(await here.ask("order", { order: "leave", of: "a", room: "b" }), 1);
      await inRoom("b", 0);
      await inRoom("a", 3);
      const outsider = await connected(peer.url, { namespace: "/chat" });
      here.socket.emit("order", { order: "disconnect", of: "a" });
      for (const client of [there, ofNode, here]) assert.equal(await client.next("disconnect"), "io server disconnect");
      await outsider.ask("join", { room: "outside" });
      assert.ok(outsider.socket.connected);
    });

    it("wait no longer than they said for one that dies while it is asked, and get what the others said", async () => {
      const three = await start("three");
      await together(4);
      const [here, , ofNode] = await clients();
      const doomed = await connected(three.url, { namespace: "/chat" });
      for (const client of [here, ofNode]) client.socket.on("q", (_, answer) => answer("here"));
      peer.io.of("/chat").on("never", (_, answer) => answer("of Node"));
      // Two hears it as well, and never answers.
      const servers = askServers(here, { event: "never", data: "go", timeout_ms: SHORT_MS });
      const fromClients = ask(here, { event: "q", timeout_ms: SHORT_MS });
      await heardBy(here, "three", "go");
      await doomed.next("q");
      await three.stop();
      assert.deepEqual(await servers, { answers: ["of Node"], missing: 2 });
      const { answers, missing, missingNodes } = await fromClients;
      assert.deepEqual(answers, ["here", "here"]);
      // It died after it had told whom it asked, or before.
      const silent = missingNodes?.startsWith("2 of 3 other members of the cluster answered in time") ? 1 : 0;
      // The client of two has no answer, either.
      assert.equal(missing + silent, 2);
      await together(3);
      peer.io.of("/chat").removeAllListeners("never");
      peer.io.of("/chat").on("ping", (number, answer) => answer(number));
      assert.equal((await askServers(here, { event: "ping", data: 1 })).missing, 0);
    });
  });
}
