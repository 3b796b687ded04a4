//! A sender with three configuration sets. Its mail is healthy, until it sends to an old list or an ISP blocks it. It keeps what
//! SES refuses, and sends it when SES accepts it again.
//!
//! **Invariant:** mail depends on the seed and on what SES accepts, and on nothing else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reputation::time::{MINUTE_MILLIS, Now};

use crate::mail::{Fact, Mail};
use crate::story::{Event, Kind};

/// The configuration sets: name, identity, and mails a minute.
pub const SETS: [(&str, &str, f64); 3] = [
    ("newsletter", "news.example.com", 10.0),
    ("offers", "offers.example.com", 10.0),
    ("receipts", "shop.example.com", 6.0),
];

/// ISPs: name, domain, and share of the recipients in percent.
const ISPS: [(&str, &str, u32); 5] = [
    ("gmail", "gmail.com", 45),
    ("microsoft", "outlook.com", 20),
    ("yahoo", "yahoo.com", 14),
    ("apple", "icloud.com", 6),
    ("other", "", 15),
];
/// Companies among the recipients at `other`.
const COMPANIES: u32 = 40;

const SECOND: i64 = 1_000;
const MINUTE: i64 = MINUTE_MILLIS;

/// Mails a minute of a campaign, beside the usual mail.
const CAMPAIGN_PER_MINUTE: f64 = 30.0;
/// Mails a minute that are sent of those that were kept, beside the usual mail.
const CATCH_UP_PER_MINUTE: f64 = 40.0;
/// While SES refuses, one mail is tried after each of these.
const RETRY: i64 = MINUTE;
/// The longest that an ISP blocks.
const LONGEST_BLOCK: i64 = 90 * MINUTE;

/// What was decided about one mail before it is sent.
#[derive(Clone, Copy, Debug)]
struct Draft {
    /// Whether it belongs to a campaign, and not to the usual mail.
    campaign: bool,
    /// Whether its mailbox does not exist.
    dead: bool,
}

/// A configuration set and its queue.
#[derive(Debug)]
struct Set {
    name: &'static str,
    identity: &'static str,
    per_minute: f64,
    queue: VecDeque<Draft>,
    /// Mails of a campaign that are not in the queue yet, and the share of its dead addresses.
    campaign: (u32, f64),
    /// Since when SES refuses, and when the next mail is tried.
    refused: Option<(Now, Now)>,
    /// When a person throws the rest of the list away.
    cleaning: Option<Now>,
    /// Fractions of a mail that are due.
    due: f64,
    campaign_due: f64,
    catch_up: f64,
}

/// An ISP that blocks one configuration set.
#[derive(Clone, Copy, Debug)]
struct Block {
    isp: usize,
    set: usize,
    /// Share of the mail that the ISP does not take.
    share: f64,
    until: Now,
}

/// An event on its way to the queue.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Now,
    sequence: u64,
    set: usize,
    counters: &'static [&'static str],
    body: String,
}

/// What a configuration set's mail has come to, by counter, as far as its events have arrived.
pub type Truth = BTreeMap<&'static str, u64>;

/// The sender, the recipients and their ISPs.
#[derive(Debug)]
pub struct Sender {
    random: ChaCha8Rng,
    sets: Vec<Set>,
    block: Option<Block>,
    /// When the next incident begins, and how many there were.
    next_incident: (Now, u32),
    arrivals: BinaryHeap<Reverse<Arrival>>,
    sequence: u64,
    mails: u64,
    truth: BTreeMap<&'static str, Truth>,
}

impl Sender {
    /// A sender whose mail turns bad at `incident` for the first time.
    pub fn new(seed: u64, incident: Now) -> Sender {
        let set = |(name, identity, per_minute)| Set {
            name,
            identity,
            per_minute,
            queue: VecDeque::new(),
            campaign: (0, 0.0),
            refused: None,
            cleaning: None,
            due: 0.0,
            campaign_due: 0.0,
            catch_up: 0.0,
        };
        Sender {
            random: ChaCha8Rng::seed_from_u64(seed),
            sets: SETS.into_iter().map(set).collect(),
            block: None,
            next_incident: (incident, 0),
            arrivals: BinaryHeap::new(),
            sequence: 0,
            mails: 0,
            truth: BTreeMap::new(),
        }
    }

