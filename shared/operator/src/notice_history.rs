//! The notices of the stack about a subject.

use std::collections::BTreeSet;

use aws::clients::port_error;
use aws::layout::{parse_notice, text};
use aws_sdk_dynamodb::types::AttributeValue;
use pipeline::notice::Notice;
use pipeline::ports::PortError;
use pipeline::transition::{Transition, TransitionDetail};
use reputation::counters::Tally;
use reputation::detect::{Level, NAT, NanoNats, Rule, RuleName, Verdict};
use reputation::judge::ArmedSince;
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::Now;
use serde::{Deserialize, Serialize};

use crate::Access;

/// One notice about a subject. All times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// When it happened.
    #[serde(skip)]
    pub time: Now,
    /// The kind of notice: see [`Notice::KINDS`].
    pub kind: &'static str,
    /// The content.
    #[serde(flatten)]
    pub about: About,
}

/// The content of a notice.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum About {
    /// A transition of a breaker.
    Breaker(Box<TransitionDetail>),
    /// Something else about a subject.
    Subject(Fact),
}

/// The content of a notice that is not about a breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// When it happened.
    #[serde(default)]
    pub at: Now,
    /// The subject.
    pub subject: Subject,
    /// What happened, in words.
    pub reason: String,
}

impl Entry {
    /// Reads a notice; `None` if it is not about one subject, or cannot be read because another release wrote it.
    pub(crate) fn of(notice: &Notice) -> Option<Entry> {
        let time = Now(notice.id.split('#').next()?.parse().ok()?);
        let about = match notice.kind {
            Notice::TRANSITION => {
                let mut detail: Box<TransitionDetail> = serde_json::from_str(&notice.detail).ok()?;
                detail.record.at = time;
                About::Breaker(detail)
            }
            _ => About::Subject(Fact { at: time, ..serde_json::from_str(&notice.detail).ok()? }),
        };
        Some(Entry { time, kind: notice.kind, about })
    }

    /// The transition of a breaker, if it is about one.
    pub fn breaker(&self) -> Option<&TransitionDetail> {
        match &self.about {
            About::Breaker(detail) => Some(detail),
            About::Subject(_) => None,
        }
    }

    /// The subject.
    pub fn subject(&self) -> &Subject {
        match &self.about {
            About::Breaker(detail) => &detail.subject,
            About::Subject(fact) => &fact.subject,
        }
    }

    /// The ISP, if it is about one.
    pub fn isp(&self) -> Option<&str> {
        self.breaker()?.isp.as_deref()
    }

    /// The reason, without the person who acted.
    pub fn reason(&self) -> &str {
        match &self.about {
            About::Breaker(detail) => &detail.reason,
            About::Subject(fact) => &fact.reason,
        }
    }

    /// The reason, with the person who acted.
    pub fn why(&self) -> String {
        self.breaker().map_or_else(|| self.reason().to_owned(), TransitionDetail::why)
    }

    /// Whether it is about this key.
    pub(crate) fn is_about(&self, policy: &Policy, key: &Key) -> bool {
        *self.subject() == key.subject && self.isp() == key.isp.map(|isp| policy.isp_map.name(isp))
    }

    /// The transition of a key; `None` if it is about something else.
    ///
    /// A notice names the rule of a verdict, but not its limit and line: those are taken from the policy in use, and the
    /// evidence is left at 0.
    pub(crate) fn transition(&self, policy: &Policy, key: &Key) -> Option<Transition> {
        let detail = self.breaker()?;
        Some(Transition {
            at: self.time,
            key: key.clone(),
            from: detail.from,
            to: detail.to,
            level: detail.level,
            cause: detail.cause,
            verdict: detail.level.and_then(|level| verdict(detail, policy, level)),
            shadow: detail.shadow,
            reason: detail.reason.clone(),
            said: detail.person(),
            gate: detail.gate,
            shares_mail_with: BTreeSet::new(),
        })
    }
}

/// The time from which mail is judged after it.
pub(crate) fn since(detail: &TransitionDetail) -> Option<ArmedSince> {
    let [throttle, pause] = detail.judged_from?;
    Some(ArmedSince { throttle, pause })
}

fn verdict(detail: &TransitionDetail, policy: &Policy, level: Level) -> Option<Verdict> {
    let metric = detail.metric?;
    let known = policy.metrics.rule(metric);
    let nats = |threshold: Option<NanoNats>| threshold.map_or(0.0, |nats| nats as f64 / NAT as f64);
    let tally = Tally { population: detail.population?, bad: detail.bad? };
    let (level, rule) = match detail.rule? {
        RuleName::Cusum => {
            // If people were only warned, the level is a warning; the verdict may have been worse.
            let level = match (level, detail.called_for) {
                (_, Some(Level::Pause)) => Level::Pause,
                (_, Some(Level::Throttle)) | (Level::Warn, _) => Level::Throttle,
                (Level::Throttle | Level::Pause, _) => level,
            };
            let threshold = nats(if level == Level::Pause { known.pause } else { known.throttle });
            (level, Rule::Cusum { limit: known.limit, evidence: 0.0, threshold, repeats: 0 })
        }
        RuleName::Ratio => (level, Rule::Ratio { window_hours: 0, line: 0.0 }),
        RuleName::AwsForecast => (level, Rule::Forecast { mails: tally.population, line: 0.0 }),
    };
    let [from, until] = detail.cohorts?;
    Some(Verdict { level, metric, rule, from, until, tally })
}

