//! Waiting between tries of what the SDK does not retry by itself.

use std::time::Duration;

/// Tries before giving up: with the waits below, about three seconds.
const TRIES: u32 = 8;
const FIRST_MILLIS: u64 = 25;
const LONGEST_MILLIS: u64 = 1_000;

/// Exponential backoff with full jitter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Waits before the next try, not before the first; `false` if there have been enough.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.tries > 0 {
            let longest = (FIRST_MILLIS << (self.tries - 1).min(10)).min(LONGEST_MILLIS);
            tokio::time::sleep(Duration::from_millis(jitter(longest))).await;
        }
        self.tries += 1;
        self.tries <= TRIES
    }
}

/// A number from 0 to `most`, evenly spread. Where the system has no randomness, the most.
fn jitter(most: u64) -> u64 {
    getrandom::u64().map_or(most, |random| random % (most + 1))
}
