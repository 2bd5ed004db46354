//! A RabbitMQ of the run's own, by `bench/broker`. Knows nothing of what goes through it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context;

/// A running broker; ended when dropped.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    /// Kept open: whoever writes to a pipe that nobody reads is ended.
    _output: BufReader<ChildStdout>,
    /// Where it is: `amqp://...`.
    pub url: String,
}

impl Broker {
    /// Starts it on any core: it shares both with the server and the load.
    pub fn start(root: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(root.join("bench/broker"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start bench/broker")?;
        let mut url = String::new();
        let mut output = BufReader::new(child.stdout.take().context("its output is piped")?);
        output.read_line(&mut url)?;
        let broker = Self { child, _output: output, url: url.trim().to_owned() };
        anyhow::ensure!(!broker.url.is_empty(), "RabbitMQ did not start; is it installed?");
        Ok(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It ends when its input does, and takes its folder with it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
