// Services behind the gateway: commands that call them, snapshots that come from them, and values that are kept, with a real gRPC server in Node.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { certificate } from "./support/certificate.mjs";
import { closeClients, plain, socketIo } from "./support/clients.mjs";
import { freePort, SHARDS, startGateway } from "./support/gateway.mjs";
import { gate, overTls, shipped, startService, status } from "./support/grpc.mjs";
import { until } from "./support/recorder.mjs";

const PROFILE = `
[auth]
token = "ignored"

[[endpoint]]
protocol = "socket.io"

[[endpoint]]
protocol = "json"
path     = "/ws"
envelope = "data"

[upstream.location]
grpc    = "\${LOCATION_SERVICE_URL:-}"
proto   = "location.proto"
timeout = "\${TIMEOUT:-20s}"

[room.place]
name     = "place:{vendorId}"
enter    = true
keep     = { event = "moved", for = "1h" }
snapshot = { call = "location.LocationService/GetVendorLocation", with = { vendorId = "{room.vendorId}" }, event = "moved", data = { vendorId = "{room.vendorId}", location = "{reply.location}", from = "the service" } }

[command.watch]
args   = { vendorId = "id" }
join   = "place:{args.vendorId}"
answer = { ack = { success = true }, event = "watching", data = { vendorId = "{args.vendorId}" } }

[command.leave]
args  = { vendorId = "id" }
leave = "place:{args.vendorId}"

[command.move]
args   = { vendorId = "id", location = { lat = { number = [-90, 90] }, long = { number = [-180, 180] } } }
call   = { stored = { call = "location.LocationService/UpdateVendorLocation", with = "{args}" } }
answer = { ack = { success = true }, event = "stored", data = { vendorId = "{args.vendorId}" } }
emit   = { to = "place:{args.vendorId}", event = "moved", data = { vendorId = "{args.vendorId}", location = "{args.location}" } }
`;

const HERE = { lat: 0, long: 7.25 };
const PROTO = shipped("venta/location.proto");

