// Chance that can be had again: what a seed determines.

/** Numbers from 0 to 1 that the seed determines (mulberry32). */
export function* drawn(seed) {
  for (let state = seed; ; ) {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    yield ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** Kinds in a drawn order without end, each about as often as the others. */
export function* shuffled(numbers, kinds) {
  for (;;) {
    const left = [...kinds];
    while (left.length > 0) yield left.splice(Math.floor(numbers.next().value * left.length), 1)[0];
  }
}
