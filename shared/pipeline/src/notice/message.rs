//! Messages to people: their structure and text.
//!
//! A message states what happened and why, what to do first, and the command that undoes it; then what was done and
//! what happens next. The sender of a message adds the stack's name and Region to the commands, because only the sender
//! knows them.

use std::collections::BTreeSet;

use reputation::Metric;
use reputation::breaker::{Cause, Override, StateName};
use reputation::detect::{Level, Percent};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::Now;
use serde::{Deserialize, Serialize};

use super::fact::Fact;
use super::headline::{full_name, headline, short_name};
use super::{Notice, outcome, title};
use crate::control::{ControlRecord, stops_at_ses};
use crate::ports::{DesiredState, MAX_SHARING};
use crate::wording::{capitalized, shell_quote};

/// Most other keys that a message lists; of the rest it gives the number.
const MAX_OTHERS: usize = 30;
/// Most subjects that it names for programs that filter messages.
const MAX_SUBJECTS: usize = 10;
/// Most keys for which one message gives undo commands, and most bytes of names in one command: a truncated command is
/// useless, and chats limit the length of a message.
const MAX_UNDONE: usize = 5;
const MAX_TARGETS: usize = 200;
/// Most bytes of one reason, and of the whole body.
const MAX_REASON: usize = 2_000;
const MAX_BODY: usize = 8_000;

/// The purpose of the command that undoes an action.
const UNDO: &str = "Undo it now: all its mail is sent, and judged from now on";

/// Which stack sends a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its name; empty if it is not known.
    pub stack: String,
    /// Its Region; empty if it is not known.
    pub region: String,
    /// The URL of the runbook; empty for its path in the source.
    pub runbook: String,
}

/// The path of the runbook in the source.
const RUNBOOK: &str = "infra/RUNBOOK.md";

impl Place {
    /// The link to a section of the runbook.
    pub fn section(&self, anchor: &str) -> String {
        let runbook = if self.runbook.is_empty() { RUNBOOK } else { &self.runbook };
        format!("{runbook}#{anchor}")
    }
}

/// A message to people about a group of notices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Its name; the same when it is sent again.
    pub id: String,
    /// One line of at most 100 ASCII characters without control characters (the limits of an SNS subject).
    pub title: String,
    /// What it is about: see [`Notice::KINDS`].
    pub kind: String,
    /// How bad it is; `None` where things get better.
    pub level: Option<Level>,
    /// The subject that it is about; of several, the one that the others follow from.
    pub subject: String,
    /// All subjects that it is about, at most 10.
    pub subjects: Vec<String>,
    /// When it was decided (RFC 3339).
    pub at: String,
    /// What happened and why.
    pub summary: String,
    /// What to do first; empty if there is nothing to do.
    pub first: String,
    /// Which section of the runbook is about it.
    pub runbook: String,
    /// What was done, what happens next, and who else is affected.
    pub body: String,
    /// The commands to type.
    pub commands: Vec<Command>,
}

/// A command and its purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its purpose; consecutive commands with the same effect have the same text here.
    pub purpose: String,
    /// The command without stack and Region.
    line: String,
}

impl Command {
    fn new(purpose: &str, line: String) -> Command {
        Command { purpose: purpose.to_owned(), line }
    }

    /// The whole command, for a command line.
    pub fn line(&self, place: &Place) -> String {
        let mut line = self.line.clone();
        for (option, value) in [("--stack", &place.stack), ("--region", &place.region)] {
            if !value.is_empty() {
                line.push_str(&format!(" {option} {}", shell_quote(value)));
            }
        }
        line
    }
}

/// What is known when messages are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) policy: &'a Policy,
    /// The desired states at SES, and how far each is reached.
    pub(super) desired_states: &'a [DesiredState],
}

/// What was held back of one key.
#[derive(Debug)]
pub(super) struct Earlier {
    pub(super) key: String,
    pub(super) count: u32,
    pub(super) since: i64,
    /// The last of them: when, and from what to what.
    pub(super) lines: Vec<(i64, String)>,
}