for (const shards of SHARDS) {
  describe(`services on ${shards} shard(s)`, () => {
    let port, service, gateway, places, held, vendors;
    before(async () => {
      port = await freePort();
      gateway = await startGateway({ shards, text: PROFILE, env: { LOCATION_SERVICE_URL: `localhost:${port}` } });
      vendors = 0;
    });
    after(() => gateway.stop());
    beforeEach(async () => {
      places = new Map();
      held = undefined;
      service = await startService(
        PROTO,
        {
          LocationService: {
            async UpdateVendorLocation({ vendorId, location }) {
              if (location.lat === 1) throw { code: status.FAILED_PRECONDITION, details: `the vendor ${vendorId} is closed` };
              if (location.lat === 2) throw new Error("thrown, as handlers do");
              if (location.lat === 3) throw { code: status.INTERNAL, details: "the password is 1234" };
              places.set(vendorId, location);
              return {};
            },
            async GetVendorLocation({ vendorId }) {
              await held?.opened;
              if (!places.has(vendorId)) throw { code: status.NOT_FOUND, details: "no such vendor" };
              return { vendorId, location: places.get(vendorId) };
            },
          },
        },
        { port },
      );
    });
    afterEach(() => {
      held?.open();
      service.stop();
      closeClients();
    });

    /** A vendor that no other test knows, so that nothing is kept. */
    const vendor = () => `vendor-${(vendors += 1)}`;
    const client = async () => {
      const client = socketIo(gateway.url);
      await client.next("connect");
      return client;
    };
    const plainClient = async () => {
      const client = plain(`${gateway.ws}/ws`);
      await client.events.next((item) => item.open, "the opening");
      return client;
    };
    /** Stores a place as the service has it, once it answers: a service that was away may be left alone for a while. */
    const answering = () =>
      until(
        async () => (await (await client()).ask("move", { vendorId: vendor(), location: HERE })).success,
        (success) => success,
        "the service to be found",
      );
    const publish = (room, event, data) => gateway.api("POST", "/api/publish", { rooms: [room], event, data });
    const moves = (client) => client.events.items.filter((item) => item.event === "moved").map((item) => item.args[0]);
    const plainMessages = (client) => client.events.items.filter((item) => item.json).map((item) => item.json);

    it("a command goes to the service, and on to the members when it has said yes", async () => {
      await answering();
      const id = vendor();
      const [mover, member] = [await client(), await plainClient()];
      member.send({ type: "watch", data: { vendorId: id } });
      await member.next("watching");
      assert.deepEqual(await mover.ask("move", { vendorId: id, location: HERE }), { success: true });
      assert.deepEqual(await member.next("moved"), { type: "moved", data: { vendorId: id, location: HERE } });
      assert.deepEqual(places.get(id), HERE);
    });

    it("ids may be numbers to clients, and are texts to the service", async () => {
      await answering();
      const id = 1_000_000 + (vendors += 1);
      assert.deepEqual(await (await client()).ask("move", { vendorId: id, location: HERE }), { success: true });
      assert.deepEqual(places.get(String(id)), HERE);
    });

    it("a refusal comes back in the service's own words, and nobody else hears of it", async () => {
      await answering();
      const id = vendor();
      const [mover, plainMover, member] = [await client(), await plainClient(), await client()];
      await member.ask("watch", { vendorId: id });
      for (const [lat, error, code] of [
        [1, `the vendor ${id} is closed`, "refused"],
        [2, "thrown, as handlers do", "refused"],
        [3, "the service `location` failed", "unavailable"],
      ]) {
        const location = { lat, long: 0 };
        assert.deepEqual(await mover.ask("move", { vendorId: id, location }), { error, code });
        const before = plainMover.events.items.length;
        plainMover.send({ type: "move", data: { vendorId: id, location } });
        assert.equal((await plainMover.next("error", () => true, before)).data.code, code);
      }
      assert.deepEqual(await mover.ask("move", { vendorId: id, location: HERE }), { success: true });
      await member.next("moved");
      assert.deepEqual(moves(member), [{ vendorId: id, location: HERE }]);
    });

    it("who enters gets the answer, then the service's value", async () => {
      await answering();
      const id = vendor();
      places.set(id, HERE);
      const expected = { vendorId: id, location: HERE, from: "the service" };
      const [stock, other] = [await client(), await plainClient()];
      await stock.ask("watch", { vendorId: id });
      assert.deepEqual(await stock.next("moved"), expected);
      other.send({ type: "watch", data: { vendorId: id } });
      await other.next("moved");
      assert.deepEqual(plainMessages(other), [
        { type: "watching", data: { vendorId: id } },
        { type: "moved", data: expected },
      ]);
    });

    it("one question serves all who wait for its answer", async () => {
      await answering();
      const id = vendor();
      places.set(id, HERE);
      held = gate();
      const clients = await Promise.all(Array.from({ length: 40 }, client));
      await Promise.all(clients.map((client) => client.ask("watch", { vendorId: id })));
      held.open();
      await Promise.all(clients.map((client) => client.next("moved")));
      assert.ok(service.count("GetVendorLocation") <= shards, `${service.count("GetVendorLocation")} questions`);
    });

    it("an event that comes while the service is asked wins over its answer", async () => {
      await answering();
      const id = vendor();
      places.set(id, { lat: 80, long: 80 });
      held = gate();
      const member = await client();
      await member.ask("watch", { vendorId: id });
      await service.calls.next((call) => call.method === "GetVendorLocation", "the question");
      await publish(`place:${id}`, "moved", { n: 1 });
      held.open();
      // Another question that is asked after it is answered after it: nothing is on its way any more.
      const other = vendor();
      places.set(other, HERE);
      await member.ask("watch", { vendorId: other });
      await member.next("moved", (data) => data.vendorId === other);
      assert.deepEqual(moves(member), [{ n: 1 }, { vendorId: other, location: HERE, from: "the service" }]);
    });

    it("the last event is kept for those who come later, and the service is not asked", async () => {
      await answering();
      const id = vendor();
      await publish(`place:${id}`, "moved", { n: 1 });
      await publish(`place:${id}`, "seen", { n: 2 });
      await publish(`place:${id}`, "moved", { n: 3 });
      const [stock, other] = [await client(), await plainClient()];
      await stock.ask("watch", { vendorId: id });
      assert.deepEqual(await stock.next("moved"), { n: 3 });
      other.send({ type: "watch", data: { vendorId: id } });
      await other.next("moved");
      assert.deepEqual(plainMessages(other), [
        { type: "watching", data: { vendorId: id } },
        { type: "moved", data: { n: 3 } },
      ]);
      const before = stock.events.items.length;
      await stock.ask("watch", { vendorId: id });
      assert.deepEqual(await stock.next("moved", () => true, before), { n: 3 }, "who asks again gets it again");
      assert.equal(service.count("GetVendorLocation"), 0);
    });

    it("nobody gets an event twice or one older than what it has", async () => {
      const id = vendor();
      const clients = await Promise.all(Array.from({ length: 20 }, client));
      const last = 200;
      const publishing = (async () => {
        for (let n = 1; n <= last; n += 1) await publish(`place:${id}`, "moved", { n });
      })();
      for (const member of clients) await member.ask("watch", { vendorId: id });
      await publishing;
      for (const member of clients) {
        await member.next("moved", (data) => data.n === last);
        const seen = moves(member).map((data) => data.n);
        assert.deepEqual(seen, Array.from(seen, (_, index) => last - seen.length + 1 + index), "no gap, no repeat, in order");
      }
    });

    it("a service that knows nothing, or is down, costs the snapshot and never the subscription", async () => {
      await answering();
      const [known, id] = [vendor(), vendor()];
      const member = await client();
      assert.deepEqual(await member.ask("watch", { vendorId: known }), { success: true }, "it answers NOT_FOUND");
      service.stop();
      assert.deepEqual(await member.ask("watch", { vendorId: id }), { success: true });
      const refused = await member.ask("move", { vendorId: id, location: HERE });
      assert.equal(refused.code, "unavailable");
      await publish(`place:${id}`, "moved", { n: 1 });
      assert.deepEqual(await member.next("moved"), { n: 1 });
      assert.deepEqual(moves(member), [{ n: 1 }]);
      assert.ok((await gateway.metric("roomcast_upstream_calls_total")) > 0);
    });
  });
}

