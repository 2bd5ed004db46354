// Polling payloads of both revisions of Engine.IO. A packet is a text here; a binary message is `b` and base64, as it stands in revision 4.

const SEPARATOR = "\x1e";

/** Writes packets. `binary`: revision 3 writes them as bytes, which it does for binary messages of a client that can take them. */
export function encode(packets, revision) {
  if (revision === 4) return packets.join(SEPARATOR);
  return packets.map((packet) => (packet.startsWith("b") ? `b4${packet.slice(1)}` : packet)).map((packet) => `${packet.length}:${packet}`).join("");
}

/** Reads packets out of a body. What is none comes back as one packet that says so. */
export function decode(body, revision, isBinary) {
  if (revision === 4) return body.toString().split(SEPARATOR);
  return isBinary ? decodeBytes(body) : decodeText(body.toString());
}

function decodeText(text) {
  const packets = [];
  while (text) {
    const [, digits] = /^(\d+):/.exec(text) ?? [];
    if (!digits) return [...packets, `no payload: ${text}`];
    const start = digits.length + 1;
    packets.push(inRevision4(text.slice(start, start + Number(digits))));
    text = text.slice(start + Number(digits));
  }
  return packets;
}

const inRevision4 = (packet) => (packet.startsWith("b4") ? `b${packet.slice(2)}` : packet);

function decodeBytes(bytes) {
  const packets = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0xff, at);
    const length = Number([...bytes.subarray(at + 1, end)].join(""));
    const packet = bytes.subarray(end + 1, end + 1 + length);
    packets.push(bytes[at] === 0 ? packet.toString() : binaryMessage(packet));
    at = end + 1 + length;
  }
  return packets;
}

/** A binary message of revision 3, whose first byte is the packet's type. */
export const binaryMessage = (bytes) => (bytes[0] === 4 ? `b${bytes.subarray(1).toString("base64")}` : `bytes ${bytes.toString("hex")}`);
