//! Guesses at who runs a domain's mail, from what servers say of themselves.

use std::collections::BTreeMap;

/// How much of a text is looked at, in bytes. Server replies have their host names early.
const LOOKED_AT: usize = 1_000;

/// Host name suffix → ISP name, sorted by host name: the MX hosts that providers tell their customers to enter (Google
/// Workspace Admin Help, *MX record values*; Microsoft Learn, *External DNS records for Microsoft 365*; and so on). Not
/// checked against live DNS; a wrong row makes a wrong proposal, which a person reads.
const HOSTS: &[(&str, &str)] = &[
    ("1and1.com", "ionos"),
    ("antispamcloud.com", "spamexperts"),
    ("antispameurope.com", "hornetsecurity"),
    ("barracudanetworks.com", "barracuda"),
    ("comcast.net", "comcast"),
    ("cox.net", "yahoo"),
    ("cudaops.com", "barracuda"),
    ("daum.net", "daum"),
    ("emailsrvr.com", "rackspace"),
    ("free.fr", "free"),
    ("gandi.net", "gandi"),
    ("gmx.net", "gmx"),
    ("google.com", "google-workspace"),
    ("googlemail.com", "google-workspace"),
    ("gpphosted.com", "proofpoint"),
    ("hornetsecurity.com", "hornetsecurity"),
    ("hostinger.com", "hostinger"),
    ("icloud.com", "apple"),
    ("infomaniak.ch", "infomaniak"),
    ("ionos.com", "ionos"),
    ("ionos.de", "ionos"),
    ("iphmx.com", "cisco"),
    ("kundenserver.de", "ionos"),
    ("mail.ru", "mail.ru"),
    ("messagelabs.com", "symantec"),
    ("messagingengine.com", "fastmail"),
    ("mimecast-offshore.com", "mimecast"),
    ("mimecast.co.za", "mimecast"),
    ("mimecast.com", "mimecast"),
    ("mxhichina.com", "alibaba-mail"),
    ("naver.com", "naver"),
    ("netease.com", "netease"),
    ("olc.protection.outlook.com", "microsoft"),
    ("orange.fr", "orange"),
    ("outlook.com", "microsoft-365"),
    ("ovh.net", "ovh"),
    ("ppe-hosted.com", "proofpoint"),
    ("pphosted.com", "proofpoint"),
    ("privateemail.com", "namecheap"),
    ("prodigy.net", "yahoo"),
    ("protonmail.ch", "proton"),
    ("qq.com", "qq"),
    ("registrar-servers.com", "namecheap"),
    ("rzone.de", "strato"),
    ("secureserver.net", "godaddy"),
    ("seznam.cz", "seznam"),
    ("sophos.com", "sophos"),
    ("t-online.de", "t-online"),
    ("trendmicro.com", "trend-micro"),
    ("trendmicro.eu", "trend-micro"),
    ("web.de", "web.de"),
    ("yahoodns.net", "yahoo"),
    ("yandex.net", "yandex"),
    ("yandex.ru", "yandex"),
    ("zoho.com", "zoho-workplace"),
    ("zoho.eu", "zoho-workplace"),
    ("zoho.in", "zoho-workplace"),
];

/// Who a text says is receiving: the name of a built-in ISP, from an SMTP response, a diagnostic text, a `reportingMTA`
/// or an MX host name, in any case.
///
/// The first host name in the first 1,000 bytes that lies at or below a known one decides; a domain after an `@` is
/// somebody's address and says nothing. Google signs its replies with the word `gsmtp` instead. A guess only: it feeds
/// [`Proposals`] and never classifies a unit.
///
/// ```
/// use reputation::isp::hint;
/// assert_eq!(hint("example-com.mail.protection.outlook.com"), Some("microsoft-365"));
/// assert_eq!(hint("dns; a8-50.smtp-out.amazonses.com"), None);
/// ```
pub fn hint(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    let mut rest = bytes;
    let mut before = b' ';
    loop {
        let length = rest.iter().position(|b| !is_host_byte(*b)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        if before != b'@'
            && let Some(provider) = provider_of(word)
        {
            return Some(provider);
        }
        (before, rest) = after.split_first().map(|(b, rest)| (*b, rest))?;
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

fn provider_of(word: &[u8]) -> Option<&'static str> {
    if word.eq_ignore_ascii_case(b"gsmtp") {
        return Some("google-workspace");
    }
    // A full stop may follow a host name.
    let mut rest = word.strip_suffix(b".").unwrap_or(word);
    while rest.contains(&b'.') {
        let lower = |b: &u8| b.to_ascii_lowercase();
        let found = HOSTS.binary_search_by(|(host, _)| host.bytes().cmp(rest.iter().map(lower)));
        if let Some((_, provider)) = found.ok().and_then(|at| HOSTS.get(at)) {
            return Some(provider);
        }
        let dot = rest.iter().position(|b| *b == b'.')?;
        rest = rest.get(dot + 1..)?;
    }
    None
}

/// The most domains that [`Proposals`] keeps.
pub const MAX_PROPOSED_DOMAINS: usize = 10_000;

/// What the hints say of the domains that no map knows, for a person to take into the policy.
///
/// Bounded: once [`MAX_PROPOSED_DOMAINS`] are known, further domains are only counted. Counts saturate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposals {
    domains: BTreeMap<Box<str>, BTreeMap<&'static str, u64>>,
    overlooked: u64,
}

/// One entry that the policy could hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal<'a> {
    /// The recipients' domain.
    pub domain: &'a str,
    /// The ISP that most hints for it named; of equals, the first by name.
    pub isp: &'static str,
    /// How many hints named it.
    pub count: u64,
    /// How many hints there were for the domain, this ISP's included: far above `count`, the answer is doubtful.
    pub hints: u64,
}

