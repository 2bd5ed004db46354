//! What a run was measured on and with: facts of the machine, versions of servers and toolchains. A fact that cannot be had is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Processor, cores, memory, kernel, and whether this is a virtual machine.
pub fn facts() -> BTreeMap<String, String> {
    let processor = field("/proc/cpuinfo", "model name");
    let memory = field("/proc/meminfo", "MemTotal").and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok());
    let hypervisor = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor"));
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let facts = [
        ("processor", processor),
        ("cores", std::thread::available_parallelism().ok().map(|cores| cores.to_string())),
        ("memory", memory.map(|kib| format!("{} GiB", kib.div_ceil(1 << 20)))),
        ("kernel", output("uname", &["-sr"])),
        ("machine", hypervisor.then(|| "virtual".to_owned())),
        ("open files for each process", descriptors.map(|count| count.to_string())),
    ];
    known(facts)
}

/// Versions of the toolchains and of what the peers are built from.
pub fn versions(root: &Path) -> BTreeMap<String, String> {
    let peers = root.join("bench/peers");
    known([
        ("rustc", output("rustc", &["--version"]).and_then(|line| word(&line, 1))),
        ("node", output("node", &["--version"])),
        ("go", output("go", &["version"]).and_then(|line| word(&line, 2))),
        ("roomcast", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("socket.io (Node)", locked_npm(&peers.join("node"), "socket.io")),
        ("socketioxide", locked_crate(&peers.join("socketioxide/Cargo.lock"), "socketioxide")),
        ("centrifuge", required_module(&peers.join("centrifuge/go.mod"), "github.com/centrifugal/centrifuge")),
        ("socket.io (HomeTrip)", locked_npm(&peers.join("hometrip"), "socket.io")),
        ("amqplib (HomeTrip)", locked_npm(&peers.join("hometrip"), "amqplib")),
    ])
}

/// The commit of the tree, `-dirty` where it has changes besides kept results.
pub fn commit(root: &Path) -> String {
    let at = root.display().to_string();
    let head = output("git", &["-C", &at, "rev-parse", "--short=10", "HEAD"]);
    let changes = output("git", &["-C", &at, "status", "--porcelain", "--", ".", ":!bench/results", ":!docs"]);
    match (head, changes) {
        (Some(head), Some(changes)) if changes.is_empty() => head,
        (Some(head), _) => head + "-dirty",
        (None, _) => "unknown".to_owned(),
    }
}

/// Now, UTC, to the second.
pub fn now() -> anyhow::Result<String> {
    output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).ok_or_else(|| anyhow::anyhow!("`date` does not run"))
}

fn known<const N: usize>(facts: [(&str, Option<String>); N]) -> BTreeMap<String, String> {
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn word(line: &str, index: usize) -> Option<String> {
    line.split(' ').nth(index).map(str::to_owned)
}

/// The value behind `name :` in one of the kernel's files.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn locked_npm(folder: &Path, package: &str) -> Option<String> {
    let lock: Value = serde_json::from_str(&fs::read_to_string(folder.join("package-lock.json")).ok()?).ok()?;
    Some(lock["packages"][format!("node_modules/{package}")]["version"].as_str()?.to_owned())
}

fn locked_crate(lock: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(lock).ok()?;
    let behind = text.split(&format!("name = \"{name}\"\nversion = \"")).nth(1)?;
    Some(behind.split('"').next()?.to_owned())
}

fn required_module(manifest: &Path, module: &str) -> Option<String> {
    let text = fs::read_to_string(manifest).ok()?;
    let line = text.lines().map(str::trim_start).find_map(|line| {
        let line = line.strip_prefix("require ").unwrap_or(line);
        line.strip_prefix(module)?.strip_prefix(' ')
    })?;
    word(line, 0)
}
