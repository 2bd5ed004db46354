// Nodes whose Redis goes away, stalls or hangs up: what was said reaches every member once, or whoever says it is told.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected } from "./support/clients.mjs";
import { startGateway } from "./support/gateway.mjs";
import { startLink } from "./support/link.mjs";
import { EventBus, Rabbit } from "./support/rabbit.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { tokenOf } from "./support/token.mjs";

const OUTAGE_DEADLINE_MS = 60_000;

async function startNode(redis, options = {}) {
  const gateway = await startGateway({ profile: "demo", shards: 2, ...options, env: { ...redis.env, ...options.env } });
  gateway.ready = (accept, what) => until(async () => (await gateway.get("/health/ready")).json, accept, what, OUTAGE_DEADLINE_MS);
  await gateway.ready(({ parts }) => parts.bus.state === "connected", "the bus");
  return gateway;
}

/** Each knows of the other: who was alone waits for nobody. */
async function startTwo(redis, options = {}) {
  const nodes = await Promise.all([startNode(redis, options), startNode(redis, options)]);
  for (const node of nodes) await until(() => node.metric("roomcast_bus_members"), (members) => members === 2, "both to be counted");
  return nodes;
}

async function member(url, room = "r") {
  const client = await connected(url);
  assert.deepEqual(await client.ask("join", { room }), { success: true, room });
  return client;
}

/** Says something to the room; gives the error that it was answered with, if there was one. */
async function say(client, data) {
  const answer = await client.ask("say", { room: "r", data });
  return answer.success ? undefined : answer;
}

const said = ({ events }) => events.items.filter(({ event }) => event === "message").map(({ args }) => args[0].data);
const all = (count, of) => Array.from({ length: count }, (_, index) => `${of} ${index}`);

describe("a bus that holds", () => {
  let redis;
  let nodes;
  before(async () => {
    redis = await Redis.start();
    nodes = await startTwo(redis);
  });
  after(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });
  afterEach(closeClients);

  it("has clients and services try again after a while, and loses nothing that it took", async () => {
    const [one, other] = [await member(nodes[0].url), await member(nodes[1].url)];
    await redis.kill();
    await nodes[0].ready(({ reasons }) => reasons.some((reason) => reason.includes('bus_outage = "hold"')), "the reason");
    const taken = [];
    const refused = await until(async () => {
      const data = `said ${taken.length}`;
      const error = await say(one, data);
      if (!error) taken.push(data);
      return error;
    }, Boolean, "a refusal", OUTAGE_DEADLINE_MS);
    assert.ok(taken.length > 0, "not at once");
    assert.equal(refused.code, "try_again");
    const { status, json } = await nodes[0].api("POST", "/api/publish", { event: "news", rooms: ["r"], data: 1 });
    assert.deepEqual([status, json.code], [503, "try_again"]);
    assert.deepEqual(await one.ask("join", { room: "another" }), { success: true, room: "another" }, "what is said to nobody goes on");
    assert.deepEqual(said(one), taken);
    assert.deepEqual(said(other), []);
    await redis.start();
    await until(() => say(one, "together"), (error) => !error, "the end of it");
    for (const client of [one, other]) {
      await client.next("message", ({ data }) => data === "together");
      assert.deepEqual(said(client), [...taken, "together"]);
    }
  });
});

describe("a bus that does not hold", () => {
  afterEach(closeClients);

  it("leaves what is said to the node's own members after a while", async () => {
    const redis = await Redis.start();
    const nodes = await startTwo(redis, { env: { BUS_OUTAGE: "local" } });
    const [one, same, other] = [await member(nodes[0].url), await member(nodes[0].url), await member(nodes[1].url)];
    await redis.kill();
    const isGivenUp = ({ reasons }) => reasons.some((reason) => reason.includes("this node's members alone"));
    await nodes[0].ready(isGivenUp, "the reason");
    assert.equal(await say(one, "alone"), undefined);
    await same.next("message", ({ data }) => data === "alone");
    await redis.start();
    for (const node of nodes) await node.ready(({ status }) => status === "ok", "the end of it");
    one.socket.emit("say", { room: "r", data: "together" });
    for (const client of [same, other]) await client.next("message", ({ data }) => data === "together");
    assert.deepEqual([said(same), said(other)], [["alone", "together"], ["together"]]);
    assert.ok((await nodes[0].metric('roomcast_bus_dropped_total{reason="away"}')) > 0);
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });
});