impl Message {
    /// The text of an e-mail: what happened, what to do first, the commands that undo it and the runbook; then the
    /// rest.
    pub fn text(&self, place: &Place) -> String {
        let mut text = format!("{}\n", self.summary.trim_end());
        let undo: Vec<String> = self.undo(place).collect();
        if !self.first.is_empty() {
            text.push_str(&format!("\nFirst: {}\n", self.first));
        } else {
            text.push('\n');
        }
        for (index, line) in undo.iter().enumerate() {
            text.push_str(&format!("{}{line}\n", if index == 0 { "Undo: " } else { "      " }));
        }
        if !self.runbook.is_empty() {
            text.push_str(&format!("Runbook: {}\n", place.section(&self.runbook)));
        }
        if !self.body.is_empty() {
            text.push_str(&format!("\n{}\n", self.body.trim()));
        }
        let mut purpose = None;
        for command in self.commands.iter().filter(|command| command.purpose != UNDO) {
            if purpose != Some(&command.purpose) {
                text.push_str(&format!("\n{}:\n", command.purpose));
                purpose = Some(&command.purpose);
            }
            text.push_str(&format!("  {}\n", command.line(place)));
        }
        let from = match (place.stack.as_str(), place.region.as_str()) {
            ("", _) => "ses-breaker".to_owned(),
            (stack, "") => format!("ses-breaker, stack {stack}"),
            (stack, region) => format!("ses-breaker, stack {stack} in {region}"),
        };
        text.push_str(&format!("\n--\n{from}, {}\n", second_of(&self.at)));
        text
    }

    /// The commands that undo it, for a command line.
    pub fn undo(&self, place: &Place) -> impl Iterator<Item = String> {
        let undo = self.commands.iter().filter(|command| command.purpose == UNDO);
        undo.map(|command| command.line(place))
    }

    /// A message about a notice that is not about a breaker.
    pub(super) fn of_notice(notice: &Notice) -> Message {
        let detail: serde_json::Value = serde_json::from_str(&notice.detail).unwrap_or_default();
        let subject = detail["subject"].as_str().unwrap_or_default().to_owned();
        let (summary, body) = notice.text.split_once("\n\n").unwrap_or((&notice.text, ""));
        Message {
            id: notice.id.clone(),
            title: notice.title.clone(),
            kind: notice.kind.to_owned(),
            level: None,
            subjects: vec![subject.clone()],
            at: detail["at"].as_str().unwrap_or_default().to_owned(),
            summary: summary.to_owned(),
            first: String::new(),
            runbook: section_of(notice.kind).to_owned(),
            body: body.to_owned(),
            commands: vec![Command::new("See the whole state", "ses-breaker status".to_owned())],
            subject,
        }
    }

    /// A message about facts that belong together, the leading one first.
    pub(super) fn of_facts(known: &Known<'_>, id: String, facts: &[&Fact], earlier: &[Earlier]) -> Message {
        let Some(lead) = facts.first().copied() else { return Message { id, ..Message::default() } };
        let moves = moves(facts, &lead.key());
        let (first, last) = (moves.first().copied().unwrap_or(lead), moves.last().copied().unwrap_or(lead));
        let name = capitalized(&full_name(&lead.subject, lead.isp.as_deref()));
        let state = match lead.shadow {
            true => format!("in shadow, where nothing is done; it would be {}", way(&moves)),
            false if lead.is_bad_news() && lead.isp.is_none() && !can_be_switched(known.policy, lead) => {
                "a warning; SES has no switch for it".to_owned()
            }
            false => way(&moves),
        };
        let mut summary = format!("{name}: {state}.\n{}\n", cut(&lead.why()));
        if last.id != lead.id {
            summary.push_str(&format!("After that: {}\n", cut(&last.why())));
        }
        let mut body = format!("Effect: {}.\nNext: {}\n", done(known, last), next(known.policy, last));
        body.push_str(&others(known, lead, facts));
        body.push_str(&report_of(earlier));
        let title = title(&headline(first, last));
        let message = Message { id, title, summary, body, ..Message::default() };
        Message { first: what_to_do(last, facts), runbook: section(last).to_owned(), ..message }.about(known, facts)
    }

