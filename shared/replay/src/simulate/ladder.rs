//! The second model of receiving ISPs: a test set, built differently on purpose. No setting of the planner is ever chosen by
//! what happens here.
//!
//! ```text
//! outcomes of each hour ─► score in [0, 1], a moving average ─► rung of a ladder ─► mails an hour
//!   tokens come in at the rung's rate: what finds none is deferred with a 421, all of it
//!   far too much in one hour shuts the door for some hours: all is refused
//!   good days at a good score climb one rung; a bad score falls one; the first hours are greylisted
//! ```
//!
//! The other model has a continuous tolerance by days, moved by volume, that turns away a share of what exceeds it. Here
//! there are steps, hours and a score of outcomes, drawn from lists instead of ranges. Every number and its source is in
//! `DESIGN.md`; they were fixed before anything was run.

use super::dice::Dice;
use super::receiver::{HOUR, Late, Outcome, Pending, Rates, Receiver, Temper, campaigns, parts};

/// The score of a stranger.
const STRANGER: f64 = 0.5;
/// How much of an hour's outcome goes into the score if the hour was fully used: with twelve such hours a day, 72 % of the
/// score is of today. Ours; reputations drop within a couple of days (Suped, "How long does it take for changes to reflect in
/// Gmail Postmaster Tools").
const WEIGHT: f64 = 0.1;
/// From this score on a day is good …
const GOOD: f64 = 0.8;
/// … and below this one a rung is lost. Ours.
const BAD: f64 = 0.4;
/// A day has used its rung if it brought this many hours' worth of it: a third of a sender's twelve hours. Ours.
const USED_HOURS: f64 = 4.0;
/// What a complaint weighs in good mails. 0.3 % of complaints, the limit of Google and Yahoo, are then 30 % of bad mail, and
/// end a good score.
const COMPLAINT: f64 = 100.0;
/// What a hard bounce weighs: at the 5 % at which SES reviews an account, a fifth of the mail is bad. Ours.
const HARD_BOUNCE: f64 = 4.0;
/// A rung is lost after this many days of silence, and again after as many: 14 to 21 days cool an IP (common advice), and
/// after 30 SendGrid asks to warm up anew ("Warming up an IP address").
const SILENT_DAYS: u32 = 7;
/// What is left of the distance of the score to a stranger's after a day of silence.
const FORGETS: f64 = 0.93;
/// The highest rate of a ladder, in mails an hour: enough for a million in two days.
const TOP: f64 = 20_000.0;

/// The properties of an ISP that all senders meet: drawn once for each seed.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    returns_complaints: bool,
    rates: Rates,
    /// By day: how many times the usual number of people complain.
    campaigns: Vec<f64>,
    /// Mails an hour on the first rung.
    first: f64,
    /// The rate of a rung, relative to the one below.
    step: f64,
    /// Good days until the next rung.
    good_days: u32,
    /// The most tokens, in hours of the rate.
    burst_hours: f64,
    /// The door shuts after this many hours' worth of excess in one hour …
    floods: f64,
    /// … for this number of hours.
    shut_hours: u64,
    /// After the first contact, mail is deferred once for this number of hours.
    grey_hours: u64,
}

/// The lists from which an ISP of each temper is drawn: an item each, all as likely.
struct Lists {
    first: [f64; 3],
    step: [f64; 3],
    good_days: [u32; 4],
    floods: [f64; 3],
}

