//! The receiving side: a model of how an ISP treats a sender that is new to it.
//!
//! ```text
//! pressure of the day  = first attempts of the last 24 hours / tolerance
//! pressure of the hour = first attempts of the last hour / its share of the tolerance
//!   both up to 1         taken, but for the rates of a clean sender
//!   the larger above 1   1 − 1/pressure is turned away: deferred …
//!   the day's above `refuses`   … and 1 − refuses/pressure of all refused for good
//! ```
//!
//! A tolerance belongs to an IP, or at some ISPs to the domain. It grows with days of well-behaved volume, shrinks with
//! abuse, and decays without mail, each one or two days late. The weekday, a mood of the day and complaints scale it.
//! Every number and its source is in `DESIGN.md`; they were fixed before anything was run.

use std::collections::VecDeque;

use super::dice::Dice;
use super::receiver::{HOUR, Late, Outcome, Pending, Rates, Receiver, SLOT_MINUTES, Temper, campaigns, parts};

/// Slots of 24 hours.
const WINDOW: usize = (24 * 60 / SLOT_MINUTES) as usize;

impl Temper {
    /// The volume that it accepts on the first day, in mails.
    fn start(self) -> f64 {
        match self {
            // SparkPost, "IP Warm-up Overview" (2017): 200 on the first day, about twice as much on each further one.
            Temper::Kind => 200.0,
            Temper::Business => 100.0,
            // Careful schedules begin at 50.
            Temper::Harsh => 50.0,
        }
    }

    /// The growth after a good day.
    fn growth(self) -> f64 {
        match self {
            Temper::Kind => 2.0,
            Temper::Business => 1.3,
            // "4 to 8 weeks" in the same overview: 50 × 1.2³⁸ is 50,000.
            Temper::Harsh => 1.2,
        }
    }

    /// The multiple of its tolerance beyond which it refuses instead of deferring.
    fn refuses(self) -> f64 {
        match self {
            Temper::Kind => 4.0,
            Temper::Business => 3.0,
            Temper::Harsh => 2.0,
        }
    }

    /// The pressure beyond which its tolerance shrinks.
    fn patience(self) -> f64 {
        match self {
            // Google, "Email sender guidelines": doubling volumes at once can lead to rate limiting or reputation drops.
            Temper::Kind => 2.0,
            Temper::Business | Temper::Harsh => 1.5,
        }
    }
}

/// The family of an ISP: what it is known to count, by what, and how soon it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Gmail,
    Microsoft,
    Yahoo,
    Business,
}

impl Family {
    /// The family of an ISP of the built-in map.
    fn of(name: &str) -> Family {
        match name {
            "gmail" => Family::Gmail,
            "microsoft" => Family::Microsoft,
            "yahoo" => Family::Yahoo,
            _ => Family::Business,
        }
    }

    /// The share of the tolerance that it takes in one hour.
    fn hour_share(self) -> f64 {
        match self {
            // Suped, "Gmail warm-up limits, hourly versus daily" (2026): the day is the ceiling at Gmail, the hour a guard
            // rail without a number, and what harms is most of a day in one short burst. A quarter is our reading.
            Family::Gmail => 0.25,
            // "421 RP-001: the sending IP exceeded a rate limit" names no number: between the other two, and ours.
            Family::Microsoft => 0.15,
            // The same page: Yahoo is known for limits by the hour. Of SparkPost's 200 on the first day, SendGrid's "IP
            // Warmup schedule" (20 in an hour of day 0, 1.4 times as many each day) sends a tenth in an hour.
            Family::Yahoo => 0.10,
            // No source. Filters of businesses count connections and mails by minutes and hours: ours.
            Family::Business => 0.20,
        }
    }

