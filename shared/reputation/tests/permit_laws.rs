//! The laws of permits, against a naive model that keeps every grant and counts again.

use proptest::prelude::*;
use reputation::breaker::{BreakerState, Factor, Override, State, StateName};
use reputation::class::Class;
use reputation::permit::{Ask, Because, Flow, Lease, LeaseId, Limit, MarkMove, Meter, Nanos, Permit, Slot, decide};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::Now;
use reputation::warmup::{Held, Move, Plan, Ramp};
use reputation::zone::{Day, Zone};
use reputation::{Isp, IspMap};

/// The default, with a smaller burst.
fn plan() -> Plan {
    Plan { burst_share: 0.02, ..Policy::default().warmup.plan }
}

fn today() -> Day {
    Zone::UTC.day(20_000)
}

fn ramp(quota: u64) -> Ramp {
    Ramp {
        day: 20_000,
        quota,
        reach: quota,
        step: Move::Held(Held::Anchor),
        anchor: false,
        sending_days: 1,
        idle_days: 0,
        peak: quota,
        peak_age: 0,
        borne: 0,
        growth: None,
        ceiling: 0,
        ceiling_age: 0,
        demoted: None,
    }
}

fn at(hours: f64) -> Now {
    Now(today().start.0 + (hours * 3_600_000.0) as i64)
}

fn bulk(mails: u64, hours: f64) -> Ask {
    Ask { mails, class: Class::Bulk, now: at(hours), schedule: false, jitter: 0 }
}

fn critical(mails: u64, hours: f64) -> Ask {
    Ask { class: Class::Critical, ..bulk(mails, hours) }
}

fn scheduled(mails: u64, hours: f64) -> Ask {
    Ask { schedule: true, ..bulk(mails, hours) }
}

fn throttled(factor: f64, stopped_at_ses: bool) -> Flow {
    let subject = Subject::ConfigurationSet("news".into());
    let factor = Factor::of_share(factor);
    let state = if factor == Factor::NONE { StateName::Open } else { StateName::Throttled };
    let because = Because { key: Key { subject, isp: None }, state, until: Some(at(9.0)) };
    Flow { factor, because: Some(because), stopped_at_ses, ..Flow::FREE }
}

struct Asker {
    plan: Plan,
    ramp: Ramp,
    meter: Meter,
}

impl Asker {
    fn new(quota: u64) -> Asker {
        Asker { plan: plan(), ramp: ramp(quota), meter: Meter::at_start(today(), None) }
    }

    fn ask(&mut self, flow: &Flow, ask: Ask) -> Permit {
        let permit = decide(&self.plan, &self.ramp, today(), &self.meter, flow, ask);
        if let Some(spend) = &permit.spend {
            assert!(spend.holds(&self.meter), "decided on conditions that do not hold: {spend:?} {:?}", self.meter);
            self.meter = spend.applied(&self.meter);
        }
        let granted = permit.spend.map_or(0, |spend| spend.mails());
        assert_eq!(granted + permit.overflow + permit.deferred, ask.mails, "every mail is accounted for");
        assert_eq!(permit.retry_at.is_some(), permit.deferred > 0);
        assert_eq!(permit.limit.is_some(), granted < ask.mails);
        permit
    }

    /// The lease for what is asked; `None` if nothing is granted.
    fn lease(&mut self, flow: &Flow, ask: Ask) -> Option<Lease> {
        let permit = self.ask(flow, ask);
        permit.spend.map(|spend| Lease::of(LeaseId(1), &spend, permit.schedule, ask.now, 300_000))
    }

    fn granted(&mut self, flow: &Flow, ask: Ask) -> u64 {
        self.ask(flow, ask).spend.map_or(0, |spend| spend.mails())
    }
}

#[test]
fn a_day_starts_empty() {
    assert_eq!(Asker::new(1_000).granted(&Flow::FREE, bulk(1_000, 0.0)), 0);
}

#[test]
fn a_quota_comes_in_evenly() {
    // 900 mails of the shared part over 12 hours: 75 an hour.
    let mut asker = Asker::new(1_000);
    assert_eq!(asker.granted(&Flow::FREE, bulk(1_000, 0.2)), 15);
    assert_eq!(asker.granted(&Flow::FREE, bulk(1_000, 0.4)), 15);
    assert_eq!(asker.granted(&Flow::FREE, bulk(10, 0.4)), 0);
}

