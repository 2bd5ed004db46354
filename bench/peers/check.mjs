// Whether the benchmark's servers keep their contract, asked by the protocols' own clients.
//
//   cd bench/peers && npm ci && node check.mjs [roomcast] [node] [socketioxide] [centrifuge]
//
// All of them if none is named. It builds nothing: a server that is not there fails with how to build it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { Centrifuge } from "centrifuge";
import { io } from "socket.io-client";
import { WebSocket } from "ws";

import { checkCentrifuge, checkPlain, checkSocketIo } from "./contract.mjs";

const SECRET = "a secret of the benchmark, of 32 bytes or more";
const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

const socketIo = (more) => ({ "Socket.IO": (url) => checkSocketIo({ io, url, secret: SECRET, ...more }) });
const polling = (more) => ({ "long-polling": (url) => checkSocketIo({ io, url, secret: SECRET, transports: ["polling"], ...more }) });

const SERVERS = {
  roomcast: {
    program: process.env.ROOMCAST ?? path("../../target/release/roomcast"),
    args: ["serve", "--config", path("../roomcast.toml"), "--shards", "1"],
    build: "cargo build --release -p roomcast",
    checks: { ...socketIo(), ...polling(), "plain JSON": (url) => checkPlain({ WebSocket, url, secret: SECRET }) },
  },
  node: {
    program: process.execPath,
    args: [path("node/server.mjs")],
    needs: path("node/node_modules/socket.io"),
    build: "npm ci --prefix bench/peers/node",
    checks: { ...socketIo(), ...polling() },
  },
  socketioxide: {
    program: path("socketioxide/target/release/socketioxide-peer"),
    build: "cargo build --release --manifest-path bench/peers/socketioxide/Cargo.toml",
    // It handles each message in a task of its own.
    checks: { ...socketIo({ keepsOrder: false }), ...polling({ keepsOrder: false }) },
  },
  centrifuge: {
    program: path("centrifuge/centrifuge"),
    build: "go build -C bench/peers/centrifuge",
    env: { GOMAXPROCS: "1" },
    checks: { "its protocol": (url) => checkCentrifuge({ Centrifuge, WebSocket, url, secret: SECRET }) },
  },
};

const names = process.argv.slice(2);
const unknown = names.filter((name) => !SERVERS[name]);
assert.deepEqual(unknown, [], `known servers: ${Object.keys(SERVERS).join(", ")}`);

for (const name of names.length > 0 ? names : Object.keys(SERVERS)) {
  describe(name, () => {
    for (const [dialect, check] of Object.entries(SERVERS[name].checks)) {
      it(`keeps the contract over ${dialect}, and ends at SIGTERM`, async () => {
        const server = await start(SERVERS[name]);
        try {
          await check(server.url);
        } finally {
          await server.stop();
        }
      });
    }
  });
}

async function start({ program, args = [], needs = program, build, env = {} }) {
  assert.ok(existsSync(needs), `${needs} is missing: ${build}`);
  const port = await freePort();
  const child = spawn(program, args, {
    env: { PATH: process.env.PATH, PORT: String(port), JWT_SECRET: SECRET, NODE_ENV: "production", ...env },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const end = () => child.kill("SIGKILL");
  process.once("exit", end);
  const ended = new Promise((resolve) => child.on("close", resolve));
  const gone = ended.then((code) => Promise.reject(new Error(`${program} ended with ${code}`)));
  gone.catch(() => {});
  await Promise.race([listens(port), gone]);
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      child.kill("SIGTERM");
      await ended;
      process.removeListener("exit", end);
    },
  };
}

/** Below the ports that the system gives to clients: one of these could take it before the server does. */
async function freePort() {
  for (let port = 12_000 + ((process.pid * 97) % 20_000); ; port += 1) {
    if (!(await answers(port))) return port;
  }
}

async function listens(port) {
  while (!(await answers(port))) await new Promise((resolve) => setTimeout(resolve, 20));
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.end(() => resolve(true))).on("error", () => resolve(false));
  });
}
