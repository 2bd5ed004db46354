//! A client that allocates nothing while it connects, sends and reads: its own allocations would count as the gateway's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest that anything is waited for: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest message that a client gets here.
const MESSAGE_MAX_BYTES: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    SocketIo,
    Plain,
}

/// What a connect sends, made beforehand.
pub(crate) struct Hello {
    dialect: Dialect,
    request: Vec<u8>,
    /// The packet that enters the namespace, as a frame; empty where there is none.
    enter: Vec<u8>,
}

pub(crate) struct Client {
    socket: TcpStream,
    dialect: Dialect,
    message: [u8; MESSAGE_MAX_BYTES],
}

impl Hello {
    pub(crate) fn new(dialect: Dialect, token: &str) -> Self {
        let (path, enter) = match dialect {
            Dialect::SocketIo => (
                "/socket.io/?EIO=4&transport=websocket".to_owned(),
                frame(format!(r#"40{{"token":"{token}"}}"#).as_bytes()),
            ),
            Dialect::Plain => (format!("/ws?token={token}"), Vec::new()),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Self { dialect, request: request.into_bytes(), enter }
    }
}

impl Client {
    /// Connects; returns once the profile's `connected` is there.
    pub(crate) fn connect(address: SocketAddr, hello: &Hello) -> Self {
        let socket = TcpStream::connect(address).expect("the gateway listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
        let mut client = Self { socket, dialect: hello.dialect, message: [0; MESSAGE_MAX_BYTES] };
        client.send(&hello.request);
        client.read_head();
        match hello.dialect {
            Dialect::SocketIo => {
                client.expect("0{");
                client.send(&hello.enter);
                client.expect("40{");
            }
            Dialect::Plain => {}
        }
        client.expect("connected");
        client
    }

    /// A command as a frame. `fields` are those of its data.
    pub(crate) fn command(&self, name: &str, fields: &str) -> Vec<u8> {
        self.packet("", name, fields)
    }

    /// The same, with an answer wanted.
    pub(crate) fn question(&self, name: &str, fields: &str) -> Vec<u8> {
        self.packet("1", name, fields)
    }

    fn packet(&self, ack: &str, name: &str, fields: &str) -> Vec<u8> {
        match self.dialect {
            Dialect::SocketIo => frame(format!(r#"42{ack}["{name}",{{{fields}}}]"#).as_bytes()),
            Dialect::Plain => frame(format!(r#"{{"type":"{name}",{fields}}}"#).as_bytes()),
        }
    }

    /// Says a command and waits for its answer.
    pub(crate) fn ask(&mut self, name: &str, fields: &str) {
        let frame = self.question(name, fields);
        self.send(&frame);
        self.next();
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the gateway reads");
    }

    /// Takes the next message, which must hold this text.
    pub(crate) fn expect(&mut self, text: &str) {
        let message = self.next();
        let holds = message.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds, "{:?} is not in {:?}", text, String::from_utf8_lossy(message));
    }

    fn next(&mut self) -> &[u8] {
        let [first, mut length] = self.bytes::<2>().map(usize::from);
        assert_eq!(first, 0x81, "the gateway sends whole messages of text");
        if length == 126 {
            length = usize::from(u16::from_be_bytes(self.bytes()));
        }
        let message = &mut self.message[..length];
        self.socket.read_exact(message).expect("the gateway sends all of a message");
        message
    }

    fn bytes<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        let mut bytes = [0; COUNT];
        self.socket.read_exact(&mut bytes).expect("the gateway sends something");
        bytes
    }

    /// Takes the answer to the handshake, and no byte of what follows it.
    fn read_head(&mut self) {
        let mut last = [0; 4];
        let mut status = [0; 12];
        for at in 0.. {
            let [byte] = self.bytes();
            if let Some(place) = status.get_mut(at) {
                *place = byte;
            }
            last = [last[1], last[2], last[3], byte];
            if &last == b"\r\n\r\n" {
                break;
            }
        }
        assert_eq!(&status, b"HTTP/1.1 101");
    }
}

/// A frame of text as clients send it; the mask is zero, so the text stays as it is.
fn frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        0..=125 => frame.push(0x80 | text.len() as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        }
        _ => unreachable!("no message of these tests is so long"),
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    frame
}
