//! Which events were sent lately, so that a repeat is not sent again. Bounded in number and in time; forgets the oldest first.
//! Knows nothing of brokers: a receipt is whatever must be done once the event is through.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The most ids that are remembered, about 200 bytes each.
const IDS_MAX: usize = 65_536;

/// For how long an id is remembered.
const REMEMBER_FOR: Duration = Duration::from_secs(600);

/// What makes two deliveries the same event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// A route's `once`, or the id under which we published.
    Once(Box<str>),
    /// The message id of the broker's, which counts for one queue and key alone: the same message may reach two queues.
    Message {
        /// The queue.
        queue: Box<str>,
        /// The routing key.
        key: Box<str>,
        /// The id.
        id: Box<str>,
    },
}

/// What is known of an event.
#[derive(Debug)]
enum State<R> {
    /// It is on its way. Repeats wait here, since only what is through may be acknowledged; the prefetch bounds them.
    Underway(Vec<R>),
    /// It is through.
    Sent,
    /// We published it ourselves, and its members have it or will have it from us. Whether it has come back.
    Ours(bool),
}

/// Whether an event is new.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen<R> {
    /// It is new, and now under way: [`Recent::through`] must follow. The receipt comes back.
    New(R),
    /// It is on its way already; the receipt comes back from [`Recent::through`].
    Underway,
    /// It was sent; the receipt is due now.
    Sent(R),
}

/// The events of late.
#[derive(Debug)]
pub(crate) struct Recent<R>(Mutex<Memory<R>>);

#[derive(Debug)]
struct Memory<R> {
    states: HashMap<Identity, State<R>>,
    /// The ids by age; one may stand here after it was forgotten.
    ages: VecDeque<(Instant, Identity)>,
}

impl<R> Default for Recent<R> {
    fn default() -> Self {
        Self(Mutex::new(Memory { states: HashMap::new(), ages: VecDeque::new() }))
    }
}

impl<R> Recent<R> {
    /// An event arrived.
    pub(crate) fn begin(&self, id: &Identity, receipt: R, now: Instant) -> Seen<R> {
        let mut memory = self.0.lock();
        memory.forget_old(now);
        match memory.states.get_mut(id) {
            Some(State::Sent) => Seen::Sent(receipt),
            Some(State::Ours(came_back)) => {
                *came_back = true;
                Seen::Sent(receipt)
            }
            Some(State::Underway(waiting)) => {
                waiting.push(receipt);
                Seen::Underway
            }
            None => {
                memory.remember(id.clone(), State::Underway(Vec::new()), now);
                Seen::New(receipt)
            }
        }
    }

    /// The event is through; the receipts of its repeats.
    pub(crate) fn through(&self, id: &Identity) -> Vec<R> {
        match self.0.lock().states.get_mut(id) {
            Some(state) => match std::mem::replace(state, State::Sent) {
                State::Underway(waiting) => waiting,
                State::Sent | State::Ours(_) => Vec::new(),
            },
            None => Vec::new(),
        }
    }

    /// We publish an event under this id: it counts as sent from now on.
    pub(crate) fn mark_ours(&self, id: &Identity, now: Instant) {
        let mut memory = self.0.lock();
        memory.forget_old(now);
        if !memory.states.contains_key(id) {
            memory.remember(id.clone(), State::Ours(false), now);
        }
    }

    /// The event was not sent after all: whoever comes with it next is new.
    pub(crate) fn forget(&self, id: &Identity) {
        self.0.lock().states.remove(id);
    }

    /// It is not known that our event arrived: whoever comes with it next is new, unless it has come back already, which is returned: then it
    /// did arrive, and stays known.
    pub(crate) fn forget_ours(&self, id: &Identity) -> bool {
        let mut memory = self.0.lock();
        let came_back = matches!(memory.states.get(id), Some(State::Ours(true)));
        if !came_back {
            memory.states.remove(id);
        }
        came_back
    }
}

impl<R> Memory<R> {
    fn remember(&mut self, id: Identity, state: State<R>, now: Instant) {
        self.states.insert(id.clone(), state);
        self.ages.push_back((now, id));
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((since, _)) = self.ages.front() {
            if self.ages.len() < IDS_MAX && now.duration_since(*since) < REMEMBER_FOR {
                return;
            }
            let Some((_, id)) = self.ages.pop_front() else { return };
            // One that is still under way may hold receipts: it stays, as young again. The prefetch bounds these, too.
            if matches!(self.states.get(&id), Some(State::Underway(_))) {
                self.ages.push_back((now, id));
                return;
            }
            self.states.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Identity {
        Identity::Once(text.into())
    }

    #[test]
    fn a_repeat_waits_for_the_first_and_is_then_known() {
        let (recent, now) = (Recent::default(), Instant::now());
        assert_eq!(recent.begin(&id("a"), 1, now), Seen::New(1));
        assert_eq!(recent.begin(&id("a"), 2, now), Seen::Underway);
        assert_eq!(recent.begin(&id("b"), 3, now), Seen::New(3));
        assert_eq!(recent.through(&id("a")), [2]);
        assert_eq!(recent.begin(&id("a"), 4, now), Seen::Sent(4));
        assert!(recent.through(&id("b")).is_empty());
    }

    #[test]
    fn what_we_published_is_known_unless_it_failed() {
        let (recent, now) = (Recent::default(), Instant::now());
        recent.mark_ours(&id("ours"), now);
        recent.mark_ours(&id("failed"), now);
        assert!(!recent.forget_ours(&id("failed")));
        assert_eq!(recent.begin(&id("ours"), 1, now), Seen::Sent(1));
        assert_eq!(recent.begin(&id("failed"), 2, now), Seen::New(2));
        assert!(recent.forget_ours(&id("ours")), "it came back, so that it did not fail");
        assert_eq!(recent.begin(&id("ours"), 3, now), Seen::Sent(3));
    }

    #[test]
    fn ids_are_forgotten_by_age_and_by_number() {
        let (recent, now) = (Recent::default(), Instant::now());
        recent.mark_ours(&id("old"), now);
        assert_eq!(recent.begin(&id("old"), 1, now + REMEMBER_FOR), Seen::New(1), "too old");
        for number in 0..=IDS_MAX {
            recent.mark_ours(&id(&number.to_string()), now + REMEMBER_FOR);
        }
        let memory = recent.0.lock();
        assert!(memory.states.len() <= IDS_MAX, "{} ids", memory.states.len());
        assert!(!memory.states.contains_key(&id("0")), "the oldest went first");
        assert!(memory.states.contains_key(&id(&IDS_MAX.to_string())));
    }

    #[test]
    fn a_message_id_counts_for_its_queue_and_key() {
        let (recent, now) = (Recent::default(), Instant::now());
        let message = |queue: &str| Identity::Message { queue: queue.into(), key: "k".into(), id: "1".into() };
        assert_eq!(recent.begin(&message("a"), 1, now), Seen::New(1));
        assert_eq!(recent.begin(&message("b"), 2, now), Seen::New(2));
    }
}
