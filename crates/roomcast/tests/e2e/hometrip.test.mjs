// HomeTrip's front end and its services against the gateway that takes their old one's place: neither may notice.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { TRANSPORTS, closeClients, connected, rawSocketIo, socketIo } from "./support/clients.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { EventBus, Rabbit } from "./support/rabbit.mjs";
import { tokenOf } from "./support/token.mjs";

/** What a page of HomeTrip does with its connection. */
class FrontEnd {
  constructor(url, token, transports, name) {
    const options = { name, token, transports, reconnection: true, reconnectionDelay: 1000, reconnectionDelayMax: 5000, reconnectionAttempts: 5 };
    Object.assign(this, socketIo(url, options));
  }
  join = (roomId) => this.ask("join_room", { roomType: "conversation", roomId });
  leave = (roomId) => this.ask("leave_room", { roomType: "conversation", roomId });
  typing = (roomId) => this.socket.emit("typing", { roomType: "conversation", roomId });
  stopTyping = (roomId) => this.socket.emit("stop_typing", { roomType: "conversation", roomId });
}

let rabbit;
let bus;
before(async () => {
  rabbit = await Rabbit.start();
});
after(async () => {
  await bus?.close();
  await rabbit.end();
});

for (const shards of SHARDS) {
  describe(`HomeTrip on ${shards} shard(s)`, () => {
    let gateway;
    let number = 0;
    const fresh = (what) => `${what}-${shards}-${(number += 1)}`;
    const user = async (userId, transports = TRANSPORTS.websocket) => {
      const client = new FrontEnd(gateway.url, tokenOf(userId, { email: `${userId}@hometrip.example`, role: "guest" }), transports, userId);
      client.greeting = await client.next("connected");
      return client;
    };

    before(async () => {
      gateway = await startGateway({ shards, env: rabbit.env });
      await gateway.health((health) => health.eventBus === "connected", "the event bus");
      bus ??= await EventBus.connect(rabbit);
    });
    after(() => gateway.stop());
    afterEach(closeClients);

    for (const [name, transports] of Object.entries(TRANSPORTS)) {
      it(`${name}: a client is greeted, joins with an answer, and gets what the services publish`, async () => {
        const [alice, conversation] = [fresh("alice"), fresh("trip")];
        const page = await user(alice, transports);
        const { socketId, timestamp, ...rest } = page.greeting;
        assert.deepEqual(rest, { userId: alice, email: `${alice}@hometrip.example`, role: "guest" });
        assert.equal(socketId, page.socket.id);
        assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
        assert.deepEqual(await page.join(conversation), { success: true, room: `conversation:${conversation}` });
        const message = { conversationId: conversation, senderId: "bob", recipientId: alice, message: { id: "m1", content: "Hello ✈ \u2028", timestamp }, timestamp };
        await bus.publish("message.sent", message);
        assert.deepEqual(await page.next("new_message"), message);
        await bus.publish("booking.confirmed", { bookingId: "b1", userId: alice, status: "confirmed", timestamp });
        assert.equal((await page.next("booking_update")).bookingId, "b1");
        await bus.publish("notification.created", { notificationId: "n1", userId: alice, type: "booking", title: "t", message: "m", data: {}, timestamp });
        assert.equal((await page.next("new_notification")).notificationId, "n1");
      });
    }

    it("an event arrives byte for byte as it was published", async () => {
      const conversation = fresh("trip");
      const raw = await rawSocketIo(gateway.url, tokenOf("raw"));
      raw.send(`420["join_room",{"roomType":"conversation","roomId":"${conversation}"}]`);
      await raw.events.next((item) => item.text?.startsWith("430["), "the answer");
      const body = `{"z":1.0, "a":1e3,"big":12345678901234567890 ,"text":"\\u00e9 é \\/","conversationId":"${conversation}","z":"twice","n":null,"list":[ 1,2 ]}`;
      await bus.publish("message.sent", Buffer.from(body));
      const item = await raw.events.next((item) => item.text?.startsWith('42["new_message"'), "the event");
      assert.equal(item.text, `42["new_message",${body}]`);
    });

    it("an upgrade to WebSocket in the middle of a stream of events loses none, repeats none and keeps their order", async () => {
      const conversation = fresh("trip");
      const upgrading = Array.from({ length: 10 }, (_, index) => connected(gateway.url, { token: tokenOf(`u${index}`), transports: ["polling", "websocket"], upgrade: true }));
      // From the moment each is in the room on, while its upgrade is still under way.
      const pages = await Promise.all(upgrading);
      await Promise.all(pages.map((page) => page.ask("join_room", { roomType: "conversation", roomId: conversation })));
      let n = 0;
      const isUpgraded = (page) => page.socket.io.engine.transport.name === "websocket";
      while (n < 500 || !pages.every(isUpgraded)) await bus.publish("message.sent", { conversationId: conversation, n: (n += 1) });
      for (const page of pages) {
        await page.next("new_message", (message) => message.n === n);
        const numbers = page.events.items.filter((item) => item.event === "new_message").map((item) => item.args[0].n);
        assert.deepEqual(numbers, Array.from({ length: n }, (_, index) => index + 1));
      }
    });

    it("a user's events reach every device of that user, over every transport, and nobody else", async () => {
      const [alice, bob] = [fresh("alice"), fresh("bob")];
      const devices = await Promise.all(Object.values(TRANSPORTS).map((transports) => user(alice, transports)));
      const other = await user(bob);
      await bus.publish("booking.confirmed", { bookingId: "b1", userId: alice, status: "confirmed" });
      await bus.publish("booking.confirmed", { bookingId: "b2", userId: bob, status: "confirmed" });
      for (const device of devices) assert.equal((await device.next("booking_update")).bookingId, "b1");
      // Bob's own event came after Alice's: had he got hers, it would stand before.
      assert.equal((await other.next("booking_update")).bookingId, "b2");
      assert.deepEqual(other.names(), ["booking_update"]);
    });

    it("a user id that is a number keeps its type, and its digits name the room", async () => {
      const id = 7_000_000 + shards;
      const page = await connected(gateway.url, { token: tokenOf(id) });
      assert.equal(page.greeting.userId, id);
      await bus.publish("booking.confirmed", { bookingId: "b1", userId: id, status: "confirmed" });
      assert.equal((await page.next("booking_update")).userId, id);
    });

    it("typing reaches the others of the conversation only", async () => {
      const conversation = fresh("trip");
      const [alice, bob, carol] = [await user(fresh("alice")), await user(fresh("bob"), TRANSPORTS.polling), await user(fresh("carol"))];
      await Promise.all([alice.join(conversation), bob.join(conversation)]);
      alice.typing(conversation);
      const { timestamp, ...typing } = await bob.next("user_typing");
      assert.deepEqual(typing, { userId: alice.greeting.userId, roomType: "conversation", roomId: conversation });
      alice.stopTyping(conversation);
      await bob.next("user_stop_typing");
      // What everyone gets afterwards shows what they did not get before.
      await carol.join(conversation);
      await bus.publish("message.sent", { conversationId: conversation });
      await Promise.all([alice, bob, carol].map((page) => page.next("new_message")));
      assert.ok(!alice.names().some((event) => event.includes("typing")), "the sender hears nothing of it");
      assert.ok(!carol.names().some((event) => event.includes("typing")), "who is not in the room hears nothing of it");
    });

    it("typing from outside the room is refused", async () => {
      const page = await user(fresh("alice"));
      const answer = await page.ask("typing", { roomType: "conversation", roomId: fresh("trip") });
      assert.equal(answer.code, "not_a_member");
      assert.equal(typeof answer.error, "string");
      page.typing(fresh("trip"));
      assert.equal((await page.next("error")).code, "not_a_member");
    });

    it("the others hear who joins, who leaves and who is gone; joining twice tells nobody", async () => {
      const conversation = fresh("trip");
      const [alice, bob, carol] = [await user(fresh("alice")), await user(fresh("bob")), await user(fresh("carol"))];
      await alice.join(conversation);
      await bob.join(conversation);
      const joined = await alice.next("user_joined");
      assert.deepEqual([joined.userId, joined.socketId, joined.roomType, joined.roomId], [bob.greeting.userId, bob.socket.id, "conversation", conversation]);
      assert.deepEqual(await bob.join(conversation), { success: true, room: `conversation:${conversation}` });
      await bob.leave(conversation);
      assert.equal((await alice.next("user_left")).userId, bob.greeting.userId);
      assert.deepEqual(await bob.leave(conversation), { success: true, room: `conversation:${conversation}` });
      await carol.join(conversation);
      carol.close();
      await alice.next("user_left", (left) => left.userId === carol.greeting.userId);
      const told = alice.names().filter((event) => event.startsWith("user_"));
      assert.deepEqual(told, ["user_joined", "user_left", "user_joined", "user_left"]);
    });

    it("presence is told to conversations and given to who asks", async () => {
      const conversation = fresh("trip");
      const [alice, bob] = [await user(fresh("alice")), await user(fresh("bob"))];
      await alice.join(conversation);
      await bob.join(conversation);
      const id = bob.greeting.userId;
      assert.equal((await alice.next("presence_update", (update) => update.userId === id)).status, "online");
      const ask = (userIds) => alice.ask("get_presence", { userIds });
      const { success, presence } = await ask([id, "nobody"]);
      assert.deepEqual([success, presence[id].online, presence.nobody.online], [true, true, false]);
      bob.close();
      const gone = await alice.next("presence_update", (update) => update.userId === id && update.status === "offline");
      assert.ok(gone.lastSeen);
      assert.equal((await ask([id])).presence[id].online, false);
      assert.equal((await ask(Array(101).fill("x"))).code, "bad_field");
    });

    it("bad input is answered with what is wrong, and the connection stays", async () => {
      const page = await user(fresh("alice"));
      for (const [event, data, code, named] of [
        ["join_room", {}, "bad_field", "roomType"],
        ["join_room", { roomType: "user", roomId: "1" }, "bad_field", "roomType"],
        ["join_room", { roomType: "conversation" }, "bad_field", "roomId"],
        ["join_room", { roomType: "conversation", roomId: { a: 1 } }, "bad_field", "roomId"],
        ["join_room", { roomType: "conversation", roomId: "" }, "bad_field", "roomId"],
        ["join_room", "conversation:1", "bad_field", ""],
        ["get_presence", { userIds: "1" }, "bad_field", "userIds"],
        ["fly_away", {}, "unknown_command", "fly_away"],
      ]) {
        const answer = await page.ask(event, data);
        assert.equal(answer.code, code, `${event} ${JSON.stringify(data)}: ${JSON.stringify(answer)}`);
        assert.ok(answer.error.includes(named), `${event}: ${answer.error}`);
      }
      page.socket.emit("fly_away");
      assert.equal((await page.next("error")).code, "unknown_command");
      assert.equal((await page.join(fresh("trip"))).success, true);
    });

    it("what is no event for a client is kept as a dead letter that says why", async () => {
      await bus.publish("message.sent", Buffer.from("this is no JSON"));
      const letter = await bus.take("roomcast.dead_letter");
      assert.equal(letter.content.toString(), "this is no JSON");
      const headers = JSON.stringify(letter.properties.headers);
      assert.ok(headers.includes("hometrip_events") && headers.includes("message.sent"), headers);
      await bus.publish("message.sent", { content: "for nobody" });
      const second = await bus.take("roomcast.dead_letter");
      assert.match(JSON.stringify(second.properties.headers), /conversationId/);
    });

    it("health and metrics are the documents that HomeTrip's operators read", async () => {
      const conversation = fresh("trip");
      const page = await user(fresh("alice"));
      await page.join(conversation);
      const health = (await gateway.get("/health")).json;
      assert.deepEqual([health.status, health.service, health.redis, health.eventBus], ["ok", "websocket-gateway", "disabled", "connected"]);
      assert.deepEqual(Object.keys(health).sort(), ["eventBus", "redis", "service", "status", "timestamp", "uptime", "version"]);
      const metrics = (await gateway.get("/metrics")).json;
      assert.equal(metrics.rooms[`conversation:${conversation}`], 1);
      assert.ok(metrics.connectedSockets >= 1 && metrics.totalRooms >= 2, JSON.stringify(metrics));
      assert.ok(!Object.keys(metrics.rooms).includes(page.socket.id), "a room that a socket has to itself is in no listing");
      const prometheus = await gateway.get("/metrics", { accept: "text/plain;version=0.0.4" });
      assert.match(prometheus.body, /^roomcast_connections \d/m);
      assert.equal((await gateway.get("/health/live")).status, 200);
      assert.equal((await gateway.get("/health/ready")).status, 200);
    });
  });
}
