//! Guesses which ISP runs a domain's mail, from host names in server answers.

use std::collections::BTreeMap;

/// How much of a text is searched, in bytes. Server replies have their host names near the beginning.
const LOOKED_AT: usize = 1_000;

/// The source of a row of [`HOSTS`]. No row was checked against live DNS; a wrong row makes a wrong proposal, which a
/// person reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The operator documents this host for its customers: Google Workspace Admin Help, *MX record values*; Microsoft
    /// Learn, *External DNS records for Microsoft 365* (also for GCC High and 21Vianet) and *How SMTP DANE works*; Zoho
    /// Mail Help, *Configure MX records*.
    Operator,
    /// Public zone files, provider lists or mail headers name it for this operator (looked up 2026-11-26).
    Seen,
    /// Known from practice; not looked up.
    Unchecked,
}

use Source::{Operator, Seen, Unchecked};

/// Host name suffix → ISP name, sorted by host name. The longest matching suffix decides. Hosts that several operators
/// share are omitted (`cpcloud.co.uk`, `oxsus-vadesecure.net`): they identify no operator.
const HOSTS: &[(&str, &str, Source)] = &[
    ("1and1.co.uk", "ionos", Seen),
    ("1and1.com", "ionos", Seen),
    ("1and1.fr", "ionos", Seen),
    ("antispamcloud.com", "spamexperts", Unchecked),
    ("antispameurope.com", "hornetsecurity", Seen),
    ("arsmtp.com", "appriver", Seen),
    ("aruba.it", "aruba", Seen),
    ("barracudanetworks.com", "barracuda", Seen),
    ("bigpond.com", "bigpond", Unchecked),
    ("bluewin.ch", "bluewin", Unchecked),
    ("charter.net", "charter", Unchecked),
    ("comcast.net", "comcast", Unchecked),
    ("cox.net", "yahoo", Unchecked),
    ("cudaops.com", "barracuda", Unchecked),
    ("daum.net", "daum", Unchecked),
    ("dreamhost.com", "dreamhost", Seen),
    ("emailsrvr.com", "rackspace", Seen),
    ("emx.mail.ru", "vk-workspace", Seen),
    ("fireeyecloud.com", "trellix", Seen),
    ("fortimailcloud.com", "fortinet", Seen),
    ("forwardemail.net", "forward-email", Seen),
    ("free.fr", "free", Unchecked),
    ("gandi.net", "gandi", Seen),
    ("gmx.net", "gmx", Seen),
    ("google.com", "google-workspace", Operator),
    ("googlemail.com", "google-workspace", Operator),
    ("gpphosted.com", "proofpoint", Seen),
    ("hornetsecurity.com", "hornetsecurity", Seen),
    ("hostedemail.com", "opensrs", Seen),
    ("hostinger.com", "hostinger", Seen),
    ("hostinger.in", "hostinger", Seen),
    ("hostpoint.ch", "hostpoint", Seen),
    ("icloud.com", "apple", Seen),
    ("improvmx.com", "improvmx", Unchecked),
    ("inboundmx.com", "symantec", Seen),
    ("infomaniak.ch", "infomaniak", Seen),
    ("interia.pl", "interia", Unchecked),
    ("ionos.co.uk", "ionos", Unchecked),
    ("ionos.com", "ionos", Unchecked),
    ("ionos.de", "ionos", Unchecked),
    ("ionos.es", "ionos", Unchecked),
    ("ionos.fr", "ionos", Unchecked),
    ("ionos.it", "ionos", Unchecked),
    ("iphmx.com", "cisco", Seen),
    ("jellyfish.systems", "namecheap", Seen),
    ("kundenserver.de", "ionos", Unchecked),
    ("laposte.net", "laposte", Unchecked),
    ("libero.it", "libero", Unchecked),
    ("locaweb.com.br", "locaweb", Seen),
    ("lolipop.jp", "lolipop", Seen),
    ("loopia.se", "loopia", Seen),
    ("mail.protection.office365.us", "microsoft-365", Operator),
    ("mail.protection.partner.outlook.cn", "microsoft-365", Operator),
    ("mail.ru", "mail.ru", Seen),
    ("mailbox.org", "mailbox-org", Seen),
    ("mailchannels.net", "mailchannels", Seen),
    ("mailcontrol.com", "forcepoint", Seen),
    ("mailgun.org", "mailgun", Seen),
    ("mailhostbox.com", "mailhostbox", Seen),
    ("mailspamprotection.com", "siteground", Seen),
    ("messagelabs.com", "symantec", Seen),
    ("messagingengine.com", "fastmail", Seen),
    ("migadu.com", "migadu", Seen),
    ("mimecast-offshore.com", "mimecast", Unchecked),
    ("mimecast.co.za", "mimecast", Unchecked),
    ("mimecast.com", "mimecast", Seen),
    ("mtaroutes.com", "spamexperts", Seen),
    ("mx.cloudflare.net", "cloudflare", Seen),
    ("mx.microsoft", "microsoft-365", Operator),
    ("mx.yandex.net", "yandex-360", Seen),
    ("mx00.mail.com", "mail.com", Seen),
    ("mx01.mail.com", "mail.com", Seen),
    ("mxbiz1.qq.com", "tencent-exmail", Seen),
    ("mxbiz2.qq.com", "tencent-exmail", Seen),
    ("mxhichina.com", "alibaba-mail", Seen),
    ("mxrecord.io", "cloudflare-area1", Seen),
    ("mxroute.com", "mxroute", Seen),
    ("mxrouting.net", "mxroute", Seen),
    ("naver.com", "naver", Unchecked),
    ("netease.com", "netease", Seen),
    ("netsolmail.net", "network-solutions", Seen),
    ("olc.protection.outlook.com", "microsoft", Seen),
    ("one.com", "one.com", Seen),
    ("onet.pl", "onet", Unchecked),
    ("orange.fr", "orange", Unchecked),
    ("outlook.com", "microsoft-365", Operator),
    ("ovh.net", "ovh", Seen),
    ("perfora.net", "ionos", Unchecked),
    ("pobox.com", "pobox", Seen),
    ("postmarkapp.com", "postmark", Seen),
    ("ppe-hosted.com", "proofpoint", Seen),
    ("pphosted.com", "proofpoint", Seen),
    ("privateemail.com", "namecheap", Seen),
    ("prodigy.net", "yahoo", Seen),
    ("protonmail.ch", "proton", Seen),
    ("qiye.aliyun.com", "alibaba-mail", Seen),
    ("qiye163mx01.mxmail.netease.com", "netease-qiye", Seen),
    ("qiye163mx02.mxmail.netease.com", "netease-qiye", Seen),
    ("qiye163mx03.mxmail.netease.com", "netease-qiye", Unchecked),
    ("qq.com", "qq", Seen),
    ("rediff.akadns.net", "rediff", Seen),
    ("register.it", "register-it", Seen),
    ("registrar-servers.com", "namecheap", Seen),
    ("runbox.com", "runbox", Seen),
    ("rzone.de", "strato", Seen),
    ("sakura.ne.jp", "sakura", Unchecked),
    ("secureserver.net", "godaddy", Seen),
    ("seg.trustwave.com", "trustwave", Seen),
    ("sendgrid.net", "sendgrid", Seen),
    ("serverdata.net", "intermedia", Seen),
    ("seznam.cz", "seznam", Unchecked),
    ("sfr.fr", "sfr", Unchecked),
    ("sg.aliyun.com", "alibaba-mail", Unchecked),
    ("simply.com", "simply", Seen),
    ("sophos.com", "sophos", Seen),
    ("spamexperts.com", "spamexperts", Seen),
    ("spamexperts.eu", "spamexperts", Seen),
    ("spamexperts.net", "spamexperts", Seen),
    ("spamtitan.com", "spamtitan", Seen),
    ("t-online.de", "t-online", Unchecked),
    ("titan.email", "titan", Seen),
    ("transip.email", "transip", Seen),
    ("trendmicro.com", "trend-micro", Seen),
    ("trendmicro.eu", "trend-micro", Seen),
    ("tutanota.de", "tuta", Seen),
    ("udag.de", "united-domains", Seen),
    ("uhserver.com", "uol-host", Seen),
    ("virgilio.it", "virgilio", Unchecked),
    ("web.de", "web.de", Unchecked),
    ("worksmobile.com", "naver-works", Seen),
    ("wp.pl", "wp", Unchecked),
    ("xserver.jp", "xserver", Unchecked),
    ("yahoodns.net", "yahoo", Seen),
    ("yandex.net", "yandex", Seen),
    ("yandex.ru", "yandex", Seen),
    ("zoho.com", "zoho-workplace", Operator),
    ("zoho.com.au", "zoho-workplace", Unchecked),
    ("zoho.eu", "zoho-workplace", Operator),
    ("zoho.in", "zoho-workplace", Operator),
    ("zoho.jp", "zoho-workplace", Unchecked),
    ("zohocloud.ca", "zoho-workplace", Seen),
    ("zohomail.com", "zoho-workplace", Seen),
];

