// The one connection of the page: comes back after a loss, pairs answers with what was sent, and knows the rooms it is in from the answers.
// Shows nothing itself: `hear(kind, detail)` is told of `state`, `line` and `rooms`.

import { open } from "./dialects.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** Commands that may wait for an answer; of more, the oldest are forgotten. */
const PENDING_MAX = 200;
/** Rooms that are listed. */
const ROOMS_MAX = 1_000;

export class Connection {
  #hear;
  #commands;
  #line = null;
  #target = null;
  #wait = FIRST_WAIT_MS;
  #timer = null;
  #pending = new Map();
  #ticket = 0;
  #lastError = null;
  #userId = null;
  /** By name: `{command, args}`, both null for a room that the gateway gave. */
  rooms = new Map();
  state = "closed";

  constructor(commands, hear) {
    this.#commands = commands;
    this.#hear = hear;
  }

  /** Connects by a way in, as someone; whatever was connected before is left. */
  connect(way, base, who) {
    this.disconnect();
    this.rooms.clear();
    this.#wait = FIRST_WAIT_MS;
    this.#target = { way, base, who };
    this.#open();
  }

  /** Leaves for good. */
  disconnect() {
    clearTimeout(this.#timer);
    const line = this.#line;
    [this.#line, this.#target] = [null, null];
    line?.close();
    this.rooms.clear();
    if (this.state !== "closed") this.#change("closed", "Not connected.");
  }

  /** Sends a command. Whether an answer is asked for is for Socket.IO alone to say. */
  send(name, data, wantsAnswer = true) {
    if (this.state !== "open") return false;
    const ticket = this.#ticket++;
    const byAck = this.#line.canAnswer && wantsAnswer;
    this.#pending.set(ticket, { name, data, byAck, sentAt: performance.now() });
    if (this.#pending.size > PENDING_MAX) this.#pending.delete(this.#pending.keys().next().value);
    // Whoever looks over one's shoulder need not read a token.
    this.#hear("line", { kind: "sent", name, data: name === "refresh_token" ? "(a token)" : data });
    this.#line.send(name, data, byAck ? ticket : undefined);
    return true;
  }

  /** Leaves a room by the command that undoes the one which entered it; null where there is none. */
  leaveCommand(room) {
    const { command, args } = this.rooms.get(room) ?? {};
    const undone = command && this.#commands.find((other) => other.leave.length > 0 && String(other.leave) === String(command.join));
    return undone ? { name: undone.name, data: args } : null;
  }

  #change(state, text) {
    this.state = state;
    this.#hear("state", { state, text });
    this.#hear("rooms");
  }

  #open() {
    const { way, base, who } = this.#target;
    this.#pending.clear();
    [this.#lastError, this.#userId] = [null, null];
    this.#change("opening", "Connecting …");
    // What comes from a connection that was left is nothing to us.
    const mine = (act) => (...args) => line === this.#line && act(...args);
    let line = null;
    try {
      line = open(way, base, who, {
        up: mine((id) => this.#up(id)),
        event: mine((name, args) => this.#event(name, args)),
        answer: mine((ticket, args) => this.#answer(ticket, args)),
        refused: mine((message) => this.#end(`Refused: ${message}`)),
        down: mine((reason, isFinal) => this.#down(reason, isFinal)),
      });
    } catch (error) {
      // A browser takes no subprotocol with such letters: whatever this is, it is no token.
      return this.#end(error.name === "SyntaxError" ? "Refused: this is no token." : `Refused: ${error.message}`);
    }
    this.#line = line;
  }

  #up(id) {
    this.#wait = FIRST_WAIT_MS;
    this.#change("open", id ? `Connected as socket ${id}.` : "Connected.");
    // As a good client does: what it was in before a loss, it enters again.
    const before = [...this.rooms];
    this.rooms.clear();
    for (const [, { command, args }] of before) if (command) this.send(command.name, args);
    this.#hear("rooms");
  }

  #down(reason, isFinal) {
    // A plain client is let in, told what is wrong, and closed, so that a browser can read the reason.
    if (isFinal) return this.#end(this.#lastError ? `Refused: ${this.#lastError}` : `Ended: ${reason}.`);
    this.#line = null;
    this.#hear("line", { kind: "note", name: "lost", data: reason });
    this.#change("waiting", `Lost (${reason}); trying again …`);
    this.#timer = setTimeout(() => this.#target && this.#open(), this.#wait * (0.5 + Math.random() / 2));
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }

  #end(text) {
    const line = this.#line;
    [this.#line, this.#target] = [null, null];
    this.rooms.clear();
    this.#hear("line", { kind: "error", name: "closed", data: text });
    this.#change("refused", text);
    line?.close();
  }

  #event(name, args) {
    const data = args.length > 1 ? args : args[0];
    const isError = name === "error";
    if (isError) {
      this.#lastError = data?.message ?? data?.error ?? null;
      // Commands of a connection run one after the other: it is the first of those that wait.
      const [first] = this.#unacknowledged();
      if (first) this.#pending.delete(first[0]);
    }
    const sent = isError ? null : this.#answered(name, data);
    const ms = sent ? performance.now() - sent.sentAt : undefined;
    this.#hear("line", { kind: isError ? "error" : sent ? "answer" : "event", name, data, ms });
    if (sent) this.#settle(sent, data);
    if (name === "connected") {
      this.#userId = data?.userId ?? null;
      for (const room of Array.isArray(data?.rooms) ? data.rooms : []) this.#enter(String(room), null, null);
      this.#hear("rooms");
    }
  }

  #answer(ticket, args) {
    const sent = this.#pending.get(ticket);
    if (!sent) return;
    this.#pending.delete(ticket);
    const data = args.length > 1 ? args : args[0];
    const failed = Boolean(data?.error);
    this.#hear("line", { kind: failed ? "error" : "answer", name: sent.name, data, ms: performance.now() - sent.sentAt });
    if (!failed) this.#settle(sent, data);
  }

  /** What was sent and is answered by this event: of those that wait for it, the first whose fields the event repeats. */
  #answered(event, data) {
    let best = null;
    for (const [ticket, sent] of this.#unacknowledged()) {
      if (this.#command(sent.name)?.answer !== event) continue;
      const agreed = agreement(sent.data, data);
      if (!best || agreed > best.agreed) best = { ticket, sent, agreed };
    }
    // Those before it are over, too, whether or not there was an answer for them.
    if (best) for (const [ticket] of this.#unacknowledged()) if (ticket <= best.ticket) this.#pending.delete(ticket);
    return best?.sent ?? null;
  }

  /** What was sent without asking for an acknowledgement, the oldest first. */
  #unacknowledged() {
    return [...this.#pending].filter(([, sent]) => !sent.byAck);
  }

  #command(name) {
    return this.#commands.find((command) => command.name === name);
  }

  /** A command was carried out: its rooms are entered or left. */
  #settle({ name, data: args }, answer) {
    const command = this.#command(name);
    if (!command || (command.join.length === 0 && command.leave.length === 0)) return;
    const told = [answer?.room].flat().filter((room) => typeof room === "string");
    const named = (templates) => (told.length ? told : templates.map((template) => fill(template, args ?? {}, this.#userId)));
    if (command.join.length) for (const room of named(command.join)) this.#enter(room, command, args);
    else for (const room of named(command.leave)) this.rooms.delete(room);
    this.#hear("rooms");
  }

  #enter(room, command, args) {
    if (this.rooms.size < ROOMS_MAX) this.rooms.set(room, { command, args });
  }
}

/** How many fields of two objects say the same, less those that differ. */
function agreement(sent, told) {
  if (sent === null || told === null || typeof sent !== "object" || typeof told !== "object") return 0;
  const shared = Object.keys(told).filter((name) => name in sent);
  return shared.reduce((sum, name) => sum + (JSON.stringify(sent[name]) === JSON.stringify(told[name]) ? 1 : -1), 0);
}

/** The room that a template names, as far as the page can know it. */
function fill(template, args, userId) {
  return template.replace(/\{args\.(\w+)\??\}/g, (hole, name) => args[name] ?? hole).replaceAll("{user.id}", () => userId ?? "{user.id}");
}
