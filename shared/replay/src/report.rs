//! The report of a replay as a document: the contract of `--format json`.
//!
//! Names and shapes here are stable; new fields may be added.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::control::Control;
use pipeline::memory::{Summed, SummedKind};
pub use pipeline::transition::TransitionRecord;
use reputation::breaker::{BreakerState, Factor, State, StateName};
use reputation::counters::{Counters, Metric};
use reputation::isp::{Isp, IspMap};
use reputation::subject::{Key, Subject};
use reputation::timeline::Series;
use reputation::unit::{SenderId, UnitKind};
use serde::{Serialize, Serializer};
use terminal::time::{date, minute, minute_clock};
use terminal::{counted, listed, thousands};

use crate::driver::{Replay, Stopped, Tallies};
use crate::quota::{QuotaReport, QuotaRow};

/// The results of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was read, and the outcome.
    pub input: Input,
    /// Whether the sender's application is assumed to ask the gate, so that one ISP can be held separately. If not, harm at one
    /// ISP counts against its whole configuration set.
    pub gate: bool,
    /// What was counted: a row for each subject and ISP, sorted by their names.
    pub totals: Vec<Total>,
    /// The mail of identities, tenants and tag values that are not in `totals`, because there were too many subjects to keep
    /// each: at most one entry for identities, one for tenants and one for each tag name. Left out if there is none, and in a
    /// report on one subject, which is always kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Others>,
    /// What the gate would have granted, by configuration set, ISP and day; only if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Vec<QuotaRow>>,
    /// The configuration sets that would have asked for nothing, because the policy does not name them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_left_out: Option<Vec<String>>,
    /// What breakers did, with the notices that people would have got, in order.
    pub transitions: Vec<TransitionRecord>,
    /// What SES and the gate would have been asked to do, in order.
    pub controls: Vec<ReportedControl>,
    /// The mail that was accepted while its key was stopped, which a replay cannot hold back.
    pub stopped: Vec<ReportedStop>,
    /// The breakers that are not closed at the end.
    pub breakers: Vec<ReportedBreaker>,
    /// Groups of subjects that share all their mail, so that their numbers count the same mail more than once.
    pub same_mail: Vec<Vec<String>>,
    /// Warnings: reasons to trust the rest less.
    pub warnings: Vec<Warning>,
}

/// A warning about the input that people should read before they trust a report; a sentence in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Units that were counted but could not be judged.
    TooOld(u64),
    /// Mails whose first event came long after later mail.
    OutOfOrder(u64),
    /// Some subjects were summed.
    Summed {
        /// By kind.
        others: Vec<Others>,
        /// About how many are kept one by one.
        kept: u64,
    },
    /// These subjects, which share all their mail, have harm but no denominator.
    NoDenominator {
        /// The subjects.
        subjects: Vec<String>,
        /// Whether they have bounces.
        bounces: bool,
        /// Whether they have complaints.
        complaints: bool,
    },
}

impl Warning {
    /// The warning as a sentence; `spell` formats the names in it.
    pub fn words(&self, spell: impl Fn(&str) -> String) -> String {
        match self {
            Warning::OutOfOrder(mails) => {
                let mails = counted(*mails, "mail");
                format!(
                    "{mails} came after mail that is more than an hour later, so their events were judged late or not \
                     judged. Give the files in the order of time"
                )
            }
            Warning::TooOld(units) => {
                let (were, their) = if *units == 1 { ("unit came", "its") } else { ("units came", "their") };
                let units = thousands(*units);
                format!(
                    "{units} {were} too late to be judged: {their} mail is more than 8 days older than the latest date \
                     seen. Give the files in the order of time, and check for a misdated event"
                )
            }
            Warning::Summed { others, kept } => {
                let parts: Vec<String> = others.iter().map(|others| others.words(&spell)).collect();
                format!(
                    "the subjects with the oldest and least mail are summed as (others): up to {}. A replay keeps about {} \
                     subjects one by one (replay --max-subjects N)",
                    listed(&parts),
                    thousands(*kept),
                )
            }
            Warning::NoDenominator { subjects, bounces, complaints } => {
                let names: Vec<String> = subjects.iter().map(|subject| spell(subject)).collect();
                let have = if names.len() == 1 { "has" } else { "have" };
                let harm = match (bounces, complaints) {
                    (true, true) => "bounces and complaints",
                    (true, false) => "bounces",
                    (false, _) => "complaints",
                };
                let names = names.join(", ");
                format!(
                    "{names} {have} {harm} but neither Send nor Delivery events, so rates are unknown; publish Send \
                     events"
                )
            }
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.words(str::to_owned))
    }
}

