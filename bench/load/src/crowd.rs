//! All clients of a run in one thread: one epoll set, one timer, and what a scenario has its clients do.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::check::Checker;
use crate::client::{Client, Which};
use crate::dialect::{Dialect, Stamper};
use crate::link::Link;
use crate::session::{Common, End, News, Who};
use crate::target::Target;
use crate::tls::Trust;

/// What is read from one socket at once.
const READ_BYTES: usize = 64 << 10;

/// Sockets that are looked at in one turn.
const READY: usize = 1024;

/// Joins and leaves that are in flight at once.
const ASKED: usize = 64;

/// Ends that are told in words, so that a server that fails does not fill the screen.
const TOLD: u64 = 5;

/// The epoll set's name for the timer.
const TIMER: u64 = u64::MAX;

/// How clients come in.
#[derive(Clone)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// Whom it is trusted by, if it speaks TLS.
    pub trust: Option<Trust>,
    /// The protocol.
    pub dialect: Dialect,
    /// Tokens by client; one that all use, or none.
    pub tokens: Vec<String>,
    /// How many loopback addresses they come from; none is whichever the kernel takes.
    pub addresses: u8,
    /// The bytes of an event's frame.
    pub frame_bytes: usize,
    /// How long nothing may come before what is due is given up.
    pub patience: Duration,
}

