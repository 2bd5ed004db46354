//! When conditions hold, what is told of wrong ones, and their bounds.

use super::*;
use crate::rules::json::Document;
use crate::rules::scope::Branch;

const EVENT: &str = r#"{"userId":42,"ids":["41","42"],"role":"vendor","quantity":0,"none":null,"deep":{"x":[1,2,3]}}"#;

fn vocabulary() -> Vocabulary {
    Vocabulary::everywhere().with("event", Branch::Open).with("key", Branch::Value).with("id", Branch::Value)
}

fn holds(text: &str, event: &str) -> Result<bool, String> {
    let event = Document::parse(event.as_bytes()).expect("an event");
    let scope = Scope { event: Some(&event), key: "order.created", texts: &[("id", "42")], ..Scope::default() };
    Condition::parse(text, &vocabulary()).expect("a condition").holds(&Conditions::new(), &scope)
}

#[test]
fn conditions_hold_or_not() {
    for (text, expected) in [
        ("true", Some(true)),
        ("false", Some(false)),
        ("has(event.userId)", Some(true)),
        ("has(event.userld)", Some(false)),
        ("has(event.quantity) && event.quantity == 0", Some(true)),
        ("event.role == 'vendor' || event.gone == 1", Some(true)),
        ("event.gone == 1", None),
        ("event.userId", None),
        ("event.userId == '42'", Some(true)),
        ("event.userId != '42'", Some(false)),
        ("event.userId in event.ids", Some(true)),
        ("id == event.userId", Some(true)),
        ("id in ['7']", Some(false)),
        ("id in event.userId", Some(true)),
        ("id in event.role", Some(false)),
        ("id in event.none", Some(false)),
        ("id in event.gone", None),
        ("id in true", None),
        ("event.deep.x.exists(n, n > 2)", Some(true)),
        ("key.startsWith('order.')", Some(true)),
        ("event.role.matches('^v.*r$')", Some(true)),
        ("event.none == null", Some(true)),
        ("size(event) == 6", Some(true)),
    ] {
        assert_eq!(holds(text, EVENT).ok(), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_when_the_profile_is_read() {
    for (text, expected) in [
        ("evnt.userId == 1", "nothing is called `evnt` here; there is `now`, `new`, `event`, `key`, `id`"),
        ("key.x == 1", "`key` has no `x`; nothing stands below `key`"),
        ("event.a.exists(x, event.b.exists(y, x == y))", "a loop inside a loop could take any time"),
        ("event.a.matches(event.b)", "`matches` needs a pattern in quotes: one from outside could take any time"),
    ] {
        assert_eq!(Condition::parse(text, &vocabulary()).unwrap_err().what, expected, "{text}");
    }
    let pattern = Condition::parse("event.a.matches('[a-')", &vocabulary()).unwrap_err().what;
    assert_eq!(pattern, "the pattern of `matches` makes no sense: unclosed character class");
    for (text, expected) in [
        ("event.a = 1", Some("`==` compares")),
        ("event.a === 1", Some("`==` compares")),
        ("event.a == 1 and event.b == '='", Some("`&&` is and")),
        ("event.a or event.b", Some("`||` is or")),
        ("not event.a", Some("`!` is not")),
        ("event.a == 'not' 1", None),
    ] {
        assert_eq!(Condition::parse(text, &vocabulary()).unwrap_err().suggestion.as_deref(), expected, "{text}");
    }
    for function in ["event.a.includes(id)", "len(event.a) > 1"] {
        let what = Condition::parse(function, &vocabulary()).unwrap_err().what;
        assert!(what.starts_with("there is no function `"), "{what}");
    }
    assert!(Condition::parse("event.a.matches('(\\\\w{1000}){1000}')", &vocabulary()).is_err(), "too large");
    assert!(Condition::parse("event.a ==", &vocabulary()).unwrap_err().what.starts_with("is no condition: "));
    assert!(Condition::parse(&"(".repeat(4_000), &vocabulary()).is_err());
}

#[test]
fn conditions_are_bounded() {
    let many = format!(r#"{{"a":[{}]}}"#, vec!["1"; 2_000].join(","));
    assert!(holds("event.a.all(x, x in event.a)", &many).unwrap_err().contains("more than 1000 values"));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(TEXT_MAX_BYTES + 1));
    assert!(holds("event.a == ''", &long).unwrap_err().contains("bytes of text"));
    assert_eq!(holds("has(event.b)", &many), Ok(false), "what is not named is not converted");
}

#[test]
fn the_claims_that_are_read_are_known() {
    let vocabulary = Vocabulary::of_socket();
    for (text, expected) in [
        ("true", Some(vec![])),
        ("!has(user.clanIds) || user.role == 'x'", Some(vec!["clanIds", "role"])),
        ("size(user) > 2", None),
    ] {
        let condition = Condition::parse(text, &vocabulary).expect("a condition");
        let claims = condition.claims().map(|claims| claims.iter().map(|claim| &**claim).collect::<Vec<_>>());
        assert_eq!(claims, expected, "{text}");
    }
}

#[test]
fn conditions_may_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Conditions>();
    shared::<Condition>();
}
