//! What stops, tests and cuts cost and save: senders whose mail goes as far as the breaker lets it, over simulated days.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use pipeline::schedule::{awaits_mail, minute, react};
use pipeline::stream::{Sequence, Shard};
use reputation::breaker::{Factor, State};
use reputation::time::{DAY, HOUR};
use reputation::{Now, Policy, UnitKind};

use crate::kit::{Fixture, Rng, at, set_of};

/// A sender with one configuration set, all of whose mail goes to an ISP that returns complaints.
#[derive(Clone, Copy)]
struct Sender {
    gate: bool,
    days: u32,
    /// Mails that it wants to send in a minute of the simulation.
    mails: fn(u32) -> u32,
    /// Shares of its mail of that minute that bounce hard and that draw a complaint.
    harm: fn(u32) -> (f64, f64),
}

/// What came of it.
#[derive(Debug, Default)]
struct Course {
    /// By day: mails that were wanted, and mails that were sent.
    days: Vec<(u32, u32)>,
    /// Minutes in which it was stopped or slowed, as (minute, the share of its mail that could go).
    limited: BTreeMap<u32, Factor>,
    /// Mails that each test let through before it ended.
    tests: Vec<u32>,
}

impl Course {
    fn kept_back(&self, days: std::ops::Range<usize>) -> f64 {
        let (wanted, sent) = self.days[days].iter().fold((0, 0), |sum, day| (sum.0 + day.0, sum.1 + day.1));
        1.0 - f64::from(sent) / f64::from(wanted)
    }

    /// The last minute in which it was stopped or slowed.
    fn until(&self) -> u32 {
        self.limited.keys().next_back().copied().unwrap_or(0)
    }
}

/// Steps of a minute: what is sent in one goes by the state that the one before left.
const STEPS: u32 = 30;

fn simulate(sender: &Sender, seed: u64) -> Course {
    let mut policy = Policy::from_toml("[warmup.sets]\nnews = { warm = true }\n").expect("valid by construction");
    policy.gate_in_use = sender.gate;
    let mut fixture = Fixture::new(policy);
    let mut random = Rng(seed);
    let (id, isp, news) = (fixture.sender("news", "example.com"), fixture.isp("yahoo"), set_of("news"));
    let mut course = Course { days: vec![(0, 0); sender.days as usize], ..Course::default() };
    let mut coming: BinaryHeap<Reverse<(i64, u32, UnitKind)>> = BinaryHeap::new();
    let mut batch = 0;
    let (mut owed, mut tested, mut was) = (0.0, 0, "closed");
    for passed in 0..sender.days * DAY {
        let (wanted, (bounces, complaints)) = ((sender.mails)(passed), (sender.harm)(passed));
        let day = &mut course.days[(passed / DAY) as usize];
        day.0 += wanted;
        for step in 0..STEPS {
            let now = Now(at(i64::from(passed)).0 + i64::from(step) * 2_000);
            let mut units = Vec::new();
            // The outcomes that have arrived by now.
            while let Some(Reverse((_, cohort, kind))) = coming.peek().copied().filter(|Reverse(next)| next.0 <= now.0)
            {
                coming.pop();
                units.extend(fixture.units(id, isp, at(i64::from(cohort)).minute(), &[(kind, 1)]));
            }
            let keys = [None, Some("yahoo")].map(|isp| fixture.breaker(&news, isp).state);
            let share = keys.map(|state| match state {
                State::Open { .. } => Factor::NONE,
                // Without a gate, SES's switch is all or nothing.
                _ if !sender.gate => Factor::FULL,
                State::Closed | State::Throttled { .. } | State::Probing { .. } => {
                    state.factor(&fixture.policy.breaker)
                }
            });
            let share = share.into_iter().min().unwrap_or(Factor::FULL);
            if share < Factor::FULL {
                course.limited.insert(passed, share);
            }
            owed += f64::from(wanted) / f64::from(STEPS) * share.share();
            let sends = owed as u32;
            owed -= f64::from(sends);
            day.1 += sends;
            let is = if keys.iter().any(|state| matches!(state, State::Open { .. })) {
                "open"
            } else if keys.iter().any(|state| matches!(state, State::Probing { .. })) {
                "probing"
            } else {
                "closed"
            };
            if was == "probing" && is != "probing" {
                course.tests.push(std::mem::take(&mut tested));
            }
            was = is;
            if is == "probing" {
                tested += sends;
            }
            units.extend(fixture.units(id, isp, now.minute(), &[(UnitKind::Sent, sends)]));
            for _ in 0..sends {
                let draw = |random: &mut Rng| random.next() as f64 / u64::MAX as f64;
                let soon = now.0 + 1_000 + (5_000.0 * -draw(&mut random).max(1e-9).ln()) as i64;
                if draw(&mut random) < bounces {
                    coming.push(Reverse((soon, passed, UnitKind::HardBounce)));
                    continue;
                }
                coming.push(Reverse((soon, passed, UnitKind::Delivered)));
                if draw(&mut random) < complaints {
                    let hours = 4.0 * -draw(&mut random).max(1e-9).ln();
                    coming.push(Reverse((soon + (hours * 3_600_000.0) as i64, passed, UnitKind::Complaint)));
                }
            }
            let harmed = units.iter().any(|unit| unit.kind.is_harm());
            let any = !units.is_empty();
            fixture.add(&units, now);
            let concerned = any && (harmed || awaits_mail(&fixture.policy, fixture.store.known_board(), &news));
            let harmed = concerned.then(|| (news.clone(), BTreeSet::from([isp]))).into_iter().collect();
            batch += 1;
            let done = (&Shard::new("all"), Sequence::from(batch), true);
            pollster::block_on(async {
                react(&fixture.policy, &mut fixture.store, done, harmed, now, || true)
                    .await
                    .expect("memory never fails");
                if step == 0 {
                    minute(&fixture.policy, &mut fixture.store, now, || true).await.expect("memory never fails");
                }
            });
        }
    }
    course
}

