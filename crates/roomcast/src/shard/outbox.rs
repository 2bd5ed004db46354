//! What waits for a client whose socket is full: shared bytes in order, bounded. Exists only while there is something to wait.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Parts of one `writev`.
const PARTS_MAX: usize = 64;

/// The queue of one blocked connection.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<Bytes>,
    /// Bytes of the first frame that went out already.
    sent_of_first: usize,
    bytes: usize,
    /// Until when the client must have taken something of it, once its socket is full.
    pub until_ms: Option<u64>,
}

impl Outbox {
    /// A queue whose first frame went out up to `sent_of_first`.
    pub fn new(frames: Vec<Bytes>, sent_of_first: usize) -> Self {
        let bytes = frames.iter().map(Bytes::len).sum::<usize>() - sent_of_first;
        Self { frames: frames.into(), sent_of_first, bytes, until_ms: None }
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Drops all frames but the one that is out in part already, which must be finished.
    pub fn keep_first(&mut self) {
        self.frames.truncate(usize::from(self.sent_of_first > 0));
        self.bytes = self.frames.front().map_or(0, |first| first.len() - self.sent_of_first);
    }

    /// What waits, in bytes: for the caller to hold against the bound.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The next parts to write.
    pub fn parts(&self) -> Vec<IoSlice<'_>> {
        let skip = |index: usize| if index == 0 { self.sent_of_first } else { 0 };
        self.frames
            .iter()
            .take(PARTS_MAX)
            .enumerate()
            .map(|(index, frame)| IoSlice::new(&frame[skip(index)..]))
            .collect()
    }

    /// So many bytes of [`parts`](Self::parts) went out.
    pub fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.sent_of_first += written;
        while let Some(first) = self.frames.front() {
            if self.sent_of_first < first.len() {
                return;
            }
            self.sent_of_first -= first.len();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_out_in_order_whatever_the_socket_takes() {
        for step in 1..12 {
            let mut outbox = Outbox::new(vec![Bytes::from_static(b"abcd"), Bytes::from_static(b"ef")], 1);
            outbox.push(Bytes::from_static(b"ghi"));
            let mut out = Vec::new();
            while !outbox.is_empty() {
                let ready: Vec<u8> = outbox.parts().iter().flat_map(|part| part.to_vec()).take(step).collect();
                outbox.advance(ready.len());
                out.extend(ready);
            }
            assert_eq!((out.as_slice(), outbox.bytes()), (b"bcdefghi".as_slice(), 0), "{step} bytes at a time");
        }
    }
}