#[test]
fn late_in_the_day_it_comes_in_over_what_is_left_of_it_and_never_over_less_than_six_hours() {
    for (hours, an_hour) in [(6.0, 75), (12.0, 75), (14.0, 90), (16.0, 112), (18.0, 150), (23.0, 150)] {
        let mut asker = Asker::new(1_000);
        asker.granted(&Flow::FREE, bulk(1_000, hours));
        let limit = asker.ask(&Flow::FREE, bulk(1_000, hours)).limit;
        assert_eq!(limit, Some(Limit::Pace { hourly: an_hour }), "{hours}");
    }
}

#[test]
fn a_batch_that_asks_again_when_it_is_told_to_gets_the_days_quota_until_six_in_the_evening() {
    for (from, least) in [(9.0, 900), (12.0, 900), (18.0, 880), (21.0, 450)] {
        let mut asker = Asker::new(1_000);
        let (mut now, mut granted) = (at(from), 0);
        while now < today().end {
            let permit = asker.ask(&Flow::FREE, Ask { mails: 1_000, ..Ask { now, ..bulk(1, 0.0) } });
            granted += permit.spend.map_or(0, |spend| spend.mails());
            now = permit.retry_at.unwrap();
        }
        assert!(granted >= least && granted <= 900, "from {from}: {granted}");
    }
}

#[test]
fn one_request_for_a_schedule_gets_the_whole_quota_at_any_time_of_the_day() {
    for hours in [0.0, 3.0, 9.0, 12.0, 15.5, 18.0, 21.0, 23.99] {
        let mut asker = Asker::new(1_000);
        let lease = asker.lease(&Flow::FREE, scheduled(1_000, hours)).unwrap();
        let slots: Vec<Slot> = lease.slots().collect();
        assert_eq!(lease.mails(), 900, "{hours}");
        assert_eq!(lease.at_once() + slots.iter().map(|slot| slot.mails).sum::<u64>(), 900);
        assert!(slots.len() <= 51 && slots.windows(2).all(|two| two[0].at < two[1].at));
        // None of it comes sooner than it would be released to one who asks all the time.
        let hour = 900.0 / (24.0 - hours).clamp(6.0, 12.0);
        let mut sum = lease.at_once();
        for slot in &slots {
            sum += slot.mails;
            let passed = (slot.at.0 - at(hours).0) as f64 / 3_600_000.0;
            assert!(sum as f64 <= 18.0 + passed * hour + 1.0, "{sum} after {passed} h from {hours}");
        }
        let last = slots.last().unwrap().at;
        assert!(last <= today().end.max(at(hours + 6.0)), "from {hours} until {last}");
        assert_eq!(lease.expires, Now(last.0 + 300_000));
    }
}

#[test]
fn a_schedule_that_runs_into_the_next_day_holds_back_the_quota_of_that_day() {
    let mut asker = Asker::new(1_000);
    let lease = asker.lease(&Flow::FREE, scheduled(1_000, 23.0)).unwrap();
    let ends = lease.slots().last().unwrap().at;
    assert!(ends > today().end);
    let tomorrow = Zone::UTC.day(20_001);
    let (meter, ramp) = (Meter::at_start(tomorrow, Some(&asker.meter)), Ramp { day: 20_001, ..ramp(1_000) });
    let granted = |now: Now| {
        let ask = Ask { now, ..bulk(1_000, 0.0) };
        decide(&plan(), &ramp, tomorrow, &meter, &Flow::FREE, ask).spend.map_or(0, |spend| spend.bulk)
    };
    assert_eq!((granted(Now(ends.0 - 1)), granted(ends.plus_minutes(10))), (0, 12));
    assert_eq!(Meter::at_start(tomorrow, Some(&Asker::new(1).meter)).mark, Nanos::of(tomorrow.start));
}

#[test]
fn no_schedule_is_made_while_a_breaker_does_not_let_all_mail_through() {
    let lease = Asker::new(1_000).lease(&throttled(0.5, false), scheduled(1_000, 9.0)).unwrap();
    assert_eq!((lease.schedule.clone(), lease.mails()), (None, 9));
}