/// The notices that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Oldest first.
    pub(crate) entries: Vec<Entry>,
    /// Whether there are older ones that were not asked for.
    pub(crate) more: bool,
    /// Notices that were written by another release and cannot be read.
    pub(crate) unreadable: usize,
}

/// The notices about a subject and its ISPs from `from` until `until`: of those that are `wanted`, the newest `most`.
///
/// # Errors
///
/// AWS refuses; nothing is known then, so ask again.
pub(crate) async fn read(
    access: &Access,
    subject: &Subject,
    (from, until): (Now, Now),
    most: usize,
    wanted: impl Fn(&Entry) -> bool,
) -> Result<Found, PortError> {
    // Most notices are about other subjects. Filtering costs the same read units, but less transfer.
    let about = format!("\"subject\":{}", serde_json::Value::from(subject.to_string()));
    let bound = |at: Now| text(format!("{:013}", at.0.max(0)));
    let query = access
        .clients
        .dynamodb()
        .query()
        .table_name(access.table())
        .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :until")
        .filter_expression("contains(#detail, :about)")
        .expression_attribute_names("#detail", "detail")
        .expression_attribute_values(":pk", text("notices"))
        .expression_attribute_values(":from", bound(from))
        .expression_attribute_values(":until", bound(until))
        .expression_attribute_values(":about", AttributeValue::S(about))
        .scan_index_forward(false);
    let mut items = query.into_paginator().items().send();
    let mut found = Found::default();
    while let Some(item) = items.next().await {
        let item = item.map_err(|error| port_error("reading notices", &error))?;
        let Some(entry) = parse_notice(&item).ok().and_then(|notice| Entry::of(&notice)) else {
            found.unreadable += 1;
            continue;
        };
        if *entry.subject() != *subject || !wanted(&entry) {
            continue;
        }
        if found.entries.len() == most {
            found.more = true;
            break;
        }
        found.entries.push(entry);
    }
    found.entries.reverse();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use reputation::breaker::{Cause, Override};

    use super::*;

    fn entry(detail: &str) -> Entry {
        let notice = Notice {
            id: "1791273600000#configuration-set:news#000003".to_owned(),
            title: String::new(),
            text: String::new(),
            kind: Notice::TRANSITION,
            detail: detail.to_owned(),
        };
        Entry::of(&notice).unwrap()
    }

    #[test]
    fn fields_that_another_release_left_out_or_named_otherwise_are_unknown() {
        let old = r#""subject":"configuration-set:news","isp":null,"from":"closed","to":"open","level":"pause",
            "reason":"a person stopped it (said by ann: wrong list)""#;
        for (detail, cause) in [
            (format!("{{{old}}}"), Cause::Unknown),
            (format!(r#"{{{old},"cause":"solstice","hold":"sideways"}}"#), Cause::Unknown),
            (format!(r#"{{{old},"cause":"person","until":null,"hold":"open"}}"#), Cause::Person),
        ] {
            let read = entry(&detail);
            // The reason stays unchanged, with the person who is named in it.
            assert_eq!(read.why(), "a person stopped it (said by ann: wrong list)");
            let read = read.breaker().unwrap();
            assert_eq!((read.cause, read.by.as_deref()), (cause, None));
            assert_eq!((since(read), read.share, read.until), (None, None, None));
        }
    }

    #[test]
    fn the_state_of_a_breaker_is_read_as_it_was_written() {
        let read = entry(
            r#"{"subject":"configuration-set:news","isp":null,"from":"closed","to":"throttled","level":"throttle",
            "reason":"quota cut","cause":"verdict","called_for":"pause","by":null,"said":null,"until":null,"hold":"shadow",
            "share":0.25,"trips":2,"judged_from":["2026-10-06T08:01:00Z","2026-10-06T07:00:00Z"]}"#,
        );
        let read = read.breaker().unwrap();
        let minute = Now(1_791_273_600_000).minute();
        assert_eq!(since(read), Some(ArmedSince { throttle: minute.plus(1), pause: minute.minus(60) }));
        assert_eq!((read.share, read.trips), (Some(0.25), 2));
        assert_eq!((read.hold, read.until), (Override::Shadow, None));
    }
}
