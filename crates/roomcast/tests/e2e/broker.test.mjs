// The broker goes and comes back, at every time at which it may: what it accepted reaches every member, and the health document tells the truth.

import assert from "node:assert/strict";
import { after, afterEach, describe, it } from "node:test";

import { closeClients, connected } from "./support/clients.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { EventBus, Rabbit } from "./support/rabbit.mjs";
import { until } from "./support/recorder.mjs";
import { tokenOf } from "./support/token.mjs";

const EVENTS_PER_SECOND = 500;
const TICK_MS = 20;

/** Services that publish all the time, and connect again whenever the broker is away. What the broker confirmed is noted. */
class Services {
  confirmed = new Set();
  #next = 0;
  #on = true;

  constructor(rabbit, conversationId) {
    this.rabbit = rabbit;
    this.done = this.#run(conversationId);
  }

  async #run(conversationId) {
    let bus;
    while (this.#on) {
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
      try {
        if (!bus) {
          bus = await EventBus.connect(this.rabbit);
          bus.connection.once("close", () => (bus = undefined));
        }
        for (let count = 0; count < (EVENTS_PER_SECOND * TICK_MS) / 1000; count += 1) {
          const n = (this.#next += 1);
          bus.publish("message.sent", { conversationId, n }).then(() => this.confirmed.add(n), () => {});
        }
      } catch {
        bus = undefined;
      }
    }
    if (bus) {
      await bus.channel.waitForConfirms().catch(() => {});
      await bus.close();
    }
  }

  more(count) {
    const goal = this.confirmed.size + count;
    return until(() => this.confirmed.size, (size) => size >= goal, `${goal} confirmed events`, 60_000);
  }

  async stop() {
    this.#on = false;
    await this.done;
  }
}

const join = async (gateway, userId, roomId, options = {}) => {
  const client = await connected(gateway.url, { token: tokenOf(userId), name: userId, ...options });
  assert.equal((await client.ask("join_room", { roomType: "conversation", roomId })).success, true);
  return client;
};
const numbers = (client) => client.events.items.filter((item) => item.event === "new_message").map((item) => item.args[0].n);

