// The server of `examples/twin.rs` for one test: the embedding API at work under real clients.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { within } from "./recorder.mjs";

const BINARY = process.env.TWIN ?? fileURLToPath(new URL("../../../../../target/debug/examples/twin", import.meta.url));

const running = new Set();
const endAll = () => running.forEach((child) => child.kill("SIGKILL"));
after(endAll);
process.on("exit", endAll);

/** Starts it and waits until it listens. Options are those of its command line: `{ connectTimeoutMs: 100 }` is `--connect-timeout-ms 100`. */
export async function startTwin({ shards = 1, ...options } = {}) {
  const more = Object.entries(options).flatMap(([name, value]) => [`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`, ...(value === true ? [] : [String(value)])]);
  const child = spawn(BINARY, ["--shards", String(shards), ...more], { stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  const ended = new Promise((resolve) => {
    child.on("close", () => {
      running.delete(child);
      resolve();
    });
  });
  const address = new Promise((resolve, reject) => {
    child.on("error", () => reject(new Error(`no program at ${BINARY}: cargo build --package roomcast --examples`)));
    createInterface({ input: child.stdout }).on("line", (line) => line.startsWith("listening on ") && resolve(line.slice("listening on ".length)));
  });
  const url = `http://${await within(address, "the example to listen")}`;
  return {
    url,
    ws: url.replace(/^http/, "ws"),
    async stop() {
      child.kill("SIGKILL");
      return within(ended, "the example to end");
    },
  };
}
