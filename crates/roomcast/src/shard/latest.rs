//! Who enters a room gets its latest value: the one that is kept, else what a service says. One question serves all who wait for its answer.
//! A live event wins over an answer that comes after it, and nobody gets an event twice or one that is older than what it has.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use hub::emission::{Emission, Payload, Target};
use hub::names::{EventName, NamespaceId, RoomName};
use hub::rooms::SocketKey;
use hub::rules::Question;

use super::inbox::{ConnectionKey, Message};
use super::{Shard, encode};
use crate::fanout::Event;
use crate::upstream::Failure;

/// Questions of one shard under way at a time, those that were asked anew before their answer came among them. At the bound there is no snapshot.
const QUESTIONS_MAX: usize = 10_000;

/// Values that were given out and whose event may still be on its way. At the bound all are forgotten: an event may come twice then.
const GIVEN_MAX: usize = 10_000;

type Place = (NamespaceId, RoomName);

/// What is under way of rooms' latest values.
#[derive(Debug, Default)]
pub(super) struct Latest {
    questions: HashMap<Place, Asked>,
    under_way: usize,
    last_ticket: u32,
    /// Who got a kept value of which version, until a newer event of the room passes.
    given: HashMap<Place, Vec<(u64, ConnectionKey)>>,
    given_count: usize,
}

#[derive(Debug)]
struct Asked {
    ticket: u32,
    event: EventName,
    waiting: Vec<ConnectionKey>,
}

impl Latest {
    fn is_empty(&self) -> bool {
        self.questions.is_empty() && self.given.is_empty()
    }

    /// Waits for an answer that is on its way. Returns whether one is that is new enough: someone who is still in the room has waited since it
    /// was asked, so that every live event in between has been seen here.
    fn wait(&mut self, place: &Place, who: ConnectionKey, is_member: impl Fn(ConnectionKey) -> bool) -> bool {
        let Some(asked) = self.questions.get_mut(place) else { return false };
        if !asked.waiting.iter().any(|other| *other != who && is_member(*other)) {
            return false;
        }
        if !asked.waiting.contains(&who) {
            asked.waiting.push(who);
        }
        true
    }

    /// Notes a question; its ticket, where there is room for it. An older one for the same place is forgotten.
    fn ask(&mut self, place: Place, event: EventName, who: ConnectionKey) -> Option<u32> {
        if self.under_way >= QUESTIONS_MAX {
            return None;
        }
        self.under_way += 1;
        self.last_ticket = self.last_ticket.wrapping_add(1);
        self.questions.insert(place, Asked { ticket: self.last_ticket, event, waiting: vec![who] });
        Some(self.last_ticket)
    }

    /// An answer came, one for each question: who waits for it, and under which name it goes out; nobody where a live event was faster.
    fn answered(&mut self, place: &Place, ticket: u32) -> Option<(EventName, Vec<ConnectionKey>)> {
        self.under_way -= 1;
        if self.questions.get(place)?.ticket != ticket {
            return None;
        }
        self.questions.remove(place).map(|asked| (asked.event, asked.waiting))
    }

    /// A kept value was given.
    fn gave(&mut self, place: Place, version: u64, who: ConnectionKey) {
        if self.given_count >= GIVEN_MAX {
            self.given.clear();
            self.given_count = 0;
        }
        self.given.entry(place).or_default().push((version, who));
        self.given_count += 1;
    }

    /// A live event is about to go out: answers that come later are out of date. Gives those who have it already, or a newer one.
    fn passes(&mut self, emission: &Emission, version: Option<u64>) -> Vec<ConnectionKey> {
        let mut have = Vec::new();
        if version.is_none() && self.questions.is_empty() {
            return have;
        }
        let Target::Rooms(rooms) = &emission.target else { return have };
        for room in rooms.names() {
            let place = (emission.namespace, room.clone());
            if self.questions.get(&place).is_some_and(|asked| asked.event == emission.event) {
                self.questions.remove(&place);
            }
            if let Some(version) = version
                && let Some(given) = self.given.get_mut(&place)
            {
                let before = given.len();
                given.retain(|(given, _)| *given >= version);
                self.given_count -= before - given.len();
                have.extend(given.iter().map(|(_, who)| *who));
                if given.is_empty() {
                    self.given.remove(&place);
                }
            }
        }
        have
    }
}

