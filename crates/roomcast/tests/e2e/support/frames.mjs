// A WebSocket by hand: the handshake as text, frames as bytes, so that a test can send what no library lets it send.

import { connect } from "node:net";

import { Recorder, within } from "./recorder.mjs";

export const KEY = "dGhlIHNhbXBsZSBub25jZQ==";
/** What RFC 6455, section 1.3 gives for that key. */
export const ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);

export const OPCODES = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

/** A client's frame. `first` is its first byte; the rest follows from the payload, unless the options say otherwise. */
export function frame(first, payload = "", { masked = true } = {}) {
  const bytes = Buffer.from(payload);
  const length = bytes.length < 126 ? Buffer.from([bytes.length]) : bytes.length < 65_536 ? Buffer.alloc(3) : Buffer.alloc(9);
  if (length.length === 3) length.writeUInt16BE(bytes.length, 1), (length[0] = 126);
  if (length.length === 9) length.writeBigUInt64BE(BigInt(bytes.length), 1), (length[0] = 127);
  if (!masked) return Buffer.concat([Buffer.from([first]), length, bytes]);
  length[0] |= 0x80;
  return Buffer.concat([Buffer.from([first]), length, MASK, bytes.map((byte, index) => byte ^ MASK[index % 4])]);
}

/** A close frame of the client's. */
export const closeFrame = (code, reason = "") => frame(0x88, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]));

/** Takes whole frames of the server's from the beginning of `bytes`; gives them and the rest. */
function takeFrames(bytes) {
  const frames = [];
  for (;;) {
    if (bytes.length < 2) return [frames, bytes];
    const short = bytes[1] & 127;
    const head = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (bytes.length < head) return [frames, bytes];
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
    if (bytes.length < head + length) return [frames, bytes];
    const payload = bytes.subarray(head, head + length);
    const opcode = Object.keys(OPCODES).find((name) => OPCODES[name] === (bytes[0] & 15));
    frames.push({ first: bytes[0], opcode, masked: bytes[1] > 127, payload, text: payload.toString(), code: payload.length >= 2 ? payload.readUInt16BE() : undefined });
    bytes = bytes.subarray(head + length);
  }
}

/** Opens a TCP connection and asks for a WebSocket. `head` and `frames` record what comes; `end` is an item of both. */
export async function rawWebSocket(port, path, { headers = {}, method = "GET", allowHalfOpen = false } = {}) {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen });
  const frames = new Recorder(`a WebSocket by hand at ${path}`);
  const head = new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    let opened = false;
    socket.on("data", (data) => {
      bytes = Buffer.concat([bytes, data]);
      if (!opened && bytes.includes("\r\n\r\n")) {
        const end = bytes.indexOf("\r\n\r\n");
        const [status, ...lines] = bytes.subarray(0, end).toString().split("\r\n");
        bytes = bytes.subarray(end + 4);
        opened = true;
        resolve({ status: Number(status.split(" ")[1]), headers: Object.fromEntries(lines.map((line) => [line.split(":")[0].toLowerCase(), line.slice(line.indexOf(":") + 1).trim()])) });
      }
      if (!opened) return;
      const [taken, rest] = takeFrames(bytes);
      bytes = rest;
      taken.forEach((item) => frames.add(item));
    });
    socket.on("error", () => {});
    socket.on("end", () => frames.add({ end: true }));
    socket.on("close", () => (frames.add({ closed: true }), reject(new Error("closed within the head"))));
  });
  const fields = { Host: "localhost", Upgrade: "websocket", Connection: "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": KEY, ...headers };
  const lines = Object.entries(fields).flatMap(([name, value]) => (value === undefined ? [] : `${name}: ${value}\r\n`));
  socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
  return {
    socket,
    frames,
    head: await within(head, "the answer to the handshake"),
    send: (...all) => socket.write(Buffer.concat(all)),
    next: (opcode, accept = () => true, from = 0) => frames.next((item) => item.opcode === opcode && accept(item), `a ${opcode} frame`, from),
    /** The code of the close frame that comes next to last, before the end of the stream. */
    async closed() {
      const { code } = await frames.next((item) => item.opcode === "close", "a close frame");
      await frames.next((item) => item.end || item.closed, "the end of the stream");
      return code;
    },
    destroy: () => socket.destroy(),
  };
}
