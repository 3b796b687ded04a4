//! Evaluating: what the counters of a subject call for, and which control follows from a breaker's step.
//!
//! **Blame**: the narrowest key that explains the harm is acted on. ISPs are judged first. When the subject is judged
//! as a whole, ISPs that are contained by the gate or in trouble of their own are excluded, and so is the mail from
//! before its breaker was re-armed, because that harm was already acted on. A subject is not acted on as a whole while
//! only ISPs whose breakers are not closed show harm. While a whole subject is stopped, its ISPs are not judged. An identity is
//! not acted on for harm that one of its configuration sets acts on, if the rest of its mail is good.
//!
//! **Without a gate** a single ISP cannot be held. Harm there is noted ([`breaker::note_trouble`]), so that an ISP's
//! own trouble is still distinguished from bad lists; the policy decides what then happens to its senders
//! (`incident.without_gate`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use reputation::breaker::{self, ActionLimits, BreakerState, Cause, Effect, Input, Override, State, StateName, Step};
use reputation::budget::{self, Admission, Harm, Pause, Pauses, Place};
use reputation::counters::{Metric, Tally};
use reputation::detect::{Level, Percent, Verdict};
use reputation::incident::{self, Conduct, Scope};
use reputation::isp::Isp;
use reputation::judge::{self, ArmedSince, Judge, Judgement};
use reputation::policy::{Policy, WithoutGate};
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, Minute, Now};
use reputation::timeline::{ExcludedIsp, edge, judged_from};

use crate::control::{Control, ControlKind, control, stops_at_ses};
use crate::ports::{
    Board, Change, Disposition, MAX_SHARING, PlaceChange, PortError, Relative, Reputation, Saved, SubjectState,
    Versioned,
};
use crate::transition::Transition;
use crate::wording::shell_quote;

/// How often a decision is repeated after its save lost a race, before the handlers should try later.
const MAX_RACES: usize = 8;

/// Judges what may have changed of one subject, steps its breakers, and saves the steps with their controls. Judges
/// the subject as a whole, and the ISPs in `isps`. Returns what was saved.
///
/// # Errors
///
/// Nothing, or everything, was saved; evaluating again is safe.
pub async fn evaluate<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    subject: &Subject,
    isps: &BTreeSet<Isp>,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    let mut board = store.board(now).await?;
    let mut saved = Vec::new();
    // An earlier call may have been cut off between an ISP's hold and this subject's pardon. Pardoning here makes the
    // result the same as if it had not been cut off.
    for isp in board.isps.keys().copied().filter(|isp| excuses_senders(policy) && is_in_trouble(&board, *isp)) {
        if may_be_pardoned(policy, &board, isp, now).contains(subject) {
            saved.extend(pardon(policy, store, &board, subject, isp, now).await?);
        }
    }
    if !saved.is_empty() {
        board = store.board(now).await?;
    }
    // Read only if they are needed; then everything is decided again.
    let mut related: Option<BTreeMap<Subject, Relative>> = None;
    let mut own_sets: Option<Vec<(Subject, SubjectState)>> = None;
    let changes = loop {
        let mut asked = None;
        let changes = decide_and_save(policy, store, subject, now, |subject_state, board| {
            let mut changes = assess(policy, subject_state, board, subject, isps, now);
            if may_be_of_a_set(policy, subject) && changes.iter().any(limits_by_a_verdict) {
                match &own_sets {
                    Some(sets) => leave_to_sets(policy, subject_state, board, sets, &mut changes, now),
                    None => {
                        asked = Some((Asked::OwnSets, subject_state.shares_mail_with.clone()));
                        return Vec::new();
                    }
                }
            }
            if changes.iter().any(reports_harm) && !subject_state.shares_mail_with.is_empty() {
                match &related {
                    Some(related) => note_related(policy, subject_state, related, &mut changes, now),
                    None => {
                        asked = Some((Asked::Relatives, subject_state.shares_mail_with.clone()));
                        return Vec::new();
                    }
                }
            }
            changes
        })
        .await?;
        match asked {
            Some((Asked::OwnSets, subjects)) => {
                own_sets = Some(sets_of(policy, store, subject, &subjects, now).await?);
            }
            Some((Asked::Relatives, subjects)) => related = Some(relatives(store, subjects).await?),
            None => break changes,
        }
    };
    let turned_bad_now = |isp: &&Isp| {
        let key = Key { subject: subject.clone(), isp: Some(**isp) };
        let change = changes.iter().find(|change| change.key == key);
        // Includes changes that were already saved at this moment: an earlier call may have been cut off between its
        // save and this check. Harm from before is checked each minute.
        let known = change.map(|change| &change.next).or_else(|| board.unsettled.get(&key));
        known.and_then(turned_bad) == Some(now)
    };
    let is_time_to_look = |isp: &&Isp| looks_at_once(hit(policy, &board, **isp, now).count());
    let worsened: Vec<Isp> = isps.iter().filter(turned_bad_now).filter(is_time_to_look).copied().collect();
    saved.extend(changes);
    drop(board);
    for isp in worsened {
        saved.extend(suspect(policy, store, isp, now, &mut || true).await?);
    }
    Ok(saved)
}

/// Whether a change reports harm to people.
fn reports_harm(change: &Change) -> bool {
    change.transition.as_ref().is_some_and(|transition| transition.level.is_some())
}

/// What a decision needs to know of the subjects that share mail with its own.
#[derive(Clone, Copy)]
enum Asked {
    OwnSets,
    Relatives,
}

/// Whether a change limits mail because of a verdict.
fn limits_by_a_verdict(change: &Change) -> bool {
    change.transition.as_ref().is_some_and(|transition| {
        transition.cause == Cause::Verdict && transition.level.is_some_and(|level| level > Level::Warn)
    })
}

/// Whether the harm of a subject may be that of one of its configuration sets alone: of an identity that the gate stops, and
/// with it the mail of its other sets.
fn may_be_of_a_set(policy: &Policy, subject: &Subject) -> bool {
    policy.gate_in_use && matches!(subject, Subject::Identity(_))
}

/// The configuration sets of an identity that can answer for its harm: no other identity uses them, their mail can be
/// stopped, and is if that of the identity is.
async fn sets_of<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    identity: &Subject,
    shares_mail_with: &BTreeSet<Subject>,
    now: Now,
) -> Result<Vec<(Subject, SubjectState)>, PortError> {
    let mut sets = Vec::new();
    for set in shares_mail_with.iter().filter(|subject| matches!(subject, Subject::ConfigurationSet(_))) {
        if policy.is_shadow(set) && !policy.is_shadow(identity) {
            continue;
        }
        let known = store.subject_state(set, now).await?;
        // The mail of another identity must not be taken for mail of this one.
        let is_shared =
            known.shares_mail_with.iter().any(|other| matches!(other, Subject::Identity(_)) && other != identity);
        if is_shared || !known.unreadable.is_empty() {
            continue;
        }
        let overridden = known.breaker(None).breaker.overridden;
        let key = Key { subject: set.clone(), isp: None };
        if cap(policy, &key, known) == Level::Pause && matches!(overridden, Override::None | Override::ForcedOpen) {
            sets.push((set.clone(), known.clone()));
        }
    }
    Ok(sets)
}

