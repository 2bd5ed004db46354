// Who is here, on several nodes that are one: presence, rooms and places of users over the whole cluster, also when a node dies or Redis forgets.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { Redis as Keys } from "ioredis";

import { clan, enter } from "./support/clan.mjs";
import { closeClients, socketIo } from "./support/clients.mjs";
import { startGateway } from "./support/gateway.mjs";
import { startPeer, startPeerProcess } from "./support/peer.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { tokenOf } from "./support/token.mjs";

/** A node of HomeTrip's that is in the directory. */
async function startNode(redis, start = startGateway, mode = "classic") {
  const node = await start({ shards: 2, env: { ...redis.env, REDIS_ADAPTER_MODE: mode } });
  node.isHere = () => until(async () => (await node.get("/health/ready")).json, ({ parts }) => parts.directory.state === "connected" && parts.bus.state === "connected", "the directory");
  await node.isHere();
  return node;
}

const keysOf = (redis) => new Keys(redis.url).on("error", () => {});

async function keysNow(redis, ask) {
  const keys = keysOf(redis);
  try {
    return await ask(keys);
  } finally {
    await keys.quit();
  }
}

let number = 0;
const fresh = (what) => `${what}-${(number += 1)}`;

async function user(node, userId = fresh("user"), conversation = undefined) {
  const client = socketIo(node.url, { token: tokenOf(userId), name: userId, reconnection: false });
  client.userId = userId;
  client.greeting = await client.next("connected");
  client.joins = (roomId) => client.ask("join_room", { roomType: "conversation", roomId });
  client.told = (status, of) => client.next("presence_update", (update) => update.userId === of && update.status === status);
  client.tellings = (of) => client.events.items.filter(({ event, args }) => event === "presence_update" && args[0].userId === of).map(({ args }) => args[0].status);
  client.presence = async (...userIds) => (await client.ask("get_presence", { userIds })).presence;
  if (conversation) assert.equal((await client.joins(conversation)).success, true);
  return client;
}

