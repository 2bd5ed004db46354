// Clan's chat and its broker's accidents: what a sender is told is true, and every line reaches every member once.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { ChatService, clan, enter } from "./support/clan.mjs";
import { closeClients } from "./support/clients.mjs";
import { drawn, shuffled } from "./support/drawn.mjs";
import { SHARDS } from "./support/gateway.mjs";
import { EventBus, Rabbit } from "./support/rabbit.mjs";
import { until } from "./support/recorder.mjs";
import { startWay } from "./support/way.mjs";

// Which accident happens when is drawn from a seed: `SEED=7 ACCIDENTS=50 ./test e2e clan-broker.test.mjs` has those of seed 7, fifty of them.
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const ACCIDENTS = Number(process.env.ACCIDENTS ?? 8);
const KINDS = ["lost", "unheard", "closed", "cut", "killed"];

/** The first accidents of a seed, each kind about as often as the others. */
function accidents(seed, count) {
  const order = shuffled(drawn(seed), KINDS);
  return Array.from({ length: count }, () => order.next().value);
}

for (const shards of SHARDS) {
  describe(`Clan and its broker's accidents, on ${shards} shard(s)`, () => {
    afterEach(closeClients);

    it(`in the middle of the chat (seed ${SEED}): no line that failed is seen, no confirmed one is missing, none comes twice`, async () => {
      const own = await Rabbit.start();
      const way = await startWay(own.port);
      const gateway = await clan({ shards, env: { ...own.env, RABBITMQ_PORT: String(way.port) } });
      const services = await EventBus.connect(own, "clan_events");
      await ChatService.declare(services);
      await services.close();
      const service = new ChatService(own);
      const members = await Promise.all(Array.from({ length: 6 }, (_, index) => enter(gateway, `member ${index}`)));
      for (const member of members) await member.subscribe("war");
      const told = { sent: new Map(), failed: new Map(), unknown: new Map() };
      let isOn = true;
      const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      const talking = members.map(async (member, index) => {
        for (let n = 1; isOn; n += 1) {
          const content = `${index}: ${n}`;
          const answer = await member.say("war", content);
          if (answer.type === "message_sent") {
            told.sent.set(answer.messageId, content);
          } else if (answer.code === "unknown") {
            assert.equal(typeof answer.messageId, "string", "a retry could name the line");
            told.unknown.set(answer.messageId, content);
          } else {
            assert.equal(answer.code, "try_again");
            told.failed.set(content, answer);
          }
          await pause(answer.type === "error" ? 200 : 1);
        }
      });
      // Others say something and are gone in the same breath, whatever becomes of it.
      const passing = (async () => {
        for (let n = 1; isOn; n += 1) {
          const passer = await enter(gateway, `passer ${n}`);
          passer.send({ type: "subscribe_clan_chat", clanId: "war" });
          for (const what of ["one", "two"]) passer.send({ type: "chat", clanId: "war", content: `passer ${n}: ${what}` });
          passer.close();
          await pause(20);
        }
      })();
      const more = (what, count) => until(() => told[what].size, (size) => size >= count, `${count} lines ${what}`, 60_000);
      await more("sent", 100);
      for (const kind of accidents(SEED, ACCIDENTS)) {
        if (kind === "killed") {
          await own.kill();
          await more("failed", told.failed.size + 12);
          await gateway.health((health) => health.status === "degraded" && health.rabbitmq === "disconnected", "RabbitMQ to be away");
          await own.start();
        } else if (kind === "cut") {
          way.cut();
        } else {
          const { size } = told.unknown;
          // Until it hits the line of one that stays.
          for (let times = 0; times < 20 && told.unknown.size === size; times += 1) {
            await way.accident(kind);
            await more("sent", told.sent.size + 20);
          }
          assert.ok(told.unknown.size > size, `nobody was told of ${kind}`);
        }
        await more("sent", told.sent.size + 100);
      }
      isOn = false;
      await Promise.all([...talking, passing]);
      await gateway.health((health) => health.rabbitmq === "connected", "RabbitMQ");
      const kept = () => new Map(service.kept.map((line) => [line.messageId, line]));
      await until(() => [...told.sent.keys()].filter((id) => !kept().has(id)), (ids) => ids.length === 0, "every line at the chat service", 60_000);
      const bus = await EventBus.connect(own, "clan_events");
      await until(() => bus.waiting("chat.service"), (waiting) => waiting === 0, "the chat service to be through");
      await service.stop();
      await bus.publish("clan.message", { messageId: "the mark", clanId: "war", userId: "system", content: "mark" });
      assert.ok([...kept().values()].some((line) => line.userId.startsWith("passer")), "those who passed were heard");
      for (const [index, member] of members.entries()) {
        await member.next("chat", (line) => line.messageId === "the mark");
        const ids = member.lines().map((line) => line.messageId);
        const seen = new Set(ids);
        assert.equal(seen.size, ids.length, `none comes twice; seed ${SEED}`);
        const missing = [...kept().values()].filter((line) => line.userId !== `member ${index}` && !seen.has(line.messageId));
        assert.deepEqual(missing, [], `what the services have and ${member.events.name} missed; seed ${SEED}`);
        const failed = member.lines().filter((line) => told.failed.has(line.content));
        assert.deepEqual(failed, [], `what ${member.events.name} saw though it failed; seed ${SEED}`);
      }
      assert.deepEqual(service.kept.filter((line) => told.failed.has(line.content)), [], "what failed was not published either");
      await bus.close();
      await gateway.stop();
      way.close();
      await own.end();
    });
  });
}

