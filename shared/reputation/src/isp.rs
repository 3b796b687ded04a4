//! The ISP that receives a mail: a pure function of the recipient's domain and one versioned map.
//!
//! SES events name no ISP, so it is derived from the domain: [`IspMap::classify`]. The map holds the domains of
//! consumer mailbox providers with their country variants, those of access ISPs with mailboxes, and the entries that the
//! policy adds. Unknown domains are [`Isp::OTHER`]: counted, never dropped.
//!
//! Replies and host names in events ([`hint()`]) and MX look-ups never classify mail, because the same mail could then
//! count elsewhere on another day. They fill [`Proposals`], from which a person copies entries into the policy.
//!
//! **Invariant:** the same domain, [`IspMap::VERSION`] and policy entries give the same name, in whatever order the
//! entries come.
//! **Invariant:** an ISP's *name* is stable and may be stored. [`Isp`] is an index into one map and may not.

mod builtin;
mod hint;
mod loops;
mod moved;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use self::builtin::{BRANDS, BUILT_IN, NOT_COUNTRIES};
pub use self::hint::{MAX_PROPOSED_DOMAINS, Proposal, Proposals, hint, isp_of_host};
pub use self::loops::{FEEDBACK_LOOPS, FeedbackLoop};
pub use self::moved::{MOVED, Moved};
use crate::address::MAX_DOMAIN_BYTES;

/// One ISP of one [`IspMap`]: small, ordered, and an index for arrays of counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isp(u16);

impl Isp {
    /// Domains that are in no map.
    pub const OTHER: Self = Self(0);

    /// The index of this ISP in its map, from 0 to [`IspMap::len`] − 1.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The most ISP names of one map, built-in ones included.
pub const MAX_NAMES: usize = 2_000;

/// The most policy entries of one map.
pub const MAX_ENTRIES: usize = 10_000;

/// The longest ISP name in bytes.
pub const MAX_NAME_BYTES: usize = 32;

/// Which domain belongs to which ISP. Immutable. Look-ups are cheap, building is not: build it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IspMap {
    entries: Vec<Entry>,
    by_name: BTreeMap<Box<str>, Isp>,
    exact: DomainTable,
    /// The keys are the text after `*.`.
    below: DomainTable,
    brands: Vec<(&'static str, Isp)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Box<str>,
    returns_complaints: bool,
    serves_businesses: bool,
}

/// Why the policy's entries are not a valid map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IspMapError {
    /// Neither `example.com` nor `*.example.com`.
    #[error("domain pattern `{pattern}` {problem}")]
    Pattern {
        /// As it was given, cut to a readable length.
        pattern: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The name has a form that cannot be stored.
    #[error("ISP name `{name}` is not 1 to {MAX_NAME_BYTES} of a-z, 0-9, dot and hyphen")]
    Name {
        /// As it was given, cut to a readable length.
        name: String,
    },
    /// One pattern with two ISPs.
    #[error("domain pattern `{pattern}` belongs to both `{first}` and `{second}`")]
    Conflict {
        /// The pattern, in normal form.
        pattern: String,
        /// The name that sorts first.
        first: String,
        /// The other.
        second: String,
    },
    /// More names than [`MAX_NAMES`].
    #[error("{count} ISP names where at most {MAX_NAMES} are allowed")]
    TooManyNames {
        /// How many there are, built-in ones included.
        count: usize,
    },
    /// More entries than [`MAX_ENTRIES`].
    #[error("more than {MAX_ENTRIES} domain patterns")]
    TooManyEntries,
    /// No ISP of this map has the name.
    #[error("no ISP is named `{name}`")]
    UnknownIsp {
        /// As it was given, cut to a readable length.
        name: String,
    },
}

impl IspMap {
    /// The version of the built-in part. It grows with every change that moves a domain from one name to another; see
    /// [`MOVED`].
    pub const VERSION: u32 = 2;

    /// The map without a policy.
    pub fn builtin() -> Self {
        Self::build(&BTreeMap::new(), BTreeMap::new())
    }

