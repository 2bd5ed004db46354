// Clients in other languages: their packages are fetched into the build folder the first time, and again when what is wanted changes.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { within } from "./recorder.mjs";

const BUILD = fileURLToPath(new URL("../../../../../target/e2e/", import.meta.url));
const source = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const INSTALL_DEADLINE_MS = 600_000;
const RUN_DEADLINE_MS = 120_000;

/** Runs a program to its end; gives what it printed, or says how it failed. */
function run(program, args, { deadlineMs = INSTALL_DEADLINE_MS, needs, ...options } = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
  const ended = new Promise((resolve, reject) => {
    child.on("error", () => reject(new Error(`this test needs ${program}: ${needs}`)));
    child.on("close", (code) => (code === 0 ? resolve(output) : reject(new Error(`${program} ${args.join(" ")} ended with ${code}:\n${output}`))));
  });
  return within(ended, () => `${program} ${args.join(" ")}:\n${output}`, deadlineMs).finally(() => child.kill("SIGKILL"));
}

/** Does what makes a folder of the build, unless it was done for this very content of a file. */
async function made(folder, wanted, make) {
  const stamp = join(folder, "made-for");
  const content = readFileSync(source(wanted), "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === content) return;
  mkdirSync(folder, { recursive: true });
  await make();
  writeFileSync(stamp, content);
}

/** A way to run the programs of `python/`, each with its arguments. */
export async function python() {
  const folder = join(BUILD, "python");
  const program = join(folder, "bin", "python");
  await made(folder, "python/requirements.txt", async () => {
    await run("python3", ["-m", "venv", "--clear", folder], { needs: "apt-get install python3-venv" });
    await run(program, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", source("python/requirements.txt")]);
  });
  return (name, ...args) => run(program, [source(`python/${name}`), ...args], { deadlineMs: RUN_DEADLINE_MS, env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1" } });
}

/** A way to run the client of `java/` with arguments. */
export async function java() {
  const folder = join(BUILD, "java");
  const maven = ["--quiet", "--batch-mode", "--file", source("java/pom.xml"), `-Dbuild.folder=${folder}`];
  await made(folder, "java/pom.xml", async () => {
    await run("mvn", [...maven, "dependency:copy-dependencies", `-DoutputDirectory=${folder}/libraries`], { needs: "apt-get install maven default-jdk-headless" });
  });
  const classes = join(folder, "classes");
  const path = [classes, join(folder, "libraries", "*")].join(":");
  await run("javac", ["-nowarn", "-d", classes, "-cp", path, source("java/Client.java")], { needs: "apt-get install default-jdk-headless" });
  return (...args) => run("java", ["-cp", path, "Client", ...args], { deadlineMs: RUN_DEADLINE_MS });
}
