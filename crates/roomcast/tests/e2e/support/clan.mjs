// Clan's clients, and the service behind its chat.

import { plain } from "./clients.mjs";
import { startGateway } from "./gateway.mjs";
import { EventBus } from "./rabbit.mjs";
import { tokenOf } from "./token.mjs";

/** A client of Clan's that is on its way in. */
export const open = (gateway, query = {}, options = {}) => plain(`${gateway.ws}/ws?${new URLSearchParams(query)}`, { name: query.userId ?? "a client", ...options });

/** A client that is in, with what it can say. */
export const enter = async (gateway, userId, { claims, ...options } = {}) => {
  const client = open(gateway, { token: tokenOf(userId, claims) }, { name: String(userId), ...options });
  client.greeting = await client.next("connected");
  return Object.assign(client, {
    types: () => client.events.items.map((item) => item.json?.type).filter((type) => type && type !== "connected"),
    /** Sends a message and gives the next one of that type, or the error that came in its place. */
    async ask(message, type) {
      const from = client.events.items.length;
      client.send(message);
      const item = await client.events.next((item) => [type, "error"].includes(item.json?.type), `\`${type}\``, from);
      return item.json;
    },
    subscribe: (clanId) => client.ask({ type: "subscribe_clan_chat", clanId }, "subscription_confirmed"),
    say: (clanId, content, more = {}) => client.ask({ type: "chat", content, clanId, ...more }, "message_sent"),
    lines: () => client.events.items.filter((item) => item.json?.type === "chat").map((item) => item.json),
  });
};
/** Clan's gateway; with its broker, where it has one. */
export const clan = async (options = {}) => {
  const gateway = await startGateway({ profile: "clan", ...options });
  if (options.env?.RABBITMQ_HOST) await gateway.health((health) => health.rabbitmq === "connected", "RabbitMQ");
  return gateway;
};

/** The chat service: it keeps every line of the gateway's and says it to the clan again, as `clan.message`, until both are safe with the broker. */
export class ChatService {
  kept = [];
  #on = true;

  constructor(rabbit) {
    this.rabbit = rabbit;
    this.done = this.#run();
  }

  static async declare(bus) {
    await bus.channel.assertQueue("chat.service", { durable: true });
    await bus.channel.bindQueue("chat.service", "clan_events", "gateway.chat.sent");
  }

  async #run() {
    while (this.#on) {
      try {
        const bus = await EventBus.connect(this.rabbit, "clan_events");
        const lost = new Promise((resolve) => bus.connection.once("close", resolve));
        await ChatService.declare(bus);
        await bus.channel.consume("chat.service", async (message) => {
          if (!message) return;
          this.kept.push(JSON.parse(message.content));
          await bus.publish("clan.message", message.content).then(() => bus.channel.ack(message), () => {});
        });
        this.stop = async () => {
          this.#on = false;
          await bus.close();
          await this.done;
        };
        await lost;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }
}
