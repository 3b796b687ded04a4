//! Is a bounce or a delay the ISP refusing or throttling *the sender*? Then it is a `block`, the earliest sign there
//! is.
//!
//! Three sources are asked, the surest first; each may settle the question:
//!
//! 1. **SES's own words.** A delay `SpamDetected` or `IPFailure` and a bounce `ContentRejected` are blocks.
//!    Suppression, `MailboxFull`, `CustomTimeoutExceeded` (the sender's own time limit), `SendingDeferral` (SES pacing
//!    itself) and what else concerns no ISP or one mailbox are none, whatever stands beside them.
//! 2. **What the server says** in `diagnosticCode`, by a table of phrases. Some rule a block *out*: a greylist, an
//!    unknown user, a full mailbox, a list with its own guests. They are looked for before the status because servers
//!    use x.7.1 for all of these.
//! 3. **The enhanced status** (RFC 3463, IANA *SMTP Enhanced Status Codes*), from `status` and from the text, where SES
//!    quotes the last answer of a server after its own `4.4.7`. x.7.n is a block but for those n that speak of one
//!    mailbox or of the connection's cryptography. x.1.1 and its like speak of the address, and no phrase makes them a
//!    block.
//!
//! **A bare 421 is not a block.** It says that the server is about to close the connection (RFC 5321 section 3.8), for
//! any reason: `421 4.4.1` is a server that cannot be reached. It is one with status 4.7.n or with a phrase of refusal.
//!
//! **A failed SPF, DKIM or DMARC check is a block**, though the remedy is the sender's own: the ISP refuses this
//! sender's mail as such, and every further mail fares the same.
//!
//! Deliberately absent: the reply code alone (550 and 554 mean anything), and IP addresses or links in the text.
//!
//! **Invariant:** total, without allocation, and at most [`LOOKED_AT`] bytes of a text are read.

mod patterns;

use self::patterns::PATTERNS;

/// How much of a status or a diagnostic text is looked at, in bytes. SES passes on what servers send, at any length.
pub const LOOKED_AT: usize = 1_000;

/// How an ISP refuses a sender. The names are stable and may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// A rule of the ISP; no better reason given (5.7.n).
    Policy,
    /// Too much, too fast: come back later (4.7.n, rate limits).
    Throttle,
    /// The reputation of the IP address or the domain, a block list.
    Reputation,
    /// The message looks like spam.
    Content,
    /// SPF, DKIM, DMARC or reverse DNS do not hold.
    Authentication,
}

impl Refusal {
    /// Every class, in a stable order.
    pub const ALL: [Self; 5] = [Self::Policy, Self::Throttle, Self::Reputation, Self::Content, Self::Authentication];

    /// The stable name, for storage and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Throttle => "throttle",
            Self::Reputation => "reputation",
            Self::Content => "content",
            Self::Authentication => "authentication",
        }
    }

    /// For people, to complete "the ISP …".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Policy => "refuses the mail by its policy",
            Self::Throttle => "slows the sender down",
            Self::Reputation => "distrusts the sender's IP address or domain",
            Self::Content => "takes the messages for spam",
            Self::Authentication => "cannot verify the sender",
        }
    }

    /// Whether it is the sender's IP address that is refused.
    pub const fn is_of_ip(self) -> bool {
        matches!(self, Self::Reputation)
    }

    /// The class of refusal that a bounce or delay shows, or `None` when it does not show one.
    ///
    /// ```
    /// use reputation::refusal::{Refusal, Signal, SignalKind};
    /// let kind = SignalKind::Bounce { bounce_type: "Permanent", sub_type: "General" };
    /// let blocked = Signal { kind, status: Some("5.7.1"), diagnostic: Some("smtp; 550 5.7.1 blocked using a list") };
    /// assert_eq!(Refusal::classify(blocked), Some(Refusal::Reputation));
    /// let unknown = Signal { kind, status: Some("5.1.1"), diagnostic: Some("smtp; 550 5.1.1 user unknown") };
    /// assert_eq!(Refusal::classify(unknown), None);
    /// ```
    pub fn classify(signal: Signal<'_>) -> Option<Self> {
        let opinion = signal.kind.opinion();
        if opinion == Opinion::NoRefusal {
            return None;
        }
        let mut buffer = [0; LOOKED_AT];
        let text = lower(signal.diagnostic.unwrap_or_default(), &mut buffer);
        let phrase = strongest(text);
        if let Opinion::Refusal(by_default) = opinion {
            return Some(phrase.and_then(|pattern| pattern.refusal).unwrap_or(by_default));
        }
        if phrase.is_some_and(|pattern| pattern.refusal.is_none()) {
            return None;
        }
        let status = signal.status.unwrap_or_default().as_bytes();
        let status = status.get(..LOOKED_AT).unwrap_or(status);
        let mut by_status = None;
        let mut about_address = false;
        for status in Statuses(status).chain(Statuses(text)) {
            by_status = by_status.or(status.refusal());
            about_address |= status.is_about_address();
        }
        match by_status {
            Some(class) => Some(phrase.and_then(|pattern| pattern.refusal).unwrap_or(class)),
            None if about_address => None,
            None => phrase.and_then(|pattern| pattern.refusal),
        }
    }
}