    /// A summary of changes that were not reported one by one. `facts`: the last one of each key.
    pub(super) fn of_summary(known: &Known<'_>, id: String, facts: &[&Fact], earlier: &[Earlier]) -> Message {
        let Some(lead) = facts.first().copied() else { return Message { id, ..Message::default() } };
        let count: u32 = earlier.iter().filter(|earlier| earlier.key == lead.key()).map(|earlier| earlier.count).sum();
        let changes = if count == 1 { "1 more change".to_owned() } else { format!("{count} more changes") };
        let (short, state) = (short_name(&lead.subject, lead.isp.as_deref()), lead.to.word(lead.gate));
        let title = match lead.stops() {
            true => title(&headline(lead, lead)),
            false => title(&format!("[SUMMARY, now {state}] {short}: {changes}")),
        };
        let name = capitalized(&full_name(&lead.subject, lead.isp.as_deref()));
        let summary = format!("{name} is {state} now.\nThe last change: {}\n", cut(&lead.why()));
        let mut body = report_of(earlier).trim_start().to_owned();
        body.push_str(&format!("\nEffect: {}.\nNext: {}\n", done(known, lead), next(known.policy, lead)));
        let (first, runbook) = match lead.stops() {
            true => (what_to_do(lead, facts), section(lead)),
            false => (String::new(), "summary"),
        };
        let message = Message { id, title, summary, first, body, runbook: runbook.to_owned(), ..Message::default() };
        message.about(known, facts)
    }

    /// Adds what follows from the facts: level, subjects, time and commands.
    fn about(mut self, known: &Known<'_>, facts: &[&Fact]) -> Message {
        if self.body.len() > MAX_BODY {
            self.body.truncate(self.body.floor_char_boundary(MAX_BODY));
            self.body.push_str(" ...\n");
        }
        let lead = facts.first().copied();
        let mut subjects: Vec<String> = Vec::new();
        for fact in facts {
            let subject = fact.subject.to_string();
            if subjects.len() < MAX_SUBJECTS && !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        Message {
            kind: Notice::TRANSITION.to_owned(),
            level: lead.and_then(|lead| lead.level),
            subject: lead.map(|lead| lead.subject.to_string()).unwrap_or_default(),
            subjects,
            at: lead.map(|lead| lead.at().to_string()).unwrap_or_default(),
            commands: commands(known.policy, facts),
            ..self
        }
    }
}

/// What to do first about harm; empty if there is none.
fn what_to_do(last: &Fact, facts: &[&Fact]) -> String {
    let isp = last.isp.as_deref().unwrap_or("the ISP");
    if last.cause == Cause::Incident {
        return format!("nothing in your mail: look at the status page of {isp}, and wait");
    }
    let Some(metric) = last.metric.filter(|_| last.level.is_some()) else { return String::new() };
    let tag = facts.iter().find_map(|fact| match &fact.subject {
        Subject::Tag(name, value) => Some(format!(" (the mail tagged {name}={value} shows the same numbers)")),
        Subject::Account | Subject::ConfigurationSet(_) | Subject::Identity(_) | Subject::Tenant(_) => None,
    });
    let of_tag = tag.unwrap_or_default();
    match metric {
        Metric::HardBounce => {
            format!("find where these addresses came from, and stop sending to that list{of_tag}")
        }
        Metric::Complaint => {
            format!(
                "find the campaign that people complain about, and stop it{of_tag}; suppress who never asked for it"
            )
        }
        Metric::Block => format!(
            "read what {isp} answers, with replay explain on your event files; check SPF, DKIM and DMARC, and blocklists"
        ),
        Metric::Delay => format!("send less to {isp} for a while; SES retries what is delayed"),
    }
}

/// The section of the runbook about the state in which a fact leaves its key.
fn section(fact: &Fact) -> &'static str {
    match fact.to {
        _ if fact.cause == Cause::Incident || fact.whole_isp().is_some() => "provider-incident",
        _ if fact.shadow => "shadow",
        StateName::Open if fact.stops() => "stopped",
        StateName::Throttled if fact.gate => "slowed",
        StateName::Probing => "testing",
        _ if fact.level.is_some() => "warned",
        StateName::Closed | StateName::Throttled | StateName::Open | StateName::InTrouble | StateName::Unknown => {
            "sending-again"
        }
    }
}

/// The section of the runbook about a kind of notice.
fn section_of(kind: &str) -> &'static str {
    match kind {
        Notice::GONE => "gone",
        Notice::DENIED => "refused-by-ses",
        Notice::OTHER_STACK => "another-stack",
        Notice::DIGEST => "daily-digest",
        _ => "",
    }
}

