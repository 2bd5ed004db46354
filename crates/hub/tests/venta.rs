//! Venta's profile without its services: who may say what, and the variables by which its team sets it up.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

mod stage;

use std::time::Duration;

use hub::profile::{self, Access, Endpoint};
use stage::{Stage, with_claims};

const HERE: &str = r#"{"vendorId":"v1","location":{"lat":52.52,"long":13.405}}"#;

fn venta(variables: &[(&str, &str)]) -> Stage {
    Stage::builtin("venta", &[&[("JWT_SECRET", "a secret")], variables].concat())
}

/// What a client with these claims is told that says where `v1` is; no service is asked.
fn update(claims: &str, data: &str) -> Vec<String> {
    venta(&[]).of(with_claims("7", claims)).command("update_location", data, true, Vec::new())
}

#[test]
fn a_location_is_a_place_on_earth_and_of_the_client_s_own_vendor() {
    let vendor = r#"{"id":"v1","role":"vendor","vendorId":"v1"}"#;
    for (data, told) in [
        (HERE.replace("52.52", "90.01"), "failed bad_field: location.lat must be a number from -90 to 90"),
        (HERE.replace("13.405", "-180.5"), "failed bad_field: location.long must be a number from -180 to 180"),
        (HERE.replace("52.52", "null"), "failed bad_field: location.lat must be a number from -90 to 90"),
        (r#"{"vendorId":"v1"}"#.to_owned(), "failed bad_field: location is missing"),
        (HERE.replacen('{', r#"{"userId":"8","#, 1), "failed forbidden: userId is not the token's"),
    ] {
        let lines = update(vendor, &data);
        assert!(lines.len() == 1 && lines[0].starts_with(told), "{data}: {lines:?}");
    }
    for claims in [
        r#"{"id":"7","role":"guest","vendorId":"v1"}"#,
        r#"{"id":"7","role":"vendor","vendorId":"v2"}"#,
        r#"{"id":"7","role":"vendor"}"#,
        r#"{"id":"7","role":null,"vendorId":"v1"}"#,
    ] {
        assert_eq!(update(claims, HERE), ["failed forbidden: v1 is not your vendor"], "{claims}");
    }
}

#[test]
fn subscribing_is_for_the_token_s_own_user() {
    let mut stage = venta(&[]);
    let ask = |stage: &mut Stage, data: &str| stage.command("subscribe_vendor", data, true, Vec::new());
    let refused = ["failed forbidden: userId is not the token's"];
    assert_eq!(ask(&mut stage, r#"{"vendorId":"v1","userId":"43"}"#), refused);
    for data in [r#"{"vendorId":"v1","userId":42}"#, r#"{"vendorId":"v1"}"#, r#"{"vendorId":1,"userId":null}"#] {
        assert_eq!(ask(&mut stage, data), [r#"ack {"success":true}"#], "{data}");
    }
    let rooms: Vec<&str> = stage.rooms.iter().map(|room| room.as_str()).collect();
    assert_eq!(rooms, ["vendor:v1", "vendor:1"]);
    let plain = stage.command("subscribe_vendor", r#"{"vendorId":"v2"}"#, false, Vec::new());
    assert_eq!(plain, [r#"self subscribed {"vendorId":"v2"}"#]);
}

#[test]
fn its_variables_are_told_and_hold() {
    let variables = profile::variables(profile::builtin("venta").unwrap(), "venta.toml").unwrap();
    let names: Vec<&str> = variables.iter().flat_map(|variable| &variable.names).map(String::as_str).collect();
    for name in "NODE_ENV PORT WEBSOCKET_GATEWAY_PORT SERVICE_HOST DATABASE_URL REDIS_URL LOCATION_SERVICE_URL VENDOR_SERVICE_URL \
        WS_HEARTBEAT_INTERVAL WS_MAX_CONNECTIONS WS_RATE_LIMIT JWT_SECRET CORS_ORIGIN LOG_LEVEL API_KEY CONSOLE"
        .split_whitespace()
    {
        assert_eq!(names.iter().filter(|known| **known == name).count(), 1, "{name}");
    }
    let stage = venta(&[("WEBSOCKET_GATEWAY_PORT", "1"), ("WS_HEARTBEAT_INTERVAL", "1500"), ("WS_RATE_LIMIT", "7")]);
    let profile = stage.profile;
    assert_eq!((profile.service.port, profile.auth.access), (1, Access::Token));
    assert_eq!((profile.limits.connections, profile.limits.messages_per_minute), (Some(1_000), Some(7)));
    let beats: Vec<Duration> = profile
        .endpoints
        .iter()
        .filter_map(|endpoint| match endpoint {
            Endpoint::Json(json) => Some(json.heartbeat.every),
            Endpoint::SocketIo(socket_io) => socket_io.heartbeat.as_ref().map(|beat| beat.every),
        })
        .collect();
    assert_eq!(beats, [Duration::from_millis(1_500); 2]);
    let both = venta(&[("PORT", "2"), ("WEBSOCKET_GATEWAY_PORT", "1")]);
    assert_eq!(both.profile.service.port, 2);
    assert_eq!(Stage::builtin("venta", &[]).profile.auth.access, Access::Open);
}
