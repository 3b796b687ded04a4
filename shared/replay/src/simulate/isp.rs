//! The receiving side: a model of how an ISP treats a sender that is new to it.
//!
//! ```text
//! pressure = first tries of the last 24 hours / tolerance
//!   up to 1          taken, but for the rates of a clean sender
//!   above 1          1 − 1/pressure is turned away: deferred …
//!   above `refuses`  … and 1 − refuses/pressure of all refused for good
//! ```
//!
//! A tolerance grows with days of well-behaved volume, shrinks with abuse, and decays without mail. Every number and its
//! source is in `DESIGN.md`; they were fixed before anything was run.

use std::collections::VecDeque;

use super::dice::Dice;

/// Minutes of a slot: the simulation's step.
pub(super) const SLOT_MINUTES: u32 = 5;
/// Slots of 24 hours.
const WINDOW: usize = (24 * 60 / SLOT_MINUTES) as usize;
/// Slots of an hour.
const HOUR: u64 = (60 / SLOT_MINUTES) as u64;

/// How an ISP treats new senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Temper {
    /// It accepts twice as much after each good day.
    Kind,
    /// It receives mail for businesses, and accepts a little more after each good day.
    Business,
    /// It begins low, accepts little more after each good day, and soon refuses.
    Harsh,
}

impl Temper {
    /// Its stable name, as in the report.
    pub fn name(self) -> &'static str {
        match self {
            Temper::Kind => "kind",
            Temper::Business => "business",
            Temper::Harsh => "harsh",
        }
    }

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

/// Rates of a clean sender's mail, as shares.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    hard_bounces: f64,
    soft_bounces: f64,
    /// Refused by a content filter.
    filtered: f64,
    /// Deferred for reasons of the ISP's own, and accepted at the next attempt.
    deferred: f64,
    /// Relative to deliveries.
    complaints: f64,
}

const CLEAN: Rates =
    Rates { hard_bounces: 0.005, soft_bounces: 0.005, filtered: 0.001, deferred: 0.01, complaints: 0.0003 };
/// The delay of a complaint, in slots.
const COMPLAINT_AFTER: u64 = 6 * HOUR;
/// The mean number of days between an ISP's own disturbances …
const TROUBLE_EVERY_DAYS: f64 = 90.0;
/// … and their length in slots, during which this share of mail is deferred.
const TROUBLE_LASTS: u64 = 2 * HOUR;
const TROUBLE_DEFERS: f64 = 0.5;
/// Slots between attempts at a deferred mail: after 1, 4 and 13 hours. SES gives up after 14.
const TRIES: [u64; 3] = [HOUR, 3 * HOUR, 9 * HOUR];

/// The properties of an ISP that all senders meet: drawn once for each seed.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    temper: Temper,
    returns_complaints: bool,
    start: f64,
    growth: f64,
    rates: Rates,
    /// By day: the factor on the tolerance.
    moods: Vec<f64>,
    /// By day: the slot in which a disturbance begins.
    troubles: Vec<Option<u64>>,
}

impl Nature {
    /// The ISP with this name for a seed.
    pub(super) fn of(seed: u64, name: &str, temper: Temper, returns_complaints: bool, days: u32) -> Nature {
        let mut dice = Dice::new(seed, &format!("nature of {name}"));
        // Between half and twice the value, each factor as likely as its inverse.
        let start = temper.start() * 2.0_f64.powf(dice.between(-1.0, 1.0));
        let growth = 1.0 + (temper.growth() - 1.0) * dice.between(0.5, 1.5);
        let mut vary = |rate: f64| rate * dice.between(0.5, 1.5);
        let rates = Rates {
            hard_bounces: vary(CLEAN.hard_bounces),
            soft_bounces: vary(CLEAN.soft_bounces),
            filtered: vary(CLEAN.filtered),
            deferred: vary(CLEAN.deferred),
            complaints: vary(CLEAN.complaints),
        };
        let mut moods = Vec::new();
        let mut troubles = Vec::new();
        for _ in 0..days {
            moods.push(dice.between(1.0 - MOOD, 1.0 + MOOD));
            let has_trouble = dice.unit() < 1.0 / TROUBLE_EVERY_DAYS;
            let slot = (dice.unit() * WINDOW as f64) as u64;
            troubles.push(has_trouble.then_some(slot));
        }
        Nature { temper, returns_complaints, start, growth, rates, moods, troubles }
    }
}

/// The immediate outcome of mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Accepted.
    pub(super) delivered: u64,
    /// No such recipient.
    pub(super) hard_bounces: u64,
    /// Bounced for a reason on the recipient's side.
    pub(super) soft_bounces: u64,
    /// Refused because of the sender.
    pub(super) refused: u64,
    /// Deferred because of the sender: too much.
    pub(super) limited: u64,
    /// Deferred for another reason.
    pub(super) deferred: u64,
}

