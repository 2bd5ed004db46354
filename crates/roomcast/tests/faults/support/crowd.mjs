// Many stock clients in a process of their own: each has its group's conversation open, comes back by itself, and keeps account of what it heard.
// What it is asked, and what it answers: messages between the two processes.

import { io } from "../../e2e/support/clients.mjs";
import { tokenOf } from "../../e2e/support/token.mjs";

/** Clients that come at once: a crowd that starts is none that comes back. */
const COMING_MAX = 50;

const clients = [];

class Client {
  /** When it was in again; `undefined` while it is not. On the clock that all processes of a machine share. */
  inSince;
  attempts = 0;
  hasGivenUp = false;
  unknownSessions = 0;
  /** Why it was not let in. */
  refusal;
  /** How often each event came, by its number. */
  heard = new Map();

  constructor(url, index, group, transports) {
    this.group = group;
    this.socket = io(url, { auth: { token: tokenOf(`client ${index}`) }, forceNew: true, transports, reconnectionAttempts: 5 });
    this.arrived = new Promise((resolve) => (this.arrive = resolve));
    this.socket.on("connect", () => this.#enter());
    this.socket.on("disconnect", (_, details) => {
      this.inSince = undefined;
      this.#look(details?.context);
    });
    this.socket.on("connect_error", (error) => this.#look(error.context));
    this.socket.on("new_message", ({ number }) => this.heard.set(number, (this.heard.get(number) ?? 0) + 1));
    this.socket.io.on("reconnect_attempt", () => (this.attempts += 1));
    this.socket.io.on("reconnect_failed", () => (this.hasGivenUp = true));
  }

  #enter() {
    const { id } = this.socket;
    this.socket.emit("join_room", { roomType: "conversation", roomId: String(this.group) }, ({ success, ...rest }) => {
      if (this.socket.id !== id) return;
      if (!success) {
        this.refusal = JSON.stringify(rest);
        return;
      }
      this.inSince = process.hrtime.bigint();
      this.arrive();
    });
  }

  #look(request) {
    if (request?.responseText?.includes("Session ID unknown")) this.unknownSessions += 1;
  }
}

const asked = {
  async come({ url, first, count, groups, transports }) {
    const coming = [];
    for (let index = first; index < first + count; index += 1) {
      const client = new Client(url, index, index % groups, transports[index % transports.length]);
      clients.push(client);
      coming.push(client.arrived);
      if (coming.length === COMING_MAX) await Promise.all(coming.splice(0));
    }
    await Promise.all(coming);
  },

  state: () => ({
    in: clients.filter(({ inSince }) => inSince !== undefined).length,
    // Whoever is sent away comes back no more than who gave up.
    gaveUp: clients.filter(({ socket, hasGivenUp }) => hasGivenUp || !socket.active).length,
    refusals: clients.flatMap(({ refusal }) => refusal ?? []).slice(0, 3),
  }),

  /** Who has not heard what was published since it is in, and who heard what twice. `events`: their numbers, groups and times. */
  account({ events }) {
    const missing = [];
    for (const [index, { group, inSince, heard }] of clients.entries()) {
      for (const event of events) {
        if (event.group === group && BigInt(event.at) > inSince && !heard.has(event.number)) missing.push({ index, number: event.number });
      }
    }
    const repeated = clients.flatMap(({ heard }, index) => [...heard].flatMap(([number, times]) => (times > 1 ? [{ index, number, times }] : [])));
    const sum = (what) => clients.reduce((sum, client) => sum + client[what], 0);
    const most = (what) => clients.reduce((most, client) => Math.max(most, client[what]), 0);
    return {
      missing: missing.length,
      repeated: repeated.length,
      some: [...missing.slice(0, 3), ...repeated.slice(0, 3)],
      attempts: sum("attempts"),
      mostAttempts: most("attempts"),
      unknownSessions: sum("unknownSessions"),
      mostUnknownSessions: most("unknownSessions"),
    };
  },
};

process.on("message", async ({ id, what, ...rest }) => process.send({ id, answer: await asked[what](rest) }));
process.on("disconnect", () => process.exit());