/// What was read.
#[derive(Clone, Debug, Serialize)]
pub struct Input {
    /// Documents: lines, or pretty-printed documents.
    pub lines: u64,
    /// Events in them.
    pub events: u64,
    /// New units. A block accompanies its bounce or delay, and is not counted again.
    pub recorded: u64,
    /// Units that were counted before.
    pub duplicates: u64,
    /// Messages that are known and do not count.
    pub ignored: u64,
    /// Messages that could not be read or counted.
    pub rejected: u64,
    /// Events about mail outside `--since` and `--until`.
    #[serde(skip_serializing_if = "is_zero")]
    pub outside: u64,
    /// Units that are in the totals, but came too late to be judged.
    pub too_old_to_judge: u64,
    /// First and last minute in which the mail was accepted (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<[String; 2]>,
    /// The ignored ones, by name.
    pub ignored_by_name: BTreeMap<String, u64>,
    /// Events that count although something about them is odd, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub odd_by_name: BTreeMap<String, u64>,
    /// The rejected ones, by kind of reason.
    pub rejected_by_reason: BTreeMap<String, u64>,
    /// Where and why reading ended early, if it did: the report covers what came before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_off: Option<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The counters of one subject at one ISP. Counters of 0 are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    /// The subject.
    pub subject: Subject,
    /// Name of the ISP.
    pub isp: String,
    /// The counters, in the order of [`UnitKind::ALL`].
    pub counters: [u64; UnitKind::ALL.len()],
    /// Whether complaints from there reach the sender: a feedback loop is known, or a complaint was counted.
    pub returns_complaints: bool,
    /// Whether its mail counts in complaint rates over ISPs: see `Timeline::heard_in_sums` of reputation.
    pub in_sums: bool,
}

impl Total {
    /// One counter.
    pub fn get(&self, kind: UnitKind) -> u64 {
        self.counters[kind as usize]
    }
}

impl Serialize for Total {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_row(Some(&self.subject), &self.isp, &self.counters, serializer)
    }
}

fn serialize_row<S: Serializer>(
    subject: Option<&Subject>,
    isp: &str,
    counters: &[u64; UnitKind::ALL.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = serializer.serialize_map(None)?;
    if let Some(subject) = subject {
        map.serialize_entry("subject", &subject.to_string())?;
    }
    map.serialize_entry("isp", isp)?;
    for (kind, count) in UnitKind::ALL.iter().zip(counters) {
        if *count > 0 {
            map.serialize_entry(kind.counter_name(), count)?;
        }
    }
    map.end()
}

/// The mail of subjects of one kind that are not kept one by one. It is a sum, not a subject: a tag value, an identity or a
/// tenant with the name `(others)` is in `totals` like any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Others {
    /// `identity`, `tenant` or `tag`.
    pub kind: &'static str,
    /// For `tag`: the name of the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The number of subjects, at most: one that had mail again later and was summed again counts again.
    pub subjects: u64,
    /// Their mails: sent, or with an outcome where sends are not published.
    pub mails: u64,
    /// Their counters: a row for each ISP, sorted by name.
    pub totals: Vec<OthersTotal>,
}

/// The counters of summed subjects at one ISP. Counters of 0 are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OthersTotal {
    /// Name of the ISP.
    pub isp: String,
    /// The counters, in the order of [`UnitKind::ALL`].
    pub counters: [u64; UnitKind::ALL.len()],
}

impl Serialize for OthersTotal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_row(None, &self.isp, &self.counters, serializer)
    }
}

/// A control, as reported.
#[derive(Clone, Debug, Serialize)]
pub struct ReportedControl {
    /// The time, by the virtual clock (RFC 3339).
    pub at: String,
    /// The kind: see [`pipeline::ControlKind::name`].
    pub control: &'static str,
    /// The subject.
    pub target: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// For `set_quota_factor`: the share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The reason.
    pub reason: String,
}

