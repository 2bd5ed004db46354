// Clan's clients and its services against the gateway that takes their old one's place: flat messages, RabbitMQ both ways, one connection for each user.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { clan, enter, open } from "./support/clan.mjs";
import { closeClients } from "./support/clients.mjs";
import { SHARDS, roomcast, startGateway } from "./support/gateway.mjs";
import { EventBus, Rabbit } from "./support/rabbit.mjs";
import { until } from "./support/recorder.mjs";
import { badTokens, tokenOf } from "./support/token.mjs";

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

let rabbit;
let bus;
before(async () => {
  rabbit = await Rabbit.start();
  bus = await EventBus.connect(rabbit, "clan_events");
});
after(async () => {
  await bus.close();
  await rabbit.end();
});

for (const shards of SHARDS) {
  describe(`Clan on ${shards} shard(s)`, () => {
    let gateway;
    let number = 0;
    const fresh = (what) => `${what}-${shards}-${(number += 1)}`;
    before(async () => {
      gateway = await clan({ shards, env: rabbit.env });
      // Where the chat's lines and the read notifications go.
      await bus.channel.assertQueue("sent", { durable: true });
      await bus.channel.bindQueue("sent", "clan_events", "gateway.#");
      await bus.channel.purgeQueue("sent");
    });
    after(() => gateway.stop());
    afterEach(async () => {
      closeClients();
      await bus.channel.purgeQueue("sent");
    });
    const user = (userId, options) => enter(gateway, userId, options);
    /** Has a mark said in the clan, after which nothing from before can come to its members any more. */
    const mark = async (clanId, members) => {
      const messageId = fresh("mark");
      await bus.publish("clan.message", { messageId, clanId, userId: "system", content: "mark" });
      await Promise.all(members.map((member) => member.next("chat", (line) => line.messageId === messageId)));
    };

    it("the messages of its document work as they stand there", async () => {
      const [bob, ann] = [await user("user456"), await user("user123")];
      const first = ann.events.items.find((item) => item.text);
      assert.deepEqual(first.json, { type: "connected", userId: "user123", message: "Connected to WebSocket Gateway" });
      assert.deepEqual(await ann.ask({ type: "subscribe_notifications" }, "subscription_confirmed"), { type: "subscription_confirmed", service: "notifications", status: "subscribed" });
      for (const client of [ann, bob]) {
        assert.deepEqual(await client.ask({ type: "subscribe_clan_chat", clanId: "clan123" }, "subscription_confirmed"), { type: "subscription_confirmed", service: "clan_chat", status: "subscribed", clanId: "clan123" });
      }
      const { messageId, ...sent } = await ann.ask({ type: "chat", content: "Hello!", clanId: "clan123", messageType: "TEXT" }, "message_sent");
      assert.deepEqual(sent, { type: "message_sent" });
      const { timestamp, ...line } = await bob.next("chat");
      assert.deepEqual(line, { type: "chat", messageId, userId: "user123", content: "Hello!", clanId: "clan123", messageType: "TEXT" });
      assert.match(timestamp, ISO);
      ann.send({ type: "typing", isTyping: true, clanId: "clan123" });
      const typing = await bob.next("typing");
      assert.deepEqual([typing.userId, typing.isTyping, typing.clanId], ["user123", true, "clan123"]);
      ann.send({ type: "notification_ack", notificationId: "notif123" });
      const pong = await ann.ask({ type: "ping" }, "pong");
      assert.match(pong.timestamp, ISO);
      await mark("clan123", [ann, bob]);
      assert.deepEqual(ann.lines().map((line) => line.content), ["mark"], "the sender gets no line of its own");
      assert.ok(!ann.types().includes("typing"));
    });

    describe("who gets in", () => {
      it("a token is required, and the reason of a refusal can be read", async () => {
        for (const [query, message] of [[{}, "Authentication required"], ...Object.values(badTokens()).map((token) => [{ token }, "Invalid or expired token"])]) {
          const client = open(gateway, query);
          assert.equal((await client.next("error")).message, message);
          assert.equal((await client.closed()).close, 4401);
        }
        assert.equal((await open(gateway, { userId: "ann" }).closed()).close, 4401, "a name in the query is no token");
      });

      it("the token may come as a header or as the subprotocol pair", async () => {
        const token = tokenOf("ann");
        assert.equal((await open(gateway, {}, { headers: { authorization: `Bearer ${token}` } }).next("connected")).userId, "ann");
        assert.equal((await open(gateway, {}, { protocols: ["bearer", token] }).next("connected")).userId, "ann");
      });

      it("a page that was opened from a file may connect", async () => {
        await open(gateway, { token: tokenOf("ann") }, { origin: "null" }).next("connected");
      });

      it("one connection for each user: the older one is told `replaced` and closed with 4409", async () => {
        const older = await user("mia");
        const newer = await user("mia");
        assert.equal((await older.next("error")).code, "replaced");
        assert.equal((await older.closed()).close, 4409);
        assert.equal((await newer.subscribe(fresh("clan"))).status, "subscribed");
      });
    });

    it("a user who comes twenty times at once is there once, and the numbers say so", async () => {
      const numbers = async () => (await gateway.get("/health/websocket")).json;
      const { totalConnections } = await until(numbers, ({ activeConnections }) => activeConnections === 0, "nobody to be left");
      const name = fresh("eager");
      const comers = Array.from({ length: 20 }, () => open(gateway, { token: tokenOf(name) }));
      for (const comer of comers) comer.socket.on("open", () => comer.send({ type: "subscribe_notifications" }));
      const isOver = (comer) => comer.events.items.some((item) => item.close !== undefined);
      await until(() => comers.filter((comer) => !isOver(comer)).length, (left) => left === 1, "one to be left");
      for (const comer of comers.filter(isOver)) {
        assert.equal(comer.events.items.at(-1).close, 4409);
        assert.equal(comer.events.items.at(-2).json.code, "replaced");
      }
      await comers.find((comer) => !isOver(comer)).next("subscription_confirmed");
      const now = await until(numbers, ({ activeConnections }) => activeConnections === 1, "one connection");
      assert.deepEqual(now, { totalConnections: totalConnections + 20, activeConnections: 1, connectedUsers: 1, services: { notifications: 1, clan_chat: 0 } });
    });

    describe("notifications", () => {
      const notification = (userId, more = {}) => ({ userId, id: "notif123", title: "New Message", message: "…", type: "CLAN_INVITE", data: { n: 1 }, ...more });

      it("go to the user's connection that subscribed, to nobody else, and no longer after unsubscribing", async () => {
        const [ann, bob, idle] = await Promise.all(["ann", "bob", "idle"].map((name) => user(fresh(name))));
        for (const client of [ann, bob]) await client.ask({ type: "subscribe_notifications" }, "subscription_confirmed");
        const [forAnn, forIdle] = [notification(ann.greeting.userId), notification(idle.greeting.userId)];
        await bus.publish("notification.created", forIdle);
        await bus.publish("notification.clan.invite", forAnn);
        await bus.publish("notification.created", notification(bob.greeting.userId, { id: "for bob" }));
        assert.deepEqual(await ann.next("notification"), { ...forAnn, type: "notification" });
        assert.equal((await bob.next("notification")).id, "for bob");
        const off = await ann.ask({ type: "unsubscribe_notifications" }, "subscription_confirmed");
        assert.deepEqual(off, { type: "subscription_confirmed", service: "notifications", status: "unsubscribed" });
        await bus.publish("notification.created", forAnn);
        await bus.publish("notification.created", notification(bob.greeting.userId, { id: "mark" }));
        await bob.next("notification", (data) => data.id === "mark");
        await ann.ask({ type: "ping" }, "pong");
        await idle.ask({ type: "ping" }, "pong");
        assert.deepEqual(ann.types().filter((type) => type === "notification").length, 1);
        assert.deepEqual(idle.types(), ["pong"]);
      });

      it("a user id that is a number is the same as its digits", async () => {
        const id = 4_000_000 + shards;
        const client = await user(id);
        assert.equal(client.greeting.userId, id);
        await client.ask({ type: "subscribe_notifications" }, "subscription_confirmed");
        await bus.publish("notification.created", notification(String(id)));
        await client.next("notification");
      });

      it("`notification_ack` is published with the user's id", async () => {
        const client = await user("ann");
        client.send({ type: "notification_ack", notificationId: "notif123" });
        const message = await bus.take("sent");
        assert.equal(message.fields.routingKey, "gateway.notification.acked");
        const { timestamp, ...rest } = JSON.parse(message.content);
        assert.deepEqual(rest, { userId: "ann", notificationId: "notif123" });
        assert.match(timestamp, ISO);
        assert.equal(message.properties.deliveryMode, 2, "it outlives the broker's restart");
      });

      it("what is for no client is ignored, and what cannot be told is a dead letter", async () => {
        await bus.publish("clan.member.joined", { clanId: "c", userId: "u" });
        await bus.publish("notification.digest", { sent: 3 });
        const ignored = (key) => gateway.metric(`roomcast_events_ignored_total{key="${key}"}`);
        for (const key of ["clan.member.joined", "notification.digest"]) await until(() => ignored(key), (count) => count >= 1, `${key} to be ignored`);
        for (const [key, body, reason] of [
          ["notification.created", JSON.stringify({ userId: { id: 1 } }), /userId/],
          ["clan.message", JSON.stringify({ userId: "u", content: "for no clan" }), /clanId/],
          ["clan.message", "not JSON", /JSON/],
        ]) {
          await bus.publish(key, body);
          const letter = await bus.take("roomcast.dead_letter");
          assert.equal(letter.content.toString(), body);
          const { headers } = letter.properties;
          assert.deepEqual([headers["x-exchange"], headers["x-routing-key"], headers["x-queue"]], ["clan_events", key, "websocket.gateway"]);
          assert.match(headers["x-reason"], reason);
        }
      });
    });

    describe("clan chat", () => {
      it("a line is published, then told to the other members and to nobody else", async () => {
        const clanId = fresh("clan");
        const [ann, bob, carol, eve] = await Promise.all(["ann", "bob", "carol", "eve"].map((name) => user(fresh(name))));
        for (const member of [ann, bob, carol]) await member.subscribe(clanId);
        await eve.subscribe(fresh("other"));
        const { messageId } = await ann.say(clanId, "Hello ✈");
        const message = await bus.take("sent");
        assert.equal(message.fields.routingKey, "gateway.chat.sent");
        const body = JSON.parse(message.content);
        assert.deepEqual([body.messageId, message.properties.messageId], [messageId, messageId]);
        for (const member of [bob, carol]) assert.deepEqual(await member.next("chat"), { type: "chat", ...body });
        assert.deepEqual([body.userId, body.content, body.clanId, body.messageType], [ann.greeting.userId, "Hello ✈", clanId, "TEXT"]);
        await carol.ask({ type: "unsubscribe_clan_chat", clanId }, "subscription_confirmed");
        await ann.say(clanId, "again", { messageType: "EMOTE" });
        assert.equal((await bob.next("chat", (line) => line.content === "again")).messageType, "EMOTE");
        await mark(clanId, [ann, bob]);
        assert.deepEqual([ann, carol, eve].map((client) => client.lines().length), [1, 1, 0]);
      });

      it("lines of one sender arrive in their order", async () => {
        const clanId = fresh("clan");
        const [ann, bob] = [await user(fresh("ann")), await user(fresh("bob"))];
        for (const member of [ann, bob]) await member.subscribe(clanId);
        for (let n = 1; n <= 25; n += 1) ann.send({ type: "chat", content: String(n), clanId });
        await bob.next("chat", (line) => line.content === "25");
        assert.deepEqual(bob.lines().map((line) => Number(line.content)), Array.from({ length: 25 }, (_, index) => index + 1));
      });

      it("what services say goes to the clan as it came; a line that was sent here and comes back is not sent again", async () => {
        const clanId = fresh("clan");
        const [ann, bob] = [await user(fresh("ann")), await user(fresh("bob"))];
        for (const member of [ann, bob]) await member.subscribe(clanId);
        const { messageId } = await ann.say(clanId, "mine");
        const { content: own } = await bus.take("sent");
        await bus.publish("clan.message", own);
        await bus.publish("clan.message", { messageId: fresh("m"), clanId, userId: "web", content: "theirs", extra: { deep: [1] } });
        const theirs = await ann.next("chat");
        assert.deepEqual([theirs.content, theirs.extra], ["theirs", { deep: [1] }]);
        await mark(clanId, [ann, bob]);
        assert.deepEqual(bob.lines().map((line) => line.content), ["mine", "theirs", "mark"]);
        assert.equal(bob.lines()[0].messageId, messageId);
        assert.deepEqual(ann.lines().map((line) => line.content), ["theirs", "mark"]);
      });

      it("only who subscribed may speak, and type", async () => {
        const clanId = fresh("clan");
        const [ann, eve] = [await user(fresh("ann")), await user(fresh("eve"))];
        await ann.subscribe(clanId);
        assert.equal((await eve.say(clanId, "let me in")).code, "not_a_member");
        assert.equal((await eve.ask({ type: "typing", isTyping: true, clanId }, "none")).code, "not_a_member");
        await mark(clanId, [ann]);
        assert.deepEqual(ann.types(), ["subscription_confirmed", "chat"]);
        assert.equal(await bus.waiting("sent"), 0, "nothing of it was published");
      });

      it("a token with `clanIds` opens those clans alone", async () => {
        const client = await user(fresh("ann"), { claims: { clanIds: ["a", 7] } });
        assert.equal((await client.subscribe("a")).status, "subscribed");
        assert.equal((await client.subscribe("7")).status, "subscribed");
        assert.equal((await client.subscribe(7)).status, "subscribed");
        assert.equal((await client.subscribe("b")).code, "forbidden");
        assert.equal((await client.say("b", "hi")).code, "not_a_member");
        const none = await user(fresh("none"), { claims: { clanIds: [] } });
        assert.equal((await none.subscribe("a")).code, "forbidden");
      });

      it("subscribing twice, or leaving what one is not in, is confirmed", async () => {
        const client = await user(fresh("ann"));
        const clanId = fresh("clan");
        for (const status of ["subscribed", "subscribed", "unsubscribed", "unsubscribed"]) {
          const type = status === "subscribed" ? "subscribe_clan_chat" : "unsubscribe_clan_chat";
          assert.deepEqual(await client.ask({ type, clanId }, "subscription_confirmed"), { type: "subscription_confirmed", service: "clan_chat", status, clanId });
        }
      });

      it("bad messages are answered with what is wrong, and the connection stays", async () => {
        const client = await user(fresh("ann"));
        const clanId = fresh("clan");
        await client.subscribe(clanId);
        for (const [message, code, named] of [
          [{ type: "chat", clanId, content: "" }, "bad_field", "content"],
          [{ type: "chat", clanId, content: "x".repeat(4001) }, "bad_field", "4000"],
          [{ type: "chat", clanId, content: 7 }, "bad_field", "content"],
          [{ type: "chat", clanId }, "bad_field", "content"],
          [{ type: "chat", content: "hi" }, "bad_field", "clanId"],
          [{ type: "chat", clanId, content: "hi", messageType: {} }, "bad_field", "messageType"],
          [{ type: "chat", clanId: "another", content: "hi" }, "not_a_member", "another"],
          [{ type: "subscribe_clan_chat" }, "bad_field", "clanId"],
          [{ type: "subscribe_clan_chat", clanId: [] }, "bad_field", "clanId"],
          [{ type: "typing", clanId, isTyping: "yes" }, "bad_field", "isTyping"],
          [{ type: "notification_ack" }, "bad_field", "notificationId"],
          [{ type: "fly" }, "unknown_command", "fly"],
          [{}, "bad_message", "type"],
          ["hello", "bad_message", "JSON"],
        ]) {
          const answer = await client.ask(message, "none");
          assert.equal(answer.code, code, `${JSON.stringify(message).slice(0, 80)}: ${JSON.stringify(answer)}`);
          assert.ok(answer.message.includes(named), answer.message);
        }
        assert.equal((await client.say(clanId, "🦀".repeat(4000))).type, "message_sent", "4,000 code points");
      });
    });

    it("operators read health, and this instance's numbers", async () => {
      const numbers = async () => (await gateway.get("/health/websocket")).json;
      const before = await until(numbers, ({ activeConnections }) => activeConnections === 0, "nobody to be left");
      const [ann, bob] = [await user(fresh("ann")), await user(fresh("bob"))];
      await ann.ask({ type: "subscribe_notifications" }, "subscription_confirmed");
      for (const client of [ann, bob]) await client.subscribe(fresh("clan"));
      await ann.subscribe(fresh("clan"));
      assert.deepEqual(await numbers(), { totalConnections: before.totalConnections + 2, activeConnections: 2, connectedUsers: 2, services: { notifications: 1, clan_chat: 2 } });
      const health = (await gateway.get("/health")).json;
      assert.deepEqual([health.status, health.rabbitmq], ["ok", "connected"]);
    });
  });
}

