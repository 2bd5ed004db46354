// A gRPC service of the test's own: a real server by a `.proto` file, whose handlers may answer when they like.

import { createServer } from "node:net";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";

import { Recorder, until } from "./recorder.mjs";

export const { status } = grpc;

const running = new Set();
after(() => running.forEach((server) => server.forceShutdown()));

/** For a server that speaks TLS. */
export const overTls = (chain, key) => grpc.ServerCredentials.createSsl(null, [{ cert_chain: chain, private_key: key }]);

/** The path of a file that comes with the gateway. */
export const shipped = (name) => fileURLToPath(new URL(`../../../../../profiles/${name}`, import.meta.url));

/**
 * Starts a server. `handlers` are by service and method: each gets the request and gives the reply, or throws `{ code, details }`.
 * Every call is recorded before its handler runs. `describes`: it offers reflection.
 */
export async function startService(file, handlers, { port = 0, credentials = grpc.ServerCredentials.createInsecure(), describes = false } = {}) {
  const definition = loadSync(file, { defaults: true });
  const loaded = grpc.loadPackageDefinition(definition);
  const server = new grpc.Server();
  if (describes) new ReflectionService(definition).addToServer(server);
  const calls = new Recorder("the service");
  for (const [service, methods] of Object.entries(handlers)) {
    const implementation = {};
    for (const [method, handle] of Object.entries(methods)) {
      implementation[method] = async ({ request, metadata }, answer) => {
        calls.add({ method, request, authorization: metadata.get("authorization") });
        try {
          answer(null, await handle(request));
        } catch (error) {
          answer(error);
        }
      };
    }
    server.addService(loaded[service].service, implementation);
  }
  // One that has just ended may still hold its port.
  if (port) await until(() => isFree(port), (free) => free, `port ${port} to be free`);
  const bound = await new Promise((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, credentials, (error, taken) => (error ? reject(error) : resolve(taken)));
  });
  running.add(server);
  return {
    address: `127.0.0.1:${bound}`,
    port: bound,
    calls,
    /** How often a method was called. */
    count: (method) => calls.items.filter((call) => call.method === method).length,
    stop() {
      running.delete(server);
      server.forceShutdown();
    },
  };
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer().once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** A gate that handlers wait at: closed until it is opened. */
export function gate() {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  return { open, opened };
}