/// What an event says of one recipient. Borrowed from the event: nothing of it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Signal<'a> {
    /// Bounce or delay, in SES's words.
    pub kind: SignalKind<'a>,
    /// `status` of the recipient: an enhanced status code such as `5.7.1`.
    pub status: Option<&'a str>,
    /// `diagnosticCode` of the recipient: `smtp; ` and the server's answer.
    pub diagnostic: Option<&'a str>,
}

/// Which event, with the words that SES sorts it by. They are open sets; the case of letters makes no difference.
#[derive(Clone, Copy, Debug)]
pub enum SignalKind<'a> {
    /// A Bounce event.
    Bounce {
        /// `bounceType`.
        bounce_type: &'a str,
        /// `bounceSubType`.
        sub_type: &'a str,
    },
    /// A DeliveryDelay event.
    Delay {
        /// `delayType`.
        delay_type: &'a str,
    },
}

/// What SES's own words say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opinion {
    /// A refusal, of this class if the server gives no better one.
    Refusal(Refusal),
    NoRefusal,
    /// The server's answer decides.
    Unsaid,
}

impl SignalKind<'_> {
    fn opinion(self) -> Opinion {
        /// Nothing reached the ISP, or SES read in its answer that one mailbox or one message was the matter.
        const NOT_THE_SENDER: &[&str] = &[
            "Suppressed",
            "OnAccountSuppressionList",
            "OnTenantSuppressionList",
            "EmailValidationSuppressed",
            "UnsubscribedRecipient",
            "CustomTimeoutExceeded",
            "MailboxFull",
            "MessageTooLarge",
            "AttachmentRejected",
        ];
        const NO_DELAY_BY_THE_ISP: &[&str] =
            &["SendingDeferral", "InternalFailure", "BYOIPHostNameLookupUnavailable", "MailboxFull"];
        let (word, ruled_out, ruled_in) = match self {
            // The type adds nothing: a refusal comes as Permanent, Transient or Undetermined.
            SignalKind::Bounce { bounce_type: _, sub_type } => {
                (sub_type, NOT_THE_SENDER, &[("ContentRejected", Refusal::Content)][..])
            }
            SignalKind::Delay { delay_type } => (
                delay_type,
                NO_DELAY_BY_THE_ISP,
                // Both judge the sender, not one message: much unsolicited mail seen from it, its IP address blocked or
                // throttled (SES Developer Guide, *Contents of event data*).
                &[("SpamDetected", Refusal::Reputation), ("IPFailure", Refusal::Reputation)][..],
            ),
        };
        if ruled_out.iter().any(|other| other.eq_ignore_ascii_case(word)) {
            return Opinion::NoRefusal;
        }
        let found = ruled_in.iter().find(|(other, _)| other.eq_ignore_ascii_case(word));
        found.map_or(Opinion::Unsaid, |(_, class)| Opinion::Refusal(*class))
    }
}

/// An enhanced status of class 4 or 5.
#[derive(Clone, Copy)]
struct Status {
    class: u8,
    subject: u16,
    detail: u16,
}

