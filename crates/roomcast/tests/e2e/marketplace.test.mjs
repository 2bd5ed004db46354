// Marketplace's front ends and its services against the gateway that takes their old one's place. Each row of its table of events has a test that
// names it, with those who must not get it.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, afterEach, before, describe, it } from "node:test";

import { TRANSPORTS, closeClients, connected, plain, rawSocketIo, socketIo } from "./support/clients.mjs";
import { API_KEY, SHARDS, roomcast, startGateway } from "./support/gateway.mjs";
import { angularClient, reactClient, vueClient } from "./support/marketplace_clients.mjs";
import { EventBus, Rabbit } from "./support/rabbit.mjs";
import { Recorder, until } from "./support/recorder.mjs";
import { badTokens, tokenOf } from "./support/token.mjs";

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const AT = "2026-11-20T21:44:00.000Z";

/** Who is connected while events are published: each is in the rooms that its claims and subscriptions give, and in no other. */
const CAST = {
  customer: {},
  stranger: {},
  clerk: { companyId: "acme" },
  rival: { companyId: "rivals" },
  keeper: { shopIds: ["s1", 2] },
  neighbour: { shopIds: ["s3"] },
  admin: { role: "super_admin" },
  owner: { role: "super_admin", companyId: "acme", shopIds: ["s1"] },
  support: { role: "support" },
  orderFollower: { subscribe: ["subscribe_order", "o1"] },
  otherOrderFollower: { subscribe: ["subscribe_order", "o2"] },
  productFollower: { subscribe: ["subscribe_inventory", "p1"] },
  otherProductFollower: { subscribe: ["subscribe_inventory", "p2"] },
  transferFollower: { subscribe: ["subscribe_transfer", "t1"] },
  otherTransferFollower: { subscribe: ["subscribe_transfer", "t2"] },
};
const EVERYONE = (event) => Object.fromEntries(Object.keys(CAST).map((name) => [name, [event]]));

