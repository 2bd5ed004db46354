// What came, in order, and a way to wait for what is still to come. A wait ends with the thing itself; the deadline only says that the test failed.

export const DEADLINE_MS = 30_000;

/** Resolves with the promise, or rejects at the deadline with a text that says what was waited for. */
export function within(promise, what, deadlineMs = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadlineMs} ms for ${typeof what === "function" ? what() : what}`)), deadlineMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks again and again until the answer is accepted; gives the answer. For states that tell nobody when they change. */
export async function until(ask, accept, what, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const answer = await ask();
    if (accept(answer)) return answer;
    if (Date.now() > end) throw new Error(`waited ${deadlineMs} ms for ${what}; the last answer was ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Items that came, and who waits for one. */
export class Recorder {
  items = [];
  #waiting = [];

  constructor(name) {
    this.name = name;
  }

  add(item) {
    this.items.push(item);
    for (const waiter of [...this.#waiting]) waiter();
  }

  /** The first item from `from` on that is accepted; waits for it if it has not come yet. */
  next(accept, what, from = 0) {
    let look;
    const found = new Promise((resolve) => {
      let index = from;
      look = () => {
        for (; index < this.items.length; index += 1) {
          if (accept(this.items[index])) return resolve(this.items[index]);
        }
      };
      this.#waiting.push(look);
      look();
    });
    const seen = () => `${what} at ${this.name}; there came ${JSON.stringify(this.items.slice(-20)).slice(0, 2000)}`;
    return within(found, seen).finally(() => this.#waiting.splice(this.#waiting.indexOf(look), 1));
  }
}
