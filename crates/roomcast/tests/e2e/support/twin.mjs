// The servers of `examples/` for one test: the embedding API at work under real clients.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { within } from "./recorder.mjs";

const binary = (name) => process.env[name.toUpperCase()] ?? fileURLToPath(new URL(`../../../../../target/debug/examples/${name}`, import.meta.url));

const running = new Set();
const endAll = () => running.forEach((child) => child.kill("SIGKILL"));
after(endAll);
process.on("exit", endAll);

export const startTwin = (options) => startExample("twin", options);

/** Starts one and waits until it listens. Options are those of its command line: `{ connectTimeoutMs: 100 }` is `--connect-timeout-ms 100`. */
export async function startExample(name, { shards = 1, ...options } = {}) {
  const more = Object.entries(options).filter(([, value]) => value !== false).flatMap(([option, value]) => [`--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`, ...(value === true ? [] : [String(value)])]);
  const child = spawn(binary(name), ["--shards", String(shards), ...more], { stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  const ended = new Promise((resolve) => {
    child.on("close", () => {
      running.delete(child);
      resolve();
    });
  });
  const address = new Promise((resolve, reject) => {
    child.on("error", () => reject(new Error(`no program at ${binary(name)}: cargo build --package roomcast --examples`)));
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
