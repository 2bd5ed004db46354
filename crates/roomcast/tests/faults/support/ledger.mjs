// What was published, and to whom it is owed: every event has a number, and a member owes an account of those that were published while it was in.

/** Events by their numbers: by which way, to which group, when, and whether it is certain that they were taken. */
export class Ledger {
  #events = [];

  /** The number that the next event gets. */
  get next() {
    return this.#events.length;
  }

  /** Notes an event that is about to be published; gives its number. */
  note(way, group) {
    return this.#events.push({ way, group, isTaken: false, at: process.hrtime.bigint() }) - 1;
  }

  /** Everything that was taken, for another process: numbers, groups, and times on the clock that all processes of a machine share. */
  all() {
    return this.#events.flatMap(({ group, isTaken, at }, number) => (isTaken ? [{ number, group, at: String(at) }] : []));
  }

  /** Whoever carries it has it: it is owed from now on. */
  taken(number) {
    this.#events[number].isTaken = true;
  }

  /** What is owed to a member of a group from a number on, up to another: the numbers, with the way of each. */
  *owed(group, from, to) {
    for (let number = from; number < to; number += 1) {
      const event = this.#events[number];
      if (event.isTaken && event.group === group) yield [number, event.way];
    }
  }
}

/** What one client has heard, since it is in. */
export class Account {
  /** Whether it is in its group's room, and since which number. */
  isIn = false;
  from = 0;
  /** Events that came again, and events that came behind a later one of their way. */
  repeats = 0;
  late = [];
  #times = [];
  #last = {};
  #forgiven = {};

  constructor(ledger, group) {
    this.ledger = ledger;
    this.group = group;
  }

  enter() {
    this.from = this.ledger.next;
    this.isIn = true;
    this.#last = {};
  }

  leave() {
    this.isIn = false;
  }

  hear(way, number) {
    const before = this.#times[number] ?? 0;
    this.#times[number] = before + 1;
    if (before > 0) this.repeats += 1;
    else if (number < this.#last[way]) this.late.push({ way, number });
    else this.#last[way] = number;
  }

  /** The last number that came by a way, since it is in. */
  last(way) {
    return this.#last[way] ?? -1;
  }

  /** The numbers up to this one that are owed and have not come, with the way of each. */
  missing(to) {
    const isMissing = ([number, way]) => !this.#times[number] && number >= (this.#forgiven[way] ?? 0);
    return [...this.ledger.owed(this.group, this.from, to)].filter(isMissing);
  }

  /** Nothing by this way up to this number is owed any more. */
  forgive(way, to) {
    this.#forgiven[way] = to;
  }
}
