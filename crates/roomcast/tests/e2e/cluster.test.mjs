// Nodes that are one: gateways and Node's Socket.IO servers on one Redis, under clients of either.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected, plain, socketIo } from "./support/clients.mjs";
import { startGateway } from "./support/gateway.mjs";
import { startEmitter, startPeer } from "./support/peer.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { startRoundRobin } from "./support/round_robin.mjs";

const inCluster = (gateway) => gateway.ready(({ parts }) => parts.bus.state === "connected", "the bus");

async function startNode(redis, { mode = "classic", ...options } = {}) {
  const env = { ...redis.env, REDIS_ADAPTER_MODE: mode, ...options.env };
  const gateway = await startGateway({ profile: "demo", shards: 2, ...options, env });
  gateway.mode = mode;
  gateway.ready = (accept, what) => until(async () => (await gateway.get("/health/ready")).json, accept, what);
  await inCluster(gateway);
  return gateway;
}

async function member(url, room = "r") {
  const client = await connected(url);
  assert.deepEqual(await client.ask("join", { room }), { success: true, room });
  return client;
}

async function plainMember(gateway, room = "r") {
  const client = plain(`${gateway.ws}/ws`);
  await client.next("connected");
  client.send({ type: "join", room });
  await client.next("joined");
  return client;
}

/** Where each room has a channel of its own, these nodes listen to those of all their rooms. */
async function settled(...nodes) {
  for (const node of nodes.filter(({ mode }) => mode === "sharded")) {
    const listens = async () => [await node.metric("roomcast_rooms"), await node.metric("roomcast_bus_rooms")];
    await until(listens, ([rooms, listened]) => rooms === listened, "the rooms to be listened to");
  }
}

/** Everything of this event that came, in order, once the last of it is there. */
async function heard(client, last, event = "message") {
  await client.next(event, ({ data }) => data === last);
  return client.events.items.filter((item) => item.event === event).map((item) => item.args[0].data);
}

