//! Every parser on good input that was spoiled at random: the checks of the fuzz targets on their own seeds, from a fixed start and for a
//! bounded number of rounds. FUZZ_ROUNDS sets another number.

mod checks;

use std::fs;
use std::path::Path;

/// How often each seed is spoiled.
const ROUNDS: u64 = 1_500;

/// The longest input.
const MAX_BYTES: usize = 4096;

/// A generator of repeatable noise (xorshift64*; Vigna, 2016).
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }

    /// Changes, drops, doubles or inserts a few bytes, or puts a piece of another input in.
    fn spoil(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        const INTERESTING: &[u8] = b"\x00\x01\x1e\x7f\x80\x81\x82\x88\xc1\xc3\xed\xff\"\\{}[],:-/0123456789b %+=&";
        for _ in 0..=self.next(4) {
            let at = self.next(bytes.len() + 1);
            let byte = if self.next(2) == 0 { INTERESTING[self.next(INTERESTING.len())] } else { self.next(256) as u8 };
            match self.next(7) {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                2 => bytes.extend_from_within(at..),
                3 if !other.is_empty() => {
                    let (from, to) = (self.next(other.len()), self.next(other.len() + 1));
                    bytes.splice(at..at, other[from.min(to)..to].iter().copied());
                }
                _ if at < bytes.len() => bytes[at] = byte,
                _ => bytes.push(byte),
            }
        }
        bytes.truncate(MAX_BYTES);
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("each target has seeds").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("it can be read")).collect()
}

/// Runs one check on its seeds as they are, and on spoiled ones; what spoiled well goes on to be spoiled further.
fn run(target: &str) {
    let (_, check) = checks::ALL.iter().find(|(name, _)| *name == target).expect("a check");
    let rounds = std::env::var("FUZZ_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "no seeds for {target}");
    let mut noise = Noise(0x5eed);
    for seed in &seeds {
        check(seed);
        let mut bytes = seed.clone();
        for _ in 0..rounds {
            if noise.next(8) == 0 {
                bytes.clone_from(seed);
            }
            let other = &seeds[noise.next(seeds.len())];
            noise.spoil(&mut bytes, other);
            check(&bytes);
        }
    }
}

#[test]
fn every_check_is_a_fuzz_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
    for (name, _) in checks::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no target of fuzz/Cargo.toml");
        let target = fs::read_to_string(folder.join(format!("targets/{name}.rs"))).expect("a target");
        assert!(target.contains(&format!("checks::{name}(")), "{name} runs another check");
    }
}

#[test]
fn websocket_frames() {
    run("websocket");
}

#[test]
fn engine_io_packets_and_payloads() {
    run("engine");
}

#[test]
fn socket_io_packets_with_attachments() {
    run("socket_io");
}

#[test]
fn plain_json_messages() {
    run("json");
}
