// Carries a script out against one server, and gives what a client can see of each step. Steps do not depend on time: after each one a
// packet is sent whose answer is known, the marker, and everything before that answer, or before the end of the session, belongs to the step.

import { Polling, Socket, inTime, request } from "./links.mjs";

/** How often a session is asked whether it has noticed that its client went away. */
const ASKED_MAX = 400;

/** Plays the steps; `server` has the addresses of its two sides. Gives an observation for each step that was reached. */
export async function play({ steps, kind, revision = 4 }, server) {
  const player = new Player(kind === "socketio" ? server.socketIo : server.engine, kind === "socketio", revision);
  const observations = [];
  try {
    for (const step of steps) {
      const { over, ...seen } = await player.step(step).catch((error) => ({ failed: error.message, over: true }));
      observations.push(seen);
      if (over) break;
    }
  } finally {
    player.close();
  }
  return observations;
}

class Player {
  #markers = 0;
  #opened = [];

  constructor(url, isSocketIo, revision) {
    Object.assign(this, { url, isSocketIo, revision });
  }

  close() {
    this.#opened.forEach((link) => link.close());
  }

  #open(link) {
    this.#opened.push(link);
    return link;
  }

  /** A packet, and how its answer is known. */
  #marker() {
    this.#markers += 1;
    if (!this.isSocketIo) return { packet: `4marker ${this.#markers}`, ends: (packet) => packet === `4marker ${this.#markers}` };
    const name = `/marker-${this.#markers}`;
    return { packet: `40${name},`, ends: (packet) => packet.startsWith(`44${name},`) };
  }

  /** Everything that is still to come of a step. The Node server lets a client into a namespace a moment after it has read what follows. */
  async #rest() {
    const first = await this.#upToMarker();
    if (first.over || !this.isSocketIo) return first;
    const { seen, ...second } = await this.#upToMarker();
    return { ...second, seen: [...first.seen, ...seen] };
  }

  async #upToMarker() {
    const { packet, ends } = this.#marker();
    if (this.link instanceof Socket) this.link.send([packet]);
    else {
      const answer = await this.link.post([packet]);
      if (answer.status !== 200) {
        const { seen } = await this.link.receive(() => false);
        return { marker: short(answer), seen, over: true };
      }
    }
    const { seen, over } = await this.link.receive(ends);
    return { seen, over };
  }

  async step(step) {
    switch (step.do) {
      case "none":
        return this.#rest();
      case "request":
        return { answer: await inTime(request(this.url, step).answer, "an answer"), over: false };
      case "open":
        return this.#openPolling(step.path, step.query);
      case "link":
        return step.transport === "polling" ? this.#openPolling("/socket.io/") : this.#openSocket({ path: "/socket.io/" });
      case "websocket":
        return this.#openSocket(step);
      case "post":
        return this.#posted(this.link.post(step.packets, step.headers));
      case "post body":
        return this.#posted(this.link.postBody(step.body, step.headers));
      case "wait and post":
        await this.link.startGet();
        return this.#posted(this.link.post(step.packets));
      case "buffer":
        return { post: short(await this.link.post(step.packets)), over: false };
      case "many":
        return this.#posted(this.link.post(Array.from({ length: step.count }, (_, index) => `4m${index}`)));
      case "frames":
        return this.#frames(step);
      case "ask":
        return this.#ask(step);
      case "client close":
        this.link.socket.close(step.code);
        return this.link.receive(() => false);
      case "probe":
        this.probe = this.#open(new Socket(this.url, "/engine.io/", { query: `&sid=${this.link.sid}`, revision: this.revision }));
        return this.probe.opened();
      case "probe frames":
        return this.#probeFrames(step.packets);
      case "drop probe":
        this.probe.close();
        return { over: false };
      case "upgrade":
        this.probe.sid = this.link.sid;
        this.link = this.probe;
        this.link.send(["5", ...step.packets]);
        return this.#rest();
      default:
        return this.#end(step);
    }
  }

  /** Steps after which a session is often over. */
  async #end(step) {
    switch (step.do) {
      case "two gets": {
        const first = await this.link.startGet();
        this.link.waiting = [];
        const second = request(this.url, { path: this.link.path });
        const answers = [inTime(first.answer, "the first GET"), inTime(second.answer, "the second GET")];
        return { answers: (await Promise.all(answers)).map(short), ...(await this.#rest()) };
      }
      case "abort get": {
        const get = await this.link.startGet();
        this.link.waiting = [];
        get.abort();
        return this.#noticed();
      }
      case "abort post":
        await this.link.abortPost();
        return this.#noticed();
      case "session request": {
        const path = `/engine.io/?EIO=${this.revision}&transport=polling&sid=${this.link.sid}${step.query ?? ""}`;
        const answer = await inTime(request(this.url, { ...step, path }).answer, "an answer");
        return { answer, ...(await this.#rest()) };
      }
      case "get its session": {
        const path = `/engine.io/?EIO=${this.revision}&transport=polling&sid=${this.link.sid}`;
        return { answer: await inTime(request(this.url, { path }).answer, "an answer"), ...(await this.#rest()) };
      }
      case "rival websocket": {
        const rival = this.#open(new Socket(this.url, "/engine.io/", { query: `&sid=${this.link.sid}`, revision: this.revision }));
        const { seen, over } = await rival.opened();
        if (!over && step.frames.length > 0) {
          rival.send(step.frames);
          seen.push(...(await rival.receive((packet) => packet === "3probe")).seen);
        }
        rival.close();
        const { seen: after, ...rest } = await this.#rest();
        return { rival: seen, seen: after, ...rest };
      }
      default:
        throw new Error(`no such step: ${step.do}`);
    }
  }

  async #openPolling(path, query) {
    this.link = this.#open(new Polling(this.url, path, this.revision));
    const answer = await this.link.open(query);
    return { answer, over: answer.status !== 200 };
  }

  async #openSocket({ path, ...options }) {
    this.link = this.#open(new Socket(this.url, path, { ...options, revision: this.revision }));
    const { seen, over, last } = await this.link.receive((packet) => packet.startsWith("0"));
    this.link.sid = /"sid":"([^"]+)"/.exec(last)?.[1];
    return { seen, open: last?.replace(this.link.sid, "*"), over };
  }

  async #posted(answering) {
    const answer = await answering;
    return { post: answer, ...(await this.#rest()) };
  }

  async #frames({ packets, until }) {
    if (until) {
      await this.#send(packets);
      const { seen, over, last } = await this.link.receive((packet) => packet.startsWith(until));
      return over ? { seen, over } : { last, seen, over };
    }
    if (this.link instanceof Polling) return this.#posted(this.link.post(packets));
    this.link.send(packets);
    return this.#rest();
  }

  #send(packets) {
    return this.link instanceof Socket ? this.link.send(packets) : this.link.post(packets);
  }

  /** Has the server ask a question, and answers it, or not. */
  async #ask({ at, args, answer, wrongId }) {
    await this.#send([`42${at}${JSON.stringify(["ask"]).slice(0, -1)}${args.map((arg) => `,${arg}`).join("")}]`]);
    const asked = await this.link.receive((packet) => /^42(?:\/[\w-]+,)?\d+\["question"/.test(packet));
    if (asked.over) return asked;
    const id = Number(/^42(?:\/[\w-]+,)?(\d+)/.exec(asked.last)[1]);
    const question = asked.last.replace(/\d+\["question"/, 'N["question"');
    const is = (name) => (packet) => packet.startsWith(`42${at}["${name}"`);
    if (answer === undefined || wrongId) {
      if (answer) await this.#send([`43${at}${id + 100_000}${answer[0]}`]);
      const rest = await this.link.receive(is("unanswered"));
      return { question, ...rest };
    }
    const type = answer.length > 1 ? "461-" : "43";
    await this.#send([`${type}${at}${id}${answer[0]}`, ...answer.slice(1)]);
    const { last, ...answered } = await this.link.receive((packet) => is("answered")(packet) || packet.startsWith(`451-${at}["answered"`));
    return answered.over ? { question, ...answered } : { question, answered: last, ...(await this.#rest()) };
  }

  async #probeFrames(packets) {
    this.probe.send(packets);
    if (packets[0] !== "2probe") this.probe.send(["2probe"]);
    const { seen } = await this.probe.receive((packet) => packet === "3probe");
    return { seen, over: false };
  }

  /** How a session answers once the server has noticed that a request of it was dropped. */
  async #noticed() {
    for (let asked = 0; asked < ASKED_MAX; asked += 1) {
      const answer = await this.link.post([this.revision === 4 ? "3" : "6"]);
      if (answer.status !== 200) return { over: true };
    }
    return { still: "open", over: true };
  }
}

const short = ({ broken, status, body }) => broken ?? `${status} ${body}`;