/** The rows of the table: what is published under which key, and who gets which events. Who is not named gets none. `data`: what is in them, if not what was published. */
const ROWS = [
  {
    row: "order.created",
    event: { orderId: "o1", orderNumber: "ORD-1", companyId: "acme", shopId: "s1", customerId: "customer", timestamp: AT },
    gets: {
      clerk: ["order:new_order"],
      admin: ["order:new_order"],
      owner: ["order:new_order", "order:shop_order"],
      keeper: ["order:shop_order"],
      orderFollower: ["order:update"],
    },
  },
  { row: "order.created, of no shop and no company", key: "order.created", event: { orderId: "o1", timestamp: AT }, gets: { admin: ["order:new_order"], owner: ["order:new_order"], orderFollower: ["order:update"] } },
  {
    row: "order.* otherwise: order.shipped",
    key: "order.shipped",
    event: { orderId: "o1", orderNumber: "ORD-12345", customerId: "customer", companyId: "acme", shopId: "s1", timestamp: AT },
    gets: { customer: ["order:status_updated"], orderFollower: ["order:update"] },
    data: { orderId: "o1", orderNumber: "ORD-12345", status: "shipped", message: "Your order #ORD-12345 is now shipped", timestamp: AT },
  },
  {
    row: "order.* otherwise, with a status and a userId of its own",
    key: "order.updated",
    event: { orderId: "o1", orderNumber: 7, status: "delivered", userId: "customer", timestamp: AT },
    gets: { customer: ["order:status_updated"], orderFollower: ["order:update"] },
    data: { orderId: "o1", orderNumber: 7, status: "delivered", message: "Your order #7 is now delivered", timestamp: AT },
  },
  {
    row: "payment.*",
    key: "payment.success",
    event: { paymentId: "pay1", orderId: "o1", customerId: "customer", amount: 9.5, timestamp: AT },
    gets: { customer: ["payment:status_updated"], orderFollower: ["payment:update"] },
  },
  { row: "order.* otherwise, of nobody that is named, with a null status", key: "order.cancelled", event: { orderId: "o1", status: null, timestamp: AT }, gets: { orderFollower: ["order:update"] }, data: { orderId: "o1", status: "cancelled", message: "Your order #o1 is now cancelled", timestamp: AT } },
  { row: "payment.* of an order alone", key: "payment.refunded", event: { paymentId: "pay4", orderId: "o1", timestamp: AT }, gets: { orderFollower: ["payment:update"] } },
  { row: "payment.*, by userId, of no order", key: "payment.failed", event: { paymentId: "pay2", userId: "customer", timestamp: AT }, gets: { customer: ["payment:status_updated"] } },
  {
    row: "inventory.updated",
    event: { productId: "p1", companyId: "acme", shopId: "s1", quantity: 0, timestamp: AT },
    gets: { clerk: ["inventory:updated"], keeper: ["inventory:shop_update"], owner: ["inventory:updated", "inventory:shop_update"], productFollower: ["inventory:stock_changed"] },
  },
  {
    row: "inventory.low_stock",
    event: { productId: "p1", productName: "iPhone 15", quantity: 5, threshold: 10, companyId: "acme", shopId: "s1", timestamp: AT },
    gets: { clerk: ["inventory:low_stock_alert"], keeper: ["inventory:low_stock_alert"], owner: ["inventory:low_stock_alert"] },
    data: { productId: "p1", productName: "iPhone 15", quantity: 5, threshold: 10, companyId: "acme", shopId: "s1", timestamp: AT, severity: "warning", message: "iPhone 15 is running low (5 remaining)" },
  },
  {
    row: "inventory.out_of_stock",
    event: { productId: "p1", companyId: "acme", timestamp: AT },
    gets: EVERYONE("inventory:alert"),
    data: { productId: "p1", companyId: "acme", timestamp: AT, severity: "critical" },
  },
  { row: "inventory.low_stock of a shop alone, without a name", key: "inventory.low_stock", event: { productId: "p1", quantity: 0, shopId: 2, companyId: null, timestamp: AT }, gets: { keeper: ["inventory:low_stock_alert"] }, data: { productId: "p1", quantity: 0, shopId: 2, companyId: null, timestamp: AT, severity: "warning", message: "p1 is running low (0 remaining)" } },
  { row: "transfer.*", key: "transfer.completed", event: { transferId: "t1", orderId: "o1", productId: "p1", quantity: 3, timestamp: AT }, gets: { transferFollower: ["transfer:status_update"] } },
  { row: "notification.* with userId", key: "notification.created", event: { userId: "customer", type: "announcement", content: "hi", timestamp: AT }, gets: { customer: ["notification:new"] } },
  { row: "notification.* with role", key: "notification.created", event: { userId: null, role: "support", content: "hi", timestamp: AT }, gets: { support: ["notification:new"] } },
  { row: "notification.* of type announcement", key: "notification.created", event: { type: "announcement", content: "hi", timestamp: AT }, gets: EVERYONE("announcement:new") },
  { row: "notification.broadcast", event: { content: "hi", timestamp: AT }, gets: EVERYONE("notification:broadcast") },
  { row: "notification.system", event: { content: "hi", timestamp: AT }, gets: EVERYONE("notification:broadcast") },
  ...["product.updated", "company.updated", "shop.updated", "user.updated"].map((key) => ({
    row: `${key}: consumed and ignored`,
    key,
    event: { id: "customer", productId: "p1", companyId: "acme", shopId: "s1", userId: "customer", quantity: 1, timestamp: AT },
    gets: {},
  })),
  {
    row: "another inventory.*: by its properties",
    key: "inventory.adjusted",
    event: { productId: "p1", companyId: "acme", shopId: "s1", quantity: 4, timestamp: AT },
    gets: { clerk: ["inventory:updated"], keeper: ["inventory:shop_update"], owner: ["inventory:updated", "inventory:shop_update"], productFollower: ["inventory:stock_changed"] },
  },
  // Keys that fit no row: told by their properties, the most specific first. The queue is bound to `stock.#` for these.
  { row: "by transferId", key: "stock.a", event: { transferId: "t1", paymentId: "x", orderId: "o1", productId: "p1", quantity: 1, timestamp: AT }, gets: { transferFollower: ["transfer:status_update"] } },
  { row: "by paymentId", key: "stock.b", event: { transferId: null, paymentId: "x", orderId: "o1", userId: "customer", productId: "p1", quantity: 1, timestamp: AT }, gets: { customer: ["payment:status_updated"], orderFollower: ["payment:update"] } },
  {
    row: "by orderId",
    key: "stock.sold.out",
    event: { orderId: "o1", customerId: "customer", productId: "p1", quantity: 1, timestamp: AT },
    gets: { customer: ["order:status_updated"], orderFollower: ["order:update"] },
    data: { orderId: "o1", status: "out", message: "Your order #o1 is now out", timestamp: AT },
  },
  { row: "by productId and a quantity of 0", key: "stock.c", event: { productId: "p1", quantity: 0, timestamp: AT }, gets: { productFollower: ["inventory:stock_changed"] } },
  { row: "by nothing: ignored", key: "stock.d", event: { productId: "p1", timestamp: AT }, gets: {} },
];

