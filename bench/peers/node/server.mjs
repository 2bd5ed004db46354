// The benchmark's rooms as a team writes them with Node's socket.io.

import { createServer } from "node:http";

import jwt from "jsonwebtoken";
import { Server } from "socket.io";

const { PORT = "3000", JWT_SECRET } = process.env;

const server = createServer();
const io = new Server(server);

io.use((socket, next) => {
  try {
    socket.data.userId = jwt.verify(socket.handshake.auth.token, JWT_SECRET, { algorithms: ["HS256"] }).sub;
    next();
  } catch {
    next(new Error("Invalid token"));
  }
});

io.on("connection", (socket) => {
  const { userId } = socket.data;
  socket.join(`user:${userId}`);
  socket.emit("connected", { userId });
  socket.on("join", ({ room }, answer) => {
    socket.join(room);
    answer({ success: true, room });
  });
  socket.on("leave", ({ room }, answer) => {
    socket.leave(room);
    answer({ success: true, room });
  });
  socket.on("say", ({ room, data }) => io.to(room).emit("message", { room, data }));
  socket.on("echo", ({ data }, answer) => answer({ data }));
});

server.listen(Number(PORT), "127.0.0.1");