/// An identity is spared for its mail by other sets only if it has at least so much of it, in the days that are judged: the
/// fewest in which one bounce is within the limit of 5 %.
const LEAST_REST: u64 = 20;

/// Drops the changes that limit an identity for the harm of one configuration set of its own whose breaker acts on it, or is
/// about to, if there is other mail and it is good. The identity is re-armed, so that this harm is not judged again.
fn leave_to_sets(
    policy: &Policy,
    subject_state: &mut SubjectState,
    board: &Board,
    sets: &[(Subject, SubjectState)],
    changes: &mut [Change],
    now: Now,
) {
    let steps: BTreeMap<Isp, BreakerState> =
        changes.iter().filter_map(|change| Some((change.key.isp?, change.next.clone()))).collect();
    for change in changes.iter_mut().filter(|change| limits_by_a_verdict(change)) {
        let Some(verdict) = change.transition.as_ref().and_then(|transition| transition.verdict) else { continue };
        let isp = change.key.isp;
        let answering: Vec<&(Subject, SubjectState)> =
            sets.iter().filter(|(set, known)| acts_on(policy, board, (set, known), isp, &verdict, now)).collect();
        // Of a sender who uses one set after another it is the identity that is bad.
        let [(set, answering)] = answering[..] else { continue };
        let known = subject_state.breaker(isp).breaker;
        let (since, excluded) = match isp {
            Some(isp) => (since_of_isp(subject_state, board, isp), Vec::new()),
            None => (known.since, left_out(policy, subject_state, board, &steps)),
        };
        // Of a set, the minutes of the hour in which the identity was re-armed may not be known.
        let whole_hours = |since: Minute| if since < edge(now) { since.plus(HOUR - 1).hour() } else { since };
        let excluded: Vec<ExcludedIsp> =
            excluded.into_iter().map(|known| ExcludedIsp { before: whole_hours(known.before), ..known }).collect();
        let since = ArmedSince { pause: whole_hours(since.pause), throttle: whole_hours(since.throttle) };
        let mut rest = subject_state.timeline.without(&answering.timeline);
        let mails = judge::sum(&mut rest, isp, &excluded, judged_from(now)).tally(verdict.metric);
        let judge = Judge::new(policy, isp, &excluded, now);
        let judgement = judge.judgement(&mut rest, since);
        let is_good = judgement.throttle.is_none() && judgement.pause.is_none() && !judge.shows_harm(&mut rest, since);
        if mails.population < LEAST_REST || !is_good {
            continue;
        }
        // It counts among the senders that an ISP's own trouble hits.
        let troubled = isp.filter(|_| known.state == State::Closed).map(|_| now);
        let state = known.state.name();
        change.transition = change.transition.take().map(|transition| Transition {
            from: state,
            to: state,
            level: None,
            cause: Cause::Pardon,
            verdict: None,
            reason: format!(
                "the harm is that of {set}; {} mails by its other configuration sets are good: it is not blamed, and only mail \
                 accepted from now on counts",
                mails.population
            ),
            shares_mail_with: BTreeSet::from([set.clone()]),
            ..transition
        });
        change.next = BreakerState { since: ArmedSince::both(now.next_minute()), troubled, ..known };
        change.places = None;
        change.controls.clear();
    }
}

/// Whether a set acts on the harm of a verdict about its identity: it is stopped or slowed, or was since, or is about to be.
fn acts_on(
    policy: &Policy,
    board: &Board,
    (set, known): (&Subject, &SubjectState),
    isp: Option<Isp>,
    verdict: &Verdict,
    now: Now,
) -> bool {
    let acted = |known: &BreakerState| {
        known.state != State::Closed || known.worsened.is_some_and(|at| at.minute() >= verdict.from)
    };
    let mut keys = known.breakers.iter().filter(|(known, _)| known.is_none() || **known == isp || isp.is_none());
    if keys.any(|(_, known)| acted(&known.breaker)) {
        return true;
    }
    let isps = isp.map_or_else(|| known.timeline.isps().collect(), |isp| BTreeSet::from([isp]));
    assess(policy, &mut known.clone(), board, set, &isps, now).iter().any(limits_by_a_verdict)
}

/// Identities of a configuration set whose other configuration sets are looked up.
const MAX_IDENTITIES: usize = 5;

/// The relatives of a subject: the subjects that it shares mail with, and the configuration sets that share an identity
/// with it.
async fn relatives<R: Reputation>(
    store: &mut R,
    shares_mail_with: BTreeSet<Subject>,
) -> Result<BTreeMap<Subject, Relative>, PortError> {
    let mut related = store.relatives(&shares_mail_with).await?;
    let identities = related.iter().filter(|(subject, _)| matches!(subject, Subject::Identity(_)));
    let of_identities =
        identities.take(MAX_IDENTITIES).flat_map(|(_, identity)| identity.shares_mail_with.iter().cloned());
    let sets: BTreeSet<Subject> = of_identities.filter(|set| !related.contains_key(set)).collect();
    if !sets.is_empty() {
        related.extend(store.relatives(&sets).await?);
    }
    Ok(related)
}

/// Adds to each report the subjects that may report the same harm. A subject without a switch does not report harm that
/// one of its configuration sets answers for.
fn note_related(
    policy: &Policy,
    subject_state: &SubjectState,
    related: &BTreeMap<Subject, Relative>,
    changes: &mut Vec<Change>,
    now: Now,
) {
    let is_own_set = |relative: &Subject| {
        let is_set = matches!(relative, Subject::ConfigurationSet(_)) && can_be_stopped(policy, relative);
        is_set && subject_state.shares_mail_with.contains(relative)
    };
    let sets: Vec<(&Subject, &Relative)> = related.iter().filter(|(relative, _)| is_own_set(relative)).collect();
    changes.retain_mut(|change| {
        let Some(transition) = change.transition.as_mut().filter(|transition| transition.level.is_some()) else {
            return true;
        };
        transition.shares_mail_with =
            related.keys().filter(|relative| **relative != change.key.subject).cloned().collect();
        let Some(verdict) = transition.verdict.filter(|_| !can_be_stopped(policy, &change.key.subject)) else {
            return true;
        };
        if !sets.iter().any(|(_, set)| answers_for(&set.breaker, &verdict, now)) {
            if transition.key.isp.is_none() {
                transition.reason.push_str(&spread_over(&sets));
            }
            return true;
        }
        let known = subject_state.breaker(change.key.isp).breaker;
        change.transition = None;
        change.next.warned = known.warned;
        change.next != known
    });
}

