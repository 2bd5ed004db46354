// Who gets in, as whom, and for how long; and what a client may not do however it asks.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, afterEach, before, describe, it } from "node:test";

import { TRANSPORTS, closeClients, connected, plain, socketIo } from "./support/clients.mjs";
import { API_KEY, SHARDS, startGateway } from "./support/gateway.mjs";
import { badTokens, sign, tokenOf } from "./support/token.mjs";

/** HomeTrip has no plain clients; a gateway of the same kind that has. */
const PLAIN = `
about = "Plain clients with tokens"
[service]
name = "plain"
port = "\${PORT:-0}"
[auth]
token = "required"
[[endpoint]]
protocol = "json"
path = "/ws"
envelope = "flat"
[on.connect]
emit = { to = "self", event = "connected", data = { userId = "{user.id}" } }
`;

const now = () => Math.floor(Date.now() / 1000);

/** Says who may enter a conversation: the users whose names begin with "a"; fails for conversations that are called "broken". */
async function startAccess() {
  const asked = [];
  const server = createServer((request, answer) => {
    asked.push(request.url);
    const [, conversation, user] = request.url.split("/").map(decodeURIComponent);
    answer.writeHead(conversation === "broken" ? 500 : user.startsWith("a") ? 204 : 403).end();
  });
  await new Promise((resolve) => server.unref().listen(0, "127.0.0.1", resolve));
  return { asked, url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

for (const shards of SHARDS) {
  describe(`tokens and rooms on ${shards} shard(s)`, () => {
    let gateway;
    let access;
    let plainGateway;
    before(async () => {
      access = await startAccess();
      gateway = await startGateway({ shards, env: { CONVERSATION_ACCESS_URL: `${access.url}/{conversationId}/{userId}` } });
      plainGateway = await startGateway({ shards, text: PLAIN });
    });
    after(async () => {
      await Promise.all([gateway.stop(), plainGateway.stop()]);
      access.close();
    });
    afterEach(closeClients);

    for (const transport of ["websocket", "polling"]) {
      it(`${transport}: a bad token is refused whatever is wrong with it`, async () => {
        for (const [what, token] of Object.entries(badTokens())) {
          const client = socketIo(gateway.url, { token, transports: TRANSPORTS[transport], name: what });
          assert.equal((await client.next("connect_error")).message, "Invalid or expired token", what);
        }
        const client = socketIo(gateway.url, { transports: TRANSPORTS[transport] });
        assert.equal((await client.next("connect_error")).message, "Authentication required");
      });
    }

    it("a token is taken from auth, from the header and from the query", async () => {
      for (const options of [
        { auth: { token: tokenOf("ann") } },
        { extraHeaders: { authorization: `Bearer ${tokenOf("ann")}` } },
        { query: { token: tokenOf("ann") } },
      ]) {
        assert.equal((await connected(gateway.url, options)).greeting.userId, "ann");
      }
    });

    it("HS384 and HS512 are good, and the user is the first of its claims", async () => {
      for (const alg of ["HS384", "HS512"]) {
        const token = sign({ sub: "second", id: "first", exp: now() + 60 }, { header: { alg } });
        assert.equal((await connected(gateway.url, { token })).greeting.userId, "first");
      }
      assert.equal((await connected(gateway.url, { token: sign({ userId: "for ever" }) })).greeting.userId, "for ever");
    });

    it("anonymous access lets in without a token, and not with a bad one", async () => {
      const open = await startGateway({ shards, env: { ALLOW_AUTH_WITHOUT_JWT: "true" } });
      const client = await connected(open.url);
      assert.equal(client.greeting.userId, null);
      const bad = socketIo(open.url, { token: badTokens().foreign });
      assert.equal((await bad.next("connect_error")).message, "Invalid or expired token");
      await open.stop();
    });

    it("a client is warned before its token ends, and disconnected when it does", async () => {
      const client = await connected(gateway.url, { token: sign({ userId: "ann", exp: now() + 4 }) });
      const { expiresIn } = await client.next("token_expiring_soon");
      assert.ok(expiresIn <= 4, `${expiresIn}`);
      await client.next("token_expired");
      assert.equal(await client.next("disconnect"), "io server disconnect");
    });

    it("a refreshed token renews the connection in place, for the same user only", async () => {
      const client = await connected(gateway.url, { token: sign({ userId: "ann", exp: now() + 5 }) });
      await client.next("token_expiring_soon");
      const refused = await client.ask("refresh_token", { token: tokenOf("bob") });
      assert.equal(typeof refused.error, "string");
      const { success, expiresIn } = await client.ask("refresh_token", { token: tokenOf("ann") });
      assert.equal(success, true);
      assert.ok(expiresIn > 3000, `${expiresIn}`);
      // Another client with the old end is told of it; the refreshed one is not.
      const other = await connected(gateway.url, { token: sign({ userId: "ann", exp: now() + 5 }) });
      await other.next("token_expired");
      assert.ok(!client.names().includes("token_expired"));
      assert.equal(client.socket.connected, true);
    });

    it("plain: a refusal can be read by a browser: an error, then close code 4401", async () => {
      for (const [what, url, message] of [
        ["no token", "/ws", "Authentication required"],
        ["a bad token", `/ws?token=${badTokens().foreign}`, "Invalid or expired token"],
      ]) {
        const client = plain(plainGateway.ws + url, { name: what });
        const error = await client.next("error");
        assert.equal(error.message ?? error.error, message, what);
        assert.equal((await client.closed()).close, 4401, what);
      }
    });

    it("plain: a token comes in the header, in the query or as a subprotocol", async () => {
      const token = tokenOf("ann");
      const ways = [
        plain(`${plainGateway.ws}/ws?token=${token}`),
        plain(`${plainGateway.ws}/ws`, { headers: { authorization: `Bearer ${token}` } }),
      ];
      for (const client of ways) assert.equal((await client.next("connected")).userId, "ann");
      const { WebSocket } = await import("ws");
      const socket = new WebSocket(`${plainGateway.ws}/ws`, ["bearer", token]);
      await new Promise((resolve, reject) => socket.on("message", resolve).on("error", reject));
      assert.equal(socket.protocol, "bearer");
      socket.close();
    });

    it("plain: the connection is closed with 4401 when its token ends", async () => {
      const client = plain(`${plainGateway.ws}/ws?token=${sign({ userId: "ann", exp: now() + 4 })}`);
      await client.next("token_expiring_soon");
      assert.equal((await client.closed()).close, 4401);
    });

    it("a room is entered only by whom the access service lets in", async () => {
      const [ann, bob] = [await connected(gateway.url, { token: tokenOf("ann") }), await connected(gateway.url, { token: tokenOf("bob") })];
      const join = (client, roomId, roomType = "conversation") => client.ask("join_room", { roomType, roomId });
      assert.equal((await join(ann, "a trip/é")).success, true);
      assert.ok(access.asked.includes("/a%20trip%2F%C3%A9/ann"), access.asked.join(" "));
      assert.equal((await join(bob, "a trip/é")).code, "forbidden");
      assert.equal((await join(ann, "broken")).code, "try_again");
      // Notifications are not asked for.
      assert.equal((await join(bob, "n1", "notification")).success, true);
      // Who was refused gets nothing of the room: his own room's event, sent later, comes alone.
      await gateway.api("POST", "/api/publish", { rooms: ["conversation:a trip/é"], event: "secret", data: 1 });
      await gateway.api("POST", "/api/publish", { rooms: ["user:bob"], event: "fence", data: 2 });
      assert.equal(await ann.next("secret"), 1);
      await bob.next("fence");
      assert.deepEqual(bob.names(), ["fence"]);
    });

    it("a page of another origin is refused on WebSocket, too", async () => {
      const strict = await startGateway({ shards, env: { CORS_ORIGIN: "https://hometrip.example" } });
      const refused = plain(`${strict.ws}/socket.io/?EIO=4&transport=websocket`, { origin: "https://evil.example" });
      const { error } = await refused.events.next((item) => item.error, "the refusal");
      assert.match(error, /403/);
      await connected(strict.url, { token: tokenOf("ann"), extraHeaders: { origin: "https://hometrip.example" } });
      // No browser, no origin.
      await connected(strict.url, { token: tokenOf("ann") });
      await strict.stop();
    });

    it("the server API is open to its key alone", async () => {
      const ask = async (headers) => (await fetch(`${gateway.url}/api/rooms`, { headers })).status;
      assert.equal(await ask({}), 401);
      assert.equal(await ask({ authorization: "Bearer wrong" }), 401);
      assert.equal(await ask({ authorization: `Bearer ${API_KEY}` }), 200);
      const closed = await startGateway({ shards, env: { API_KEY: "" } });
      const answer = await fetch(`${closed.url}/api/rooms`, { headers: { authorization: "Bearer x" } });
      assert.equal(answer.status, 403);
      assert.match(await answer.text(), /API_KEY/);
      await closed.stop();
    });

    it("the server API publishes, shows rooms and presence, and disconnects for good", async () => {
      const [ann, amy] = [await connected(gateway.url, { token: tokenOf("ann") }), await connected(gateway.url, { token: tokenOf("amy") })];
      const published = await gateway.api("POST", "/api/publish", { rooms: ["user:ann", "user:amy"], except: ["user:amy"], event: "hi", data: { n: 1 } });
      assert.deepEqual(published, { status: 200, json: { delivered: 1 } });
      assert.deepEqual(await ann.next("hi"), { n: 1 });
      assert.deepEqual((await gateway.api("POST", "/api/publish", { rooms: [], event: "hi" })).json, { delivered: 0 });
      assert.equal((await gateway.api("POST", "/api/publish", { rooms: ["user:ann"] })).status, 400);
      assert.equal((await gateway.api("GET", "/api/rooms")).json.rooms["user:ann"], 1);
      const room = (await gateway.api("GET", "/api/rooms/user:ann")).json;
      assert.deepEqual(room.sockets, [{ socketId: ann.socket.id, userId: "ann" }]);
      assert.equal((await gateway.api("GET", "/api/presence/ann")).json.online, true);
      assert.deepEqual((await gateway.api("POST", "/api/disconnect", { userId: "ann" })).json, { disconnected: 1 });
      assert.equal(await ann.next("disconnect"), "io server disconnect");
      assert.equal(amy.socket.connected, true);
    });
  });
}
