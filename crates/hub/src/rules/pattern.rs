//! The two kinds of patterns: names of rooms with parts to capture, and routing keys as the broker's topic exchanges match them.
//! Knows no rules.

use std::cmp::Reverse;

use smallvec::SmallVec;

/// The parts of a room's name that its pattern captured, in order.
pub(crate) type Captures<'a> = SmallVec<[&'a str; 2]>;

/// A pattern of rooms' names: `conversation:{roomId}`. A part takes at least one character, and as few as it can; the last one takes the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomPattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Part(Box<str>),
}

impl RoomPattern {
    /// Parses a pattern; the error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let open = rest.find('{').unwrap_or(rest.len());
            let (plain, after) = rest.split_at(open);
            if plain.contains('}') {
                return Err("a `}` without its `{`".to_owned());
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(Box::from(plain)));
            }
            let Some(inner) = after.strip_prefix('{') else { break };
            let (name, after) = inner.split_once('}').ok_or("a `{` without its `}`")?;
            if !is_identifier(name) {
                return Err(format!("`{{{name}}}` is no name for a part: letters, digits and `_`, a letter first"));
            }
            if pieces.iter().any(|piece| *piece == Piece::Part(Box::from(name))) {
                return Err(format!("the part `{{{name}}}` stands twice"));
            }
            if matches!(pieces.last(), Some(Piece::Part(_))) {
                return Err(format!("nothing stands between `{{{name}}}` and the part before it"));
            }
            pieces.push(Piece::Part(Box::from(name)));
            rest = after;
        }
        if pieces.is_empty() { Err("is empty".to_owned()) } else { Ok(Self { pieces }) }
    }

    /// The names of its parts, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Part(name) => Some(&**name),
            Piece::Text(_) => None,
        })
    }

    /// What the name's parts are, if it matches.
    pub(crate) fn captures<'a>(&self, name: &'a str) -> Option<Captures<'a>> {
        let mut captures = Captures::new();
        matches(&self.pieces, name, &mut captures).then_some(captures)
    }

    /// Sorts the most specific first: more literal text, then fewer parts.
    pub(crate) fn rank(&self) -> (Reverse<usize>, usize) {
        let literal = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Part(_) => 0,
        });
        (Reverse(literal.sum()), self.parts().count())
    }

    /// Whether both match the same names, whatever their parts are called.
    pub(crate) fn same_names(&self, other: &Self) -> bool {
        self.pieces.len() == other.pieces.len()
            && self.pieces.iter().zip(&other.pieces).all(|pair| match pair {
                (Piece::Text(one), Piece::Text(two)) => one == two,
                (Piece::Part(_), Piece::Part(_)) => true,
                (Piece::Text(_), Piece::Part(_)) | (Piece::Part(_), Piece::Text(_)) => false,
            })
    }

    /// The literal text before the first part.
    pub(crate) fn prefix(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            Some(Piece::Part(_)) | None => "",
        }
    }
}

/// Whether a text may name a part, an argument or a local value.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Takes the first place that fits for each text, the end for the last one: what is left for the rest is then as long as it can be, so that no
/// other choice could match where this one does not, and the time is linear in a name that a client chose.
fn matches<'a>(pieces: &[Piece], name: &'a str, captures: &mut Captures<'a>) -> bool {
    match pieces {
        [] => name.is_empty(),
        [Piece::Text(text), rest @ ..] => {
            name.strip_prefix(&**text).is_some_and(|after| matches(rest, after, captures))
        }
        [Piece::Part(_)] => {
            captures.push(name);
            !name.is_empty()
        }
        [Piece::Part(_), Piece::Text(end)] => {
            let before = name.strip_suffix(&**end).unwrap_or("");
            captures.push(before);
            !before.is_empty()
        }
        [Piece::Part(_), rest @ ..] => {
            // A text follows, since parts never stand side by side.
            let Some(Piece::Text(next)) = rest.first() else { return false };
            let Some(first) = name.chars().next() else { return false };
            let Some(at) = name[first.len_utf8()..].find(&**next) else { return false };
            let (taken, after) = name.split_at(first.len_utf8() + at);
            captures.push(taken);
            matches(rest, after, captures)
        }
    }
}

/// A pattern of routing keys as topic exchanges match them: words between dots, `*` for one word, `#` for any number of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyPattern {
    text: Box<str>,
    words: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Exactly(Box<str>),
    One,
    Any,
}

impl KeyPattern {
    /// Parses a pattern; every text is one.
    pub(crate) fn parse(text: &str) -> Self {
        let words = text
            .split('.')
            .map(|word| match word {
                "*" => Word::One,
                "#" => Word::Any,
                word => Word::Exactly(Box::from(word)),
            })
            .collect();
        Self { text: Box::from(text), words }
    }

    /// The pattern as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the key matches.
    pub(crate) fn matches(&self, key: &str) -> bool {
        let key: SmallVec<[&str; 8]> = key.split('.').collect();
        matches_words(&self.words, &key)
    }

    /// Whether every key that matches the other one matches this one, too. May miss it in rare cases, never claims it wrongly.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        covers(&self.words, &other.words)
    }

    /// Whether some key matches both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        meets(&self.words, &other.words)
    }
}