#[test]
fn two_schedules_follow_each_other() {
    let mut asker = Asker::new(1_000);
    let first = asker.lease(&Flow::FREE, scheduled(300, 9.0)).unwrap();
    let second = asker.lease(&Flow::FREE, scheduled(300, 9.0)).unwrap();
    assert_eq!(second.at_once(), 0);
    assert!(second.slots().next().unwrap().at > first.slots().last().unwrap().at);
}

#[test]
fn a_schedule_that_is_given_back_frees_its_time_only_if_it_is_the_last_one() {
    let mut asker = Asker::new(1_000);
    let first = asker.lease(&Flow::FREE, scheduled(300, 9.0)).unwrap();
    let after_first = asker.meter;
    let second = asker.lease(&Flow::FREE, scheduled(300, 9.0)).unwrap();
    let (unused, used) = (second.refund(300, at(9.0)), second.refund(200, at(14.5)));
    assert_eq!(unused.applied(&asker.meter), after_first);
    // A third of it was sent by then: the rest of its time is free.
    assert_eq!(used.applied(&asker.meter).bulk, 400);
    assert_eq!(used.applied(&asker.meter).mark.0, after_first.mark.0 + 100 * second.interval);
    assert_eq!(first.refund(300, at(9.0)).applied(&asker.meter).mark, asker.meter.mark);
}

#[test]
fn a_grant_that_is_given_back_after_a_schedule_frees_no_time_in_it() {
    let mut asker = Asker::new(1_000);
    let now = asker.lease(&Flow::FREE, bulk(10, 9.0)).unwrap();
    assert!(now.refund(10, at(9.0)).applied(&asker.meter).mark < asker.meter.mark);
    asker.lease(&Flow::FREE, scheduled(300, 9.0)).unwrap();
    assert_eq!(now.refund(10, at(9.0)).applied(&asker.meter).mark, asker.meter.mark);
}

#[test]
fn a_schedule_has_a_hundred_slots_at_most() {
    let mut asker = Asker::new(1_000_000_000);
    (asker.plan.burst_share, asker.plan.target) = (0.001, 1_000_000_000);
    let lease = asker.lease(&Flow::FREE, scheduled(1_000_000_000, 9.0)).unwrap();
    assert!(lease.slots().count() <= 100 && lease.slots().map(|slot| slot.mails).sum::<u64>() > 890_000_000);
}

#[test]
fn a_target_that_is_lowered_applies_at_once() {
    let mut asker = Asker::new(1_000);
    asker.plan.target = 100;
    assert_eq!(asker.granted(&Flow::FREE, scheduled(1_000, 9.0)), 90);
    assert_eq!(asker.granted(&Flow::FREE, critical(1_000, 9.0)), 10);
}

#[test]
fn it_is_known_whether_the_last_request_got_all_there_was_and_asked_for_more() {
    let mut asker = Asker::new(1_000);
    asker.granted(&Flow::FREE, bulk(5, 9.0));
    assert!(!asker.meter.short);
    asker.granted(&Flow::FREE, bulk(500, 9.0));
    assert_eq!((asker.meter.bulk, asker.meter.short), (18, true));
    asker.granted(&Flow::FREE, bulk(5, 12.0));
    assert!(!asker.meter.short);
}

#[test]
fn what_is_not_asked_for_is_kept_up_to_a_burst() {
    let mut asker = Asker::new(1_000);
    assert_eq!(asker.granted(&Flow::FREE, bulk(1_000, 0.1)), 7);
    let mut asker = Asker::new(10_000);
    assert_eq!(asker.granted(&Flow::FREE, bulk(1_000, 11.0)), 180, "a fiftieth of 9,000");
    let mut asker = Asker::new(10);
    assert_eq!(asker.granted(&Flow::FREE, bulk(10, 11.0)), 1, "and one mail at least");
}

