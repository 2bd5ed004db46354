// A cluster under load: three gateways on one RabbitMQ and one Redis, each behind lines of its own that can break, stock clients of each node in
// the same rooms, and services that publish all the time.

import { EventBus, Rabbit } from "../../e2e/support/rabbit.mjs";
import { Redis } from "../../e2e/support/redis.mjs";
import { freePort, roomcast, startGateway } from "../../e2e/support/gateway.mjs";
import { startLink } from "../../e2e/support/link.mjs";
import { startEmitter } from "../../e2e/support/peer.mjs";
import { until } from "../../e2e/support/recorder.mjs";
import { Ledger } from "./ledger.mjs";
import { Member } from "./member.mjs";

/** The format of the bus. Emitters speak the classic one alone. */
export const MODE = process.env.MODE || "classic";
/** The ways by which services publish. */
export const WAYS = MODE === "classic" ? ["rabbit", "emitter"] : ["rabbit"];

const NODES = 3;
const GROUPS = 10;
/** One group in so many has polling clients. */
const POLLING_EVERY = 5;
const TICK_MS = 20;
/** Publishes that the broker has not confirmed: beyond that the services wait, as when it takes none. */
const UNCONFIRMED_MAX = 1_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One gateway and its lines to Redis and RabbitMQ. It can be started again, at the same address. */
class Node {
  static async start(cluster, name) {
    const node = new Node();
    node.name = name;
    node.text = cluster.text;
    node.lines = { redis: await startLink(cluster.redis.port), rabbit: await startLink(cluster.rabbit.port) };
    node.port = await freePort();
    node.env = { ...cluster.rabbit.env, RABBITMQ_PORT: String(node.lines.rabbit.port), REDIS_URL: `redis://127.0.0.1:${node.lines.redis.port}`, REDIS_ADAPTER_MODE: MODE };
    await node.start();
    await node.isWell("a cluster");
    return node;
  }

  async start() {
    this.gateway = await startGateway({ text: this.text, shards: 2, port: this.port, env: this.env });
  }

  get url() {
    return this.gateway.url;
  }

  /** The health document, once it is as wanted. */
  health(accept, what, deadlineMs) {
    return until(async () => (await this.gateway.get("/health/ready")).json, accept, `${this.name}: ${what}`, deadlineMs);
  }

  isWell(what, deadlineMs) {
    const isUp = ({ state }) => ["connected", "disabled"].includes(state);
    return this.health(({ status, parts }) => status === "ok" && Object.values(parts).every(isUp), what, deadlineMs);
  }

  /** Whether it hears what is said to all rooms that have a member there: where each has a channel of its own, it does a moment after a join. */
  async listens() {
    if (MODE !== "sharded") return true;
    const [rooms, listened] = await Promise.all(["roomcast_rooms", "roomcast_bus_rooms"].map((name) => this.gateway.metric(name)));
    return rooms === listened;
  }

  close() {
    for (const line of Object.values(this.lines)) line.close();
  }
}

export class Cluster {
  ledger = new Ledger();
  members = [];
  #isOn = true;
  #unconfirmed = 0;
  #publishing = [];

  /** All of it, with its members in their rooms and nothing published yet. `consumers` as in a profile: who takes events from the broker's queues. */
  static async start({ consumers = "all", groups = GROUPS, hasMembers = true } = {}) {
    const cluster = new Cluster();
    cluster.groups = groups;
    const { stdout } = await roomcast(["profile", "show", "hometrip"]).ended;
    cluster.text = stdout.replace("[source.rabbitmq]\n", `[source.rabbitmq]\nconsumers = "${consumers}"\n`);
    [cluster.rabbit, cluster.redis] = await Promise.all([Rabbit.start(), Redis.start()]);
    cluster.nodes = await Promise.all(Array.from({ length: NODES }, (_, index) => Node.start(cluster, `node ${index}`)));
    for (let group = 0; hasMembers && group < groups; group += 1) {
      const transports = [group % POLLING_EVERY === 0 ? "polling" : "websocket"];
      for (const node of cluster.nodes) cluster.members.push(new Member(cluster.ledger, node, group, transports));
    }
    await cluster.everyoneIsIn();
    return cluster;
  }

