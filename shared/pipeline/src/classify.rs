//! Turns SES events into units that count: the table "What counts" of `ARCHITECTURE.md`, in code.
//!
//! **Whose bounce.** SES names the recipient of a bounce or delay as the receiving server does (the *Final-Recipient*
//! of its report). If that server forwarded the mail, the name is a mailbox to which nothing was sent; sometimes it is
//! a pipe or a file. Harm counts where the mail went, at `mail.destination`: see `Count::whose`.
//!
//! **Oddities.** An event with something odd about it still counts, and the oddity is reported by name: [`Oddity`].

use std::collections::BTreeSet;
use std::fmt;

use reputation::address::Address;
use reputation::grouped::Bucket;
use reputation::isp::{Isp, IspMap};
use reputation::policy::Policy;
use reputation::refusal::{Refusal, Signal, SignalKind};
use reputation::subject::Subject;
use reputation::time::Minute;
use reputation::unit::{Unit, UnitKeys, UnitKind};
use ses_events::{Bounce, Complaint, DeliveryDelay, Detail, Engagement, Event, FailedRecipient, Mail, Text, Timestamp};

use crate::senders::{SenderName, Senders};

/// SES started in January 2011: no event is older.
const OLDEST: i64 = 1_293_840_000_000;
/// How much later than the real now an event may be dated: clocks differ.
const TOLERANCE_MILLIS: i64 = 60 * 60 * 1000;

/// A store must be able to name its rows after a subject. SES allows 64 bytes for the name of a configuration set or tenant,
/// 255 for a domain, 256 each for the name and the value of a tag.
const LONGEST_SUBJECT: usize = 600;

/// The domain of SES's mailbox simulator. Its mail counts only for a drill ([`is_drill`]).
const SIMULATOR: &str = "simulator.amazonses.com";

/// Bounce subtypes of mail that SES never tried to deliver, because of a list of the sender's own.
const SUPPRESSED: [&str; 4] =
    ["OnAccountSuppressionList", "OnTenantSuppressionList", "EmailValidationSuppressed", "UnsubscribedRecipient"];

/// A deviation of an event from what SES documents. The event is still counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Oddity {
    /// The date of what happened cannot be read. The date of the mail can.
    UnreadableDate,
    /// A bounce or complaint that its provider dates more than an hour after the real now.
    FutureDate,
    /// A recipient whose address cannot be read, or is absent.
    UnreadableRecipient,
    /// A bounce or delay names a recipient to whom nothing was sent: the mail was forwarded. It counts where the mail
    /// went.
    ForwardedRecipient,
    /// The recipient of a bounce, delay or complaint cannot be determined: it counts at the ISP `other`.
    UnattributedRecipient,
    /// A complaint without `feedbackId`: it counts once for its message.
    NoFeedbackId,
    /// A recipient of a bounce for whom the server keeps trying (`action: delayed`): a delay.
    DelayedInBounce,
    /// A recipient of a bounce who got the mail, according to the server (`action: delivered`, `relayed`, `expanded`).
    ReachedInBounce,
}

impl Oddity {
    /// Every oddity, in the order of its number.
    pub const ALL: [Oddity; 8] = [
        Oddity::UnreadableDate,
        Oddity::FutureDate,
        Oddity::UnreadableRecipient,
        Oddity::ForwardedRecipient,
        Oddity::UnattributedRecipient,
        Oddity::NoFeedbackId,
        Oddity::DelayedInBounce,
        Oddity::ReachedInBounce,
    ];

    /// The stable name to count it by.
    pub fn name(self) -> &'static str {
        match self {
            Oddity::UnreadableDate => "unreadable_date",
            Oddity::FutureDate => "date_in_the_future",
            Oddity::UnreadableRecipient => "unreadable_recipient",
            Oddity::ForwardedRecipient => "forwarded_recipient",
            Oddity::UnattributedRecipient => "unattributed_recipient",
            Oddity::NoFeedbackId => "complaint_without_feedback_id",
            Oddity::DelayedInBounce => "delayed_in_bounce",
            Oddity::ReachedInBounce => "reached_in_bounce",
        }
    }
}