impl Status {
    /// The refusal that an x.7.n is, by IANA's list, with the readings of Google and Microsoft where they differ.
    fn refusal(self) -> Option<Refusal> {
        if self.subject != 7 {
            return None;
        }
        let by_class = if self.class == 4 { Refusal::Throttle } else { Refusal::Policy };
        match self.detail {
            // 2 one mailing list; 3 to 6 and 10 to 12 cryptography and encryption; 8 a log-in; 13 a disabled account;
            // 14 to 16 submission, priority; 17 and 18 the mailbox or domain changed hands, 19 could not be checked
            // (RFC 7293).
            2..=6 | 8 | 10..=19 => None,
            // 7 integrity; 9 is Yahoo's word for a failed DMARC check; 20 to 26 DKIM, SPF, reverse DNS (RFC 7372);
            // 27 a sender domain with a null MX (RFC 7505), at Google SPF; 29 ARC, at Google a
            // connection without TLS; 30 to 32 and 40 DKIM and DMARC at Google; 509 and 515 the same at Microsoft.
            7 | 9 | 20..=27 | 29..=32 | 40 | 509 | 515 => Some(Refusal::Authentication),
            // "Mail flood detected".
            28 => Some(Refusal::Throttle),
            // Microsoft: 57, 64 relaying; 124 to 136 groups and mailboxes with their own guests; 507 a recipient's
            // wish.
            57 | 64 | 124..=136 | 507 => None,
            // Microsoft: banned and distrusted IP addresses; 650 and 651 slow one down for its reputation.
            501..=503 | 511 | 606..=651 | 708 => Some(Refusal::Reputation),
            _ => Some(by_class),
        }
    }

    /// The address is wrong or moved (x.1.n), the mailbox is closed or full (x.2.n).
    fn is_about_address(self) -> bool {
        matches!((self.subject, self.detail), (1, 1..=3 | 6 | 10) | (2, 1 | 2))
    }
}

/// Every `d.ddd.ddd` of class 4 or 5 in a text; what is part of an IP address or a longer number is none.
struct Statuses<'a>(&'a [u8]);

impl Iterator for Statuses<'_> {
    type Item = Status;

    fn next(&mut self) -> Option<Status> {
        while !self.0.is_empty() {
            let is_number = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.';
            let end = self.0.iter().position(|b| !is_number(b)).unwrap_or(self.0.len());
            let (word, rest) = self.0.split_at(end);
            self.0 = rest.get(1..).unwrap_or_default();
            if let Some(status) = status(word) {
                return Some(status);
            }
        }
        None
    }
}

/// Reads `5.7.1`, and `5.7.1.` at the end of a sentence.
fn status(word: &[u8]) -> Option<Status> {
    let [class @ (b'4' | b'5'), b'.', rest @ ..] = word.strip_suffix(b".").unwrap_or(word) else { return None };
    let mut parts = rest.splitn(2, |b| *b == b'.');
    let (subject, detail) = (number(parts.next()?)?, number(parts.next()?)?);
    Some(Status { class: class - b'0', subject, detail })
}

fn number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 3 {
        return None;
    }
    digits.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u16::from(b - b'0')))
}

/// The first bytes of a text in lower case.
fn lower<'a>(text: &str, buffer: &'a mut [u8; LOOKED_AT]) -> &'a [u8] {
    let length = text.len().min(LOOKED_AT);
    let lower = &mut buffer[..length];
    lower.copy_from_slice(&text.as_bytes()[..length]);
    lower.make_ascii_lowercase();
    lower
}

/// Ends a chain of [`INDEX`].
const END: u8 = u8::MAX;

/// The patterns by their first byte: where each byte's chain begins, and what follows each pattern. A chain is in order
/// of precedence.
const INDEX: ([u8; 256], [u8; PATTERNS.len()]) = {
    assert!(PATTERNS.len() < END as usize);
    let mut first = [END; 256];
    let mut next = [END; PATTERNS.len()];
    let mut at = PATTERNS.len();
    while at > 0 {
        at -= 1;
        let byte = PATTERNS[at].text.as_bytes()[0] as usize;
        next[at] = first[byte];
        first[byte] = at as u8;
    }
    (first, next)
};
static FIRST: [u8; 256] = INDEX.0;
static NEXT: [u8; PATTERNS.len()] = INDEX.1;

/// The pattern of highest precedence that a lower-case text holds, each where a word begins.
fn strongest(text: &[u8]) -> Option<&'static patterns::Pattern> {
    let mut best = END;
    let mut before = b' ';
    for (at, &byte) in text.iter().enumerate() {
        // Inside a word no pattern begins.
        let inside = before.is_ascii_alphanumeric() && byte.is_ascii_alphanumeric();
        let mut candidate = if inside { END } else { FIRST[usize::from(byte)] };
        // Only a stronger pattern than the best so far is worth a comparison; the chain's end is weaker than any.
        while candidate < best {
            let pattern = &PATTERNS[usize::from(candidate)];
            if stands_at(pattern, before, &text[at..]) {
                best = candidate;
            }
            candidate = NEXT[usize::from(candidate)];
        }
        before = byte;
    }
    PATTERNS.get(usize::from(best))
}