  everyoneIsIn(deadlineMs) {
    const away = () => this.members.filter(({ account }) => !account.isIn).map(({ name }) => name);
    return until(away, (names) => names.length === 0, "everyone to be in", deadlineMs);
  }

  membersOf(node) {
    return this.members.filter((member) => member.node === node);
  }

  /** Publishes at this rate, by all ways alike, until the end. */
  publish(eventsPerSecond) {
    const perTick = (eventsPerSecond * TICK_MS) / 1000 / WAYS.length;
    const by = { rabbit: () => this.#publishToRabbit(perTick), emitter: () => this.#publishToRedis(perTick) };
    this.#publishing = WAYS.map((way) => by[way]());
  }

  async #publishToRabbit(perTick) {
    let bus;
    for (const due = ticks(perTick); this.#isOn; ) {
      await pause(TICK_MS);
      try {
        if (!bus) {
          bus = await EventBus.connect(this.rabbit);
          bus.connection.once("close", () => (bus = undefined));
        }
        for (let count = due.next().value; count > 0 && this.#unconfirmed < UNCONFIRMED_MAX; count -= 1) this.#publishOne(bus);
      } catch {
        bus = undefined;
      }
    }
    await bus?.close();
  }

  #publishOne(bus) {
    const group = this.ledger.next % this.groups;
    const number = this.ledger.note("rabbit", group);
    this.#unconfirmed += 1;
    const confirmed = bus.publish("message.sent", { conversationId: String(group), way: "rabbit", number });
    // What is not confirmed may have been taken or not: nobody is owed it.
    confirmed.then(() => this.ledger.taken(number), () => {}).finally(() => (this.#unconfirmed -= 1));
  }

  async #publishToRedis(perTick) {
    const { emitter, connection, close } = startEmitter(this.redis);
    const send = connection.publish.bind(connection);
    let number;
    connection.on("error", () => {});
    connection.publish = (...message) => {
      const noted = number;
      return send(...message).then(() => this.ledger.taken(noted), () => {});
    };
    for (const due = ticks(perTick); this.#isOn; ) {
      await pause(TICK_MS);
      // While it is away nothing is published: what waits for it here would all come at once.
      for (let count = connection.status === "ready" ? due.next().value : 0; count > 0; count -= 1) {
        const group = this.ledger.next % this.groups;
        number = this.ledger.note("emitter", group);
        emitter.to(`conversation:${group}`).emit("new_message", { conversationId: String(group), way: "emitter", number });
      }
    }
    await close();
  }

  /** Waits until everybody has what is owed up to this number. */
  async isSettled(to = this.ledger.next, deadlineMs = 60_000) {
    const missing = () => this.members.flatMap(({ name, account }) => account.missing(to).map(([number, way]) => ({ name, number, way })));
    const few = (all) => ({ count: all.length, first: all.slice(0, 5) });
    await until(() => few(missing()), ({ count }) => count === 0, "all that is owed", deadlineMs);
  }

  /** Publishes no more. */
  async silence() {
    this.#isOn = false;
    await Promise.all(this.#publishing);
  }

  async end() {
    await this.silence();
    for (const member of this.members) member.close();
    await Promise.all(this.nodes.map((node) => node.gateway.stop()));
    for (const node of this.nodes) node.close();
    await Promise.all([this.rabbit.end(), this.redis.kill()]);
  }
}

/** How many are due at each tick, so that a tick's fraction is not lost. */
function* ticks(perTick) {
  for (let due = perTick; ; due += perTick) {
    const whole = Math.floor(due);
    due -= whole;
    yield whole;
  }
}
