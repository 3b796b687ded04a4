//! The progress bar: on standard error, on a terminal only, and only for work that takes long enough to read it.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows the progress of work while it runs.
#[derive(Debug)]
pub struct Painter {
    /// `None`: no terminal, so nothing is drawn.
    bar: Option<ProgressBar>,
}

/// Shorter work shows no bar.
const FIRST: Duration = Duration::from_millis(300);
const NEXT: Duration = Duration::from_millis(100);

impl Painter {
    /// For input of `total` bytes; `None`, as on standard input: the end is not known, so no time is left to show.
    pub fn of_reading(quiet: bool, total: Option<u64>) -> Painter {
        let template = match total {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {msg}, {eta} left",
            None => "{spinner} {bytes} read, {bytes_per_sec}, {msg}, {elapsed}",
        };
        Painter::new(quiet, template)
    }

    /// For writing a stream.
    pub fn of_writing(quiet: bool) -> Painter {
        Painter::new(quiet, "{spinner} {bytes} written, {bytes_per_sec}")
    }

    /// For a known number of runs.
    pub fn of_runs(quiet: bool) -> Painter {
        Painter::new(quiet, "{wide_bar} {pos} of {len} runs, {eta} left")
    }

    /// For named steps.
    pub fn of_steps(quiet: bool) -> Painter {
        Painter::new(quiet, "{spinner} {msg}")
    }

    fn new(quiet: bool, template: &str) -> Painter {
        if quiet || !io::stderr().is_terminal() {
            return Painter { bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // All templates are constants; an invalid one falls back to the standard bar.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Painter { bar: Some(bar) }
    }

    /// Does `work`, and lets `update` refresh the bar until it ends. Then the bar is cleared.
    pub fn during<T>(&self, update: impl Fn(&ProgressBar) + Sync, work: impl FnOnce() -> T) -> T {
        let Some(bar) = &self.bar else { return work() };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let painter = scope.spawn(|| {
                thread::park_timeout(FIRST);
                while !done.load(Ordering::Acquire) {
                    update(bar);
                    bar.tick();
                    thread::park_timeout(NEXT);
                }
                bar.finish_and_clear();
            });
            // The painter must end even if the work panics; otherwise the scope would never end.
            let _end = End { done: &done, painter: painter.thread() };
            work()
        })
    }

    /// Writes to standard error above the bar.
    pub fn above(&self, work: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }
}

struct End<'a> {
    done: &'a AtomicBool,
    painter: &'a thread::Thread,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        self.painter.unpark();
    }
}
