// Forms for commands, made from what the profile says of their fields. Nothing is held back here: what a field must not be is for the gateway to
// say, since its answer is what one comes here to see.

import { element } from "./stream.js";

let fieldNumber = 0;

/** Makes the inputs of a command's fields in `holder`; gives `read()`, the data as it would be sent, and `write(data)`. */
export function makeForm(holder, fields, changed) {
  const inputs = fields.map((field) => makeField(field, changed));
  holder.replaceChildren(...inputs.map((input) => input.node));
  return {
    read: () => readAll(inputs),
    focus: () => holder.querySelector("input, select, textarea")?.focus(),
  };
}

function readAll(inputs) {
  const data = {};
  for (const { name, read } of inputs) {
    const value = read();
    if (value !== undefined) data[name] = value;
  }
  return data;
}

function makeField(field, changed) {
  if (field.type === "fields") {
    const inputs = field.fields.map((inner) => makeField(inner, changed));
    const legend = element("legend", { text: field.name });
    const node = element("fieldset", { className: "nested" }, legend, ...inputs.map((input) => input.node));
    const read = () => {
      const data = readAll(inputs);
      return field.optional && Object.keys(data).length === 0 ? undefined : data;
    };
    return { name: field.name, node, read };
  }
  const id = `field-${fieldNumber++}`;
  const input = makeInput(field);
  input.id = id;
  input.addEventListener("input", changed);
  const label = element("label", { text: field.name, htmlFor: id });
  if (field.optional) label.append(element("small", { text: " may be missing" }));
  const hint = element("small", { className: "hint", text: field.expected, id: `${id}-hint` });
  input.setAttribute("aria-describedby", hint.id);
  return { name: field.name, node: element("div", { className: "field" }, label, input, hint), read: () => readInput(field, input) };
}

function makeInput(field) {
  const given = field.default;
  if (field.type === "word" || (field.type === "bool" && field.optional)) {
    const words = field.type === "bool" ? ["true", "false"] : field.words;
    const options = words.map((word) => element("option", { text: word, value: word }));
    if (field.optional && given === undefined) options.unshift(element("option", { text: "(left out)", value: "" }));
    const select = element("select", {}, ...options);
    if (given !== undefined) select.value = String(given);
    return select;
  }
  if (field.type === "bool") return element("input", { type: "checkbox" });
  const isLong = ["object", "any", "list"].includes(field.type) || (field.type === "text" && !(field.max <= 200));
  const input = element(isLong ? "textarea" : "input", { autocomplete: "off", spellcheck: false });
  if (isLong) input.rows = 2;
  if (field.type === "number" || field.type === "integer") input.inputMode = "decimal";
  if (field.type === "list") input.placeholder = "separated by commas, or a JSON list";
  if (field.type === "object") input.placeholder = '{"…": …}';
  if (field.type === "any") input.placeholder = "JSON, or a text";
  if (given !== undefined) input.value = typeof given === "string" ? given : JSON.stringify(given);
  return input;
}

/** The value that a field holds; `undefined` leaves it out. */
function readInput(field, input) {
  if (input.type === "checkbox") return input.checked;
  const text = input.value;
  if (text === "" && (field.optional || field.type !== "text")) return undefined;
  return readText(field, text);
}

function readText(field, text) {
  switch (field.type) {
    case "bool":
      return text === "true";
    case "number":
    case "integer":
      return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
    case "object":
    case "any":
      return readJson(text);
    case "list": {
      const whole = readJson(text);
      if (Array.isArray(whole)) return whole;
      return text.split(/[,\n]/).map((item) => item.trim()).filter(Boolean).map((item) => readText(field.item, item));
    }
    default:
      return text;
  }
}

/** JSON, or else the text itself; nothing at all is nothing. */
export function readJson(text) {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
