//! What is logged is read back from the console and from files.

use std::path::PathBuf;

use parking_lot::Mutex;
use serde_json::Value;

use super::*;

/// A console that can be read.
#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn settings(level: LogLevel, format: LogFormat) -> Log {
    Log { level, dir: None, format, file_bytes: 5 * 1024 * 1024, files: 5 }
}

/// Logs on a console, and gives its lines.
fn logged(settings: &Log, log: impl FnOnce()) -> Vec<String> {
    let console = Console::default();
    let (subscriber, logs, warning) = build(settings, "websocket-gateway", Arc::default(), Box::new(console.clone()));
    assert_eq!(warning, None);
    tracing::subscriber::with_default(subscriber, log);
    drop(logs);
    let text = String::from_utf8(console.0.lock().clone()).expect("lines are UTF-8");
    text.lines().map(str::to_owned).collect()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("roomcast-logs-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_line_is_a_json_object_with_flat_fields() {
    let lines = logged(&settings(LogLevel::Info, LogFormat::Json), || {
        tracing::warn!(room = "conversation:1", members = 3, late = true, level = 9, "a \"room\"\nis full");
    });
    let line: Value = serde_json::from_str(&lines[0]).expect("one line, one object");
    assert_eq!(line["level"], "warn");
    assert_eq!(line["message"], "a \"room\"\nis full");
    assert_eq!(line["service"], "websocket-gateway");
    assert_eq!((&line["room"], &line["members"]), (&Value::from("conversation:1"), &Value::from(3)));
    assert_eq!((&line["late"], &line["level_"]), (&Value::from(true), &Value::from(9)));
    let timestamp = line["timestamp"].as_str().expect("a text");
    assert!(timestamp.len() == "2026-11-20T21:44:00.000Z".len() && timestamp.ends_with('Z'), "{timestamp}");
    assert!(lines[0].starts_with("{\"level\":\"warn\",\"message\":"), "{}", lines[0]);
    assert_eq!(lines.len(), 1);
}

#[test]
fn a_text_line_cannot_be_faked() {
    let lines = logged(&settings(LogLevel::Info, LogFormat::Text), || {
        tracing::info!(user = "a\n2026 ERROR b", empty = "", path = "/x", "said \u{1b}[31mred\nERROR");
    });
    let (_, rest) = lines[0].split_at("2026-11-20T21:44:00.000Z".len());
    assert_eq!(rest, r#" INFO  said \u{1b}[31mred\nERROR user="a\n2026 ERROR b" empty="" path=/x"#);
    assert_eq!(lines.len(), 1);
}

#[test]
fn the_level_is_for_our_own_records_and_others_speak_from_warn_on() {
    let log = || {
        tracing::trace!("own trace");
        tracing::info!("own info");
        tracing::error!("own error");
        tracing::debug!(target: "hyper::proto", "their debug");
        tracing::info!(target: "reqwest", "their info");
        tracing::warn!(target: "reqwest::connect", "their warning");
        tracing::error!(target: "lapin::channel", "a message, payload and all");
    };
    let table = [
        (LogLevel::Error, vec!["own error"]),
        (LogLevel::Warn, vec!["own error", "their warning"]),
        (LogLevel::Info, vec!["own info", "own error", "their warning"]),
        (LogLevel::Debug, vec!["own info", "own error", "their warning"]),
        (LogLevel::Trace, vec!["own trace", "own info", "own error", "their debug", "their info", "their warning"]),
    ];
    for (level, expected) in table {
        let lines = logged(&settings(level, LogFormat::Json), log);
        let messages: Vec<Value> =
            lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["message"].take()).collect();
        assert_eq!(messages, expected, "{level:?}");
    }
    let lines = logged(&settings(LogLevel::Warn, LogFormat::Text), log);
    assert!(lines[1].ends_with("their warning target=reqwest::connect"), "{}", lines[1]);
}

#[test]
fn long_values_are_cut() {
    let lines = logged(&settings(LogLevel::Info, LogFormat::Json), || {
        let long = "é".repeat(100_000);
        tracing::info!(a = long, b = long, c = long, d = long, e = long, "{long}");
    });
    assert!(lines[0].len() < 21 * 1024, "{}", lines[0].len());
    assert!(serde_json::from_str::<Value>(&lines[0]).is_ok());
}

#[test]
fn files_hold_all_lines_and_the_errors_apart() {
    let dir = folder("files");
    let settings = Log { dir: Some(dir.display().to_string()), ..settings(LogLevel::Info, LogFormat::Text) };
    let lines = logged(&settings, || {
        tracing::info!("one");
        tracing::error!("two");
    });
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("the file is there");
    assert_eq!(read("combined.log").lines().count(), 2);
    assert_eq!(read("error.log").lines().count(), 1);
    assert!(read("error.log").starts_with("{\"level\":\"error\",\"message\":\"two\""));
    assert_eq!(lines.len(), 2, "the console has them as text");
    std::fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn a_file_is_rotated_before_it_is_too_large_and_the_oldest_go() {
    let dir = folder("rotation");
    let settings = Log {
        dir: Some(dir.display().to_string()),
        file_bytes: 2_000,
        files: 2,
        ..settings(LogLevel::Info, LogFormat::Json)
    };
    let lines = logged(&settings, || (0..100).for_each(|number| tracing::info!(number, "a line")));
    assert_eq!(lines.len(), 100);
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["combined.log", "combined.log.1", "combined.log.2", "error.log"]);
    for name in &names {
        assert!(std::fs::metadata(dir.join(name)).expect("a file").len() <= 2_000, "{name}");
    }
    std::fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn a_folder_that_cannot_be_written_costs_the_files_and_a_warning() {
    let file = folder("no-folder");
    std::fs::write(&file, "in the way").expect("the folder for temporary files can be written");
    let dir = file.join("logs").display().to_string();
    let settings = Log { dir: Some(dir.clone()), ..settings(LogLevel::Info, LogFormat::Json) };
    let console = Console::default();
    let (subscriber, logs, warning) = build(&settings, "s", Arc::default(), Box::new(console.clone()));
    let warning = warning.expect("the files are missing");
    assert!(warning.starts_with(&format!("LOG_DIR {dir:?} cannot be written")), "{warning}");
    tracing::subscriber::with_default(subscriber, || tracing::info!("still here"));
    drop(logs);
    assert!(String::from_utf8_lossy(&console.0.lock()).contains("still here"));
    std::fs::remove_file(file).expect("it is ours");
}

/// A console that nobody reads, until it is opened.
struct Blocked(Arc<Mutex<()>>);

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        drop(self.0.lock());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_cannot_be_written_in_time_are_dropped_and_counted() {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    let metrics = Arc::new(Metrics::default());
    let settings = settings(LogLevel::Info, LogFormat::Json);
    let (subscriber, logs, _) = build(&settings, "s", metrics.clone(), Box::new(Blocked(gate.clone())));
    let written = 2 * LINES_MAX + 1_000;
    tracing::subscriber::with_default(subscriber, || (0..written).for_each(|number| tracing::info!(number)));
    // What was taken beyond the queue stands in the writer's buffer of 8 KiB.
    assert!(metrics.log_lines_dropped.get() as usize >= written - LINES_MAX - 1_000);
    drop(closed);
    drop(logs);
}
