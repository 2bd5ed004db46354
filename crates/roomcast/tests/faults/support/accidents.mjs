// What can happen to a cluster. Each accident happens, is seen in the health documents where it is one that lasts, and ends.

import { EventBus } from "../../e2e/support/rabbit.mjs";
import { within } from "../../e2e/support/recorder.mjs";

const QUEUE = "websocket.message.sent";
/** Longer than a node's canary takes to see that nothing comes through. */
const SEEN_MS = 30_000;

/** All are found before the first is killed: with it goes its connection, and with that the others. */
const KILL_CONSUMING_CHANNELS =
  "Consuming = [Channel || Channel <- rabbit_channel:list(), [{consumer_count, Count}] <- [rabbit_channel:info(Channel, [consumer_count])], Count > 0], [exit(Channel, kill) || Channel <- Consuming].";

const ALL = ["rabbit", "emitter"];
/** Redis keeps nothing for a node that is away; all of them were, and did not know it. */
const ALL_MISS = { here: ALL, elsewhere: ALL };
/** All of them knew it: what comes from the broker waits. */
const ALL_MISS_EMITTED = { here: ["emitter"], elsewhere: ["emitter"] };
/** One was away; what it took from the broker meanwhile, the others get later. */
const MISSES_ALONE = { here: ALL, elsewhere: [] };

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const all = (nodes, each) => Promise.all(nodes.map(each));

/** The part of a node is seen to be away, or deaf, in its health. */
const isSeen = (part) => (node) =>
  node.health(({ status, parts }) => status !== "ok" && ["disconnected", "deaf"].includes(parts[part].state), `${part} to be away`, SEEN_MS);

/** How often a node has connected again to a part. */
const reconnects = (part) => (node) => node.gateway.metric(`roomcast_${part}_reconnects_total`);

/** A part is lost for a moment only: it was away, whoever looked at it then. */
async function isRebuilt(nodes, part, happen) {
  const before = await all(nodes, reconnects(part));
  await happen();
  await all(nodes, async (node, index) => {
    for (const end = Date.now() + SEEN_MS; (await reconnects(part)(node)) <= before[index]; await pause(50)) {
      if (Date.now() > end) throw new Error(`${node.name} has not connected to ${part} again`);
    }
  });
}

const withBroker = async ({ rabbit }, act) => {
  const bus = await EventBus.connect(rabbit);
  try {
    return await act(bus);
  } finally {
    await bus.close();
  }
};

/**
 * `happen(cluster, node)`: the accident, from its beginning to its end; the node is a drawn one. `misses`: by which ways the
 * members of this node (`here`) and those of others (`elsewhere`) may miss what is published meanwhile, as the promises say; nobody misses anything where
 * it is left out. `leaves`: clients of this node may lose their connections. `isTakenForDead`: it is silent for longer than its lease, so that they may be told to be gone.
 * `modes`: the formats of the bus in which it can happen so. `isBehind`: so much waits for it afterwards that it may be more than it takes; what it drops then, and counts, its members may miss.
 */