/// Whether a configuration set answers for the harm of a verdict: a verdict of its own, about the same metric as far as
/// that is known, cut or stopped its mail since; or, if the verdict is only a warning, people were warned about the
/// set. A set that a person stopped answers for nothing.
fn answers_for(set: &BreakerState, verdict: &Verdict, now: Now) -> bool {
    let since = |at: Option<Now>| at.is_some_and(|at| at.minute() >= verdict.from);
    // The metric of a cut is not stored.
    let was_stopped_for_another =
        since(set.tripped) && set.tripped_by != Some(verdict.metric) && set.tripped == set.worsened;
    (since(set.worsened) && !was_stopped_for_another)
        || (verdict.level == Level::Warn && set.was_warned(verdict.metric, now))
}

/// The addition to the reason of a warning about a subject without a switch: which configuration sets its mail uses.
fn spread_over(sets: &[(&Subject, &Relative)]) -> String {
    let names: Vec<String> = sets.iter().map(|(set, _)| set.to_string()).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => format!("; its mail goes by {only}"),
        // No more sets are remembered, so one of the others may have shown harm.
        several if several.len() >= MAX_SHARING => {
            format!("; its mail goes by {MAX_SHARING} configuration sets and more")
        }
        several => {
            format!("; it spans {}, none of which has shown harm by itself", listed(several))
        }
    }
}

/// The first of these names, and how many more there are.
fn listed(names: &[String]) -> String {
    let more = match names.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names[..names.len().min(MAX_NAMED)].join(", "))
}

/// Whether a subject's own mail can be stopped: SES has a switch for configuration sets, tenants and the account; the
/// gate can stop any subject. Without a gate an identity or a tag is only evidence about configuration sets.
pub fn can_be_stopped(policy: &Policy, subject: &Subject) -> bool {
    policy.gate_in_use || stops_at_ses(&Key { subject: subject.clone(), isp: None })
}

/// Whether to check at once if an ISP is in trouble of its own, when one more sender turned bad there after `before`
/// others. If very many turn bad, most of them wait for the next minute, because each check reads them all.
fn looks_at_once(before: usize) -> bool {
    before < 16 || before.is_power_of_two()
}

/// Judges the account as SES sees it, and ends the holds of ISPs whose time is over.
///
/// # Errors
///
/// As [`evaluate`].
pub async fn evaluate_account<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    let mut judgement = Judgement::default();
    let mut near_a_pause = false;
    for forecast in judge::forecast(policy, store.account(now).await?.into_iter(), now) {
        near_a_pause |= forecast.metric == Metric::HardBounce && is_near_a_pause(policy, forecast.tally);
        judgement.consider(forecast.verdict);
    }
    decide_and_save(policy, store, &Subject::Account, now, |subject_state, _| {
        let mut changes = settle_incidents(policy, subject_state, near_a_pause, now);
        let known = subject_state.breaker(None);
        let key = Key { subject: Subject::Account, isp: None };
        let standing = ActionLimits {
            cap: cap(policy, &key, subject_state),
            may_pause: true,
            holds_shares: policy.holds_shares(&key.subject),
        };
        let step = breaker::step(&policy.breaker, standing, &known.breaker, Input::Judged(&judgement), now);
        let shadow = is_shadow(policy, subject_state, &key);
        changes.extend(change(key, &known, step, shadow, now));
        changes
    })
    .await
}

/// Scheduled evaluation: checks whether ISPs are in trouble of their own; evaluates every subject with a breaker that
/// is due by now; and evaluates subjects whose pause was withheld, the most harmful first, because a place in the
/// budget of pauses can become free without mail of theirs.
///
/// # Errors
///
/// As [`evaluate`].
pub async fn tick<R: Reputation>(policy: &Policy, store: &mut R, now: Now) -> Result<Vec<Change>, PortError> {
    let mut failed = Failed::default();
    let saved = tick_while(policy, store, now, &mut || true, &mut failed).await?;
    failed.subjects.into_iter().next().map_or(Ok(saved), |(_, error)| Err(error))
}

/// The same, while `in_time` returns true: the next minute does the rest. Due breakers and withheld pauses come first,
/// so that checking many senders of an ISP does not delay their recovery. A subject that cannot be judged does not stop
/// the others, and is added to `failed`.
///
/// # Errors
///
/// As [`evaluate`], for errors that concern every subject.
pub async fn tick_while<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    now: Now,
    in_time: &mut impl FnMut() -> bool,
    failed: &mut Failed,
) -> Result<Vec<Change>, PortError> {
    let board = store.board(now).await?;
    let mut subjects: BTreeMap<Subject, BTreeSet<Isp>> = BTreeMap::new();
    for (key, known) in &board.unsettled {
        let is_due = breaker::due(&policy.breaker, known, now).is_some_and(|due| due <= now);
        if is_due || waits_for_a_policy_that_acts(policy, key, known) {
            subjects.entry(key.subject.clone()).or_default().extend(key.isp);
        }
    }
    // While bounces are excused, the account is judged each time, and not once an hour.
    let excuses = !policy.gate_in_use && excuses_senders(policy) && board.isps.values().any(contains);
    if excuses {
        subjects.entry(Subject::Account).or_default();
    }
    let withheld = worst_first(policy, store, &board, now, in_time).await?;
    let withheld: Vec<(Subject, BTreeSet<Isp>)> =
        withheld.into_iter().map(|subject| (subject.clone(), subjects.remove(subject).unwrap_or_default())).collect();
    drop(board);
    let mut saved = Vec::new();
    for (subject, isps) in subjects.into_iter().chain(withheld) {
        if !in_time() {
            return Ok(saved);
        }
        let judged = if subject == Subject::Account {
            evaluate_account(policy, store, now).await
        } else {
            evaluate(policy, store, &subject, &isps, now).await
        };
        saved.extend(failed.unless(&subject, judged)?.unwrap_or_default());
    }
    let troubled: BTreeSet<Isp> = store.board(now).await?.unsettled.keys().filter_map(|key| key.isp).collect();
    for isp in troubled {
        let looked = suspect(policy, store, isp, now, in_time).await;
        saved.extend(failed.unless(&Subject::Account, looked)?.unwrap_or_default());
    }
    Ok(saved)
}

/// Subjects that could not be judged, although others could, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// Each subject with the error of the store. Errors about an ISP are listed under the account.
    pub subjects: Vec<(Subject, PortError)>,
    /// How many retryable errors occurred in a row.
    in_a_row: usize,
}

