// A plain TCP balancer as a process of its own: each connection goes to the next node in turn, or the one after it where nobody listens. It knows
// nothing of HTTP, of sessions, or of anybody's health. `node balancer.mjs PORT ...` says its own port to the process that started it.

import { connect, createServer } from "node:net";

const ports = process.argv.slice(2).map(Number);
let turn = 0;

function pass(client, tries = ports.length) {
  const node = connect({ port: ports[turn++ % ports.length], host: "127.0.0.1", noDelay: true });
  let isThere = false;
  node.on("connect", () => {
    isThere = true;
    client.pipe(node);
    node.pipe(client);
  });
  node.on("error", () => (!isThere && tries > 1 ? pass(client, tries - 1) : client.destroy()));
  node.on("close", () => isThere && client.destroySoon());
  client.on("close", () => node.destroy());
}

const server = createServer({ noDelay: true }, (client) => {
  client.on("error", () => {});
  pass(client);
});
server.listen(0, "127.0.0.1", 8192, () => process.send(server.address().port));
process.on("disconnect", () => process.exit());
