//! Quotas on the ports in memory: each day is closed once, by any process and at any time; each request is granted
//! once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use pipeline::evaluate::{apply_input, evaluate};
use pipeline::memory::{MemoryQuotas, MemoryReputation};
use pipeline::ports::Quota;
use pipeline::ports::Reputation as _;
use pipeline::quotas::{Asker, Granted, QuotaCommand, Returned, command, flow, give_back, permit, plan, plan_set};
use pollster::block_on;
use proptest::prelude::*;
use reputation::breaker::Input;
use reputation::class::Class;
use reputation::permit::{Ask, Limit};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::Now;
use reputation::unit::UnitKind;
use reputation::warmup::{Held, Move};
use reputation::{Isp, IspMap};

const DAY: i64 = 86_400_000;
/// Thursday, 2024-10-03.
const START: Now = Now(20_000 * DAY);

struct Fixture {
    policy: Policy,
    reputation: MemoryReputation,
    quotas: MemoryQuotas,
    isp: Isp,
    asked: u32,
}

impl Fixture {
    fn new(policy: &str) -> Fixture {
        // With a small burst, so that pacing shows.
        let policy = format!("{policy}\n[warmup.plan]\nburst_share = 0.02\n");
        let policy = Policy::from_toml(&policy).unwrap().in_world(true);
        Fixture {
            reputation: MemoryReputation::under(&policy),
            quotas: MemoryQuotas::default(),
            isp: IspMap::builtin().by_name("gmail").unwrap(),
            asked: 0,
            policy,
        }
    }

    fn plan(&mut self, now: Now) -> Quota {
        block_on(plan(&self.policy, &mut self.reputation, &self.quotas, "news", self.isp, now)).unwrap()
    }

    fn ask_as(&mut self, request: &str, class: Class, mails: u64, now: Now) -> Granted {
        self.asked_for(request, Ask { mails, class, now, schedule: false, jitter: 0 })
    }

    /// Asks for a schedule.
    fn scheduled(&mut self, request: &str, mails: u64, now: Now) -> Granted {
        self.asked_for(request, Ask { mails, class: Class::Bulk, now, schedule: true, jitter: 0 })
    }

    fn asked_for(&mut self, request: &str, ask: Ask) -> Granted {
        let now = ask.now;
        let asker = Asker { set: "news", identity: "example.com", request, body: &ask.mails.to_string() };
        let board = block_on(self.reputation.board(now)).unwrap();
        let plan = &self.policy.warmup.sets["news"];
        let flow = flow(&self.policy, plan, &board, &asker, self.isp).expect("readable");
        loop {
            let answer = permit(&self.policy, &self.quotas, &flow, &asker, self.isp, ask, None);
            if let Some((granted, _)) = block_on(answer).unwrap() {
                return granted;
            }
            self.plan(now);
        }
    }

    fn ask(&mut self, mails: u64, now: Now) -> u64 {
        self.asked += 1;
        let granted = self.ask_as(&format!("request {}", self.asked), Class::Bulk, mails, now);
        granted.lease.map_or(0, |lease| lease.mails())
    }

    fn key(&self, isp: Option<Isp>) -> Key {
        Key { subject: Subject::ConfigurationSet("news".into()), isp }
    }

    /// Mails accepted within the last hour before `now`, some of which bounced, and what the breaker does about it.
    fn mail(&mut self, sent: u32, bounced: u32, now: Now) {
        let subject = self.key(None).subject;
        let isp = self.isp;
        let subject_state = block_on(self.reputation.subject_state(&subject, now)).unwrap();
        for (kind, count) in
            [(UnitKind::Sent, sent), (UnitKind::Delivered, sent - bounced), (UnitKind::HardBounce, bounced)]
        {
            subject_state.timeline.add(now.minute().minus(1), isp, kind, count, true, now);
        }
        block_on(evaluate(&self.policy, &mut self.reputation, &subject, &BTreeSet::from([isp]), now)).unwrap();
    }
}

fn days(days: i64) -> Now {
    Now(START.0 + days * DAY)
}

fn hours(now: Now, hours: i64) -> Now {
    Now(now.0 + hours * 3_600_000)
}

const NEWS: &str = "[warmup.sets.news]\n";