impl Shard {
    /// Gives a socket the latest value of a room that it is in.
    pub(super) fn give_latest(&mut self, key: SocketKey, room: RoomName) {
        let (slot, namespace) = self.place(key);
        let connection = self.slots.key(slot);
        let kept = self.outside.gateway.publisher.kept().and_then(|kept| kept.find(namespace, &room, Instant::now()));
        if let Some(value) = kept {
            self.send_value(slot, namespace, &value.event, &value.payload);
            return self.latest.gave((namespace, room), value.version, connection);
        }
        let question = match self.outside.gateway.profile.rules.snapshot(namespace, &room, self.clock.unix_ms()) {
            Ok(Some(question)) => question,
            Ok(None) => return,
            Err(what) => return tracing::debug!(%room, what, "no snapshot can be asked for"),
        };
        let place = (namespace, room);
        let (sockets, slots) = (&self.sockets, &self.slots);
        let is_member = |other: ConnectionKey| {
            slots.is_current(other)
                && sockets.find(other.slot, namespace).is_some_and(|key| sockets.rooms().is_member(key, &place.1))
        };
        if !self.latest.wait(&place, connection, is_member) {
            self.ask_service(place, question, connection);
        }
    }

    fn ask_service(&mut self, place: Place, question: Question, who: ConnectionKey) {
        let Question { callee, message, event } = question;
        let (namespace, room) = place.clone();
        let Some(ticket) = self.latest.ask(place, event, who) else {
            return tracing::debug!(%room, "too many snapshots are asked for");
        };
        let (upstreams, inbox) = (self.outside.upstreams.clone(), self.own.clone());
        self.outside.backend.spawn(async move {
            let reply = upstreams.call(&callee, &message).await;
            inbox.send(Message::Snapshot { namespace, room, ticket, reply });
        });
    }

    /// A service has said what a room's latest value is, or not.
    pub(super) fn snapshot_came(
        &mut self,
        namespace: NamespaceId,
        room: RoomName,
        ticket: u32,
        reply: Result<Bytes, Failure>,
    ) {
        let place = (namespace, room);
        let Some((event, waiting)) = self.latest.answered(&place, ticket) else { return };
        let room = place.1;
        let reply = match reply {
            Ok(reply) => reply,
            Err(failure) => return tracing::debug!(%room, ?failure, "no snapshot"),
        };
        let publisher = &self.outside.gateway.publisher;
        if publisher.kept().is_some_and(|kept| kept.find(namespace, &room, Instant::now()).is_some()) {
            // A live event is on its way to all who wait.
            return;
        }
        let rules = &self.outside.gateway.profile.rules;
        let payload = match rules.snapshot_payload(namespace, &room, self.clock.unix_ms(), &reply) {
            Ok(payload) => payload,
            Err(what) => return tracing::debug!(%room, what, "a service's reply is no snapshot"),
        };
        for connection in waiting {
            let socket = self.socket_there(connection, namespace);
            if socket.is_some_and(|key| self.sockets.rooms().is_member(key, &room)) {
                self.send_value(connection.slot, namespace, &event, &payload);
            }
        }
    }

    fn socket_there(&self, connection: ConnectionKey, namespace: NamespaceId) -> Option<SocketKey> {
        if self.slots.is_current(connection) { self.sockets.find(connection.slot, namespace) } else { None }
    }

    fn send_value(&mut self, slot: u32, namespace: NamespaceId, event: &EventName, payload: &Payload) {
        let name = self.namespaces.name(namespace);
        let frame = encode::event(self.slots.encoding(slot), name, event, payload, None);
        self.send(slot, frame);
    }