/// What happened to the other keys.
fn others(known: &Known<'_>, lead: &Fact, facts: &[&Fact]) -> String {
    let mut keys: Vec<String> = Vec::new();
    for fact in facts {
        if !keys.contains(&fact.key()) && fact.key() != lead.key() {
            keys.push(fact.key());
        }
    }
    if keys.is_empty() {
        return String::new();
    }
    let left = facts.iter().all(|fact| fact.key() == lead.key() || fact.is_left_to_sets());
    let mut text = if left { "\nAlso:\n" } else { "\nAlso affected:\n" }.to_owned();
    let mut reasons = BTreeSet::from([lead.why()]);
    for key in keys.iter().take(MAX_OTHERS) {
        let moves = moves(facts, key);
        let Some(last) = moves.last().copied() else { continue };
        let way = match last.from == last.to {
            true if last.is_left_to_sets() => format!("not affected, {}", last.to.word(last.gate)),
            true => "warning".to_owned(),
            false => way(&moves),
        };
        let key = full_name(&last.subject, last.isp.as_deref());
        text.push_str(&format!("- {key}: {way}"));
        if last.controls.iter().any(is_for_ses) && !last.shadow {
            text.push_str(&format!(" ({})", done(known, last)));
        }
        if reasons.insert(last.why()) {
            text.push_str(&format!(": {}", cut(&last.why())));
        }
        text.push('\n');
    }
    if let more @ 1.. = keys.len().saturating_sub(MAX_OTHERS) {
        text.push_str(&format!("- and {more} more: ses-breaker status lists them\n"));
    }
    text
}

/// The facts about one key, in the order in which they happened.
fn moves<'a>(facts: &[&'a Fact], key: &str) -> Vec<&'a Fact> {
    let mut moves: Vec<&Fact> = facts.iter().copied().filter(|fact| fact.key() == key).collect();
    moves.sort_by(|a, b| a.id.cmp(&b.id));
    moves
}

/// The move of a key, from its first state to its last: `stopped (was sending)`, `sending (was slowed, then stopped)`.
fn way(moves: &[&Fact]) -> String {
    let gate = moves.first().is_some_and(|first| first.gate);
    let mut way: Vec<StateName> = moves.first().map(|first| first.from).into_iter().collect();
    way.extend(moves.iter().map(|fact| fact.to));
    way.dedup();
    let mut words: Vec<&str> = way.into_iter().map(|state| state.word(gate)).collect();
    let now = words.pop().unwrap_or_default();
    match words.as_slice() {
        [] => now.to_owned(),
        before => format!("{now} (was {})", before.join(", then ")),
    }
}

/// What was held back.
fn report_of(earlier: &[Earlier]) -> String {
    let mut text = String::new();
    for Earlier { key, count, since, lines } in earlier {
        let changes = if *count == 1 { "1 more change".to_owned() } else { format!("{count} more changes") };
        text.push_str(&format!(
            "\nAnd {changes} of {key} since {}, not reported one by one:\n",
            second_of(&Now(*since).to_string())
        ));
        if (*count as usize) > lines.len() {
            text.push_str("- ...\n");
        }
        for (at, moved) in lines {
            text.push_str(&format!("- {}: {moved}\n", second_of(&Now(*at).to_string())));
        }
    }
    text
}

/// Whether a control is one that SES carries out.
fn is_for_ses(control: &ControlRecord) -> bool {
    control.kind.at_ses().is_some()
}

/// What was done about it, for people.
fn done(known: &Known<'_>, fact: &Fact) -> String {
    // A subject that was stopped before is resumed in shadow, too.
    if fact.shadow && fact.controls.is_empty() {
        return "none, because this is decided in shadow".to_owned();
    }
    // Without a gate, only what SES is asked for has an effect.
    let counts = fact.controls.iter().filter(|control| fact.gate || is_for_ses(control));
    let done: Vec<String> = counts.map(|control| outcome(control, known.desired_states)).collect();
    match (done.is_empty(), fact.controls.is_empty()) {
        (false, _) => done.join("; "),
        (true, true) => "none (notification only)".to_owned(),
        (true, false) if fact.is_withheld() => {
            "none (notification only): only the gate could limit mail to a share of its quota, and it is not in use"
                .to_owned()
        }
        (true, false) => "none (notification only): SES has no switch for this, and the gate is not in use".to_owned(),
    }
}

