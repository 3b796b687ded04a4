//! Invents mail and its outcomes, counts them, and puts the events into a heap by arrival.

use std::collections::BinaryHeap;
use std::rc::Rc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::MINUTE_MS;
use super::kinds::{
    BLOCKED_BOUNCES, BLOCKED_DELAYS, BounceKind, DELAYED, DelayKind, GIVEN_UP, HARD, HARD_OF_UNKNOWN_SUBTYPE, SOFT,
    SUPPRESSED, UNDETERMINED,
};
use super::mail::{BUSINESSES, Fact, Host, Mail, News, Pending, Recipients, domains};
use super::scenario::{Effective, Envelope, Isp, Scenario};
use super::truth::{Tally, Truth, Unit};
use super::write::{GARBAGE_KINDS, NOISE_KINDS};

/// The sender, the recipients, their ISPs and the transport.
pub(super) struct World<'a> {
    scenario: &'a Scenario,
    start_ms: i64,
    dice: Dice,
    heap: BinaryHeap<Pending>,
    sequence: u64,
    mails: u64,
    tally: Tally,
    /// By configuration set and ISP, for the current minute.
    rates: Vec<[Effective; 5]>,
    /// Times of noise, garbage and future-dated events in the current minute, in milliseconds from its start.
    extras: Vec<(i64, Extra)>,
}

#[derive(Clone, Copy)]
enum Extra {
    Noise,
    Garbage,
    FutureDated,
}

