// The example that plays the servers of other people's suites, as a server of the test's own.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { Recorder, within } from "./recorder.mjs";

const BINARY = process.env.CONFORMANCE ?? fileURLToPath(new URL("../../../../../target/debug/examples/conformance", import.meta.url));

const running = new Set();
const endAll = () => running.forEach((child) => child.kill("SIGKILL"));
after(endAll);
process.on("exit", endAll);
process.on("uncaughtExceptionMonitor", endAll);

/** Starts the server of a suite and waits until it listens. `flags` are more of its arguments. */
export async function startConformance(suite, { shards = 1, flags = [] } = {}) {
  const child = spawn(BINARY, [suite, "--shards", String(shards), ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  const lines = new Recorder("the example's output");
  createInterface({ input: child.stdout }).on("line", (line) => lines.add(line));
  const ended = new Promise((resolve) => child.on("close", resolve)).then(() => running.delete(child));
  const line = await lines.next((line) => line.startsWith("listening on "), "the example to listen");
  return {
    url: `http://${line.slice("listening on ".length)}`,
    async stop() {
      child.kill("SIGINT");
      await within(ended, "the example to end");
    },
  };
}
