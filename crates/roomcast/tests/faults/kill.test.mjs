// A node dies in the middle of its work, and it is the one by which all events come: the others go on where it stopped, in order.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { drawn } from "../e2e/support/drawn.mjs";
import { until } from "../e2e/support/recorder.mjs";
import { Cluster } from "./support/cluster.mjs";

const SEED = Number(process.env.SEED || Date.now() % 1_000_000);
const EVENTS_PER_SECOND = Number(process.env.EVENTS_PER_SECOND || 1_000);
const KILLS = 3;
/** Events between the return of all and the next end: so many at least, and up to as many more. */
const EVENTS_BETWEEN = 1_000;

describe(`where one node consumes for all, seed ${SEED}`, () => {
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ consumers: "one" });
    cluster.publish(EVENTS_PER_SECOND);
  });
  after(() => cluster.end());

  it(`it is killed ${KILLS} times under ${EVENTS_PER_SECOND} events a second: every event reaches every member of the others, in order but for repeats`, async (t) => {
    const { ledger, members, nodes } = cluster;
    const numbers = drawn(SEED);
    for (let kill = 1; kill <= KILLS; kill += 1) {
      const moment = ledger.next + Math.floor(EVENTS_BETWEEN * (1 + numbers.next().value));
      await until(() => ledger.next, (next) => next >= moment, "the moment");
      const taken = await Promise.all(nodes.map(({ gateway }) => gateway.metric("roomcast_rabbitmq_deliveries_total")));
      const repeats = () => members.reduce((sum, { account }) => sum + account.repeats, 0);
      const before = repeats();
      const consumer = nodes[taken.indexOf(Math.max(...taken))];
      await consumer.gateway.kill();
      await consumer.start();
      await consumer.isWell("it to be a member again");
      await cluster.everyoneIsIn();
      await cluster.isSettled();
      t.diagnostic(`${consumer.name} was killed at event ${moment}: ${repeats() - before} repeats at ${members.length} members`);
    }
    for (const { name, account } of members) assert.deepEqual(account.late, [], `${name} heard these too late`);
  });
});