    /// The built-in map with the policy's entries over it: pairs of a domain pattern and an ISP name.
    ///
    /// A pattern is a domain (`example.com`: itself, nothing below it) or a suffix (`*.example.com`: all below it, not
    /// itself), in any case. Names outside the built-in list are new ISPs; no complaints are expected from them unless
    /// [`Self::with_complaints`] sets it. Naming `other` takes a built-in domain out of its ISP.
    ///
    /// A policy entry takes precedence over every built-in one; among the policy's entries, the exact domain over a
    /// suffix and a longer suffix over a shorter.
    ///
    /// # Errors
    /// [`IspMapError`] for a pattern or name of the wrong form, a pattern with two names, or too many of either.
    pub fn with_entries<P, N>(entries: impl IntoIterator<Item = (P, N)>) -> Result<Self, IspMapError>
    where
        P: AsRef<str>,
        N: AsRef<str>,
    {
        let mut patterns: BTreeMap<String, String> = BTreeMap::new();
        for (count, (pattern, name)) in entries.into_iter().enumerate() {
            if count >= MAX_ENTRIES {
                return Err(IspMapError::TooManyEntries);
            }
            let (pattern, name) = (normal_pattern(pattern.as_ref())?, valid_name(name.as_ref())?);
            match patterns.get(&pattern) {
                Some(earlier) if earlier != name => {
                    let (first, second) = if earlier.as_str() < name { (&**earlier, name) } else { (name, &**earlier) };
                    return Err(IspMapError::Conflict { pattern, first: first.to_owned(), second: second.to_owned() });
                }
                Some(_) => {}
                None => {
                    patterns.insert(pattern, name.to_owned());
                }
            }
        }
        // New names take the indices after the built-in ones, sorted: the order of the entries must not matter.
        let known: BTreeMap<&str, ()> = BUILT_IN.iter().map(|isp| (isp.name, ())).collect();
        let new: BTreeMap<&str, ()> =
            patterns.values().map(|name| (name.as_str(), ())).filter(|(name, ())| !known.contains_key(name)).collect();
        let count = BUILT_IN.len() + new.len();
        if count > MAX_NAMES {
            return Err(IspMapError::TooManyNames { count });
        }
        Ok(Self::build(&patterns, new))
    }

    /// The same map, but `name` is or is not expected to return complaints.
    ///
    /// # Errors
    /// [`IspMapError::UnknownIsp`] when neither the built-in map nor an entry has that name.
    pub fn with_complaints(mut self, name: &str, returned: bool) -> Result<Self, IspMapError> {
        match self.by_name(name).and_then(|isp| self.entries.get_mut(isp.index())) {
            Some(entry) => entry.returns_complaints = returned,
            None => return Err(IspMapError::UnknownIsp { name: readable(name) }),
        }
        Ok(self)
    }

    fn build(patterns: &BTreeMap<String, String>, new: BTreeMap<&str, ()>) -> Self {
        let has_loop = |name: &str| FEEDBACK_LOOPS.binary_search_by_key(&name, |row| row.isp).is_ok();
        let built_in = BUILT_IN.iter().map(|isp| Entry {
            name: isp.name.into(),
            returns_complaints: has_loop(isp.name),
            serves_businesses: isp.serves_businesses,
        });
        let added = new.into_keys().map(|name| Entry {
            name: name.into(),
            returns_complaints: false,
            serves_businesses: false,
        });
        let entries: Vec<Entry> = built_in.chain(added).collect();
        // At most `MAX_NAMES`, so no index is out of range.
        let by_name: BTreeMap<Box<str>, Isp> =
            (0..).map(Isp).zip(&entries).map(|(isp, e)| (e.name.clone(), isp)).collect();
        let isp_of = |name: &str| by_name.get(name).copied().unwrap_or(Isp::OTHER);

        let (mut exact, mut below) = (BTreeMap::new(), BTreeMap::new());
        for (pattern, name) in patterns {
            match pattern.strip_prefix("*.") {
                Some(domain) => below.insert(domain, isp_of(name)),
                None => exact.insert(pattern.as_str(), isp_of(name)),
            };
        }
        let from_policy = DomainTable::new(&below);
        // A built-in entry is kept only if no policy entry covers it. So one look-up, longest match first, is enough
        // for both.
        for isp in BUILT_IN {
            for pattern in isp.domains {
                match pattern.strip_prefix("*.") {
                    Some(domain) if from_policy.longest_suffix(domain.as_bytes()).is_none() => {
                        below.entry(domain).or_insert(isp_of(isp.name));
                    }
                    None if from_policy.longest_suffix(pattern.as_bytes()).is_none() => {
                        exact.entry(*pattern).or_insert(isp_of(isp.name));
                    }
                    Some(_) | None => {}
                }
            }
        }
        let brands = BRANDS.iter().map(|(brand, name)| (*brand, isp_of(name))).collect();
        Self { exact: DomainTable::new(&exact), below: DomainTable::new(&below), entries, by_name, brands }
    }

