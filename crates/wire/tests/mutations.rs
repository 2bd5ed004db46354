//! Every parser on good input that was spoiled at random, from fixed seeds: whatever comes, nothing panics and bounds are kept.

use std::borrow::Cow;

use wire::engine::{self, Context, Output, Payload, Polls, Query, Revision, Session, Settings};
use wire::json::{self, Envelope};
use wire::socketio::{self, Decoder};
use wire::{raw, ws};

/// How often each good input is spoiled.
const ROUNDS: u64 = 4000;

const MAX_MESSAGE: usize = 300;

/// A generator of repeatable noise (xorshift64*; Vigna, 2016).
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }

    /// Changes, drops, doubles or inserts a few bytes.
    fn spoil(&mut self, good: &[u8]) -> Vec<u8> {
        const INTERESTING: &[u8] = b"\x00\x1e\x7f\x80\xc3\xed\xff\"\\{}[],:-/0123456789b %+";
        let mut bytes = good.to_vec();
        for _ in 0..=self.next(4) {
            let at = self.next(bytes.len() + 1);
            let byte = if self.next(2) == 0 { INTERESTING[self.next(INTERESTING.len())] } else { self.next(256) as u8 };
            match self.next(5) {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                2 => bytes.extend_from_within(at..),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => bytes.push(byte),
            }
        }
        bytes
    }
}

/// Spoils each good input again and again, and hands over the result with more noise.
fn check(good: &[&[u8]], parse: impl Fn(&[u8], &mut Noise)) {
    let mut noise = Noise(0x5eed);
    for good in good {
        parse(good, &mut noise);
        for _ in 0..ROUNDS {
            let spoiled = noise.spoil(good);
            parse(&spoiled, &mut noise);
        }
    }
}

#[test]
fn websocket_frames() {
    let masked = |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat();
    let long = [&[0x82, 0xfe, 0, 200, 1, 2, 3, 4], [7; 200].as_slice()].concat();
    let fragments =
        [masked(0x01, b"a\xc3"), masked(0x89, b"p"), masked(0x80, b"\xa9b"), masked(0x88, b"\x03\xe8")].concat();
    check(&[&masked(0x81, b"hello"), &fragments, &long], |bytes, noise| {
        let mut parser = ws::Parser::default();
        let mut feed = ws::Feed { max_message: MAX_MESSAGE, inflater: &mut ws::Inflater::default() };
        let mut delivered = 0;
        for piece in bytes.chunks(1 + noise.next(20)) {
            let fed = parser.feed(&mut piece.to_vec(), &mut feed, &mut |incoming| {
                let (ws::Incoming::Text(_)
                | ws::Incoming::Binary(_)
                | ws::Incoming::Ping(_)
                | ws::Incoming::Pong(_)
                | ws::Incoming::Close { .. }) = incoming;
                if let ws::Incoming::Binary(data) = incoming {
                    assert!(data.len() <= MAX_MESSAGE);
                }
                delivered += 1;
                ws::Flow::Continue
            });
            match fed {
                Ok(taken) => assert_eq!(taken, piece.len()),
                Err(violation) => {
                    assert!([1002, 1007, 1009].contains(&violation.code), "{violation:?}");
                    break;
                }
            }
        }
        assert!(delivered <= bytes.len() / 6, "a client's frame has six bytes at least");
    });
}

