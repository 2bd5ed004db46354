// A Socket.IO server on Node, in one cluster with the gateway: the stock server with a Redis adapter.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { after } from "node:test";

import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { Cluster, Redis as Client } from "ioredis";
import { Server } from "socket.io";

import { until, within } from "./recorder.mjs";

const require = createRequire(import.meta.url);
const open = new Set();
after(() => Promise.all([...open].map((close) => close())));

/** A client of one Redis, or of a Redis Cluster. */
function client(redis) {
  const redisOptions = { maxRetriesPerRequest: null };
  if (redis.url) return new Client(redis.url, redisOptions);
  return new Cluster(redis.addresses, { shardedSubscribers: true, redisOptions }).on("error", () => {});
}

const adapters = {
  8: (pubClient, subClient, options) => createAdapter(pubClient, subClient, options),
  6: (pubClient, subClient, options) => require("socket.io-redis").createAdapter({ pubClient, subClient, ...options }),
  sharded: (pubClient, subClient, { key }) => createShardedAdapter(pubClient, subClient, key && { channelPrefix: key }),
};

/** A server whose clients enter the rooms that they name; `adapter` is `8` (`@socket.io/redis-adapter`), `sharded` (its other one) or `6` (`socket.io-redis`). */
export async function startPeer(redis, { adapter = 8, namespaces = ["/"], key } = {}) {
  const [pub, sub] = [client(redis), client(redis)];
  // One that subscribes before it is ready asks questions that a subscriber may not.
  await Promise.all([pub, sub].map((connection) => once(connection, "ready")));
  const factory = adapters[adapter](pub, sub, { key });
  const http = createServer();
  const io = new Server(http, { adapter: factory });
  for (const namespace of namespaces) {
    io.of(namespace).on("connection", (socket) => {
      socket.on("join", async ({ room }, done) => {
        await socket.join(room);
        done({ success: true, room });
      });
      socket.on("say", ({ room, data }) => io.of(namespace).to(room).emit("message", { room, from: "node", data }));
      socket.emit("connected", { socketId: socket.id });
    });
  }
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  const close = async () => {
    open.delete(close);
    await new Promise((resolve) => io.close(resolve));
    // The adapter asks Redis to forget each room that is empty, and nobody looks at the answer.
    await until(() => [...io._nsps.values()].every(({ sockets }) => sockets.size === 0), Boolean, "its sockets to be gone");
    await Promise.all([pub, sub].map((connection) => (connection.status === "ready" ? within(connection.quit().catch(() => {}), "Redis to say goodbye") : connection.disconnect())));
  };
  open.add(close);
  const { port } = http.address();
  return { io, port, url: `http://127.0.0.1:${port}`, close };
}

/** Such a server as a process of its own, which can be killed; its users are who they say they are. */
export async function startPeerProcess(redis, options = {}) {
  const script = `
    import { startPeer } from ${JSON.stringify(import.meta.url)};
    const { io, url } = await startPeer(${JSON.stringify({ url: redis.url })}, ${JSON.stringify(options)});
    io.use((socket, next) => {
      socket.data.userId = socket.handshake.auth.userId;
      next();
    });
    console.log(url);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("close", resolve));
  const kill = async () => {
    open.delete(kill);
    child.kill("SIGKILL");
    await ended;
  };
  open.add(kill);
  const url = new Promise((resolve) => createInterface({ input: child.stdout }).once("line", resolve));
  return { url: await within(url, "the Node server to listen"), kill };
}

/** What backend services without a server publish with. */
export function startEmitter(redis) {
  const connection = client(redis);
  const close = async () => {
    open.delete(close);
    connection.disconnect();
  };
  open.add(close);
  return { emitter: new Emitter(connection), connection, close };
}