/// After this number of retryable errors in a row, the next subject is assumed to fail, too.
const MAX_IN_A_ROW: usize = 3;

impl Failed {
    /// The answer; or `None` if an error concerns only this subject, which is then added.
    ///
    /// # Errors
    ///
    /// The error, if it concerns all subjects.
    pub(crate) fn unless<T>(
        &mut self,
        subject: &Subject,
        answer: Result<T, PortError>,
    ) -> Result<Option<T>, PortError> {
        let error = match answer {
            Ok(answer) => {
                self.in_a_row = 0;
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        match error.disposition {
            Disposition::Halt => return Err(error),
            Disposition::Retry => {
                self.in_a_row += 1;
                if self.in_a_row >= MAX_IN_A_ROW {
                    return Err(error);
                }
            }
            Disposition::Quarantine => {}
        }
        self.subjects.push((subject.clone(), error));
        Ok(None)
    }
}

/// The subjects whose pause was withheld and for which there is something to do by now, those with the most harm first,
/// so that they get free places first. Stops when there is no time left.
async fn worst_first<'a, R: Reputation>(
    policy: &Policy,
    store: &mut R,
    board: &'a Board,
    now: Now,
    in_time: &mut impl FnMut() -> bool,
) -> Result<Vec<&'a Subject>, PortError> {
    let withheld = board.unsettled.iter().filter(|(key, known)| key.isp.is_none() && known.withheld);
    let mut ranked: Vec<(Reverse<Harm>, &Subject)> = Vec::new();
    for (key, _) in withheld {
        if !in_time() {
            break;
        }
        // A subject that cannot be read comes last, and its error is reported when it is evaluated.
        let Ok(subject_state) = store.subject_state(&key.subject, now).await else {
            ranked.push((Reverse(Harm::default()), &key.subject));
            continue;
        };
        let changes = assess(policy, subject_state, board, &key.subject, &BTreeSet::new(), now);
        let verdict = changes.iter().filter_map(|change| change.transition.as_ref()?.verdict).next();
        let harm = verdict.map(|verdict| Harm::of(policy, &verdict)).unwrap_or_default();
        if !changes.is_empty() {
            ranked.push((Reverse(harm), &key.subject));
        }
    }
    ranked.sort_unstable();
    Ok(ranked.into_iter().map(|(_, subject)| subject).collect())
}

/// Applies a person's command, or another input that is not about counters, to one key. A breaker that cannot be read
/// is not changed.
///
/// # Errors
///
/// As [`evaluate`].
pub async fn apply_input<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    key: &Key,
    input: Input<'_>,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    decide_and_save(policy, store, &key.subject, now, |subject_state, board| {
        let known = subject_state.breaker(key.isp);
        let standing = ActionLimits {
            cap: cap(policy, key, subject_state),
            may_pause: true,
            holds_shares: policy.holds_shares(&key.subject),
        };
        let step = breaker::step(&policy.breaker, standing, &known.breaker, input, now);
        let change = change(key.clone(), &known, step, is_shadow(policy, subject_state, key), now);
        change.map(|change| in_budget(&board.pauses, &known.breaker, change, None)).into_iter().collect()
    })
    .await
}

async fn decide_and_save<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    subject: &Subject,
    now: Now,
    mut decide: impl FnMut(&mut SubjectState, &Board) -> Vec<Change>,
) -> Result<Vec<Change>, PortError> {
    for _ in 0..MAX_RACES {
        // Read each time: others may have taken places in the budget of pauses.
        let board = store.board(now).await?;
        let subject_state = store.subject_state(subject, now).await?;
        let mut changes = decide(subject_state, &board);
        drop(board);
        changes.retain(|change| !subject_state.unreadable.contains(&change.key.isp));
        for transition in changes.iter_mut().filter_map(|change| change.transition.as_mut()) {
            transition.gate = policy.gate_in_use;
        }
        if changes.is_empty() || store.save(&changes).await? == Saved::Saved {
            return Ok(changes);
        }
    }
    Err(PortError {
        operation: "saving breakers",
        reason: format!("{subject} was changed by others {MAX_RACES} times in a row"),
        disposition: Disposition::Retry,
    })
}

/// The changes that the counters of one subject call for.
pub fn assess(
    policy: &Policy,
    subject_state: &mut SubjectState,
    board: &Board,
    subject: &Subject,
    isps: &BTreeSet<Isp>,
    now: Now,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let whole = subject_state.breaker(None);
    let mut steps: BTreeMap<Isp, BreakerState> = BTreeMap::new();
    if !whole.breaker.state.is_contained() {
        for isp in isps {
            let known = subject_state.breaker(Some(*isp));
            let key = Key { subject: subject.clone(), isp: Some(*isp) };
            let excused = board.isps.get(isp).is_some_and(|known| contains(known) && excuses_senders(policy));
            if (excused && policy.gate_in_use) || subject_state.unreadable.contains(&key.isp) {
                continue;
            }
            let since = since_of_isp(subject_state, board, *isp);
            let judge =
                Judge::new(policy, Some(*isp), &[], now).testing(breaker::test_of(&policy.breaker, &known.breaker));
            let judgement = judge.judgement(&mut subject_state.timeline, since);
            let standing = ActionLimits {
                cap: cap(policy, &key, subject_state),
                may_pause: true,
                holds_shares: policy.holds_shares(subject),
            };
            let mut step = breaker::step(&policy.breaker, standing, &known.breaker, Input::Judged(&judgement), now);
            if policy.gate_in_use {
                // That of an identity whose harm was left to its sets.
                breaker::forget_trouble(&policy.breaker, &mut step.next, now);
                step.next.troubled = step.next.troubled.filter(|_| step.next.state == State::Closed);
            } else if excused {
                // Mail continues, and so do warnings; harm that is not blamed here is not new trouble.
                breaker::forget_trouble(&policy.breaker, &mut step.next, now);
            } else {
                breaker::note_trouble(&policy.breaker, &mut step.next, &judgement, now);
            }
            steps.insert(*isp, step.next.clone());
            let shadow = is_shadow(policy, subject_state, &key);
            changes.extend(change(key, &known, step, shadow, now));
        }
    }
    let left_out = left_out(policy, subject_state, board, &steps);
    let since = whole.breaker.since;
    let judge = Judge::new(policy, None, &left_out, now).testing(breaker::test_of(&policy.breaker, &whole.breaker));
    let mut judgement = judge.judgement(&mut subject_state.timeline, since);
    if policy.gate_in_use && (judgement.throttle.is_some() || judgement.pause.is_some()) {
        // Some of the ISPs may be in trouble, though not contained yet. If the others show no significant harm, the
        // harm belongs to those ISPs, and their own breakers handle it.
        let troubled = leave_out_troubled(subject_state, &steps, &left_out);
        if troubled != left_out && !others_are_bad(policy, subject_state, &troubled, since, now) {
            (judgement.throttle, judgement.pause) = (None, None);
        }
    }
    let key = Key { subject: subject.clone(), isp: None };
    let takes_a_place = matches!(subject, Subject::ConfigurationSet(_)) && !subject.is_drill();
    let pauses_a_set = judgement.pause.or(judgement.probe.relapse).filter(|_| takes_a_place);
    let admission = pauses_a_set.map(|verdict| (verdict, budget::admit(policy, &board.pauses, subject, &verdict)));
    let may_pause = !matches!(admission, Some((_, Admission::Full(_))));
    let standing =
        ActionLimits { cap: cap(policy, &key, subject_state), may_pause, holds_shares: policy.holds_shares(subject) };
    let mut step = breaker::step(&policy.breaker, standing, &whole.breaker, Input::Judged(&judgement), now);
    let shadow = is_shadow(policy, subject_state, &key);
    let news = step.news.as_mut().filter(|news| news.level == Some(Level::Pause));
    if let (Some(news), Some(admitted)) = (news, &admission) {
        news.reason.push_str(&because_of_budget(policy, &board.pauses, &key, admitted, whole.breaker.withheld, shadow));
    }
    let taken = match admission {
        Some((verdict, Admission::Free(place))) => {
            Some((place, Pause { set: subject.clone(), at: now, harm: Harm::of(policy, &verdict) }))
        }
        Some((_, Admission::Overwhelming | Admission::Full(_))) | None => None,
    };
    let change = change(key, &whole, step, shadow, now);
    changes.extend(change.map(|change| in_budget(&board.pauses, &whole.breaker, change, taken)));
    changes
}

