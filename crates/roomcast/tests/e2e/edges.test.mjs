// The edges of plain clients: heartbeats, limits, origins, errors that name the field and its bound, documents that count, and channels of Redis.
// Each in both envelopes and beside Socket.IO, where it is the same for all.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, connected, plain } from "./support/clients.mjs";
import { SHARDS, startGateway } from "./support/gateway.mjs";
import { closeConnections, request, upgrade } from "./support/raw_http.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { tokenOf } from "./support/token.mjs";

/** A depot: trucks are followed over Socket.IO in `/trucks`, at `/ws/trucks` as `{type, data}`, and at `/ws` as flat messages. */
const PROFILE = `
[auth]
token     = "\${ACCESS:-ignored}"
anonymous = { query = "userId", guest = "guest-" }

[[endpoint]]
protocol   = "socket.io"
namespaces = ["/", "/trucks"]
heartbeat  = { event = "ping", every = "\${BEAT_MS:-30000}ms" }

[[endpoint]]
protocol  = "json"
paths     = { "/ws/trucks" = "/trucks" }
envelope  = "data"
heartbeat = { send = { type = "ping" }, every = "\${BEAT_MS:-30000}ms", silent = 5 }

[[endpoint]]
protocol = "json"
path     = "/ws"

[limits]
connections         = "\${CONNECTIONS:-0}"
messages_per_minute = "\${MESSAGES:-0}"

[source.redis]
channels = ["depot:trucks", "depot:news"]

[on.connect]
emit = { to = "self", event = "connected", data = { userId = "{user.id}" } }

[room.truck]
name  = "truck:{truckId}"
enter = true

[command.follow]
args    = { truckId = "id", userId = "id?" }
require = { that = "!has(args.userId) || args.userId == user.id", code = "forbidden", message = "this is not your user id" }
join    = "truck:{args.truckId}"
answer  = { ack = { success = true }, event = "followed", data = { truckId = "{args.truckId}" } }

[command.move]
args   = { truckId = "id", at = { lat = { number = [-90, 90] }, long = { number = [-180, 180] } }, load = { integer = [0, 40], default = 0 } }
answer = { ack = { success = true }, event = "moved", data = { at = "{args.at}", load = "{args.load}" } }

[[route]]
from = "redis:depot:trucks"
add  = { timestamp = "{event.timestamp | now}" }
emit = { namespace = "/trucks", to = "truck:{event.truckId}", event = "truck_moved" }

[[route]]
from = "redis:depot:news"
when = "event.urgent"
emit = { namespace = ["/", "/trucks"], to = "everyone", event = "news" }

[http."GET /ws/status"]
call = { trucks = { sockets = "/trucks" }, rooms = { rooms = "truck" }, followers = { members = "truck" } }
body = { status = "{gateway.status}", connections = "{gateway.openConnections}", maxConnections = "\${CONNECTIONS:-0}", trucks = "{trucks}", rooms = "{rooms}", followers = "{followers}", users = "{gateway.totalUsers}" }

[http."GET /user-status/{userId}"]
call = { seen = { online = "{path.userId}" } }
body = { success = true, data = { userId = "{path.userId}", isConnected = "{seen}" } }
`;

/** A plain client in one of the envelopes; messages and answers look the same to a test. */
const CLIENTS = {
  "{type, data}": (gateway, query = "", options = {}) => {
    const client = plain(`${gateway.ws}/ws/trucks${query}`, options);
    const next = async (type, ...more) => (await client.next(type, ...more)).data;
    return { ...client, next, say: (type, data) => client.send({ type, data }) };
  },
  flat: (gateway, query = "", options = {}) => {
    const client = plain(`${gateway.ws}/ws${query}`, options);
    return { ...client, say: (type, data) => client.send({ type, ...data }) };
  },
};