impl Proposals {
    /// Counts one hint for a domain in normal form. Give only domains that the map calls `other`: what is known needs
    /// no proposal.
    pub fn observe(&mut self, domain: &str, isp: &'static str) {
        if let Some(isps) = self.domains.get_mut(domain) {
            let count = isps.entry(isp).or_default();
            *count = count.saturating_add(1);
        } else if self.domains.len() < MAX_PROPOSED_DOMAINS {
            self.domains.insert(domain.into(), BTreeMap::from([(isp, 1)]));
        } else {
            self.overlooked = self.overlooked.saturating_add(1);
        }
    }

    /// The best proposal of each domain that at least `min_count` hints agree on, by domain.
    pub fn list(&self, min_count: u64) -> impl Iterator<Item = Proposal<'_>> {
        self.domains.iter().filter_map(move |(domain, isps)| {
            // Reversed, because `max_by_key` takes the last of equals.
            let (isp, count) = isps.iter().rev().max_by_key(|(_, count)| **count)?;
            let hints = isps.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
            (*count >= min_count).then_some(Proposal { domain, isp, count: *count, hints })
        })
    }

    /// How many hints were for domains beyond the bound.
    pub fn overlooked(&self) -> u64 {
        self.overlooked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isp::{Isp, IspMap};
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(hint(text), expected, "{text}");
    }

    #[test]
    fn a_host_name_at_or_below_a_known_one_is_a_hint() {
        check("ASPMX.L.GOOGLE.COM.", Some("google-workspace"));
        check("example-com.mail.protection.outlook.com", Some("microsoft-365"));
        check("example.olc.protection.outlook.com", Some("microsoft"));
        check("mxa-00112233.gslb.pphosted.com", Some("proofpoint"));
        check("dns; eu-smtp-inbound-1.mimecast.com", Some("mimecast"));
        check("mta7.am0.yahoodns.net", Some("yahoo"));
        check("mx01.mail.icloud.com", Some("apple"));
        check("google.com", Some("google-workspace"));
    }

    #[test]
    fn a_server_betrays_itself_in_its_reply() {
        check("250 2.0.0 OK 1789365602 4fb4d7f45d1cf-62c8e1a2b3csi4410197a12.221 - gsmtp", Some("google-workspace"));
        check("250 2.6.0 queued [InternalId=1, Hostname=AB1PR01.eurprd01.prod.outlook.com] ok", Some("microsoft-365"));
        check("smtp; 554 5.7.1 refused, ask at https://mimecast.com/codes.", Some("mimecast"));
    }

    #[test]
    fn what_only_looks_like_a_known_host_is_no_hint() {
        check("", None);
        check("google", None);
        check("notgoogle.com", None);
        check("google.com.evil.example", None);
        check("mx.outlook.com-mail.example", None);
        check("dns; a8-50.smtp-out.amazonses.com", None);
        check("550 5.1.1 <bob@google.com> is not known here", None);
        check(&format!("{} mx.google.com", "x".repeat(LOOKED_AT)), None);
    }

    #[test]
    fn hosts_are_sorted_and_name_built_in_isps() {
        assert!(HOSTS.is_sorted_by(|(a, _), (b, _)| a < b));
        let map = IspMap::builtin();
        for (host, name) in HOSTS {
            assert_ne!(map.by_name(name).unwrap_or(Isp::OTHER), Isp::OTHER, "{host}: {name}");
        }
    }

    #[test]
    fn proposals_name_the_isp_that_most_hints_name() {
        let mut proposals = Proposals::default();
        for (domain, isp, times) in [
            ("b.example", "mimecast", 2),
            ("b.example", "google-workspace", 3),
            ("a.example", "proofpoint", 4),
            ("c.example", "ovh", 1),
        ] {
            (0..times).for_each(|_| proposals.observe(domain, isp));
        }
        let listed: Vec<_> = proposals.list(3).map(|p| (p.domain, p.isp, p.count, p.hints)).collect();
        assert_eq!(listed, [("a.example", "proofpoint", 4, 4), ("b.example", "google-workspace", 3, 5)]);
    }

    #[test]
    fn of_equally_frequent_isps_the_first_by_name_is_proposed() {
        let mut proposals = Proposals::default();
        proposals.observe("a.example", "proofpoint");
        proposals.observe("a.example", "mimecast");
        assert_eq!(proposals.list(1).next().map(|p| p.isp), Some("mimecast"));
    }

    #[test]
    fn proposals_are_bounded_and_count_what_they_overlook() {
        let mut proposals = Proposals::default();
        for n in 0..MAX_PROPOSED_DOMAINS + 5 {
            proposals.observe(&format!("{n}.example"), "ovh");
        }
        proposals.observe("0.example", "ovh");
        assert_eq!((proposals.list(1).count(), proposals.overlooked()), (MAX_PROPOSED_DOMAINS, 5));
        assert_eq!(proposals.list(2).map(|p| p.domain).collect::<Vec<_>>(), ["0.example"]);
    }

    proptest! {
        #[test]
        fn any_text_has_a_hint_or_none_whatever_its_case(text in any::<String>()) {
            prop_assert_eq!(hint(&text), hint(&text.to_ascii_uppercase()));
        }

        #[test]
        fn a_known_host_is_found_among_any_blanks_and_brackets(at in 0..HOSTS.len(), sub in "([a-z]{1,8}\\.){0,3}") {
            let (host, isp) = HOSTS[at];
            prop_assume!(!sub.ends_with("olc.protection.") && !sub.ends_with("mail."));
            prop_assert_eq!(hint(&format!("250 ok [{sub}{host}] (x)")), Some(isp));
        }
    }
}
