//! Detectors: decide from counts of bad mails and all mails whether a sender exceeds a limit.
//!
//! The main one is a mixture CUSUM (Page 1954, with a ladder of alternatives in place of one). For each alternative
//! rate p1 above the limit p0, evidence grows by ln(p1/p0) with a bad mail and shrinks by ln((1−p0)/(1−p1)) with a good
//! one, and never falls below 0: good history is not banked as credit, and no minimum volume is needed. The mean number
//! of mails between false alarms is at least e^h/5 for a sender exactly at the limit, and far longer for a healthy one.
//!
//! Evidence is kept in billionths of a nat as an integer, so that it does not depend on the order of events or on the
//! machine.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::counters::{Counters, Metric, Tally};
use crate::grouped::GroupsOfDay;
use crate::time::{DAY, HOUR, Minute};

/// How bad it is, and therefore what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Notify people.
    Warn,
    /// Shrink a quota.
    Throttle,
    /// Stop.
    Pause,
}

impl Level {
    /// All, from the mildest on.
    pub const ALL: [Level; 3] = [Level::Warn, Level::Throttle, Level::Pause];

    /// Stable name, as in the policy and the report.
    pub fn name(self) -> &'static str {
        match self {
            Level::Warn => "warn",
            Level::Throttle => "throttle",
            Level::Pause => "pause",
        }
    }
}

/// Evidence in billionths of a nat (natural-log units of a likelihood ratio).
pub type NanoNats = i64;

/// One nat.
pub const NAT: NanoNats = 1_000_000_000;

/// Alternatives of the mixture, as multiples of the limit.
const MULTIPLES: [f64; 5] = [1.5, 2.0, 3.0, 5.0, 10.0];
/// No alternative assumes a larger share of bad mails than this.
const HIGHEST_ALTERNATIVE: f64 = 0.9;

/// The limit p0 of a metric with the weights of each alternative p1 above it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    weights: [Weights; MULTIPLES.len()],
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Weights {
    bad: NanoNats,
    good: NanoNats,
}

impl Ladder {
    /// The ladder above a limit, a share between 0 and 0.5.
    pub fn above(limit: f64) -> Ladder {
        let weights = MULTIPLES.map(|multiple| {
            let alternative = (limit * multiple).min(HIGHEST_ALTERNATIVE);
            let nanos = |nats: f64| (nats * NAT as f64).round() as NanoNats;
            Weights { bad: nanos((alternative / limit).ln()), good: nanos(((1.0 - limit) / (1.0 - alternative)).ln()) }
        });
        Ladder { weights }
    }
}

/// A walk of the evidence over cells in the order of time.
#[derive(Clone, Debug)]
pub struct Walk {
    arms: [Arm; MULTIPLES.len()],
    seen: Tally,
    /// How many of the bad mails seen did not count.
    repeats: u64,
    causes: GroupsOfDay,
    peak: Excursion,
}

/// The evidence for one alternative.
#[derive(Clone, Copy, Debug)]
struct Arm {
    evidence: NanoNats,
    /// Where the evidence last left 0, and the counts up to there.
    from: Minute,
    before: Tally,
    repeats_before: u64,
}

/// The stretch of mail over which evidence rose to its highest point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excursion {
    /// Evidence at the highest point; 0 if there never was any.
    pub evidence: NanoNats,
    /// First minute of the stretch.
    pub from: Minute,
    /// First minute after the stretch.
    pub until: Minute,
    /// The counts in it.
    pub tally: Tally,
    /// How many of the bad mails in it are not evidence, because its cause counts once a day: see [`mod@crate::grouped`].
    pub repeats: u64,
}

impl Default for Walk {
    fn default() -> Walk {
        let nothing = Tally { population: 0, bad: 0 };
        let arm = Arm { evidence: 0, from: Minute(0), before: nothing, repeats_before: 0 };
        Walk {
            arms: [arm; MULTIPLES.len()],
            seen: nothing,
            repeats: 0,
            causes: GroupsOfDay::default(),
            peak: Excursion { evidence: 0, from: Minute(0), until: Minute(0), tally: nothing, repeats: 0 },
        }
    }
}

impl Walk {
    /// Advances over one cell `[from, until)` of the mail of one key. Of hard bounces at one business domain one counts
    /// on a UTC day, and the others are neither bad nor good. Returns how many do not count.
    pub fn pass(&mut self, ladder: &Ladder, metric: Metric, from: Minute, until: Minute, cell: &Counters) -> u64 {
        let repeats = self.causes.repeats(from, cell.causes_of(metric));
        let tally = cell.tally(metric);
        // Of complaints, those that are no data are left out already.
        let repeats = repeats.min(tally.bad);
        self.advance(ladder, from, until, tally, repeats);
        repeats
    }

    /// Advances over one cell `[from, until)`, all of which counts.
    pub fn push(&mut self, ladder: &Ladder, from: Minute, until: Minute, cell: Tally) {
        self.advance(ladder, from, until, cell, 0);
    }

