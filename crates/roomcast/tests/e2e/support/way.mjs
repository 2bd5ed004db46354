// A way to the broker on which accidents can happen: it takes AMQP frames (0-9-1, section 4.2.3) from one side to the other and knows those of a
// publish and of its confirm.

import { createServer, connect as dial } from "node:net";

const METHOD = 1;
const [PUBLISH, ACK, CHANNEL_CLOSE, CHANNEL_CLOSE_OK] = [[60, 40], [60, 80], [20, 40], [20, 41]].map(([kind, method]) => (kind << 16) | method);
const PRECONDITION_FAILED = 406;

/** The whole frames of what came so far, one by one; the client's first eight bytes are none, and go as they are. */
class Frames {
  #rest = Buffer.alloc(0);

  *of(data) {
    this.#rest = Buffer.concat([this.#rest, data]);
    for (;;) {
      const size = this.#rest.subarray(0, 4).equals(Buffer.from("AMQP")) ? 8 : this.#rest.length < 7 ? Infinity : this.#rest.readUInt32BE(3) + 8;
      if (this.#rest.length < size) return;
      yield this.#rest.subarray(0, size);
      this.#rest = this.#rest.subarray(size);
    }
  }
}

const method = (frame) => (frame[0] === METHOD && frame.length > 8 ? frame.readUInt32BE(7) : undefined);

function methodFrame(channel, id, body = Buffer.alloc(0)) {
  const frame = Buffer.alloc(12 + body.length);
  frame[0] = METHOD;
  frame.writeUInt16BE(channel, 1);
  frame.writeUInt32BE(4 + body.length, 3);
  frame.writeUInt32BE(id, 7);
  body.copy(frame, 11);
  frame[frame.length - 1] = 0xce;
  return frame;
}

/** A channel.close as a broker sends it: code, text, and the method that it is about. */
function channelClose(channel, code) {
  const body = Buffer.alloc(7);
  body.writeUInt16BE(code, 0);
  return methodFrame(channel, CHANNEL_CLOSE, body);
}

/**
 * Starts a way to the broker's port. `key` is what the accidents happen to: publishes whose routing key begins with it.
 *
 * `accident(kind)` has one happen to the next of them, and resolves when it has: `lost`, the connection breaks and the broker gets nothing; `unheard`,
 * the broker gets it, and the connection breaks before its confirm is heard; `closed`, the broker gets it, and instead of the confirm comes a
 * channel.close.
 */
export async function startWay(port, key = "gateway.") {
  const pairs = new Set();
  let isStopped = false;
  let next;
  const happened = () => {
    next.resolve();
    next = undefined;
  };
  const server = createServer((client) => {
    const broker = dial(port, "127.0.0.1");
    const pair = [client, broker];
    const cut = () => pair.forEach((socket) => socket.destroy());
    // The accident that happens to the publish under way, and channels that were closed to the client, but not yet to the broker.
    let underWay;
    const closing = new Set();
    const fromClient = (frame) => {
      const channel = frame.readUInt16BE(1);
      if (next && !underWay && method(frame) === PUBLISH && frame.includes(key)) {
        if (next.kind === "lost") {
          happened();
          return cut();
        }
        underWay = next.kind;
      }
      // The broker has closed nothing: for it, the client does.
      if (closing.has(channel) && method(frame) === CHANNEL_CLOSE_OK) return broker.write(channelClose(channel, 200));
      return broker.write(frame);
    };
    const fromBroker = (frame) => {
      const channel = frame.readUInt16BE(1);
      if (closing.has(channel)) {
        if (method(frame) === CHANNEL_CLOSE_OK) closing.delete(channel);
        return undefined;
      }
      if (!underWay || method(frame) !== ACK) return client.write(frame);
      happened();
      if (underWay === "unheard") return cut();
      underWay = undefined;
      closing.add(channel);
      return client.write(channelClose(channel, PRECONDITION_FAILED));
    };
    pairs.add(pair);
    for (const [one, other, take] of [[client, broker, fromClient], [broker, client, fromBroker]]) {
      const frames = new Frames();
      one.on("error", () => other.destroy());
      one.on("close", () => {
        pairs.delete(pair);
        other.destroy();
      });
      one.on("data", (data) => {
        for (const frame of frames.of(data)) {
          take(frame);
          // What stands behind the accident went down with the connection.
          if (one.destroyed) return;
        }
      });
      if (isStopped) one.pause();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const each = (what) => pairs.forEach((pair) => pair.forEach((socket) => socket[what]()));
  return {
    port: server.address().port,
    /** What is sent from now on arrives nowhere until it goes on. */
    stop: () => each(((isStopped = true), "pause")),
    goOn: () => each(((isStopped = false), "resume")),
    cut: () => each("destroy"),
    accident: (kind) => new Promise((resolve) => (next = { kind, resolve })),
    close: () => {
      each("destroy");
      server.close();
    },
  };
}