/** Events that no row can send to anybody, and what is said of them. */
const DEAD = [
  ["order.created", { companyId: "acme" }, /orderId/],
  ["order.shipped", { customerId: "customer" }, /orderId/],
  ["order.shipped", { orderId: { a: 1 } }, /orderId/],
  ["payment.success", { paymentId: "pay3", amount: 9.5 }, /customerId/],
  ["payment.success", { paymentId: "pay3", customerId: null, orderId: "" }, /orderId/],
  ["stock.paid", { paymentId: "pay3" }, /customerId/],
  ["order.shipped", { orderId: "o1", shopId: "s1", status: { a: 1 } }, /status/],
  ["inventory.updated", { companyId: "acme" }, /productId/],
  ["inventory.low_stock", { productId: "p1", quantity: 1 }, /companyId/],
  ["inventory.low_stock", { productId: "p1", companyId: "acme" }, /quantity/],
  ["transfer.completed", { orderId: "o1" }, /transferId/],
  ["notification.created", { userld: "customer", content: "hi" }, /userId/],
  ["notification.created", { userId: "", content: "hi" }, /userId/],
  ["notification.created", "not JSON", /JSON/],
];

let rabbit;
let bus;
before(async () => {
  rabbit = await Rabbit.start();
  bus = await EventBus.connect(rabbit, "events");
});
after(async () => {
  await bus.close();
  await rabbit.end();
});

const marketplace = async (options) => {
  const gateway = await startGateway({ profile: "marketplace", env: { ...rabbit.env, ...options?.env }, shards: options?.shards });
  await until(async () => (await gateway.get("/health/ready")).json, ({ parts }) => parts.rabbitmq.state === "connected", "RabbitMQ");
  return gateway;
};

