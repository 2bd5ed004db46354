//! A shard's side of long-polling: each request that names a session goes into it, and what it says of the request goes back. Knows no HTTP:
//! that is `front/polls`.

use std::net::IpAddr;

use hub::codes::CloseCode;
use tokio::sync::oneshot;
use wire::engine::{self, GetVerdict, Polls, Post, PostAnswer, Refusal, Session};

use super::front::Seat;
use super::inbox::Message;
use super::poll::{Handshake, Named, Passage, PollKind, PollReply, PollRequest};
use super::slots::Encoding;
use super::{MESSAGES_PER_READ, Shard};

impl Shard {
    /// A polling request, from whatever shard its TCP connection is on.
    pub(super) fn poll_request(&mut self, request: PollRequest) {
        match request {
            PollRequest::Open { handshake, address, endpoint, polls, seat, reply } => {
                let opened = self.open_polling(handshake, address, endpoint, polls, seat);
                // A client that went away meanwhile is noticed by its missing polls.
                let _ = reply.send(opened);
            }
            PollRequest::Leaving { sid, what } => {
                if let Some(slot) = self.sessions.get(&sid).copied() {
                    self.passage_ends(slot, what);
                }
            }
            PollRequest::Session { named, kind, reply } => {
                if let Some(slot) = self.sessions.get(&named.sid).copied() {
                    self.overdue(slot);
                }
                let slot = self.sessions.get(&named.sid).copied();
                let Some(slot) = slot.filter(|slot| self.connection(*slot).endpoint == named.endpoint) else {
                    let is_rest = matches!(kind, PollKind::PostRest(_));
                    // As in Node a POST is answered as if nothing had happened, even if its own packets ended the session.
                    let _ = reply.send(if is_rest { PollReply::Ok } else { PollReply::UnknownSession });
                    return;
                };
                if engine::fits(self.socket_io(slot).session.known(), named.asked, named.upgrade) {
                    self.session_request(slot, named, kind, reply);
                } else {
                    let _ = reply.send(PollReply::BadRequest);
                }
                if self.connections[slot as usize].is_some() {
                    self.arm(slot);
                }
            }
        }
        self.settle();
    }

    /// The node by which a session's client comes is about to go: a poll comes again by another way, and the session goes on; a WebSocket is closed,
    /// since it cannot be led elsewhere, and with it a client that is about to be on nothing else. A client that has gone ends its session.
    fn passage_ends(&mut self, slot: u32, what: Passage) {
        match (what, self.socket_io(slot).session.transport()) {
            (Passage::Poll, engine::Transport::Polling) => {
                self.session(slot, |session, context| session.get_released(context));
            }
            (Passage::WebSocket, engine::Transport::WebSocket) => {
                self.close(slot, CloseCode::GoingAway, CloseCode::GoingAway.reason());
            }
            (Passage::Client, engine::Transport::Polling) => {
                self.session(slot, |session, context| session.get_lost(context));
            }
            // A WebSocket that is being tried.
            (Passage::WebSocket, engine::Transport::Polling) => {
                if !self.session(slot, |session, context| session.probe_leaves(context)) {
                    self.close(slot, CloseCode::GoingAway, CloseCode::GoingAway.reason());
                }
            }
            // It has moved on.
            (Passage::Poll | Passage::Client, engine::Transport::WebSocket) => {}
        }
        if self.connections[slot as usize].is_some() {
            self.arm(slot);
        }
    }

    /// Does what is due for a session before a request of it is looked at: a client whose time is over does not get it back by being
    /// looked at before the timer.
    fn overdue(&mut self, slot: u32) {
        let now = self.clock.now_ms();
        if self.deadline(slot).is_some_and(|deadline| deadline <= now) {
            self.deadline_reached(slot);
        }
    }