    /// By configuration set, what its mail has come to. It equals what the stack has counted once it was given all that
    /// [`Sender::take_arrived`] returned.
    pub fn truth(&self) -> &BTreeMap<&'static str, Truth> {
        &self.truth
    }

    /// By configuration set, the number of mails that SES refused and the sender keeps.
    pub fn kept(&self) -> BTreeMap<&'static str, usize> {
        let kept = |set: &Set| if set.refused.is_some() { set.queue.len() } else { 0 };
        self.sets.iter().map(|set| (set.name, kept(set))).collect()
    }

    /// Lets one second pass. Call it for each second, in order. `accepts`: whether SES accepts mail of a configuration set.
    pub fn step(&mut self, now: Now, accepts: impl Fn(&str) -> bool) -> Vec<Event> {
        let mut story = Vec::new();
        self.begin_incident(now, &mut story);
        self.end_incident(now, &mut story);
        for place in 0..self.sets.len() {
            self.send(place, now, &accepts, &mut story);
        }
        story
    }

    /// The events that arrive until `now`, in order.
    pub fn take_arrived(&mut self, now: Now) -> Vec<String> {
        let mut arrived = Vec::new();
        while self.arrivals.peek().is_some_and(|Reverse(next)| next.at <= now)
            && let Some(Reverse(next)) = self.arrivals.pop()
        {
            let truth = self.truth.entry(self.sets[next.set].name).or_default();
            for counter in next.counters {
                *truth.entry(counter).or_default() += 1;
            }
            arrived.push(next.body);
        }
        arrived
    }

    fn begin_incident(&mut self, now: Now, story: &mut Vec<Event>) {
        let (at, number) = self.next_incident;
        if now < at {
            return;
        }
        self.next_incident = (Now(now.0 + self.random.random_range(80..110) * MINUTE), number + 1);
        match number % 4 {
            0 => self.begin_campaign(0, now, story),
            1 => self.begin_block(0, 1, now, story),
            2 => self.begin_campaign(1, now, story),
            _ => self.begin_block(1, 0, now, story),
        }
    }

    fn begin_campaign(&mut self, set: usize, now: Now, story: &mut Vec<Event>) {
        let addresses = self.random.random_range(10..=16) * 100;
        let dead = self.random.random_range(0.22..0.34);
        let set = &mut self.sets[set];
        set.campaign = (addresses, dead);
        let text = format!(
            "a campaign to an old list of {} addresses begins; many of them do not exist any more",
            grouped(addresses)
        );
        story.push(event(now, Kind::Campaign, set.name, None, text));
    }

    fn begin_block(&mut self, isp: usize, set: usize, now: Now, story: &mut Vec<Event>) {
        let share = self.random.random_range(0.8..0.95);
        self.block = Some(Block { isp, set, share, until: Now(now.0 + LONGEST_BLOCK) });
        let (name, isp) = (self.sets[set].name, ISPS[isp].0);
        let text = format!("{isp} begins to refuse most of its mail");
        story.push(event(now, Kind::Blocked, name, Some(isp), text));
    }

    fn end_incident(&mut self, now: Now, story: &mut Vec<Event>) {
        for set in &mut self.sets {
            if set.cleaning.is_none_or(|at| now < at) {
                continue;
            }
            set.cleaning = None;
            let before = set.queue.len();
            set.queue.retain(|draft| !draft.campaign);
            let (left, _) = std::mem::take(&mut set.campaign);
            let away = left + (before - set.queue.len()) as u32;
            if away > 0 {
                let text = format!("the sender throws away the rest of the old list, {} addresses", grouped(away));
                story.push(event(now, Kind::Cleaned, set.name, None, text));
            }
        }
        if let Some(block) = self.block.filter(|block| block.until <= now) {
            self.block = None;
            let (name, isp) = (self.sets[block.set].name, ISPS[block.isp].0);
            story.push(event(now, Kind::Unblocked, name, Some(isp), format!("{isp} takes its mail again")));
        }
    }

    /// Sends what is due of one configuration set in one second.
    fn send(&mut self, place: usize, now: Now, accepts: &impl Fn(&str) -> bool, story: &mut Vec<Event>) {
        let set = &mut self.sets[place];
        set.due += set.per_minute / 60.0 * self.random.random_range(0.5..1.5);
        let usual = whole(&mut set.due);
        set.queue.extend((0..usual).map(|_| Draft { campaign: false, dead: false }));
        let mut allowed = usual;
        if set.refused.is_none() {
            set.campaign_due += if set.campaign.0 > 0 { CAMPAIGN_PER_MINUTE / 60.0 } else { 0.0 };
            let listed = whole(&mut set.campaign_due).min(set.campaign.0);
            set.campaign.0 -= listed;
            for _ in 0..listed {
                let dead = self.random.random_bool(set.campaign.1);
                set.queue.push_back(Draft { campaign: true, dead });
            }
            set.catch_up += CATCH_UP_PER_MINUTE / 60.0;
            allowed += listed + whole(&mut set.catch_up);
        }
        if set.refused.is_some_and(|(_, again)| now < again) {
            return;
        }
        let tries = if set.refused.is_some() { 1 } else { allowed };
        for _ in 0..tries {
            let set = &mut self.sets[place];
            let Some(draft) = set.queue.front().copied() else { return };
            if !accepts(set.name) {
                self.keep(place, now, story);
                return;
            }
            set.queue.pop_front();
            if set.refused.take().is_some() {
                let text = match set.queue.len() {
                    0 => "SES accepts its mail again".to_owned(),
                    kept => {
                        format!("SES accepts its mail again; {} mails that were kept are sent", grouped(kept as u32))
                    }
                };
                story.push(event(now, Kind::Accepted, set.name, None, text));
            }
            self.accepted(place, draft, now);
        }
    }

    /// SES has refused a mail: it stays in the queue.
    fn keep(&mut self, place: usize, now: Now, story: &mut Vec<Event>) {
        let set = &mut self.sets[place];
        let again = Now(now.0 + RETRY);
        if let Some((since, _)) = set.refused {
            set.refused = Some((since, again));
            return;
        }
        set.refused = Some((now, again));
        story.push(event(now, Kind::Refused, set.name, None, "SES refuses its mail; the sender keeps it".to_owned()));
        if set.campaign.0 > 0 || set.queue.iter().any(|draft| draft.campaign) {
            set.cleaning = Some(Now(now.0 + self.random.random_range(12..20) * MINUTE));
        }
        // The sender asks the ISP to look at its mail again.
        if let Some(block) = self.block.as_mut().filter(|block| block.set == place) {
            block.until = block.until.min(Now(now.0 + self.random.random_range(18..26) * MINUTE));
        }
    }

    /// SES has accepted a mail.
    fn accepted(&mut self, place: usize, draft: Draft, now: Now) {
        self.mails += 1;
        let at = now.0 + self.random.random_range(0..SECOND);
        let isps = ISPS.map(|(_, _, share)| share);
        let isp = weighted(&mut self.random, &isps);
        let domain = match ISPS[isp].1 {
            "" => format!("company-{}.example.net", self.random.random_range(1..=COMPANIES)),
            domain => domain.to_owned(),
        };
        let Set { name, identity, .. } = self.sets[place];
        let mail = Mail { number: self.mails, set: name, identity, domain, accepted: Now(at) };
        let sent = at + self.random.random_range(20..400);
        self.publish(place, &mail, Fact::Sent, sent);
        let block = self.block.filter(|block| block.set == place && block.isp == isp);
        let chance = self.random.random_range(0.0..1.0);
        if draft.dead {
            let at = sent + self.early(SECOND, 40 * SECOND);
            return self.publish(place, &mail, Fact::Hard, at);
        }
        if block.is_some_and(|block| chance < block.share) {
            if self.random.random_bool(0.4) {
                return self.put_off(place, &mail, Fact::PutOff, sent);
            }
            let at = sent + self.early(SECOND, 20 * SECOND);
            return self.publish(place, &mail, Fact::Refused, at);
        }
        match chance {
            ..0.005 => {
                let at = sent + self.early(SECOND, 40 * SECOND);
                self.publish(place, &mail, Fact::Hard, at);
            }
            ..0.009 => {
                let at = sent + self.early(SECOND, 40 * SECOND);
                self.publish(place, &mail, Fact::Soft, at);
            }
            ..0.016 => self.put_off(place, &mail, Fact::Delayed, sent),
            _ => {
                let at = sent + self.random.random_range(500..4_000);
                self.deliver(place, isp, &mail, at);
            }
        }
    }

    /// A delay, and a delivery after it.
    fn put_off(&mut self, place: usize, mail: &Mail, fact: Fact, sent: i64) {
        let at = sent + self.early(30 * SECOND, 8 * MINUTE);
        self.publish(place, mail, fact, at);
        let at = at + self.early(4 * MINUTE, 20 * MINUTE);
        self.publish(place, mail, Fact::Delivered, at);
    }

    fn deliver(&mut self, place: usize, isp: usize, mail: &Mail, at: i64) {
        self.publish(place, mail, Fact::Delivered, at);
        // Yahoo and Microsoft report complaints.
        if [1, 2].contains(&isp) && self.random.random_bool(0.0002) {
            let at = at + self.early(3 * MINUTE, 120 * MINUTE);
            self.publish(place, mail, Fact::Complaint, at);
        }
    }

    /// Publishes an event at a time, which arrives up to two seconds later.
    fn publish(&mut self, set: usize, mail: &Mail, fact: Fact, at: i64) {
        self.sequence += 1;
        let arrives = Now(at + 50 + self.random.random_range(0..2 * SECOND));
        let (sequence, counters) = (self.sequence, fact.counters());
        self.arrivals.push(Reverse(Arrival { at: arrives, sequence, set, counters, body: fact.event(mail, Now(at)) }));
    }

    /// A time between the two, more often an early one.
    fn early(&mut self, least: i64, most: i64) -> i64 {
        let share: f64 = self.random.random_range(0.0..1.0);
        least + ((most - least) as f64 * share * share) as i64
    }
}

fn event(at: Now, kind: Kind, set: &str, isp: Option<&str>, text: String) -> Event {
    let subject = Some(format!("configuration-set:{set}"));
    Event { at, kind, subject, isp: isp.map(str::to_owned), text }
}

/// Takes the whole mails out of an amount.
fn whole(amount: &mut f64) -> u32 {
    let count = amount.floor();
    *amount -= count;
    count as u32
}

/// A place, with a probability in proportion to its weight.
fn weighted(random: &mut ChaCha8Rng, weights: &[u32]) -> usize {
    let mut point = random.random_range(0..weights.iter().sum());
    weights.iter().take_while(|weight| point.checked_sub(**weight).inspect(|rest| point = *rest).is_some()).count()
}

/// A number below a million with a comma.
fn grouped(number: u32) -> String {
    match number {
        ..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}