/// The oddities of one event.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities(u8);

impl Oddities {
    fn note(&mut self, oddity: Oddity) {
        self.0 |= 1 << oddity as u8;
    }

    /// Whether the event has no oddity.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each oddity, once.
    pub fn iter(self) -> impl Iterator<Item = Oddity> {
        Oddity::ALL.into_iter().filter(move |oddity| self.0 & (1 << *oddity as u8) != 0)
    }
}

impl fmt::Debug for Oddities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The result of classifying an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was turned into units.
    Counted(Oddities),
    /// Its kind is known and does not count; the name of the reason.
    Ignored(&'static str),
}

/// Why an event could not be counted. Never holds an address, a subject line or a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A date before SES existed.
    #[error("{field} is {millis} ms after 1970, before SES existed")]
    TooOld {
        /// Path of the field.
        field: &'static str,
        /// Its value.
        millis: i64,
    },
    /// A date in the future.
    #[error("{field} is more than an hour later than now ({ahead_minutes} min)")]
    InTheFuture {
        /// Path of the field.
        field: &'static str,
        /// How far ahead.
        ahead_minutes: i64,
    },
    /// It names no recipient to count it for.
    #[error("{event} names no recipient")]
    NoRecipient {
        /// Kind of event.
        event: &'static str,
    },
    /// A name longer than SES allows.
    #[error("the name of its configuration set, identity, tenant or tag has {bytes} bytes; at most 600 are counted")]
    LongName {
        /// How long, with its kind.
        bytes: usize,
    },
}

/// Turns events into units, under one policy and one secret.
#[derive(Clone, Debug)]
pub struct Classifier {
    isp_map: IspMap,
    own_domains: Vec<String>,
    tags: Vec<String>,
    tenants: bool,
    keys: UnitKeys,
    name: SenderName,
    /// See [`Classifier::failures`].
    failures: Vec<Option<usize>>,
}

impl Classifier {
    /// A classifier for this policy. All processes that share a ledger must use the same secret.
    pub fn new(policy: &Policy, secret: [u8; 16]) -> Classifier {
        Classifier {
            isp_map: policy.isp_map.clone(),
            own_domains: policy.subjects.own_domains.clone(),
            tags: policy.subjects.tags.clone(),
            tenants: policy.subjects.tenants,
            keys: UnitKeys::new(secret),
            name: SenderName::default(),
            failures: Vec::new(),
        }
    }

    /// Appends the units of one event to `units`; on an error, none. `real_now` is the wall clock in milliseconds,
    /// also in a replay: an event that is dated later is wrong.
    ///
    /// # Errors
    ///
    /// Why the event cannot be counted.
    pub fn classify(
        &mut self,
        event: &Event<'_>,
        real_now: i64,
        senders: &mut Senders,
        units: &mut Vec<Unit>,
    ) -> Result<Outcome, Refused> {
        let start = units.len();
        let outcome = self.units(event, real_now, senders, units);
        if outcome.is_err() {
            units.truncate(start);
        }
        outcome
    }

