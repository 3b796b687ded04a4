//! What both models of receiving ISPs share: the interface, the sender's own mail, and the retries of SES.
//!
//! Everything here is a property of the sender or of SES. How an ISP limits mail is the matter of the models alone, and
//! they share none of it.

use std::collections::VecDeque;

use super::dice::Dice;

/// Minutes of a slot: the simulation's step.
pub(super) const SLOT_MINUTES: u32 = 5;
/// Slots of an hour.
pub(super) const HOUR: u64 = (60 / SLOT_MINUTES) as u64;

/// A receiving ISP as one sender meets it. Each slot begins with `pass_slot`, then mail is offered; `end_day` follows the
/// last slot of a day.
pub(super) trait Receiver {
    /// The number of mails that it takes in this slot without turning any away for their number.
    fn room(&self) -> u64;

    /// Accepts, defers and refuses mail that SES accepted in this slot.
    fn offer(&mut self, slot: u64, mails: u64) -> Outcome;

    /// Moves to the next slot, and returns the outcomes of earlier mail by then.
    fn pass_slot(&mut self, slot: u64) -> Vec<Late>;

    /// Ends a day.
    fn end_day(&mut self);
}

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
    /// Refused by a content filter.
    pub(super) filtered: u64,
    /// Refused because of the sender: too much by far.
    pub(super) refused: u64,
    /// Deferred because of the sender: too much.
    pub(super) limited: u64,
    /// Deferred for another reason.
    pub(super) deferred: u64,
}

impl Outcome {
    /// Adds the outcome of other mail.
    pub(super) fn add(&mut self, other: Outcome) {
        self.delivered += other.delivered;
        self.hard_bounces += other.hard_bounces;
        self.soft_bounces += other.soft_bounces;
        self.filtered += other.filtered;
        self.refused += other.refused;
        self.limited += other.limited;
        self.deferred += other.deferred;
    }
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

/// Rates of a clean sender's mail, as shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    hard_bounces: f64,
    soft_bounces: f64,
    /// Refused by a content filter.
    filtered: f64,
    /// Deferred for reasons of the ISP's own, and accepted at the next attempt.
    deferred: f64,
    /// Relative to deliveries.
    complaints: f64,
}

/// The delay of a complaint, in slots.
const COMPLAINT_AFTER: u64 = 6 * HOUR;
/// The mean number of days between two campaigns that people dislike …
const DISLIKED_EVERY_DAYS: f64 = 45.0;
/// … and how much more often they complain on that day: 0.03 % becomes 0.3 %, at which Google and Yahoo enforce their limits.
const DISLIKED: f64 = 10.0;

impl Rates {
    /// A clean sender. Assumptions of ours: see `DESIGN.md`.
    pub(super) const CLEAN: Rates =
        Rates { hard_bounces: 0.005, soft_bounces: 0.005, filtered: 0.001, deferred: 0.01, complaints: 0.0003 };

    /// Those of a clean sender, each times a factor of its own.
    pub(super) fn varied(mut factor: impl FnMut() -> f64) -> Rates {
        let clean = Rates::CLEAN;
        Rates {
            hard_bounces: clean.hard_bounces * factor(),
            soft_bounces: clean.soft_bounces * factor(),
            filtered: clean.filtered * factor(),
            deferred: clean.deferred * factor(),
            complaints: clean.complaints * factor(),
        }
    }

    /// The outcome of mail that is not turned away for its number. `defers`: a share that is deferred instead of the usual
    /// one.
    pub(super) fn outcome(&self, dice: &mut Dice, mails: u64, defers: Option<f64>) -> Outcome {
        let mut rest = mails;
        let mut take = |share: f64| {
            let taken = dice.successes(rest, share);
            rest -= taken;
            taken
        };
        let deferred = take(defers.unwrap_or(self.deferred));
        let hard_bounces = take(self.hard_bounces);
        let soft_bounces = take(self.soft_bounces);
        let filtered = take(self.filtered);
        Outcome { delivered: rest, hard_bounces, soft_bounces, filtered, deferred, ..Outcome::default() }
    }

    /// The complaints about delivered mail, on a day with this many times the usual number.
    pub(super) fn complaints(&self, dice: &mut Dice, delivered: u64, times: f64) -> u64 {
        dice.successes(delivered, self.complaints * times)
    }
}

/// By day, how many times the usual number of people complain. The same at all ISPs: it is the sender's campaign.
pub(super) fn campaigns(seed: u64, days: u32) -> Vec<f64> {
    let mut dice = Dice::new(seed, "campaigns");
    (0..days).map(|_| if dice.unit() < 1.0 / DISLIKED_EVERY_DAYS { DISLIKED } else { 1.0 }).collect()
}

