// Nodes on a Redis Cluster: gateways and a Node server share rooms over several masters, also after slots moved and after a master died; and who is here is known.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { Redis as Keys } from "ioredis";

import { certificate } from "./support/certificate.mjs";
import { closeClients, connected, socketIo } from "./support/clients.mjs";
import { startGateway } from "./support/gateway.mjs";
import { startPeer } from "./support/peer.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { RedisCluster } from "./support/redis_cluster.mjs";
import { tokenOf } from "./support/token.mjs";

/** Rooms, as many as it takes for each master to have some. */
const ROOMS = Array.from({ length: 24 }, (_, index) => `room ${index}`);

/** A gateway that listens to a channel of Redis. */
const PROFILE = `
[auth]
token     = "ignored"
anonymous = { guest = "guest-" }

[[endpoint]]
protocol = "socket.io"

[source.redis]
channels = ["depot:news"]

[on.connect]
emit = { to = "self", event = "connected", data = { userId = "{user.id}" } }

[[route]]
from = "redis:depot:news"
emit = { to = "everyone", event = "news" }
`;

const channelOf = (room) => `socket.io#/#${room}#`;

async function start(options) {
  const gateway = await startGateway(options);
  gateway.ready = (accept, what, deadlineMs) => until(async () => (await gateway.get("/health/ready")).json, accept, what, deadlineMs);
  return gateway;
}

async function startNode(cluster, { profile = "demo", ...env } = {}) {
  const gateway = await start({ profile, shards: 2, env: { ...cluster.env, ...env } });
  gateway.isWell = () => gateway.ready(({ parts }) => [parts.bus, parts.directory].every(({ state }) => state === "connected"), "the bus and the directory");
  await gateway.isWell();
  return gateway;
}

async function member(url, rooms) {
  const client = await connected(url);
  for (const room of rooms) assert.deepEqual(await client.ask("join", { room }), { success: true, room });
  return client;
}

const counted = (nodes, members) => Promise.all(nodes.map((node) => until(() => node.metric("roomcast_bus_members"), (count) => count === members, "all members to be counted")));

/** Says it in the room until it is heard by all: for as long as others are on their way back. */
async function heard(speaker, room, data, listeners) {
  const hears = ({ events }) => events.items.some(({ event, args }) => event === "message" && args[0].room === room && args[0].data === data);
  const say = () => {
    speaker.socket.emit("say", { room, data });
    return listeners.every(hears);
  };
  await until(say, Boolean, `${data} to be heard in ${room}`);
}

const messages = (client, room) => client.events.items.filter(({ event, args }) => event === "message" && args[0].room === room).map(({ args }) => args[0].data);

for (const mode of ["classic", "sharded"]) {
  describe(`nodes on a Redis Cluster, ${mode}`, () => {
    let cluster;
    let nodes;
    let peer;
    let all;
    before(async () => {
      cluster = await RedisCluster.start({ replicas: 3 });
      const servers = { REDIS_CLUSTER: `127.0.0.1:1,127.0.0.1:${cluster.servers[2].port}` };
      nodes = await Promise.all([{}, servers].map((env) => startNode(cluster, { REDIS_ADAPTER_MODE: mode, ...env })));
      peer = await startPeer(cluster, { adapter: mode === "sharded" ? "sharded" : 8 });
      all = [...nodes, peer];
      await counted(nodes, 3);
    });
    after(async () => {
      await peer.close();
      await Promise.all(nodes.map((node) => node.stop()));
      await cluster.stop();
    });
    afterEach(closeClients);

    it("share rooms, whichever master has a room's channel, with a Node server among them", async () => {
      const members = await Promise.all(all.map(({ url }) => member(url, ROOMS)));
      for (const [index, room] of ROOMS.entries()) await heard(members[index % 3], room, "all are here", members);
      for (const client of members) for (const room of ROOMS) for (const number of [1, 2, 3]) client.socket.emit("say", { room, data: `${client.socket.id} ${number}` });
      const expected = members.flatMap(({ socket }) => [1, 2, 3].map((number) => `${socket.id} ${number}`)).sort();
      for (const client of members) {
        for (const room of ROOMS) {
          const said = await until(() => messages(client, room).filter((data) => data !== "all are here"), (said) => said.length >= expected.length, `everything in ${room}`);
          assert.deepEqual([...said].sort(), expected, "each message once");
          // Of the classic format a Node server publishes each event at another master.
          for (const { socket } of mode === "sharded" ? members : members.slice(0, nodes.length)) {
            const numbers = said.filter((data) => data.startsWith(socket.id)).map((data) => data.at(-1));
            assert.deepEqual(numbers, ["1", "2", "3"], "those of one in order");
          }
        }
      }
      const sockets = await peer.io.in(ROOMS[0]).fetchSockets();
      assert.deepEqual(sockets.map(({ id }) => id).sort(), members.map(({ socket }) => socket.id).sort());
    });

    it("follow a channel's slot to another master", async () => {
      const room = ROOMS[0];
      const [one, other] = [await member(nodes[0].url, [room]), await member(nodes[1].url, [room])];
      await heard(one, room, "before", [other]);
      const slot = await cluster.slotOf(channelOf(room));
      const owner = await cluster.ownerOf(channelOf(room));
      const next = cluster.masters.find((server) => server !== owner);
      await cluster.move(slot, owner, next);
      const known = async () => (await Promise.all(cluster.servers.map((server) => cluster.ownerOf(channelOf(room), server)))).map((found) => found?.port);
      await until(known, (ports) => ports.every((port) => port === next.port), "all servers to know of the move");
      await heard(one, room, "after", [other]);
      await heard(other, room, "and back", [one]);
      for (const node of nodes) await node.isWell();
    });

    it("go on by themselves after a master died, and health tells of what is between", async () => {
      const members = await Promise.all(nodes.map(({ url }) => member(url, ROOMS)));
      for (const room of ROOMS) await heard(members[0], room, "before", members);
      await counted(nodes, 3);
      const dead = await cluster.ownerOf("socket.io");
      let number = 0;
      const refused = [];
      const say = (data) => members[0].socket.emit("say", { room: ROOMS[1], data }, ({ code }) => code && refused.push(data));
      const load = setInterval(() => say((number += 1)), 10);
      const tells = ({ status, reasons }) => status === "degraded" && reasons.join().includes(`127.0.0.1:${dead.port}`);
      const told = nodes.map((node) => node.ready(tells, "health to name the master that is away"));
      await dead.kill();
      await Promise.all(told);
      const said = number;
      // A second election comes four of the servers' time-outs after one that nobody won.
      for (const node of nodes) await node.ready(({ status }) => status === "ok", "everything to be well", 90_000);
      clearInterval(load);
      const listened = await until(() => messages(members[1], ROOMS[1]), (data) => data.includes(number), "what was said last");
      // Should the election take longer than `hold` waits, clients are told.
      const missed = Array.from({ length: number - said }, (_, index) => said + 1 + index).filter((each) => !listened.includes(each) && !refused.includes(each));
      assert.deepEqual(missed, [], "what was said after the loss and not refused was held, and came");
      for (const room of ROOMS) await heard(members[0], room, "after", members);
      const node = await member(peer.url, [ROOMS[0]]);
      await heard(node, ROOMS[0], "from Node", members);
      await heard(members[1], ROOMS[0], "to Node", [node]);
    });
  });
}

