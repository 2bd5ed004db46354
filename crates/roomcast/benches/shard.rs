//! What a shard's parts cost beside the kernel: timers, and events noted and flushed. `cargo bench -p roomcast`.

use std::hint::black_box;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roomcast::shard::inbox::ConnectionKey;
use roomcast::shard::slots::{Encoding, Flushed, Slots, Way, epoll_set};
use roomcast::shard::wheel::Wheel;

const MEMBERS: usize = 1_000;

/// A frame of 102 bytes, as most events are.
const FRAME: [u8; 102] = [b'x'; 102];

fn wheel(c: &mut Criterion) {
    const CONNECTIONS: u32 = 10_000;
    let mut group = c.benchmark_group("timer wheel");
    group.throughput(Throughput::Elements(u64::from(CONNECTIONS)));
    let mut now_ms = 1_000_000;
    let mut wheel = Wheel::new(now_ms);
    let mut due = Vec::new();
    // What heartbeats are to it: each connection armed once, and seen once when its time has come.
    group.bench_function("arm 10,000 deadlines of 25 s and see them come", |bencher| {
        bencher.iter(|| {
            for slot in 0..CONNECTIONS {
                wheel.insert(ConnectionKey { slot, generation: 0 }, now_ms + 25_000 + u64::from(slot % 1_000));
            }
            let end_ms = now_ms + 26_000;
            while let Some(next_ms) = wheel.next_look_ms() {
                now_ms = next_ms;
                wheel.expire(now_ms, &mut due);
            }
            assert!(now_ms <= end_ms);
            assert_eq!(due.drain(..).count(), CONNECTIONS as usize);
        });
    });
    group.finish();
    for slot in 0..CONNECTIONS {
        wheel.insert(ConnectionKey { slot, generation: 0 }, now_ms + 25_000 + u64::from(slot % 1_000));
    }
    c.bench_function("timer wheel/when to look again", |bencher| bencher.iter(|| wheel.next_look_ms()));
}

/// One tick: so many events noted for all members, then every slot flushed.
fn tick(slots: &mut Slots, members: &[u32], events: usize) {
    for _ in 0..events {
        slots.start_round();
        let frame = slots.add_frame(Bytes::from_static(&FRAME));
        for member in members {
            let is_first = slots.visit(*member);
            let noted = slots.note(*member, frame);
            assert!(is_first && noted);
        }
    }
    while let Some(slot) = slots.next_dirty() {
        let flushed = slots.flush(slot);
        assert_eq!(flushed, Flushed::Sent);
    }
    slots.end_tick();
}

fn fan_out(c: &mut Criterion) {
    // What is for a closed slot is noted and dropped: the cost without the kernel's.
    let mut slots = Slots::new(epoll_set().expect("a descriptor"));
    let members: Vec<u32> = (0..MEMBERS).map(|_| slots.open(Encoding::SocketIo).slot).collect();
    members.iter().for_each(|member| slots.set_way(*member, Way::Closed));
    let mut group = c.benchmark_group("fan-out to 1,000");
    for events in [1, 8] {
        group.throughput(Throughput::Elements((events * MEMBERS) as u64));
        group.bench_function(format!("note and sweep, no socket, {events} in a tick"), |bencher| {
            bencher.iter(|| tick(&mut slots, black_box(&members), events));
        });
    }
    // Datagrams to a socket that nobody reads: each send is a whole one, and nothing ever fills up.
    let mut slots = Slots::new(epoll_set().expect("a descriptor"));
    let reader = bound();
    let to = reader.local_addr().expect("it is bound");
    let members: Vec<u32> = (0..MEMBERS)
        .map(|_| {
            let key = slots.open(Encoding::SocketIo);
            let socket = bound();
            socket.connect(to).expect("loopback is there");
            slots.attach(key, OwnedFd::from(socket), Encoding::SocketIo).expect("it can be watched");
            key.slot
        })
        .collect();
    for events in [1, 8] {
        group.throughput(Throughput::Elements((events * MEMBERS) as u64));
        group.bench_function(format!("note, gather and send datagrams, {events} in a tick"), |bencher| {
            bencher.iter(|| tick(&mut slots, black_box(&members), events));
        });
    }
    group.finish();
}

fn bound() -> UdpSocket {
    UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback has a free port")
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = wheel, fan_out
}
criterion_main!(benches);