    fn units(
        &mut self,
        event: &Event<'_>,
        real_now: i64,
        senders: &mut Senders,
        units: &mut Vec<Unit>,
    ) -> Result<Outcome, Refused> {
        let mail = &event.mail;
        let cohort = cohort(mail.timestamp, real_now)?;
        let mut oddities = Oddities::default();
        if let (field, Some(Timestamp(at))) = dated(&event.detail) {
            match (not_in_the_future(field, at, real_now), is_dated_by_provider(&event.detail)) {
                (Ok(()), _) => {}
                (Err(_), true) => oddities.note(Oddity::FutureDate),
                (Err(refused), false) => return Err(refused),
            }
        }
        if event.unreadable_dates > 0 {
            oddities.note(Oddity::UnreadableDate);
        }
        if event.unreadable_recipients > 0 {
            oddities.note(Oddity::UnreadableRecipient);
        }
        let drill = is_drill(mail);
        let sender = self.sender(mail, drill, senders);
        let longest = senders.subjects(sender).iter().map(Subject::bytes).max().unwrap_or(0);
        if longest > LONGEST_SUBJECT {
            return Err(Refused::LongName { bytes: longest });
        }
        let before = units.len();
        let mut failures = std::mem::take(&mut self.failures);
        failures.clear();
        let mut count =
            Count { classifier: self, mail, drill, cohort, sender, units, excluded: None, oddities, failures };
        let outcome = count.event(event);
        let (excluded, oddities, failures) = (count.excluded, count.oddities, count.failures);
        self.failures = failures;
        match (outcome?, excluded) {
            (Some(ignored), _) => Ok(Outcome::Ignored(ignored)),
            (None, Some(name)) if units.len() == before => Ok(Outcome::Ignored(name)),
            (None, _) => Ok(Outcome::Counted(oddities)),
        }
    }

    /// For the last classified bounce or delay: for each of its units except blocks, the index of the failed recipient
    /// that the unit is about; `None` where the event names none.
    pub fn failures(&self) -> &[Option<usize>] {
        &self.failures
    }

    fn sender(&mut self, mail: &Mail<'_>, drill: bool, senders: &mut Senders) -> reputation::unit::SenderId {
        let set = mail.configuration_set.as_deref().filter(|name| !name.is_empty()).unwrap_or(Subject::UNTAGGED);
        if drill {
            self.name.clear();
            self.name.push(Some(set));
            // Only the sender of a drill has no identity, so its name differs from all others.
            self.name.push(None);
            return senders.intern(self.name.as_str(), || vec![Subject::ConfigurationSet(set.into())]);
        }
        let identity = match mail.from_domain.as_deref().filter(|domain| !domain.is_empty()) {
            // Never an address, whatever a tag holds.
            Some(tagged) if tagged.contains('@') => reputation::address::domain_of(tagged).ok(),
            Some(domain) => Some(std::borrow::Cow::Borrowed(domain)),
            None => mail.source.as_deref().and_then(|source| reputation::address::domain_of(source).ok()),
        };
        let identity = identity.as_deref().unwrap_or(Subject::UNTAGGED);
        let tenant = if self.tenants { mail.tags.first("ses:tenant-name") } else { None };
        let tenant = tenant.filter(|name| !name.is_empty());
        self.name.clear();
        for part in [Some(set), Some(identity), tenant.as_deref()] {
            self.name.push(part);
        }
        for tag in &self.tags {
            self.name.push(mail.tags.first(tag).as_deref());
        }
        let (tags, tag_names) = (&mail.tags, &self.tags);
        senders.intern(self.name.as_str(), || {
            let mut subjects =
                vec![Subject::ConfigurationSet(set.into()), Subject::Identity(identity.to_lowercase().into())];
            subjects.extend(tenant.map(|name| Subject::Tenant(name.as_ref().into())));
            let tag =
                |name: &String| tags.first(name).map(|value| Subject::Tag(name.as_str().into(), value.as_ref().into()));
            subjects.extend(tag_names.iter().filter_map(tag));
            subjects
        })
    }

    /// Whether a recipient of an event makes a unit. Recipients that are excluded from every rate make none, except in
    /// drills.
    pub fn counts(&self, recipient: &str) -> bool {
        Address::parse(recipient).map_or(true, |address| self.isp(&address, false).is_ok())
    }

