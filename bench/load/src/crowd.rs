//! All clients of a run in one thread: their sockets in one epoll set, and what the scenarios do with them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::check::{Checker, PLAIN_SHAPE};
use crate::dialect::{Dialect, Stamper};
use crate::link::Link;
use crate::session::{Common, End, News, Session, Who};
use crate::target::Target;

/// What is read from one socket at once.
const READ_BYTES: usize = 64 << 10;

/// The epoll set's name for the timer.
const TIMER: u64 = u64::MAX;

/// How clients come in.
pub struct Plan {
    /// The server.
    pub target: Target,
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

struct Client {
    link: Option<Link>,
    session: Session,
    /// Which of its connections this is: what the set says of an earlier one is not meant.
    generation: u16,
    connected: bool,
}

/// The clients.
pub struct Crowd {
    plan: Plan,
    server: SocketAddr,
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
            server: plan.target.address,
            common: Common::new(plan.dialect, Checker::new(PLAIN_SHAPE)),
            plan,
            clients: Vec::new(),
            set,
            timer,
            events: Vec::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            heard: now(),
        })
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
    pub fn add_all(&mut self, count: usize) -> std::ops::Range<usize> {
        let first = self.clients.len();
        let client = || Client { link: None, session: Session::default(), generation: 0, connected: false };
        self.clients.extend(std::iter::repeat_with(client).take(count));
        first..first + count
    }

    /// A client connects.
    pub fn open(&mut self, index: usize) -> anyhow::Result<()> {
        let spread = u8::try_from(index % usize::from(self.plan.addresses.max(1))).expect("below a number of a byte");
        let from = (self.plan.addresses > 0).then(|| Ipv4Addr::new(127, 0, 0, 2 + spread));
        let link = Link::begin(self.server, from).with_context(|| advice(&self.plan.target, index))?;
        let client = &mut self.clients[index];
        client.generation = client.generation.wrapping_add(1);
        client.connected = false;
        client.session = Session::default();
        let data = epoll::EventData::new_u64((index as u64) << 16 | u64::from(client.generation));
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.set, &link, data, flags).context("cannot watch a socket")?;
        client.link = Some(link);
        Ok(())
    }

    /// A client goes, as one does whose network is gone.
    pub fn close(&mut self, index: usize) -> anyhow::Result<()> {
        match self.clients[index].link.take() {
            Some(link) => link.reset().context("cannot end a connection"),
            None => Ok(()),
        }
    }

    /// Connects so many more, so many of them at a time, and waits until all are in.
    pub fn bring_in(&mut self, count: usize, in_flight: usize) -> anyhow::Result<std::ops::Range<usize>> {
        let clients = self.add_all(count);
        self.bring_back(clients.clone(), in_flight)?;
        Ok(clients)
    }

    /// Connects these, so many of them at a time, and waits until all are in.
    pub fn bring_back(&mut self, clients: std::ops::Range<usize>, in_flight: usize) -> anyhow::Result<()> {
        let (mut opened, mut settled) = (clients.start, 0);
        while settled < clients.len() {
            while opened < clients.end && opened - clients.start - settled < in_flight {
                self.open(opened)?;
                opened += 1;
            }
            if !self.turn(None)? {
                bail!(
                    "{} of {} clients are not in after {:?}",
                    clients.len() - settled,
                    clients.len(),
                    self.plan.patience
                );
            }
            for (index, news) in self.news() {
                match news {
                    News::Entered => settled += 1,
                    News::Refused(words) | News::Gone(words) => bail!("client {index} did not get in: {words}"),
                    News::Joined | News::Left | News::Echoed => {}
                }
            }
        }
        Ok(())
    }

    /// Clients join rooms, 64 at a time; waits until all have.
    pub fn join_all(&mut self, joins: &[(usize, u32)]) -> anyhow::Result<()> {
        let (mut asked, mut joined) = (0, 0);
        while joined < joins.len() {
            while asked < joins.len() && asked - joined < 64 {
                self.join(joins[asked].0, joins[asked].1)?;
                asked += 1;
            }
            if !self.turn(None)? {
                bail!(
                    "{} of {} joins were not answered in {:?}",
                    joins.len() - joined,
                    joins.len(),
                    self.plan.patience
                );
            }
            for (index, news) in self.news() {
                match news {
                    News::Joined => joined += 1,
                    News::Refused(words) | News::Gone(words) => bail!("client {index} could not join: {words}"),
                    News::Entered | News::Left | News::Echoed => {}
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
    pub fn leave(&mut self, index: usize, room: u32) -> anyhow::Result<()> {
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
        let sent = match &mut self.clients[index].link {
            Some(link) => link.write(&self.common.out),
            None => Ok(()),
        };
        self.common.out.clear();
        sent.with_context(|| format!("client {index} cannot send"))
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
            let data = event.data.u64();
            if data != TIMER {
                came = true;
                self.ready(data, event.flags);
            }
        }
        self.events = events;
        if came {
            self.heard = now();
            return Ok(true);
        }
        Ok(u128::from(now() - self.heard) < self.plan.patience.as_nanos())
    }

    fn ready(&mut self, data: u64, flags: epoll::EventFlags) {
        let index = (data >> 16) as usize;
        let client = &mut self.clients[index];
        if client.generation != data as u16 {
            return;
        }
        let Some(link) = &mut client.link else { return };
        let token = match &self.plan.tokens[..] {
            [] => None,
            tokens => Some(tokens[index % tokens.len()].as_str()),
        };
        let who = Who { index, token };
        let outcome = if client.connected {
            converse(link, &mut client.session, who, &mut self.common, &mut self.buffer, flags)
        } else if !flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR | epoll::EventFlags::HUP) {
            Ok(())
        } else {
            client.connected = true;
            greet(link, &self.plan, token)
        };
        if let Err(end) = outcome {
            client.link = None;
            let faults = &mut self.common.checker.faults;
            let words = match end {
                End::Refused(words) => {
                    faults.refused += 1;
                    words
                }
                End::Closed(words) => {
                    faults.closed += 1;
                    words
                }
                End::Garbled(words) => {
                    faults.garbled += 1;
                    format!("the server said what is not of the protocol: {words}")
                }
            };
            self.common.out.clear();
            self.common.news.push((index, News::Gone(words)));
        }
    }

    /// Waits a little for what must not come, and counts what never came.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        self.linger(Duration::from_millis(100))?;
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

/// The connection is there: asks for the WebSocket.
fn greet(link: &mut Link, plan: &Plan, token: Option<&str>) -> Result<(), End> {
    link.refusal().map_err(|error| End::Refused(format!("cannot connect to {}: {error}", plan.target.address)))?;
    link.write(plan.target.handshake(&plan.dialect.query(token)).as_bytes()).map_err(broken)
}

/// Takes what came, and answers it.
#[inline]
fn converse(
    link: &mut Link,
    session: &mut Session,
    who: Who<'_>,
    common: &mut Common,
    buffer: &mut [u8],
    flags: epoll::EventFlags,
) -> Result<(), End> {
    if flags.contains(epoll::EventFlags::OUT) {
        link.flush().map_err(broken)?;
    }
    loop {
        let read = match link.read(buffer) {
            Ok(0) => return Err(End::Closed("the server ended the connection".into())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(broken(error)),
        };
        session.take(who, &buffer[..read], common, now())?;
        if !common.out.is_empty() {
            link.write(&common.out).map_err(broken)?;
            common.out.clear();
        }
        // A socket that gave less than it was asked for is empty; what comes afterwards is named again.
        if read < buffer.len() {
            return Ok(());
        }
    }
}

fn broken(error: io::Error) -> End {
    End::Closed(format!("the connection broke: {error}"))
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

fn advice(target: &Target, index: usize) -> String {
    format!(
        "client {index} cannot begin to connect to {} (more than 28,000 clients of one server need --addresses, and descriptors `ulimit -n`)",
        target.address
    )
}
