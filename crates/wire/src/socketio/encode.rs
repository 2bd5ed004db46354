//! Packets to clients. JSON goes through as it is given. Knows nothing of who gets them.

use bytes::Bytes;

/// A packet to a client.
///
/// A namespace must hold no comma and no control character (its own checks at the border see to that); JSON must be valid,
/// which keeps 0x1e, the separator of polling payloads, out of it.
#[derive(Clone, Copy, Debug)]
pub enum Outbound<'a> {
    /// `0`: the client is in the namespace.
    Connect {
        /// The namespace.
        namespace: &'a str,
        /// The socket's public id.
        sid: &'a str,
        /// The secret for connection state recovery.
        pid: Option<&'a str>,
    },
    /// `1`: the client is out of the namespace. Stock clients do not come back after it.
    Disconnect {
        /// The namespace.
        namespace: &'a str,
    },
    /// `2` or `5`: an event.
    Event {
        /// The namespace.
        namespace: &'a str,
        /// Its name, not yet escaped.
        event: &'a str,
        /// The JSON of the arguments, joined by commas, without brackets.
        arguments: &'a [u8],
        /// Its number, where an answer is wanted.
        ack: Option<u64>,
        /// How many attachments follow; more than none makes it a binary event.
        attachments: usize,
        /// The recovery offset, which becomes the last argument.
        offset: Option<&'a str>,
    },
    /// `3` or `6`: the answer to a client's event.
    Ack {
        /// The namespace.
        namespace: &'a str,
        /// The number of the client's event.
        ack: u64,
        /// The JSON of the arguments, joined by commas, without brackets.
        arguments: &'a [u8],
        /// How many attachments follow; more than none makes it a binary answer.
        attachments: usize,
    },
    /// `4`: the namespace cannot be joined.
    ConnectError {
        /// The namespace.
        namespace: &'a str,
        /// What the client's `connect_error` says.
        message: &'a str,
        /// The JSON of the error's `data`.
        data: Option<&'a [u8]>,
    },
}

impl Outbound<'_> {
    /// Appends the packet's text, without the Engine.IO type.
    pub fn write(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }

    /// The text of the Engine.IO message packet (`4` first): a WebSocket text message, or a piece of a polling payload.
    pub fn message(&self) -> Bytes {
        todo!()
    }
}
