//! The laws of the breaker: every state with every input in one table, and properties of every walk.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reputation::breaker::{ActionLimits, Factor, Override, StateName, due, step};
use reputation::judge::Judge;
use reputation::policy::{Breaker, Resume};
use reputation::time::{DAY, MINUTE_MILLIS};
use reputation::{
    ArmedSince, BreakerState, Effect, Input, Isp, Judgement, Level, Metric, Minute, Now, Policy, Probe, Rule, State,
    Step, Tally, Timeline, UnitKind, Verdict,
};

/// 2026-10-06 08:00 UTC.
const NOW: Now = Now(1_791_273_600_000);

fn minutes(minutes: i64) -> Now {
    Now(NOW.0 + minutes * MINUTE_MILLIS)
}

fn verdict(level: Level) -> Verdict {
    Verdict {
        level,
        metric: Metric::HardBounce,
        rule: Rule::Ratio { window_hours: 24, line: 0.05 },
        from: NOW.minute().minus(60),
        until: NOW.minute(),
        tally: Tally { population: 1000, bad: 100 },
    }
}

/// A judgement that calls for this level and all lower ones, over this number of mails.
fn judgement(level: Option<Level>, mails: u64) -> Judgement {
    let mut judgement = Judgement {
        probe: Probe { accepted: mails, settled: mails, mails, bad: 0, is_good: true, relapse: None },
        ..Judgement::default()
    };
    for called_for in [Level::Warn, Level::Throttle, Level::Pause] {
        judgement.consider(level.filter(|level| called_for <= *level).map(|_| verdict(called_for)));
    }
    judgement
}

const FREE: ActionLimits = ActionLimits { cap: Level::Pause, may_pause: true, holds_shares: true };

// ---------------------------------------------------------------------------------------------- the transition matrix

/// A short code for a state: `T50` is throttled to 50 %, `O30` is open for 30 minutes, `O–` until a person resumes it.
fn code(state: State) -> String {
    match state {
        State::Closed => "C".into(),
        State::Throttled { factor, .. } => format!("T{}", (factor.share() * 100.0).round()),
        State::Open { at, until: Some(until), .. } => format!("O{}", until.minutes_since(at)),
        State::Open { until: None, .. } => "O–".into(),
        State::Probing { .. } => "P".into(),
    }
}

/// `=`: nothing changes. Else the next state, with `*` if the key is re-armed, `'` if only the mark for cuts has moved,
/// and the first letter of the level that is reported, if one is.
fn cell(known: &BreakerState, Step { next, news, .. }: &Step) -> String {
    if next == known && news.is_none() {
        return "=".into();
    }
    let armed = match (next.since.pause > known.since.pause, next.since.throttle > known.since.throttle) {
        (true, _) => "*",
        (false, true) => "'",
        (false, false) => "",
    };
    let level = news.as_ref().and_then(|news| news.level).map_or("", |level| match level {
        Level::Warn => "w",
        Level::Throttle => "t",
        Level::Pause => "p",
    });
    format!("{}{armed}{level}", code(next.state))
}

/// Every state in which a breaker can be, as the matrix names it. A forced one is only Open or Closed; in shadow it is
/// as without an override.
fn columns() -> Vec<(&'static str, BreakerState)> {
    let throttled = |thousandths: u16, moved: i64| State::Throttled {
        factor: Factor::of_share(f64::from(thousandths) / 1000.0),
        moved: minutes(-moved),
    };
    let open = |until| State::Open { at: minutes(-30), until, tested: false };
    let states = [
        ("closed", State::Closed, Override::None),
        ("50%", throttled(500, 10), Override::None),
        ("50% 1h", throttled(500, 60), Override::None),
        ("floor", throttled(125, 10), Override::None),
        ("open", open(Some(minutes(1))), Override::None),
        ("due", open(Some(NOW)), Override::None),
        ("no end", open(None), Override::None),
        ("tested", State::Open { at: minutes(-30), until: Some(minutes(1)), tested: true }, Override::None),
        ("its end", State::Open { at: minutes(-30), until: Some(NOW), tested: true }, Override::None),
        ("probe", State::Probing { at: minutes(-1) }, Override::None),
        ("15 min", State::Probing { at: minutes(-15) }, Override::None),
        ("12 h", State::Probing { at: minutes(-720) }, Override::None),
        ("stopped", open(None), Override::ForcedOpen),
        ("kept", State::Closed, Override::ForcedClosed),
        ("shadow", State::Closed, Override::Shadow),
    ];
    let known = |(name, state, overridden)| {
        // Every state except closed has tripped once.
        let tripped = !matches!(state, State::Closed);
        let tripped_at = tripped.then(|| minutes(-31));
        (
            name,
            BreakerState { state, overridden, trips: tripped.into(), tripped: tripped_at, ..BreakerState::default() },
        )
    };
    states.into_iter().map(known).collect()
}

