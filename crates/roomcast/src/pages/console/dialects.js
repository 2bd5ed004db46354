// The two languages that clients speak with the gateway, each over one WebSocket. Knows no page and comes back by itself from nothing:
// what happens is told to `on`, and that is
//   up(id)                 the gateway let us in; the id is null where it tells none
//   event(name, args)      an event came
//   answer(ticket, args)   the answer to what was sent with this ticket
//   refused(message)       we are not let in
//   down(reason, isFinal)  it is over; once. A final end is one after which clients do not come back by themselves

/** The close codes after which the gateway does not want to see us again. */
const FINAL_CLOSES = new Set([1000, 1002, 1003, 1007, 1008, 1009, 4401, 4409]);

/** Opens a way in: `{protocol, path, namespace, envelope}`, as someone: `{token, query}`. */
export function open(way, base, who, on) {
  return way.protocol === "socket.io" ? socketIo(way, base, who, on) : plain(way, base, who, on);
}

/** Calls `down` at the end of a socket, whoever ended it and why. */
function watchEnd(socket, on, before = () => {}) {
  socket.onclose = ({ code, reason }) => {
    before();
    const words = [code === 1006 ? "the connection was lost" : `closed with ${code}`, reason].filter(Boolean).join(": ");
    on.down(words, FINAL_CLOSES.has(code));
  };
}

function parse(text, otherwise) {
  try {
    return JSON.parse(text);
  } catch {
    return otherwise;
  }
}

// ---------- plain JSON: one object a message, `{type, …}` or `{type, data}`

function plain(way, base, who, on) {
  const address = `${base}${way.path}${queryText(who.query)}`;
  // As a subprotocol, so that the token stands in no address and no log of a proxy.
  const socket = who.token ? new WebSocket(address, ["bearer", who.token]) : new WebSocket(address);
  socket.onopen = () => on.up(null);
  socket.onmessage = ({ data: text }) => {
    const message = parse(text, null);
    if (typeof message?.type !== "string") return on.event("(no JSON message)", [String(text)]);
    const { type, ...fields } = message;
    const isWrapped = way.envelope === "data" || (Object.keys(fields).length === 1 && "data" in fields);
    on.event(type, isWrapped ? [fields.data] : [fields]);
  };
  watchEnd(socket, on);
  return {
    canAnswer: false,
    send(name, data) {
      socket.send(JSON.stringify(plainMessage(way, name, data)));
    },
    close: () => socket.close(1000),
  };
}

/** What goes out for an event: fields stand beside the type in the flat envelope, and what is no object under `data` in either. */
export function plainMessage(way, name, data) {
  const isObject = data !== null && typeof data === "object" && !Array.isArray(data);
  return way.envelope === "flat" && isObject ? { ...data, type: name } : { type: name, data };
}

function queryText(query) {
  const text = new URLSearchParams(query).toString();
  return text && `?${text}`;
}

// ---------- Socket.IO 5 in Engine.IO 4: https://github.com/socketio/socket.io-protocol

const PACKET = /^(\d)(?:(\d+)-)?(?:(\/[^,]*),)?(\d*)([\s\S]*)$/;
const KINDS = { 0: "connect", 1: "disconnect", 2: "event", 3: "ack", 4: "refusal", 5: "event", 6: "ack" };

function socketIo(way, base, who, on) {
  const socket = new WebSocket(`${base}${way.path}${queryText({ ...who.query, EIO: 4, transport: "websocket" })}`);
  const namespace = way.namespace === "/" ? "" : `${way.namespace},`;
  const tickets = new Map();
  let lastId = 0;
  let silence = null;
  let longestSilence = 0;
  let unfinished = null;

  // A server that pings no more is gone, whatever TCP thinks.
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => socket.close(4000, "no ping came in time"), longestSilence);
  };

  const engine = {
    0: (text) => {
      const { pingInterval, pingTimeout } = parse(text, {});
      longestSilence = (pingInterval ?? 25_000) + (pingTimeout ?? 20_000);
      heard();
      socket.send(`40${namespace}${who.token ? JSON.stringify({ token: who.token }) : ""}`);
    },
    2: () => {
      socket.send("3");
      heard();
    },
    4: (text) => {
      const [, digit, attachments, , id, json] = PACKET.exec(text) ?? [];
      const packet = { kind: KINDS[digit], id, data: parse(json, null), left: Number(attachments ?? 0), parts: [] };
      if (packet.left > 0) unfinished = packet;
      else take(packet);
    },
  };

  function take({ kind, id, data, parts }) {
    if (parts.length) data = withParts(data, parts);
    if (kind === "connect") on.up(data?.sid ?? null);
    else if (kind === "event" && Array.isArray(data)) on.event(String(data[0]), data.slice(1));
    else if (kind === "refusal") on.refused(data?.message ?? "refused");
    else if (kind === "disconnect") on.refused("the gateway ended this connection");
    else if (kind === "ack" && tickets.has(id)) {
      on.answer(tickets.get(id), Array.isArray(data) ? data : [data]);
      tickets.delete(id);
    }
  }

  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") return engine[data[0]]?.(data.slice(1));
    if (!unfinished) return;
    unfinished.parts.push(data);
    if (--unfinished.left > 0) return;
    const packet = unfinished;
    unfinished = null;
    take(packet);
  };
  watchEnd(socket, on, () => clearTimeout(silence));
  return {
    canAnswer: true,
    send(name, data, ticket) {
      const id = ticket === undefined ? "" : String(lastId++);
      if (id) tickets.set(id, ticket);
      socket.send(`42${namespace}${id}${JSON.stringify(data === undefined ? [name] : [name, data])}`);
    },
    close() {
      if (socket.readyState === WebSocket.OPEN) socket.send(`41${namespace}`);
      socket.close(1000);
    },
  };
}

/** The data with a word for each attachment in place of its placeholder. */
function withParts(value, parts) {
  if (Array.isArray(value)) return value.map((item) => withParts(item, parts));
  if (value === null || typeof value !== "object") return value;
  if (value._placeholder === true && parts[value.num]) return `(${parts[value.num].byteLength} bytes of binary)`;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, withParts(item, parts)]));
}
