// Venta's clients and services against the gateway that takes their old one's place: plain WebSockets and Socket.IO in the same rooms, gRPC services
// and Redis channels behind. None of them may notice.

import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients, plain, socketIo } from "./support/clients.mjs";
import { freePort, SHARDS, startGateway } from "./support/gateway.mjs";
import { gate, shipped, startService, status } from "./support/grpc.mjs";
import { Recorder, until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { badTokens, tokenOf } from "./support/token.mjs";
import { ventaClient } from "./support/venta_client.mjs";

const HERE = { lat: 52.52, long: 13.405 };
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** The Location and the Vendor service, as far as clients can tell them from the real ones. */
async function startServices() {
  const [locations, vendors] = [new Map(), new Map()];
  const behaviour = { held: null };
  const location = await startService(
    shipped("venta/location.proto"),
    {
      LocationService: {
        async UpdateVendorLocation({ vendorId, location }) {
          await behaviour.held?.opened;
          if (vendorId.startsWith("closed")) throw { code: status.FAILED_PRECONDITION, details: "this vendor is closed today" };
          locations.set(vendorId, location);
          return {};
        },
        async GetVendorLocation({ vendorId }) {
          await behaviour.held?.opened;
          if (!locations.has(vendorId)) throw { code: status.NOT_FOUND, details: "no such vendor" };
          return { vendorId, location: locations.get(vendorId) };
        },
      },
    },
  );
  const vendor = await startService(
    shipped("venta/vendor.proto"),
    {
      VendorService: {
        async GetVendor({ vendorId }) {
          if (!vendors.has(vendorId)) throw { code: status.NOT_FOUND, details: "no such vendor" };
          return { vendorId, vendor: vendors.get(vendorId) };
        },
      },
    },
  );
  return { locations, vendors, behaviour, location, vendor, env: { LOCATION_SERVICE_URL: location.address, VENDOR_SERVICE_URL: vendor.address } };
}

let redis;
let services;
before(async () => {
  [redis, services] = await Promise.all([Redis.start(), startServices()]);
});
after(async () => {
  services.location.stop();
  services.vendor.stop();
  await redis.kill();
});

for (const shards of SHARDS) {
  describe(`Venta on ${shards} shard(s)`, () => {
    let gateway;
    let number = 0;
    /** An id that no other test knows, so that nothing is kept under it. */
    const fresh = (what) => `${what}-${shards}-${(number += 1)}`;
    before(async () => {
      // Tests send more than a client would; the limits have a gateway of their own.
      gateway = await startGateway({ profile: "venta", shards, env: { ...services.env, REDIS_URL: redis.url, WS_RATE_LIMIT: "0" } });
      await gateway.health((health) => health.redis === "connected", "Redis");
    });
    after(() => gateway.stop());
    afterEach(() => {
      services.behaviour.held?.open();
      services.behaviour.held = null;
      closeClients();
    });

    const app = async (path, userId, claims = {}, at = gateway) => {
      const client = plain(`${at.ws}${path}?token=${tokenOf(userId, claims)}`, { name: `${userId} on ${path}` });
      await client.events.next((item) => item.open, "the opening");
      client.ask = async (type, data, answer) => {
        const from = client.events.items.length;
        client.send({ type, data });
        return client.next(answer, () => true, from);
      };
      client.subscribe = (kind, vendorId) => client.ask(`subscribe_${kind}`, { vendorId, userId }, "subscribed");
      return client;
    };
    const page = async (namespace, userId, claims = {}) => {
      const client = socketIo(gateway.url, { namespace, token: tokenOf(userId, claims), name: `${userId} in ${namespace}` });
      await client.next("connect");
      return client;
    };
    /** What came to a client of either kind, as `{name, data}`, but for heartbeats. */
    const seen = (client) =>
      client.events.items
        .map(({ event, args, json }) => (json ? { name: json.type, data: json.data } : { name: event, data: args?.[0] }))
        .filter(({ name }) => ["location_updated", "vendor_updated"].includes(name));

    it("subscribing is answered, then the service's value comes, to both kinds of clients", async () => {
      const id = fresh("vendor");
      services.locations.set(id, HERE);
      services.vendors.set(id, { name: "Ada's tacos", phone: "1", email: "a@b.example", website: "w" });
      const client = await app("/ws/location", "carol");
      assert.deepEqual(await client.subscribe("location", id), { type: "subscribed", data: { vendorId: id } });
      const { type, data } = await client.next("location_updated");
      assert.deepEqual([type, data.vendorId, data.location], ["location_updated", id, HERE]);
      assert.match(data.timestamp, TIMESTAMP);
      assert.deepEqual(client.events.items.filter((item) => item.json).map((item) => item.json.type), ["subscribed", "location_updated"]);

      const stock = await page("/vendor", "dave");
      assert.deepEqual(await stock.ask("subscribe_vendor", { vendorId: id, userId: "dave" }), { success: true });
      const details = await stock.next("vendor_updated");
      assert.deepEqual([details.vendorId, details.vendor.name, "description" in details.vendor], [id, "Ada's tacos", false]);
      assert.match(details.timestamp, TIMESTAMP);
    });

    it("both paths and both namespaces take all four commands", async () => {
      const id = fresh("vendor");
      for (const path of ["/ws/location", "/ws/vendor"]) {
        const client = await app(path, "carol");
        for (const kind of ["location", "vendor"]) {
          assert.deepEqual(await client.subscribe(kind, id), { type: "subscribed", data: { vendorId: id } });
          assert.deepEqual(await client.ask(`unsubscribe_${kind}`, { vendorId: id }, "unsubscribed"), { type: "unsubscribed", data: { vendorId: id } });
          assert.deepEqual((await client.ask(`unsubscribe_${kind}`, { vendorId: id }, "unsubscribed")).type, "unsubscribed", "once more is no fault");
        }
      }
      for (const namespace of ["/location", "/vendor"]) {
        const client = await page(namespace, "dave");
        for (const command of ["subscribe_location", "subscribe_vendor", "unsubscribe_location", "unsubscribe_vendor"]) {
          assert.deepEqual(await client.ask(command, { vendorId: id }), { success: true }, `${namespace} ${command}`);
        }
      }
      const main = await page("/", "erin");
      assert.equal((await main.ask("subscribe_location", { vendorId: id })).code, "unknown_command");
    });

    it("a Socket.IO client and a plain one in the same room see the same events in the same order", async () => {
      const id = fresh("vendor");
      const [one, other, third] = [await app("/ws/location", "carol"), await page("/location", "dave"), await app("/ws/vendor", "erin")];
      await one.subscribe("location", id);
      await third.subscribe("location", id);
      await other.ask("subscribe_location", { vendorId: id });
      const vendor = await app("/ws/location", id);
      const stockVendor = await page("/location", "someone", { role: "vendor", vendorId: id });
      const senders = [
        (data) => vendor.send({ type: "update_location", data }),
        (data) => stockVendor.socket.emit("update_location", data),
        (data) => redis.publish("venta:location", data),
      ];
      let sent = 0;
      for (const send of [...senders, ...senders]) {
        for (let burst = 0; burst < 10; burst += 1) await send({ vendorId: id, location: { lat: (sent += 1), long: 0.5 } });
        for (const client of [one, other, third]) await until(() => seen(client).length, (count) => count >= sent, `${sent} events`);
      }
      const lats = (client) => seen(client).map(({ data }) => data.location.lat);
      assert.deepEqual(lats(one), Array.from({ length: sent }, (_, n) => n + 1));
      assert.deepEqual(seen(other), seen(one));
      assert.deepEqual(lats(third), lats(one));
    });

    it("a vendor's location goes to the service, then to the members, with a timestamp", async () => {
      const id = fresh("vendor");
      const [member, vendor] = [await app("/ws/location", "carol"), await page("/location", id)];
      await member.subscribe("location", id);
      assert.deepEqual(await vendor.ask("update_location", { vendorId: id, location: { ...HERE, altitude: 7 } }), { success: true });
      const { data } = await member.next("location_updated");
      assert.deepEqual([data.vendorId, data.location], [id, HERE]);
      assert.match(data.timestamp, TIMESTAMP);
      assert.deepEqual(services.locations.get(id), HERE);
      const late = await app("/ws/location", "dave");
      await late.subscribe("location", id);
      assert.deepEqual(await late.next("location_updated"), { type: "location_updated", data }, "who comes later gets the latest");
    });

    it("bad places, vendors that are not yours and refusals of the service come back as errors, and nobody else hears of them", async () => {
      const id = fresh("closed");
      const [member, vendor, stranger] = [await page("/location", "carol"), await app("/ws/location", id), await app("/ws/location", "mallory", { role: "vendor", vendorId: "another" })];
      await member.ask("subscribe_location", { vendorId: id });
      const update = (client, location, more = {}) => client.ask("update_location", { vendorId: id, location, ...more }, "error");
      for (const [client, location, code, words, more] of [
        [vendor, { lat: 90.5, long: 0 }, "bad_field", /^location\.lat must be a number from -90 to 90/],
        [vendor, { lat: 0, long: -181 }, "bad_field", /^location\.long must be a number from -180 to 180/],
        [vendor, { lat: "1", long: 0 }, "bad_field", /^location\.lat must be/],
        [vendor, { lat: 1 }, "bad_field", /^location\.long is missing/],
        [vendor, undefined, "bad_field", /^location is missing/],
        [vendor, HERE, "refused", /this vendor is closed today/],
        [vendor, HERE, "forbidden", /userId is not the token's/, { userId: "someone else" }],
        [stranger, HERE, "forbidden", /is not your vendor/],
      ]) {
        const { type, data } = await update(client, location, more);
        assert.deepEqual([type, data.code], ["error", code], JSON.stringify(data));
        assert.match(data.message, words);
      }
      assert.equal(services.locations.has(id), false);
      await redis.publish("venta:location", { vendorId: id, location: HERE });
      await member.next("location_updated");
      assert.equal(seen(member).length, 1);
    });

    it("a message that is no JSON, of an unknown type or without its fields is answered, and the connection lives on", async () => {
      const client = await app("/ws/vendor", "carol");
      for (const [text, code] of [
        ["hello", "bad_message"],
        ['{"data":{}}', "bad_message"],
        ['{"type":"fly","data":{}}', "unknown_command"],
        ['{"type":"subscribe_vendor"}', "bad_field"],
        ['{"type":"subscribe_vendor","data":{"vendorId":""}}', "bad_field"],
        ['{"type":"subscribe_vendor","data":{"vendorId":"1","userId":"dave"}}', "forbidden"],
      ]) {
        const from = client.events.items.length;
        client.send(text);
        assert.equal((await client.next("error", () => true, from)).data.code, code, text);
      }
      assert.equal((await client.subscribe("vendor", 7)).data.vendorId, 7);
    });

    it("what services publish to Redis reaches the members, keeps its fields, and is kept for who comes later", async () => {
      const id = fresh("vendor");
      const [client, stock] = [await app("/ws/vendor", "carol"), await page("/vendor", "dave")];
      await client.subscribe("vendor", id);
      await stock.ask("subscribe_vendor", { vendorId: id });
      const vendor = { name: "Tacos ✈", description: "new", rating: 4.5, tags: ["a"] };
      assert.ok((await redis.publish("venta:vendor", { vendorId: id, vendor, timestamp: "2026-01-01T00:00:00.000Z" })) >= 1);
      const expected = { vendorId: id, vendor, timestamp: "2026-01-01T00:00:00.000Z" };
      assert.deepEqual((await client.next("vendor_updated")).data, expected);
      assert.deepEqual(await stock.next("vendor_updated"), expected);
      await redis.publish("venta:vendor", "no JSON");
      await redis.publish("venta:vendor", { vendor });
      await redis.publish("venta:vendor", { vendorId: id });
      await redis.publish("venta:vendor", { vendorId: id, vendor: { name: "newer" } });
      const newer = await client.next("vendor_updated", ({ data }) => data.vendor.name === "newer");
      assert.match(newer.data.timestamp, TIMESTAMP);
      const late = await app("/ws/location", "erin");
      await late.subscribe("vendor", id);
      assert.deepEqual(await late.next("vendor_updated"), newer);
      await stock.next("vendor_updated", ({ vendor }) => vendor.name === "newer");
      assert.equal(seen(stock).length, 2);
    });

    it("the server API reaches the rooms of a namespace", async () => {
      const id = fresh("vendor");
      const [client, stock] = [await app("/ws/location", "carol"), await page("/location", "dave")];
      await client.subscribe("location", id);
      await stock.ask("subscribe_location", { vendorId: id });
      const data = { vendorId: id, location: HERE, timestamp: "2026-01-01T00:00:00.000Z" };
      const answer = await gateway.api("POST", "/api/publish", { namespace: "/location", rooms: [`location:${id}`], event: "location_updated", data });
      assert.deepEqual(answer, { status: 200, json: { delivered: 2 } });
      assert.deepEqual((await client.next("location_updated")).data, data);
      assert.deepEqual(await stock.next("location_updated"), data);
    });

    it("a slow service holds nobody up, and its late answer overwrites nothing newer", async () => {
      const id = fresh("vendor");
      services.locations.set(id, { lat: -1, long: -1 });
      services.behaviour.held = gate();
      const client = await app("/ws/location", "carol");
      assert.equal((await client.subscribe("location", id)).type, "subscribed");
      await services.location.calls.next(({ request }) => request.vendorId === id, "the question");
      await redis.publish("venta:location", { vendorId: id, location: HERE });
      assert.deepEqual((await client.next("location_updated")).data.location, HERE);
      services.behaviour.held.open();
      await redis.publish("venta:location", { vendorId: id, location: { lat: 1, long: 1 } });
      await client.next("location_updated", ({ data }) => data.location.lat === 1);
      assert.deepEqual(seen(client).map(({ data }) => data.location.lat), [HERE.lat, 1]);
    });

    it("without a token, and with a bad one, clients are told why and closed with 4401", async () => {
      const none = plain(`${gateway.ws}/ws/location`);
      assert.equal((await none.next("error")).data.message, "Authentication required");
      assert.equal((await none.closed()).close, 4401);
      for (const [what, token] of Object.entries(badTokens())) {
        const client = plain(`${gateway.ws}/ws/vendor?token=${encodeURIComponent(token)}`);
        assert.equal((await client.next("error")).data.message, "Invalid or expired token", what);
        assert.equal((await client.closed()).close, 4401, what);
      }
      const stock = socketIo(gateway.url, { namespace: "/location" });
      assert.equal((await stock.next("connect_error")).message, "Authentication required");
    });

    it("operators see the documents of their system", async () => {
      const [one, other] = [await app("/ws/location", "carol"), await app("/ws/vendor", "dave")];
      const { json } = await gateway.get("/ws/status");
      assert.equal(json.status, "ok");
      assert.equal(json.maxConnections, 1000);
      assert.ok(json.connections >= 2 && json.endpoints.location >= 1 && json.endpoints.vendor >= 1 && json.uptime >= 0, JSON.stringify(json));
      const health = (await gateway.get("/health")).json;
      assert.deepEqual([health.status, health.service, health.redis], ["ok", "websocket-gateway", "connected"]);
      const metrics = await gateway.get("/metrics");
      assert.match(metrics.body, /^roomcast_connections \d+$/m);
      one.close();
      other.close();
    });
  });
}

describe("Venta's own settings", () => {
  afterEach(closeClients);

  it("the client that its team wrote works word for word, and comes back by itself", async () => {
    const port = await freePort();
    const env = { JWT_SECRET: "", WS_HEARTBEAT_INTERVAL: "1000", REDIS_URL: redis.url };
    const gateway = await startGateway({ profile: "venta", port, env });
    await gateway.health((health) => health.redis === "connected", "Redis");
    const said = new Recorder("the client's console");
    const { VentaWebSocketClient, opened } = ventaClient((...words) => said.add(words));
    const client = new VentaWebSocketClient(`${gateway.ws}/ws/location`);
    await said.next(([words]) => words === "Connected to WebSocket", "the connection");
    client.subscribeToLocation("vendor123", "user123");
    await until(() => redis.publish("venta:location", { vendorId: "vendor123", location: HERE, timestamp: "t" }).then(() => said.items), (items) => items.some(([words]) => words === "Location updated:"), "an update");
    const [, data] = said.items.find(([words]) => words === "Location updated:");
    assert.deepEqual(data, { vendorId: "vendor123", location: HERE, timestamp: "t" });
    // It answers our `ping`, which must be no fault.
    const frames = new Recorder("the client's socket");
    opened[0].on("message", (message) => frames.add(JSON.parse(message)));
    for (let n = 0, from = 0; n < 3; n += 1, from = frames.items.length) await frames.next((message) => message.type === "ping", "a ping", from);
    assert.deepEqual(frames.items.filter((message) => message.type === "error"), []);

    await gateway.kill();
    const again = await startGateway({ profile: "venta", port, env });
    const connections = () => said.items.filter(([words]) => words === "Connected to WebSocket").length;
    await until(connections, (count) => count >= 2, "the client to be back");
    client.maxReconnectAttempts = 0;
    opened.at(-1).terminate();
    await again.stop();
  });

  it("the team's own proto file, in the folder that it is started in, wins over the one that comes with the gateway", async () => {
    const own = readFileSync(shipped("venta/location.proto"), "utf8").replaceAll("= 1;", "= 4;").replaceAll("= 2;", "= 9;");
    const files = { "profiles/venta/location.proto": own };
    const folder = mkdtempSync(join(tmpdir(), "roomcast-proto-"));
    writeFileSync(join(folder, "location.proto"), own);
    const stored = [];
    const handlers = { LocationService: { UpdateVendorLocation: async (request) => (stored.push(request), {}), GetVendorLocation: async ({ vendorId }) => ({ vendorId, location: HERE }) } };
    const service = await startService(join(folder, "location.proto"), handlers);
    const gateway = await startGateway({ profile: "venta", files, env: { JWT_SECRET: "", LOCATION_SERVICE_URL: service.address } });
    const client = socketIo(gateway.url, { namespace: "/location" });
    await client.next("connect");
    assert.deepEqual(await client.ask("subscribe_location", { vendorId: "v" }), { success: true });
    assert.deepEqual((await client.next("location_updated")).location, HERE);
    assert.deepEqual(await client.ask("update_location", { vendorId: "v", location: { lat: -1, long: 2 } }), { success: true });
    assert.deepEqual(stored, [{ vendorId: "v", location: { lat: -1, long: 2 } }]);
    await gateway.stop();
    service.stop();
    rmSync(folder, { recursive: true });
  });

  it("what clients say before there is a key to judge their tokens by is done in its order once they are let in, and not if they are not", async () => {
    const [pair, other] = [1, 2].map(() => generateKeyPairSync("ec", { namedCurve: "P-256" }));
    const held = gate();
    const keys = createServer(async (_, answer) => {
      await held.opened;
      answer.end(JSON.stringify({ keys: [{ ...pair.publicKey.export({ format: "jwk" }), kid: "k", alg: "ES256", use: "sig" }] }));
    });
    await new Promise((listening) => keys.listen(0, "127.0.0.1", listening));
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const said = `${part({ alg: "ES256", kid: "k" })}.${part({ sub: "v" })}`;
    const signed = (key) => `${said}.${sign("sha256", said, { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
    const gateway = await startGateway({ profile: "venta", env: { JWT_SECRET: "", JWKS_URL: `http://127.0.0.1:${keys.address().port}/keys` } });
    const [one, bad] = [pair, other].map(({ privateKey }) => plain(`${gateway.ws}/ws/location?token=${signed(privateKey)}`));
    for (const client of [one, bad]) {
      await client.events.next((item) => item.open, "the opening");
      client.send({ type: "subscribe_location", data: { vendorId: "v", userId: "v" } });
      for (let lat = 1; lat <= 40; lat += 1) client.send({ type: "update_location", data: { vendorId: "v", location: { lat, long: 0 } } });
    }
    await until(() => gateway.metric("roomcast_messages_received_total"), (count) => count === 82, "all to be there");
    held.open();
    await one.next("subscribed");
    await one.next("location_updated", ({ data }) => data.location.lat === 31);
    const types = (client) => client.events.items.filter((item) => item.json).map(({ json }) => json.data.code ?? json.data.location?.lat ?? json.type);
    assert.deepEqual(types(one), [...Array(9).fill("busy"), "subscribed", ...Array.from({ length: 31 }, (_, n) => n + 1)]);
    assert.equal((await bad.closed()).close, 4401);
    assert.deepEqual(types(bad), [...Array(9).fill("busy"), "bad_token"]);
    await gateway.stop();
    keys.close();
  });

  it("without a key access is open, and the log says so", async () => {
    const gateway = await startGateway({ profile: "venta", env: { JWT_SECRET: "" } });
    assert.ok(gateway.log.items.some(({ level, message }) => level === "warn" && /access is open/.test(message)));
    const client = plain(`${gateway.ws}/ws/location`);
    await client.events.next((item) => item.open, "the opening");
    client.send({ type: "subscribe_location", data: { vendorId: "v", userId: "whoever" } });
    await client.next("subscribed");
    client.send({ type: "update_location", data: { vendorId: "v", location: HERE } });
    assert.deepEqual((await client.next("location_updated")).data.location, HERE, "no service is set: it goes to the members");
    const late = plain(`${gateway.ws}/ws/location`);
    await late.events.next((item) => item.open, "the opening");
    late.send({ type: "subscribe_location", data: { vendorId: "v" } });
    assert.deepEqual((await late.next("location_updated")).data.location, HERE);
    await gateway.stop();
  });

  it("services that are down cost the snapshot alone; an update then says that it was not stored", async () => {
    const port = await freePort();
    const env = { LOCATION_SERVICE_URL: `127.0.0.1:${port}`, VENDOR_SERVICE_URL: `127.0.0.1:${port}`, JWT_SECRET: "", WS_RATE_LIMIT: "0" };
    const gateway = await startGateway({ profile: "venta", env });
    const client = socketIo(gateway.url, { namespace: "/location" });
    await client.next("connect");
    assert.deepEqual(await client.ask("subscribe_location", { vendorId: "v" }), { success: true });
    assert.deepEqual(await client.ask("subscribe_vendor", { vendorId: "v" }), { success: true });
    assert.equal((await client.ask("update_location", { vendorId: "v", location: HERE })).code, "unavailable");
    assert.equal(client.names().includes("location_updated"), false);
    client.close();
    await gateway.stop();
  });

  it("a client that answers protocol pings stays however silent it is, one that is gone is closed with 4408, Socket.IO gets an event", async () => {
    const gateway = await startGateway({ profile: "venta", env: { JWT_SECRET: "", WS_HEARTBEAT_INTERVAL: "1000" } });
    const [wscat, gone] = [plain(`${gateway.ws}/ws/location`), plain(`${gateway.ws}/ws/location`, { autoPong: false })];
    const stock = socketIo(gateway.url, { namespace: "/vendor" });
    assert.deepEqual(await gone.next("ping"), { type: "ping" });
    assert.equal((await gone.closed()).close, 4408);
    for (let beat = 0; beat < 5; beat += 1) {
      const [from, stockFrom] = [wscat.events.items.length, stock.events.items.length];
      await wscat.next("ping", () => true, from);
      await stock.next("ping", () => true, stockFrom);
    }
    assert.equal(wscat.socket.readyState, wscat.socket.OPEN);
    assert.equal(stock.socket.connected, true);
    await gateway.stop();
  });

  it("one connection too many is refused with 503, as JSON; too many messages are told so, and ten times as many end the connection", async () => {
    const gateway = await startGateway({ profile: "venta", env: { JWT_SECRET: "", WS_MAX_CONNECTIONS: "2", WS_RATE_LIMIT: "5" } });
    const [one, other] = [plain(`${gateway.ws}/ws/location`), plain(`${gateway.ws}/ws/vendor`)];
    await Promise.all([one, other].map((client) => client.events.next((item) => item.open, "the opening")));
    const refused = await new Promise((resolve) => {
      const third = plain(`${gateway.ws}/ws/location`);
      third.socket.on("unexpected-response", (_, response) => {
        let body = "";
        response.on("data", (part) => (body += part));
        response.on("end", () => resolve({ status: response.statusCode, after: response.headers["retry-after"], json: JSON.parse(body) }));
      });
    });
    assert.equal(refused.status, 503);
    assert.match(refused.after, /^\d+$/);
    assert.ok(refused.json.error, JSON.stringify(refused.json));

    for (let sent = 0; sent < 5; sent += 1) one.send({ type: "subscribe_location", data: { vendorId: sent } });
    one.send({ type: "subscribe_location", data: { vendorId: "too many" } });
    assert.equal((await one.next("error")).data.code, "rate_limited");
    assert.equal(one.events.items.filter((item) => item.json?.type === "subscribed").length, 5);
    for (let sent = 0; sent < 60; sent += 1) one.send({ type: "pong" });
    assert.equal((await one.closed()).close, 1008);
    other.send({ type: "subscribe_vendor", data: { vendorId: "v" } });
    await other.next("subscribed");
    assert.equal((await gateway.get("/ws/status")).json.maxConnections, 2);
    await gateway.stop();
  });

  it("messages over the limit end a connection at ten times the limit and not before, however high it is", async () => {
    const gateway = await startGateway({ profile: "venta", env: { JWT_SECRET: "", WS_RATE_LIMIT: "300" } });
    const client = plain(`${gateway.ws}/ws/location`);
    await client.events.next((item) => item.open, "the opening");
    const limited = (count) => until(() => client.events.items.filter((item) => item.json?.data?.code === "rate_limited").length, (found) => found >= count, `${count} refusals`);
    for (let sent = 0; sent < 300 + 2_000; sent += 1) client.send({ type: "pong" });
    await limited(1_900);
    assert.equal(client.socket.readyState, client.socket.OPEN);
    for (let sent = 0; sent < 2_000; sent += 1) client.send({ type: "pong" });
    assert.equal((await client.closed()).close, 1008);
    await gateway.stop();
  });

  it("Redis may go and come back: clients stay, health says so, events flow again", async () => {
    const own = await Redis.start();
    const gateway = await startGateway({ profile: "venta", env: { JWT_SECRET: "", REDIS_URL: own.url } });
    await gateway.health((health) => health.redis === "connected", "Redis");
    const client = plain(`${gateway.ws}/ws/location`);
    await client.events.next((item) => item.open, "the opening");
    client.send({ type: "subscribe_location", data: { vendorId: "v" } });
    await client.next("subscribed");
    await own.kill();
    await gateway.health((health) => health.status === "degraded" && health.redis === "disconnected", "its absence to be seen");
    await own.start();
    await gateway.health((health) => health.status === "ok" && health.redis === "connected", "its return");
    assert.equal(await own.publish("venta:location", { vendorId: "v", location: HERE }), 1);
    assert.deepEqual((await client.next("location_updated")).data.location, HERE);
    await own.kill();
    await gateway.stop();
  });
});
