// The processes of the tests' own: balancers and crowds. They end with whoever started them.

import { fork } from "node:child_process";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { within } from "../../e2e/support/recorder.mjs";

/** How long a crowd may take to come: thousands of clients on a machine that has the servers, too. */
const COMING_MS = 600_000;

const running = new Set();
const endAll = () => running.forEach((child) => child.kill("SIGKILL"));
after(endAll);
process.on("exit", endAll);

function start(name, args = []) {
  // What a test runner hears from its children is nothing that these have to say.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = fork(fileURLToPath(new URL(name, import.meta.url)), args, { env, stdio: ["ignore", "ignore", "inherit", "ipc"] });
  running.add(child);
  child.on("exit", () => running.delete(child));
  return child;
}

/** A balancer in front of these ports. */
export async function startBalancer(ports) {
  const child = start("balancer.mjs", ports.map(String));
  const port = await within(new Promise((resolve) => child.once("message", resolve)), "the balancer to listen");
  return { url: `http://127.0.0.1:${port}`, end: () => child.kill("SIGKILL") };
}

/** Clients in so many processes; what is asked of one goes to all, and comes back as a list. */
export class Crowd {
  #id = 0;

  static async come(url, { clients, processes, groups, transports }) {
    const crowd = new Crowd();
    crowd.children = Array.from({ length: processes }, () => start("crowd.mjs"));
    const each = Math.ceil(clients / processes);
    await Promise.all(
      crowd.children.map((child, index) => {
        const first = index * each;
        return crowd.#ask(child, "come", { url, first, count: Math.min(each, clients - first), groups, transports }, COMING_MS);
      }),
    );
    return crowd;
  }

  #ask(child, what, rest = {}, deadlineMs = 60_000) {
    const id = (this.#id += 1);
    let hear;
    let end;
    const answered = new Promise((resolve, reject) => {
      hear = (message) => message.id === id && resolve(message.answer);
      end = () => reject(new Error(`a crowd ended before it answered \`${what}\``));
      child.on("message", hear).on("exit", end);
      child.send({ id, what, ...rest });
    });
    return within(answered, `a crowd's answer to \`${what}\``, deadlineMs).finally(() => child.off("message", hear).off("exit", end));
  }

  /** Numbers of all, added; the most where they are the most. */
  async ask(what, rest) {
    const answers = await Promise.all(this.children.map((child) => this.#ask(child, what, rest)));
    const merge = (name, one, other) => (Array.isArray(one) ? [...one, ...other] : name.startsWith("most") ? Math.max(one, other) : one + other);
    return answers.reduce((sum, answer) => Object.fromEntries(Object.entries(sum).map(([name, value]) => [name, merge(name, value, answer[name])])));
  }

  end() {
    for (const child of this.children) child.kill("SIGKILL");
  }
}
