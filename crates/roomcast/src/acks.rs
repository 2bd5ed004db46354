//! Answers that clients owe: who was asked under which number, and who waits for it. Knows neither packets nor connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hub::emission::Payload;
use hub::names::SocketId;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// What one client, or all that were asked, had to say.
#[derive(Debug, Default)]
pub struct Answers {
    /// Who answered what, in the order of arrival.
    pub given: Vec<(SocketId, Payload)>,
    /// How many were asked.
    pub asked: usize,
    /// How many of those went without an answer.
    pub gone: usize,
    /// How many answered; those that were taken already included.
    answered: usize,
}

impl Answers {
    fn is_complete(&self) -> bool {
        self.answered + self.gone >= self.asked
    }
}

struct Waiting {
    answers: Answers,
    /// Everyone who is to be asked has been.
    all_asked: bool,
    done: Option<oneshot::Sender<()>>,
    changed: Arc<Notify>,
}

/// The questions of a process. Bound: one entry for each [`Question`] that someone holds.
#[derive(Default)]
pub struct Acks {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

impl std::fmt::Debug for Acks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acks").field("waiting", &self.waiting.lock().len()).finish_non_exhaustive()
    }
}

/// A question under way. Dropped, it is over: what is answered later is answered to nobody.
#[derive(Debug)]
pub struct Question {
    acks: Arc<Acks>,
    number: u64,
    done: oneshot::Receiver<()>,
    changed: Arc<Notify>,
}

/// How far a question is.
#[derive(Debug)]
pub struct Progress {
    /// What was answered since this was asked last.
    pub given: Vec<(SocketId, Payload)>,
    /// How many clients were asked, once all have been.
    pub asked: Option<usize>,
    /// Whether nothing more will come.
    pub is_complete: bool,
}

impl Acks {
    /// A new question, asked of nobody yet. The first number is 0.
    pub fn ask(self: &Arc<Self>) -> Question {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        let changed = Arc::new(Notify::new());
        let waiting =
            Waiting { answers: Answers::default(), all_asked: false, done: Some(sender), changed: changed.clone() };
        self.waiting.lock().insert(number, waiting);
        Question { acks: self.clone(), number, done, changed }
    }

    /// Whether someone still waits for the answers.
    pub fn is_waiting(&self, number: u64) -> bool {
        self.waiting.lock().contains_key(&number)
    }

    /// So many more clients were asked.
    pub fn asked(&self, number: u64, clients: usize) {
        self.change(number, |waiting| waiting.answers.asked += clients);
    }

    /// Nobody else will be asked.
    pub fn all_asked(&self, number: u64) {
        self.change(number, |waiting| waiting.all_asked = true);
    }

    /// A client that was asked has answered. The caller sees to it that it was asked, and answers once.
    pub fn answer(&self, number: u64, from: SocketId, payload: Payload) {
        self.change(number, |waiting| {
            waiting.answers.answered += 1;
            waiting.answers.given.push((from, payload));
        });
    }

    /// A client that was asked will never answer.
    pub fn gone(&self, number: u64) {
        self.change(number, |waiting| waiting.answers.gone += 1);
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.waiting.lock().get_mut(&number) {
            change(waiting);
            waiting.changed.notify_one();
            if waiting.all_asked
                && waiting.answers.is_complete()
                && let Some(done) = waiting.done.take()
            {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }
}

impl Question {
    /// The number under which clients are asked.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits until everyone has answered or is gone. May be given up at any time.
    pub async fn complete(&mut self) {
        // The sender goes with the entry, which goes with this.
        let _ = (&mut self.done).await;
    }

    /// Waits until something has changed, and tells how far it is.
    pub async fn progress(&mut self) -> Progress {
        self.changed.notified().await;
        let mut waiting = self.acks.waiting.lock();
        let Some(Waiting { answers, all_asked, .. }) = waiting.get_mut(&self.number) else {
            return Progress { given: Vec::new(), asked: None, is_complete: true };
        };
        Progress {
            given: std::mem::take(&mut answers.given),
            asked: all_asked.then_some(answers.asked),
            is_complete: *all_asked && answers.is_complete(),
        }
    }

    /// What was answered so far.
    pub fn take(&mut self) -> Answers {
        let mut waiting = self.acks.waiting.lock();
        waiting.get_mut(&self.number).map(|waiting| std::mem::take(&mut waiting.answers)).unwrap_or_default()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.acks.waiting.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn socket(letter: char) -> SocketId {
        SocketId::parse(&letter.to_string().repeat(20)).expect("an id")
    }

    #[test]
    fn a_question_is_over_when_all_who_were_asked_have_answered_or_gone() {
        let acks = Arc::new(Acks::default());
        let mut question = acks.ask();
        let number = question.number();
        acks.asked(number, 2);
        acks.answer(number, socket('a'), Payload::json("1"));
        acks.asked(number, 1);
        acks.answer(number, socket('b'), Payload::json("2"));
        acks.gone(number);
        assert_eq!(question.complete().now_or_never(), None, "more may be asked");
        acks.all_asked(number);
        assert_eq!(question.complete().now_or_never(), Some(()));
        let answers = question.take();
        assert_eq!((answers.asked, answers.gone, answers.given.len()), (3, 1, 2));
    }

    #[test]
    fn nobody_is_asked_and_nobody_waits() {
        let acks = Arc::new(Acks::default());
        let mut question = acks.ask();
        let number = question.number();
        acks.all_asked(number);
        assert_eq!(question.complete().now_or_never(), Some(()));
        drop(question);
        assert!(!acks.is_waiting(number));
        acks.answer(number, socket('a'), Payload::json("too late"));
    }
}