describe("what Clan's broker makes of what is said", () => {
  let rabbit;
  let bus;
  let way;
  let gateway;
  before(async () => {
    rabbit = await Rabbit.start();
    bus = await EventBus.connect(rabbit, "clan_events");
    way = await startWay(rabbit.port);
    gateway = await clan({ env: { ...rabbit.env, RABBITMQ_PORT: String(way.port) } });
  });
  after(async () => {
    await gateway.stop();
    way.close();
    await bus.close();
    await rabbit.end();
  });
  afterEach(closeClients);

  /** A queue of a service's, with what is published under these keys from now on. */
  const queue = async (name, key, args = {}) => {
    await bus.channel.assertQueue(name, { durable: true, arguments: args });
    await bus.channel.bindQueue(name, "clan_events", key);
  };
  const members = async (clanId, ...names) => {
    const clients = await Promise.all(names.map((name) => enter(gateway, name)));
    for (const client of clients) await client.subscribe(clanId);
    return clients;
  };
  /** What a member has seen when all is through that was published before. */
  const seen = async (member, clanId) => {
    const messageId = `mark of ${clanId}`;
    await bus.publish("clan.message", { messageId, clanId, userId: "system", content: "mark" });
    await member.next("chat", (line) => line.messageId === messageId);
    return member.lines().map((line) => line.content);
  };
  const connections = (count) => until(async () => (await gateway.get("/health/websocket")).json.activeConnections, (open) => open === count, `${count} connections`);

  it("no confirm in five seconds: the error `unknown` with the line's id, and nobody gets the line", async () => {
    await queue("late", "gateway.chat.sent");
    const [ann, bob] = await members("late", "ann", "bob");
    way.stop();
    const { code, messageId } = await ann.say("late", "hello?");
    assert.equal(code, "unknown");
    assert.deepEqual(bob.lines(), []);
    way.goOn();
    // It arrives after all, and its service says it to the clan: the id is the one that the sender was told.
    const { content } = await bus.take("late");
    assert.equal(JSON.parse(content).messageId, messageId);
    await gateway.health((health) => health.rabbitmq === "connected", "RabbitMQ");
    await bus.publish("clan.message", content);
    assert.equal((await bob.next("chat")).messageId, messageId);
    await bus.channel.deleteQueue("late");
  });

  it("who goes before the confirm comes has said it: the others get the line, once", async () => {
    await queue("gone", "gateway.chat.sent");
    const [ann, bob] = await members("gone", "ann", "bob");
    await connections(2);
    way.stop();
    ann.send({ type: "chat", clanId: "gone", content: "bye" });
    ann.close();
    await connections(1);
    assert.deepEqual(bob.lines(), []);
    way.goOn();
    await bob.next("chat", (line) => line.content === "bye");
    await bus.publish("clan.message", (await bus.take("gone")).content);
    assert.deepEqual(await seen(bob, "gone"), ["bye", "mark"]);
    await bus.channel.deleteQueue("gone");
  });

  it("what was sent before the close is published, to the last of it", async () => {
    await queue("acked", "gateway.notification.acked");
    const [ann] = await members("acked", "ann");
    const ids = Array.from({ length: 20 }, (_, index) => index);
    for (const notificationId of ids) ann.send({ type: "notification_ack", notificationId });
    ann.close();
    const acked = [];
    for (const _ of ids) acked.push(JSON.parse((await bus.take("acked")).content).notificationId);
    assert.deepEqual(acked, ids);
    await bus.channel.deleteQueue("acked");
  });

  it("one of several queues does not take the line: it is not said to have failed, since the others have it", async () => {
    await queue("full", "gateway.chat.sent", { "x-max-length": 1, "x-overflow": "reject-publish" });
    await queue("chat", "gateway.chat.sent");
    const [ann, bob] = await members("full", "ann", "bob");
    assert.equal((await ann.say("full", "1")).type, "message_sent");
    const { code, messageId } = await ann.say("full", "2");
    assert.deepEqual([code, typeof messageId], ["unknown", "string"]);
    for (const content of ["1", "2"]) {
      const line = await bus.take("chat");
      assert.equal(JSON.parse(line.content).content, content);
      await bus.publish("clan.message", line.content);
    }
    assert.deepEqual(await seen(bob, "full"), ["1", "2", "mark"]);
    for (const name of ["full", "chat"]) await bus.channel.deleteQueue(name);
  });

  it("a line for which no service has a queue is counted, logged, and told to the clan", async () => {
    const [ann, bob] = await members("nobody", "ann", "bob");
    const returned = await gateway.metric("roomcast_rabbitmq_returned_total");
    const { messageId } = await ann.say("nobody", "anyone?");
    assert.equal((await bob.next("chat")).messageId, messageId);
    assert.equal(await gateway.metric("roomcast_rabbitmq_returned_total"), returned + 1);
    await gateway.log.next((line) => line.level === "warn" && line.message === "a message was returned", "the warning");
  });

  it("its exchange is deleted: it is made anew, with what is bound to it", async () => {
    const [ann, bob] = await members("anew", "ann", "bob");
    const reconnects = await gateway.metric("roomcast_rabbitmq_reconnects_total");
    await bus.channel.deleteExchange("clan_events");
    const codes = [];
    const answer = await until(
      async () => {
        const answer = await ann.say("anew", "hello");
        codes.push(answer.code);
        return answer;
      },
      ({ type }) => type === "message_sent",
      "a line to be sent",
    );
    assert.equal(codes[0], "unknown", "the broker closes the channel over it");
    assert.equal((await bob.next("chat")).messageId, answer.messageId);
    assert.deepEqual(await seen(bob, "anew"), ["hello", "mark"]);
    assert.equal(await gateway.metric("roomcast_rabbitmq_reconnects_total"), reconnects, "over the connection that is there");
  });

  it("it takes nothing for want of memory, and ten thousand messages come: each is answered, none that failed arrives", async () => {
    await queue("acked", "gateway.notification.acked");
    const clients = await Promise.all(Array.from({ length: 313 }, (_, index) => enter(gateway, `user ${index}`)));
    await rabbit.control("set_vm_memory_high_watermark", "absolute", "1");
    let number = 0;
    for (const client of clients) {
      for (let n = 0; n < 32; n += 1) client.send({ type: "notification_ack", notificationId: (number += 1) });
    }
    const errors = () => clients.flatMap((client) => client.events.items.filter((item) => item.json?.type === "error").map((item) => item.json));
    await until(() => errors().length, (count) => count === number, `${number} answers`, 60_000);
    const unknown = errors().filter(({ code }) => code === "unknown").length;
    assert.ok(errors().every(({ code }) => ["try_again", "unknown"].includes(code)));
    assert.ok(unknown <= 1_024, `${unknown} are unknown: those that were under way`);
    const reasons = async () => (await gateway.get("/health/ready")).json.reasons.join();
    await until(reasons, (said) => said.includes("RabbitMQ takes no messages for now"), "the reason");
    await rabbit.control("set_vm_memory_high_watermark", "0.6");
    await until(reasons, (said) => said === "", "no reason");
    // In the order of one connection: what was under way has arrived before this.
    clients[0].send({ type: "notification_ack", notificationId: "the last" });
    const arrived = [];
    while (arrived.at(-1) !== "the last") arrived.push(JSON.parse((await bus.take("acked")).content).notificationId);
    assert.ok(arrived.length - 1 <= unknown, `${arrived.length - 1} arrived, ${unknown} may have`);
    assert.equal(new Set(arrived).size, arrived.length);
    await bus.channel.deleteQueue("acked");
  });
});

