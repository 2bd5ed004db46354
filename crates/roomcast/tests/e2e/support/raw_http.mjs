// HTTP and WebSocket by hand over one TCP connection, so that a test sees every byte: requests as they are written, answers as they came.

import { connect } from "node:net";

import { within } from "./recorder.mjs";

const open = new Set();

/** Ends every connection that a test left open. */
export function closeConnections() {
  for (const connection of open) connection.destroy();
}

/** The fields of a WebSocket handshake. */
export const UPGRADE = {
  Upgrade: "websocket",
  Connection: "Upgrade",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
};

/** The text of a request. A body that is a text or bytes gets its length; `undefined` is none. */
export function requestText(method, path, headers = {}, body) {
  const lines = { Host: "localhost", ...(body === undefined ? {} : { "Content-Length": Buffer.byteLength(body) }), ...headers };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${head.join("")}\r\n`), Buffer.from(body ?? "")]);
}

/** A masked frame of a client's; the mask is zero, which masks nothing. */
export function frame(opcode, payload) {
  const data = Buffer.from(payload);
  const length = data.length < 126 ? [0x80 | data.length] : data.length < 65_536 ? [0xfe, data.length >> 8, data.length & 255] : [0xff, 0, 0, 0, 0, ...[24, 16, 8, 0].map((bits) => (data.length >> bits) & 255)];
  return Buffer.concat([Buffer.from([0x80 | opcode, ...length, 0, 0, 0, 0]), data]);
}

export class Connection {
  #bytes = Buffer.alloc(0);
  #wake = () => {};

  constructor(url) {
    const { hostname, port } = new URL(url);
    this.socket = connect(Number(port), hostname);
    this.socket.setNoDelay(true);
    this.isClosed = false;
    open.add(this);
    this.socket.on("data", (data) => {
      this.#bytes = Buffer.concat([this.#bytes, data]);
      this.#wake();
    });
    this.socket.on("error", () => {});
    this.closed = new Promise((resolve) => {
      this.socket.on("close", () => {
        this.isClosed = true;
        open.delete(this);
        this.#wake();
        resolve(this.#bytes);
      });
    });
  }

  write(bytes) {
    this.socket.write(bytes);
  }

  destroy() {
    this.socket.destroy();
  }

  /** Waits until `take` makes something of the bytes that came; it gives what it made and how many bytes that took. */
  async #next(take, what) {
    for (;;) {
      const taken = take(this.#bytes, this.isClosed);
      if (taken) {
        this.#bytes = this.#bytes.subarray(taken.bytes);
        return taken.value;
      }
      if (this.isClosed) throw new Error(`the connection was closed before ${what}; there came ${JSON.stringify(this.#bytes.toString("latin1"))}`);
      await within(new Promise((resolve) => (this.#wake = resolve)), what);
    }
  }

  /** The next answer: `{ status, headers, body, text, json }`. An answer to HEAD has no body. */
  answer({ head = false } = {}) {
    return this.#next((bytes, isClosed) => readAnswer(bytes, isClosed, head), "an answer");
  }

  /** Sends a request and gives its answer. */
  request(method, path, headers, body) {
    this.write(requestText(method, path, headers, body));
    return this.answer({ head: method === "HEAD" });
  }

  /** The next WebSocket frame of the server's: `{ opcode, payload, text }`. */
  frame() {
    return this.#next(readFrame, "a frame");
  }

  /** The next text that is no ping; pings are answered. */
  async text() {
    for (;;) {
      const { opcode, text } = await this.frame();
      if (opcode === 8) throw new Error(`closed: ${text}`);
      if (text !== "2") return text;
      this.send("3");
    }
  }

  send(text) {
    this.write(frame(1, text));
  }

  sendBinary(data) {
    this.write(frame(2, data));
  }

  /** The close frame's code, 1005 where it has none; what comes before it is passed over. */
  async closeCode() {
    for (;;) {
      const { opcode, payload } = await this.frame();
      if (opcode === 8) return payload.length >= 2 ? payload.readUInt16BE() : 1005;
    }
  }
}

/** One request on a connection of its own. */
export async function request(url, method, path, headers, body) {
  const connection = new Connection(url);
  try {
    return await connection.request(method, path, headers, body);
  } finally {
    connection.destroy();
  }
}

/** A WebSocket handshake on a connection of its own: gives the connection and the answer. */
export async function upgrade(url, path, headers = {}, method = "GET") {
  const connection = new Connection(url);
  const answer = await connection.request(method, path, { ...UPGRADE, ...headers });
  return { connection, answer };
}

function readAnswer(bytes, isClosed, head) {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [first, ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const status = Number(first.split(" ")[1]);
  const rest = bytes.subarray(end + 4);
  const made = (body, length) => ({ value: { status, headers, body, text: body.toString(), json: json(body) }, bytes: end + 4 + length });
  if (head || status === 101 || status === 204 || status === 304) return made(Buffer.alloc(0), 0);
  if (headers["transfer-encoding"] === "chunked") return readChunks(rest, made);
  if (headers["content-length"] === undefined) return isClosed ? made(rest, rest.length) : undefined;
  const length = Number(headers["content-length"]);
  return rest.length < length ? undefined : made(rest.subarray(0, length), length);
}

function readChunks(bytes, made) {
  const chunks = [];
  for (let at = 0; ; ) {
    const line = bytes.indexOf("\r\n", at);
    if (line < 0) return undefined;
    const length = parseInt(bytes.subarray(at, line).toString(), 16);
    at = line + 2 + length + 2;
    if (bytes.length < at) return undefined;
    if (length === 0) return made(Buffer.concat(chunks), at);
    chunks.push(bytes.subarray(line + 2, at - 2));
  }
}

function readFrame(bytes) {
  if (bytes.length < 2) return undefined;
  const short = bytes[1] & 127;
  const head = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < head) return undefined;
  const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if (bytes.length < head + length) return undefined;
  const payload = bytes.subarray(head, head + length);
  return { value: { opcode: bytes[0] & 15, payload, text: payload.toString() }, bytes: head + length };
}

function json(body) {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