/// Goes back only to the last `#`, so that the time is bounded by the product of the lengths.
fn matches_words(pattern: &[Word], key: &[&str]) -> bool {
    let (mut at, mut word) = (0, 0);
    let mut last_any: Option<(usize, usize)> = None;
    while word < key.len() {
        match pattern.get(at) {
            Some(Word::Any) => {
                last_any = Some((at, word));
                at += 1;
            }
            Some(Word::One) => (at, word) = (at + 1, word + 1),
            Some(Word::Exactly(text)) if **text == *key[word] => (at, word) = (at + 1, word + 1),
            Some(Word::Exactly(_)) | None => match last_any {
                Some((any, taken)) => {
                    last_any = Some((any, taken + 1));
                    (at, word) = (any + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == Word::Any)
}

fn covers(one: &[Word], other: &[Word]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([Word::Any, rest @ ..], _) if covers(rest, other) => true,
        ([Word::Any, ..], [_, other_rest @ ..]) => covers(one, other_rest),
        ([Word::One, rest @ ..], [Word::One | Word::Exactly(_), other_rest @ ..]) => covers(rest, other_rest),
        ([Word::Exactly(text), rest @ ..], [Word::Exactly(other_text), other_rest @ ..]) => {
            text == other_text && covers(rest, other_rest)
        }
        ([], [_, ..]) | ([_, ..], []) => false,
        ([Word::One | Word::Exactly(_), ..], [_, ..]) => false,
    }
}

fn meets(one: &[Word], other: &[Word]) -> bool {
    match (one, other) {
        ([], rest) | (rest, []) => rest.iter().all(|word| *word == Word::Any),
        ([Word::Any, rest @ ..], [_, other_rest @ ..]) if meets(rest, other) || meets(one, other_rest) => true,
        ([_, rest @ ..], [Word::Any, other_rest @ ..]) => meets(one, other_rest) || meets(rest, other),
        ([Word::Any, ..], [_, ..]) => false,
        ([Word::Exactly(text), rest @ ..], [Word::Exactly(other_text), other_rest @ ..]) => {
            text == other_text && meets(rest, other_rest)
        }
        ([Word::One, rest @ ..], [Word::One | Word::Exactly(_), other_rest @ ..])
        | ([Word::Exactly(_), rest @ ..], [Word::One, other_rest @ ..]) => meets(rest, other_rest),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests unwrap")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn room_patterns_capture_their_parts() {
        for (pattern, name, expected) in [
            ("conversation:{roomId}", "conversation:7", Some(vec!["7"])),
            ("conversation:{roomId}", "conversation:a:b", Some(vec!["a:b"])),
            ("conversation:{roomId}", "conversation:", None),
            ("conversation:{roomId}", "conversations:7", None),
            ("super_admin", "super_admin", Some(vec![])),
            ("super_admin", "super_admins", None),
            ("{a}:{b}:end", "1:2:3:end", Some(vec!["1", "2:3"])),
            ("{a}-{b}", "-x-y", Some(vec!["-x", "y"])),
            ("{id}", "anything at all", Some(vec!["anything at all"])),
        ] {
            let parsed = RoomPattern::parse(pattern).unwrap();
            assert_eq!(parsed.captures(name).map(|captures| captures.to_vec()), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn bad_room_patterns_are_refused() {
        for pattern in ["", "a{", "a}", "{}", "{a b}", "{a}{b}", "{a}:{a}"] {
            assert!(RoomPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn the_most_specific_pattern_ranks_first() {
        let mut patterns: Vec<_> = ["{id}", "order:{id}", "order:{shop}:{id}", "super_admin"]
            .into_iter()
            .map(|text| RoomPattern::parse(text).unwrap())
            .collect();
        patterns.sort_by_key(RoomPattern::rank);
        let prefixes: Vec<_> = patterns.iter().map(RoomPattern::prefix).collect();
        assert_eq!(prefixes, ["super_admin", "order:", "order:", ""]);
    }

    #[test]
    fn keys_match_as_in_a_topic_exchange() {
        for (pattern, key, expected) in [
            ("order.created", "order.created", true),
            ("order.*", "order.created", true),
            ("order.*", "order", false),
            ("order.*", "order.a.b", false),
            ("order.#", "order", true),
            ("order.#", "order.a.b", true),
            ("#", "", true),
            ("*", "", true),
            ("#.b.#.d", "a.b.c.b.d", true),
            ("#.b.#.d", "a.c.d", false),
        ] {
            assert_eq!(KeyPattern::parse(pattern).matches(key), expected, "{pattern} on {key}");
        }
    }

    #[test]
    fn patterns_compare() {
        for (one, other, covers, meets) in [
            ("order.#", "order.*", true, true),
            ("order.*", "order.#", false, true),
            ("#", "a.b", true, true),
            ("a.*", "*.b", false, true),
            ("a.b", "a.c", false, false),
            ("*.#", "#", false, true),
            ("a.#.z", "a.b.*", false, true),
        ] {
            let (one, other) = (KeyPattern::parse(one), KeyPattern::parse(other));
            assert_eq!((one.covers(&other), one.meets(&other)), (covers, meets), "{} and {}", one.text, other.text);
            assert_eq!(other.meets(&one), meets, "{} and {}", other.text, one.text);
        }
    }

    fn small_pattern() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 1..4).prop_map(|words| words.join("."))
    }

    fn small_keys() -> Vec<String> {
        let mut keys: Vec<String> = vec!["a".into(), "b".into(), "c".into()];
        for _ in 0..4 {
            let longer: Vec<String> =
                keys.iter().flat_map(|key| ["a", "b", "c"].map(|word| format!("{key}.{word}"))).collect();
            keys.extend(longer);
            keys.sort_unstable();
            keys.dedup();
        }
        keys
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn comparing_agrees_with_trying(one in small_pattern(), other in small_pattern()) {
            let (one, other) = (KeyPattern::parse(&one), KeyPattern::parse(&other));
            let keys = small_keys();
            let both = keys.iter().any(|key| one.matches(key) && other.matches(key));
            prop_assert!(!both || one.meets(&other));
            if one.covers(&other) {
                prop_assert!(keys.iter().all(|key| one.matches(key) || !other.matches(key)));
            }
        }
    }
}