    /// Whether it limits the sender's domain, whatever IPs the mail comes from.
    fn judges_domain(self) -> bool {
        match self {
            // Zoho, "Why Gmail rate limits your marketing emails": quotas by IP, by SPF domain and by DKIM domain, and
            // exceeding any of them is answered with 421 4.7.28. So more IPs do not help.
            Family::Gmail => true,
            // 421 RP-001, 451 4.7.650 and [TSS04] all name the sending IP.
            Family::Microsoft | Family::Yahoo | Family::Business => false,
        }
    }

    /// The days after which it knows how a day's mail was: what is sent today changes the tolerance that many days later
    /// than tomorrow.
    fn late_days(self) -> usize {
        match self {
            // Postmaster Tools trails by 24 to 48 hours (Suped, "Why does Google Postmaster Tools reputation change lag").
            Family::Gmail => 2,
            // SNDS reports whole days, when they are over; of the others nothing is published.
            Family::Microsoft | Family::Yahoo | Family::Business => 1,
        }
    }

    /// The factor on the tolerance by day of the week, Monday first. That weekends are quieter is published (Mailchimp: 9 %
    /// and 8.5 % of a week's mail on Saturday and Sunday, 16 % to 18 % on other days); by how much an ISP accepts less is
    /// not, and these are ours, small on purpose.
    fn rhythm(self, weekday: usize) -> f64 {
        let weekend = weekday >= 5;
        match self {
            Family::Gmail | Family::Microsoft | Family::Yahoo if weekend => 0.95,
            Family::Business if weekend => 0.85,
            Family::Gmail | Family::Microsoft | Family::Yahoo | Family::Business => 1.0,
        }
    }

    /// Whether complaints limit mail: Yahoo's [TSS04], "unexpected volume or user complaints".
    fn limits_by_complaints(self) -> bool {
        self == Family::Yahoo
    }
}

/// An hour takes at least this many mails: the first hour of SendGrid's schedule.
const LEAST_HOUR: f64 = 20.0;
/// The share of complaints beyond which Yahoo warns, and a tolerance grows no more …
const WARNS: f64 = 0.001;
/// … and beyond which it enforces its limit (Yahoo Sender Hub, "Insights", as reported by Spam Resource, October 2025) …
const ENFORCES: f64 = 0.003;
/// … over this many days, from this number of complaints on, so that one complaint about little mail says nothing: ours …
const COMPLAINT_DAYS: usize = 3;
const LEAST_COMPLAINTS: u64 = 5;
/// … and the share of the tolerance that is left meanwhile: ours.
const ENFORCED: f64 = 0.5;
/// The smallest share of a tolerance that is left after one day of abuse.
const MAX_ABUSE: f64 = 0.5;
/// The smallest share of the first tolerance that is left after any abuse.
const LEAST: f64 = 0.2;
/// A day with less than this share of the tolerance counts as idle …
const IDLE: f64 = 0.1;
/// … and leaves this share: after 30 such days a twenty-fifth is left. SendGrid, "How to warm up an IP address" (2013): most
/// reputation systems keep 30 days.
const REMEMBERS: f64 = 0.9;
/// The largest random deviation of one day's tolerance.
const MOOD: f64 = 0.1;
/// The mean number of days between an ISP's own disturbances …
const TROUBLE_EVERY_DAYS: f64 = 90.0;
/// … and their length in slots, during which this share of mail is deferred.
const TROUBLE_LASTS: u64 = 2 * HOUR;
const TROUBLE_DEFERS: f64 = 0.5;

/// The properties of an ISP that all senders meet: drawn once for each seed.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    temper: Temper,
    family: Family,
    returns_complaints: bool,
    start: f64,
    growth: f64,
    hour_share: f64,
    rates: Rates,
    /// By day: how many times the usual number of people complain.
    campaigns: Vec<f64>,
    /// By day: the factor on the tolerance. The first day is a Monday.
    moods: Vec<f64>,
    /// By day: the slot in which a disturbance begins.
    troubles: Vec<Option<u64>>,
}

