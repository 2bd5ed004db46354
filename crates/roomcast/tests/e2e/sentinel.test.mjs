// Redis behind Sentinel: the primary dies under load, another one takes its place, and the gateways find it by themselves.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { certificate } from "./support/certificate.mjs";
import { closeClients, connected } from "./support/clients.mjs";
import { freePort, startGateway } from "./support/gateway.mjs";
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

/** A primary and its replica, and a Sentinel that looks after them; with a certificate, all of them speak TLS to each other and to the gateways. */
async function startServers(tls) {
  const login = ["--requirepass", "secret", "--masterauth", "secret"];
  const ports = [await freePort(), await freePort()];
  const secured = (index) => {
    if (!tls) return [];
    const { TLS_CERT_FILE: chain, TLS_KEY_FILE: key } = tls.env;
    return ["--tls-port", String(ports[index]), "--tls-cert-file", chain, "--tls-key-file", key, "--tls-ca-cert-file", chain, "--tls-auth-clients", "no", "--tls-replication", "yes"];
  };
  const primary = await Redis.start(() => [...login, ...secured(0)]);
  const known = tls ? ports[0] : primary.port;
  const replica = await Redis.start(() => [...login, ...secured(1), "--replicaof", "127.0.0.1", String(known)]);
  const sentinel = await startSentinel("main", known, "secret", { own: tls && "its-own", tls });
  const env = { REDIS_SENTINEL_NAME: "main", REDIS_PASSWORD: "secret" };
  if (!tls) return { servers: [primary, replica], sentinel, env: { ...env, REDIS_SENTINELS: `127.0.0.1:1,127.0.0.1:${sentinel.port}` } };
  const secret = { REDIS_SENTINELS: `rediss://127.0.0.1:${sentinel.tlsPort}`, REDIS_SENTINEL_PASSWORD: "its-own", SSL_CERT_FILE: tls.env.TLS_CERT_FILE };
  return { servers: [primary, replica], sentinel, env: { ...env, ...secret } };
}

for (const [mode, what] of [["classic", "as it is"], ["sharded", "as it is"], ["classic", "over TLS, with a password of its own"]]) {
  describe(`nodes on a Redis that Sentinel looks after, ${mode}, ${what}`, () => {
    let servers;
    let sentinel;
    let nodes;
    before(async () => {
      let env;
      ({ servers, sentinel, env } = await startServers(what.includes("TLS") ? certificate() : undefined));
      env.REDIS_ADAPTER_MODE = mode;
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
