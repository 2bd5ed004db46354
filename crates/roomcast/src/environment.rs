//! The variables that a profile is filled from: the process's environment, and a `.env` file behind it. Knows no variable by name.
//!
//! The file is read as Node's `dotenv` reads it, since the files of existing gateways are to go on unchanged: a value may hold spaces, `=` and `$`
//! as they are, a `#` ends an unquoted value, quotes of three kinds may span lines, `\n` is a line end within double quotes, and nothing is ever
//! substituted. (Libraries for Rust refuse unquoted spaces, which PEM keys have, and replace `$name`, which passwords may have.)

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;

/// The name of the file.
const FILE_NAME: &str = ".env";

/// Variables by name.
#[derive(Clone, Default)]
pub struct Environment {
    process: HashMap<String, String>,
    file: HashMap<String, String>,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Environment {
    /// Values may be secrets: only their number is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("process", &self.process.len())
            .field("file", &self.file.len())
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// The process's variables, and those of a `.env` file in this directory if there is one.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn of_process(directory: &Path) -> anyhow::Result<Self> {
        let process = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let path = directory.join(FILE_NAME);
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8(bytes).with_context(|| format!("{}: it is not UTF-8", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("{}: it cannot be read", path.display())),
        };
        Ok(Self::new(process, &text))
    }

    /// These variables, and the text of a `.env` file behind them.
    pub fn new(process: HashMap<String, String>, file: &str) -> Self {
        let mut environment = Self { process, ..Self::default() };
        environment.read(file);
        environment
    }

    /// The value of a variable. One that the process has wins over the file even where it is empty, so that it can be switched off.
    pub fn get(&self, name: &str) -> Option<String> {
        self.process.get(name).or_else(|| self.file.get(name)).cloned()
    }

    /// What in the file could not be read, a line each: it is left out, and to be logged.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn read(&mut self, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let mut rest = text.as_str();
        let mut line_number = 1;
        while !rest.is_empty() {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                (rest, line_number) = (after, line_number + 1);
                continue;
            }
            let Some((name, value_start)) = name(line) else {
                // The line is not repeated: it may hold a secret.
                self.warnings.push(format!("{FILE_NAME}:{line_number}: not of the form NAME=value, left out"));
                (rest, line_number) = (after, line_number + 1);
                continue;
            };
            let (value, consumed) = value(&rest[value_start..]);
            self.file.insert(name.to_owned(), value);
            let taken = &rest[..value_start + consumed];
            line_number += taken.matches('\n').count() + 1;
            rest = rest[taken.len()..].split_once('\n').map_or("", |(_, after)| after);
        }
    }
}

/// The name that a line sets, and where in the line its value begins.
fn name(line: &str) -> Option<(&str, usize)> {
    let (before, _) = line.split_once('=')?;
    let words: Vec<&str> = before.split_whitespace().collect();
    let name = match words.as_slice() {
        [name] | ["export", name] => *name,
        _ => return None,
    };
    let good = name.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-'));
    good.then_some((name, before.len() + 1))
}

/// The value at the beginning of the text, and how much of the text it takes; what is left of the last line is a comment.
fn value(text: &str) -> (String, usize) {
    let blank = text.len() - text.trim_start_matches([' ', '\t']).len();
    if let Some(quoted) = quoted(&text[blank..]) {
        let value = match &text[blank..=blank] {
            "\"" => quoted.replace("\\n", "\n").replace("\\r", "\r"),
            _ => quoted.to_owned(),
        };
        return (value, blank + quoted.len() + 2);
    }
    let end = text.find(['#', '\n']).unwrap_or(text.len());
    (text[..end].trim().to_owned(), end)
}

/// What stands in quotes at the beginning of the text, if the quotes are closed and nothing but a comment follows them.
fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\'' | '`'))?;
    let mut escaped = false;
    let end = text[1..].find(|character| {
        let closes = character == quote && !escaped;
        escaped = character == '\\' && !escaped;
        closes
    })?;
    let after = text[end + 2..].split('\n').next().unwrap_or_default().trim_start();
    (after.is_empty() || after.starts_with('#')).then_some(&text[1..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expects `NAME` to have this value.
    fn check(file: &str, expected: &str) {
        let environment = Environment::new(HashMap::new(), file);
        assert_eq!(environment.get("NAME").as_deref(), Some(expected), "{file}");
        assert!(environment.warnings().is_empty(), "{file}");
    }

    #[test]
    fn values_are_taken_as_they_stand() {
        check("NAME=value", "value");
        check("\u{feff}NAME=value\r\nOTHER=x\r\n", "value");
        check("export NAME = two words  ", "two words");
        check("NAME=p/a@s%s$w0rd=1", "p/a@s%s$w0rd=1");
        check("NAME=-----BEGIN PUBLIC KEY-----\\nMII", "-----BEGIN PUBLIC KEY-----\\nMII");
        check("NAME=", "");
        check("NAME=value # why", "value");
        check("NAME=first\nNAME=second", "second");
        check("# a comment\n\n  NAME=value", "value");
    }

    #[test]
    fn quotes_keep_what_they_hold() {
        check("NAME=' a # b ' # why", " a # b ");
        check("NAME=\"a\\nb\"", "a\nb");
        check("NAME='a\\nb'", "a\\nb");
        check("NAME=`it's \"it\"`", "it's \"it\"");
        check("OTHER='x'\nNAME=\"-----BEGIN\nMII=\n-----END\"\nLAST=1", "-----BEGIN\nMII=\n-----END");
        check("NAME=\"open", "\"open");
        check("NAME=\"a\"b", "\"a\"b");
        check("NAME=''", "");
    }

    #[test]
    fn the_process_wins_over_the_file() {
        let process = HashMap::from([("PORT".to_owned(), "1".to_owned()), ("REDIS_URL".to_owned(), String::new())]);
        let environment = Environment::new(process, "PORT=2\nREDIS_URL=redis://x\nLOG_LEVEL=debug");
        assert_eq!(environment.get("PORT").as_deref(), Some("1"));
        assert_eq!(environment.get("REDIS_URL").as_deref(), Some(""));
        assert_eq!(environment.get("LOG_LEVEL").as_deref(), Some("debug"));
        assert_eq!(environment.get("API_KEY"), None);
    }

    #[test]
    fn a_line_that_sets_nothing_is_told_by_its_number() {
        let environment = Environment::new(HashMap::new(), "A='1\n2'\nsecret\nB C=3\nD=4");
        let expected = [".env:3: not of the form NAME=value, left out", ".env:4: not of the form NAME=value, left out"];
        assert_eq!(environment.warnings(), expected);
        assert_eq!(environment.get("D").as_deref(), Some("4"));
    }

    #[test]
    fn a_directory_without_a_file_gives_the_process_alone() {
        let environment = Environment::of_process(Path::new("/nowhere")).expect("no file is no error");
        assert_eq!(environment.get("PATH"), std::env::var("PATH").ok());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "([A-Z='\"`#\\\\ \n]|\\PC)*") {
            let _ = Environment::new(HashMap::new(), &text);
        }

        #[test]
        fn what_is_written_in_single_quotes_is_read(value in "[^'\\\\\r]*") {
            let environment = Environment::new(HashMap::new(), &format!("A=1\nNAME='{value}' # why\nB=2"));
            assert_eq!(environment.get("NAME"), Some(value));
            assert_eq!(environment.get("B").as_deref(), Some("2"));
        }
    }
}
