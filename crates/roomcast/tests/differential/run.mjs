// Plays random, reproducible scripts against the Node server and against Roomcast, and compares what a client can see. A difference must be
// one of those that `docs/differences.md` gives a reason for.
//
//   node run.mjs [SEED] [COUNT] [SHARDS]       COUNT scripts; `=N` for the script of that number alone

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";

import { DIFFERENCES, reasonFor } from "./differences.mjs";
import { play } from "./play.mjs";
import { script } from "./scripts.mjs";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const TWIN = process.env.TWIN ?? `${ROOT}target/debug/examples/twin`;
const AT_ONCE = 8;
const SHOWN_MAX = 40;
const MESSAGE_BYTES = 2_000;

const [seed = "1", wanted = "300", shards = "2"] = process.argv.slice(2);
const numbers = wanted.startsWith("=") ? [Number(wanted.slice(1))] : [...Array(Number(wanted)).keys()];
const children = [];
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/** Starts a server, and gives the addresses that it says it listens on. */
function start(program, args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return new Promise((resolve, reject) => {
    child.on("error", () => reject(new Error(`cannot start ${program}: build it with \`cargo build --package roomcast --examples\``)));
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const addresses = /^listening on (.*)$/.exec(line)?.[1].split(" ");
      if (addresses) resolve(addresses.map((address) => (address.startsWith("http") ? address : `http://${address}`)));
    });
  });
}

/** The Node server and Roomcast. */
async function startBoth(more) {
  const [[socketIo, engine], [ours]] = await Promise.all([
    start(process.execPath, [fileURLToPath(new URL("twin.mjs", import.meta.url)), String(MESSAGE_BYTES), ...more]),
    start(TWIN, ["--shards", String(shards), "--message-bytes", String(MESSAGE_BYTES), ...more]),
  ]);
  return [{ socketIo, engine }, { socketIo: ours, engine: ours }];
}

function checkReasons() {
  const page = readFileSync(`${ROOT}docs/differences.md`, "utf8");
  const headings = [...page.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading);
  const listed = DIFFERENCES.map((difference) => difference.heading);
  const faults = [
    ...listed.filter((heading) => !headings.includes(heading)).map((heading) => `docs/differences.md has no heading "${heading}"`),
    ...headings.filter((heading) => !listed.includes(heading)).map((heading) => `no difference here refers to the heading "${heading}"`),
  ];
  if (faults.length > 0) throw new Error(faults.join("\n"));
}

/** Compares step by step: the headings of the differences that are meant, and the first one that is not. Nothing is compared after a
 * difference which leaves the servers in different states. */
function compare(one, node, ours) {
  const reasons = [];
  for (const [index, step] of one.steps.entries()) {
    if (isDeepStrictEqual(node[index], ours[index])) continue;
    const differs = { index, step, node: node[index] ?? {}, ours: ours[index] ?? {} };
    const reason = reasonFor(differs, one);
    if (!reason) return { reasons, differs };
    reasons.push(reason.heading);
    if (!reason.goesOn) break;
  }
  return { reasons };
}

async function main() {
  checkReasons();
  const servers = { 3: await startBoth(["--eio3"]), 4: await startBoth([]) };
  const seen = new Map();
  const found = [];
  const waiting = [...numbers];
  let steps = 0;
  let passing = 0;
  const playBoth = async (one) => {
    const [node, ours] = await Promise.all(servers[one.revision].map((server) => play(one, server)));
    steps += node.length;
    return compare(one, node, ours);
  };
  const worker = async () => {
    while (waiting.length > 0) {
      const one = script(Number(seed), waiting.shift());
      let outcome = await playBoth(one);
      // What differs once and not again is a matter of who was quicker, which nobody promises.
      for (let again = 0; outcome.differs && again < 2; again++) {
        outcome = await playBoth(one);
        if (!outcome.differs) passing += 1;
      }
      const { reasons, differs } = outcome;
      for (const reason of reasons) seen.set(reason, (seen.get(reason) ?? 0) + 1);
      if (differs) found.push({ one, differs });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  report(found, seen, steps, passing);
  process.exit(found.length > 0 ? 1 : 0);
}

function report(found, seen, steps, passing) {
  found.sort((a, b) => a.one.number - b.one.number);
  for (const { one, differs } of found.slice(0, SHOWN_MAX)) {
    console.log(`\nscript ${one.number} (${one.kind}, revision ${one.revision})`);
    for (const step of one.steps.slice(0, differs.index + 1)) console.log(`  ${shown(step)}`);
    console.log(`  Node:     ${shown(differs.node)}\n  Roomcast: ${shown(differs.ours)}`);
  }
  for (const [heading, times] of [...seen].sort()) console.log(`as in docs/differences.md: ${heading}: ${times}`);
  console.log(`seed ${seed}, ${shards} shard(s): ${numbers.length} scripts, ${steps} steps, ${found.length} differences without a reason, ${passing} that did not come again`);
}

const shown = (value) => JSON.stringify(value)?.replace(/(x|€){50,}/g, (run) => `${run[0]}…${run.length} times`);

await main();
