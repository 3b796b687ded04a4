//! Ctrl-C, for a verb that has to clean up: the first one asks it to end, the second one ends the program.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::time::sleep;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(100);
/// What a shell reports of a program that SIGINT has ended.
const ENDED: i32 = 130;

/// Ends when somebody presses Ctrl-C, or the program is asked to end. From the first poll on, Ctrl-C does nothing else.
pub(super) async fn interrupted() {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds nobody asked before, and the second one does.
        let registered = flag::register_conditional_shutdown(signal, ENDED, Arc::clone(&asked))
            .and_then(|_| flag::register(signal, Arc::clone(&asked)));
        if registered.is_err() {
            // Then it ends the program, as ever.
            return pending().await;
        }
    }
    while !asked.load(Ordering::Relaxed) {
        sleep(LOOK).await;
    }
}
