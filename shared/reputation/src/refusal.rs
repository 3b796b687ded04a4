//! Decides whether a bounce or a delay means that the ISP refuses or throttles *the sender*. If so, it is a `block`,
//! the earliest sign of trouble.
//!
//! Three sources are checked, the most reliable first; each may decide:
//!
//! 1. **SES's own classification.** A delay `SpamDetected` or `IPFailure` and a bounce `ContentRejected` are blocks.
//!    Suppression, `MailboxFull`, `CustomTimeoutExceeded` (the sender's own time limit), `SendingDeferral` (SES pacing
//!    itself) and other types that concern no ISP or a single mailbox are not blocks, whatever else the event contains.
//! 2. **The server's answer** in `diagnosticCode`, by a table of phrases. Each phrase has a topic, and of two in one
//!    answer the stronger decides:
//!
//!    1. a greylist: not a block, although servers use x.7.1 for it;
//!    2. the sender, definitely ("blocked using", `S3150`, "sender address rejected"): a block whatever the status,
//!       because servers send x.1.1 and 5.0.0 with such words, too;
//!    3. the recipient's mailbox, the route to it, or a fault of the server itself: not a block, whatever the status;
//!    4. words that refuse, but also occur in other answers ("spam", "blocked", "rate limit"): a block, unless the
//!       status is about the address (x.1.1 and similar) and none is x.7.n;
//!    5. a standard sentence ("mailbox unavailable", "service unavailable"): not a block, whatever the status.
//! 3. **The enhanced status** (RFC 3463, IANA *SMTP Enhanced Status Codes*), if no phrase is found: from `status` and
//!    from the text, where SES quotes the last answer of a server after its own `4.4.7`. x.7.n is a block, except for
//!    those n that are about one mailbox or about the cryptography of the connection.
//!
//! **A 421 alone is not a block.** It means that the server is about to close the connection (RFC 5321 section 3.8),
//! for any reason: `421 4.4.1` is a server that cannot be reached. With status 4.7.n or a phrase of refusal it is a
//! block.
//!
//! **A failed SPF, DKIM or DMARC check is a block**, although the sender has to fix it: the ISP refuses this sender's
//! mail in general, and every further mail is refused, too.
//!
//! **One recipient's own list of senders is not a block, an organisation's is**: the first does not affect mail to
//! other recipients.
//!
//! Deliberately absent: the reply code alone (550 and 554 can mean anything). Words in addresses, host names and links
//! do not count, except names of block lists and similar.
//!
//! **Invariant:** total, without allocation, and at most [`LOOKED_AT`] bytes of a text are read.

mod patterns;

use self::patterns::{About, PATTERNS, Pattern};

/// How much of a status or a diagnostic text is read, in bytes. SES passes on answers of any length.
pub const LOOKED_AT: usize = 1_000;

/// How an ISP refuses a sender. The names are stable and may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// A rule of the ISP, without a more specific reason (5.7.n).
    Policy,
    /// Too much mail, or too fast: try again later (4.7.n, rate limits).
    Throttle,
    /// The reputation of the IP address, or of something unspecified.
    Reputation,
    /// The message looks like spam.
    Content,
    /// SPF, DKIM, DMARC, reverse DNS or the HELO name failed a check.
    Authentication,
    /// The IP address or its network is on a block list, the ISP's own or a public one.
    Listing,
    /// The reputation or a listing of the sender's domain, or of domains that the message links to.
    DomainReputation,
    /// The sender's own mailbox or address is not accepted.
    Sender,
}

impl Refusal {
    /// Every class, in a stable order.
    pub const ALL: [Self; 8] = [
        Self::Policy,
        Self::Throttle,
        Self::Reputation,
        Self::Content,
        Self::Authentication,
        Self::Listing,
        Self::DomainReputation,
        Self::Sender,
    ];

    /// The stable name, for storage and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Throttle => "throttle",
            Self::Reputation => "reputation",
            Self::Content => "content",
            Self::Authentication => "authentication",
            Self::Listing => "listing",
            Self::DomainReputation => "domain_reputation",
            Self::Sender => "sender",
        }
    }

    /// For people, to complete "the ISP …".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Policy => "refuses the mail by its policy",
            Self::Throttle => "slows the sender down",
            Self::Reputation => "distrusts the sender's IP address",
            Self::Content => "takes the messages for spam",
            Self::Authentication => "cannot verify the sender",
            Self::Listing => "has the sender's IP address on a block list",
            Self::DomainReputation => "distrusts the sender's domain",
            Self::Sender => "does not accept the sender's address",
        }
    }

    /// Whether the IP address is refused. SES excludes such bounces from its bounce rate (*Sending review process
    /// FAQs*: "bounces due to blocked IP addresses" do not count).
    pub const fn is_of_ip(self) -> bool {
        match self {
            Self::Reputation | Self::Listing => true,
            Self::Policy
            | Self::Throttle
            | Self::Content
            | Self::Authentication
            | Self::DomainReputation
            | Self::Sender => false,
        }
    }

    /// The class of refusal of a bounce or delay, or `None` if it is not a refusal.
    ///
    /// ```
    /// use reputation::refusal::{Refusal, Signal, SignalKind};
    /// let kind = SignalKind::Bounce { bounce_type: "Permanent", sub_type: "General" };
    /// let blocked = Signal { kind, status: Some("5.7.1"), diagnostic: Some("smtp; 550 5.7.1 blocked using a list") };
    /// assert_eq!(Refusal::classify(blocked), Some(Refusal::Listing));
    /// let unknown = Signal { kind, status: Some("5.1.1"), diagnostic: Some("smtp; 550 5.1.1 user unknown") };
    /// assert_eq!(Refusal::classify(unknown), None);
    /// ```
    pub fn classify(signal: Signal<'_>) -> Option<Self> {
        let opinion = signal.kind.opinion();
        if opinion == Opinion::NoRefusal {
            return None;
        }
        let mut buffer = [0; LOOKED_AT];
        let text = normal(signal.diagnostic.unwrap_or_default(), &mut buffer);
        let about = strongest(text).map(|pattern| pattern.about);
        let by_words = about.and_then(About::refusal);
        if let Opinion::Refusal(by_default) = opinion {
            return Some(by_words.unwrap_or(by_default));
        }
        match about {
            Some(About::Sender(class)) => Some(class),
            Some(About::Greylist | About::Mailbox | About::Route | About::Server | About::Stock) => None,
            Some(About::Hint(_)) | None => by_status(signal.status.unwrap_or_default(), text, by_words),
        }
    }
}

