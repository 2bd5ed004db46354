//! The language's tables of what stands behind the gateway: sources of events, Redis, publishing, services. What they mean stands in `meaning`.

use super::Kind::{self, Choice, Count, List, Name, OneOrMany, Switch, Text, Time};
use super::Presence::{Default, May, Needed};
use super::{Table, UNLIMITED, key};

pub(super) static SOURCE: Table = Table {
    about: "",
    keys: &[
        key(
            "rabbitmq",
            Kind::Table(&RABBITMQ),
            May,
            "A RabbitMQ broker. It is used if one of the variables of its address is set.",
            "",
        ),
        key(
            "redis",
            Kind::Table(&REDIS_CHANNELS),
            May,
            "Channels of the Redis in `[redis]`. They are used if it is.",
            "",
        ),
    ],
};

static REDIS_CHANNELS: Table = Table {
    about: "Redis 6 or newer is needed. What is published to a channel while the gateway is not connected is lost, as for every subscriber; so is an \
            event that cannot be handled, and one that comes while 16 MiB of others wait.",
    keys: &[key(
        "channels",
        List(&Name),
        Needed,
        "The channels that are subscribed to.",
        r#"channels = ["venta:location", "venta:vendor"]"#,
    )],
};

static RABBITMQ: Table = Table {
    about: "Queues that exist already are used as they are.",
    keys: &[
        key(
            "url",
            Text,
            Default("${RABBITMQ_URL:-}"),
            "The broker as one URL; it wins over the parts. `amqps://` is TLS, with the machine's authorities or those of the file in `SSL_CERT_FILE`.",
            r#"url = "amqp://guest:guest@localhost:5672/%2f""#,
        ),
        key(
            "host",
            Text,
            Default("${RABBITMQ_HOST:-}"),
            "Its host; `localhost` if another part is set.",
            r#"host = "rabbitmq""#,
        ),
        key("port", Count(1, 65_535), Default("${RABBITMQ_PORT:-}"), "Its port; 5672 if it is not set.", "port = 5672"),
        key(
            "user",
            Text,
            Default("${RABBITMQ_USER:-}"),
            "Who logs in; `guest` if it is not set.",
            r#"user = "gateway""#,
        ),
        key(
            "password",
            Text,
            Default("${RABBITMQ_PASSWORD:-}"),
            "With what; `guest` if it is not set.",
            r#"password = "${RABBITMQ_PASSWORD}""#,
        ),
        key("vhost", Text, Default("${RABBITMQ_VHOST:-}"), "The virtual host; `/` if it is not set.", r#"vhost = "/""#),
        key(
            "exchange",
            Name,
            Default("${RABBITMQ_EXCHANGE:-events}"),
            "The exchange that events are published to.",
            r#"exchange = "${RABBITMQ_EXCHANGE:-hometrip_events}""#,
        ),
        key(
            "type",
            Choice(&["topic", "direct", "fanout"]),
            Default("topic"),
            "The exchange's type.",
            r#"type = "topic""#,
        ),
        key(
            "durable",
            Switch,
            Default("true"),
            "Whether the exchange outlives the broker's restart.",
            "durable = true",
        ),
        key("prefetch", Count(1, 65_535), Default("256"), "How many deliveries may be in hand.", "prefetch = 256"),
        key(
            "consumers",
            Choice(&["all", "one"]),
            Default("all"),
            "`all`: every node consumes. `one`: one does and the others stand by, so that order holds over the cluster.",
            r#"consumers = "one""#,
        ),
        key(
            "dead_letter",
            Name,
            Default("roomcast.dead_letter"),
            "The durable queue for messages that cannot be handled.",
            r#"dead_letter = "roomcast.dead_letter""#,
        ),
        key(
            "dead_letter_max",
            Count(1, UNLIMITED),
            Default("10000"),
            "How many messages it keeps, the oldest out first.",
            "dead_letter_max = 10000",
        ),
        key("queue", Kind::Tables(&QUEUE), Needed, "The queues that are consumed.", ""),
    ],
};

static QUEUE: Table = Table {
    about: "",
    keys: &[
        key("name", Name, Needed, "Its name.", r#"name = "websocket.message.sent""#),
        key(
            "bind",
            OneOrMany(&Text),
            Needed,
            "The routing keys that bring messages into it; `*` is one word, `#` any number.",
            r#"bind = ["order.*", "payment.*"]"#,
        ),
        key("durable", Switch, Default("true"), "Whether it outlives the broker's restart.", "durable = true"),
    ],
};

pub(super) static REDIS: Table = Table {
    about: "",
    keys: &[
        key(
            "url",
            Text,
            Default("${REDIS_URL:-}"),
            "Redis as one URL; it wins over the parts. One server of a Redis Cluster leads to the others. `rediss://` is TLS, with the machine's authorities or those of the file in `SSL_CERT_FILE`.",
            r#"url = "redis://localhost:6379/1""#,
        ),
        key("host", Text, Default("${REDIS_HOST:-}"), "Its host.", r#"host = "redis""#),
        key("port", Count(1, 65_535), Default("${REDIS_PORT:-6379}"), "Its port.", "port = 6379"),
        key(
            "password",
            Text,
            Default("${REDIS_PASSWORD:-}"),
            "Its password, if it wants one.",
            r#"password = "${REDIS_PASSWORD}""#,
        ),
        key("database", Count(0, 1_000_000), Default("${REDIS_DB:-0}"), "The database's number.", "database = 1"),
        key(
            "cluster",
            Text,
            Default("${REDIS_CLUSTER:-}"),
            "Some servers of a Redis Cluster, as `host:port` with commas between them (port 6379 if it is not said): any of them that is there leads to the others. They win over `url` and `host`. `rediss://` before each is TLS, to all servers.",
            r#"cluster = "redis-1:6379,redis-2:6379""#,
        ),
        key(
            "sentinels",
            Text,
            Default("${REDIS_SENTINELS:-}"),
            "The Sentinels that know where Redis is, as `host:port` with commas between them (port 26379 if it is not said); they win over `url` and `host`. `rediss://` before each is TLS, to Redis as well.",
            r#"sentinels = "sentinel-1:26379,sentinel-2:26379""#,
        ),
        key(
            "sentinel_name",
            Name,
            Default("${REDIS_SENTINEL_NAME:-mymaster}"),
            "The name by which they know it.",
            r#"sentinel_name = "chat""#,
        ),
        key(
            "sentinel_password",
            Text,
            Default("${REDIS_SENTINEL_PASSWORD:-}"),
            "The Sentinels' own password, if they want one; that of Redis is `password`.",
            r#"sentinel_password = "${REDIS_SENTINEL_PASSWORD}""#,
        ),
        key(
            "key",
            Text,
            Default("${REDIS_ADAPTER_KEY:-socket.io}"),
            "What the names of the cluster's channels begin with: the `key` of Node's Redis adapter. Nodes with another one are another cluster; `none`: this node is in none.",
            r#"key = "chat""#,
        ),
        key(
            "mode",
            Choice(&["classic", "sharded"]),
            Default("${REDIS_ADAPTER_MODE:-classic}"),
            "How the members of the cluster speak; all of them alike. `classic`: every node hears every event, which is what `createAdapter` of Node's Redis adapter, `socket.io-redis` and emitters speak. `sharded`: a room's events go to the nodes that have a member of it, by a channel of its own; `createShardedAdapter`, Redis 7 or newer.",
            r#"mode = "sharded""#,
        ),
        key(
            "bus_outage",
            Choice(&["hold", "local"]),
            Default("${BUS_OUTAGE:-hold}"),
            "While the cluster's Redis is away and other nodes were there: `hold`: nothing is taken from RabbitMQ, and after 10 s what clients and the \
             server API say to others is refused (`try_again`); what was taken waits, and nothing is lost. `local`: after 10 s this node's members alone get it.",
            r#"bus_outage = "local""#,
        ),
    ],
};

pub(super) static PUBLISH: Table = Table {
    about: "Every message is confirmed by the broker.",
    keys: &[
        key("exchange", Name, May, "The exchange; the source's if it is not written.", r#"exchange = "clan_events""#),
        key(
            "confirm_timeout",
            Time,
            Default("5s"),
            "How long a confirm may take before the outcome is called unknown.",
            r#"confirm_timeout = "5s""#,
        ),
    ],
};

pub(super) static UPSTREAM: Table = Table {
    about: "As `[upstream.location]`. With `grpc` the service is asked what its methods and messages are (gRPC server reflection); where it does not say, the `.proto` files count, which are read at start. Messages are JSON to rules, by the mapping of protobuf: names of fields in camelCase, and taken in snake_case, too; whole numbers of 64 bits as texts. A number that stands where the service wants a text becomes one. With `http` messages and replies are JSON as they stand; 2xx is a reply (`null` where its body is empty), 4xx a refusal, whose words are the `message`, `error` or `detail` of its JSON, or its plain text; anything else is no answer. Redirects are not followed, and no call is made twice.",
    keys: &[
        key(
            "grpc",
            Text,
            May,
            "Its address for gRPC: `host:port`, `http://…` or, for TLS, `https://…`. Empty: it is not called, and its calls are skipped, with a warning at start. One of `grpc` and `http` is needed.",
            r#"grpc = "${LOCATION_SERVICE_URL:-}""#,
        ),
        key(
            "http",
            Text,
            May,
            "Its address for HTTP, before the paths of calls: `http://…` or `https://…`. Empty: as for `grpc`.",
            r#"http = "${TICKETS_URL:-}""#,
        ),
        key(
            "authorization",
            Text,
            May,
            "What every call says in its `authorization` (HTTP's header, gRPC's metadata); nothing if it is empty.",
            r#"authorization = "${TICKETS_AUTHORIZATION:-}""#,
        ),
        key(
            "proto",
            OneOrMany(&Text),
            May,
            "Its `.proto` files. They are looked for in `profiles/NAME/` of the working directory (NAME is the profile's), beside the profile's file, and among those that come with the gateway.",
            r#"proto = "location.proto""#,
        ),
        key(
            "timeout",
            Time,
            Default("2s"),
            "How long an answer may take. After five calls in a row without one, further calls fail at once for a second, for longer each time, up to four seconds.",
            r#"timeout = "2s""#,
        ),
    ],
};
