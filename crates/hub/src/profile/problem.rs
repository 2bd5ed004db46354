//! What is wrong with a profile, where, and what was probably meant. Knows nothing of the language itself.

use std::fmt;
use std::ops::Range;

/// Something that keeps a profile from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What was probably meant, as a sentence.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// Something that an operator should know at the start, though the profile works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What to know, as a sentence.
    pub what: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// The bytes of the file that something was read from; empty and at 0 for what was not written.
pub(crate) type Span = Range<usize>;

/// All that was found while reading one file.
pub(crate) struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Notes a problem.
    pub(crate) fn problem(&mut self, span: &Span, what: impl Into<String>) {
        self.problem_with(span, what, None);
    }

    /// Notes a problem with what was probably meant. The same problem at the same place is noted once.
    pub(crate) fn problem_with(&mut self, span: &Span, what: impl Into<String>, suggestion: Option<String>) {
        let (line, column) = self.position(span.start);
        let problem = Problem { file: self.file.to_owned(), line, column, what: what.into(), suggestion };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Notes a problem at a part of what was written at `span`: at the part itself if it stands there as it is.
    pub(crate) fn problem_at(&mut self, span: &Span, part: &str, what: impl Into<String>, suggestion: Option<String>) {
        let start = self.text.get(span.clone()).and_then(|written| written.find(part)).unwrap_or(0) + span.start;
        self.problem_with(&(start..start), what, suggestion);
    }

    /// Notes a warning.
    pub(crate) fn warning(&mut self, span: &Span, what: impl Into<String>) {
        let (line, _) = self.position(span.start);
        self.warnings.push(Warning { file: self.file.to_owned(), line, what: what.into() });
    }

    /// The problems, top down, and the warnings.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, Vec<Warning>) {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        (self.problems, self.warnings)
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// The sentence `did you mean …?` for the known word nearest to `word`, if one is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// How many letters must be changed, added, left out or swapped with their neighbour to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.to_lowercase().chars().collect();
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for (index, row) in rows.iter_mut().enumerate() {
        row[0] = index;
    }
    for (index, cell) in rows[0].iter_mut().enumerate() {
        *cell = index;
    }
    for i in 1..=from.len() {
        for j in 1..=to.len() {
            let same = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested() {
        let known = ["roomId", "roomType", "name", "namespace"];
        for (word, expected) in [
            ("roomld", Some("did you mean `roomId`?")),
            ("nmae", Some("did you mean `name`?")),
            ("ROOMID", Some("did you mean `roomId`?")),
            ("colour", None),
        ] {
            assert_eq!(did_you_mean(word, known).as_deref(), expected, "{word}");
        }
    }

    #[test]
    fn positions_count_characters() {
        let mut findings = Findings::new("a.toml", "é = 1\nbé = \"{x}\"");
        findings.problem_at(&(13..18), "{x}", "no such path", None);
        let (problems, _) = findings.finish();
        assert_eq!(problems[0].to_string(), "a.toml:2:7: no such path");
    }
}
