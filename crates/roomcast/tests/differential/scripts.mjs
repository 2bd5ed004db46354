// The scripts: what a client does, step by step, drawn from a seed. Data alone; `play.mjs` carries it out.

import { Random } from "./random.mjs";

/** The kinds of scripts, and how many of a hundred are of each. */
const KINDS = { requests: 16, polling: 18, websocket: 14, upgrade: 12, socketio: 40 };

/** The share of scripts that speak revision 3 of Engine.IO, and with it revision 4 of Socket.IO. */
const OLD = 0.2;

/** The script of this number: its kind and its steps, the same for the same seed. */
export function script(seed, number) {
  const random = new Random(seed * 100_003 + number);
  let at = random.below(100);
  const [kind] = Object.entries(KINDS).find(([, share]) => (at -= share) < 0);
  const revision = random.chance(OLD) ? 3 : 4;
  const { steps } = { requests, polling, websocket, upgrade, socketio }[kind](random, number);
  return { number, kind, revision, steps };
}

// ---------- single requests

function requests(random) {
  const methods = ["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
  const transports = ["polling", "polling", "polling", "websocket", "webtransport", "foo", "constructor", "__proto__", "", undefined];
  const revisions = ["4", "4", "4", "4", "3", "5", "", "four", undefined];
  const sids = [undefined, undefined, undefined, "", "x", "__proto__", "constructor", "AAAAAAAAAAAAAAAAAAAA", "a".repeat(300)];
  const steps = Array.from({ length: 6 }, () => {
    const query = Object.entries({ EIO: random.pick(revisions), transport: random.pick(transports), sid: random.pick(sids), t: random.pick([undefined, "abc"]), b64: random.pick([undefined, undefined, "1"]) });
    const parts = query.filter(([, value]) => value !== undefined).map(([name, value]) => `${name}=${value}`);
    if (random.chance(0.15)) parts.push(random.pick(["transport=polling", "EIO=4", "x", "=", "&", "sid=", "EIO=4&EIO=3", "%ff=%zz"]));
    if (random.chance(0.1)) parts.reverse();
    const path = random.pick(["/engine.io/", "/engine.io/", "/engine.io/", "/engine.io/foo/bar", "/engine.io/index.html"]);
    const method = random.pick(methods);
    const headers = {};
    if (random.chance(0.3)) headers.origin = random.pick(["http://good.example", "null", "https://a.b:8080"]);
    if (method === "OPTIONS" && random.chance(0.7)) {
      headers["access-control-request-method"] = random.pick(["POST", "GET"]);
      if (random.chance(0.5)) headers["access-control-request-headers"] = random.pick(["content-type", "x-a, x-b"]);
    }
    if (random.chance(0.1)) headers["user-agent"] = random.pick(["Mozilla/4.0 (compatible;MSIE 8.0)", "x Trident/7.0; rv:11"]);
    if (random.chance(0.2)) headers["accept-encoding"] = "gzip, deflate";
    if (random.chance(0.1)) headers.connection = "close";
    const body = ["POST", "PUT", "PATCH"].includes(method) ? random.pick(["4hello", "", "x"]) : undefined;
    return { do: "request", method, path: `${path}?${parts.join("&")}`, headers, body };
  });
  return { steps };
}

// ---------- sessions of Engine.IO

const LONG = "€".repeat(900);
const goodMessages = (random) => random.pick(["4hello", "4", "4€ü✈", "4\\n\\", '4{"a":[1,2]}', `4${LONG.slice(0, 300)}`, `b${random.bytes(random.below(40))}`, "4 b AQID", "4\u2028"]);
const oddPackets = ["0", "3", "5", "6", "3probe", "6foo"];
const badPackets = ["2", "2probe", "7", "9x", "abc", "", "é", "x4hello", "-", " 4a"];

const polls = (random, end) => {
  const one = () => (random.chance(0.75) ? goodMessages(random) : random.chance(0.6) ? random.pick(oddPackets) : end ? random.pick([...badPackets, "1"]) : "3");
  return Array.from({ length: 1 + random.below(4) }, one);
};

function polling(random) {
  const steps = [{ do: "open", path: "/engine.io/", query: random.pick(["", "", "&t=1", "&b64=1"]) }];
  const count = 2 + random.below(5);
  for (let n = 0; n < count; n += 1) {
    steps.push(
      random.pick([
        () => ({ do: "post", packets: polls(random, random.chance(0.3)) }),
        () => ({ do: "post", packets: polls(random, random.chance(0.3)) }),
        () => ({ do: "post", packets: polls(random, false), headers: random.pick([{}, { "content-type": "application/x-www-form-urlencoded" }, { "content-type": "text/plain" }, { "transfer-encoding": "chunked" }]) }),
        () => ({ do: "wait and post", packets: polls(random, random.chance(0.3)) }),
        () => ({ do: "post body", body: "4".padEnd(random.pick([1999, 2000, 2001, 5000]), "x") }),
        () => ({ do: "many", count: random.pick([15, 16, 17, 40]) }),
      ])(),
    );
  }
  steps.push(
    random.pick([
      () => ({ do: "none" }),
      () => ({ do: "post", packets: [random.pick(badPackets)] }),
      () => ({ do: "post body", body: random.pick(["", "\x1e", "4a\x1e", "\x1e4a", "\x1e\x1e"]) }),
      () => ({ do: "post", packets: ["4last", "1"] }),
      () => ({ do: "post", packets: ["b!!!", "4x"] }),
      () => ({ do: "post body", body: "4x", headers: { "content-type": "application/octet-stream" } }),
      () => ({ do: "wait and post", packets: ["1"] }),
      () => ({ do: "wait and post", packets: [random.pick(badPackets)] }),
      () => ({ do: "two gets" }),
      () => ({ do: "abort get" }),
      () => ({ do: "abort post" }),
      () => ({ do: "session request", method: random.pick(["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"]) }),
      () => ({ do: "session request", method: random.pick(["GET", "POST"]), query: random.pick(["&EIO=3", "&EIO=5", "&EIO=", "&transport=websocket", "&transport=foo"]) }),
      () => ({ do: "rival websocket", frames: [] }),
    ])(),
  );
  return { steps };
}

function websocket(random) {
  const opening = random.chance(0.8)
    ? { query: "", headers: {} }
    : random.pick([
        { query: "&sid=unknown" }, { query: "&sid=" }, { query: "&transport=foo" }, { query: "&EIO=5" }, { query: "&transport=polling" },
        { headers: { origin: "http://good.example" } }, { protocols: ["chat", "superchat"] }, { query: "&EIO=" }, { query: "&sid=__proto__" },
      ]);
  const steps = [{ do: "websocket", path: "/engine.io/", ...opening }];
  const count = 1 + random.below(5);
  for (let n = 0; n < count; n += 1) steps.push({ do: "frames", packets: polls(random, n === count - 1 && random.chance(0.6)) });
  steps.push(
    random.pick([
      { do: "none" },
      { do: "frames", packets: [random.pick(badPackets)] },
      { do: "frames", packets: ["4a\x1e4b"] },
      { do: "frames", packets: ["4".padEnd(2001, "x")] },
      { do: "frames", packets: ["4".padEnd(2000, "x")] },
      { do: "frames", packets: [`b${Buffer.alloc(2001).toString("base64")}`] },
      { do: "frames", packets: ["1"] },
      { do: "client close", code: random.pick([1000, 1001, 3000, 4999, undefined]) },
      { do: "get its session" },
      { do: "rival websocket", frames: ["2probe"] },
    ]),
  );
  return { steps };
}

function upgrade(random) {
  const steps = [{ do: "open", path: "/engine.io/", query: "" }];
  const between = () =>
    random.pick([
      { do: "post", packets: [goodMessages(random)] },
      { do: "wait and post", packets: [goodMessages(random), goodMessages(random)] },
      { do: "buffer", packets: [goodMessages(random), goodMessages(random)] },
      { do: "none" },
    ]);
  steps.push(between(), { do: "probe" });
  if (random.chance(0.3)) steps.push(between());
  if (random.chance(0.2)) {
    steps.push({ do: "probe frames", packets: [random.pick(["4hello", "2foo", "2", "3", "6", "1", "", "7", `b${random.bytes(3)}`, "3probe"])] }, { do: "post", packets: ["4still here"] });
    return { steps };
  }
  if (random.chance(0.85)) steps.push({ do: "probe frames", packets: ["2probe"] });
  if (random.chance(0.5)) steps.push(between());
  if (random.chance(0.15)) steps.push({ do: "rival websocket", frames: ["2probe"] });
  if (random.chance(0.15)) return { steps: [...steps, { do: "drop probe" }, { do: "post", packets: ["4still here"] }] };
  if (random.chance(0.3)) steps.push({ do: "buffer", packets: [goodMessages(random)] });
  steps.push({ do: "upgrade", packets: random.chance(0.3) ? ["4at once"] : [] });
  steps.push({ do: "frames", packets: polls(random, random.chance(0.3)) });
  steps.push(random.pick([{ do: "session request", method: "GET" }, { do: "session request", method: "POST", body: "4x" }, { do: "rival websocket", frames: ["2probe"] }, { do: "frames", packets: [random.pick(badPackets)] }, { do: "none" }]));
  return { steps };
}

// ---------- Socket.IO

const VALUES = [1, -7, 0, 1.5, 1e21, true, false, null, "text", "€✈\"\\\n\u2028", "", [], {}, [1, [2, [3]]], { a: { b: [null] } }, { _placeholder: false, num: 0 }, "x".repeat(300)];
/** JSON that a client writes in its own way. */
const SPELLINGS = ["1.0", "1e2", "12345678901234567890", '"\\u00e9"', '{ "a" : 1 }', '{"b":1,"a":2}', '{"a":1,"a":2}', '"\\/"', "[1 ,2]", "-0", '{"2":1,"1":2}', '"\\u001e"'];

function socketio(random, number) {
  const transport = random.pick(["websocket", "websocket", "polling"]);
  const own = `/dynamic-${number}`;
  const steps = [{ do: "link", transport }];
  const namespaces = [];
  const connect = () => {
    const name = random.pick(["/", "/", "/custom", own, own]);
    const auth = random.pick(["", "", '{"token":"x"}', '{"a":[1,{"b":null}]}', "{}"]);
    if (!namespaces.includes(name)) namespaces.push(name);
    return { do: "frames", packets: [`40${prefix(name)}${auth}`] };
  };
  const wrongConnect = () => ({
    do: "frames",
    packets: [`40${random.pick(["/nope,", "/nope", "/deny,", "/deny", "/refuse,", "/custom?token=1,", "/dynamic-x,", "/dynamic-,", "//,", "/deny,{\"token\":1}"])}`],
  });
  steps.push(random.chance(0.9) ? connect() : wrongConnect());
  const count = 2 + random.below(6);
  for (let n = 0; n < count; n += 1) {
    const at = prefix(namespaces.length ? random.pick(namespaces) : "/");
    const value = () => JSON.stringify(random.pick(VALUES));
    const values = () => [...Array(random.below(4))].map(value);
    const args = (name) => `[${[`"${name}"`, ...values()].join(",")}]`;
    const id = () => random.pick(["", "0", "1", "7", "007", "123456789"]);
    steps.push(
      random.pick([
        () => (random.chance(0.6) ? connect() : wrongConnect()),
        () => ({ do: "frames", packets: [`42${at}${id()}${args("echo")}`] }),
        () => ({ do: "frames", packets: [`42${at}${id()}${args("echo")}`, `42${at}${args("echo")}`] }),
        () => ({ do: "frames", packets: [`42${at}${id()}["echo",${random.pick(SPELLINGS)}]`] }),
        () => ({ do: "frames", packets: binary(random, at, id()) }),
        () => ({ do: "frames", packets: binary(random, at, id()) }),
        () => ({ do: "frames", packets: [`42${at}${args(random.pick(["nothing", "message", "__proto__", "toString", "€"]))}`] }),
        () => ({ do: "ask", at, args: values(), answer: random.pick([["[]"], ["[1,\"two\"]"], ["[null]"], undefined, ['[{"_placeholder":true,"num":0}]', `b${random.bytes(4)}`]]), wrongId: random.chance(0.2) }),
        () => ({ do: "frames", packets: [`42${at}["ask all","room-nobody-${number}",1]`], until: `42${at}["answers"` }),
        () => ({ do: "frames", packets: [`42${prefix(own)}${args("broadcast")}`].filter(() => namespaces.includes(own)) }),
        () => ({ do: "frames", packets: [`42${at}1["join","r${number}"]`, `42${at}["to","r${number}","x"]`, `42${at}2["leave","r${number}"]`] }),
        () => ({ do: "frames", packets: [`42${at}["volatile",1]`] }),
        () => ({ do: "frames", packets: [`43${at}${random.pick(["99", "0", ""])}${random.pick(["[]", "[1]"])}`] }),
        () => ({ do: "frames", packets: [`41${at}`] }),
        () => ({ do: "frames", packets: [`41${at}`, `40${at}`] }),
        () => ({ do: "frames", packets: [`42${at}["bye"]`] }),
      ])(),
    );
  }
  if (random.chance(0.6)) steps.push({ do: "frames", packets: broken(random, prefix(namespaces.length ? random.pick(namespaces) : "/")) });
  return { steps };
}

const prefix = (name) => (name === "/" ? "" : `${name},`);
const placeholder = (num) => `{"_placeholder":true,"num":${num}}`;

function binary(random, at, id) {
  const [one, two] = [`b${random.bytes(random.below(20))}`, `b${random.bytes(3)}`];
  return random.pick([
    () => [`451-${at}${id}["echo",${placeholder(0)}]`, one],
    () => [`452-${at}${id}["echo",${placeholder(0)},{"x":[${placeholder(1)}]}]`, one, two],
    () => [`452-${at}${id}["echo",${placeholder(1)},${placeholder(0)}]`, one, two],
    () => [`451-${at}${id}["echo",${placeholder(0)},${placeholder(0)}]`, one],
    () => [`451-${at}${id}["echo","nothing in it"]`, one],
    () => [`42${at}${id}["echo",${placeholder(0)}]`],
    () => [`451-${at}${id}["echo",${placeholder(0)}]`, "b"],
  ])();
}

/** What no server takes. Most of it ends the session. */
function broken(random, at) {
  const filler = `b${random.bytes(2)}`;
  return random.pick([
    ["42"], ["4"], ["47"], ["48[]"], ["49"], ["4x"], ["44"], ['44{"message":"x"}'], ["40[1]"], ['40"a"'], ["40null"], ["40{bad"], ["401"], ["40/"], ["40,"], [`40${at}`],
    [`42${at}`], [`42${at}[]`], [`42${at}{}`], [`42${at}[null]`], [`42${at}[{}]`], [`42${at}[1,"x"]`], [`42${at}["echo"`], [`42${at}["echo",]`], [`42${at}["echo"]x`], [`42${at}'echo'`], [`42${at}"echo"`],
    ...["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"].map((name) => [`42${at}["${name}"]`]),
    ["42/nowhere,[\"echo\"]"], ["42/nowhere[\"echo\"]"], ["41/nowhere,"], ["43/nowhere,1[]"], [`43${at}1{}`], [`43${at}1`], [`43${at}[`], [`41${at}{}`], [`41${at}1`],
    [`45${at}["echo"]`], [`451${at}["echo"]`], [`450-${at}["echo"]`], [`45-1-${at}["echo"]`], [`4511-${at}["echo"]`], [`451-${at}["echo",${placeholder(0)}]`, `42${at}["echo"]`],
    [`451-${at}["echo",${placeholder(1)}]`, filler], [`451-${at}["echo",${placeholder(-1)}]`, filler], [`451-${at}["echo",${placeholder('"0"')}]`, filler], [`451-${at}["echo",${placeholder(0.5)}]`, filler],
    [filler], [`451-${at}["echo",${placeholder(0)}]`, filler, filler], [`42${at}["bye all"]`], [`461-${at}["x"]`, filler], [`461-${at}5[${placeholder(0)}]`, filler], [`42${at}99999999999999999999["echo"]`],
    [`42${at}-1["echo"]`], [`42${at} ["echo"]`], [`42${at}["echo"] `], [`42${at}["a","\u0000"]`], [`42${at}["echo",NaN]`], [`42${at}["echo",01]`], [`42${at}["echo","\t"]`], [`42${at}["echo","\\x"]`],
    [`42${at}["echo",${"[".repeat(200)}${"]".repeat(200)}]`], ["1"], ["2"], ["7"], [`42${at}["${"e".repeat(300)}"]`], [`42${at}[""]`], [`42${at}["echo","\\ud800"]`],
  ]);
}
