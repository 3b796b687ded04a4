//! Whose mail is stopped when an identity sends through several configuration sets and the mail of one of them is bad.

use reputation::Policy;

use crate::kit::{Fixture, at, identity_of, set_of};

/// Minutes of mail, in each of which every sender sends what its function says, and all is judged.
struct Play {
    fixture: Fixture,
    minute: i64,
}

/// A sender's mail of a minute: (set, identity), ISP, mails, bounces.
type Mail<'a> = ((&'a str, &'a str), &'a str, u32, u32);

impl Play {
    fn new(toml: &str) -> Play {
        Play {
            fixture: Fixture::new(Policy::from_toml(toml).expect("valid by construction").in_world(true)),
            minute: 0,
        }
    }

    fn minutes(&mut self, minutes: i64, mail: &[Mail<'_>]) {
        for _ in 0..minutes {
            self.minute += 1;
            let now = at(self.minute);
            for (sender, isp, mails, bounces) in mail {
                self.fixture.mail(*sender, isp, now.minute(), *mails, *bounces, now);
            }
            self.fixture.evaluate(now);
        }
    }

    /// The states of both sets and of the identity at one ISP.
    fn states(&mut self, isp: &str) -> [&'static str; 3] {
        let subjects = [set_of("news"), set_of("receipts"), identity_of("example.com")];
        subjects.map(|subject| self.fixture.state(&subject, Some(isp)))
    }

    /// The same, of all ISPs together.
    fn wholes(&mut self) -> [&'static str; 3] {
        let subjects = [set_of("news"), set_of("receipts"), identity_of("example.com")];
        subjects.map(|subject| self.fixture.state(&subject, None))
    }
}

const NEWS: (&str, &str) = ("news", "example.com");
const RECEIPTS: (&str, &str) = ("receipts", "example.com");

#[test]
fn a_bad_set_does_not_stop_the_other_sets_of_its_identity() {
    let mut play = Play::new("");
    play.minutes(60, &[(NEWS, "other", 20, 0), (RECEIPTS, "other", 5, 0)]);
    // What was accepted before the stop takes effect bounces, too.
    play.minutes(8, &[(NEWS, "other", 20, 8), (RECEIPTS, "other", 5, 0)]);
    assert_eq!(play.states("other"), ["open", "closed", "closed"]);
    assert_eq!(play.wholes()[1..], ["closed", "closed"]);
    // The bad mail stays in the counters of the identity for days.
    for _ in 0..20 {
        play.minutes(60, &[(RECEIPTS, "other", 5, 0)]);
        assert_eq!((play.states("other")[2], play.wholes()[2]), ("closed", "closed"));
    }
}

#[test]
fn a_set_that_is_bad_everywhere_does_not_stop_the_other_sets_of_its_identity() {
    // Too few mails at each ISP for evidence there, and too much of them together.
    let isps = ["gmail", "yahoo", "microsoft", "apple", "att", "comcast", "gmx", "mail.ru"];
    let mut play = Play::new("");
    let mail = |bounces: u32| {
        let of_isp = move |isp| [(NEWS, isp, 4, bounces), (RECEIPTS, isp, 2, 0)];
        isps.into_iter().flat_map(of_isp).collect::<Vec<_>>()
    };
    play.minutes(60, &mail(0));
    play.minutes(2, &mail(2));
    assert_eq!(play.wholes(), ["open", "closed", "closed"]);
    assert!(isps.iter().all(|isp| play.states(isp)[1..] == ["closed", "closed"]));
}

#[test]
fn a_set_that_is_bad_at_one_isp_does_not_hold_the_other_sets_there() {
    let mut play = Play::new("");
    let good = [(NEWS, "yahoo", 5, 0), (RECEIPTS, "gmail", 5, 0), (RECEIPTS, "yahoo", 5, 0)];
    play.minutes(60, &[&good[..], &[(NEWS, "gmail", 20, 0)]].concat());
    play.minutes(8, &[&good[..], &[(NEWS, "gmail", 20, 8)]].concat());
    assert_eq!(play.states("gmail"), ["open", "closed", "closed"]);
    assert_eq!(play.wholes(), ["closed", "closed", "closed"]);
}

#[test]
fn an_identity_that_is_bad_by_all_its_sets_is_stopped() {
    let mut play = Play::new("");
    let others = [(("news", "other.example"), "other", 100, 0), (("receipts", "other.example"), "other", 100, 0)];
    play.minutes(60, &[&others[..], &[(NEWS, "other", 10, 0), (RECEIPTS, "other", 10, 0)]].concat());
    play.minutes(20, &[&others[..], &[(NEWS, "other", 10, 3), (RECEIPTS, "other", 10, 3)]].concat());
    assert_eq!(play.states("other"), ["closed", "closed", "open"]);
}

#[test]
fn an_identity_is_stopped_too_if_the_rest_of_its_mail_is_bad() {
    let mut play = Play::new("");
    let others = [(("receipts", "other.example"), "other", 200, 0)];
    play.minutes(60, &[&others[..], &[(NEWS, "other", 20, 0), (RECEIPTS, "other", 20, 0)]].concat());
    play.minutes(10, &[&others[..], &[(NEWS, "other", 20, 8), (RECEIPTS, "other", 20, 6)]].concat());
    assert_eq!(play.states("other"), ["open", "closed", "open"]);
}

#[test]
fn an_identity_with_one_set_is_judged_as_that_set_is() {
    let mut play = Play::new("");
    play.minutes(60, &[(NEWS, "other", 20, 0)]);
    play.minutes(8, &[(NEWS, "other", 20, 8)]);
    assert_eq!(play.states("other"), ["open", "closed", "open"]);
}

#[test]
fn a_set_that_nothing_stops_answers_for_nothing() {
    let mut play = Play::new("[subjects]\nshadow = [\"configuration-set:news\"]");
    play.minutes(60, &[(NEWS, "other", 20, 0), (RECEIPTS, "other", 5, 0)]);
    play.minutes(8, &[(NEWS, "other", 20, 8), (RECEIPTS, "other", 5, 0)]);
    assert_eq!(play.states("other"), ["open", "closed", "open"]);
}
