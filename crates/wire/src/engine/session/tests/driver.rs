//! The driver of the scripts: it does what a shard would, on a clock of its own, and holds every script to the promises of
//! [`Output`].

use super::super::*;

/// A session with what its driver knows of it.
pub(super) struct Driver {
    pub(super) session: Session,
    pub(super) now_ms: u64,
    pub(super) closed: bool,
    pub(super) forgotten: bool,
    /// It has been on a WebSocket that it moved to.
    pub(super) moved: bool,
    /// What waited for it was dropped.
    pub(super) cut: bool,
    /// The packets that the client has got, over polling and at the upgrade.
    pub(super) fetched: Vec<String>,
    settings: Settings,
    get_waits: bool,
    is_probed: bool,
}

impl Driver {
    pub(super) fn new(session: fn(&Settings, u64) -> Session) -> Self {
        let settings = Settings { max_payload: 40, max_buffered_bytes: 2000, ..Settings::default() };
        let session = session(&settings, 0);
        Self {
            session,
            now_ms: 0,
            closed: false,
            forgotten: false,
            moved: false,
            cut: false,
            fetched: Vec::new(),
            settings,
            get_waits: false,
            is_probed: false,
        }
    }

    /// Does what an output says.
    fn carry_out(&mut self, output: &Output) {
        assert!(!self.forgotten, "nothing is asked of the driver once the session is forgotten: {output:?}");
        match output {
            Output::AnswerGet(payload) => {
                assert!(std::mem::take(&mut self.get_waits), "a GET is answered that does not wait: {payload:?}");
                self.fetched.extend(shown(&payload.bytes).split('|').map(str::to_owned));
            }
            Output::Upgraded { buffered } => {
                assert!(!self.get_waits, "a GET is left behind");
                assert!(std::mem::take(&mut self.is_probed), "it moves to the WebSocket that is tried");
                self.moved = true;
                self.fetched.extend(buffered.iter().map(|packet| written(std::slice::from_ref(packet))));
            }
            Output::Closed(reason) => {
                assert!(!std::mem::replace(&mut self.closed, true), "closed twice: {reason:?}");
                self.cut = *reason == CloseReason::SlowConsumer;
            }
            Output::Forget => {
                assert!(self.closed && !self.get_waits && !self.is_probed, "the end comes last");
                self.forgotten = true;
            }
            Output::CloseProbe => assert!(std::mem::take(&mut self.is_probed), "there is none to close"),
            Output::WriteProbe(_) => assert!(self.is_probed, "there is none to write to"),
            Output::AbortPost | Output::WriteMain(_) | Output::CloseWebSocket { .. } => {}
        }
    }