    /// The ISP of a recipient domain, in any case, with or without its trailing dot.
    ///
    /// In this order: the exact domain; the longest suffix pattern above it; a brand with a country. The country rule
    /// takes `hotmail`, `yahoo` and `yandex` followed by a two-letter country, or by `co`, `com`, `net` or `org` and a
    /// country, and nothing else: the owner of a domain can create any subdomain, so `yahoo.evil.example.com` is
    /// `other`, as is `hotmail.example`. Nor is a subdomain of a brand its consumer mail: `mail.yahoo.com` is `other`.
    pub fn classify(&self, domain: &str) -> Isp {
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        // Entries are lower case, so a hit needs no case conversion. The common case.
        if let Some(isp) = self.exact.get(domain.as_bytes()) {
            return isp;
        }
        if domain.len() > MAX_DOMAIN_BYTES {
            return Isp::OTHER;
        }
        // Without an early exit, so that one instruction handles many bytes.
        if !domain.bytes().fold(false, |any, b| any | b.is_ascii_uppercase()) {
            return self.above_or_brand(domain);
        }
        let mut lower = [0; MAX_DOMAIN_BYTES];
        let lower = &mut lower[..domain.len()];
        lower.copy_from_slice(domain.as_bytes());
        lower.make_ascii_lowercase();
        // Lowering ASCII keeps UTF-8 valid.
        std::str::from_utf8(lower).map_or(Isp::OTHER, |domain| {
            self.exact.get(domain.as_bytes()).unwrap_or_else(|| self.above_or_brand(domain))
        })
    }

    fn above_or_brand(&self, domain: &str) -> Isp {
        self.below.longest_suffix(domain.as_bytes()).or_else(|| self.brand_of(domain)).unwrap_or(Isp::OTHER)
    }

    fn brand_of(&self, domain: &str) -> Option<Isp> {
        let (first, rest) = domain.split_once('.')?;
        let (_, isp) = self.brands.iter().find(|(brand, _)| *brand == first)?;
        let country = match rest.split_once('.') {
            None if NOT_COUNTRIES.contains(&rest) => return None,
            None => rest,
            Some(("co" | "com" | "net" | "org", country)) => country,
            Some(_) => return None,
        };
        (country.len() == 2 && country.bytes().all(|b| b.is_ascii_lowercase())).then_some(*isp)
    }

    /// The stable name; `other` for an index of another map.
    pub fn name(&self, isp: Isp) -> &str {
        self.entries.get(isp.index()).map_or("other", |entry| &entry.name)
    }

    /// The ISP of a stable name, spelled exactly.
    pub fn by_name(&self, name: &str) -> Option<Isp> {
        self.by_name.get(name).copied()
    }