impl Lists {
    fn of(temper: Temper) -> Lists {
        match temper {
            // SendGrid, "IP Warmup schedule": 20 in an hour of the first day, and 1.4 times as many each day: twice as many
            // every two days.
            Temper::Kind => Lists {
                first: [10.0, 20.0, 40.0],
                step: [1.6, 2.0, 2.4],
                good_days: [1, 2, 2, 3],
                floods: [3.0, 4.0, 6.0],
            },
            // Half of that, and 1.3 times as many each day, as in the other model.
            Temper::Business => Lists {
                first: [6.0, 10.0, 16.0],
                step: [1.5, 1.7, 2.0],
                good_days: [1, 2, 2, 3],
                floods: [2.0, 3.0, 4.0],
            },
            // 50 mails over ten hours, and "4 to 8 weeks" to the volume of a large sender: half as many more every other day.
            Temper::Harsh => Lists {
                first: [3.0, 5.0, 8.0],
                step: [1.4, 1.5, 1.6],
                good_days: [2, 2, 2, 3],
                floods: [1.0, 1.5, 2.0],
            },
        }
    }
}

fn pick<T: Copy, const N: usize>(dice: &mut Dice, list: [T; N]) -> T {
    list[((dice.unit() * N as f64) as usize).min(N - 1)]
}

impl Ladder {
    /// The ISP with this name for a seed.
    pub(super) fn of(seed: u64, name: &str, temper: Temper, returns_complaints: bool, days: u32) -> Ladder {
        let mut dice = Dice::new(seed, &format!("ladder of {name}"));
        let lists = Lists::of(temper);
        // Most are near the usual rate, and a few far above it: half to three times.
        let rates = Rates::varied(|| 0.5 * 6.0_f64.powf(dice.unit() * dice.unit()));
        Ladder {
            returns_complaints,
            rates,
            campaigns: campaigns(seed, days),
            first: pick(&mut dice, lists.first),
            step: pick(&mut dice, lists.step),
            good_days: pick(&mut dice, lists.good_days),
            burst_hours: pick(&mut dice, [0.25, 0.5, 1.0]),
            floods: pick(&mut dice, lists.floods),
            // Yahoo asked to try again after about 4 hours; KumoMTA's community rules suspend for 2 hours after [TSS04] and
            // for 4 after [TSS05].
            shut_hours: pick(&mut dice, [2, 4, 4]),
            // None at most ISPs; else an hour or a day.
            grey_hours: pick(&mut dice, [0, 0, 1, 24]),
        }
    }

    /// Mails an hour on a rung.
    fn rate(&self, rung: i32) -> f64 {
        (self.first * self.step.powi(rung)).min(TOP)
    }
}

/// What an ISP keeps about one IP.
#[derive(Clone, Debug)]
struct Door {
    score: f64,
    rung: i32,
    good_days: u32,
    silent_days: u32,
    tokens: f64,
    /// The slot of the first contact.
    met: Option<u64>,
    /// The slot until which the door is shut.
    shut_until: u64,
    /// Good and bad mails of this hour, weighed.
    good: f64,
    bad: f64,
    /// Mails of this hour that found no token.
    excess: u64,
    /// Mails of today: all, and those that found a token.
    tried: u64,
    passed: u64,
}

impl Door {
    fn of(ladder: &Ladder) -> Door {
        Door {
            score: STRANGER,
            rung: 0,
            good_days: 0,
            silent_days: 0,
            tokens: (ladder.rate(0) * ladder.burst_hours).max(1.0),
            met: None,
            shut_until: 0,
            good: 0.0,
            bad: 0.0,
            excess: 0,
            tried: 0,
            passed: 0,
        }
    }

    /// Tokens that are there now.
    fn open_for(&self, slot: u64) -> u64 {
        if slot < self.shut_until { 0 } else { self.tokens as u64 }
    }

    fn take(&mut self, mails: u64) {
        self.tokens -= mails as f64;
    }

    fn pass_slot(&mut self, ladder: &Ladder) {
        let rate = ladder.rate(self.rung);
        self.tokens = (self.tokens + rate / HOUR as f64).min((rate * ladder.burst_hours).max(1.0));
    }

    /// The outcomes of an hour move the score.
    fn pass_hour(&mut self, ladder: &Ladder) {
        let all = self.good + self.bad;
        if all > 0.0 {
            let weight = WEIGHT * (all / ladder.rate(self.rung)).min(1.0);
            self.score += weight * (self.good / all - self.score);
        }
        (self.good, self.bad, self.excess) = (0.0, 0.0, 0);
    }

