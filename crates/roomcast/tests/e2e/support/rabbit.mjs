// A RabbitMQ of the test's own: Debian's server as a child on private loopback ports, its data in a folder of its own. It can be killed and
// started again on the same data.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

import amqp from "amqplib";

import { freePort } from "./gateway.mjs";
import { until, within } from "./recorder.mjs";

// The scripts in /usr/sbin change to another user and to fixed folders; these do not.
const SCRIPTS = "/usr/lib/rabbitmq/bin";
const START_DEADLINE_MS = 120_000;

// Runs the port mapper, and cleans up when its input ends: with this process, whatever ended that. Each line names the server as it is now.
const KEEPER = `
epmd -port "$1" -address 127.0.0.1 & mapper=$!
while read -r pid; do server=$pid; done
kill -9 $server $mapper 2>/dev/null
wait
rm -rf "$2" || { sleep 1; rm -rf "$2"; }
`;

/** The keepers of brokers that were not ended; after the last test their brokers go, so that one that failed holds nothing up. */
const keepers = new Set();
after(() => keepers.forEach((keeper) => keeper.stdin.end()));

export class Rabbit {
  /** A broker that does not run yet. With a certificate it speaks TLS, too, on `tlsPort`. */
  static async prepare({ certificate } = {}) {
    if (!existsSync(`${SCRIPTS}/rabbitmq-server`)) throw new Error("these tests need RabbitMQ: apt-get install rabbitmq-server");
    const rabbit = new Rabbit();
    rabbit.folder = mkdtempSync(join(tmpdir(), "roomcast-rabbit-"));
    for (const part of ["home", "data", "log"]) mkdirSync(join(rabbit.folder, part));
    writeFileSync(join(rabbit.folder, "plugins"), "[].");
    [rabbit.port, rabbit.distribution, rabbit.mapper] = [await freePort(), await freePort(), await freePort()];
    if (certificate) {
      rabbit.tlsPort = await freePort();
      const { TLS_CERT_FILE: chain, TLS_KEY_FILE: key } = certificate.env;
      const settings = [`listeners.ssl.default = 127.0.0.1:${rabbit.tlsPort}`, `ssl_options.certfile = ${chain}`, `ssl_options.keyfile = ${key}`, "ssl_options.verify = verify_none"];
      writeFileSync(join(rabbit.folder, "rabbitmq.conf"), settings.join("\n"));
    }
    rabbit.url = `amqp://guest:guest@127.0.0.1:${rabbit.port}`;
    rabbit.env = { RABBITMQ_HOST: "127.0.0.1", RABBITMQ_PORT: String(rabbit.port), RABBITMQ_USER: "guest", RABBITMQ_PASSWORD: "guest" };
    rabbit.keeper = spawn("sh", ["-c", KEEPER, "keeper", String(rabbit.mapper), rabbit.folder], { stdio: ["pipe", "ignore", "ignore"] });
    keepers.add(rabbit.keeper);
    return rabbit;
  }

  /** A broker that is up. */
  static async start(options) {
    const rabbit = await Rabbit.prepare(options);
    await rabbit.start();
    return rabbit;
  }