/// The class from the status, in the field and in the text, and from a hint in the words.
fn by_status(field: &str, text: &[u8], hint: Option<Refusal>) -> Option<Refusal> {
    let field = field.as_bytes();
    let field = field.get(..LOOKED_AT).unwrap_or(field);
    let mut refusal: Option<Reading> = None;
    let mut about_address = false;
    for status in Statuses(field).chain(Statuses(text)) {
        refusal = refusal.or(status.refusal());
        about_address |= status.is_about_address();
    }
    match (refusal, hint) {
        // 5.7.606 with "access denied" is a listing.
        (Some(Reading { class, exact: true }), Some(Refusal::Policy | Refusal::Throttle)) => Some(class),
        (Some(_), Some(hint)) => Some(hint),
        (Some(Reading { class, exact: _ }), None) => Some(class),
        (None, _) if about_address => None,
        (None, hint) => hint,
    }
}

/// The part of an event about one recipient, borrowed from the event.
#[derive(Clone, Copy, Debug)]
pub struct Signal<'a> {
    /// Bounce or delay, with SES's classification.
    pub kind: SignalKind<'a>,
    /// `status` of the recipient: an enhanced status code such as `5.7.1`.
    pub status: Option<&'a str>,
    /// `diagnosticCode` of the recipient: `smtp; ` and the server's answer.
    pub diagnostic: Option<&'a str>,
}

/// The kind of event, with SES's types. They are open sets, and compared without regard to case.
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

/// What follows from SES's own classification.
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
        /// Nothing reached the ISP, or SES found that its answer is about one mailbox or one message.
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
            // The type is not relevant: a refusal can be Permanent, Transient or Undetermined.
            SignalKind::Bounce { bounce_type: _, sub_type } => {
                (sub_type, NOT_THE_SENDER, &[("ContentRejected", Refusal::Content)][..])
            }
            SignalKind::Delay { delay_type } => (
                delay_type,
                NO_DELAY_BY_THE_ISP,
                // Both are about the sender, not about one message: much unsolicited mail from it, or its IP address
                // blocked or throttled (SES Developer Guide, *Contents of event data*).
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

/// A refusal derived from a status.
#[derive(Clone, Copy)]
struct Reading {
    class: Refusal,
    /// Whether this specific number means it, not just x.7.
    exact: bool,
}

/// An enhanced status of class 4 or 5.
#[derive(Clone, Copy)]
struct Status {
    class: u8,
    subject: u16,
    detail: u16,
}

impl Status {
    /// The refusal of an x.7.n, by IANA's list, with the meanings at Google and Microsoft where they differ.
    fn refusal(self) -> Option<Reading> {
        if self.subject != 7 {
            return None;
        }
        let exact = |class| Some(Reading { class, exact: true });
        let vague = |class| Some(Reading { class, exact: false });
        match self.detail {
            // 2 one mailing list; 3 to 6 and 10 to 12 cryptography and encryption; 8 a log-in; 13 a disabled account;
            // 14 to 16 submission, priority; 17 and 18 the mailbox or domain changed hands, 19 could not be checked
            // (RFC 7293).
            2..=6 | 8 | 10..=19 => None,
            // 7 integrity, at Zoho a rule; 9 at Yahoo a failed DMARC check, or another of its rules.
            7 | 9 => vague(Refusal::Authentication),
            // 20 to 26 DKIM, SPF, reverse DNS (RFC 7372); 27 a sender domain with a null MX (RFC 7505), at
            // Google SPF; 29 ARC, at Google a connection without TLS; 30 to 32 and 40 DKIM and DMARC at Google; 506 a
            // bad HELO name, 509 and 515 DMARC at Microsoft.
            20..=27 | 29..=32 | 40 | 506 | 509 | 515 => exact(Refusal::Authentication),
            // "Mail flood detected"; at Microsoft 508 too much from one range, 652 too many connections.
            28 | 508 | 652 => exact(Refusal::Throttle),
            // Microsoft: 51 the recipient's partner connector; 57, 64 relaying; 124 to 136 groups and mailboxes that
            // restrict their senders; 320 to 325 encryption; 504, 505 the recipient's address; 507 a recipient's own
            // setting.
            51 | 57 | 64 | 124..=136 | 320..=325 | 504 | 505 | 507 => None,
            // Microsoft: banned IP addresses.
            511 | 606..=649 => exact(Refusal::Listing),
            // Microsoft: 650 and 651 slow an IP address down for its reputation, 708 refuses it.
            650 | 651 | 708 => exact(Refusal::Reputation),
            _ if self.class == 4 => vague(Refusal::Throttle),
            _ => vague(Refusal::Policy),
        }
    }

    /// The address is wrong or moved (x.1.n), the mailbox is closed or full (x.2.n).
    fn is_about_address(self) -> bool {
        matches!((self.subject, self.detail), (1, 1..=3 | 6 | 10) | (2, 1 | 2))
    }
}

/// Every `d.ddd.ddd` of class 4 or 5 in a text; parts of an IP address or of a longer number do not count.
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

/// The first bytes of a text in lower case, on one line: single blanks, [`IP`] for IP addresses, and without the reply
/// codes and repeated statuses with which the lines of one answer begin (`550-5.7.1 …`), because a phrase may continue
/// on the next line.
fn normal<'a>(text: &str, buffer: &'a mut [u8; LOOKED_AT]) -> &'a [u8] {
    let text = text.as_bytes();
    let text = text.get(..LOOKED_AT).unwrap_or(text);
    let (mut at, mut length, mut new_line) = (0, 0, false);
    let mut seen: Option<&[u8]> = None;
    while let Some(&byte) = text.get(at) {
        if byte.is_ascii_whitespace() {
            new_line |= byte == b'\r' || byte == b'\n';
            at += 1;
            if length > 0 && buffer[length - 1] != b' ' {
                buffer[length] = b' ';
                length += 1;
            }
            continue;
        }
        if length == 0 || buffer[length - 1] == b' ' {
            at += line_head(&text[at..], new_line, &mut seen);
            new_line = false;
            // A head is followed by a word, or by the next space.
            if text.get(at).is_none_or(u8::is_ascii_whitespace) {
                continue;
            }
        }
        let before = length.checked_sub(1).map_or(b' ', |last| buffer[last]);
        if (text[at].is_ascii_hexdigit() || text[at] == b':')
            && !(before.is_ascii_alphanumeric() || matches!(before, b'.' | b'-' | b'_' | b':' | b'/' | b'@'))
            && let Some(end) = ip_address(&text[at..])
        {
            // A bracketed IP address is a separate word: `mx.host.example[192.0.2.1]` is two words.
            if let (b'[', Some(b']')) | (b'(', Some(b')')) | (b'<', Some(b'>')) = (before, text.get(at + end)) {
                let apart = length > 1 && buffer[length - 2] != b' ';
                buffer[length - 1] = b' ';
                length -= usize::from(!apart);
                at += 1;
            }
            buffer[length..length + IP.len()].copy_from_slice(IP);
            length += IP.len();
            at += end;
            continue;
        }
        buffer[length] = text[at].to_ascii_lowercase();
        length += 1;
        at += 1;
    }
    &buffer[..length]
}

