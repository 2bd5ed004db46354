//! Which events of other gateways were here already: one whose connection is cut before Redis has answered publishes again what it does not know to be out.
//! Knows nothing of what is in them.

use std::collections::HashMap;

use super::UID_MAX_BYTES;

/// Events of one member that are remembered. What it may say again is what it had not been answered for: far fewer.
const REMEMBERED: u64 = 4_096;

const WORDS: usize = REMEMBERED as usize / 64;

/// Members that are remembered; then the one that was silent for longest is forgotten.
const MEMBERS_MAX: usize = 1_024;

/// The events that came lately, by the members that published them.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    members: HashMap<String, Window>,
    /// Counts what is asked, as a clock.
    now: u64,
}

#[derive(Debug)]
struct Window {
    /// The highest number that came.
    top: u64,
    /// One bit for each of the last numbers, whatever way they came by: those of several channels need not be in order.
    seen: [u64; WORDS],
    heard_at: u64,
}

impl Repeats {
    /// Notes that this event came. Returns whether it had come before.
    pub(super) fn is_repeat(&mut self, member: &str, number: u64) -> bool {
        // Nobody who repeats has such an id.
        if member.len() > UID_MAX_BYTES {
            return false;
        }
        self.now += 1;
        if let Some(window) = self.members.get_mut(member) {
            window.heard_at = self.now;
            return window.is_repeat(number);
        }
        if self.members.len() >= MEMBERS_MAX
            && let Some(oldest) = self.members.iter().min_by_key(|(_, window)| window.heard_at)
        {
            let oldest = oldest.0.clone();
            self.members.remove(&oldest);
        }
        let mut window = Window { top: number, seen: [0; WORDS], heard_at: self.now };
        window.set(number);
        self.members.insert(member.to_owned(), window);
        false
    }
}

impl Window {
    fn is_repeat(&mut self, number: u64) -> bool {
        if number > self.top {
            if number - self.top >= REMEMBERED {
                self.seen = [0; WORDS];
            } else {
                (self.top + 1..=number).for_each(|passed| self.clear(passed));
            }
            self.top = number;
        } else if self.top - number >= REMEMBERED {
            // Too old to be known: better twice than never.
            return false;
        } else if *self.word(number) & Self::bit(number) != 0 {
            return true;
        }
        self.set(number);
        false
    }

    fn bit(number: u64) -> u64 {
        1 << (number % 64)
    }

    fn word(&mut self, number: u64) -> &mut u64 {
        &mut self.seen[(number % REMEMBERED) as usize / 64]
    }

    fn set(&mut self, number: u64) {
        *self.word(number) |= Self::bit(number);
    }

    fn clear(&mut self, number: u64) {
        *self.word(number) &= !Self::bit(number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_again_is_known_and_what_comes_late_is_not_taken_for_it() {
        let mut repeats = Repeats::default();
        let mut check = |member: &str, number, expected| {
            assert_eq!(repeats.is_repeat(member, number), expected, "{number} of {member}");
        };
        check("a", 10, false);
        check("a", 10, true);
        check("b", 10, false);
        check("a", 12, false);
        check("a", 11, false);
        check("a", 11, true);
        check("a", 10 + REMEMBERED, false);
        check("a", 11, true);
        check("a", 10, false);
        check("a", u64::MAX, false);
        check("a", u64::MAX, true);
        check("a", 10 + REMEMBERED, false);
    }

    #[test]
    fn who_was_silent_for_longest_is_forgotten() {
        let mut repeats = Repeats::default();
        (0..MEMBERS_MAX).for_each(|member| assert!(!repeats.is_repeat(&member.to_string(), 1)));
        assert!(repeats.is_repeat("0", 1));
        assert!(!repeats.is_repeat("one more", 1));
        assert_eq!(repeats.members.len(), MEMBERS_MAX);
        assert!(repeats.is_repeat("0", 1) && !repeats.is_repeat("1", 1));
    }

    #[test]
    fn an_id_that_no_member_has_is_not_kept() {
        let mut repeats = Repeats::default();
        for (bytes, expected) in [(UID_MAX_BYTES, true), (UID_MAX_BYTES + 1, false)] {
            let id = "a".repeat(bytes);
            assert!(!repeats.is_repeat(&id, 1));
            assert_eq!(repeats.is_repeat(&id, 1), expected, "{bytes} bytes");
        }
        assert_eq!(repeats.members.len(), 1);
    }

    proptest! {
        #[test]
        fn within_what_is_remembered_each_is_new_once(numbers in prop::collection::vec(0..REMEMBERED, 0..300)) {
            let (mut repeats, mut seen) = (Repeats::default(), HashSet::new());
            for number in numbers {
                prop_assert_eq!(repeats.is_repeat("a", number), !seen.insert(number));
            }
        }
    }
}
