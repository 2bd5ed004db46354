// Where brokers are: in one URL or in parts, in the environment or in a file, with names and passwords of any characters, over TLS, or away.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { after, afterEach, before, describe, it } from "node:test";
import { promisify } from "node:util";

import { certificate } from "./support/certificate.mjs";
import { closeClients } from "./support/clients.mjs";
import { freePort, startGateway } from "./support/gateway.mjs";
import { Rabbit } from "./support/rabbit.mjs";
import { until } from "./support/recorder.mjs";
import { Redis } from "./support/redis.mjs";
import { SYSTEMS, come } from "./support/systems.mjs";
import { tokenOf } from "./support/token.mjs";

afterEach(closeClients);

describe("brokers whose names and passwords are odd", () => {
  const [user, password, vhost] = ["a/b@c%d:e", "p/w@r%d#?&:", "v/h@s%t"];
  const own = certificate();
  let rabbit;
  before(async () => {
    rabbit = await Rabbit.start({ certificate: own });
    await rabbit.let(user, password, vhost);
  });
  after(() => rabbit.end());

  const spellings = () => ({
    "the URL": { RABBITMQ_URL: `amqp://${encodeURIComponent(user)}:${encodeURIComponent(password)}@127.0.0.1:${rabbit.port}/${encodeURIComponent(vhost)}` },
    "its parts": { RABBITMQ_HOST: "127.0.0.1", RABBITMQ_PORT: String(rabbit.port), RABBITMQ_USER: user, RABBITMQ_PASSWORD: password, RABBITMQ_VHOST: vhost },
  });
  for (const [profile, { broker }] of Object.entries(SYSTEMS)) {
    if (!broker) continue;
    it(`${profile}: the URL and its parts lead to the same broker`, async () => {
      for (const [spelling, env] of Object.entries(spellings())) {
        for (const from of ["environment", "file"]) {
          const dotenv = from === "file" ? Object.entries(env).map(([name, value]) => `${name}='${value}'\n`).join("") : undefined;
          const gateway = await startGateway({ profile, dotenv, env: from === "file" ? {} : env });
          await until(async () => (await gateway.get("/health/ready?strict=1")).status, (status) => status === 200, `${profile} to reach the broker by ${spelling} of the ${from}`);
          assert.ok(!JSON.stringify(gateway.log.items).includes(password), "no password in the log");
          await gateway.stop();
        }
      }
    });
  }

  it("a broker is reached over TLS, where an authority that the machine trusts has signed its certificate", async () => {
    const secrets = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
    const env = { RABBITMQ_URL: `amqps://${secrets}@localhost:${rabbit.tlsPort}/${encodeURIComponent(vhost)}` };
    const trusting = await startGateway({ profile: "marketplace", env: { ...env, SSL_CERT_FILE: own.env.TLS_CERT_FILE } });
    await until(async () => (await trusting.get("/health/ready?strict=1")).status, (status) => status === 200, "the broker to be reached");
    await trusting.stop();
    const other = await startGateway({ profile: "marketplace", env });
    const { json } = await until(() => other.get("/health/ready"), ({ json }) => /certificate/i.test(json.reasons.join()), "the reason");
    assert.equal(json.status, "degraded");
    await other.stop();
  });

  it("a broker that is away never stops the start: degraded, and 503 only if asked strictly", async () => {
    const away = await freePort();
    for (const [profile, { broker }] of Object.entries(SYSTEMS)) {
      const env = broker ? { RABBITMQ_URL: `amqp://127.0.0.1:${away}` } : { REDIS_URL: `redis://127.0.0.1:${away}` };
      const gateway = await startGateway({ profile, env });
      const degraded = await until(() => gateway.get("/health/ready"), ({ json }) => json.status === "degraded", `${profile} to be degraded`);
      assert.equal(degraded.status, 200);
      assert.ok(degraded.json.reasons.length > 0);
      assert.equal((await gateway.get("/health/ready?strict=1")).status, 503);
      assert.equal((await gateway.get("/health")).json.status, "degraded");
      assert.equal((await gateway.get("/health/live")).status, 200);
      await gateway.stop();
    }
  });
});