for (const shards of SHARDS) {
  describe(`Marketplace on ${shards} shard(s)`, () => {
    let gateway;
    before(async () => {
      gateway = await marketplace({ shards });
      await bus.channel.bindQueue("websocket.events", "events", "stock.#");
    });
    after(() => gateway.stop());

    const user = (userId, claims, options) => connected(gateway.url, { name: userId, token: tokenOf(userId, claims), ...options });

    describe("the table of events", () => {
      let cast;
      let marks = 0;
      const enter = async () => {
        const entries = Object.entries(CAST).map(async ([name, { subscribe, ...claims }], index) => {
          const client = await user(name, claims, { transports: Object.values(TRANSPORTS)[index % 3] });
          if (subscribe) assert.equal((await client.ask(...subscribe)).success, true);
          return [name, client];
        });
        return Object.fromEntries(await Promise.all(entries));
      };
      /** What each of the cast gets of what `publish` publishes: one queue keeps its order, so that all of it is there before the mark that follows. */
      const gets = async (publish) => {
        const from = Object.fromEntries(Object.entries(cast).map(([name, client]) => [name, client.events.items.length]));
        await publish();
        const mark = (marks += 1);
        await bus.publish("notification.broadcast", { mark });
        const got = Object.entries(cast).map(async ([name, client]) => {
          await client.next("notification:broadcast", (data) => data.mark === mark);
          const items = client.events.items.slice(from[name]).filter(({ args: [data] }) => data?.mark === undefined);
          return [name, items.map(({ event, args }) => [event, args[0]])];
        });
        return Object.fromEntries((await Promise.all(got)).filter(([, items]) => items.length > 0));
      };
      before(async () => (cast = await enter()));
      after(closeClients);

      for (const { row, key = row, event, gets: expected, data = event } of ROWS) {
        it(row, async () => {
          const got = await gets(() => bus.publish(key, event));
          const wanted = Object.entries(expected).map(([name, events]) => [name, events.map((event) => [event, data])]);
          assert.deepEqual(got, Object.fromEntries(wanted));
        });
      }

      it("what has no timestamp gets one, and nothing else of it changes", async () => {
        const raw = '{ "productId":"p1", "price":1.50,"big":12345678901234567890 }';
        const got = await gets(() => bus.publish("inventory.out_of_stock", raw));
        const [[, { timestamp, ...rest }]] = got.stranger;
        assert.match(timestamp, ISO);
        assert.deepEqual(rest, { ...JSON.parse(raw), severity: "critical" });
        const shipped = await gets(() => bus.publish("order.shipped", { orderId: "o1" }));
        assert.match(shipped.orderFollower[0][1].timestamp, ISO);
      });

      it("the bytes of a payload go through as they came", async () => {
        const follower = await rawSocketIo(gateway.url, tokenOf("raw"));
        follower.send('420["subscribe_transfer","t9"]');
        await follower.events.next((item) => item.text?.startsWith("430["), "the answer");
        await bus.publish("transfer.done", Buffer.from('{"z":1.0, "a":1e3 ,"transferId":"t9","text":"\\u00e9","timestamp":7}'));
        const item = await follower.events.next((item) => item.text?.startsWith("42[\"transfer"), "the event");
        assert.equal(item.text, '42["transfer:status_update",{"z":1.0, "a":1e3 ,"transferId":"t9","text":"\\u00e9","timestamp":7}]');
      });

      for (const [key, event, reason] of DEAD) {
        it(`${key} ${JSON.stringify(event)} is a dead letter, and nobody gets it`, async () => {
          assert.deepEqual(await gets(() => bus.publish(key, event)), {});
          const letter = await bus.take("roomcast.dead_letter");
          assert.deepEqual(letter.content.toString(), typeof event === "string" ? event : JSON.stringify(event));
          assert.match(JSON.stringify(letter.properties.headers), reason);
        });
      }
    });

    describe("connections", () => {
      afterEach(closeClients);

      it("claims give rooms, and the greeting names them", async () => {
        const client = await user("u1", { companyId: 7, shopIds: [1, "b"], role: "super_admin" });
        const { message, rooms, ...rest } = client.greeting;
        assert.equal(typeof message, "string");
        assert.deepEqual(rooms, ["user:u1", "company:7", "shop:1", "shop:b", "role:super_admin", "super_admin"]);
        assert.deepEqual(rest, { socketId: client.socket.id, userId: "u1" });
        assert.deepEqual((await user("u2")).greeting.rooms, ["user:u2"]);
        assert.deepEqual((await user("u3", { roles: ["support", "super_admin"] })).greeting.rooms, ["user:u3", "role:support", "role:super_admin", "super_admin"]);
      });

      it("what is wrong with one of the shops costs no other, and the log names whose they are", async () => {
        const from = gateway.log.items.length;
        const token = tokenOf("u9", { companyId: 7, shopIds: ["s1", null, { id: 3 }, "", "s2"] });
        const client = await connected(gateway.url, { token });
        assert.deepEqual(client.greeting.rooms, ["user:u9", "company:7", "shop:s1", "shop:s2"]);
        const warned = ({ level, user }) => level === "warn" && user === "u9";
        const { rooms, reason } = await gateway.log.next(warned, "the warning", from);
        assert.deepEqual([rooms, reason], [3, "{user.shopIds?} is null, not an id (a text of 1 to 255 bytes, or an integer)"]);
        assert.equal((await client.ask("join_room", "shop:s2")).error, undefined);
        assert.equal((await client.ask("join_room", "shop:s3")).code, "forbidden");
        const told = gateway.log.items.slice(from);
        assert.equal(told.filter(warned).length, 1);
        assert.ok(!JSON.stringify(told).includes(token.split(".")[1]), "a token is not for the log");
      });

      it("without a good token nobody gets in, and is told why", async () => {
        const refusal = async (token) => (await socketIo(gateway.url, { token }).next("connect_error")).message;
        assert.equal(await refusal(undefined), "Authentication required");
        for (const [what, token] of Object.entries(badTokens())) assert.equal(await refusal(token), "Invalid or expired token", what);
      });

      it("pings go out every 25 s, and a pong may take 60 s", async () => {
        const client = plain(`${gateway.ws}/socket.io/?EIO=4&transport=websocket`);
        const { text } = await client.events.next((item) => item.text?.startsWith("0"), "the opening");
        const { pingInterval, pingTimeout } = JSON.parse(text.slice(1));
        assert.deepEqual([pingInterval, pingTimeout], [25_000, 60_000]);
      });

      it("a refreshed token changes the rooms in place", async () => {
        const client = await user("u4", { companyId: "acme", shopIds: ["s1"] });
        await client.ask("subscribe_order", "o1");
        const answer = await client.ask("refresh_token", { token: tokenOf("u4", { companyId: "rivals" }) });
        assert.equal(answer.success, true);
        await bus.publish("order.created", { orderId: "o9", companyId: "acme", shopId: "s1" });
        await bus.publish("order.created", { orderId: "o1", companyId: "rivals" });
        await client.next("order:update");
        assert.deepEqual(client.names(), ["order:new_order", "order:update"]);
      });
    });

    describe("rooms", () => {
      afterEach(closeClients);

      it("custom rooms are entered and left by a bare name or an object", async () => {
        const client = await user("u1");
        for (const [event, room] of [["join_room", "custom-room-id"], ["join_room", { roomId: "custom-room-id" }], ["leave_room", "custom-room-id"], ["leave_room", { roomId: "never-entered" }]]) {
          assert.deepEqual(await client.ask(event, room), { success: true, room: room.roomId ?? room }, event);
        }
      });

      for (const [what, id] of Object.entries({ order: "order-123", inventory: "product-456", transfer: 789 })) {
        it(`subscribe_${what} and unsubscribe_${what}`, async () => {
          const [client, room] = [await user("u1"), `${{ inventory: "product" }[what] ?? what}:${id}`];
          assert.deepEqual(await client.ask(`subscribe_${what}`, id), { success: true, room });
          assert.equal((await gateway.api("GET", `/api/rooms/${encodeURIComponent(room)}`)).json.members, 1);
          assert.deepEqual(await client.ask(`unsubscribe_${what}`, id), { success: true, room });
          assert.deepEqual(await client.ask(`unsubscribe_${what}`, id), { success: true, room }, "leaving twice");
          await bus.publish(`${what === "inventory" ? "inventory.updated" : `${what}.moved`}`, { orderId: id, productId: id, transferId: id });
          await bus.publish("notification.created", { userId: "u1" });
          await client.next("notification:new");
          assert.deepEqual(client.names(), ["notification:new"]);
        });
      }

      it("a name of another family comes under that family's rule, whichever command asks", async () => {
        const claims = { companyId: "acme", shopIds: ["s1"], role: "support" };
        const client = await user("u1", claims);
        for (const room of ["company:acme", "shop:s1", "role:support", "order:1", "product:1", "transfer:1", "user:u1"]) {
          assert.equal((await client.ask("join_room", room)).success, true, room);
        }
        for (const room of ["user:customer", "company:rivals", "shop:s3", "role:super_admin", "super_admin"]) {
          const answer = await client.ask("join_room", room);
          assert.equal(answer.code, "forbidden", `${room}: ${JSON.stringify(answer)}`);
          assert.equal((await client.ask("join_room", { roomId: room })).code, "forbidden");
          assert.equal((await client.ask("typing", { roomId: room, isTyping: true })).code, "not_a_member");
        }
        for (const room of ["company:acme", "shop:s1", "role:support", "super_admin"]) {
          assert.equal((await (await user("u2")).ask("join_room", room)).code, "forbidden", `${room} without a claim`);
        }
      });

      it("a family's name without an id is refused, and one's own room is not left", async () => {
        const client = await user("u1");
        for (const family of ["user:", "company:", "shop:", "role:", "order:", "product:", "transfer:"]) {
          assert.equal((await client.ask("join_room", family)).code, "forbidden", family);
        }
        assert.equal((await client.ask("leave_room", "user:u1")).code, "forbidden");
        assert.equal((await client.ask("subscribe_order", "x".repeat(250))).code, "bad_field");
        assert.deepEqual(await client.ask("join_room", "order"), { success: true, room: "order" });
      });

      it("a name shaped like a socket's is refused", async () => {
        const [one, other] = [await user("u1"), await user("u2")];
        assert.equal((await one.ask("join_room", other.socket.id)).code, "forbidden");
        assert.equal((await one.ask("join_room", "abcdefghij_-ABCDE123")).code, "forbidden");
        assert.equal((await one.ask("join_room", "abcdefghij_-ABCDE12")).success, true, "19 characters");
      });

      it("typing goes from a member to the others in the room", async () => {
        const [ann, bob, eve] = await Promise.all(["ann", "bob", "eve"].map((name) => user(name)));
        for (const client of [ann, bob]) await client.ask("join_room", "chat-room");
        ann.socket.emit("typing", { roomId: "chat-room", isTyping: true });
        const { timestamp, ...rest } = await bob.next("user_typing");
        assert.deepEqual(rest, { userId: "ann", roomId: "chat-room", isTyping: true });
        assert.match(timestamp, ISO);
        assert.equal((await eve.ask("typing", { roomId: "chat-room", isTyping: true })).code, "not_a_member");
        for (const client of [ann, bob, eve]) await client.ask("join_room", "chat-room");
        assert.deepEqual([ann, bob, eve].map((client) => client.names()), [[], ["user_typing"], []]);
      });

      it("bad input is answered with what is wrong, and the connection stays", async () => {
        const client = await user("u1");
        for (const [event, data, code, named] of [
          ["join_room", {}, "bad_field", "roomId"],
          ["join_room", "", "bad_field", "roomId"],
          ["join_room", { roomId: ["a"] }, "bad_field", "roomId"],
          ["join_room", true, "bad_field", ""],
          ["subscribe_order", { id: 1 }, "bad_field", "orderId"],
          ["subscribe_inventory", 1.5, "bad_field", "productId"],
          ["subscribe_transfer", null, "bad_field", ""],
          ["typing", { roomId: "a" }, "bad_field", "isTyping"],
          ["typing", { roomId: "a", isTyping: "yes" }, "bad_field", "isTyping"],
          ["join_room", "x".repeat(256), "bad_field", "roomId"],
          ["order:update", {}, "unknown_command", "order:update"],
        ]) {
          const answer = await client.ask(event, data);
          assert.equal(answer.code, code, `${event} ${JSON.stringify(data)}: ${JSON.stringify(answer)}`);
          assert.ok(answer.error.includes(named), `${event}: ${answer.error}`);
        }
        assert.equal((await client.ask("join_room", "a")).success, true);
      });
    });

    describe("the front ends' own clients", () => {
      it("React", async () => {
        const told = new Recorder("React");
        const { rendered, unmount } = reactClient(gateway.ws, tokenOf("customer"), (message) => told.add(message));
        await until(rendered, ({ connected }) => connected, "React to be connected");
        const { socket } = rendered();
        await bus.publish("order.shipped", { orderId: "o1", orderNumber: "ORD-12345", customerId: "customer" });
        await told.next((message) => message === "Your order #ORD-12345 is now shipped", "the notification");
        unmount();
        await until(rendered, ({ connected }) => !connected, "React to be disconnected");
        assert.equal(socket.connected, false);
      });

      it("Vue", async () => {
        const told = new Recorder("Vue");
        const shown = vueClient(gateway.ws, tokenOf("clerk", { companyId: "acme" }), (notice) => told.add(notice));
        await until(() => shown.connected, Boolean, "Vue to be connected");
        await bus.publish("inventory.low_stock", { productId: "prod_123", productName: "iPhone 15", quantity: 5, threshold: 10, companyId: "acme" });
        const notice = await told.next(() => true, "the notice");
        assert.deepEqual(notice, { title: "Low Stock Alert", message: "iPhone 15 is running low (5 remaining)", type: "warning" });
        shown.beforeDestroy();
      });

      it("Angular", async () => {
        const seen = new Recorder("Angular");
        const service = angularClient(gateway.ws);
        service.connect(tokenOf("customer"));
        service.onOrderUpdate().subscribe((data) => seen.add(data.status));
        await until(async () => (await gateway.get("/user-status/customer")).json.data.isConnected, Boolean, "Angular to be connected");
        for (const status of ["confirmed", "shipped", "delivered"]) await bus.publish(`order.${status}`, { orderId: "o1", customerId: "customer" });
        await seen.next((status) => status === "delivered", "the last update");
        assert.deepEqual(seen.items, ["confirmed", "shipped", "delivered"]);
        service.disconnect();
      });
    });

    describe("operators", () => {
      afterEach(closeClients);

      it("GET /health is the document that they know", async () => {
        const { status, json } = await gateway.get("/health");
        const { timestamp, ...rest } = json;
        assert.deepEqual([status, rest], [200, { status: "OK", service: "websocket-service" }]);
        assert.match(timestamp, ISO);
      });

      it("GET /metrics is Prometheus text", async () => {
        assert.match((await gateway.get("/metrics")).body, /^roomcast_connections \d/m);
      });

      it("GET /connected-users names everyone who is connected, once", async () => {
        await Promise.all([user("ann"), user("ann"), user(42), user("42")]);
        const { success, data } = await until(async () => (await gateway.get("/connected-users")).json, ({ data }) => data.count === 2, "two users");
        assert.equal(success, true);
        assert.deepEqual(data.users.map(String).sort(), ["42", "ann"]);
      });

      it("GET /user-status/:userId tells whether one is", async () => {
        const ann = await user("ann/é");
        const status = async () => (await gateway.get(`/user-status/${encodeURIComponent("ann/é")}`)).json;
        assert.deepEqual(await status(), { success: true, data: { userId: "ann/é", isConnected: true } });
        assert.equal((await gateway.get("/user-status/nobody")).json.data.isConnected, false);
        ann.close();
        await until(status, ({ data }) => !data.isConnected, "ann to be gone");
      });
    });
  });
}