impl Nature {
    /// The ISP with this name for a seed.
    pub(super) fn of(seed: u64, name: &str, temper: Temper, returns_complaints: bool, days: u32) -> Nature {
        let mut dice = Dice::new(seed, &format!("nature of {name}"));
        let family = Family::of(name);
        // Between half and twice the value, each factor as likely as its inverse.
        let start = temper.start() * 2.0_f64.powf(dice.between(-1.0, 1.0));
        let growth = 1.0 + (temper.growth() - 1.0) * dice.between(0.5, 1.5);
        let rates = Rates::varied(|| dice.between(0.5, 1.5));
        let hour_share = family.hour_share() * dice.between(0.75, 1.25);
        let mut moods = Vec::new();
        let mut troubles = Vec::new();
        for day in 0..days {
            moods.push(dice.between(1.0 - MOOD, 1.0 + MOOD) * family.rhythm(day as usize % 7));
            let has_trouble = dice.unit() < 1.0 / TROUBLE_EVERY_DAYS;
            let slot = (dice.unit() * WINDOW as f64) as u64;
            troubles.push(has_trouble.then_some(slot));
        }
        let campaigns = campaigns(seed, days);
        Nature { temper, family, returns_complaints, start, growth, hour_share, rates, campaigns, moods, troubles }
    }

    /// The tolerance after a day is known. `growing`: whether it may grow.
    fn moved(&self, tolerance: f64, known: &Closed, growing: bool) -> f64 {
        let patience = self.temper.patience();
        let Closed { sent, pressure } = *known;
        if pressure < IDLE {
            (tolerance * REMEMBERS).max(self.start.min(tolerance))
        } else if pressure <= 1.0 {
            // An ISP trusts a volume that it has seen, and the growth that it has borne since then, but no more than one
            // day's growth at once.
            let days = i32::try_from(self.family.late_days() + 1).unwrap_or(1);
            let trusted = (self.growth.powi(days) * sent).min(self.growth * tolerance);
            if growing { tolerance.max(trusted) } else { tolerance }
        } else if pressure <= patience {
            let share = if growing { (patience - pressure) / (patience - 1.0) } else { 0.0 };
            tolerance * (1.0 + (self.growth - 1.0) * share)
        } else {
            let shrunk = tolerance * (patience / pressure).max(MAX_ABUSE);
            shrunk.max((self.start * LEAST).min(tolerance))
        }
    }
}

/// A day that is over, as the ISP will know it.
#[derive(Clone, Copy, Debug)]
struct Closed {
    sent: f64,
    pressure: f64,
}

/// What an ISP keeps about one IP, or about the domain.
#[derive(Clone, Debug)]
struct Line {
    tolerance: f64,
    /// First attempts by slot, over the last 24 hours, and their sum.
    window: VecDeque<u64>,
    tried: u64,
    /// First attempts of today, and those of them that were turned away for their number.
    today: u64,
    turned_away: u64,
    /// The days that are not known yet.
    closed: VecDeque<Closed>,
}

impl Line {
    fn of(start: f64) -> Line {
        let (window, closed) = (VecDeque::from(vec![0; WINDOW]), VecDeque::new());
        Line { tolerance: start, window, tried: 0, today: 0, turned_away: 0, closed }
    }

    /// First attempts of the last hour.
    fn hour(&self) -> u64 {
        self.window.range(WINDOW - HOUR as usize..).sum()
    }

    fn try_mails(&mut self, mails: u64) {
        self.tried += mails;
        self.today += mails;
        if let Some(last) = self.window.back_mut() {
            *last += mails;
        }
    }

    fn pass_slot(&mut self) {
        self.tried -= self.window.pop_front().unwrap_or(0);
        self.window.push_back(0);
    }
}

/// What complaints do to a tolerance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complained {
    Little,
    /// It grows no more.
    Warned,
    /// And only a share of it is left.
    Enforced,
}