describe("whatever takes connections and says nothing", () => {
  const hole = createServer((socket) => socket.on("error", () => {}));
  before(() => new Promise((resolve) => hole.unref().listen(0, "127.0.0.1", resolve)));
  after(() => hole.close());

  for (const [profile, { broker, ways, enter }] of Object.entries(SYSTEMS)) {
    it(`${profile}: keeps it neither from its clients nor from its end`, async () => {
      const at = `127.0.0.1:${hole.address().port}`;
      const own = broker ? { RABBITMQ_URL: `amqp://${at}` } : { REDIS_URL: `redis://${at}`, LOCATION_SERVICE_URL: at, VENDOR_SERVICE_URL: at };
      const gateway = await startGateway({ profile, env: { ...own, ORDER_ACCESS_URL: `http://${at}/{orderId}/{userId}` } });
      for (const way of Object.values(ways)) {
        const client = come(gateway, way, { token: tokenOf("ann") });
        await client.entered();
        assert.equal((await client.command(enter.command, enter.data, enter.confirmed)).success, true);
        // The access service is being asked when the gateway ends.
        if (profile === "marketplace") client.say("subscribe_order", "1");
      }
      assert.equal((await gateway.get("/health/ready")).json.status, "degraded");
      assert.equal((await gateway.stop()).code, 0);
    });
  }
});

describe("a Redis with a password", () => {
  const password = "p/w@r%d#?&:";
  const stop = [];
  after(() => Promise.all(stop.map((end) => end())));

  const publish = (args, channel, data) => promisify(execFile)("redis-cli", ["--no-auth-warning", "-h", "127.0.0.1", "-a", password, ...args, "PUBLISH", channel, JSON.stringify(data)]);
  /** Its events reach a follower. */
  const check = async (env, args) => {
    const gateway = await startGateway({ profile: "venta", env });
    await gateway.health(({ redis }) => redis === "connected", "Redis");
    assert.ok(!JSON.stringify(gateway.log.items).includes(password), "no password in the log");
    const follower = come(gateway, SYSTEMS.venta.ways["plain, /ws/location"], { token: tokenOf("ann") });
    await follower.entered();
    await follower.command("subscribe_location", { vendorId: "v1" }, "subscribed");
    await publish(args, "venta:location", { vendorId: "v1", location: { lat: 1, long: 2 } });
    assert.deepEqual((await follower.next("location_updated")).location, { lat: 1, long: 2 });
    await gateway.stop();
  };
  const refused = async (env, reason) => {
    const gateway = await startGateway({ profile: "venta", env });
    const isTold = ({ reasons, parts }) => parts.redis.state === "disconnected" && reason.test(reasons.join());
    const { json } = await until(() => gateway.get("/health/ready"), ({ json }) => isTold(json), `the reason ${reason}`);
    assert.equal(json.status, "degraded");
    await gateway.stop();
  };

  it("is reached by a URL and by its parts, in another database, and a wrong password is told", async () => {
    const redis = await Redis.start(() => ["--requirepass", password]);
    stop.push(() => redis.kill());
    const at = `127.0.0.1:${redis.port}`;
    const args = ["-p", String(redis.port)];
    await check({ REDIS_URL: `redis://:${encodeURIComponent(password)}@${at}/3` }, args);
    await check({ REDIS_URL: `redis://default:${encodeURIComponent(password)}@${at}` }, args);
    await check({ REDIS_HOST: "127.0.0.1", REDIS_PORT: String(redis.port), REDIS_PASSWORD: password, REDIS_DB: "3" }, args);
    await refused({ REDIS_URL: `redis://:wrong@${at}` }, /WRONGPASS|password/i);
    await refused({ REDIS_URL: `redis://${at}` }, /NOAUTH|[Aa]uthentication/);
  });

  it("is reached over TLS, where an authority that the machine trusts has signed its certificate", async () => {
    const own = certificate();
    const { TLS_CERT_FILE: chain, TLS_KEY_FILE: key } = own.env;
    const redis = await Redis.start((port) => ["--requirepass", password, "--port", "0", "--tls-port", String(port), "--tls-cert-file", chain, "--tls-key-file", key, "--tls-ca-cert-file", chain, "--tls-auth-clients", "no"]);
    stop.push(() => redis.kill());
    const REDIS_URL = `rediss://:${encodeURIComponent(password)}@127.0.0.1:${redis.port}`;
    await check({ REDIS_URL, SSL_CERT_FILE: chain }, ["-p", String(redis.port), "--tls", "--cacert", chain]);
    await refused({ REDIS_URL: `${REDIS_URL}/2#insecure` }, /insecure/);
    await refused({ REDIS_URL }, /certificate/i);
    await refused({ REDIS_URL: REDIS_URL.replace("rediss:", "redis:") }, /redis/i);
  });
});
