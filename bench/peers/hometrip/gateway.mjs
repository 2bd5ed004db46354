// The gateway of a booking platform, as its team runs it today: Socket.IO for browsers and phones, RabbitMQ for the services behind, a Redis
// adapter where several instances share the users. Written with the libraries' documented calls and nothing clever.

import { createServer } from "node:http";

import { createAdapter } from "@socket.io/redis-adapter";
import amqp from "amqplib";
import jwt from "jsonwebtoken";
import { createClient } from "redis";
import { Server } from "socket.io";

const { PORT = "3002", SERVICE_HOST = "127.0.0.1", JWT_SECRET, RABBITMQ_URL, REDIS_URL } = process.env;
const EXCHANGE = process.env.RABBITMQ_EXCHANGE ?? "hometrip_events";
const PREFETCH = Number(process.env.RABBITMQ_PREFETCH ?? 256);
if (!JWT_SECRET) throw new Error("JWT_SECRET is not set");

const QUEUES = [
  { queue: "websocket.message.sent", key: "message.sent", event: "new_message", room: (data) => `conversation:${data.conversationId}` },
  { queue: "websocket.booking.confirmed", key: "booking.confirmed", event: "booking_update", room: (data) => `user:${data.userId}` },
  { queue: "websocket.notification.created", key: "notification.created", event: "new_notification", room: (data) => `user:${data.userId}` },
];
const ROOM_TYPES = new Set(["conversation", "notification"]);

const http = createServer();
const io = new Server(http, { cors: { origin: "*" } });

if (REDIS_URL) {
  const publisher = createClient({ url: REDIS_URL });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}

io.use((socket, next) => {
  const { token } = socket.handshake.auth;
  if (!token) return next(new Error("Authentication required"));
  try {
    const claims = jwt.verify(token, JWT_SECRET, { algorithms: ["HS256"] });
    const userId = claims.userId ?? claims.id ?? claims.sub;
    if (userId === undefined) throw new Error("the token names no user");
    socket.data.user = { userId: String(userId), email: claims.email ?? null, role: claims.role ?? null };
    next();
  } catch {
    next(new Error("Invalid or expired token"));
  }
});

io.on("connection", (socket) => {
  const { user } = socket.data;
  const timestamp = () => new Date().toISOString();
  socket.join(`user:${user.userId}`);
  socket.emit("connected", { socketId: socket.id, ...user, timestamp: timestamp() });

  // Calls `handle` with the room that a request names; what makes no sense is answered with an error.
  const onRoom = (event, handle) =>
    socket.on(event, (request, ack) => {
      const { roomType, roomId } = request ?? {};
      if (!ROOM_TYPES.has(roomType) || !roomId) return ack?.({ error: "Invalid room" });
      handle(`${roomType}:${roomId}`, { userId: user.userId, roomType, roomId, timestamp: timestamp() }, ack);
    });
  onRoom("join_room", (room, about, ack) => {
    socket.join(room);
    socket.to(room).emit("user_joined", { ...about, socketId: socket.id });
    ack?.({ success: true, room });
  });
  onRoom("leave_room", (room, about, ack) => {
    socket.leave(room);
    socket.to(room).emit("user_left", { ...about, socketId: socket.id });
    ack?.({ success: true, room });
  });
  for (const event of ["typing", "stop_typing"]) {
    onRoom(event, (room, about) => socket.rooms.has(room) && socket.to(room).emit(`user_${event}`, about));
  }
});

if (RABBITMQ_URL) {
  const connection = await amqp.connect(RABBITMQ_URL);
  const channel = await connection.createChannel();
  await channel.assertExchange(EXCHANGE, "topic", { durable: true });
  await channel.prefetch(PREFETCH);
  for (const { queue, key, event, room } of QUEUES) {
    await channel.assertQueue(queue, { durable: true });
    await channel.bindQueue(queue, EXCHANGE, key);
    await channel.consume(queue, (message) => {
      if (message === null) return;
      const data = JSON.parse(message.content.toString());
      io.to(room(data)).emit(event, data);
      channel.ack(message);
    });
  }
}

http.listen(Number(PORT), SERVICE_HOST);
process.on("SIGTERM", () => process.exit(0));