for (const shards of SHARDS) {
  describe(`the broker's life, with ${shards} shard(s)`, () => {
    const brokers = [];
    const startBroker = async () => {
      brokers.push(await Rabbit.start());
      return brokers.at(-1);
    };
    afterEach(closeClients);
    after(() => Promise.all(brokers.map((broker) => broker.end())));

    it("killed and started again under 500 events a second: every confirmed event reaches every member", async () => {
      const rabbit = await startBroker();
      const gateway = await startGateway({ shards, env: rabbit.env });
      await gateway.health((health) => health.eventBus === "connected" && health.status === "ok", "the event bus");
      const members = await Promise.all([
        ...Array.from({ length: 8 }, (_, index) => join(gateway, `member ${index}`, "42")),
        join(gateway, "polling member", "42", { transports: ["polling"] }),
      ]);
      const services = new Services(rabbit, "42");
      await services.more(500);
      await rabbit.kill();
      const away = await gateway.health((health) => health.eventBus === "disconnected", "the event bus to be away");
      assert.equal(away.status, "degraded");
      assert.equal((await gateway.get("/health")).status, 200, "clients are served");
      assert.equal((await gateway.get("/health/ready")).json.status, "degraded");
      assert.equal((await gateway.get("/health/ready?strict=1")).status, 503);
      await rabbit.start();
      await gateway.health((health) => health.eventBus === "connected" && health.status === "ok", "the event bus to be back");
      await services.more(500);
      await services.stop();
      // Each was published once: who got it twice got a redelivery, which the broker marked.
      for (const member of members) {
        const missing = () => [...services.confirmed].filter((n) => !numbers(member).includes(n));
        await until(missing, (missing) => missing.length === 0, `every event at ${member.events.name}`);
        const repeats = numbers(member).length - new Set(numbers(member)).size;
        const redelivered = await gateway.metric("roomcast_rabbitmq_redelivered_total");
        assert.ok(repeats <= redelivered, `${repeats} repeats, ${redelivered} redeliveries`);
        assert.ok(!member.names().includes("disconnect"));
      }
      assert.ok((await gateway.metric("roomcast_rabbitmq_reconnects_total")) >= 1);
      await gateway.stop();
    });

    it("the gateway is there before the broker: it serves, says so, and goes on when the broker comes", async () => {
      const rabbit = await Rabbit.prepare();
      brokers.push(rabbit);
      const gateway = await startGateway({ shards, env: rabbit.env });
      const member = await join(gateway, "ann", "42");
      const health = (await gateway.get("/health")).json;
      assert.deepEqual([health.status, health.eventBus], ["degraded", "disconnected"]);
      await rabbit.start();
      await gateway.health((health) => health.eventBus === "connected", "the event bus");
      const bus = await EventBus.connect(rabbit);
      await bus.publish("message.sent", { conversationId: "42", n: 1 });
      await member.next("new_message");
      await bus.close();
      await gateway.stop();
    });

    it("ended under 500 events a second: what it took reached every member, the rest waits for the next instance", async () => {
      const rabbit = await startBroker();
      const gateway = await startGateway({ shards, env: rabbit.env });
      await gateway.health((health) => health.eventBus === "connected", "the event bus");
      const members = await Promise.all(Array.from({ length: 100 }, (_, index) => join(gateway, `member ${index}`, "42")));
      const services = new Services(rabbit, "42");
      await services.more(300);
      assert.equal((await gateway.stop()).code, 0);
      await services.stop();
      await Promise.all(members.map((member) => member.next("disconnect")));
      const bus = await EventBus.connect(rabbit);
      const left = new Set();
      while ((await bus.waiting("websocket.message.sent")) > 0) left.add(JSON.parse((await bus.take("websocket.message.sent")).content).n);
      assert.ok(left.size > 0, "events went on while it ended");
      const taken = [...services.confirmed].filter((n) => !left.has(n));
      for (const member of members) {
        const seen = new Set(numbers(member));
        assert.deepEqual(taken.filter((n) => !seen.has(n)), [], `what ${member.events.name} missed`);
      }
      await bus.close();
    });

    it("dead letters that the broker does not take stay where they are, and health says so", async () => {
      const rabbit = await startBroker();
      const bus = await EventBus.connect(rabbit);
      await bus.channel.assertQueue("roomcast.dead_letter", { durable: true, arguments: { "x-max-length": 1, "x-overflow": "reject-publish" } });
      const gateway = await startGateway({ shards, env: rabbit.env });
      await gateway.health((health) => health.eventBus === "connected", "the event bus");
      for (let n = 1; n <= 3; n += 1) await bus.publish("message.sent", "not JSON");
      const reasons = async () => (await gateway.get("/health/ready")).json.reasons.join();
      await until(reasons, (said) => said.includes("the dead-letter queue roomcast.dead_letter does not take them"), "the reason");
      // One more has room each time; in the end all are kept, and nothing is wrong any more.
      for (let n = 1; n <= 2; n += 1) {
        assert.equal((await bus.take("roomcast.dead_letter")).content.toString(), "not JSON");
        await until(() => bus.waiting("roomcast.dead_letter"), (waiting) => waiting > 0, "the next dead letter");
      }
      await until(reasons, (said) => said === "", "no reason");
      await bus.close();
      await gateway.stop();
    });

    it("what is published while no gateway runs waits, in order, for the next one; queues of the old gateway are used as they are", async () => {
      const rabbit = await startBroker();
      const bus = await EventBus.connect(rabbit);
      // As another gateway had declared it, with arguments of its own.
      await bus.channel.assertQueue("websocket.message.sent", { durable: true, arguments: { "x-max-length": 100_000 } });
      await bus.channel.bindQueue("websocket.message.sent", "hometrip_events", "message.sent");
      const first = await startGateway({ shards, env: rabbit.env });
      await first.health((health) => health.eventBus === "connected", "the event bus");
      const member = await join(first, "ann", "42");
      await bus.publish("message.sent", { conversationId: "42", n: 0 });
      await member.next("new_message");
      assert.equal((await first.stop()).code, 0);
      for (let n = 1; n <= 300; n += 1) await bus.publish("message.sent", { conversationId: "42", n });
      assert.equal(await bus.waiting("websocket.message.sent"), 300);
      // The members of the room are back before its events are.
      await rabbit.kill();
      const second = await startGateway({ shards, env: rabbit.env });
      const again = await join(second, "ann", "42");
      await rabbit.start();
      await again.next("new_message", (data) => data.n === 300);
      assert.deepEqual(numbers(again), Array.from({ length: 300 }, (_, index) => index + 1));
      await second.stop();
    });

    it("a second gateway on the same queues says that each gets only a part of the events", async () => {
      const { env } = brokers.at(-1);
      const first = await startGateway({ shards, env });
      const alone = await first.health((health) => health.eventBus === "connected", "the event bus");
      assert.equal(alone.status, "ok");
      const second = await startGateway({ shards, env });
      await second.health((health) => health.eventBus === "connected" && health.status === "degraded", "the second to say so");
      const { json } = await second.get("/health/ready");
      assert.match(json.reasons.join(), /websocket\.message\.sent/);
      await Promise.all([first.stop(), second.stop()]);
    });

    it("a wrong password is said in the log, and does not keep clients out", async () => {
      const rabbit = brokers.at(-1);
      const gateway = await startGateway({ shards, env: { ...rabbit.env, RABBITMQ_PASSWORD: "p/w@%" } });
      const line = await gateway.log.next((line) => /RabbitMQ/.test(JSON.stringify(line)) && ["warn", "error"].includes(line.level), "a warning");
      assert.match(JSON.stringify(line), /ACCESS_REFUSED|refused/i);
      assert.ok(!JSON.stringify(gateway.log.items).includes("p/w@%"), "no password in the log");
      await join(gateway, "ann", "42");
      await gateway.stop();
    });
  });
}