#[test]
fn a_day_never_grants_more_than_its_quota() {
    let mut asker = Asker::new(1_000);
    let granted: u64 = (0..24 * 60).map(|minute| asker.granted(&Flow::FREE, bulk(50, f64::from(minute) / 60.0))).sum();
    assert_eq!(granted, 900);
    let permit = asker.ask(&Flow::FREE, bulk(50, 23.5));
    assert_eq!(permit.limit, Some(Limit::Quota { used: 900, quota: 1_000 }));
    assert!(permit.retry_at.unwrap() >= today().end);
    assert_eq!(asker.granted(&Flow::FREE, critical(500, 23.6)), 100, "the reserve is still there");
    assert_eq!(asker.meter.used(), 1_000);
}

#[test]
fn a_throttled_breaker_grants_its_share_and_a_share_of_the_burst() {
    let mut asker = Asker::new(1_000);
    assert_eq!(asker.granted(&throttled(0.5, false), bulk(1_000, 0.2)), 7);
    assert_eq!(Asker::new(10_000).granted(&throttled(0.5, false), bulk(1_000, 12.0)), 90);
    let permit = asker.ask(&throttled(0.5, false), bulk(10, 0.2));
    assert!(matches!(permit.limit, Some(Limit::Throttled(_, factor)) if factor == Factor::of_share(0.5)));
}

#[test]
fn an_open_breaker_grants_nothing_but_the_critical_reserve() {
    let mut asker = Asker::new(1_000);
    let permit = asker.ask(&throttled(0.0, false), bulk(10, 6.0));
    assert_eq!((permit.spend, permit.deferred), (None, 10));
    assert_eq!(permit.retry_at, Some(at(9.0)), "when it will let probes through");
    assert_eq!(asker.granted(&throttled(0.0, false), critical(200, 6.0)), 100);
    assert_eq!(asker.granted(&throttled(0.0, false), critical(1, 6.0)), 0);
}

#[test]
fn critical_mail_of_a_set_that_is_stopped_at_ses_needs_another_route() {
    let mut asker = Asker::new(1_000);
    let permit = asker.ask(&throttled(0.0, true), critical(10, 6.0));
    assert!(matches!(permit.limit, Some(Limit::NoRoute(_))));
    asker.plan.critical_route = Some("news-critical".to_owned());
    assert_eq!(asker.granted(&throttled(0.0, true), critical(10, 6.0)), 10);
    let stopped_too = Flow { critical_route_flows: false, ..throttled(0.0, true) };
    assert_eq!(asker.granted(&stopped_too, critical(10, 6.0)), 0);
    let all = Flow { all_stopped: true, ..throttled(0.0, true) };
    assert_eq!(asker.granted(&all, critical(10, 6.0)), 0);
}

#[test]
fn critical_mail_beyond_its_reserve_is_mail_like_any_other() {
    let mut asker = Asker::new(1_000);
    assert_eq!(asker.granted(&Flow::FREE, critical(1_000, 0.2)), 100 + 15);
    assert_eq!((asker.meter.critical, asker.meter.bulk), (100, 15));
}

#[test]
fn a_policy_that_moves_the_split_within_the_day_grants_no_more_for_it() {
    let mut asker = Asker::new(1_000);
    let all_day = |asker: &mut Asker| _ = asker.granted(&Flow::FREE, scheduled(1_000, 12.0));
    all_day(&mut asker);
    assert_eq!(asker.meter.bulk, 900);
    asker.plan.critical_share = 0.5;
    assert_eq!(asker.granted(&Flow::FREE, critical(500, 23.0)), 100);
    let mut asker = Asker::new(1_000);
    asker.plan.critical_share = 0.5;
    assert_eq!(asker.granted(&throttled(0.0, false), critical(600, 12.0)), 500);
    asker.plan.critical_share = 0.1;
    assert_eq!(asker.granted(&throttled(0.0, false), critical(100, 12.0)), 0);
    all_day(&mut asker);
    assert_eq!(asker.meter.used(), 1_000);
    // Two processes with different policies at the same time: one of them loses.
    let (mut old, mut new) = (Asker::new(1_000), Asker::new(1_000));
    new.plan.critical_share = 0.5;
    old.meter.bulk = 800;
    new.meter = old.meter;
    let bulk = decide(&old.plan, &old.ramp, today(), &old.meter, &Flow::FREE, scheduled(100, 23.0)).spend.unwrap();
    let critical = decide(&new.plan, &new.ramp, today(), &new.meter, &Flow::FREE, critical(500, 23.0)).spend.unwrap();
    assert_eq!((bulk.bulk, critical.critical), (100, 200));
    assert!(!critical.holds(&bulk.applied(&old.meter)) && !bulk.holds(&critical.applied(&old.meter)));
}

