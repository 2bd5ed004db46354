//! The second stage of reading a profile, for its settings: what was written becomes what it means, and what cannot be meant together is told.
//! The rules have their own second stage beside their evaluator.

use super::problem::{Findings, Span, did_you_mean};
use super::section::{Entry, Section, Written};
use super::settings::*;

use crate::codes::{CloseCode, ErrorCode, may_close_with};
use crate::names::{EventName, NamespaceId};

/// Every setting of a profile.
pub(crate) struct Settings {
    pub(crate) service: Service,
    pub(crate) auth: Auth,
    /// Whether a key for tokens must be set.
    pub(crate) key_needed: bool,
    pub(crate) user: UserLimits,
    pub(crate) cors: Cors,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) rabbitmq: Option<Rabbitmq>,
    pub(crate) redis_channels: Option<RedisChannels>,
    pub(crate) redis: Option<RedisAddress>,
    pub(crate) redis_key: Option<String>,
    pub(crate) redis_mode: RedisMode,
    pub(crate) bus_outage: BusOutage,
    pub(crate) publishing: Publishing,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) limits: Limits,
    pub(crate) drain: Drain,
    pub(crate) log: Log,
    pub(crate) api_key: Option<Secret>,
    /// The names of all namespaces, by their ids.
    pub(crate) namespaces: Vec<Box<str>>,
}

impl Settings {
    /// Reads the settings of a profile's root table.
    pub(crate) fn of(root: &Section, findings: &mut Findings<'_>) -> Self {
        let nothing = Section::default();
        let section = |name| root.section(name).unwrap_or(&nothing);
        let mut namespaces = Vec::new();
        let endpoints: Vec<Endpoint> =
            root.sections("endpoint").filter_map(|written| endpoint(written, &mut namespaces, findings)).collect();
        if endpoints.len() == root.list("endpoint").len() {
            check_paths(&endpoints, root, findings);
        }
        if root.find("endpoint").is_some() && namespaces.is_empty() {
            findings.problem(&root.place("endpoint"), "no endpoint can be used");
        }
        if namespaces.is_empty() {
            namespaces.push(Box::from("/"));
        }
        let publish = section("publish");
        let drain = section("drain");
        let auth = auth(section("auth"), findings);
        Self {
            service: service(section("service"), findings),
            key_needed: section("auth").text("token") == Some("required") && auth.access == Access::Token,
            auth,
            user: user(section("user"), findings),
            cors: cors(section("cors"), findings),
            endpoints,
            rabbitmq: section("source").section("rabbitmq").map(rabbitmq),
            redis_channels: section("source")
                .section("redis")
                .map(|written| RedisChannels { channels: written.texts("channels") }),
            redis: redis(section("redis")),
            redis_key: section("redis").text("key").filter(|key| *key != "none").map(str::to_owned),
            redis_mode: match section("redis").text("mode") {
                Some("sharded") => RedisMode::Sharded,
                _ => RedisMode::Classic,
            },
            bus_outage: match section("redis").text("bus_outage") {
                Some("local") => BusOutage::Local,
                _ => BusOutage::Hold,
            },
            publishing: Publishing {
                exchange: publish.text("exchange").map(str::to_owned),
                confirm_timeout: publish.time("confirm_timeout"),
            },
            upstreams: root.named("upstream").iter().filter_map(|entry| upstream(entry, findings)).collect(),
            limits: limits(section("limits")),
            drain: Drain { delay: drain.time("delay"), timeout: drain.time("timeout") },
            log: log(section("log")),
            api_key: section("api").text("key").map(Secret::new),
            namespaces,
        }
    }
}

/// A count of which 0 means any number.
fn limit(section: &Section, name: &str) -> Option<u32> {
    section.count(name).filter(|count| *count > 0)
}

fn user(written: &Section, findings: &mut Findings<'_>) -> UserLimits {
    let nothing = Section::default();
    let surplus = written.section("surplus").unwrap_or(&nothing);
    UserLimits {
        connections: limit(written, "connections"),
        surplus: Surplus {
            close_code: close_code(surplus, CloseCode::Replaced, findings),
            error: error_code(surplus, "error", findings).unwrap_or(ErrorCode::Replaced),
        },
    }
}

