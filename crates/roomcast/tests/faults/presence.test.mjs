// Who is here, while nodes die and Redis forgets under people who move from node to node all the time: who is gone is told to be gone within 15 s,
// and nobody else is, ever.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { drawn } from "../e2e/support/drawn.mjs";
import { startEmitter } from "../e2e/support/peer.mjs";
import { freePort, startGateway } from "../e2e/support/gateway.mjs";
import { until } from "../e2e/support/recorder.mjs";
import { Redis } from "../e2e/support/redis.mjs";
import { Flow, Person, Watcher } from "./support/people.mjs";

const SEED = Number(process.env.SEED || Date.now() % 1_000_000);
const PEOPLE = Number(process.env.PEOPLE || 150);
const CONVERSATIONS = Array.from({ length: 10 }, (_, index) => `trip ${index}`);
const NODES = 3;
/** What services publish all the while, each second. */
const RATE = Number(process.env.RATE || 1_000);
/** Moves between two accidents. */
const MOVES = 60;
/** As long as a join's way into the directory takes at most, on a machine that is busy. */
const MOMENTS_MS = 5_000;
/** What the promises name, and as much again for a machine that is busy with other things. */
const RIGHT_MS = 2 * 15_000;

describe(`who is here, seed ${SEED}`, () => {
  const numbers = drawn(SEED);
  const draw = (list) => list[Math.floor(numbers.next().value * list.length)];
  let redis;
  let nodes;
  let watchers;
  let people;

  const isWell = (node) => until(async () => (await node.get("/health/ready")).json, ({ status, parts }) => status === "ok" && parts.directory.state === "connected", "the directory");
  const startNode = async (port) => {
    const node = await startGateway({ profile: "hometrip", shards: 2, port, env: redis.env });
    await isWell(node);
    return node;
  };
  const others = (node) => nodes.filter((other) => other !== node);
  const watchersOf = (some) => watchers.filter(({ node }) => some.includes(node));
  const watch = async (node) => watchers.push(await Watcher.come(node, [...CONVERSATIONS, "flow"]));

  /** People move to other nodes, one after the other. */
  async function moving(count, some = people) {
    for (let move = 0; move < count; move += 1) {
      const person = draw(some);
      await person.move(draw(others(person.node)), numbers.next().value < 0.5);
    }
  }

  /** The node's watchers know of everybody whether they are online. */
  const knows = (watcher, gone) =>
    until(async () => {
      const online = await watcher.online(people.map(({ userId }) => userId));
      return people.filter((person) => online.has(person.userId) === gone.includes(person)).map(({ userId }) => userId);
    }, ({ length }) => length === 0, "the right presence", RIGHT_MS);

  /** Somebody goes, and is told to be gone: whoever was taken for gone before that has been told so, too. */
  async function someoneGoes(some) {
    const last = new Person(`the last of ${watchers[0].told.length}`, CONVERSATIONS[0]);
    await last.come(some[0].node);
    last.close();
    for (const watcher of some) await until(watcher.offline, (offline) => offline.has(last.userId), "the last one to be gone", RIGHT_MS);
    return last;
  }

  before(async () => {
    redis = await Redis.start();
    nodes = await Promise.all(Array.from({ length: NODES }, async () => startNode(await freePort())));
    watchers = [];
    for (const node of nodes) await watch(node);
    people = Array.from({ length: PEOPLE }, (_, index) => new Person(`person ${index}`, CONVERSATIONS[index % CONVERSATIONS.length]));
    await Promise.all(people.map((person, index) => person.come(nodes[index % NODES])));
  });
  after(async () => {
    for (const each of [...people, ...watchers]) each.close();
    await Promise.all(nodes.map((node) => node.stop()));
    await redis.kill();
  });

  for (const round of [1, 2]) {
    it(`a node is killed under ${PEOPLE} people who move, and ${RATE} events a second (${round}): those who are gone are told to be gone, and nobody else`, async (t) => {
      await moving(MOVES);
      const dead = draw(nodes);
      const alive = others(dead);
      const left = people.filter(({ node }) => node === dead);
      const stay = people.filter(({ node }) => node !== dead);
      const gone = left.filter((_, index) => index % 2 === 0);
      const moved = left.filter((person) => !gone.includes(person));
      const sockets = left.map(({ socket }) => socket.id);
      for (const watcher of watchers) watcher.told = [];
      const emitter = startEmitter(redis);
      t.after(() => flow.stop());
      const flow = Flow.start(watchersOf(alive), RATE, (n) => emitter.emitter.to("conversation:flow").emit("flow", n));
      await until(() => flow.count, (count) => count > RATE, "events to flow");
      await dead.kill();
      const killed = Date.now();
      nodes = alive;
      // The directory is written behind the answers to joins: what came in the last moments may not be in it.
      const written = await Promise.all(left.map(async ({ socket, conversation, inSince }) => killed - inSince > MOMENTS_MS || (await redis.command("GET", `ws:socket:${socket.id}`)).includes(conversation)));
      await Promise.all(moved.map((person) => person.move(draw(alive), true)));
      const told = watchersOf(alive);
      // Others go on moving meanwhile.
      await moving(MOVES, stay);
      for (const watcher of told) {
        const missing = () => gone.filter(({ userId }) => !watcher.offline().has(userId)).map(({ userId }) => userId);
        await until(missing, ({ length }) => length === 0, "everyone who is gone to be told so", RIGHT_MS);
        await until(() => sockets.filter((id, index) => written[index] && !watcher.left.has(id)), ({ length }) => length === 0, "every socket to have left", RIGHT_MS);
        await knows(watcher, gone);
      }
      flow.stop();
      await until(flow.missing, (missing) => missing === 0, "every event to have come to the watchers of the others");
      await emitter.close();
      t.diagnostic(`right ${(Date.now() - killed) / 1000} s after the end: ${gone.length} gone, ${moved.length} moved, ${flow.count} events`);
      const last = await someoneGoes(told);
      const expected = [...gone, last, ...watchersOf([dead])].map(({ userId }) => userId).sort();
      for (const watcher of told) assert.deepEqual([...watcher.offline()].sort(), expected);

      watchers = told;
      nodes.push(await startNode(dead.port));
      await watch(nodes.at(-1));
      await Promise.all(gone.map((person) => person.come(draw(nodes))));
    });
  }

  for (const accident of ["emptied", "killed and started again"]) {
    it(`Redis is ${accident} under ${PEOPLE} people who move: nobody is told to be gone`, async () => {
      await moving(MOVES);
      for (const watcher of watchers) watcher.told = [];
      if (accident === "emptied") {
        await redis.command("FLUSHALL");
      } else {
        await redis.kill();
        await redis.start();
      }
      await moving(MOVES);
      await Promise.all(nodes.map(isWell));
      for (const watcher of watchers) await knows(watcher, []);
      // Who went before may be told to be gone once more: that it was told has been forgotten, too.
      await someoneGoes(watchers);
      for (const watcher of watchers) assert.deepEqual(people.filter(({ userId }) => watcher.offline().has(userId)), []);
      await moving(MOVES);
    });
  }
});
