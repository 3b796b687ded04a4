//! The progress bar: on standard error, on a terminal only, and only when it takes long enough to be read.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far something has come while it goes on.
#[derive(Debug)]
pub struct Painter {
    /// `None` = nobody looks.
    bar: Option<ProgressBar>,
}

/// What is done sooner needs no bar.
const FIRST: Duration = Duration::from_millis(300);
const NEXT: Duration = Duration::from_millis(100);

impl Painter {
    /// Of reading input of a known or unknown size.
    pub fn of_reading(quiet: bool) -> Painter {
        Painter::new(quiet, "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {msg}")
    }

    /// Of writing a stream.
    pub fn of_writing(quiet: bool) -> Painter {
        Painter::new(quiet, "{spinner} {bytes} written, {bytes_per_sec}")
    }

    /// Of so many runs of something.
    pub fn of_runs(quiet: bool) -> Painter {
        Painter::new(quiet, "{wide_bar} {pos} of {len} runs")
    }

    /// Of steps that are told by their names.
    pub fn of_steps(quiet: bool) -> Painter {
        Painter::new(quiet, "{spinner} {msg}")
    }

    fn new(quiet: bool, template: &str) -> Painter {
        if quiet || !io::stderr().is_terminal() {
            return Painter { bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // All templates are ours; one that is wrong shows the standard bar.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Painter { bar: Some(bar) }
    }

    /// Does `work`; while it lasts, lets `update` bring the bar up to date. The bar is gone afterwards.
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
            // The painter must also end if the work panics, or the scope would wait for it for ever.
            let _end = End { done: &done, painter: painter.thread() };
            work()
        })
    }

    /// Does something to standard error above the bar.
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