/// Slots between attempts at a deferred mail: after 1, 4 and 13 hours. SES gives up after 14.
const TRIES: [u64; 3] = [HOUR, 3 * HOUR, 9 * HOUR];

/// Mail that waits for another attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    due: u64,
    accepted: u64,
    /// The day on which SES accepted it.
    pub(super) day: usize,
    /// The sender's IP that has it.
    pub(super) ip: usize,
    /// How many.
    pub(super) mails: u64,
    /// Whether there was too much mail at the first attempt.
    pub(super) limited: bool,
}

/// What is still to come of mail that was offered: attempts of SES, and complaints.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// By attempts so far, each in the order in which it is due.
    waiting: [VecDeque<Waiting>; TRIES.len()],
    /// When it is due, the slot and day of the mail, and the number.
    complaints: VecDeque<(u64, u64, usize, u64)>,
}

impl Pending {
    /// Adds mail that was deferred at its first attempt.
    pub(super) fn defer(&mut self, slot: u64, (day, ip): (usize, usize), mails: u64, limited: bool) {
        if mails > 0 {
            self.waiting[0].push_back(Waiting { due: slot + TRIES[0], accepted: slot, day, ip, mails, limited });
        }
    }

    /// Adds complaints about mail that was delivered in this slot, and accepted by SES in that slot and on that day.
    pub(super) fn complain(&mut self, slot: u64, (accepted, day): (u64, usize), complaints: u64) {
        if complaints > 0 {
            self.complaints.push_back((slot + COMPLAINT_AFTER, accepted, day, complaints));
        }
    }

    /// Makes the attempts that are due. `attempt` returns how many of the mails are delivered, and the complaints that they
    /// will draw.
    pub(super) fn pass_slot(&mut self, slot: u64, mut attempt: impl FnMut(&Waiting) -> (u64, u64)) -> Vec<Late> {
        let mut late = Vec::new();
        for tries in 0..TRIES.len() {
            while let Some(waiting) = self.waiting[tries].pop_front_if(|waiting| waiting.due <= slot) {
                let (delivered, complaints) = attempt(&waiting);
                let mails = waiting.mails - delivered;
                let next = TRIES.get(tries + 1);
                if let Some(wait) = next.filter(|_| mails > 0) {
                    self.waiting[tries + 1].push_back(Waiting { due: slot + wait, mails, ..waiting });
                }
                let expired = if next.is_none() { mails } else { 0 };
                late.push(Late { accepted: waiting.accepted, day: waiting.day, delivered, expired, complaints: 0 });
                self.complain(slot, (waiting.accepted, waiting.day), complaints);
            }
        }
        while let Some((_, accepted, day, complaints)) = self.complaints.pop_front_if(|(due, ..)| *due <= slot) {
            late.push(Late { accepted, day, delivered: 0, expired: 0, complaints });
        }
        late
    }

    /// Whether nothing waits for another attempt.
    #[cfg(test)]
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }
}

/// Divides mail evenly among a sender's IPs. What is left over goes to other IPs in each slot.
pub(super) fn parts(mails: u64, ips: usize, slot: u64) -> impl Iterator<Item = (usize, u64)> {
    let count = (ips as u64).max(1);
    let part = move |ip: usize| mails / count + u64::from((ip as u64 + slot) % count < mails % count);
    (0..ips).map(move |ip| (ip, part(ip))).filter(|(_, mails)| *mails > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_is_divided_evenly_among_ips_and_none_is_lost() {
        for (mails, ips) in [(0, 3), (1, 3), (7, 3), (9, 3), (1_000, 7), (5, 1)] {
            for slot in 0..8 {
                let parts: Vec<u64> = parts(mails, ips, slot).map(|(_, part)| part).collect();
                assert_eq!(parts.iter().sum::<u64>(), mails);
                let (least, most) = (parts.iter().min().unwrap_or(&0), parts.iter().max().unwrap_or(&0));
                assert!(most - least <= 1, "{mails} over {ips}: {parts:?}");
            }
        }
    }

    #[test]
    fn campaigns_that_people_dislike_are_rare_and_the_same_at_all_isps() {
        assert_eq!(campaigns(5, 45), campaigns(5, 45));
        let disliked = (0..200).flat_map(|seed| campaigns(seed, 45)).filter(|times| *times > 1.0).count();
        assert!((150..250).contains(&disliked), "{disliked} in 200 runs of 45 days");
    }
}
