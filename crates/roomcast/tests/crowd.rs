//! A crowd that comes back at once, faster than the pace at which sessions are let in: who has to wait, waits, and is neither refused nor passed
//! by others. Clients are bare sockets that send their handshake and the packet which enters the namespace in one piece.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roomcast::embed::{Namespace, Server, Socket};

/// The longest that anything is waited for: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// More than are let in at once, by far.
const CROWD: usize = 800;

/// The names of those who got in, in their order.
type Names = Arc<Mutex<Vec<String>>>;

async fn serve() -> (Server, Names) {
    let names = Names::default();
    let seen = names.clone();
    let namespace = Namespace::new().on_connect(move |socket: Socket| {
        let name = socket.handshake().request().query_value("name").unwrap_or_default();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        async {}
    });
    let server = Server::builder().shards(1).namespace("/", namespace).start().await.expect("a free port");
    (server, names)
}

/// Connections that are accepted and have said nothing: the gateway accepts in order, and has answered one that came after them.
fn accepted(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = || {
        let socket = TcpStream::connect(address).expect("the gateway listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
        socket
    };
    let clients = (0..count).map(|_| connect()).collect();
    let mut last = connect();
    last.write_all(b"GET /socket.io/?EIO=9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("the gateway reads");
    assert!(read_to_end(&mut last).starts_with("HTTP/1.1 400 "));
    clients
}

/// Clients want in, one after the other; a name is the client's number.
fn greet(clients: &mut [TcpStream], names: Range<usize>) {
    for (client, name) in clients.iter_mut().zip(names) {
        // "40" in a text frame whose mask is zero.
        let mut hello = format!(
            "GET /socket.io/?EIO=4&transport=websocket&name={name} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        hello.extend_from_slice(b"\x81\x82\0\0\0\x0040");
        client.write_all(&hello).expect("the gateway reads");
    }
}

/// Reads until the words are there; gives all that was read.
fn read_until(client: &mut TcpStream, words: &str) -> String {
    let mut read = Vec::new();
    let mut some = [0; 1024];
    loop {
        let count = client.read(&mut some).expect("in time");
        read.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&read);
        if text.contains(words) {
            return text.into_owned();
        }
        assert!(count > 0, "{words:?} never came: {text:?}");
    }
}

fn read_to_end(client: &mut TcpStream) -> String {
    let mut read = Vec::new();
    client.read_to_end(&mut read).expect("in time");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_beyond_the_pace_comes_in_whole_and_in_order() {
    let (server, names) = serve().await;
    let mut clients = accepted(server.address(), CROWD);
    greet(&mut clients, 0..CROWD);
    for client in &mut clients {
        let read = read_until(client, "40{\"sid\":");
        assert!(read.starts_with("HTTP/1.1 101 "), "{read}");
    }
    let names = names.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let expected: Vec<String> = (0..CROWD).map(|name| name.to_string()).collect();
    assert_eq!(names, expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_waiting_is_forgotten() {
    let (server, names) = serve().await;
    let mut clients = accepted(server.address(), CROWD + 2);
    greet(&mut clients, 0..CROWD + 2);
    clients[CROWD].shutdown(Shutdown::Write).expect("it is connected");
    // Where the machine is slower than the pace nobody waits, and it is answered before it goes.
    let is_answered = !read_to_end(&mut clients[CROWD]).is_empty();
    read_until(&mut clients[CROWD + 1], "40{\"sid\":");
    let names = names.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(names.contains(&CROWD.to_string()), is_answered);
    assert_eq!(names.len(), CROWD + 1 + usize::from(is_answered));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_gateway_that_stops_is_sent_elsewhere() {
    let (server, names) = serve().await;
    let mut clients = accepted(server.address(), 2 * CROWD);
    greet(&mut clients, 0..2 * CROWD);
    read_until(&mut clients[0], "40{\"sid\":");
    server.stop().await;
    let ends: Vec<String> = clients.iter_mut().skip(1).map(read_to_end).collect();
    let (let_in, sent_away): (Vec<&String>, Vec<&String>) =
        ends.iter().partition(|end| end.starts_with("HTTP/1.1 101 "));
    for end in sent_away {
        assert!(end.starts_with("HTTP/1.1 503 "), "{end}");
    }
    assert_eq!(names.lock().unwrap_or_else(PoisonError::into_inner).len(), let_in.len() + 1);
}
