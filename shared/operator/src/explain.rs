//! Explains the state of a breaker, and what happens next.
//!
//! The numbers are those of `replay explain`: stored state is put where a replay would have it, and explained there.
//! **Invariant:** without `--at`, the output is what the breaker would judge now, including its marks and the order of cells.

use pipeline::transition::{Transition, TransitionDetail};
use reputation::detect::Level;
use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline::evaluate::{left_out, since_of_isp};
use pipeline::ports::{Board, Change, Disposition, PortError, Reputation as _, SubjectState, Versioned};
use replay::driver::{self, MAX_SUBJECTS, Options, Replay, TraceEntry};
use replay::explain::Explanation;
use replay::input::Progress;
use reputation::breaker::{self, BreakerState, Cause, Factor, Override, State, StateName, due};
use reputation::isp::{Isp, IspMap};
use reputation::judge::{ArmedSince, Judge};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, MINUTE_MILLIS, Minute, Now};
use reputation::timeline::{FINE, KEEP_HOURS, KEEP_MINUTES, Length, Series, Timeline, edge, judged_from};
use reputation::unit::UnitKind;
use serde::Serialize;
use terminal::TimeArg;
use terminal::time::second_of;

use crate::Access;
use crate::command::{at_isp, check_heard_of, isp_named, quoted};
use crate::failure::Failure;
use crate::notice_history::{self, Entry, Found};
use crate::status::moved;

/// A breaker explained. All times are RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// Whether it is as of an earlier moment: judged with the mail accepted until then, but with what is known now about that
    /// mail, and with marks that follow from the notices.
    pub as_of: bool,
    /// The breaker, the evidence, the rules and the cells, as in `replay explain`.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The notice of the verdict that caused the state; null if there was none, or it is too old.
    pub verdict: Option<Entry>,
    /// What happens next; null for an earlier moment.
    pub next: Option<Next>,
    /// For an earlier moment: the notices after it, at most three.
    pub later: Vec<Entry>,
}

/// What changes a breaker next.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Next {
    /// When it is evaluated even if nothing happens; null waits for mail or a person.
    pub due: Option<String>,
    /// When it closes unless harm comes; null if not known yet.
    pub closes: Option<String>,
    /// A person's command about it.
    pub hold: Override,
    /// The current probe.
    pub probe: Option<Probe>,
    /// The ISPs at which the subject's own breakers are not closed, with their states.
    pub isps: BTreeMap<String, StateName>,
    /// The same in sentences; a command is at the end of its sentence.
    pub words: Vec<String>,
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// Its mails that are old enough for their outcomes to be known.
    pub mails: u64,
    /// Bad outcomes of all its mails, by the metric that stopped it.
    #[serde(rename = "hard_bounces")]
    pub bad: u64,
    /// How many mails it needs.
    pub needed: u64,
    /// Its earliest end.
    pub first: String,
    /// From then on fewer mails are enough.
    pub last: String,
}

/// Explains the breaker of a subject, or of a subject at one ISP; as of an earlier moment, if one is given.
///
/// # Errors
///
/// The stack has never seen the subject, the policy does not name the ISP, the moment is too old, or AWS refuses.
pub async fn explain(
    access: &Access,
    subject: Subject,
    isp: Option<&str>,
    at: Option<TimeArg>,
    now: Now,
) -> Result<Explained, Failure> {
    let policy = access.policy().await?.policy;
    let isp = isp_named(&policy, isp)?;
    check_heard_of(access, &mut access.reputation(&policy), &subject, false).await?;
    if let Some(at) = at {
        check_judgeable(at, &subject, now)?;
    }
    let key = Key { subject, isp };
    let case = Case::of(access, &policy, key, at, now).await.map_err(|error| access.refused(error))?;
    case.explained(access).await.map_err(|error| access.refused(error))
}