    fn end_day(&mut self, ladder: &Ladder) {
        if self.tried == 0 {
            self.silent_days += 1;
            self.score = STRANGER + (self.score - STRANGER) * FORGETS;
            if self.silent_days.is_multiple_of(SILENT_DAYS) {
                self.fall();
            }
        } else {
            self.silent_days = 0;
            if self.score < BAD {
                self.fall();
            } else if self.score >= GOOD && self.passed as f64 >= USED_HOURS * ladder.rate(self.rung) {
                self.good_days += 1;
                if self.good_days >= ladder.good_days {
                    (self.rung, self.good_days) = (self.rung + 1, 0);
                }
            }
        }
        (self.tried, self.passed) = (0, 0);
    }

    fn fall(&mut self) {
        (self.rung, self.good_days) = ((self.rung - 1).max(0), 0);
    }
}

/// An ISP as seen by one sender.
#[derive(Clone, Debug)]
pub(super) struct LadderIsp {
    ladder: Ladder,
    dice: Dice,
    /// By IP of the sender.
    doors: Vec<Door>,
    day: usize,
    slot: u64,
    pending: Pending,
}

impl LadderIsp {
    /// An ISP to which a sender with this number of IPs is new. `name` separates the random numbers of several senders.
    pub(super) fn new(ladder: Ladder, seed: u64, name: &str, ips: usize) -> LadderIsp {
        let doors = vec![Door::of(&ladder); ips.max(1)];
        LadderIsp { ladder, dice: Dice::new(seed, name), doors, day: 0, slot: 0, pending: Pending::default() }
    }

    fn times(&self, day: usize) -> f64 {
        self.ladder.campaigns.get(day).copied().unwrap_or(1.0)
    }

    fn offer_from(&mut self, ip: usize, slot: u64, mails: u64) -> Outcome {
        let times = self.times(self.day);
        let door = &mut self.doors[ip];
        door.tried += mails;
        if slot < door.shut_until {
            door.bad += mails as f64;
            return Outcome { refused: mails, ..Outcome::default() };
        }
        let met = *door.met.get_or_insert(slot);
        let taken = mails.min(door.open_for(slot));
        door.take(taken);
        door.passed += taken;
        let limited = mails - taken;
        door.excess += limited;
        if door.excess as f64 > self.ladder.floods * self.ladder.rate(door.rung) {
            door.shut_until = slot + self.ladder.shut_hours * HOUR;
            door.excess = 0;
        }
        let grey = slot < met + self.ladder.grey_hours * HOUR;
        let outcome = self.ladder.rates.outcome(&mut self.dice, taken, grey.then_some(1.0));
        door.bad += limited as f64 + outcome.filtered as f64 + HARD_BOUNCE * outcome.hard_bounces as f64;
        door.good += (outcome.delivered + outcome.soft_bounces) as f64;
        self.pending.defer(slot, (self.day, ip), limited, true);
        self.pending.defer(slot, (self.day, ip), outcome.deferred, false);
        let complaints = self.complaints(outcome.delivered, times);
        self.pending.complain(slot, (slot, self.day), complaints);
        Outcome { limited, ..outcome }
    }

    /// The complaints that the sender hears of. They come later, and weigh on the score then.
    fn complaints(&mut self, delivered: u64, times: f64) -> u64 {
        if self.ladder.returns_complaints { self.ladder.rates.complaints(&mut self.dice, delivered, times) } else { 0 }
    }
}

impl Receiver for LadderIsp {
    fn room(&self) -> u64 {
        self.doors.iter().map(|door| door.open_for(self.slot)).min().unwrap_or(0) * self.doors.len() as u64
    }

    fn offer(&mut self, slot: u64, mails: u64) -> Outcome {
        let mut outcome = Outcome::default();
        for (ip, mails) in parts(mails, self.doors.len(), slot) {
            outcome.add(self.offer_from(ip, slot, mails));
        }
        outcome
    }