#[test]
fn a_young_ramp_overflows_and_a_grown_one_defers() {
    let overflow = |quota: u64, flow: &Flow| {
        let mut asker = Asker::new(quota);
        asker.plan.overflow = Some("shared".to_owned());
        let permit = asker.ask(flow, bulk(quota * 2, 2.0));
        (permit.overflow > 0, permit.deferred > 0)
    };
    assert_eq!(overflow(24_999, &Flow::FREE), (true, true));
    assert_eq!(overflow(25_000, &Flow::FREE), (false, true));
    // Mail limited by a breaker is never sent elsewhere, and overflow never goes to a set in trouble.
    assert_eq!(overflow(1_000, &throttled(0.5, false)), (false, true));
    assert_eq!(overflow(1_000, &Flow { overflow_flows: false, ..Flow::FREE }), (false, true));
}

#[test]
fn what_is_only_released_later_does_not_overflow() {
    let mut asker = Asker::new(1_000);
    asker.plan.overflow = Some("shared".to_owned());
    let permit = asker.ask(&Flow::FREE, bulk(950, 9.0));
    assert_eq!((permit.spend.unwrap().bulk, permit.deferred, permit.overflow), (18, 882, 50));
    assert!(matches!(permit.limit, Some(Limit::Pace { .. })));
    let permit = asker.ask(&Flow::FREE, scheduled(950, 9.0));
    assert_eq!((permit.spend.unwrap().bulk, permit.deferred, permit.overflow), (882, 0, 68));
    assert!(matches!(permit.limit, Some(Limit::Quota { .. })));
}

#[test]
fn the_smallest_quota_still_lets_a_mail_through() {
    let mut asker = Asker::new(10);
    let trickle = throttled(0.05, false);
    let granted: u64 = (0..24 * 60).map(|minute| asker.granted(&trickle, bulk(1, f64::from(minute) / 60.0))).sum();
    // 9 mails in 6 to 12 hours, a twentieth of that: one in 13 to 26 hours.
    assert_eq!(granted, 1);
    let mut asker = Asker::new(50);
    let granted: u64 = (0..24 * 60).map(|minute| asker.granted(&trickle, bulk(1, f64::from(minute) / 60.0))).sum();
    assert_eq!(granted, 6);
}

#[test]
fn deferred_requests_get_different_retry_times() {
    let mut asker = Asker::new(1_000);
    asker.granted(&Flow::FREE, bulk(1_000, 1.0));
    let when = |asker: &mut Asker, jitter| asker.ask(&Flow::FREE, Ask { jitter, ..bulk(9, 1.0) }).retry_at.unwrap();
    let nine_mails = at(1.0 + 9.0 / 75.0);
    assert_eq!(when(&mut asker, 0), nine_mails);
    assert!(when(&mut asker, 999) > nine_mails && when(&mut asker, 999) <= at(1.14));
    assert!(asker.granted(&Flow::FREE, bulk(9, 1.0 + 9.0 / 75.0)) == 9, "and then it is so");
}

#[test]
fn a_client_that_waits_until_its_retry_time_keeps_its_pace() {
    let mut asker = Asker::new(1_000);
    let (mut now, mut granted) = (today().start, 0);
    // As late as any retry time can be, and always asking for more than is available.
    while now < Now(today().start.0 + 12 * 3_600_000) {
        let permit =
            asker.ask(&Flow::FREE, Ask { mails: 1_000, class: Class::Bulk, now, schedule: false, jitter: 999 });
        granted += permit.spend.map_or(0, |spend| spend.mails());
        now = permit.retry_at.unwrap();
    }
    let late = asker.ask(&Flow::FREE, Ask { mails: 1_000, class: Class::Bulk, now, schedule: false, jitter: 999 });
    assert_eq!(granted + late.spend.map_or(0, |spend| spend.mails()), 900);
}

