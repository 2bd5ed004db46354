// A line between two programs that can break: a TCP proxy in front of one port, which takes bytes over until it is told not to.

import { connect, createServer } from "node:net";
import { after } from "node:test";

/** Lines that were not closed: after the last test they are, so that one that failed holds nothing up. */
const lines = new Set();
after(() => lines.forEach((line) => line.close()));

/** Starts a line to the port. `to` is the direction to it, `from` the one back. */
export async function startLink(port) {
  const pairs = new Set();
  const silent = new Set();
  const server = createServer((client) => {
    const far = connect(port, "127.0.0.1");
    const pair = { to: client, from: far };
    pairs.add(pair);
    for (const [one, other, direction] of [[client, far, "to"], [far, client, "from"]]) {
      one.setNoDelay(true);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        pairs.delete(pair);
        other.destroySoon();
      });
      if (!silent.has(direction)) one.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const link = {
    port: server.address().port,
    /** What is sent in these directions arrives nowhere until it heals, over connections that are there and new ones; nobody is told. */
    silence(...directions) {
      for (const direction of directions) {
        silent.add(direction);
        for (const pair of pairs) pair[direction].unpipe();
      }
    },
    /** What was sent meanwhile arrives, where both ends still wait for it. */
    heal() {
      for (const { to, from } of pairs) {
        if (silent.has("to")) to.pipe(from);
        if (silent.has("from")) from.pipe(to);
      }
      silent.clear();
    },
    /** The connections that are there end, as when a router has forgotten them. */
    cut() {
      for (const { to, from } of pairs) {
        to.destroy();
        from.destroy();
      }
    },
    close() {
      lines.delete(link);
      link.cut();
      server.close();
    },
  };
  lines.add(link);
  return link;
}