/// An ISP as seen by one sender.
#[derive(Clone, Debug)]
pub(super) struct ReceivingIsp {
    nature: Nature,
    dice: Dice,
    /// By IP of the sender, or one for its domain.
    lines: Vec<Line>,
    day: usize,
    slot_of_day: u64,
    pending: Pending,
    /// Deliveries and complaints of the last days, today last.
    complained: VecDeque<(u64, u64)>,
    complaints_say: Complained,
}

impl ReceivingIsp {
    /// An ISP to which a sender with this number of IPs is new. `name` separates the random numbers of several senders.
    pub(super) fn new(nature: Nature, seed: u64, name: &str, ips: usize) -> ReceivingIsp {
        let lines = if nature.family.judges_domain() { 1 } else { ips.max(1) };
        ReceivingIsp {
            lines: vec![Line::of(nature.start); lines],
            dice: Dice::new(seed, name),
            nature,
            day: 0,
            slot_of_day: 0,
            pending: Pending::default(),
            complained: VecDeque::from([(0, 0)]),
            complaints_say: Complained::Little,
        }
    }

    /// The volumes that it accepts of a line in 24 hours and in one.
    fn limits(&self, line: &Line) -> (f64, f64) {
        let mood = self.nature.moods.get(self.day).copied().unwrap_or(1.0);
        let enforced = if self.complaints_say == Complained::Enforced { ENFORCED } else { 1.0 };
        let tolerance = line.tolerance * mood * enforced;
        (tolerance, (tolerance * self.nature.hour_share).max(LEAST_HOUR))
    }

    /// The pressure of the day, and the larger of that and the hour's.
    fn pressure(&self, line: &Line) -> (f64, f64) {
        let (day, hour) = self.limits(line);
        let of_day = line.tried as f64 / day;
        (of_day, of_day.max(line.hour() as f64 / hour))
    }

    /// The shares of mail that are refused and deferred because there is too much of it. What exceeds an hour is only ever
    /// deferred: 421 4.7.28, RP-001 and [TSS04] are all temporary.
    fn turned_away(&self, line: &Line) -> (f64, f64) {
        let (of_day, pressure) = self.pressure(line);
        let refused = (1.0 - self.nature.temper.refuses() / of_day).max(0.0);
        let away = (1.0 - 1.0 / pressure).max(0.0);
        (refused, away - refused)
    }

    fn offer_from(&mut self, ip: usize, slot: u64, mails: u64) -> Outcome {
        self.lines[ip].try_mails(mails);
        let (refused, limited) = self.turned_away(&self.lines[ip]);
        let troubled = self.nature.troubles.get(self.day).copied().flatten();
        let in_trouble = troubled.is_some_and(|from| (from..from + TROUBLE_LASTS).contains(&self.slot_of_day));
        let refused_mails = self.dice.successes(mails, refused);
        let limited = if refused < 1.0 { (limited / (1.0 - refused)).min(1.0) } else { 0.0 };
        let limited_mails = self.dice.successes(mails - refused_mails, limited);
        let taken = mails - refused_mails - limited_mails;
        let outcome = self.nature.rates.outcome(&mut self.dice, taken, in_trouble.then_some(TROUBLE_DEFERS));
        self.lines[ip].turned_away += refused_mails + limited_mails;
        self.pending.defer(slot, (self.day, ip), limited_mails, true);
        self.pending.defer(slot, (self.day, ip), outcome.deferred, false);
        if self.nature.returns_complaints {
            let times = self.nature.campaigns.get(self.day).copied().unwrap_or(1.0);
            let complaints = self.nature.rates.complaints(&mut self.dice, outcome.delivered, times);
            self.pending.complain(slot, (slot, self.day), complaints);
        }
        self.note(outcome.delivered, 0);
        Outcome { refused: refused_mails, limited: limited_mails, ..outcome }
    }

    fn note(&mut self, delivered: u64, complaints: u64) {
        if let Some(today) = self.complained.back_mut() {
            today.0 += delivered;
            today.1 += complaints;
        }
    }