/// The later outcome of mail that was deferred or delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Late {
    /// The slot in which SES accepted the mail.
    pub(super) accepted: u64,
    /// The day of that slot.
    pub(super) day: usize,
    /// Accepted after a deferral.
    pub(super) delivered: u64,
    /// Given up.
    pub(super) expired: u64,
    /// Complained about.
    pub(super) complaints: u64,
}

/// Mail that waits for another attempt.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due: u64,
    accepted: u64,
    day: usize,
    mails: u64,
    limited: bool,
}

/// An ISP as seen by one sender.
#[derive(Clone, Debug)]
pub(super) struct ReceivingIsp {
    nature: Nature,
    dice: Dice,
    tolerance: f64,
    /// First attempts by slot, over the last 24 hours, and their sum.
    window: VecDeque<u64>,
    tried: u64,
    today: u64,
    day: usize,
    slot_of_day: u64,
    /// By attempts so far, each in the order in which it is due.
    waiting: [VecDeque<Waiting>; TRIES.len()],
    /// When it is due, the slot and day of the mail, and the number.
    complaints: VecDeque<(u64, u64, usize, u64)>,
}

impl ReceivingIsp {
    /// An ISP to which a sender is new. `name` separates the random numbers of several senders.
    pub(super) fn new(nature: Nature, seed: u64, name: &str) -> ReceivingIsp {
        ReceivingIsp {
            tolerance: nature.start,
            dice: Dice::new(seed, name),
            nature,
            window: VecDeque::from(vec![0; WINDOW]),
            tried: 0,
            today: 0,
            day: 0,
            slot_of_day: 0,
            waiting: Default::default(),
            complaints: VecDeque::new(),
        }
    }

    /// The volume that it accepts on this day.
    pub(super) fn tolerance(&self) -> f64 {
        self.tolerance * self.nature.moods.get(self.day).copied().unwrap_or(1.0)
    }

    fn pressure(&self) -> f64 {
        self.tried as f64 / self.tolerance()
    }

    /// The shares of mail that are refused and deferred because there is too much of it.
    fn turned_away(&self) -> (f64, f64) {
        let pressure = self.pressure();
        let refused = (1.0 - self.nature.temper.refuses() / pressure).max(0.0);
        let away = (1.0 - 1.0 / pressure).max(0.0);
        (refused, away - refused)
    }

    /// Accepts, defers and refuses mail that SES accepted in this slot.
    pub(super) fn offer(&mut self, slot: u64, mails: u64) -> Outcome {
        if mails == 0 {
            return Outcome::default();
        }
        self.tried += mails;
        self.today += mails;
        if let Some(last) = self.window.back_mut() {
            *last += mails;
        }
        let (refused, limited) = self.turned_away();
        let rates = self.nature.rates;
        let troubled = self.nature.troubles.get(self.day).copied().flatten();
        let in_trouble = troubled.is_some_and(|from| (from..from + TROUBLE_LASTS).contains(&self.slot_of_day));
        let mut rest = mails;
        let dice = &mut self.dice;
        let mut take = |share: f64| {
            let taken = dice.successes(rest, share);
            rest -= taken;
            taken
        };
        let refused_for_volume = take(refused);
        let limited = take(if refused < 1.0 { (limited / (1.0 - refused)).min(1.0) } else { 0.0 });
        let deferred = take(if in_trouble { TROUBLE_DEFERS } else { rates.deferred });
        let hard_bounces = take(rates.hard_bounces);
        let soft_bounces = take(rates.soft_bounces);
        let filtered = take(rates.filtered);
        let delivered = rest;
        let due = slot + TRIES[0];
        for (mails, limited) in [(limited, true), (deferred, false)] {
            if mails > 0 {
                self.waiting[0].push_back(Waiting { due, accepted: slot, day: self.day, mails, limited });
            }
        }
        self.draw_complaints(slot, slot, self.day, delivered);
        Outcome { delivered, hard_bounces, soft_bounces, refused: refused_for_volume + filtered, limited, deferred }
    }

    fn draw_complaints(&mut self, slot: u64, accepted: u64, day: usize, delivered: u64) {
        if !self.nature.returns_complaints {
            return;
        }
        let complaints = self.dice.successes(delivered, self.nature.rates.complaints);
        if complaints > 0 {
            self.complaints.push_back((slot + COMPLAINT_AFTER, accepted, day, complaints));
        }
    }

    /// Moves to the next slot, and returns the outcomes of earlier mail by then.
    pub(super) fn pass_slot(&mut self, slot: u64) -> Vec<Late> {
        self.tried -= self.window.pop_front().unwrap_or(0);
        self.window.push_back(0);
        self.slot_of_day += 1;
        let mut late = Vec::new();
        let pressure = self.pressure();
        for tries in 0..TRIES.len() {
            while let Some(waiting) = self.waiting[tries].pop_front_if(|waiting| waiting.due <= slot) {
                let share = if waiting.limited { (1.0 / pressure).min(1.0) } else { 1.0 };
                let delivered = self.dice.successes(waiting.mails, share);
                let mails = waiting.mails - delivered;
                let next = TRIES.get(tries + 1);
                if let Some(wait) = next.filter(|_| mails > 0) {
                    self.waiting[tries + 1].push_back(Waiting { due: slot + wait, mails, ..waiting });
                }
                let expired = if next.is_none() { mails } else { 0 };
                late.push(Late { accepted: waiting.accepted, day: waiting.day, delivered, expired, complaints: 0 });
                self.draw_complaints(slot, waiting.accepted, waiting.day, delivered);
            }
        }
        while let Some((_, accepted, day, complaints)) =
            self.complaints.front().copied().filter(|(due, ..)| *due <= slot)
        {
            self.complaints.pop_front();
            late.push(Late { accepted, day, delivered: 0, expired: 0, complaints });
        }
        late
    }