    fn session_request(&mut self, slot: u32, named: Named, kind: PollKind, reply: oneshot::Sender<PollReply>) {
        // Whoever asked may have gone meanwhile: its end is told by a request of its own.
        match kind {
            PollKind::Get => match self.session(slot, |session, context| session.get(context)) {
                GetVerdict::Answer(packets) => drop(reply.send(PollReply::Packets(packets))),
                GetVerdict::Wait => self.socket_io(slot).waiting_get = Some(reply),
                GetVerdict::Overlap => drop(reply.send(PollReply::Gone)),
                GetVerdict::Refuse(refusal) => drop(reply.send(refused(refusal))),
            },
            PollKind::Aborted => {
                self.socket_io(slot).waiting_get = None;
                self.session(slot, |session, context| session.get_aborted(context));
            }
            PollKind::PostStarted { binary, abort } => {
                let started = self.session(slot, |session, context| session.post_started(binary, context));
                if started.is_ok() {
                    self.socket_io(slot).arriving_post = Some(abort);
                }
                let _ = reply.send(started.map_or_else(post_reply, |()| PollReply::Ok));
            }
            PollKind::Post { body, binary, started } => {
                self.socket_io(slot).arriving_post.take_if(|_| started);
                let post = self.session(slot, |session, context| {
                    if !started {
                        session.post_started(binary, context)?;
                    }
                    session.post_body(body, binary, context)
                });
                match post {
                    Ok(post) => self.post(slot, named, post, reply),
                    Err(answer) => drop(reply.send(post_reply(answer))),
                }
            }
            PollKind::PostRest(post) => self.post(slot, named, post, reply),
            PollKind::PostTooLarge { binary, started } => {
                self.socket_io(slot).arriving_post.take_if(|_| started);
                let answer = self.session(slot, |session, context| {
                    if !started && let Err(answer) = session.post_started(binary, context) {
                        return answer;
                    }
                    session.post_too_large()
                });
                let _ = reply.send(post_reply(answer));
            }
            PollKind::PostAborted => {
                self.socket_io(slot).arriving_post = None;
                self.session(slot, |session, context| session.post_aborted(context));
            }
            PollKind::Fits => drop(reply.send(PollReply::Ok)),
        }
    }

    /// A helping of a POST's messages; the rest comes when others have had their turn.
    fn post(&mut self, slot: u32, named: Named, mut post: Post, reply: oneshot::Sender<PollReply>) {
        for _ in 0..MESSAGES_PER_READ {
            // What a message sets off may have ended the connection.
            if self.connections[slot as usize].is_none() {
                break;
            }
            match self.session(slot, |session, context| session.next_message(&mut post, context)) {
                Some(received) => self.received(slot, received),
                None => {
                    // What it brought about is there for the poll that comes behind it.
                    self.flush(slot);
                    return drop(reply.send(PollReply::Ok));
                }
            }
        }
        let rest = PollRequest::Session { named, kind: PollKind::PostRest(post), reply };
        self.own.send(Message::Poll(rest));
    }

    fn open_polling(
        &mut self,
        handshake: Box<Handshake>,
        address: IpAddr,
        endpoint: usize,
        polls: Polls,
        seat: Option<Seat>,
    ) -> PollReply {
        let now = self.clock.now_ms();
        let key = self.slots.open(Encoding::Polling);
        let revision = polls.revision();
        let session = Session::polling(&self.settings[endpoint], polls, now);
        let sid = self.session_id(key.slot, revision);
        let body = session.opened(self.open_packet(sid, endpoint, true));
        self.open_socket_io(key, session, sid, handshake, address, endpoint);
        self.connection(key.slot).seat = seat;
        self.open_messages(key);
        self.enter_unasked(key.slot, revision);
        PollReply::Opened { body, sid }
    }
}

fn post_reply(answer: PostAnswer) -> PollReply {
    match answer {
        PostAnswer::Ok => PollReply::Ok,
        PostAnswer::BadRequest => PollReply::Gone,
        PostAnswer::TooLarge => PollReply::TooLarge,
        PostAnswer::Refuse(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> PollReply {
    match refusal {
        Refusal::SessionUnknown => PollReply::UnknownSession,
        Refusal::TransportUnknown
        | Refusal::BadHandshakeMethod
        | Refusal::BadRequest
        | Refusal::Forbidden
        | Refusal::UnsupportedVersion => PollReply::BadRequest,
    }
}
