//! Engine.IO 4, and 3 for old clients: one session over long-polling, WebSocket, or first the one and then the other.
//!
//! [`verify`] decides on a request, [`Session`] is the state machine of a session, [`Query`] the request's parameters,
//! [`Packet`] the unit on the wire, [`Polls`] the bodies that join several. Knows nothing of Socket.IO, HTTP libraries or frames.

mod counted;
mod jsonp;
mod outcome;
mod packet;
mod payload;
mod polling;
mod query;
mod session;
mod verify;

pub use outcome::{CloseReason, Context, GetVerdict, Output, Phase, PostAnswer, ProbeVerdict, Received, Settings};
pub use packet::{MESSAGE_BYTE, OpenPacket, Outbound, Packet, PacketError, open_packet};
pub use payload::{Payload, PollBody, Polls, SEPARATOR};
pub use query::{Query, Revision, Transport};
pub use session::{Post, Session};
pub use verify::{Known, Method, Offer, Refusal, Request, Verdict, fits, verify};