/// A period in which a key was stopped, as reported.
#[derive(Clone, Debug, Serialize)]
pub struct ReportedStop {
    /// The subject.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// The start (RFC 3339).
    pub from: String,
    /// The end; null = the end of the replay.
    pub until: Option<String>,
    /// Mail accepted in that time that would not have been sent.
    pub sent: u64,
    /// Mail accepted in that time with an outcome; more than `sent` where sends are not published.
    pub attempts: u64,
    /// Hard bounces of it.
    pub hard_bounces: u64,
    /// Complaints about it.
    pub complaints: u64,
    /// Refusals of it because of the sender.
    pub blocks: u64,
}

/// A breaker that is not closed, as reported.
#[derive(Clone, Debug, Serialize)]
pub struct ReportedBreaker {
    /// The subject.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// Its state.
    pub state: StateName,
    /// The share of the quota that may be sent.
    pub factor: f64,
    /// Since when it has been in this state (RFC 3339).
    pub since: Option<String>,
    /// The earliest end of being open; null = until a person acts, or not open.
    pub until: Option<String>,
    /// How often it has opened since its trips were last forgiven.
    pub trips: u32,
}

impl Input {
    /// What was read, on one line.
    pub fn words(&self) -> String {
        let mut text = counted(self.recorded, "unit");
        // Recorded units have no lines.
        if self.lines > 0 {
            text = format!(
                "{}, {}: {text} recorded, {}, {} ignored, {} rejected",
                counted(self.lines, "line"),
                counted(self.events, "event"),
                counted(self.duplicates, "duplicate"),
                thousands(self.ignored),
                thousands(self.rejected),
            );
        }
        if self.outside > 0 {
            text.push_str(&format!(", {} outside the requested time", thousands(self.outside)));
        }
        if let Some([first, last]) = &self.mail {
            let until = if date(first) == date(last) { minute_clock(last).to_owned() } else { minute(last) };
            text.push_str(&format!("; mail of {} – {until}", minute(first)));
        }
        text
    }
}

impl Report {
    /// Reports on a replay; only about `only`, if given.
    pub fn of(replay: &Replay, only: Option<&Subject>) -> Report {
        let isps = &replay.policy.isp_map;
        let wanted = |subject: &Subject| only.is_none_or(|only| only == subject);
        let tallies = &replay.tallies;
        let totals = totals(replay, &wanted);
        let same_mail = same_mail(replay, &totals);
        let set_wanted = |set: &str| wanted(&Subject::ConfigurationSet(set.into()));
        let quota = replay.quota.as_ref().map(|book| {
            let mut rows = book.rows();
            rows.retain(|row| set_wanted(&row.configuration_set));
            rows
        });
        let left_out = |book: &QuotaReport| book.left_out().filter(|set| set_wanted(set)).map(str::to_owned).collect();
        let quota_left_out = replay.quota.as_ref().map(left_out);
        let others = if only.is_none() { others(replay) } else { Vec::new() };
        let mut warnings = warnings(tallies, &totals, &same_mail);
        if !others.is_empty() {
            // First, because it explains why a subject is missing.
            warnings.insert(0, Warning::Summed { others: others.clone(), kept: replay.max_subjects() as u64 });
        }
        Report {
            input: Input {
                lines: tallies.lines,
                events: tallies.events,
                recorded: tallies.recorded,
                duplicates: tallies.duplicates,
                ignored: tallies.ignored.values().sum(),
                rejected: tallies.rejected.values().sum(),
                outside: tallies.outside,
                too_old_to_judge: tallies.too_old,
                mail: tallies.mail.map(|(first, last)| [first.start(), last.start()]),
                ignored_by_name: tallies.ignored.clone(),
                odd_by_name: tallies.odd.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
                rejected_by_reason: tallies.rejected.clone(),
                broken_off: None,
            },
            gate: replay.policy.gate_in_use,
            totals,
            others,
            quota,
            quota_left_out,
            transitions: replay
                .reputation
                .transitions
                .iter()
                .filter(|transition| wanted(&transition.key.subject))
                .map(|transition| TransitionRecord::of(transition, isps))
                .collect(),
            controls: replay
                .reputation
                .controls
                .iter()
                .filter(|control| wanted(&control.target))
                .map(|control| ReportedControl::of(control, isps))
                .collect(),
            stopped: replay
                .stopped()
                .iter()
                .filter(|stopped| wanted(&stopped.key.subject))
                .map(|stopped| ReportedStop::of(stopped, isps))
                .collect(),
            breakers: breakers(replay, &wanted),
            same_mail,
            warnings,
        }
    }