for (const shards of SHARDS) {
  describe(`edges on ${shards} shard(s)`, () => {
    const gateways = new Set();
    const start = async (env = {}) => {
      const gateway = await startGateway({ text: PROFILE, shards, env });
      gateways.add(gateway);
      return gateway;
    };
    after(() => Promise.all([...gateways].map((gateway) => gateway.stop())));
    afterEach(closeClients);
    afterEach(closeConnections);

    describe("heartbeats", () => {
      let gateway;
      before(async () => (gateway = await start({ BEAT_MS: "500" })));

      it("a plain client that only answers pings is pinged in messages and frames, and stays", async () => {
        const client = CLIENTS["{type, data}"](gateway);
        let frames = 0;
        client.socket.on("ping", () => (frames += 1));
        await until(() => client.events.items.filter((item) => item.text === '{"type":"ping"}').length, (pings) => pings >= 5, "five pings");
        assert.ok(frames >= 5, `${frames} ping frames`);
        client.say("follow", { truckId: "t1" });
        assert.deepEqual(await client.next("followed"), { truckId: "t1" });
      });

      it("a plain client of which nothing comes is closed with 4408", async () => {
        const client = CLIENTS["{type, data}"](gateway, "", { autoPong: false });
        assert.deepEqual(await client.closed(), { close: 4408, reason: "silent" });
      });

      for (const transports of [["websocket"], ["polling"]]) {
        it(`Socket.IO clients get the event in each of their namespaces, and are never closed over it (${transports})`, async () => {
          const main = await connected(gateway.url, { transports });
          // The same connection, in another namespace.
          const trucks = [];
          main.socket.io.socket("/trucks").on("ping", (...args) => trucks.push(args));
          const pings = () => main.events.items.filter((item) => item.event === "ping").map((item) => item.args);
          await until(() => Math.min(pings().length, trucks.length), (count) => count >= 4, "four pings in both");
          assert.deepEqual([pings()[0], trucks[0]], [[], []]);
          assert.ok(!main.names().includes("disconnect"));
        });
      }
    });

    describe("limits", () => {
      for (const [envelope, open] of Object.entries(CLIENTS)) {
        it(`over the rate a message is refused and not handled, and ten times over it the connection ends (${envelope})`, async () => {
          const gateway = await start({ MESSAGES: "5" });
          const client = open(gateway);
          await client.next("connected");
          for (let number = 1; number <= 6; number += 1) client.say("follow", { truckId: `t${number}` });
          assert.deepEqual(await client.next("error"), { ...(envelope === "flat" && { type: "error" }), message: "more than 5 messages a minute", code: "rate_limited" });
          assert.equal(client.events.items.filter((item) => item.json?.type === "followed").length, 5);
          for (let number = 7; number <= 60; number += 1) client.say("follow", { truckId: "t" });
          assert.equal((await client.closed()).close, 1008);
          assert.ok((await gateway.metric("roomcast_rate_limited_total")) >= 1);
          assert.equal((await (await gateway.get("/ws/status")).json).followers, 0, "it is gone from its rooms");
        });
      }

      it("over the rate an acknowledgement says so, and another connection is not concerned", async () => {
        const gateway = await start({ MESSAGES: "5" });
        const client = await connected(gateway.url);
        for (let number = 1; number <= 5; number += 1) assert.deepEqual(await client.ask("follow", { truckId: "t" }), { success: true });
        assert.deepEqual(await client.ask("follow", { truckId: "t" }), { error: "more than 5 messages a minute", code: "rate_limited" });
        assert.deepEqual(await (await connected(gateway.url)).ask("follow", { truckId: "t" }), { success: true });
      });

      it("one connection too many gets 503 with JSON and `Retry-After`, over each way in, and a place that is free is taken", async () => {
        const gateway = await start({ CONNECTIONS: "3" });
        const clients = [await connected(gateway.url), CLIENTS.flat(gateway), CLIENTS["{type, data}"](gateway)];
        for (const client of clients.slice(1)) await client.next("connected");
        const expect503 = ({ status, headers, json }) => {
          assert.equal(status, 503);
          assert.deepEqual(json, { error: "the node takes no new sessions", code: "full" });
          assert.match(headers["retry-after"], /^\d+$/);
        };
        for (const path of ["/ws", "/ws/trucks", "/socket.io/?EIO=4&transport=websocket"]) {
          const { connection, answer } = await upgrade(gateway.url, path);
          expect503(answer);
          connection.destroy();
        }
        expect503(await request(gateway.url, "GET", "/socket.io/?EIO=4&transport=polling"));
        assert.equal((await gateway.get("/health")).status, 200, "documents are no sessions");
        assert.equal((await gateway.get("/ws/status")).json.maxConnections, 3);
        clients[1].close();
        await clients[1].closed();
        await until(async () => (await gateway.get("/ws/status")).json.connections, (open) => open === 2, "a free place");
        await CLIENTS.flat(gateway).next("connected");
      });
    });

    it("of many who come at once as many get in as may", async () => {
      const gateway = await start({ CONNECTIONS: "10" });
      const polling = () => request(gateway.url, "GET", "/socket.io/?EIO=4&transport=polling").then(({ status }) => status === 200);
      const websocket = async (path) => {
        const { answer } = await upgrade(gateway.url, path);
        return answer.status === 101;
      };
      const paths = ["/ws", "/ws/trucks", "/socket.io/?EIO=4&transport=websocket"];
      const letIn = await Promise.all(Array.from({ length: 60 }, (_, index) => (index % 4 === 3 ? polling() : websocket(paths[index % 4]))));
      assert.equal(letIn.filter(Boolean).length, 10);
      assert.equal((await gateway.get("/ws/status")).json.connections, 10);
    });

    it("where there are as many places as clients who come at once, all of them get in, again and again", async () => {
      const gateway = await start({ CONNECTIONS: "9" });
      const transports = [["websocket"], ["polling"], ["polling", "websocket"]];
      for (let round = 0; round < 20; round += 1) {
        const plain = Array.from({ length: 6 }, (_, index) => CLIENTS[index % 2 ? "flat" : "{type, data}"](gateway));
        const stock = await Promise.all(transports.map((transports) => connected(gateway.url, { transports })));
        for (const client of plain) await client.next("connected");
        for (const client of [...plain, ...stock]) client.close();
        await until(async () => (await gateway.get("/ws/status")).json.connections, (open) => open === 0, "all places to be free");
      }
    });

    describe("who may come", () => {
      it("a page from a file (`Origin: null`) may connect where every page may, and not where pages are listed", async () => {
        const open = await start();
        await CLIENTS.flat(open, "", { headers: { origin: "null" } }).next("connected");
        await connected(open.url, { extraHeaders: { origin: "null" } });
        const listed = await start({ CORS_ORIGIN: "https://depot.example" });
        const refused = CLIENTS.flat(listed, "", { headers: { origin: "null" } });
        assert.match((await refused.events.next((item) => item.error, "the refusal")).error, /403/);
        await CLIENTS.flat(listed, "", { headers: { origin: "https://depot.example" } }).next("connected");
      });

      it("a user id in a message must be the token's", async () => {
        const gateway = await start({ ACCESS: "required" });
        for (const [envelope, open] of Object.entries(CLIENTS)) {
          const client = open(gateway, `?token=${tokenOf("42")}`);
          await client.next("connected");
          for (const userId of [42, "42", undefined]) {
            const from = client.events.items.length;
            client.say("follow", { truckId: "t1", userId });
            await client.next("followed", () => true, from);
          }
          client.say("follow", { truckId: "t1", userId: "43" });
          const error = await client.next("error");
          assert.deepEqual([error.code, error.message], ["forbidden", "this is not your user id"], envelope);
        }
      });
    });

    describe("errors", () => {
      const AT = { lat: 1, long: 2 };
      const TABLE = [
        [{ at: AT }, "truckId is missing: it must be an id: a text of 1 to 255 bytes, or an integer"],
        [{ truckId: "", at: AT }, "truckId must be an id: a text of 1 to 255 bytes, or an integer, not an empty text"],
        [{ truckId: "t", at: { lat: 91, long: 2 } }, "at.lat must be a number from -90 to 90, not 91"],
        [{ truckId: "t", at: { lat: -90.5, long: 2 } }, "at.lat must be a number from -90 to 90, not -90.5"],
        [{ truckId: "t", at: { lat: "1", long: 2 } }, "at.lat must be a number from -90 to 90, not a text"],
        [{ truckId: "t", at: { lat: 1 } }, "at.long is missing: it must be a number from -180 to 180"],
        [{ truckId: "t", at: 5 }, "at must be an object, not an integer"],
        [{ truckId: "t", at: AT, load: 41 }, "load must be an integer from 0 to 40, not 41"],
        [{ truckId: "t", at: AT, load: 1.5 }, "load must be an integer from 0 to 40, not a number"],
      ];

      it("name the field and its bound, in every dialect, and the connection lives on", async () => {
        const gateway = await start();
        for (const [envelope, open] of Object.entries(CLIENTS)) {
          const client = open(gateway);
          await client.next("connected");
          for (const [data, message] of TABLE) {
            const from = client.events.items.length;
            client.say("move", data);
            const error = await client.next("error", () => true, from);
            assert.deepEqual([error.code, error.message], ["bad_field", message], envelope);
          }
          client.say("move", { truckId: "t", at: AT });
          assert.deepEqual((await client.next("moved")).at, AT);
          client.say("fly", {});
          assert.equal((await client.next("error", (error) => (error.data ?? error).code === "unknown_command")).code, "unknown_command");
          client.send("not JSON");
          await client.next("error", (error) => (error.data ?? error).code === "bad_message");
        }
        const client = await connected(gateway.url);
        for (const [data, message] of TABLE) assert.deepEqual(await client.ask("move", data), { error: message, code: "bad_field" });
        assert.deepEqual(await client.ask("move", { truckId: "t", at: AT }), { success: true });
      });
    });

    describe("documents", () => {
      it("count connections, sockets, rooms and members, and know who is online", async () => {
        const gateway = await start();
        const mia = CLIENTS["{type, data}"](gateway, "?userId=mia");
        const sam = await connected(gateway.url, { namespace: "/trucks", query: { userId: "sam" } });
        await mia.next("connected");
        mia.say("follow", { truckId: "t1" });
        await mia.next("followed");
        for (const truckId of ["t1", "t2"]) await sam.ask("follow", { truckId });
        await CLIENTS.flat(gateway, "?userId=mia").next("connected");
        const counts = { status: "ok", connections: 3, maxConnections: 0, trucks: 2, rooms: 2, followers: 2, users: 2 };
        assert.deepEqual((await gateway.get("/ws/status")).json, counts);
        for (const [userId, isConnected] of [["mia", true], ["nobody", false]]) {
          assert.deepEqual((await gateway.get(`/user-status/${userId}`)).json, { success: true, data: { userId, isConnected } });
        }
      });
    });

    describe("channels of Redis", () => {
      it("reach plain and Socket.IO clients alike, health follows the server, and it is subscribed to anew", async () => {
        const redis = await Redis.start();
        const gateway = await start(redis.env);
        const state = (wanted) => until(async () => (await gateway.get("/health")).json.redis, (redis) => redis === wanted, `Redis to be ${wanted}`);
        await state("connected");
        const follower = CLIENTS["{type, data}"](gateway);
        const other = await connected(gateway.url, { namespace: "/trucks" });
        await follower.next("connected");
        follower.say("follow", { truckId: 7 });
        await follower.next("followed");
        assert.equal(await redis.publish("depot:trucks", { truckId: 7, at: { lat: 1.0 }, timestamp: "now" }), 1);
        assert.deepEqual(await follower.next("truck_moved"), { truckId: 7, at: { lat: 1 }, timestamp: "now" });
        await redis.publish("depot:news", { urgent: true, text: "fog" });
        assert.deepEqual(await other.next("news"), { urgent: true, text: "fog" });
        await redis.publish("depot:trucks", { at: 1 });
        await redis.publish("depot:news", { urgent: false });
        await until(() => gateway.metric("roomcast_redis_dropped_total"), (dropped) => dropped === 1, "the event that names no truck");
        await redis.kill();
        await state("disconnected");
        assert.equal((await gateway.get("/health/ready")).json.status, "degraded");
        await redis.start();
        await state("connected");
        const from = follower.events.items.length;
        await redis.publish("depot:trucks", '{"truckId":"7", "n":2}');
        assert.equal((await follower.next("truck_moved", () => true, from)).n, 2);
        assert.ok(!other.events.items.some((item) => item.event === "truck_moved"), "who follows nothing gets nothing");
        await gateway.stop();
        gateways.delete(gateway);
        await redis.kill();
      });
    });
  });
}
