//! What people were told about a subject, read again from the notices of the stack.

use std::collections::BTreeSet;

use aws::clients::port_error;
use aws::layout::{parse_notice, text};
use aws_sdk_dynamodb::types::AttributeValue;
use pipeline::notice::Notice;
use pipeline::ports::{PortError, Said, Transition};
use replay::cli::moment::Moment;
use reputation::breaker::{Cause, Factor, Override};
use reputation::counters::{Metric, Tally};
use reputation::detect::{Level, NAT, NanoNats, Rule, Verdict};
use reputation::judge::Since;
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use serde::{Deserialize, Serialize};

use crate::Access;

/// One thing that people were told. All times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// When it was.
    pub at: String,
    /// The same for arithmetic.
    #[serde(skip)]
    pub time: Now,
    /// What kind of thing: see [`Notice::KINDS`].
    pub kind: &'static str,
    /// Whose breaker.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// State before; null where it is not about a breaker.
    pub from: Option<String>,
    /// State after; the same one where people were only told.
    pub to: Option<String>,
    /// `warn`, `throttle` or `pause`; null where things got better or a person spoke.
    pub level: Option<String>,
    /// Why it moved.
    pub cause: Cause,
    /// Which rate.
    pub metric: Option<String>,
    /// By which rule.
    pub rule: Option<String>,
    /// The rate, a share.
    pub rate: Option<f64>,
    /// Its denominator.
    pub population: Option<u64>,
    /// Its numerator.
    pub bad: Option<u64>,
    /// First minute of the cohorts it is about, and first minute after them.
    pub cohorts: Option<[String; 2]>,
    /// Decided in shadow: nothing was done.
    pub shadow: bool,
    /// Who said so; null = the breaker.
    pub by: Option<String>,
    /// Why, in that person's words.
    pub said: Option<String>,
    /// Why, in words, with the same numbers.
    pub reason: String,
    /// What was wished of SES and of the gate because of it.
    pub controls: Vec<String>,
    /// How the breaker stood after it.
    #[serde(skip)]
    pub(crate) after: After,
}

/// How a breaker stood after something that people were told. What an earlier release did not tell is missing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct After {
    /// What the verdict called for.
    called_for: Option<String>,
    /// Until when it is open (RFC 3339).
    until: Option<String>,
    hold: Option<String>,
    /// The share of the quota that it is throttled to.
    share: Option<f64>,
    trips: u32,
    /// From when on mail may throttle it, and pause it.
    judged_from: Option<[String; 2]>,
}

impl After {
    pub(crate) fn until(&self) -> Option<Now> {
        self.until.as_deref()?.parse::<Moment>().ok().map(|moment| moment.at)
    }

    pub(crate) fn overridden(&self) -> Override {
        Override::ALL.into_iter().find(|one| Some(one.name()) == self.hold.as_deref()).unwrap_or_default()
    }

    pub(crate) fn share(&self) -> Option<Factor> {
        self.share.map(Factor::of_share)
    }

    pub(crate) fn trips(&self) -> u32 {
        self.trips
    }

    pub(crate) fn since(&self) -> Option<Since> {
        let [throttle, pause] = self.judged_from.as_ref()?.each_ref().map(|minute| minute_of(minute));
        Some(Since { throttle: throttle?, pause: pause? })
    }
}

/// The detail of a notice, as far as it is about one subject. A release may leave out what another one tells.
#[derive(Deserialize)]
struct Detail {
    subject: String,
    reason: String,
    isp: Option<String>,
    from: Option<String>,
    to: Option<String>,
    level: Option<String>,
    metric: Option<String>,
    rule: Option<String>,
    rate: Option<f64>,
    population: Option<u64>,
    bad: Option<u64>,
    cohorts: Option<[String; 2]>,
    #[serde(default)]
    shadow: bool,
    #[serde(default)]
    controls: Vec<String>,
    #[serde(default)]
    cause: Cause,
    by: Option<String>,
    said: Option<String>,
    #[serde(flatten)]
    after: After,
}

impl Entry {
    /// What a notice tells; `None` if it is not about one subject.
    fn of(notice: &Notice) -> Option<Entry> {
        let detail: Detail = serde_json::from_str(&notice.detail).ok()?;
        let time = Now(notice.id.split('#').next()?.parse().ok()?);
        Some(Entry {
            at: time.to_string(),
            time,
            kind: notice.kind,
            subject: detail.subject,
            isp: detail.isp,
            from: detail.from,
            to: detail.to,
            level: detail.level,
            cause: detail.cause,
            metric: detail.metric,
            rule: detail.rule,
            rate: detail.rate,
            population: detail.population,
            bad: detail.bad,
            cohorts: detail.cohorts,
            shadow: detail.shadow,
            by: detail.by,
            said: detail.said,
            reason: detail.reason,
            controls: detail.controls,
            after: detail.after,
        })
    }

    /// Whether it is about this key.
    pub(crate) fn is_about(&self, policy: &Policy, key: &Key) -> bool {
        self.subject == key.subject.to_string() && self.isp.as_deref() == key.isp.map(|isp| policy.isp_map.name(isp))
    }

    /// Who said so.
    fn said(&self) -> Option<Said> {
        self.by.as_ref().map(|by| Said { by: by.clone(), why: self.said.clone() })
    }

    /// The reason with whoever said so, as it was told.
    pub fn told(&self) -> String {
        self.said().map_or_else(|| self.reason.clone(), |said| format!("{} ({said})", self.reason))
    }

