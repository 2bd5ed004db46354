//! Holds the code of the gRPC interface to `proto/`: it stands in the repository, so that a build needs neither `protoc` nor a build script.
//! `WRITE=1 cargo test -p roomcast --test proto` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a file with what it should hold, or writes it.
fn check(path: &Path, expected: &[u8]) {
    if std::env::var_os("WRITE").is_some() {
        return fs::write(path, expected).expect("it can be written");
    }
    let found = fs::read(path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is stale: WRITE=1 cargo test -p roomcast --test proto, then cargo fmt",
        path.display()
    );
}

#[test]
fn the_generated_code_fits_the_proto_file() {
    let compiled = protox::compile(["roomcast/v1/roomcast.proto"], [root().join("proto")]).expect("it is sound");
    let folder = tempfile::tempdir().expect("a folder");
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(folder.path())
        .compile_fds(compiled.clone())
        .expect("code can be made of it");
    let code = fs::read(folder.path().join("roomcast.v1.rs")).expect("it was made");
    let generated = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops/grpc/generated");
    check(&generated.join("roomcast.v1.rs"), &code);
    // Reflection tells names and types; comments are for those who read the file.
    let mut described = compiled;
    described.file.iter_mut().for_each(|file| file.source_code_info = None);
    check(&generated.join("roomcast.v1.bin"), &described.encode_to_vec());
}