describe("who is here, on three nodes", () => {
  let redis;
  let keys;
  let nodes;
  before(async () => {
    redis = await Redis.start();
    keys = keysOf(redis);
    nodes = await Promise.all([startNode(redis), startNode(redis), startNode(redis)]);
  });
  after(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await keys.quit();
    await redis.kill();
  });
  afterEach(closeClients);

  it("is told once of a user with sockets on several nodes, and that the user is gone when the last one is", async () => {
    const conversation = fresh("trip");
    const watcher = await user(nodes[0], undefined, conversation);
    const first = await user(nodes[1], undefined, conversation);
    await watcher.told("online", first.userId);
    const second = await user(nodes[2], first.userId, conversation);
    const third = await user(nodes[0], first.userId, conversation);
    first.close();
    third.close();
    const other = await user(nodes[2], undefined, conversation);
    await watcher.told("online", other.userId);
    assert.equal((await watcher.presence(first.userId))[first.userId].online, true);
    second.close();
    const gone = await watcher.told("offline", first.userId);
    assert.ok(gone.lastSeen);
    assert.deepEqual(watcher.tellings(first.userId), ["online", "offline"]);
    const seen = (await other.presence(first.userId))[first.userId];
    assert.deepEqual([seen.online, typeof seen.lastSeen], [false, "string"]);
  });

  it("is not told that a user is gone who moved to another node within the grace", async () => {
    const conversation = fresh("trip");
    const watcher = await user(nodes[0], undefined, conversation);
    const before = await user(nodes[1], undefined, conversation);
    await watcher.told("online", before.userId);
    before.close();
    await user(nodes[2], before.userId, conversation);
    // Who goes later and is told to be gone proves that the time of the other is over.
    const later = await user(nodes[1], undefined, conversation);
    await watcher.told("online", later.userId);
    later.close();
    await watcher.told("offline", later.userId);
    assert.ok(!watcher.tellings(before.userId).includes("offline"));
  });

  it("is written on and on while users come and go at once", async () => {
    for (let n = 0; n < 40; n += 1) {
      const some = await Promise.all(Array.from({ length: 25 }, (_, index) => user(nodes[index % 3])));
      for (const { close } of some) close();
    }
    await until(async () => (await nodes[0].api("GET", "/api/rooms")).json.rooms, (rooms) => !Object.keys(rooms).some((room) => room.startsWith("user:user-")), "all to be gone");
    for (const { log } of nodes) assert.deepEqual(log.items.filter(({ message }) => message === "directory is away"), []);
  });

  it("stands in every node's documents and server API", async () => {
    const conversation = fresh("trip");
    const all = await Promise.all(nodes.map((node) => user(node, undefined, conversation)));
    const ids = all.map(({ userId }) => userId).sort();
    for (const node of nodes) {
      const members = await until(async () => (await node.api("GET", `/api/rooms/${encodeURIComponent(`conversation:${conversation}`)}`)).json, ({ members }) => members === 3, "all members");
      assert.deepEqual(members.sockets.map(({ userId }) => userId).sort(), ids);
      assert.deepEqual(members.sockets.map(({ socketId }) => socketId).sort(), all.map(({ socket }) => socket.id).sort());
      assert.equal((await node.api("GET", "/api/rooms")).json.rooms[`conversation:${conversation}`], 3);
      for (const id of ids) assert.equal((await node.api("GET", `/api/presence/${id}`)).json.online, true);
    }
  });

  it("stands in Redis for operators, each socket at its own key, for as long as it is there", async () => {
    const conversation = fresh("trip");
    const client = await user(nodes[1], undefined, conversation);
    const key = `ws:socket:${client.socket.id}`;
    const value = JSON.parse(await until(() => keys.get(key), (value) => value?.includes(conversation), "the socket's key"));
    assert.deepEqual([value.socketId, value.userId, value.rooms.sort()], [client.socket.id, client.userId, [`conversation:${conversation}`, `user:${client.userId}`]]);
    assert.match(value.connectedAt, /^\d{4}-\d\d-\d\dT/);
    assert.equal(typeof value.node, "string");
    assert.equal(value.claims, undefined, "what stands in tokens is not for operators");
    assert.ok((await keys.ttl(key)) > 60);
    client.close();
    await until(() => keys.get(key), (value) => value === null, "the key to be gone");
  });
});

