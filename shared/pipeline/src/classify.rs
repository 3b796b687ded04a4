//! From what SES says to what counts: the table of the design, section 3, in code.

use reputation::address::Address;
use reputation::isp::{Isp, IspMap};
use reputation::policy::Policy;
use reputation::refusal::{Refusal, Signal, SignalKind};
use reputation::subject::Subject;
use reputation::time::Minute;
use reputation::unit::{Unit, UnitKeys, UnitKind};
use ses_events::{Bounce, Complaint, DeliveryDelay, Detail, Engagement, Event, FailedRecipient, Mail, Timestamp};

use crate::senders::Senders;

/// SES began in January 2011: no event is older.
const OLDEST: i64 = 1_293_840_000_000;
/// An event may be dated so much later than the real now: clocks differ.
const TOLERANCE_MILLIS: i64 = 60 * 60 * 1000;

/// A store must be able to name its rows after a subject. SES allows 64 bytes for the name of a configuration set or tenant,
/// 255 for a domain, 256 each for the name and the value of a tag.
const LONGEST_SUBJECT: usize = 600;

/// SES's mailbox simulator, which counts in no rate.
const SIMULATOR: &str = "simulator.amazonses.com";

/// Bounce subtypes that say that SES never tried, because of a list of the sender's own.
const SUPPRESSED: [&str; 4] =
    ["OnAccountSuppressionList", "OnTenantSuppressionList", "EmailValidationSuppressed", "UnsubscribedRecipient"];

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was turned into units.
    Counted,
    /// It is known and does not count; by this name.
    Ignored(&'static str),
}

/// Why an event could not be counted. Never holds an address, a subject line or a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A date before there was SES.
    #[error("{field} is {millis} ms after 1970, before there was SES")]
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
    /// Nobody to count it for.
    #[error("{event} names no recipient")]
    NoRecipient {
        /// Kind of event.
        event: &'static str,
    },
    /// Not an address.
    #[error("a recipient is no address: {why}")]
    Address {
        /// What is wrong with it, without the address.
        why: String,
    },
    /// Longer than SES lets any name be.
    #[error("the name of its configuration set, identity, tenant or tag has {bytes} bytes; at most 600 are counted")]
    LongName {
        /// How long, with its kind.
        bytes: usize,
    },
    /// Two complaints could not be told apart.
    #[error("complaint.feedbackId is absent")]
    NoFeedbackId,
}

/// Turns events into units, under one policy and one secret.
#[derive(Clone, Debug)]
pub struct Classifier {
    isp_map: IspMap,
    own_domains: Vec<String>,
    tags: Vec<String>,
    tenants: bool,
    keys: UnitKeys,
    name: String,
}

impl Classifier {
    /// A classifier under this policy. Whoever shares a ledger shares the secret.
    pub fn new(policy: &Policy, secret: [u8; 16]) -> Classifier {
        Classifier {
            isp_map: policy.isp_map.clone(),
            own_domains: policy.subjects.own_domains.clone(),
            tags: policy.subjects.tags.clone(),
            tenants: policy.subjects.tenants,
            keys: UnitKeys::new(secret),
            name: String::new(),
        }
    }

