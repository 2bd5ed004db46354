// The server API as gRPC, under the client that services in Node use, by the proto file and by reflection, on every port that speaks it.

import assert from "node:assert/strict";
import { connect } from "node:http2";
import net from "node:net";
import { after, afterEach, before, describe, it } from "node:test";

import { certificate } from "./support/certificate.mjs";
import { closeClients, connected } from "./support/clients.mjs";
import { API_KEY, SHARDS, freePort, startGateway } from "./support/gateway.mjs";
import { closeGrpc, health, reflect, reflectedApi, serverApi, status, trusting } from "./support/server_api.mjs";
import { Recorder, within } from "./support/recorder.mjs";
import { tokenOf } from "./support/token.mjs";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** Someone in a room. */
async function member(gateway, user, room) {
  const client = await connected(gateway.url, { token: tokenOf(user), name: user });
  assert.equal((await client.ask("join_room", { roomType: "conversation", roomId: room })).success, true);
  return client;
}

/** Sends bytes; resolves when the gateway has closed. */
function sayAndWait(port, ...parts) {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.resume();
  for (const part of parts) socket.write(part);
  return within(new Promise((resolve) => socket.on("close", resolve)), "the gateway to close");
}

for (const shards of SHARDS) {
  describe(`gRPC on ${shards} shard(s)`, () => {
    let gateway;
    let ports;
    before(async () => {
      const [operators, own] = [await freePort(), await freePort()];
      const apart = await startGateway({ shards, env: { OPS_PORT: String(operators) } });
      gateway = await startGateway({ shards, env: { GRPC_PORT: String(own) } });
      ports = { apart, service: `127.0.0.1:${gateway.port}`, own: `127.0.0.1:${own}`, operators: `127.0.0.1:${operators}` };
    });
    after(async () => {
      closeGrpc();
      await Promise.all([gateway.stop(), ports.apart.stop()]);
    });
    afterEach(() => {
      closeClients();
      closeGrpc();
    });

    for (const port of ["service", "own", "operators"]) {
      it(`every call on the ${port} port`, async () => {
        const of = port === "operators" ? ports.apart : gateway;
        const api = serverApi(ports[port]);
        const [ann, bob] = [await member(of, "ann", "7"), await member(of, "bob", "7")];
        const data = { text: "é", n: 1.5 };
        const publish = { rooms: ["conversation:7"], except: ["user:bob"], event: "note", dataJson: JSON.stringify(data) };
        assert.deepEqual(await api.Publish(publish), { delivered: 1 });
        assert.deepEqual(await ann.next("note"), data);
        assert.deepEqual(await api.Publish({ everyone: true, event: "all", namespace: "/" }), { delivered: 2 });
        await bob.next("all");
        assert.ok(!bob.names().includes("note"));

        assert.equal((await api.ListRooms()).rooms["conversation:7"], 2);
        const room = await api.GetRoom({ room: "conversation:7" });
        assert.equal(room.members, 2);
        assert.deepEqual(room.sockets.map((socket) => socket.userId).sort(), ["ann", "bob"]);
        assert.equal((await api.GetPresence({ userId: "ann" })).online, true);

        const { socketId } = room.sockets.find((socket) => socket.userId === "bob");
        assert.deepEqual(await api.Disconnect({ socketId }), { disconnected: 1 });
        assert.equal(await bob.next("disconnect"), "io server disconnect");
        assert.deepEqual(await api.Disconnect({ userId: "ann" }), { disconnected: 1 });
        assert.equal(await ann.next("disconnect"), "io server disconnect");
      });
    }

    it("where the operators have a port of their own, clients' port has gRPC's health alone", async () => {
      const clients = `127.0.0.1:${ports.apart.port}`;
      await assert.rejects(serverApi(clients).ListRooms(), { code: status.UNIMPLEMENTED });
      assert.equal(await health(clients).check(), "SERVING");
    });

    it("what is wrong with a request is said, and a wrong key is refused", async () => {
      const api = serverApi(ports.service);
      const wrong = { code: status.INVALID_ARGUMENT };
      await assert.rejects(api.Publish({ event: "e" }), { ...wrong, details: /^field "rooms" is empty, and "everyone" is not set/ });
      await assert.rejects(api.Publish({ rooms: ["a"] }), { ...wrong, details: 'field "event" is missing' });
      await assert.rejects(api.Publish({ rooms: ["a"], event: "e", dataJson: "{" }), { ...wrong, details: /^field "data_json" must be JSON/ });
      await assert.rejects(api.Disconnect(), { ...wrong, details: /^field "user_id" is missing, and so is "socket_id"/ });
      for (const key of ["", "wrong", `${API_KEY}x`]) {
        await assert.rejects(serverApi(ports.service, { key }).ListRooms(), { code: status.UNAUTHENTICATED }, `the key ${key}`);
      }
    });

    it("reflection of both revisions tells enough to call without the proto file", async () => {
      for (const revision of ["v1", "v1alpha"]) {
        const [answer] = await reflect(ports.service, revision, { listServices: "" });
        const names = answer.listServicesResponse.service.map((service) => service.name);
        for (const name of ["roomcast.v1.Roomcast", "grpc.health.v1.Health"]) assert.ok(names.includes(name), `${name} in ${names}`);
      }
      const ann = await member(gateway, "ann", "8");
      const api = await reflectedApi(ports.service);
      assert.deepEqual(await api.Publish({ rooms: ["user:ann"], event: "note", data_json: "1" }), { delivered: 1 });
      assert.equal(await ann.next("note"), 1);
    });

    it("documents are answered over HTTP/2, too", async () => {
      const session = connect(`http://${ports.service}`);
      const stream = session.request({ ":path": "/health/ready" });
      const answer = await within(new Promise((resolve, reject) => stream.on("response", resolve).on("error", reject)), "an answer");
      assert.equal(answer[":status"], 200);
      session.close();
    });

    it("nonsense behind the preface ends its connection and no other", async () => {
      const ann = await member(gateway, "ann", "9");
      for (const address of [ports.service, ports.own]) {
        const port = Number(address.split(":")[1]);
        await sayAndWait(port, PREFACE, "this is no frame, and longer than the head of one would be");
        await sayAndWait(port, PREFACE, Buffer.alloc(1000, 0xff));
        await sayAndWait(port, PREFACE.slice(0, 12), PREFACE.slice(12), Buffer.from([0, 0, 0, 1, 5, 0, 0, 0, 2]));
      }
      assert.deepEqual(await serverApi(ports.service).Publish({ rooms: ["conversation:9"], event: "note", dataJson: "2" }), { delivered: 1 });
      assert.equal(await ann.next("note"), 2);
    });
  });

  describe(`gRPC over TLS, on ${shards} shard(s)`, () => {
    const own = certificate();
    let gateway;
    before(async () => (gateway = await startGateway({ shards, env: own.env })));
    after(async () => {
      closeGrpc();
      await gateway.stop();
    });

    it("the service port agrees on HTTP/2 with who speaks nothing else, and clients stay as they were", async () => {
      const ann = await connected(`https://127.0.0.1:${gateway.port}`, { token: tokenOf("ann"), ca: own.ca() });
      const api = serverApi(`localhost:${gateway.port}`, { credentials: trusting(own.ca()) });
      const text = "x".repeat(300_000);
      assert.deepEqual(await api.Publish({ rooms: ["user:ann"], event: "note", dataJson: JSON.stringify(text) }), { delivered: 1 });
      assert.equal(await ann.next("note"), text);
      closeClients();
    });
  });

  describe(`gRPC while a gateway ends, on ${shards} shard(s)`, () => {
    it("health says so at once, calls of the drain delay are answered, and the end waits for no watcher", async () => {
      const gateway = await startGateway({ shards, env: { DRAIN_DELAY: "5s" } });
      const address = `127.0.0.1:${gateway.port}`;
      const told = new Recorder("the health watch");
      const watch = health(address).watch();
      watch.on("data", (answer) => told.add(answer.status));
      watch.on("error", () => told.add("the end"));
      watch.on("end", () => told.add("the end"));
      await told.next((status) => status === "SERVING", "SERVING");
      gateway.signal("SIGTERM");
      await told.next((status) => status === "NOT_SERVING", "NOT_SERVING");
      assert.equal(await health(address).check(), "NOT_SERVING");
      assert.deepEqual(await serverApi(address).Publish({ rooms: ["nobody"], event: "e" }), { delivered: 0 });
      assert.equal((await within(gateway.ended, "the gateway to end")).code, 0);
      await told.next((status) => status === "the end", "the end of the watch");
      closeGrpc();
    });
  });
}

describe("gRPC without a key", () => {
  it("a gateway that has none says how to open the server API", async () => {
    const gateway = await startGateway({ env: { API_KEY: "" } });
    const refused = { code: status.PERMISSION_DENIED, details: /set API_KEY to open it/ };
    await assert.rejects(serverApi(`127.0.0.1:${gateway.port}`).ListRooms(), refused);
    closeGrpc();
    await gateway.stop();
  });
});
