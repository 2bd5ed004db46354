//! What a session on polling keeps: the packets that wait for a GET, and which requests are open.
//! Looks into no packet and closes no session.

use std::collections::VecDeque;

use super::{Context, Outbound, Output, PollBody, Polls, Settings};

/// How many packets a GET is answered with at most: python-engineio gives up on a payload of more than 16.
pub(super) const MAX_PACKETS_PER_GET: usize = 16;

/// How often a waiting GET is ended while a WebSocket is being tried, so that the client can pause its polling.
pub(super) const NOOP_INTERVAL_MS: u64 = 100;

/// The packet that ends a GET and says nothing.
pub(super) const NOOP: &str = "6";

/// The polling side of a session.
#[derive(Debug, Default)]
pub(super) struct Polling {
    /// Waiting packets, `settings.max_buffered_bytes` of them; [`Polling::fits`] is asked before a message is pushed. The session's own
    /// control packets come on top: at most one ping is outstanding.
    packets: VecDeque<Outbound>,
    /// What the waiting packets count for, each with its place in the queue, so that many small ones are bounded too.
    buffered_bytes: usize,
    /// How its polls are written.
    pub(super) polls: Polls,
    pub(super) get_waits: bool,
    pub(super) post_arrives: bool,
    pub(super) probe: Option<Probe>,
}

/// A WebSocket that is being tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) closes_at_ms: u64,
    /// Set once the client has asked `2probe`.
    pub(super) noop_at_ms: Option<u64>,
}

impl Polling {
    /// Nothing waits, nothing is open.
    pub(super) fn new(polls: Polls) -> Self {
        Self { polls, ..Self::default() }
    }

    /// Whether one more message is within the bound.
    pub(super) fn fits(&self, packet: &Outbound, settings: &Settings) -> bool {
        self.buffered_bytes + weight(packet) <= settings.max_buffered_bytes
    }

    pub(super) fn push(&mut self, packet: Outbound) {
        self.buffered_bytes += weight(&packet);
        self.packets.push_back(packet);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The answer to a GET: the first packets, at most 16, and no more than `max_payload` bytes unless the first alone has more.
    pub(super) fn take_payload(&mut self, max_payload: usize) -> Option<PollBody> {
        let mut payload_len = 0;
        let mut count = 0;
        for packet in self.packets.iter().take(MAX_PACKETS_PER_GET) {
            let separator_len = usize::from(count > 0);
            payload_len += separator_len + self.polls.len_at_most(packet);
            if count > 0 && payload_len > max_payload {
                break;
            }
            count += 1;
        }
        if count == 0 {
            return None;
        }
        let payload = self.polls.body(self.packets.iter().take(count));
        if count == self.packets.len() {
            // An idle client keeps no memory for its busiest moment.
            self.packets = VecDeque::new();
            self.buffered_bytes = 0;
        } else {
            self.buffered_bytes -= self.packets.drain(..count).map(|packet| weight(&packet)).sum::<usize>();
        }
        Some(payload)
    }

    /// Answers the waiting GET with what is buffered, if there is both.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) {
        if self.get_waits
            && let Some(payload) = self.take_payload(context.settings.max_payload)
        {
            self.get_waits = false;
            context.out.push(Output::AnswerGet(payload));
        }
    }

    /// Breaks off the POST that arrives, since the session ends.
    pub(super) fn abort_post(&mut self, context: &mut Context<'_>) {
        if std::mem::take(&mut self.post_arrives) {
            context.out.push(Output::AbortPost);
        }
    }

    /// Ends the trial of a WebSocket, if there is one.
    pub(super) fn close_probe(&mut self, context: &mut Context<'_>) {
        if self.probe.take().is_some() {
            context.out.push(Output::CloseProbe);
        }
    }

    /// Ends a probe that takes too long, and a GET that keeps the client from pausing its polling.
    pub(super) fn on_timeout(&mut self, context: &mut Context<'_>) {
        let Some(probe) = &mut self.probe else {
            return;
        };
        if probe.closes_at_ms <= context.now_ms {
            return self.close_probe(context);
        }
        if let Some(noop_at_ms) = &mut probe.noop_at_ms
            && *noop_at_ms <= context.now_ms
        {
            *noop_at_ms = context.now_ms + NOOP_INTERVAL_MS;
            if std::mem::take(&mut self.get_waits) {
                context.out.push(Output::AnswerGet(self.polls.control(&[NOOP])));
            }
        }
    }

    /// All waiting packets in order.
    pub(super) fn take_all(&mut self) -> Vec<Outbound> {
        self.buffered_bytes = 0;
        std::mem::take(&mut self.packets).into()
    }
}

/// What a packet counts for against the bound.
fn weight(packet: &Outbound) -> usize {
    let (Outbound::Text(bytes) | Outbound::Binary(bytes)) = packet;
    bytes.len() + size_of::<Outbound>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> Outbound {
        Outbound::Text(vec![b'4'; len].into())
    }

    #[test]
    fn an_answer_is_bounded_in_packets_and_bytes() {
        let check = |lengths: &[usize], expected: &[usize]| {
            let mut polling = Polling::default();
            lengths.iter().for_each(|len| polling.push(text(*len)));
            let mut answers = Vec::new();
            while let Some(payload) = polling.take_payload(100) {
                let payload = payload.bytes;
                answers.push(payload.split(|byte| *byte == 0x1e).count());
                assert!(payload.len() <= 100 || answers.last() == Some(&1), "only a lone packet may be longer");
            }
            assert_eq!(answers, expected, "{lengths:?}");
            assert_eq!((polling.packets.len(), polling.buffered_bytes), (0, 0));
        };
        check(&[], &[]);
        check(&[1; 16], &[16]);
        check(&[1; 33], &[16, 16, 1]);
        check(&[49, 50, 1], &[2, 1]);
        check(&[50, 50], &[1, 1]);
        check(&[500, 1], &[1, 1]);
    }

    #[test]
    fn many_small_packets_are_bounded_too() {
        let settings = Settings { max_buffered_bytes: 1000, ..Settings::default() };
        let mut polling = Polling::default();
        while polling.fits(&text(0), &settings) {
            polling.push(text(0));
        }
        assert_eq!(polling.packets.len(), 1000 / size_of::<Outbound>());
        assert_eq!(polling.take_all().len(), 1000 / size_of::<Outbound>());
        assert!(polling.fits(&text(900), &settings));
    }
}
