//! Namespaces that a program opens: those that it names are there from the start, those of a pattern while somebody is in them. Those of the profile are
//! the profile's.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use hub::names::NamespaceId;
use hub::profile::Profile;
use parking_lot::Mutex;

/// The namespaces of a process.
pub struct Namespaces {
    profile: Arc<Profile>,
    /// Those that the program names; their numbers follow the profile's.
    named: Vec<Arc<Namespace>>,
    opened: Mutex<Opened>,
}

struct Opened {
    by_name: HashMap<Box<str>, Weak<Namespace>>,
    next: u32,
}

/// A namespace that is not the profile's, as long as someone holds it.
pub struct Namespace {
    /// Its number, which no other will have.
    pub id: NamespaceId,
    /// Its name.
    pub name: Box<str>,
    registry: Weak<Namespaces>,
}

impl std::fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespaces").field("opened", &self.opened.lock().by_name.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Namespaces {
    /// Those of the profile and these, and no others yet.
    pub fn new(profile: Arc<Profile>, named: &[&str]) -> Arc<Self> {
        Arc::new_cyclic(|registry| {
            let of_profile =
                u32::try_from(profile.rules.namespaces().len()).expect("namespaces are counted in 32 bits");
            let names = named.iter().filter(|name| profile.rules.namespace(name).is_none());
            let named: Vec<Arc<Namespace>> = (of_profile..)
                .zip(names)
                .map(|(id, name)| Namespace { id: NamespaceId(id), name: (*name).into(), registry: registry.clone() })
                .map(Arc::new)
                .collect();
            let by_name = named.iter().map(|namespace| (namespace.name.clone(), Arc::downgrade(namespace))).collect();
            let next = named.last().map_or(of_profile, |namespace| namespace.id.0 + 1);
            Self { profile, named, opened: Mutex::new(Opened { by_name, next }) }
        })
    }

    /// The namespaces that are there as long as the process is, by their numbers: those of the profile, and those that the program names.
    pub fn lasting(&self) -> Vec<(NamespaceId, &str)> {
        let named = self.named.iter().map(|namespace| &namespace.name);
        let names = self.profile.rules.namespaces().iter().chain(named);
        (0..).map(NamespaceId).zip(names).map(|(id, name)| (id, &**name)).collect()
    }

    /// The id of a namespace that is there.
    pub fn find(&self, name: &str) -> Option<NamespaceId> {
        self.profile.rules.namespace(name).or_else(|| {
            // The lock is let go before what was found: whoever drops the last of a namespace takes it again.
            let namespace = self.opened.lock().by_name.get(name)?.upgrade()?;
            Some(namespace.id)
        })
    }

    /// The namespace of this name, opened now if it is not there. `None` once four billion have been.
    pub fn open(self: &Arc<Self>, name: &str) -> Option<Arc<Namespace>> {
        let mut opened = self.opened.lock();
        if let Some(namespace) = opened.by_name.get(name).and_then(Weak::upgrade) {
            return Some(namespace);
        }
        let id = NamespaceId(opened.next);
        opened.next = opened.next.checked_add(1)?;
        let namespace = Arc::new(Namespace { id, name: name.into(), registry: Arc::downgrade(self) });
        opened.by_name.insert(name.into(), Arc::downgrade(&namespace));
        Some(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        let mut opened = registry.opened.lock();
        // Someone may have opened it anew since its last holder let go.
        if opened.by_name.get(&self.name).is_some_and(|namespace| namespace.strong_count() == 0) {
            opened.by_name.remove(&self.name);
        }
    }
}

/// What a shard knows of the namespaces that its sockets are in, or ask to be let into.
#[derive(Debug)]
pub struct Held {
    profile: Arc<Profile>,
    held: HashMap<NamespaceId, (Arc<Namespace>, usize)>,
}

impl Held {
    /// Those of the profile.
    pub fn new(profile: Arc<Profile>) -> Self {
        Self { profile, held: HashMap::new() }
    }

    /// The name of a namespace of the profile, or of one that is held; empty for one that is not.
    pub fn name(&self, id: NamespaceId) -> &str {
        if self.profile.rules.governs(id) {
            self.profile.rules.namespace_name(id)
        } else {
            self.held.get(&id).map_or("", |(namespace, _)| &namespace.name)
        }
    }

    /// One more socket is in the namespace, or asks to be.
    pub fn hold(&mut self, namespace: Arc<Namespace>) {
        self.held.entry(namespace.id).or_insert((namespace, 0)).1 += 1;
    }

    /// One fewer. Nothing for a namespace of the profile.
    pub fn release(&mut self, id: NamespaceId) {
        if let Some((_, count)) = self.held.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_there_while_someone_holds_it() {
        let text = "about = \"\"\n[auth]\ntoken = \"ignored\"\n[[endpoint]]\nprotocol = \"socket.io\"\n";
        let (profile, _) = Profile::read(text, "test.toml", &|_| None).expect("a profile");
        let profile = Arc::new(profile);
        let namespaces = Namespaces::new(profile.clone(), &[]);
        assert_eq!(namespaces.find("/"), Some(NamespaceId(0)));
        assert_eq!(namespaces.find("/room-1"), None);

        let mut held = Held::new(profile);
        let first = namespaces.open("/room-1").expect("a number");
        let id = first.id;
        held.hold(first);
        held.hold(namespaces.open("/room-1").expect("the same"));
        assert_eq!((namespaces.find("/room-1"), held.name(id)), (Some(id), "/room-1"));
        held.release(id);
        assert_eq!(namespaces.find("/room-1"), Some(id));
        held.release(id);
        assert_eq!((namespaces.find("/room-1"), held.name(id)), (None, ""));
        let again = namespaces.open("/room-1").expect("a number");
        assert_ne!(again.id, id, "what was meant for the old one finds nobody");
    }

    #[test]
    fn what_the_program_names_is_always_there() {
        let text = "about = \"\"\n[auth]\ntoken = \"ignored\"\n[[endpoint]]\nprotocol = \"socket.io\"\n";
        let (profile, _) = Profile::read(text, "test.toml", &|_| None).expect("a profile");
        let namespaces = Namespaces::new(Arc::new(profile), &["/", "/admin", "/chat"]);
        let numbered = [(NamespaceId(0), "/"), (NamespaceId(1), "/admin"), (NamespaceId(2), "/chat")];
        assert_eq!(namespaces.lasting(), numbered);
        for (id, name) in numbered {
            assert_eq!(namespaces.find(name), Some(id), "{name}");
        }
        drop(namespaces.open("/chat"));
        assert_eq!(namespaces.find("/chat"), Some(NamespaceId(2)));
        assert_eq!(namespaces.open("/room-1").expect("a number").id, NamespaceId(3));
    }

    #[test]
    fn who_looks_for_a_namespace_may_be_the_last_to_hold_it() {
        let text = "about = \"\"\n[auth]\ntoken = \"ignored\"\n[[endpoint]]\nprotocol = \"socket.io\"\n";
        let (profile, _) = Profile::read(text, "test.toml", &|_| None).expect("a profile");
        let namespaces = Namespaces::new(Arc::new(profile), &[]);
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| (0..200_000).filter(|_| namespaces.find("/room-1").is_some()).count());
            while !looking.is_finished() {
                drop(namespaces.open("/room-1"));
            }
        });
    }
}
