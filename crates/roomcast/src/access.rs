//! Asks an access service whether a user may enter a room: 2xx lets in, 403 and 404 refuse, anything else is no answer. Knows neither users nor
//! rooms: a question is a URL.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use parking_lot::Mutex;
use reqwest::Client;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// How long an answer holds: so long may someone who has just been shut out still get in.
pub const ANSWER_MAX_AGE: Duration = Duration::from_secs(5);

/// Questions that are remembered, answered or not. At the bound the oldest answer is forgotten; with none to forget the question is not asked.
const QUESTIONS_MAX: usize = 10_000;

/// Requests under way at a time; more wait, within their time-out.
const REQUESTS_MAX: usize = 256;

/// What of an answer's body is read, so that its connection can be used again.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// What an access service says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The user may enter.
    Allowed,
    /// The user may not.
    Refused,
    /// The service did not say; it may when asked again.
    TryAgain,
}

/// Asks access services. Cheap to clone; may be asked from any runtime.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    client: Client,
    backend: Handle,
    questions: Mutex<Questions>,
    requests: Semaphore,
    /// Whether the last request got no answer: only changes are worth a line at WARN.
    failing: AtomicBool,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Requests are made on `backend`, over connections that are kept.
    ///
    /// # Errors
    /// The machine has no usable TLS set-up.
    pub fn new(backend: &Handle) -> anyhow::Result<Self> {
        // A redirect is no answer: who may be asked is the operator's to say.
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("access services cannot be asked")?;
        Ok(Self(Arc::new(Inner {
            client,
            backend: backend.clone(),
            questions: Mutex::default(),
            requests: Semaphore::new(REQUESTS_MAX),
            failing: AtomicBool::new(false),
        })))
    }

    /// Asks, unless the answer is known or someone asks the same already; then that answer is theirs, too, with its time-out.
    pub async fn ask(&self, url: &str, timeout_ms: u64) -> Answer {
        let mut coming = match self.0.questions.lock().look(url, Instant::now()) {
            Look::Known(answer) => return answer,
            Look::Full => return Answer::TryAgain,
            Look::Coming(coming) => coming,
            Look::New(url, sender) => {
                let coming = sender.subscribe();
                self.0.backend.spawn(self.clone().request(url, Duration::from_millis(timeout_ms), sender));
                coming
            }
        };
        match coming.wait_for(Option::is_some).await {
            Ok(answer) => answer.unwrap_or(Answer::TryAgain),
            // The backend runtime is gone, since the process is ending.
            Err(_) => Answer::TryAgain,
        }
    }

    async fn request(self, url: Arc<str>, timeout: Duration, sender: watch::Sender<Option<Answer>>) {
        let answer = match tokio::time::timeout(timeout, self.answer(&url)).await {
            Ok(Ok(status)) if status.is_success() => Answer::Allowed,
            Ok(Ok(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)) => Answer::Refused,
            Ok(Ok(status)) => self.failed(&format!("the answer was {status}")),
            Ok(Err(error)) => self.failed(&format!("{:#}", anyhow::Error::new(error.without_url()))),
            Err(_) => self.failed("no answer in time"),
        };
        if answer != Answer::TryAgain && self.0.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the access service answers again");
        }
        self.0.questions.lock().answered(&url, answer, Instant::now());
        sender.send_replace(Some(answer));
    }

    async fn answer(&self, url: &str) -> reqwest::Result<StatusCode> {
        let _request = self.0.requests.acquire().await;
        let mut response = self.0.client.get(url).send().await?;
        let mut read = 0;
        while read < BODY_MAX_BYTES {
            // The status is the answer; a body that breaks off only costs the connection.
            let Ok(Some(chunk)) = response.chunk().await else { break };
            read += chunk.len();
        }
        Ok(response.status())
    }

    fn failed(&self, error: &str) -> Answer {
        if self.0.failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(error, "the access service does not answer");
        } else {
            tracing::warn!(error, "the access service does not answer: rooms that it guards are closed");
        }
        Answer::TryAgain
    }
}

/// The questions of the last seconds.
#[derive(Default)]
struct Questions {
    by_url: HashMap<Arc<str>, Question>,
    /// The answered ones, the oldest first, each with the time at which it is forgotten.
    answered: VecDeque<(Instant, Arc<str>)>,
}

enum Question {
    Asked(watch::Receiver<Option<Answer>>),
    Answered(Answer),
}

enum Look {
    Known(Answer),
    Coming(watch::Receiver<Option<Answer>>),
    New(Arc<str>, watch::Sender<Option<Answer>>),
    Full,
}

impl Questions {
    fn look(&mut self, url: &str, now: Instant) -> Look {
        while self.answered.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
        match self.by_url.get(url) {
            Some(Question::Answered(answer)) => return Look::Known(*answer),
            Some(Question::Asked(coming)) => return Look::Coming(coming.clone()),
            None => {}
        }
        if self.by_url.len() >= QUESTIONS_MAX && !self.forget_oldest() {
            return Look::Full;
        }
        let (sender, receiver) = watch::channel(None);
        let url: Arc<str> = Arc::from(url);
        self.by_url.insert(url.clone(), Question::Asked(receiver));
        Look::New(url, sender)
    }

