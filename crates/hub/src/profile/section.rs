//! What was written, as the second stages take it: typed values with their places, and ways to ask for them. Where a problem was noted while
//! reading, a value is not there, and asking gives something harmless: the profile is refused anyway.

use core::net::IpAddr;
use std::time::Duration;

use super::problem::Span;

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// A value, as its key wants it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Switch(bool),
    Count(i64),
    Number(f64),
    Time(Duration),
    Size(u64),
    Address(IpAddr),
    List(Vec<Written>),
    Table(Section),
}

/// A table that was written, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    pub(crate) span: Span,
    pub(crate) entries: Vec<Entry>,
}

/// A key that was written, or that holds its default.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) written: Written,
}

impl Section {
    /// The value of a key, if it is there.
    pub(crate) fn find(&self, name: &str) -> Option<&Written> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.written)
    }

    /// The place of a key's value, else of the table.
    pub(crate) fn place(&self, name: &str) -> Span {
        self.find(name).map_or_else(|| self.span.clone(), |written| written.span.clone())
    }

    /// A text that is there and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.find(name)?.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A text, or an empty one where a problem was noted.
    pub(crate) fn text_or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    /// A switch; off where a problem was noted.
    pub(crate) fn switch(&self, name: &str) -> bool {
        matches!(self.find(name), Some(Written { value: Value::Switch(true), .. }))
    }

    /// A whole number.
    pub(crate) fn count<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        match self.find(name)?.value {
            Value::Count(value) => T::try_from(value).ok(),
            _ => None,
        }
    }

    /// A time; nothing where a problem was noted.
    pub(crate) fn time(&self, name: &str) -> Duration {
        match self.find(name) {
            Some(Written { value: Value::Time(time), .. }) => *time,
            _ => Duration::ZERO,
        }
    }

    /// A size in bytes; 0 where a problem was noted.
    pub(crate) fn size(&self, name: &str) -> u64 {
        match self.find(name) {
            Some(Written { value: Value::Size(bytes), .. }) => *bytes,
            _ => 0,
        }
    }

    /// The address of a machine.
    pub(crate) fn address(&self, name: &str) -> Option<IpAddr> {
        match self.find(name)?.value {
            Value::Address(address) => Some(address),
            _ => None,
        }
    }

    /// The items of a list; none where it is not there.
    pub(crate) fn list(&self, name: &str) -> &[Written] {
        match self.find(name) {
            Some(Written { value: Value::List(items), .. }) => items,
            _ => &[],
        }
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(Written::text).map(str::to_owned).collect()
    }

    /// A table in this one.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.find(name).and_then(Written::section)
    }

    /// The tables of a list.
    pub(crate) fn sections(&self, name: &str) -> impl Iterator<Item = &Section> {
        self.list(name).iter().filter_map(Written::section)
    }

    /// The named entries of a table in this one.
    pub(crate) fn named(&self, name: &str) -> &[Entry] {
        self.section(name).map_or(&[], |section| &section.entries)
    }
}

impl Written {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub(crate) fn section(&self) -> Option<&Section> {
        match &self.value {
            Value::Table(section) => Some(section),
            _ => None,
        }
    }
}