/// Stands for every IP address in a normalised text, so that phrases can name one.
const IP: &[u8] = b"#ip";

/// How many bytes at the beginning of a text are an IP address, longer than [`IP`].
fn ip_address(text: &[u8]) -> Option<usize> {
    let run = |allowed: fn(&u8) -> bool| text.iter().position(|b| !allowed(b)).unwrap_or(text.len());
    let end = run(|b| b.is_ascii_hexdigit() || *b == b':');
    let colons = text[..end].iter().filter(|b| **b == b':').count();
    // A time of day has two colons.
    if colons > 3 || (colons > 1 && end > IP.len() && text[..end].windows(2).any(|two| two == b"::")) {
        return Some(end);
    }
    let digits = run(|b| b.is_ascii_digit() || *b == b'.');
    // The last dot may be a full stop.
    let end = text[..digits].strip_suffix(b".").map_or(digits, <[u8]>::len);
    let mut parts = 0;
    for part in text[..end].split(|b| *b == b'.') {
        number(part)?;
        parts += 1;
    }
    let ends = text.get(digits).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'-' && *b != b'_');
    (parts == 4 && ends).then_some(end)
}

/// How many bytes of a text, where a word begins, only continue an answer: a reply code at the beginning of a line, or
/// anywhere with a status that was seen before. Remembers the first status after a reply code.
fn line_head<'a>(text: &'a [u8], new_line: bool, seen: &mut Option<&'a [u8]>) -> usize {
    let [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', b'-' | b' ', rest @ ..] = text else { return 0 };
    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    let word = &rest[..end];
    match *seen {
        Some(status) if status == word => 4 + word.len(),
        None if self::status(word).is_some() => {
            *seen = Some(word);
            0
        }
        Some(_) | None => usize::from(new_line) * 4,
    }
}

/// Ends a chain of [`INDEX`].
const END: u16 = u16::MAX;

/// The number of chains of [`INDEX`], a power of two.
const CHAINS: usize = 4_096;

/// The chain of the patterns that begin with three bytes.
const fn chain(first: u8, second: u8, third: u8) -> usize {
    ((first as usize) << 7 ^ (second as usize) << 4 ^ third as usize) % CHAINS
}

/// The patterns by their first three bytes: the start of each chain, and the successor of each pattern. A chain is in
/// order of precedence.
const INDEX: ([u16; CHAINS], [u16; PATTERNS.len()]) = {
    assert!(PATTERNS.len() < END as usize);
    let mut first = [END; CHAINS];
    let mut next = [END; PATTERNS.len()];
    let mut at = PATTERNS.len();
    while at > 0 {
        at -= 1;
        // The order of the table is the order of precedence, so it must be sorted by strength.
        assert!(at == 0 || PATTERNS[at - 1].about.strength() >= PATTERNS[at].about.strength());
        // The index needs three literal bytes.
        assert!(PATTERNS[at].head >= 3);
        let bytes = PATTERNS[at].text.as_bytes();
        let chain = chain(bytes[0], bytes[1], bytes[2]);
        next[at] = first[chain];
        first[chain] = at as u16;
    }
    (first, next)
};
static FIRST: [u16; CHAINS] = INDEX.0;
static NEXT: [u16; PATTERNS.len()] = INDEX.1;

