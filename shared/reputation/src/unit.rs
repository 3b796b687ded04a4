//! The unit: one countable fact about one recipient of one message, and the key under which it counts once.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::grouped::Bucket;
use crate::{Isp, Minute};

/// The kind of a unit: the left column of the table "What counts" in `ARCHITECTURE.md`.
///
/// The number of a kind is part of the stored key of its units: new kinds come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum UnitKind {
    /// SES accepted the mail for this recipient.
    Sent,
    /// The recipient's server accepted it.
    Delivered,
    /// It bounced permanently, and SES counts it in its bounce rate.
    HardBounce,
    /// SES gave up after trying.
    SoftBounce,
    /// It bounced, and SES does not know why.
    Undetermined,
    /// SES never tried: the address is on a suppression list of the sender.
    Suppressed,
    /// The recipient reported it to their provider as spam.
    Complaint,
    /// The recipient's server, or the route to it, delayed the mail.
    Delay,
    /// SES itself delayed the mail (`SendingDeferral`): not a signal from an ISP.
    Deferral,
    /// The ISP refuses or throttles the sender; counted in addition to a bounce or a delay.
    Block,
    /// SES refused the mail after accepting it.
    Reject,
    /// The template could not be rendered.
    RenderingFailure,
    /// The mail was opened.
    Open,
    /// A link in the mail was followed.
    Click,
    /// It bounced permanently because the ISP refuses the sender's IP address. SES excludes such bounces from its
    /// bounce rate (sending review process FAQs), so they are not hard bounces; each is also a [`UnitKind::Block`].
    RefusedBounce,
}

impl UnitKind {
    /// All kinds, in the order of their counters.
    pub const ALL: [UnitKind; 15] = [
        UnitKind::Sent,
        UnitKind::Delivered,
        UnitKind::HardBounce,
        UnitKind::SoftBounce,
        UnitKind::Undetermined,
        UnitKind::Suppressed,
        UnitKind::Complaint,
        UnitKind::Delay,
        UnitKind::Deferral,
        UnitKind::Block,
        UnitKind::Reject,
        UnitKind::RenderingFailure,
        UnitKind::Open,
        UnitKind::Click,
        UnitKind::RefusedBounce,
    ];

    /// The final outcomes of a mail that SES tried to deliver: an attempt is a mail with one of them.
    pub const OUTCOMES: [UnitKind; 5] = [
        UnitKind::Delivered,
        UnitKind::HardBounce,
        UnitKind::SoftBounce,
        UnitKind::Undetermined,
        UnitKind::RefusedBounce,
    ];

    /// The stable name of its counter, as in stored rows and in the report.
    pub fn counter_name(self) -> &'static str {
        match self {
            UnitKind::Sent => "sent",
            UnitKind::Delivered => "delivered",
            UnitKind::HardBounce => "hard_bounces",
            UnitKind::SoftBounce => "soft_bounces",
            UnitKind::Undetermined => "undetermined",
            UnitKind::Suppressed => "suppressed",
            UnitKind::Complaint => "complaints",
            UnitKind::Delay => "delays",
            UnitKind::Deferral => "deferrals",
            UnitKind::Block => "blocks",
            UnitKind::Reject => "rejects",
            UnitKind::RenderingFailure => "rendering_failures",
            UnitKind::Open => "opens",
            UnitKind::Click => "clicks",
            UnitKind::RefusedBounce => "refused_bounces",
        }
    }

    /// The kind whose counter has this name.
    pub fn by_counter_name(name: &str) -> Option<UnitKind> {
        UnitKind::ALL.into_iter().find(|kind| kind.counter_name() == name)
    }
}

/// The identity of a unit: equal for the same fact, however often and by whichever route it is reported.
///
/// A keyed 128-bit hash of message id, kind and (normalised recipient or feedback id). Because the hash is keyed, an
/// address cannot be found by trying addresses; 128 bits make a collision among 10¹² units less likely than 1 in 10¹⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitKey(pub u128);

/// Computes [`UnitKey`]s under one secret.
#[derive(Clone)]
pub struct UnitKeys(SipHasher13);

impl UnitKeys {
    /// Keys under this secret. Everything that shares a ledger must use the same one.
    pub fn new(secret: [u8; 16]) -> UnitKeys {
        UnitKeys(SipHasher13::new_with_key(&secret))
    }

    /// The key of one fact. `parts` distinguish it from other facts of this kind about this message: the pieces of a
    /// normalised address, a feedback id, or nothing for a fact about the whole message.
    pub fn key(&self, message_id: &str, kind: UnitKind, parts: &[&str]) -> UnitKey {
        let mut hasher = self.0;
        hasher.write(message_id.as_bytes());
        hasher.write(&[0, kind as u8]);
        for part in parts {
            // The separator cannot occur in UTF-8, so different lists of parts give different input.
            hasher.write(&[0xff]);
            hasher.write(part.as_bytes());
        }
        UnitKey(hasher.finish128().as_u128())
    }

    /// The bucket of a cause, a business domain or an address in normal form: 6 bits of a keyed hash, from which nobody can
    /// tell the cause.
    pub fn bucket(&self, cause: &[&str]) -> Bucket {
        let mut hasher = self.0;
        // No key of a unit begins with this byte, which cannot occur in UTF-8.
        hasher.write(&[0xff]);
        for part in cause {
            hasher.write(part.as_bytes());
            hasher.write(&[0xff]);
        }
        Bucket::of_hash(hasher.finish128().as_u128())
    }
}

impl std::fmt::Debug for UnitKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnitKeys(secret)")
    }
}

/// Index of a sender: the list of subjects whose reputation one mail changes. Assigned by the owner of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenderId(pub u32);

/// One countable fact about one recipient of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its identity.
    pub key: UnitKey,
    /// Its kind.
    pub kind: UnitKind,
    /// The ISP that received, or should have received, the mail.
    pub isp: Isp,
    /// When SES accepted the mail.
    pub cohort: Minute,
    /// The sender whose reputation it changes.
    pub sender: SenderId,
    /// The bucket of its cause, of a hard bounce at a business domain or a complaint ([`mod@crate::grouped`]).
    pub bucket: Option<Bucket>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fact_has_one_key_and_two_facts_have_two() {
        let keys = UnitKeys::new(*b"0123456789abcdef");
        let key = |id, kind, parts: &[&str]| keys.key(id, kind, parts);
        let a = key("m1", UnitKind::Sent, &["ann", "example.org"]);
        assert_eq!(a, key("m1", UnitKind::Sent, &["ann", "example.org"]));
        for other in [
            key("m2", UnitKind::Sent, &["ann", "example.org"]),
            key("m1", UnitKind::Delivered, &["ann", "example.org"]),
            key("m1", UnitKind::Sent, &["annexample", ".org"]),
            key("m1", UnitKind::Sent, &["ann"]),
            key("m1", UnitKind::Sent, &[]),
            UnitKeys::new(*b"0123456789abcdeg").key("m1", UnitKind::Sent, &["ann", "example.org"]),
        ] {
            assert_ne!(a, other);
        }
    }

    #[test]
    fn kinds_are_numbered_as_they_are_listed() {
        for (index, kind) in UnitKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
            assert_eq!(UnitKind::by_counter_name(kind.counter_name()), Some(*kind));
        }
    }
}
