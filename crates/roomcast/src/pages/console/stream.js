// What came and went, a line each, newest at the end: filtered, paused, cleared, and never more than a bound. Whatever a line holds is shown as text.

/** Lines that are kept and shown; of more, the oldest go. */
const LINES_MAX = 500;
/** What their data may come to, in characters; of more, the oldest go. */
const CHARACTERS_MAX = 8_000_000;
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

/** The newest lines, within the bounds. */
class Newest {
  lines = [];
  #characters = 0;

  /** Adds lines; says how many had to go for them. */
  push(...lines) {
    let gone = 0;
    for (const line of lines) {
      this.lines.push(line);
      this.#characters += line.text.length;
      while (this.lines.length > LINES_MAX || (this.#characters > CHARACTERS_MAX && this.lines.length > 1)) {
        this.#characters -= this.lines.shift().text.length;
        gone += 1;
      }
    }
    return gone;
  }

  /** Takes all of them. */
  take() {
    this.#characters = 0;
    return this.lines.splice(0);
  }
}

export class Stream {
  #list;
  #count;
  #filter = "";
  #kinds = new Set(Object.keys(SIGNS));
  #kept = new Newest();
  #waiting = new Newest();
  #dropped = 0;
  #isPaused = false;
  #isDue = false;

  constructor(list, count) {
    this.#list = list;
    this.#count = count;
  }

  /** Adds a line: `{kind, name, data, ms}`. */
  add(line) {
    this.#dropped += this.#waiting.push({ ...line, text: compact(line.data), at: new Date() });
    this.#plan();
  }

  clear() {
    this.#kept.take();
    this.#waiting.take();
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
    if (!this.#isPaused && this.#waiting.lines.length > 0) {
      const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
      const fresh = this.#waiting.take();
      this.#kept.push(...fresh);
      this.#list.append(...fresh.filter((line) => this.#isWanted(line)).map(lineNode));
      const shown = this.#kept.lines.filter((line) => this.#isWanted(line)).length;
      while (this.#list.childElementCount > shown) this.#list.firstElementChild.remove();
      if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
    }
    this.#tell();
  }

  #redraw() {
    this.#list.replaceChildren(...this.#kept.lines.filter((line) => this.#isWanted(line)).map(lineNode));
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#tell();
  }

  #isWanted(line) {
    if (!this.#kinds.has(line.kind)) return false;
    return this.#filter === "" || `${line.name} ${line.text}`.toLowerCase().includes(this.#filter);
  }

  #tell() {
    const shown = this.#list.childElementCount;
    const kept = this.#kept.lines.length;
    const words = [shown === kept ? `${shown} lines` : `${shown} of ${kept} lines`];
    if (this.#isPaused) words.push(`paused, ${this.#waiting.lines.length} wait`);
    if (this.#dropped > 0) words.push(`${this.#dropped} came too fast to show`);
    this.#count.textContent = words.join(" · ");
  }
}

function lineNode({ kind, name, data, text, ms, at }) {
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

function compact(data) {
  if (data === undefined) return "";
  return typeof data === "string" ? data : JSON.stringify(data);
}

export function pretty(data) {
  if (data === undefined) return "(nothing)";
  return typeof data === "string" ? data : JSON.stringify(data, null, 2);
}