    /// The assumption of a report about the gate.
    pub fn gate_words(&self) -> &'static str {
        if self.gate {
            "With a gate: your application asks ses-breaker before it sends, so mail to one ISP can be stopped separately."
        } else {
            "Without a gate: your application does not ask ses-breaker before it sends, so only a whole configuration set can \
             be stopped, never one ISP (--gate shows the other case)."
        }
    }

    /// Whether any breaker opened.
    pub fn tripped(&self) -> bool {
        self.transitions.iter().any(TransitionRecord::opens)
    }
}

/// A rate with its parts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Numerator.
    pub bad: u64,
    /// Denominator.
    pub population: u64,
    /// The rate; null = no data.
    pub rate: Option<f64>,
}

/// Mail that would not have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeldBack {
    /// The number of mails.
    pub mails: u64,
    /// Whether these are all. Where stops of different subjects overlap and do not share all their mail, some mails may be left
    /// out, so that none is counted twice.
    pub is_all: bool,
}

impl Report {
    /// The totals of all mail, in which each mail counts once; in a report on one subject, those of its mail.
    pub fn all_mail(&self) -> Vec<&Total> {
        let of_sets = self.totals.iter().filter(|total| matches!(total.subject, Subject::ConfigurationSet(_)));
        let rows: Vec<&Total> = of_sets.collect();
        if rows.is_empty() { self.totals.iter().collect() } else { rows }
    }

    /// A rate over all mail.
    pub fn rate(&self, metric: Metric) -> Rate {
        let rows = self.all_mail();
        let tally = tally(rows.iter().copied(), metric);
        let is_known = metric != Metric::Complaint || rows.iter().any(|row| row.returns_complaints);
        Rate { bad: tally.bad, population: tally.population, rate: tally.rate().filter(|_| is_known) }
    }

    /// The mail that would not have been sent, each mail counted once.
    pub fn held_back(&self) -> HeldBack {
        // Stops of subjects that share all their mail, at the same time, are stops of the same mail.
        let mut distinct = BTreeMap::new();
        for stop in &self.stopped {
            let same = self.same_mail.iter().find(|group| group.contains(&stop.subject));
            let subject = same.and_then(|group| group.first()).unwrap_or(&stop.subject);
            distinct.entry((subject, &stop.isp, &stop.from, &stop.until)).or_insert(stop);
        }
        // Subjects of one kind (configuration sets, say) have no mail in common; those of different kinds may.
        let mut mails: BTreeMap<&str, u64> = BTreeMap::new();
        let mut is_all = true;
        for ((subject, isp, from, until), stop) in &distinct {
            let overlaps = distinct.keys().any(|(other, its_isp, its_from, its_until)| {
                let begins_before = |a: &str, end: &Option<String>| end.as_deref().is_none_or(|end| a < end);
                other == subject
                    && its_isp.is_none()
                    && begins_before(from, its_until)
                    && begins_before(its_from, until)
            });
            // Its mail is in a stop of the whole subject, or some of it is.
            if isp.is_some() && overlaps {
                is_all = false;
                continue;
            }
            let separator = if subject.starts_with("tag:") { '=' } else { ':' };
            let kind = subject.split(separator).next().unwrap_or_default();
            *mails.entry(kind).or_default() += stop.sent.max(stop.attempts);
        }
        HeldBack { mails: mails.values().copied().max().unwrap_or(0), is_all: is_all && mails.len() <= 1 }
    }
}

fn others(replay: &Replay) -> Vec<Others> {
    let of = |(kind, summed): (&SummedKind, &Summed)| {
        let mut totals: Vec<OthersTotal> = summed
            .by_isp
            .iter()
            .map(|(isp, counters)| OthersTotal {
                isp: replay.policy.isp_map.name(*isp).to_owned(),
                counters: *counters,
            })
            .collect();
        totals.sort_by(|a, b| a.isp.cmp(&b.isp));
        let sum = |kind: UnitKind| totals.iter().map(|total| total.counters[kind as usize]).sum::<u64>();
        let attempts = UnitKind::OUTCOMES.into_iter().map(sum).sum();
        let (kind, tag) = match kind {
            SummedKind::Identity => ("identity", None),
            SummedKind::Tenant => ("tenant", None),
            SummedKind::Tag(name) => ("tag", Some(name.to_string())),
        };
        Others { kind, tag, subjects: summed.subjects, mails: sum(UnitKind::Sent).max(attempts), totals }
    };
    replay.reputation.summed().iter().map(of).collect()
}

