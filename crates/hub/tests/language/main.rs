//! The language at work on what other gateways need, a file for each.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

mod claims;
mod clan;
mod marketplace;
mod namespaces;
#[path = "../stage/mod.rs"]
mod stage;

fn check(got: Vec<String>, expected: &[&str]) {
    assert_eq!(got, expected);
}
