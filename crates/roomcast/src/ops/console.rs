//! The console at `/console`: a page to connect as a client, send commands and watch what comes, and what it must know of the gateway.
//! Static files and the profile's public description; the page gets at anything else with a client's token or the key of the server API alone.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, uri::Authority};
use serde_json::json;

use super::documents::{json_text, nothing_here};
use super::{Ops, Port};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const PAGE: &str = include_str!("../pages/console/console.html");

/// The page's own files, by their names below `/console/`.
const FILES: [(&str, &str, &str); 8] = [
    ("console.css", CSS, include_str!("../pages/console/console.css")),
    ("console.js", SCRIPT, include_str!("../pages/console/console.js")),
    ("dialects.js", SCRIPT, include_str!("../pages/console/dialects.js")),
    ("connection.js", SCRIPT, include_str!("../pages/console/connection.js")),
    ("forms.js", SCRIPT, include_str!("../pages/console/forms.js")),
    ("stream.js", SCRIPT, include_str!("../pages/console/stream.js")),
    ("charts.js", SCRIPT, include_str!("../pages/console/charts.js")),
    ("gateway.js", SCRIPT, include_str!("../pages/console/gateway.js")),
];

/// The console on a port of this kind.
pub(super) fn router(port: Port) -> Router<Ops> {
    Router::new()
        .route("/console", get(page))
        // Relative, since a proxy may serve the gateway below a path of its own.
        .route("/console/", get(async || Redirect::permanent("../console")))
        .route("/console/profile.json", get(async move |State(ops): State<Ops>| description(&ops, port)))
        .route("/console/{file}", get(file))
}

async fn page(State(ops): State<Ops>, headers: HeaderMap) -> Response {
    let service = &ops.gateway.profile.service;
    let policy = policy(headers.get(HOST), service.ops_port.map(|_| service.port));
    let mut response = answer(HTML, PAGE);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    response
}

async fn file(Path(name): Path<String>, request: Request) -> Response {
    match FILES.iter().find(|(own, _, _)| *own == name) {
        Some((_, kind, text)) => answer(kind, text),
        None => nothing_here(request.method(), request.uri()),
    }
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        // Asked for again each time: a gateway of another version has another page.
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}

/// What the page needs to know: the profile as its clients may know it, and what this port has.
fn description(ops: &Ops, port: Port) -> Response {
    let profile = &ops.gateway.profile;
    let service = &profile.service;
    let mut description = profile.public_description();
    description["version"] = env!("CARGO_PKG_VERSION").into();
    // Where clients connect, if it is not where this page came from.
    description["clients"] = match port {
        Port::Operators => json!({ "port": service.port, "tls": service.tls.is_some() }),
        Port::Only | Port::Clients | Port::Grpc => json!(null),
    };
    description["api"] = json!({ "here": port != Port::Clients, "open": profile.api_key.is_some() });
    json_text(description.to_string())
}

/// The page's own files and the gateway itself, and nothing from elsewhere. Not every browser takes `'self'` for WebSockets, and clients may
/// have a port of their own: so the host is named where the request names one.
fn policy(host: Option<&HeaderValue>, clients_port: Option<u16>) -> HeaderValue {
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = authority.filter(|authority| !authority.as_str().contains(['@', ';', ',', '*', '\'', '$', '&']));
    let mut gateway = String::new();
    if let Some(authority) = authority {
        gateway = format!(" ws://{authority} wss://{authority}");
        if let Some(port) = clients_port {
            let host = authority.host();
            gateway.push_str(&format!(" ws://{host}:{port} wss://{host}:{port}"));
        }
    }
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{gateway}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("an authority is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, clients_port: Option<u16>, expected: &str) {
        let host = host.map(|host| HeaderValue::from_str(host).expect("a header"));
        let policy = policy(host.as_ref(), clients_port);
        let policy = policy.to_str().expect("ASCII");
        let connect = policy.split("; ").find_map(|rule| rule.strip_prefix("connect-src ")).expect("a rule");
        assert_eq!(connect, expected);
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
    }

    #[test]
    fn the_page_may_connect_to_the_gateway_alone() {
        check(None, None, "'self'");
        check(Some("gateway:3000"), None, "'self' ws://gateway:3000 wss://gateway:3000");
        check(
            Some("[::1]:9100"),
            Some(3000),
            "'self' ws://[::1]:9100 wss://[::1]:9100 ws://[::1]:3000 wss://[::1]:3000",
        );
    }

    #[test]
    fn no_host_writes_a_rule_of_its_own() {
        for host in ["a; script-src *", "a b", "*", "a'", "user@evil", "a,b", ""] {
            check(Some(host), None, "'self'");
        }
    }
}
