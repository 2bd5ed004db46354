//! A server as a child process on the cores that it is given. Knows how to start, wait and end; not what is measured.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::broker::Broker;
use crate::contenders::{Contender, Server};

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The two cores that a benchmark uses.
pub const EVERY_CORE: [usize; 2] = [0, 1];

/// The secret that servers and clients share; nothing in a benchmark is secret.
pub const SECRET: &str = "a-secret-for-benchmarks-of-32-bytes-or-more";

/// A certificate for 127.0.0.1 that clients take for its own authority.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Process {
    /// Starts the contender on the first cores and waits until it listens.
    pub fn start(
        contender: &Contender,
        root: &Path,
        certificate: &Certificate,
        broker: Option<&Broker>,
        port: u16,
    ) -> anyhow::Result<Self> {
        let mut command = contender.server.command(root, port, contender.shards);
        command.env("JWT_SECRET", SECRET).stdin(Stdio::null()).stdout(Stdio::null());
        if contender.tls {
            command.env("TLS_CERT_FILE", &certificate.chain).env("TLS_KEY_FILE", &certificate.key);
        }
        if let Some(broker) = broker {
            command.env("RABBITMQ_URL", &broker.url);
        }
        // On the way from a broker nobody is pinned: broker, server and load share the machine as they would anywhere.
        let cores = if broker.is_some() { EVERY_CORE.to_vec() } else { (0..contender.shards).collect() };
        let child = spawn_on(&cores, &mut command)?;
        let mut process = Self { child, port };
        let is_ready = match contender.server {
            // It listens before it has its broker; the others have theirs first.
            Server::RoomcastHomeTrip => has_its_broker,
            Server::Roomcast
            | Server::Limit
            | Server::CoalescingLimit
            | Server::Node
            | Server::Socketioxide
            | Server::Centrifuge
            | Server::HomeTrip
            | Server::BareConsumer => listens,
        };
        process.wait_until(is_ready).with_context(|| format!("{} did not start", contender.label()))?;
        Ok(process)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn wait_until(&mut self, is_ready: fn(u16) -> bool) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !is_ready(self.port) {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("it ended with {status}");
            }
            anyhow::ensure!(begin.elapsed() < PATIENCE, "it is not ready after {} s", PATIENCE.as_secs());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<ExitStatus> {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM)?;
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            // A drain takes its time; a benchmark's next server needs the core.
            if begin.elapsed() > Duration::from_secs(1) {
                self.child.kill()?;
                return Ok(self.child.wait()?);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.end().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether the gateway says that it is ready, its broker included.
fn has_its_broker(port: u16) -> bool {
    let answer = || -> std::io::Result<[u8; 12]> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.write_all(b"GET /health/ready?strict=1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        socket.read_exact(&mut status)?;
        Ok(status)
    };
    answer().is_ok_and(|status| status.ends_with(b" 200"))
}

/// Starts a program that stays on these cores: a child begins where its parent is.
pub fn spawn_on(cores: &[usize], command: &mut Command) -> anyhow::Result<Child> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).with_context(|| format!("cannot stay on cores {cores:?}"))?;
    command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// A port that nobody has, below those that the kernel gives to clients.
pub fn free_port(random: &mut fastrand::Rng) -> anyhow::Result<u16> {
    (0..100)
        .map(|_| random.u16(20_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port between 20,000 and 32,000")
}

/// As many descriptors as may be; children inherit it.
pub fn raise_descriptor_limit() -> anyhow::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of open files")
}

/// Makes the certificate.
pub fn make_certificate(folder: &Path) -> anyhow::Result<Certificate> {
    std::fs::create_dir_all(folder)?;
    let certificate = Certificate { chain: folder.join("certificate.pem"), key: folder.join("key.pem") };
    let mut command = Command::new("openssl");
    command.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30".split(' '));
    command.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-out").arg(&certificate.chain).arg("-keyout").arg(&certificate.key).stderr(Stdio::null());
    let status = command.status().context("cannot start openssl")?;
    anyhow::ensure!(status.success(), "openssl ended with {status}");
    Ok(certificate)
}