/// What happens next, as a sentence.
fn next(policy: &Policy, fact: &Fact) -> String {
    let breaker = &policy.breaker;
    let share = if policy.gate_in_use {
        format!("testing begins at {} of the quota", Percent(breaker.probe_share))
    } else {
        "testing begins: SES accepts its mail".to_owned()
    };
    if fact.shadow {
        return "nothing is done. In shadow the breaker goes on as if it had acted, and reports it.".to_owned();
    }
    match (fact.to, fact.until) {
        (StateName::Open, Some(until)) if fact.whole_isp().is_some() => format!(
            "at {} mail to this ISP is sent again, and each sender is judged there by mail accepted from then on.",
            minute_of(&until.to_string())
        ),
        (StateName::Open, Some(until)) if fact.ends_the_mail_of_a_test() => format!(
            "at {} the outcomes of the test's mail are known. If they are good, all mail is sent again; if not, it stays \
             stopped, for longer.",
            minute_of(&until.to_string())
        ),
        (StateName::Open, Some(until)) => format!(
            "at {} {share}, and only mail accepted from then on counts. If it is clean, all mail is sent again step by step; if \
             not, it is stopped again, for longer.",
            minute_of(&until.to_string())
        ),
        (StateName::Open, None) if fact.hold == Override::ForcedOpen => {
            "it stays stopped until a person resumes it.".to_owned()
        }
        (StateName::Open, None) => {
            "it stays stopped until a person resumes it: the policy says `resume = \"manual\"`.".to_owned()
        }
        (StateName::Probing, _) => {
            let mails =
                format!("up to {} mails ({} after complaints)", breaker.probe_mails, breaker.complaint_probe_mails);
            let minutes =
                format!("{} min ({} after complaints)", breaker.probe_min_minutes, breaker.complaint_probe_minutes);
            let then = "If harm goes on, it is stopped again, for longer.";
            if fact.gate {
                format!(
                    "once {mails} were sent {minutes} ago without a verdict, the quota comes back step by step. {then}"
                )
            } else {
                format!(
                    "as soon as {mails} are sent, it is stopped for {minutes}, until their outcomes are known; if they are good, \
                     all mail is sent again. {then} Without mail it waits for the next."
                )
            }
        }
        (StateName::Throttled, _) if fact.is_withheld() => {
            let meanwhile = if policy.gate_in_use { "it" } else { "its mail is still sent, unless you stop it. It" };
            format!(
                "{meanwhile} is judged again each minute, and stopped as soon as a place is free, its harm reaches the next \
                 order of magnitude, or its evidence is overwhelming."
            )
        }
        (StateName::Throttled, _) => format!(
            "after {} min without further harm the quota doubles, until it is whole. If harm goes on, it is cut further \
             or stopped.",
            breaker.raise_every_minutes
        ),
        (_, _) if fact.hold == Override::ForcedClosed => {
            "verdicts are reported, not acted on, until a person releases it.".to_owned()
        }
        (_, Some(until)) if is_unheld(policy, fact) => {
            format!(
                "at {} each sender is judged at this ISP again, by mail that SES accepts from then on.",
                minute_of(&until.to_string())
            )
        }
        (_, _) if fact.is_bad_news() => {
            "nothing is done about it. This warning is not repeated for a week; what is worse is reported at once."
                .to_owned()
        }
        (StateName::Closed | StateName::InTrouble | StateName::Unknown, _) => {
            "mail is sent, and new harm is reported at once.".to_owned()
        }
    }
}

/// Whether it is about an ISP itself whose mail cannot be stopped: without a gate neither a breaker nor a person can
/// hold an ISP.
fn is_unheld(policy: &Policy, fact: &Fact) -> bool {
    fact.whole_isp().is_some() && !policy.gate_in_use
}

/// The commands for facts, the leading one first.
fn commands(policy: &Policy, facts: &[&Fact]) -> Vec<Command> {
    let mut commands = Vec::new();
    let Some(lead) = facts.first().copied() else { return commands };
    // Its current state, which need not be its worst.
    let lead = moves(facts, &lead.key()).last().copied().unwrap_or(lead);
    let target = target(policy, lead);
    let held = lead.hold;
    // In shadow nothing was done that could be undone.
    if lead.shadow && held == Override::Shadow {
        commands.push(Command::new("Let its breaker act again", format!("ses-breaker release {target}")));
    }
    if !lead.shadow && can_be_switched(policy, lead) {
        let undo = undo(policy, facts);
        if held == Override::ForcedOpen || held == Override::ForcedClosed {
            commands.push(Command::new("Leave it to its breaker again", format!("ses-breaker release {target}")));
        }
        if held != Override::ForcedClosed && (!undo.is_empty() || lead.is_bad_news()) {
            let purpose = "Keep it sending whatever the verdict, until you release it";
            commands.push(Command::new(purpose, format!("ses-breaker bypass {target}")));
        }
        commands.splice(0..0, undo);
        if held != Override::ForcedOpen {
            let purpose = if lead.to == StateName::Open {
                "Keep it stopped until you resume it"
            } else {
                "Stop it until you resume it"
            };
            commands.push(Command::new(purpose, format!("ses-breaker stop {target}")));
        }
    }
    // A subject without a switch is stopped through the configuration sets of its mail, if all of them are known.
    if !can_be_switched(policy, lead) && lead.is_bad_news() && !lead.shadow && lead.shares_mail_with.len() < MAX_SHARING
    {
        let is_set = |subject: &&Subject| matches!(subject, Subject::ConfigurationSet(_)) && is_at_ses(subject);
        for set in lead.shares_mail_with.iter().filter(is_set).take(MAX_UNDONE) {
            let line = format!("ses-breaker stop {}", named(set));
            commands.push(Command::new("Stop a configuration set that its mail goes by, until you resume it", line));
        }
    }
    commands.push(Command::new("See its state", format!("ses-breaker status {}", named(&lead.subject))));
    commands
}