    /// Appends the units of one event to `units`; on an error, none. `real_now` is the wall clock in milliseconds,
    /// also in a replay: an event that is dated later is wrong.
    ///
    /// # Errors
    ///
    /// Says why the event cannot be counted.
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
        if let (field, Some(Timestamp(at))) = dated(&event.detail) {
            not_in_the_future(field, at, real_now)?;
        }
        let sender = self.sender(mail, senders);
        let longest = senders.subjects(sender).iter().map(|subject| subject.to_string().len()).max().unwrap_or(0);
        if longest > LONGEST_SUBJECT {
            return Err(Refused::LongName { bytes: longest });
        }
        let before = units.len();
        let mut count = Count { classifier: self, mail, cohort, sender, units, excluded: None };
        match &event.detail {
            Detail::Send => {
                for recipient in &mail.destination {
                    count.recipient(recipient, UnitKind::Sent)?;
                }
                named(mail.destination.len(), "Send")?;
            }
            Detail::Delivery(delivery) => {
                let recipients = if delivery.recipients.is_empty() { &mail.destination } else { &delivery.recipients };
                for recipient in recipients {
                    count.recipient(recipient, UnitKind::Delivered)?;
                }
                named(recipients.len(), "Delivery")?;
            }
            Detail::Bounce(bounce) => {
                if let Some(ignored) = count.bounce(bounce)? {
                    return Ok(Outcome::Ignored(ignored));
                }
            }
            Detail::Complaint(complaint) => {
                if let Some(ignored) = count.complaint(complaint)? {
                    return Ok(Outcome::Ignored(ignored));
                }
            }
            Detail::DeliveryDelay(delay) => count.delay(delay)?,
            Detail::Reject { .. } => count.message(UnitKind::Reject)?,
            Detail::RenderingFailure { .. } => count.message(UnitKind::RenderingFailure)?,
            Detail::Open(Engagement { likely_bot: true, .. }) | Detail::Click(Engagement { likely_bot: true, .. }) => {
                return Ok(Outcome::Ignored("bot_engagement"));
            }
            Detail::Open(_) => count.message(UnitKind::Open)?,
            Detail::Click(_) => count.message(UnitKind::Click)?,
            Detail::Subscription { .. } => return Ok(Outcome::Ignored("Subscription")),
        }
        match count.excluded {
            Some(name) if count.units.len() == before => Ok(Outcome::Ignored(name)),
            Some(_) | None => Ok(Outcome::Counted),
        }
    }

    fn sender(&mut self, mail: &Mail<'_>, senders: &mut Senders) -> reputation::unit::SenderId {
        let set = mail.configuration_set.as_deref().filter(|name| !name.is_empty()).unwrap_or(Subject::UNTAGGED);
        let identity = match mail.from_domain.as_deref().filter(|domain| !domain.is_empty()) {
            Some(domain) => Some(std::borrow::Cow::Borrowed(domain)),
            None => mail.source.as_deref().and_then(|source| reputation::address::domain_of(source).ok()),
        };
        let identity = identity.as_deref().unwrap_or(Subject::UNTAGGED);
        let tenant = if self.tenants { mail.tags.first("ses:tenant-name") } else { None };
        let tenant = tenant.filter(|name| !name.is_empty());
        // The parts cannot hold the separator: names of SES have no control characters.
        self.name.clear();
        for part in [set, identity, tenant.as_deref().unwrap_or("")] {
            self.name.push_str(part);
            self.name.push('\0');
        }
        for tag in &self.tags {
            self.name.push_str(mail.tags.first(tag).as_deref().unwrap_or(""));
            self.name.push('\0');
        }
        let (tags, tag_names) = (&mail.tags, &self.tags);
        senders.intern(&self.name, || {
            let mut subjects =
                vec![Subject::ConfigurationSet(set.into()), Subject::Identity(identity.to_lowercase().into())];
            subjects.extend(tenant.map(|name| Subject::Tenant(name.as_ref().into())));
            let tag =
                |name: &String| tags.first(name).map(|value| Subject::Tag(name.as_str().into(), value.as_ref().into()));
            subjects.extend(tag_names.iter().filter_map(tag));
            subjects
        })
    }

    /// Whether a failed recipient of an event makes a unit: those that are left out of every rate make none.
    pub fn counts(&self, recipient: &str) -> bool {
        parse(recipient).is_ok_and(|address| self.isp(&address).is_ok())
    }

    /// The ISP of a recipient, or why nobody's rate counts mail there.
    fn isp(&self, address: &Address<'_>) -> Result<Isp, &'static str> {
        match address.domain() {
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
    cohort: Minute,
    sender: reputation::unit::SenderId,
    units: &'a mut Vec<Unit>,
    /// Why a recipient was left out, if one was.
    excluded: Option<&'static str>,
}

impl<'e> Count<'_, 'e> {
    fn isp(&mut self, address: &Address<'_>) -> Option<Isp> {
        self.classifier.isp(address).map_err(|why| self.excluded = Some(why)).ok()
    }

    fn push(&mut self, kind: UnitKind, isp: Isp, parts: &[&str]) {
        let key = self.classifier.keys.key(&self.mail.message_id, kind, parts);
        self.units.push(Unit { key, kind, isp, cohort: self.cohort, sender: self.sender });
    }

    fn recipient(&mut self, recipient: &str, kind: UnitKind) -> Result<(), Refused> {
        let address = parse(recipient)?;
        if let Some(isp) = self.isp(&address) {
            self.push(kind, isp, &[address.local(), address.domain()]);
        }
        Ok(())
    }

    /// A unit about the whole message. Its ISP is that of its recipients if they are all at one.
    fn message(&mut self, kind: UnitKind) -> Result<(), Refused> {
        let mut isps = None;
        for recipient in &self.mail.destination {
            let Some(isp) = self.isp(&parse(recipient)?) else { continue };
            isps = Some(if isps.is_none_or(|known| known == isp) { isp } else { Isp::OTHER });
        }
        match (isps, self.mail.destination.is_empty()) {
            (Some(isp), _) => self.push(kind, isp, &[]),
            (None, true) => self.push(kind, Isp::OTHER, &[]),
            // All recipients are excluded.
            (None, false) => {}
        }
        Ok(())
    }

    /// Says by what name the bounce is ignored, if it is.
    fn bounce(&mut self, bounce: &Bounce<'_>) -> Result<Option<&'static str>, Refused> {
        let kind = match &*bounce.bounce_type {
            "Permanent" if SUPPRESSED.contains(&&*bounce.bounce_sub_type) => UnitKind::Suppressed,
            "Permanent" => UnitKind::HardBounce,
            "Transient" => UnitKind::SoftBounce,
            "Undetermined" => UnitKind::Undetermined,
            // What SES may add one day: nobody knows on which side of a rate it belongs.
            _ => return Ok(Some("unknown_bounce_type")),
        };
        let signal = SignalKind::Bounce { bounce_type: &bounce.bounce_type, sub_type: &bounce.bounce_sub_type };
        self.failed(&bounce.recipients, kind, signal, "Bounce").map(|()| None)
    }

    fn delay(&mut self, delay: &DeliveryDelay<'_>) -> Result<(), Refused> {
        let kind = if delay.delay_type == "SendingDeferral" { UnitKind::Deferral } else { UnitKind::Delay };
        let signal = SignalKind::Delay { delay_type: &delay.delay_type };
        self.failed(&delay.recipients, kind, signal, "DeliveryDelay")
    }

    fn failed(
        &mut self,
        recipients: &[FailedRecipient<'_>],
        kind: UnitKind,
        signal: SignalKind<'_>,
        event: &'static str,
    ) -> Result<(), Refused> {
        if recipients.is_empty() {
            let mail = self.mail;
            for recipient in &mail.destination {
                self.recipient(recipient, kind)?;
            }
            return named(mail.destination.len(), event);
        }
        for recipient in recipients {
            let address = parse(recipient.email_address.as_deref().unwrap_or_default())?;
            let Some(isp) = self.isp(&address) else { continue };
            let parts = [address.local(), address.domain()];
            self.push(kind, isp, &parts);
            let (status, diagnostic) = (recipient.status.as_deref(), recipient.diagnostic_code.as_deref());
            // A suppressed mail met no ISP, and SES's own pacing is no word of one.
            let met_an_isp = !matches!(kind, UnitKind::Suppressed | UnitKind::Deferral);
            if met_an_isp && Refusal::classify(Signal { kind: signal, status, diagnostic }).is_some() {
                self.push(UnitKind::Block, isp, &parts);
            }
        }
        Ok(())
    }

    /// Says by what name the complaint is ignored, if it is.
    fn complaint(&mut self, complaint: &Complaint<'e>) -> Result<Option<&'static str>, Refused> {
        if complaint.feedback_type.as_deref() == Some("not-spam") {
            return Ok(Some("not_spam"));
        }
        // `OnAccountSuppressionList` and its kin: the mail was never sent, so nobody complained about it.
        if complaint.sub_type.as_deref().is_some_and(|sub_type| sub_type.contains("SuppressionList")) {
            return Ok(Some("suppressed_complaint"));
        }
        let feedback_id = complaint.feedback_id.as_deref().filter(|id| !id.is_empty()).ok_or(Refused::NoFeedbackId)?;
        let recipients = if complaint.recipients.is_empty() { &self.mail.destination } else { &complaint.recipients };
        named(recipients.len(), "Complaint")?;
        // SES lists everybody at the complaining domain, so the first counted one tells the ISP.
        for recipient in recipients {
            if let Some(isp) = self.isp(&parse(recipient)?) {
                self.push(UnitKind::Complaint, isp, &[feedback_id]);
                break;
            }
        }
        Ok(None)
    }
}

fn parse(recipient: &str) -> Result<Address<'_>, Refused> {
    Address::parse(recipient).map_err(|error| Refused::Address { why: error.to_string() })
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

/// The date of what happened, as told.
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
    /// The latest time that SES itself, or what carried the event, has stamped on it.
    pub by_ses: i64,
    /// The time that the recipients' provider says: of a bounce or a complaint. Its clock may be wrong.
    pub by_provider: Option<i64>,
}

impl Stamps {
    /// The times on an event. A date of an envelope that lies after the real now is not one.
    pub fn of(event: &Event<'_>, real_now: i64) -> Stamps {
        let accepted = event.mail.timestamp.0;
        let told = event.told_at.map(|told| told.0).filter(|told| *told <= real_now.saturating_add(TOLERANCE_MILLIS));
        let happened = dated(&event.detail).1.map(|at| at.0);
        let by_provider = happened.filter(|_| matches!(event.detail, Detail::Bounce(_) | Detail::Complaint(_)));
        let by_ses = happened.filter(|_| by_provider.is_none());
        Stamps { by_ses: accepted.max(told.unwrap_or(accepted)).max(by_ses.unwrap_or(accepted)), by_provider }
    }
}