    /// Whether a feedback loop is known that returns its users' complaints, message by message.
    ///
    /// True for the ISPs of [`FEEDBACK_LOOPS`] and those set by [`Self::with_complaints`]. For all other ISPs the
    /// absence of complaints is "no data", not a rate of 0: Gmail, Apple, business mail and `other` return nothing that
    /// SES could pass on. A complaint that was counted for such an ISP is stronger evidence than this table. `false`
    /// for an index of another map.
    pub fn returns_complaints(&self, isp: Isp) -> bool {
        self.entries.get(isp.index()).is_some_and(|entry| entry.returns_complaints)
    }

    /// Whether the ISP receives for its customers' own domains, each of which belongs to one company: business mail, and
    /// `other`, because a domain that nobody listed is most likely a company's. `false` for an ISP that only the policy
    /// names.
    pub fn serves_businesses(&self, isp: Isp) -> bool {
        isp == Isp::OTHER || self.entries.get(isp.index()).is_some_and(|entry| entry.serves_businesses)
    }

    /// Every ISP: `other`, the built-in ones, the policy's new ones; the latter two alphabetically, except for business
    /// mail.
    pub fn isps(&self) -> impl Iterator<Item = Isp> {
        (0..).map(Isp).take(self.entries.len())
    }

    /// How many ISPs there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "`other` is always there")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Default for IspMap {
    fn default() -> Self {
        Self::builtin()
    }
}

/// Domains grouped by length and first letter, each group sorted and laid end to end, so that a look-up is a binary
/// search in one short run of memory: no hash, no pointers, and the same layout for the same content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DomainTable {
    /// Indexed by [`group_of`] of a domain.
    groups: Vec<Group>,
    /// The first bytes of each domain: nearly always enough to distinguish domains, in one comparison of numbers.
    starts: Vec<u64>,
    isps: Vec<Isp>,
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Group {
    /// The index of its first domain in `starts` and `isps`.
    first: usize,
    count: usize,
    /// Where the text of its first domain begins.
    text: usize,
}

impl DomainTable {
    fn new(domains: &BTreeMap<&str, Isp>) -> Self {
        let mut table = Self { groups: Vec::new(), starts: Vec::new(), isps: Vec::new(), text: Vec::new() };
        let grouped = domains.iter().filter_map(|(domain, isp)| Some((group_of(domain.as_bytes())?, *domain, *isp)));
        let mut sorted: Vec<(usize, &str, Isp)> = grouped.collect();
        sorted.sort_unstable();
        for (at, domain, isp) in sorted {
            if table.groups.len() <= at {
                table.groups.resize(at + 1, Group::default());
            }
            if let Some(group) = table.groups.get_mut(at) {
                if group.count == 0 {
                    (group.first, group.text) = (table.isps.len(), table.text.len());
                }
                group.count += 1;
            }
            table.starts.push(start_of(domain.as_bytes()));
            table.isps.push(isp);
            table.text.extend_from_slice(domain.as_bytes());
        }
        table
    }

    fn get(&self, domain: &[u8]) -> Option<Isp> {
        let group = self.groups.get(group_of(domain)?)?;
        let starts = self.starts.get(group.first..group.first + group.count)?;
        let start = start_of(domain);
        let mut low = starts.partition_point(|other| *other < start);
        if *starts.get(low)? != start {
            return None;
        }
        let mut high = low + 1;
        if starts.get(high) == Some(&start) {
            high += starts.get(high..)?.partition_point(|other| *other == start);
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            let text = group.text + middle * domain.len();
            match self.text.get(text..text + domain.len())?.cmp(domain) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return self.isps.get(group.first + middle).copied(),
            }
        }
        None
    }

    /// The entry for the longest proper suffix of `domain` that begins after a dot.
    fn longest_suffix(&self, domain: &[u8]) -> Option<Isp> {
        if self.isps.is_empty() {
            return None;
        }
        let dots = domain.iter().enumerate().filter(|(_, b)| **b == b'.');
        dots.filter_map(|(at, _)| self.get(domain.get(at + 1..)?)).next()
    }
}

