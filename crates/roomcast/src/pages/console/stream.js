// What came and went, a line each, newest at the end: filtered, paused, cleared, and never more than a bound. Whatever a line holds is shown as text.

/** Lines that are kept and shown; of more, the oldest go. */
const LINES_MAX = 500;
/** How much of a line's data is shown before it is opened. */
const PREVIEW_MAX = 240;

const SIGNS = { event: "↓", sent: "↑", answer: "✓", error: "!", note: "·" };
const WORDS = { event: "came", sent: "sent", answer: "answered", error: "error", note: "note" };

/** A node with properties and children; `text` can hold no markup. */
export function element(name, { text, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

export class Stream {
  #list;
  #count;
  #filter = "";
  #kinds = new Set(Object.keys(SIGNS));
  #kept = [];
  #waiting = [];
  #dropped = 0;
  #isPaused = false;
  #isDue = false;

  constructor(list, count) {
    this.#list = list;
    this.#count = count;
  }

  /** Adds a line: `{kind, name, data, ms}`. */
  add(line) {
    this.#waiting.push({ ...line, at: new Date() });
    if (this.#waiting.length > LINES_MAX) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    this.#plan();
  }

  clear() {
    this.#kept = [];
    this.#waiting = [];
    this.#dropped = 0;
    this.#list.replaceChildren();
    this.#tell();
  }

  set paused(isPaused) {
    this.#isPaused = isPaused;
    this.#plan();
  }

  /** Shows only lines with this text in name or data. */
  set filter(text) {
    this.#filter = text.trim().toLowerCase();
    this.#redraw();
  }

  /** Shows or hides a kind of line. */
  show(kind, isShown) {
    if (isShown) this.#kinds.add(kind);
    else this.#kinds.delete(kind);
    this.#redraw();
  }

  /** Draws at most once a frame, however much comes. */
  #plan() {
    if (this.#isDue) return;
    this.#isDue = true;
    // A page that nobody sees gets no frames.
    if (document.hidden) setTimeout(() => this.#draw(), 250);
    else requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#isDue = false;
    if (!this.#isPaused && this.#waiting.length > 0) {
      const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
      const fresh = this.#waiting.splice(0);
      this.#kept.push(...fresh);
      this.#kept.splice(0, this.#kept.length - LINES_MAX);
      this.#list.append(...fresh.filter((line) => this.#isWanted(line)).map(lineNode));
      while (this.#list.childElementCount > LINES_MAX) this.#list.firstElementChild.remove();
      if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
    }
    this.#tell();
  }

  #redraw() {
    this.#list.replaceChildren(...this.#kept.filter((line) => this.#isWanted(line)).map(lineNode));
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#tell();
  }

  #isWanted(line) {
    if (!this.#kinds.has(line.kind)) return false;
    return this.#filter === "" || `${line.name} ${compact(line.data)}`.toLowerCase().includes(this.#filter);
  }

  #tell() {
    const shown = this.#list.childElementCount;
    const words = [shown === this.#kept.length ? `${shown} lines` : `${shown} of ${this.#kept.length} lines`];
    if (this.#isPaused) words.push(`paused, ${this.#waiting.length} wait`);
    if (this.#dropped > 0) words.push(`${this.#dropped} came too fast to show`);
    this.#count.textContent = words.join(" · ");
  }
}

function lineNode({ kind, name, data, ms, at }) {
  const text = compact(data);
  const summary = element(
    "summary",
    {},
    element("time", { text: at.toISOString().slice(11, 23), title: at.toISOString() }),
    element("span", { className: "sign", text: SIGNS[kind], title: WORDS[kind] }),
    element("b", { text: name }),
    element("code", { text: text.length > PREVIEW_MAX ? `${text.slice(0, PREVIEW_MAX)}…` : text }),
  );
  if (ms !== undefined) summary.append(element("small", { text: `${ms.toFixed(ms < 10 ? 1 : 0)} ms` }));
  const node = element("details", { className: `line ${kind}` }, summary);
  // Written out only for those who look.
  node.addEventListener("toggle", () => {
    if (node.open && node.childElementCount === 1) node.append(element("pre", { text: pretty(data), tabIndex: 0 }));
  });
  return element("li", {}, node);
}

export function compact(data) {
  if (data === undefined) return "";
  return typeof data === "string" ? data : JSON.stringify(data);
}

export function pretty(data) {
  if (data === undefined) return "(nothing)";
  return typeof data === "string" ? data : JSON.stringify(data, null, 2);
}
