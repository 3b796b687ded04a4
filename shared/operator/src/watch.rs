//! A picture on a terminal that is refreshed in place.

use std::convert::Infallible;
use std::time::Duration;

use reputation::time::Now;
use terminal::time::second_of;
use terminal::{DIM, DOUBTFUL, paint, sanitize};

use crate::failure::Failure;

/// Asks repeatedly, and draws each picture, until drawing fails or the program is interrupted.
///
/// # Errors
///
/// The first answer fails, or drawing does. When a later answer fails, its error is shown above the last good picture.
pub async fn watch(
    every: Duration,
    clock: &dyn Fn() -> Now,
    mut ask: impl AsyncFnMut(Now) -> Result<String, Failure>,
    draw: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Infallible, Failure> {
    let foot = paint(DIM, &format!("every {} s; Ctrl-C ends", every.as_secs()));
    let mut last = ask(clock()).await?;
    let mut head = String::new();
    loop {
        draw(&format!("{head}{last}\n{foot}\n"))?;
        tokio::time::sleep(every).await;
        let now = clock();
        head = match ask(now).await {
            Ok(picture) => {
                last = picture;
                String::new()
            }
            Err(failure) => {
                let words = format!("{} UTC: {failure}; the picture below is older", second_of(now));
                format!("{}\n{}\n\n", paint(DOUBTFUL.bold(), &sanitize(&words)), sanitize(&failure.remedy()))
            }
        };
    }
}

/// The sequences that draw a picture over the one before: at most as many lines as the terminal has, none of them wrapped.
///
/// The sequences are those of ECMA-48 (CUP, EL, ED) and of the VT100 (DECAWM).
pub fn frame(picture: &str, height: usize) -> String {
    let lines: Vec<&str> = picture.lines().collect();
    // The cursor is on a line of its own.
    let room = height.saturating_sub(1).max(2);
    let (shown, hidden) = if lines.len() > room { lines.split_at(room - 1) } else { (&lines[..], &lines[..0]) };
    let mut out = String::from("\u{1b}[?7l\u{1b}[H");
    shown.iter().for_each(|line| out.push_str(&format!("{line}\u{1b}[0m\u{1b}[K\n")));
    if !hidden.is_empty() {
        let words = format!("… and {} more lines that do not fit the terminal", hidden.len());
        out.push_str(&format!("{}\u{1b}[K\n", paint(DIM, &words)));
    }
    out.push_str("\u{1b}[J\u{1b}[?7h");
    out
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use pipeline::{Disposition, PortError};
    use terminal::visible;

    use super::*;

    #[test]
    fn a_picture_is_at_most_as_high_as_the_terminal() {
        for height in 0..12 {
            let drawn = visible(&frame(&"line\n".repeat(6), height));
            let lines = drawn.lines().count();
            assert!(lines < height.max(3), "{height}: {drawn}");
            assert_eq!(drawn.contains("more lines"), height < 7, "{height}");
        }
        assert_eq!(frame("a\n", 10), "\u{1b}[?7l\u{1b}[Ha\u{1b}[0m\u{1b}[K\n\u{1b}[J\u{1b}[?7h");
    }

    fn refused() -> Failure {
        let error = PortError { operation: "reading", reason: "timeout".to_owned(), disposition: Disposition::Retry };
        let (stack, region) = ("test".to_owned(), "eu-west-1".to_owned());
        Failure::Refused { error, stack, region, profile: None }
    }

    /// What is drawn until the terminal is gone, of answers by number.
    async fn drawn(answers: &[bool]) -> Vec<String> {
        let (asked, mut drawn) = (Cell::new(0), Vec::new());
        let clock = || Now(1_791_277_200_000 + 1_000 * i64::from(asked.get()));
        let ask = async |_: Now| {
            asked.set(asked.get() + 1);
            let answers = answers.get(asked.get() as usize - 1).copied().unwrap_or(false);
            let text = format!("picture {}\n", asked.get());
            if answers { Ok(text) } else { Err(refused()) }
        };
        let mut draw = |picture: &str| {
            drawn.push(visible(picture));
            if drawn.len() == answers.len() { Err(Failure::Output("gone".to_owned())) } else { Ok(()) }
        };
        let ended = watch(Duration::from_secs(5), &clock, ask, &mut draw).await;
        assert!(ended.is_err());
        drawn
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shown_above_the_last_picture_until_it_is_over() {
        let begun = tokio::time::Instant::now();
        let pictures = drawn(&[true, false, true]).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        assert_eq!(pictures[0], "picture 1\n\nevery 5 s; Ctrl-C ends\n");
        assert!(
            pictures[1].starts_with("2026-10-06 09:00:01 UTC: reading failed: timeout; the picture below is older\n")
        );
        assert!(pictures[1].contains("--endpoint-url") && pictures[1].contains("\npicture 1\n"), "{}", pictures[1]);
        assert_eq!(pictures[2], "picture 3\n\nevery 5 s; Ctrl-C ends\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_at_once_is_not_watched() {
        assert_eq!(drawn(&[false]).await, [""; 0]);
    }
}