impl Others {
    /// `4,812 identities (51,230 mails)`.
    fn words(&self, spell: &impl Fn(&str) -> String) -> String {
        let one = self.subjects == 1;
        let noun = match (self.kind, &self.tag) {
            (_, Some(tag)) => format!("value{} of the tag {}", if one { "" } else { "s" }, spell(tag)),
            ("identity", None) if !one => "identities".to_owned(),
            (kind, None) => format!("{kind}{}", if one { "" } else { "s" }),
        };
        format!("{} {noun} ({})", thousands(self.subjects), counted(self.mails, "mail"))
    }
}

/// Groups of two or more subjects with exactly the same senders and totals. A subject that has only part of another's mail has
/// the same senders, but other totals.
fn same_mail(replay: &Replay, totals: &[Total]) -> Vec<Vec<String>> {
    type Rows<'a> = Vec<(&'a str, &'a [u64])>;
    let senders = replay.senders_by_subject();
    let mut rows: BTreeMap<&Subject, Rows<'_>> = BTreeMap::new();
    for Total { subject, isp, counters, .. } in totals {
        rows.entry(subject).or_default().push((isp, counters));
    }
    let mut by_senders: BTreeMap<(&[SenderId], u64, Rows<'_>), BTreeSet<&Subject>> = BTreeMap::new();
    for (subject, rows) in rows {
        let senders = senders.get(subject).map_or(&[][..], Vec::as_slice);
        by_senders.entry((senders, replay.lost_mail_of(subject), rows)).or_default().insert(subject);
    }
    let shared = by_senders.into_values().filter(|subjects| subjects.len() > 1);
    let mut groups: Vec<Vec<String>> =
        shared.map(|subjects| subjects.into_iter().map(Subject::to_string).collect()).collect();
    groups.iter_mut().for_each(|group| group.sort());
    groups.sort();
    groups
}

fn warnings(tallies: &Tallies, totals: &[Total], same_mail: &[Vec<String>]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    // Up to one in a hundred may be late by nature.
    if tallies.late_sends * 100 > tallies.sends {
        warnings.push(Warning::OutOfOrder(tallies.late_sends));
    }
    if tallies.too_old > 0 {
        warnings.push(Warning::TooOld(tallies.too_old));
    }
    let mut by_subject: BTreeMap<String, [u64; UnitKind::ALL.len()]> = BTreeMap::new();
    for total in totals {
        let sums = by_subject.entry(total.subject.to_string()).or_default();
        sums.iter_mut().zip(total.counters).for_each(|(sum, count)| *sum += count);
    }
    let groups: BTreeMap<&String, &Vec<String>> =
        same_mail.iter().flat_map(|group| group.iter().map(move |subject| (subject, group))).collect();
    for (subject, sums) in &by_subject {
        let any = |kinds: &[UnitKind]| kinds.iter().any(|kind| sums[*kind as usize] > 0);
        let bounces = any(&UnitKind::OUTCOMES);
        let complaints = any(&[UnitKind::Complaint]);
        if any(&[UnitKind::Sent, UnitKind::Delivered]) || !(bounces || complaints) {
            continue;
        }
        let group = groups.get(subject).copied();
        // A group is reported with its first subject.
        if group.is_some_and(|group| group.first() != Some(subject)) {
            continue;
        }
        let subjects = group.cloned().unwrap_or_else(|| vec![subject.clone()]);
        warnings.push(Warning::NoDenominator { subjects, bounces, complaints });
    }
    warnings
}

fn totals(replay: &Replay, wanted: &dyn Fn(&Subject) -> bool) -> Vec<Total> {
    let map = &replay.policy.isp_map;
    let mut totals = Vec::new();
    for (subject, subject_state) in replay.reputation.subject_states().filter(|(subject, _)| wanted(subject)) {
        let heard: Vec<Isp> = subject_state.timeline.heard_in_sums().collect();
        let mut rows: Vec<Total> = subject_state
            .timeline
            .isps()
            .filter_map(|isp| {
                Some(total(subject, isp, map, subject_state.timeline.series(Some(isp))?, heard.contains(&isp)))
            })
            .collect();
        rows.sort_by(|a, b| a.isp.cmp(&b.isp));
        totals.extend(rows);
    }
    totals.sort_by_cached_key(|total| (total.subject.to_string(), total.isp.clone()));
    totals
}

fn total(subject: &Subject, isp: Isp, map: &IspMap, series: &Series, heard_in_sums: bool) -> Total {
    let mut counters = [0; UnitKind::ALL.len()];
    for (_, day) in series.days() {
        for (sum, kind) in counters.iter_mut().zip(UnitKind::ALL) {
            *sum += u64::from(day.get(kind));
        }
    }
    let returns_complaints = map.returns_complaints(isp) || counters[UnitKind::Complaint as usize] > 0;
    let in_sums = map.returns_complaints(isp) || heard_in_sums;
    Total { subject: subject.clone(), isp: map.name(isp).to_owned(), counters, returns_complaints, in_sums }
}

fn breakers(replay: &Replay, wanted: &dyn Fn(&Subject) -> bool) -> Vec<ReportedBreaker> {
    let mut breakers = Vec::new();
    for (subject, subject_state) in replay.reputation.subject_states().filter(|(subject, _)| wanted(subject)) {
        for (isp, known) in &subject_state.breakers {
            let key = Key { subject: subject.clone(), isp: *isp };
            if known.breaker.state != State::Closed {
                breakers.push(ReportedBreaker::of(replay, &key, &known.breaker));
            }
        }
    }
    breakers
}

impl ReportedBreaker {
    /// Reports on the breaker of a key, closed or not.
    pub fn of(replay: &Replay, key: &Key, known: &BreakerState) -> ReportedBreaker {
        let moves = replay.reputation.transitions.iter().rev();
        let entered =
            moves.filter(|transition| transition.key == *key).find(|transition| transition.from != transition.to);
        let until = match known.state {
            State::Open { until, .. } => until,
            State::Closed | State::Throttled { .. } | State::Probing { .. } => None,
        };
        ReportedBreaker {
            subject: key.subject.to_string(),
            isp: isp_name(key, &replay.policy.isp_map),
            state: known.shown_state(key),
            factor: known.state.factor(&replay.policy.breaker).share(),
            since: entered.map(|transition| transition.at.to_string()),
            until: until.map(|until| until.to_string()),
            trips: known.trips,
        }
    }
}

impl ReportedControl {
    fn of(control: &Control, isps: &IspMap) -> ReportedControl {
        ReportedControl {
            at: control.at.to_string(),
            control: control.kind.name(),
            target: control.target.to_string(),
            isp: control.isp.map(|isp| isps.name(isp).to_owned()),
            factor: control.kind.share().map(Factor::share),
            reason: control.reason.clone(),
        }
    }
}

impl ReportedStop {
    fn of(stopped: &Stopped, isps: &IspMap) -> ReportedStop {
        let mail = |kind: UnitKind| u64::from(stopped.mail.get(kind));
        ReportedStop {
            subject: stopped.key.subject.to_string(),
            isp: isp_name(&stopped.key, isps),
            from: stopped.from.to_string(),
            until: stopped.until.map(|until| until.to_string()),
            sent: mail(UnitKind::Sent),
            attempts: stopped.mail.attempts(),
            hard_bounces: mail(UnitKind::HardBounce),
            complaints: mail(UnitKind::Complaint),
            blocks: mail(UnitKind::Block),
        }
    }
}

fn isp_name(key: &Key, isps: &IspMap) -> Option<String> {
    key.isp.map(|isp| isps.name(isp).to_owned())
}

/// Numerator and denominator of a metric over some totals; no data where the volume of mail is unknown.
pub fn tally<'a>(totals: impl IntoIterator<Item = &'a Total>, metric: Metric) -> reputation::Tally {
    let mut sum = Counters::default();
    let totals: Vec<&Total> = totals.into_iter().collect();
    for total in &totals {
        let heard = if totals.len() == 1 { total.returns_complaints } else { total.in_sums };
        for kind in UnitKind::ALL {
            sum.add(kind, u32::try_from(total.get(kind)).unwrap_or(u32::MAX), heard);
        }
    }
    let knows_its_mail = sum.get(UnitKind::Sent) > 0 || sum.get(UnitKind::Delivered) > 0;
    if knows_its_mail { sum.tally(metric) } else { reputation::Tally::default() }
}
