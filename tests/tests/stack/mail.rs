//! Events about made-up mail, and their true counts.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reputation::time::Now;

/// Counters by subject and attribute name, as in stored rows.
pub(crate) type Totals = BTreeMap<(String, String), u64>;

/// Events, and the truth about them.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// JSON documents as SES publishes them.
    pub(crate) events: Vec<String>,
    pub(crate) totals: Totals,
    mails: u32,
}

/// A configuration set and the domain that it sends from.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) set: &'static str,
    pub(crate) domain: &'static str,
}

pub(crate) const NEWS: Sender = Sender { set: "news", domain: "news.example" };
pub(crate) const SHOP: Sender = Sender { set: "shop", domain: "shop.example" };

impl Mailbox {
    /// A mailbox whose mails differ from those of a mailbox with smaller numbers.
    pub(crate) fn numbered_from(mails: u32) -> Mailbox {
        Mailbox { mails, ..Mailbox::default() }
    }

    /// A mail that is delivered.
    pub(crate) fn delivered(&mut self, sender: Sender, domain: &str, isp: &str, at: Now) {
        let (mail, to) = self.sent(sender, domain, isp, at);
        let after = at.plus_minutes(0);
        self.events.push(format!(
            r#"{{"eventType":"Delivery",{mail},"delivery":{{"timestamp":"{after}","recipients":["{to}"]}}}}"#
        ));
        self.count(sender, isp, "delivered");
    }

    /// A mail that bounces permanently.
    pub(crate) fn bounced(&mut self, sender: Sender, domain: &str, isp: &str, at: Now) {
        let (mail, to) = self.sent(sender, domain, isp, at);
        self.events.push(format!(
            r#"{{"eventType":"Bounce",{mail},"bounce":{{"bounceType":"Permanent","bounceSubType":"General","timestamp":"{at}",
            "feedbackId":"f","bouncedRecipients":[{{"emailAddress":"{to}","status":"5.1.1"}}]}}}}"#
        ));
        self.count(sender, isp, "hard_bounces");
    }

    fn sent(&mut self, sender: Sender, domain: &str, isp: &str, at: Now) -> (String, String) {
        self.mails += 1;
        let (number, Sender { set, domain: from }) = (self.mails, sender);
        let to = format!("reader{number}@{domain}");
        let mail = format!(
            r#""mail":{{"timestamp":"{at}","messageId":"0102{number:08}","source":"hello@{from}","destination":["{to}"],
            "tags":{{"ses:configuration-set":["{set}"],"ses:from-domain":["{from}"]}}}}"#
        );
        self.events.push(format!(r#"{{"eventType":"Send",{mail},"send":{{}}}}"#));
        self.count(sender, isp, "sent");
        (mail, to)
    }

    fn count(&mut self, sender: Sender, isp: &str, counter: &str) {
        for subject in [format!("configuration-set:{}", sender.set), format!("identity:{}", sender.domain)] {
            *self.totals.entry((subject, format!("{isp}.{counter}"))).or_default() += 1;
        }
    }
}

/// The sums of the stored rows of one length (`m`, `h` or `d`).
pub(crate) fn stored(cloud: &e2e::cloud::Cloud, length: &str) -> Totals {
    let mut totals = Totals::new();
    for item in cloud.items(e2e::cloud::REPUTATION) {
        let (pk, sk) = (item["pk"]["S"].as_str().unwrap(), item["sk"]["S"].as_str().unwrap());
        if !sk.starts_with(&format!("rate#{length}#")) {
            continue;
        }
        // What is known of the causes of bounces and complaints is no total.
        let is_total = |name: &str| name.contains('.') && !["domains", "people"].iter().any(|end| name.ends_with(end));
        for (name, value) in item.as_object().unwrap().iter().filter(|(name, _)| is_total(name)) {
            let count: u64 = value["N"].as_str().unwrap().parse().unwrap();
            *totals.entry((pk.to_owned(), name.clone())).or_default() += count;
        }
    }
    totals
}

/// Random numbers, the same for the same seed.
pub(crate) struct Rng(ChaCha8Rng);

impl Rng {
    pub(crate) fn seeded(seed: u64) -> Rng {
        Rng(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