describe("a Redis Cluster", () => {
  let cluster;
  let nodes;
  before(async () => {
    cluster = await RedisCluster.start();
    nodes = await Promise.all([1, 2].map(() => startNode(cluster, { profile: "hometrip" })));
  });
  after(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await cluster.stop();
  });
  afterEach(closeClients);

  async function user(node, userId) {
    const client = socketIo(node.url, { token: tokenOf(userId), name: userId, reconnection: false });
    await client.next("connected");
    assert.equal((await client.ask("join_room", { roomType: "conversation", roomId: "1" })).success, true);
    return client;
  }

  it("keeps who is here for all, where operators find it", async () => {
    const watcher = await user(nodes[0], "watcher");
    const told = (status) => watcher.next("presence_update", (update) => update.userId === "walker" && update.status === status);
    const walker = await user(nodes[1], "walker");
    await told("online");
    assert.equal((await watcher.ask("get_presence", { userIds: ["walker"] })).presence.walker.online, true);
    const owner = await cluster.ownerOf("socket.io");
    const keys = new Keys(owner.url);
    const key = `ws:socket:{socket.io}:${walker.socket.id}`;
    const value = JSON.parse(await until(() => keys.get(key), (value) => value?.includes("conversation:1"), "the socket's key"));
    assert.deepEqual([value.socketId, value.userId], [walker.socket.id, "walker"]);
    walker.close();
    await told("offline");
    await until(() => keys.get(key), (value) => value === null, "the key to be gone");
    await keys.quit();
  });

  for (const mode of ["classic", "sharded"]) {
    it(`is followed over TLS, ${mode}: each of its servers by the name that its certificate has`, async () => {
      const secured = await RedisCluster.start({ tls: certificate() });
      const own = await Promise.all([1, 2].map(() => startNode(secured, { REDIS_ADAPTER_MODE: mode })));
      const members = await Promise.all(own.map(({ url }) => member(url, ROOMS)));
      for (const room of ROOMS) await heard(members[0], room, "hello", members);
      const listeners = await Promise.all(secured.servers.map((server) => server.command("CLIENT", "LIST", "TYPE", "pubsub")));
      const of = (index) => listeners[index].split("\n").filter((line) => line.includes(" laddr="));
      assert.ok(secured.servers.some((_, index) => of(index).length > 0), "gateways listen");
      for (const [index, { tlsPort }] of secured.servers.entries()) for (const line of of(index)) assert.match(line, new RegExp(` laddr=127.0.0.1:${tlsPort} `));
      const strangers = await start({ profile: "demo", env: { REDIS_URL: secured.env.REDIS_URL } });
      await strangers.ready(({ reasons }) => /certificate/i.test(reasons?.join()), "health to tell of the certificate");
      await Promise.all([...own, strangers].map((node) => node.stop()));
      await secured.stop();
    });
  }

  it("is a source, whichever server is published at", async () => {
    const gateway = await start({ text: PROFILE, env: cluster.env });
    await gateway.ready(({ parts }) => parts.redis.state === "connected", "the source");
    const client = await connected(gateway.url);
    for (const [index, server] of cluster.servers.entries()) {
      await server.publish("depot:news", { index });
      await client.next("news", (news) => news.index === index);
    }
    await gateway.stop();
  });

  it("has but one database, and is none where there is none: health says so", async () => {
    const plain = await Redis.start();
    for (const [env, reason] of [
      [{ REDIS_URL: `${cluster.env.REDIS_URL}/1` }, /SELECT is not allowed in cluster mode/],
      [{ REDIS_CLUSTER: `127.0.0.1:${plain.port}` }, /belongs to no Redis Cluster/],
    ]) {
      const gateway = await start({ profile: "demo", env });
      await gateway.ready(({ reasons }) => reason.test(reasons.join()), "the reason");
      await gateway.stop();
    }
    await plain.kill();
  });
});