export const ACCIDENTS = {
  "a node is killed": {
    leaves: true,
    isTakenForDead: true,
    async happen(_, node) {
      await node.gateway.kill();
      await node.start();
    },
  },
  "a node stands still for 20 s": {
    isBehind: true,
    leaves: true,
    isTakenForDead: true,
    async happen(_, node) {
      node.gateway.signal("SIGSTOP");
      await pause(20_000);
      node.gateway.signal("SIGCONT");
    },
  },
  "Redis is killed and starts again": {
    misses: ALL_MISS_EMITTED,
    async happen({ redis, nodes }) {
      await redis.kill();
      await all(nodes, isSeen("bus"));
      await redis.start();
    },
  },
  "Redis stands still until it is noticed": {
    misses: ALL_MISS_EMITTED,
    async happen({ redis, nodes }) {
      redis.pause();
      try {
        await all(nodes, isSeen("bus"));
      } finally {
        redis.goOn();
      }
    },
  },
  "Redis lets everyone wait for 4 s": {
    async happen({ redis }) {
      await redis.command("CLIENT", "PAUSE", "4000", "ALL");
      await redis.command("PING");
    },
  },
  "Redis ends the connections of those who listen": {
    misses: ALL_MISS,
    happen: ({ redis, nodes }) => isRebuilt(nodes, "bus", () => redis.command("CLIENT", "KILL", "TYPE", "pubsub")),
  },
  "Redis ends the connections of those who only publish": {
    misses: ALL_MISS_EMITTED,
    happen: ({ redis }) => redis.command("CLIENT", "KILL", "TYPE", "normal"),
  },
  "Redis is emptied": {
    happen: ({ redis }) => redis.command("FLUSHALL"),
  },
  "more waits for a node than Redis keeps for those who listen": {
    modes: ["classic"],
    misses: MISSES_ALONE,
    async happen({ redis }, node) {
      await redis.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 4194304 0 0");
      const line = node.lines.redis;
      await isRebuilt([node], "bus", async () => {
        line.silence("from");
        const text = "x".repeat(65_536);
        for (let count = 0; count < 400; count += 1) await redis.publish("socket.io#/#nobody#", text);
        line.heal();
      });
      await redis.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60");
    },
  },
  "a node and Redis do not reach each other": {
    misses: MISSES_ALONE,
    isTakenForDead: true,
    happen: (_, node) => partition(node, "redis", "bus", "to", "from"),
  },
  "a node does not hear Redis": {
    misses: MISSES_ALONE,
    isTakenForDead: true,
    happen: (_, node) => partition(node, "redis", "bus", "from"),
  },
  "Redis does not hear a node": {
    misses: MISSES_ALONE,
    isTakenForDead: true,
    happen: (_, node) => partition(node, "redis", "bus", "to"),
  },
  "a node's connections to Redis break": {
    misses: MISSES_ALONE,
    happen: (_, node) => isRebuilt([node], "bus", () => node.lines.redis.cut()),
  },
  "RabbitMQ is killed and starts again": {
    async happen({ rabbit, nodes }) {
      await rabbit.kill();
      await all(nodes, isSeen("rabbitmq"));
      await rabbit.start();
    },
  },
  "RabbitMQ has no memory left": {
    async happen({ rabbit }) {
      await rabbit.control("set_vm_memory_high_watermark", "absolute", "1");
      await pause(3_000);
      await rabbit.control("set_vm_memory_high_watermark", "0.6");
    },
  },
  "RabbitMQ loses the channels by which events come": {
    happen: ({ rabbit, nodes }) => isRebuilt(nodes, "rabbitmq", () => rabbit.control("eval", KILL_CONSUMING_CHANNELS)),
  },
  "a queue is deleted": {
    // With it went what waited in it, and what came before there was another one.
    misses: { here: ["rabbit"], elsewhere: ["rabbit"] },
    happen: (cluster) => isRebuilt(cluster.nodes, "rabbitmq", () => withBroker(cluster, (bus) => bus.channel.deleteQueue(QUEUE))),
  },
  "somebody else takes events and gives them back": {
    happen: (cluster) =>
      withBroker(cluster, async (bus) => {
        let some;
        const taken = new Promise((resolve) => (some = resolve));
        let count = 0;
        await bus.channel.prefetch(50);
        await bus.channel.consume(QUEUE, () => (count += 1) === 50 && some());
        await within(taken, "a second consumer's events");
      }),
  },
  "a node and RabbitMQ do not reach each other": {
    happen: (_, node) => partition(node, "rabbit", "rabbitmq", "to", "from"),
  },
  "a node does not hear RabbitMQ": {
    happen: (_, node) => partition(node, "rabbit", "rabbitmq", "from"),
  },
  "RabbitMQ does not hear a node": {
    happen: (_, node) => partition(node, "rabbit", "rabbitmq", "to"),
  },
};

async function partition(node, line, part, ...directions) {
  node.lines[line].silence(...directions);
  try {
    await isSeen(part)(node);
  } finally {
    node.lines[line].heal();
  }
}