for (const mode of ["classic", "sharded"]) {
  describe(`nodes on one Redis, ${mode}`, () => {
    let redis;
    let nodes;
    before(async () => {
      redis = await Redis.start();
      nodes = await Promise.all([1, 2, 3].map(() => startNode(redis, { mode })));
    });
    after(async () => {
      await Promise.all(nodes.map((node) => node.stop()));
      await redis.kill();
    });
    afterEach(closeClients);

    it("share rooms: what is said on one is heard by the members on all, once and in order, and by nobody else", async () => {
      const members = await Promise.all(nodes.map((node) => member(node.url)));
      const outsider = await member(nodes[1].url, "other");
      const flat = await plainMember(nodes[2]);
      await settled(...nodes);
      for (let index = 0; index < 300; index += 1) members[0].socket.emit("say", { room: "r", data: index });
      members[0].socket.emit("say", { room: "r", data: "last" });
      const all = [...Array(300).keys(), "last"];
      for (const client of members) assert.deepEqual(await heard(client, "last"), all);
      await flat.next("message", ({ data }) => data === "last");
      assert.deepEqual(flat.events.items.filter(({ json }) => json?.type === "message").map(({ json }) => json.data), all);
      outsider.socket.emit("say", { room: "other", data: "end" });
      assert.deepEqual(await heard(outsider, "end"), ["end"]);
    });

    it("keep values as they are, whatever they are", async () => {
      const [one, other] = [await member(nodes[0].url), await member(nodes[1].url)];
      await settled(...nodes);
      const values = [null, true, -1, 127, 128, 65_536, 2 ** 32, -(2 ** 40), 2 ** 53 - 1, 1.5, -0.1, 1e21, 5e-324, "", "é\u001e\u2028\"", [], {}, { a: [{ b: { c: [[]] } }] }, "x".repeat(70_000), Array(20).fill(0), Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`k${index}`, index]))];
      for (const value of values) {
        one.socket.emit("say", { room: "r", data: { value } });
        assert.deepEqual(await other.next("message", ({ data }) => JSON.stringify(data.value) === JSON.stringify(value)), { room: "r", from: one.greeting.userId, data: { value } });
      }
    });

    it("carry what takes more on its way than it does as JSON", async () => {
      const [one, other] = [await member(nodes[0].url), await member(nodes[1].url)];
      await settled(...nodes);
      const data = Array(200_000).fill(0.5);
      one.socket.emit("say", { room: "r", data });
      assert.deepEqual((await other.next("message")).data, data);
    });

    it("carry what the server API publishes to rooms, to everyone, and past those who are left out", async () => {
      const members = await Promise.all(nodes.map((node) => member(node.url)));
      const except = members[1].greeting.socketId;
      await settled(...nodes);
      const publish = (body) => nodes[0].api("POST", "/api/publish", { event: "news", ...body });
      assert.equal((await publish({ rooms: ["r"], except: [except], data: { data: 1 } })).json.delivered, 1);
      await publish({ rooms: ["nobody"], data: { data: 0 } });
      await publish({ data: { data: 2 } });
      for (const [index, client] of members.entries()) assert.deepEqual(await heard(client, 2, "news"), index === 1 ? [2] : [1, 2]);
      const byId = { rooms: [members[2].greeting.socketId], data: { data: 3 } };
      await publish(byId);
      await publish({ data: { data: 4 } });
      for (const [index, client] of members.entries()) assert.deepEqual((await heard(client, 4, "news")).slice(-2), index === 2 ? [3, 4] : [2, 4]);
    });

    it("disconnect a user, or a socket, wherever they are, for good", async () => {
      const [here, there] = [await connected(`${nodes[0].url}?userId=ada`), await connected(`${nodes[1].url}?userId=ada`)];
      const other = await member(nodes[2].url);
      const flat = plain(`${nodes[2].ws}/ws?userId=ada`);
      await flat.next("connected");
      assert.equal((await nodes[0].api("POST", "/api/disconnect", { userId: "ada" })).json.disconnected, 1);
      for (const client of [here, there]) assert.equal(await client.next("disconnect"), "io server disconnect");
      assert.equal((await flat.closed()).close, 1000);
      assert.ok(other.socket.connected);
      await nodes[0].api("POST", "/api/disconnect", { socketId: other.greeting.socketId });
      assert.equal(await other.next("disconnect"), "io server disconnect");
    });

    it("come back by themselves when Redis does, with what was said meanwhile; until then each serves its own members", async () => {
      for (const node of nodes) await until(() => node.metric("roomcast_bus_members"), (members) => members === nodes.length, "all to be counted");
      const [one, same, other] = [await member(nodes[0].url), await member(nodes[0].url), await member(nodes[1].url)];
      await settled(...nodes);
      await redis.kill();
      await nodes[0].ready(({ status, parts }) => status === "degraded" && parts.bus.state === "disconnected", "the loss");
      for (let index = 0; index < 50; index += 1) one.socket.emit("say", { room: "r", data: `held ${index}` });
      await same.next("message", ({ data }) => data === "held 49");
      assert.ok(!other.events.items.some(({ event }) => event === "message"));
      await redis.start();
      one.socket.emit("say", { room: "r", data: "together" });
      const all = [...Array.from({ length: 50 }, (_, index) => `held ${index}`), "together"];
      for (const client of [same, other]) assert.deepEqual(await heard(client, "together"), all);
      await Promise.all(nodes.map(inCluster));
    });
  });
}