    /// What the complaints of the last days say.
    fn heard(&self) -> Complained {
        let (delivered, complaints) = self.complained.iter().fold((0, 0), |sum, day| (sum.0 + day.0, sum.1 + day.1));
        let share = complaints as f64 / (delivered.max(1)) as f64;
        if !self.nature.family.limits_by_complaints() || complaints < LEAST_COMPLAINTS || share <= WARNS {
            Complained::Little
        } else if share <= ENFORCES {
            Complained::Warned
        } else {
            Complained::Enforced
        }
    }
}

impl Receiver for ReceivingIsp {
    fn room(&self) -> u64 {
        let room = |line: &Line| {
            let (day, hour) = self.limits(line);
            (day - line.tried as f64).min(hour - line.hour() as f64).max(0.0) as u64
        };
        self.lines.iter().map(room).min().unwrap_or(0) * self.lines.len() as u64
    }

    fn offer(&mut self, slot: u64, mails: u64) -> Outcome {
        let mut outcome = Outcome::default();
        for (ip, mails) in parts(mails, self.lines.len(), slot) {
            outcome.add(self.offer_from(ip, slot, mails));
        }
        outcome
    }

    fn pass_slot(&mut self, slot: u64) -> Vec<Late> {
        self.lines.iter_mut().for_each(Line::pass_slot);
        self.slot_of_day += 1;
        let pressures: Vec<f64> = self.lines.iter().map(|line| self.pressure(line).1).collect();
        let ReceivingIsp { nature, dice, pending, .. } = self;
        let late = pending.pass_slot(slot, |waiting| {
            let share = if waiting.limited { (1.0 / pressures[waiting.ip]).min(1.0) } else { 1.0 };
            let delivered = dice.successes(waiting.mails, share);
            let times = nature.campaigns.get(waiting.day).copied().unwrap_or(1.0);
            let complaints =
                if nature.returns_complaints { nature.rates.complaints(dice, delivered, times) } else { 0 };
            (delivered, complaints)
        });
        for outcome in &late {
            self.note(outcome.delivered, outcome.complaints);
        }
        late
    }

