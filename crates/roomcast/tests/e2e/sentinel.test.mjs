// Redis behind Sentinel: the primary dies under load, another one takes its place, and the gateways find it by themselves.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected } from "./support/clients.mjs";
import { startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { startSentinel } from "./support/sentinel.mjs";

async function startNode(env) {
  const gateway = await startGateway({ profile: "demo", shards: 2, env });
  gateway.ready = (accept, what) => until(async () => (await gateway.get("/health/ready")).json, accept, what);
  await gateway.ready(({ parts }) => parts.bus.state === "connected", "the bus");
  return gateway;
}

async function member(node) {
  const client = await connected(node.url);
  assert.deepEqual(await client.ask("join", { room: "r" }), { success: true, room: "r" });
  return client;
}

for (const mode of ["classic", "sharded"]) {
  describe(`nodes on a Redis that Sentinel looks after, ${mode}`, () => {
    let servers;
    let sentinel;
    let nodes;
    before(async () => {
      const primary = await Redis.start(() => ["--requirepass", "secret", "--masterauth", "secret"]);
      const replica = await Redis.start(() => ["--requirepass", "secret", "--masterauth", "secret", "--replicaof", "127.0.0.1", String(primary.port)]);
      servers = [primary, replica];
      sentinel = await startSentinel("main", primary.port, "secret");
      const env = { REDIS_SENTINELS: `127.0.0.1:1,127.0.0.1:${sentinel.port}`, REDIS_SENTINEL_NAME: "main", REDIS_PASSWORD: "secret", REDIS_ADAPTER_MODE: mode };
      nodes = await Promise.all([startNode(env), startNode(env)]);
    });
    after(async () => {
      await Promise.all(nodes.map((node) => node.stop()));
      await sentinel.stop();
      await servers[1].kill();
    });
    afterEach(closeClients);

    it("go on with the new primary when the old one dies, and tell of what is between", async () => {
      for (const node of nodes) await until(() => node.metric("roomcast_bus_members"), (members) => members === nodes.length, "both to be counted");
      const [one, other] = [await member(nodes[0]), await member(nodes[1])];
      const hears = (data) => until(() => {
        one.socket.emit("say", { room: "r", data });
        return other.events.items.some(({ event, args }) => event === "message" && args[0].data === data);
      }, Boolean, `the other to hear ${data}`);
      await hears("before");
      let number = 0;
      const load = setInterval(() => one.socket.emit("say", { room: "r", data: (number += 1) }), 5);
      await servers[0].kill();
      await nodes[0].ready(({ status, parts }) => status === "degraded" && parts.bus.state === "disconnected", "the loss");
      const said = number;
      for (const node of nodes) await node.ready(({ parts }) => parts.bus.state === "connected", "the new primary");
      await hears("after");
      clearInterval(load);
      one.socket.emit("say", { room: "r", data: "end" });
      await other.next("message", ({ data }) => data === "end");
      const heard = new Set(other.events.items.filter(({ event }) => event === "message").map(({ args }) => args[0].data));
      const missed = Array.from({ length: number - said }, (_, index) => said + 1 + index).filter((each) => !heard.has(each));
      assert.deepEqual(missed, [], "what was said after the loss was held, and came");
      for (const node of nodes) await node.ready(({ status }) => status === "ok", "everything to be well");
    });
  });
}