#[test]
fn the_first_request_begins_the_ramp_and_each_of_its_days() {
    let mut fixture = Fixture::new(NEWS);
    assert_eq!(fixture.ask(100, hours(days(0), 12)), 1, "a burst");
    assert_eq!(fixture.ask(100, Now(days(1).0 + 900_000)), 0, "a quarter of an hour is not yet a mail");
    assert_eq!(fixture.ask(100, hours(days(1), 3)), 1);
    let quota = fixture.plan(hours(days(1), 3));
    assert_eq!((quota.ramp.day, quota.ramp.quota, quota.ramp.anchor), (20_001, 50, false));
    assert_eq!(quota.meter.bulk, 1);
}

#[test]
fn an_asker_whose_clock_is_behind_at_midnight_waits_for_the_day_that_has_begun() {
    let mut fixture = Fixture::new(NEWS);
    fixture.plan(days(1));
    let before = Now(days(1).0 - 5);
    let granted = fixture.ask_as("late", Class::Bulk, 10, before);
    assert_eq!((granted.lease, granted.day, granted.deferred), (None, 20_001, 10));
}

#[test]
fn planning_again_changes_nothing() {
    let mut fixture = Fixture::new(NEWS);
    fixture.ask(100, hours(days(0), 12));
    let first = fixture.plan(days(1));
    fixture.ask(100, hours(days(1), 12));
    let second = fixture.plan(hours(days(1), 23));
    assert_eq!((first.ramp, second.meter.bulk), (second.ramp, 1));
}

#[test]
fn a_configuration_set_that_the_policy_does_not_name_is_unknown() {
    let mut fixture = Fixture::new("");
    let failed = block_on(plan(&fixture.policy, &mut fixture.reputation, &fixture.quotas, "news", fixture.isp, START));
    assert!(failed.unwrap_err().reason.contains("[warmup.sets]"));
}

#[test]
fn a_breaker_that_finds_harm_shrinks_the_next_day_and_what_is_open_trickles() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 10000\n");
    fixture.plan(START);
    fixture.mail(5_000, 4_000, hours(days(0), 12));
    let next = fixture.plan(days(1));
    assert!(matches!(next.ramp.step, Move::Trickled { reach: 5_000 }), "{:?}", next.ramp);
    assert_eq!((next.ramp.quota, next.ramp.reach), (250 + 500, 5_000), "and the reserve");
}

#[test]
fn in_shadow_harm_holds_a_quota_and_shrinks_nothing() {
    let mut fixture = Fixture::new("mode = \"shadow\"\n[warmup.sets.news]\nstart = 10000\n");
    fixture.plan(START);
    while fixture.ask(5_000, hours(days(0), 12)) > 0 {}
    fixture.mail(5_000, 4_000, hours(days(0), 12));
    let next = fixture.plan(days(1));
    assert_eq!((next.ramp.quota, next.ramp.step), (10_000, Move::Held(Held::Unwell)));
}

#[test]
fn a_lease_is_granted_once_and_taken_back_once() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let noon = hours(days(0), 12);
    let first = fixture.ask_as("same", Class::Bulk, 10, noon);
    let again = fixture.ask_as("same", Class::Bulk, 10, Now(noon.0 + 5_000));
    assert_eq!(first.lease, again.lease);
    let lease = first.lease.unwrap();
    let quota = fixture.plan(noon);
    assert_eq!(quota.meter.used(), 10);
    let late = fixture.ask_as("same", Class::Bulk, 10, Now(noon.0 + 61_000));
    assert_eq!((late.lease, late.deferred), (None, 10), "what has expired is not handed out again");
    let critical = fixture.ask_as("code", Class::Critical, 1, noon).lease.unwrap();
    assert_eq!((critical.critical, critical.bulk), (1, 0), "a request never gets the lease of another");
    let back = |fixture: &Fixture, lease, unused, now| {
        block_on(give_back(&fixture.quotas, "news", fixture.isp, lease, unused, now)).unwrap()
    };
    assert_eq!(back(&fixture, &lease, 4, Now(lease.expires.0 + 1)), Returned::Expired);
    let grown = reputation::permit::Lease { bulk: 11, ..lease.clone() };
    assert_eq!(back(&fixture, &grown, 4, noon), Returned::Unknown, "not as it was granted");
    assert_eq!(back(&fixture, &lease, 4, noon), Returned::Returned(4));
    assert_eq!(back(&fixture, &lease, 4, noon), Returned::Unknown);
    assert_eq!(fixture.plan(noon).meter.used(), 6 + 1);
    assert_eq!(fixture.ask(100, noon), 12, "what is left of the burst, and what was given back");
}

