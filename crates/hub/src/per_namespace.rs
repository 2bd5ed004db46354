//! A value for each namespace: those of the profile in a row, those that come and go in a table. Knows nothing of the values.

use std::collections::HashMap;

use crate::names::NamespaceId;

/// A value for each namespace that has one.
///
/// The profile's namespaces are always there and cost an index; others, which a program opens by pattern, are there from
/// [`get_or_insert_with`](Self::get_or_insert_with) to [`remove`](Self::remove).
#[derive(Debug)]
pub struct PerNamespace<T> {
    fixed: Vec<T>,
    others: HashMap<NamespaceId, T>,
}

impl<T> PerNamespace<T> {
    /// The values of the profile's namespaces, by their ids.
    pub fn new(fixed: Vec<T>) -> Self {
        Self { fixed, others: HashMap::new() }
    }

    /// The value of a namespace.
    pub fn get(&self, id: NamespaceId) -> Option<&T> {
        self.fixed.get(id.index()).or_else(|| self.others.get(&id))
    }

    /// The value of a namespace, to change it.
    pub fn get_mut(&mut self, id: NamespaceId) -> Option<&mut T> {
        match self.fixed.get_mut(id.index()) {
            Some(value) => Some(value),
            None => self.others.get_mut(&id),
        }
    }

    /// The value of a namespace, made now if there is none.
    pub fn get_or_insert_with(&mut self, id: NamespaceId, make: impl FnOnce() -> T) -> &mut T {
        match self.fixed.get_mut(id.index()) {
            Some(value) => value,
            None => self.others.entry(id).or_insert_with(make),
        }
    }

    /// Takes out the value of a namespace that is not the profile's.
    pub fn remove(&mut self, id: NamespaceId) -> Option<T> {
        let removed = self.others.remove(&id);
        if self.others.capacity() > 64 && self.others.len() * 4 < self.others.capacity() {
            self.others.shrink_to(self.others.len() * 2);
        }
        removed
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.fixed.iter().chain(self.others.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_s_are_always_there_and_others_come_and_go() {
        let mut values = PerNamespace::new(vec!["main"]);
        let (main, other) = (NamespaceId(0), NamespaceId(70_000));
        assert_eq!((values.get(main), values.get(other)), (Some(&"main"), None));
        assert_eq!(values.get_or_insert_with(other, || "other"), &"other");
        assert_eq!(values.get_or_insert_with(main, || "another"), &"main");
        assert_eq!(values.values().count(), 2);
        assert_eq!((values.remove(main), values.remove(other)), (None, Some("other")));
        assert_eq!(values.get(main), Some(&"main"));
        assert_eq!(values.get_mut(other), None);
    }
}
