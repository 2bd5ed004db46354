// The description of the server API (`/api/openapi.json`) is what the gateway does: every answer here is compared with its schema.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

import { closeClients, connected } from "./support/clients.mjs";
import { API_KEY, startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";
import { tokenOf } from "./support/token.mjs";

describe("the description of the server API", () => {
  let gateway;
  let description;
  let ajv;
  before(async () => {
    gateway = await startGateway();
    description = (await gateway.get("/api/openapi.json")).json;
    ajv = addFormats.default(new Ajv2020({ strict: true, allowUnionTypes: true, allErrors: true }));
    ajv.addVocabulary(["components", "paths", "info", "openapi", "servers", "security"]);
    ajv.addSchema({ $id: "roomcast", components: description.components });
  });
  after(async () => {
    closeClients();
    await gateway.stop();
  });

  /** What this place of the description says, behind a reference where there is one. */
  const resolved = (part) => (part.$ref ? part.$ref.slice(2).split("/").reduce((found, name) => found[name], description) : part);
  const validator = ({ content }) => {
    const { schema } = content["application/json"];
    return ajv.compile(schema.$ref ? { $ref: `roomcast${schema.$ref}` } : schema);
  };

  async function ask(method, path, { body, key = API_KEY } = {}) {
    const headers = { ...(key && { authorization: `Bearer ${key}` }), ...(body !== undefined && { "content-type": "application/json" }) };
    const answer = await fetch(gateway.url + path, { method, headers, body });
    return { status: answer.status, json: await answer.json() };
  }

  /** Asks, and compares status and answer with what is described for the call, and the body with whether it should fit. */
  async function check(method, path, asked, { body, status = 200, fits = status === 200 } = {}) {
    const call = description.paths[path][method.toLowerCase()];
    const compare = ({ status, json }) => {
      assert.ok(call.responses[status], `${method} ${path} does not describe ${status}`);
      const valid = validator(resolved(call.responses[status]));
      assert.ok(valid(json), `${method} ${asked} ${status}: ${JSON.stringify(json)}: ${ajv.errorsText(valid.errors)}`);
    };
    const answer = await ask(method, asked, { body });
    assert.equal(answer.status, status, `${method} ${asked} ${body}: ${JSON.stringify(answer.json)}`);
    compare(answer);
    const refused = await ask(method, asked, { body, key: "wrong" });
    assert.equal(refused.status, 401);
    compare(refused);
    if (body !== undefined) {
      assert.equal(validator(call.requestBody)(JSON.parse(body)), fits, `${method} ${asked} ${body}`);
    }
    return answer.json;
  }

  it("publish", async () => {
    const call = (body, rest) => check("POST", "/api/publish", "/api/publish", { body, ...rest });
    const { examples } = description.paths["/api/publish"].post.requestBody.content["application/json"];
    for (const { value } of Object.values(examples)) await call(JSON.stringify(value));
    await call('{"rooms":["conversation:1"],"except":["user:1"],"event":"e","data":{"a":[1,null]},"namespace":"/"}');
    await call('{"rooms":[],"event":"e"}');
    await call('{"event":"e","namespace":"/nowhere"}', { status: 400, fits: true });
    for (const wrong of ['{"rooms":["a"]}', '{"event":""}', '{"event":"disconnect"}', '{"event":"e","rooms":"a"}', '{"event":"e","rooms":[""]}', '{"event":"e","room":"a"}']) {
      await call(wrong, { status: 400 });
    }
    await call(JSON.stringify({ event: "e", rooms: Array(1001).fill("a") }), { status: 400 });
    await call(JSON.stringify({ event: "e", data: "x".repeat(2 * 1024 * 1024) }), { status: 413, fits: true });
  });

  it("rooms, presence and disconnect", async () => {
    const ann = await connected(gateway.url, { token: tokenOf("ann") });
    await ann.ask("join_room", { roomType: "conversation", roomId: "a b" });
    const { rooms } = await check("GET", "/api/rooms", "/api/rooms?namespace=/");
    assert.equal(rooms["conversation:a b"], 1);
    await check("GET", "/api/rooms", "/api/rooms?namespace=/nowhere", { status: 400 });
    const room = await check("GET", "/api/rooms/{room}", "/api/rooms/conversation%3Aa%20b");
    assert.equal(room.sockets[0].userId, "ann");
    await check("GET", "/api/rooms/{room}", "/api/rooms/nobody%20here");
    await check("GET", "/api/rooms/{room}", "/api/rooms/a?namespace=/nowhere", { status: 400 });
    assert.equal((await check("GET", "/api/presence/{user_id}", "/api/presence/ann")).online, true);
    const call = (body, rest) => check("POST", "/api/disconnect", "/api/disconnect", { body, ...rest });
    assert.equal((await call('{"userId":"ann"}')).disconnected, 1);
    const seen = await until(() => check("GET", "/api/presence/{user_id}", "/api/presence/ann"), (seen) => !seen.online, "ann to be gone");
    assert.ok(seen.lastSeen);
    await call('{"userId":42}');
    await call(JSON.stringify({ socketId: room.sockets[0].socketId }));
    for (const wrong of ["{}", '{"userId":""}', '{"userId":{}}', '{"socketId":"x"}', '{"userId":"a","socketId":"aaaaaaaaaaaaaaaaaaaa"}', '{"user":"a"}']) {
      await call(wrong, { status: 400 });
    }
  });

  it("a gateway without a key", async () => {
    const closed = await startGateway({ env: { API_KEY: "" } });
    assert.deepEqual((await closed.get("/api/openapi.json")).json, description);
    for (const [path, methods] of Object.entries(description.paths)) {
      for (const [method, call] of Object.entries(methods)) {
        const answer = await fetch(closed.url + path, { method: method.toUpperCase() });
        assert.equal(answer.status, 403, path);
        const valid = validator(resolved(call.responses[403]));
        assert.ok(valid(await answer.json()), ajv.errorsText(valid.errors));
      }
    }
    await closed.stop();
  });
});