#[test]
fn only_what_is_granted_for_the_first_time_is_new() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let noon = hours(days(0), 12);
    let new = |granted: &Granted| granted.new;
    assert_eq!(new(&fixture.ask_as("same", Class::Bulk, 10, noon)), 10);
    assert_eq!(new(&fixture.ask_as("same", Class::Bulk, 10, noon)), 0);
    assert_eq!(new(&fixture.scheduled("campaign", 100, noon)), 100);
    assert_eq!(new(&fixture.scheduled("campaign", 100, noon)), 0);
}

#[test]
fn a_request_that_is_repeated_after_midnight_is_granted_once() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let first = fixture.ask_as("same", Class::Bulk, 10, Now(days(1).0 - 10_000));
    let after = Now(days(1).0 + 10_000);
    // Another begins the day.
    fixture.ask_as("other", Class::Critical, 1, after);
    let again = fixture.ask_as("same", Class::Bulk, 10, after);
    assert_eq!((again.now, again.lease), (10, first.lease.clone()));
    let quota = fixture.plan(after);
    assert_eq!((quota.ramp.day, quota.meter.used()), (20_001, 1), "it is the quota of the day before");
    let lease = first.lease.unwrap();
    let returned = block_on(give_back(&fixture.quotas, "news", fixture.isp, &lease, 10, after)).unwrap();
    assert_eq!(returned, Returned::Unknown, "that day is over");
    assert_eq!(fixture.plan(after).meter.used(), 1);
}

#[test]
fn a_request_that_is_repeated_with_another_body_is_another_request_and_gets_nothing() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let noon = hours(days(0), 12);
    let bulk = Ask { mails: 10, class: Class::Bulk, now: noon, schedule: false, jitter: 0 };
    assert!(!fixture.asked_for("same", bulk).reused);
    for other in [Ask { mails: 11, ..bulk }, Ask { class: Class::Critical, ..bulk }, Ask { schedule: true, ..bulk }] {
        let granted = fixture.asked_for("same", other);
        assert!(granted.reused && granted.lease.is_none() && granted.now == 0, "{granted:?}");
    }
    assert_eq!(fixture.plan(noon).meter.used(), 10);
    // Also after it has expired, as long as it is remembered.
    assert!(fixture.asked_for("same", Ask { mails: 11, now: Now(noon.0 + 61_000), ..bulk }).reused);
}

#[test]
fn a_quota_that_a_person_sets_applies_at_once_and_what_was_granted_stays_granted() {
    let mut fixture = Fixture::new(NEWS);
    let noon = hours(days(0), 12);
    let first = fixture.ask_as("first", Class::Critical, 5, noon);
    let give = |fixture: &mut Fixture, order, now| {
        let Fixture { policy, reputation, quotas, isp, .. } = fixture;
        block_on(command(policy, reputation, quotas, "news", *isp, order, now)).unwrap()
    };
    let changed = give(&mut fixture, QuotaCommand::Set(1_000), noon);
    assert_eq!((changed.before.ramp.quota, changed.after.quota), (50, 1_000));
    let quota = fixture.plan(noon);
    assert_eq!((quota.ramp, quota.meter, quota.leases), (changed.after, changed.before.meter, changed.before.leases));
    // All grants of the day are within the new quota.
    let more = fixture.scheduled("more", 2_000, noon);
    assert_eq!((more.new, fixture.plan(noon).meter.used()), (900, 905));
    assert_eq!(fixture.ask_as("first", Class::Critical, 5, noon).lease, first.lease, "still known");
    // Less than was granted already: nothing more is granted, and nothing is taken back.
    give(&mut fixture, QuotaCommand::Set(100), noon);
    assert_eq!((fixture.scheduled("yet more", 10, noon).new, fixture.plan(noon).meter.used()), (0, 905));
    give(&mut fixture, QuotaCommand::Complete, noon);
    assert_eq!(fixture.plan(noon).ramp.quota, fixture.policy.warmup.sets["news"].target);
    let anew = give(&mut fixture, QuotaCommand::Reset, noon).after;
    assert_eq!((anew.quota, anew.anchor, fixture.plan(noon).meter.used()), (50, true, 905));
    // After days without a request, the days in between are closed first; a quota that does not exist is begun.
    assert_eq!(give(&mut fixture, QuotaCommand::Set(70), days(3)).after.day, 20_003);
    let mut new = Fixture::new(NEWS);
    assert_eq!(give(&mut new, QuotaCommand::Set(70), days(3)).after.quota, 70);
}