describe("a Node server beside the gateways", () => {
  afterEach(closeClients);

  for (const [adapter, mode] of [[8, "classic"], [6, "classic"], ["sharded", "sharded"]]) it(`has its sockets among those who are here (adapter: ${adapter})`, async () => {
    const redis = await Redis.start();
    const peer = await startPeerProcess(redis, { adapter });
    const nodes = await Promise.all([startNode(redis, startGateway, mode), startNode(redis, startGateway, mode)]);
    const conversation = fresh("trip");
    const id = fresh("user");
    const there = socketIo(peer.url, { auth: { userId: id } });
    await there.ask("join", { room: `conversation:${conversation}` });
    const here = await user(nodes[0], undefined, conversation);
    for (const node of nodes) {
      const path = `/api/rooms/${encodeURIComponent(`conversation:${conversation}`)}`;
      const { sockets } = await until(async () => (await node.api("GET", path)).json, ({ members }) => members === 2, "both members");
      assert.deepEqual(sockets.map(({ socketId, userId }) => [socketId, userId]).sort(), [[there.socket.id, id], [here.socket.id, here.userId]].sort());
      assert.equal((await node.api("GET", "/api/rooms")).json.rooms[`conversation:${conversation}`], 2);
      assert.equal((await node.api("GET", `/api/presence/${id}`)).json.online, true);
    }
    assert.equal((await here.presence(id))[id].online, true);
    // Who goes from a gateway to the Node server is not gone, although that was asked a moment ago and does not say by itself who comes.
    const moving = await user(nodes[1], undefined, conversation);
    await here.told("online", moving.userId);
    const asked = fresh("user");
    await socketIo(peer.url, { auth: { userId: asked } }).next("connected");
    await until(async () => (await keysNow(redis, (keys) => keys.sismember("roomcast:{socket.io}:peers:users", asked))), (is) => is === 1, "the Node server to be asked");
    moving.close();
    await socketIo(peer.url, { auth: { userId: moving.userId } }).next("connected");
    const later = await user(nodes[1], undefined, conversation);
    await here.told("online", later.userId);
    later.close();
    await here.told("offline", later.userId);
    assert.ok(!here.tellings(moving.userId).includes("offline"));
    there.close();
    await until(() => here.presence(id), (presence) => !presence[id].online, "the user to be gone");
    // In a room whose name its server wrote as a number.
    const numeric = fresh("user");
    const odd = socketIo(peer.url, { auth: { userId: numeric } });
    await odd.ask("join", { room: 42 });
    await until(() => here.presence(numeric), (presence) => presence[numeric].online, "the user in room 42");
    await peer.kill();
    await until(() => here.presence(numeric), (presence) => !presence[numeric].online, "the users of the dead one to be gone");
    assert.equal((await here.presence(here.userId))[here.userId].online, true);
    assert.equal((await nodes[1].api("GET", "/api/rooms")).json.rooms[`conversation:${conversation}`], 1);
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });

  it("keeps its users for a while when it does not answer, and health says that", async () => {
    const redis = await Redis.start();
    const peer = await startPeer(redis);
    peer.io.use((socket, next) => {
      socket.data.userId = socket.handshake.auth.userId;
      next();
    });
    // Of several namespaces the server has one, and not the first.
    const node = await startNode(redis, (options) => startGateway({ ...options, profile: "venta" }));
    const id = fresh("user");
    socketIo(peer.url, { auth: { userId: id } });
    const isOnline = async () => (await node.api("GET", `/api/presence/${id}`)).json.online;
    await until(isOnline, (online) => online, "the user on Node");
    const { adapter } = peer.io.of("/");
    adapter.pubClient.publish = async () => 0;
    const { reasons } = await until(async () => {
      assert.equal(await isOnline(), true);
      return (await node.get("/health/ready")).json;
    }, ({ reasons = [] }) => reasons.some((reason) => reason.includes("do not answer")), "the reason");
    assert.match(reasons.join(), /1 of the cluster's members do not answer/);
    delete adapter.pubClient.publish;
    await until(async () => (await node.get("/health/ready")).json, ({ reasons = [] }) => !reasons.some((reason) => reason.includes("do not answer")), "the answers");
    assert.equal(await isOnline(), true);
    await peer.close();
    await node.stop();
    await redis.kill();
  });
});

describe("a profile's documents", () => {
  afterEach(closeClients);

  it("tell of users on all nodes", async () => {
    const redis = await Redis.start();
    const start = (options) => startGateway({ profile: "marketplace", ...options });
    const nodes = await Promise.all([startNode(redis, start), startNode(redis, start)]);
    const ids = [fresh("user"), fresh("user")];
    for (const [index, node] of nodes.entries()) await socketIo(node.url, { token: tokenOf(ids[index]) }).next("connect");
    for (const node of nodes) {
      const { data } = await until(async () => (await node.get("/connected-users")).json, ({ data }) => data.count === 2, "both users");
      assert.deepEqual(data.users.sort(), ids);
      for (const id of ids) assert.equal((await node.get(`/user-status/${id}`)).json.data.isConnected, true);
    }
    await nodes[1].kill();
    const { data } = await until(async () => (await nodes[0].get("/connected-users")).json, ({ data }) => data.count === 1, "the dead node's user to be gone");
    assert.deepEqual(data.users, [ids[0]]);
    assert.equal((await nodes[0].get(`/user-status/${ids[1]}`)).json.data.isConnected, false);
    await nodes[0].stop();
    await redis.kill();
  });
});

describe("a node that dies", () => {
  let redis;
  before(async () => {
    redis = await Redis.start();
  });
  after(() => redis.kill());
  afterEach(closeClients);

  it("leaves nothing behind: the others tell who is gone, and not of those who moved", async () => {
    const nodes = await Promise.all([startNode(redis), startNode(redis), startNode(redis)]);
    const keys = keysOf(redis);
    const conversation = fresh("trip");
    const watcher = await user(nodes[0], undefined, conversation);
    const [gone, moved, both] = [await user(nodes[1], undefined, conversation), await user(nodes[1], undefined, conversation), await user(nodes[1], undefined, conversation)];
    await user(nodes[2], both.userId, conversation);
    for (const { userId } of [gone, moved, both]) await watcher.told("online", userId);
    const key = `ws:socket:${gone.socket.id}`;
    await until(() => keys.get(key), (value) => value !== null, "the socket's key");
    await nodes[1].kill();
    await user(nodes[2], moved.userId, conversation);
    await watcher.told("offline", gone.userId);
    await watcher.next("user_left", ({ userId }) => userId === gone.userId);
    await until(() => keys.get(key), (value) => value === null, "the key to be gone");
    const later = await user(nodes[2], undefined, conversation);
    await watcher.told("online", later.userId);
    later.close();
    await watcher.told("offline", later.userId);
    for (const { userId } of [moved, both]) assert.ok(!watcher.tellings(userId).includes("offline"), `${userId} is not gone`);
    assert.deepEqual(watcher.tellings(gone.userId), ["online", "offline"], "it is told once");
    const presence = await watcher.presence(gone.userId, moved.userId, both.userId);
    assert.deepEqual([gone, moved, both].map(({ userId }) => presence[userId].online), [false, true, true]);
    assert.deepEqual((await nodes[0].api("GET", `/api/rooms/${encodeURIComponent(`conversation:${conversation}`)}`)).json.members, 3);
    const left = (await keys.keys("roomcast:*")).filter((name) => !name.includes(":reaped:"));
    const alive = new Set(left.filter((name) => name.includes(":lease:")).map((name) => name.split(":").at(-1)));
    assert.equal(alive.size, 2);
    assert.deepEqual(left.filter((name) => /:(sockets|kicks|reaper):/.test(name) && !alive.has(name.split(":").at(-1))), [], "nothing of the dead one stands there");
    await Promise.all([nodes[0].stop(), nodes[2].stop()]);
    assert.deepEqual((await keys.keys("*:nodes")).concat(await keys.keys("ws:socket:*")), [], "who ends leaves nothing");
    await keys.quit();
  });

  it("was alone with nobody: it is gone all the same, and costs the others nothing", async () => {
    const nodes = await Promise.all([startNode(redis), startNode(redis)]);
    const known = () => keysNow(redis, (keys) => keys.hlen("roomcast:{socket.io}:nodes"));
    assert.equal(await known(), 2);
    await nodes[1].kill();
    await until(known, (count) => count === 1, "it to be forgotten");
    assert.deepEqual(nodes[0].log.items.filter(({ message }) => message === "directory is away"), []);
    await nodes[0].stop();
  });

  it("was only held up: it announces its users again, and they stay", async () => {
    const nodes = await Promise.all([startNode(redis), startNode(redis)]);
    const conversation = fresh("trip");
    const watcher = await user(nodes[0], undefined, conversation);
    const client = await user(nodes[1], undefined, conversation);
    await watcher.told("online", client.userId);
    nodes[1].signal("SIGSTOP");
    await watcher.told("offline", client.userId);
    nodes[1].signal("SIGCONT");
    await until(() => watcher.tellings(client.userId), (tellings) => tellings.at(-1) === "online", "the user to be there again");
    assert.equal(client.socket.connected, true);
    assert.equal((await watcher.presence(client.userId))[client.userId].online, true);
    await Promise.all(nodes.map((node) => node.stop()));
  });
});

describe("a Redis that forgets", () => {
  afterEach(closeClients);

  it("has nobody told to be gone, and who is here stands there again", async () => {
    const redis = await Redis.start();
    const nodes = await Promise.all([startNode(redis), startNode(redis)]);
    const conversation = fresh("trip");
    const watcher = await user(nodes[0], undefined, conversation);
    const stays = await user(nodes[1], undefined, conversation);
    await watcher.told("online", stays.userId);
    const members = async (node) => (await node.api("GET", `/api/rooms/${encodeURIComponent(`conversation:${conversation}`)}`)).json.members;
    const flush = async () => {
      const keys = keysOf(redis);
      await keys.flushall();
      await keys.quit();
    };
    const restart = async () => {
      await redis.kill();
      await redis.start();
    };
    for (const accident of [flush, restart]) {
      const leaving = await user(nodes[1], undefined, conversation);
      await watcher.told("online", leaving.userId);
      leaving.close();
      await accident();
      for (const node of nodes) {
        await until(() => members(node), (count) => count === 2, "all members to stand there again");
        await node.isHere();
      }
      const leaves = await user(nodes[1], undefined, conversation);
      await watcher.told("online", leaves.userId);
      leaves.close();
      // Nobody is told to be gone before one full lease has passed; then those who are.
      await watcher.told("offline", leaves.userId);
      await watcher.told("offline", leaving.userId);
      assert.ok(!watcher.tellings(stays.userId).includes("offline"), `after ${accident.name}`);
    }
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });
});

describe("a user of Redis with rights of its own", () => {
  let redis;
  let keys;
  before(async () => {
    redis = await Redis.start();
    keys = keysOf(redis);
  });
  after(async () => {
    await keys.quit();
    await redis.kill();
  });
  afterEach(closeClients);

  /** What a user of this name needs to listen, as the promises say; then, for the directory. */
  const EVENTS = ["resetchannels", "&*", "+@pubsub", "+@connection"];
  const DIRECTORY = ["~roomcast:*", "~ws:socket:*", "+@hash", "+@string", "+@list", "+@set", "+@sortedset", "+@keyspace", "+@scripting", "+multi", "+exec", "+time"];

  async function envOf(name, ...rights) {
    await keys.acl("SETUSER", name, "on", ">secret", ...rights);
    return { ...redis.env, REDIS_URL: redis.url.replace("//", `//${name}:secret@`) };
  }

  it("is enough with those that the promises name", async () => {
    const env = await envOf("all", ...EVENTS, ...DIRECTORY);
    const nodes = await Promise.all([startNode({ env }), startNode({ env })]);
    const conversation = fresh("trip");
    const watcher = await user(nodes[0], undefined, conversation);
    const client = await user(nodes[1], undefined, conversation);
    await watcher.told("online", client.userId);
    client.close();
    await watcher.told("offline", client.userId);
    // A node that dies is told for by the other, with all that this takes.
    const last = await user(nodes[1], undefined, conversation);
    await watcher.told("online", last.userId);
    await nodes[1].kill();
    await watcher.told("offline", last.userId);
    const { status, reasons } = (await nodes[0].get("/health/ready")).json;
    assert.deepEqual([status, reasons], ["ok", []]);
    await nodes[0].stop();
  });

  it("keeps nodes in the directory while what is to be told waits for the bus", async () => {
    const env = await envOf("deaf", "&roomcast:*", "+@pubsub", "+@connection", ...DIRECTORY);
    const nodes = await Promise.all(Array.from({ length: 2 }, () => startGateway({ env })));
    for (const node of nodes) await until(async () => (await node.get("/health/ready")).json, ({ parts }) => parts.directory.state === "connected", "the directory");
    const conversation = fresh("trip");
    const [stays, goes] = [await user(nodes[0], undefined, conversation), await user(nodes[0], undefined, conversation)];
    // As much as may wait, so that nothing more finds room.
    const data = "x".repeat(1_000_000);
    await Promise.all(nodes.flatMap((node) => Array.from({ length: 18 }, () => node.api("POST", "/api/publish", { rooms: ["nobody"], event: "e", data }))));
    goes.close();
    const online = async (id) => (await nodes[1].api("GET", `/api/presence/${id}`)).json.online;
    await until(() => online(goes.userId), (is) => !is, "it to be gone");
    const lease = async (of) => Number(await keys.pttl(of));
    const leases = (await keys.keys("roomcast:*:lease:*")).sort();
    assert.equal(leases.length, 2);
    // Each renewal that is seen is one that did not wait.
    for (let times = 0; times < 15; times += 1) {
      const before = await Promise.all(leases.map(lease));
      for (const [index, of] of leases.entries()) {
        let last = before[index];
        await until(async () => { const now = await lease(of); const isRenewed = now > last; last = now; return isRenewed; }, Boolean, "a renewal");
      }
    }
    assert.equal(await online(stays.userId), true);
    await Promise.all(nodes.map((node) => node.stop()));
  });

  for (const [what, rights] of [["none of the directory's", []], ["those of its keys, and not of what its scripts call", DIRECTORY.filter((right) => right !== "+@set" && right !== "+time")]]) {
    it(`leaves each node to know its own users with ${what}, and health says so`, async () => {
      const env = await envOf(`some ${rights.length}`.replace(" ", "-"), ...EVENTS, ...rights);
      const node = await startGateway({ env });
      const health = await until(async () => (await node.get("/health/ready")).json, ({ parts }) => parts.directory.state === "disconnected" && parts.bus.state === "connected", "the bus alone");
      assert.equal(health.status, "degraded");
      assert.ok(health.reasons.some((reason) => /^directory is away: .*(NOPERM|permission|can't run this command)/.test(reason)), JSON.stringify(health.reasons));
      const conversation = fresh("trip");
      const watcher = await user(node, undefined, conversation);
      const client = await user(node, undefined, conversation);
      await watcher.told("online", client.userId);
      client.close();
      await watcher.told("offline", client.userId);
      await node.stop();
    });
  }
});

describe("a Redis that does not let a node count", () => {
  for (const [mode, command] of [["classic", "numsub"], ["sharded", "shardnumsub"]]) {
    it(`is named in health, with the right that is missing (${mode})`, async () => {
      const redis = await Redis.start();
      const keys = keysOf(redis);
      await keys.acl("SETUSER", "gateway", "on", ">secret", "~*", "&*", "+@all", "-pubsub|numsub", "-pubsub|shardnumsub");
      const env = { REDIS_URL: redis.url.replace("//", "//gateway:secret@"), REDIS_ADAPTER_MODE: mode };
      const node = await startGateway({ env });
      const told = (reason) => reason.includes("count the members") && reason.includes(`+pubsub|${command}`);
      const { status, reasons } = await until(async () => (await node.get("/health/ready")).json, ({ reasons = [] }) => reasons.some(told), "the missing right");
      assert.equal(status, "degraded");
      assert.ok(!reasons.some((reason) => reason.includes("format")), JSON.stringify(reasons));
      await node.stop();
      await keys.quit();
      await redis.kill();
    });
  }
});

describe("one connection for each user, on two nodes", () => {
  let redis;
  let nodes;
  before(async () => {
    redis = await Redis.start();
    nodes = await Promise.all([startNode(redis, clan), startNode(redis, clan)]);
  });
  after(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });
  afterEach(closeClients);

  it("the newer one wins, wherever it is", async () => {
    const id = fresh("mia");
    let older = await enter(nodes[0], id);
    for (const node of [nodes[1], nodes[0], nodes[0], nodes[1]]) {
      const newer = await enter(node, id);
      assert.equal((await older.next("error")).code, "replaced");
      assert.equal((await older.closed()).close, 4409);
      older = newer;
    }
    assert.equal((await older.subscribe("war")).status, "subscribed");
  });

  it("the newer one wins, although Redis has forgotten the older one meanwhile", async () => {
    for (const forget of [() => redis.command("FLUSHALL"), async () => (await redis.kill(), redis.start())]) {
      const id = fresh("mia");
      const older = await enter(nodes[0], id);
      await forget();
      for (const node of nodes) await node.isHere();
      const newer = await enter(nodes[1], id);
      assert.equal((await older.next("error")).code, "replaced");
      assert.equal((await older.closed()).close, 4409);
      assert.equal((await newer.subscribe("war")).status, "subscribed");
    }
  });

  it("of many that come at once one is left", async () => {
    // A dozen of each of ten: which one is the last is decided on both nodes, and on two shards of each.
    await Promise.all(Array.from({ length: 10 }, async () => {
      const id = fresh("mia");
      const all = await Promise.all(Array.from({ length: 12 }, (_, index) => enter(nodes[index % 2], id).catch(() => undefined)));
      const open = () => all.filter((client) => client && client.socket.readyState === 1);
      await until(open, (open) => open.length <= 1, "one connection");
      assert.equal(open().length, 1);
      assert.equal((await open()[0].subscribe("war")).status, "subscribed");
    }));
  });
});
