//! Packets to clients. JSON goes through as it is given. Knows nothing of who gets them.

use bytes::Bytes;

use crate::json::write_string;

/// A packet to a client.
///
/// A namespace must hold no comma and no control character ([`super::parse`] refuses the latter, a comma ends it); JSON must be
/// checked JSON, which keeps 0x1e, the separator of polling payloads, out of the packet.
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
    /// `0` for a client of Socket.IO 4 (on Engine.IO 3), which works its socket's id out by itself.
    Connect4 {
        /// The namespace.
        namespace: &'a str,
    },
    /// `4` for a client of Socket.IO 4: the error's data alone, or its message where it has none.
    Error4 {
        /// The namespace.
        namespace: &'a str,
        /// What went wrong.
        message: &'a str,
        /// The JSON of the error's `data`.
        data: Option<&'a [u8]>,
    },
}

impl Outbound<'_> {
    /// The text of the Engine.IO message packet (`4` first): a WebSocket text message, or a piece of a polling payload.
    pub fn message(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.size_hint());
        self.write_message(&mut out);
        out.into()
    }

    /// Appends the text of the Engine.IO message packet.
    pub fn write_message(&self, out: &mut Vec<u8>) {
        out.push(b'4');
        self.write(out);
    }

    /// Appends the packet's text, without the Engine.IO type.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Connect { namespace, sid, pid } => {
                write_head(b'0', 0, namespace, None, out);
                out.extend_from_slice(br#"{"sid":"#);
                write_string(sid, out);
                if let Some(pid) = pid {
                    out.extend_from_slice(br#","pid":"#);
                    write_string(pid, out);
                }
                out.push(b'}');
            }
            Self::Disconnect { namespace } => write_head(b'1', 0, namespace, None, out),
            Self::Event { namespace, event, arguments, ack, attachments, offset } => {
                let kind = if attachments == 0 { b'2' } else { b'5' };
                write_head(kind, attachments, namespace, ack, out);
                out.push(b'[');
                write_string(event, out);
                if !arguments.is_empty() {
                    out.push(b',');
                    out.extend_from_slice(arguments);
                }
                if let Some(offset) = offset {
                    out.push(b',');
                    write_string(offset, out);
                }
                out.push(b']');
            }
            Self::Ack { namespace, ack, arguments, attachments } => {
                let kind = if attachments == 0 { b'3' } else { b'6' };
                write_head(kind, attachments, namespace, Some(ack), out);
                out.push(b'[');
                out.extend_from_slice(arguments);
                out.push(b']');
            }
            Self::ConnectError { namespace, message, data } => {
                write_head(b'4', 0, namespace, None, out);
                out.extend_from_slice(br#"{"message":"#);
                write_string(message, out);
                if let Some(data) = data {
                    out.extend_from_slice(br#","data":"#);
                    out.extend_from_slice(data);
                }
                out.push(b'}');
            }
            Self::Connect4 { namespace } => write_head(b'0', 0, namespace, None, out),
            Self::Error4 { namespace, message, data } => {
                write_head(b'4', 0, namespace, None, out);
                match data {
                    Some(data) => out.extend_from_slice(data),
                    None => write_string(message, out),
                }
            }
        }
    }

    /// About the length of the text, so that the common packet is written without growing.
    pub fn size_hint(&self) -> usize {
        const HEAD: usize = 32;
        match self {
            Self::Connect { namespace, sid, pid } => {
                HEAD + namespace.len() + sid.len() + pid.map_or(0, |pid| pid.len() + 9)
            }
            Self::Disconnect { namespace } | Self::Connect4 { namespace } => HEAD + namespace.len(),
            Self::Event { namespace, event, arguments, offset, .. } => {
                HEAD + namespace.len() + event.len() + arguments.len() + offset.map_or(0, |offset| offset.len() + 3)
            }
            Self::Ack { namespace, arguments, .. } => HEAD + namespace.len() + arguments.len(),
            Self::ConnectError { namespace, message, data } | Self::Error4 { namespace, message, data } => {
                HEAD + namespace.len() + message.len() + data.map_or(0, <[u8]>::len)
            }
        }
    }
}

fn write_head(kind: u8, attachments: usize, namespace: &str, ack: Option<u64>, out: &mut Vec<u8>) {
    out.push(kind);
    if attachments > 0 {
        out.extend_from_slice(attachments.to_string().as_bytes());
        out.push(b'-');
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(ack) = ack {
        write_number(ack, out);
    }
}

/// Appends a number's digits.
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(packet: Outbound<'_>, expected: &str) {
        let message = packet.message();
        assert_eq!(message, format!("4{expected}"));
        assert!(packet.size_hint() >= message.len(), "{expected} was longer than foreseen");
        let mut bare = Vec::new();
        packet.write(&mut bare);
        assert_eq!(bare, expected.as_bytes());
    }

    #[test]
    fn packets_are_spelled_as_node_spells_them() {
        check(Outbound::Connect { namespace: "/", sid: "S", pid: None }, r#"0{"sid":"S"}"#);
        check(Outbound::Connect { namespace: "/a", sid: "S", pid: Some("P") }, r#"0/a,{"sid":"S","pid":"P"}"#);
        check(Outbound::Disconnect { namespace: "/" }, "1");
        check(Outbound::Disconnect { namespace: "/a" }, "1/a,");
        let error = Outbound::ConnectError { namespace: "/nope", message: "Invalid namespace", data: None };
        check(error, r#"4/nope,{"message":"Invalid namespace"}"#);
        let error =
            Outbound::ConnectError { namespace: "/deny", message: "not authorized", data: Some(br#"{"code":42}"#) };
        check(error, r#"4/deny,{"message":"not authorized","data":{"code":42}}"#);
    }

    #[test]
    fn clients_of_socket_io_4_get_their_own_spelling() {
        check(Outbound::Connect4 { namespace: "/" }, "0");
        check(Outbound::Connect4 { namespace: "/a" }, "0/a,");
        let error = |data| Outbound::Error4 { namespace: "/deny", message: "no \"way\"", data };
        check(error(None), r#"4/deny,"no \"way\"""#);
        check(error(Some(br#"{"code":42}"#)), r#"4/deny,{"code":42}"#);
    }

    #[test]
    fn events_carry_arguments_number_attachments_and_offset() {
        let event = |namespace, arguments: &'static str, ack, attachments, offset| Outbound::Event {
            namespace,
            event: "e\"1",
            arguments: arguments.as_bytes(),
            ack,
            attachments,
            offset,
        };
        check(event("/", "", None, 0, None), r#"2["e\"1"]"#);
        check(event("/", r#"{"x":1.0},2"#, None, 0, None), r#"2["e\"1",{"x":1.0},2]"#);
        check(event("/a", "1", Some(7), 0, None), r#"2/a,7["e\"1",1]"#);
        check(event("/", "", None, 0, Some("Q7")), r#"2["e\"1","Q7"]"#);
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        check(
            event("/a", placeholder, Some(0), 1, Some("Q7")),
            r#"51-/a,0["e\"1",{"_placeholder":true,"num":0},"Q7"]"#,
        );
    }

    #[test]
    fn answers_carry_the_events_number() {
        check(Outbound::Ack { namespace: "/", ack: 0, arguments: b"", attachments: 0 }, "30[]");
        check(
            Outbound::Ack { namespace: "/a", ack: u64::MAX, arguments: b"1,2", attachments: 0 },
            "3/a,18446744073709551615[1,2]",
        );
        check(Outbound::Ack { namespace: "/", ack: 3, arguments: b"null", attachments: 2 }, "62-3[null]");
    }
}