#[test]
fn only_mail_that_ses_reported_grows_a_quota() {
    let grown = |sent: u32| {
        let mut fixture = Fixture::new(NEWS);
        fixture.ask(50, hours(days(0), 12));
        fixture.scheduled("campaign", 45, hours(days(1), 12));
        fixture.mail(sent, 0, hours(days(1), 20));
        fixture.plan(days(2)).ramp
    };
    assert_eq!(grown(0).step, Move::Held(Held::Unreported { sent: 0, used: 45 }));
    assert_eq!((grown(40).step, grown(40).quota), (Move::Grew { from: 50 }, 100));
    // Mail of the day before is not this day's.
    let mut fixture = Fixture::new(NEWS);
    fixture.mail(40, 0, hours(days(0), 23));
    fixture.ask(50, hours(days(1), 12));
    assert_eq!(fixture.plan(days(2)).ramp.peak, 0);
}

#[test]
fn a_schedule_that_is_asked_for_again_is_the_same_until_its_slots_have_expired() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let noon = hours(days(0), 12);
    let first = fixture.scheduled("campaign", 2_000, noon);
    let scheduled: u64 = first.slots.iter().map(|slot| slot.mails).sum();
    assert_eq!((first.now, scheduled, first.deferred), (18, 882, 1_100));
    let again = fixture.scheduled("campaign", 2_000, Now(noon.0 + 1_000));
    assert_eq!((again.now, &again.slots, again.deferred), (18, &first.slots, 1_100));
    // What could be sent at once is to be sent within the lease's time, and so is each slot.
    let later = fixture.scheduled("campaign", 2_000, hours(days(0), 13));
    let left: Vec<_> = first.slots.iter().copied().filter(|slot| slot.at.0 + 60_000 > hours(days(0), 13).0).collect();
    assert_eq!((later.now, later.slots.len() < first.slots.len(), later.slots), (0, true, left));
    assert_eq!(fixture.plan(noon).meter.bulk, 900, "granted once");
}

#[test]
fn a_schedule_waits_while_a_breaker_is_open_and_stands_again_afterwards() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let noon = hours(days(0), 12);
    let first = fixture.scheduled("campaign", 900, noon);
    let (key, soon) = (fixture.key(Some(fixture.isp)), Now(noon.0 + 1_000));
    block_on(apply_input(&fixture.policy, &mut fixture.reputation, &key, Input::PersonStops, soon)).unwrap();
    let held = fixture.scheduled("campaign", 900, soon);
    assert_eq!((held.slots.len(), held.deferred), (0, 882));
    assert_eq!(held.lease, first.lease, "so that it can be given back, though its first answer was lost");
    assert!(matches!(held.limit, Some(Limit::Stopped(_))) && held.retry_at.unwrap() > soon, "{held:?}");
    let key = fixture.key(Some(fixture.isp));
    block_on(apply_input(&fixture.policy, &mut fixture.reputation, &key, Input::PersonResumes, soon)).unwrap();
    let again = fixture.scheduled("campaign", 900, soon);
    assert!(!again.slots.is_empty() || matches!(again.limit, Some(Limit::Throttled(..))), "{again:?}");
    assert!(again.slots.len() <= first.slots.len());
}

#[test]
fn a_schedule_that_runs_past_midnight_is_granted_once_and_given_back_to_no_other_day() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let late = hours(days(0), 23);
    let first = fixture.scheduled("campaign", 900, late);
    let after = Now(days(1).0 + 600_000);
    let again = fixture.scheduled("campaign", 900, after);
    assert_eq!(again.lease, first.lease);
    assert!(again.slots.len() > 30 && again.deferred == 0, "{again:?}");
    let quota = fixture.plan(after);
    assert_eq!((quota.ramp.day, quota.meter.bulk, quota.leases.len()), (20_001, 0, 1));
    let lease = first.lease.unwrap();
    assert_eq!(
        block_on(give_back(&fixture.quotas, "news", fixture.isp, &lease, 900, after)).unwrap(),
        Returned::Unknown
    );
    assert_eq!(fixture.ask(10, after), 0, "its time is taken");
    // And it is forgotten when it is over.
    assert_eq!(fixture.plan(days(2)).leases.len(), 0);
}

