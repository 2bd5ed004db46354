// A gateway of the test's own: the built binary on a free port, in a folder of its own, with none of this process's variables.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { Recorder, until, within } from "./recorder.mjs";

export const BINARY = process.env.ROOMCAST ?? fileURLToPath(new URL("../../../../../target/debug/roomcast", import.meta.url));

export const SECRET = "a secret of the tests";
export const API_KEY = "a key of the tests";

/** The numbers of shards with which every suite runs. */
export const SHARDS = [1, 4];

/** Everything that was started and not ended: ended after the last test, so that one that failed holds nothing up, and with this process. */
const running = new Set();
const endAll = () => running.forEach((child) => child.kill("SIGKILL"));
after(endAll);
process.on("exit", endAll);
process.on("uncaughtExceptionMonitor", endAll);

/** Runs the binary to its end; gives what it printed. */
export function roomcast(args, { input = "", env = {} } = {}) {
  const child = spawn(BINARY, args, { env: { PATH: process.env.PATH, ...env }, stdio: "pipe" });
  running.add(child);
  const output = { stdout: "", stderr: "", code: null };
  child.stdout.on("data", (data) => (output.stdout += data));
  child.stderr.on("data", (data) => (output.stderr += data));
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const ended = new Promise((resolve) => {
    child.on("close", (code) => {
      running.delete(child);
      resolve({ ...output, code });
    });
  });
  return { child, output, ended: within(ended, () => `roomcast ${args.join(" ")}: ${output.stderr}`) };
}

/**
 * Starts a gateway and waits until it listens. `text` is a profile of the test's own, `dotenv` a `.env` file, `files` are further texts by their
 * paths in its folder; `args` are further options.
 */
export async function startGateway({ profile = "hometrip", text, dotenv, files = {}, shards = 1, port = 0, env = {}, args = ["--host", "127.0.0.1"] } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "roomcast-e2e-"));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  let which = ["--profile", profile];
  if (text) {
    writeFileSync(join(folder, "gateway.toml"), text);
    which = ["--config", "gateway.toml"];
  }
  if (dotenv) writeFileSync(join(folder, ".env"), dotenv);
  const child = spawn(BINARY, ["serve", ...which, "--shards", String(shards), ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH, PORT: String(port), JWT_SECRET: SECRET, API_KEY, LOG_LEVEL: "info", LOG_FORMAT: "json", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  const log = new Recorder("the gateway's log");
  createInterface({ input: child.stdout }).on("line", (line) => {
    try {
      log.add(JSON.parse(line));
    } catch {
      log.add({ message: line });
    }
  });
  let errors = "";
  child.stderr.on("data", (data) => (errors += data));
  const ended = new Promise((resolve) => {
    child.on("close", (code, signal) => {
      running.delete(child);
      rmSync(folder, { recursive: true, force: true });
      resolve({ code, signal, errors });
    });
  });
  const listening = await Promise.race([
    log.next((line) => line.message === "listening", "the gateway to listen"),
    ended.then(({ code }) => Promise.reject(new Error(`the gateway ended with ${code}: ${errors}${JSON.stringify(log.items)}`))),
  ]);
  const address = listening.address;
  const url = `http://${address}`;

  return {
    url,
    ws: `ws://${address}`,
    port: Number(address.split(":").at(-1)),
    log,
    ended,
    pid: child.pid,
    signal: (name) => child.kill(name),
    async stop() {
      child.kill("SIGTERM");
      return within(ended, "the gateway to end after SIGTERM");
    },
    async kill() {
      child.kill("SIGKILL");
      return within(ended, "the gateway to be gone");
    },
    async get(path, headers = {}) {
      const { status, body } = await ask(url + path, { headers });
      return { status, body, json: body.startsWith("{") ? JSON.parse(body) : undefined };
    },
    async api(method, path, body) {
      const headers = { authorization: `Bearer ${API_KEY}`, "content-type": "application/json" };
      const answer = await ask(url + path, { method, headers }, body === undefined ? undefined : JSON.stringify(body));
      return { status: answer.status, json: JSON.parse(answer.body) };
    },
    /** The value of a metric, summed over its labels, or of one of its rows: `name{label="value"}`. */
    async metric(name) {
      const { body } = await this.get("/metrics?format=prometheus");
      const lines = body.split("\n").filter((line) => line.startsWith(name) && /[ {]/.test(line[name.length]));
      return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
    },
    health(accept, what) {
      return until(async () => (await this.get("/health")).json, accept, what);
    },
  };
}

/** A request on a connection of its own: one that is kept for later may be closed by the gateway in the very moment of its use. */
function ask(url, options, body) {
  return new Promise((resolve, reject) => {
    const asked = request(url, { ...options, agent: false }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve({ status: answer.statusCode, body: Buffer.concat(parts).toString() }));
      answer.on("error", reject);
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

let ports = process.pid * 97;

/** A port that nobody listens on, below those that the system gives to clients: one of these could take it before its user does. */
export async function freePort() {
  for (;;) {
    const port = 12_000 + (ports++ % 20_000);
    const isFree = await new Promise((resolve) => {
      const server = createServer().once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}
