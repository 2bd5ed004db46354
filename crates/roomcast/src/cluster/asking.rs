//! What this node asks of the other members, and what they answer: each of those who listen to a namespace's requests owes an answer. Knows neither the
//! connection nor what answers are for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hub::emission::Payload;
use hub::names::{EventName, NamespaceId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use wire::bus::RemoteSocket;
use wire::bus::broadcast::Scope;
use wire::bus::request::{Answer, Request};

use super::incoming::payload;
use super::outgoing::Bus;
use super::saying::{Item, decoded};
use crate::sampled::Sampled;

/// How long the others have for their answers: as long as Node servers give them.
pub const ANSWERS_MAX: Duration = Duration::from_secs(5);

/// Questions under way at a time; one more is asked of nobody.
const QUESTIONS_MAX: usize = 1_024;

/// Bytes of the answers to one question; those beyond it are not taken, and count as missing.
const ANSWERS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// How often something was no socket, for the log.
static UNREADABLE: Sampled = Sampled::new();

/// Whose sockets are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those of all other members.
    Everybodys,
    /// Those of members that are no gateways.
    Peers,
}

/// Not everybody has answered in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered<T> {
    /// What those who have said.
    pub so_far: T,
    /// How many have.
    pub answered: usize,
    /// How many were asked; `None` where nobody could be: the bus is away, or too much is asked already.
    pub others: Option<usize>,
}

impl<T> Unanswered<T> {
    /// Whether it is not for clients alone that something is missing.
    pub fn is_anyone_silent(&self) -> bool {
        self.others.is_none_or(|others| self.answered < others)
    }

    fn map<U>(self, map: impl FnOnce(T) -> U) -> Unanswered<U> {
        let Self { so_far, answered, others } = self;
        Unanswered { so_far: map(so_far), answered, others }
    }
}

impl<T> fmt::Display for Unanswered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.others {
            Some(others) => write!(f, "{} of {others} other members of the cluster answered in time", self.answered),
            None => write!(f, "the other members of the cluster could not be asked"),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for Unanswered<T> {}

/// What clients of other members had to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    /// What each of them answered; who it was is not told.
    pub given: Vec<Payload>,
    /// How many were asked, as far as that is known, and have not answered.
    pub missing: usize,
}

/// The questions under way, by their ids.
#[derive(Default)]
pub(super) struct Asking(Mutex<HashMap<String, Arc<Question>>>);

/// A question under way.
pub(super) struct Question {
    pub(super) namespace: NamespaceId,
    pub(super) id: String,
    pub(super) request: Request,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Who owes an answer, once it is asked.
    others: Option<usize>,
    answers: Vec<Answer>,
    bytes: usize,
}

impl State {
    /// Who has answered; who has clients of its own to ask has done so with their number.
    fn answered(&self) -> usize {
        self.answers.iter().filter(|answer| !matches!(answer, Answer::Ack(_))).count()
    }

    fn is_complete(&self) -> bool {
        self.others.is_some_and(|others| self.answered() >= others) && clients_missing(&self.answers) == 0
    }
}

impl Question {
    /// So many others are being asked.
    pub(super) fn is_asked_of(&self, others: usize) {
        self.state.lock().others = Some(others);
        self.changed.notify_one();
    }

    async fn complete(&self) {
        while !self.state.lock().is_complete() {
            self.changed.notified().await;
        }
    }
}

impl Asking {
    /// Whether anybody waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Whether anybody waits for an answer to this question.
    pub(super) fn is_waiting(&self, question: &Question) -> bool {
        self.0.lock().contains_key(&question.id)
    }

    /// Takes an answer of so many bytes to a question of ours; those to others' pass by.
    pub(super) fn take(&self, id: &str, answer: Answer, bytes: usize) {
        let Some(question) = self.0.lock().get(id).cloned() else { return };
        let mut state = question.state.lock();
        state.bytes += bytes;
        if state.bytes <= ANSWERS_MAX_BYTES {
            state.answers.push(answer);
        }
        drop(state);
        question.changed.notify_one();
    }
}

/// A question that is forgotten with this.
struct Asked<'a> {
    bus: &'a Bus,
    question: Arc<Question>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.bus.asking().0.lock().remove(&self.question.id);
    }
}

impl Bus {
    /// The sockets of other members that are in one of these rooms, and in none of those that are left out; of a namespace that they know.
    ///
    /// # Errors
    /// Not all of them answered in time.
    pub async fn fetch_sockets(
        &self,
        namespace: NamespaceId,
        scope: Scope,
        whose: Whose,
    ) -> Result<Vec<RemoteSocket>, Unanswered<Vec<RemoteSocket>>> {
        let request = Request::Fetch { scope, peers_only: whose == Whose::Peers };
        let sockets = |answers: Vec<Answer>| answers.into_iter().flat_map(|answer| self.sockets(answer)).collect();
        self.ask(namespace, request, ANSWERS_MAX).await.map(sockets).map_err(|unanswered| unanswered.map(sockets))
    }