/// The outcome of a mail for one recipient.
#[derive(Clone, Copy)]
enum Fate {
    Delivered,
    Bounced(&'static BounceKind),
    Delayed(&'static DelayKind),
}

/// Bounces of the same kind at the same time share an event.
struct Group {
    kind: &'static BounceKind,
    to: Recipients,
}

impl<'a> World<'a> {
    /// `scenario` has been checked.
    pub(super) fn new(scenario: &'a Scenario, seed: u64, start_ms: i64) -> Self {
        Self {
            scenario,
            start_ms,
            dice: Dice::new(seed),
            heap: BinaryHeap::new(),
            sequence: 0,
            mails: 0,
            tally: Tally::new(scenario),
            rates: Vec::new(),
            extras: Vec::new(),
        }
    }

    /// The next event that arrives before `ms`.
    pub(super) fn arrived_before(&mut self, ms: i64) -> Option<Pending> {
        if self.heap.peek()?.arrives_ms < ms { self.heap.pop() } else { None }
    }

    /// The number of events that have not arrived.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn into_truth(self, seed: u64, lines: u64) -> Truth {
        self.tally.into_truth(self.scenario.clone(), seed, lines)
    }

    /// Invents everything that begins in one second, counted from the start. Call it once for each second, in order.
    pub(super) fn step(&mut self, second: i64) {
        if second % 60 == 0 {
            self.begin_minute(second.unsigned_abs() / 60);
        }
        let scenario = self.scenario;
        let now_ms = self.start_ms + second * 1000;
        let rhythm = scenario.rhythm_at(now_ms);
        for (place, set) in scenario.configuration_sets.iter().enumerate() {
            let expected = set.per_minute * rhythm / 60.0;
            // `as` rounds down; the fraction is decided by chance.
            let certain = expected as u64;
            let count = certain + u64::from(self.dice.happens(expected - certain as f64));
            for _ in 0..count {
                let at_ms = now_ms + self.dice.between(0, 999);
                self.send(place, at_ms);
            }
        }
        self.add_extras(second);
    }

    fn begin_minute(&mut self, minute: u64) {
        let scenario = self.scenario;
        self.rates.clear();
        for set in &scenario.configuration_sets {
            self.rates.push(Isp::ALL.map(|isp| scenario.rates_at(set, isp, minute)));
        }
        self.extras.clear();
        let minutes = u64::from(scenario.minutes);
        for (count, extra) in [
            (scenario.noise, Extra::Noise),
            (scenario.garbage, Extra::Garbage),
            (scenario.future_dated, Extra::FutureDated),
        ] {
            // Spread evenly, with exactly `count` over all minutes.
            let count = u64::from(count);
            for _ in count * minute / minutes..count * (minute + 1) / minutes {
                self.extras.push((self.dice.between(0, MINUTE_MS - 1), extra));
            }
        }
    }

    fn add_extras(&mut self, second: i64) {
        let from_ms = second % 60 * 1000;
        for index in 0..self.extras.len() {
            let (offset_ms, extra) = self.extras[index];
            if !(from_ms..from_ms + 1000).contains(&offset_ms) {
                continue;
            }
            let set = self.dice.place(self.scenario.configuration_sets.len());
            let news = match extra {
                Extra::Noise => {
                    News::Noise { kind: self.dice.below(NOISE_KINDS), set, envelope: self.tagged_envelope() }
                }
                Extra::Garbage => News::Garbage { kind: self.dice.below(GARBAGE_KINDS), set },
                Extra::FutureDated => News::FutureDated { set },
            };
            let arrives_ms = self.start_ms + second * 1000 + offset_ms - from_ms;
            self.push(arrives_ms, news);
        }
    }

    /// One mail, from its acceptance to its last complaint.
    fn send(&mut self, set: usize, at_ms: i64) {
        self.mails += 1;
        let untagged = self.dice.pick(&self.scenario.envelopes) == Envelope::Identity;
        let hosts = self.recipients(set);
        let salt = self.dice.any();
        let mail = Rc::new(Mail { number: self.mails, salt, at_ms, set, untagged, hosts });
        // Facts about a whole mail count for one ISP, so a mail to several ISPs has none of them.
        let isp = mail.hosts[0].isp();
        let one_isp = mail.hosts.iter().all(|host| host.isp() == isp);
        let rates = self.rates[set][isp as usize];
        if one_isp && !untagged && self.dice.happens(rates.rendering_failure) {
            self.count(&mail, isp, Unit::RenderingFailure);
            let published_ms = at_ms + self.dice.between(20, 400);
            return self.emit(&mail, Fact::RenderingFailure, published_ms);
        }
        if !untagged {
            for host in &mail.hosts {
                self.count(&mail, host.isp(), Unit::Sent);
            }
        }
        let accepted_ms = at_ms + self.dice.between(20, 400);
        self.emit(&mail, Fact::Send, accepted_ms);
        if one_isp && !untagged && self.dice.happens(rates.reject) {
            self.count(&mail, isp, Unit::Reject);
            let published_ms = accepted_ms + self.dice.between(100, 3000);
            return self.emit(&mail, Fact::Reject, published_ms);
        }

        let mut delivered: Recipients = 0;
        let mut later: Recipients = 0;
        let mut bounces: Vec<Group> = Vec::new();
        for (place, host) in mail.hosts.iter().enumerate() {
            let to = 1 << place;
            let rates = self.rates[set][host.isp() as usize];
            match self.fate(&rates) {
                Fate::Delivered => delivered |= to,
                Fate::Bounced(kind) => {
                    let for_good = matches!(kind.unit, Unit::HardBounce | Unit::RefusedBounce);
                    if for_good && self.dice.happens(self.scenario.late_bounces) {
                        delivered |= to;
                    }
                    match bounces.iter_mut().find(|group| std::ptr::eq(group.kind, kind)) {
                        Some(group) => group.to |= to,
                        None => bounces.push(Group { kind, to }),
                    }
                }
                // Identity notifications report no delays: the mail just takes long.
                Fate::Delayed(kind) => {
                    if self.delay(&mail, to, kind) {
                        later |= to;
                    }
                }
            }
        }
        self.deliver(&mail, delivered);
        for (feedback, group) in (0..).zip(bounces) {
            let late = group.to & delivered != 0;
            self.bounce(&mail, group, late, feedback);
        }
        if one_isp && !untagged && delivered | later != 0 {
            self.engage(&mail, isp, &rates);
        }
        self.complain(&mail, delivered | later);
    }

    fn recipients(&mut self, set: usize) -> Vec<Host> {
        let weights = self.scenario.configuration_sets[set].isps.weights();
        let isp = self.dice.weighted(&weights);
        let mut hosts = vec![self.host(isp)];
        if self.dice.happens(self.scenario.multi_recipient) {
            let several_isps = self.dice.below(3) == 0;
            for _ in 0..=self.dice.below(3) {
                let isp = if several_isps { self.dice.weighted(&weights) } else { isp };
                let host = self.host(isp);
                hosts.push(host);
            }
        }
        hosts
    }

    fn host(&mut self, isp: Isp) -> Host {
        let domains = domains(isp);
        if domains.is_empty() {
            Host::Business(1 + self.dice.below(BUSINESSES))
        } else {
            Host::Named(self.dice.pick(domains), isp)
        }
    }

    fn fate(&mut self, rates: &Effective) -> Fate {
        let scenario = self.scenario;
        let mut point = self.dice.unit();
        let mut falls_into = |rate: f64| {
            let inside = point < rate;
            point -= rate;
            inside
        };
        if falls_into(rates.suppressed) {
            Fate::Bounced(self.dice.pick_ref(&SUPPRESSED))
        } else if falls_into(rates.hard) {
            let unknown = self.dice.happens(scenario.unknown_subtypes);
            Fate::Bounced(if unknown { &HARD_OF_UNKNOWN_SUBTYPE } else { self.dice.pick_ref(&HARD) })
        } else if falls_into(rates.soft) {
            Fate::Bounced(self.dice.pick_ref(&SOFT))
        } else if falls_into(rates.undetermined) {
            Fate::Bounced(&UNDETERMINED)
        } else if falls_into(rates.block) {
            if self.dice.happens(scenario.block_bounces) {
                Fate::Bounced(self.dice.pick_ref(&BLOCKED_BOUNCES))
            } else {
                Fate::Delayed(self.dice.pick_ref(&BLOCKED_DELAYS))
            }
        } else if falls_into(rates.delay) {
            Fate::Delayed(self.dice.pick_ref(&DELAYED))
        } else {
            Fate::Delivered
        }
    }

    /// Delivered at once, in one event or in one event each.
    fn deliver(&mut self, mail: &Rc<Mail>, to: Recipients) {
        if to == 0 {
            return;
        }
        if to.is_power_of_two() || self.dice.below(2) == 0 {
            let at_ms = mail.at_ms + self.dice.between(500, 4000);
            return self.delivered_at(mail, to, at_ms);
        }
        for one in each(to) {
            let at_ms = mail.at_ms + self.dice.between(500, 4000);
            self.delivered_at(mail, one, at_ms);
        }
    }

    fn delivered_at(&mut self, mail: &Rc<Mail>, to: Recipients, at_ms: i64) {
        self.count_each(mail, to, Unit::Delivered);
        self.emit(mail, Fact::Delivery { to, at_ms }, at_ms + 50);
    }

    fn bounce(&mut self, mail: &Rc<Mail>, group: Group, late: bool, feedback: u8) {
        let Group { kind, to } = group;
        self.count_each(mail, to, kind.unit);
        if kind.block {
            self.count_each(mail, to, Unit::Block);
        }
        let (at_ms, published_ms) = if kind.unit == Unit::Suppressed {
            // SES dates these before the mail, as observed.
            let published_ms = mail.at_ms + self.dice.between(100, 900);
            (mail.at_ms - self.dice.between(0, 500), published_ms)
        } else if late {
            let at_ms = mail.at_ms + self.dice.between(2 * MINUTE_MS, 30 * MINUTE_MS);
            (at_ms, at_ms + 400)
        } else {
            let at_ms = mail.at_ms + self.dice.early(1000, 40_000);
            (at_ms, at_ms + 400)
        };
        self.emit(mail, Fact::Bounce { to, at_ms, kind, feedback }, published_ms);
    }

    /// One to four delays for one recipient, and their end; returns whether it was a delivery.
    fn delay(&mut self, mail: &Rc<Mail>, to: Recipients, kind: &'static DelayKind) -> bool {
        let mut at_ms = mail.at_ms + self.dice.early(MINUTE_MS, 12 * MINUTE_MS);
        // The event repeats; the unit does not.
        for _ in 0..=self.dice.below(4) {
            self.emit(mail, Fact::Delay { to, at_ms, kind }, at_ms + 300);
            at_ms += self.dice.between(5 * MINUTE_MS, 20 * MINUTE_MS);
        }
        if !mail.untagged {
            self.count_each(mail, to, Unit::Delay);
            if kind.block {
                self.count_each(mail, to, Unit::Block);
            }
        }
        if self.dice.below(16) > 0 {
            self.delivered_at(mail, to, at_ms);
            return true;
        }
        self.count_each(mail, to, GIVEN_UP.unit);
        // A number that no other bounce or complaint of this mail has.
        let feedback = 200 + to;
        self.emit(mail, Fact::Bounce { to, at_ms, kind: &GIVEN_UP, feedback }, at_ms + 400);
        false
    }

    fn engage(&mut self, mail: &Rc<Mail>, isp: Isp, rates: &Effective) {
        let opened_ms = mail.at_ms + self.dice.early(MINUTE_MS, 6 * 60 * MINUTE_MS);
        if self.dice.happens(rates.open) {
            self.count(mail, isp, Unit::Open);
            // Some open it twice; the mail counts as opened once.
            let again_ms = self.dice.between(MINUTE_MS, 60 * MINUTE_MS);
            self.emit(mail, Fact::Open { at_ms: opened_ms }, opened_ms + 200);
            if self.dice.below(4) == 0 {
                let at_ms = opened_ms + again_ms;
                self.emit(mail, Fact::Open { at_ms }, at_ms + 200);
            }
        }
        if self.dice.happens(rates.click) {
            self.count(mail, isp, Unit::Click);
            let at_ms = opened_ms + self.dice.between(2000, 90_000);
            self.emit(mail, Fact::Click { at_ms }, at_ms + 200);
        }
    }

    fn complain(&mut self, mail: &Rc<Mail>, received: Recipients) {
        let delay = self.scenario.complaint_delay;
        for (place, &host) in mail.hosts.iter().enumerate() {
            let rate = self.rates[mail.set][host.isp() as usize].complaint;
            if received & (1 << place) == 0 || host.isp() == Isp::Gmail || !self.dice.happens(rate) {
                continue;
            }
            // SES cannot know who complained and lists all recipients there.
            let mut to = 0;
            for (other, &same) in mail.hosts.iter().enumerate() {
                to |= Recipients::from(same == host) << other;
            }
            let (from, until) = (i64::from(delay.from_minutes), i64::from(delay.to_minutes));
            let at_ms = mail.at_ms + self.dice.early(from * MINUTE_MS, until * MINUTE_MS);
            let with_report = self.dice.below(4) > 0;
            self.count(mail, host.isp(), Unit::Complaint);
            let feedback = 100 + (place as u8);
            self.emit(mail, Fact::Complaint { to, at_ms, feedback, with_report }, at_ms + 700);
        }
    }

    fn count(&mut self, mail: &Mail, isp: Isp, unit: Unit) {
        self.tally.count(mail.set, mail.untagged, isp, unit);
    }

    fn count_each(&mut self, mail: &Mail, to: Recipients, unit: Unit) {
        for (place, host) in mail.hosts.iter().enumerate() {
            if to & (1 << place) != 0 {
                self.count(mail, host.isp(), unit);
            }
        }
    }

    /// Passes a fact to the transport, which may deliver it twice. Facts that identity notifications do not report are dropped
    /// for untagged mail.
    fn emit(&mut self, mail: &Rc<Mail>, fact: Fact, published_ms: i64) {
        let notified = matches!(fact, Fact::Delivery { .. } | Fact::Bounce { .. } | Fact::Complaint { .. });
        if mail.untagged && !notified {
            return;
        }
        let jitter_ms = i64::from(self.scenario.jitter_seconds) * 1000;
        let mut arrives_ms = published_ms + self.dice.between(0, jitter_ms);
        for _ in 0..MAX_COPIES {
            let envelope = if mail.untagged { Envelope::Identity } else { self.tagged_envelope() };
            self.push(arrives_ms, News::Fact { mail: Rc::clone(mail), fact, envelope });
            if !self.dice.happens(self.scenario.duplicates) {
                break;
            }
            arrives_ms += self.dice.early(200, 5 * MINUTE_MS);
        }
    }

    fn tagged_envelope(&mut self) -> Envelope {
        let choices = &self.scenario.envelopes;
        // Identity notifications cannot carry it; with no other envelope in use it travels bare.
        match self.dice.pick(choices) {
            Envelope::Identity => {
                choices.iter().copied().find(|&envelope| envelope != Envelope::Identity).unwrap_or(Envelope::Raw)
            }
            other @ (Envelope::Raw | Envelope::Sns | Envelope::Eventbridge | Envelope::SqsBatch) => other,
        }
    }

    fn push(&mut self, arrives_ms: i64, news: News) {
        self.sequence += 1;
        self.heap.push(Pending { arrives_ms, sequence: self.sequence, news });
    }
}

/// The most copies of one event, including the first.
const MAX_COPIES: u32 = 8;

/// The single recipients of a group.
fn each(to: Recipients) -> impl Iterator<Item = Recipients> {
    (0..Recipients::BITS).map(|place| 1 << place).filter(move |one| to & one != 0)
}

/// The only source of randomness.
struct Dice(ChaCha8Rng);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    fn any(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number from 0 up to, but not including, 1, in steps of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    fn happens(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.unit() < rate
    }

    fn below(&mut self, count: u8) -> u8 {
        ((u64::from(self.any()) * u64::from(count)) >> 32) as u8
    }

    fn place(&mut self, count: usize) -> usize {
        ((u64::from(self.any()) * (count as u64)) >> 32) as usize
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.place(choices.len())]
    }

    fn pick_ref<T>(&mut self, choices: &'static [T]) -> &'static T {
        &choices[self.place(choices.len())]
    }

    /// Both ends included.
    fn between(&mut self, least: i64, most: i64) -> i64 {
        spread(least, most, self.any())
    }

    /// Both ends included, half of them in the first quarter.
    fn early(&mut self, least: i64, most: i64) -> i64 {
        let uniform = u64::from(self.any());
        spread(least, most, ((uniform * uniform) >> 32) as u32)
    }

    /// At least one of the weights must be above 0.
    fn weighted(&mut self, weights: &[f64; 5]) -> Isp {
        let sum = weights[0] + weights[1] + weights[2] + weights[3] + weights[4];
        let mut point = self.unit() * sum;
        let mut last = Isp::Other;
        for (isp, &weight) in Isp::ALL.into_iter().zip(weights) {
            if weight > 0.0 {
                if point < weight {
                    return isp;
                }
                point -= weight;
                last = isp;
            }
        }
        last
    }
}

/// The value between `least` and `most` at `fraction` of 2³².
fn spread(least: i64, most: i64, fraction: u32) -> i64 {
    let choices = i128::from(most - least + 1);
    least + ((choices * i128::from(fraction)) >> 32) as i64
}