/// The clients.
pub struct Crowd {
    plan: Plan,
    clients: Vec<Client>,
    common: Common,
    set: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// The last moment when anything came.
    heard: u64,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(plan: Plan) -> anyhow::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll set")?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).context("cannot make a timer")?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&set, &timer, epoll::EventData::new_u64(TIMER), flags)?;
        Ok(Self {
            common: Common::new(plan.dialect, Checker::new(plan.dialect.shape())),
            plan,
            clients: Vec::new(),
            set,
            timer,
            events: Vec::with_capacity(READY),
            buffer: vec![0; READ_BYTES],
            heard: now(),
        })
    }

    /// For another crowd beside this one: the same plan, whose first token is the one behind those of so many clients of this one's.
    pub fn plan_beside(&self, clients: usize) -> Plan {
        let mut plan = self.plan.clone();
        let tokens = plan.tokens.len().max(1);
        plan.tokens.rotate_left(clients % tokens);
        plan
    }

    /// How long nothing may come before what is due is given up.
    pub fn patience(&self) -> Duration {
        self.plan.patience
    }

    /// Who got what.
    pub fn checker(&mut self) -> &mut Checker {
        &mut self.common.checker
    }

    /// What happened since the last time.
    pub fn news(&mut self) -> Vec<(usize, News)> {
        std::mem::take(&mut self.common.news)
    }

    /// So many clients more, without connections.
    pub fn add_all(&mut self, count: usize) -> Range<usize> {
        let first = self.clients.len();
        self.clients.extend(std::iter::repeat_with(Client::default).take(count));
        first..first + count
    }

    /// A client connects.
    pub fn open(&mut self, index: usize) -> anyhow::Result<()> {
        let client = &mut self.clients[index];
        client.generation = client.generation.wrapping_add(1);
        let link = self.link(index, Which::Main)?;
        self.clients[index].begin(link, self.plan.dialect);
        Ok(())
    }

    /// A connection of a client's, which is being made.
    fn link(&self, index: usize, which: Which) -> anyhow::Result<Link> {
        let address = |spread| u8::try_from(spread).map(|spread| Ipv4Addr::new(127, 0, 0, 2 + spread));
        let addresses = usize::from(self.plan.addresses);
        let from = (addresses > 0).then(|| address(index % addresses)).transpose()?;
        let link = Link::begin(self.plan.target.address, from, self.plan.trust.as_ref()).with_context(|| {
            let server = self.plan.target.address;
            format!("client {index} cannot connect to {server}; 20,000 and more need `ulimit -n` and --addresses")
        })?;
        let name = (index as u64) << 17 | (which as u64) << 16 | u64::from(self.clients[index].generation);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.set, &link, epoll::EventData::new_u64(name), flags).context("cannot watch a socket")?;
        Ok(link)
    }

    /// A client goes, as one does whose network is gone.
    pub fn close(&mut self, index: usize) -> anyhow::Result<()> {
        self.clients[index].close().context("cannot end a connection")
    }

    /// Connects so many more, so many of them at a time, and waits until all are in.
    pub fn bring_in(&mut self, count: usize, in_flight: usize) -> anyhow::Result<Range<usize>> {
        let clients = self.add_all(count);
        self.bring_back(clients.clone(), in_flight)?;
        Ok(clients)
    }

    /// Connects these, so many of them at a time, and waits until all are in.
    pub fn bring_back(&mut self, clients: Range<usize>, in_flight: usize) -> anyhow::Result<()> {
        let connect = |crowd: &mut Self, place: usize| crowd.open(clients.start + place);
        self.each_answered(clients.len(), in_flight, &News::Entered, "get in", connect)
    }

    /// Clients join rooms; waits until all have.
    pub fn join_all(&mut self, places: &[(usize, u32)]) -> anyhow::Result<()> {
        let join = |crowd: &mut Self, place: usize| crowd.join(places[place].0, places[place].1);
        self.each_answered(places.len(), ASKED, &News::Joined, "join", join)
    }

    /// Clients leave rooms; waits until all have.
    pub fn leave_all(&mut self, places: &[(usize, u32)]) -> anyhow::Result<()> {
        let leave = |crowd: &mut Self, place: usize| crowd.leave(places[place].0, places[place].1);
        self.each_answered(places.len(), ASKED, &News::Left, "leave", leave)
    }

    /// Does something so many times, so many of them at a time, and waits until each has its answer.
    fn each_answered(
        &mut self,
        times: usize,
        in_flight: usize,
        answer: &News,
        what: &str,
        mut act: impl FnMut(&mut Self, usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (mut asked, mut answered) = (0, 0);
        while answered < times {
            while asked < times && asked < answered + in_flight {
                act(self, asked)?;
                asked += 1;
            }
            if !self.turn(None)? {
                bail!(
                    "{} of {times} clients could not {what}: nothing came for {:?}",
                    times - answered,
                    self.patience()
                );
            }
            for (index, news) in self.news() {
                match news {
                    News::Refused(words) => bail!("client {index} could not {what}: {words}"),
                    News::Gone(end) => bail!("client {index} could not {what}: {}", end.words()),
                    news if news == *answer => answered += 1,
                    News::Entered | News::Joined | News::Left | News::Echoed => {}
                }
            }
        }
        Ok(())
    }

    /// A client asks for a room, and must get all that is sent to it from now on.
    pub fn join(&mut self, index: usize, room: u32) -> anyhow::Result<()> {
        self.common.checker.join(&mut self.clients[index].session.memberships, room);
        self.common.say(|dialect, out| dialect.write_join(out, room));
        self.send(index)
    }

    /// A client asks to be let out of a room.
    fn leave(&mut self, index: usize, room: u32) -> anyhow::Result<()> {
        self.common.checker.leave(&mut self.clients[index].session.memberships, room);
        self.common.say(|dialect, out| dialect.write_leave(out, room));
        self.send(index)
    }

    /// A client says something in each of these rooms, in one piece.
    pub fn say(&mut self, index: usize, rooms: impl Iterator<Item = u32>, nanos: u64) -> anyhow::Result<()> {
        let stamper = Stamper { frame_bytes: self.plan.frame_bytes };
        for room in rooms {
            let data = stamper.stamp(room, self.common.checker.next_of(room), nanos);
            self.common.say(|dialect, out| dialect.write_say(out, room, &data));
        }
        self.send(index)
    }

    /// A client asks for an echo; its own number is the room that it is checked by.
    pub fn echo(&mut self, index: usize) -> anyhow::Result<()> {
        let room = u32::try_from(index).context("too many clients")?;
        self.common.checker.join(&mut self.clients[index].session.memberships, room);
        let sequence = self.common.checker.next_of(room);
        let data = Stamper { frame_bytes: self.plan.frame_bytes }.stamp(room, sequence, now());
        self.common.say(|dialect, out| dialect.write_echo(out, &data));
        self.send(index)
    }

    fn send(&mut self, index: usize) -> anyhow::Result<()> {
        match self.clients[index].send(&mut self.common, &self.plan) {
            Ok(()) => self.open_post(index),
            Err(end) => self.end(index, end),
        }
    }

    fn open_post(&mut self, index: usize) -> anyhow::Result<()> {
        if self.clients[index].wants_to_post() {
            let link = self.link(index, Which::Post)?;
            self.clients[index].begin_to_post(link);
        }
        Ok(())
    }

    /// Waits for something to come and takes it; comes back at the given moment at the latest. False: nothing came for as long as the
    /// patience lasts.
    pub fn turn(&mut self, until: Option<u64>) -> anyhow::Result<bool> {
        if let Some(moment) = until {
            let moment = Itimerspec { it_interval: timespec(0), it_value: timespec(moment.max(1)) };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &moment)?;
        }
        self.events.clear();
        let patience = Timespec::try_from(self.plan.patience).context("a patience that no clock has")?;
        match epoll::wait(&self.set, rustix::buffer::spare_capacity(&mut self.events), Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the sockets"),
        }
        let mut events = std::mem::take(&mut self.events);
        let mut came = false;
        for event in events.drain(..) {
            let name = event.data.u64();
            if name != TIMER {
                came = true;
                self.ready(name, event.flags)?;
            }
        }
        self.events = events;
        if came {
            self.heard = now();
            return Ok(true);
        }
        Ok(u128::from(now() - self.heard) < self.plan.patience.as_nanos())
    }

    fn ready(&mut self, name: u64, flags: epoll::EventFlags) -> anyhow::Result<()> {
        let index = (name >> 17) as usize;
        let which = if name & 1 << 16 == 0 { Which::Main } else { Which::Post };
        let client = &mut self.clients[index];
        if client.generation != name as u16 {
            return Ok(());
        }
        let token = match &self.plan.tokens[..] {
            [] => None,
            tokens => Some(tokens[index % tokens.len()].as_str()),
        };
        let who = Who { index, token };
        match client.ready(which, flags, who, &self.plan, &mut self.common, &mut self.buffer) {
            Ok(()) => self.open_post(index),
            Err(end) => self.end(index, end),
        }
    }

    fn end(&mut self, index: usize, end: End) -> anyhow::Result<()> {
        self.common.out.clear();
        self.common.news.push((index, News::Gone(end)));
        self.close(index)
    }

    /// A client's end is a fault; the first are told in words.
    pub fn blame(&mut self, index: usize, end: &End) {
        let faults = &mut self.common.checker.faults;
        if faults.refused + faults.closed + faults.garbled < TOLD {
            eprintln!("client {index} is gone: {}", end.words());
        }
        match end {
            End::Refused(_) => faults.refused += 1,
            End::Closed(_) => faults.closed += 1,
            End::Garbled(_) => faults.garbled += 1,
        }
    }

    /// Waits a little for what must not come, and counts what never came.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        self.linger(Duration::from_millis(100))?;
        for (index, news) in self.news() {
            if let News::Gone(end) = news {
                self.blame(index, &end);
            }
        }
        for client in &self.clients {
            self.common.checker.count_lost(&client.session.memberships);
        }
        Ok(())
    }

    /// Takes what comes for so long, as idle clients do.
    pub fn linger(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = now() + u64::try_from(time.as_nanos()).context("too long")?;
        while now() < end {
            self.turn(Some(end))?;
        }
        Ok(())
    }
}

/// The monotonic clock, in nanoseconds.
#[inline]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

fn timespec(nanos: u64) -> Timespec {
    Timespec { tv_sec: (nanos / 1_000_000_000).cast_signed(), tv_nsec: (nanos % 1_000_000_000).cast_signed() }
}