/// Which group a domain is in: domains of one length and one first letter share it. `None` for no text.
fn group_of(domain: &[u8]) -> Option<usize> {
    // 32 groups for each length: the five low bits distinguish letters, and a digit may share a group with a letter.
    domain.first().map(|first| domain.len() * 32 + usize::from(first & 31))
}

/// The first eight bytes, or all of a shorter domain, as a number: among domains of one length it sorts as they do.
fn start_of(domain: &[u8]) -> u64 {
    match domain.first_chunk() {
        Some(start) => u64::from_be_bytes(*start),
        None => domain.iter().fold(0, |start, b| start << 8 | u64::from(*b)),
    }
}

/// The normal form of a pattern: lower case, no trailing dot, `*.` only at the beginning.
fn normal_pattern(pattern: &str) -> Result<String, IspMapError> {
    let refuse = |problem| Err(IspMapError::Pattern { pattern: readable(pattern), problem });
    let trimmed = pattern.trim();
    let normal = trimmed.strip_suffix('.').unwrap_or(trimmed).to_ascii_lowercase();
    let domain = normal.strip_prefix("*.").unwrap_or(&normal);
    if !domain.is_ascii() {
        return refuse("must be in its `xn--` form, as in events");
    }
    if domain.is_empty() || domain.split('.').any(str::is_empty) {
        return refuse("has an empty label");
    }
    if domain.len() > MAX_DOMAIN_BYTES {
        return refuse("is too long");
    }
    if domain.contains('*') {
        return refuse("has a star elsewhere than in a leading `*.`");
    }
    if domain.contains('@') {
        return refuse("is an address");
    }
    if !domain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return refuse("holds a character that no domain holds");
    }
    Ok(normal)
}

fn valid_name(name: &str) -> Result<&str, IspMapError> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(valid) {
        return Ok(name);
    }
    Err(IspMapError::Name { name: readable(name) })
}