const peers = [
  { adapter: 8, mode: "classic", name: "@socket.io/redis-adapter 8" },
  { adapter: 6, mode: "classic", name: "socket.io-redis 6" },
  { adapter: "sharded", mode: "sharded", name: "the sharded adapter of @socket.io/redis-adapter 8" },
];
for (const { adapter, mode, name } of peers) {
  describe(`a Node server with ${name} in the cluster`, () => {
    let redis;
    let node;
    let peer;
    before(async () => {
      redis = await Redis.start();
      [node, peer] = await Promise.all([startNode(redis, { mode }), startPeer(redis, { adapter })]);
    });
    after(async () => {
      await Promise.all([node.stop(), peer.close()]);
      await redis.kill();
    });
    afterEach(closeClients);

    it("shares rooms with the gateway both ways, once and in order", async () => {
      const [here, there] = [await member(node.url), await member(peer.url)];
      const flat = await plainMember(node);
      await settled(node);
      // The peer's subscription may still be on its way.
      await until(async () => {
        here.socket.emit("say", { room: "r", data: "there?" });
        return there.events.items.some(({ event }) => event === "message");
      }, Boolean, "the peer to hear");
      for (let index = 0; index < 100; index += 1) {
        here.socket.emit("say", { room: "r", data: `g${index}` });
        there.socket.emit("say", { room: "r", data: `n${index}` });
      }
      here.socket.emit("say", { room: "r", data: "g-last" });
      there.socket.emit("say", { room: "r", data: "n-last" });
      for (const client of [here, there]) {
        await heard(client, "g-last");
        const all = await heard(client, "n-last");
        for (const of of ["g", "n"]) {
          const expected = [...Array.from({ length: 100 }, (_, index) => `${of}${index}`), `${of}-last`];
          assert.deepEqual(all.filter((data) => data.startsWith(of)), expected);
        }
      }
      await flat.next("message", ({ data }) => data === "n-last");
    });

    it("reaches the gateway's clients with everything that a server can say", async () => {
      const [one, two] = [await member(node.url, "a"), await member(node.url, "b")];
      await settled(node);
      peer.io.to("a").emit("e", { data: "to a" });
      peer.io.to(["a", "b"]).emit("e", { data: "to both" });
      peer.io.except("b").emit("e", { data: "not b" });
      peer.io.to("nobody").emit("e", { data: "to nobody" });
      peer.io.to(two.greeting.socketId).emit("e", { data: "by id" });
      peer.io.volatile.emit("e", { data: "volatile" });
      peer.io.emit("many", 1, "two", Buffer.from([1, 2, 3]), { deep: [Buffer.from("x")] }, new Date(0), undefined);
      peer.io.emit("e", { data: "end" });
      assert.deepEqual(await heard(one, "end", "e"), ["to a", "to both", "not b", "volatile", "end"]);
      assert.deepEqual(await heard(two, "end", "e"), ["to both", "by id", "volatile", "end"]);
      const { args } = two.events.items.find(({ event }) => event === "many");
      assert.deepEqual(args, [1, "two", Buffer.from([1, 2, 3]), { deep: [Buffer.from("x")] }, "1970-01-01T00:00:00.000Z", null]);
    });

    it("has its sockets, and its users' in their rooms, disconnected by the gateway's server API, and no others", async () => {
      const [one, two, other] = [await member(peer.url, "user:ada"), await member(peer.url, "user:ada"), await member(peer.url)];
      // The peer listens once its own client hears the gateway.
      const probe = await member(node.url);
      await until(async () => {
        probe.socket.emit("say", { room: "r", data: "there?" });
        return other.events.items.some(({ event }) => event === "message");
      }, Boolean, "the peer to hear");
      await node.api("POST", "/api/disconnect", { socketId: one.greeting.socketId });
      assert.equal(await one.next("disconnect"), "io server disconnect");
      // An answer comes behind whatever was sent before it.
      await two.ask("join", { room: "two" });
      await node.api("POST", "/api/disconnect", { userId: "ada" });
      assert.equal(await two.next("disconnect"), "io server disconnect");
      await other.ask("join", { room: "other" });
      assert.ok(other.socket.connected);
    });

    it("shares rooms again, both ways, after Redis was emptied, or started anew", async () => {
      for (const forget of [() => redis.command("FLUSHALL"), async () => (await redis.kill(), redis.start())]) {
        const [here, there] = [await member(node.url), await member(peer.url)];
        await forget();
        for (const [from, to, data] of [[here, there, "from here"], [there, here, "from there"]]) {
          await until(() => {
            from.socket.emit("say", { room: "r", data });
            return to.events.items.some(({ event, args }) => event === "message" && args[0].data === data);
          }, Boolean, `what is said ${data}`);
        }
        closeClients();
      }
    });
  });
}