#[test]
fn breakers_of_set_identity_and_isp_let_through_what_the_tightest_of_them_does() {
    let isps = IspMap::builtin();
    let gmail = isps.by_name("gmail").unwrap();
    let policy = Policy::default();
    let set = Subject::ConfigurationSet("news".into());
    let identity = Subject::Identity("example.com".into());
    let open = |overridden| BreakerState {
        state: State::Open { at: Now(0), until: Some(Now(9)), tested: false },
        enacted: true,
        overridden,
        ..BreakerState::default()
    };
    let half = BreakerState {
        state: State::Throttled { factor: Factor::of_share(0.5), moved: Now(0) },
        ..BreakerState::default()
    };
    let probing = BreakerState { state: State::Probing { at: Now(0) }, ..BreakerState::default() };
    let flow = |policy: &Policy, known: &[(&Subject, Option<Isp>, &BreakerState)]| {
        let find = |key: &Key| {
            known.iter().find(|(subject, isp, _)| **subject == key.subject && *isp == key.isp).map(|(.., state)| *state)
        };
        {
            let plan = Plan {
                overflow: Some("shared".to_owned()),
                critical_route: Some("codes".to_owned()),
                ..policy.warmup.plan.clone()
            };
            Flow::of(policy, &[set.clone(), identity.clone()], &plan, gmail, find)
        }
    };
    assert_eq!(flow(&policy, &[]), Flow::FREE);
    let both = flow(&policy, &[(&set, Some(gmail), &half), (&identity, None, &probing)]);
    assert_eq!((both.factor, both.stopped_at_ses), (Factor::of_share(0.05), false));
    assert_eq!(
        both.because.map(|because| (because.key.subject, because.state)),
        Some((identity.clone(), StateName::Probing))
    );
    let stopped = flow(&policy, &[(&set, None, &open(Override::None))]);
    assert_eq!((stopped.factor, stopped.stopped_at_ses, stopped.all_stopped), (Factor::NONE, true, false));
    assert_eq!(stopped.because.unwrap().until, Some(Now(9)));
    assert_eq!(flow(&policy, &[(&set, None, &open(Override::ForcedOpen))]).because.unwrap().until, None);
    // At one ISP SES stops nothing; the gate does.
    let at_isp = flow(&policy, &[(&Subject::Account, Some(gmail), &open(Override::None))]);
    assert_eq!((at_isp.factor, at_isp.stopped_at_ses), (Factor::NONE, false));
    // The breaker of another ISP does not matter.
    let yahoo = isps.by_name("yahoo").unwrap();
    assert_eq!(flow(&policy, &[(&set, Some(yahoo), &open(Override::None))]), Flow::FREE);
    // In shadow no mail is limited, except for what was really stopped before.
    let shadow = Policy::from_toml("mode = \"shadow\"").unwrap();
    assert_eq!(flow(&shadow, &[(&set, Some(gmail), &half)]), Flow::FREE);
    let in_shadow = BreakerState { enacted: false, ..open(Override::None) };
    assert_eq!(flow(&shadow, &[(&set, None, &in_shadow)]), Flow::FREE);
    assert_eq!(flow(&shadow, &[(&set, None, &open(Override::None))]).factor, Factor::NONE);
    // Nor in a person's shadow, which for a subject as a whole applies at all its ISPs.
    let watched = BreakerState { overridden: Override::Shadow, ..BreakerState::default() };
    let stopped_in_shadow = BreakerState { overridden: Override::Shadow, ..open(Override::None) };
    assert_eq!(flow(&policy, &[(&set, None, &stopped_in_shadow)]), Flow::FREE);
    assert_eq!(flow(&policy, &[(&set, None, &watched), (&set, Some(gmail), &open(Override::None))]), Flow::FREE);
    assert_eq!(flow(&policy, &[(&set, None, &watched), (&identity, None, &half)]).factor, Factor::of_share(0.5));
    let shared = Subject::ConfigurationSet("shared".into());
    assert!(!flow(&policy, &[(&shared, Some(gmail), &half)]).overflow_flows);
    let codes = Subject::ConfigurationSet("codes".into());
    assert!(flow(&policy, &[(&codes, Some(gmail), &half)]).critical_route_flows);
    assert!(!flow(&policy, &[(&codes, None, &open(Override::None))]).critical_route_flows);
}