/// Adds to a change its effect on the budget of pauses, if it is about a subject as a whole. A pause by a verdict holds
/// the place `taken`, or none if its evidence is overwhelming. A pause that is undone holds none: a person resumed the
/// set, it was pardoned, or the policy protects it now. In shadow nothing is paused, so no place is taken; a person's
/// pauses take none either.
fn in_budget(pauses: &Pauses, known: &BreakerState, mut change: Change, taken: Option<(Place, Pause)>) -> Change {
    let pauses_it = change.controls.iter().any(|control| control.kind == ControlKind::PauseConfigurationSet);
    let by_verdict = change.transition.as_ref().is_some_and(|transition| transition.level == Some(Level::Pause));
    let is_undone = known.state.is_contained() && change.next.state == State::Closed;
    if change.key.isp.is_some() || !(is_undone || (pauses_it && by_verdict)) {
        return change;
    }
    let taken = taken.filter(|_| !is_undone);
    let kept = taken.as_ref().map(|(place, _)| *place);
    let own = budget::held_by(pauses, &change.key.subject);
    let given_back: Vec<Place> = own.filter(|place| Some(*place) != kept).collect();
    if taken.is_some() || !given_back.is_empty() {
        change.places = Some(PlaceChange { taken, given_back });
    }
    change
}

/// Most sets that a reason names; of the rest it gives the number.
const MAX_NAMED: usize = 5;

/// The addition of the budget of pauses to the reason of a pause, or of a withheld pause.
fn because_of_budget(
    policy: &Policy,
    pauses: &Pauses,
    key: &Key,
    (verdict, admission): &(Verdict, Admission),
    was_withheld: bool,
    shadow: bool,
) -> String {
    let Key { subject, .. } = key;
    let waited = if was_withheld { "; its stop was withheld until now" } else { "" };
    match admission {
        Admission::Free(_) => waited.to_owned(),
        Admission::Overwhelming => {
            let magnitude = Harm::of(policy, verdict).magnitude();
            let full = budget::is_full(policy, pauses, subject, magnitude);
            let why = if full { "; evidence as strong as this is not bound by the hour's limit on stops" } else { "" };
            format!("{waited}{why}")
        }
        Admission::Full(magnitude) => {
            let holders = budget::holders(pauses, *magnitude).filter(|other| *other != subject);
            let holders: Vec<String> = holders.map(Subject::to_string).collect();
            let named = listed(&holders);
            let by_hand = if policy.gate_in_use
                || shadow
                || control(key, Effect::Stop) != Some(ControlKind::PauseConfigurationSet)
            {
                String::new()
            } else {
                let target = shell_quote(&subject.to_string());
                format!(". Without a gate the quota holds nothing back: to stop it now, ses-breaker stop {target}")
            };
            format!(
                "; the places for harm of {magnitude} clean mails are taken by {named}. It is judged again each \
                 minute{by_hand}"
            )
        }
    }
}

/// From when on mail counts for a subject at one ISP: the latest of its own re-arming, that of the subject as a whole,
/// and the end of the ISP's own trouble.
pub fn since_of_isp(subject_state: &SubjectState, board: &Board, isp: Isp) -> ArmedSince {
    let own = subject_state.breakers.get(&Some(isp)).map(|known| known.breaker.since).unwrap_or_default();
    let whole = subject_state.breakers.get(&None).map(|known| known.breaker.since.pause).unwrap_or_default();
    let incident = board.isps.get(&isp).map(|known| known.since.pause).unwrap_or_default();
    own.max(ArmedSince::both(whole.max(incident)))
}

/// The ISPs whose mail does not count against a subject as a whole. `steps` are breakers that are about to be saved.
pub fn left_out(
    policy: &Policy,
    subject_state: &SubjectState,
    board: &Board,
    steps: &BTreeMap<Isp, BreakerState>,
) -> Vec<ExcludedIsp> {
    let whole = subject_state.breakers.get(&None).map(|known| known.breaker.since.pause).unwrap_or_default();
    let mut left_out = Vec::new();
    // Fast path: usually nothing is excluded.
    let calm = board.isps.is_empty() && steps.is_empty() && subject_state.breakers.keys().all(Option::is_none);
    if calm {
        return left_out;
    }
    for isp in subject_state.timeline.isps() {
        let mut before = Minute(0);
        let mut leave_out = |known: &BreakerState| {
            before = before.max(if contains(known) { Minute(u32::MAX) } else { known.since.pause });
        };
        if let Some(known) = board.isps.get(&isp).filter(|_| excuses_senders(policy)) {
            leave_out(known);
        }
        let own = steps.get(&isp).or_else(|| subject_state.breakers.get(&Some(isp)).map(|known| &known.breaker));
        if let Some(known) = own.filter(|_| policy.gate_in_use) {
            leave_out(known);
        }
        if before > whole {
            left_out.push(ExcludedIsp { isp, before });
        }
    }
    left_out
}

