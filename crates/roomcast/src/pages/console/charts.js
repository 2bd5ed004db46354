// Small charts of the last values of one figure, as SVG made by hand. Knows nothing of what they count.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 48;

/** A chart in `holder` of the last `length` values; `write` makes a text of a value. */
export class Chart {
  #values = [];
  #length;
  #write;
  #name;
  #svg;
  #area;
  #curve;
  #label;

  constructor(holder, { name, length = 60, write = (value) => String(value) }) {
    [this.#length, this.#write, this.#name] = [length, write, name];
    this.#svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.#area = shape("path", { class: "area" });
    this.#curve = shape("path", { class: "curve", "vector-effect": "non-scaling-stroke" });
    this.#svg.append(this.#area, this.#curve);
    const title = document.createElement("span");
    title.textContent = name;
    this.#label = document.createElement("output");
    holder.classList.add("chart");
    holder.replaceChildren(title, this.#label, this.#svg);
    this.#draw();
  }

  /** Adds a value at the right end. */
  add(value) {
    this.#values.push(value);
    if (this.#values.length > this.#length) this.#values.shift();
    this.#draw();
  }

  clear() {
    this.#values = [];
    this.#draw();
  }

  #draw() {
    const last = this.#values.at(-1);
    const top = Math.max(1e-9, ...this.#values);
    this.#label.textContent = last === undefined ? "–" : this.#write(last);
    this.#svg.setAttribute("aria-label", last === undefined ? `${this.#name}: nothing yet` : `${this.#name}: now ${this.#write(last)}, at most ${this.#write(top)}`);
    // The newest stands at the right end, however few there are.
    const from = this.#length - this.#values.length;
    const points = this.#values.map((value, index) => {
      const x = ((from + index) / (this.#length - 1)) * WIDTH;
      const y = HEIGHT - 2 - (value / top) * (HEIGHT - 6);
      return `${x.toFixed(1)} ${y.toFixed(1)}`;
    });
    const curve = points.length > 1 ? `M${points.join("L")}` : "";
    const start = ((from / (this.#length - 1)) * WIDTH).toFixed(1);
    this.#curve.setAttribute("d", curve);
    this.#area.setAttribute("d", curve && `${curve}L${WIDTH} ${HEIGHT}L${start} ${HEIGHT}Z`);
  }
}

function shape(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
  return node;
}