/// Rows of inputs over columns of states. A cap, and whether one more pause is allowed, is named only if it makes a
/// difference; inputs with the same result in every state share a row.
fn matrix(policy: &Breaker, judgements_only: bool) -> String {
    let columns = columns();
    let answers = |standing: ActionLimits, input: Input<'_>| -> Vec<String> {
        columns.iter().map(|(_, known)| cell(known, &step(policy, standing, known, input, NOW))).collect()
    };
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |name: &str, cells: Vec<String>| match rows.iter_mut().find(|(_, known)| *known == cells) {
        Some((names, _)) => *names = format!("{names}, {name}"),
        None => rows.push((name.to_owned(), cells)),
    };
    for (name, level, mails) in [
        ("clean", None, 200),
        ("199 mails", None, 199),
        ("young", None, 200),
        ("relapse", None, 200),
        ("warn", Some(Level::Warn), 200),
        ("throttle", Some(Level::Throttle), 200),
        ("pause", Some(Level::Pause), 200),
    ] {
        let mut judgement = judgement(level, mails);
        judgement.probe.relapse = (name == "relapse").then(|| verdict(Level::Pause));
        if name == "young" {
            judgement.probe.settled = 0;
        }
        let unlimited = answers(FREE, Input::Judged(&judgement));
        add(name, unlimited.clone());
        let without = answers(ActionLimits { holds_shares: false, ..FREE }, Input::Judged(&judgement));
        if without != unlimited {
            add(&format!("{name}, no gate"), without);
        }
        for (cap, limited) in [(Level::Pause, ""), (Level::Throttle, " ≤ throttle"), (Level::Warn, " ≤ warn")] {
            for (may_pause, budget) in [(true, ""), (false, ", no more pauses")] {
                let cells = answers(ActionLimits { cap, may_pause, holds_shares: true }, Input::Judged(&judgement));
                let explained_by_the_cap = !may_pause
                    && cells
                        == answers(
                            ActionLimits { cap, may_pause: true, holds_shares: true },
                            Input::Judged(&judgement),
                        );
                if cells != unlimited && !explained_by_the_cap {
                    add(&format!("{name}{limited}{budget}"), cells);
                }
            }
        }
    }
    for (name, input) in [
        ("person stops", Input::PersonStops),
        ("resumes", Input::PersonResumes),
        ("keeps", Input::PersonBypasses),
        ("shadows", Input::PersonShadows),
        ("releases", Input::PersonReleases),
        ("incident", Input::Incident),
        ("pardon", Input::Pardon),
    ] {
        let protected = ActionLimits { cap: Level::Warn, may_pause: false, holds_shares: true };
        assert_eq!(answers(protected, input), answers(FREE, input), "{name}: limits are about judgements only");
        if !judgements_only {
            add(name, answers(FREE, input));
        }
    }
    let line = |cells: Vec<&str>, name: &str| {
        let cells: String = cells.into_iter().map(|cell| format!("{cell:<8}")).collect();
        format!("{}\n", format!("{cells}{name}").trim_end())
    };
    let mut table = line(columns.iter().map(|(name, _)| *name).collect(), "");
    for (name, cells) in &rows {
        table += &line(cells.iter().map(String::as_str).collect(), name);
    }
    table
}

