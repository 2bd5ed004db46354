// Services that are called by HTTP: commands and snapshots, with a real server in Node that answers, refuses, fails, dawdles and is away.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, it } from "node:test";

import { closeClients, plain, socketIo } from "./support/clients.mjs";
import { freePort, startGateway } from "./support/gateway.mjs";

const PROFILE = `
[auth]
token     = "ignored"
anonymous = { query = "userId", guest = "guest-" }

[[endpoint]]
protocol = "socket.io"

[[endpoint]]
protocol = "json"

[upstream.tickets]
http          = "\${TICKETS_URL:-}"
authorization = "\${TICKETS_AUTHORIZATION:-}"
timeout       = "500ms"

[upstream.others]
http    = "\${OTHERS_URL:-}"
timeout = "2s"

[room.ticket]
name     = "ticket:{id}"
enter    = true
snapshot = { call = "tickets GET /tickets/{room.id}", event = "ticket", data = { id = "{room.id}", state = "{reply.state}" } }

[command.watch]
args   = { id = "id" }
join   = "ticket:{args.id}"
answer = { ack = { success = true }, event = "watching", data = { id = "{args.id}" } }

[command.close]
args   = { id = "id", note = "text?" }
call   = { closed = { call = "tickets POST /tickets/{args.id}/close", with = { by = "{user.id}", note = "{args.note?}" } } }
answer = { ack = { success = true, state = "{closed.state}" } }
emit   = { to = "ticket:{args.id}", event = "ticket", data = { id = "{args.id}", state = "{closed.state}" } }

[command.others]
call   = { found = { call = "others GET /" } }
answer = { ack = "{found}" }
`;

describe("services of HTTP", () => {
  let server, gateway, asked, answers;
  before(async () => {
    asked = [];
    // What is answered, by the path; anything else is a ticket that is open.
    answers = new Map([
      ["/v1/tickets/shut/close", [409, { message: "the ticket is closed" }]],
      ["/v1/tickets/broken/close", [500, { message: "the password is 1234" }]],
      ["/v1/tickets/page/close", [200, "<html>"]],
      ["/v1/tickets/moved/close", [302, ""]],
      ["/v1/tickets/slow/close", undefined],
    ]);
    server = createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      const { authorization, "content-type": type } = request.headers;
      asked.push({ method: request.method, url: request.url, authorization, type, body });
      if (!answers.has(request.url)) return response.end(JSON.stringify({ state: request.method === "GET" ? "open" : "closed" }));
      const answer = answers.get(request.url);
      if (!answer) return;
      response.writeHead(answer[0], { location: "/elsewhere" });
      response.end(typeof answer[1] === "string" ? answer[1] : JSON.stringify(answer[1]));
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    gateway = await startGateway({
      text: PROFILE,
      env: {
        TICKETS_URL: `http://127.0.0.1:${server.address().port}/v1/`,
        TICKETS_AUTHORIZATION: "Bearer of-the-gateway",
        OTHERS_URL: `http://127.0.0.1:${await freePort()}`,
      },
    });
  });
  after(async () => {
    closeClients();
    await gateway.stop();
    server.closeAllConnections();
    server.close();
  });

  const client = async () => {
    const client = socketIo(gateway.url, { query: { userId: "carol" } });
    await client.next("connect");
    return client;
  };

  it("a command goes to the service, and on with what it replied", async () => {
    const [member, carol] = [plain(`${gateway.ws}/ws`), await client()];
    await member.events.next((item) => item.open, "the opening");
    member.send({ type: "watch", id: "a/b?c" });
    assert.deepEqual(await member.next("ticket"), { type: "ticket", id: "a/b?c", state: "open" }, "the snapshot");
    const before = member.events.items.length;
    assert.deepEqual(await carol.ask("close", { id: "a/b?c", note: "solved" }), { success: true, state: "closed" });
    assert.deepEqual(await member.next("ticket", () => true, before), { type: "ticket", id: "a/b?c", state: "closed" });
    const authorization = "Bearer of-the-gateway";
    assert.deepEqual(asked, [
      { method: "GET", url: "/v1/tickets/a%2Fb%3Fc", authorization, type: undefined, body: "" },
      {
        method: "POST",
        url: "/v1/tickets/a%2Fb%3Fc/close",
        authorization,
        type: "application/json",
        body: '{"by":"carol","note":"solved"}',
      },
    ]);
  });

  it("what the service does not do is told as what it is, and nobody else hears of it", async () => {
    const [carol, member] = [await client(), await client()];
    for (const [id, error, code] of [
      ["shut", "the ticket is closed", "refused"],
      ["broken", "the service `tickets` failed", "unavailable"],
      ["page", "the service `tickets` gave an answer that makes no sense", "unavailable"],
      ["moved", "the service `tickets` gave an answer that makes no sense", "unavailable"],
      ["slow", "the service `tickets` did not answer in time", "timed_out"],
      ["..", "{args.id} is `..`, which no path can hold", "bad_field"],
    ]) {
      await member.ask("watch", { id });
      assert.deepEqual(await carol.ask("close", { id }), { error, code });
    }
    assert.deepEqual(await carol.ask("close", { id: "7" }), { success: true, state: "closed" }, "the connection lives on");
    const heard = member.events.items.filter((item) => item.event === "ticket" && item.args[0].state !== "open");
    assert.deepEqual(heard, []);
    assert.ok(!asked.some(({ url }) => url === "/elsewhere"), "no redirect is followed");
  });

  it("one that is away is left alone after some calls", async () => {
    const carol = await client();
    const told = [];
    for (let call = 0; call < 6; call += 1) told.push(await carol.ask("others", {}));
    const away = { error: "the service `others` is not available; try again", code: "unavailable" };
    assert.deepEqual(told, [...Array(5).fill(away), { error: "the service `others` does not answer; try again", code: "unavailable" }]);
  });
});
