//! Messages: what people are told, and in which words.
//!
//! What happened and why, what was done, what happens next, and what to type to undo it. Commands are completed with the
//! stack's name and Region by whoever sends a message, because only they know it.

use std::collections::BTreeSet;

use reputation::detect::Percent;
use reputation::policy::Policy;
use reputation::time::Now;
use serde::{Deserialize, Serialize};

use super::fact::Fact;
use super::{Notice, title};
use crate::enforce::Wished;

/// Others that a message lists; of the rest it tells how many there are.
const MOST_OTHERS: usize = 30;
/// Subjects that it names for programs that filter messages.
const MOST_SUBJECTS: usize = 10;
/// Keys that one message tells how to undo, and bytes of their names in one command: half a command is none, and a chat takes
/// few characters.
const MOST_UNDONE: usize = 5;
const MOST_TARGETS: usize = 200;
/// Bytes of one reason, and of all that is said.
const MOST_REASON: usize = 2_000;
const MOST_BODY: usize = 8_000;

/// Which stack sends a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its name; empty if it is not known.
    pub stack: String,
    /// Its Region; empty if it is not known.
    pub region: String,
}

/// What people are told of a group of notices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Its name; the same when it is sent again.
    pub id: String,
    /// One line of at most 100 ASCII characters without control characters (the limits of an SNS subject).
    pub title: String,
    /// What kind of thing it tells of: see [`Notice::KINDS`].
    pub kind: String,
    /// `warn`, `throttle` or `pause`; `None` where things get better.
    pub level: Option<String>,
    /// Whom it is about: of several, the one that the others follow from.
    pub subject: String,
    /// All whom it is about, at most 10.
    pub subjects: Vec<String>,
    /// When it was decided (RFC 3339).
    pub at: String,
    /// What happened, why, what was done and what happens next.
    pub body: String,
    /// What to type.
    pub commands: Vec<Command>,
}

/// What to type, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What it does; commands in a row that do the same have the same words here.
    pub purpose: String,
    /// The command without stack and Region.
    line: String,
}

impl Command {
    fn new(purpose: &str, line: String) -> Command {
        Command { purpose: purpose.to_owned(), line }
    }

    /// The whole command, for a shell.
    pub fn line(&self, place: &Place) -> String {
        let mut line = self.line.clone();
        for (option, value) in [("--stack", &place.stack), ("--region", &place.region)] {
            if !value.is_empty() {
                line.push_str(&format!(" {option} {}", quoted(value)));
            }
        }
        line
    }
}

