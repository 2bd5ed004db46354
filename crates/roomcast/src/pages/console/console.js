// The page as a whole: asks the gateway what it is, and ties connection, forms, stream and charts to it. The token is kept in memory alone.

import { Chart } from "./charts.js";
import { Connection } from "./connection.js";
import { plainMessage } from "./dialects.js";
import { makeForm, readJson } from "./forms.js";
import { gatewayPanel } from "./gateway.js";
import { element, pretty, Stream } from "./stream.js";

const find = (selector) => document.querySelector(selector);
const OTHER = "…";

// A proxy may serve the gateway below a path of its own.
const below = location.pathname.replace(/\/console\/?$/, "");

// ---------- light and dark

const theme = find("#theme");
const wantsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (wantsDark.matches ? "dark" : "light")) === "dark";
function nameTheme() {
  theme.textContent = isDark() ? "Light" : "Dark";
}
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("roomcast-theme", name);
  } catch {
    // A browser that keeps nothing asks again next time.
  }
  nameTheme();
}
try {
  const kept = localStorage.getItem("roomcast-theme");
  if (kept) document.documentElement.dataset.theme = kept;
} catch {
  // The same.
}
theme.addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
wantsDark.addEventListener("change", nameTheme);
nameTheme();

// ---------- what this gateway is

async function describe() {
  const response = await fetch(`${below}/console/profile.json`, { cache: "no-store" });
  if (!response.ok) throw new Error(`the gateway answered ${response.status}`);
  return response.json();
}

/** What stands before the path of a WebSocket: this origin, unless clients have a port of their own. */
function socketBase(clients) {
  if (!clients) return `${location.origin.replace(/^http/, "ws")}${below}`;
  return `${clients.tls ? "wss" : "ws"}://${location.hostname}:${clients.port}`;
}

/** Every way in, a namespace each. */
function waysIn(endpoints) {
  return endpoints.flatMap(({ namespaces, ...endpoint }) => namespaces.map((namespace) => ({ ...endpoint, namespace })));
}

function nameOf(way) {
  const dialect = way.protocol === "socket.io" ? "Socket.IO" : "JSON";
  return `${dialect} · ${way.protocol === "socket.io" ? way.namespace : way.path}`;
}