/// A moment can be judged while its minutes are kept.
fn check_judgeable(at: TimeArg, subject: &Subject, now: Now) -> Result<(), Failure> {
    let earliest = Now(i64::from(now.minute().minus(KEEP_MINUTES - FINE).hour().0) * MINUTE_MILLIS).plus_minutes(HOUR);
    if at.at <= now && at.at >= earliest {
        return Ok(());
    }
    Err(Failure::NotJudgeable { at: at.at, earliest, now, subject: subject.to_string() })
}

/// What is known about a key at a moment.
struct Case<'a> {
    policy: &'a Policy,
    key: Key,
    /// The moment; `None`: now.
    at: Option<TimeArg>,
    now: Now,
    /// The subject's state now, or counting only mail accepted by the moment; its breakers as of now.
    subject_state: SubjectState,
    board: Board,
    /// The notices about the subject, and about the ISPs themselves.
    notices: Found,
    of_isps: Found,
    /// The verdict behind an older move of the breaker.
    moved: Option<Entry>,
    /// For the account: the counters of its configuration sets.
    sets: Vec<Timeline>,
}

impl<'a> Case<'a> {
    async fn of(
        access: &Access,
        policy: &'a Policy,
        key: Key,
        at: Option<TimeArg>,
        now: Now,
    ) -> Result<Case<'a>, PortError> {
        let then = at.map_or(now, |at| at.at);
        let window = (Now(i64::from(judged_from(then).0) * MINUTE_MILLIS), now.plus_minutes(1));
        let (mut of_subject, mut of_board, mut of_account) =
            (access.reputation(policy), access.reputation(policy), access.reputation(policy));
        let sets = async {
            let wanted = key == Key { subject: Subject::Account, isp: None };
            Ok(if wanted { of_account.account(then).await?.into_iter().cloned().collect() } else { Vec::new() })
        };
        let isps_themselves = |entry: &Entry| entry.isp().is_some();
        let (subject_state, board, notices, of_isps, sets): (_, _, _, _, Vec<Timeline>) = tokio::try_join!(
            async { Ok(of_subject.subject_state(&key.subject, now).await?.clone()) },
            of_board.board(now),
            notice_history::read(access, &key.subject, window, usize::MAX, |_| true),
            notice_history::read(access, &Subject::Account, window, usize::MAX, isps_themselves),
            sets,
        )?;
        let mut case = Case {
            policy,
            key,
            at,
            now,
            subject_state,
            board: Board { isps: board.isps.clone(), ..Board::default() },
            notices,
            of_isps,
            moved: None,
            sets,
        };
        if at.is_some() {
            case.subject_state.timeline = case.timeline_until_then(access).await?;
            let end = case.end().minute().hour().plus(HOUR);
            case.sets = case.sets.iter().map(|set| hours_before(set, end, &policy.isp_map)).collect();
        } else {
            case.moved = case.find_moved(access).await?;
        }
        Ok(case)
    }

    /// The first moment after the requested one.
    fn end(&self) -> Now {
        self.at.map_or(self.now, |at| at.end)
    }

    /// The notices about the key itself.
    fn of_key(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.notices.entries.iter().filter(|entry| entry.is_about(self.policy, &self.key))
    }

    /// The verdict that caused the breaker's state.
    async fn find_moved(&self, access: &Access) -> Result<Option<Entry>, PortError> {
        let known = self.subject_state.breaker(self.key.isp).breaker;
        if known.state == State::Closed {
            return Ok(None);
        }
        if let Some(entry) = moving_verdict(self.of_key()) {
            return Ok(Some(entry.clone()));
        }
        let Some(worsened) = known.worsened else { return Ok(None) };
        let wanted = |entry: &Entry| entry.is_about(self.policy, &self.key);
        let at = (worsened, Now(worsened.0.saturating_add(1)));
        Ok(notice_history::read(access, &self.key.subject, at, usize::MAX, wanted).await?.entries.pop())
    }

    /// The counters of the subject, of mail accepted until then.
    async fn timeline_until_then(&self, access: &Access) -> Result<Timeline, PortError> {
        let Case { policy, key: Key { subject, .. }, .. } = self;
        let (end, isps) = (self.end(), &policy.isp_map);
        let reader = access.reputation(policy);
        let read = |length, from, until| reader.rates(subject, length, from, until);
        let hour = end.minute().hour();
        let (hours, minutes) = tokio::try_join!(
            read(Length::Hour, judged_from(end), hour),
            read(Length::Minute, edge(end), end.next_minute()),
        )?;
        let mut timeline = hours_before(&hours, hour, isps);
        pour_minutes(&mut timeline, &minutes, edge(end), isps);
        // The current hour is known by its minutes only, so nothing later is included.
        for isp in minutes.isps() {
            for cell in minutes.cells(Some(isp), &[], hour, at_start(hour)) {
                pour(&mut timeline, (Length::Hour, hour), isp, &cell.counters, hears(&minutes, isp, isps));
            }
        }
        for begun in self.begun(end) {
            let minutes = read(Length::Minute, begun, begun.plus(HOUR)).await?;
            pour_minutes(&mut timeline, &minutes, begun, isps);
        }
        Ok(timeline)
    }

    /// The hours in which judging began; they are counted by the minute.
    fn begun(&self, end: Now) -> Vec<Minute> {
        let breakers = self.breakers_as_of(end).into_values().map(|known| known.breaker.since);
        let isps = self.isps_as_of(end).into_values().map(|known| known.since);
        let marks = breakers.chain(isps).flat_map(|since| [since.pause, since.throttle]);
        let within = judged_from(end)..edge(end);
        let mut hours: Vec<Minute> =
            marks.filter(|mark| *mark != mark.hour() && within.contains(&mark.hour())).map(Minute::hour).collect();
        hours.sort_unstable();
        hours.dedup();
        hours
    }

    /// The breakers of the subject as of `then`.
    fn breakers_as_of(&self, then: Now) -> BTreeMap<Option<Isp>, Versioned> {
        if self.at.is_none() {
            return self.subject_state.breakers.clone();
        }
        let as_of = |isp: &Option<Isp>| {
            let key = Key { subject: self.key.subject.clone(), isp: *isp };
            let entries = self.notices.entries.iter().filter(|entry| entry.is_about(self.policy, &key));
            let known = self.subject_state.breaker(*isp);
            (*isp, Versioned { breaker: as_of(&known.breaker, entries, then), version: known.version })
        };
        self.subject_state.breakers.keys().map(as_of).collect()
    }

    /// The breakers of the ISPs themselves as of `then`.
    fn isps_as_of(&self, then: Now) -> BTreeMap<Isp, BreakerState> {
        if self.at.is_none() {
            return self.board.isps.clone();
        }
        let as_of = |(isp, known): (&Isp, &BreakerState)| {
            let key = Key { subject: Subject::Account, isp: Some(*isp) };
            let entries = self.of_isps.entries.iter().filter(|entry| entry.is_about(self.policy, &key));
            (*isp, as_of(known, entries, then))
        };
        self.board.isps.iter().map(as_of).collect()
    }

    fn subject_state_as_of(&self, then: Now) -> SubjectState {
        SubjectState {
            timeline: self.subject_state.timeline.clone(),
            breakers: self.breakers_as_of(then),
            protected: self.subject_state.protected,
            ..SubjectState::default()
        }
    }

    /// The transitions of the key at the moment, with the evidence of the decisions.
    fn trace(&self) -> Vec<TraceEntry> {
        let Some(at) = self.at else { return Vec::new() };
        let then = |entry: &&Entry| (at.at..at.end).contains(&entry.time);
        let decided = self.of_key().filter(then).filter_map(|entry| entry.transition(self.policy, &self.key));
        let entry = |transition: Transition| {
            let then = transition.at;
            TraceEntry {
                subject_state: self.subject_state_as_of(then),
                board: Arc::new(Board { isps: self.isps_as_of(then), ..Board::default() }),
                steps: self.steps(then),
                forecast: None,
                transition,
            }
        };
        decided.map(entry).collect()
    }

    /// The breakers of ISPs that moved at the same moment: they are decided before the subject as a whole.
    fn steps(&self, then: Now) -> BTreeMap<Isp, BreakerState> {
        let after = self.breakers_as_of(Now(then.0.saturating_add(1)));
        let isps = self.notices.entries.iter().filter(|entry| entry.time == then).filter_map(|entry| {
            let isp = self.policy.isp_map.by_name(entry.isp()?)?;
            Some((isp, after.get(&Some(isp))?.breaker.clone()))
        });
        isps.collect()
    }

    async fn explained(&self, access: &Access) -> Result<Explained, PortError> {
        let (policy, key, end) = (self.policy, &self.key, self.end());
        let until_then = self.of_key().filter(|entry| self.at.is_none() || entry.time < end);
        let transitions = until_then.filter_map(|entry| entry.transition(policy, key)).collect();
        let subject_state = self.subject_state_as_of(end);
        let board = Board { isps: self.isps_as_of(end), ..Board::default() };
        let known = subject_state.breaker(key.isp).breaker;
        let next = self.at.is_none().then(|| self.next(&known));
        let replay = self.replayed(subject_state, &board, transitions).await?;
        let at = self.at.map_or(self.now, |at| at.at);
        let mut explanation = replay::explain::explain(&replay, key, None, at);
        // A breaker that moved before the oldest mail that is judged.
        if explanation.breaker.since.is_none() {
            explanation.breaker.since = moved(&known).map(|at| at.to_string());
        }
        let verdict = match self.at {
            None => self.moved.clone(),
            Some(_) if known.state == State::Closed => None,
            Some(_) => moving_verdict(self.of_key().filter(|entry| entry.time < end)).cloned(),
        };
        let later = match self.at {
            None => Vec::new(),
            Some(_) => self.of_key().filter(|entry| entry.time >= end).take(MAX_LATER).cloned().collect(),
        };
        let (stack, region) = (access.stack.clone(), access.region.clone());
        Ok(Explained { stack, region, as_of: self.at.is_some(), explanation, verdict, next, later })
    }

    /// The known state, where a replay would have it.
    async fn replayed(
        &self,
        subject_state: SubjectState,
        board: &Board,
        transitions: Vec<Transition>,
    ) -> Result<Replay, PortError> {
        let policy = self.policy.clone();
        let options = Options {
            policy,
            real_now: self.now.0,
            since: None,
            until: None,
            stop_at: None,
            workers: 0,
            max_subjects: MAX_SUBJECTS,
        };
        let nothing = driver::replay(&options, &[], &mut |_| {}, &Progress::new());
        let mut replay = nothing.map_err(|error| PortError {
            operation: "explaining",
            reason: error.to_string(),
            disposition: Disposition::Halt,
        })?;
        let held = |(isp, known): (&Isp, &BreakerState)| Change {
            key: Key { subject: Subject::Account, isp: Some(*isp) },
            version: 0,
            next: known.clone(),
            controls: Vec::new(),
            transition: None,
            places: None,
        };
        let held: Vec<Change> = board.isps.iter().map(held).collect();
        replay.reputation.save(&held).await?;
        for (number, set) in self.sets.iter().enumerate() {
            let subject = Subject::ConfigurationSet(number.to_string().as_str().into());
            replay.reputation.subject_state(&subject, self.now).await?.timeline = set.clone();
        }
        *replay.reputation.subject_state(&self.key.subject, self.now).await? = subject_state;
        replay.reputation.transitions = transitions;
        replay.trace = self.trace();
        Ok(replay)
    }

    /// What changes the breaker next.
    fn next(&self, known: &BreakerState) -> Next {
        let Case { policy, key, now, .. } = self;
        let rules = &policy.breaker;
        let due_at = due(rules, known, *now);
        let mut next = Next { due: due_at.map(|at| at.to_string()), hold: known.overridden, ..Next::default() };
        let resume = format!("ses-breaker resume {}{}", quoted(&key.subject), at_isp(policy, key));
        let release = format!("ses-breaker release {}{}", quoted(&key.subject), at_isp(policy, key));
        let whole = self.subject_state.breaker(None).breaker.overridden;
        if policy.is_shadow(&key.subject) {
            next.words.push("The policy decides in shadow: the following is only reported.".to_owned());
        } else if known.overridden == Override::Shadow {
            next.words.push(format!("A person put it in shadow: the following is only reported until: {release}"));
        } else if whole == Override::Shadow {
            next.words.push(format!(
                "A person put all of {subject} in shadow: the following is only reported until: ses-breaker \
                 release {subject}",
                subject = quoted(&key.subject)
            ));
        }
        if self.subject_state.protected || policy.subjects.protected.contains(&key.subject) {
            next.words.push("The policy protects its mail: verdicts are only reported.".to_owned());
        }
        match (known.state, known.overridden) {
            (State::Closed, Override::ForcedClosed) => {
                next.words.push(format!("A person bypassed it: verdicts are only reported until: {release}"))
            }
            (State::Closed, Override::None | Override::ForcedOpen | Override::Shadow) => {
                next.words.push("It is sending (closed): only new mail, or a person, changes that.".to_owned());
            }
            (State::Throttled { factor, moved }, _) => {
                let every = breaker::raise_every(rules, known, moved);
                let mut raised = factor;
                let mut at = moved;
                while raised < Factor::FULL && raised > Factor::NONE {
                    raised = Factor::of_share(raised.share() * 2.0);
                    at = at.plus_minutes(every);
                }
                next.closes = Some(at.to_string());
                let first = second_of(moved.plus_minutes(every));
                let raises = Factor::of_share(factor.share() * 2.0);
                next.words.push(if !policy.holds_shares(&key.subject) {
                    format!(
                        "All mail is sent meanwhile, because no gate is in use. The warning ends at {} UTC, {} from now (closed), \
                         unless harm comes before.",
                        second_of(at),
                        hours(at.minutes_since(*now)),
                    )
                } else if raised == raises {
                    format!("At {first} UTC it sends the whole quota again (closed), unless harm comes before.")
                } else {
                    format!(
                        "At {first} UTC the quota doubles to {raises}, unless harm comes before, and again every \
                         {every} min: it sends the whole quota again (closed) at {} UTC, {} from now.",
                        second_of(at),
                        hours(at.minutes_since(*now)),
                    )
                });
                next.words.push(format!("To resume it now: {resume}"));
            }
            (State::Open { .. }, Override::ForcedOpen) => {
                next.words.push(format!("A person stopped it, and only a person can resume it: {resume}"));
            }
            (State::Open { tested: true, .. }, Override::None | Override::ForcedClosed | Override::Shadow)
                if let Some(at) = due_at =>
            {
                next.words.push(format!(
                    "The mail of a test is sent. At {} UTC, {} from now, its outcomes are known: if they are good, all mail is \
                     sent again, if not, it stays stopped for longer. To resume it now: {resume}",
                    second_of(at),
                    hours(at.minutes_since(*now)),
                ));
            }
            (State::Open { .. }, Override::None | Override::ForcedClosed | Override::Shadow) => {
                let share = Factor::of_share(rules.probe_share);
                next.words.push(match due_at {
                    Some(at) => format!(
                        "At {} UTC, {} from now, it is testing (probing) {with}, and only mail accepted from then on counts. To \
                         resume it sooner: {resume}",
                        second_of(at),
                        hours(at.minutes_since(*now)),
                        with = match policy.holds_shares(&key.subject) {
                            true => format!("at {share} of the quota"),
                            false => format!("with up to {} mails", breaker::probe_mails(rules, known)),
                        },
                    ),
                    None => format!("It stays stopped until a person resumes it: {resume}"),
                });
            }
            (State::Probing { at }, _) => self.probing(known, at, &resume, &mut next),
        }
        self.isps_not_closed(&mut next);
        next
    }

    fn probing(&self, known: &BreakerState, at: Now, resume: &str, next: &mut Next) {
        let Case { policy, key, now, board, subject_state, .. } = self;
        let rules = &policy.breaker;
        let (since, left_out) = match key.isp {
            Some(isp) => (since_of_isp(subject_state, board, isp), Vec::new()),
            None => (known.since, left_out(policy, subject_state, board, &BTreeMap::new())),
        };
        let mut timeline = subject_state.timeline.clone();
        let judgement = Judge::new(policy, key.isp, &left_out, *now)
            .testing(breaker::test_of(rules, known))
            .judgement(&mut timeline, since);
        let (accepted, mails) = (judgement.probe.accepted, judgement.probe.settled);
        let (needed, minutes) = (breaker::probe_mails(rules, known), breaker::probe_min(rules, known));
        let first = at.plus_minutes(minutes);
        let last = at.plus_minutes(breaker::probe_max(rules, known));
        next.words.push(format!(
            "{accepted} mails of the test are accepted, {mails} of them at least {minutes} min ago, so that their outcomes are \
             known; {needed} are needed.",
        ));
        let holds_shares = policy.holds_shares(&key.subject);
        next.words.push(format!(
            "If they are clean, {}, at {} UTC at the earliest, unless a verdict stops it again for longer. After {} UTC {}.",
            if holds_shares {
                format!("it continues with {} of the quota", Factor::QUARTER)
            } else {
                "all mail is sent again".to_owned()
            },
            second_of(first),
            second_of(last),
            if holds_shares {
                "it ends with fewer, or with none"
            } else {
                "fewer are enough, and without mail it waits for the next"
            },
        ));
        if !holds_shares {
            next.words.push(format!(
                "Without a gate it is stopped as soon as {needed} mails are accepted, until their outcomes are known."
            ));
        }
        next.words.push(format!("To resume it now: {resume}"));
        next.probe =
            Some(Probe { mails, bad: judgement.probe.bad, needed, first: first.to_string(), last: last.to_string() });
    }

    /// For a subject as a whole: the ISPs at which its breakers are not closed.
    fn isps_not_closed(&self, next: &mut Next) {
        let Case { policy, key, subject_state, .. } = self;
        if key.isp.is_some() {
            return;
        }
        for (isp, known) in &subject_state.breakers {
            let Some(isp) = isp.filter(|_| known.breaker.state != State::Closed) else { continue };
            let name = policy.isp_map.name(isp);
            next.isps.insert(name.to_owned(), known.breaker.state.name());
            next.words.push(format!(
                "At {name} it is {} ({}): ses-breaker explain {} --isp {name}",
                known.breaker.state.name().word(policy.gate_in_use),
                known.breaker.state.name(),
                quoted(&key.subject),
            ));
        }
    }
}