/// What is excluded already, and all mail to ISPs whose breakers are not closed. `steps` are breakers that are about to
/// be saved.
fn leave_out_troubled(
    subject_state: &SubjectState,
    steps: &BTreeMap<Isp, BreakerState>,
    left_out: &[ExcludedIsp],
) -> Vec<ExcludedIsp> {
    let is_troubled = |isp: Isp| {
        let own = steps.get(&isp).or_else(|| subject_state.breakers.get(&Some(isp)).map(|known| &known.breaker));
        own.is_some_and(|known| known.state != State::Closed)
    };
    let leave_out = |isp: Isp| {
        let known = left_out.iter().find(|known| known.isp == isp).copied();
        if is_troubled(isp) { Some(ExcludedIsp { isp, before: Minute(u32::MAX) }) } else { known }
    };
    subject_state.timeline.isps().filter_map(leave_out).collect()
}

/// Whether a subject is bad at the ISPs that are not excluded: by a verdict, or approaching one.
fn others_are_bad(
    policy: &Policy,
    subject_state: &mut SubjectState,
    left_out: &[ExcludedIsp],
    since: ArmedSince,
    now: Now,
) -> bool {
    let others = Judge::new(policy, None, left_out, now).judgement(&mut subject_state.timeline, since);
    others.throttle.is_some()
        || others.pause.is_some()
        || Judge::new(policy, None, left_out, now).shows_harm(&mut subject_state.timeline, since)
}

/// Steps the breakers of the ISPs themselves: an ISP is held until its time is over, then judged by the senders' own
/// breakers again. `near_a_pause`: whether SES may pause the account for its hard bounces, which ends the excuse
/// without a gate at once.
fn settle_incidents(policy: &Policy, subject_state: &SubjectState, near_a_pause: bool, now: Now) -> Vec<Change> {
    let over = subject_state.breakers.iter().filter_map(|(isp, known)| {
        let State::Open { until: Some(until), .. } = known.breaker.state else { return None };
        let isp = (*isp)?;
        let cut_short = near_a_pause && !policy.gate_in_use && excuses_senders(policy);
        if now < until && !cut_short {
            return None;
        }
        let next =
            BreakerState { state: State::Closed, since: ArmedSince::both(now.next_minute()), ..known.breaker.clone() };
        let again = "each sender is judged at this ISP again, by mail accepted from now on";
        let line = Percent(policy.forecast.hard_bounce_pause);
        let reason = match (policy.gate_in_use, policy.incident.without_gate) {
            (true, _) => format!("the hold is over: {again}"),
            (false, WithoutGate::Warn) if now < until => {
                format!("the account is at {line} or more, where SES may pause it, the ISP's fault or not: {again}")
            }
            (false, WithoutGate::Warn) => format!("the time of its own trouble is over: {again}"),
            (false, WithoutGate::Pause) => "the time of its own trouble is over".to_owned(),
        };
        let news = breaker::Announcement { level: None, cause: Cause::Time, verdict: None, reason };
        let step = Step { next, effects: [Effect::Resume].into_iter().collect(), news: Some(news) };
        let key = Key { subject: Subject::Account, isp: Some(isp) };
        let shadow = is_shadow(policy, subject_state, &key);
        change(key, known, step, shadow, now).map(|change| as_reported(policy, change))
    });
    over.collect()
}

/// Checks whether an ISP at which senders turned bad is in trouble of its own; if so, holds it and pardons its senders.
/// If `in_time` returns false, it decides nothing or pardons only some; the next check does the rest.
async fn suspect<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    isp: Isp,
    now: Now,
    in_time: &mut impl FnMut() -> bool,
) -> Result<Vec<Change>, PortError> {
    // `other` is not one provider, so it has no trouble of its own.
    if isp == Isp::OTHER {
        return Ok(Vec::new());
    }
    let board = store.board(now).await?;
    let mut saved = Vec::new();
    if !is_in_trouble(&board, isp) {
        if !is_of_its_own(policy, store, &board, isp, now, in_time).await? {
            return Ok(saved);
        }
        saved = hold(policy, store, isp, now).await?;
        // A person's command about the ISP stays in effect.
        if saved.is_empty() || saved.iter().any(|change| change.next.overridden == Override::Shadow) {
            return Ok(saved);
        }
    }
    if !excuses_senders(policy) {
        return Ok(saved);
    }
    let board = store.board(now).await?;
    for subject in may_be_pardoned(policy, &board, isp, now) {
        if !in_time() {
            break;
        }
        saved.extend(pardon(policy, store, &board, subject, isp, now).await?);
    }
    Ok(saved)
}

/// Whether an ISP is known to be in trouble of its own, from counters and not from a person's command.
fn is_in_trouble(board: &Board, isp: Isp) -> bool {
    board
        .isps
        .get(&isp)
        .is_some_and(|known| known.overridden == Override::None && matches!(known.state, State::Open { .. }))
}

/// The senders that turned bad at an ISP within the window. Harm from before the end of its last trouble was already
/// acted on.
fn hit<'a>(policy: &Policy, board: &'a Board, isp: Isp, now: Now) -> impl Iterator<Item = &'a Subject> {
    let over = board.isps.get(&isp).map(|known| known.since.pause).unwrap_or_default();
    let is_sender = |subject: &Subject| *subject != Subject::Account && !subject.is_drill();
    let at_isp = board.unsettled.iter().filter(move |(key, _)| key.isp == Some(isp) && is_sender(&key.subject));
    let dated = at_isp.filter_map(|(key, known)| Some((&key.subject, turned_bad(known)?)));
    dated.filter(move |(_, at)| at.minute() >= over && is_recent(policy, *at, now)).map(|(subject, _)| subject)
}

/// The senders that may have been stopped or cut for an ISP's own trouble: at that ISP if a gate is in use, or as a
/// whole. A few bounces elsewhere may have stopped a sender as a whole before it turned bad at the ISP.
fn may_be_pardoned<'a>(policy: &Policy, board: &'a Board, isp: Isp, now: Now) -> BTreeSet<&'a Subject> {
    let is_blamed = |(key, known): &(&'a Key, &'a BreakerState)| {
        let stopped = known.state != State::Closed && known.worsened.is_some_and(|at| is_recent(policy, at, now));
        key.isp.is_none() && key.subject != Subject::Account && stopped
    };
    let wholes = board.unsettled.iter().filter(is_blamed).map(|(key, _)| &key.subject);
    wholes.chain(hit(policy, board, isp, now).filter(|_| policy.gate_in_use)).collect()
}

/// Up to when harm at each ISP was already acted on, as seen from one of them.
fn answered_for(board: &Board, isp: Isp) -> Vec<ExcludedIsp> {
    let end = |(known, breaker): (&Isp, &BreakerState)| {
        let goes_on = *known != isp && contains(breaker);
        ExcludedIsp { isp: *known, before: if goes_on { Minute(u32::MAX) } else { breaker.since.pause } }
    };
    board.isps.iter().map(end).collect()
}