describe("a bus before a queue", () => {
  let rabbit;
  before(async () => {
    rabbit = await Rabbit.start();
  });
  after(() => rabbit.end());
  afterEach(closeClients);

  async function startTwoWithMembers(redis, env = {}) {
    const nodes = await startTwo(redis, { profile: "hometrip", env: { ...rabbit.env, ...env } });
    for (const node of nodes) await node.ready(({ parts }) => parts.rabbitmq.state === "connected", "the broker");
    const members = await Promise.all(nodes.map(async (node, index) => {
      const client = await connected(node.url, { token: tokenOf(`user-${index}`) });
      await client.ask("join_room", { roomType: "conversation", roomId: "c" });
      return client;
    }));
    return [nodes, members, await EventBus.connect(rabbit)];
  }
  const heardBy = (client, name = "new_message") => client.events.items.filter(({ event }) => event === name).map(({ args }) => args[0].n);

  it("that holds has the queue keep what it cannot tell all nodes, and every member gets all of it then", async () => {
    const redis = await Redis.start();
    const [nodes, members, bus] = await startTwoWithMembers(redis);
    await redis.kill();
    for (const node of nodes) await node.ready(({ parts }) => parts.bus.state === "disconnected", "the loss");
    for (let n = 0; n < 100; n += 1) await bus.publish("message.sent", { conversationId: "c", n });
    const received = async () => (await Promise.all(nodes.map((node) => node.metric("roomcast_rabbitmq_deliveries_total")))).reduce((sum, count) => sum + count);
    await until(received, (count) => count > 0, "deliveries");
    assert.equal((await Promise.all(nodes.map((node) => node.metric("roomcast_rabbitmq_acked_total")))).reduce((sum, count) => sum + count), 0);
    for (const client of members) assert.ok(!client.events.items.some(({ event }) => event === "new_message"));
    await redis.start();
    for (const client of members) {
      await until(() => new Set(heardBy(client)), ({ size }) => size === 100, "all of them");
      assert.equal(heardBy(client).length, 100, "once");
    }
    await bus.close();
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });

  it("that does not hold gives each delivery and publish to the members of the node that has it, after a while", async () => {
    const redis = await Redis.start();
    const [nodes, members, bus] = await startTwoWithMembers(redis, { BUS_OUTAGE: "local" });
    const acked = async () => (await Promise.all(nodes.map((node) => node.metric("roomcast_rabbitmq_acked_total")))).reduce((sum, count) => sum + count);
    await redis.kill();
    for (let n = 0; n < 100; n += 1) await bus.publish("message.sent", { conversationId: "c", n });
    await until(acked, (count) => count === 100, "the queue to be empty", OUTAGE_DEADLINE_MS);
    // Each was told to one of the two.
    assert.deepEqual(members.flatMap((client) => heardBy(client)).sort((one, other) => one - other), [...Array(100).keys()]);
    for (const [index, node] of nodes.entries()) {
      const { status, json } = await node.api("POST", "/api/publish", { event: "news", rooms: ["conversation:c"], data: { n: index } });
      assert.deepEqual([status, json.delivered], [200, 1]);
    }
    for (const [index, client] of members.entries()) {
      await client.next("news");
      assert.deepEqual(heardBy(client, "news"), [index]);
    }
    await redis.start();
    for (const node of nodes) await node.ready(({ status }) => status === "ok", "the end of it");
    await bus.publish("message.sent", { conversationId: "c", n: "together" });
    for (const client of members) await client.next("new_message", ({ n }) => n === "together");
    assert.equal(members.flatMap((client) => heardBy(client)).length, 102, "what was given up does not come late");
    await bus.close();
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });

  it("has health say that somebody consumes the queue who is no member of the cluster", async () => {
    const redis = await Redis.start();
    const [nodes, , bus] = await startTwoWithMembers(redis);
    const { consumerTag } = await bus.channel.consume("websocket.message.sent", () => {});
    for (const node of nodes) {
      const told = /queue websocket\.message\.sent has 1 more consumer\(s\) than the cluster has members/;
      const { status } = await node.ready(({ reasons = [] }) => reasons.some((reason) => told.test(reason)), "the stranger to be seen");
      assert.equal(status, "degraded");
    }
    await bus.channel.cancel(consumerTag);
    for (const node of nodes) await node.ready(({ status }) => status === "ok", "the stranger to be gone");
    await bus.close();
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });
});