describe("Marketplace's variables", () => {
  afterEach(closeClients);

  it("ENTITY_EVENTS=true sends changes of products, companies, shops and users to the rooms of their ids", async () => {
    const gateway = await marketplace({ env: { ENTITY_EVENTS: "true" } });
    const one = await connected(gateway.url, { token: tokenOf("u1", { companyId: "acme", shopIds: ["s1"] }) });
    await one.ask("subscribe_inventory", "p1");
    const other = await connected(gateway.url, { token: tokenOf("u2", { companyId: "rivals", shopIds: ["s2"] }) });
    for (const [key, own, foreign] of [
      ["product.updated", { productId: "p1" }, { productId: "p2" }],
      ["company.renamed", { companyId: "acme" }, { companyId: "nobody" }],
      ["shop.opened", { id: "s1" }, { id: "s3" }],
      ["user.updated", { userId: "u1" }, { userId: "u3" }],
    ]) {
      await bus.publish(key, foreign);
      await bus.publish(key, own);
      const { timestamp, ...data } = await one.next(key.replace(".", ":"));
      assert.deepEqual(data, own);
      assert.match(timestamp, ISO);
    }
    await bus.publish("notification.broadcast", {});
    for (const client of [one, other]) await client.next("notification:broadcast");
    assert.deepEqual(other.names(), ["notification:broadcast"]);
    assert.deepEqual(one.names(), ["product:updated", "company:renamed", "shop:opened", "user:updated", "notification:broadcast"]);
    await gateway.stop();
  });

  it("ORDER_ACCESS_URL is asked before an order is followed, whichever command asks; unset, the start warns", async () => {
    const asked = [];
    const answers = { mine: 200, foreign: 403, gone: 404, broken: 500 };
    const service = createServer((request, response) => {
      asked.push(request.url);
      response.writeHead(answers[decodeURIComponent(request.url.split("/")[2])] ?? 200).end();
    });
    await new Promise((resolve) => service.listen(0, "127.0.0.1", resolve));
    const gateway = await startGateway({ profile: "marketplace", env: { ORDER_ACCESS_URL: `http://127.0.0.1:${service.address().port}/orders/{orderId}/users/{userId}` } });
    const client = await connected(gateway.url, { token: tokenOf("u/1") });
    assert.equal((await client.ask("subscribe_order", "mine")).success, true);
    for (const [order, code] of [["foreign", "forbidden"], ["gone", "forbidden"], ["broken", "try_again"]]) {
      assert.equal((await client.ask("subscribe_order", order)).code, code, order);
      assert.equal((await client.ask("join_room", `order:${order}`)).code, code, order);
    }
    assert.equal((await client.ask("subscribe_order", "a/b?c")).success, true);
    assert.deepEqual([asked[0], asked.at(-1)], ["/orders/mine/users/u%2F1", "/orders/a%2Fb%3Fc/users/u%2F1"]);
    await gateway.stop();
    service.close();
    const open = await startGateway({ profile: "marketplace" });
    await open.log.next((line) => line.level === "warn" && /rooms of kind `order`/.test(line.message), "the warning");
    await open.stop();
  });

  it("FRONTEND_URL says which pages may connect", async () => {
    const gateway = await startGateway({ profile: "marketplace", env: { FRONTEND_URL: "https://shop.example" } });
    const polling = (origin) => fetch(`${gateway.url}/socket.io/?EIO=4&transport=polling`, { headers: { origin } });
    assert.equal((await polling("https://shop.example")).headers.get("access-control-allow-origin"), "https://shop.example");
    assert.equal((await polling("https://evil.example")).headers.get("access-control-allow-origin"), null);
    const open = (origin) => plain(`${gateway.ws}/socket.io/?EIO=4&transport=websocket`, { origin }).events;
    await open("https://shop.example").next((item) => item.open, "the connection");
    const refused = await open("https://evil.example").next((item) => item.error, "the refusal");
    assert.match(refused.error, /403/);
    await gateway.stop();
  });

  it("PUBLIC_QUERIES=false puts the questions for users behind the API key", async () => {
    const gateway = await startGateway({ profile: "marketplace", env: { PUBLIC_QUERIES: "false" } });
    for (const path of ["/connected-users", "/user-status/ann"]) {
      assert.equal((await gateway.get(path)).status, 401, path);
      assert.equal((await gateway.get(path, { authorization: `Bearer ${API_KEY}` })).json.success, true, path);
    }
    assert.equal((await gateway.get("/health")).status, 200);
    await gateway.stop();
  });

  it("JWT_SECRET must be set, and nothing else", async () => {
    const { code, stderr } = await roomcast(["serve", "--profile", "marketplace"]).ended;
    assert.notEqual(code, 0);
    assert.match(stderr, /JWT_SECRET/);
  });

  it("the health document says when the broker is away, and clients are served", async () => {
    const gateway = await startGateway({ profile: "marketplace", env: { RABBITMQ_URL: "amqp://guest:guest@127.0.0.1:1" } });
    await gateway.health((health) => health.status === "degraded", "the broker to be away");
    const client = await connected(gateway.url, { token: tokenOf("u1") });
    assert.equal((await client.ask("join_room", "a")).success, true);
    await gateway.stop();
  });
});