    /// No answer is not remembered: the next one asks again.
    fn answered(&mut self, url: &Arc<str>, answer: Answer, now: Instant) {
        match answer {
            Answer::Allowed | Answer::Refused => {
                self.by_url.insert(url.clone(), Question::Answered(answer));
                self.answered.push_back((now + ANSWER_MAX_AGE, url.clone()));
            }
            Answer::TryAgain => {
                self.by_url.remove(url);
            }
        }
    }

    /// Returns whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, url)) = self.answered.pop_front() else { return false };
        self.by_url.remove(&url).is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a test cannot go on without")]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::extract::{Path, State};
    use axum::http::HeaderValue;
    use axum::response::{IntoResponse as _, Response};

    use super::*;

    const TIMEOUT_MS: u64 = 60_000;

    /// A service that answers with the status in the path, once it may.
    #[derive(Clone)]
    struct Service {
        requests: watch::Sender<usize>,
        open: watch::Sender<bool>,
    }

    async fn serve() -> (Service, SocketAddr) {
        async fn answer(State(service): State<Service>, Path((status, _)): Path<(u16, String)>) -> Response {
            service.requests.send_modify(|requests| *requests += 1);
            service.open.subscribe().wait_for(|open| *open).await.unwrap();
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            response.headers_mut().insert("location", HeaderValue::from_static("/200/elsewhere"));
            response
        }
        let service = Service { requests: watch::Sender::new(0), open: watch::Sender::new(true) };
        let router =
            Router::new().route("/{status}/{question}", axum::routing::get(answer)).with_state(service.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (service, address)
    }

    #[tokio::test]
    async fn the_status_is_the_answer() {
        let (_, address) = serve().await;
        let access = Access::new(&Handle::current()).unwrap();
        let table = [
            (200, Answer::Allowed),
            (204, Answer::Allowed),
            (403, Answer::Refused),
            (404, Answer::Refused),
            (301, Answer::TryAgain),
            (401, Answer::TryAgain),
            (429, Answer::TryAgain),
            (500, Answer::TryAgain),
        ];
        for (status, expected) in table {
            assert_eq!(access.ask(&format!("http://{address}/{status}/q"), TIMEOUT_MS).await, expected, "{status}");
        }
    }

    #[tokio::test]
    async fn no_service_and_no_time_are_no_answer() {
        let (service, address) = serve().await;
        let access = Access::new(&Handle::current()).unwrap();
        assert_eq!(access.ask("no URL", TIMEOUT_MS).await, Answer::TryAgain);
        assert_eq!(access.ask("http://127.0.0.1:1/", TIMEOUT_MS).await, Answer::TryAgain);
        service.open.send_replace(false);
        let url = format!("http://{address}/200/q");
        assert_eq!(access.ask(&url, 50).await, Answer::TryAgain);
        service.open.send_replace(true);
        assert_eq!(access.ask(&url, TIMEOUT_MS).await, Answer::Allowed, "no answer is not remembered");
    }

    #[tokio::test]
    async fn one_request_for_all_who_ask_the_same() {
        let (service, address) = serve().await;
        let access = Access::new(&Handle::current()).unwrap();
        let url = format!("http://{address}/200/q");
        service.open.send_replace(false);
        let asked = {
            let (access, url) = (access.clone(), url.clone());
            tokio::spawn(async move {
                let asked = (0..100).map(|_| access.ask(&url, TIMEOUT_MS));
                futures_util::future::join_all(asked).await
            })
        };
        service.requests.subscribe().wait_for(|requests| *requests == 1).await.unwrap();
        service.open.send_replace(true);
        assert_eq!(asked.await.unwrap(), [Answer::Allowed; 100]);
        assert_eq!(access.ask(&url, TIMEOUT_MS).await, Answer::Allowed);
        assert_eq!(*service.requests.borrow(), 1, "the answer is remembered");
        assert_eq!(access.ask(&format!("{url}2"), TIMEOUT_MS).await, Answer::Allowed);
        assert_eq!(*service.requests.borrow(), 2, "another question is asked for itself");
    }

    #[tokio::test]
    async fn answers_are_forgotten_after_five_seconds_and_at_the_bound() {
        let mut questions = Questions::default();
        let now = Instant::now();
        let mut ask = |url: &str, at: Instant| match questions.look(url, at) {
            Look::New(url, _) => {
                questions.answered(&url, Answer::Refused, at);
                "asked"
            }
            Look::Known(Answer::Refused) => "known",
            Look::Known(_) | Look::Coming(_) | Look::Full => "unexpected",
        };
        assert_eq!(ask("a", now), "asked");
        assert_eq!(ask("a", now + ANSWER_MAX_AGE - Duration::from_millis(1)), "known");
        assert_eq!(ask("a", now + ANSWER_MAX_AGE), "asked");
        let later = now + ANSWER_MAX_AGE;
        for number in 0..QUESTIONS_MAX {
            assert_eq!(ask(&number.to_string(), later), "asked");
        }
        assert_eq!(ask("a", later), "asked", "it was the oldest");
        assert_eq!(ask("1", later), "known");
        assert!(questions.by_url.len() <= QUESTIONS_MAX && questions.answered.len() <= QUESTIONS_MAX);
    }
}