/// The close code at the key `code`.
fn close_code(section: &Section, default: CloseCode, findings: &mut Findings<'_>) -> u16 {
    let number = section.count("code").unwrap_or(default.number());
    if !may_close_with(number) {
        let what = format!("{number} is no code that a WebSocket may be closed with");
        let instead = "take one from 4000 to 4999, which are for applications".to_owned();
        findings.problem_with(&section.place("code"), what, Some(instead));
    }
    number
}

/// The error code that a key names; nothing where it is not written, or names none.
pub(crate) fn error_code(section: &Section, key: &str, findings: &mut Findings<'_>) -> Option<ErrorCode> {
    let word = section.text(key)?;
    let code = ErrorCode::named(word);
    if code.is_none() {
        let known = ErrorCode::ALL.iter().map(|code| code.as_str());
        let suggestion = did_you_mean(word, known).or_else(|| Some("see the reference of codes".to_owned()));
        findings.problem_with(&section.place(key), format!("there is no error code `{word}`"), suggestion);
    }
    code
}

fn service(written: &Section, findings: &mut Findings<'_>) -> Service {
    let tls = match (written.text("tls_certificate"), written.text("tls_key")) {
        (Some(chain), Some(key)) => Some(Certificate { chain: chain.to_owned(), key: key.to_owned() }),
        (None, None) => None,
        (Some(_), None) => {
            findings.problem(&written.place("tls_certificate"), "a certificate needs its key (TLS_KEY_FILE)");
            None
        }
        (None, Some(_)) => {
            findings.problem(&written.place("tls_key"), "a key needs its certificate (TLS_CERT_FILE)");
            None
        }
    };
    Service {
        name: written.text_or_empty("name"),
        version: written.text("version").map(str::to_owned),
        healthy: written.text_or_empty("healthy").to_owned(),
        host: written.text_or_empty("host"),
        port: written.count("port").unwrap_or_default(),
        page: written.text("page").map(|_| Page::Chat),
        console: written.switch("console"),
        ops_port: written.count("ops_port"),
        grpc_port: written.count("grpc_port"),
        cluster_host: written.address("cluster_host"),
        cluster_port: written.count("cluster_port").unwrap_or_default(),
        tls,
        trusted_proxies: written.texts("trusted_proxies"),
        unused_variables: written.texts("unused_variables"),
    }
}

fn auth(written: &Section, findings: &mut Findings<'_>) -> Auth {
    let nothing = Section::default();
    let anonymous = written.section("anonymous").unwrap_or(&nothing);
    let has_key = ["secret", "public_key", "jwks_url"].iter().any(|name| written.text(name).is_some());
    let token = written.text("token").unwrap_or("required");
    let access = match token {
        "ignored" => Access::Open,
        "with_key" if !has_key => {
            findings.warning(
                &written.place("token"),
                "access is open, since no key for tokens is set (JWT_SECRET, JWT_PUBLIC_KEY or JWKS_URL)",
            );
            Access::Open
        }
        _ if written.switch("allow_anonymous") => {
            findings.warning(&written.place("allow_anonymous"), "clients without a token are let in as nobody");
            Access::TokenOrAnonymous
        }
        "required" if !has_key => {
            findings.missing_variable(
                &written.place("token"),
                "the variable JWT_SECRET is not set, nor JWT_PUBLIC_KEY or JWKS_URL, and `auth` needs a key to check tokens".to_owned(),
            );
            Access::Token
        }
        _ => Access::Token,
    };
    Auth {
        access,
        anonymous_query: anonymous.text("query").map(str::to_owned),
        guest_prefix: anonymous.text("guest").map(str::to_owned),
        secret: written.text("secret").map(Secret::new),
        public_key: written.text("public_key").map(str::to_owned),
        jwks_url: written.text("jwks_url").map(str::to_owned),
        algorithms: written.texts("algorithms"),
        leeway: written.time("leeway"),
        warn_before: written.time("warn_before"),
        user_claims: written.texts("user_claims"),
        token_life: written.time("token_life"),
    }
}