describe("Clan's queue", () => {
  afterEach(closeClients);

  it("is there already, with other arguments: it is used as it is, and a second consumer of it is said", async () => {
    const rabbit = await Rabbit.start();
    const bus = await EventBus.connect(rabbit, "clan_events");
    // As the old gateway had declared it.
    await bus.channel.assertQueue("websocket.gateway", { durable: false, arguments: { "x-message-ttl": 60_000, "x-max-length": 1_000 } });
    const gateway = await clan({ env: rabbit.env });
    const ann = await enter(gateway, "ann");
    await ann.ask({ type: "subscribe_notifications" }, "subscription_confirmed");
    await bus.publish("notification.created", { userId: "ann", id: "1" });
    assert.equal((await ann.next("notification")).id, "1");
    assert.equal((await gateway.get("/health")).json.status, "ok");
    // The old gateway is still there.
    await bus.channel.consume("websocket.gateway", () => {});
    await gateway.health((health) => health.status === "degraded" && health.rabbitmq === "connected", "the second consumer to be said");
    assert.match((await gateway.get("/health/ready")).json.reasons.join(), /websocket\.gateway has 1 more consumer/);
    assert.equal((await gateway.get("/health/ready?strict=1")).status, 503);
    await bus.close();
    await gateway.health((health) => health.status === "ok", "all to be well again");
    await gateway.stop();
    await rabbit.end();
  });
});