    fn pass_slot(&mut self, slot: u64) -> Vec<Late> {
        self.slot = slot;
        for door in &mut self.doors {
            door.pass_slot(&self.ladder);
            if slot.is_multiple_of(HOUR) {
                door.pass_hour(&self.ladder);
            }
        }
        let LadderIsp { ladder, dice, doors, pending, .. } = self;
        let late = pending.pass_slot(slot, |waiting| {
            let door = &mut doors[waiting.ip];
            // An attempt needs a token like any mail; what was deferred for another reason has had its own.
            let open = if waiting.limited { door.open_for(slot) } else { waiting.mails };
            let delivered = waiting.mails.min(open);
            if waiting.limited {
                door.take(delivered);
                door.passed += delivered;
            }
            door.good += delivered as f64;
            let times = ladder.campaigns.get(waiting.day).copied().unwrap_or(1.0);
            let complaints =
                if ladder.returns_complaints { ladder.rates.complaints(dice, delivered, times) } else { 0 };
            (delivered, complaints)
        });
        let complaints: u64 = late.iter().map(|late| late.complaints).sum();
        let share = COMPLAINT * complaints as f64 / self.doors.len() as f64;
        self.doors.iter_mut().for_each(|door| door.bad += share);
        late
    }

    fn end_day(&mut self) {
        for door in &mut self.doors {
            door.end_day(&self.ladder);
        }
        self.day += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * HOUR;

    /// An ISP without random properties: 20 mails an hour, twice as many after two good days.
    fn ladder() -> Ladder {
        Ladder {
            returns_complaints: true,
            rates: Rates::CLEAN,
            campaigns: Vec::new(),
            first: 20.0,
            step: 2.0,
            good_days: 2,
            burst_hours: 0.5,
            floods: 3.0,
            shut_hours: 4,
            grey_hours: 0,
        }
    }

    fn isp_of(ladder: Ladder, ips: usize) -> LadderIsp {
        LadderIsp::new(ladder, 1, "test", ips)
    }

    /// Sends this much of its room in each slot of twelve hours, for some days.
    fn days(isp: &mut LadderIsp, slot: &mut u64, days: u64, share: f64) -> Outcome {
        let mut sum = Outcome::default();
        for _ in 0..days {
            for place in 0..DAY {
                isp.pass_slot(*slot);
                let mails = if place < DAY / 2 { (isp.room() as f64 * share).round() as u64 } else { 0 };
                sum.add(isp.offer(*slot, mails));
                *slot += 1;
            }
            isp.end_day();
        }
        sum
    }

    #[test]
    fn two_good_days_climb_a_rung_and_the_rate_doubles() {
        let mut isp = isp_of(ladder(), 1);
        let mut rungs = Vec::new();
        let mut slot = 0;
        for _ in 0..9 {
            days(&mut isp, &mut slot, 1, 1.0);
            rungs.push(isp.doors[0].rung);
        }
        assert_eq!(rungs, [0, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(isp.ladder.rate(4), 320.0);
    }

    #[test]
    fn what_finds_no_token_is_deferred_all_of_it() {
        let mut isp = isp_of(ladder(), 1);
        assert_eq!(isp.room(), 10);
        let outcome = isp.offer(0, 50);
        assert_eq!((outcome.limited, outcome.refused, isp.room()), (40, 0, 0));
        for slot in 1..=HOUR {
            isp.pass_slot(slot);
        }
        assert_eq!(isp.room(), 0, "the attempts of SES have taken what came in");
    }

    #[test]
    fn a_flood_shuts_the_door_for_hours() {
        let mut isp = isp_of(ladder(), 1);
        isp.offer(0, 10);
        let outcome = isp.offer(0, 100);
        assert_eq!((outcome.limited, outcome.refused), (100, 0));
        assert_eq!(isp.offer(1, 5).refused, 5);
        for slot in 1..4 * HOUR {
            isp.pass_slot(slot);
            assert_eq!(isp.room(), 0);
        }
        // The attempts of SES are first.
        isp.pass_slot(4 * HOUR);
        isp.pass_slot(4 * HOUR + 1);
        assert!(isp.room() > 0);
    }

    #[test]
    fn bad_outcomes_lower_the_score_and_cost_a_rung() {
        let (mut isp, mut slot) = (isp_of(Ladder { floods: 100.0, ..ladder() }, 1), 0);
        days(&mut isp, &mut slot, 5, 1.0);
        let before = (isp.doors[0].rung, isp.doors[0].score);
        assert!(before.0 == 2 && before.1 > GOOD, "{before:?}");
        for _ in 0..2 * DAY {
            isp.pass_slot(slot);
            isp.offer(slot, 60);
            slot += 1;
            if slot.is_multiple_of(DAY) {
                isp.end_day();
            }
        }
        let after = (isp.doors[0].rung, isp.doors[0].score);
        assert!(after.0 < before.0 && after.1 < BAD, "{after:?}");
    }

    #[test]
    fn complaints_end_a_good_score() {
        let (mut isp, mut slot) = (isp_of(ladder(), 1), 0);
        days(&mut isp, &mut slot, 9, 1.0);
        assert!(isp.doors[0].score > GOOD);
        isp.ladder.campaigns = vec![20.0; 40];
        days(&mut isp, &mut slot, 3, 1.0);
        assert!(isp.doors[0].score < GOOD, "{}", isp.doors[0].score);
    }

    #[test]
    fn a_rung_that_is_not_used_teaches_nothing() {
        let (mut isp, mut slot) = (isp_of(ladder(), 1), 0);
        for _ in 0..20 * DAY {
            isp.pass_slot(slot);
            isp.offer(slot, u64::from(slot.is_multiple_of(HOUR)));
            slot += 1;
            if slot.is_multiple_of(DAY) {
                isp.end_day();
            }
        }
        assert_eq!(isp.doors[0].rung, 0);
    }

    #[test]
    fn the_first_hours_are_greylisted_and_the_next_attempt_is_taken() {
        let mut isp = isp_of(Ladder { grey_hours: 1, ..ladder() }, 1);
        let outcome = isp.offer(0, 10);
        assert_eq!((outcome.deferred, outcome.limited, outcome.delivered), (10, 0, 0));
        let late: u64 = (1..=HOUR).flat_map(|slot| isp.pass_slot(slot)).map(|late| late.delivered).sum();
        assert_eq!(late, 10);
        assert!(isp.offer(HOUR, 5).deferred < 5);
    }

    #[test]
    fn silence_loses_rungs() {
        let (mut isp, mut slot) = (isp_of(ladder(), 1), 0);
        days(&mut isp, &mut slot, 9, 1.0);
        let before = isp.doors[0].rung;
        days(&mut isp, &mut slot, 21, 0.0);
        assert_eq!(isp.doors[0].rung, before - 3);
        assert!(isp.doors[0].score < GOOD);
    }

    #[test]
    fn mail_over_two_ips_finds_twice_the_tokens() {
        let room = |ips| isp_of(ladder(), ips).room();
        assert_eq!((room(2), room(5)), (2 * room(1), 5 * room(1)));
    }

    #[test]
    fn within_its_room_nothing_is_turned_away_for_its_number() {
        for ips in [1, 3] {
            let outcome = days(&mut isp_of(ladder(), ips), &mut 0, 20, 1.0);
            assert_eq!((outcome.limited, outcome.refused), (0, 0));
            assert!(outcome.delivered > 10_000);
        }
    }

    #[test]
    fn all_who_send_in_the_world_of_a_seed_meet_the_same_isp() {
        let ladder = |seed| format!("{:?}", Ladder::of(seed, "gmail", Temper::Kind, false, 45));
        assert_eq!(ladder(3), ladder(3));
        assert_ne!(ladder(3), ladder(4));
    }
}