/// The number of later notices that are shown.
const MAX_LATER: usize = 3;

/// The verdict that caused a breaker's state, if there was one since it was last closed.
fn moving_verdict<'a>(entries: impl DoubleEndedIterator<Item = &'a Entry>) -> Option<&'a Entry> {
    let mut latest = entries.rev().filter_map(|entry| Some((entry, entry.breaker()?)));
    let by_verdict = |moved: &TransitionDetail| moved.level.is_some_and(|level| level >= Level::Throttle);
    let last = latest.find(|(_, moved)| moved.to == StateName::Closed || by_verdict(moved));
    last.filter(|(_, moved)| moved.to != StateName::Closed).map(|(entry, _)| entry)
}

/// A breaker as of `then`, by the notices about it, oldest first. Fields that no notice changed since are as of now.
fn as_of<'a>(known: &BreakerState, entries: impl Iterator<Item = &'a Entry>, then: Now) -> BreakerState {
    let moves: Vec<&TransitionDetail> = entries.filter_map(Entry::breaker).collect();
    let (before, after) = moves.split_at(moves.partition_point(|moved| moved.at < then));
    let Some(next) = after.first() else { return known.clone() };
    let last = before.last();
    let since = last.and_then(|last| notice_history::since(last)).unwrap_or_else(|| {
        let mut since = ArmedSince::default();
        before.iter().for_each(|moved| mark(&mut since, moved));
        since
    });
    let entered = before.iter().rev().find(|moved| moved.from != moved.to || moved.level != Some(Level::Warn));
    let at = entered.map_or(then, |moved| moved.at);
    let state = match next.from {
        StateName::Throttled => {
            let share = last.and_then(|last| last.share);
            State::Throttled { factor: share.map_or(Factor::FULL, Factor::of_share), moved: at }
        }
        StateName::Open => State::Open {
            at,
            until: last.and_then(|last| last.until),
            tested: last.is_some_and(|last| last.ends_the_mail_of_a_test()),
        },
        StateName::Probing => State::Probing { at },
        StateName::Closed | StateName::InTrouble | StateName::Unknown => State::Closed,
    };
    let (trips, overridden) = last.map_or((0, Override::None), |last| (last.trips, last.hold));
    BreakerState { state, since, trips, overridden, ..BreakerState::default() }
}