#[test]
fn the_number_of_schedules_under_way_is_limited() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let noon = hours(days(0), 12);
    let granted: Vec<Granted> = (0..20).map(|number| fixture.scheduled(&format!("part {number}"), 20, noon)).collect();
    assert_eq!(granted.iter().filter(|granted| !granted.slots.is_empty()).count(), pipeline::quotas::MAX_SCHEDULES);
    assert!(granted[19].deferred == 20 && granted[19].retry_at.is_some());
}

#[test]
fn a_schedule_that_is_given_back_may_be_granted_again() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\n");
    let noon = hours(days(0), 12);
    let first = fixture.scheduled("campaign", 900, noon).lease.unwrap();
    assert_eq!(fixture.scheduled("other", 900, noon).deferred, 900);
    assert_eq!(
        block_on(give_back(&fixture.quotas, "news", fixture.isp, &first, 900, noon)).unwrap(),
        Returned::Returned(900)
    );
    assert_eq!(fixture.scheduled("another", 900, noon).lease.unwrap().schedule, first.schedule);
}

#[test]
fn a_person_who_pauses_the_set_stops_all_but_critical_mail_by_its_route() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 1000\ncritical_route = \"codes\"\n");
    let noon = hours(days(0), 12);
    let key = fixture.key(None);
    block_on(apply_input(&fixture.policy, &mut fixture.reputation, &key, Input::PersonStops, noon)).unwrap();
    assert_eq!(fixture.ask(10, noon), 0);
    let critical = fixture.ask_as("code", Class::Critical, 500, noon);
    assert_eq!((critical.lease.unwrap().mails(), critical.route.as_str(), critical.deferred), (100, "codes", 400));
}

#[test]
fn only_quotas_whose_day_is_over_are_planned() {
    let mut fixture = Fixture::new(NEWS);
    fixture.plan(START);
    let noon = hours(days(3), 12);
    let planned = block_on(plan_set(&fixture.policy, &mut fixture.reputation, &fixture.quotas, "news", noon)).unwrap();
    assert_eq!(planned.into_keys().collect::<Vec<_>>(), [fixture.isp]);
    let planned = block_on(plan_set(&fixture.policy, &mut fixture.reputation, &fixture.quotas, "news", noon)).unwrap();
    assert!(planned.is_empty());
}

#[test]
fn the_number_of_remembered_leases_is_limited() {
    let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 50000\n");
    for _ in 0..300 {
        assert_eq!(fixture.ask(1, hours(days(0), 12)), 1);
    }
    let quota = fixture.plan(hours(days(0), 12));
    assert_eq!((quota.meter.bulk, quota.leases.len()), (300, pipeline::quotas::MAX_LEASES));
    assert_eq!(fixture.ask(1, hours(days(0), 13)), 1);
    assert_eq!(fixture.plan(hours(days(0), 13)).leases.len(), 1, "the others have expired");
}

proptest! {
    #[test]
    fn late_or_skipped_ticks_come_to_the_same(ticks in prop::collection::btree_set(1..60_i64, 0..20), mail in 1..10_i64) {
        let run = |ticks: &mut dyn Iterator<Item = i64>| {
            let mut fixture = Fixture::new(NEWS);
            for day in 0..mail {
                for hour in 1..20 {
                    fixture.ask(1_000, hours(days(day), hour));
                }
            }
            for tick in ticks {
                fixture.plan(hours(days(mail + tick), tick % 24));
            }
            fixture.plan(hours(days(mail + 60), 5))
        };
        let all = run(&mut (1..60));
        let some = run(&mut ticks.iter().copied());
        prop_assert_eq!(all, some);
    }

    #[test]
    fn after_years_without_mail_the_ramp_is_at_its_beginning(missed in 400..3_000_i64) {
        let mut fixture = Fixture::new("[warmup.sets.news]\nstart = 50\n");
        fixture.plan(START);
        let quota = fixture.plan(days(missed));
        prop_assert_eq!((quota.ramp.quota, i64::from(quota.ramp.idle_days)), (50, missed));
        prop_assert_eq!(i64::from(quota.ramp.day), 20_000 + missed);
    }
}