    /// An event is about to be noted: those who have it already are left out.
    pub(super) fn leave_out_who_has_it(&mut self, event: &Event) {
        if self.latest.is_empty() {
            return;
        }
        for connection in self.latest.passes(&event.emission, event.version) {
            if self.slots.is_current(connection) {
                self.slots.visit(connection.slot);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a test cannot go on without")]
mod tests {
    use hub::emission::{Except, Rooms, Sending};

    use super::*;

    const ANNA: ConnectionKey = ConnectionKey { slot: 1, generation: 0 };
    const BEN: ConnectionKey = ConnectionKey { slot: 2, generation: 0 };

    fn place(room: &str) -> Place {
        (NamespaceId(0), RoomName::parse(room).unwrap())
    }

    fn name() -> EventName {
        EventName::parse("moved").unwrap()
    }

    fn moved(room: &str) -> Emission {
        Emission {
            namespace: NamespaceId(0),
            target: Target::Rooms(Rooms::new([place(room).1]).unwrap()),
            except: Except::default(),
            event: name(),
            payload: Payload::json("1"),
            sending: Sending::default(),
        }
    }

    #[test]
    fn one_question_serves_all_who_wait() {
        let mut latest = Latest::default();
        assert!(!latest.wait(&place("a"), ANNA, |_| true), "nobody has asked");
        let ticket = latest.ask(place("a"), name(), ANNA).unwrap();
        assert!(latest.wait(&place("a"), BEN, |_| true));
        assert!(latest.wait(&place("a"), BEN, |_| true));
        assert!(!latest.wait(&place("b"), BEN, |_| true), "that is another room");
        assert_eq!(latest.answered(&place("a"), ticket), Some((name(), vec![ANNA, BEN])));
    }

    #[test]
    fn a_question_that_nobody_has_waited_for_all_along_is_asked_anew() {
        let mut latest = Latest::default();
        let first = latest.ask(place("a"), name(), ANNA).unwrap();
        assert!(!latest.wait(&place("a"), BEN, |_| false), "she has left: events may have passed unseen");
        assert!(!latest.wait(&place("a"), ANNA, |_| true), "she may have left in between");
        let second = latest.ask(place("a"), name(), BEN).unwrap();
        assert_eq!(latest.answered(&place("a"), first), None);
        assert_eq!(latest.answered(&place("a"), second), Some((name(), vec![BEN])));
    }

    #[test]
    fn a_live_event_wins_over_the_answer() {
        let mut latest = Latest::default();
        let first = latest.ask(place("a"), name(), ANNA).unwrap();
        let second = latest.ask(place("b"), name(), ANNA).unwrap();
        let other = Emission { event: EventName::parse("seen").unwrap(), ..moved("a") };
        assert!(latest.passes(&other, None).is_empty());
        assert!(latest.passes(&moved("b"), None).is_empty());
        assert!(latest.answered(&place("a"), first).is_some());
        assert_eq!(latest.answered(&place("b"), second), None);
    }

    #[test]
    fn who_got_a_kept_value_gets_nothing_that_is_as_old() {
        let mut latest = Latest::default();
        latest.gave(place("a"), 7, ANNA);
        latest.gave(place("a"), 8, BEN);
        assert!(latest.passes(&moved("b"), Some(9)).is_empty());
        assert_eq!(latest.passes(&moved("a"), Some(6)), [ANNA, BEN]);
        assert_eq!(latest.passes(&moved("a"), Some(8)), [BEN]);
        assert!(latest.passes(&moved("a"), Some(9)).is_empty());
        assert!(latest.is_empty() && latest.given_count == 0);
    }

    #[test]
    fn nothing_grows_for_ever() {
        let mut latest = Latest::default();
        for number in 0..QUESTIONS_MAX {
            assert!(latest.ask(place(&number.to_string()), name(), ANNA).is_some());
        }
        assert!(latest.ask(place("more"), name(), ANNA).is_none());
        assert!(latest.ask(place("1"), name(), ANNA).is_none(), "asking anew is asking");
        assert!(latest.answered(&place("1"), 2).is_some());
        assert!(latest.ask(place("1"), name(), ANNA).is_some());
        for number in 0..=GIVEN_MAX {
            latest.gave(place(&number.to_string()), 1, ANNA);
            assert!(latest.given_count <= GIVEN_MAX);
        }
    }
}
