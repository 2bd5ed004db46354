// A gRPC client as backend services in Node write one: messages and methods come from the proto file, or from the gateway's own reflection.

import { after } from "node:test";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

import { API_KEY } from "./gateway.mjs";
import { DEADLINE_MS } from "./recorder.mjs";

const PROTO = fileURLToPath(new URL("../../../../../proto/roomcast/v1/roomcast.proto", import.meta.url));

/** As a field reads that is not there: its default, but for optional ones. */
const OPTIONS = { defaults: true, arrays: true, objects: true, enums: String };

/** The standard services, as far as they are used here. */
const STANDARD = {
  nested: {
    HealthCheckRequest: { fields: { service: { type: "string", id: 1 } } },
    ServingStatus: { values: { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } },
    HealthCheckResponse: { fields: { status: { type: "ServingStatus", id: 1 } } },
    ReflectionRequest: {
      oneofs: { asked: { oneof: ["fileContainingSymbol", "listServices"] } },
      fields: { fileContainingSymbol: { type: "string", id: 4 }, listServices: { type: "string", id: 7 } },
    },
    Files: { fields: { fileDescriptorProto: { rule: "repeated", type: "bytes", id: 1 } } },
    Service: { fields: { name: { type: "string", id: 1 } } },
    Services: { fields: { service: { rule: "repeated", type: "Service", id: 1 } } },
    ReflectionResponse: {
      fields: { fileDescriptorResponse: { type: "Files", id: 4 }, listServicesResponse: { type: "Services", id: 6 } },
    },
    Health: {
      methods: {
        Check: { requestType: "HealthCheckRequest", responseType: "HealthCheckResponse" },
        Watch: { requestType: "HealthCheckRequest", responseType: "HealthCheckResponse", responseStream: true },
      },
    },
    Reflection: {
      methods: {
        ServerReflectionInfo: { requestType: "ReflectionRequest", responseType: "ReflectionResponse", requestStream: true, responseStream: true },
      },
    },
  },
};

/** The service under the name that it has on the wire: here it has no package. */
function standard(service, path) {
  const definition = protoLoader.fromJSON(STANDARD, OPTIONS)[service];
  const named = Object.entries(definition).map(([name, method]) => [name, { ...method, path: `/${path}/${name}` }]);
  return grpc.makeGenericClientConstructor(Object.fromEntries(named), path);
}

const open = new Set();
/** Ends every client. */
export function closeGrpc() {
  for (const client of open) client.close();
  open.clear();
}
after(closeGrpc);

/** A connection for each client, straight to the gateway. */
const CHANNEL = { "grpc.use_local_subchannel_pool": 1, "grpc.enable_http_proxy": 0 };

function start(Client, address, credentials = grpc.credentials.createInsecure()) {
  const client = new Client(address, credentials, CHANNEL);
  open.add(client);
  return client;
}

/** The calls of a client as functions that promise; `key` goes along, unless it is empty. */
function calls(client, key) {
  const metadata = new grpc.Metadata();
  if (key) metadata.set("authorization", `Bearer ${key}`);
  return Object.fromEntries(
    ["Publish", "ListRooms", "GetRoom", "GetPresence", "Disconnect"].map((name) => [
      name,
      (request = {}) =>
        new Promise((resolve, reject) =>
          client[name](request, metadata, { deadline: Date.now() + DEADLINE_MS }, (error, answer) => (error ? reject(error) : resolve(answer))),
        ),
    ]),
  );
}

/** The server API by the proto file. */
export function serverApi(address, { key = API_KEY, credentials } = {}) {
  const { Roomcast } = grpc.loadPackageDefinition(protoLoader.loadSync(PROTO, OPTIONS)).roomcast.v1;
  return calls(start(Roomcast, address, credentials), key);
}

/** Asks the gateway's reflection, of either revision. */
export async function reflect(address, revision, ...requests) {
  const client = start(standard("Reflection", `grpc.reflection.${revision}.ServerReflection`), address);
  const stream = client.ServerReflectionInfo({ deadline: Date.now() + DEADLINE_MS });
  for (const request of requests) stream.write(request);
  stream.end();
  return stream.toArray();
}

/** The server API by what reflection tells, without the proto file; fields have the names that they have there. */
export async function reflectedApi(address, { key = API_KEY } = {}) {
  const [answer] = await reflect(address, "v1", { fileContainingSymbol: "roomcast.v1.Roomcast" });
  const described = protoLoader.loadFileDescriptorSetFromBuffer(descriptorSet(answer.fileDescriptorResponse.fileDescriptorProto), OPTIONS);
  return calls(start(grpc.loadPackageDefinition(described).roomcast.v1.Roomcast, address), key);
}

/** A FileDescriptorSet of these files: field 1, a message each. */
function descriptorSet(files) {
  const length = (bytes) => {
    const digits = [];
    for (let left = bytes.length; ; left >>= 7) {
      if (left < 128) return Buffer.from([...digits, left]);
      digits.push((left & 127) | 128);
    }
  };
  return Buffer.concat(files.flatMap((file) => [Buffer.from([10]), length(file), file]));
}

/** The standard health service: `check` asks once, `watch` gives the stream. */
export function health(address, { credentials } = {}) {
  const client = start(standard("Health", "grpc.health.v1.Health"), address, credentials);
  return {
    check: (service = "") =>
      new Promise((resolve, reject) => client.Check({ service }, (error, answer) => (error ? reject(error) : resolve(answer.status)))),
    watch: (service = "") => client.Watch({ service }),
  };
}

/** Credentials that trust this certificate. */
export const trusting = (ca) => grpc.credentials.createSsl(ca);

export const { status } = grpc;
