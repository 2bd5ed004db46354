// A Redis Sentinel of the test's own, with a configuration that it may write.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

import { Redis as Client } from "ioredis";

import { freePort } from "./gateway.mjs";
import { until } from "./recorder.mjs";

const running = new Set();
const endAll = () => running.forEach((sentinel) => sentinel.kill("SIGKILL"));
after(endAll);
process.on("exit", endAll);

/** Looks after the primary at this port, and knows its replica; takes it for dead after a second. It may have a password of its own, and with a
 * certificate it speaks TLS on `tlsPort`, and to the servers at this port. */
export async function startSentinel(name, primaryPort, password, { own, tls } = {}) {
  const [port, tlsPort] = [await freePort(), await freePort()];
  const folder = await mkdtemp(join(tmpdir(), "sentinel-"));
  const file = join(folder, "sentinel.conf");
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${folder}`,
    `sentinel monitor ${name} 127.0.0.1 ${primaryPort} 1`,
    `sentinel auth-pass ${name} ${password}`,
    `sentinel down-after-milliseconds ${name} 1000`,
    `sentinel failover-timeout ${name} 5000`,
    ...(own ? [`requirepass ${own}`] : []),
    ...(tls ? [`tls-port ${tlsPort}`, "tls-replication yes", `tls-cert-file ${tls.env.TLS_CERT_FILE}`, `tls-key-file ${tls.env.TLS_KEY_FILE}`, `tls-ca-cert-file ${tls.env.TLS_CERT_FILE}`, "tls-auth-clients no"] : []),
  ];
  await writeFile(file, `${lines.join("\n")}\n`);
  const server = spawn("redis-server", [file, "--sentinel"], { cwd: folder, stdio: "ignore" });
  running.add(server);
  const ended = new Promise((resolve) => server.on("close", resolve)).finally(() => running.delete(server));
  const stop = async () => {
    server.kill("SIGKILL");
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  const replicas = async () => {
    const asked = new Client({ port, password: own, lazyConnect: true, retryStrategy: null });
    try {
      await asked.connect();
      return await asked.sentinel("REPLICAS", name);
    } catch {
      return [];
    } finally {
      asked.disconnect();
    }
  };
  await until(replicas, ({ length }) => length === 1, "Sentinel to know the replica");
  return { port, tlsPort, stop };
}
