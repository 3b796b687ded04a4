//! Real answers of servers, and how a postmaster classifies them: `answers/answers.tsv`.
//!
//! Columns: `part`, `status` as SES gives it, `right` (a class of [`Refusal`], or `none`), `source` of the wording, and
//! the answer with `\r` and `\n` written out. Addresses, host names of senders and ids are invented.
//!
//! The parts, in the order in which they were labelled and measured; the result of each before any fix is in
//! `DESIGN.md`. `dev`, `seen`: used while the table of phrases was written, so not a measurement. `held`: measured only
//! afterwards. The others: from collections that were read only after that.

use reputation::refusal::{Refusal, Signal, SignalKind};

const ANSWERS: &str = include_str!("answers/answers.tsv");

struct Answer {
    part: &'static str,
    status: &'static str,
    right: &'static str,
    source: &'static str,
    text: String,
}

impl Answer {
    fn read() -> Vec<Self> {
        let mut lines = ANSWERS.lines();
        assert_eq!(lines.next(), Some("part\tstatus\tright\tsource\tanswer"));
        let row = |line: &'static str| {
            let mut columns = line.split('\t');
            let mut next = || columns.next().unwrap_or_else(|| panic!("a column is missing: {line}"));
            let (part, status, right, source, text) = (next(), next(), next(), next(), next());
            assert_eq!(columns.next(), None, "{line}");
            Self { part, status, right, source, text: text.replace("\\r", "\r").replace("\\n", "\n") }
        };
        lines.map(row).collect()
    }

    fn class(&self, kind: SignalKind<'_>) -> &'static str {
        let status = Some(self.status).filter(|status| !status.is_empty());
        Refusal::classify(Signal { kind, status, diagnostic: Some(&self.text) }).map_or("none", Refusal::name)
    }
}

const PARTS: [&str; 13] =
    ["dev", "held", "fresh", "later", "last", "logs", "rules", "mixed", "common", "seen", "wide", "zone", "lists"];

const BOUNCE: SignalKind<'_> = SignalKind::Bounce { bounce_type: "Permanent", sub_type: "General" };
const DELAY: SignalKind<'_> = SignalKind::Delay { delay_type: "General" };

#[test]
fn every_answer_is_read_as_a_postmaster_reads_it() {
    let answers = Answer::read();
    let mut wrong = Vec::new();
    for part in PARTS {
        let rows: Vec<&Answer> = answers.iter().filter(|answer| answer.part == part).collect();
        let (mut block, mut class) = (0, 0);
        for answer in &rows {
            let found = answer.class(BOUNCE);
            block += usize::from((found == "none") == (answer.right == "none"));
            class += usize::from(found == answer.right);
            if found != answer.right {
                let Answer { status, right, text, .. } = answer;
                wrong.push(format!("{part}: {right}, found {found}: [{status}] {text:?}"));
            }
        }
        wrong.push(format!(
            "{part}: of {} answers block or not is right for {block}, the class for {class}",
            rows.len()
        ));
    }
    assert_eq!(wrong.len(), PARTS.len(), "{}", wrong.join("\n"));
}

#[test]
fn an_answer_is_read_alike_in_a_bounce_and_in_a_delay() {
    for answer in Answer::read() {
        assert_eq!(answer.class(BOUNCE), answer.class(DELAY), "{}", answer.text);
    }
}

#[test]
fn every_answer_has_a_known_class_and_a_source_and_each_class_has_answers_in_dev_and_held() {
    let answers = Answer::read();
    assert!(answers.len() >= 250);
    let known = Refusal::ALL.map(Refusal::name);
    for answer in &answers {
        assert!(answer.right == "none" || known.contains(&answer.right), "{}", answer.right);
        assert!(PARTS.contains(&answer.part));
        assert!(!answer.source.is_empty() && !answer.text.is_empty());
    }
    for part in ["dev", "held"] {
        for class in known {
            assert!(answers.iter().any(|answer| answer.part == part && answer.right == class), "{part} {class}");
        }
    }
    let texts: std::collections::BTreeSet<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
    assert_eq!(texts.len(), answers.len(), "an answer stands twice");
}