#[test]
fn every_state_answers_every_input() {
    let policy = Policy::default().breaker;
    let manual = Breaker { resume: Resume::Manual, ..policy.clone() };
    let tables = format!("{}\nresume = \"manual\"\n{}", matrix(&policy, false), matrix(&manual, true));
    insta::assert_snapshot!(tables, @r#"
    closed  50%     50% 1h  floor   open    due     no end  tested  its end probe   15 min  12 h    stopped kept    shadow
    =       =       C       =       =       P*      =       =       T25'    =       T25'    T25'    =       =       =       clean, relapse ≤ throttle
    =       C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      =       =       =       clean ≤ warn, 199 mails ≤ warn, young ≤ warn, relapse ≤ warn, pardon
    =       =       C       =       =       P*      =       =       T25'    =       =       T25'    =       =       =       199 mails
    =       =       C       =       =       P*      =       =       T25'    =       =       =       =       =       =       young
    =       =       C       =       =       P*      =       =       T25'    O15     O15     O15     =       =       =       young, no gate
    =       =       C       =       =       P*      =       =       O60p    =       O60p    O60p    =       =       =       relapse
    =       =       C       =       =       P*      =       =       =       =       T5'p    T5'p    =       =       =       relapse, no more pauses
    Cw      =       C       =       =       P*      =       =       T25'    =       T25'    T25'    =       Cw      Cw      warn
    Cw      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      O–w     Cw      Cw      warn ≤ warn, throttle ≤ warn, pause ≤ warn
    T50't   T25't   T25't   T13't   =       P*      =       =       T13'    =       T13'    T13'    =       Cw      T50't   throttle, pause ≤ throttle
    O30p    O60p    O60p    O60p    =       P*      =       =       O60p    O60p    O60p    O60p    =       Cw      O30p    pause
    T13'p   T13'p   T13'p   T13'p   =       P*      =       =       =       T5'p    T5'p    T5'p    =       Cw      T13'p   pause, no more pauses
    O–      O–      O–      O–      O–      O–      O–      O–      O–      O–      O–      O–      =       O–      O–      person stops
    =       C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      resumes
    C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      =       C*      keeps
    C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      =       shadows
    =       =       =       =       =       =       =       =       =       =       =       =       C*      C*      C*      releases
    O30p    O60p    O60p    O60p    =       =       =       =       =       O60p    O60p    O60p    =       =       O30p    incident

    resume = "manual"
    closed  50%     50% 1h  floor   open    due     no end  tested  its end probe   15 min  12 h    stopped kept    shadow
    =       =       C       =       =       P*      =       =       T25'    =       T25'    T25'    =       =       =       clean, relapse ≤ throttle
    =       C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      =       =       =       clean ≤ warn, 199 mails ≤ warn, young ≤ warn, relapse ≤ warn
    =       =       C       =       =       P*      =       =       T25'    =       =       T25'    =       =       =       199 mails
    =       =       C       =       =       P*      =       =       T25'    =       =       =       =       =       =       young
    =       =       C       =       =       P*      =       =       T25'    O15     O15     O15     =       =       =       young, no gate
    =       =       C       =       =       P*      =       =       O–p     =       O–p     O–p     =       =       =       relapse
    =       =       C       =       =       P*      =       =       =       =       T5'p    T5'p    =       =       =       relapse, no more pauses
    Cw      =       C       =       =       P*      =       =       T25'    =       T25'    T25'    =       Cw      Cw      warn
    Cw      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      C*      O–w     Cw      Cw      warn ≤ warn, throttle ≤ warn, pause ≤ warn
    T50't   T25't   T25't   T13't   =       P*      =       =       T13'    =       T13'    T13'    =       Cw      T50't   throttle, pause ≤ throttle
    O–p     O–p     O–p     O–p     =       P*      =       =       O–p     O–p     O–p     O–p     =       Cw      O–p     pause
    T13'p   T13'p   T13'p   T13'p   =       P*      =       =       =       T5'p    T5'p    T5'p    =       Cw      T13'p   pause, no more pauses
    "#);
}

// --------------------------------------------------------------------------------------------------------- the walks

/// An input that can be stored, printed and shrunk.
#[derive(Clone, Debug)]
enum Event {
    Judged { level: Option<Level>, mails: u64, metric: Metric, cap: Level, may_pause: bool, holds_shares: bool },
    Stops,
    Resumes,
    Bypasses,
    Shadows,
    Releases,
    Incident,
    Pardon,
}

impl Event {
    fn apply(&self, policy: &Breaker, known: &BreakerState, now: Now) -> Step {
        let input = match self {
            Event::Judged { level, mails, metric, cap, may_pause, holds_shares } => {
                let mut judgement = judgement(*level, *mails);
                for verdict in
                    [&mut judgement.warn, &mut judgement.throttle, &mut judgement.pause].into_iter().flatten()
                {
                    verdict.metric = *metric;
                }
                let standing = ActionLimits { cap: *cap, may_pause: *may_pause, holds_shares: *holds_shares };
                return step(policy, standing, known, Input::Judged(&judgement), now);
            }
            Event::Stops => Input::PersonStops,
            Event::Resumes => Input::PersonResumes,
            Event::Bypasses => Input::PersonBypasses,
            Event::Shadows => Input::PersonShadows,
            Event::Releases => Input::PersonReleases,
            Event::Incident => Input::Incident,
            Event::Pardon => Input::Pardon,
        };
        step(policy, FREE, known, input, now)
    }

    fn is_free_judgement(&self) -> bool {
        matches!(self, Event::Judged { cap: Level::Pause, .. })
    }
}

fn event() -> impl Strategy<Value = Event> {
    let level = prop::sample::select(vec![None, Some(Level::Warn), Some(Level::Throttle), Some(Level::Pause)]);
    let mails = prop::sample::select(vec![0u64, 10, 199, 200, 5000]);
    let metric = prop::sample::select(Metric::ALL.to_vec());
    let cap = prop_oneof![8 => Just(Level::Pause), 1 => Just(Level::Warn)];
    let allowed = (cap, prop::bool::weighted(0.8), prop::bool::ANY);
    let judged = (level, mails, metric, allowed).prop_map(|(level, mails, metric, (cap, may_pause, holds_shares))| {
        Event::Judged { level, mails, metric, cap, may_pause, holds_shares }
    });
    prop_oneof![
        20 => judged,
        1 => Just(Event::Stops),
        1 => Just(Event::Resumes),
        1 => Just(Event::Bypasses),
        1 => Just(Event::Shadows),
        1 => Just(Event::Releases),
        1 => Just(Event::Incident),
        1 => Just(Event::Pardon),
    ]
}

/// Breaker settings that the validation of policies accepts.
fn policies() -> impl Strategy<Value = Breaker> {
    let shares = (0.01..0.95f64, 0.001..1.0f64, 0.001..1.0f64);
    let opens = (1u32..5_000, 0u32..5_000, 1u32..30);
    let probes = (1u32..300, 0u32..2_000, 1u64..1_000, 1u32..300);
    (shares, opens, probes, 1u32..500, prop::bool::ANY).prop_map(
        |((cut, floor, probe_share), (open, longer, forgive), (least, more, mails, complaint), raise, manual)| {
            Breaker {
                cut,
                floor,
                raise_every_minutes: raise,
                open_minutes: open,
                open_cap_minutes: open + longer,
                forgive_days: forgive,
                resume: if manual { Resume::Manual } else { Resume::Automatic },
                probe_share,
                probe_mails: mails,
                probe_min_minutes: least,
                probe_max_minutes: least + more,
                complaint_probe_minutes: complaint.min(least + more),
                ..Policy::default().breaker
            }
        },
    )
}

/// Steps with the minutes that pass before each: mostly short, now and then past every limit of the policy.
fn walk() -> impl Strategy<Value = Vec<(i64, Event)>> {
    let passed = prop_oneof![6 => 0i64..90, 2 => 90i64..3_000, 1 => 3_000i64..60_000];
    prop::collection::vec((passed, event()), 1..60)
}

/// SES and the gate, doing exactly what the effects ask for.
struct Actuator {
    flows: bool,
    factor: Factor,
}

impl Actuator {
    fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Stop => self.flows = false,
                Effect::Resume => self.flows = true,
                Effect::SetFactor(factor) => self.factor = *factor,
            }
        }
    }
}

