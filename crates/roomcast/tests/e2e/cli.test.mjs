// The command line beside a running gateway, as the README has it: token, listen, publish, explain, health.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, plain, socketIo } from "./support/clients.mjs";
import { API_KEY, SECRET, roomcast, startGateway } from "./support/gateway.mjs";
import { Rabbit } from "./support/rabbit.mjs";
import { until } from "./support/recorder.mjs";

describe("the command line", () => {
  let rabbit;
  let gateway;
  let demo;
  before(async () => {
    rabbit = await Rabbit.start();
    gateway = await startGateway({ env: rabbit.env });
    demo = await startGateway({ profile: "demo" });
    await gateway.health((health) => health.eventBus === "connected", "the event bus");
  });
  after(async () => {
    await Promise.all([gateway.stop(), demo.stop()]);
    await rabbit.end();
  });
  afterEach(closeClients);

  const hometrip = (line, options = {}) => {
    const env = { ...rabbit.env, JWT_SECRET: SECRET, API_KEY, PORT: String(gateway.port) };
    return roomcast(line, { ...options, env });
  };
  const members = async (room) => (await gateway.get("/metrics")).json.rooms[room] ?? 0;

  it("an event that is published is printed by who listens, byte for byte", async () => {
    const token = (await hometrip(["token", "--user", "alice", "--email", "a@b.example"]).ended).stdout.trim();
    const join = 'join_room {"roomType":"conversation","roomId":"42"}';
    const listener = hometrip(["listen", "--url", gateway.url, "--token", token, "--emit", join, "--count", "4", "--timeout", "30s"]);
    await until(() => members("conversation:42"), (count) => count === 1, "the listener in its room");
    const event = '{"conversationId":"42","message":{"content":"hi","n":1.0}}';
    const published = await hometrip(["publish", "--profile", "hometrip", "--key", "message.sent", event]).ended;
    assert.deepEqual([published.code, published.stderr], [0, ""]);
    assert.match(published.stdout, /^hometrip_events: message\.sent: 58 bytes, confirmed by the broker\n$/);
    const piped = await hometrip(["publish", "--profile", "hometrip", "--room", "user:alice", "--event", "note", "-"], { input: '{"n":1.0}\n' }).ended;
    assert.deepEqual([piped.code, piped.stdout], [0, 'user:alice: {"delivered":1}\n'], piped.stderr);
    const { code, stdout, stderr } = await listener.ended;
    assert.equal(code, 0, stderr);
    const lines = stdout.trim().split("\n").map((line) => line.replace(/^\S+Z {2}/, ""));
    // Events from the broker and from the API come by two ways: only the places of the first two are sure.
    assert.match(lines[0], /^connected {2}\{"socketId":".{20}","userId":"alice","email":"a@b.example","role":null,/);
    assert.match(lines[1], /^presence_update {2}\{"userId":"alice","status":"online",/);
    assert.deepEqual(lines.slice(2).sort(), [`new_message  ${event}`, 'note  {"n":1.0}']);
    assert.match(stderr, /answer to join_room {2}\{"success":true,"room":"conversation:42"\}/);
  });

  it("an event for nobody's queue, or without a broker, is a failure that says so", async () => {
    const unrouted = await hometrip(["publish", "--profile", "hometrip", "--key", "mesage.sent", "{}"]).ended;
    assert.equal(unrouted.code, 1);
    assert.match(unrouted.stderr, /no queue is bound to the key `mesage.sent`/);
    const elsewhere = await hometrip(["publish", "--profile", "hometrip", "--exchange", "nowhere", "--key", "a", "{}"]).ended;
    assert.equal(elsewhere.code, 1);
    assert.match(elsewhere.stderr, /nowhere/);
    const away = await roomcast(["publish", "--profile", "hometrip", "--key", "a", "{}"], { env: { RABBITMQ_URL: "amqp://127.0.0.1:1" } }).ended;
    assert.equal(away.code, 1);
    assert.match(away.stderr, /cannot connect to RabbitMQ at 127\.0\.0\.1:1/);
    const wrongKey = await roomcast(["publish", "--url", gateway.url, "--room", "a", "--event", "b", "{}"], { env: { API_KEY: "wrong" } }).ended;
    assert.equal(wrongKey.code, 1);
    assert.match(wrongKey.stderr, /401/);
  });

  it("listen says why it ends: refused, closed, too few events", async () => {
    const refused = await hometrip(["listen", "--url", gateway.url, "--token", "bad"]).ended;
    assert.deepEqual([refused.code, refused.stderr.split("\n").at(-2)], [1, 'roomcast: refused: {"message":"Invalid or expired token"}']);
    const late = await roomcast(["listen", "--url", demo.url, "--count", "2", "--timeout", "3s"]).ended;
    assert.deepEqual([late.code, late.stderr.split("\n").at(-2)], [1, "roomcast: 1 of 2 events came within 3s"]);
    const enough = await roomcast(["listen", "--url", demo.url, "--timeout", "500ms"]).ended;
    assert.equal(enough.code, 0, enough.stderr);
    const nowhere = await roomcast(["listen", "--url", demo.url, "--protocol", "json", "--path", "/nowhere"]).ended;
    assert.equal(nowhere.code, 1);
    assert.match(nowhere.stderr, /answered 404/);
  });

  it("listen speaks both protocols, and is left with Ctrl-C", async () => {
    const ways = { "socket.io": [], json: ["--protocol", "json"] };
    const speaker = socketIo(demo.url);
    await speaker.next("connected");
    for (const [room, options] of Object.entries(ways)) {
      const listener = roomcast(["listen", "--url", demo.url, ...options, "--emit", `join {"room":"${room}"}`]);
      await until(async () => (await demo.api("GET", "/api/rooms")).json.rooms[room], (count) => count === 1, "the listener");
      await speaker.ask("join", { room });
      speaker.socket.emit("say", { room, data: "hi" });
      await until(() => listener.output.stdout, (text) => text.includes('  message  '), "the message");
      listener.child.kill("SIGINT");
      const { code, stdout } = await listener.ended;
      assert.equal(code, 0);
      assert.match(stdout, /^\S+Z {2}connected {2}\{.*\n(\S+Z {2}joined {2}.*\n)?\S+Z {2}message {2}\{.*"data":"hi"\}\n$/);
    }
  });

  it("health ends with 0 while the gateway is ready, and with 1 else", async () => {
    const good = await hometrip(["health"]).ended;
    assert.equal(good.code, 0, good.stderr);
    assert.equal(JSON.parse(good.stdout).status, "ok");
    const lonely = await startGateway({ env: { RABBITMQ_URL: "amqp://127.0.0.1:1" } });
    assert.equal((await roomcast(["health", "--url", lonely.url]).ended).code, 0);
    const strict = await roomcast(["health", "--url", lonely.url, "--strict"]).ended;
    assert.equal(strict.code, 1);
    assert.match(strict.stderr, /not ready: .* answered 503/);
    await lonely.stop();
    assert.equal((await roomcast(["health", "--url", lonely.url]).ended).code, 1);
  });

  it("a gateway that cannot start says why and ends with 1", async () => {
    const taken = await roomcast(["demo", "--port", String(demo.port)]).ended;
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, new RegExp(`127\\.0\\.0\\.1:${demo.port}`));
    const stray = plain(`${demo.ws}/ws`);
    await stray.next("connected");
  });
});
