//! The words by which servers refuse a sender, and those by which they say something else.

use super::Refusal::{self, Authentication, Content, Policy, Reputation, Throttle};

/// A piece of lower-case text and what it means.
pub(super) struct Pattern {
    pub(super) text: &'static str,
    /// `None`: the server speaks of the mailbox, of itself or of a first try, not of the sender.
    pub(super) refusal: Option<Refusal>,
    /// No letter or digit may follow.
    pub(super) whole: bool,
}

const fn not_the_sender(text: &'static str) -> Pattern {
    Pattern { text, refusal: None, whole: false }
}

const fn says(refusal: Refusal, text: &'static str) -> Pattern {
    Pattern { text, refusal: Some(refusal), whole: false }
}

const fn whole(refusal: Refusal, text: &'static str) -> Pattern {
    Pattern { text, refusal: Some(refusal), whole: true }
}

/// In order of precedence: of all patterns that a text holds, the first in this table decides.
///
/// After the providers' postmaster pages (Google *Gmail SMTP errors and codes*, Microsoft *Outlook.com Postmaster*, Yahoo
/// *Sender Hub*, Apple *Postmaster information for iCloud Mail*) and the wording of common servers (Postfix, Exim,
/// Exchange). Providers change their words without notice: a phrase that is missing leaves the status to decide.
pub(super) const PATTERNS: &[Pattern] = &[
    // A greylist asks everyone unknown to come back, whatever status it uses: 4.2.0, 4.7.1, 4.7.0.
    not_the_sender("greylist"),
    not_the_sender("graylist"),
    not_the_sender("grey-list"),
    not_the_sender("gray-list"),
    not_the_sender("grey list"),
    not_the_sender("gray list"),
    not_the_sender("postgrey"),
    // Yahoo's greylist.
    not_the_sender("[gl01]"),
    // The mailbox.
    not_the_sender("user unknown"),
    not_the_sender("unknown user"),
    not_the_sender("unknown recipient"),
    not_the_sender("recipient unknown"),
    not_the_sender("no such user"),
    not_the_sender("no such recipient"),
    not_the_sender("no such mailbox"),
    not_the_sender("no mailbox here"),
    not_the_sender("user not found"),
    not_the_sender("recipient not found"),
    not_the_sender("user does not exist"),
    not_the_sender("account does not exist"),
    not_the_sender("address does not exist"),
    not_the_sender("mailbox does not exist"),
    not_the_sender("recipient does not exist"),
    not_the_sender("mailbox unavailable"),
    not_the_sender("mailbox not found"),
    not_the_sender("mailbox disabled"),
    not_the_sender("account disabled"),
    not_the_sender("account is disabled"),
    not_the_sender("mailbox full"),
    not_the_sender("mailbox is full"),
    not_the_sender("mailbox has too many"),
    not_the_sender("mailbox contains too many"),
    not_the_sender("over quota"),
    not_the_sender("overquota"),
    not_the_sender("quota exceeded"),
    // Domino's directory: the name is not listed, rather than the sender.
    not_the_sender("not listed in"),
    // Exchange Online answers so for an unknown address when its edge knows the directory, with an `AS(…)` code.
    not_the_sender("recipient address rejected: access denied"),
    // One mailbox or list has its own guests. That says nothing of mail to its neighbours.
    not_the_sender("rejected by recipient"),
    not_the_sender("blocked by recipient"),
    not_the_sender("recipient has blocked"),
    not_the_sender("recipient not authori"),
    not_the_sender("restricted to authenticated"),
    not_the_sender("not allowed to post"),
    not_the_sender("not permitted to post"),
    not_the_sender("not authorized to send to"),
    not_the_sender("not permitted to send to this"),
    // The recipient's mail routing is broken.
    not_the_sender("relay access denied"),
    not_the_sender("relaying denied"),
    not_the_sender("unable to relay"),
    not_the_sender("relay not permitted"),
    // Providers' own codes, the surest words there are.
    whole(Reputation, "s3140"),
    whole(Reputation, "s3150"),
    says(Reputation, "ou-00"),
    says(Reputation, "dy-00"),
    says(Content, "sc-00"),
    says(Throttle, "rp-00"),
    // Microsoft's filter numbers 14xx stand for banned senders; others, `AS(2018…)` among them, do not.
    says(Reputation, "as(14"),
    whole(Reputation, "ts03"),
    says(Throttle, "ts0"),
    says(Throttle, "tss0"),
    says(Reputation, "ipts"),
    whole(Policy, "ph01"),
    says(Policy, "[cs0"),
    says(Policy, "[hm0"),
    says(Reputation, "tosa@rx.t-online"),
    says(Throttle, "ofr004"),
    says(Reputation, "ofr_5"),
    says(Throttle, "rl0000"),
    says(Reputation, "bl0000"),
    says(Reputation, "cxbl"),
    says(Reputation, "rblmx"),
    says(Policy, "aup#"),
    says(Content, "dt:spm"),
    whole(Throttle, "rp:cel"),
    whole(Throttle, "rp:qrc"),
    whole(Throttle, "rp:trc"),
    // Before the lists: "blocked, SPF failed" is about SPF.
    whole(Authentication, "dmarc"),
    whole(Authentication, "dkim"),
    whole(Authentication, "spf"),
    says(Authentication, "unauthenticated"),
    says(Authentication, "reverse dns"),
    whole(Authentication, "rdns"),
    says(Authentication, "fcrdns"),
    says(Authentication, "ptr record"),
    // Lists and reputation.
    says(Reputation, "blocked using"),
    says(Reputation, "blacklist"),
    says(Reputation, "black list"),
    says(Reputation, "black-list"),
    says(Reputation, "blocklist"),
    says(Reputation, "block list"),
    says(Reputation, "block-list"),
    says(Reputation, "denylist"),
    says(Reputation, "spamhaus"),
    says(Reputation, "spamcop"),
    says(Reputation, "barracudacentral"),
    says(Reputation, "dnsbl"),
    whole(Reputation, "rbl"),
    says(Reputation, "listed at"),
    says(Reputation, "listed by"),
    says(Reputation, "listed in"),
    says(Reputation, "listed on"),
    says(Reputation, "reputation"),
    says(Reputation, "senderscore"),
    says(Reputation, "sender score"),
    says(Reputation, "banned"),
    says(Reputation, "permanently deferred"),
    says(Reputation, "ip blocked"),
    says(Reputation, "ip is blocked"),
    says(Reputation, "ip has been blocked"),
    says(Reputation, "ip address has been blocked"),
    says(Reputation, "sender blocked"),
    says(Reputation, "blocked due to"),
    says(Reputation, "blocked because"),
    // Rates.
    says(Throttle, "user complaints"),
    says(Throttle, "unexpected volume"),
    says(Throttle, "rate limit"),
    says(Throttle, "rate-limit"),
    says(Throttle, "ratelimit"),
    says(Throttle, "unusual rate"),
    says(Throttle, "sending rate"),
    says(Throttle, "frequency limited"),
    says(Throttle, "throttl"),
    says(Throttle, "slow down"),
    says(Throttle, "too many messages"),
    says(Throttle, "too many mails"),
    says(Throttle, "too many emails"),
    says(Throttle, "too many connections"),
    says(Throttle, "too many concurrent"),
    says(Throttle, "connection limit"),
    says(Throttle, "mails per session"),
    // The message.
    says(Content, "spam"),
    says(Content, "unsolicited"),
    says(Content, "phishing"),
    says(Content, "junk mail"),
    says(Content, "message content"),
    says(Content, "content rejected"),
    says(Content, "content denied"),
    says(Content, "suspicious"),
    // What gives no better reason.
    says(Policy, "policy violation"),
    says(Policy, "policy reason"),
    says(Policy, "policy restriction"),
    says(Policy, "policy rejection"),
    says(Policy, "local policy"),
    says(Policy, "security policy"),
    says(Policy, "due to policy"),
    says(Policy, "against policy"),
    says(Policy, "administrative prohibition"),
    says(Policy, "administratively prohibited"),
    says(Policy, "not accepting mail from"),
    says(Policy, "refuses mail from"),
];
