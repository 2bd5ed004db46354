// A Redis of the test's own: `redis-server` as a child on a private loopback port, keeping nothing. It can be killed and started again.

import { spawn, spawnSync } from "node:child_process";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { after } from "node:test";

import { freePort } from "./gateway.mjs";
import { within } from "./recorder.mjs";

const START_DEADLINE_MS = 60_000;

/** Servers that were not ended: after the last test they go, so that one that failed holds nothing up, and with this process. */
const running = new Set();
const endAll = () => running.forEach((server) => server.kill("SIGKILL"));
after(endAll);
process.on("exit", endAll);

export class Redis {
  /** A server that is up. `settings` gives its own ones, beyond the usual, for its port. */
  static async start(settings = () => []) {
    if (spawnSync("redis-server", ["--version"]).status !== 0) throw new Error("these tests need Redis 6 or newer: apt-get install redis-server");
    const redis = new Redis();
    redis.settings = settings;
    redis.port = await freePort();
    redis.url = `redis://127.0.0.1:${redis.port}`;
    redis.env = { REDIS_URL: redis.url };
    await redis.start();
    return redis;
  }

  async start() {
    const settings = ["--port", String(this.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", ...this.settings(this.port)];
    this.server = spawn("redis-server", settings, { cwd: tmpdir(), stdio: ["ignore", "pipe", "ignore"] });
    running.add(this.server);
    let output = "";
    const { server } = this;
    this.ended = new Promise((resolve) => server.on("close", resolve)).finally(() => running.delete(server));
    const up = new Promise((resolve, reject) => {
      server.stdout.on("data", (data) => {
        output += data;
        if (output.includes("Ready to accept connections")) resolve();
      });
      this.ended.then(() => reject(new Error(`Redis ended while starting:\n${output}`)));
    });
    await within(up, "Redis to be up", START_DEADLINE_MS);
  }

  /** Kills it as a crash would. */
  async kill() {
    this.server.kill("SIGKILL");
    await within(this.ended, "Redis to be gone");
  }

  /** Stands still until it goes on: connections stay, and nothing is answered. */
  pause = () => this.server.kill("SIGSTOP");
  goOn = () => this.server.kill("SIGCONT");

  /** Publishes to a channel as a service would; gives the number of subscribers. */
  async publish(channel, data) {
    return Number(await this.command("PUBLISH", channel, typeof data === "string" ? data : JSON.stringify(data)));
  }

  /** Has it do a command whose answer is a line; gives that. */
  command(...words) {
    const said = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    const answered = new Promise((resolve, reject) => {
      const socket = connect(this.port, "127.0.0.1", () => socket.write(`*${words.length}\r\n${said.join("")}`));
      let answer = "";
      socket.on("error", reject);
      socket.on("data", (data) => {
        answer += data;
        if (!answer.endsWith("\r\n")) return;
        socket.end();
        if (answer.startsWith("-")) reject(new Error(`Redis says ${answer}`));
        else resolve(answer.slice(1).trimEnd());
      });
    });
    return within(answered, "Redis to answer");
  }
}
