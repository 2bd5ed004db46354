//! Gives memory back that a crowd has left. The C library keeps what is freed between things that stay, and would keep the pages of the largest
//! crowd for good; it lets go of them only when told. The one module with `unsafe`: the call has no safe face.

#![allow(unsafe_code, reason = "malloc_trim is the C library's alone, takes a number and touches nothing of ours")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked whether a crowd has left; so rarely that the walk over what is free, some milliseconds at most, is no matter.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Connections that must have ended since the last time for it to be worth a walk.
const CROWD: u64 = 500;

static ENDED: AtomicU64 = AtomicU64::new(0);

/// A connection has ended, whatever it spoke.
pub fn connection_ended() {
    ENDED.fetch_add(1, Ordering::Relaxed);
}

/// Looks after the process's memory for as long as it runs.
pub async fn give_back() {
    let mut seen = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let ended = ENDED.load(Ordering::Relaxed);
        if ended - seen >= CROWD {
            seen = ended;
            let _ = tokio::task::spawn_blocking(trim).await;
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> i32;
    }
    // SAFETY: the function is the C library's, of this signature, and may be called from any thread at any time (malloc_trim(3)).
    let gave = unsafe { malloc_trim(0) };
    tracing::debug!(gave, "gave free memory back");
}

/// Other C libraries give back by themselves, or cannot.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
