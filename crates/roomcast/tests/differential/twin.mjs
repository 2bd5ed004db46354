// The server of `examples/twin.rs` on the Node server: what one does, the other does. Prints where it listens: Socket.IO, then Engine.IO alone.
//
//   node twin.mjs [MESSAGE_BYTES] [--eio3]

import { createServer } from "node:http";

import { attach } from "engine.io";
import { Server } from "socket.io";

const [messageBytes = 1_000_000] = process.argv.slice(2).map(Number);
const ANSWER_TIMEOUT_MS = 1_000;

const options = { maxHttpBufferSize: messageBytes, cors: { origin: "*" }, allowEIO3: process.argv.includes("--eio3") };
const [http, engineHttp] = [createServer(notFound), createServer(notFound)];
const io = new Server(http, { ...options, serveClient: false });
const engine = attach(engineHttp, { ...options, path: "/engine.io/" });

for (const name of ["/", "/custom", /^\/dynamic-\d+$/]) io.of(name).on("connection", talk);
io.of("/deny").use((_, next) => next(Object.assign(new Error("not authorized"), { data: { code: 42 } })));
io.of("/refuse").use((_, next) => next(new Error("go away")));
engine.on("connection", (connection) => connection.on("message", (message) => connection.send(message)));

function notFound(_, response) {
  response.writeHead(404).end();
}

function talk(socket) {
  socket.emit("auth", socket.handshake.auth);
  const answerOf = (args) => (typeof args.at(-1) === "function" ? args.pop() : undefined);
  const on = (event, handler) =>
    socket.on(event, (...args) => {
      const answer = answerOf(args);
      handler(args, answer);
    });
  on("echo", (args, answer) => (answer ? answer(...args) : socket.emit("echo", ...args)));
  on("volatile", (args) => socket.volatile.emit("volatile", ...args));
  on("ask", (args) =>
    socket.timeout(ANSWER_TIMEOUT_MS).emit("question", ...args, (error, ...answer) => (error ? socket.emit("unanswered") : socket.emit("answered", ...answer))),
  );
  on("ask all", ([room, data]) =>
    socket.nsp
      .to(room)
      .timeout(ANSWER_TIMEOUT_MS)
      .emit("question", data, (error, answers) => socket.emit("answers", answers.length, error ? -1 : 0)),
  );
  on("join", ([room], answer) => {
    socket.join(room);
    answer?.(room);
  });
  on("leave", ([room], answer) => {
    socket.leave(room);
    answer?.(room);
  });
  on("to", ([room, data]) => socket.to(room).emit("said", data));
  on("broadcast", (args) => socket.broadcast.emit("said", ...args));
  on("bye", () => socket.disconnect());
  on("bye all", () => socket.disconnect(true));
}

const listening = (server) => new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`)));
console.log(`listening on ${await listening(http)} ${await listening(engineHttp)}`);
