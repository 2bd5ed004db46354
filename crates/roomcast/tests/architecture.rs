//! Holds the code to what `ARCHITECTURE.md` says is never so. Reads sources as text; each rule names the file that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    assert!(!found.is_empty(), "no sources in {folder}");
    let relative = |path: &Path| path.strip_prefix(&root).expect("below the root").display().to_string();
    found.iter().map(|path| (relative(path), fs::read_to_string(path).expect("UTF-8"))).collect()
}

/// The part of a source before its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn wire_and_hub_depend_on_nothing_that_touches_the_world() {
    let allowed = [
        "bytes",
        "simdutf8",
        "base64",
        "flate2",
        "sha1",
        "rmp",
        "serde",
        "serde_json",
        "smallvec",
        "slab",
        "toml",
        "cel",
    ];
    for name in ["wire", "hub"] {
        let manifest = fs::read_to_string(root().join(format!("crates/{name}/Cargo.toml"))).expect("a manifest");
        let section =
            manifest.split("\n[dependencies]\n").nth(1).expect("dependencies").split("\n[").next().expect("a section");
        for line in section.lines().filter(|line| !line.trim().is_empty()) {
            let dependency = line.split([' ', '=', '.']).next().unwrap_or_default();
            assert!(allowed.contains(&dependency), "crates/{name} depends on {dependency}: is that pure? Say so here");
        }
    }
}

#[test]
fn wire_and_hub_look_at_no_clock_no_socket_no_file_and_no_environment() {
    let worldly = [
        "std::net",
        "std::fs",
        "std::env",
        "std::thread",
        "std::process",
        "std::io::",
        "Instant",
        "SystemTime",
        "getrandom",
        "tokio",
    ];
    for (path, text) in sources("crates/wire/src").into_iter().chain(sources("crates/hub/src")) {
        if path.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in worldly {
                assert!(!code.contains(word), "{path}:{}: {word} has no place in a pure crate", number + 1);
            }
        }
    }
}

#[test]
fn unsafe_code_stands_in_one_place() {
    let benchmark = ["bench/limit/src", "bench/load/src", "bench/runner/src"];
    for folder in ["crates/wire/src", "crates/hub/src", "crates/roomcast/src"].into_iter().chain(benchmark) {
        for (path, text) in sources(folder) {
            assert!(path.ends_with("src/memory.rs") || !text.contains("unsafe_code"), "{path} allows unsafe code");
        }
    }
}

#[test]
fn edges_do_not_import_edges() {
    let edges = ["source", "cluster", "auth", "access", "upstream", "ops"];
    for edge in edges {
        let files = sources("crates/roomcast/src").into_iter().filter(|(path, _)| {
            let rest = path.strip_prefix("crates/roomcast/src/").unwrap_or(path);
            rest == format!("{edge}.rs") || rest.starts_with(&format!("{edge}/"))
        });
        for (path, text) in files {
            for other in edges.iter().filter(|other| **other != edge) {
                let import = format!("crate::{other}::");
                assert!(!without_tests(&text).contains(&import), "{path} imports {import}");
            }
        }
    }
}

#[test]
fn no_engine_code_knows_a_profile_by_name() {
    for (path, text) in
        sources("crates/hub/src").into_iter().chain(sources("crates/wire/src")).chain(sources("crates/roomcast/src"))
    {
        // The command line and the language's reference may show an example, and someone must list what comes with the binary.
        if path.contains("/cli/")
            || path.ends_with("profile/builtin.rs")
            || path.contains("profile/language/")
            || path.ends_with("tests.rs")
        {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for profile in ["hometrip", "venta", "clan", "marketplace", "\"demo\""] {
                assert!(!code.contains(profile), "{path}:{}: {profile} is data, not code", number + 1);
            }
        }
    }
}