  /** Starts it, on what it kept, and waits until it is up. */
  async start() {
    // With input allowed, the script becomes the virtual machine, so that its process id is the one to kill.
    const env = { ...this.#environment(), RABBITMQ_ALLOW_INPUT: "1" };
    this.server = spawn(`${SCRIPTS}/rabbitmq-server`, ["-noinput"], { cwd: this.folder, env, stdio: ["ignore", "pipe", "ignore"] });
    this.keeper.stdin.write(`${this.server.pid}\n`);
    let output = "";
    this.ended = new Promise((resolve) => this.server.on("close", resolve));
    const up = new Promise((resolve, reject) => {
      this.server.stdout.on("data", (data) => {
        output += data;
        if (output.includes("completed with")) resolve();
      });
      this.ended.then(() => reject(new Error(`RabbitMQ ended while starting:\n${output}`)));
    });
    await within(up, "RabbitMQ to be up", START_DEADLINE_MS);
  }

  /** Makes a user with a virtual host of its own, whatever their names. */
  async let(user, password, vhost) {
    const [who, word, where, by] = [user, password, vhost, "test"].map((text) => `<<${[...Buffer.from(text)].join(",")}>>`);
    const steps = [
      `rabbit_auth_backend_internal:add_user(${who}, ${word}, ${by})`,
      `rabbit_vhost:add(${where}, ${by})`,
      `rabbit_auth_backend_internal:set_permissions(${who}, ${where}, <<".*">>, <<".*">>, <<".*">>, ${by})`,
    ];
    await this.control("eval", `${steps.join(", ")}.`);
  }

  /** Runs `rabbitmqctl`. */
  async control(...args) {
    const child = spawn(`${SCRIPTS}/rabbitmqctl`, args, { cwd: this.folder, env: this.#environment(), stdio: ["ignore", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (data) => (errors += data));
    const code = await within(new Promise((resolve) => child.on("close", resolve)), `rabbitmqctl ${args.join(" ")}`, START_DEADLINE_MS);
    if (code !== 0) throw new Error(`rabbitmqctl ${args.join(" ")}: ${errors}`);
  }

  #environment() {
    const { folder } = this;
    return {
      PATH: process.env.PATH,
      LANG: "C.UTF-8",
      HOME: join(folder, "home"),
      RABBITMQ_NODENAME: `test${this.port}@localhost`,
      RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
      RABBITMQ_NODE_PORT: String(this.port),
      RABBITMQ_DIST_PORT: String(this.distribution),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "-kernel inet_dist_use_interface {127,0,0,1}",
      ERL_EPMD_PORT: String(this.mapper),
      ERL_EPMD_ADDRESS: "127.0.0.1",
      RABBITMQ_MNESIA_BASE: join(folder, "data"),
      RABBITMQ_LOG_BASE: join(folder, "log"),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "plugins"),
      RABBITMQ_CONF_ENV_FILE: join(folder, "none"),
      RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq"),
    };
  }

  /** Kills it as a crash would. */
  async kill() {
    this.server.kill("SIGKILL");
    await within(this.ended, "RabbitMQ to be gone");
  }

  /** Ends it for good, with all that it kept. */
  async end() {
    keepers.delete(this.keeper);
    const gone = new Promise((resolve) => this.keeper.on("close", resolve));
    this.keeper.stdin.end();
    await within(gone, "RabbitMQ's folder to be gone");
  }
}

/** How a HomeTrip service publishes: one channel, a durable topic exchange, persistent messages; here with the broker's confirm. */
export class EventBus {
  static async connect(rabbit, exchange = "hometrip_events") {
    const bus = new EventBus();
    bus.exchange = exchange;
    bus.connection = await amqp.connect(rabbit.url);
    bus.connection.on("error", () => {});
    bus.channel = await bus.connection.createConfirmChannel();
    bus.channel.on("error", () => {});
    await bus.channel.assertExchange(exchange, "topic", { durable: true });
    return bus;
  }

  /** Publishes an event; resolves when the broker has it. Bytes go as they are. */
  publish(routingKey, data, options = {}) {
    const body = Buffer.isBuffer(data) ? data : Buffer.from(typeof data === "string" ? data : JSON.stringify(data));
    return new Promise((resolve, reject) => {
      this.channel.publish(this.exchange, routingKey, body, { persistent: true, ...options }, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** The number of messages that wait in a queue. */
  async waiting(queue) {
    return (await this.channel.checkQueue(queue)).messageCount;
  }

  /** The first message of a queue, when there is one. */
  async take(queue) {
    return until(() => this.channel.get(queue, { noAck: true }), (message) => message !== false, `a message in ${queue}`);
  }

  close() {
    return this.connection.close().catch(() => {});
  }
}