/// Moves the marks as the transition did, for notices of releases that did not record the marks: see
/// `reputation::breaker::step`.
fn mark(since: &mut ArmedSince, moved: &TransitionDetail) {
    let minute = moved.at.next_minute();
    match (moved.from, moved.to, moved.level) {
        (_, StateName::Probing, _) => *since = ArmedSince::both(minute),
        // A quota that recovered does not re-arm.
        (StateName::Throttled, StateName::Closed, None) if matches!(moved.cause, Cause::Time | Cause::Unknown) => {}
        (_, StateName::Closed, None) => *since = ArmedSince::both(minute),
        (_, StateName::Throttled, Some(Level::Throttle | Level::Pause))
        | (StateName::Probing, StateName::Throttled, None) => since.throttle = minute,
        (_, StateName::Throttled, Some(Level::Warn) | None)
        | (_, StateName::Closed, Some(_))
        | (_, StateName::Open | StateName::InTrouble | StateName::Unknown, _) => {}
    }
}

fn pour(
    into: &mut Timeline,
    cohort: (Length, Minute),
    isp: Isp,
    counters: &reputation::counters::Counters,
    heard: bool,
) {
    for kind in UnitKind::ALL {
        match counters.get(kind) {
            0 => {}
            count => into.load(cohort, isp, kind, count, heard),
        }
        if counters.causes(kind).count > 0 {
            into.load_causes(cohort, isp, kind, counters.causes(kind));
        }
    }
}