/// Cuts a text for messages, so that a very long entry in a policy does not make a very long message.
fn readable(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(map: &IspMap, domain: &str, isp: &str) {
        assert_eq!(map.name(map.classify(domain)), isp, "{domain}");
    }

    #[track_caller]
    fn refused<const N: usize>(entries: [(&str, &str); N], message: &str) {
        assert_eq!(IspMap::with_entries(entries).unwrap_err().to_string(), message);
    }

    #[test]
    fn consumer_domains_belong_to_the_isp_that_receives_their_mail() {
        let map = IspMap::builtin();
        for (domain, isp) in [
            ("gmail.com", "gmail"),
            ("googlemail.com", "gmail"),
            ("outlook.com", "microsoft"),
            ("live.nl", "microsoft"),
            ("msn.com", "microsoft"),
            ("rocketmail.com", "yahoo"),
            ("aol.com", "yahoo"),
            ("verizon.net", "yahoo"),
            ("sky.com", "yahoo"),
            ("att.net", "yahoo"),
            ("cox.net", "yahoo"),
            ("comcast.net", "comcast"),
            ("private.icloud.com", "apple"),
            ("dsl.pipex.com", "talktalk"),
            ("ms12.hinet.net", "hinet"),
            ("me.com", "apple"),
            ("wanadoo.fr", "orange"),
            ("free.fr", "free"),
            ("126.com", "netease"),
            ("foxmail.com", "qq"),
            ("hanmail.net", "daum"),
            ("ya.ru", "yandex"),
            ("bk.ru", "mail.ru"),
            ("uol.com.br", "uol"),
            ("tampabay.rr.com", "charter"),
            ("t.vodafone.ne.jp", "softbank"),
            ("company.example", "other"),
            ("", "other"),
        ] {
            check(&map, domain, isp);
        }
    }

    #[test]
    fn a_brand_counts_under_every_country_and_nowhere_else() {
        let map = IspMap::builtin();
        for (domain, isp) in [
            ("hotmail.com", "microsoft"),
            ("hotmail.fr", "microsoft"),
            ("hotmail.co.uk", "microsoft"),
            ("yahoo.de", "yahoo"),
            ("yahoo.com.br", "yahoo"),
            ("yandex.kz", "yandex"),
            ("yahoo.co.jp", "yahoo-japan"),
            ("yahoo.jp", "yahoo-japan"),
            // Has no Microsoft MX record.
            ("hotmail.ru", "other"),
            ("hotmail.com.ru", "microsoft"),
            ("yahoo.evil.example.com", "other"),
            ("yahoo.com.evil.example", "other"),
            ("yahoo.gov.uk", "other"),
            ("yahoo.co.uk.com", "other"),
            ("yahoo.com.", "yahoo"),
            ("yahoo.example", "other"),
            ("yahoo.net", "other"),
            ("yahoo.co.x1", "other"),
            ("yahoo", "other"),
            ("hotmail.example", "other"),
            ("hotmail.", "other"),
            ("mail.yahoo.com", "other"),
            ("myhotmail.com", "other"),
            // Mistyped, not Colombian, Cameroonian or Omani.
            ("hotmail.co", "other"),
            ("yahoo.cm", "other"),
            ("hotmail.om", "other"),
            ("yahoo.com.co", "yahoo"),
            // Words and short abbreviations are listed one by one.
            ("live.xy", "other"),
            ("outlook.xy", "other"),
            ("outlook.nl", "other"),
            ("outlook.co", "other"),
            ("outlook.cm", "other"),
            ("gmx.xy", "other"),
        ] {
            check(&map, domain, isp);
        }
    }

    #[test]
    fn policy_entries_beat_built_in_ones_and_the_longest_wins() {
        let map = IspMap::with_entries([
            ("*.Example.com", "example"),
            ("*.b.example.com", "example-b"),
            ("x.b.example.com.", "microsoft-365"),
            ("comcast.net", "yahoo"),
            ("gmail.com", "other"),
            ("*.rr.com", "road-runner"),
            ("yahoo.de", "yahoo-de"),
            ("*.ne.jp", "japan"),
        ])
        .unwrap();
        for (domain, isp) in [
            ("a.example.com", "example"),
            ("b.example.com", "example"),
            ("a.b.example.com", "example-b"),
            ("x.b.example.com", "microsoft-365"),
            ("example.com", "other"),
            ("notexample.com", "other"),
            ("comcast.net", "yahoo"),
            ("gmail.com", "other"),
            ("googlemail.com", "gmail"),
            ("tampabay.rr.com", "road-runner"),
            ("rr.com", "charter"),
            ("yahoo.de", "yahoo-de"),
            ("yahoo.at", "yahoo"),
            // Built in both as a domain and as a suffix, and still covered by the policy's shorter suffix.
            ("docomo.ne.jp", "japan"),
            ("mail.ezweb.ne.jp", "japan"),
        ] {
            check(&map, domain, isp);
        }
    }

    #[test]
    fn entries_of_the_wrong_form_are_refused() {
        refused([("", "x")], "domain pattern `` has an empty label");
        refused([("*.", "x")], "domain pattern `*.` has a star elsewhere than in a leading `*.`");
        refused([("a..b", "x")], "domain pattern `a..b` has an empty label");
        refused([("*", "x")], "domain pattern `*` has a star elsewhere than in a leading `*.`");
        refused([("a.*.com", "x")], "domain pattern `a.*.com` has a star elsewhere than in a leading `*.`");
        refused([("a@b.example", "x")], "domain pattern `a@b.example` is an address");
        refused([("a b.example", "x")], "domain pattern `a b.example` holds a character that no domain holds");
        refused([("bücher.example", "x")], "domain pattern `bücher.example` must be in its `xn--` form, as in events");
        refused([(&*"a".repeat(256), "x")], &format!("domain pattern `{}` is too long", "a".repeat(80)));
        refused([("a.example", "")], "ISP name `` is not 1 to 32 of a-z, 0-9, dot and hyphen");
        refused([("a.example", "Gmail")], "ISP name `Gmail` is not 1 to 32 of a-z, 0-9, dot and hyphen");
        refused(
            [("a.example", &*"x".repeat(33))],
            &format!("ISP name `{}` is not 1 to 32 of a-z, 0-9, dot and hyphen", "x".repeat(33)),
        );
        refused([("A.example", "y"), ("a.example.", "x")], "domain pattern `a.example` belongs to both `x` and `y`");
        assert!(IspMap::with_entries([("a.example", "x"), ("A.EXAMPLE", "x")]).is_ok());
    }

    #[test]
    fn names_and_entries_are_bounded() {
        let room = MAX_NAMES - BUILT_IN.len();
        let named = |count: usize| (0..count).map(|n| (format!("{n}.example"), format!("isp-{n}")));
        assert_eq!(IspMap::with_entries(named(room)).unwrap().len(), MAX_NAMES);
        assert_eq!(IspMap::with_entries(named(room + 1)), Err(IspMapError::TooManyNames { count: MAX_NAMES + 1 }));
        let domains = |count: usize| (0..count).map(|n| (format!("{n}.example"), "x"));
        assert!(IspMap::with_entries(domains(MAX_ENTRIES)).is_ok());
        assert_eq!(IspMap::with_entries(domains(MAX_ENTRIES + 1)), Err(IspMapError::TooManyEntries));
    }

    #[test]
    fn complaints_are_expected_only_where_a_feedback_loop_is_known_or_the_policy_says_so() {
        let map = IspMap::with_entries([("a.example", "new")]).unwrap();
        let returns = |map: &IspMap, name: &str| map.returns_complaints(map.by_name(name).unwrap());
        for name in ["other", "gmail", "apple", "gmx", "web.de", "t-online", "proton", "tuta", "microsoft-365", "new"] {
            assert!(!returns(&map, name), "{name}");
        }
        for name in ["microsoft", "yahoo", "libero", "fastmail", "laposte", "mail.ru", "seznam"] {
            assert!(returns(&map, name), "{name}");
        }
        assert!(!map.returns_complaints(Isp(u16::MAX)));
        let map = map.with_complaints("new", true).unwrap().with_complaints("yahoo", false).unwrap();
        assert!(returns(&map, "new") && !returns(&map, "yahoo"));
        assert_eq!(map.with_complaints("nobody", true).unwrap_err().to_string(), "no ISP is named `nobody`");
    }

    #[test]
    fn every_isp_has_one_name_and_the_other_way_round() {
        let map = IspMap::with_entries([("a.example", "zzz"), ("b.example", "aaa")]).unwrap();
        let isps: Vec<Isp> = map.isps().collect();
        assert_eq!((isps.len(), isps.first()), (map.len(), Some(&Isp::OTHER)));
        assert!(isps.is_sorted());
        for (index, isp) in isps.into_iter().enumerate() {
            assert_eq!((isp.index(), map.by_name(map.name(isp))), (index, Some(isp)));
        }
        assert_eq!(map.name(Isp(u16::MAX)), "other");
        assert_eq!(map.by_name("nobody"), None);
    }

    #[test]
    fn built_in_domains_are_well_formed_sorted_and_listed_once() {
        let mut seen = BTreeMap::new();
        for isp in BUILT_IN {
            assert_eq!(valid_name(isp.name), Ok(isp.name));
            assert!(isp.domains.is_sorted(), "{}", isp.name);
            for domain in isp.domains {
                assert_eq!(normal_pattern(domain).as_deref(), Ok(*domain));
                assert_eq!(seen.insert(domain, isp.name), None, "{domain} is listed twice");
            }
        }
        let map = IspMap::builtin();
        assert!(BRANDS.iter().all(|(_, name)| map.by_name(name).is_some()));
        let names: Vec<&str> = BUILT_IN.iter().map(|isp| isp.name).collect();
        assert_eq!((names.first(), names.iter().filter(|name| **name == "other").count()), (Some(&"other"), 1));
    }

    /// Names are stored in databases, and a domain that moves changes what old counters mean. So a change here requires
    /// a new `VERSION`; a name may be added, but never be removed or change its meaning.
    #[test]
    fn the_built_in_map_changes_only_with_its_version() {
        let large: Vec<String> = BUILT_IN
            .iter()
            .filter(|isp| isp.domains.len() >= 10)
            .map(|isp| format!("{} {}", isp.name, isp.domains.len()))
            .collect();
        let lines: Vec<String> = large.chunks(8).map(|chunk| chunk.join(", ")).collect();
        let domains: usize = BUILT_IN.iter().map(|isp| isp.domains.len()).sum();
        // FNV-1a over every name and domain: a domain that moves between two names changes it.
        let everything = BUILT_IN.iter().flat_map(|isp| [&[isp.name], isp.domains].concat());
        let fingerprint = everything
            .flat_map(|text| [text.as_bytes(), b";"].concat())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let head =
            format!("version {}, {} names, {domains} domains, {fingerprint:016x}", IspMap::VERSION, BUILT_IN.len());
        insta::assert_snapshot!(format!("{head}\n{}", lines.join("\n")), @"
        version 2, 563 names, 1482 domains, a62af5a05eb1bcf6
        centurylink 12, charter 11, fastmail 98, gmx 36, interia 14, kpn 15, mail.com 132, microsoft 113
        onet 14, proton 18, sfr 17, softbank 12, talktalk 13, tdc 16, telenor-denmark 12, yahoo 80
        ");
    }

    /// The rules of `with_entries` and `classify`, implemented one after the other and without tables.
    fn by_the_rules(entries: &[(String, &str)], domain: &str) -> String {
        let covering = |list: &[(String, &str)]| {
            let fits = |pattern: &str| match pattern.strip_prefix('*') {
                Some(suffix) => domain.ends_with(suffix) && domain.len() > suffix.len(),
                None => domain == pattern,
            };
            let best =
                list.iter().filter(|(pattern, _)| fits(pattern)).max_by_key(|(p, _)| (!p.starts_with('*'), p.len()));
            best.map(|(_, name)| (*name).to_owned())
        };
        let built_in: Vec<(String, &str)> =
            BUILT_IN.iter().flat_map(|isp| isp.domains.iter().map(|d| ((*d).to_owned(), isp.name))).collect();
        covering(entries).or_else(|| covering(&built_in)).unwrap_or_else(|| "other".to_owned())
    }

    fn domain_like() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof!["a", "b", "rr", "com", "ne", "jp", "ezweb", "gmail", "docomo"], 1..5)
            .prop_map(|labels| labels.join("."))
    }

    proptest! {
        #[test]
        fn any_text_has_an_isp_whatever_its_case_and_trailing_dot(text in any::<String>()) {
            let map = IspMap::builtin();
            prop_assert_eq!(map.classify(&text), map.classify(&text.to_ascii_uppercase()));
        }

        #[test]
        fn the_tables_follow_the_rules_and_forget_the_order_of_entries(
            entries in proptest::collection::btree_map(
                (any::<bool>(), domain_like()).prop_map(|(star, d)| if star { format!("*.{d}") } else { d }),
                prop_oneof![Just("x"), Just("y"), Just("gmail"), Just("other")],
                0..8,
            ),
            domain in domain_like(),
        ) {
            let entries: Vec<(String, &str)> = entries.into_iter().collect();
            let map = IspMap::with_entries(entries.iter().map(|(p, n)| (p, n))).unwrap();
            prop_assert_eq!(map.name(map.classify(&domain)), by_the_rules(&entries, &domain));
            prop_assert_eq!(map.classify(&domain), map.classify(&format!("{}.", domain.to_ascii_uppercase())));
            let reversed = IspMap::with_entries(entries.iter().rev().map(|(p, n)| (p, n))).unwrap();
            prop_assert_eq!(map, reversed);
        }

        #[test]
        fn no_entry_panics(pattern in any::<String>(), name in any::<String>()) {
            let _ = IspMap::with_entries([(pattern, name)]);
        }
    }
}