/// Whether mail of a key can be stopped: by SES, or by the gate if one is in use.
fn can_be_switched(policy: &Policy, fact: &Fact) -> bool {
    policy.gate_in_use || (fact.isp.is_none() && is_at_ses(&fact.subject))
}

/// Whether SES has a switch for a subject, at all ISPs.
fn is_at_ses(subject: &Subject) -> bool {
    stops_at_ses(&Key { subject: subject.clone(), isp: None })
}

/// The commands that undo facts: one for all of them, or one for each ISP.
fn undo(policy: &Policy, facts: &[&Fact]) -> Vec<Command> {
    let (mut keys, mut lines): (BTreeSet<String>, Vec<(String, Option<String>)>) = (BTreeSet::new(), Vec::new());
    for fact in facts.iter().filter(|fact| is_held_up(facts, fact) && can_be_switched(policy, fact)) {
        if keys.len() >= MAX_UNDONE || !keys.insert(fact.key()) {
            continue;
        }
        let (subject, isp) = (named(&fact.subject), at_isp(policy, fact).map(shell_quote));
        let fits = |(subjects, known): &&mut (String, Option<String>)| {
            *known == isp && subjects.len() + subject.len() < MAX_TARGETS
        };
        match lines.iter_mut().find(fits) {
            Some((subjects, _)) => subjects.push_str(&format!(" {subject}")),
            None => lines.push((subject, isp)),
        }
    }
    let command = |(subjects, isp): (String, Option<String>)| {
        let isp = isp.map_or_else(String::new, |isp| format!(" --isp {isp}"));
        Command::new(UNDO, format!("ses-breaker resume {subjects}{isp}"))
    };
    lines.into_iter().map(command).collect()
}

/// Whether a fact leaves mail stopped, in testing or slowed, and is the last one of its key among `facts`.
fn is_held_up(facts: &[&Fact], fact: &Fact) -> bool {
    let is_last = !facts.iter().any(|other| other.key() == fact.key() && other.id > fact.id);
    // Without a gate a cut of the quota limits no mail.
    is_last && fact.to != StateName::Closed && (fact.gate || fact.to != StateName::Throttled)
}

/// The target of a command, with its options.
fn target(policy: &Policy, fact: &Fact) -> String {
    let isp = at_isp(policy, fact).map_or_else(String::new, |isp| format!(" --isp {}", shell_quote(isp)));
    format!("{}{isp}", named(&fact.subject))
}

/// A subject as an argument of a command.
fn named(subject: &Subject) -> String {
    shell_quote(&subject.to_string())
}

/// The ISP for the option `--isp`; `None` if nothing can be done at one ISP.
fn at_isp<'a>(policy: &Policy, fact: &'a Fact) -> Option<&'a str> {
    // Without a gate, nothing can be done about a single ISP.
    fact.isp.as_deref().filter(|_| policy.gate_in_use || fact.subject == Subject::Account)
}

fn cut(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or(reason)
}

/// The minute of a time in RFC 3339, for people: `2026-10-06 08:34 UTC`.
fn minute_of(time: &str) -> String {
    format!("{} UTC", time.get(..16).unwrap_or(time).replacen('T', " ", 1))
}

/// The second of a time in RFC 3339, for people: `2026-10-06 08:34:00 UTC`.
fn second_of(time: &str) -> String {
    format!("{} UTC", time.get(..19).unwrap_or(time).replacen('T', " ", 1))
}
