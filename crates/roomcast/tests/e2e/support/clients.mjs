// Clients whose every event is recorded: the stock Socket.IO client, and raw WebSockets for the bytes on the wire.

import { after } from "node:test";

import { io } from "socket.io-client";
import { WebSocket } from "ws";

import { Recorder, within } from "./recorder.mjs";

/** The transports with which a stock client may run. */
export const TRANSPORTS = { websocket: ["websocket"], polling: ["polling"], upgrade: ["polling", "websocket"] };

export { io };

const open = new Set();

/** Ends every client that a test left open. */
export function closeClients() {
  for (const close of open) close();
  open.clear();
}
after(closeClients);

/** A stock client. It reconnects only where the options say so. */
export function socketIo(url, { name = "a client", namespace = "", token, ...options } = {}) {
  const socket = io(url + namespace, { auth: token ? { token } : {}, reconnection: false, forceNew: true, transports: ["websocket"], ...options });
  const events = new Recorder(name);
  socket.onAny((event, ...args) => events.add({ event, args }));
  for (const event of ["connect", "disconnect", "connect_error"]) {
    socket.on(event, (reason) => events.add({ event, args: [event === "connect_error" ? { message: reason.message, data: reason.data } : reason] }));
  }
  open.add(() => socket.disconnect());
  return {
    socket,
    events,
    /** The data of the first event of this name, from the item `from` on, that is accepted. */
    async next(event, accept = () => true, from = 0) {
      const item = await events.next((item) => item.event === event && accept(...item.args), `\`${event}\``, from);
      return item.args[0];
    },
    /** Sends an event and gives its answer. */
    ask: (event, data) => within(new Promise((resolve) => socket.emit(event, data, resolve)), `the answer to \`${event}\``),
    /** The names of the events that came, without the gateway's greeting. */
    names: () => events.items.map((item) => item.event).filter((event) => !["connect", "connected"].includes(event)),
    close: () => socket.disconnect(),
  };
}

/** A stock client that is in. */
export async function connected(url, options) {
  const client = socketIo(url, options);
  client.greeting = await client.next("connected");
  return client;
}

/** A plain WebSocket: texts and the close are recorded as they came. */
export function plain(url, { name = "a plain client", protocols = [], ...options } = {}) {
  const socket = new WebSocket(url, protocols, options);
  const events = new Recorder(name);
  socket.on("open", () => events.add({ open: true }));
  socket.on("message", (data, isBinary) => events.add(isBinary ? { binary: data } : { text: data.toString(), ...typed(data) }));
  socket.on("close", (code, reason) => events.add({ close: code, reason: reason.toString() }));
  socket.on("error", (error) => events.add({ error: error.message }));
  open.add(() => socket.terminate());
  return {
    socket,
    events,
    send: (value) => socket.send(typeof value === "string" ? value : JSON.stringify(value)),
    /** The first message of this type, from the item `from` on, that is accepted. */
    async next(type, accept = () => true, from = 0) {
      const item = await events.next((item) => item.json?.type === type && accept(item.json), `\`${type}\``, from);
      return item.json;
    },
    closed: () => events.next((item) => item.close !== undefined, "the close"),
    close: () => socket.close(),
  };
}

function typed(data) {
  try {
    return { json: JSON.parse(data) };
  } catch {
    return {};
  }
}

/** A Socket.IO connection by hand over one WebSocket: what comes is recorded as the bytes that came. Pings are answered. */
export async function rawSocketIo(url, token) {
  const client = plain(`${url.replace(/^http/, "ws")}/socket.io/?EIO=4&transport=websocket`, { name: "a raw client" });
  client.socket.on("message", (data) => data.toString() === "2" && client.socket.send("3"));
  await client.events.next((item) => item.text?.startsWith("0"), "the opening");
  client.send(`40${JSON.stringify({ token })}`);
  await client.events.next((item) => item.text?.startsWith("40"), "the namespace");
  return client;
}