/// What a pattern is in at a position of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Words,
    /// In a host name or a link.
    Name,
    /// In a mail address.
    Address,
}

/// The pattern of highest precedence in a normalised text; patterns match only at the beginning of a word.
fn strongest(text: &[u8]) -> Option<&'static Pattern> {
    let mut best = END;
    let mut before = b' ';
    for (at, three) in text.windows(3).enumerate() {
        let &[byte, second, third] = three else { break };
        // No pattern begins inside a word.
        let inside = before.is_ascii_alphanumeric() && byte.is_ascii_alphanumeric();
        let mut candidate = if inside { END } else { FIRST[chain(byte, second, third)] };
        // Only a pattern that is stronger than the best so far is compared; the chain's end is weaker than any.
        while candidate < best {
            let pattern = &PATTERNS[usize::from(candidate)];
            if stands_at(pattern, &text[at..]) && counts_in(pattern, place(text, at)) {
                best = candidate;
            }
            candidate = NEXT[usize::from(candidate)];
        }
        before = byte;
    }
    PATTERNS.get(usize::from(best))
}

/// Whether a position is between words, names and addresses. A colon is, except in `http://`.
fn is_gap(text: &[u8], at: usize) -> bool {
    match text.get(at) {
        Some(b' ' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b'"' | b',' | b';' | b'\'') | None => true,
        Some(b':') => text.get(at + 1) != Some(&b'/'),
        Some(_) => false,
    }
}

/// What is at a position of a text: a word, a name (`mx.corp.example`, `https://…`) or an address. `5.7.1` and `limit.`
/// are words, and so is a gap.
fn place(text: &[u8], at: usize) -> Place {
    let token = (0..=at).rev().find(|&before| is_gap(text, before)).map_or(0, |gap| gap + 1);
    if at < token {
        return Place::Words;
    }
    let end = (at..text.len()).find(|&after| is_gap(text, after)).unwrap_or(text.len());
    let token = &text[token..end];
    if token.contains(&b'@') {
        return Place::Address;
    }
    let is_name = token.windows(3).any(|three| match three {
        [before, b'.', after] => before.is_ascii_alphanumeric() && after.is_ascii_alphabetic(),
        three => three == b"://",
    });
    if is_name { Place::Name } else { Place::Words }
}

fn counts_in(pattern: &Pattern, place: Place) -> bool {
    match place {
        Place::Words => true,
        Place::Name => pattern.in_name,
        Place::Address => pattern.text.contains('@'),
    }
}

/// Whether a text begins with a pattern.
fn stands_at(pattern: &Pattern, text: &[u8]) -> bool {
    text.starts_with(&pattern.text.as_bytes()[..pattern.head])
        && end_of(pattern, text)
            .is_some_and(|end| !(pattern.whole && text.get(end).is_some_and(u8::is_ascii_alphanumeric)))
}

