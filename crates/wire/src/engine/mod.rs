//! Engine.IO 4: one session over long-polling, WebSocket, or first the one and then the other.
//!
//! [`verify`] decides on a request, [`Session`] is the state machine of a session, [`Query`] the request's parameters,
//! [`Packet`] the unit on the wire. Knows nothing of Socket.IO, HTTP libraries or frames.
//!
//! Revision 3 has its place in [`Revision`] and is refused with code 5.

mod outcome;
mod packet;
mod polling;
mod query;
mod session;
mod verify;

pub use outcome::{CloseReason, Context, GetVerdict, Output, Phase, PostAnswer, ProbeVerdict, Received, Settings};
pub use packet::{OpenPacket, Outbound, Packet, PacketError, Payload, SEPARATOR, encode_payload, open_packet};
pub use query::{Query, Revision, Transport};
pub use session::{Post, Session};
pub use verify::{Known, Method, Refusal, Request, Transports, Verdict, verify};