for (const mode of ["classic", "sharded"]) {
  describe(`what Node servers ask of the cluster, ${mode}`, () => {
    let redis;
    let node;
    let peer;
    before(async () => {
      redis = await Redis.start();
      [node, peer] = await Promise.all([startNode(redis, { mode }), startPeer(redis, { adapter: mode === "classic" ? 8 : "sharded" })]);
      // Its requests are answered by all who listen: it must know of two.
      await until(() => peer.io.of("/").adapter.serverCount(), (count) => count === 2, "the cluster of two");
    });
    after(async () => {
      await Promise.all([node.stop(), peer.close()]);
      await redis.kill();
    });
    afterEach(closeClients);

    it("is answered with the gateway's sockets and rooms, and nothing of their tokens", async () => {
      const one = await connected(`${node.url}?userId=ada&token=secret`);
      await one.ask("join", { room: "r" });
      const flat = await plainMember(node, "f");
      const there = await member(peer.url);
      const sockets = await peer.io.in("r").fetchSockets();
      const ids = [one.greeting.socketId, there.greeting.socketId];
      assert.deepEqual(sockets.map(({ id }) => id).sort(), [...ids].sort());
      const found = sockets.find(({ id }) => id === ids[0]);
      assert.deepEqual([...found.rooms].sort(), [ids[0], "r", "user:ada"].sort());
      assert.deepEqual([found.data, found.handshake], [{ userId: "ada" }, { headers: {}, query: {}, auth: {} }]);
      assert.equal((await peer.io.except("r").fetchSockets()).length, 1);
      flat.close();
      // The sharded adapter does not ask for rooms.
      if (mode === "sharded") return;
      const rooms = await peer.io.of("/").adapter.allRooms();
      for (const room of ["r", "user:ada", ...ids]) assert.ok(rooms.has(room), room);
    });

    it("has its sockets enter and leave rooms and go, in order with what is said to them", async () => {
      const [one, two] = [await member(node.url, "a"), await member(node.url, "b")];
      const flat = await plainMember(node, "a");
      peer.io.in("a").socketsJoin(["x", "y"]);
      if (mode === "sharded") {
        // Node does not wait for channels to be listened to, either.
        await until(() => peer.io.in("y").fetchSockets(), ({ length }) => length === 2, "both to have entered");
        await settled(node);
      }
      peer.io.to("x").emit("e", { data: "to x" });
      peer.io.in("a").socketsLeave("x");
      peer.io.to("x").emit("e", { data: "nobody" });
      peer.io.to("y").emit("e", { data: "to y" });
      assert.deepEqual(await heard(one, "to y", "e"), ["to x", "to y"]);
      await flat.next("e", ({ data }) => data === "to y");
      peer.io.in(two.greeting.socketId).disconnectSockets();
      assert.equal(await two.next("disconnect"), "io server disconnect");
      peer.io.in("y").disconnectSockets(true);
      assert.equal(await one.next("disconnect"), "io server disconnect");
      assert.equal((await flat.closed()).close, 1000);
    });

    it("has its clients answer an event, whoever is slow", async () => {
      const [one, slow] = [await member(node.url), await member(node.url)];
      const there = await member(peer.url);
      one.socket.on("q", (value, answer) => answer({ from: "one", value, bytes: Buffer.from([1]) }, "second"));
      there.socket.on("q", (value, answer) => answer("there"));
      slow.socket.on("q", (value, answer) => setTimeout(answer, 200, "slow"));
      const answers = await peer.io.to("r").timeout(10_000).emitWithAck("q", 7);
      const sorted = answers.sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
      assert.deepEqual(sorted, ["slow", "there", { from: "one", value: 7, bytes: Buffer.from([1]) }]);
      assert.deepEqual(await peer.io.to("nobody").timeout(10_000).emitWithAck("q", 7), []);
    });

    it("does not wait in vain for an answer to an event of servers, which the gateway has no use for", async () => {
      assert.deepEqual(await peer.io.serverSideEmitWithAck("hello", 1), [null]);
      peer.io.serverSideEmit("hello", 2);
      await until(() => peer.io.fetchSockets(), ({ length }) => length === 0, "the clients before to be gone");
    });
  });
}

describe("a cluster that moves from Node to gateways, server by server, and back", () => {
  afterEach(closeClients);

  for (const { adapter, mode, name } of peers) it(`under clients that only ever reconnect, with ${name}`, async () => {
    const redis = await Redis.start();
    const servers = [];
    const startServer = {
      node: () => startPeer(redis, { adapter }),
      gateway: async () => {
        const gateway = await startNode(redis, { mode });
        return Object.assign(gateway, { close: gateway.stop });
      },
    };
    servers.push(await startServer.node(), await startServer.node());
    const balancer = await startRoundRobin(servers);
    const clients = Array.from({ length: 4 }, (_, index) => socketIo(balancer.url, { name: `client ${index}`, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 }));
    for (const { socket } of clients) socket.on("connect", () => socket.emit("join", { room: "r" }, () => {}));
    const said = (client) => client.events.items.filter(({ event }) => event === "message").map(({ args }) => args[0].data);
    let step = 0;
    /** Everyone is in again and hears everyone, each once. */
    const talk = async () => {
      step += 1;
      for (const [index, speaker] of clients.entries()) {
        // Somebody may still be on the way, or a room's channel not listened to.
        const attempt = `step ${step}: does everyone hear ${index}?`;
        await until(() => {
          speaker.socket.emit("say", { room: "r", data: attempt });
          return clients.filter((client) => !said(client).includes(attempt));
        }, ({ length }) => length === 0, attempt);
      }
      for (const [index, { socket }] of clients.entries()) socket.emit("say", { room: "r", data: `step ${step} of ${index}` });
      for (const client of clients) {
        for (const index of clients.keys()) await client.next("message", ({ data }) => data === `step ${step} of ${index}`);
      }
      // A repeat would have come before these.
      for (const [index, { socket }] of clients.entries()) socket.emit("say", { room: "r", data: `step ${step} ends for ${index}` });
      for (const client of clients) {
        for (const index of clients.keys()) await client.next("message", ({ data }) => data === `step ${step} ends for ${index}`);
        assert.equal(said(client).filter((data) => data.startsWith(`step ${step} of `)).length, clients.length, "each once");
      }
    };
    await talk();
    for (const kind of ["gateway", "gateway", "node", "node"]) {
      servers.push(await startServer[kind]());
      await servers.shift().close();
      await talk();
    }
    for (const { socket } of clients) assert.ok(socket.connected);
    closeClients();
    balancer.close();
    await Promise.all(servers.map((server) => server.close()));
    await redis.kill();
  });
});