describe("services that do not answer", () => {
  it("a command says so when the time is over, and the connection lives on", async () => {
    const held = gate();
    const waiting = { LocationService: { UpdateVendorLocation: () => held.opened, GetVendorLocation: () => held.opened } };
    const service = await startService(PROTO, waiting);
    const gateway = await startGateway({ text: PROFILE, env: { LOCATION_SERVICE_URL: service.address, TIMEOUT: "300ms" } });
    const client = socketIo(gateway.url);
    await client.next("connect");
    const refused = await client.ask("move", { vendorId: 7, location: HERE });
    assert.deepEqual(refused, { error: "the service `location` did not answer in time", code: "timed_out" });
    assert.deepEqual(await client.ask("watch", { vendorId: 7 }), { success: true });
    client.close();
    held.open({});
    await gateway.stop();
    service.stop();
  });

  it("a service that comes back serves the same connections again, and that it was away is nobody's abuse", async () => {
    const port = await freePort();
    const gateway = await startGateway({ text: PROFILE, env: { LOCATION_SERVICE_URL: `127.0.0.1:${port}` } });
    const [stock, other] = [socketIo(gateway.url), plain(`${gateway.ws}/ws`)];
    await stock.next("connect");
    await other.events.next((item) => item.open, "the opening");
    // More errors than a client may cause itself. One after the other, so that none is refused since others wait.
    const move = { vendorId: 7, location: HERE };
    for (let sent = 0, from = 0; sent < 1_200; sent += 1, from = other.events.items.length) {
      assert.equal((await stock.ask("move", move)).code, "unavailable");
      other.send({ type: "move", data: move });
      assert.equal((await other.next("error", () => true, from)).data.code, "unavailable");
    }
    const handlers = { LocationService: { UpdateVendorLocation: async () => ({}), GetVendorLocation: async () => ({}) } };
    const service = await startService(PROTO, handlers, { port });
    await until(() => stock.ask("move", move), ({ success }) => success, "the service to be found");
    other.send({ type: "move", data: move });
    await other.next("stored");
    assert.equal(stock.names().includes("disconnect"), false);
    await gateway.stop();
    service.stop();
  });

  it("a service that describes itself is believed over the files", async () => {
    const folder = mkdtempSync(join(tmpdir(), "roomcast-proto-"));
    const numbered = readFileSync(PROTO, "utf8").replaceAll("= 1;", "= 11;").replaceAll("= 2;", "= 7;");
    writeFileSync(join(folder, "location.proto"), numbered);
    const stored = [];
    const handlers = {
      LocationService: {
        UpdateVendorLocation: async (request) => (stored.push(request), {}),
        GetVendorLocation: async ({ vendorId }) => ({ vendorId, location: HERE }),
      },
    };
    const service = await startService(join(folder, "location.proto"), handlers, { describes: true });
    const gateway = await startGateway({ text: PROFILE, env: { LOCATION_SERVICE_URL: service.address } });
    const client = socketIo(gateway.url);
    await client.next("connect");
    assert.deepEqual(await client.ask("watch", { vendorId: 7 }), { success: true });
    assert.deepEqual(await client.next("moved"), { vendorId: "7", location: HERE, from: "the service" });
    assert.deepEqual(await client.ask("move", { vendorId: 8, location: HERE }), { success: true });
    assert.deepEqual(stored, [{ vendorId: "8", location: HERE }]);
    const doubts = gateway.log.items.filter(({ level, message }) => level === "warn" && /makes no sense/.test(message));
    assert.deepEqual(doubts, []);
    client.close();
    await gateway.stop();
    service.stop();
    rmSync(folder, { recursive: true });
  });

  it("a service may be behind TLS, if an authority that the machine trusts has signed its certificate", async () => {
    const { ca, key, env } = certificate();
    const handlers = { LocationService: { UpdateVendorLocation: async () => ({}), GetVendorLocation: async () => ({}) } };
    const service = await startService(PROTO, handlers, { credentials: overTls(ca(), readFileSync(key)) });
    const move = async (trusted) => {
      const gateway = await startGateway({ text: PROFILE, env: { LOCATION_SERVICE_URL: `https://${service.address}`, ...trusted } });
      const client = socketIo(gateway.url);
      await client.next("connect");
      const answer = await client.ask("move", { vendorId: 7, location: HERE });
      client.close();
      await gateway.stop();
      return answer;
    };
    assert.deepEqual(await move({ SSL_CERT_FILE: env.TLS_CERT_FILE }), { success: true });
    assert.equal((await move({})).code, "unavailable");
    service.stop();
  });

  it("what it is told of who calls goes with every call", async () => {
    const handlers = { LocationService: { UpdateVendorLocation: async () => ({}), GetVendorLocation: async () => ({}) } };
    const service = await startService(PROTO, handlers, { describes: true });
    const text = PROFILE.replace("proto ", 'authorization = "${LOCATION_AUTHORIZATION:-}"\nproto ');
    for (const [authorization, expected] of [["Bearer of-the-gateway", ["Bearer of-the-gateway"]], ["", []]]) {
      const gateway = await startGateway({ text, env: { LOCATION_SERVICE_URL: service.address, LOCATION_AUTHORIZATION: authorization } });
      const client = socketIo(gateway.url);
      await client.next("connect");
      assert.deepEqual(await client.ask("move", { vendorId: 7, location: HERE }), { success: true });
      assert.deepEqual(service.calls.items.at(-1).authorization, expected);
      client.close();
      await gateway.stop();
    }
    service.stop();
  });

  it("without an address its calls are skipped, and the log says so", async () => {
    const gateway = await startGateway({ text: PROFILE });
    assert.ok(gateway.log.items.some((line) => /no address is set for the upstream `location`/.test(line.message)));
    const client = socketIo(gateway.url);
    await client.next("connect");
    assert.deepEqual(await client.ask("watch", { vendorId: 7 }), { success: true });
    assert.deepEqual(await client.ask("move", { vendorId: 7, location: HERE }), { success: true });
    assert.deepEqual(await client.next("moved"), { vendorId: 7, location: HERE });
    client.close();
    await gateway.stop();
  });
});