/// Where a pattern ends in a text that begins with its head. A `*` extends at most to the next space.
fn end_of(pattern: &Pattern, text: &[u8]) -> Option<usize> {
    let Some((_, tail)) = pattern.text.as_bytes()[pattern.head..].split_first() else { return Some(pattern.head) };
    let mut at = pattern.head;
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with(tail) {
            return Some(at + tail.len());
        }
        if *rest.first()? == b' ' {
            return None;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::patterns::Source;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const BOUNCE: SignalKind<'_> = SignalKind::Bounce { bounce_type: "Permanent", sub_type: "General" };
    const DELAY: SignalKind<'_> = SignalKind::Delay { delay_type: "General" };

    fn classify(kind: SignalKind<'_>, status: &str, diagnostic: &str) -> Option<&'static str> {
        // SES omits fields without a value.
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

    /// Classifies a server's answer as a bounce and as a delay, with and without the status that SES copies from it.
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
        bounced("ContentRejected", "5.7.1", "smtp; 554 5.7.1 host is on a blocklist", Some("listing"));
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
            Some("domain_reputation"),
        );
        answered(
            "5.7.1",
            "smtp; 550 5.7.1 Mail from [192.0.2.1] was not sent; our list names you (S3150).",
            Some("listing"),
        );
        answered(
            "5.7.1",
            "smtp; 550 5.7.1 Mail from [192.0.2.1] was not sent (S3140). [AB1.eur.example]",
            Some("listing"),
        );
        answered("", "smtp; 550 OU-002 Mail from your network was refused", Some("listing"));
        answered("", "smtp; 421 RP-001 This address sends more than its share", Some("throttle"));
        answered("5.7.511", "smtp; 550 5.7.511 No access for this sender AS(1410)", Some("listing"));
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
    fn what_concerns_the_mailbox_or_the_route_is_not_a_block() {
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
        // Only the server's text has it: SES copied another status.
        answered("5.1.1", "smtp; 550 5.7.1 you are not welcome", Some("policy"));
    }

    #[test]
    fn a_status_of_security_is_a_block_but_for_mailboxes_and_cryptography() {
        let by_status = |status: &str| classify(BOUNCE, status, "");
        // Consecutive numbers of one class as `first-last class`.
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
        20-27 authentication, 28-28 throttle, 29-32 authentication, 33-39 policy, 40-40 authentication, 41-50 policy
        51-51 none, 52-56 policy, 57-57 none, 58-63 policy, 64-64 none, 65-123 policy
        124-136 none, 137-319 policy, 320-325 none, 326-503 policy, 504-505 none, 506-506 authentication
        507-507 none, 508-508 throttle, 509-509 authentication, 510-510 policy, 511-511 listing, 512-514 policy
        515-515 authentication, 516-605 policy, 606-649 listing, 650-651 reputation, 652-652 throttle, 653-707 policy
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

    /// Short answers, and their class.
    const TEXTS: &[(&str, Option<&str>)] = &[
        ("450 Greylisted, wait five minutes", None),
        ("451 graylisting in action", None),
        ("450 you are grey-listed", None),
        ("450 gray-listed for now", None),
        ("451 on our grey list", None),
        ("451 on our gray list", None),
        ("450 see postgrey.example", None),
        ("421 [GL01] mail from you waits", None),
        ("550 User unknown in our table", None),
        ("550 an unknown user, bob", None),
        ("550 Unknown recipient: bob", None),
        ("550 recipient unknown here", None),
        ("550 No such user, sorry", None),
        ("550 there is no such recipient", None),
        ("553 no such mailbox on this host", None),
        ("550 bob has no mailbox here", None),
        ("550 User not found: bob", None),
        ("550 recipient not found by look-up", None),
        ("550 this user does not exist", None),
        ("550 the account does not exist any more", None),
        ("550 that address does not exist", None),
        ("550 mailbox does not exist", None),
        ("550 Recipient does not exist", None),
        ("550 action not taken: mailbox unavailable", None),
        ("550 Mailbox not found", None),
        ("554 mailbox disabled for now", None),
        ("554 account disabled (#1)", None),
        ("554 that account is disabled", None),
        ("452 Mailbox full", None),
        ("452 the mailbox is full", None),
        ("452 mailbox has too many messages", None),
        ("452 mailbox contains too many messages", None),
        ("452 bob is over quota", None),
        ("552 OverQuota", None),
        ("552 storage quota exceeded", None),
        ("550 bob not listed in directory", None),
        ("550 Recipient address rejected: Access denied. AS(2)", None),
        ("550 rejected by recipient's own rule", None),
        ("550 you were blocked by recipient", None),
        ("550 the recipient has blocked you", None),
        ("550 recipient not authorised", None),
        ("550 restricted to authenticated guests", None),
        ("550 you are not allowed to post here", None),
        ("550 not permitted to post to staff", None),
        ("550 you are not authorized to send to staff", None),
        ("550 not permitted to send to this group", None),
        ("554 Relay access denied", None),
        ("550 relaying denied, proper log-in needed", None),
        ("550 unable to relay for bob", None),
        ("550 relay not permitted!", None),
        ("550 mail was not sent (S3140)", Some("listing")),
        ("550 mail was not sent (S3150)", Some("listing")),
        ("550 OU-001 refused", Some("listing")),
        ("550 DY-001 a dynamic address", Some("listing")),
        ("550 SC-001 refused for what it says", Some("content")),
        ("421 RP-002 more than your share", Some("throttle")),
        ("550 no access AS(1430)", Some("listing")),
        ("421 [TS03] nothing will pass", Some("reputation")),
        ("421 [TS01] mail waits", Some("throttle")),
        ("421 [TSS04] mail waits", Some("throttle")),
        ("553 [IPTS04] connections end here", Some("reputation")),
        ("554 [PH01] not taken", Some("policy")),
        ("554 [CS01] refused", Some("policy")),
        ("554 [HM08] refused", Some("policy")),
        ("554 a problem: write to tosa@rx.t-online.example", Some("reputation")),
        ("421 OFR004_104 [104] later", Some("throttle")),
        ("550 OFR_506 [506] service refused", Some("content")),
        ("421 RL000001 wait", Some("throttle")),
        ("554 BL000010 closed to you", Some("listing")),
        ("554 CXBL closed to you", Some("listing")),
        ("553 ldap:ou=rblmx says no", Some("listing")),
        ("554 AUP#1260 closed to you", Some("policy")),
        ("554 DT:SPM mx1", Some("content")),
        ("451 RP:CEL mx1", Some("throttle")),
        ("451 RP:QRC mx1", Some("throttle")),
        ("451 RP:TRC mx1", Some("throttle")),
        ("550 blocked because DMARC failed", Some("authentication")),
        ("550 no DKIM that holds, listed at our side", Some("authentication")),
        ("550 SPF: -all, so it is spam", Some("authentication")),
        ("550 unauthenticated mail ends here", Some("authentication")),
        ("550 no reverse DNS for your host", Some("authentication")),
        ("550 your rDNS is missing", Some("authentication")),
        ("550 FCrDNS mismatch", Some("authentication")),
        ("550 your host has no PTR record", Some("authentication")),
        ("554 client host blocked using a zone", Some("listing")),
        ("554 host is blacklisted", Some("listing")),
        ("554 found in a black list", Some("listing")),
        ("554 you are black-listed", Some("listing")),
        ("554 on our blocklist", Some("listing")),
        ("550 part of their network is on a block list", Some("listing")),
        ("554 a block-list says so", Some("listing")),
        ("554 on the denylist", Some("listing")),
        ("554 ask www.spamhaus.example", Some("listing")),
        ("554 ask bl.spamcop.example", Some("listing")),
        ("554 ask barracudacentral.example", Some("listing")),
        ("554 DNSBL: 192.0.2.1", Some("listing")),
        ("554 RBL restriction", Some("listing")),
        ("554 192.0.2.1 is listed at our zone", Some("listing")),
        ("554 listed by a zone", Some("listing")),
        ("554 192.0.2.1 is listed in our zone", Some("listing")),
        ("554 listed on a zone", Some("listing")),
        ("554 poor reputation of your network", Some("reputation")),
        ("554 ask senderscore.example", Some("listing")),
        ("554 your sender score is low", Some("reputation")),
        ("550 banned sending host", Some("listing")),
        ("421 all mail will be permanently deferred", Some("reputation")),
        ("554 IP blocked", Some("listing")),
        ("554 this IP is blocked", Some("listing")),
        ("554 your IP has been blocked", Some("listing")),
        ("554 your IP address has been blocked", Some("listing")),
        ("554 sender blocked", Some("policy")),
        ("554 blocked due to what we saw", Some("policy")),
        ("554 blocked because we say so", Some("policy")),
        ("421 temporarily deferred, user complaints about spam", Some("throttle")),
        ("421 deferred for unexpected volume", Some("throttle")),
        ("450 rate limit reached", Some("throttle")),
        ("450 you are rate-limited", Some("throttle")),
        ("451 Ratelimit exceeded", Some("throttle")),
        ("421 mail at an unusual rate", Some("throttle")),
        ("450 your sending rate is above ours", Some("throttle")),
        ("550 IP frequency limited", Some("throttle")),
        ("421 throttled", Some("throttle")),
        ("421 please slow down", Some("throttle")),
        ("421 too many messages from you", Some("throttle")),
        ("421 too many mails in one session", Some("throttle")),
        ("421 too many emails today", Some("throttle")),
        ("421 too many connections", Some("throttle")),
        ("421 too many concurrent sessions", Some("throttle")),
        ("421 connection limit reached", Some("throttle")),
        ("421 limit of mails per session", Some("throttle")),
        ("554 this is Spam", Some("content")),
        ("550 likely unsolicited", Some("content")),
        ("554 phishing suspected", Some("content")),
        ("554 we take no junk mail", Some("content")),
        ("554 message content refused", Some("content")),
        ("554 content rejected", Some("content")),
        ("550 mail content denied", Some("content")),
        ("554 suspicious mail", Some("content")),
        ("554 policy violation", Some("policy")),
        ("554 not taken for policy reasons", Some("policy")),
        ("550 refused by policy restrictions", Some("policy")),
        ("550 policy rejection 7", Some("policy")),
        ("554 local policy says no", Some("policy")),
        ("550 against our security policy", Some("policy")),
        ("550 refused due to policy", Some("policy")),
        ("550 that is against policy", Some("policy")),
        ("550 administrative prohibition", Some("policy")),
        ("550 administratively prohibited", Some("policy")),
        ("550 not accepting mail from you", Some("policy")),
        ("550 host refuses mail from you", Some("policy")),
        // The same words in another order, or about another party.
        ("450 4.7.1 Message rate exceeded for your IP address", Some("throttle")),
        ("451 4.7.1 Please try again in 5 minutes", None),
        ("451 4.4.1 Connection refused by remote host", None),
        ("554 5.7.0 Must use encrypted connection", None),
        ("550 5.7.1 Sender not allowed to send to this group", None),
        ("550 5.7.1 You do not have permission to send to this recipient", None),
        ("550 5.7.1 Only members may post to this list", None),
        ("550 User has blocked your address", None),
        ("451 4.3.0 Spam filter temporarily unavailable", None),
        ("451 Temporary failure, virus scanner not available", None),
        ("451 4.7.1 DNSBL lookup failed, try again later", None),
        ("554 Sender domain listed in DBL", Some("domain_reputation")),
        ("550 5.7.1 Your host name does not match your IP address", Some("authentication")),
        ("553 5.1.8 Sender address does not exist", Some("sender")),
        ("521 5.7.1 mail.corp.example does not accept mail from you", Some("policy")),
        ("550 Recipient blacklisted", None),
        ("550 5.7.1 recipient address is on the blacklist", None),
        ("550 Dynamic IP addresses are not accepted", Some("listing")),
        ("554 Message refused, you are on a dynamic IP", Some("listing")),
        ("451 4.7.1 Deferred: unknown client, warm up your IP", Some("throttle")),
        ("550 5.7.1 Too many unknown recipients from your server", Some("throttle")),
        ("421 4.7.0 [192.0.2.1] Our system has detected an unusual amount of mail from your IP", Some("throttle")),
        ("450 4.2.1 The sender is sending too much mail", Some("throttle")),
        ("550 5.7.1 This message has been identified as bulk", Some("content")),
        ("554 5.7.1 Message contains prohibited content", Some("content")),
        ("550 5.7.1 Your address has been blocked", Some("sender")),
        ("553 5.7.1 Sender address is blacklisted", Some("sender")),
        ("550 5.1.8 Invalid return path", Some("sender")),
        ("550 5.7.1 We do not accept mail from this sender", Some("sender")),
        ("451 4.1.8 Could not verify the sender address", Some("sender")),
        ("550 Your message failed authentication", Some("authentication")),
        ("550 5.7.0 Email authentication failed", Some("authentication")),
        ("554 No SMTP service for you", Some("policy")),
        ("550 5.7.1 Domain has expired", None),
        // Other languages.
        ("421 Ihre IP-Adresse wurde gesperrt", Some("listing")),
        ("450 Zu viele E-Mails in zu kurzer Zeit eingeliefert, bitte später erneut versuchen", Some("throttle")),
        ("550 Ihre E-Mail wurde abgewiesen", Some("policy")),
        ("550 Annahme verweigert: SPF-Eintrag der Domain erlaubt diesen Server nicht", Some("authentication")),
        ("554 Wiadomosc oznaczona jako spam", Some("content")),
        ("450 Przekroczono limit wysylania poczty", Some("throttle")),
        ("550 Message refuse par la politique du serveur", Some("policy")),
        ("550 Votre adresse IP est sur liste noire", Some("listing")),
        ("421 Trop de messages envoyes, reessayez plus tard", Some("throttle")),
        ("550 Boîte aux lettres inexistante", None),
        ("550 Il tuo indirizzo IP e' in blacklist", Some("listing")),
        ("554 Messaggio respinto dal server", Some("policy")),
        ("550 Destinatario inesistente", None),
        ("554 Su IP se encuentra en una lista negra", Some("listing")),
        ("421 Demasiados mensajes, intente mas tarde", Some("throttle")),
        ("550 Mensaje bloqueado por politica de seguridad", Some("policy")),
        ("550 La cuenta no existe", None),
        ("554 Mensagem rejeitada pelo servidor", Some("policy")),
        ("554 Seu IP esta bloqueado", Some("listing")),
        ("450 Muitas mensagens, tente novamente mais tarde", Some("throttle")),
        ("550 A caixa do destinatario esta cheia", None),
        ("550 Usuario nao existe", None),
        ("554 Bericht geweigerd", Some("policy")),
        ("554 Uw IP-adres is geblokkeerd", Some("listing")),
        ("421 Te veel berichten, probeer later opnieuw", Some("throttle")),
        ("550 Gebruiker bestaat niet", None),
        ("550 Письмо отклонено как спам", Some("content")),
        ("554 Ваш IP заблокирован", Some("listing")),
        ("451 Слишком много писем, повторите позже", Some("throttle")),
        ("550 Пользователь не найден", None),
        ("552 Почтовый ящик переполнен", None),
        ("550 You have been blacklisted by the recipient", None),
        ("550 Sender rejected by the RBL zen.spamhaus.org", Some("listing")),
        ("554 Bad reputation, see https://www.spamhaus.org/query/ip/192.0.2.1", Some("listing")),
        ("554 Blocked, see https://www.spamhaus.org/query/domain/corp.example", Some("domain_reputation")),
        ("554 Your IP identified as spammer", Some("reputation")),
        ("550 Your mail server is an open relay", Some("reputation")),
        ("550 we are not an open relay", None),
        ("550 account deactivated due to abuse", None),
        ("550 recipient account locked for spamming", None),
        ("550 mailbox blocked", None),
        ("450 your server sends too much spam", Some("reputation")),
        ("421 max connections reached for your IP", Some("throttle")),
        ("451 daily message limit for your domain reached", Some("throttle")),
        ("450 quota of messages per hour exceeded for your IP", Some("throttle")),
        ("452 sender exceeded limit", Some("throttle")),
        ("451 mailbox may only receive 100 emails per hour", None),
        ("550 complaint rate too high", Some("reputation")),
        ("550 domain corp.example is on our blocklist", Some("domain_reputation")),
        ("550 host is on our denylist", Some("listing")),
        ("550 user does not accept external email", None),
        ("451 policy service unavailable", None),
    ];

    #[test]
    fn every_text_has_its_class() {
        let read = TEXTS.iter().map(|&(text, right)| (text, right, classify(BOUNCE, "", text)));
        let wrong: Vec<_> = read.filter(|(_, right, found)| right != found).map(|row| format!("{row:?}")).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_phrase_decides_a_text_that_holds_no_other() {
        let decides = |pattern: &Pattern| {
            let text = format!("- {} -", pattern.text.replace('*', "x1"));
            strongest(text.as_bytes()).map(|found| found.text)
        };
        let hidden = PATTERNS.iter().map(|pattern| (decides(pattern), pattern.text));
        let hidden: Vec<_> = hidden.filter(|&(found, text)| found != Some(text)).collect();
        let hidden: Vec<_> = hidden.iter().map(|row| format!("{row:?}")).collect();
        assert!(hidden.is_empty(), "{}", hidden.join("\n"));
    }

    #[test]
    fn of_two_statements_in_one_answer_the_stronger_decides() {
        // A greylist before the sender.
        answered("4.7.1", "smtp; 450 4.7.1 greylisted for your poor reputation", None);
        // The sender before the mailbox, whatever the status.
        answered("5.1.1", "smtp; 550 5.1.1 user unknown; your host is blocked using a list", Some("listing"));
        answered("5.0.0", "smtp; 550 sender address rejected: user unknown", Some("sender"));
        answered("5.1.2", "smtp; 550 5.1.2 message rejected, spam content", Some("content"));
        // The mailbox, the route to it and the server before words that only hint.
        answered("5.7.1", "smtp; 550 5.7.1 account is disabled for spam", None);
        answered("5.7.1", "smtp; 554 5.7.1 loop detected, message rejected", None);
        answered("4.7.0", "smtp; 421 4.7.0 temporary server error: too many connections", None);
        // A hint before a standard sentence.
        answered("", "smtp; 550 Requested action not taken: mailbox unavailable, blocked", Some("policy"));
        answered("5.7.1", "smtp; 550 5.7.1 Requested action not taken: mailbox unavailable", None);
        // A standard sentence before the status.
        answered("4.7.1", "smtp; 451 4.7.1 Service unavailable, later please", None);
        // A status about the address overrules a hint.
        answered("5.1.1", "smtp; 550 5.1.1 spam", None);
        answered("5.2.1", "smtp; 550 5.2.1 refused due to spam", None);
        // A status that is more specific than a hint.
        answered("5.7.606", "smtp; 550 5.7.606 Access denied", Some("listing"));
    }

    #[test]
    fn names_and_addresses_are_no_words_but_names_of_lists_count() {
        for name in
            ["<spam@host.example>", "spam.host.example", "https://host.example/spam?rbl", "dmarc@blocklist.example"]
        {
            answered("", &format!("smtp; 550 {name} is not here"), None);
            answered("", &format!("smtp; 550 {name}: rate limit"), Some("throttle"));
        }
        answered("", "smtp; 550 see https://www.spamhaus.org/query/ip/192.0.2.1", Some("listing"));
        answered("", "smtp; 550 4.16.55.1", None);
    }

    #[test]
    fn an_ip_address_is_a_word_of_its_own_in_any_form() {
        for ip in [
            "192.0.2.1",
            "[192.0.2.1]",
            "<192.0.2.1>",
            "mail from (192.0.2.1)",
            "mx.host.example[192.0.2.1]",
            "ip=192.0.2.1",
            "[2001:db8::1]",
            "2001:db8:0:1:2:3:4:5",
        ] {
            answered("", &format!("smtp; 550 {ip} is on it"), Some("listing"));
            answered("", &format!("smtp; 550 {ip}\r\n550 has been listed."), Some("listing"));
        }
        for other in ["12:30:45", "192.0.2", "192.0.2.1.4", "192.0.2.1x", "x192.0.2.1", "1920.0.2.1", "dead:", "[]"] {
            answered("", &format!("smtp; 550 {other} is on it"), None);
        }
        // It is not a status.
        answered("", "smtp; 550 5.7.1.1. 5.7.1.2: [5.7.1.3]", None);
    }

    #[test]
    fn a_phrase_may_run_over_the_end_of_a_line() {
        for end in ["\r\n550-5.7.1 ", "\n550-5.7.1\t", "\n550 5.7.1 ", "\n550-", "\n  ", " 550-5.7.1 ", " "] {
            let text = format!("smtp; 550-5.7.1 very low reputation of the sending{end}domain");
            answered("", &text, Some("domain_reputation"));
        }
        // A different status in another line is kept, and so is the last answer that SES quotes.
        answered("", "smtp; 550-5.1.1 see below\n550 5.7.1 so", Some("policy"));
        answered("", "smtp; 550 5.7.1 for now.<550 5.7.1 so>", Some("policy"));
        answered("", "550-5.7.1", Some("policy"));
        answered("", "550 5.7.1\n550 5.7.1", Some("policy"));
        answered("", "x-unix; \r\n", None);
    }

    #[test]
    fn a_star_stands_for_one_word_or_the_rest_of_one() {
        answered("", "smtp; 550 IP 192.0.2.1 is blocked", Some("listing"));
        answered("", "smtp; 550 IP 192.0.2.1 of yours is", None);
        answered("", "smtp; 550 OFR006_103", Some("listing"));
        answered("", "smtp; 550 OFR_103", Some("listing"));
        answered("", "smtp; 550 OFR_1034", None);
        answered("", "smtp; 550 OFR006 x_103", None);
    }

    #[test]
    fn phrases_are_lower_case_and_none_hides_a_later_one() {
        for (at, pattern) in PATTERNS.iter().enumerate() {
            assert_eq!(pattern.text, pattern.text.to_ascii_lowercase());
            assert!(!pattern.text.is_empty());
            // A later phrase that contains this one could never decide.
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
    fn the_sources_of_phrases_are_of_every_kind() {
        for source in [Source::Postmaster, Source::Rfc, Source::Product, Source::Corpus] {
            assert!(PATTERNS.iter().any(|pattern| pattern.source == source), "{source:?}");
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
        assert_eq!(classify(BOUNCE, "", &padded(LOOKED_AT - 10)), Some("listing"));
        assert_eq!(classify(BOUNCE, "", &padded(LOOKED_AT - 9)), None);
        // The cut may be inside a character.
        assert_eq!(classify(BOUNCE, "", &format!("spam {}", "é".repeat(1_000))), Some("content"));
        assert_eq!(classify(BOUNCE, &"é".repeat(1_000), ""), None);
    }

    #[test]
    fn names_are_stable() {
        let names: Vec<&str> = Refusal::ALL.map(Refusal::name).into();
        let first = ["policy", "throttle", "reputation", "content", "authentication"];
        assert_eq!(names, [&first[..], &["listing", "domain_reputation", "sender"]].concat());
        assert!(Refusal::ALL.is_sorted());
        assert_eq!(Refusal::ALL.map(Refusal::words).iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn only_reputation_and_listing_are_of_the_ip_address() {
        let of_ip: Vec<Refusal> = Refusal::ALL.into_iter().filter(|class| class.is_of_ip()).collect();
        assert_eq!(of_ip, [Refusal::Reputation, Refusal::Listing]);
    }

    /// Words and codes that occur together in answers.
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
            text in "[a-z \\[-]{0,6}", at in 0..TEXTS.len(), phrase in 0..PATTERNS.len(),
            other in 0..TEXTS.len(),
        ) {
            let text = format!("{text}{} <b@{}.example> {}", TEXTS[at].0, PATTERNS[phrase].text, TEXTS[other].0);
            let text = text.to_ascii_lowercase();
            let text = text.as_bytes();
            let stands = |pattern: &Pattern, start: usize| {
                let before = if start == 0 { b' ' } else { text[start - 1] };
                let inside = before.is_ascii_alphanumeric() && text[start].is_ascii_alphanumeric();
                !inside && stands_at(pattern, &text[start..]) && counts_in(pattern, place(text, start))
            };
            let one_by_one = PATTERNS.iter().find(|pattern| (0..text.len()).any(|start| stands(pattern, start)));
            prop_assert_eq!(strongest(text).map(|p| p.text), one_by_one.map(|p| p.text));
        }
    }
}
