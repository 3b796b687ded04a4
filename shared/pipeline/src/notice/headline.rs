//! Headlines: the effect first, then whose mail, then the numbers.
//!
//! `[STOPPED] newsletter: 38 % of 21 mails bounced hard`, `[WARNING, still sending] …`, `[RESUMED by ann] …`.

use reputation::Metric;
use reputation::breaker::Cause;
use reputation::detect::Percent;

use super::fact::Fact;

/// What people call the state of a breaker. Without a gate a cut of the quota holds nothing back.
pub(super) fn state_word(state: &str, gate: bool) -> &str {
    match state {
        "closed" => "sending",
        "throttled" if gate => "slowed",
        "throttled" => "sending, with a warning",
        "open" => "stopped",
        "probing" => "testing",
        other => other,
    }
}

/// Whose mail it is, in a headline: `newsletter`, `newsletter at gmail`, `identity example.com`, `gmail` for an ISP itself.
pub(super) fn short_name(subject: &str, isp: Option<&str>) -> String {
    match (subject, isp) {
        ("account", Some(isp)) => isp.to_owned(),
        (subject, Some(isp)) => format!("{} at {isp}", short_name(subject, None)),
        (subject, None) => match subject.split_once(':') {
            Some(("configuration-set", name)) => name.to_owned(),
            Some((kind, name)) => format!("{kind} {name}"),
            None => subject.to_owned(),
        },
    }
}

/// The same where it is named first: `configuration set newsletter at gmail`.
pub(super) fn full_name(subject: &str, isp: Option<&str>) -> String {
    match (subject, isp) {
        ("account", Some(isp)) => format!("ISP {isp}"),
        ("account", None) => "the account".to_owned(),
        (subject, isp) if subject.starts_with("configuration-set:") => {
            format!("configuration set {}", short_name(subject, isp))
        }
        (subject, isp) => short_name(subject, isp),
    }
}

/// The last part of an ARN, or the whole name: `ann` of `arn:aws:iam::123456789012:user/ann`.
fn person(by: &str) -> &str {
    let last = by.rsplit(['/', ':']).next().unwrap_or(by);
    if last.is_empty() { by } else { last }
}

/// What it means for the mail, in a few words. `fact`: the last one about its key; `first`: the first one about it.
pub(super) fn effect(first: &Fact, fact: &Fact) -> String {
    let by = fact.by.as_deref().map_or("a person", person);
    if fact.cause == Cause::Person {
        return match fact.hold.as_str() {
            "open" if fact.stops() => format!("STOPPED by {by}"),
            "open" if fact.shadow => format!("SHADOW, would be stopped by {by}"),
            "open" => format!("NOT STOPPED, only noted for {by}"),
            "closed" => format!("BYPASSED by {by}"),
            "shadow" => format!("SHADOW by {by}"),
            _ if first.from == "closed" => format!("RELEASED by {by}"),
            _ => format!("RESUMED by {by}"),
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
    let effect = match fact.to.as_str() {
        // Without a gate a cut of the quota is a warning, in shadow or not.
        _ if fact.shadow && fact.from != fact.to && (fact.gate || fact.to != "throttled") => {
            return format!("SHADOW, would be {}", state_word(&fact.to, true));
        }
        "open" if fact.stops() => "STOPPED",
        "throttled" if fact.gate => "SLOWED",
        "probing" => "TESTING",
        _ if is_warning => "WARNING, still sending",
        "open" => "NOT STOPPED",
        _ if fact.subject == "account" && fact.isp.is_some() && !fact.gate => "OVER",
        _ => "SENDING AGAIN",
    };
    effect.to_owned()
}

/// The numbers, or else why, in a few words.
fn because(fact: &Fact) -> String {
    let metric = Metric::ALL.into_iter().find(|metric| Some(metric.name()) == fact.metric.as_deref());
    if let (Some(metric), Some(population), Some(bad)) = (metric, fact.population, fact.bad) {
        let rate = Percent(bad as f64 / (population.max(1)) as f64);
        return format!("{rate} of {population} {} {}", metric.population_noun(), metric.bad_verb());
    }
    let until_mark = fact.reason.split([':', ';', ',']).next().unwrap_or_default();
    until_mark.trim().to_owned()
}

/// The title of a message about the facts of one key, which may be longer than a title may.
pub(super) fn headline(first: &Fact, last: &Fact) -> String {
    // What led here has the numbers, if where it is now has none.
    let because = match (last.metric.is_some(), first.metric.is_some()) {
        (false, true) if last.cause != Cause::Person => because(first),
        _ => because(last),
    };
    format!("[{}] {}: {because}", effect(first, last), short_name(&last.subject, last.isp.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_shadow_nothing_is_said_to_be_held_stopped_or_slowed() {
        let effect_of = |to: &str, cause: Cause, gate: bool| {
            let (from, level) = ("closed".to_owned(), Some("pause".to_owned()));
            let fact = Fact { from, to: to.to_owned(), level, cause, gate, shadow: true, ..Fact::default() };
            effect(&fact, &fact)
        };
        assert_eq!(effect_of("open", Cause::Incident, true), "SHADOW, would be held");
        assert_eq!(effect_of("open", Cause::Verdict, false), "SHADOW, would be stopped");
        assert_eq!(effect_of("throttled", Cause::Verdict, true), "SHADOW, would be slowed");
        assert_eq!(effect_of("throttled", Cause::Verdict, false), "WARNING, still sending");
    }

    #[test]
    fn who_said_so_is_named_without_the_account() {
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
