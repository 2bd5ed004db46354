//! Servers as child processes on one core, and what the kernel says of their CPU and memory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A server under measurement; ended when dropped.
pub struct Server {
    child: Child,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// The gateway's demo, with one shard.
    pub fn gateway(binary: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(binary).args(["demo", "--shards", "1", "--port", &port.to_string()]);
        command.env("LOG_LEVEL", "error").stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {} (and taskset)", binary.display()))?;
        let server = Self { child, port };
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The bare loop.
    pub fn floor() -> anyhow::Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(crate::own_path()?).arg("floor").stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the floor (and taskset)")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        let port = line.trim().parse().context("the floor prints its port")?;
        Ok(Self { child, port })
    }

    /// The CPU time that the server spends while `work` runs, in nanoseconds.
    pub fn cpu_of(&self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<u64> {
        let before = self.cpu_nanos()?;
        work()?;
        Ok(self.cpu_nanos()? - before)
    }

    fn cpu_nanos(&self) -> anyhow::Result<u64> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(nanos)
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> anyhow::Result<i64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As many descriptors as the kernel gives; children inherit it.
pub fn raise_descriptor_limit() -> anyhow::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of open files")
}

/// Keeps this process on one core, away from the servers.
pub fn pin_self(core: usize) -> anyhow::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).context("cannot pin the client: two cores are needed")
}