    /// Does one thing and tells the verdict on it and the outputs.
    pub(super) fn step(&mut self, command: &str) -> String {
        let (verb, argument) = command.split_once(' ').unwrap_or((command, ""));
        let mut out = Vec::new();
        let mut context = Context { settings: &self.settings, now_ms: self.now_ms, out: &mut out };
        let session = &mut self.session;
        let mut told = Vec::new();
        match verb {
            "get" => told.push(match session.get(&mut context) {
                GetVerdict::Answer(payload) => {
                    let shown = shown(&payload.bytes);
                    self.fetched.extend(shown.split('|').map(str::to_owned));
                    format!("200 {shown}")
                }
                GetVerdict::Wait => {
                    self.get_waits = true;
                    "wait".to_owned()
                }
                GetVerdict::Overlap => "400".to_owned(),
                GetVerdict::Refuse(refusal) => format!("refuse {}", refusal.code()),
            }),
            "get-aborted" => {
                self.get_waits = false;
                session.get_aborted(&mut context);
            }
            "post-starts" => told.extend(session.post_started(false, &mut context).err().map(answer)),
            "post-starts-binary" => {
                told.extend(session.post_started(true, &mut context).err().map(answer));
            }
            "post-aborted" => session.post_aborted(&mut context),
            "post-too-large" => told.push(answer(session.post_too_large())),
            "post" | "post-body" => {
                let started = if verb == "post" { session.post_started(false, &mut context) } else { Ok(()) };
                let body = argument.replace('|', "\u{1e}").into();
                match started.and_then(|()| session.post_body(body, false, &context)) {
                    Ok(mut post) => {
                        while let Some(received) = session.next_message(&mut post, &mut context) {
                            told.push(message(&received));
                        }
                        told.push(answer(PostAnswer::Ok));
                    }
                    Err(refused) => told.push(answer(refused)),
                }
            }
            "post-garbage" => {
                session.post_started(false, &mut context).expect("a polling session");
                let mut post = session.post_body(Bytes::from_static(b"4\xff"), false, &context).expect("a body");
                while let Some(received) = session.next_message(&mut post, &mut context) {
                    told.push(message(&received));
                }
                told.push(answer(PostAnswer::Ok));
            }
            "post-bytes" => {
                session.post_started(true, &mut context).expect("a session of revision 3");
                let body = argument.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
                let mut post = session.post_body(body, true, &context).expect("a body");
                while let Some(received) = session.next_message(&mut post, &mut context) {
                    told.push(message(&received));
                }
                told.push(answer(PostAnswer::Ok));
            }
            "probe" => {
                let verdict = session.probe_started(&mut context);
                self.is_probed |= verdict == ProbeVerdict::Accept;
                told.push(format!("{verdict:?}").to_lowercase());
            }
            "ws" => told.extend(session.websocket_text(argument, &mut context).as_ref().map(message)),
            "ws-binary" => {
                told.extend(session.websocket_binary(argument.as_bytes(), &mut context).as_ref().map(message))
            }
            "ws-gone" => {
                self.is_probed = false;
                session.websocket_closed(CloseReason::TransportClose, &mut context);
            }
            "slow-upgrades" => self.settings.upgrade_timeout_ms = u64::MAX / 2,
            "send" => {
                if !session.send(Outbound::Text(argument.to_owned().into()), &mut context) {
                    told.push("not taken".to_owned());
                }
            }
            "send-binary" => {
                told.push(session.send(Outbound::Binary(argument.to_owned().into()), &mut context).to_string())
            }
            "flush" => session.flush(&mut context),
            "close" => session.close(CloseReason::ServerShuttingDown, Some(1001), "bye", &mut context),
            "probe-leaves" => told.push(session.probe_leaves(&mut context).to_string()),
            "phase" => told.push(format!("{:?}", session.phase()).to_lowercase()),
            "until" => return self.run_until(argument.parse().expect("milliseconds")),
            _ => panic!("no such command: {command}"),
        }
        out.iter().for_each(|output| self.carry_out(output));
        told.extend(out.iter().map(output));
        told.join("; ")
    }

    /// Lets time pass, and the session's deadlines with it.
    pub(super) fn run_until(&mut self, until_ms: u64) -> String {
        let mut told = Vec::new();
        while let Some(deadline) = self.session.next_deadline().filter(|deadline| *deadline <= until_ms) {
            let mut out = Vec::new();
            self.now_ms = deadline;
            self.session.on_timeout(&mut Context { settings: &self.settings, now_ms: deadline, out: &mut out });
            assert!(self.session.next_deadline().is_none_or(|next| next > deadline), "what is due is done");
            out.iter().for_each(|output| self.carry_out(output));
            if !out.is_empty() {
                told.push(format!("@{deadline} {}", out.iter().map(output).collect::<Vec<_>>().join("; ")));
            }
        }
        self.now_ms = until_ms;
        told.join("; ")
    }
}

fn shown(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).replace('\u{1e}', "|")
}

/// Packets in revision 4's spelling.
fn written(packets: &[Outbound]) -> String {
    shown(&Polls::default().body(packets).bytes)
}

fn message(received: &Received<'_>) -> String {
    match received {
        Received::Text(text) => format!("text {text}"),
        Received::Binary(data) => format!("binary {}", data.escape_ascii()),
    }
}

fn answer(answer: PostAnswer) -> String {
    match answer {
        PostAnswer::Ok => "ok".to_owned(),
        PostAnswer::BadRequest => "400".to_owned(),
        PostAnswer::TooLarge => "413".to_owned(),
        PostAnswer::Refuse(refusal) => format!("refuse {}", refusal.code()),
    }
}

fn output(output: &Output) -> String {
    match output {
        Output::AnswerGet(payload) => format!("GET {}", shown(&payload.bytes)),
        Output::AbortPost => "abort post".to_owned(),
        Output::WriteMain(text) => format!("write {text}"),
        Output::WriteProbe(text) => format!("probe {text}"),
        Output::CloseProbe => "close probe".to_owned(),
        Output::Upgraded { buffered } => format!("upgraded {}", written(buffered)).trim_end().to_owned(),
        Output::CloseWebSocket { code, reason } => {
            format!("close {} {reason}", code.unwrap_or(1005)).trim_end().to_owned()
        }
        Output::Closed(reason) => reason.as_str().to_owned(),
        Output::Forget => "forget".to_owned(),
    }
}
