//! The bare loop over real sockets: nobody gets what is not theirs, and nothing is lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The program, ended when dropped.
struct Limit {
    child: Child,
    address: String,
}

impl Limit {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast-limit"));
        command.arg("serve").args(arguments).env("PORT", "0").stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
        Self { child, address }
    }

    fn connect(&self) -> Client {
        let mut socket = TcpStream::connect(&self.address).expect("it listens");
        socket.set_nodelay(true).expect("a TCP socket");
        // Only says that a test has failed.
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a handshake");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        Client { socket }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    socket: TcpStream,
}

impl Client {
    fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the connection lives");
    }

    /// Says so and waits for the answer, which is the record itself.
    fn change(&mut self, kind: u8, room: u32) {
        let record = [&[kind][..], &room.to_le_bytes()].concat();
        self.write(&record);
        self.hears(&record);
    }

    fn hears(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.socket.read_exact(&mut bytes).expect("what is expected comes");
        assert!(bytes == expected, "{:?} came", String::from_utf8_lossy(&bytes));
    }
}

fn send(room: u32, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short text");
    [b"S", &room.to_le_bytes()[..], &length.to_le_bytes(), bytes].concat()
}

fn echo(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short text");
    [b"E", &length.to_le_bytes()[..], bytes].concat()
}

#[test]
fn members_hear_their_rooms_and_nobody_else_does() {
    for arguments in [&[][..], &["--coalesce"]] {
        let limit = Limit::start(arguments);
        let (mut ada, mut grace, mut edith) = (limit.connect(), limit.connect(), limit.connect());
        ada.change(b'J', 1);
        ada.change(b'J', 2);
        ada.change(b'J', 2);
        grace.change(b'J', 1);
        edith.write(&[send(1, b"one"), send(2, b"two"), send(3, b"three"), send(1, b"four"), echo(b"done")].concat());
        edith.hears(b"done");
        grace.hears(b"onefour");
        // Coalesced sends keep the order within a room alone.
        let mut all = [0; 10];
        ada.socket.read_exact(&mut all).expect("both rooms' events");
        all.sort_unstable();
        assert_eq!(&all, b"efnooortuw");
        grace.change(b'L', 1);
        drop(ada);
        edith.write(&[send(1, b"gone"), echo(b"done")].concat());
        edith.hears(b"done");
        grace.write(&echo(b"nothing before this"));
        grace.hears(b"nothing before this");
    }
}

#[test]
fn records_may_come_in_any_pieces() {
    let limit = Limit::start(&[]);
    let mut client = limit.connect();
    client.change(b'J', 7);
    let long = vec![b'x'; usize::from(u16::MAX)];
    let records = [send(7, b"short"), send(7, &long), echo(b"end")].concat();
    for piece in [1, 3, 1000, 60_000] {
        for bytes in records.chunks(piece) {
            client.write(bytes);
        }
        client.hears(b"short");
        client.hears(&long);
        client.hears(b"end");
    }
}

#[test]
fn a_member_who_does_not_read_for_a_while_loses_nothing() {
    const EVENTS: u32 = 3_000;
    let limit = Limit::start(&[]);
    let (mut slow, mut sender) = (limit.connect(), limit.connect());
    slow.change(b'J', 0);
    let text = |number: u32| format!("{number:>4000}").into_bytes();
    for number in 0..EVENTS {
        sender.write(&send(0, &text(number)));
    }
    // 12 MB: more than the sockets between them take.
    sender.write(&echo(b"all sent"));
    sender.hears(b"all sent");
    for number in 0..EVENTS {
        slow.hears(&text(number));
    }
}

#[test]
fn who_speaks_another_language_is_shown_out_and_others_stay() {
    let limit = Limit::start(&[]);
    let mut guest = limit.connect();
    for bytes in [&b"X"[..], b"J\xff\xff\xff\xff"] {
        let mut stranger = limit.connect();
        stranger.write(bytes);
        assert_eq!(stranger.socket.read(&mut [0]).expect("an end"), 0);
    }
    guest.write(&echo(b"still here"));
    guest.hears(b"still here");
}