fn cors(written: &Section, findings: &mut Findings<'_>) -> Cors {
    let origins = origins(written, findings);
    let listed = matches!(origins, Origins::Listed(_));
    let credentials = if written.find("credentials").is_some() { written.switch("credentials") } else { listed };
    Cors { origins, credentials }
}

fn origins(written: &Section, findings: &mut Findings<'_>) -> Origins {
    let mut listed = Vec::new();
    for origin in written.texts("origins") {
        match origin.as_str() {
            "*" => return Origins::Any,
            "own" => return Origins::Own,
            _ => {}
        }
        // Browsers send an origin without a slash at its end; people copy addresses with one.
        let origin = origin.trim_end_matches('/').to_ascii_lowercase();
        if origin != "null" && !origin.contains("://") {
            findings.problem_with(
                &written.place("origins"),
                format!("`{origin}` is no origin"),
                Some(format!("did you mean `https://{origin}`?")),
            );
        }
        listed.push(origin);
    }
    if listed.is_empty() { Origins::Any } else { Origins::Listed(listed) }
}

fn endpoint(written: &Section, namespaces: &mut Vec<Box<str>>, findings: &mut Findings<'_>) -> Option<Endpoint> {
    let socket_io = written.text("protocol")? == "socket.io";
    let foreign: &[&str] = if socket_io {
        &["paths", "envelope"]
    } else {
        &[
            "namespaces",
            "transports",
            "ping_interval",
            "ping_timeout",
            "connect_timeout",
            "upgrade_timeout",
            "allow_eio3",
            "trailing_slash",
            "cookie",
            "compress_polls",
            "compress_polls_from",
            "client_files",
        ]
    };
    // Keys that hold a default stand where the table begins: only those that were written are told of.
    for entry in
        written.entries.iter().filter(|entry| foreign.contains(&entry.name.as_str()) && !entry.name_span.is_empty())
    {
        let other = if socket_io { "json" } else { "socket.io" };
        findings.problem(&entry.name_span, format!("`endpoint.{}` is for the protocol `{other}` alone", entry.name));
    }
    let nothing = Section::default();
    let heartbeat = written.section("heartbeat").unwrap_or(&nothing);
    check_heartbeat(heartbeat, socket_io, written, findings);
    if socket_io {
        let mut names = written.texts("namespaces");
        if names.is_empty() {
            names.push("/".to_owned());
        }
        let namespaces = names.iter().map(|name| namespace_id(name, namespaces)).collect();
        for name in names.iter().filter(|name| !name.starts_with('/')) {
            findings.problem_with(
                &written.place("namespaces"),
                format!("the namespace `{name}` does not begin with `/`"),
                Some(format!("did you mean `/{name}`?")),
            );
        }
        let transports = written.texts("transports");
        let offered = |name: &str| transports.is_empty() || transports.iter().any(|transport| transport == name);
        Some(Endpoint::SocketIo(SocketIoEndpoint {
            path: path(written, "/socket.io", findings),
            namespaces,
            ping_interval: written.time("ping_interval"),
            ping_timeout: written.time("ping_timeout"),
            connect_timeout: written.time("connect_timeout"),
            upgrade_timeout: written.time("upgrade_timeout"),
            polling: offered("polling"),
            websocket: offered("websocket"),
            deflate: written.switch("deflate"),
            allow_eio3: written.switch("allow_eio3"),
            trailing_slash: written.switch("trailing_slash"),
            cookie: written.section("cookie").map(|cookie| self::cookie(cookie, findings)),
            compress_polls_from: written.switch("compress_polls").then(|| written.size("compress_polls_from")),
            client_files: written.text("client_files").map(str::to_owned),
            heartbeat: heartbeat
                .text("event")
                .and_then(|event| EventName::parse(event).ok())
                .map(|event| Beat { every: heartbeat.time("every"), event }),
        }))
    } else {
        let mut paths = Vec::new();
        for entry in written.named("paths") {
            if !entry.name.starts_with('/') {
                findings.problem(&entry.name_span, format!("the path `{}` does not begin with `/`", entry.name));
            }
            paths.push((entry.name.clone(), namespace_id(entry.written.text().unwrap_or("/"), namespaces)));
        }
        if paths.is_empty() {
            paths.push((path(written, "/ws", findings), namespace_id("/", namespaces)));
        } else if written.find("path").is_some() {
            findings.problem(&written.place("path"), "`path` and `paths` say the same thing twice");
        }
        Some(Endpoint::Json(JsonEndpoint {
            paths,
            deflate: written.switch("deflate"),
            envelope: if written.text("envelope") == Some("data") { Envelope::Data } else { Envelope::Flat },
            heartbeat: Heartbeat {
                every: heartbeat.time("every"),
                silent: heartbeat.count("silent").unwrap_or(2),
                close_code: close_code(heartbeat, CloseCode::Silent, findings),
                send: heartbeat.find("send").map(plain_json),
            },
        }))
    }
}

