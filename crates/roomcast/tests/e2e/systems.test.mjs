// What holds for all four systems alike, each rule over all of them and over each of their clients' ways in.

import assert from "node:assert/strict";
import { createSign, generateKeyPairSync, sign as signBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";

import { closeClients } from "./support/clients.mjs";
import { API_KEY, SECRET, freePort, roomcast, startGateway } from "./support/gateway.mjs";
import { UPGRADE, closeConnections, request, upgrade } from "./support/raw_http.mjs";
import { until } from "./support/recorder.mjs";
import { closeGrpc, serverApi } from "./support/server_api.mjs";
import { SYSTEMS, come } from "./support/systems.mjs";
import { badTokens, sign, tokenOf } from "./support/token.mjs";

const now = () => Math.floor(Date.now() / 1000);
const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** These tests send more than one client may, and want to hear nothing but answers. */
const QUIET = { WS_RATE_LIMIT: "0", WS_HEARTBEAT_INTERVAL: "600000" };

/** Clients of the test before are gone. */
const isEmpty = (gateway) => until(() => gateway.metric("roomcast_connections"), (open) => open === 0, "the others to be gone");

afterEach(closeClients);
afterEach(closeConnections);

for (const [profile, system] of Object.entries(SYSTEMS)) {
  const ways = Object.entries(system.ways);
  const enter = (client) => client.command(system.enter.command, system.enter.data, system.enter.confirmed);

  describe(`${profile}: who gets in`, () => {
    let gateway;
    before(async () => (gateway = await startGateway({ profile, shards: 2, env: QUIET })));
    after(() => gateway.stop());

    for (const [what, way] of ways) {
      it(`${what}: whatever is wrong with a token, the answer is the same; without one it is another`, async () => {
        const odd = { "two tokens": `${tokenOf("a")}.${tokenOf("b")}`, "a user who is a list": tokenOf(["eve"]), "a user who is an object": tokenOf({ id: 1 }) };
        odd["a user whose id is too long"] = tokenOf("x".repeat(256));
        odd["an algorithm that needs another key"] = sign({ userId: "eve" }, { header: { alg: "RS256" } });
        odd["a header that asks for more"] = sign({ userId: "eve" }, { header: { alg: "HS256", crit: ["b64"], b64: false } });
        odd["an end that is no time"] = sign({ userId: "eve", exp: "never" });
        for (const [kind, token] of Object.entries({ ...badTokens(), ...odd })) {
          assert.equal(await come(gateway, way, { token, name: kind }).refused(), "Invalid or expired token", kind);
        }
        assert.equal(await come(gateway, way).refused(), "Authentication required");
        assert.equal(await come(gateway, way, { token: "" }).refused(), "Authentication required");
      });

      it(`${what}: the user is the first of the claims, as text or integer, and its own room is reached by the server API`, async () => {
        const table = [
          [{ userId: "first", id: "second", sub: "third", user_id: "fourth" }, "first"],
          [{ id: 2, sub: "third", user_id: "fourth" }, "2"],
          [{ userId: null, id: "", sub: "third", user_id: "fourth" }, "third"],
          [{ user_id: 12345678901234567890n, email: "a@b.example", roles: ["x"] }, "12345678901234567890"],
        ];
        for (const [claims, user] of table) {
          const text = JSON.stringify({ ...claims, exp: now() + 60 }, (_, value) => (typeof value === "bigint" ? `#${value}#` : value)).replace(/"#(\d+)#"/g, "$1");
          const client = come(gateway, way, { token: sign(text), name: user });
          await client.entered();
          await until(async () => (await gateway.api("GET", `/api/presence/${user}`)).json.online, Boolean, `${user} to be online`);
          await until(async () => (await gateway.api("GET", "/api/rooms")).json.rooms[`user:${user}`], (members) => members === 1, `the room of ${user}`);
          const published = await gateway.api("POST", "/api/publish", { rooms: [`user:${user}`], event: "note", data: { to: user } });
          assert.deepEqual(published, { status: 200, json: { delivered: 1 } });
          assert.equal((await client.next("note")).to, user);
          const { sockets } = (await gateway.api("GET", `/api/rooms/user:${user}`)).json;
          assert.deepEqual(sockets.map(({ userId }) => userId), [user]);
          client.close();
        }
      });

      it(`${what}: a token in the header is as good${way.path === undefined ? "" : ", and so is one in the pair of subprotocols"}`, async () => {
        const headers = { authorization: `Bearer ${tokenOf("ann")}` };
        const client = come(gateway, way, way.path === undefined ? { extraHeaders: headers } : { headers });
        await client.entered();
        assert.equal((await enter(client)).success, true);
        if (way.path === undefined) return;
        const pair = come(gateway, way, { protocols: ["bearer", tokenOf("bob")] });
        await pair.entered();
        assert.equal(pair.socket.protocol, "bearer");
        assert.equal((await enter(pair)).success, true);
      });

      it(`${what}: a token that ends is told of, and its client goes; one that is refreshed in time stays`, async () => {
        const ending = () => sign({ userId: "ann", exp: now() + 6 });
        const [over, fresh] = [come(gateway, way, { token: ending(), name: "over" }), come(gateway, way, { token: profile === "clan" ? sign({ userId: "bob", exp: now() + 6 }) : ending(), name: "fresh" })];
        const warned = await fresh.next("token_expiring_soon");
        assert.ok(warned.expiresIn >= 1 && warned.expiresIn <= 6, JSON.stringify(warned));
        const user = profile === "clan" ? "bob" : "ann";
        for (const token of [tokenOf("eve"), badTokens().expired, badTokens().foreign, 5, undefined]) {
          const refused = await fresh.command("refresh_token", { token }, "token_refreshed");
          assert.equal(typeof refused.error, "string", `${token}: ${JSON.stringify(refused)}`);
          assert.equal(typeof refused.code, "string");
        }
        const { success, expiresIn } = await fresh.command("refresh_token", { token: tokenOf(user) }, "token_refreshed");
        assert.equal(success, true);
        assert.ok(expiresIn > 3_000 && expiresIn <= 3_600, `${expiresIn}`);
        await over.next("token_expired");
        const numbered = come(gateway, way, { token: sign({ userId: 42, exp: now() + 60 }) });
        await numbered.entered();
        assert.equal((await numbered.command("refresh_token", { token: tokenOf("42") }, "token_refreshed")).success, true);
        assert.equal(await over.ended(), way.path === undefined ? "io server disconnect" : 4401);
        assert.equal((await enter(fresh)).success, true);
        assert.ok(!fresh.names().includes("token_expired"));
      });

      it(`${what}: a command that is wrong is answered with the field or the name that is, and the connection stays`, async () => {
        const client = come(gateway, way, { token: tokenOf("ann") });
        await client.entered();
        const { command, data, field } = system.bad;
        const wrong = await client.command(command, data);
        assert.equal(wrong.code, "bad_field", JSON.stringify(wrong));
        assert.ok(wrong.error.includes(field), wrong.error);
        const unknown = await client.command("fly_away", {});
        assert.deepEqual([unknown.code, unknown.error.includes("fly_away")], ["unknown_command", true]);
        const before = client.events.items.length;
        client.say(command, data);
        const told = await client.next("error", ({ code }) => code === "bad_field", before);
        assert.ok(told.message.includes(field), told.message);
        if (way.path !== undefined) {
          for (const text of ["not JSON", "[1,2]", "5", "{}", '{"type":5}', '{"type":""}']) {
            const from = client.events.items.length;
            client.send(text);
            const { code, message } = await client.next("error", () => true, from);
            assert.ok(["bad_message", "unknown_command", "bad_field"].includes(code) && message.length > 0, `${text}: ${code} ${message}`);
          }
        }
        assert.equal((await enter(client)).success, true);
      });

      it(`${what}: entering twice, and leaving what one is not in, is answered like the first time`, async () => {
        await isEmpty(gateway);
        const client = come(gateway, way, { token: tokenOf("ann") });
        await client.entered();
        const members = async () => (await gateway.api("GET", `/api/rooms/${system.enter.room}`)).json.members;
        assert.deepEqual(await enter(client), await enter(client));
        assert.equal(await members(), 1);
        const leave = () => client.command(system.enter.leave, system.enter.data, system.enter.confirmed?.replace(/^subscribed/, "unsubscribed"));
        assert.deepEqual(await leave(), await leave());
        assert.equal(await members(), 0);
      });
    }

    it("rooms that clients of every kind are in are the same rooms to the server API", async () => {
      await isEmpty(gateway);
      const clients = ways.map(([what, way], index) => come(gateway, way, { token: tokenOf(`user${index}`), name: what }));
      for (const client of clients) {
        await client.entered();
        assert.equal((await enter(client)).success, true);
      }
      const { room } = system.enter;
      assert.equal((await gateway.api("GET", "/api/rooms")).json.rooms[room], clients.length);
      assert.equal((await gateway.api("GET", `/api/rooms/${room}`)).json.sockets.length, clients.length);
      const grpc = serverApi(`127.0.0.1:${gateway.port}`);
      assert.deepEqual(await grpc.Publish({ rooms: [room], event: "by gRPC" }), { delivered: clients.length });
      assert.equal((await grpc.ListRooms()).rooms[room], clients.length);
      assert.equal((await grpc.GetRoom({ room })).members, clients.length);
      closeGrpc();
      for (const client of clients) await client.next("by gRPC");
      assert.deepEqual((await gateway.api("POST", "/api/publish", { rooms: [room], event: "note", data: { n: 1 } })).json, { delivered: clients.length });
      assert.deepEqual((await gateway.api("POST", "/api/publish", { event: "all", except: ["user:user0"], data: { n: 2 } })).json, { delivered: clients.length - 1 });
      for (const client of clients) assert.equal((await client.next("note")).n, 1);
      for (const client of clients.slice(1)) assert.equal((await client.next("all")).n, 2);
      assert.ok(!clients[0].names().includes("all"));
      assert.deepEqual((await gateway.api("POST", "/api/disconnect", { userId: "user0" })).json, { disconnected: 1 });
      assert.equal(await clients[0].ended(), ways[0][1].path === undefined ? "io server disconnect" : 1000);
    });

    it("probes, health and metrics are there, and the server API is its key's alone", async () => {
      for (const path of ["/health", "/health/live", "/health/ready", "/health/ready?strict=1", "/metrics"]) assert.equal((await gateway.get(path)).status, 200, path);
      const { body } = await gateway.get("/metrics?format=prometheus");
      assert.match(body, /^roomcast_connections \d/m);
      assert.equal((await gateway.get("/metrics")).body.startsWith("{"), profile === "hometrip");
      for (const authorization of [undefined, "Bearer wrong", `Basic ${API_KEY}`, API_KEY]) {
        const { status, json } = await gateway.get("/api/rooms", authorization && { authorization });
        assert.deepEqual([status, json.code], [401, "unauthenticated"], authorization);
      }
    });
  });

  describe(`${profile}: keys and variables`, () => {
    it("public keys of each kind and key sets are as good as a secret, and a narrower list is kept to", async () => {
      const kinds = { RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }), ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }), EdDSA: generateKeyPairSync("ed25519") };
      const [, way] = ways[0];
      const keys = Object.entries(kinds).map(([alg, { publicKey }]) => ({ ...publicKey.export({ format: "jwk" }), kid: alg, alg, use: "sig" }));
      const server = createServer((_, answer) => answer.end(JSON.stringify({ keys })));
      await new Promise((resolve) => server.unref().listen(0, "127.0.0.1", resolve));
      const byUrl = await startGateway({ profile, env: { ...QUIET, JWT_SECRET: "", JWKS_URL: `http://127.0.0.1:${server.address().port}/keys` } });
      for (const [alg, { privateKey, publicKey }] of Object.entries(kinds)) {
        const token = signWith(privateKey, alg, { userId: alg, exp: now() + 60 });
        const byKey = await startGateway({ profile, env: { ...QUIET, JWT_SECRET: "", JWT_PUBLIC_KEY: publicKey.export({ type: "spki", format: "pem" }).replaceAll("\n", "\\n") } });
        for (const gateway of [byKey, byUrl]) {
          come(gateway, way, { token });
          await until(async () => (await gateway.api("GET", `/api/presence/${alg}`)).json.online, Boolean, `${alg} to be let in`);
        }
        // The public key as a shared secret: the oldest trick.
        const forged = sign({ userId: "eve" }, { secret: publicKey.export({ type: "spki", format: "pem" }) });
        for (const gateway of [byKey, byUrl]) assert.equal(await come(gateway, way, { token: forged }).refused(), "Invalid or expired token");
        await byKey.stop();
      }
      await byUrl.stop();
      server.close();
      const narrow = await startGateway({ profile, env: { ...QUIET, JWT_ALGORITHMS: "HS512" } });
      assert.equal(await come(narrow, way, { token: tokenOf("ann") }).refused(), "Invalid or expired token");
      come(narrow, way, { token: sign({ userId: "ann" }, { header: { alg: "HS512" } }) });
      await until(async () => (await narrow.api("GET", "/api/presence/ann")).json.online, Boolean, "HS512 to be let in");
      await narrow.stop();
    });

    it("PORT and SERVICE_HOST say where it listens, a `.env` file counts, and the environment wins over it", async () => {
      const [own, other] = [await freePort(), await freePort()];
      const dotenv = `SERVICE_HOST=127.0.0.2\nPORT=${other} # not this one\nAPI_KEY="of the file"\nNODE_ENV=production\nDATABASE_URL=postgres://x\nJWT_EXPIRES_IN=1y\nJWT_REFRESH_EXPIRES_IN=30d\n`;
      const gateway = await startGateway({ profile, dotenv, port: own, env: { API_KEY: undefined }, args: [] });
      assert.equal(gateway.url, `http://127.0.0.2:${own}`);
      assert.equal((await gateway.get("/api/rooms", { authorization: "Bearer of the file" })).status, 200);
      assert.equal((await gateway.get("/api/rooms", { authorization: `Bearer ${API_KEY}` })).status, 401);
      await gateway.stop();
    });

    it("a variable that is missing or makes no sense ends the start with its name", async () => {
      const logs = mkdtempSync(join(tmpdir(), "roomcast-logs-"));
      const usual = { PORT: "0", SERVICE_HOST: "127.0.0.1", JWT_SECRET: SECRET, LOG_DIR: logs };
      const start = (env) => roomcast(["serve", "--profile", profile], { env: { ...usual, ...env } }).ended;
      const table = [[{ PORT: "http" }, /PORT/], [{ JWT_ALGORITHMS: "RS256" }, /JWT_ALGORITHMS/], [{ LOG_LEVEL: "loud" }, /LOG_LEVEL/], [{ SERVICE_HOST: "nowhere.invalid" }, /nowhere\.invalid/]];
      if (system.needsKey) table.push([{ JWT_SECRET: "" }, /JWT_SECRET/]);
      if (system.broker) table.push([{ RABBITMQ_URL: "http://hush@x" }, /RABBITMQ_URL|RabbitMQ URL/]);
      for (const [env, named] of table) {
        const { code, stderr, stdout } = await start(env);
        assert.notEqual(code, 0, JSON.stringify(env));
        assert.match(stderr + stdout, named);
        assert.doesNotMatch(stderr + stdout, /hush/);
      }
      rmSync(logs, { recursive: true });
    });

    const mayBeOpen = !system.needsKey || system.variables;
    if (mayBeOpen) it("without a key everybody gets in, and the start says so", async () => {
      const gateway = await startGateway({ profile, env: { ...QUIET, JWT_SECRET: "", ...system.variables } });
      for (const [, way] of ways) {
        const client = come(gateway, way);
        await client.entered();
        assert.equal((await enter(client)).success, true);
        const refused = await client.command("refresh_token", { token: tokenOf("ann") }, "token_refreshed");
        assert.equal(typeof refused.error, "string");
        client.close();
      }
      if (!system.variables) await gateway.log.next((line) => line.level === "warn" && /access is open/.test(line.message), "the warning");
      await gateway.stop();
    });

    it("a list of origins is kept to over every way in; no origin at all is no page", async () => {
      const gateway = await startGateway({ profile, env: { ...QUIET, CORS_ORIGIN: "https://one.example, https://two.example/" } });
      for (const [what, way] of ways) {
        const path = way.path ?? "/socket.io/?EIO=4&transport=websocket";
        const status = async (origin) => (await upgrade(gateway.url, path, origin && { Origin: origin })).answer.status;
        for (const good of [undefined, "https://one.example", "https://two.example"]) assert.equal(await status(good), 101, `${what} ${good}`);
        for (const bad of ["https://three.example", "http://one.example", "https://one.example.evil", "null", "https://one.example:8443"]) {
          assert.equal(await status(bad), 403, `${what} ${bad}`);
        }
      }
      await gateway.stop();
    });
  });

  describe(`${profile}: ports and proxies`, () => {
    it("with OPS_PORT the key opens nothing on the clients' port, and clients get nothing on the operators'", async () => {
      const operators = await freePort();
      const gateway = await startGateway({ profile, env: { ...QUIET, OPS_PORT: String(operators) } });
      const at = { clients: gateway.url, operators: `http://127.0.0.1:${operators}` };
      const status = async (port, path) => (await request(at[port], "GET", path, { Authorization: `Bearer ${API_KEY}` })).status;
      for (const path of ["/api/rooms", "/api/presence/ann", "/api/openapi.json", "/metrics", "/metrics?format=prometheus"]) {
        assert.deepEqual([await status("clients", path), await status("operators", path)], [404, 200], path);
      }
      for (const path of ["/health/live", "/health/ready", "/health", "/console"]) {
        assert.deepEqual([await status("clients", path), await status("operators", path)], [200, 200], path);
      }
      for (const [what, way] of ways) {
        const path = way.path ?? "/socket.io/?EIO=4&transport=websocket";
        assert.equal((await upgrade(at.operators, path)).answer.status, 404, what);
        const client = come(gateway, way, { token: tokenOf("ann") });
        await client.entered();
      }
      await gateway.stop();
    });

    it("a client's address is what a trusted proxy says, and nobody else's word", async () => {
      for (const [trusted, address] of [["127.0.0.0/8", "203.0.113.7"], ["10.0.0.0/8", "127.0.0.1"]]) {
        const gateway = await startGateway({ profile, env: { ...QUIET, TRUSTED_PROXIES: trusted } });
        const headers = { "x-forwarded-for": "198.51.100.1, 203.0.113.7", authorization: `Bearer ${tokenOf("ann")}` };
        for (const [, way] of ways) {
          const from = gateway.log.items.length;
          await come(gateway, way, way.path === undefined ? { extraHeaders: headers } : { headers }).entered();
          const line = await gateway.log.next((line) => line.message === "connected" && line.user === "ann", "the line about the client", from);
          assert.equal(line.address, address);
        }
        await gateway.stop();
      }
    });
  });

  describe(`${profile}: the end`, () => {
    it("on SIGTERM it is not ready, takes nobody, closes its clients so that they come back, and ends with 0", async () => {
      const gateway = await startGateway({ profile, shards: 2, env: { ...QUIET, DRAIN_DELAY: "4s" } });
      const token = tokenOf("ann");
      const open = [];
      for (const [what, way] of ways) {
        const path = way.path === undefined ? "/socket.io/?EIO=4&transport=websocket" : `${way.path}?token=${token}`;
        const { connection } = await upgrade(gateway.url, path);
        if (way.path === undefined) {
          await connection.frame();
          connection.send(`40${way.namespace === "/" ? "" : `${way.namespace},`}${JSON.stringify({ token })}`);
          while (!(await connection.text()).startsWith("40"));
        }
        open.push([what, connection]);
      }
      let poll;
      if (ways.some(([, way]) => way.path === undefined)) {
        const { namespace } = ways.find(([, way]) => way.path === undefined)[1];
        const url = "/socket.io/?EIO=4&transport=polling";
        const { sid } = JSON.parse((await request(gateway.url, "GET", url)).text.slice(1));
        await request(gateway.url, "POST", `${url}&sid=${sid}`, {}, `40${namespace === "/" ? "" : `${namespace},`}${JSON.stringify({ token })}`);
        const packets = [];
        poll = (async () => {
          while (!packets.includes("1")) packets.push(...(await request(gateway.url, "GET", `${url}&sid=${sid}`)).text.split("\x1e"));
          return packets;
        })();
      }
      gateway.signal("SIGTERM");
      await until(() => gateway.get("/health/ready"), ({ status }) => status === 503, "not ready");
      for (const [, way] of ways) {
        const refused = await request(gateway.url, "GET", way.path ?? "/socket.io/?EIO=4&transport=polling", way.path && UPGRADE);
        assert.equal(refused.status, 503);
      }
      for (const [what, connection] of open) {
        const texts = [];
        let frame;
        do {
          frame = await connection.frame();
          if (frame.opcode === 1) texts.push(frame.text);
        } while (frame.opcode !== 8);
        assert.equal(frame.payload.readUInt16BE(), 1001, what);
        assert.ok(!texts.some((text) => text.startsWith("41")), `${what}: ${texts}`);
      }
      if (poll) assert.ok(!(await poll).some((packet) => packet.startsWith("41")));
      const { code, signal } = await gateway.ended;
      assert.deepEqual({ code, signal }, { code: 0, signal: null });
    });
  });
}

/** A token that a private key has signed. */
function signWith(privateKey, alg, claims) {
  const signed = `${encode({ alg, kid: alg })}.${encode(claims)}`;
  if (alg === "EdDSA") return `${signed}.${signBytes(null, Buffer.from(signed), privateKey).toString("base64url")}`;
  const options = alg === "ES256" ? { key: privateKey, dsaEncoding: "ieee-p1363" } : privateKey;
  return `${signed}.${createSign("SHA256").update(signed).sign(options).toString("base64url")}`;
}