proptest! {
    /// In any state and at any time, `step` returns a result, and its state can be stepped again.
    #[test]
    fn a_step_is_total_at_any_time(
        policy in policies(),
        walk in prop::collection::vec((prop::sample::select(vec![
            i64::MIN, i64::MIN + 1, -1, 0, 1, NOW.0 - 1, NOW.0, NOW.0 + 59_999, i64::MAX - 60_000, i64::MAX,
        ]), event()), 1..40),
    ) {
        let mut known = BreakerState::default();
        for (now, event) in walk {
            known = event.apply(&policy, &known, Now(now)).next;
            let _ = (due(&policy, &known, Now(now)), due(&policy, &known, Now(0)), due(&policy, &known, Now(i64::MAX)));
            prop_assert!(known.state.factor(&policy) <= Factor::FULL);
        }
    }

    /// After every step, the result of the effects matches the state.
    #[test]
    fn the_effects_bring_about_what_the_state_says(policy in policies(), walk in walk()) {
        let (mut known, mut now) = (BreakerState::default(), NOW);
        let mut world = Actuator { flows: true, factor: Factor::FULL };
        for (passed, event) in walk {
            now = now.plus_minutes(passed as u32);
            let step = event.apply(&policy, &known, now);
            world.apply(&step.effects);
            known = step.next;
            let open = matches!(known.state, State::Open { .. });
            prop_assert_eq!(world.flows, !open, "{:?}", known.state);
            if !open {
                prop_assert_eq!(world.factor, known.state.factor(&policy), "{:?}", known.state);
            }
        }
    }

    /// Repeating the same input at the same moment changes nothing more, and reports nothing more.
    #[test]
    fn asking_twice_changes_nothing_more(policy in policies(), walk in walk()) {
        let (mut known, mut now) = (BreakerState::default(), NOW);
        for (passed, event) in walk {
            now = now.plus_minutes(passed as u32);
            let since = known.since;
            known = event.apply(&policy, &known, now).next;
            // A move of the minute from which mail counts (a cut, a re-arming) also removes the verdict:
            // `judging_the_same_mail_again_never_cuts_again` is about that.
            let cut = matches!(event, Event::Judged { level: Some(Level::Throttle), .. });
            let re_armed = known.since != since && matches!(event, Event::Judged { level: Some(Level::Pause), .. });
            if event.is_free_judgement() && (cut || re_armed) {
                continue;
            }
            let again = event.apply(&policy, &known, now);
            prop_assert!(again.effects.is_empty(), "{:?}", again.effects);
            // A key that was just released may still get one warning.
            prop_assert_eq!(&BreakerState { warned: known.warned, ..again.next.clone() }, &known);
            let third = event.apply(&policy, &again.next, now);
            prop_assert!(third.news.is_none() && third.next == again.next);
        }
    }

    /// From wherever a walk has led: with healthy traffic, or without traffic, it returns to Closed by itself, in a
    /// bounded number of judgements and a bounded time. Only a breaker that waits for a person does not.
    #[test]
    fn every_state_is_left_in_finite_time_once_traffic_is_healthy(
        policy in policies(), walk in walk(), mails in prop::sample::select(vec![0u64, 1_000_000]), gate in any::<bool>(),
    ) {
        let standing = ActionLimits { holds_shares: gate, ..FREE };
        let policy = Breaker { resume: Resume::Automatic, ..policy };
        let (mut known, mut now) = (BreakerState::default(), NOW);
        for (passed, event) in walk {
            now = now.plus_minutes(passed as u32);
            known = event.apply(&policy, &known, now).next;
        }
        if known.overridden == Override::ForcedOpen {
            prop_assert_eq!(due(&policy, &known, now), None, "it waits for a person");
            known = step(&policy, FREE, &known, Input::PersonReleases, now).next;
        }
        let probe = policy.probe_max_minutes.max(policy.complaint_probe_minutes).max(policy.probe_min_minutes);
        // A quota of a thousandth needs ten doublings.
        let raise = policy.raise_every_minutes.max(policy.complaint_probe_minutes);
        // Without a gate nothing is held back, and a test waits for the mail that it is to test.
        let waits = if mails == 0 && !gate { 35 * DAY } else { 0 };
        let latest = now.plus_minutes(policy.open_cap_minutes + 2 * probe + waits + 11 * raise);
        // What is not closed is judged every ten minutes, also if nothing is due: a gate may have come into use.
        known = step(&policy, standing, &known, Input::Judged(&judgement(None, mails)), now).next;
        let mut looks = 0;
        while let Some(due) = due(&policy, &known, now) {
            looks += 1;
            prop_assert!(looks <= 1 + 3 + 11, "it does not come to an end: {known:?}");
            now = now.max(due);
            known = step(&policy, standing, &known, Input::Judged(&judgement(None, mails)), now).next;
        }
        prop_assert_eq!(known.state, State::Closed);
        prop_assert!(now <= latest, "it took until {now}, not {latest}");
    }

    /// `due` lies ahead, or judging at `due` changes something, so that following it never spins. A withheld pause is
    /// the only exception: it waits for others' pauses to end, and is judged each minute until then.
    #[test]
    fn due_lies_ahead_or_something_changes(policy in policies(), walk in walk(), judged in event()) {
        let (mut known, mut now) = (BreakerState::default(), NOW);
        for (passed, event) in walk {
            now = now.plus_minutes(passed as u32);
            known = event.apply(&policy, &known, now).next;
            let Event::Judged { .. } = judged else { continue };
            let Some(due_at) = due(&policy, &known, now) else { continue };
            let then = now.max(due_at);
            let step = judged.apply(&policy, &known, then);
            let ahead = due(&policy, &step.next, then).is_none_or(|next| next > then);
            let held_back = matches!(judged, Event::Judged { level: Some(Level::Pause), may_pause: false, .. });
            prop_assert!(step.next != known || ahead || held_back, "{known:?} spins on {judged:?}");
        }
    }

    /// Open never gets shorter while trips grow, and never lasts longer than the cap.
    #[test]
    fn open_never_gets_shorter_while_trips_grow(policy in policies(), walk in walk()) {
        let policy = Breaker { resume: Resume::Automatic, ..policy };
        let (mut known, mut now) = (BreakerState::default(), NOW);
        let mut lengths: BTreeMap<u32, u32> = BTreeMap::new();
        for (passed, event) in walk {
            now = now.plus_minutes(passed as u32);
            let next = event.apply(&policy, &known, now).next;
            if let (State::Open { at, until: Some(until), .. }, true) = (next.state, next.tripped != known.tripped) {
                let length = until.minutes_since(at);
                prop_assert!(length >= policy.open_minutes && length <= policy.open_cap_minutes);
                lengths.insert(next.trips, length);
                let within = known.tripped.is_some_and(|last| now.minutes_since(last) < policy.forgive_days * DAY);
                prop_assert_eq!(next.trips, if within { known.trips + 1 } else { 1 });
            }
            known = next;
        }
        let lengths: Vec<u32> = lengths.into_values().collect();
        prop_assert!(lengths.is_sorted(), "{lengths:?}");
    }

    /// No judgement, incident or pardon moves what a person has stopped, however long it takes; nor stops what a person
    /// bypasses.
    #[test]
    fn nothing_of_a_persons_is_undone(policy in policies(), walk in walk(), at in 0usize..60, close in prop::bool::ANY) {
        let (mut known, mut now) = (BreakerState::default(), NOW);
        for (index, (passed, event)) in walk.into_iter().enumerate() {
            now = now.plus_minutes(passed as u32);
            if index == at {
                let word = if close { Event::Bypasses } else { Event::Stops };
                known = word.apply(&policy, &known, now).next;
            }
            let by_a_person =
                matches!(event, Event::Stops | Event::Resumes | Event::Bypasses | Event::Shadows | Event::Releases);
            let step = event.apply(&policy, &known, now);
            if known.is_forced() && !by_a_person {
                prop_assert_eq!(step.next.state, known.state);
                prop_assert_eq!(step.next.overridden, known.overridden);
                prop_assert!(step.effects.is_empty());
            }
            known = step.next;
        }
    }

    /// In shadow a breaker decides like one without an override, and stays in shadow until a person changes it.
    #[test]
    fn in_shadow_a_breaker_decides_as_ever(policy in policies(), walk in walk()) {
        let mut now = NOW;
        let mut shadow = step(&policy, FREE, &BreakerState::default(), Input::PersonShadows, now).next;
        let mut free = BreakerState { overridden: Override::None, ..shadow.clone() };
        for (passed, event) in walk {
            if matches!(event, Event::Stops | Event::Resumes | Event::Bypasses | Event::Shadows | Event::Releases) {
                continue;
            }
            now = now.plus_minutes(passed as u32);
            prop_assert_eq!(due(&policy, &shadow, now), due(&policy, &free, now));
            let (in_shadow, in_light) = (event.apply(&policy, &shadow, now), event.apply(&policy, &free, now));
            prop_assert_eq!(in_shadow.next.overridden, Override::Shadow);
            prop_assert_eq!(&BreakerState { overridden: Override::None, ..in_shadow.next.clone() }, &in_light.next);
            prop_assert_eq!((in_shadow.effects, in_shadow.news), (in_light.effects, in_light.news));
            (shadow, free) = (in_shadow.next, in_light.next);
        }
        let released = step(&policy, FREE, &shadow, Input::PersonReleases, now).next;
        prop_assert_eq!((released.state, released.overridden), (State::Closed, Override::None));
    }

    /// A person's resume is accepted from every state, and re-arms: mail accepted until then no longer counts for the
    /// key.
    #[test]
    fn a_persons_resume_is_accepted_and_re_arms(policy in policies(), walk in walk()) {
        let (mut known, mut now) = (BreakerState::default(), NOW);
        for (passed, event) in walk {
            now = now.plus_minutes(passed as u32);
            known = event.apply(&policy, &known, now).next;
            let resumed = step(&policy, FREE, &known, Input::PersonResumes, now).next;
            prop_assert_eq!((resumed.state, resumed.overridden), (State::Closed, Override::None));
            if (known.state, known.overridden) != (State::Closed, Override::None) {
                prop_assert!(resumed.since.pause > now.minute() && resumed.since.throttle > now.minute());
            }
        }
    }

    /// By judgements alone, a quota is never above the whole and never below the lower one of the floor and a probe's
    /// share; harm never raises it; clean mail at most doubles it, and not early.
    #[test]
    fn a_quota_moves_as_the_policy_says(policy in policies(), walk in walk()) {
        let (mut known, mut now) = (BreakerState::default(), NOW);
        let floor = Factor::of_share(policy.floor).min(Factor::of_share(policy.probe_share)).min(Factor::QUARTER);
        for (passed, event) in walk {
            if !event.is_free_judgement() {
                continue;
            }
            now = now.plus_minutes(passed as u32);
            let step = event.apply(&policy, &known, now);
            let (before, after) = (known.state.factor(&policy), step.next.state.factor(&policy));
            if let State::Throttled { .. } = step.next.state {
                prop_assert!(after >= floor && after <= Factor::FULL, "{after} is below {floor}");
            }
            let bad = matches!(event, Event::Judged { level: Some(Level::Throttle | Level::Pause), .. });
            if let State::Throttled { moved, .. } = known.state
                && after > before
            {
                prop_assert!(!bad, "raised from {before} to {after} by {event:?}");
                prop_assert!(now >= moved.plus_minutes(policy.raise_every_minutes));
                prop_assert!(after.share() <= 2.0 * before.share() + 0.001, "from {before} to {after}");
            }
            let pause = matches!(event, Event::Judged { level: Some(Level::Pause), .. });
            if pause && !matches!(known.state, State::Open { .. }) {
                prop_assert!(after <= before, "a pause verdict in {:?} raised {before} to {after}", known.state);
            }
            known = step.next;
        }
    }

    /// One incident never cuts twice: whatever was counted until a cut, judging it again, then or later, does not cut
    /// again, nor does the mail of one trip cause another trip.
    #[test]
    fn judging_the_same_mail_again_never_cuts_again(
        cells in prop::collection::vec((0u32..4_000, 0u32..400, 0u32..60, 0usize..4), 1..12),
        later in 0u32..2_000,
        into_the_hour in 0i64..60,
    ) {
        let policy = Policy::default();
        let now = Now(minutes(into_the_hour).0 + 30_500);
        let mut timeline = Timeline::default();
        for (age, good, bad, kind) in cells {
            let minute = now.minute().minus(age);
            let harm = [UnitKind::HardBounce, UnitKind::Complaint, UnitKind::Delay, UnitKind::Block][kind];
            for (kind, count) in [(UnitKind::Sent, good + bad), (UnitKind::Delivered, good), (harm, bad)] {
                timeline.add(minute, Isp::OTHER, kind, count, true, now);
            }
        }
        let mut known = BreakerState::default();
        let mut look = |known: &BreakerState, now: Now| {
            let judged = Judge::new(&policy, Some(Isp::OTHER), &[], now).judgement(&mut timeline, known.since);
            step(&policy.breaker, FREE, known, Input::Judged(&judged), now).next
        };
        known = look(&known, now);
        match known.state {
            State::Throttled { factor, .. } => {
                let again = look(&known, now);
                prop_assert_eq!(&again, &known);
                match look(&known, now.plus_minutes(later)).state {
                    State::Throttled { factor: again, .. } => prop_assert!(again >= factor),
                    state @ (State::Closed | State::Open { .. } | State::Probing { .. }) => {
                        prop_assert_eq!(state, State::Closed);
                    }
                }
            }
            State::Open { until, .. } => {
                let until = until.unwrap_or(now);
                let mut then = until;
                for _ in 0..20 {
                    known = look(&known, then);
                    prop_assert_eq!(known.trips, 1, "tripped again by mail that it answered: {:?}", known);
                    then = due(&policy.breaker, &known, then).unwrap_or(then);
                }
                prop_assert_eq!(known.state, State::Closed);
            }
            State::Closed | State::Probing { .. } => {}
        }
    }
}