    /// Tells the other servers of an event of theirs, and waits for what each of them answers.
    ///
    /// # Errors
    /// Not all of them answered in time.
    pub async fn server_side_emit_with_ack(
        &self,
        namespace: NamespaceId,
        event: &EventName,
        payload: &Payload,
        wait: Duration,
    ) -> Result<Vec<Payload>, Unanswered<Vec<Payload>>> {
        let request = Request::ServerSideEmit { event: event.to_string(), arguments: decoded(payload) };
        let given = |answers: Vec<Answer>| answers.into_iter().filter_map(given).collect();
        self.ask(namespace, request, wait).await.map(given).map_err(|unanswered| unanswered.map(given))
    }

    /// Has clients of the other members answer an event, and waits for what they answer.
    ///
    /// # Errors
    /// Not all members told in time whom they asked, or not all of their clients answered.
    pub async fn ask_clients(
        &self,
        namespace: NamespaceId,
        event: &EventName,
        payload: &Payload,
        scope: Scope,
        wait: Duration,
    ) -> Result<Clients, Unanswered<Clients>> {
        let request = Request::Broadcast { event: event.to_string(), arguments: decoded(payload), scope };
        let clients = |answers: Vec<Answer>| {
            let missing = clients_missing(&answers);
            Clients { given: answers.into_iter().filter_map(given).collect(), missing }
        };
        self.ask(namespace, request, wait).await.map(clients).map_err(|unanswered| unanswered.map(clients))
    }

    /// What is a socket in an answer.
    fn sockets(&self, answer: Answer) -> Vec<RemoteSocket> {
        let Answer::Sockets(sockets) = answer else { return Vec::new() };
        let read = |json: &String| match RemoteSocket::read(json) {
            Ok(socket) => Some(socket),
            Err(error) => {
                self.count_unreadable();
                if let Some(times) = UNREADABLE.due() {
                    tracing::warn!(%error, times, "what another member of the cluster says of a socket cannot be read");
                }
                None
            }
        };
        sockets.iter().filter_map(read).collect()
    }

    /// Asks all others, behind everything that was published before, and waits for their answers.
    async fn ask(
        &self,
        namespace: NamespaceId,
        request: Request,
        wait: Duration,
    ) -> Result<Vec<Answer>, Unanswered<Vec<Answer>>> {
        let id = format!("{}{}", super::new_uid(), super::new_uid());
        let (state, changed) = (Mutex::default(), Notify::new());
        let question = Arc::new(Question { namespace, id: id.clone(), request, state, changed });
        {
            let mut under_way = self.asking().0.lock();
            if under_way.len() >= QUESTIONS_MAX {
                return Err(Unanswered { so_far: Vec::new(), answered: 0, others: None });
            }
            under_way.insert(id, question.clone());
        }
        let asked = Asked { bus: self, question };
        let question = &asked.question;
        let is_in_time = self.put(Item::Question(question.clone())) && timeout(wait, question.complete()).await.is_ok();
        let State { others, answers: so_far, .. } = {
            let mut state = question.state.lock();
            std::mem::take(&mut *state)
        };
        if is_in_time {
            return Ok(so_far);
        }
        let answered = State { answers: so_far.clone(), ..State::default() }.answered();
        Err(Unanswered { so_far, answered, others })
    }
}

/// Clients that owe an answer, and have not given it.
fn clients_missing(answers: &[Answer]) -> usize {
    let (mut asked, mut answered) = (0_u64, 0);
    for answer in answers {
        match answer {
            Answer::ClientCount(count) => asked = asked.saturating_add(*count),
            Answer::Ack(_) => answered += 1,
            Answer::Done | Answer::Rooms(_) | Answer::SocketIds(_) | Answer::Sockets(_) | Answer::ServerSide(_) => {}
        }
    }
    usize::try_from(asked.saturating_sub(answered)).unwrap_or(usize::MAX)
}

