// What every server of the benchmark does, asked by the protocols' own clients: whoever has a token gets in and is in their own room, joins,
// leaves, says a word to a room, and hears what is said where they are and nothing else. The clients' libraries come from the caller.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";

/** Only says that a server has failed. */
const DEADLINE_MS = 10_000;
/** How many words are said at once where order is looked at: less than socketioxide keeps for a client by default, 128. */
const BURST = 100;

/** A token of a user, HS256. */
export function tokenOf(userId, secret) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub: userId, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** The contract over Socket.IO. `keepsOrder`: whether words that are said at once come in their order. */
export async function checkSocketIo({ io, url, secret, transports = ["websocket"], keepsOrder = true }) {
  const open = [];
  const connect = (auth) => {
    const socket = io(url, { auth, transports, reconnection: false, forceNew: true });
    open.push(() => socket.disconnect());
    return socket;
  };
  const refused = (auth) => within(new Promise((resolve) => connect(auth).on("connect_error", resolve)), "a refusal");
  const enter = async (userId) => {
    const socket = connect({ token: tokenOf(userId, secret) });
    const heard = new Heard();
    socket.on("message", (message) => heard.add(message));
    const greeting = new Promise((resolve, reject) => socket.on("connected", resolve).on("connect_error", reject));
    assert.deepEqual(await within(greeting, "`connected`"), { userId });
    const ask = (event, data) => within(new Promise((resolve) => socket.emit(event, data, resolve)), `the answer to \`${event}\``);
    return {
      heard,
      join: async (room) => assert.deepEqual(await ask("join", { room }), { success: true, room }),
      leave: async (room) => assert.deepEqual(await ask("leave", { room }), { success: true, room }),
      say: (room, data) => socket.emit("say", { room, data }),
      echo: async (data) => assert.deepEqual(await ask("echo", { data }), { data }),
    };
  };
  try {
    await checkRefusals(refused, secret);
    await checkRooms(enter, keepsOrder);
  } finally {
    open.forEach((close) => close());
  }
}

/** The contract in plain JSON, which Roomcast alone speaks. */
export async function checkPlain({ WebSocket, url, secret }) {
  const open = [];
  const connect = (token) => {
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}/ws${token === undefined ? "" : `?token=${token}`}`);
    open.push(() => socket.terminate());
    return socket;
  };
  const refused = ({ token }) => {
    const socket = connect(token);
    // A handshake that is refused is an error and then a close, too.
    socket.on("error", () => {});
    return within(new Promise((resolve) => socket.on("close", resolve)), "a refusal");
  };
  const enter = async (userId) => {
    const socket = connect(tokenOf(userId, secret));
    const [heard, answers] = [new Heard(), new Heard()];
    socket.on("message", (text) => {
      const { type, ...rest } = JSON.parse(text);
      if (type === "message") heard.add(rest);
      else answers.add({ type, ...rest });
    });
    socket.on("error", () => {});
    assert.deepEqual(await answers.next(), { type: "connected", userId });
    const ask = async (message, answer) => {
      socket.send(JSON.stringify(message));
      assert.deepEqual(await answers.next(), answer);
    };
    return {
      heard,
      join: (room) => ask({ type: "join", room }, { type: "joined", room }),
      leave: (room) => ask({ type: "leave", room }, { type: "left", room }),
      say: (room, data) => socket.send(JSON.stringify({ type: "say", room, data })),
      echo: (data) => ask({ type: "echo", data }, { type: "echoed", data }),
    };
  };
  try {
    await checkRefusals(refused, secret);
    await checkRooms(enter, true);
  } finally {
    open.forEach((close) => close());
  }
}

/** The contract in centrifuge's protocol: rooms are channels, a word is a publication, `echo` an RPC. */
export async function checkCentrifuge({ Centrifuge, WebSocket, url, secret }) {
  const open = [];
  const connect = (token) => {
    const client = new Centrifuge(`${url.replace(/^http/, "ws")}/connection/websocket`, { token, websocket: WebSocket });
    open.push(() => client.disconnect());
    return client;
  };
  const refused = ({ token = "" }) => {
    const client = connect(token);
    const ended = new Promise((resolve) => client.on("disconnected", resolve));
    client.connect();
    return within(ended, "a refusal");
  };
  const enter = async (userId) => {
    const client = connect(tokenOf(userId, secret));
    const heard = new Heard();
    client.on("publication", ({ data }) => heard.add(data));
    client.connect();
    await client.ready(DEADLINE_MS);
    return {
      heard,
      join: (room) => {
        const subscription = client.getSubscription(room) ?? client.newSubscription(room).on("publication", ({ data }) => heard.add(data));
        subscription.subscribe();
        return subscription.ready(DEADLINE_MS);
      },
      leave: async (room) => client.getSubscription(room).unsubscribe(),
      say: (room, data) => void client.publish(room, { room, data }),
      echo: async (data) => assert.deepEqual((await client.rpc("echo", { data })).data, { data }),
    };
  };
  try {
    await checkRefusals(refused, secret);
    await checkRooms(enter, true);
  } finally {
    open.forEach((close) => close());
  }
}

async function checkRefusals(refused, secret) {
  await refused({});
  await refused({ token: "let me in" });
  await refused({ token: tokenOf("eve", `not ${secret}`) });
}

async function checkRooms(enter, keepsOrder) {
  const [ada, grace, edith] = [await enter("ada"), await enter("grace"), await enter("edith")];
  for (const data of ["text", { nested: [1, 2.5, null] }]) await ada.echo(data);

  await ada.join("kitchen");
  await grace.join("kitchen");
  const text = "kitchen:1:123456789:" + "x".repeat(60);
  edith.say("kitchen", text);
  assert.deepEqual(await ada.heard.next(), { room: "kitchen", data: text }, "a member hears who is none");
  assert.deepEqual(await grace.heard.next(), { room: "kitchen", data: text });
  ada.say("kitchen", "2");
  assert.deepEqual(await ada.heard.next(), { room: "kitchen", data: "2" }, "the sender hears, too");
  assert.deepEqual(await grace.heard.next(), { room: "kitchen", data: "2" });

  edith.say("user:ada", "psst");
  assert.deepEqual(await ada.heard.next(), { room: "user:ada", data: "psst" }, "everyone is in their own room");

  await ada.leave("kitchen");
  await ada.echo("after leaving");
  edith.say("kitchen", "3");
  assert.deepEqual(await grace.heard.next(), { room: "kitchen", data: "3" });

  await ada.join("garden");
  for (let number = 0; number < BURST; number += 1) edith.say("garden", number);
  const burst = [];
  for (let number = 0; number < BURST; number += 1) burst.push((await ada.heard.next()).data);
  if (!keepsOrder) burst.sort((one, other) => one - other);
  assert.deepEqual(burst, [...burst.keys()], "every word once");

  for (const client of [ada, grace, edith]) {
    await client.echo("the end");
    assert.deepEqual(client.heard.items, [], "nobody hears what is not theirs");
  }
}

/** What came and was not asked for yet. */
class Heard {
  items = [];
  #waiting = [];

  add(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.items.push(item);
  }

  next() {
    if (this.items.length > 0) return Promise.resolve(this.items.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), "the next message");
  }
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`${what} did not come in ${DEADLINE_MS} ms`)), DEADLINE_MS)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