/// The receiving ISP according to a text: the name of a built-in ISP, from an SMTP response, a diagnostic text, a
/// `reportingMTA` or an MX host name, in any case.
///
/// The first host name in the first 1,000 bytes that lies at or below a known one decides; a domain after an `@` is
/// part of an address and is ignored. Google ends its replies with the word `gsmtp` instead. Only a guess: it feeds
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

/// The ISP that a mail server belongs to: the name of a built-in ISP, from an MX host name in any case, with or without
/// its trailing dot. Unlike [`hint`], the whole text has to be a host name.
///
/// ```
/// use reputation::isp::isp_of_host;
/// assert_eq!(isp_of_host("aspmx.l.google.com."), Some("google-workspace"));
/// assert_eq!(isp_of_host("mail.example.com"), None);
/// ```
pub fn isp_of_host(host: &str) -> Option<&'static str> {
    let host = host.as_bytes();
    if host.len() > LOOKED_AT || !host.iter().copied().all(is_host_byte) {
        return None;
    }
    provider_of(host)
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
    if is_amazon_inbound(rest) {
        return Some("amazon");
    }
    while rest.contains(&b'.') {
        let lower = |b: &u8| b.to_ascii_lowercase();
        let found = HOSTS.binary_search_by(|(host, ..)| host.bytes().cmp(rest.iter().map(lower)));
        if let Some((_, provider, _)) = found.ok().and_then(|at| HOSTS.get(at)) {
            return Some(provider);
        }
        let dot = rest.iter().position(|b| *b == b'.')?;
        rest = rest.get(dot + 1..)?;
    }
    None
}

