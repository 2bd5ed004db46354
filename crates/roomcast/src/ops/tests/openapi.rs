//! Holds the description of the server API to the router. That real answers are what it says is for the tests with real clients.

use std::collections::BTreeSet;

use super::*;

/// Methods that a path could take.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn description() -> Value {
    serde_json::from_str(api::OPENAPI).expect("JSON")
}

#[tokio::test]
async fn the_description_has_the_paths_and_methods_of_the_router() {
    let (node, description) = (Node::open(), description());
    let paths = description["paths"].as_object().expect("an object");
    let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(described, api::paths().iter().map(|(path, _)| *path).collect());
    for (path, methods) in paths {
        for method in METHODS {
            let (status, _) = node.call(method, path, "").await;
            let is_described = methods.get(method.to_lowercase()).is_some();
            assert_eq!(status != 405, is_described, "{method} {path} is answered with {status}");
        }
    }
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_description_is_for_everyone() {
    for node in [Node::start(&[]), Node::open()] {
        let (status, kind, text) = node.get("/api/openapi.json", "*/*").await;
        assert_eq!((status, kind.as_str()), (200, "application/json"));
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), description());
    }
}

#[test]
fn every_reference_of_the_description_leads_somewhere() {
    fn walk(value: &Value, description: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("within the document");
                    assert!(description.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                fields.values().for_each(|field| walk(field, description));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, description)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    walk(&description(), &description());
}