/// What messages are written with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) policy: &'a Policy,
    /// How far the wishes about SES are.
    pub(super) wishes: &'a [Wished],
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
    /// The text of an e-mail.
    pub fn text(&self, place: &Place) -> String {
        let mut text = format!("{}\n", self.body.trim_end());
        let mut purpose = None;
        for command in &self.commands {
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

    /// Tells of what is not about a breaker.
    pub(super) fn of_notice(notice: &Notice) -> Message {
        let detail: serde_json::Value = serde_json::from_str(&notice.detail).unwrap_or_default();
        let subject = detail["subject"].as_str().unwrap_or_default().to_owned();
        Message {
            id: notice.id.clone(),
            title: notice.title.clone(),
            kind: notice.kind.to_owned(),
            level: None,
            subjects: vec![subject.clone()],
            at: detail["at"].as_str().unwrap_or_default().to_owned(),
            body: notice.text.clone(),
            commands: vec![Command::new("To see how things stand", "ses-breaker status".to_owned())],
            subject,
        }
    }

    /// Tells of facts that go together, the leading one first.
    pub(super) fn of_facts(known: &Known<'_>, id: String, facts: &[&Fact], earlier: &[Earlier]) -> Message {
        let Some(lead) = facts.first().copied() else { return Message { id, ..Message::default() } };
        let shadow = if lead.shadow { " (shadow: nothing is done)" } else { "" };
        let moves = moves(facts, &lead.key());
        let last = moves.last().copied().unwrap_or(lead);
        let mut body = format!("{}: {}{shadow}\n\n{}\n", lead.key(), way(&moves), cut(&lead.why()));
        if last.id != lead.id {
            body.push_str(&format!("\nAfter that: {}\n", cut(&last.why())));
        }
        body.push_str(&format!("\nEffect: {}.\nNext: {}\n", done(known, last), next(known.policy, last)));
        body.push_str(&others(known, lead, facts));
        body.push_str(&summary(earlier));
        Message::about(known, id, lead.title.clone(), body, facts)
    }

    /// Tells how things stand after changes that people were not told one by one. `facts`: the last of each key.
    pub(super) fn of_summary(known: &Known<'_>, id: String, facts: &[&Fact], earlier: &[Earlier]) -> Message {
        let Some(lead) = facts.first().copied() else { return Message { id, ..Message::default() } };
        let count: u32 = earlier.iter().filter(|earlier| earlier.key == lead.key()).map(|earlier| earlier.count).sum();
        let changes = if count == 1 { "1 more change".to_owned() } else { format!("{count} more changes") };
        let line = format!("ses-breaker summary: {} {}, {changes}", lead.key(), lead.to);
        let mut body = format!("{} is {} now.\n", lead.key(), lead.to);
        body.push_str(&summary(earlier));
        body.push_str(&format!("\nThe last of them: {}\n", cut(&lead.why())));
        body.push_str(&format!("\nEffect: {}.\nNext: {}\n", done(known, lead), next(known.policy, lead)));
        Message::about(known, id, title(&line), body, facts)
    }

    fn about(known: &Known<'_>, id: String, title: String, mut body: String, facts: &[&Fact]) -> Message {
        if body.len() > MOST_BODY {
            body.truncate(body.floor_char_boundary(MOST_BODY));
            body.push_str(" ...\n");
        }
        let lead = facts.first().copied();
        let mut subjects: Vec<String> = Vec::new();
        for fact in facts {
            if subjects.len() < MOST_SUBJECTS && !subjects.contains(&fact.subject) {
                subjects.push(fact.subject.clone());
            }
        }
        Message {
            id,
            title,
            kind: Notice::TRANSITION.to_owned(),
            level: lead.and_then(|lead| lead.level.clone()),
            subject: lead.map(|lead| lead.subject.clone()).unwrap_or_default(),
            subjects,
            at: lead.map(|lead| lead.at().to_string()).unwrap_or_default(),
            body,
            commands: commands(known.policy, facts),
        }
    }
}

/// What happened to the others.
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
    let mut text = "\nWith it:\n".to_owned();
    let mut reasons = BTreeSet::from([lead.why()]);
    for key in keys.iter().take(MOST_OTHERS) {
        let moves = moves(facts, key);
        let Some(last) = moves.last().copied() else { continue };
        let way = if last.from == last.to { "warning".to_owned() } else { way(&moves) };
        text.push_str(&format!("- {key}: {way}"));
        if last.controls.iter().any(|control| is_for_ses(control)) && !last.shadow {
            text.push_str(&format!(" ({})", done(known, last)));
        }
        if reasons.insert(last.why()) {
            text.push_str(&format!(": {}", cut(&last.why())));
        }
        text.push('\n');
    }
    if let more @ 1.. = keys.len().saturating_sub(MOST_OTHERS) {
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

/// From where to where a key went: `closed -> throttled -> closed`.
fn way(moves: &[&Fact]) -> String {
    let mut way: Vec<&str> = moves.first().map(|first| first.from.as_str()).into_iter().collect();
    for fact in moves {
        if way.last() != Some(&fact.to.as_str()) {
            way.push(&fact.to);
        }
    }
    way.join(" -> ")
}

/// What was held back.
fn summary(earlier: &[Earlier]) -> String {
    let mut text = String::new();
    for Earlier { key, count, since, lines } in earlier {
        let changes = if *count == 1 { "1 more change".to_owned() } else { format!("{count} more changes") };
        text.push_str(&format!(
            "\nAnd {changes} of {key} since {}, not told one by one:\n",
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
fn is_for_ses(control: &str) -> bool {
    super::asked_of_ses(control.split(' ').next().unwrap_or_default()).is_some()
}

/// What was done about it, for people.
fn done(known: &Known<'_>, fact: &Fact) -> String {
    // What was stopped before is let flow again in shadow, too.
    if fact.shadow && fact.controls.is_empty() {
        return "nothing, because this is decided in shadow".to_owned();
    }
    let told = |control: &String| {
        let (kind, target) = control.split_once(' ').unwrap_or((control.as_str(), ""));
        if let Some(at_ses) = super::at_ses(kind, target, known.wishes) {
            return at_ses;
        }
        super::done_by(kind, target.strip_prefix(fact.key().as_str()).unwrap_or_default().trim())
    };
    // Without a gate, only what SES is asked for has an effect.
    let counts = |control: &&String| known.policy.gate_in_use || is_for_ses(control);
    let done: Vec<String> = fact.controls.iter().filter(counts).map(told).collect();
    match (done.is_empty(), fact.controls.is_empty()) {
        (false, _) => done.join("; "),
        (true, true) => "nothing but telling you".to_owned(),
        (true, false) if fact.is_withheld() => {
            "nothing but telling you: only the gate could hold mail to a share of its quota, and it is not in use"
                .to_owned()
        }
        (true, false) => "nothing but telling you: SES has no switch for this, and the gate is not in use".to_owned(),
    }
}

/// What happens next, as a sentence.
fn next(policy: &Policy, fact: &Fact) -> String {
    let breaker = &policy.breaker;
    let share = if policy.gate_in_use {
        format!("{} of the quota is let through", Percent(breaker.probe_share))
    } else {
        "mail is let through".to_owned()
    };
    if fact.shadow {
        return "nothing. In shadow the breaker goes on as if it had acted, and tells you.".to_owned();
    }
    match (fact.to.as_str(), &fact.until) {
        ("open", Some(until)) if fact.isp.is_some() && fact.subject == "account" => format!(
            "at {} mail to this ISP flows again, and each sender is judged there by mail that SES accepts from then on.",
            minute_of(until)
        ),
        ("open", Some(until)) => format!(
            "at {} {share} to see, and judged by what SES accepts from then on. If that is clean, it comes back step by \
             step; if not, it is stopped again, for longer.",
            minute_of(until)
        ),
        ("open", None) if fact.hold == "open" => "it stays stopped until a person resumes it.".to_owned(),
        ("open", None) => {
            "it stays stopped until a person resumes it: the policy says `resume = \"manual\"`.".to_owned()
        }
        ("probing", _) => format!(
            "once {} mails have an outcome and {} min are over ({} min after complaints) without a verdict, it comes back \
             step by step; after {} min in any case. If harm goes on, it is stopped again, for longer.",
            breaker.probe_mails, breaker.probe_min_minutes, breaker.complaint_probe_minutes, breaker.probe_max_minutes
        ),
        ("throttled", _) if fact.is_withheld() => {
            let meanwhile = if policy.gate_in_use { "it" } else { "its mail flows on, unless you stop it. It" };
            format!(
                "{meanwhile} is judged again each minute, and paused as soon as a place is free, its harm reaches the next \
                 order of magnitude, or its evidence is overwhelming."
            )
        }
        ("throttled", _) => format!(
            "after {} min without further harm the quota doubles, until it is whole. If harm goes on, it is cut further \
             or stopped.",
            breaker.raise_every_minutes
        ),
        (_, _) if fact.hold == "closed" => {
            "verdicts are told, not acted on, until a person releases it.".to_owned()
        }
        (_, Some(until)) if is_unheld(policy, fact) => {
            format!("at {} each sender is judged at this ISP again, by mail that SES accepts from then on.", minute_of(until))
        }
        (_, _) if fact.is_bad_news() => {
            "nothing is done about it by itself. This warning is not repeated for a week; what is worse is told at once."
                .to_owned()
        }
        (_, _) => "mail flows, and new harm is told at once.".to_owned(),
    }
}

/// Whether it is about an ISP itself that nothing can hold: without a gate neither a breaker nor a person stops its mail.
fn is_unheld(policy: &Policy, fact: &Fact) -> bool {
    fact.subject == "account" && fact.isp.is_some() && !policy.gate_in_use
}

/// What to type about facts of which the leading one comes first.
fn commands(policy: &Policy, facts: &[&Fact]) -> Vec<Command> {
    let mut commands = Vec::new();
    let Some(lead) = facts.first().copied() else { return commands };
    // Where it is now, which need not be where the worst of it was.
    let lead = moves(facts, &lead.key()).last().copied().unwrap_or(lead);
    let target = target(policy, lead);
    let held = lead.hold.as_str();
    // In shadow nothing was done that could be undone.
    if lead.shadow && held == "shadow" {
        commands.push(Command::new("To let its breaker act again", format!("ses-breaker release {target}")));
    }
    if !lead.shadow && !is_unheld(policy, lead) {
        let undo = undo(policy, facts);
        if held == "open" || held == "closed" {
            let purpose = "To leave it to its breaker again";
            commands.push(Command::new(purpose, format!("ses-breaker release {target}")));
        }
        if held != "closed" && (!undo.is_empty() || lead.is_bad_news()) {
            let purpose = "To keep it flowing whatever the verdict, until you release it";
            commands.push(Command::new(purpose, format!("ses-breaker hold {target}")));
        }
        commands.splice(0..0, undo);
        if held != "open" {
            let purpose = if lead.to == "open" {
                "To keep it stopped until you resume it"
            } else {
                "To stop it until you resume it"
            };
            commands.push(Command::new(purpose, format!("ses-breaker pause {target}")));
        }
    }
    commands.push(Command::new("To see how it stands", format!("ses-breaker status {}", quoted(&lead.subject))));
    commands
}

/// What undoes facts: a command for all of them, or one for each ISP.
fn undo(policy: &Policy, facts: &[&Fact]) -> Vec<Command> {
    let (mut keys, mut lines): (BTreeSet<String>, Vec<(String, Option<String>)>) = (BTreeSet::new(), Vec::new());
    for fact in facts.iter().filter(|fact| is_held_up(facts, fact)) {
        if keys.len() >= MOST_UNDONE || !keys.insert(fact.key()) {
            continue;
        }
        let (subject, isp) = (quoted(&fact.subject), at_isp(policy, fact).map(quoted));
        let fits = |(subjects, known): &&mut (String, Option<String>)| {
            *known == isp && subjects.len() + subject.len() < MOST_TARGETS
        };
        match lines.iter_mut().find(fits) {
            Some((subjects, _)) => subjects.push_str(&format!(" {subject}")),
            None => lines.push((subject, isp)),
        }
    }
    let command = |(subjects, isp): (String, Option<String>)| {
        let isp = isp.map_or_else(String::new, |isp| format!(" --isp {isp}"));
        let purpose = "To undo it now (all mail flows, and is judged anew)";
        Command::new(purpose, format!("ses-breaker resume {subjects}{isp}"))
    };
    lines.into_iter().map(command).collect()
}

/// Whether a fact leaves mail stopped, on trial or cut short, and is the last one of its key among `facts`.
fn is_held_up(facts: &[&Fact], fact: &Fact) -> bool {
    let is_last = !facts.iter().any(|other| other.key() == fact.key() && other.id > fact.id);
    is_last && fact.to != "closed"
}

/// Whom a command is about.
fn target(policy: &Policy, fact: &Fact) -> String {
    let isp = at_isp(policy, fact).map_or_else(String::new, |isp| format!(" --isp {}", quoted(isp)));
    format!("{}{isp}", quoted(&fact.subject))
}

/// The ISP at which something can be done about it.
fn at_isp<'a>(policy: &Policy, fact: &'a Fact) -> Option<&'a str> {
    // Without a gate, nothing can be done about a single ISP.
    fact.isp.as_deref().filter(|_| policy.gate_in_use || fact.subject == "account")
}

/// A word as a shell takes it for one. Control characters, which no name has, become question marks.
pub(crate) fn quoted(word: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    let word: String = word.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn cut(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(MOST_REASON)).unwrap_or(reason)
}

/// The minute of a time in RFC 3339, for people: `2026-10-06 08:34 UTC`.
fn minute_of(time: &str) -> String {
    format!("{} UTC", time.get(..16).unwrap_or(time).replacen('T', " ", 1))
}

/// The second of a time in RFC 3339, for people: `2026-10-06 08:34:00 UTC`.
fn second_of(time: &str) -> String {
    format!("{} UTC", time.get(..19).unwrap_or(time).replacen('T', " ", 1))
}
