//! What the load generator says to the limit: records, little-endian, one after the other. Bytes in, records out; knows no sockets.
//!
//! | record | bytes |
//! |---|---|
//! | join | `J`, room (4) |
//! | leave | `L`, room (4) |
//! | send to a room's members | `S`, room (4), length (2), bytes |
//! | send back | `E`, length (2), bytes |
//!
//! The bytes are whole frames as a Socket.IO server would send them, made by the load generator, so that the kernel has the same to do.

use anyhow::bail;

/// Rooms are numbered from 0 up to this, since they are indices.
pub const ROOMS: u32 = 1 << 20;
/// The longest record: that of a `send`.
pub const RECORD_BYTES: usize = 7 + u16::MAX as usize;

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The connection becomes a member of the room.
    Join(u32),
    /// The connection is one no more.
    Leave(u32),
    /// Each member of the room is sent the bytes.
    Send(u32, &'a [u8]),
    /// The connection is sent the bytes.
    Echo(&'a [u8]),
}

/// Takes the first record off `bytes`; none if it is not all there yet.
pub fn take<'a>(bytes: &mut &'a [u8]) -> anyhow::Result<Option<Record<'a>>> {
    let input = *bytes;
    let Some(kind) = input.first() else { return Ok(None) };
    let (record, rest) = match kind {
        b'J' | b'L' => {
            let Some((room, rest)) = room(&input[1..])? else { return Ok(None) };
            (if *kind == b'J' { Record::Join(room) } else { Record::Leave(room) }, rest)
        }
        b'S' => {
            let Some((room, rest)) = room(&input[1..])? else { return Ok(None) };
            let Some((text, rest)) = text(rest) else { return Ok(None) };
            (Record::Send(room, text), rest)
        }
        b'E' => {
            let Some((text, rest)) = text(&input[1..]) else { return Ok(None) };
            (Record::Echo(text), rest)
        }
        other => bail!("a record begins with {other:#04x}: J, L, S and E are known"),
    };
    *bytes = rest;
    Ok(Some(record))
}

fn room(bytes: &[u8]) -> anyhow::Result<Option<(u32, &[u8])>> {
    let Some((number, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let number = u32::from_le_bytes(*number);
    if number >= ROOMS {
        bail!("room {number}: rooms are numbered below {ROOMS}");
    }
    Ok(Some((number, rest)))
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of `bytes`, and how many bytes are left over.
    fn check(bytes: &[u8], expected: &[Record], left: usize) {
        let mut rest = bytes;
        let mut records = Vec::new();
        while let Some(record) = take(&mut rest).expect("sound records") {
            records.push(record);
        }
        assert_eq!(records, expected);
        assert_eq!(rest.len(), left);
    }

    #[test]
    fn records_are_taken_one_after_the_other() {
        check(
            b"J\x05\0\0\0L\x05\0\0\0S\x01\x02\0\0\x03\0abcE\x02\0hi",
            &[Record::Join(5), Record::Leave(5), Record::Send(513, b"abc"), Record::Echo(b"hi")],
            0,
        );
        check(b"E\0\0", &[Record::Echo(b"")], 0);
    }

    #[test]
    fn a_record_that_is_not_all_there_is_left() {
        let whole = b"S\x01\0\0\0\x03\0abc";
        for length in 0..whole.len() {
            check(&whole[..length], &[], length);
        }
        check(b"E\x01\0xE\x01", &[Record::Echo(b"x")], 2);
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for bytes in [&b"X"[..], b"J\xff\xff\xff\xff", b"\0"] {
            assert!(take(&mut &*bytes).is_err(), "{bytes:?}");
        }
    }
}
