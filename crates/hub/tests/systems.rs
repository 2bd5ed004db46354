//! Marketplace and Clan as they come with the gateway, rule by rule: who is where, and what goes to whom. Their clients and brokers have tests of their own.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

mod stage;

use hub::codes::ErrorCode;
use hub::rules::Reply;
use stage::{Stage, with_claims};

const NOW: &str = "2026-11-20T21:44:00.000Z";

fn marketplace(variables: &[(&str, &str)], claims: &str) -> Stage {
    Stage::builtin("marketplace", &[&[("JWT_SECRET", "secret")], variables].concat()).of(with_claims("42", claims))
}

fn clan(claims: &str) -> Stage {
    Stage::builtin("clan", &[("JWT_SECRET", "secret")]).of(with_claims("42", claims))
}

#[test]
fn changes_of_entities_go_out_where_they_are_asked_for() {
    let rows = [
        ("product.updated", r#"{"productId":7,"timestamp":1}"#, "product:7 <- product:updated"),
        ("company.renamed", r#"{"companyId":"c","id":"x","timestamp":1}"#, "company:c <- company:renamed"),
        ("shop.opened", r#"{"id":"s","timestamp":1}"#, "shop:s <- shop:opened"),
        ("user.updated", r#"{"userId":"u","timestamp":1}"#, "user:u <- user:updated"),
    ];
    for (key, event, expected) in rows {
        let sent = marketplace(&[("ENTITY_EVENTS", "true")], "{}").route(key, event);
        assert_eq!(sent, [format!("{expected} {event}")], "{key}");
        let ignored = marketplace(&[], "{}").route(key, event);
        assert_eq!(ignored, [format!("ignored: no route takes the key `{key}`")]);
    }
}

#[test]
fn an_event_of_no_row_goes_by_the_most_specific_of_its_properties() {
    let stage = marketplace(&[], "{}");
    let first = |event: &str| stage.route("stock.changed", event)[0].split(" {").next().unwrap().to_owned();
    for (event, expected) in [
        (
            r#"{"transferId":1,"paymentId":2,"orderId":3,"productId":4,"quantity":5}"#,
            "transfer:1 <- transfer:status_update",
        ),
        (r#"{"transferId":null,"paymentId":2,"orderId":3,"productId":4}"#, "order:3 <- payment:update"),
        (r#"{"orderId":3,"productId":4,"quantity":5}"#, "order:3 <- order:update"),
        (r#"{"productId":4,"quantity":0}"#, "product:4 <- inventory:stock_changed"),
        (r#"{"productId":4}"#, "ignored: no route takes the key `stock.changed`"),
    ] {
        assert_eq!(first(event), expected, "{event}");
    }
    assert!(stage.profile.rules.errors().is_empty(), "no condition errs over what is not there");
}

#[test]
fn an_event_that_names_nobody_is_a_dead_letter() {
    let stage = marketplace(&[], "{}");
    for (key, event, expected) in [
        (
            "payment.success",
            r#"{"paymentId":1,"amount":9}"#,
            "poison: {event.customerId | event.userId | event.orderId} is missing",
        ),
        ("payment.success", r#"{"paymentId":1,"customerId":null,"orderId":null}"#, "poison: {event.customerId"),
        ("stock.changed", r#"{"paymentId":1}"#, "poison: {event.customerId"),
        ("payment.success", r#"{"userId":null,"orderId":7,"timestamp":1}"#, "order:7 <- payment:update"),
        ("payment.success", r#"{"customerId":[],"timestamp":1}"#, "poison: what it `needs` is empty"),
        (
            "inventory.low_stock",
            r#"{"productId":1,"quantity":2}"#,
            "poison: {event.companyId | event.shopId} is missing",
        ),
        ("inventory.low_stock", r#"{"productId":1,"quantity":2,"shopId":"s"}"#, "shop:s <- inventory:low_stock_alert"),
    ] {
        let sent = stage.route(key, event);
        assert!(sent.len() == 1 && sent[0].starts_with(expected), "{key} {event}: {sent:?}");
    }
}

#[test]
fn a_user_enters_what_its_claims_give_and_nothing_else_of_these_families() {
    let claims = r#"{"id":"42","role":["support","editor"],"companyId":7,"shopIds":"s1"}"#;
    for (room, expected) in [
        ("company:7", true),
        ("company:8", false),
        ("shop:s1", true),
        ("shop:s2", false),
        ("role:editor", true),
        ("role:super_admin", false),
        ("super_admin", false),
        ("user:43", false),
        ("product:1", true),
        ("transfer:1", true),
        ("any", true),
    ] {
        let mut stage = marketplace(&[], claims);
        let answer = stage.command("join_room", &format!("{room:?}"), true, vec![]);
        assert_eq!(answer[0].starts_with("ack"), expected, "{room}: {answer:?}");
        assert!(stage.profile.rules.errors().is_empty(), "{room}");
        let mut nobody = marketplace(&[], r#"{"id":"42","role":null}"#);
        let answer = nobody.command("join_room", &format!("{room:?}"), true, vec![]);
        let is_open = matches!(room, "product:1" | "transfer:1" | "any");
        assert_eq!(answer[0].starts_with("ack"), is_open, "{room} without claims: {answer:?}");
        assert!(nobody.profile.rules.errors().is_empty(), "{room} without claims");
    }
}

#[test]
fn a_line_of_chat_is_told_after_it_is_published() {
    let line = format!(
        r#"{{"messageId":"fresh","userId":"42","content":"hi","clanId":"a","messageType":"TEXT","timestamp":"{NOW}"}}"#
    );
    let published = format!("publish - gateway.chat.sent fresh {line}");
    let sent = [r#"self message_sent {"messageId":"fresh"}"#.to_owned(), format!("clan:a but self <- chat {line}")];
    let failed = |code, message: &str| Reply::Failed { code, message: message.to_owned() };
    for (reply, expected) in [
        (Reply::Published, sent.to_vec()),
        (Reply::NotConfigured, sent.to_vec()),
        (failed(ErrorCode::TryAgain, "away"), vec!["failed try_again: away".to_owned()]),
        (failed(ErrorCode::Unknown, "late"), vec!["failed unknown: late (fresh)".to_owned()]),
    ] {
        let lines =
            clan("{}").inside(&["clan:a"]).command("chat", r#"{"content":"hi","clanId":"a"}"#, false, vec![reply]);
        assert_eq!(lines, [vec![published.clone()], expected].concat());
    }
    assert_eq!(
        clan("{}").command("chat", r#"{"content":"hi","clanId":"a"}"#, false, vec![]),
        ["failed not_a_member: you are not subscribed to the chat of clan a"]
    );
}

#[test]
fn what_services_say_goes_to_the_clan_once() {
    let stage = clan("{}");
    assert_eq!(
        stage.route("clan.message", r#"{"messageId":"m","clanId":7,"content":"hi"}"#),
        ["once m", r#"clan:7 <- chat {"messageId":"m","clanId":7,"content":"hi"}"#]
    );
    assert_eq!(
        stage.route("notification.a.b", r#"{"userId":42,"type":"x"}"#),
        [r#"notifications:42 <- notification {"userId":42,"type":"x"}"#]
    );
    assert_eq!(stage.route("clan.joined", r#"{"clanId":7}"#), ["ignored: not for clients"]);
    assert_eq!(stage.route("notification.a", "{}"), ["ignored: no route takes the key `notification.a`"]);
}
