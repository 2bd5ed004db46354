//! One client: its connections and its session, brought together. Knows no epoll set and no other client.

use std::io;

use rustix::event::epoll::EventFlags;

use crate::crowd::{Plan, now};
use crate::dialect::Dialect;
use crate::link::Link;
use crate::polling::Polling;
use crate::session::{Common, End, Session, Who};

/// Which of a client's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that all have: the WebSocket, or the one that asks for packets.
    Main,
    /// The one that posts packets, of a client that polls.
    Post,
}

struct Channel {
    link: Link,
    connected: bool,
}

/// A client.
#[derive(Default)]
pub struct Client {
    main: Option<Channel>,
    /// Whether it is there, and which of its connections these are: what is said of earlier ones is not meant.
    pub generation: u16,
    /// The conversation.
    pub session: Session,
    polling: Option<Box<Polls>>,
}

#[derive(Default)]
struct Polls {
    state: Polling,
    post: Option<Channel>,
}

impl Client {
    /// It begins anew, with a connection that is being made.
    pub fn begin(&mut self, link: Link, dialect: Dialect) {
        self.main = Some(Channel { link, connected: false });
        self.session = Session::default();
        self.polling = (dialect == Dialect::Polling).then(Box::default);
    }

    /// Takes the connection that posts.
    pub fn begin_to_post(&mut self, link: Link) {
        if let Some(polls) = &mut self.polling {
            polls.post = Some(Channel { link, connected: false });
        }
    }

    /// Whether it has packets to post and no connection for them.
    pub fn wants_to_post(&self) -> bool {
        self.polling.as_ref().is_some_and(|polls| polls.post.is_none() && polls.state.wants_to_post())
    }

    #[inline]
    fn channel(&mut self, which: Which) -> Option<&mut Channel> {
        match which {
            Which::Main => self.main.as_mut(),
            Which::Post => self.polling.as_mut().and_then(|polls| polls.post.as_mut()),
        }
    }

    /// The server ended a connection. It may, if it is the one that posts and has nothing to do: the next post makes a new one.
    fn ended(&mut self, which: Which) -> Result<(), End> {
        match &mut self.polling {
            Some(polls) if which == Which::Post && !polls.state.is_posting() => {
                polls.post = None;
                Ok(())
            }
            Some(_) | None => Err(End::Closed("the server ended the connection".into())),
        }
    }

    /// Gives up its connections, with resets.
    pub fn close(&mut self) -> io::Result<()> {
        let post = self.polling.take().and_then(|polls| polls.post);
        self.main.take().into_iter().chain(post).try_for_each(|channel| channel.link.reset())
    }

    /// Sends what has been said.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, common: &mut Common, plan: &Plan) -> Result<(), End> {
        let Some(main) = &mut self.main else {
            common.out.clear();
            return Ok(());
        };
        if let Some(polls) = &mut self.polling {
            polls.state.post(&common.out);
            polls.pump(&mut main.link, plan)?;
        } else {
            main.link.write(&common.out).map_err(broken)?;
        }
        common.out.clear();
        Ok(())
    }

    /// One of its connections has something to read, or room for more.
    ///
    /// # Errors
    /// The conversation has ended.
    pub fn ready(
        &mut self,
        which: Which,
        flags: EventFlags,
        who: Who<'_>,
        plan: &Plan,
        common: &mut Common,
        buffer: &mut [u8],
    ) -> Result<(), End> {
        let Some(channel) = self.channel(which) else { return Ok(()) };
        if !channel.connected {
            if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                return Ok(());
            }
            let refused = |error| End::Refused(format!("cannot connect to {}: {error}", plan.target.address));
            channel.link.refusal().map_err(refused)?;
            channel.connected = true;
            return match which {
                Which::Main => channel.link.write(greeting(plan, who).as_bytes()).map_err(broken),
                Which::Post => self.send(common, plan),
            };
        }
        if flags.contains(EventFlags::OUT) {
            channel.link.flush().map_err(broken)?;
        }
        loop {
            let Some(Channel { link, .. }) = self.channel(which) else { return Ok(()) };
            let read = match link.read(buffer) {
                Ok(0) => return self.ended(which),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(broken(error)),
            };
            let empty = link.is_empty_after_less() && read < buffer.len();
            match &mut self.polling {
                None => self.session.take(who, &buffer[..read], common, now())?,
                Some(polls) => polls.state.take(which, &mut self.session, who, &buffer[..read], common, now())?,
            }
            if !common.out.is_empty() || self.polling.is_some() {
                self.send(common, plan)?;
            }
            // What comes afterwards is named again.
            if empty {
                return Ok(());
            }
        }
    }
}

impl Polls {
    /// Asks for packets, and posts packets, as far as it may.
    fn pump(&mut self, main: &mut Link, plan: &Plan) -> Result<(), End> {
        let query = plan.dialect.query(None);
        if let Some(request) = self.state.next_poll(&plan.target, &query) {
            main.write(request.as_bytes()).map_err(broken)?;
        }
        if let Some(post) = &mut self.post
            && post.connected
            && self.state.wants_to_post()
        {
            post.link.write(&self.state.next_post(&plan.target, &query)).map_err(broken)?;
        }
        Ok(())
    }
}

/// The first request of a new connection.
fn greeting(plan: &Plan, who: Who<'_>) -> String {
    let query = plan.dialect.query(who.token);
    match plan.dialect {
        Dialect::Polling => plan.target.poll(&query, None),
        Dialect::SocketIo | Dialect::HomeTrip | Dialect::Plain | Dialect::Centrifuge | Dialect::Bare => {
            plan.target.handshake(&query)
        }
    }
}

fn broken(error: io::Error) -> End {
    End::Closed(format!("the connection broke: {error}"))
}