    /// The ISP of a recipient, or why mail to it counts in no rate.
    fn isp(&self, address: &Address<'_>, drill: bool) -> Result<Isp, &'static str> {
        match address.domain() {
            SIMULATOR if drill => Ok(Isp::OTHER),
            SIMULATOR => Err("mailbox_simulator"),
            domain if self.own_domains.iter().any(|own| own == domain) => Err("own_domain"),
            domain => Ok(self.isp_map.classify(domain)),
        }
    }
}

/// Counts the units of one event.
struct Count<'a, 'e> {
    classifier: &'a Classifier,
    mail: &'a Mail<'e>,
    /// See [`is_drill`].
    drill: bool,
    cohort: Minute,
    sender: reputation::unit::SenderId,
    units: &'a mut Vec<Unit>,
    /// Why a recipient was excluded, if one was.
    excluded: Option<&'static str>,
    oddities: Oddities,
    /// See [`Classifier::failures`].
    failures: Vec<Option<usize>>,
}

/// A recipient, as far as it can be determined.
enum Whose<'t> {
    /// This address.
    Address(Address<'t>),
    /// One of several at several ISPs: assumed to be this one, and counted at `other`.
    OneOf(Address<'t>),
    /// A recipient whose address cannot be read; the text distinguishes it from others.
    Unreadable(&'t str),
}

impl<'a, 'e> Count<'a, 'e> {
    /// Counts an event; returns the name of the reason if it is ignored.
    fn event(&mut self, event: &'a Event<'e>) -> Result<Option<&'static str>, Refused> {
        let mail = self.mail;
        match &event.detail {
            Detail::Send => self.recipients(&mail.destination, UnitKind::Sent, "Send")?,
            Detail::Delivery(delivery) => {
                let recipients = if delivery.recipients.is_empty() { &mail.destination } else { &delivery.recipients };
                self.recipients(recipients, UnitKind::Delivered, "Delivery")?;
            }
            Detail::Bounce(bounce) => return self.bounce(bounce),
            Detail::Complaint(complaint) => return self.complaint(complaint),
            Detail::DeliveryDelay(delay) => self.delay(delay)?,
            Detail::Reject { .. } => self.message(UnitKind::Reject),
            Detail::RenderingFailure { .. } => self.message(UnitKind::RenderingFailure),
            Detail::Open(Engagement { likely_bot: true, .. }) | Detail::Click(Engagement { likely_bot: true, .. }) => {
                return Ok(Some("bot_engagement"));
            }
            Detail::Open(_) => self.message(UnitKind::Open),
            Detail::Click(_) => self.message(UnitKind::Click),
            Detail::Subscription { .. } => return Ok(Some("Subscription")),
        }
        Ok(None)
    }

    fn isp(&mut self, address: &Address<'_>) -> Option<Isp> {
        self.classifier.isp(address, self.drill).map_err(|why| self.excluded = Some(why)).ok()
    }

    fn push(&mut self, kind: UnitKind, isp: Isp, parts: &[&str]) {
        let key = self.classifier.keys.key(&self.mail.message_id, kind, parts);
        self.units.push(Unit { key, kind, isp, cohort: self.cohort, sender: self.sender, bucket: None });
    }

    /// Notes the cause of the last unit.
    fn in_bucket(&mut self, bucket: Bucket) {
        self.units.last_mut().into_iter().for_each(|unit| unit.bucket = Some(bucket));
    }

    /// A unit about the recipient at an address, with the bucket of a business domain that bounced.
    fn push_about(&mut self, kind: UnitKind, isp: Isp, address: &Address<'_>) {
        self.push(kind, isp, &[address.local(), address.domain()]);
        let Classifier { isp_map, keys, .. } = self.classifier;
        // All bounces of a drill are at one domain.
        if kind == UnitKind::HardBounce && isp_map.serves_businesses(isp) && address.domain() != SIMULATOR {
            self.in_bucket(keys.bucket(&[address.domain()]));
        }
    }

    /// A unit for each recipient.
    fn recipients(&mut self, recipients: &[Text<'_>], kind: UnitKind, event: &'static str) -> Result<(), Refused> {
        for recipient in recipients {
            self.recipient(recipient, kind);
        }
        named(recipients.len(), event)
    }

    /// A unit about one recipient; at the ISP `other` if the address cannot be read. Returns whether it counts.
    fn recipient(&mut self, recipient: &str, kind: UnitKind) -> bool {
        let Ok(address) = Address::parse(recipient) else {
            self.oddities.note(Oddity::UnreadableRecipient);
            self.push(kind, Isp::OTHER, &unreadable(recipient));
            return true;
        };
        let isp = self.isp(&address);
        if let Some(isp) = isp {
            self.push_about(kind, isp, &address);
        }
        isp.is_some()
    }

    /// A unit about the whole message. Its ISP is that of its recipients if they are all at one.
    fn message(&mut self, kind: UnitKind) {
        let mut isps = None;
        for recipient in &self.mail.destination {
            let isp = match Address::parse(recipient) {
                Ok(address) => self.isp(&address),
                Err(_) => {
                    self.oddities.note(Oddity::UnreadableRecipient);
                    Some(Isp::OTHER)
                }
            };
            let Some(isp) = isp else { continue };
            isps = Some(if isps.is_none_or(|known| known == isp) { isp } else { Isp::OTHER });
        }
        match (isps, self.mail.destination.is_empty()) {
            (Some(isp), _) => self.push(kind, isp, &[]),
            (None, true) => self.push(kind, Isp::OTHER, &[]),
            // All recipients are excluded.
            (None, false) => {}
        }
    }

    /// Returns the name of the reason if the bounce is ignored.
    fn bounce(&mut self, bounce: &'a Bounce<'e>) -> Result<Option<&'static str>, Refused> {
        let kind = match &*bounce.bounce_type {
            "Permanent" if SUPPRESSED.contains(&&*bounce.bounce_sub_type) => UnitKind::Suppressed,
            "Permanent" => UnitKind::HardBounce,
            "Transient" => UnitKind::SoftBounce,
            "Undetermined" => UnitKind::Undetermined,
            // A type that SES may add later: it is unknown on which side of a rate it belongs.
            _ => return Ok(Some("unknown_bounce_type")),
        };
        let signal = SignalKind::Bounce { bounce_type: &bounce.bounce_type, sub_type: &bounce.bounce_sub_type };
        self.failed(&bounce.recipients, kind, signal, "Bounce")?;
        let reached = bounce.recipients.iter().all(|recipient| action(recipient) == Action::Reached);
        Ok((reached && !bounce.recipients.is_empty() && kind != UnitKind::Suppressed).then_some("reached_in_bounce"))
    }

    fn delay(&mut self, delay: &'a DeliveryDelay<'e>) -> Result<(), Refused> {
        let kind = if delay.delay_type == "SendingDeferral" { UnitKind::Deferral } else { UnitKind::Delay };
        let signal = SignalKind::Delay { delay_type: &delay.delay_type };
        self.failed(&delay.recipients, kind, signal, "DeliveryDelay")
    }

    fn failed(
        &mut self,
        recipients: &'a [FailedRecipient<'e>],
        kind: UnitKind,
        signal: SignalKind<'_>,
        event: &'static str,
    ) -> Result<(), Refused> {
        if recipients.is_empty() {
            let mail = self.mail;
            for recipient in &mail.destination {
                if self.recipient(recipient, kind) {
                    self.failures.push(None);
                }
            }
            return named(mail.destination.len(), event);
        }
        for (place, recipient) in recipients.iter().enumerate() {
            let (status, diagnostic) = (recipient.status.as_deref(), recipient.diagnostic_code.as_deref());
            // A suppressed mail reached no ISP, and SES's own pacing is not an answer of an ISP.
            let met_an_isp = !matches!(kind, UnitKind::Suppressed | UnitKind::Deferral);
            let refusal = Refusal::classify(Signal { kind: signal, status, diagnostic }).filter(|_| met_an_isp);
            let kind = match action(recipient) {
                _ if !met_an_isp || kind == UnitKind::Delay => kind,
                Action::Reached => {
                    self.oddities.note(Oddity::ReachedInBounce);
                    continue;
                }
                Action::Delayed => {
                    self.oddities.note(Oddity::DelayedInBounce);
                    UnitKind::Delay
                }
                // SES excludes it from its bounce rate.
                Action::Failed if kind == UnitKind::HardBounce && refusal.is_some_and(Refusal::is_of_ip) => {
                    UnitKind::RefusedBounce
                }
                Action::Failed => kind,
            };
            let named_too = recipients.iter().enumerate().filter(|(other, _)| *other != place);
            let named_too = named_too.filter_map(|(_, other)| other.email_address.as_deref());
            let whose = self.whose(recipient.email_address.as_deref(), named_too);
            let (isp, parts) = match &whose {
                Whose::Address(address) => match self.isp(address) {
                    Some(isp) => (isp, [address.local(), address.domain()]),
                    None => continue,
                },
                Whose::OneOf(address) => (Isp::OTHER, [address.local(), address.domain()]),
                Whose::Unreadable(text) => (Isp::OTHER, unreadable(text)),
            };
            match &whose {
                Whose::Address(address) => self.push_about(kind, isp, address),
                Whose::OneOf(_) | Whose::Unreadable(_) => self.push(kind, isp, &parts),
            }
            self.failures.push(Some(place));
            if refusal.is_some() {
                self.push(UnitKind::Block, isp, &parts);
            }
        }
        Ok(())
    }

    /// Which recipient failed, given the one that a server `named` and the others that it names `beside` it:
    ///
    /// 1. The named recipient is in `mail.destination`, or the event has no destination: that recipient.
    /// 2. Any other name: of the recipients in the destination that are not named beside it, those at the same domain
    ///    are possible, or all of them if there is none at that domain. One of these is chosen, always the same one for
    ///    the same name, so that one mail never fails for more people than it went to. If they are at several ISPs, it
    ///    counts at `other`, and the oddity is reported.
    /// 3. No recipient is possible: it counts at `other` for an unknown recipient, and the oddity is reported.
    fn whose<'t>(&mut self, named: Option<&'t str>, beside: impl Iterator<Item = &'t str>) -> Whose<'t>
    where
        'a: 't,
    {
        let destination = &self.mail.destination;
        // The case of nearly every event.
        let known = named.filter(|named| destination.is_empty() || destination.iter().any(|known| known == named));
        match (known.and_then(final_recipient), known) {
            (Some(address), _) => return Whose::Address(address),
            (None, Some(text)) if !destination.is_empty() => {
                self.oddities.note(Oddity::UnreadableRecipient);
                return Whose::Unreadable(text);
            }
            (None, _) => {}
        }
        let readable = || destination.iter().filter_map(|known| Address::parse(known).ok());
        let address = named.and_then(final_recipient);
        if let Some(address) = address.as_ref().filter(|address| readable().any(|known| known == **address)) {
            return Whose::Address(address.clone());
        }
        let text = named.unwrap_or_default();
        // Mail is never forwarded to the simulator.
        if let Some(address) = address.as_ref().filter(|address| address.domain() == SIMULATOR) {
            return Whose::Address(address.clone());
        }
        if address.is_none() {
            self.oddities.note(Oddity::UnreadableRecipient);
        } else {
            self.oddities.note(Oddity::ForwardedRecipient);
        }
        let beside: Vec<Address<'t>> = beside.filter_map(final_recipient).collect();
        let mut possible: Vec<Address<'a>> = readable().filter(|known| !beside.contains(known)).collect();
        if possible.is_empty() {
            possible = readable().collect();
        }
        let near = |known: &Address<'_>| address.as_ref().is_some_and(|address| address.domain() == known.domain());
        if possible.iter().any(near) {
            possible.retain(near);
        }
        let counts = |known: &Address<'_>| self.classifier.isp(known, self.drill).is_ok();
        if possible.iter().any(counts) {
            possible.retain(counts);
        }
        possible.sort();
        possible.dedup();
        let isps: BTreeSet<Isp> =
            possible.iter().filter_map(|known| self.classifier.isp(known, self.drill).ok()).collect();
        if isps.len() > 1 || possible.is_empty() {
            self.oddities.note(Oddity::UnattributedRecipient);
        }
        if possible.is_empty() {
            return Whose::Unreadable(text);
        }
        let name = self.classifier.keys.key(&self.mail.message_id, UnitKind::Sent, &[text]).0;
        let one = possible.swap_remove((name % possible.len() as u128) as usize);
        if isps.len() > 1 { Whose::OneOf(one) } else { Whose::Address(one) }
    }

    /// Returns the name of the reason if the complaint is ignored.
    fn complaint(&mut self, complaint: &'a Complaint<'e>) -> Result<Option<&'static str>, Refused> {
        if complaint.feedback_type.as_deref() == Some("not-spam") {
            return Ok(Some("not_spam"));
        }
        // `OnAccountSuppressionList` and similar subtypes: the mail was never sent, so there is no complaint about it.
        if complaint.sub_type.as_deref().is_some_and(|sub_type| sub_type.contains("SuppressionList")) {
            return Ok(Some("suppressed_complaint"));
        }
        let feedback_id = complaint.feedback_id.as_deref().filter(|id| !id.is_empty());
        let id = feedback_id.as_slice();
        if id.is_empty() {
            self.oddities.note(Oddity::NoFeedbackId);
        }
        let mail = self.mail;
        let recipients = if complaint.recipients.is_empty() { &mail.destination } else { &complaint.recipients };
        if recipients.is_empty() {
            self.oddities.note(Oddity::UnattributedRecipient);
            self.push(UnitKind::Complaint, Isp::OTHER, id);
        }
        // SES lists all recipients at the complaining domain, so the first counted one gives the ISP. A recipient to
        // whom the mail went is preferred.
        let went_to: Vec<Address<'_>> =
            mail.destination.iter().filter_map(|known| Address::parse(known).ok()).collect();
        let is_known = |recipient: &&Text<'_>| Address::parse(recipient).is_ok_and(|known| went_to.contains(&known));
        let known = recipients.iter().filter(|recipient| is_known(recipient));
        for recipient in known.chain(recipients.iter().filter(|recipient| !is_known(recipient))) {
            let (isp, bucket) = match self.whose(Some(recipient), std::iter::empty()) {
                Whose::Address(address) => {
                    // All complaints of a drill are from one address.
                    let is_person = address.domain() != SIMULATOR;
                    let bucket = is_person.then(|| self.classifier.keys.bucket(&[address.local(), address.domain()]));
                    (self.isp(&address), bucket)
                }
                Whose::OneOf(_) | Whose::Unreadable(_) => (Some(Isp::OTHER), None),
            };
            if let Some(isp) = isp {
                self.push(UnitKind::Complaint, isp, id);
                bucket.into_iter().for_each(|bucket| self.in_bucket(bucket));
                break;
            }
        }
        Ok(None)
    }
}

