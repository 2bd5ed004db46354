//! Logs: which records are taken, on the console and in files that are rotated by size. Knows nothing of what is logged, and takes no part in spans.

mod line;
mod writer;

use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use hub::profile::{Log, LogFormat, LogLevel};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use self::line::Line;
use self::writer::{Files, Job};
use super::now_unix_ms;
use crate::metrics::Metrics;

/// Lines that may wait to be written; at the bound lines are dropped and counted. A line has at most about 20 KiB, so that they are 40 MiB at most.
const LINES_MAX: usize = 2_048;

/// How long the end of the process waits for lines that are not written yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The running log. Dropped at the end of the process, it waits until what was logged is written.
#[derive(Debug)]
pub struct Logs {
    sender: SyncSender<Job>,
}

/// Starts the log of the process.
///
/// # Errors
/// The process has a log already.
pub fn start(settings: &Log, service: &str, metrics: &Arc<Metrics>) -> anyhow::Result<Logs> {
    let (subscriber, logs, warning) = build(settings, service, metrics.clone(), Box::new(stdout()));
    tracing::subscriber::set_global_default(subscriber).context("the process has a log already")?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok(logs)
}

impl Logs {
    /// Waits until what was logged so far is written, for a bounded time.
    pub fn flush(&self) {
        let (sender, written) = sync_channel(1);
        // A queue that is full stays full where the console is blocked: then there is no use in waiting.
        if self.sender.try_send(Job::Flush(sender)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The subscriber, its handle, and a warning if there will be no files.
fn build(
    settings: &Log,
    service: &str,
    metrics: Arc<Metrics>,
    console: Box<dyn Write + Send>,
) -> (impl Subscriber + Send + Sync + use<>, Logs, Option<String>) {
    let (files, warning) = match &settings.dir {
        None => (None, None),
        Some(dir) => match Files::open(Path::new(dir), settings.file_bytes, settings.files) {
            Ok(files) => (Some(files), None),
            Err(error) => {
                (None, Some(format!("LOG_DIR {dir:?} cannot be written, so there are no log files: {error:#}")))
            }
        },
    };
    let (sender, jobs) = sync_channel(LINES_MAX);
    let in_json = files.is_some() || settings.format == LogFormat::Json;
    writer::start(jobs, console, files);
    let lines = Lines {
        sender: sender.clone(),
        service: service.to_owned(),
        json: in_json,
        text: settings.format == LogFormat::Text,
        metrics,
    };
    (Registry::default().with(lines.with_filter(filter(settings.level))), Logs { sender }, warning)
}

/// Our own records at the level that is set. Those of libraries only from WARN on, unless all is wanted: they count bytes where we count events.
/// The broker's client stays silent: it logs whole messages, and its connections' ends are told by the source.
fn filter(level: LogLevel) -> Targets {
    let (own, others) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let targets = Targets::new().with_default(others).with_target("lapin", LevelFilter::OFF);
    OWN_TARGETS.iter().fold(targets, |targets, target| targets.with_target(*target, own))
}

/// The crates whose records are our own.
const OWN_TARGETS: [&str; 3] = ["roomcast", "hub", "wire"];

/// Turns records into lines and hands them to the writer.
struct Lines {
    sender: SyncSender<Job>,
    service: String,
    json: bool,
    text: bool,
    metrics: Arc<Metrics>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Line::of(event, now_unix_ms());
        let job = Job::Write {
            error: *event.metadata().level() == Level::ERROR,
            json: self.json.then(|| line.json(&self.service)),
            text: self.text.then(|| line.text()),
        };
        match self.sender.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.metrics.log_lines_dropped.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests;