    fn advance(&mut self, ladder: &Ladder, from: Minute, until: Minute, cell: Tally, repeats: u64) {
        if cell.population == 0 {
            return;
        }
        let (before, repeats_before) = (self.seen, self.repeats);
        self.seen = before.plus(cell);
        self.repeats = repeats_before.saturating_add(repeats);
        let bad = NanoNats::try_from(cell.bad.saturating_sub(repeats)).unwrap_or(NanoNats::MAX);
        let good = NanoNats::try_from(cell.population.saturating_sub(cell.bad)).unwrap_or(NanoNats::MAX);
        for (arm, weights) in self.arms.iter_mut().zip(&ladder.weights) {
            if arm.evidence == 0 {
                (arm.from, arm.before, arm.repeats_before) = (from, before, repeats_before);
            }
            let gained = bad.saturating_mul(weights.bad);
            let lost = good.saturating_mul(weights.good);
            arm.evidence = arm.evidence.saturating_add(gained).saturating_sub(lost).max(0);
            if arm.evidence > self.peak.evidence {
                self.peak = Excursion {
                    evidence: arm.evidence,
                    from: arm.from,
                    until,
                    tally: Tally {
                        population: self.seen.population - arm.before.population,
                        bad: self.seen.bad - arm.before.bad,
                    },
                    repeats: self.repeats - arm.repeats_before,
                };
            }
        }
    }

    /// The evidence after the last cell: the largest over the alternatives.
    pub fn evidence(&self) -> NanoNats {
        self.arms.iter().map(|arm| arm.evidence).max().unwrap_or(0)
    }

    /// The highest point of the whole walk. This, and not the last point, is judged: outcomes arrive late, so the
    /// newest cohorts always look too good, and they must not cancel what earlier ones have shown.
    pub fn peak(&self) -> Excursion {
        self.peak
    }
}

/// Why a verdict was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Evidence against `limit` reached `threshold` nats.
    Cusum {
        /// The share that is still accepted.
        limit: f64,
        /// Evidence reached, in nats.
        evidence: f64,
        /// Evidence needed, in nats.
        threshold: f64,
        /// How many of the bad mails are not evidence, because its cause counts once a day: see [`mod@crate::grouped`].
        repeats: u64,
    },
    /// The rate over a window reached a threshold.
    Ratio {
        /// Length of the window in hours.
        window_hours: u32,
        /// The threshold, a share.
        line: f64,
    },
    /// The rate over the account's last mails, as SES sees it, reached a threshold of SES.
    Forecast {
        /// The number of last mails that SES is assumed to consider.
        mails: u64,
        /// The threshold, a share.
        line: f64,
    },
}

impl Rule {
    /// Its name, without its numbers.
    pub fn name(&self) -> RuleName {
        match self {
            Rule::Cusum { .. } => RuleName::Cusum,
            Rule::Ratio { .. } => RuleName::Ratio,
            Rule::Forecast { .. } => RuleName::AwsForecast,
        }
    }
}

/// The name of a rule, as stored and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleName {
    /// See [`Rule::Cusum`].
    Cusum,
    /// See [`Rule::Ratio`].
    Ratio,
    /// See [`Rule::Forecast`].
    AwsForecast,
}

impl RuleName {
    /// All.
    pub const ALL: [RuleName; 3] = [RuleName::Cusum, RuleName::Ratio, RuleName::AwsForecast];

    /// The name, as stored and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            RuleName::Cusum => "cusum",
            RuleName::Ratio => "ratio",
            RuleName::AwsForecast => "aws_forecast",
        }
    }
}

/// A judgement of one metric that calls for an action, with the numbers that it is based on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The level that it calls for.
    pub level: Level,
    /// Which rate.
    pub metric: Metric,
    /// By which rule.
    pub rule: Rule,
    /// First cohort included.
    pub from: Minute,
    /// First cohort after those included.
    pub until: Minute,
    /// Numerator and denominator over these cohorts.
    pub tally: Tally,
}

impl Verdict {
    /// The rate; 0 only where the numerator is 0, as a verdict always has a population.
    pub fn rate(&self) -> f64 {
        self.tally.rate().unwrap_or(0.0)
    }

    /// The rate by what is evidence: without what does not count.
    pub(crate) fn telling_rate(&self) -> f64 {
        let repeats = match self.rule {
            Rule::Cusum { repeats, .. } => repeats.min(self.tally.bad),
            Rule::Ratio { .. } | Rule::Forecast { .. } => 0,
        };
        let Tally { population, bad } = self.tally;
        Tally { population: population - repeats, bad: bad - repeats }.rate().unwrap_or(0.0)
    }

