//! The kinds of bounces and delays in a stream, each with the unit that it stands for.

use super::truth::Unit;

/// One way to bounce.
#[derive(Debug)]
pub(super) struct BounceKind {
    pub(super) unit: Unit,
    /// The ISP refuses because of the sender, so a block accompanies the bounce.
    pub(super) block: bool,
    pub(super) bounce_type: &'static str,
    pub(super) sub_type: &'static str,
    /// Enhanced status and the other server's text; neither, if no delivery report was attached.
    pub(super) report: Option<(&'static str, &'static str)>,
}

/// One way to be delayed; each stands for a delay.
#[derive(Debug)]
pub(super) struct DelayKind {
    /// The ISP delays because of the sender, so a block accompanies the delay.
    pub(super) block: bool,
    pub(super) delay_type: &'static str,
    pub(super) status: &'static str,
    pub(super) text: &'static str,
}

const fn hard(sub_type: &'static str, status: &'static str, text: &'static str) -> BounceKind {
    let report = Some((status, text));
    BounceKind { unit: Unit::HardBounce, block: false, bounce_type: "Permanent", sub_type, report }
}

const fn soft(sub_type: &'static str, report: Option<(&'static str, &'static str)>) -> BounceKind {
    BounceKind { unit: Unit::SoftBounce, block: false, bounce_type: "Transient", sub_type, report }
}

const fn suppressed(sub_type: &'static str) -> BounceKind {
    BounceKind { unit: Unit::Suppressed, block: false, bounce_type: "Permanent", sub_type, report: None }
}

const fn delayed(delay_type: &'static str, status: &'static str, text: &'static str) -> DelayKind {
    DelayKind { block: false, delay_type, status, text }
}

const fn blocked(delay_type: &'static str, status: &'static str, text: &'static str) -> DelayKind {
    DelayKind { block: true, delay_type, status, text }
}

// An entry that is written twice in a table happens twice as often.

pub(super) static HARD: [BounceKind; 6] = [
    hard("General", "5.1.1", "smtp; 550 5.1.1 nobody of that name lives here"),
    hard("General", "5.1.1", "smtp; 550 5.1.1 nobody of that name lives here"),
    hard("General", "5.1.1", "smtp; 550 5.1.1 mailbox is not known"),
    hard("General", "5.2.1", "smtp; 550 5.2.1 account was closed by its owner"),
    hard("NoEmail", "5.1.1", "smtp; 550 5.1.1 mailbox is not known"),
    hard("Suppressed", "5.1.1", "smtp; 550 5.1.1 address bounced lately for another sender"),
];

/// A subtype that SES does not have yet.
pub(super) static HARD_OF_UNKNOWN_SUBTYPE: BounceKind =
    hard("RecipientRetired", "5.1.6", "smtp; 551 5.1.6 mailbox moved away and left no address");

pub(super) static SOFT: [BounceKind; 7] = [
    soft("General", Some(("4.2.1", "smtp; 450 4.2.1 mailbox is being moved"))),
    soft("General", Some(("4.4.7", "smtp; 450 4.4.7 could not be delivered in time"))),
    soft("General", None),
    soft("MailboxFull", Some(("4.2.2", "smtp; 452 4.2.2 this mailbox has no room left"))),
    soft("MailboxFull", Some(("4.2.2", "smtp; 452 4.2.2 this mailbox has no room left"))),
    soft("MessageTooLarge", Some(("5.3.4", "smtp; 552 5.3.4 message is larger than this mailbox takes"))),
    soft("AttachmentRejected", Some(("5.6.1", "smtp; 554 5.6.1 attachment has a type that is not taken here"))),
];

/// The end of a delay that does not end in a delivery.
pub(super) static GIVEN_UP: BounceKind =
    soft("General", Some(("4.4.7", "smtp; 450 4.4.7 could not be delivered in time")));

pub(super) static UNDETERMINED: BounceKind = BounceKind {
    unit: Unit::Undetermined,
    block: false,
    bounce_type: "Undetermined",
    sub_type: "Undetermined",
    report: None,
};

pub(super) static SUPPRESSED: [BounceKind; 5] = [
    suppressed("OnAccountSuppressionList"),
    suppressed("OnAccountSuppressionList"),
    suppressed("OnTenantSuppressionList"),
    suppressed("EmailValidationSuppressed"),
    suppressed("UnsubscribedRecipient"),
];

pub(super) static BLOCKED_BOUNCES: [BounceKind; 4] = [
    BounceKind {
        unit: Unit::RefusedBounce,
        block: true,
        bounce_type: "Permanent",
        sub_type: "General",
        report: Some(("5.7.1", "smtp; 550 5.7.1 mail from this network is blocked by policy (S3150)")),
    },
    BounceKind {
        unit: Unit::RefusedBounce,
        block: true,
        bounce_type: "Permanent",
        sub_type: "General",
        report: Some(("5.7.1", "smtp; 554 5.7.1 refused by policy: sender has a poor reputation here")),
    },
    BounceKind {
        unit: Unit::SoftBounce,
        block: true,
        bounce_type: "Transient",
        sub_type: "ContentRejected",
        report: Some(("5.6.0", "smtp; 554 5.6.0 content is not wanted here")),
    },
    BounceKind {
        unit: Unit::SoftBounce,
        block: true,
        bounce_type: "Transient",
        sub_type: "General",
        report: Some(("4.7.1", "smtp; 421 4.7.1 policy: too many readers reported mail from this sender")),
    },
];

pub(super) static DELAYED: [DelayKind; 6] = [
    delayed("TransientCommunicationFailure", "4.4.1", "smtp; 451 4.4.1 the mail exchanger does not answer"),
    delayed("TransientCommunicationFailure", "4.4.1", "smtp; 451 4.4.1 the mail exchanger does not answer"),
    delayed("TransientCommunicationFailure", "4.4.2", "smtp; 451 4.4.2 connection was lost half way"),
    delayed("MailboxFull", "4.2.2", "smtp; 452 4.2.2 this mailbox has no room left"),
    delayed("MailboxFull", "4.2.2", "smtp; 452 4.2.2 this mailbox has no room left"),
    delayed("RecipientServerError", "4.3.0", "smtp; 451 4.3.0 internal fault while storing the message"),
];

pub(super) static BLOCKED_DELAYS: [DelayKind; 4] = [
    blocked("IPFailure", "4.7.28", "smtp; 421 4.7.28 too much mail from this address in too short a while"),
    blocked("IPFailure", "4.7.650", "smtp; 451 4.7.650 sending address is rate limited because of its reputation"),
    blocked("SpamDetected", "4.7.1", "smtp; 451 4.7.1 much of the mail from this sender is unsolicited"),
    blocked("General", "4.7.0", "smtp; 421 4.7.0 this sender is throttled by policy"),
];
