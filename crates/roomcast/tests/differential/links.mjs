// One client's way to a server: HTTP requests, polling sessions, WebSockets. What comes is given as it came, but for ids, which are masked.
// Nothing here knows which server it talks to.

import http from "node:http";
import net from "node:net";

import { WebSocket } from "ws";

import { binaryMessage, decode, encode } from "./payload.mjs";

/** How long nothing may come before that is what is observed. */
const SILENCE_MS = 4_000;

// How the length of a body is told is not among them: servers may choose.
const HEADERS = [
  "content-type", "cache-control", "content-encoding", "vary", "set-cookie", "x-xss-protection",
  "access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods", "access-control-allow-headers",
];

/** Session ids are random, and numbers of questions are counted across clients. */
export const masked = (text) => text.replace(/"sid":"[\w-]{20}"/g, '"sid":"*"').replace(/(4[25](?:\d+-)?(?:\/[\w-]+,)?)\d+(\["question")/, "$1N$2");

const silence = (what) =>
  new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`silence: ${what}`)), SILENCE_MS).unref();
  });
export const inTime = (promise, what) => Promise.race([promise, silence(what)]);

/** One request: its answer, or how it ended. */
export function request(url, { method = "GET", path, headers = {}, body, raw = false }) {
  const address = new URL(url);
  let abort;
  let sent;
  const isSent = new Promise((resolve) => (sent = resolve));
  const answer = new Promise((resolve) => {
    const sending = http.request({ host: address.hostname, port: address.port, method, path, headers, agent: false }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", () => resolve({ broken: "within the answer" }));
      response.on("end", () => {
        const bytes = Buffer.concat(chunks);
        resolve({ status: response.statusCode, headers: chosen(response.headers), body: raw ? bytes : masked(bytes.toString()) });
      });
    });
    sending.on("error", () => resolve({ broken: "no answer" }));
    abort = () => sending.destroy();
    sending.on("finish", sent);
    sending.end(body);
  });
  return { answer, abort, isSent };
}

function chosen(headers) {
  const kept = HEADERS.filter((name) => headers[name] !== undefined).map((name) => [name, String(headers[name])]);
  return Object.fromEntries(kept);
}

/** A polling session. Packets are sent with POST and fetched with GET, as many as it takes. */
export class Polling {
  /** GETs that have no answer yet. */
  waiting = [];

  constructor(url, path, revision) {
    Object.assign(this, { url, revision, base: `${path}?EIO=${revision}&transport=polling` });
  }

  async open(query = "") {
    const opening = await inTime(request(this.url, { path: this.base + query, raw: true }).answer, "a session");
    const packets = opening.status === 200 ? decode(opening.body, this.revision, isBinary(opening)) : [];
    this.sid = /"sid":"([^"]+)"/.exec(packets[0])?.[1];
    return { ...opening, body: masked(opening.body.toString()) };
  }

  get path() {
    return `${this.base}&sid=${this.sid}`;
  }

  /** Sends packets in one POST. */
  post(packets, headers = { "content-type": "text/plain;charset=UTF-8" }) {
    return this.postBody(encode(packets, this.revision), headers);
  }

  postBody(body, headers = {}) {
    return inTime(request(this.url, { method: "POST", path: this.path, headers, body }).answer, "an answer to a POST");
  }

  /** Starts a GET and comes back when the server has it: a POST that was sent later has been answered. */
  async startGet() {
    const get = request(this.url, { path: this.path, raw: true });
    this.waiting.push(get);
    await inTime(get.isSent, "a GET to be sent");
    await this.post([this.revision === 4 ? "3" : "6"]);
    return get;
  }

  /** Packets up to the one that `ends`, or to the end of the session. Noops only say that there is nothing, and how often depends on time. */
  async receive(ends) {
    const seen = [];
    for (;;) {
      const get = this.waiting.shift() ?? request(this.url, { path: this.path, raw: true });
      const answer = await inTime(get.answer, "packets").catch((error) => ({ broken: error.message }));
      if (answer.status !== 200) {
        seen.push({ end: answer.broken ?? `${answer.status} ${answer.body}` });
        return { seen, over: true };
      }
      for (const packet of decode(answer.body, this.revision, isBinary(answer))) {
        if (ends(packet)) return { seen, over: false, last: packet };
        if (packet !== "6") seen.push(masked(packet));
      }
    }
  }

  /** Sends a request whose body never becomes complete, and drops it. */
  abortPost() {
    const { hostname, port } = new URL(this.url);
    return new Promise((resolve) => {
      const socket = net.connect(Number(port), hostname, () => {
        socket.write(`POST ${this.path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n4abc`, () => socket.destroy());
      });
      socket.on("error", () => {});
      socket.on("close", resolve);
    });
  }

  close() {
    this.waiting.forEach((get) => get.abort());
  }
}

const isBinary = (answer) => answer.headers["content-type"] === "application/octet-stream";

/** A WebSocket, with an Engine.IO session or on its way to one. */
export class Socket {
  #items = [];
  #wake = () => {};

  constructor(url, path, { revision = 4, query = "", headers = {}, protocols } = {}) {
    this.revision = revision;
    const address = `${url.replace("http", "ws")}${path}?EIO=${revision}&transport=websocket${query}`;
    this.socket = new WebSocket(address, protocols, { headers, perMessageDeflate: false });
    this.socket.on("open", () => this.#add({ open: this.socket.protocol || true }));
    this.socket.on("message", (data, binary) => this.#add(binary ? this.#binary(data) : data.toString()));
    this.socket.on("close", (code, reason) => this.#add({ end: `${code} ${reason}`.trim() }));
    this.socket.on("error", () => {});
    this.socket.on("unexpected-response", (_, response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () => this.#add({ end: `${response.statusCode} ${response.headers["content-type"]} ${body}` }));
    });
  }

  #binary(bytes) {
    return this.revision === 4 ? `b${bytes.toString("base64")}` : binaryMessage(bytes);
  }

  #add(item) {
    this.#items.push(item);
    this.#wake();
  }

  /** Sends packets, a frame each. */
  send(packets) {
    for (const packet of packets) {
      if (this.socket.readyState !== WebSocket.OPEN) return;
      const bytes = packet.startsWith("b") && Buffer.from(packet.slice(1), "base64");
      if (bytes) this.socket.send(this.revision === 4 ? bytes : Buffer.concat([Buffer.from([4]), bytes]));
      else this.socket.send(packet);
    }
  }

  /** What comes up to what `ends`, or to the end of the connection. */
  async receive(ends) {
    const seen = [];
    for (;;) {
      while (this.#items.length > 0) {
        const item = this.#items.shift();
        if (item.end !== undefined) return { seen: [...seen, item], over: true };
        if (item.open === undefined && ends(item)) return { seen, over: false, last: item };
        seen.push(item.open === undefined ? masked(item) : item);
      }
      const more = new Promise((resolve) => (this.#wake = resolve));
      try {
        await inTime(more, "frames");
      } catch (error) {
        return { seen: [...seen, { end: error.message }], over: true };
      }
    }
  }

  /** Waits until the handshake is over, one way or the other. */
  async opened() {
    while (this.#items.length === 0) await inTime(new Promise((resolve) => (this.#wake = resolve)), "an answer to a handshake");
    const [first] = this.#items;
    return first.end === undefined ? { seen: [this.#items.shift()], over: false } : { seen: [first], over: true };
  }

  close() {
    this.socket.terminate();
  }
}