/// What somebody answers to an event.
fn given(answer: Answer) -> Option<Payload> {
    match answer {
        Answer::ServerSide(given) | Answer::Ack(given) => Some(payload(given)),
        Answer::Done | Answer::Rooms(_) | Answer::SocketIds(_) | Answer::Sockets(_) | Answer::ClientCount(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use wire::bus::Decoded;

    use super::*;
    use crate::cluster::outgoing::Entry;

    /// Asks `bus`, and lets `members` others answer with what `answers` gives for the question's id.
    async fn ask(
        bus: &Bus,
        members: usize,
        answers: &[Answer],
    ) -> Option<Result<Vec<RemoteSocket>, Unanswered<Vec<RemoteSocket>>>> {
        let mut asking = Box::pin(bus.fetch_sockets(NamespaceId(0), Scope::default(), Whose::Everybodys));
        assert!(asking.as_mut().now_or_never().is_none(), "nobody has been asked");
        let waiting = bus.first(9).await;
        let [Entry { item: Item::Question(question), .. }] = &waiting[..] else { panic!("one question waits") };
        question.is_asked_of(members);
        for answer in answers {
            bus.asking().take(&question.id, answer.clone(), 1);
            bus.asking().take("another's", answer.clone(), 1);
        }
        bus.remove(&waiting);
        asking.now_or_never()
    }

    fn of(id: &str) -> Answer {
        Answer::Sockets(vec![format!(r#"{{"id":"{id}"}}"#)])
    }

    #[tokio::test]
    async fn a_question_is_over_when_all_have_answered() {
        let bus = Bus::default();
        let ids = |answers: Vec<RemoteSocket>| answers.into_iter().map(|socket| socket.id).collect::<Vec<_>>();
        let found = ask(&bus, 2, &[of("a"), of("b")]).await.expect("an outcome").expect("in time");
        assert_eq!(ids(found), ["a", "b"]);
        assert_eq!(ask(&bus, 0, &[]).await, Some(Ok(Vec::new())));
        assert_eq!(ask(&bus, 2, &[of("a")]).await, None, "one is missing");
        let odd = Answer::Sockets(vec![r#"{"id":"a","rooms":[42]}"#.to_owned(), r#"{"id":7}"#.to_owned()]);
        let found = ask(&bus, 1, &[odd]).await.expect("an outcome").expect("in time");
        assert_eq!((ids(found), bus.take_unreadable()), (vec!["a".to_owned()], 1), "one has no id");
        assert!(bus.asking().is_idle(), "nothing is left of it");
    }

    #[tokio::test]
    async fn who_does_not_answer_is_named_with_what_the_others_said() {
        let bus = Bus::default();
        let request = Request::Fetch { scope: Scope::default(), peers_only: false };
        let (outcome, ()) = tokio::join!(bus.ask(NamespaceId(0), request, Duration::from_millis(1)), async {
            let waiting = bus.first(9).await;
            let [Entry { item: Item::Question(question), .. }] = &waiting[..] else { panic!("one question waits") };
            question.is_asked_of(2);
            bus.asking().take(&question.id, of("a"), 1);
        });
        let unanswered = outcome.expect_err("one is missing");
        assert_eq!(unanswered.to_string(), "1 of 2 other members of the cluster answered in time");
        assert_eq!(unanswered.so_far.len(), 1);
    }

    #[tokio::test]
    async fn clients_that_do_not_answer_are_counted_whoever_they_are_with() {
        let check = async |answers: &[Answer], given: &[&str], missing: usize, is_anyone_silent: bool| {
            let bus = Bus::default();
            let (event, wait) = (EventName::parse("q").expect("a name"), Duration::from_millis(1));
            let payload = Payload::json("1");
            let asking = bus.ask_clients(NamespaceId(0), &event, &payload, Scope::default(), wait);
            let (outcome, ()) = tokio::join!(asking, async {
                let waiting = bus.first(9).await;
                let [Entry { item: Item::Question(question), .. }] = &waiting[..] else { panic!("one question waits") };
                question.is_asked_of(2);
                answers.iter().for_each(|answer| bus.asking().take(&question.id, answer.clone(), 1));
            });
            let silent = outcome.as_ref().is_err_and(Unanswered::is_anyone_silent);
            let clients = outcome.unwrap_or_else(|unanswered| unanswered.so_far);
            let given: Vec<Payload> = given.iter().map(|json| Payload::json((*json).to_owned())).collect();
            assert_eq!((clients, silent), (Clients { given, missing }, is_anyone_silent), "{answers:?}");
        };
        let ack = |json: &str| Answer::Ack(Decoded { json: json.into(), attachments: Vec::new() });
        let count = Answer::ClientCount;
        check(&[count(1), ack("1"), count(0)], &["1"], 0, false).await;
        check(&[ack("1"), count(2), count(1), ack("2")], &["1", "2"], 1, false).await;
        check(&[count(2), ack("1")], &["1"], 1, true).await;
        check(&[], &[], 0, true).await;
    }

    #[tokio::test]
    async fn nobody_waits_for_a_bus_that_is_given_up() {
        let bus = Bus::default();
        bus.close();
        let outcome = bus.fetch_sockets(NamespaceId(0), Scope::default(), Whose::Peers).now_or_never();
        let unanswered = outcome.expect("at once").expect_err("nobody was asked");
        assert_eq!(unanswered.others, None);
    }
}
