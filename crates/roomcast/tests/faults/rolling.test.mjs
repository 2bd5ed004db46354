// A cluster is restarted node by node under its clients, behind a balancer that knows nothing of them: all are back, and miss nothing from then on.
//
// `CLIENTS=5000 ./test faults` has five thousand of them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, describe, it } from "node:test";

import { until } from "../e2e/support/recorder.mjs";
import { Cluster } from "./support/cluster.mjs";
import { Crowd, startBalancer } from "./support/programs.mjs";

const CLIENTS = Number(process.env.CLIENTS || 500);
/** Clients that one process can have without being the slowest of all. */
const CLIENTS_OF_A_PROCESS = 1_250;
/** How they come, in turn. */
const TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]];
/** Each return is told to everyone in the room: so rooms are small. */
const CLIENTS_OF_A_GROUP = 10;
const GROUPS = Math.ceil(CLIENTS / CLIENTS_OF_A_GROUP);
const EVENTS_PER_SECOND = 200;
const BACK_MS = 300_000;
const TICKS_PER_SECOND = 100;

/** CPU time of a process so far, in seconds. */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

describe("a rolling restart", () => {
  let cluster;
  let balancer;
  let crowd;
  after(async () => {
    crowd?.end();
    balancer?.end();
    await cluster?.end();
  });

  it(`under ${CLIENTS} stock clients behind a balancer: all are back, and every event after that reaches them once`, async (t) => {
    cluster = await Cluster.start({ groups: GROUPS, hasMembers: false });
    balancer = await startBalancer(cluster.nodes.map(({ port }) => port));
    const processes = Math.ceil(CLIENTS / CLIENTS_OF_A_PROCESS);
    crowd = await Crowd.come(balancer.url, { clients: CLIENTS, processes, groups: GROUPS, transports: TRANSPORTS });
    cluster.publish(EVENTS_PER_SECOND);
    const begin = Date.now();
    let cpu = 0;
    for (const node of cluster.nodes) {
      const { gateway } = node;
      cpu += cpuSeconds(gateway.pid);
      const { code } = await gateway.stop();
      assert.equal(code, 0);
      await node.start();
      await node.isWell("it to be a member again");
    }
    const restarted = Date.now();
    const isBack = ({ in: count, gaveUp, refusals }) => count === CLIENTS || gaveUp > 0 || refusals.length > 0;
    const { gaveUp, refusals } = await until(() => crowd.ask("state"), isBack, "all to be back", BACK_MS);
    assert.equal(gaveUp, 0, "clients that gave up");
    assert.deepEqual(refusals, []);
    const back = Date.now();
    for (const node of cluster.nodes) cpu += cpuSeconds(node.gateway.pid);

    const { ledger } = cluster;
    const from = ledger.next;
    await until(() => ledger.next, (next) => next >= from + 2 * GROUPS, "events that all have to hear");
    await cluster.silence();
    const events = ledger.all();
    const account = await until(() => crowd.ask("account", { events }), ({ missing }) => missing === 0, "what was published after each one's return");
    assert.equal(account.repeated, 0, `events came twice: ${JSON.stringify(account.some)}`);
    assert.ok(account.mostUnknownSessions <= 3, `a client's session was unknown ${account.mostUnknownSessions} times`);
    const attempts = `${(account.attempts / CLIENTS).toFixed(2)} attempts a client, ${account.mostAttempts} at most`;
    t.diagnostic(`restarted in ${(restarted - begin) / 1000} s, all back ${(back - restarted) / 1000} s later; ${attempts}; ${cpu.toFixed(1)} s of CPU; ${account.unknownSessions} sessions unknown`);
  });
});