    fn end_day(&mut self) {
        let growing = self.complaints_say == Complained::Little;
        let limits: Vec<f64> = self.lines.iter().map(|line| self.limits(line).0).collect();
        for (line, limit) in self.lines.iter_mut().zip(limits) {
            let sent = line.today as f64;
            // A burst that had to be turned away counts against a sender, even if the whole day was within the tolerance.
            let burst = sent / (line.today - line.turned_away).max(1) as f64;
            let pressure = if line.turned_away > 0 { (sent / limit).max(burst) } else { sent / limit };
            line.closed.push_back(Closed { sent, pressure });
            if line.closed.len() > self.nature.family.late_days()
                && let Some(known) = line.closed.pop_front()
            {
                line.tolerance = self.nature.moved(line.tolerance, &known, growing);
            }
            (line.today, line.turned_away) = (0, 0);
        }
        self.complaints_say = self.heard();
        self.complained.push_back((0, 0));
        if self.complained.len() > COMPLAINT_DAYS {
            self.complained.pop_front();
        }
        self.day += 1;
        self.slot_of_day = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ISP without random properties, met by a sender with this number of IPs.
    fn isp_of(family: Family, temper: Temper, ips: usize) -> ReceivingIsp {
        let nature = Nature {
            temper,
            family,
            returns_complaints: true,
            start: temper.start(),
            growth: temper.growth(),
            hour_share: family.hour_share(),
            rates: Rates::CLEAN,
            campaigns: Vec::new(),
            moods: Vec::new(),
            troubles: Vec::new(),
        };
        ReceivingIsp::new(nature, 1, "test", ips)
    }

    fn isp(temper: Temper) -> ReceivingIsp {
        isp_of(Family::Microsoft, temper, 1)
    }

    fn set_tolerance(isp: &mut ReceivingIsp, tolerance: f64) {
        isp.lines.iter_mut().for_each(|line| line.tolerance = tolerance);
    }

    /// Sends evenly over these slots of a day, and ends it.
    fn day_in(isp: &mut ReceivingIsp, slot: &mut u64, mails: u64, slots: u64) -> Outcome {
        let mut sum = Outcome::default();
        for place in 0..WINDOW as u64 {
            let sent = if place < slots { mails * (place + 1) / slots - mails * place / slots } else { 0 };
            sum.add(isp.offer(*slot, sent));
            *slot += 1;
            isp.pass_slot(*slot);
        }
        isp.end_day();
        sum
    }

    /// Over the first half of a day.
    fn day(isp: &mut ReceivingIsp, slot: &mut u64, mails: u64) -> Outcome {
        day_in(isp, slot, mails, 144)
    }

    #[test]
    fn volume_that_doubles_is_taken_gladly_by_a_kind_isp_and_moves_its_tolerance() {
        let (mut isp, mut slot) = (isp(Temper::Kind), 0);
        for volume in [200, 200, 400, 800, 1_600, 3_200] {
            let outcome = day(&mut isp, &mut slot, volume);
            assert_eq!(outcome.limited + outcome.refused, 0, "{volume}");
        }
        assert_eq!(isp.lines[0].tolerance, 6_400.0);
    }

    #[test]
    fn what_exceeds_the_tolerance_is_deferred_first_and_refused_further_above() {
        let (mut kind, mut slot) = (isp(Temper::Kind), 0);
        let over = day(&mut kind, &mut slot, 400);
        assert!(over.limited > 30 && over.refused == 0, "{over:?}");
        let (mut harsh, mut slot) = (isp(Temper::Harsh), 0);
        let far_over = day(&mut harsh, &mut slot, 5_000);
        assert!(far_over.refused > 4_000 && far_over.delivered < 500, "{far_over:?}");
    }

    #[test]
    fn what_was_sent_today_moves_the_tolerance_a_day_later_than_tomorrow_and_two_at_gmail() {
        for (family, late) in [(Family::Microsoft, 1), (Family::Yahoo, 1), (Family::Business, 1), (Family::Gmail, 2)] {
            let (mut isp, mut slot) = (isp_of(family, Temper::Kind, 1), 0);
            for number in 0..=late {
                assert_eq!(isp.lines[0].tolerance, 200.0, "{family:?} on day {number}");
                day(&mut isp, &mut slot, 200);
            }
            assert_eq!(isp.lines[0].tolerance, 400.0, "{family:?}");
            // Abuse is punished as late.
            let mut isp = isp_of(family, Temper::Kind, 1);
            for number in 0..=late {
                assert_eq!(isp.lines[0].tolerance, 200.0, "{family:?} on day {number}");
                day(&mut isp, &mut slot, 2_000);
            }
            assert_eq!(isp.lines[0].tolerance, 100.0, "{family:?}");
        }
    }

    #[test]
    fn abuse_shrinks_a_tolerance_and_silence_lets_it_be_forgotten() {
        let (mut isp, mut slot) = (isp(Temper::Kind), 0);
        set_tolerance(&mut isp, 10_000.0);
        day(&mut isp, &mut slot, 100_000);
        assert_eq!(isp.lines[0].tolerance, 10_000.0);
        day(&mut isp, &mut slot, 0);
        assert_eq!(isp.lines[0].tolerance, 5_000.0);
        for _ in 0..90 {
            day(&mut isp, &mut slot, 0);
        }
        assert_eq!(isp.lines[0].tolerance, 200.0);
        for _ in 0..30 {
            day(&mut isp, &mut slot, 50_000);
        }
        assert_eq!(isp.lines[0].tolerance, 40.0);
    }

    #[test]
    fn an_hour_takes_only_its_share() {
        for family in [Family::Gmail, Family::Microsoft, Family::Yahoo, Family::Business] {
            let (mut isp, mut slot) = (isp_of(family, Temper::Kind, 1), 0);
            set_tolerance(&mut isp, 10_000.0);
            let share = (10_000.0 * family.hour_share()) as u64;
            assert_eq!(isp.room(), share, "{family:?}");
            let outcome = isp.offer(slot, share);
            assert_eq!((outcome.limited, isp.room()), (0, 0), "{family:?}");
            // As much again is turned away by half, although the day has room.
            let outcome = isp.offer(slot, share);
            assert!(outcome.limited > share * 2 / 5 && outcome.refused == 0, "{family:?}: {outcome:?}");
            // An hour later it takes the next share: the hour rolls.
            for _ in 0..HOUR {
                slot += 1;
                isp.pass_slot(slot);
            }
            assert_eq!(isp.room(), share.min(10_000 - 2 * share), "{family:?}");
        }
    }

    #[test]
    fn an_hour_takes_twenty_mails_even_of_a_stranger() {
        assert_eq!(isp_of(Family::Yahoo, Temper::Harsh, 1).room(), 20);
    }

    #[test]
    fn what_exceeds_an_hour_is_deferred_and_never_refused() {
        let mut isp = isp_of(Family::Yahoo, Temper::Harsh, 1);
        set_tolerance(&mut isp, 100_000.0);
        let outcome = isp.offer(0, 80_000);
        assert!(outcome.limited > 60_000 && outcome.refused == 0, "{outcome:?}");
    }

    #[test]
    fn a_burst_that_is_turned_away_slows_the_growth_of_a_day_within_the_tolerance() {
        let tolerance = |slots: u64| {
            let (mut isp, mut slot) = (isp_of(Family::Yahoo, Temper::Kind, 1), 0);
            set_tolerance(&mut isp, 10_000.0);
            day_in(&mut isp, &mut slot, 9_000, slots);
            day(&mut isp, &mut slot, 0);
            isp.lines[0].tolerance
        };
        assert_eq!(tolerance(144), 20_000.0);
        assert!(tolerance(36) < tolerance(72), "{} {}", tolerance(36), tolerance(72));
        assert_eq!(tolerance(1), 5_000.0, "nine tenths of the day at once is abuse");
    }

    #[test]
    fn mail_over_two_ips_is_taken_twice() {
        for family in [Family::Microsoft, Family::Yahoo, Family::Business] {
            let room = |ips| isp_of(family, Temper::Kind, ips).room();
            assert_eq!((room(2), room(5)), (2 * room(1), 5 * room(1)), "{family:?}");
            let limited = |ips, mails| {
                let outcome = day(&mut isp_of(family, Temper::Kind, ips), &mut 0, mails);
                outcome.limited + outcome.refused
            };
            assert_eq!((limited(1, 200), limited(2, 400)), (0, 0), "{family:?}");
            assert!(limited(1, 400) > 30, "{family:?}");
        }
    }

    #[test]
    fn gmail_limits_the_domain_whatever_the_number_of_ips() {
        let room = |ips| isp_of(Family::Gmail, Temper::Kind, ips).room();
        assert_eq!(room(1), room(5));
    }

    #[test]
    fn complaints_over_three_days_limit_mail_at_yahoo_and_nowhere_else() {
        let room = |family: Family, times: f64| {
            let (mut isp, mut slot) = (isp_of(family, Temper::Kind, 1), 0);
            set_tolerance(&mut isp, 50_000.0);
            isp.nature.campaigns = vec![times; 3];
            for _ in 0..3 {
                day(&mut isp, &mut slot, 20_000);
            }
            // Beyond the 24 hours of the last mail.
            for _ in 0..WINDOW {
                slot += 1;
                isp.pass_slot(slot);
            }
            (isp.room() as f64 / isp.nature.hour_share / isp.lines[0].tolerance, isp.lines[0].tolerance)
        };
        let share = |family, times| (room(family, times).0 * 100.0).round();
        assert_eq!((share(Family::Yahoo, 1.0), share(Family::Yahoo, 20.0)), (100.0, 50.0));
        assert_eq!((share(Family::Gmail, 20.0), share(Family::Microsoft, 20.0)), (100.0, 100.0));
        // Between warning and enforcement it grows no more.
        assert_eq!((share(Family::Yahoo, 6.0), room(Family::Yahoo, 6.0).1), (100.0, 80_000.0_f64.min(50_000.0)));
    }

    #[test]
    fn complaints_are_forgiven_after_three_better_days() {
        let (mut isp, mut slot) = (isp_of(Family::Yahoo, Temper::Kind, 1), 0);
        set_tolerance(&mut isp, 50_000.0);
        isp.nature.campaigns = vec![30.0];
        day(&mut isp, &mut slot, 10_000);
        assert_eq!(isp.complaints_say, Complained::Enforced);
        for _ in 0..3 {
            day(&mut isp, &mut slot, 10_000);
        }
        assert_eq!(isp.complaints_say, Complained::Little);
    }

    #[test]
    fn a_weekend_takes_a_little_less() {
        let mean = |weekdays: std::ops::Range<usize>, name: &str| {
            let moods = |seed| Nature::of(seed, name, Temper::Kind, false, 364).moods;
            let moods: Vec<f64> = (0..20)
                .flat_map(|seed| moods(seed).into_iter().enumerate().collect::<Vec<_>>())
                .filter_map(|(day, mood)| weekdays.contains(&(day % 7)).then_some(mood))
                .collect();
            moods.iter().sum::<f64>() / moods.len() as f64
        };
        for (name, share) in [("gmail", 0.95), ("microsoft", 0.95), ("yahoo", 0.95), ("other", 0.85)] {
            assert!((mean(0..5, name) - 1.0).abs() < 0.01, "{name}: {}", mean(0..5, name));
            assert!((mean(5..7, name) - share).abs() < 0.01, "{name}: {}", mean(5..7, name));
        }
    }

    #[test]
    fn within_its_room_nothing_is_turned_away_for_its_number() {
        for (family, ips) in [(Family::Gmail, 1), (Family::Microsoft, 3), (Family::Yahoo, 2), (Family::Business, 1)] {
            let mut isp = isp_of(family, Temper::Harsh, ips);
            for slot in 0..20 * WINDOW as u64 {
                isp.pass_slot(slot);
                let outcome = isp.offer(slot, isp.room());
                assert_eq!(outcome.limited + outcome.refused, 0, "{family:?} in slot {slot}");
                if (slot + 1).is_multiple_of(WINDOW as u64) {
                    isp.end_day();
                }
            }
            assert!(isp.lines[0].tolerance > 500.0, "{family:?}: {}", isp.lines[0].tolerance);
        }
    }

    #[test]
    fn deferred_mail_is_delivered_or_given_up_in_the_end() {
        let (mut isp, mut slot) = (isp(Temper::Harsh), 0);
        let outcome = isp.offer(slot, 90);
        let (mut delivered, mut expired) = (0, 0);
        for _ in 0..WINDOW {
            slot += 1;
            for late in isp.pass_slot(slot) {
                delivered += late.delivered;
                expired += late.expired;
            }
        }
        assert!(outcome.limited > 0, "{outcome:?}");
        assert_eq!(delivered + expired, outcome.limited + outcome.deferred);
        assert!(isp.pending.is_settled());
    }

    #[test]
    fn all_who_send_in_the_world_of_a_seed_meet_the_same_isp() {
        let nature = |seed| format!("{:?}", Nature::of(seed, "gmail", Temper::Kind, false, 45));
        assert_eq!(nature(3), nature(3));
        assert_ne!(nature(3), nature(4));
    }
}
