// Taking an old gateway's place as `docs/migrate` tells it: beside it on queues of its own, compared with it, switched, and nothing is lost.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { closeClients } from "./support/clients.mjs";
import { SECRET, freePort, roomcast, startGateway } from "./support/gateway.mjs";
import { EventBus, Rabbit } from "./support/rabbit.mjs";
import { until } from "./support/recorder.mjs";

const DOCUMENTS = fileURLToPath(new URL("../../../../docs/migrate", import.meta.url));

/** Each gateway as its document has it: what is set beside the old one, its queues, who listens, and what they get of an event. */
const GATEWAYS = {
  hometrip: {
    beside: { RABBITMQ_QUEUE_PREFIX: "beside", REDIS_ADAPTER_KEY: "none" },
    exchange: "hometrip_events",
    queues: { "websocket.message.sent": "beside.message.sent" },
    listen: ["--emit", 'join_room {"roomType":"conversation","roomId":"42"}'],
    key: "message.sent",
    event: (n) => ({ conversationId: "42", n }),
    heard: "new_message",
  },
  marketplace: {
    beside: { RABBITMQ_QUEUE: "beside.events", REDIS_ADAPTER_KEY: "none" },
    exchange: "events",
    queues: { "websocket.events": "beside.events" },
    listen: ["--emit", 'subscribe_transfer "t1"'],
    key: "transfer.moved",
    event: (n) => ({ transferId: "t1", n, timestamp: 1 }),
    heard: "transfer:status_update",
  },
  clan: {
    beside: { RABBITMQ_QUEUE: "beside.gateway", REDIS_ADAPTER_KEY: "none" },
    exchange: "clan_events",
    queues: { "websocket.gateway": "beside.gateway" },
    listen: ["--protocol", "json", "--emit", "subscribe_notifications", "--emit", 'subscribe_clan_chat {"clanId":"clan123"}'],
    key: "clan.message",
    event: (n) => ({ clanId: "clan123", n }),
    heard: "chat",
  },
};

let rabbit;
before(async () => {
  rabbit = await Rabbit.start();
});
after(() => rabbit.end());

for (const [profile, { beside, exchange, queues, listen, key, event, heard }] of Object.entries(GATEWAYS)) {
  describe(`the place of ${profile}'s old gateway`, () => {
    let bus;
    before(async () => {
      bus = await EventBus.connect(rabbit, exchange);
    });
    after(() => bus.close());
    afterEach(closeClients);

    const start = async (env, port) => {
      const gateway = await startGateway({ profile, env: { ...rabbit.env, ...env }, port });
      await until(async () => (await gateway.get("/health/ready?strict=1")).status, (status) => status === 200, "the gateway to be ready");
      return gateway;
    };
    /** What the document's listener hears until it has heard so many events, without times. */
    const listener = async (gateway, count) => {
      const token = (await roomcast(["token", "--user", "alice"], { env: { JWT_SECRET: SECRET } }).ended).stdout.trim();
      const url = profile === "clan" ? gateway.ws : gateway.url;
      const run = roomcast(["listen", "--url", url, "--token", token, "--count", String(count), "--timeout", "30s", ...listen], {});
      return { ...run, lines: async () => (await run.ended).stdout.trim().split("\n").map((line) => line.replace(/^[^ ]* */, "")) };
    };
    /** Waits until the listener is in its rooms. */
    const isIn = async (gateway) => {
      const rooms = async () => Object.keys((await gateway.api("GET", "/api/rooms")).json.rooms);
      await until(rooms, (names) => names.some((name) => ["conversation:42", "transfer:t1", "clan:clan123"].includes(name)), "the listener to be in");
    };

    it("beside it, both get every event, the same; switched, what was published in between arrives", async () => {
      const port = await freePort();
      const old = await start({}, port);
      const trial = await start(beside);
      const published = [event(1), event(2), event(3)];
      const listeners = [];
      for (const gateway of [old, trial]) {
        // The greeting is one; the confirmations of a plain client are events, too.
        listeners.push(await listener(gateway, published.length + (profile === "clan" ? 3 : 1) + (profile === "hometrip" ? 1 : 0)));
        await isIn(gateway);
      }
      for (const data of published) await bus.publish(key, data);
      const [one, other] = await Promise.all(listeners.map(({ lines }) => lines()));
      const events = (lines) => lines.filter((line) => line.startsWith(`${heard} `)).map((line) => line.replace(/^[^ ]* */, ""));
      assert.deepEqual(events(one), events(other));
      assert.deepEqual(events(one).map((line) => JSON.parse(line).n), [1, 2, 3]);

      await trial.stop();
      for (const queue of Object.values(queues)) await bus.channel.deleteQueue(queue);
      assert.equal((await old.stop()).code, 0);
      for (let n = 4; n <= 6; n += 1) await bus.publish(key, event(n));
      for (const queue of Object.keys(queues)) assert.equal(await bus.waiting(queue), 3);
      const next = await start({}, port);
      await until(() => next.metric("roomcast_rabbitmq_acked_total"), (acked) => acked >= 3, "what waited");
      await next.stop();
    });

    it("the document names these variables and queues", () => {
      const text = readFileSync(`${DOCUMENTS}/${profile}.md`, "utf8");
      for (const [name, value] of Object.entries(beside)) assert.ok(text.includes(`${name}=${value} `), name);
      assert.ok(text.includes(`roomcast serve --profile ${profile}`));
      assert.ok(text.includes(listen.at(-1)) || profile === "marketplace", listen.at(-1));
    });
  });
}
