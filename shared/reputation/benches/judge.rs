//! The cost of judging a key: from scratch over 8 days in which every minute had mail, and again after one more unit.
//!
//! `cargo bench -p ses-breaker-reputation --bench judge`.

use divan::{Bencher, black_box};
use reputation::judge::Judge;
use reputation::time::{DAY, MINUTE_MILLIS};
use reputation::{ArmedSince, Isp, Level, Metric, Minute, Now, Policy, Timeline, UnitKind};

/// 2026-10-09 12:30 UTC: judging uses 8 days of hours and 150 minutes.
const NOW: Now = Now(1_791_549_000_000);

fn main() {
    divan::main();
}

/// Nine days with mail in every minute, 2 % of it bad; never judged yet.
fn busy_days() -> Timeline {
    let mut timeline = Timeline::default();
    for minute in (0..9 * DAY).rev().map(|age| NOW.minute().minus(age)) {
        let then = Now(i64::from(minute.0) * MINUTE_MILLIS);
        timeline.add(minute, Isp::OTHER, UnitKind::Sent, 50, true, then);
        timeline.add(minute, Isp::OTHER, UnitKind::Delivered, 49, true, then);
        timeline.add(minute, Isp::OTHER, UnitKind::HardBounce, 1, true, then);
    }
    timeline.prune(NOW);
    timeline
}

fn quick_look(policy: &Policy, timeline: &mut Timeline) -> bool {
    Judge::new(policy, None, &[], NOW).alarm(timeline, ArmedSince::default(), Metric::HardBounce) > Some(Level::Warn)
}

fn add(timeline: &mut Timeline, minute: Minute) {
    timeline.add(minute, Isp::OTHER, UnitKind::HardBounce, 1, true, NOW);
}

#[divan::bench]
fn judge_afresh(bencher: Bencher) {
    let (policy, timeline) = (Policy::default(), busy_days());
    let inputs = bencher.with_inputs(|| timeline.clone());
    inputs.bench_refs(|timeline| Judge::new(&policy, None, &[], NOW).judgement(timeline, ArmedSince::default()));
}

#[divan::bench]
fn alarms_afresh(bencher: Bencher) {
    let (policy, timeline) = (Policy::default(), busy_days());
    bencher.with_inputs(|| timeline.clone()).bench_refs(|timeline| quick_look(&policy, timeline));
}

#[divan::bench]
fn judge_after_one_more_unit(bencher: Bencher) {
    let (policy, mut timeline) = (Policy::default(), busy_days());
    bencher.bench_local(|| {
        add(&mut timeline, NOW.minute());
        Judge::new(&policy, None, &[], NOW).judgement(&mut timeline, ArmedSince::default())
    });
}

#[divan::bench]
fn alarms_after_one_more_unit(bencher: Bencher) {
    let (policy, mut timeline) = (Policy::default(), busy_days());
    bencher.bench_local(|| {
        add(&mut timeline, NOW.minute());
        quick_look(&policy, &mut timeline)
    });
}

/// For example a complaint about mail of this morning: the walk starts over.
#[divan::bench]
fn alarms_after_one_more_late_unit(bencher: Bencher) {
    let (policy, mut timeline) = (Policy::default(), busy_days());
    bencher.bench_local(|| {
        add(&mut timeline, NOW.minute().minus(6 * 60));
        quick_look(&policy, &mut timeline)
    });
}

#[divan::bench]
fn add_to_the_newest_minute(bencher: Bencher) {
    let mut timeline = busy_days();
    bencher.bench_local(|| add(&mut timeline, black_box(NOW.minute())));
}

#[divan::bench]
fn add_to_a_minute_of_yesterday(bencher: Bencher) {
    let mut timeline = busy_days();
    bencher.bench_local(|| add(&mut timeline, black_box(NOW.minute().minus(DAY))));
}
