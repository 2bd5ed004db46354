//! The one thread that writes the log, so that nobody else waits for a disk or a terminal.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};

use anyhow::Context as _;
use logroller::{LogRoller, LogRollerBuilder, Rotation, RotationSize};

/// What the thread is to do.
pub(super) enum Job {
    /// Write a line.
    Write {
        /// Whether it belongs into the file of errors, too.
        error: bool,
        /// The line for the files, and for the console where it has no text.
        json: Option<String>,
        /// The line for the console.
        text: Option<String>,
    },
    /// Say when all before is written.
    Flush(SyncSender<()>),
}

/// The files of the log.
pub(super) struct Files {
    combined: LogRoller,
    error: LogRoller,
}

impl Files {
    /// Opens `combined.log` and `error.log`, of at most `bytes` each, with `kept` older ones beside them (`combined.log.1` is the newest of those).
    pub(super) fn open(dir: &Path, bytes: u64, kept: u32) -> anyhow::Result<Self> {
        let open = |name: &str| {
            LogRollerBuilder::new(dir, Path::new(name))
                .rotation(Rotation::SizeBased(RotationSize::Bytes(bytes)))
                .max_keep_files(u64::from(kept))
                // Renaming the old files is over when a flush is.
                .graceful_shutdown(true)
                .build()
                .with_context(|| format!("{name} cannot be opened"))
        };
        std::fs::create_dir_all(dir).context("the folder cannot be made")?;
        Ok(Self { combined: open("combined.log")?, error: open("error.log")? })
    }

    fn write(&mut self, line: &str, error: bool) -> std::io::Result<()> {
        self.combined.write_all(line.as_bytes())?;
        if error { self.error.write_all(line.as_bytes()) } else { Ok(()) }
    }
}

/// Starts the thread. It ends when the last sender of jobs is gone.
pub(super) fn start(jobs: Receiver<Job>, console: Box<dyn Write + Send>, files: Option<Files>) {
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || run(&jobs, BufWriter::new(console), files))
        .expect("the start of the process has room for a thread");
}

fn run(jobs: &Receiver<Job>, mut console: impl Write, mut files: Option<Files>) {
    loop {
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Empty) => {
                // A console that nobody reads any more is no reason to end.
                let _ = console.flush();
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            }
            Err(TryRecvError::Disconnected) => return,
        };
        match job {
            Job::Write { error, json, text } => {
                let line = text.as_deref().or(json.as_deref()).unwrap_or_default();
                let _ = console.write_all(line.as_bytes());
                let written = match (&mut files, &json) {
                    (Some(files), Some(json)) => files.write(json, error),
                    (Some(_) | None, _) => Ok(()),
                };
                if let Err(error) = written {
                    // Not through the log itself: it would come here again.
                    let _ = writeln!(console, "the log files cannot be written any more, the console goes on: {error}");
                    files = None;
                }
            }
            Job::Flush(done) => {
                let _ = console.flush();
                if let Some(files) = &mut files {
                    let _ = files.combined.flush().and_then(|()| files.error.flush());
                }
                let _ = done.send(());
            }
        }
    }
}