/// 20,000 mails from 09:00 on, 1,000 a minute; the simulation begins at 08:00.
fn daily_campaign(passed: u32) -> u32 {
    if (HOUR..HOUR + 20).contains(&(passed % DAY)) { 1_000 } else { 0 }
}

/// Ten seeds of a sender.
fn courses(sender: Sender) -> Vec<Course> {
    (0..10).map(|seed| simulate(&sender, seed)).collect()
}

/// The same, with a mail every five minutes around the clock, such as a welcome.
fn daily_campaign_and_welcomes(passed: u32) -> u32 {
    daily_campaign(passed) + u32::from(passed.is_multiple_of(5))
}

/// Before tests waited for mail, and for its complaints, 14 % was kept back without a gate and 27 % with one.
#[test]
fn a_daily_campaign_that_draws_complaints_is_kept_back_from_its_second_day_on() {
    let shapes = [daily_campaign as fn(u32) -> u32, daily_campaign_and_welcomes];
    for (gate, mails) in [false, true].into_iter().flat_map(|gate| shapes.map(|mails| (gate, mails))) {
        let courses = courses(Sender { gate, days: 8, mails, harm: |_| (0.01, 0.006) });
        let kept: Vec<f64> = courses.iter().map(|course| course.kept_back(1..8)).collect();
        let mean = kept.iter().sum::<f64>() / kept.len() as f64;
        assert!(mean >= 0.8, "gate {gate}: {mean:.3} was kept back: {kept:.2?}");
    }
}

#[test]
fn a_daily_campaign_that_was_cured_sends_again_after_a_day_of_testing() {
    let harm: fn(u32) -> (f64, f64) = |passed| (0.01, if passed < DAY { 0.006 } else { 0.0004 });
    for course in courses(Sender { gate: false, days: 4, mails: daily_campaign, harm }) {
        assert!(course.days[2..].iter().all(|(wanted, sent)| wanted == sent), "{:?}", course.days);
    }
    for course in courses(Sender { gate: true, days: 5, mails: daily_campaign, harm }) {
        let sent: Vec<u32> = course.days.iter().map(|(_, sent)| *sent).collect();
        assert!(sent[2] >= 4_900 && sent[3..].iter().all(|sent| *sent >= 19_999), "{sent:?}");
    }
}

