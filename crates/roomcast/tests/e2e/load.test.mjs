// The load generator against the real gateway: over each dialect it counts every delivery, and it says so when something is wrong.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { certificate } from "./support/certificate.mjs";
import { SECRET, startGateway } from "./support/gateway.mjs";
import { until } from "./support/recorder.mjs";

const LOAD = process.env.ROOMCAST_LOAD ?? fileURLToPath(new URL("../../../../target/debug/roomcast-load", import.meta.url));
const text = readFileSync(new URL("../../../../bench/roomcast.toml", import.meta.url), "utf8");
const NO_FAULTS = { lost: 0, doubled: 0, disordered: 0, wrong_room: 0, closed: 0, refused: 0, garbled: 0 };

/** Runs it to its end; the JSON is null if it printed none. */
const load = (url, args, token = ["--secret", SECRET]) =>
  new Promise((resolve) => {
    execFile(LOAD, [...args.split(" "), ...token, "--url", url, "--json"], (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, report: stdout ? JSON.parse(stdout) : null, stderr });
    });
  });

/** A run without faults; gives its report. */
async function sound(url, args) {
  const { code, report, stderr } = await load(url, args);
  assert.deepEqual({ code, stderr, faults: report?.faults }, { code: 0, stderr: "", faults: NO_FAULTS }, args);
  return report;
}

before(() => assert.ok(existsSync(LOAD), `this test needs ${LOAD}: cargo build --package roomcast-load`));

const keys = certificate();

describe("the load generator", () => {
  let open, secured, url, securedUrl;
  before(async () => {
    [open, secured] = await Promise.all([startGateway({ text }), startGateway({ text, env: keys.env })]);
    [url, securedUrl] = [open.url, `https://127.0.0.1:${secured.port}`];
  });
  after(() => Promise.all([open.stop(), secured.stop()]));

  for (const dialect of ["socket.io", "polling", "plain"]) {
    it(`counts every delivery, over ${dialect}`, async () => {
      const report = await sound(url, `fan-out --dialect ${dialect} --rooms 3 --members 5 --events 30 --window 4 --pid ${open.pid}`);
      assert.deepEqual([report.unit, report.units, report.connections], ["delivery", 150, 15]);
      assert.ok(report.server.cpu_seconds > 0 && report.latency_micros.p50 > 0);
    });

    it(`counts connects, round trips and cycles, over ${dialect}`, async () => {
      const connect = await sound(url, `connect --dialect ${dialect} --connections 20`);
      assert.deepEqual([connect.unit, connect.units], ["connect", 20]);
      const ack = await sound(url, `ack --dialect ${dialect} --connections 10 --events 50 --window 4`);
      assert.deepEqual([ack.unit, ack.units], ["round trip", 50]);
      const churn = await sound(url, `churn --dialect ${dialect} --connections 10 --cycles 2 --seconds 0.1 --of rooms --rooms 2`);
      assert.deepEqual([churn.units, churn.cycles.length], [80, 2]);
    });
  }

  it("is in several rooms at once, on a clock, with frames of 60,000 bytes", async () => {
    const report = await sound(url, "fan-out --rooms 4 --members 3 --connections 5 --events 40 --rate 1000 --frame-bytes 60000");
    assert.deepEqual([report.units, report.rate, report.window], [120, 1000, null]);
  });

  it("speaks TLS to a server that it trusts, and to no other", async () => {
    const report = await sound(securedUrl, `fan-out --members 5 --events 10 --ca ${keys.env.TLS_CERT_FILE}`);
    assert.deepEqual([report.tls, report.units], [true, 50]);
    const { code, stderr } = await load(securedUrl, "connect --connections 1");
    assert.equal(code, 2);
    assert.match(stderr, /certificate/);
  });

  it("makes a storm, and waits until all are back", async () => {
    const report = await sound(url, "storm --connections 50 --stayers 5 --seconds 0.2 --addresses 2");
    assert.deepEqual([report.storm.clients, report.storm.refused], [50, 0]);
    assert.ok(report.storm.all_back_seconds > 0 && report.latency_micros.p99 > 0);
  });

  it("says what is wrong when it cannot be done", async () => {
    const refused = await load(url, "connect --connections 1", ["--token", "nonsense"]);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /^roomcast-load: client \d+ could not get in: /);
    const nobody = await load("http://127.0.0.1:1", "connect");
    assert.equal(nobody.code, 2);
    assert.match(nobody.stderr, /^roomcast-load: nobody listens on 127\.0\.0\.1:1/);
    const usage = await load("ftp://127.0.0.1", "connect");
    assert.match(usage.stderr, /must begin with http/);
  });

  it("counts connections that the server ends, and what was lost with them", async () => {
    const gateway = await startGateway({ text });
    const run = load(gateway.url, "fan-out --members 5 --rate 50 --seconds 60 --patience 5");
    await until(() => gateway.metric("roomcast_deliveries_total"), (deliveries) => deliveries > 20, "events to be delivered");
    await gateway.kill();
    const { code, report } = await run;
    assert.equal(code, 1);
    assert.ok(report.faults.closed > 0);
  });
});