/// Every path leads to one endpoint.
fn check_paths(endpoints: &[Endpoint], root: &Section, findings: &mut Findings<'_>) {
    let mut taken: Vec<&str> = Vec::new();
    for (endpoint, written) in endpoints.iter().zip(root.sections("endpoint")) {
        let paths: Vec<&str> = match endpoint {
            Endpoint::SocketIo(endpoint) => vec![&endpoint.path],
            Endpoint::Json(endpoint) => endpoint.paths.iter().map(|(path, _)| path.as_str()).collect(),
        };
        for path in paths {
            if taken.contains(&path) {
                let key = if written.find("paths").is_some() { "paths" } else { "path" };
                findings.problem_with(
                    &written.place(key),
                    format!("another endpoint has the path `{path}` already"),
                    Some("give this one a `path` of its own".to_owned()),
                );
            }
            taken.push(path);
        }
    }
}

/// Each protocol has its own form of a heartbeat.
fn check_heartbeat(heartbeat: &Section, socket_io: bool, endpoint: &Section, findings: &mut Findings<'_>) {
    let (foreign, other): (&[&str], _) =
        if socket_io { (&["silent", "code", "send"], "json") } else { (&["event"], "socket.io") };
    for entry in
        heartbeat.entries.iter().filter(|entry| foreign.contains(&entry.name.as_str()) && !entry.name_span.is_empty())
    {
        let what = format!("`endpoint.heartbeat.{}` is for the protocol `{other}` alone", entry.name);
        findings.problem(&entry.name_span, what);
    }
    let is_written = endpoint.entries.iter().any(|entry| entry.name == "heartbeat" && !entry.name_span.is_empty());
    if socket_io && is_written && heartbeat.text("event").is_none() {
        findings.problem(&heartbeat.span, "`endpoint.heartbeat` needs an `event` where the protocol is `socket.io`");
    }
    if is_written && heartbeat.time("every").is_zero() {
        findings.problem(&heartbeat.place("every"), "`endpoint.heartbeat.every` must be more than nothing");
    }
}

fn cookie(written: &Section, findings: &mut Findings<'_>) -> Cookie {
    // RFC 6265, section 4.1.1: what would end the name or the attribute has no place in it.
    for key in ["name", "path"] {
        let text = written.text(key).unwrap_or_default();
        let fits = |byte: u8| {
            byte.is_ascii_graphic() && byte != b';' && (key == "path" || !b"=,\"\\()<>@:/[]?{}".contains(&byte))
        };
        if !text.bytes().all(fits) {
            findings.problem(&written.place(key), format!("`{text}` cannot be the {key} of a cookie"));
        }
    }
    Cookie {
        name: written.text_or_empty("name"),
        path: written.text_or_empty("path"),
        http_only: written.switch("http_only"),
        secure: written.switch("secure"),
        same_site: match written.text("same_site") {
            Some("strict") => SameSite::Strict,
            Some("none") => SameSite::None,
            Some(_) | None => SameSite::Lax,
        },
    }
}

fn path(written: &Section, default: &str, findings: &mut Findings<'_>) -> String {
    let path = written.text("path").unwrap_or(default).trim_end_matches('/');
    if !path.starts_with('/') {
        findings.problem_with(
            &written.place("path"),
            format!("the path `{path}` does not begin with `/`"),
            Some(format!("did you mean `/{path}`?")),
        );
    }
    path.to_owned()
}

