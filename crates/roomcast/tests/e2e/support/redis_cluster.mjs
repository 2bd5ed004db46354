// A Redis Cluster of the test's own: masters that share the slots, and a replica for each where one is to be killed.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { freePort } from "./gateway.mjs";
import { until } from "./recorder.mjs";
import { Redis } from "./redis.mjs";

const SLOTS = 16_384;

/** How long the others wait for a server before they take it for dead: long enough for one that a busy machine holds up. */
const NODE_TIMEOUT_MS = 4_000;

async function startServer(folder, tls) {
  const [busPort, tlsPort] = [await freePort(), await freePort()];
  // To those who come over TLS they name each other as their certificate does.
  const secured = ({ TLS_CERT_FILE: chain, TLS_KEY_FILE: key }) => [
    ...["--tls-port", String(tlsPort), "--tls-cert-file", chain, "--tls-key-file", key, "--tls-ca-cert-file", chain, "--tls-auth-clients", "no", "--tls-cluster", "yes"],
    ...["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"],
  ];
  const settings = (port) => [
    ...["--dir", folder, "--cluster-enabled", "yes", "--cluster-config-file", `nodes-${port}.conf`],
    ...["--cluster-port", String(busPort), "--cluster-node-timeout", String(NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0"],
    ...(tls ? secured(tls.env) : []),
  ];
  const server = await Redis.start(settings);
  Object.assign(server, { busPort, tlsPort });
  server.id = (await server.command("CLUSTER", "MYID")).split("\r\n").at(-1);
  return server;
}

export class RedisCluster {
  /** One that serves; with a certificate over TLS, too, where gateways find it then. */
  static async start({ masters = 3, replicas = 0, tls } = {}) {
    const cluster = new RedisCluster();
    cluster.folder = mkdtempSync(join(tmpdir(), "redis-cluster-"));
    cluster.servers = await Promise.all(Array.from({ length: masters + replicas }, () => startServer(cluster.folder, tls)));
    cluster.masters = cluster.servers.slice(0, masters);
    const [first, ...others] = cluster.servers;
    for (const { port, tlsPort, busPort } of others) await first.command("CLUSTER", "MEET", "127.0.0.1", String(tls ? tlsPort : port), String(busPort));
    const share = Math.ceil(SLOTS / masters);
    await Promise.all(cluster.masters.map((server, index) => server.command("CLUSTER", "ADDSLOTSRANGE", String(index * share), String(Math.min((index + 1) * share, SLOTS) - 1))));
    await cluster.until(`cluster_known_nodes:${masters + replicas}\r\n`, "all servers to know each other");
    for (const [index, server] of cluster.servers.slice(masters).entries()) {
      const replicate = () => server.command("CLUSTER", "REPLICATE", cluster.masters[index % masters].id).catch(() => "");
      await until(replicate, (answer) => answer === "OK", "a replica to know its master");
      await until(() => server.command("INFO", "replication"), (info) => info.includes("master_link_status:up"), "a replica to follow");
    }
    for (const server of cluster.servers) {
      const known = async () => (await server.command("CLUSTER", "NODES")).split("\n").filter((line) => /\bslave\b/.test(line)).length;
      await until(known, (count) => count === replicas, "all servers to know the replicas");
    }
    await cluster.until("cluster_state:ok", "all servers to serve");
    cluster.env = tls ? { REDIS_URL: `rediss://localhost:${first.tlsPort}`, SSL_CERT_FILE: tls.env.TLS_CERT_FILE } : { REDIS_URL: first.url };
    return cluster;
  }

  /** Waits until every server says this of the cluster. */
  async until(text, what) {
    for (const server of this.servers) await until(() => server.command("CLUSTER", "INFO"), (info) => info.includes(text), what);
  }

  /** Where clients begin. */
  get addresses() {
    return this.masters.map(({ port }) => ({ host: "127.0.0.1", port }));
  }

  slotOf = async (key) => Number(await this.servers.at(-1).command("CLUSTER", "KEYSLOT", key));

  /** The master that has a key's slot, as this server sees it. */
  async ownerOf(key, asked = this.servers.at(-1)) {
    const slot = await this.slotOf(key);
    const lines = (await asked.command("CLUSTER", "NODES")).split("\n");
    const has = (range) => {
      const [from, to = from] = range.split("-").map(Number);
      return from <= slot && slot <= to;
    };
    const owner = lines.map((line) => line.trim().split(" ")).find((words) => words.slice(8).some(has));
    return this.servers.find(({ id }) => owner?.some((word) => word.endsWith(id)));
  }

  /** Moves a slot without keys from one master to another. */
  async move(slot, from, to) {
    const set = (server, ...words) => server.command("CLUSTER", "SETSLOT", String(slot), ...words);
    // Who imports a slot takes it over with a new epoch, so that the others believe it.
    await set(to, "IMPORTING", from.id);
    await set(from, "MIGRATING", to.id);
    await set(to, "NODE", to.id);
    await set(from, "NODE", to.id);
  }

  async stop() {
    await Promise.all(this.servers.filter(({ server }) => server.exitCode === null && server.signalCode === null).map((server) => server.kill()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
