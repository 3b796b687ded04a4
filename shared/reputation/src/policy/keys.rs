//! The keys of a policy: the allowed values, unit and meaning of each.
//!
//! **Invariant:** this table validates a policy, and `infra/POLICY.md` is generated from it. So no range is written
//! down twice, and every documented range is enforced.
//!
//! What a range cannot express (whether a name is that of an ISP, whether a tag is listed twice) is checked where the
//! value is read; the texts are constants here.
//!
//! Where to start: [`SECTIONS`].

use super::PolicyError;

/// A table of a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Section {
    /// Path of the table in TOML: `warmup.plan`; empty for keys above all tables. A section with several tables under
    /// one name (`ratios`) has these keys in each of them.
    pub name: &'static str,
    /// What the section is about, in whole sentences.
    pub meaning: &'static str,
    /// The most entries, if the author of the policy names them.
    pub entries: Option<u64>,
    /// Its keys, in the order of the default policy.
    pub keys: &'static [Key],
}

/// One key of a section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Its name; [`ANY`] if the author of the policy chooses it.
    pub name: &'static str,
    /// What is counted or measured; empty if nothing is.
    pub unit: &'static str,
    /// What it may be.
    pub allowed: Allowed,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

/// The name of a key that the author of the policy chooses.
pub const ANY: &str = "NAME";

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowed {
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text; the words describe what is allowed.
    Text(&'static str),
    /// A list of any length; the words describe what each entry may be.
    List(&'static str),
    /// A list with a least and a most number of entries; the words describe what each entry may be.
    Some(u64, u64, &'static str),
    /// A table; the words describe its content.
    Table(&'static str),
    /// An hour of the day from 0 to 23, or -1 for never.
    Hour,
    /// A whole number between the bounds, both included.
    Whole(Bound<u64>, Bound<u64>),
    /// A number between the bounds, both included.
    Number(f64, Bound<f64>),
    /// 0, which means none, or a number between the bounds, both included, that is not above any of these keys of the
    /// same section unless they are 0.
    Line(f64, f64, &'static [&'static str]),
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound<T> {
    /// This number.
    Is(T),
    /// The value of this key of the same section.
    Of(&'static str),
}

use Allowed::{Flag, Hour, Line, List, Number, Some as SomeOf, Table, Text, Whole, Word};
use Bound::{Is, Of};

/// What an entry of `subjects.tags` may be.
pub(super) const TAG: &str = "1 to 256 letters, digits and - _ : .";
/// What an entry of `subjects.own_domains` may be.
pub(super) const DOMAIN: &str = "a domain, such as example.com";
/// What the name of an ISP may be.
pub(super) const KNOWN_ISP: &str = "the name of an ISP, of the built-in map or of [isps]";
/// What the name of a configuration set may be.
pub(super) const SET_NAME: &str = "the name of a configuration set: 1 to 64 letters, digits, - and _";
/// What `sending_days` may be.
pub(super) const SENDING_DAYS: &str = "at least one of mon, tue, wed, thu, fri, sat, sun";

/// The longest life of a lease: a longer one could outlive the day that it belongs to.
const MAX_LEASE_SECS: u64 = 3_600;

const HOUR: &str = "an hour from 0 to 23, or -1 for never";
const SUBJECT: &str = "a subject: configuration-set:NAME, identity:DOMAIN, tenant:NAME, tag:NAME=VALUE or account";

const fn key(name: &'static str, unit: &'static str, allowed: Allowed, meaning: &'static str) -> Key {
    Key { name, unit, allowed, meaning }
}

const fn whole(from: u64, to: u64) -> Allowed {
    Whole(Is(from), Is(to))
}

const fn number(from: f64, to: f64) -> Allowed {
    Number(from, Is(to))
}

const fn section(name: &'static str, meaning: &'static str, keys: &'static [Key]) -> Section {
    Section { name, meaning, entries: None, keys }
}

/// All sections, in the order of the default policy.
pub const SECTIONS: &[Section] = &[
    section(
        "",
        "Whether decisions have effects.",
        &[key(
            "mode",
            "",
            Word(&["act", "shadow"]),
            "`act`: decide, report and act. `shadow`: decide and report, but do nothing. A stack acts only if its policy says \
             `act` itself; the default is that of `replay`.",
        )],
    ),
    section("subjects", "Who is judged, and how far it may go.", SUBJECTS),
    section(
        "isps",
        "More recipient domains and their ISP, on top of the built-in map. `*.example.com` covers all subdomains.",
        &[key(
            ANY,
            "",
            Text("a name of your choice, or of a known ISP"),
            "The ISP that receives mail for this domain.",
        )],
    ),
    section("gate", "The gate, which your application asks before it sends.", GATE),
    section("warmup", "How much mail a configuration set may send to each ISP on one day.", WARMUP),
    section(
        "warmup.plan",
        "The plan for the keys that a configuration set of `[warmup.sets]` does not set itself.",
        PLAN,
    ),
    Section {
        name: "warmup.sets",
        meaning: "The configuration sets that ask the gate; it knows no other.",
        entries: Some(1_000),
        keys: &[key(
            ANY,
            "",
            Table("keys of `[warmup.plan]`"),
            "What differs from `[warmup.plan]` for this configuration set. Its name is one that SES allows.",
        )],
    },
    section(
        "warmup.dedicated_ips",
        "The warm-up percentage of standard dedicated IPs follows the ramp of a configuration set. SES sends what exceeds \
         the percentage through shared IPs; it does not stop it.",
        &[key(
            ANY,
            "",
            SomeOf(1, 100, "an IP address"),
            "The IPs that follow this configuration set of `[warmup.sets]`.",
        )],
    ),
    section(
        "metrics.hard_bounce",
        "Evidence about hard bounces, of mail that SES tried to deliver. Bounces that refuse the sender's IP address are \
         blocks instead: SES leaves them out of its rate. Refusals of content, by policy or for failed authentication are \
         both, as SES says nothing about them.",
        METRIC,
    ),
    section(
        "metrics.complaint",
        "Evidence about complaints, of deliveries at ISPs with a known feedback loop, or from which a complaint has come.",
        METRIC,
    ),
    section(
        "metrics.delay",
        "Evidence about mail that an ISP delays, of mail sent. Not judged at `other`, which is many servers.",
        METRIC,
    ),
    section(
        "metrics.block",
        "Evidence about mail that an ISP refuses or throttles because of the sender, of mail sent.",
        METRIC,
    ),
    section(
        "ratios",
        "Ratio rules: the rate over the last hours of mail, with floors below which nothing is said. A list: a policy that \
         has one replaces all of it.",
        RATIO,
    ),
    section(
        "forecast",
        "The account as SES sees it. Warned about, and acted on only with `breaker.pause_account`.",
        FORECAST,
    ),
    section("breaker", "What a breaker does, and how fast.", BREAKER),
    section("incident", "When an ISP's trouble is its own, so that no sender is punished for it.", INCIDENT),
    section("alerts", "What people are notified of, and how often.", ALERTS),
    section(
        "cloudwatch",
        "Metrics in CloudWatch for dashboards of your own, such as infra/grafana.json, every five minutes. CloudWatch charges for each \
         metric: 0.30 $ a month in us-east-1.",
        CLOUDWATCH,
    ),
    section(
        "store",
        "How rates are stored.",
        &[key(
            "lanes",
            "rows",
            whole(1, 64),
            "Rows of one subject are split into at least this number and added up on reading. Where transactions conflict, the breaker \
         function takes more by itself, up to 16.",
        )],
    ),
];

const SUBJECTS: &[Key] = &[
    key("tenants", "", Flag, "Whether SES tenants are subjects, in addition to configuration sets and identities."),
    key("tags", "", SomeOf(0, 20, TAG), "Message tags that are subjects, each by its value."),
    key(
        "protected",
        "",
        List(SUBJECT),
        "Critical mail: verdicts are reported, but it is never slowed or stopped; nor is anything else that shares mail with it.",
    ),
    key("shadow", "", List(SUBJECT), "Judged as if it were real, but nothing is done."),
    key(
        "own_domains",
        "",
        List(DOMAIN),
        "Your own recipient domains: left out on both sides of every rate. Subdomains are not included.",
    ),
];

const GATE: &[Key] = &[
    key(
        "in_use",
        "",
        Flag,
        "Whether your application asks the gate. If so, an ISP can be contained by itself; if not, only a whole \
         configuration set can be stopped. Leave it out, and the stack goes by its parameter GateInUse, and a replay by \
         its option `--gate`; both are false if you do not say otherwise. GateInUse = false overrules a true.",
    ),
    key(
        "lease_seconds",
        "seconds",
        whole(5, MAX_LEASE_SECS),
        "How long a lease is valid: within it mails are sent, or given back.",
    ),
    key(
        "unreadable_bulk",
        "",
        Word(&["defer", "grant"]),
        "The answer to bulk mail while the tables cannot be read: `defer`, or `grant` and count nothing.",
    ),
    key("unreadable_critical", "", Word(&["defer", "grant"]), "The same for mail of class `critical`."),
];

const WARMUP: &[Key] = &[
    key("zone", "", Text("`UTC`, or the name of a time zone such as `Europe/Berlin`"), "Where a day begins."),
    key(
        "business",
        "",
        List(KNOWN_ISP),
        "ISPs that receive for businesses, and forgive less: `business_growth` applies there.",
    ),
];

/// Keys of a plan: of `[warmup.plan]`, and of each configuration set of `[warmup.sets]`.
pub(super) const PLAN: &[Key] = &[
    key("start", "mails a day", Whole(Is(1), Of("target")), "Quota of the first day."),
    key("target", "mails a day", whole(1, 1_000_000_000), "Quota when it is warmed up."),
    key(
        "warm",
        "",
        Flag,
        "Whether the ramp begins at the target, because the set sends that much already. After a long silence it begins at \
         `start`.",
    ),
    key(
        "growth",
        "times a day",
        number(1.01, 10.0),
        "How much larger a quota is after a good day: at first, and at most.",
    ),
    key("business_growth", "times a day", number(1.01, 10.0), "The same at ISPs of `warmup.business`."),
    key(
        "learn",
        "",
        Flag,
        "Whether the growth is learnt at each ISP: less after it turned mail away, more after good days.",
    ),
    key("max_step_share", "share of the target", number(0.001, 1.0), "No step up is larger."),
    key(
        "used_share",
        "share of the quota",
        number(0.1, 1.0),
        "Only a day that used at least this share of it makes it grow.",
    ),
    key("sending_days", "", List(SENDING_DAYS), "Days of the week on which a quota may grow."),
    key(
        "ease_share",
        "share of the mail",
        number(0.005, 1.0),
        "A day on which the ISP turned away this share or more had too much mail: the quota goes back to what it took.",
    ),
    key("shrink", "times", number(0.05, 0.95), "What harm multiplies the quota by, once for each incident."),
    key(
        "trickle_share",
        "share of the quota",
        number(0.001, 1.0),
        "The next day's quota while sending is stopped or testing.",
    ),
    key("minimum", "mails a day", Whole(Is(1), Of("start")), "No quota is smaller."),
    key("decay_after_days", "days", whole(1, 365), "After this number of days without mail the quota decays."),
    key("decay", "times a day", number(0.1, 1.0), "What each further day without mail multiplies it by."),
    key(
        "rewarm_after_days",
        "days",
        Whole(Of("decay_after_days"), Is(365)),
        "After this number of days without mail the ramp begins again.",
    ),
    key(
        "follow_days",
        "days",
        whole(1, 365),
        "The day with the most mail counts for this number of days; then it decays as quotas do.",
    ),
    key(
        "follow_share",
        "share of the quota",
        number(0.01, 0.5),
        "If less than this is left of that day, the quota follows the volume down, to twice what is left.",
    ),
    key(
        "spread_hours",
        "hours",
        whole(1, 24),
        "The day's quota comes in evenly over what is left of the day, at most over this time.",
    ),
    key(
        "least_spread_hours",
        "hours",
        Whole(Is(1), Of("spread_hours")),
        "And at least over this time: what is scheduled late in the day runs into the next.",
    ),
    key(
        "burst_share",
        "share of the quota",
        number(0.001, 1.0),
        "Quota that is not requested is kept, up to this share.",
    ),
    key("critical_share", "share of the quota", number(0.0, 1.0), "Kept for mail of class `critical` alone."),
    key(
        "overflow",
        "",
        Text(SET_NAME_OR_NONE),
        "Until half of the target, what exceeds the day's quota goes by this configuration set; empty: it waits.",
    ),
    key(
        "critical_route",
        "",
        Text(SET_NAME_OR_NONE),
        "Critical mail goes by this configuration set while SES accepts nothing with its own; empty: it waits.",
    ),
];

const SET_NAME_OR_NONE: &str = "empty, or the name of another configuration set: 1 to 64 letters, digits, - and _";

const METRIC: &[Key] = &[
    key("limit", "share", number(0.000_01, 0.5), "The share that is still accepted."),
    key("throttle", "nats", Line(1.0, 1_000.0, &["pause"]), "Evidence at which a quota is cut; 0 = never."),
    key("pause", "nats", Line(1.0, 1_000.0, &[]), "Evidence at which mail is stopped; 0 = never."),
    key("scope", "", Word(&["isp", "all"]), "`isp`: judged at each ISP only. `all`: at each ISP and over all of them."),
];

const RATIO: &[Key] = &[
    key("metric", "", Word(&["hard_bounce", "complaint", "delay", "block"]), "Which rate."),
    key("window_hours", "hours", whole(1, 24 * 35), "Over the mail accepted in this number of hours."),
    key("min_population", "mails", whole(1, 100_000_000), "The rule does not apply below this number of mails …"),
    key("min_bad", "mails", whole(1, 100_000_000), "… or below this number of bad ones."),
    key("warn", "share", Line(0.000_01, 1.0, &["throttle", "pause"]), "From here on people are warned; 0 = never."),
    key("throttle", "share", Line(0.000_01, 1.0, &["pause"]), "From here on the quota is cut; 0 = never."),
    key("pause", "share", Line(0.000_01, 1.0, &[]), "From here on mail is stopped; 0 = never."),
];

const FORECAST: &[Key] = &[
    key(
        "mails",
        "mails",
        whole(100, 100_000_000),
        "The number of last mails that SES is assumed to consider; SES does not document it.",
    ),
    key("min_population", "mails", Whole(Is(1), Of("mails")), "The rule does not apply below this number of mails …"),
    key("min_bad", "mails", Whole(Is(1), Of("mails")), "… or below this number of bad ones."),
    key(
        "hard_bounce_review",
        "share",
        Number(0.000_01, Of("hard_bounce_pause")),
        "Hard bounces at which SES reviews an account.",
    ),
    key("hard_bounce_pause", "share", number(0.000_01, 1.0), "Hard bounces at which SES may pause it."),
    key(
        "complaint_review",
        "share",
        Number(0.000_01, Of("complaint_pause")),
        "Complaints at which SES reviews an account.",
    ),
    key("complaint_pause", "share", number(0.000_01, 1.0), "Complaints at which SES may pause it."),
];

const BREAKER: &[Key] = &[
    key("cut", "times", number(0.01, 0.95), "What each throttle verdict multiplies the quota by."),
    key("floor", "share of the quota", number(0.001, 1.0), "No cut goes below it."),
    key(
        "raise_every_minutes",
        "minutes",
        whole(1, 10_080),
        "After this time without a throttle verdict the share doubles.",
    ),
    key(
        "open_minutes",
        "minutes",
        whole(1, 43_200),
        "How long the first stop lasts; twice as long with each further trip.",
    ),
    key("open_cap_minutes", "minutes", Whole(Of("open_minutes"), Is(43_200)), "How long any stop lasts at most."),
    key("forgive_days", "days", whole(1, 400), "The trip count is reset after this time without a trip."),
    key(
        "resume",
        "",
        Word(&["automatic", "manual"]),
        "`automatic`: after that time it is testing. `manual`: it stays stopped until a person resumes it.",
    ),
    key("probe_share", "share of the quota", number(0.001, 1.0), "What is sent while testing."),
    key(
        "probe_mails",
        "mails",
        whole(1, 1_000_000),
        "A test needs as many mails as had ten bad ones at the rate of the stop, and at most this number. Without a gate it stops again as soon as so many are accepted.",
    ),
    key(
        "probe_min_minutes",
        "minutes",
        whole(1, 10_080),
        "How long after a mail of a test was accepted its outcome counts as known.",
    ),
    key(
        "probe_max_minutes",
        "minutes",
        Whole(Of("probe_min_minutes"), Is(43_200)),
        "With a gate a test ends after this time with fewer mails; after complaints `complaint_probe_minutes` later.",
    ),
    key(
        "complaint_probe_mails",
        "deliveries",
        whole(1, 1_000_000),
        "As `probe_mails`, after complaints: deliveries at ISPs that return complaints. Never fewer than `probe_mails`.",
    ),
    key(
        "complaint_probe_minutes",
        "minutes",
        whole(1, 43_200),
        "As `probe_min_minutes`, after complaints, because complaints take hours; and how long the quota then stays as it is.",
    ),
    key(
        "relapse_times",
        "times",
        number(1.0, 1_000.0),
        "A test after complaints fails at this many times the limit of complaints, even without the evidence for a stop.",
    ),
    key(
        "relapse_complaints",
        "people",
        whole(1, 1_000_000),
        "It fails so only with complaints from at least this number of people.",
    ),
    key(
        "max_pauses_per_hour",
        "configuration sets",
        whole(1, 10_000),
        "At most this number of different ones are stopped within an hour for each order of magnitude of harm: less than 1,000 \
         clean mails, 1,000 to 9,999, 10,000 to 99,999, and so on. Harm is the number of clean mails that would bring the \
         rate down to the limit. Stops by overwhelming evidence, and those that a person or a pardon undid, do not count. \
         Other sets are slowed to the floor and judged again each minute.",
    ),
    key(
        "overwhelming_times",
        "times",
        number(1.0, 1_000.0),
        "Evidence (or a rate) of this many times what a stop needs is overwhelming, and is not bound by \
         `max_pauses_per_hour`, if the rate is also at the line where SES may pause the account: \
         `forecast.complaint_pause` for complaints, `forecast.hard_bounce_pause` for all else.",
    ),
    key(
        "overwhelming_mails",
        "mails",
        whole(1, 100_000_000),
        "Evidence of fewer mails is never overwhelming: a few dead addresses of a small set are not.",
    ),
    key(
        "pause_account",
        "",
        Flag,
        "Whether the account itself may be stopped. The stack's parameter MayPauseAccount must say so, too.",
    ),
];

const INCIDENT: &[Key] = &[
    key(
        "min_senders",
        "senders",
        whole(2, 1_000),
        "At least this number of distinct identities, and as many distinct configuration sets, must be hit; two of them or more after \
         good mail there, and with good mail elsewhere.",
    ),
    key(
        "min_sender_share",
        "share of senders",
        number(0.01, 1.0),
        "Of the senders with mail to the ISP in the window, at least this share must be hit. Senders that did not turn bad by \
         themselves are judged together, and count by how bad their mail is.",
    ),
    key(
        "min_mail_share",
        "share of mails",
        number(0.01, 1.0),
        "Of the mail to the ISP in the window, at least this share must be that of senders that are hit.",
    ),
    key(
        "min_history_mails",
        "mails",
        whole(1, 1_000_000),
        "A sender was good before if this number of mails or more to the ISP, or to all ISPs if it has fewer there, had \
         a rate within the limit of the metric.",
    ),
    key("window_minutes", "minutes", whole(1, 1_440), "They must all turn bad within this time."),
    key(
        "hold_minutes",
        "minutes",
        whole(1, 10_080),
        "The ISP is held for this time at first; twice as long with each further trip. Without a gate, bounces there stop \
         no sender for this time, each time.",
    ),
    key(
        "without_gate",
        "",
        Word(&["warn", "pause"]),
        "What happens to the senders if no gate can hold the ISP: `warn` reports it, and stops no sender for it \
         until the account is at `forecast.hard_bounce_pause`; `pause` reports it, and stops senders as for any harm. SES \
         counts the bounces either way.",
    ),
];

const ALERTS: &[Key] = &[
    key(
        "again_minutes",
        "minutes",
        // The alert queue remembers what was reported for a week.
        whole(1, 10_080),
        "The same state of the same breaker is not reported again within this time, except in a summary.",
    ),
    key(
        "summary_minutes",
        "minutes",
        whole(1, 1_440),
        "A summary of what was not reported is sent this time after the last message about that breaker.",
    ),
    key("digest_hour", "hour of the day", Hour, "When the daily digest is sent, by the clock of `warmup.zone`."),
];

const CLOUDWATCH: &[Key] = &[
    key(
        "configuration_sets",
        "configuration sets",
        whole(0, 500),
        "At most this number of configuration sets have metrics of their own; 0 = none. Those that are stopped, tested or slowed come \
         first, then those with the most mail of the last day. 7 metrics each, 9 where the gate plans the set.",
    ),
    key(
        "isps",
        "ISPs",
        whole(0, 20),
        "Of each of those sets, at most this number of ISPs have metrics of their own, too, chosen in the same way. As many metrics \
         for each.",
    ),
];

/// Checks a whole policy against the allowed values of its keys. Values of the wrong type are reported when the policy
/// is read.
pub(super) fn check(policy: &toml::Table) -> Result<(), PolicyError> {
    for section in SECTIONS {
        let mut parts = section.name.split('.').filter(|part| !part.is_empty());
        let Some(name) = parts.next() else {
            check_section(section.keys, "", policy)?;
            continue;
        };
        let found = parts.fold(policy.get(name), |found, part| found?.get(part));
        match found {
            Some(toml::Value::Table(table)) => {
                if let Some(most) = section.entries {
                    check_whole(&format!("{}, their number,", section.name), table.len() as u64, 0, most)?;
                }
                check_section(section.keys, section.name, table)?;
            }
            Some(toml::Value::Array(tables)) => {
                for (index, table) in
                    tables.iter().enumerate().filter_map(|(index, table)| Some((index, table.as_table()?)))
                {
                    check_section(section.keys, &format!("{}[{index}]", section.name), table)?;
                }
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Checks one table, whose path is `path`, against the allowed values of its keys.
pub(super) fn check_section(keys: &[Key], path: &str, table: &toml::Table) -> Result<(), PolicyError> {
    // Keys that serve as bounds for others are checked first, so that their errors are not reported for the others.
    for leans in [false, true] {
        for key in keys.iter().filter(|key| key.allowed.leans() == leans) {
            let values = table.iter().filter(|(name, _)| key.name == ANY || *name == key.name);
            for (name, value) in values {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                check_value(key.allowed, &path, value, table)?;
            }
        }
    }
    Ok(())
}

impl Allowed {
    /// Whether it depends on other keys of the section.
    fn leans(self) -> bool {
        match self {
            Whole(Of(_), _) | Whole(_, Of(_)) | Number(_, Of(_)) => true,
            Line(_, _, others) => !others.is_empty(),
            Whole(Is(_), Is(_))
            | Number(_, Is(_))
            | Flag
            | Hour
            | Word(_)
            | Text(_)
            | List(_)
            | SomeOf(..)
            | Table(_) => false,
        }
    }
}

fn check_value(allowed: Allowed, path: &str, value: &toml::Value, table: &toml::Table) -> Result<(), PolicyError> {
    match allowed {
        Flag | Word(_) | Text(_) | List(_) | Table(_) => Ok(()),
        Hour => match value.as_integer() {
            Some(hour) if !(-1..=23).contains(&hour) => {
                let (key, value) = (path.to_owned(), hour.to_string());
                Err(PolicyError::Value { key, value, allowed: HOUR.to_owned() })
            }
            Some(_) | None => Ok(()),
        },
        SomeOf(least, most, _) => match value.as_array() {
            Some(entries) => check_whole(&format!("{path}, their number,"), entries.len() as u64, least, most),
            None => Ok(()),
        },
        Whole(from, to) => {
            let bound = |bound, otherwise| match bound {
                Is(number) => number,
                Of(name) => table.get(name).and_then(whole_of).unwrap_or(otherwise),
            };
            match whole_of(value) {
                Some(value) => check_whole(path, value, bound(from, 0), bound(to, u64::MAX)),
                None => Ok(()),
            }
        }
        Number(from, to) => {
            let to = match to {
                Is(number) => number,
                Of(name) => table.get(name).and_then(number_of).unwrap_or(f64::INFINITY),
            };
            match number_of(value) {
                Some(value) => check_number(path, value, from, to),
                None => Ok(()),
            }
        }
        Line(from, to, others) => match number_of(value).filter(|value| *value != 0.0) {
            Some(value) => {
                check_number(path, value, from, to)?;
                not_above(path, value, others, table)
            }
            None => Ok(()),
        },
    }
}

/// The lowest of the other thresholds that are set is the upper bound.
fn not_above(path: &str, value: f64, others: &[&str], table: &toml::Table) -> Result<(), PolicyError> {
    let line = |name: &str| table.get(name).and_then(number_of).filter(|line| *line != 0.0);
    match others.iter().find_map(|name| line(name).map(|line| (name, line))) {
        Some((name, line)) if value > line => {
            let section = path.rsplit_once('.').map_or("", |(section, _)| section);
            let allowed = format!("0 or at most {section}.{name}, which is {line}");
            Err(PolicyError::Value { key: path.to_owned(), value: value.to_string(), allowed })
        }
        Some(_) | None => Ok(()),
    }
}

fn whole_of(value: &toml::Value) -> Option<u64> {
    value.as_integer().and_then(|number| u64::try_from(number).ok())
}

fn number_of(value: &toml::Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
}

fn check_number(key: &str, value: f64, min: f64, max: f64) -> Result<(), PolicyError> {
    if value >= min && value <= max {
        return Ok(());
    }
    let allowed = format!("a number from {min} to {max}");
    Err(PolicyError::Value { key: key.to_owned(), value: value.to_string(), allowed })
}

fn check_whole(key: &str, value: u64, min: u64, max: u64) -> Result<(), PolicyError> {
    if value >= min && value <= max {
        return Ok(());
    }
    let allowed = format!("a whole number from {min} to {max}");
    Err(PolicyError::Value { key: key.to_owned(), value: value.to_string(), allowed })
}