/// Whether the senders that turned bad at an ISP were hit by its own trouble. Reads only as much as needed: first the
/// board, then the senders that were hit, then all active senders.
async fn is_of_its_own<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    board: &Board,
    isp: Isp,
    now: Now,
    in_time: &mut impl FnMut() -> bool,
) -> Result<bool, PortError> {
    if !incident::are_enough(&policy.incident, hit(policy, board, isp, now)) {
        return Ok(false);
    }
    let answered = answered_for(board, isp);
    let scope = Scope { isp, begins: incident::begins(&policy.incident, now, now), answered: &answered };
    let mut known = Vec::new();
    for subject in hit(policy, board, isp, now) {
        if !in_time() {
            return Ok(false);
        }
        let subject_state = store.subject_state(subject, now).await?;
        known.push((subject.clone(), incident::conduct(policy, &subject_state.timeline, &scope, now)));
    }
    if !incident::have_witnesses(&known) {
        return Ok(false);
    }
    let active = store.active(scope.begins, now).await?;
    Ok(incident::suspected(policy, &scope, &known, &active))
}

/// Holds an ISP; or, without a gate, records and reports that it is in trouble.
async fn hold<R: Reputation>(policy: &Policy, store: &mut R, isp: Isp, now: Now) -> Result<Vec<Change>, PortError> {
    let held = Key { subject: Subject::Account, isp: Some(isp) };
    let unheld = if policy.gate_in_use {
        None
    } else {
        let account = account_bounces(policy, store, now).await?;
        if excuses_senders(policy) && is_near_a_pause(policy, account) {
            return Ok(Vec::new());
        }
        Some(unheld(policy, account))
    };
    decide_and_save(policy, store, &Subject::Account, now, |subject_state, _| {
        let known = subject_state.breaker(Some(isp));
        let standing = ActionLimits { cap: Level::Pause, may_pause: true, holds_shares: true };
        // The hold has its own length, and grows with repetition like any Open.
        let hold = policy.incident.hold_minutes;
        // Without a gate the excuse does not get longer the next time.
        let cap = if policy.gate_in_use { policy.breaker.open_cap_minutes.max(hold) } else { hold };
        let lasting =
            reputation::policy::Breaker { open_minutes: hold, open_cap_minutes: cap, ..policy.breaker.clone() };
        let mut step = breaker::step(&lasting, standing, &known.breaker, Input::Incident, now);
        if let (Some(news), Some(reason)) = (&mut step.news, &unheld) {
            (news.level, news.reason) = (Some(Level::Warn), reason.clone());
        }
        let shadow = is_shadow(policy, subject_state, &held);
        change(held.clone(), &known, step, shadow, now).map(|change| as_reported(policy, change)).into_iter().collect()
    })
    .await
}

/// A change of an ISP itself, as it is reported to people: without a gate nothing is stopped there, so nothing opens or
/// closes.
fn as_reported(policy: &Policy, mut change: Change) -> Change {
    if let Some(transition) = change.transition.as_mut().filter(|_| !policy.gate_in_use) {
        (transition.from, transition.to) = (StateName::Closed, StateName::Closed);
        transition.shadow = policy.is_shadow(&change.key.subject);
    }
    change
}

/// When a sender last turned bad at an ISP, if it has not recovered.
fn turned_bad(known: &BreakerState) -> Option<Now> {
    if known.state == State::Closed { known.troubled } else { known.worsened }
}

/// Whether the policy excuses senders for an ISP's own trouble.
fn excuses_senders(policy: &Policy) -> bool {
    policy.gate_in_use || policy.incident.without_gate == WithoutGate::Warn
}

/// The hard bounces of the account as SES sees them.
async fn account_bounces<R: Reputation>(policy: &Policy, store: &mut R, now: Now) -> Result<Tally, PortError> {
    let forecast = judge::forecast(policy, store.account(now).await?.into_iter(), now);
    let bounces = forecast.iter().find(|forecast| forecast.metric == Metric::HardBounce);
    Ok(bounces.map(|known| known.tally).unwrap_or_default())
}

/// Whether SES may pause the account for these hard bounces. Then no sender is excused, because SES does not ask whose
/// fault they are.
fn is_near_a_pause(policy: &Policy, account: Tally) -> bool {
    let enough = account.population >= policy.forecast.min_population && account.bad >= policy.forecast.min_bad;
    enough && account.rate().is_some_and(|rate| rate >= policy.forecast.hard_bounce_pause)
}

/// The report to people about an ISP's own trouble, without a gate to hold its mail.
fn unheld(policy: &Policy, account: Tally) -> String {
    let stands = account.rate().map_or_else(String::new, |rate| {
        let (rate, Tally { population, bad }) = (Percent(rate), account);
        format!(": the account is at {rate}, {bad} of its last {population} mails, as SES would see it")
    });
    let then = match policy.incident.without_gate {
        WithoutGate::Warn => {
            let line = Percent(policy.forecast.hard_bounce_pause);
            format!("bounces there stop no sender for now, until the account is at {line}")
        }
        WithoutGate::Pause => "senders are stopped for it as for any harm, as incident.without_gate says".to_owned(),
    };
    format!(
        "several unrelated senders turned bad at this ISP at the same time: it looks like its own trouble. Without a gate \
         its mail goes on; {then}. SES counts its bounces all the same{stands}"
    )
}

/// Whether something turned bad recently enough to be part of an incident.
fn is_recent(policy: &Policy, worsened: Now, now: Now) -> bool {
    now.minutes_since(worsened) <= policy.incident.window_minutes
}

/// Pardons a sender for harm at an ISP in trouble of its own, at this ISP and as a whole in one save. A sender that is
/// bad for reasons of its own keeps its verdicts.
async fn pardon<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    board: &Board,
    subject: &Subject,
    isp: Isp,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    let answered = answered_for(board, isp);
    let found = board.isps.get(&isp).and_then(|known| known.worsened).unwrap_or(now);
    let scope = Scope { isp, begins: incident::begins(&policy.incident, found, now), answered: &answered };
    decide_and_save(policy, store, subject, now, |subject_state, current| {
        if incident::conduct(policy, &subject_state.timeline, &scope, now) == Conduct::Culprit {
            return Vec::new();
        }
        let mut changes = Vec::new();
        if subject_state.timeline.series(Some(isp)).is_some() && is_blamed_for(policy, subject_state, board, now) {
            changes.extend(pardoned(policy, subject_state, current, Key { subject: subject.clone(), isp: None }, now));
        }
        changes.extend(pardoned(policy, subject_state, current, Key { subject: subject.clone(), isp: Some(isp) }, now));
        changes
    })
    .await
}