/// Whether complaints from an ISP reach the sender, by all that is known about it.
fn hears(timeline: &Timeline, isp: Isp, isps: &IspMap) -> bool {
    isps.returns_complaints(isp) || timeline.has_heard(isp)
}

/// The hours before `end`.
fn hours_before(timeline: &Timeline, end: Minute, isps: &IspMap) -> Timeline {
    let mut before = Timeline::default();
    for isp in timeline.isps() {
        let hours = timeline.series(Some(isp)).into_iter().flat_map(Series::hours);
        for (from, counters) in hours.filter(|(from, _)| *from < end && from.plus(KEEP_HOURS) >= end) {
            pour(&mut before, (Length::Hour, from), isp, counters, hears(timeline, isp, isps));
        }
    }
    before
}

/// Copies the minutes from `from` on.
fn pour_minutes(into: &mut Timeline, minutes: &Timeline, from: Minute, isps: &IspMap) {
    for isp in minutes.isps() {
        for cell in minutes.cells(Some(isp), &[], from, at_start(from)) {
            pour(into, (Length::Minute, cell.from), isp, &cell.counters, hears(minutes, isp, isps));
        }
    }
}

/// A moment from which everything later is counted by the minute.
fn at_start(minute: Minute) -> Now {
    Now(i64::from(minute.0) * MINUTE_MILLIS)
}

/// `45 min`, `5 h 10 min`.
fn hours(minutes: u32) -> String {
    match (minutes / HOUR, minutes % HOUR) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