function start(profile) {
  const ways = waysIn(profile.endpoints);
  document.title = `${profile.service.name} · console`;
  find("#name").textContent = profile.service.name;
  find("#about").textContent = profile.service.about;
  find("#version").textContent = `Roomcast ${profile.version}`;

  // ----- what came and went

  const stream = new Stream(find("#stream"), find("#stream-count"));
  const charts = {
    events: new Chart(find("#chart-events"), { name: "Events a second" }),
    trips: new Chart(find("#chart-trips"), { name: "Round trip", write: (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` }),
  };
  const totals = { event: 0, sent: 0, answer: 0, error: 0, note: 0 };
  let inThisSecond = 0;
  setInterval(() => {
    charts.events.add(inThisSecond);
    inThisSecond = 0;
    for (const kind of ["event", "sent", "answer", "error"]) find(`#total-${kind}`).textContent = totals[kind].toLocaleString("en");
  }, 1000);

  find("#filter").addEventListener("input", (event) => (stream.filter = event.target.value));
  find("#pause").addEventListener("click", () => {
    const isPaused = find("#pause").getAttribute("aria-pressed") !== "true";
    find("#pause").setAttribute("aria-pressed", String(isPaused));
    stream.paused = isPaused;
  });
  find("#clear").addEventListener("click", () => stream.clear());
  for (const box of document.querySelectorAll("[data-kind]")) box.addEventListener("change", () => stream.show(box.dataset.kind, box.checked));

  // ----- the connection

  const connection = new Connection(profile.commands, (kind, detail) => heard[kind](detail));
  const heard = {
    state({ state, text }) {
      find("#state").dataset.state = state;
      find("#state").textContent = text;
      const isOn = state === "open" || state === "opening" || state === "waiting";
      find("#connect").textContent = isOn ? "Disconnect" : "Connect";
      find("#connect").classList.toggle("quiet", isOn);
      find("#send").disabled = state !== "open";
    },
    line(line) {
      totals[line.kind] += 1;
      if (line.kind === "event") inThisSecond += 1;
      if (line.ms !== undefined) charts.trips.add(line.ms);
      if (line.kind === "answer" || line.kind === "error") showAnswer(line);
      stream.add(line);
    },
    rooms: () => showRooms(),
  };

  function showAnswer({ kind, name, data }) {
    find("#answer").className = kind === "error" ? "bad" : "";
    find("#answer-name").textContent = name;
    find("#answer-data").textContent = pretty(data);
    find("#answer").hidden = false;
  }

  const wayIn = find("#way");
  wayIn.replaceChildren(...ways.map((way, index) => element("option", { value: index, text: nameOf(way) })));
  const mayBeNobody = profile.access !== "token";
  find("#user-field").hidden = !(mayBeNobody && profile.anonymousQuery);
  find("#token-field").hidden = profile.access === "open";
  find("#token-hint").textContent = mayBeNobody ? "Empty: as nobody. Kept in this page's memory alone." : "For trying things out: roomcast token --user NAME. Kept in this page's memory alone.";

  const chosenWay = () => ways[Number(wayIn.value)];
  find("#connect-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (["open", "opening", "waiting"].includes(connection.state)) return connection.disconnect();
    const user = find("#user").value.trim();
    const query = user && !find("#user-field").hidden ? { [profile.anonymousQuery]: user } : {};
    connection.connect(chosenWay(), socketBase(profile.clients), { token: find("#token").value.trim(), query });
  });
  wayIn.addEventListener("change", () => {
    connection.disconnect();
    listCommands();
  });

  // ----- commands

  const choice = find("#command");
  let form = null;

  function listCommands() {
    const way = chosenWay();
    const isSpoken = way.protocol === "json" || way.websocket;
    find("#way-note").hidden = isSpoken;
    find("#connect").disabled = !isSpoken;
    const commands = profile.commands.filter(({ namespaces }) => namespaces === null || namespaces.includes(way.namespace));
    const before = choice.value;
    choice.replaceChildren(...[...commands.map(({ name }) => name), OTHER].map((name) => element("option", { value: name, text: name === OTHER ? "any other event …" : name })));
    if (commands.some(({ name }) => name === before)) choice.value = before;
    find("#ack-field").hidden = way.protocol !== "socket.io";
    choose();
  }

  function choose() {
    const command = profile.commands.find(({ name }) => name === choice.value);
    find("#other").hidden = choice.value !== OTHER;
    form = command ? makeForm(find("#fields"), command.args, preview) : makeForm(find("#fields"), [], preview);
    preview();
  }

  /** The event's name and data as they would be sent. */
  function composed() {
    if (choice.value !== OTHER) return { name: choice.value, data: form.read() };
    return { name: find("#other-name").value, data: readJson(find("#other-data").value) };
  }

  function preview() {
    const { name, data } = composed();
    const way = chosenWay();
    const event = data === undefined ? [name] : [name, data];
    const message = way.protocol === "socket.io" ? event : plainMessage(way, name, data);
    find("#preview").textContent = JSON.stringify(message, null, 2);
  }

  choice.addEventListener("change", choose);
  for (const field of [find("#other-name"), find("#other-data")]) field.addEventListener("input", preview);
  find("#send-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const { name, data } = composed();
    if (name) connection.send(name, data, find("#ack").checked);
  });

  // ----- rooms

  function showRooms() {
    const items = [...connection.rooms.keys()].map((room) => {
      const item = element("li", {}, element("span", { text: room }));
      const undo = connection.leaveCommand(room);
      if (undo) item.append(element("button", { type: "button", className: "small", text: "Leave", ariaLabel: `Leave ${room}`, onclick: () => connection.send(undo.name, undo.data) }));
      return item;
    });
    find("#rooms").replaceChildren(...items);
    find("#no-rooms").hidden = items.length > 0;
  }

  // ----- the gateway's side

  find("#gateway-here").hidden = !profile.api.here;
  find("#gateway-elsewhere").hidden = profile.api.here;
  find("#gateway-closed").hidden = !profile.api.here || profile.api.open;
  find("#key-form").hidden = !profile.api.open;
  const namespaces = [...new Set(ways.map(({ namespace }) => namespace))];
  if (profile.api.here) gatewayPanel(find("#gateway"), { base: below, namespaces });

  listCommands();
  showRooms();
  find("main").hidden = false;
}

describe().then(start, (error) => {
  find("#failed").textContent = `The gateway does not say what it is: ${error.message}`;
  find("#failed").hidden = false;
});