#[test]
fn a_key_that_is_re_armed_at_the_end_of_an_hour_is_judged_from_the_next_minute_on() {
    // The next minute is then the first one of an hour: mail of the hour before must not count.
    let now = Now(minutes(59).0 + 59_999);
    let known = BreakerState {
        state: State::Open { at: NOW, until: None, tested: false },
        overridden: Override::ForcedOpen,
        ..BreakerState::default()
    };
    let resumed = step(&Policy::default().breaker, FREE, &known, Input::PersonResumes, now).next;
    assert_eq!(resumed.since, ArmedSince::both(Minute(NOW.minute().0 + 60)));
    let mut timeline = Timeline::default();
    for minute in 0..60 {
        timeline.add(NOW.minute().plus(minute), Isp::OTHER, UnitKind::HardBounce, 100, true, now);
    }
    let judged = Judge::new(&Policy::default(), None, &[], now.plus_minutes(1)).judgement(&mut timeline, resumed.since);
    assert_eq!((judged.pause, judged.throttle), (None, None));
}

/// Otherwise its quota would be cut once more by the same mail, as soon as the verdict falls below a pause; and an
/// incident at an ISP would pardon all sets except the one whose pause was withheld.
#[test]
fn a_withheld_pause_is_a_cut_like_any_other() {
    let policy = Policy::default().breaker;
    let busy = ActionLimits { cap: Level::Pause, may_pause: false, holds_shares: true };
    let pause = judgement(Some(Level::Pause), 1000);
    let withheld = step(&policy, busy, &BreakerState::default(), Input::Judged(&pause), NOW).next;
    assert_eq!(withheld.since, ArmedSince { throttle: NOW.next_minute(), pause: Minute(0) });
    assert_eq!((withheld.worsened, withheld.withheld), (Some(NOW), true));
    // Nor is it lost: as soon as one more pause is allowed, it is done.
    let paused = step(&policy, FREE, &withheld, Input::Judged(&pause), minutes(60)).next;
    assert_eq!((paused.state.name(), paused.withheld, paused.trips), (StateName::Open, false, 1));
}