/// What the server did for a recipient of a bounce (RFC 3464, section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// It gave up. Also the default for a missing or unknown action.
    Failed,
    /// It keeps trying.
    Delayed,
    /// The recipient got the mail, or it was passed on to systems that report nothing.
    Reached,
}

fn action(recipient: &FailedRecipient<'_>) -> Action {
    let reported = recipient.action.as_deref().unwrap_or_default().trim();
    let is = |word: &str| reported.eq_ignore_ascii_case(word);
    if is("delayed") {
        Action::Delayed
    } else if is("delivered") || is("relayed") || is("expanded") {
        Action::Reached
    } else {
        Action::Failed
    }
}

/// The address of a Final-Recipient: with or without the type that begins one in a delivery report (RFC 3464).
fn final_recipient(text: &str) -> Option<Address<'_>> {
    let trimmed = text.trim();
    let typed = trimmed.get(..7).filter(|head| head.eq_ignore_ascii_case("rfc822;")).map(|head| &trimmed[head.len()..]);
    Address::parse(typed.unwrap_or(text)).ok()
}

/// The key parts of a recipient without a readable address. They differ from those of any address, because no local
/// part is empty.
fn unreadable(text: &str) -> [&str; 2] {
    ["", text]
}

/// Whether a mail is part of a drill: sent with a configuration set of one ([`Subject::DRILL`]), and to SES's mailbox
/// simulator alone. It counts for that set, and for nothing else. Any other mail that is sent with such a set counts as
/// usual.
fn is_drill(mail: &Mail<'_>) -> bool {
    let of_drill = mail.configuration_set.as_deref().is_some_and(|set| set.starts_with(Subject::DRILL));
    let to_simulator = |to: &Text<'_>| Address::parse(to).is_ok_and(|address| address.domain() == SIMULATOR);
    of_drill && !mail.destination.is_empty() && mail.destination.iter().all(to_simulator)
}