/// Where Amazon receives mail, for WorkMail and for SES receipt rules: `inbound-smtp.<region>.amazonaws.com` (SES
/// Developer Guide, *Amazon SES endpoints*). Other hosts below `amazonaws.com` belong to customers.
fn is_amazon_inbound(host: &[u8]) -> bool {
    let (first, last) = (&b"inbound-smtp."[..], &b".amazonaws.com"[..]);
    let begins = host.get(..first.len()).is_some_and(|part| part.eq_ignore_ascii_case(first));
    let end = host.len().checked_sub(last.len()).filter(|at| *at > first.len()).and_then(|at| host.get(at..));
    begins && end.is_some_and(|part| part.eq_ignore_ascii_case(last))
}

/// The most domains that [`Proposals`] keeps.
pub const MAX_PROPOSED_DOMAINS: usize = 10_000;

/// The hints about domains that are in no map, for a person to copy into the policy.
///
/// Bounded: once [`MAX_PROPOSED_DOMAINS`] are known, further domains are only counted. Counts saturate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposals {
    domains: BTreeMap<Box<str>, BTreeMap<&'static str, u64>>,
    overlooked: u64,
}

/// A proposed entry for the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal<'a> {
    /// The recipients' domain.
    pub domain: &'a str,
    /// The ISP that most hints for it named; of equals, the first by name.
    pub isp: &'static str,
    /// How many hints named it.
    pub count: u64,
    /// How many hints there were for the domain, including this ISP's: if it is far above `count`, the proposal is
    /// doubtful.
    pub hints: u64,
}

