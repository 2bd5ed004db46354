// The sharded format among nodes: who hears what, rooms that come and go, and what is told where nodes do not agree.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected } from "./support/clients.mjs";
import { startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";

const ROOMS = 500;

async function startNode(redis, mode = "sharded") {
  const gateway = await startGateway({ profile: "demo", shards: 2, env: { ...redis.env, REDIS_ADAPTER_MODE: mode } });
  gateway.ready = (accept, what) => until(async () => (await gateway.get("/health/ready")).json, accept, what);
  return gateway;
}

const inCluster = (gateway) => gateway.ready(({ parts }) => parts.bus.state === "connected", "the bus");

const listensTo = (node, count) => until(() => node.metric("roomcast_bus_rooms"), (rooms) => rooms === count, `${count} rooms to be listened to`);

async function member(node, ...rooms) {
  const client = await connected(node.url);
  for (const room of rooms) assert.deepEqual(await client.ask("join", { room }), { success: true, room });
  return client;
}

const has = (client, data) => client.next("message", (message) => message.data === data);

describe("nodes that speak the sharded format", () => {
  let redis;
  let nodes;
  before(async () => {
    redis = await Redis.start();
    nodes = await Promise.all([1, 2, 3].map(() => startNode(redis)));
    await Promise.all(nodes.map(inCluster));
  });
  after(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });
  afterEach(async () => {
    closeClients();
    for (const node of nodes) await listensTo(node, 0);
  });

  it("cost a node without a member of an event's room nothing, not even a message", async () => {
    const speaker = await member(nodes[0], "ten");
    const members = await Promise.all(Array.from({ length: 9 }, () => member(nodes[1], "ten")));
    // A user's own room for each, and the one that they share.
    await listensTo(nodes[0], 2);
    await listensTo(nodes[1], 10);
    const bystander = await member(nodes[2], "other");
    await listensTo(nodes[2], 2);
    const before = await nodes[2].metric("roomcast_bus_messages_total");
    for (let index = 0; index < 100; index += 1) speaker.socket.emit("say", { room: "ten", data: index });
    for (const client of members) await has(client, 99);
    await nodes[0].api("POST", "/api/publish", { event: "message", data: { data: "to all" } });
    await has(bystander, "to all");
    assert.equal(await nodes[2].metric("roomcast_bus_messages_total"), before + 1);
  });

  it("listen to the rooms that have a member, however quickly they come and go, and to all of them again after Redis was away", async () => {
    const rooms = Array.from({ length: ROOMS }, (_, index) => `room ${index}`);
    const churning = await member(nodes[1]);
    const answers = rooms.flatMap((room) => [churning.ask("join", { room }), churning.ask("leave", { room })]);
    await Promise.all(answers);
    await listensTo(nodes[1], 1);
    const staying = await member(nodes[1], ...rooms);
    await listensTo(nodes[1], ROOMS + 2);
    const speaker = await member(nodes[0], rooms[0], rooms.at(-1));
    speaker.socket.emit("say", { room: rooms.at(-1), data: "before" });
    await has(staying, "before");
    await redis.kill();
    await nodes[1].ready(({ parts }) => parts.bus.state === "disconnected", "the loss");
    assert.equal(await nodes[1].metric("roomcast_bus_rooms"), 0);
    await staying.ask("leave", { room: rooms[1] });
    await redis.start();
    await listensTo(nodes[1], ROOMS + 1);
    await Promise.all(nodes.map(inCluster));
    for (const room of [rooms[0], rooms.at(-1)]) {
      speaker.socket.emit("say", { room, data: `after ${room}` });
      await has(staying, `after ${room}`);
    }
  });

  it("reach rooms whose names look like a socket's id, by the channel of all", async () => {
    const room = "a room of 20 letters";
    assert.equal(room.length, 20);
    const [one, other] = [await member(nodes[0], room), await member(nodes[1], room)];
    one.socket.emit("say", { room, data: "here" });
    await has(other, "here");
  });
});

describe("a cluster that cannot be one", () => {
  afterEach(closeClients);

  it("tells of a Redis without sharded channels", async () => {
    const redis = await Redis.start(() => ["--rename-command", "SSUBSCRIBE", ""]);
    const node = await startNode(redis);
    const { status, reasons } = await node.ready(({ parts: { bus } }) => bus.state === "disconnected", "the refusal");
    assert.equal(status, "degraded");
    assert.match(reasons.join(), /REDIS_ADAPTER_MODE.*version 7 or newer/);
    await node.stop();
    await redis.kill();
  });

  it("tells of members that speak the other format, on both sides", async () => {
    const redis = await Redis.start();
    const nodes = await Promise.all(["classic", "sharded"].map((mode) => startNode(redis, mode)));
    for (const [index, other] of ["sharded", "classic"].entries()) {
      const told = new RegExp(`speaks the ${other} format.*REDIS_ADAPTER_MODE`);
      const { status } = await nodes[index].ready(({ reasons }) => reasons.some((reason) => told.test(reason)), "the concern");
      assert.equal(status, "degraded");
    }
    await nodes[0].stop();
    await nodes[1].ready(({ status }) => status === "ok", "the concern to be over");
    await nodes[1].stop();
    await redis.kill();
  });
});