/// Before, a test let through all mail of up to a minute.
#[test]
fn a_test_without_a_gate_is_small_whatever_the_volume() {
    for mails in [|_| 60, |_| 1_000, |_| 10_000] as [fn(u32) -> u32; 3] {
        let course = simulate(&Sender { gate: false, days: 1, mails, harm: |_| (0.3, 0.0) }, 1);
        // Ten bounces at the rate that stopped it, and what is sent until that is seen.
        let most = 50 + 2 * mails(0) / STEPS;
        assert!(course.tests.len() >= 4 && course.tests.iter().all(|mails| *mails <= most), "{:?}", course.tests);
    }
}

#[test]
fn a_list_that_stays_bad_is_kept_back() {
    for (harm, least) in [((|_| (0.1, 0.0)) as fn(u32) -> (f64, f64), [0.75, 0.98]), (|_| (0.3, 0.0), [0.97, 0.99])] {
        for (mails, least) in [(|_| 2) as fn(u32) -> u32, |_| 60].into_iter().zip(least) {
            for gate in [false, true] {
                let kept = simulate(&Sender { gate, days: 4, mails, harm }, 1).kept_back(0..4);
                assert!(kept >= least, "gate {gate}, {} a minute at {:?}: {kept:.3}", mails(0), harm(0));
            }
        }
    }
}

/// Five bad minutes in three hours are few bounces. Before, 89 % of all mail was stopped without a gate, because each
/// stop was twice as long as the one before, and 96 % with one.
#[test]
fn an_intermittent_cause_does_not_stop_healthy_mail_for_longer_and_longer() {
    let harm: fn(u32) -> (f64, f64) = |passed| (if passed % 180 < 5 { 0.5 } else { 0.01 }, 0.0);
    for (gate, most) in [(false, 0.3), (true, 0.75)] {
        let kept = simulate(&Sender { gate, days: 4, mails: |_| 60, harm }, 1).kept_back(0..4);
        assert!(kept <= most, "gate {gate}: {kept:.3} was kept back");
    }
}

/// Hours, since the cure, until all mail is sent again.
fn recovery(sender: Sender, cured: u32) -> f64 {
    let recoveries = courses(sender).into_iter().map(|course| f64::from(course.until().max(cured) - cured) / 60.0);
    recoveries.fold(0.0, f64::max)
}

#[test]
fn after_a_cure_all_mail_is_sent_again_soon() {
    let harm: fn(u32) -> (f64, f64) = |passed| (if passed < 90 { 0.4 } else { 0.01 }, 0.0);
    for mails in [(|_| 10) as fn(u32) -> u32, |_| 60] {
        let hours = recovery(Sender { gate: false, days: 2, mails, harm }, 90);
        assert!(hours <= 1.5, "without a gate, {} a minute: {hours:.1} h", mails(0));
        let hours = recovery(Sender { gate: true, days: 2, mails, harm }, 90);
        // Before, 9.5 h at ten a minute: a test of 200 mails at a twentieth of the quota. Two hours are the steps after it.
        assert!(hours <= 4.0, "with a gate, {} a minute: {hours:.1} h", mails(0));
    }
    for gate in [false, true] {
        let once_a_day: fn(u32) -> u32 = |passed| if passed % DAY == HOUR { 20 } else { 0 };
        let hours = recovery(Sender { gate, days: 4, mails: once_a_day, harm }, 90);
        assert!(hours <= 28.0, "gate {gate}, 20 once a day: {hours:.1} h");
    }
}

/// Before, four bounces in a row kept a test at the share of a test for twelve hours, although that much is no reason to
/// stop, and no later mail could outweigh it.
#[test]
fn a_few_bounces_in_a_row_do_not_prolong_a_test() {
    let harm: fn(u32) -> (f64, f64) = |passed| match passed {
        0..10 => (0.5, 0.0),
        46..50 => (0.25, 0.0),
        _ => (0.01, 0.0),
    };
    for (gate, most) in [(false, 2.0), (true, 5.0)] {
        let hours = recovery(Sender { gate, days: 2, mails: |_| 10, harm }, 0);
        assert!(hours <= most, "gate {gate}: {hours:.1} h");
    }
}
