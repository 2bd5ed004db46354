//! What a connection to Redis brings by itself: messages, and among them those of the canary. Knows no channel but that one.

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::watch;

/// A message of a channel.
pub(crate) struct Pushed {
    pub(crate) way: Way,
    pub(crate) channel: Vec<u8>,
    pub(crate) body: Bytes,
}

/// What it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Channel,
    Pattern,
    /// A channel of a shard's.
    Sharded,
}

impl Pushed {
    /// `None` for whatever else a connection says.
    pub(crate) fn of(push: PushInfo) -> Option<Self> {
        let way = match push.kind {
            PushKind::Message => Way::Channel,
            PushKind::PMessage => Way::Pattern,
            PushKind::SMessage => Way::Sharded,
            _ => return None,
        };
        // Of a pattern the first of three is the pattern.
        let mut parts = push.data.into_iter().rev();
        match (parts.next(), parts.next()) {
            (Some(Value::BulkString(body)), Some(Value::BulkString(channel))) => {
                Some(Self { way, channel, body: body.into() })
            }
            _ => None,
        }
    }
}

/// Hears the canary that comes by a connection's own channel.
pub(crate) struct Ear {
    channel: String,
    heard: watch::Sender<u64>,
}

impl Ear {
    /// At this channel; `heard` tells the number that came last.
    pub(crate) fn at(channel: String, heard: watch::Sender<u64>) -> Self {
        Self { channel, heard }
    }

    /// Takes the canary; gives back any other message.
    pub(crate) fn pass(&self, message: Pushed) -> Option<Pushed> {
        if message.way != Way::Channel || message.channel != self.channel.as_bytes() {
            return Some(message);
        }
        if let Some(number) = std::str::from_utf8(&message.body).ok().and_then(|text| text.parse().ok()) {
            self.heard.send_replace(number);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(kind: PushKind, parts: &[&str]) -> PushInfo {
        PushInfo { kind, data: parts.iter().map(|part| Value::BulkString(part.as_bytes().to_vec())).collect() }
    }

    #[test]
    fn messages_are_told_from_whatever_else_comes() {
        let check = |push: PushInfo, expected: Option<(Way, &str, &str)>| {
            let parts = Pushed::of(push).map(|Pushed { way, channel, body }| (way, channel, body.to_vec()));
            assert_eq!(parts, expected.map(|(way, channel, body)| (way, channel.into(), body.into())));
        };
        check(push(PushKind::Message, &["c", "b"]), Some((Way::Channel, "c", "b")));
        check(push(PushKind::PMessage, &["c*", "c", "b"]), Some((Way::Pattern, "c", "b")));
        check(push(PushKind::SMessage, &["c", "b"]), Some((Way::Sharded, "c", "b")));
        check(push(PushKind::Subscribe, &["c", "1"]), None);
        check(push(PushKind::Message, &["alone"]), None);
    }

    #[test]
    fn the_canary_is_heard_and_goes_no_further() {
        let (tell, heard) = watch::channel(0);
        let ear = Ear::at("own".to_owned(), tell);
        let passes = |kind, channel: &str, body: &str| {
            let parts: &[&str] = if kind == PushKind::PMessage { &["*", channel, body] } else { &[channel, body] };
            Pushed::of(push(kind, parts)).and_then(|message| ear.pass(message)).is_some()
        };
        assert!(!passes(PushKind::Message, "own", "7") && *heard.borrow() == 7);
        assert!(!passes(PushKind::Message, "own", "no number") && *heard.borrow() == 7);
        assert!(
            passes(PushKind::Message, "other", "8") && passes(PushKind::PMessage, "own", "9") && *heard.borrow() == 7
        );
    }
}