    /// Ends a day: the mail of the day moves the tolerance.
    pub(super) fn end_day(&mut self) {
        let Nature { temper, start, growth, .. } = self.nature;
        let sent = self.today as f64;
        let pressure = sent / self.tolerance;
        let patience = temper.patience();
        self.tolerance = if pressure < IDLE {
            (self.tolerance * REMEMBERS).max(start.min(self.tolerance))
        } else if pressure <= 1.0 {
            self.tolerance.max(growth * sent)
        } else if pressure <= patience {
            self.tolerance * (1.0 + (growth - 1.0) * (patience - pressure) / (patience - 1.0))
        } else {
            let shrunk = self.tolerance * (patience / pressure).max(MAX_ABUSE);
            shrunk.max((start * LEAST).min(self.tolerance))
        };
        self.today = 0;
        self.day += 1;
        self.slot_of_day = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ISP without random properties.
    fn isp(temper: Temper) -> ReceivingIsp {
        let nature = Nature {
            temper,
            returns_complaints: true,
            start: temper.start(),
            growth: temper.growth(),
            rates: CLEAN,
            moods: Vec::new(),
            troubles: Vec::new(),
        };
        ReceivingIsp::new(nature, 1, "test")
    }

    /// Sends evenly over the first half of a day, and ends it.
    fn day(isp: &mut ReceivingIsp, slot: &mut u64, mails: u64) -> Outcome {
        let mut sum = Outcome::default();
        for place in 0..WINDOW as u64 {
            let sent = if place < 144 { mails * (place + 1) / 144 - mails * place / 144 } else { 0 };
            let outcome = isp.offer(*slot, sent);
            sum.delivered += outcome.delivered;
            sum.refused += outcome.refused;
            sum.limited += outcome.limited;
            *slot += 1;
            isp.pass_slot(*slot);
        }
        isp.end_day();
        sum
    }

    #[test]
    fn volume_that_doubles_is_taken_gladly_by_a_kind_isp_and_moves_its_tolerance() {
        let (mut isp, mut slot) = (isp(Temper::Kind), 0);
        for volume in [200, 400, 800, 1_600, 3_200] {
            let outcome = day(&mut isp, &mut slot, volume);
            assert_eq!(outcome.limited, 0, "{volume}");
            assert!(outcome.refused <= volume / 100, "{outcome:?}");
            assert_eq!(isp.tolerance, 2.0 * volume as f64);
        }
    }

    #[test]
    fn what_exceeds_the_tolerance_is_deferred_first_and_refused_further_above() {
        let (mut kind, mut slot) = (isp(Temper::Kind), 0);
        let over = day(&mut kind, &mut slot, 400);
        assert!(over.limited > 30 && over.refused < 10, "{over:?}");
        let (mut harsh, mut slot) = (isp(Temper::Harsh), 0);
        let far_over = day(&mut harsh, &mut slot, 5_000);
        assert!(far_over.refused > 4_000 && far_over.delivered < 500, "{far_over:?}");
        assert_eq!(harsh.tolerance, 25.0);
    }

    #[test]
    fn abuse_shrinks_a_tolerance_and_silence_lets_it_be_forgotten() {
        let (mut isp, mut slot) = (isp(Temper::Kind), 0);
        isp.tolerance = 10_000.0;
        day(&mut isp, &mut slot, 15_000);
        assert!((10_000.0..15_000.0 + 0.5).contains(&isp.tolerance), "{}", isp.tolerance);
        isp.tolerance = 10_000.0;
        day(&mut isp, &mut slot, 100_000);
        assert_eq!(isp.tolerance, 5_000.0);
        for _ in 0..90 {
            day(&mut isp, &mut slot, 0);
        }
        assert_eq!(isp.tolerance, 200.0);
        for _ in 0..30 {
            day(&mut isp, &mut slot, 50_000);
        }
        assert_eq!(isp.tolerance, 40.0);
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
        assert!(isp.waiting.iter().all(VecDeque::is_empty));
    }

    #[test]
    fn all_who_send_in_the_world_of_a_seed_meet_the_same_isp() {
        let nature = |seed| format!("{:?}", Nature::of(seed, "gmail", Temper::Kind, false, 45));
        assert_eq!(nature(3), nature(3));
        assert_ne!(nature(3), nature(4));
    }
}
