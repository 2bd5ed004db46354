//! The crate is pure: it depends on nothing that does IO, and names nothing of the standard library that does.

use std::fs;
use std::path::Path;

/// Codecs and checks, none of which touches the world.
const PURE: [&str; 6] = ["base64", "bytes", "serde", "serde_json", "sha1_smol", "simdutf8"];

const IMPURE: [&str; 9] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
    "Instant::",
    "SystemTime",
];

#[test]
fn dependencies_are_pure() {
    let manifest = include_str!("../Cargo.toml");
    let section = manifest.split("[dependencies]").nth(1).expect("a list of dependencies");
    let names: Vec<_> = section
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(['=', '.']))
        .map(|(name, _)| name.trim())
        .collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(PURE.contains(&name), "{name} is not among the pure dependencies");
    }
}

#[test]
fn sources_name_nothing_impure() {
    let mut seen = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source file");
            for word in IMPURE {
                assert!(!text.contains(word), "{} names {word}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} files were looked at");
}
