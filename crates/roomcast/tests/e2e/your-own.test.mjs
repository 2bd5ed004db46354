// The page that builds a gateway of one's own: its pieces are put together, and what it shows is run as it stands there.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";

import { closeClients, socketIo } from "./support/clients.mjs";
import { BINARY, startGateway } from "./support/gateway.mjs";
import { EventBus, Rabbit } from "./support/rabbit.mjs";
import { until, within } from "./support/recorder.mjs";
import { sign } from "./support/token.mjs";

const PAGE = readFileSync(new URL("../../../../docs/your-own.md", import.meta.url), "utf8");
const LINES_MAX = 60;

const blocks = (kind, text = PAGE) => [...text.matchAll(new RegExp(`^\`\`\`${kind}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, block]) => block);
const section = (title) => PAGE.split(`\n## ${title}\n`)[1].split("\n## ")[0];

/** The commands of a block, each with what it prints. */
function commands(block) {
  return block
    .split(/^\$ /m)
    .slice(1)
    .map((part) => ({ command: part.split("\n")[0], output: part.split("\n").slice(1).join("\n") }));
}

/** What a command printed, without what is another each time. */
const lasting = (text) => text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME").replace(/"lineId":"[-0-9a-f]{36}"/g, '"lineId":"ID"');

describe("a gateway of one's own", () => {
  const desk = blocks("toml").map((block) => block.trimEnd()).join("\n\n") + "\n";
  const folder = mkdtempSync(join(tmpdir(), "roomcast-desk-"));
  const running = new Set();
  let rabbit;
  let gateway;
  let environment;

  /** Runs a command as a shell does, with what it prints in `output.text`. */
  function run(command) {
    const line = command.replaceAll("http://localhost:3100", gateway?.url);
    const env = { PATH: `${dirname(BINARY)}:${process.env.PATH}`, ...environment };
    const child = spawn("sh", ["-c", `(${line}) 2>&1`], { cwd: folder, env, detached: true, stdio: ["ignore", "pipe", "inherit"] });
    running.add(child);
    const output = { text: "" };
    child.stdout.on("data", (data) => (output.text += data));
    const ended = new Promise((resolve) => {
      child.on("close", () => {
        running.delete(child);
        resolve(output.text.replaceAll(new URL(gateway?.url ?? "http://localhost:3100").host, "localhost:3100"));
      });
    });
    return { output, ended: within(ended, () => `the end of ${line}: ${output.text}`) };
  }

  before(async () => {
    writeFileSync(join(folder, "desk.toml"), desk);
    rabbit = await Rabbit.start();
  });
  after(async () => {
    for (const child of running) process.kill(-child.pid, "SIGKILL");
    closeClients();
    await gateway?.stop();
    await rabbit.end();
    rmSync(folder, { recursive: true, force: true });
  });

  it("the file has at most sixty lines, and `check` and `explain` say what the page says they do", async () => {
    assert.ok(desk.split("\n").length - 1 <= LINES_MAX, `${desk.split("\n").length - 1} lines`);
    const shown = blocks("console", section("Is it right?")).flatMap(commands);
    assert.equal(shown.length, 4);
    for (const { command, output } of shown) assert.equal(await run(command).ended, output, command);
  });

  it("the terminals of the page see what the page shows", async () => {
    const [serve, carol, amirAndTheService] = blocks("console", section("Run it")).map(commands);
    const secret = /JWT_SECRET=(\S+)/.exec(serve[0].command)[1];
    environment = { ...rabbit.env, JWT_SECRET: secret };
    gateway = await startGateway({ text: desk, env: environment });
    await gateway.health((health) => health.rabbitmq === "connected", "RabbitMQ");
    const service = await EventBus.connect(rabbit, "desk_events");
    await service.channel.assertQueue("desk.lines");
    await service.channel.bindQueue("desk.lines", "desk_events", "desk.line.*");

    const listening = run(carol[0].command);
    await until(() => listening.output.text, (text) => text.includes("answer to open"), "Carol in her ticket");
    for (const { command, output } of amirAndTheService) assert.equal(lasting(await run(command).ended), lasting(output), command);
    assert.equal(lasting(await listening.ended), lasting(carol[0].output));
    const kept = JSON.parse((await service.take("desk.lines")).content);
    assert.deepEqual([kept.ticketId, kept.from, kept.text], ["7", "amir", "Is it plugged in?"]);
    await service.close();

    const dave = socketIo(gateway.url, { token: sign({ userId: "dave", tickets: ["8"] }, { secret }) });
    await dave.next("welcome");
    assert.equal((await dave.ask("open", { ticketId: "7" })).code, "forbidden");
    assert.equal((await dave.ask("write", { ticketId: "7", text: "hello" })).code, "not_a_member");
    assert.deepEqual(await dave.ask("open", { ticketId: 8 }), { success: true });
    assert.match((await dave.ask("write", { ticketId: "8", text: "" })).error, /^text must be a text of 1 to 2000 characters/);
  });
});