fn stands_at(pattern: &patterns::Pattern, before: u8, text: &[u8]) -> bool {
    let wanted = pattern.text.as_bytes();
    let begins_word = !before.is_ascii_alphanumeric() || !wanted[0].is_ascii_alphanumeric();
    begins_word
        && text.starts_with(wanted)
        && !(pattern.whole && text.get(wanted.len()).is_some_and(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNCE: SignalKind<'_> = SignalKind::Bounce { bounce_type: "Permanent", sub_type: "General" };
    const DELAY: SignalKind<'_> = SignalKind::Delay { delay_type: "General" };

    fn classify(kind: SignalKind<'_>, status: &str, diagnostic: &str) -> Option<&'static str> {
        // SES leaves out what it has not.
        let given = |text| Some(text).filter(|text: &&str| !text.is_empty());
        Refusal::classify(Signal { kind, status: given(status), diagnostic: given(diagnostic) }).map(Refusal::name)
    }

    #[track_caller]
    fn bounced(sub_type: &str, status: &str, diagnostic: &str, expected: Option<&str>) {
        for bounce_type in ["Permanent", "Transient", "Undetermined", "Novel"] {
            let kind = SignalKind::Bounce { bounce_type, sub_type };
            assert_eq!(classify(kind, status, diagnostic), expected, "{bounce_type} {sub_type} {status} {diagnostic}");
        }
    }

    #[track_caller]
    fn delayed(delay_type: &str, status: &str, diagnostic: &str, expected: Option<&str>) {
        let kind = SignalKind::Delay { delay_type };
        assert_eq!(classify(kind, status, diagnostic), expected, "{delay_type} {status} {diagnostic}");
    }

    /// A server's answer, as a bounce and as a delay, with the status that SES copies from it and without.
    #[track_caller]
    fn answered(status: &str, diagnostic: &str, expected: Option<&str>) {
        for kind in [BOUNCE, DELAY, SignalKind::Delay { delay_type: "TransientCommunicationFailure" }] {
            for status in [status, ""] {
                assert_eq!(classify(kind, status, diagnostic), expected, "{kind:?} {status:?} {diagnostic}");
            }
        }
    }

    #[test]
    fn what_ses_calls_a_refusal_is_one_and_the_server_only_names_its_class() {
        bounced("ContentRejected", "", "", Some("content"));
        bounced("contentrejected", "5.1.1", "smtp; 550 5.1.1 user unknown", Some("content"));
        bounced("ContentRejected", "5.7.1", "smtp; 554 5.7.1 host is on a blocklist", Some("reputation"));
        delayed("SpamDetected", "", "", Some("reputation"));
        delayed("SpamDetected", "4.2.2", "smtp; 452 4.2.2 mailbox full", Some("reputation"));
        delayed("IPFailure", "", "", Some("reputation"));
        delayed("IPFailure", "4.7.28", "smtp; 421-4.7.28 an unusual rate of mail", Some("throttle"));
    }

    #[test]
    fn what_ses_rules_out_is_none_whatever_stands_beside_it() {
        let refusing = "smtp; 550 5.7.1 blocked using zen.spamhaus.org";
        for sub_type in [
            "Suppressed",
            "OnAccountSuppressionList",
            "OnTenantSuppressionList",
            "EmailValidationSuppressed",
            "UnsubscribedRecipient",
            "CustomTimeoutExceeded",
            "MailboxFull",
            "MessageTooLarge",
            "AttachmentRejected",
        ] {
            bounced(sub_type, "5.7.1", refusing, None);
        }
        for delay_type in ["SendingDeferral", "InternalFailure", "BYOIPHostNameLookupUnavailable", "MailboxFull"] {
            delayed(delay_type, "4.7.1", refusing, None);
        }
    }

    #[test]
    fn an_answer_in_a_provider_s_form_has_its_class() {
        answered(
            "4.7.28",
            "smtp; 421-4.7.28 Mail from your address comes at an unusual rate. - gsmtp",
            Some("throttle"),
        );
        answered(
            "5.7.26",
            "smtp; 550-5.7.26 The sender is unauthenticated: SPF did not pass. - gsmtp",
            Some("authentication"),
        );
        answered("4.7.0", "smtp; 421-4.7.0 Come back later, closing the connection. - gsmtp", Some("throttle"));
        answered(
            "5.7.1",
            "smtp; 550-5.7.1 The sending domain has a low reputation, likely spam. - gsmtp",
            Some("reputation"),
        );
        answered(
            "5.7.1",
            "smtp; 550 5.7.1 Mail from [192.0.2.1] was not sent; our list names you (S3150).",
            Some("reputation"),
        );
        answered(
            "5.7.1",
            "smtp; 550 5.7.1 Mail from [192.0.2.1] was not sent (S3140). [AB1.eur.example]",
            Some("reputation"),
        );
        answered("", "smtp; 550 OU-002 Mail from your network was refused", Some("reputation"));
        answered("", "smtp; 421 RP-001 This address sends more than its share", Some("throttle"));
        answered("5.7.511", "smtp; 550 5.7.511 No access for this sender AS(1410)", Some("reputation"));
        answered("4.7.650", "smtp; 451 4.7.650 The server [192.0.2.1] must wait (S775)", Some("reputation"));
        answered("4.7.500", "smtp; 451 4.7.500 Busy. Another time, please (S77714)", Some("throttle"));
        answered("4.7.0", "smtp; 421 4.7.0 [TSS04] Mail from 192.0.2.1 waits: volume or complaints", Some("throttle"));
        answered("4.7.1", "smtp; 421 4.7.1 [TS03] Nothing from 192.0.2.1 will ever pass", Some("reputation"));
        answered("5.7.1", "smtp; 553 5.7.1 [IPTS04] Connections from you end here", Some("reputation"));
        answered("5.7.9", "smtp; 554 5.7.9 Not taken, for policy reasons", Some("policy"));
        answered("5.7.1", "smtp; 554 5.7.1 [CS01] Refused by what we decided here", Some("policy"));
        answered("5.7.1", "smtp; 554 5.7.1 [HM08] Refused by what we decided here", Some("policy"));
        answered("", "smtp; 421 too many connections from your host, slow down", Some("throttle"));
        answered("5.2.0", "smtp; 552 5.2.0 this message looks like spam to us", Some("content"));
    }

    #[test]
    fn what_concerns_the_mailbox_or_the_line_is_no_block() {
        answered("5.1.1", "smtp; 550 5.1.1 user unknown", None);
        answered("5.1.1", "smtp; 550 5.1.1 bob@spamhaus.example is nobody", None);
        answered("5.2.1", "smtp; 550 5.2.1 closed, as spam filled it", None);
        answered("4.2.1", "smtp; 450-4.2.1 This mailbox receives mail beyond its rate limit", None);
        answered("4.2.2", "smtp; 452 4.2.2 over quota", None);
        answered("5.7.1", "smtp; 550 5.7.1 no such user", None);
        answered("5.7.1", "smtp; 550 5.7.1 recipient not authorised for outside mail", None);
        answered("5.7.1", "smtp; 554 5.7.1 <bob@host.example>: Relay access denied", None);
        answered("5.4.1", "smtp; 550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", None);
        answered("", "smtp; 550 bob (bob@host.example) not listed in Domino Directory", None);
        answered("4.2.0", "smtp; 450 4.2.0 <bob@host.example>: Greylisted, come back in five minutes", None);
        answered("4.7.1", "smtp; 451 4.7.1 greylisting in action", None);
        answered("4.7.0", "smtp; 421 4.7.0 [GL01] Mail from 192.0.2.1 waits", None);
        answered("4.4.1", "smtp; 421 4.4.1 no answer from mail exchanger", None);
        answered("", "smtp; 421 service not available", None);
        answered("", "421", None);
        answered("4.4.7", "smtp; 550 4.4.7 expired after 840 minutes.<connection timed out>", None);
        answered("5.1.2", "smtp; 550 5.1.2 host not found", None);
        answered("4.3.0", "smtp; 451 4.3.0 Client 5.7.1.2 (mx-4.7.0.example) meets a local error", None);
        answered("", "", None);
    }

    #[test]
    fn the_last_answer_that_ses_quotes_after_its_own_status_counts() {
        answered("4.4.7", "smtp; 550 4.4.7 expired after 840 minutes.<421 4.7.0 come back later>", Some("throttle"));
        answered("4.4.7", "smtp; 550 4.4.7 expired after 840 minutes.<421 [TSS04] wait>", Some("throttle"));
        // Only the server's words know it: SES had copied another status.
        answered("5.1.1", "smtp; 550 5.7.1 you are not welcome", Some("policy"));
    }

    #[test]
    fn a_status_of_security_is_a_block_but_for_mailboxes_and_cryptography() {
        let by_status = |status: &str| classify(BOUNCE, status, "");
        // Neighbours of one class as `first-last class`.
        let mut runs: Vec<(&str, u16, u16)> = Vec::new();
        for detail in 0..=999 {
            let class = by_status(&format!("5.7.{detail}")).unwrap_or("none");
            match runs.last_mut() {
                Some((last_class, _, last)) if *last_class == class => *last = detail,
                Some(_) | None => runs.push((class, detail, detail)),
            }
        }
        let shown = runs.iter().map(|(class, first, last)| format!("{first}-{last} {class}")).collect::<Vec<_>>();
        insta::assert_snapshot!(shown.chunks(6).map(|chunk| chunk.join(", ")).collect::<Vec<_>>().join("\n"), @"
        0-1 policy, 2-6 none, 7-7 authentication, 8-8 none, 9-9 authentication, 10-19 none
        20-27 authentication, 28-28 throttle, 29-32 authentication, 33-39 policy, 40-40 authentication, 41-56 policy
        57-57 none, 58-63 policy, 64-64 none, 65-123 policy, 124-136 none, 137-500 policy
        501-503 reputation, 504-506 policy, 507-507 none, 508-508 policy, 509-509 authentication, 510-510 policy
        511-511 reputation, 512-514 policy, 515-515 authentication, 516-605 policy, 606-651 reputation, 652-707 policy
        708-708 reputation, 709-999 policy
        ");
        assert_eq!((by_status("5.7.0"), by_status("5.7.1")), (Some("policy"), Some("policy")));
        assert_eq!((by_status("4.7.0"), by_status("4.7.1")), (Some("throttle"), Some("throttle")));
        assert_eq!(by_status(" 5.7.1 (refused)"), Some("policy"));
        for none in
            ["2.7.1", "5.7", "5.7.1000", "5.7.", "5.7.x", "15.7.1", "5.7.1.1", "5..1", "", "7", "4.1.7", "5.1.8"]
        {
            assert_eq!(by_status(none), None, "{none}");
        }
    }

    /// One text for each phrase, in the order of the table: whoever adds a phrase adds a text here.
    const TEXTS: &[&str] = &[
        "450 Greylisted, wait five minutes",
        "451 graylisting in action",
        "450 you are grey-listed",
        "450 gray-listed for now",
        "451 on our grey list",
        "451 on our gray list",
        "450 see postgrey.example",
        "421 [GL01] mail from you waits",
        "550 User unknown in our table",
        "550 an unknown user, bob",
        "550 Unknown recipient: bob",
        "550 recipient unknown here",
        "550 No such user, sorry",
        "550 there is no such recipient",
        "553 no such mailbox on this host",
        "550 bob has no mailbox here",
        "550 User not found: bob",
        "550 recipient not found by look-up",
        "550 this user does not exist",
        "550 the account does not exist any more",
        "550 that address does not exist",
        "550 mailbox does not exist",
        "550 Recipient does not exist",
        "550 action not taken: mailbox unavailable",
        "550 Mailbox not found",
        "554 mailbox disabled for now",
        "554 account disabled (#1)",
        "554 that account is disabled",
        "452 Mailbox full",
        "452 the mailbox is full",
        "452 mailbox has too many messages",
        "452 mailbox contains too many messages",
        "452 bob is over quota",
        "552 OverQuota",
        "552 storage quota exceeded",
        "550 bob not listed in directory",
        "550 Recipient address rejected: Access denied. AS(2)",
        "550 rejected by recipient's own rule",
        "550 you were blocked by recipient",
        "550 the recipient has blocked you",
        "550 recipient not authorised",
        "550 restricted to authenticated guests",
        "550 you are not allowed to post here",
        "550 not permitted to post to staff",
        "550 you are not authorized to send to staff",
        "550 not permitted to send to this group",
        "554 Relay access denied",
        "550 relaying denied, proper log-in needed",
        "550 unable to relay for bob",
        "550 relay not permitted!",
        "550 mail was not sent (S3140)",
        "550 mail was not sent (S3150)",
        "550 OU-001 refused",
        "550 DY-001 a dynamic address",
        "550 SC-001 refused for what it says",
        "421 RP-002 more than your share",
        "550 no access AS(1430)",
        "421 [TS03] nothing will pass",
        "421 [TS01] mail waits",
        "421 [TSS04] mail waits",
        "553 [IPTS04] connections end here",
        "554 [PH01] not taken",
        "554 [CS01] refused",
        "554 [HM08] refused",
        "554 a problem: write to tosa@rx.t-online.example",
        "421 OFR004_104 [104] later",
        "550 OFR_506 [506] service refused",
        "421 RL000001 wait",
        "554 BL000010 closed to you",
        "554 CXBL closed to you",
        "553 ldap:ou=rblmx says no",
        "554 AUP#1260 closed to you",
        "554 DT:SPM mx1",
        "451 RP:CEL mx1",
        "451 RP:QRC mx1",
        "451 RP:TRC mx1",
        "550 blocked because DMARC failed",
        "550 no DKIM that holds, listed at our side",
        "550 SPF: -all, so it is spam",
        "550 unauthenticated mail ends here",
        "550 no reverse DNS for your host",
        "550 your rDNS is missing",
        "550 FCrDNS mismatch",
        "550 your host has no PTR record",
        "554 client host blocked using a zone",
        "554 host is blacklisted",
        "554 found in a black list",
        "554 you are black-listed",
        "554 on our blocklist",
        "550 part of their network is on a block list",
        "554 a block-list says so",
        "554 on the denylist",
        "554 ask www.spamhaus.example",
        "554 ask bl.spamcop.example",
        "554 ask barracudacentral.example",
        "554 DNSBL: 192.0.2.1",
        "554 RBL restriction",
        "554 192.0.2.1 is listed at our zone",
        "554 listed by a zone",
        "554 192.0.2.1 is listed in our zone",
        "554 listed on a zone",
        "554 poor reputation of your network",
        "554 ask senderscore.example",
        "554 your sender score is low",
        "550 banned sending host",
        "421 all mail will be permanently deferred",
        "554 IP blocked",
        "554 this IP is blocked",
        "554 your IP has been blocked",
        "554 your IP address has been blocked",
        "554 sender blocked",
        "554 blocked due to what we saw",
        "554 blocked because we say so",
        "421 temporarily deferred, user complaints about spam",
        "421 deferred for unexpected volume",
        "450 rate limit reached",
        "450 you are rate-limited",
        "451 Ratelimit exceeded",
        "421 mail at an unusual rate",
        "450 your sending rate is above ours",
        "550 IP frequency limited",
        "421 throttled",
        "421 please slow down",
        "421 too many messages from you",
        "421 too many mails in one session",
        "421 too many emails today",
        "421 too many connections",
        "421 too many concurrent sessions",
        "421 connection limit reached",
        "421 limit of mails per session",
        "554 this is Spam",
        "550 likely unsolicited",
        "554 phishing suspected",
        "554 we take no junk mail",
        "554 message content refused",
        "554 content rejected",
        "550 mail content denied",
        "554 suspicious mail",
        "554 policy violation",
        "554 not taken for policy reasons",
        "550 refused by policy restrictions",
        "550 policy rejection 7",
        "554 local policy says no",
        "550 against our security policy",
        "550 refused due to policy",
        "550 that is against policy",
        "550 administrative prohibition",
        "550 administratively prohibited",
        "550 not accepting mail from you",
        "550 host refuses mail from you",
    ];

    #[test]
    fn every_phrase_has_a_text_that_it_decides() {
        assert_eq!(TEXTS.len(), PATTERNS.len());
        for (pattern, text) in PATTERNS.iter().zip(TEXTS) {
            let lower = text.to_ascii_lowercase();
            assert_eq!(strongest(lower.as_bytes()).map(|found| found.text), Some(pattern.text), "{text}");
            assert_eq!(classify(BOUNCE, "", text), pattern.refusal.map(Refusal::name), "{text}");
        }
    }

    #[test]
    fn phrases_are_lower_case_and_none_hides_a_later_one() {
        for (at, pattern) in PATTERNS.iter().enumerate() {
            assert_eq!(pattern.text, pattern.text.to_ascii_lowercase());
            assert!(!pattern.text.is_empty());
            // A later phrase that holds this one could never decide.
            for later in &PATTERNS[at + 1..] {
                assert!(
                    pattern.whole || !later.text.starts_with(pattern.text),
                    "{} hides {}",
                    pattern.text,
                    later.text
                );
            }
        }
    }

    #[test]
    fn a_phrase_counts_only_where_a_word_begins_and_a_code_only_as_a_word() {
        for text in ["nospam", "xs3150", "s31500", "rblx", "a1dmarc", "dkim2", "antispamhaus"] {
            assert_eq!(classify(BOUNCE, "", text), None, "{text}");
        }
        for text in ["no-spam", "(S3150)", "x[cs01]", "spammy", "dkim=fail", "_DMARC"] {
            assert!(classify(BOUNCE, "", text).is_some(), "{text}");
        }
    }

    #[test]
    fn only_the_beginning_of_a_long_text_is_read() {
        let padded = |bytes: usize| format!("{} blocklist", " ".repeat(bytes));
        assert_eq!(classify(BOUNCE, "", &padded(LOOKED_AT - 10)), Some("reputation"));
        assert_eq!(classify(BOUNCE, "", &padded(LOOKED_AT - 9)), None);
        // The cut may fall into a character.
        assert_eq!(classify(BOUNCE, "", &format!("spam {}", "é".repeat(1_000))), Some("content"));
        assert_eq!(classify(BOUNCE, &"é".repeat(1_000), ""), None);
    }

    #[test]
    fn names_are_stable() {
        let names: Vec<&str> = Refusal::ALL.map(Refusal::name).into();
        assert_eq!(names, ["policy", "throttle", "reputation", "content", "authentication"]);
        assert!(Refusal::ALL.is_sorted());
    }

    /// Words and codes that meet in answers.
    fn answer() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("5.7.1"),
            Just("4.7.0"),
            Just("5.1.1"),
            Just("421"),
            Just("550-"),
            Just("greylisted"),
            Just("spam"),
            Just("user unknown"),
            Just("[TSS04]"),
            Just("blocklist"),
            Just("."),
            Just("x"),
        ];
        proptest::collection::vec(word, 0..6).prop_map(|words| words.join(" "))
    }

    proptest! {
        #[test]
        fn any_texts_have_a_class_or_none_whatever_their_case(
            word in any::<String>(), status in any::<Option<String>>(), diagnostic in any::<Option<String>>(),
        ) {
            let bounce = SignalKind::Bounce { bounce_type: &word, sub_type: &word };
            for kind in [bounce, SignalKind::Delay { delay_type: &word }] {
                let signal = Signal { kind, status: status.as_deref(), diagnostic: diagnostic.as_deref() };
                let shouted = diagnostic.as_ref().map(|text| text.to_ascii_uppercase());
                let loud = Signal { diagnostic: shouted.as_deref(), ..signal };
                prop_assert_eq!(Refusal::classify(signal), Refusal::classify(loud));
            }
        }

        #[test]
        fn case_and_what_follows_the_limit_make_no_difference(text in answer(), tail in any::<String>()) {
            let expected = classify(BOUNCE, "", &text);
            prop_assert_eq!(classify(BOUNCE, "", &text.to_ascii_uppercase()), expected);
            prop_assert_eq!(classify(BOUNCE, "", &format!("{text:LOOKED_AT$}{tail}")), expected);
        }

        #[test]
        fn the_index_finds_what_a_search_for_each_phrase_finds(
            text in "[a-z \\[-]{0,6}", at in 0..TEXTS.len(), other in 0..TEXTS.len(),
        ) {
            let text = format!("{text}{} {}", TEXTS[at], TEXTS[other]).to_ascii_lowercase();
            let one_by_one = PATTERNS.iter().find(|pattern| {
                text.match_indices(pattern.text).any(|(start, _)| {
                    let before = text[..start].bytes().last().unwrap_or(b' ');
                    stands_at(pattern, before, &text.as_bytes()[start..])
                })
            });
            prop_assert_eq!(strongest(text.as_bytes()).map(|p| p.text), one_by_one.map(|p| p.text));
        }
    }
}