fn namespace_id(name: &str, namespaces: &mut Vec<Box<str>>) -> NamespaceId {
    let index = namespaces.iter().position(|known| **known == *name).unwrap_or_else(|| {
        namespaces.push(Box::from(name));
        namespaces.len() - 1
    });
    NamespaceId(u32::try_from(index).expect("a file of text does not name four billion namespaces within its size"))
}

/// The namespaces that a rule names; all that are known where it names none.
pub(crate) fn namespaces_of(
    written: &Section,
    known: &[Box<str>],
    findings: &mut Findings<'_>,
) -> Option<Vec<NamespaceId>> {
    written.find("namespace")?;
    let mut ids = Vec::new();
    for item in written.list("namespace") {
        let Some(name) = item.text() else { continue };
        match known.iter().position(|own| **own == *name) {
            Some(index) => ids.extend(u32::try_from(index).map(NamespaceId)),
            None => {
                let suggestion = did_you_mean(name, known.iter().map(|own| &**own));
                findings.problem_with(&item.span, format!("no endpoint has the namespace `{name}`"), suggestion);
            }
        }
    }
    Some(ids)
}

/// A value without templates as JSON.
fn plain_json(written: &Written) -> String {
    crate::rules::raw_json(written)
}

fn rabbitmq(written: &Section) -> Rabbitmq {
    let part = |name: &str, default: &str| written.text(name).unwrap_or(default).to_owned();
    let any_part = ["host", "user", "password", "vhost"].iter().any(|name| written.text(name).is_some())
        || written.count::<u16>("port").is_some();
    let address = match written.text("url") {
        Some(url) => Some(RabbitmqAddress::Url(Secret::new(url))),
        None if any_part => Some(RabbitmqAddress::Parts {
            host: part("host", "localhost"),
            port: written.count("port").unwrap_or(5672),
            user: part("user", "guest"),
            password: Secret::new(part("password", "guest")),
            vhost: part("vhost", "/"),
        }),
        None => None,
    };
    Rabbitmq {
        address,
        exchange: written.text_or_empty("exchange"),
        exchange_type: written.text_or_empty("type"),
        durable: written.switch("durable"),
        prefetch: written.count("prefetch").unwrap_or(1),
        consumers: if written.text("consumers") == Some("one") { Consumers::One } else { Consumers::All },
        dead_letter: written.text_or_empty("dead_letter"),
        dead_letter_max: written.count("dead_letter_max").unwrap_or_default(),
        queues: written
            .sections("queue")
            .map(|queue| Queue {
                name: queue.text_or_empty("name"),
                bindings: queue.texts("bind"),
                durable: queue.switch("durable"),
            })
            .collect(),
    }
}

fn redis(written: &Section) -> Option<RedisAddress> {
    let addresses = |key: &str| -> Vec<String> {
        let addresses = written.text(key).unwrap_or_default().split(',').map(str::trim);
        addresses.filter(|address| !address.is_empty()).map(str::to_owned).collect()
    };
    let (sentinels, servers) = (addresses("sentinels"), addresses("cluster"));
    if !sentinels.is_empty() {
        return Some(RedisAddress::Sentinels {
            sentinels,
            name: written.text_or_empty("sentinel_name"),
            sentinel_password: written.text("sentinel_password").map(Secret::new),
            password: written.text("password").map(Secret::new),
            database: written.count("database").unwrap_or_default(),
        });
    }
    if !servers.is_empty() {
        return Some(RedisAddress::Cluster { servers, password: written.text("password").map(Secret::new) });
    }
    if let Some(url) = written.text("url") {
        return Some(RedisAddress::Url(Secret::new(url)));
    }
    Some(RedisAddress::Parts {
        host: written.text("host")?.to_owned(),
        port: written.count("port").unwrap_or(6379),
        password: written.text("password").map(Secret::new),
        database: written.count("database").unwrap_or_default(),
    })
}