#[test]
fn a_time_in_nanoseconds_is_rounded_up_to_a_millisecond() {
    assert_eq!(Nanos(1).ceil(), Now(1));
    assert_eq!(Nanos(2_000_000).ceil(), Now(2));
    assert_eq!(Nanos::of(Now(i64::MAX)), Nanos(i64::MAX));
}

#[test]
fn no_number_is_too_large() {
    for quota in [0, 1, 1_000_000_000] {
        for mails in [0, 1, u64::MAX] {
            for now in [Now(i64::MIN), Now(0), today().start, Now(i64::MAX)] {
                let (meter, ramp) = (Meter::at_start(today(), None), ramp(quota));
                let ask = Ask { mails, class: Class::Critical, now, schedule: true, jitter: u16::MAX };
                let permit = decide(&plan(), &ramp, today(), &meter, &Flow::FREE, ask);
                assert!(permit.spend.is_none_or(|spend| spend.mails() <= quota));
            }
        }
    }
}

proptest! {
    #[test]
    fn in_any_order_of_asks_and_breakers_no_window_sees_more_than_its_share(
        quota in 1..20_000_u64,
        asks in prop::collection::vec((0..86_400_u32, 1..2_000_u64, any::<bool>(), 0..6_u8), 1..200),
    ) {
        let mut asker = Asker::new(quota);
        let reserve = asker.plan.reserve(quota);
        let shared = quota - reserve;
        let mut asks = asks;
        asks.sort();
        // The naive model: every grant of the shared part, with its time.
        let mut grants: Vec<(Now, u64)> = Vec::new();
        for (second, mails, is_critical, factor) in asks {
            let hours = f64::from(second) / 3_600.0;
            let flow = match factor {
                0 => throttled(0.0, false),
                1 => throttled(0.25, false),
                _ => Flow::FREE,
            };
            let ask = if is_critical { critical(mails, hours) } else { bulk(mails, hours) };
            let ask = Ask { schedule: factor > 3, ..ask };
            let lease = asker.lease(&flow, ask);
            prop_assert!(lease.as_ref().is_none_or(|lease| is_critical || lease.critical == 0));
            prop_assert!(factor != 0 || lease.as_ref().is_none_or(|lease| lease.bulk == 0));
            if let Some(lease) = lease {
                grants.push((ask.now, lease.at_once() - lease.critical));
                grants.extend(lease.slots().map(|slot| (slot.at, slot.mails)));
            }
        }
        prop_assert!(asker.meter.bulk <= shared && asker.meter.critical <= reserve);
        // Within any window at most what is released, plus one burst.
        let hour = shared as f64 / 6.0;
        let burst = (shared as f64 * 0.02).max(1.0);
        grants.sort();
        for (from, (start, _)) in grants.iter().enumerate() {
            let mut sum = 0;
            for (end, mails) in &grants[from..] {
                sum += mails;
                let hours = (end.0 - start.0) as f64 / 3_600_000.0;
                prop_assert!(sum as f64 <= burst + hours * hour + 1.0, "{sum} in {hours} h of {shared}");
            }
        }
    }

    #[test]
    fn what_was_decided_on_an_older_meter_is_granted_only_if_it_is_still_right(
        quota in 10..5_000_u64,
        others in prop::collection::vec((1..500_u64, any::<bool>()), 0..20),
        mails in 1..500_u64,
        hours in 0.0..24.0_f64,
    ) {
        let mut asker = Asker::new(quota);
        let old = asker.meter;
        for (mails, is_critical) in others {
            asker.granted(&Flow::FREE, if is_critical { critical(mails, hours) } else { bulk(mails, hours) });
        }
        let stale = decide(&asker.plan, &asker.ramp, today(), &old, &Flow::FREE, bulk(mails, hours));
        if let Some(spend) = stale.spend
            && spend.holds(&asker.meter)
        {
            let after = spend.applied(&asker.meter);
            prop_assert!(after.used() <= quota);
            prop_assert!(after.mark <= Nanos::of(at(hours)), "nothing is granted before it is released");
            prop_assert!(!matches!(spend.mark, MarkMove::Stay));
        }
    }
}
