// The four systems as far as they have things in common: the ways in, rooms that anyone may enter, and what they are told there. So that a test of
// a common rule is one table over all of them.

import { plain, socketIo } from "./clients.mjs";

/**
 * `ways`: how clients come in. `needsKey`: whether it starts with a key alone, unless these `variables` are set. `broker`: its exchange. `enter`: a
 * command that gives the room, the one that takes it, and the event that tells plain clients so. `bad`: a command that is wrong in this field.
 */
export const SYSTEMS = {
  hometrip: {
    ways: { "Socket.IO": { namespace: "/" } },
    variables: { ALLOW_AUTH_WITHOUT_JWT: "true" },
    needsKey: true,
    broker: "hometrip_events",
    enter: { command: "join_room", data: { roomType: "notification", roomId: "r1" }, room: "notification:r1", leave: "leave_room" },
    bad: { command: "join_room", data: { roomType: "notification" }, field: "roomId" },
  },
  venta: {
    ways: {
      "plain, /ws/location": { path: "/ws/location", envelope: "data" },
      "plain, /ws/vendor": { path: "/ws/vendor", envelope: "data" },
      "Socket.IO, /location": { namespace: "/location" },
      "Socket.IO, /vendor": { namespace: "/vendor" },
    },
    enter: { command: "subscribe_location", data: { vendorId: "v1" }, room: "location:v1", leave: "unsubscribe_location", confirmed: "subscribed" },
    bad: { command: "subscribe_location", data: { vendorId: { a: 1 } }, field: "vendorId" },
  },
  clan: {
    ways: { plain: { path: "/ws", envelope: "flat" } },
    broker: "clan_events",
    enter: { command: "subscribe_clan_chat", data: { clanId: "c1" }, room: "clan:c1", leave: "unsubscribe_clan_chat", confirmed: "subscription_confirmed" },
    bad: { command: "chat", data: { clanId: "c1", content: "" }, field: "content" },
  },
  marketplace: {
    ways: { "Socket.IO": { namespace: "/" } },
    needsKey: true,
    broker: "events",
    enter: { command: "join_room", data: { roomId: "r1" }, room: "r1", leave: "leave_room" },
    bad: { command: "join_room", data: {}, field: "roomId" },
  },
};

/** A client that came by one of the ways; both kinds look alike to a test. */
export function come(gateway, way, { token, name, transports, ...options } = {}) {
  return way.path === undefined ? socketIoClient(gateway, way, { token, name, transports, ...options }) : plainClient(gateway, way, { token, name, ...options });
}

function socketIoClient(gateway, { namespace }, options) {
  const client = socketIo(gateway.url, { namespace: namespace === "/" ? "" : namespace, ...options });
  return {
    ...client,
    entered: () => client.next("connect"),
    /** Why it was not let in. */
    refused: async () => (await client.next("connect_error")).message,
    /** Sends a command and gives its answer: what it was told, or `{ error, code }`. */
    command: (name, data) => client.ask(name, data),
    /** Sends a command and wants no answer. */
    say: (name, data) => client.socket.emit(name, data),
    /** How the connection ended. */
    ended: () => client.next("disconnect"),
  };
}

function plainClient(gateway, { path, envelope }, { token, name, headers, protocols }) {
  const query = token === undefined ? "" : `?token=${encodeURIComponent(token)}`;
  const client = plain(`${gateway.ws}${path}${query}`, { name, ...(headers && { headers }), ...(protocols && { protocols }) });
  const content = (message) => (envelope === "data" ? message.data : message);
  const next = async (type, accept = () => true, from = 0) => content(await client.next(type, (message) => accept(content(message)), from));
  const say = (type, data) => client.send(envelope === "data" ? { type, data } : { type, ...data });
  return {
    ...client,
    next,
    say,
    names: () => client.events.items.flatMap(({ json }) => (json && !["connected", "ping"].includes(json.type) ? [json.type] : [])),
    entered: () => client.events.next((item) => item.open, "the opening"),
    refused: async () => {
      const error = await next("error");
      const { close } = await client.closed();
      if (close !== 4401) throw new Error(`closed with ${close}, not with 4401`);
      return error.message;
    },
    async command(type, data, confirmed) {
      const from = client.events.items.length;
      say(type, data);
      const { json } = await client.events.next(({ json }) => json && (json.type === "error" || json.type === confirmed), `the answer to \`${type}\``, from);
      const answer = content(json);
      return json.type === "error" ? { error: answer.message, code: answer.code } : { success: true, ...answer };
    },
    ended: async () => (await client.closed()).close,
  };
}