fn upstream(entry: &Entry, findings: &mut Findings<'_>) -> Option<Upstream> {
    let written = entry.written.section()?;
    if entry.name.is_empty() || entry.name.contains(['.', '/']) {
        let what = format!("`{}` is no name for an upstream: it stands before a `.` in `call`", entry.name);
        findings.problem(&entry.name_span, what);
    }
    let (key, protocol) = match (written.find("grpc"), written.find("http")) {
        (Some(_), None) => ("grpc", UpstreamProtocol::Grpc { proto: written.texts("proto") }),
        (None, Some(_)) => ("http", UpstreamProtocol::Http),
        (Some(_), Some(http)) => {
            let what =
                format!("the upstream `{}` is called by gRPC or by HTTP: keep one of `grpc` and `http`", entry.name);
            findings.problem(&http.span, what);
            return None;
        }
        (None, None) => {
            let what = format!("the upstream `{}` needs its address: `grpc` or `http`", entry.name);
            findings.problem_with(&entry.name_span, what, Some("for example http = \"${TICKETS_URL:-}\"".to_owned()));
            return None;
        }
    };
    let address = written.text(key).map(str::to_owned);
    match &address {
        Some(address) if key == "http" => check_http_address(address, &written.place(key), findings),
        Some(_) => {}
        None => findings.warning(
            &written.place(key),
            format!("no address is set for the upstream `{}`: calls of it are skipped", entry.name),
        ),
    }
    if let (UpstreamProtocol::Http, Some(proto)) = (&protocol, written.find("proto")) {
        findings.problem(&proto.span, "`proto` says what a service of gRPC is: one of HTTP takes and gives JSON");
    }
    let authorization = written.text("authorization");
    if authorization.is_some_and(|value| !value.bytes().all(|byte| matches!(byte, b' '..=b'~'))) {
        // What it is stays out of the message: it is a secret.
        let what = "`authorization` cannot be the value of a header: it holds more than printable ASCII";
        findings.problem(&written.place("authorization"), what);
    }
    let authorization = authorization.map(Secret::new);
    Some(Upstream { name: entry.name.clone(), protocol, address, authorization, timeout: written.time("timeout") })
}

/// Paths are put behind the address of a service, so that it ends where they begin.
fn check_http_address(address: &str, place: &Span, findings: &mut Findings<'_>) {
    let host = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    match host {
        None => findings.problem_with(
            place,
            format!("the address `{address}` does not begin with `http://` or `https://`"),
            (!address.contains("://")).then(|| format!("did you mean `http://{address}`?")),
        ),
        Some(host) if host.is_empty() || host.starts_with('/') => {
            findings.problem(place, format!("the address `{address}` names no host"));
        }
        Some(_) if address.contains(['?', '#']) => {
            findings.problem(
                place,
                format!(
                    "the address `{address}` goes on where the paths of calls begin: leave out what follows `?` or `#`"
                ),
            );
        }
        Some(_) => {}
    }
}

fn limits(written: &Section) -> Limits {
    Limits {
        connections: limit(written, "connections"),
        messages_per_minute: limit(written, "messages_per_minute"),
        message_bytes: written.size("message"),
        event_bytes: written.size("event"),
        kept_bytes: written.size("kept"),
        send_queue_bytes: written.size("send_queue"),
        rooms_per_connection: written.count("rooms_per_connection").unwrap_or_default(),
        commands_waiting: written.count("commands_waiting").unwrap_or_default(),
        deflate_threshold_bytes: written.size("deflate_threshold"),
        timeouts: Timeouts {
            head: written.time("head_timeout"),
            body: written.time("body_timeout"),
            keep_alive: written.time("keep_alive"),
            message: written.time("message_timeout"),
            write: written.time("write_timeout"),
            close: written.time("close_timeout"),
        },
    }
}

fn log(written: &Section) -> Log {
    Log {
        level: match written.text("level").unwrap_or("info") {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "http" | "verbose" | "debug" => LogLevel::Debug,
            "silly" | "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        dir: written.text("dir").map(str::to_owned),
        format: if written.text("format") == Some("json") { LogFormat::Json } else { LogFormat::Text },
        file_bytes: written.size("file_size"),
        files: written.count("files").unwrap_or_default(),
    }
}