describe("what servers with socket.io-redis 6 ask", () => {
  let redis;
  let node;
  let peer;
  before(async () => {
    redis = await Redis.start();
    [node, peer] = await Promise.all([startNode(redis), startPeer(redis, { adapter: 6 })]);
  });
  after(async () => {
    await Promise.all([node.stop(), peer.close()]);
    await redis.kill();
  });
  afterEach(closeClients);

  it("is answered: ids, rooms, joins, leaves and ends of single sockets", async () => {
    const one = await member(node.url, "a");
    const id = one.greeting.socketId;
    const adapter = peer.io.of("/").adapter;
    await until(() => adapter.sockets(new Set(["a"])), (ids) => ids.has(id), "the cluster of two");
    await adapter.remoteJoin(id, "b");
    assert.ok((await adapter.allRooms()).has("b"));
    peer.io.to("b").emit("e", { data: 1 });
    await one.next("e");
    await adapter.remoteLeave(id, "b");
    assert.ok(!(await adapter.allRooms()).has("b"));
    await adapter.remoteDisconnect(id, true);
    assert.equal(await one.next("disconnect"), "io server disconnect");
  });
});

describe("a node that starts", () => {
  for (const mode of ["classic", "sharded"]) it(`takes clients once it hears the others, ${mode}`, async () => {
    const redis = await Redis.start();
    for (let times = 0; times < 5; times += 1) {
      const node = await startGateway({ profile: "demo", env: { ...redis.env, REDIS_ADAPTER_MODE: mode } });
      assert.equal((await node.get("/health/ready")).json.parts.bus.state, "connected");
      await node.stop();
    }
    await redis.kill();
  });
});

describe("an emitter without a server", () => {
  let redis;
  let node;
  before(async () => {
    redis = await Redis.start();
    node = await startNode(redis);
  });
  after(async () => {
    await node.stop();
    await redis.kill();
  });
  afterEach(closeClients);

  it("reaches rooms, everyone, and not those who are left out", async () => {
    const { emitter, close } = startEmitter(redis);
    const [one, two] = [await member(node.url, "a"), await member(node.url, "b")];
    emitter.to("a").emit("e", { data: "to a" });
    emitter.except("a").emit("e", { data: "not a" });
    emitter.emit("e", { data: Buffer.from([7]) });
    emitter.emit("e", { data: "end" });
    assert.deepEqual(await heard(one, "end", "e"), ["to a", Buffer.from([7]), "end"]);
    assert.deepEqual(await heard(two, "end", "e"), ["not a", Buffer.from([7]), "end"]);
    emitter.in("a").socketsJoin("b");
    emitter.to("b").emit("e", { data: "joined" });
    await one.next("e", ({ data }) => data === "joined");
    emitter.in("a").disconnectSockets();
    assert.equal(await one.next("disconnect"), "io server disconnect");
    assert.ok(two.socket.connected);
    await close();
  });

  it("is heard by a gateway of its key alone", async () => {
    const apart = await startNode(redis, { env: { REDIS_ADAPTER_KEY: "chat" } });
    const [here, there] = [await member(node.url), await member(apart.url)];
    const { emitter, close } = startEmitter(redis);
    emitter.emit("e", { data: "mine" });
    await here.next("e");
    there.socket.emit("say", { room: "r", data: "end" });
    await there.next("message");
    assert.ok(!there.events.items.some(({ event }) => event === "e"));
    await close();
    await apart.stop();
  });
});
