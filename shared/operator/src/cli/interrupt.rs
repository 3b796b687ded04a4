//! Ctrl-C for a verb that must clean up: the first asks it to end, the second ends the program.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::time::sleep;

/// Interval between two checks of the flag.
const LOOK: Duration = Duration::from_millis(100);
/// The exit code that shells report for a program ended by SIGINT.
const ENDED: i32 = 130;

/// Completes on Ctrl-C or SIGTERM. From the first poll on, a first Ctrl-C has no other effect.
pub(super) async fn interrupted() {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, the first signal finds the flag unset and only sets it; the second finds it set and ends the program.
        let registered = flag::register_conditional_shutdown(signal, ENDED, Arc::clone(&asked))
            .and_then(|_| flag::register(signal, Arc::clone(&asked)));
        if registered.is_err() {
            // If registering fails, Ctrl-C ends the program as usual.
            return pending().await;
        }
    }
    while !asked.load(Ordering::Relaxed) {
        sleep(LOOK).await;
    }
}
