// A cluster has accidents under load, one after the other: it works again by itself within 15 s, and what the promises say of its events holds.
//
// `./test faults` has each accident once; `./test faults 7 3600` has those of seed 7, for an hour.

import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { drawn, shuffled } from "../e2e/support/drawn.mjs";
import { until } from "../e2e/support/recorder.mjs";
import { ACCIDENTS } from "./support/accidents.mjs";
import { Cluster, MODE, WAYS } from "./support/cluster.mjs";

const SEED = Number(process.env.SEED || Date.now() % 1_000_000);
/** How long accidents go on; without it, until each has happened once. */
const SECONDS = Number(process.env.ACCIDENTS_SECONDS || 0);
const EVENTS_PER_SECOND = Number(process.env.EVENTS_PER_SECOND || 1_000);
/** Some of the accidents, for a look at these alone: a part of their names. */
const ONLY = process.env.ONLY ?? "";
/** What the promises name, and as much again for a machine that is busy with other things. */
const WELL_AGAIN_MS = 2 * 15_000;
/** What is to be published, by either way, before an accident. */
const CALM_EVENTS = 500;

/** Every member hears events of both ways that are published from now on, and what members of either node say, and knows that everyone is there. */
async function worksAgain({ nodes, members, ledger }) {
  const from = ledger.next;
  const deaf = () => members.filter(({ account }) => !account.isIn || WAYS.some((way) => account.last(way) < from));
  await until(() => deaf().map(({ name }) => name), (names) => names.length === 0, "everyone to hear", WELL_AGAIN_MS);
  await Promise.all(nodes.map((node) => node.isWell("all to be well again", WELL_AGAIN_MS)));
  const group = members.filter((member) => member.group === 0);
  for (const member of group) member.typing.clear();
  const all = group.map(({ userId }) => userId);
  const unheard = () => {
    for (const member of group) member.type();
    return group.filter(({ userId, typing }) => all.some((other) => other !== userId && !typing.has(other))).map(({ name }) => name);
  };
  await until(unheard, (names) => names.length === 0, "clients to hear each other", WELL_AGAIN_MS);
  const userIds = members.map(({ userId }) => userId);
  const gone = async () => {
    const seen = await Promise.all(group.map((member) => member.presence(userIds)));
    return seen.flatMap((presence, index) => userIds.filter((userId) => !presence[userId].online).map((userId) => `${userId}, says ${group[index].name}`));
  };
  await until(gone, ({ length }) => length === 0, "everyone to be known to be there", WELL_AGAIN_MS);
}

describe(`accidents of a cluster, ${MODE}, seed ${SEED}`, () => {
  it(`under ${EVENTS_PER_SECOND} events a second`, async (t) => {
    const cluster = await Cluster.start();
    const { ledger, members } = cluster;
    cluster.publish(EVENTS_PER_SECOND);
    const numbers = drawn(SEED);
    const kinds = Object.keys(ACCIDENTS).filter((kind) => kind.includes(ONLY) && (ACCIDENTS[kind].modes ?? [MODE]).includes(MODE));
    const order = shuffled(numbers, kinds);
    const end = Date.now() + SECONDS * 1000;
    // What comes after a failure would only tell of that one.
    let isWell = true;
    for (let count = 0; isWell && (count < kinds.length || Date.now() < end); count += 1) {
      isWell = false;
      const kind = order.next().value;
      const node = cluster.nodes[Math.floor(numbers.next().value * cluster.nodes.length)];
      await t.test(`${kind} (${node.name})`, async (t) => {
        const { happen, misses = { here: [], elsewhere: [] }, leaves = false, isTakenForDead = false, isBehind = false } = ACCIDENTS[kind];
        const dropped = () => node.gateway.metric('roomcast_bus_dropped_total{reason="full"}');
        const droppedBefore = isBehind ? await dropped() : 0;
        const begin = ledger.next;
        await until(() => ledger.next, (next) => next >= begin + CALM_EVENTS, "events");
        const repeats = members.map(({ account }) => account.repeats);
        const ends = members.map((member) => member.ends);
        for (const member of members) member.offline = [];
        await happen(cluster, node);
        const ended = Date.now();
        await worksAgain(cluster);
        const seconds = (Date.now() - ended) / 1000;

        // What was published until now is all that anybody may have missed. It is there, or it is not, when what is owed for certain is.
        const to = ledger.next;
        const beyond = isBehind ? (await dropped()) - droppedBefore : 0;
        const mayMiss = (member, way) => misses[member.node === node ? "here" : "elsewhere"].includes(way) || (beyond > 0 && member.node === node);
        const missing = (isOwed) =>
          members.flatMap((member) => member.account.missing(to).flatMap(([number, way]) => (mayMiss(member, way) === isOwed ? [] : [`${member.name}: ${number} by ${way}`])));
        await until(() => missing(true).slice(0, 5), ({ length }) => length === 0, "all that is owed");
        if (isBehind) {
          // It may be busy with what waited for it still.
          const numbers = () => new Set(cluster.membersOf(node).flatMap(({ account }) => account.missing(to).map(([number]) => number))).size;
          await until(numbers, (count) => count <= beyond, `no more events to be missing than the ${beyond} that were counted`);
        }
        const missed = missing(false).length;
        for (const member of members) for (const way of WAYS) if (mayMiss(member, way)) member.account.forgive(way, to);
        const again = members.reduce((sum, { account }, index) => sum + account.repeats - repeats[index], 0);
        t.diagnostic(`works again after ${seconds} s; ${again} repeats, ${missed} missed, of ${(to - begin) * 3} that were due`);

        for (const [index, member] of members.entries()) {
          if (!(leaves && member.node === node)) assert.equal(member.ends, ends[index], `${member.name} was disconnected`);
          assert.deepEqual(member.account.late.filter(({ way }) => way === "emitter"), [], `${member.name} heard these too late`);
          assert.deepEqual(member.offline.filter((userId) => !(isTakenForDead && userId.endsWith(node.name))), [], `${member.name} saw these going offline`);
        }
        isWell = true;
      });
    }
    if (isWell) await cluster.isSettled();
    await cluster.end();
  });
});
