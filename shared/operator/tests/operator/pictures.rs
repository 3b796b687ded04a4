//! The pictures of the README: what `up`, `status` and `demo` print, in colours. With `UPDATE=1` they are drawn anew.
//!
//! What they show is what the command line prints on a terminal of 100 columns, with these differences. `up` runs against the
//! emulated AWS, where everything takes no time, so its times are left out. `status` and `demo` run in memory on a clock that
//! begins on 2026-10-06; the demo runs faster than it says, and its address, which is another one each time, is replaced.

use std::cell::RefCell;
use std::fmt::Write as _;

use e2e::picture::Screen;
use local::story::Kind;
use operator::asking::{Asking, Confirmed};
use operator::demo::{self, Line};
use operator::status::status;
use operator::up::{self, up};
use operator::{Access, Answer, Failure, stack};
use reputation::time::Now;
use terminal::{BOLD, DIM, TermStyle, paint};
use tokio::sync::Notify;

use crate::demo as story;
use crate::stack::Fixture;

const COLUMNS: u16 = 100;

fn term() -> TermStyle {
    TermStyle::new(Some(COLUMNS))
}

fn prompt(command: &str) -> String {
    format!("{} {}\n", paint(DIM, "$"), paint(BOLD, command))
}

fn drawn(picture: &str, title: &str, text: &str, rows: usize) {
    Screen { title, text, columns: usize::from(COLUMNS), rows }.is_shown_in(picture);
}

/// A line about a resource without its times.
fn timeless(line: &str) -> &str {
    let clock = |text: &str| text.len() == 5 && text.replace(|c: char| c.is_ascii_digit(), "0") == "00:00";
    match line.split_once("  ") {
        Some((time, rest)) if clock(time) => rest.rfind("), ").map_or(rest, |end| &rest[..=end]),
        Some(_) | None => line,
    }
}

/// In real time, because the doctor compares the clocks.
#[tokio::test]
async fn up_is_as_the_readme_shows_it() {
    let fixture = Fixture::new().await;
    let ses = aws_sdk_sesv2::Client::new(&fixture.config);
    ses.create_configuration_set().configuration_set_name("newsletter").send().await.unwrap();
    let shown = RefCell::new(prompt("ses-breaker up newsletter --email you@example.com"));
    let asking = Asking {
        line: &|line| {
            let _ = writeln!(shown.borrow_mut(), "{}", timeless(line));
        },
        confirm: &|question| {
            let _ = writeln!(shown.borrow_mut(), "{question} [y/N] {}", paint(BOLD, "y"));
            Confirmed::Yes
        },
        ..Asking::NOBODY
    };
    let email = ("AlertEmail".to_owned(), "you@example.com".to_owned());
    let deploy = stack::deploy::Order { parameters: vec![email], ..fixture.deploy_order() };
    let order = up::Order { deploy, sets: vec!["newsletter".to_owned()], ..up::Order::default() };
    let access = Access { stack: "ses-breaker".to_owned(), ..fixture.root() };
    let result = up(&access, &order, aws::invocation::now(), &asking).await.unwrap();
    let answer = Answer::of(&result, term()).text;
    let (answer, took) = answer.trim_end().rsplit_once('\n').unwrap();
    assert!(took.contains("this took "), "{took}");
    let text = format!("{}\n{answer}\n", shown.into_inner());
    drawn("up.svg", "ses-breaker up", &text, 30);
    fixture.emulator.stop().unwrap();
}

#[tokio::test(start_paused = true)]
async fn status_is_as_the_readme_shows_it() {
    let mut demo = local::Demo::new(story::settings(1)).unwrap();
    story::story(&mut demo, Kind::Refused, "newsletter").await;
    let status = status(&demo::access(demo.cloud()), None, demo.clock().now()).await.unwrap();
    let answer = Answer::of(&status, term());
    drawn("status.svg", "ses-breaker status", &format!("{}{}", prompt("ses-breaker status"), answer.text), 40);
}

#[tokio::test]
async fn the_demo_is_as_the_readme_shows_it() {
    let mut text = prompt("ses-breaker demo");
    let ended = Notify::new();
    // Once after the stop, for the test, and once after the test.
    let mut accepted = 0;
    let order = demo::Order { port: 0, seed: 1, speed: 1_000_000.0, length: None };
    let mut print = |line: Line<'_>| -> Result<(), Failure> {
        if accepted == 2 {
            return Ok(());
        }
        let line = match line {
            Line::Ready { url: _, now } => Line::Ready { url: "http://127.0.0.1:39299/5c0bf8a3e3990f32fd3f5cdc/", now },
            Line::Happened(_) => line,
        };
        text.push_str(&line.answer(60.0, term()).text);
        accepted += usize::from(matches!(line, Line::Happened(event) if event.kind == Kind::Accepted));
        if accepted == 2 {
            ended.notify_one();
        }
        Ok(())
    };
    demo::run(&order, Now(1_791_262_800_000), ended.notified(), &mut print).await.unwrap();
    drawn("demo.svg", "ses-breaker demo", &text, 30);
}

#[test]
fn times_of_resources_are_left_out() {
    assert_eq!(timeless("01:10  created  Key (AWS::KMS::Key), 68 s"), "created  Key (AWS::KMS::Key)");
    assert_eq!(timeless("01:20  created  stack mail"), "created  stack mail");
    assert_eq!(timeless("deleting stack mail"), "deleting stack mail");
}
