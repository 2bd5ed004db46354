// A stock client that has its group's conversation open: it comes back by itself, and keeps account of what it heard.

import { io } from "../../e2e/support/clients.mjs";
import { tokenOf } from "../../e2e/support/token.mjs";
import { Account } from "./ledger.mjs";

/** How long an answer may take: what is asked of a connection that ends is answered by nobody. */
const ANSWER_MS = 30_000;

export class Member {
  /** Whom it saw going offline, and typing. */
  offline = [];
  typing = new Set();
  /** How often its connection ended. */
  ends = 0;

  constructor(ledger, node, group, transports) {
    this.node = node;
    this.group = group;
    this.userId = `${group} at ${node.name}`;
    this.name = `the member ${this.userId}`;
    this.account = new Account(ledger, group);
    this.socket = io(node.url, { auth: { token: tokenOf(this.userId) }, forceNew: true, transports });
    this.socket.on("connect", () => this.#enter());
    this.socket.on("disconnect", () => {
      this.ends += 1;
      this.account.leave();
    });
    this.socket.on("new_message", ({ way, number }) => this.account.hear(way, number));
    this.socket.on("presence_update", ({ userId, status }) => status === "offline" && this.offline.push(userId));
    this.socket.on("user_typing", ({ userId }) => this.typing.add(userId));
  }

  #enter() {
    const { id } = this.socket;
    const room = { roomType: "conversation", roomId: String(this.group) };
    this.socket.emit("join_room", room, (answer) => {
      if (answer.error) throw new Error(`${this.name}: ${JSON.stringify(answer)}`);
      this.#owe(id);
    });
  }

  /** From here on it is owed what is published, as long as it has this socket. */
  async #owe(id) {
    // A node that is gone does not answer.
    while (this.socket.id === id && !(await this.node.listens().catch(() => false))) await new Promise((resolve) => setTimeout(resolve, 5));
    if (this.socket.id === id) this.account.enter();
  }

  /** Tells the others of its group. */
  type() {
    this.socket.emit("typing", { roomType: "conversation", roomId: String(this.group) });
  }

  /** Who of these is there. */
  async presence(userIds) {
    return (await this.socket.timeout(ANSWER_MS).emitWithAck("get_presence", { userIds })).presence;
  }

  close() {
    this.socket.disconnect();
  }
}