impl Proposals {
    /// Counts one hint for a domain in normal form. Call it only for domains that the map classifies as `other`: known
    /// domains need no proposal.
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

    /// How many hints were for domains beyond the limit.
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
    fn the_longest_known_suffix_separates_consumer_mail_from_business_mail() {
        check("mx1.qq.com", Some("qq"));
        check("mxbiz1.qq.com", Some("tencent-exmail"));
        check("163mx01.mxmail.netease.com", Some("netease"));
        check("qiye163mx01.mxmail.netease.com", Some("netease-qiye"));
        check("mxs.mail.ru", Some("mail.ru"));
        check("emx.mail.ru", Some("vk-workspace"));
        check("mx.yandex.ru", Some("yandex"));
        check("mx.yandex.net.", Some("yandex-360"));
        check("example-com.a-v1.mx.microsoft", Some("microsoft-365"));
        check("example.mail.protection.partner.outlook.cn", Some("microsoft-365"));
    }

    #[test]
    fn amazon_receives_at_its_inbound_hosts_only() {
        check("inbound-smtp.us-east-1.amazonaws.com", Some("amazon"));
        check("INBOUND-SMTP.eu-west-1.AMAZONAWS.com.", Some("amazon"));
        check("ec2-192-0-2-1.compute-1.amazonaws.com", None);
        check("inbound-smtp.amazonaws.com", None);
        check("inbound-smtp..amazonaws.com.example", None);
    }

    #[test]
    fn an_mx_host_is_a_host_name_as_a_whole() {
        assert_eq!(isp_of_host("MX1.example.iphmx.com."), Some("cisco"));
        assert_eq!(isp_of_host("mx1.iphmx.com mx2.example"), None);
        assert_eq!(isp_of_host("a@google.com"), None);
        assert_eq!(isp_of_host(""), None);
        assert_eq!(isp_of_host("."), None);
    }

    #[test]
    fn most_rows_were_looked_up() {
        let count = |wanted| HOSTS.iter().filter(|(.., source)| *source == wanted).count();
        assert!(count(Unchecked) * 3 < HOSTS.len(), "{} of {}", count(Unchecked), HOSTS.len());
        assert!(count(Operator) > 5 && count(Seen) > 50);
    }

    #[test]
    fn a_server_is_recognised_by_its_reply() {
        check("250 2.0.0 OK 1789365602 4fb4d7f45d1cf-62c8e1a2b3csi4410197a12.221 - gsmtp", Some("google-workspace"));
        check("250 2.6.0 queued [InternalId=1, Hostname=AB1PR01.eurprd01.prod.outlook.com] ok", Some("microsoft-365"));
        check("smtp; 554 5.7.1 refused, ask at https://mimecast.com/codes.", Some("mimecast"));
    }

    #[test]
    fn what_only_looks_like_a_known_host_is_not_a_hint() {
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
        assert!(HOSTS.is_sorted_by(|(a, ..), (b, ..)| a < b));
        let map = IspMap::builtin();
        assert_ne!(map.by_name("amazon"), None);
        for (host, name, _) in HOSTS {
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
        fn a_known_host_is_found_among_any_blanks_and_brackets(at in 0..HOSTS.len(), sub in "(x[a-z]{1,8}\\.){0,3}") {
            // A label that begins with x does not form a longer suffix of the table.
            let (host, isp, _) = HOSTS[at];
            prop_assert_eq!(hint(&format!("250 ok [{sub}{host}] (x)")), Some(isp));
            prop_assert_eq!(isp_of_host(&format!("{sub}{host}")), Some(isp));
        }
    }
}