describe("Clan's broker and its settings", () => {
  afterEach(closeClients);

  it("broker away: the sender is told, nobody gets the line, and the connection lives on", async () => {
    const gateway = await startGateway({ profile: "clan", env: { RABBITMQ_URL: "amqp://guest:guest@127.0.0.1:1" } });
    const [ann, bob] = [await enter(gateway, "ann"), await enter(gateway, "bob")];
    for (const client of [ann, bob]) await client.subscribe("a");
    for (const message of [{ type: "chat", content: "hi", clanId: "a" }, { type: "notification_ack", notificationId: "n" }]) {
      const answer = await ann.ask(message, "message_sent");
      assert.deepEqual([answer.type, answer.code], ["error", "try_again"]);
    }
    ann.send({ type: "typing", isTyping: true, clanId: "a" });
    await bob.next("typing");
    assert.deepEqual(bob.types(), ["subscription_confirmed", "typing"]);
    await gateway.health((health) => health.status === "degraded", "the broker to be away");
    await gateway.stop();
  });

  it("no broker set: the chat is told to the members alone", async () => {
    const gateway = await startGateway({ profile: "clan" });
    const [ann, bob] = [await enter(gateway, "ann"), await enter(gateway, "bob")];
    for (const client of [ann, bob]) await client.subscribe("a");
    const { messageId } = await ann.say("a", "hi");
    assert.equal((await bob.next("chat")).messageId, messageId);
    assert.equal((await gateway.get("/health")).json.rabbitmq, "disabled");
    await gateway.stop();
  });

  it("no key set: open access, said at the start; `?userId=` names the user, else it is a guest", async () => {
    const gateway = await startGateway({ profile: "clan", env: { JWT_SECRET: "" } });
    await gateway.log.next((line) => line.level === "warn" && /access is open/.test(line.message), "the warning");
    assert.equal((await open(gateway, { userId: "ann" }).next("connected")).userId, "ann");
    const [one, other] = [await open(gateway).next("connected"), await open(gateway).next("connected")];
    assert.match(one.userId, /^guest-/);
    assert.notEqual(one.userId, other.userId);
    await gateway.stop();
  });

  it("exchange, queue and keys have variables", async () => {
    const env = { RABBITMQ_EXCHANGE: "my_exchange", RABBITMQ_QUEUE: "my.queue", RABBITMQ_CHAT_SENT_KEY: "my.sent", RABBITMQ_CLAN_KEYS: "my.#", RABBITMQ_CLAN_MESSAGE_KEY: "my.line" };
    const gateway = await clan({ env: { ...rabbit.env, ...env } });
    const services = await EventBus.connect(rabbit, "my_exchange");
    const client = await enter(gateway, "ann");
    await client.subscribe("a");
    await services.publish("my.line", { clanId: "a", userId: "web", content: "hi" });
    assert.equal((await client.next("chat")).content, "hi");
    assert.equal(await services.waiting("my.queue"), 0);
    await services.close();
    await gateway.stop();
  });

  it("the profile is clean, and its variables are listed", async () => {
    const [checked, listed] = [await roomcast(["profile", "show", "clan"]).ended, await roomcast(["profile", "env", "clan"]).ended];
    assert.equal(checked.code, 0);
    for (const name of ["RABBITMQ_EXCHANGE=clan_events", "RABBITMQ_QUEUE=websocket.gateway", "PORT=4000", "JWT_SECRET="]) assert.ok(listed.stdout.includes(name), name);
  });
});
