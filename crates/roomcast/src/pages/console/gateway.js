// The gateway's side, for who has the key of the server API: connections, rooms and deliveries as they change, members of a room, an event to
// publish. Asks for nothing before the key was entered, and keeps the key in memory alone.

import { Chart } from "./charts.js";
import { readJson } from "./forms.js";
import { element } from "./stream.js";

const ASK_EVERY_MS = 2_000;
/** Rooms that are listed. */
const ROOMS_SHOWN_MAX = 200;
const MEMBERS_SHOWN_MAX = 200;

const number = new Intl.NumberFormat("en");
const whole = (value) => number.format(Math.round(value));

/** Drives the panel `root`; `base` is what stands before `/api`. */
export function gatewayPanel(root, { base, namespaces }) {
  const find = (selector) => root.querySelector(selector);
  const [form, status, opened] = [find("#key-form"), find("#key-status"), find("#key-opened")];
  const charts = {
    connections: new Chart(find("#chart-connections"), { name: "Connections", write: whole }),
    rooms: new Chart(find("#chart-rooms"), { name: "Rooms", write: whole }),
    deliveries: new Chart(find("#chart-deliveries"), { name: "Deliveries a second", write: whole }),
  };
  let key = null;
  let timer = null;
  let before = null;
  let opening = 0;

  for (const select of [find("#rooms-namespace"), find("#publish-namespace")]) {
    select.replaceChildren(...namespaces.map((name) => element("option", { value: name, text: name })));
    select.closest(".field").hidden = namespaces.length < 2;
  }

  async function call(path, body) {
    const options = { headers: { authorization: `Bearer ${key}` }, cache: "no-store" };
    if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    const response = await fetch(base + path, options);
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw Object.assign(new Error(answer.error ?? `the gateway answered ${response.status}`), { status: response.status });
    return answer;
  }

  function close(text) {
    clearTimeout(timer);
    [key, before] = [null, null];
    opened.hidden = true;
    form.hidden = false;
    status.textContent = text;
    Object.values(charts).forEach((chart) => chart.clear());
  }

  async function look(turn) {
    try {
      const [{ rooms }, metrics] = await Promise.all([call(`/api/rooms?namespace=${encodeURIComponent(find("#rooms-namespace").value)}`), readMetrics()]);
      if (turn !== opening || key === null) return;
      status.textContent = "";
      form.hidden = true;
      opened.hidden = false;
      charts.connections.add(metrics.connections);
      charts.rooms.add(Object.keys(rooms).length);
      if (before) charts.deliveries.add(Math.max(0, ((metrics.deliveries - before.deliveries) * 1000) / (metrics.at - before.at)));
      before = metrics;
      showRooms(rooms);
    } catch (error) {
      if (turn !== opening || key === null) return;
      if (error.status === 401 || error.status === 403) return close(error.message);
      status.textContent = `No answer: ${error.message}`;
    }
    timer = setTimeout(() => look(turn), ASK_EVERY_MS);
  }

  async function readMetrics() {
    const response = await fetch(`${base}/metrics?format=prometheus`, { headers: { authorization: `Bearer ${key}` }, cache: "no-store" });
    const text = await response.text();
    const value = (name) => Number(new RegExp(`^roomcast_${name}(?:\\{[^}]*\\})? (\\S+)$`, "m").exec(text)?.[1] ?? 0);
    return { at: performance.now(), connections: value("connections"), deliveries: value("deliveries_total") };
  }

  function showRooms(rooms) {
    const sorted = Object.entries(rooms).sort(([one, of], [other, many]) => many - of || one.localeCompare(other));
    find("#rooms-count").textContent = sorted.length > ROOMS_SHOWN_MAX ? `the ${ROOMS_SHOWN_MAX} largest of ${whole(sorted.length)}` : whole(sorted.length);
    const list = find("#rooms-list");
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.room : null;
    list.replaceChildren(
      ...sorted.slice(0, ROOMS_SHOWN_MAX).map(([room, members]) => {
        const button = element("button", { type: "button", className: "plain", onclick: () => showMembers(room) }, element("span", { text: room }), element("b", { text: whole(members) }));
        button.dataset.room = room;
        return element("li", {}, button);
      }),
    );
    // The list is made anew while someone walks through it by keyboard.
    if (focused !== null) [...list.querySelectorAll("button")].find((button) => button.dataset.room === focused)?.focus({ preventScroll: true });
  }

  async function showMembers(room) {
    const holder = find("#members");
    try {
      const { members, sockets } = await call(`/api/rooms/${encodeURIComponent(room)}?namespace=${encodeURIComponent(find("#rooms-namespace").value)}`);
      const shown = sockets.slice(0, MEMBERS_SHOWN_MAX).map(({ socketId, userId }) => element("li", {}, element("span", { text: userId ?? "(nobody)" }), element("code", { text: socketId })));
      holder.replaceChildren(element("h3", { text: `${room}: ${whole(members)}` }), element("ul", { className: "members" }, ...shown));
    } catch (error) {
      holder.replaceChildren(element("p", { className: "bad", text: error.message }));
    }
    holder.hidden = false;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    key = find("#key").value;
    find("#key").value = "";
    clearTimeout(timer);
    status.textContent = "Asking …";
    look(++opening);
  });
  find("#key-forget").addEventListener("click", () => close("The key is forgotten."));
  find("#rooms-namespace").addEventListener("change", () => {
    clearTimeout(timer);
    find("#members").hidden = true;
    look(++opening);
  });
  find("#publish-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = find("#published");
    const rooms = find("#publish-rooms").value.split(/[,\n]/).map((room) => room.trim()).filter(Boolean);
    const body = { event: find("#publish-event").value, namespace: find("#publish-namespace").value };
    // No room at all must not become everyone by an oversight.
    if (rooms.length > 0 || !find("#publish-everyone").checked) body.rooms = rooms;
    const data = readJson(find("#publish-data").value);
    if (data !== undefined) body.data = data;
    try {
      const { delivered } = await call("/api/publish", body);
      output.className = "";
      output.textContent = `Reached ${whole(delivered)}.`;
    } catch (error) {
      output.className = "bad";
      output.textContent = error.message;
    }
  });
}