#[test]
fn texts() {
    let good: [&[u8]; 8] = [
        b"52-/chat,13[\"e\",{\"_placeholder\":true,\"num\":1},{\"a\":[1.5,null]}]",
        b"2[\"\\u00e9v\",{\"a\":\"b\\\\\"},[[]],-1e3]",
        b"0/admin,{\"token\":\"x\"}",
        b"4hello\x1ebAQIDBA==\x1e2probe\x1e6",
        b"EIO=4&transport=polling&sid=abc&t=%C3%A9+x",
        b"{\"type\":\"chat\",\"data\":{\"text\":\"\\ud83d\\ude00\",\"n\":[1,2]}}",
        b"dGhlIHNhbXBsZSBub25jZQ==",
        b"{ \"a\" : { \"type\" : [ ] } , \"type\" : \"x\" }",
    ];
    check(&good, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(packet) = socketio::parse(&text) {
            assert!(packet.attachments <= socketio::MAX_ATTACHMENTS);
            assert!(packet.event().is_none_or(|event| event.iter().count() <= text.len()));
            assert!(packet.ack_arguments().is_none_or(|list| list.len() <= text.len()));
        }
        assert!(Payload::new(&text).count() <= text.len() + 1);
        assert!(Payload::counted(&text).count() <= text.len() + 1);
        assert!(Payload::bytes(bytes).count() <= bytes.len() + 1);
        assert!(Query::parse(&text).pairs().count() <= text.len());
        for envelope in [Envelope::Flat, Envelope::Data] {
            match json::parse(&text, envelope) {
                Ok(message) => assert!(message.data.is_none_or(|data| text.contains(data))),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            assert!(json::encode(envelope, &text, bytes).len() <= 32 + 7 * text.len() + bytes.len());
        }
        assert!(raw::elements(&text).chain(raw::arguments(&text)).all(|piece| text.contains(piece)));
        assert!(raw::fields(&text).all(|field| text.contains(field.key)));
        let headers = ws::UpgradeHeaders {
            method: "GET",
            upgrade: Some("websocket"),
            connection: Some("upgrade"),
            version: Some("13"),
            key: Some(&text),
        };
        assert!(
            ws::check_upgrade(&headers).is_ok_and(|accept| accept.accept.len() == 28)
                || ws::check_upgrade(&headers).is_err()
        );
    });
}

#[test]
fn packets_with_attachments() {
    let good: [&[u8]; 2] =
        [b"52-[\"e\",{\"_placeholder\":true,\"num\":1}]", b"61-/a,7[{\"_placeholder\":true,\"num\":0}]"];
    check(&good, |bytes, noise| {
        let text = String::from_utf8_lossy(bytes);
        let mut decoder = Decoder::default();
        if decoder.text(&text, MAX_MESSAGE) != Ok(None) {
            return;
        }
        let mut total = text.len();
        loop {
            let data = vec![0; noise.next(100)];
            total += data.len();
            match decoder.binary(Cow::Owned(data), MAX_MESSAGE) {
                Ok(None) => assert!(total <= MAX_MESSAGE),
                Ok(Some(decoded)) => {
                    break assert_eq!(decoded.attachments.len(), decoded.packet.attachments);
                }
                Err(error) => {
                    break assert_eq!((error, total > MAX_MESSAGE), (socketio::ParseError::TooLarge, true));
                }
            }
        }
    });
}

#[test]
fn sessions() {
    let settings = Settings::default();
    let good: [&[u8]; 8] = [
        b"4hello",
        b"3",
        b"4a\x1e3\x1ebAQ==",
        b"1",
        b"6:4hello6:b4AQ==1:2",
        b"\x00\x04\xff4\xe2\x82\xac\x01\x02\xff\x04\x01",
        b"d=6%3A4hello",
        b"b4AQ==",
    ];
    check(&good, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let mut out = Vec::new();
        let mut context = Context { settings: &settings, now_ms: 0, out: &mut out };

        for revision in [Revision::Three, Revision::Four] {
            let mut session = Session::websocket(&settings, revision, 0);
            session.websocket_text(&text, &mut context);
            session.websocket_binary(bytes, &mut context);
            let closed = session.phase() == engine::Phase::Closed;
            assert_eq!(context.out.contains(&Output::Forget), closed);
            context.out.clear();
        }
        for (polls, binary) in [("EIO=4", false), ("EIO=3", false), ("EIO=3", true), ("EIO=4&j=0", false)] {
            let mut session = Session::polling(&settings, Polls::of(&Query::parse(polls)), 0);
            assert_eq!(session.post_started(binary, &mut context), Ok(()));
            let mut messages = 0;
            if let Ok(mut post) = session.post_body(bytes.to_vec().into(), binary, &mut context) {
                while session.next_message(&mut post, &mut context).is_some() {
                    messages += 1;
                }
            }
            assert!(messages <= bytes.len());
            let closed = session.phase() == engine::Phase::Closed;
            assert_eq!(context.out.contains(&Output::Forget), closed);
            context.out.clear();
        }
    });
}
