//! Headlines: the effect first, then the subject, then the numbers.
//!
//! `[STOPPED] newsletter: 38 % of 21 mails bounced hard`, `[WARNING, still sending] …`, `[RESUMED by ann] …`.

use reputation::breaker::{Cause, Override, StateName};
use reputation::detect::Percent;
use reputation::subject::Subject;

use super::fact::Fact;

/// The subject in a headline: `newsletter`, `newsletter at gmail`, `identity example.com`, `gmail` for an ISP itself.
pub(super) fn short_name(subject: &Subject, isp: Option<&str>) -> String {
    match (subject, isp) {
        (Subject::Account, Some(isp)) => isp.to_owned(),
        (subject, Some(isp)) => format!("{} at {isp}", short_name(subject, None)),
        (Subject::ConfigurationSet(name), None) => name.to_string(),
        (Subject::Account | Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..), None) => {
            subject.to_string().replacen(':', " ", 1)
        }
    }
}

/// The subject where it is first named: `configuration set newsletter at gmail`.
pub(super) fn full_name(subject: &Subject, isp: Option<&str>) -> String {
    match (subject, isp) {
        (Subject::Account, Some(isp)) => format!("ISP {isp}"),
        (Subject::Account, None) => "the account".to_owned(),
        (Subject::ConfigurationSet(_), isp) => format!("configuration set {}", short_name(subject, isp)),
        (Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..), isp) => short_name(subject, isp),
    }
}

/// The last part of an ARN, or the whole name: `ann` of `arn:aws:iam::123456789012:user/ann`.
fn person(by: &str) -> &str {
    let last = by.rsplit(['/', ':']).next().unwrap_or(by);
    if last.is_empty() { by } else { last }
}

/// The effect on the mail, in a few words. `fact`: the last one about its key; `first`: the first one about it.
pub(super) fn effect(first: &Fact, fact: &Fact) -> String {
    let by = fact.by.as_deref().map_or("a person", person);
    if fact.cause == Cause::Person {
        return match fact.hold {
            Override::ForcedOpen if fact.stops() => format!("STOPPED by {by}"),
            Override::ForcedOpen if fact.shadow => format!("SHADOW, would be stopped by {by}"),
            Override::ForcedOpen => format!("NOT STOPPED, only noted for {by}"),
            Override::ForcedClosed => format!("BYPASSED by {by}"),
            Override::Shadow => format!("SHADOW by {by}"),
            Override::None if first.from == StateName::Closed => format!("RELEASED by {by}"),
            Override::None => format!("RESUMED by {by}"),
        };
    }
    if fact.cause == Cause::Incident {
        let effect = match (fact.gate, fact.shadow) {
            (true, false) => "HELD",
            (true, true) => "SHADOW, would be held",
            (false, _) => "WARNING, still sending",
        };
        return effect.to_owned();
    }
    let is_warning = fact.level.is_some();
    let effect = match fact.to {
        // Without a gate a cut of the quota is a warning, in shadow or not.
        to if fact.shadow && fact.from != to && (fact.gate || to != StateName::Throttled) => {
            return format!("SHADOW, would be {}", to.word(true));
        }
        StateName::Open if fact.stops() => "STOPPED",
        StateName::Throttled if fact.gate => "SLOWED",
        StateName::Probing => "TESTING",
        _ if is_warning => "WARNING, still sending",
        StateName::Open => "NOT STOPPED",
        _ if fact.whole_isp().is_some() && !fact.gate => "OVER",
        StateName::Closed | StateName::Throttled | StateName::InTrouble | StateName::Unknown => "SENDING AGAIN",
    };
    effect.to_owned()
}

/// The numbers, or the reason if there are none, in a few words.
fn because(fact: &Fact) -> String {
    if let (Some(metric), Some(population), Some(bad)) = (fact.metric, fact.population, fact.bad) {
        let rate = Percent(bad as f64 / (population.max(1)) as f64);
        return format!("{rate} of {population} {} {}", metric.population_noun(), metric.bad_verb());
    }
    let until_mark = fact.reason.split([':', ';', ',']).next().unwrap_or_default();
    until_mark.trim().to_owned()
}

/// The title of a message about the facts of one key. It may exceed the limit for titles.
pub(super) fn headline(first: &Fact, last: &Fact) -> String {
    // If the last fact has no numbers, the first one may have them.
    let because = match (last.metric.is_some(), first.metric.is_some()) {
        (false, true) if last.cause != Cause::Person => because(first),
        _ => because(last),
    };
    format!("[{}] {}: {because}", effect(first, last), short_name(&last.subject, last.isp.as_deref()))
}

#[cfg(test)]
mod tests {
    use reputation::detect::Level;

    use super::*;

    #[test]
    fn in_shadow_nothing_is_said_to_be_held_stopped_or_slowed() {
        let effect_of = |to: StateName, cause: Cause, gate: bool| {
            let fact = serde_json::json!({
                "id": "", "title": "", "subject": "account", "from": StateName::Closed, "to": to, "level": Level::Pause, "cause": cause,
                "gate": gate, "shadow": true, "reason": "",
            });
            let fact: Fact = serde_json::from_value(fact).unwrap();
            effect(&fact, &fact)
        };
        assert_eq!(effect_of(StateName::Open, Cause::Incident, true), "SHADOW, would be held");
        assert_eq!(effect_of(StateName::Open, Cause::Verdict, false), "SHADOW, would be stopped");
        assert_eq!(effect_of(StateName::Throttled, Cause::Verdict, true), "SHADOW, would be slowed");
        assert_eq!(effect_of(StateName::Throttled, Cause::Verdict, false), "WARNING, still sending");
    }

    #[test]
    fn the_person_who_acted_is_named_without_the_account() {
        for (by, name) in [
            ("arn:aws:iam::123456789012:user/ann", "ann"),
            ("arn:aws:sts::123456789012:assumed-role/Admin/bob", "bob"),
            ("arn:aws:iam::123456789012:root", "root"),
            ("ann", "ann"),
            ("arn:", "arn:"),
        ] {
            assert_eq!(person(by), name);
        }
    }
}