    /// The transition of a key that it tells of; `None` if it tells of something else.
    ///
    /// Of the rule of a verdict only the kind is told, so that its limit and its line are those of the policy, and its
    /// evidence is left at 0.
    pub(crate) fn transition(&self, policy: &Policy, key: &Key) -> Option<Transition> {
        const STATES: [&str; 4] = ["closed", "throttled", "open", "probing"];
        let state = |name: &Option<String>| {
            let name = name.as_deref()?;
            STATES.into_iter().find(|known| *known == name)
        };
        let level = self.level.as_deref();
        let level = [Level::Warn, Level::Throttle, Level::Pause].into_iter().find(|known| Some(known.name()) == level);
        Some(Transition {
            at: self.time,
            key: key.clone(),
            from: state(&self.from)?,
            to: state(&self.to)?,
            level,
            cause: self.cause,
            verdict: level.and_then(|level| self.verdict(policy, level)),
            shadow: self.shadow,
            reason: self.reason.clone(),
            said: self.said(),
            gate: false,
            kin: BTreeSet::new(),
        })
    }

    fn verdict(&self, policy: &Policy, level: Level) -> Option<Verdict> {
        let metric = Metric::ALL.into_iter().find(|metric| Some(metric.name()) == self.metric.as_deref())?;
        let known = policy.metrics.rule(metric);
        let nats = |threshold: Option<NanoNats>| threshold.map_or(0.0, |nats| nats as f64 / NAT as f64);
        let (level, rule) = match self.rule.as_deref()? {
            "cusum" => {
                // What was only told about has the level of a warning, and a verdict of a worse one.
                let level = match (level, self.after.called_for.as_deref()) {
                    (_, Some("pause")) => Level::Pause,
                    (_, Some("throttle")) | (Level::Warn, _) => Level::Throttle,
                    (Level::Throttle | Level::Pause, _) => level,
                };
                let threshold = nats(if level == Level::Pause { known.pause } else { known.throttle });
                (level, Rule::Cusum { limit: known.limit, evidence: 0.0, threshold })
            }
            "ratio" => (level, Rule::Ratio { window_hours: 0, line: 0.0 }),
            _ => (level, Rule::Forecast { mails: self.population?, line: 0.0 }),
        };
        let [from, until] = self.cohorts.as_ref()?.each_ref().map(|minute| minute_of(minute));
        let tally = Tally { population: self.population?, bad: self.bad? };
        Some(Verdict { level, metric, rule, from: from?, until: until?, tally })
    }
}

fn minute_of(text: &str) -> Option<Minute> {
    text.parse::<Moment>().ok().map(|moment| moment.at.minute())
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Oldest first.
    pub(crate) entries: Vec<Entry>,
    /// Whether there are older ones, which were not asked for.
    pub(crate) more: bool,
    /// Notices that another release wrote, and that this one does not understand.
    pub(crate) unreadable: usize,
}

/// What people were told about a subject and its ISPs from `from` until `until`: of those that are `wanted`, the last `most`.
///
/// # Errors
///
/// Nothing is known then: ask again.
pub(crate) async fn read(
    access: &Access,
    subject: &Subject,
    (from, until): (Now, Now),
    most: usize,
    wanted: impl Fn(&Entry) -> bool,
) -> Result<Told, PortError> {
    let subject = subject.to_string();
    // Most notices are about others. What is filtered here costs as much to read, and need not be carried here.
    let about = format!("\"subject\":{}", serde_json::Value::from(subject.as_str()));
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
    let mut told = Told::default();
    while let Some(item) = items.next().await {
        let item = item.map_err(|error| port_error("reading notices", &error))?;
        let Some(entry) = parse_notice(&item).ok().and_then(|notice| Entry::of(&notice)) else {
            told.unreadable += 1;
            continue;
        };
        if entry.subject != subject || !wanted(&entry) {
            continue;
        }
        if told.entries.len() == most {
            told.more = true;
            break;
        }
        told.entries.push(entry);
    }
    told.entries.reverse();
    Ok(told)
}

#[cfg(test)]
mod tests {
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
    fn what_another_release_did_not_tell_or_told_in_other_words_is_not_known() {
        let old = r#""subject":"configuration-set:news","isp":null,"from":"closed","to":"open","level":"pause",
            "reason":"a person stopped it (said by ann: wrong list)""#;
        for (detail, cause) in [
            (format!("{{{old}}}"), Cause::Unknown),
            (format!(r#"{{{old},"cause":"solstice","hold":"sideways"}}"#), Cause::Unknown),
            (format!(r#"{{{old},"cause":"person","until":null,"hold":"open"}}"#), Cause::Person),
        ] {
            let read = entry(&detail);
            assert_eq!((read.cause, read.by.as_deref()), (cause, None));
            assert_eq!((read.after.since(), read.after.share(), read.after.until()), (None, None, None));
            // The reason is told as it was, whoever is named in it.
            assert_eq!(read.told(), "a person stopped it (said by ann: wrong list)");
        }
    }

    #[test]
    fn how_a_breaker_stood_is_read_as_it_was_told() {
        let read = entry(
            r#"{"subject":"configuration-set:news","isp":null,"from":"closed","to":"throttled","level":"throttle",
            "reason":"quota cut","cause":"verdict","called_for":"pause","by":null,"said":null,"until":null,"hold":"shadow",
            "share":0.25,"trips":2,"judged_from":["2026-10-06T08:01:00Z","2026-10-06T07:00:00Z"]}"#,
        );
        let minute = Now(1_791_273_600_000).minute();
        assert_eq!(read.after.since(), Some(Since { throttle: minute.plus(1), pause: minute.minus(60) }));
        assert_eq!((read.after.share(), read.after.trips()), (Some(Factor::of_share(0.25)), 2));
        assert_eq!((read.after.overridden(), read.after.until()), (Override::Shadow, None));
    }
}
