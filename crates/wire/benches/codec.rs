//! What the codec costs: frames of clients read, events written for them, and the packets in between. `cargo bench -p roomcast-wire`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use wire::engine::{Outbound as EnginePacket, Polls};
use wire::json::{self, Envelope};
use wire::socketio::{self, Outbound};
use wire::ws::{self, Feed, Flow, Inflater, Opcode, Parser};

/// What a client says: 100 bytes or so, as most do.
const SAID: &str =
    r#"42["say",{"room":"conversation:4711","data":"See you on Friday, shortly after eight, at the station"}]"#;

/// The arguments of an event that goes to clients.
const TOLD: &str = r#"{"room":"conversation:4711","from":"42","data":"See you on Friday, shortly after eight"}"#;

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (name, bytes) in [("small", 100), ("large", 16 * 1024)] {
        let frame = masked(&"x".repeat(bytes));
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut inflater = Inflater::default();
        group.bench_function(format!("read and unmask, {name} ({bytes} B)"), |bencher| {
            bencher.iter_batched_ref(
                || (Parser::default(), frame.clone()),
                |(parser, frame)| {
                    let mut feed = Feed { max_message: 1_000_000, inflater: &mut inflater };
                    let mut seen = 0;
                    let taken = parser.feed(frame, &mut feed, &mut |message| {
                        seen += usize::from(matches!(message, ws::Incoming::Text(_)));
                        Flow::Continue
                    });
                    assert_eq!((taken, seen), (Ok(frame.len()), 1));
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();

    let mut header = Vec::with_capacity(16);
    c.bench_function("frame/write a header", |bencher| {
        bencher.iter(|| {
            header.clear();
            ws::frame_header(Opcode::Text, black_box(102), &mut header);
            header.len()
        });
    });
}

fn socket_io(c: &mut Criterion) {
    let event = Outbound::Event {
        namespace: "/",
        event: "message",
        arguments: TOLD.as_bytes(),
        ack: None,
        attachments: 0,
        offset: None,
    };
    c.bench_function("socket.io/write an event, as a frame", |bencher| {
        bencher.iter(|| framed(black_box(event)));
    });
    let ack = Outbound::Ack { namespace: "/", ack: 17, arguments: br#"{"success":true}"#, attachments: 0 };
    c.bench_function("socket.io/write an answer, as a frame", |bencher| {
        bencher.iter(|| framed(black_box(ack)));
    });
    // Behind the type of the Engine.IO packet.
    let said = &SAID[1..];
    c.bench_function("socket.io/read an event", |bencher| {
        bencher.iter(|| {
            let packet = socketio::parse(black_box(said)).expect("it is a packet");
            packet.event().map(|event| event.name.len() + event.arguments.len())
        });
    });
}

fn plain_json(c: &mut Criterion) {
    c.bench_function("plain json/write an event, as a frame", |bencher| {
        bencher.iter(|| ws::text_frame(&json::encode(Envelope::Flat, "message", black_box(TOLD.as_bytes()))));
    });
    let said = r#"{"type":"say","room":"conversation:4711","data":"See you on Friday, shortly after eight"}"#;
    c.bench_function("plain json/read a command", |bencher| {
        bencher.iter(|| json::parse(black_box(said), Envelope::Flat).is_ok());
    });
}

fn polls(c: &mut Criterion) {
    let polls = Polls::default();
    let packets = vec![EnginePacket::Text(Bytes::from_static(SAID.as_bytes())); 16];
    c.bench_function("engine.io/write a poll's body of 16 packets", |bencher| {
        bencher.iter(|| polls.body(black_box(&packets)));
    });
    let posted = vec![SAID; 16].join("\u{1e}");
    c.bench_function("engine.io/read a posted body of 16 packets", |bencher| {
        bencher.iter(|| polls.read(black_box(&posted)).filter(Result::is_ok).count());
    });
}

/// A packet as the frame that carries it.
fn framed(packet: Outbound<'_>) -> Bytes {
    ws::text_frame_of(packet.size_hint(), |out| packet.write_message(out))
}

/// A frame as clients send it.
fn masked(text: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = Vec::new();
    ws::frame_header(Opcode::Text, text.len(), &mut frame);
    frame[1] |= 0x80;
    frame.extend_from_slice(&MASK);
    frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = frames, socket_io, plain_json, polls
}
criterion_main!(benches);
