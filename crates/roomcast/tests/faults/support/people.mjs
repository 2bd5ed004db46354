// People who come, go, and move from node to node all the time, and watchers who are told of it.

import { io } from "../../e2e/support/clients.mjs";
import { within } from "../../e2e/support/recorder.mjs";
import { tokenOf } from "../../e2e/support/token.mjs";

/** A connection of a user's to a node, in some conversations. */
async function come(node, userId, conversations) {
  const socket = io(node.url, { auth: { token: tokenOf(userId) }, forceNew: true, reconnection: false, transports: ["websocket"] });
  const isIn = new Promise((resolve, reject) => {
    socket.on("connect_error", reject);
    socket.on("disconnect", (reason) => reject(new Error(reason)));
    socket.on("connect", async () => {
      for (const roomId of conversations) await socket.emitWithAck("join_room", { roomType: "conversation", roomId });
      resolve();
    });
  });
  await within(isIn, `${userId} to be in at ${node.url}`);
  return socket;
}

/** Someone who is told of everybody, and asks after everybody. */
export class Watcher {
  /** Who was told to be online or offline, in order, and whose sockets to have left. */
  told = [];
  left = new Set();

  static async come(node, conversations) {
    const watcher = new Watcher();
    watcher.node = node;
    watcher.userId = `the watcher of ${node.url}`;
    watcher.socket = await come(node, watcher.userId, conversations);
    watcher.socket.on("presence_update", ({ userId, status }) => watcher.told.push({ userId, status }));
    watcher.socket.on("user_left", ({ socketId }) => watcher.left.add(socketId));
    return watcher;
  }

  offline = () => new Set(this.told.filter(({ status }) => status === "offline").map(({ userId }) => userId));

  /** Who of these is online. */
  async online(userIds) {
    const online = new Set();
    const MOST_AT_ONCE = 100;
    for (let from = 0; from < userIds.length; from += MOST_AT_ONCE) {
      const { presence } = await this.socket.emitWithAck("get_presence", { userIds: userIds.slice(from, from + MOST_AT_ONCE) });
      for (const [userId, { online: isOnline }] of Object.entries(presence)) if (isOnline) online.add(userId);
    }
    return online;
  }

  close = () => this.socket.disconnect();
}

/** Numbered events at a steady rate, until it is stopped, and which of them did not come to the watchers. */
export class Flow {
  count = 0;

  static start(watchers, rate, publish) {
    const flow = new Flow();
    const EVERY_MS = 10;
    const began = Date.now();
    flow.came = watchers.map(({ socket }) => {
      const numbers = new Set();
      socket.off("flow").on("flow", (n) => numbers.add(n));
      return numbers;
    });
    const timer = setInterval(() => {
      const due = ((Date.now() - began) * rate) / 1000;
      while (flow.count < due) publish((flow.count += 1));
    }, EVERY_MS);
    flow.stop = () => clearInterval(timer);
    return flow;
  }

  missing = () => this.came.reduce((sum, { size }) => sum + this.count - size, 0);
}

/** Someone who has a conversation open, over one connection or, for a moment, two. */
export class Person {
  #moving = Promise.resolve();

  constructor(userId, conversation) {
    this.userId = userId;
    this.conversation = conversation;
  }

  async come(node) {
    this.socket = await come(node, this.userId, [this.conversation]);
    this.node = node;
    this.inSince = Date.now();
  }

  /** Goes to another node: the old connection ends when the new one is there, or before. One move after the other. */
  move(node, isNewFirst) {
    this.#moving = this.#moving.then(async () => {
      const { socket } = this;
      if (!isNewFirst) socket.disconnect();
      await this.come(node);
      socket.disconnect();
    });
    return this.#moving;
  }

  close() {
    this.socket.disconnect();
  }
}