describe("a connection to Redis that ends before the answers come", () => {
  afterEach(closeClients);

  it("has events published again that were out already, and every member hears them once, in order", async () => {
    const redis = await Redis.start();
    const link = await startLink(redis.port);
    const cut = await startNode({ env: { REDIS_URL: `redis://127.0.0.1:${link.port}` } });
    const whole = await startNode(redis);
    const [one, other] = [await member(cut.url), await member(whole.url)];
    one.socket.emit("say", { room: "r", data: "begin" });
    await other.next("message");
    // The next events are not sent before Redis has answered for this one.
    await until(() => cut.metric("roomcast_bus_published_total"), (count) => count === 1, "the answer of Redis");
    link.silence("from");
    for (const data of all(300, "said")) one.socket.emit("say", { room: "r", data });
    // What of these is out has no answer.
    await other.next("message", ({ data }) => data === "said 0");
    link.heal();
    link.cut();
    one.socket.emit("say", { room: "r", data: "end" });
    for (const client of [one, other]) {
      await client.next("message", ({ data }) => data === "end");
      assert.deepEqual(said(client), ["begin", ...all(300, "said"), "end"]);
    }
    assert.ok((await whole.metric("roomcast_bus_repeats_total")) > 0);
    await Promise.all([cut.stop(), whole.stop()]);
    link.close();
    await redis.kill();
  });
});

describe("a bus that has gone silent for one node", () => {
  afterEach(closeClients);

  it("takes the node out of service until it is known to be away, and works again by itself", async () => {
    const redis = await Redis.start();
    const link = await startLink(redis.port);
    const [deaf, well] = await Promise.all([startNode({ env: { REDIS_URL: `redis://127.0.0.1:${link.port}` } }), startNode(redis)]);
    const [one, other] = [await member(deaf.url), await member(well.url)];
    link.silence("from");
    const readiness = async () => {
      const { status, json } = await deaf.get("/health/ready");
      return [status, json.status, json.parts.bus.state].join(" ");
    };
    await until(readiness, (is) => is === "503 deaf deaf", "the node to be out of service", OUTAGE_DEADLINE_MS);
    // A new connection is not answered either.
    await until(readiness, (is) => is === "200 degraded disconnected", "the bus to be away", OUTAGE_DEADLINE_MS);
    link.heal();
    await deaf.ready(({ status }) => status === "ok", "the end of it");
    one.socket.emit("say", { room: "r", data: "there" });
    await other.next("message", ({ data }) => data === "there");
    other.socket.emit("say", { room: "r", data: "back" });
    await one.next("message", ({ data }) => data === "back");
    await Promise.all([deaf.stop(), well.stop()]);
    link.close();
    await redis.kill();
  });
});

describe("a Redis that hangs up on an event", () => {
  afterEach(closeClients);

  it("keeps that one from the other nodes, and nothing that comes behind it", async () => {
    // The least that it can be told to take.
    const redis = await Redis.start(() => ["--proto-max-bulk-len", "1048576"]);
    const nodes = await startTwo(redis);
    const [one, same, other] = [await member(nodes[0].url), await member(nodes[0].url), await member(nodes[1].url)];
    for (const data of all(50, "before")) one.socket.emit("say", { room: "r", data });
    one.socket.emit("say", { room: "r", data: Array(200_000).fill(0.5) });
    for (const data of all(50, "behind")) one.socket.emit("say", { room: "r", data });
    await same.next("message", ({ data }) => data === "behind 49");
    await other.next("message", ({ data }) => data === "behind 49");
    assert.deepEqual(said(other), [...all(50, "before"), ...all(50, "behind")]);
    assert.equal(await nodes[0].metric('roomcast_bus_dropped_total{reason="refused"}'), 1);
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });
});