fn pardoned(policy: &Policy, subject_state: &SubjectState, board: &Board, key: Key, now: Now) -> Option<Change> {
    let known = subject_state.breaker(key.isp);
    let standing = ActionLimits {
        cap: cap(policy, &key, subject_state),
        may_pause: true,
        holds_shares: policy.holds_shares(&key.subject),
    };
    let step = breaker::step(&policy.breaker, standing, &known.breaker, Input::Pardon, now);
    let shadow = is_shadow(policy, subject_state, &key);
    let change = change(key, &known, step, shadow, now)?;
    Some(in_budget(&board.pauses, &known.breaker, change, None))
}

/// Whether a subject was recently stopped or throttled as a whole only because of ISPs in trouble of their own: without
/// these ISPs no harm remains.
fn is_blamed_for(policy: &Policy, subject_state: &mut SubjectState, board: &Board, now: Now) -> bool {
    let known = subject_state.breaker(None).breaker;
    let recent = known.worsened.is_some_and(|at| is_recent(policy, at, now));
    // A tested subject has no evidence in its favour yet, only that it was stopped before.
    if !recent || matches!(known.state, State::Closed | State::Probing { .. } | State::Open { tested: true, .. }) {
        return false;
    }
    // The start of the mail for cuts has moved with the cut that may have been wrong.
    let since = ArmedSince { throttle: known.since.pause, ..known.since };
    let left_out = left_out(policy, subject_state, board, &BTreeMap::new());
    let judgement = Judge::new(policy, None, &left_out, now).judgement(&mut subject_state.timeline, since);
    judgement.pause.is_none() && judgement.throttle.is_none()
}

/// The strongest action that is possible for a key.
fn cap(policy: &Policy, key: &Key, subject_state: &SubjectState) -> Level {
    let protected = subject_state.protected || policy.subjects.protected.contains(&key.subject);
    let account = key.subject == Subject::Account && key.isp.is_none() && !policy.breaker.pause_account;
    // Without a gate, mail to one ISP, or of an identity, cannot be stopped.
    let beyond_us = (key.isp.is_some() && !policy.gate_in_use) || !can_be_stopped(policy, &key.subject);
    if protected || account || beyond_us { Level::Warn } else { Level::Pause }
}

/// Whether a key is in shadow apart from a person's command about the key itself: by the policy, or because a person
/// has put its subject as a whole in shadow.
fn is_shadow(policy: &Policy, subject_state: &SubjectState, key: &Key) -> bool {
    let whole = subject_state.breakers.get(&None).is_some_and(|known| known.breaker.overridden == Override::Shadow);
    // Without a gate an ISP cannot be held.
    let unheld = key.subject == Subject::Account && !policy.gate_in_use;
    policy.is_shadow(&key.subject) || (key.isp.is_some() && (whole || unheld))
}

/// Whether a breaker limits mail, so that other breakers need not. In its own shadow it does not.
fn contains(known: &BreakerState) -> bool {
    known.state.is_contained() && known.overridden != Override::Shadow
}

/// What a step changes; `None` if nothing.
///
/// In shadow nothing is done, with one exception: a subject that was stopped before is resumed when its breaker closes,
/// otherwise it would stay stopped for ever. And a subject that opened in shadow is stopped once it is no longer in
/// shadow. `shadow`: see [`is_shadow`].
fn change(key: Key, known: &Versioned, mut step: Step, shadow: bool, now: Now) -> Option<Change> {
    let was_shadow = shadow || known.breaker.overridden == Override::Shadow;
    let shadow = shadow || step.next.overridden == Override::Shadow;
    let stops = |effect: &Effect| *effect == Effect::Stop;
    let catches_up = !shadow
        && !step.next.enacted
        && matches!(step.next.state, State::Open { .. })
        && !step.effects.iter().any(stops)
        && control(&key, Effect::Stop).is_some();
    if catches_up {
        step.effects.push(Effect::Stop);
    }
    let was_enacted = known.breaker.enacted;
    step.next.enacted = matches!(step.next.state, State::Open { .. }) && (was_enacted || !shadow);
    if step.next == known.breaker && step.news.is_none() {
        return None;
    }
    if catches_up && step.news.is_none() {
        let reason = "it was stopped in shadow, and nothing is decided in shadow any more".to_owned();
        step.news =
            Some(breaker::Announcement { level: Some(Level::Pause), cause: Cause::Time, verdict: None, reason });
    }
    let transition = step.news.map(|news| Transition {
        at: now,
        key: key.clone(),
        from: known.breaker.state.name(),
        to: step.next.state.name(),
        level: news.level,
        cause: news.cause,
        verdict: news.verdict,
        shadow,
        reason: news.reason,
        said: None,
        gate: false,
        shares_mail_with: BTreeSet::new(),
    });
    let reason = || transition.as_ref().map_or_else(String::new, |transition| transition.reason.clone());
    let mut controls = Vec::new();
    for effect in &step.effects {
        // A stop in shadow was not made by us: if the subject is stopped, a person may have stopped it.
        let does = match effect {
            Effect::Resume => was_enacted || !(was_shadow || shadow),
            Effect::Stop | Effect::SetFactor(_) => !shadow,
        };
        if let Some(kind) = control(&key, *effect).filter(|_| does) {
            controls.push(Control { at: now, kind, target: key.subject.clone(), isp: key.isp, reason: reason() });
        }
    }
    Some(Change { key, version: known.version, next: step.next, controls, transition, places: None })
}

/// The breakers of a board that moved in shadow, and that `policy` would now act on: an open breaker with a switch at
/// SES is stopped there; the others are limited if a gate is in use.
pub fn waiting<'a>(policy: &Policy, board: &'a Board) -> Vec<(&'a Key, &'a BreakerState)> {
    let at_the_gate = |key: &Key, known: &BreakerState| {
        policy.gate_in_use
            && known.state != State::Closed
            && !known.enacted
            && known.overridden != Override::Shadow
            && !policy.is_shadow(&key.subject)
    };
    let waits = |(key, known): &(&Key, &BreakerState)| {
        waits_for_a_policy_that_acts(policy, key, known) || at_the_gate(key, known)
    };
    board.unsettled.iter().filter(waits).collect()
}

/// Whether a breaker opened in shadow and must now be stopped at SES, because the policy acts now.
fn waits_for_a_policy_that_acts(policy: &Policy, key: &Key, known: &BreakerState) -> bool {
    let is_open = matches!(known.state, State::Open { .. });
    is_open
        && !known.enacted
        && known.overridden != Override::Shadow
        && !policy.is_shadow(&key.subject)
        && stops_at_ses(key)
}
