//! A Redis of the test's own: `redis-server` as a child on a private loopback port, keeping nothing. It can be killed, frozen and started again,
//! and it goes when the test process goes, however that ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::ports::free_ports;

/// How long a start may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// Tells the server's process id, and kills it once its own standard input ends: with the test process, whatever ended that.
const KEEPER: &str = r#"
redis-server "$@" & server=$!
echo "$server"
exec 1>&-
while read -r _; do :; done
kill -9 $server 2>/dev/null
wait
"#;

/// A server.
#[derive(Debug)]
pub struct Redis {
    /// Where it listens.
    pub port: u16,
    arguments: Vec<String>,
    running: Option<(Child, String)>,
}

impl Redis {
    /// A server that is up; `arguments` are settings of its own, as on its command line.
    pub fn started(arguments: &[&str]) -> Self {
        let [port] = free_ports();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut redis = Self { port, arguments, running: None };
        redis.start();
        redis
    }

    /// Starts it, and waits until it is up.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", "--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(&self.arguments)
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh is there");
        let output = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || watch_output(output, &tell));
        match told.recv_timeout(START_MAX) {
            Ok(Ok(pid)) => self.running = Some((keeper, pid)),
            Ok(Err(output)) => {
                panic!(
                    "these tests need Redis 6 or newer (apt-get install redis-server; the service need not run):\n{output}"
                )
            }
            Err(_) => panic!("Redis is not up after {START_MAX:?}"),
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        let (mut keeper, _) = self.running.take().expect("it runs");
        drop(keeper.stdin.take());
        keeper.wait().expect("it is ours");
    }

    /// Stops its process without ending it: its sockets stay open, and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let (_, pid) = self.running.as_ref().expect("it runs");
        let status = Command::new("kill").args([signal, pid]).status().expect("kill is there");
        assert!(status.success(), "kill {signal} {pid}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
    }
}

/// Tells the process id once the server is up, or what it wrote if it ended before; then reads on, so that it can always write.
fn watch_output(mut output: impl BufRead, tell: &mpsc::Sender<Result<String, String>>) {
    let (mut pid, mut text, mut line) = (None, String::new(), String::new());
    let mut is_up = false;
    while output.read_line(&mut line).is_ok_and(|read| read > 0) {
        if pid.is_none() {
            pid = Some(line.trim().to_owned());
        }
        if !is_up && line.contains("Ready to accept connections") {
            is_up = true;
            let _ = tell.send(Ok(pid.clone().unwrap_or_default()));
        }
        if !is_up {
            text.push_str(&line);
        }
        line.clear();
    }
    if !is_up {
        let _ = tell.send(Err(text));
    }
}