fn named(recipients: usize, event: &'static str) -> Result<(), Refused> {
    if recipients == 0 { Err(Refused::NoRecipient { event }) } else { Ok(()) }
}

fn cohort(accepted: Timestamp, real_now: i64) -> Result<Minute, Refused> {
    let Timestamp(millis) = accepted;
    let too_old = Refused::TooOld { field: "mail.timestamp", millis };
    if millis < OLDEST {
        return Err(too_old);
    }
    not_in_the_future("mail.timestamp", millis, real_now)?;
    Minute::of_millis(millis).ok_or(too_old)
}

fn not_in_the_future(field: &'static str, millis: i64, real_now: i64) -> Result<(), Refused> {
    let ahead = millis.saturating_sub(real_now);
    if ahead > TOLERANCE_MILLIS {
        return Err(Refused::InTheFuture { field, ahead_minutes: ahead / 60_000 });
    }
    Ok(())
}

/// Whether the date of what happened is the recipients' provider's, whose clock may be wrong.
fn is_dated_by_provider(detail: &Detail<'_>) -> bool {
    matches!(detail, Detail::Bounce(_) | Detail::Complaint(_))
}

/// The date of what happened, as the event gives it.
fn dated(detail: &Detail<'_>) -> (&'static str, Option<Timestamp>) {
    match detail {
        Detail::Delivery(delivery) => ("delivery.timestamp", delivery.timestamp),
        Detail::Bounce(bounce) => ("bounce.timestamp", bounce.timestamp),
        Detail::Complaint(complaint) => ("complaint.timestamp", complaint.timestamp),
        Detail::DeliveryDelay(delay) => ("deliveryDelay.timestamp", delay.timestamp),
        Detail::Open(open) => ("open.timestamp", open.timestamp),
        Detail::Click(click) => ("click.timestamp", click.timestamp),
        Detail::Send | Detail::Reject { .. } | Detail::RenderingFailure { .. } | Detail::Subscription { .. } => {
            ("", None)
        }
    }
}

/// The times that an event carries, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// The latest time stamped by SES itself, or by the service that carried the event.
    pub by_ses: i64,
    /// The time from the recipients' provider, of a bounce or a complaint. Its clock may be wrong.
    pub by_provider: Option<i64>,
}

impl Stamps {
    /// The times on an event. A date of an envelope or of a provider that lies after the real now is ignored.
    pub fn of(event: &Event<'_>, real_now: i64) -> Stamps {
        let accepted = event.mail.timestamp.0;
        let is_past = |at: &i64| *at <= real_now.saturating_add(TOLERANCE_MILLIS);
        let reported = event.published_at.map(|reported| reported.0).filter(is_past);
        let happened = dated(&event.detail).1.map(|at| at.0).filter(is_past);
        let (by_provider, by_ses) =
            if is_dated_by_provider(&event.detail) { (happened, None) } else { (None, happened) };
        Stamps { by_ses: accepted.max(reported.unwrap_or(accepted)).max(by_ses.unwrap_or(accepted)), by_provider }
    }
}