    /// How far past its threshold; 1 is just reached. Orders verdicts of one level.
    pub fn excess(&self) -> f64 {
        match self.rule {
            Rule::Cusum { evidence, threshold, .. } => evidence / threshold,
            Rule::Ratio { line, .. } | Rule::Forecast { line, .. } => self.rate() / line,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Tally { population, bad }, metric) = (self.tally, self.metric);
        let (noun, verb) = (metric.population_noun(), metric.bad_verb());
        write!(f, "{bad} of {population} {noun} {verb} ({})", Percent(self.rate()))?;
        match self.rule {
            Rule::Cusum { limit, evidence, threshold, repeats } => {
                let mail = Span(self.from, self.until);
                write!(
                    f,
                    " in mail accepted {mail}: evidence {evidence:.1} reached {threshold:.1} against the limit of {}",
                    Percent(limit)
                )?;
                match repeats {
                    0 => Ok(()),
                    _ => {
                        let what = if metric == Metric::Complaint { "a person" } else { "a business domain" };
                        write!(f, " ({repeats} not counted: {what} counts once a day)")
                    }
                }
            }
            Rule::Ratio { window_hours, line } => {
                write!(f, " over {window_hours} h: the {} line is {}", self.level.name(), Percent(line))
            }
            Rule::Forecast { mails, line } => {
                write!(f, " over the last {mails} mails, as SES would see it: its line is {}", Percent(line))
            }
        }
    }
}

/// A share as people write it: `25 %`, `3.2 %`, `0.08 %`, with two significant digits or all digits of the whole part.
#[derive(Clone, Copy, Debug)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        let digits = match percent {
            p if p >= 9.95 || p == 0.0 => 0,
            p if p >= 0.995 => 1,
            p if p >= 0.0995 => 2,
            _ => 3,
        };
        let text = format!("{percent:.digits$}");
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        write!(f, "{text} %")
    }
}

/// A stretch of cohorts as people write it: the date once, and the second one only where it differs.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Minute, pub Minute);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.0, self.1);
        if from.day() == until.minus(1).day() {
            let minute = until.0 % DAY;
            let (hours, minutes) = if minute == 0 && until > from { (24, 0) } else { (minute / HOUR, minute % HOUR) };
            write!(f, "{from}–{hours:02}:{minutes:02}")
        } else {
            write!(f, "{from} – {until}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(limit: f64, cells: &[(u64, u64)]) -> Walk {
        let ladder = Ladder::above(limit);
        let mut walk = Walk::default();
        for (minute, (population, bad)) in (0..).zip(cells) {
            let cell = Tally { population: *population, bad: *bad };
            walk.push(&ladder, Minute(minute), Minute(minute + 1), cell);
        }
        walk
    }

    #[test]
    fn one_bounce_in_thirteen_is_no_evidence_worth_acting_on() {
        assert!(walk(0.05, &[(13, 1)]).peak().evidence < 2 * NAT);
    }

    #[test]
    fn good_history_is_not_banked_as_credit() {
        let burst = [(20, 6), (20, 6)];
        let mut after_good = vec![(1000, 20); 1000];
        after_good.extend(burst);
        assert!(walk(0.05, &after_good).peak().evidence >= walk(0.05, &burst).peak().evidence);
    }

    #[test]
    fn good_mail_that_comes_after_does_not_talk_a_burst_away() {
        let burst = walk(0.05, &[(50, 20)]).peak();
        assert_eq!(walk(0.05, &[(50, 20), (5000, 0), (5000, 0)]).peak(), burst);
    }

    #[test]
    fn the_excursion_names_only_the_mail_that_made_the_evidence() {
        let peak = walk(0.05, &[(100, 0), (100, 1), (30, 9), (30, 9), (100, 0)]).peak();
        assert_eq!((peak.from, peak.until, peak.tally.population, peak.tally.bad), (Minute(2), Minute(4), 60, 18));
    }

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        let check = |share: f64, text: &str| assert_eq!(Percent(share).to_string(), text);
        check(0.25, "25 %");
        check(0.05, "5 %");
        check(0.0316, "3.2 %");
        check(0.0008, "0.08 %");
        check(0.001, "0.1 %");
        check(0.000_45, "0.045 %");
        check(0.0, "0 %");
        check(1.0, "100 %");
        check(0.0999, "10 %");
    }

    proptest! {
        #[test]
        fn more_good_mail_never_adds_evidence(cells in proptest::collection::vec((0u64..200, 0u64..20), 1..40), at in 0usize..40, extra in 1u64..500) {
            let cells: Vec<_> = cells.into_iter().map(|(good, bad)| (good + bad, bad)).collect();
            let mut more = cells.clone();
            let at = at % more.len();
            more[at].0 += extra;
            prop_assert!(walk(0.05, &more).peak().evidence <= walk(0.05, &cells).peak().evidence);
        }

        #[test]
        fn no_counts_overflow(cells in proptest::collection::vec((any::<u32>(), any::<u32>()), 1..40)) {
            let cells: Vec<_> = cells.into_iter().map(|(good, bad)| (u64::from(good) + u64::from(bad), u64::from(bad))).collect();
            prop_assert!(walk(0.001, &cells).peak().evidence >= 0);
        }
    }
}
