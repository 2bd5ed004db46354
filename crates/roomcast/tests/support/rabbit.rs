//! A RabbitMQ of the test's own: Debian's `rabbitmq-server` as a child on private loopback ports, with its data in a folder of its own. It can
//! be killed, frozen and started again, and it goes when the test process goes, however that ends.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use super::ports::free_ports;

/// The server's own scripts: the ones in `/usr/sbin` change to the user `rabbitmq` and to fixed folders.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// How long a start may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);

/// Runs the port mapper and cleans up once its standard input ends: with the test process, whatever ended that. Each line that it reads is the
/// process id of the server as it is now.
const KEEPER: &str = r#"
epmd -port "$1" -address 127.0.0.1 & mapper=$!
while read -r pid; do server=$pid; done
kill -9 $server $mapper 2>/dev/null
wait
rm -rf "$2" || { sleep 1; rm -rf "$2"; }
"#;

/// A broker.
#[derive(Debug)]
pub struct Broker {
    folder: PathBuf,
    /// Where it speaks AMQP.
    pub port: u16,
    distribution_port: u16,
    mapper_port: u16,
    keeper: Child,
    server: Option<Child>,
}

impl Broker {
    /// A broker that does not run yet.
    pub fn prepared() -> Self {
        assert!(
            Path::new(SCRIPTS).join("rabbitmq-server").exists(),
            "these tests need RabbitMQ: apt-get install rabbitmq-server (any 3.10 or later; the service need not run)"
        );
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("roomcast-rabbit-{}-{number}", std::process::id()));
        for part in ["home", "data", "log"] {
            fs::create_dir_all(folder.join(part)).expect("a folder below the temporary one");
        }
        fs::write(folder.join("plugins"), "[].").expect("a file below the temporary folder");
        let [port, distribution_port, mapper_port] = free_ports();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &mapper_port.to_string()])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh is there");
        Self { folder, port, distribution_port, mapper_port, keeper, server: None }
    }

    /// A broker that is up.
    pub fn started() -> Self {
        let mut broker = Self::prepared();
        broker.start();
        broker
    }

    /// One broker for all tests of the process that do it no harm; each takes names of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::started)
    }

    /// Starts it, on the data that it left when it was killed, and waits until it is up.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let mut server = self
            .command("rabbitmq-server")
            // The script then becomes the virtual machine, so that its process id is the one to kill.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .arg("-noinput")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the script was there");
        writeln!(self.keeper.stdin.as_ref().expect("it is piped"), "{}", server.id()).expect("the keeper reads");
        let output = server.stdout.take().expect("it is piped");
        self.server = Some(server);
        let (up, told) = mpsc::channel();
        std::thread::spawn(move || watch_output(output, &up));
        match told.recv_timeout(START_MAX) {
            Ok(Ok(())) => {}
            Ok(Err(output)) => panic!("RabbitMQ ended while starting:\n{output}"),
            Err(_) => panic!("RabbitMQ is not up after {START_MAX:?}"),
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().expect("it is ours");
        server.wait().expect("it is ours");
    }

    /// Stops its process without ending it: its sockets stay open, and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen broker go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill is there");
        assert!(status.success(), "kill {signal} {pid}");
    }

    /// Runs `rabbitmqctl`.
    pub fn control(&self, arguments: &[&str]) {
        let output = self.command("rabbitmqctl").args(arguments).output().expect("the script is there");
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Where the default user finds the default virtual host.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(Path::new(SCRIPTS).join(script));
        command
            .current_dir(&self.folder)
            .env("HOME", self.folder.join("home"))
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", self.folder.join("data"))
            .env("RABBITMQ_LOG_BASE", self.folder.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.folder.join("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("none"))
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("none"));
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Says when the server is up, or what it wrote if it ended before; then reads on, so that it can always write.
fn watch_output(mut output: impl Read, up: &mpsc::Sender<Result<(), String>>) {
    let (mut text, mut buffer, mut is_up) = (String::new(), [0; 1024], false);
    while let Ok(read) = output.read(&mut buffer) {
        if read == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if !is_up && text.contains("completed with") {
            is_up = true;
            let _ = up.send(Ok(()));
        }
    }
    if !is_up {
        let _ = up.send(Err(text));
    }
}
