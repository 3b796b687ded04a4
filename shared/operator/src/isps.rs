//! Finds the ISP that receives domains which the map calls `other`: proposals for the policy's `[isps]`.
//!
//! MX records decide; what servers said in bounces, and what SES calls an ISP, is shown with them. Without look-ups, only
//! those two are used. A person decides about the proposals: nothing here classifies mail.
//!
//! **Invariant:** every mail to an `other` domain is in a proposal or under a reason why there is none.
//! **Invariant:** an existing entry of a policy is never changed.

pub(crate) mod entries;
pub(crate) mod list;
pub mod resolve;
pub(crate) mod ses;

use std::collections::BTreeMap;

use aws::policies::StoredPolicy;
use replay::domains::{DomainBook, DomainMail};
use reputation::isp::{Isp, IspMap, Proposal as Hinted, isp_of_host};
use reputation::time::Now;
use serde::Serialize;
use terminal::{InvalidPolicy, PolicyFault};

use crate::asking::Progress;
use crate::failure::Failure;
use crate::policies::{self, Outcome, Push};
use crate::policy_file::{invalid, parsed};
use crate::{Access, Exit};
use resolve::{Limits, MxAnswer, MxLookup, look_up};
use ses::{Meaning, meaning};

/// The number of domains that are examples of a reason.
const MAX_EXAMPLES: usize = 10;
/// The number of domains listed where SES names another ISP.
const MAX_DISAGREEMENTS: usize = 100;

/// Domains with their source.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The source: files, a place in S3, a list.
    pub source: String,
    /// Description of the policy whose map classifies them.
    pub policy: String,
    /// Notes about the source: what was skipped, and why.
    pub notes: Vec<String>,
    /// The domains.
    pub book: DomainBook,
}

/// The options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Leave out domains with fewer mails.
    pub min_mails: u64,
    /// The most domains that are looked at: those with the most mail.
    pub top: usize,
    /// The limits of MX look-ups.
    pub limits: Limits,
}

impl Default for Order {
    fn default() -> Order {
        Order { min_mails: 1, top: 200, limits: Limits::default() }
    }
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Proposed {
    /// The source of the domains.
    pub source: String,
    /// Description of the policy whose map classified them.
    pub policy: String,
    /// Notes about the source.
    pub notes: Vec<String>,
    /// Number of mails.
    pub mails: u64,
    /// Mails to domains that the map calls `other`.
    pub other_mails: u64,
    /// Number of domains.
    pub domains: u64,
    /// Domains that the map calls `other`.
    pub other_domains: u64,
    /// Domains that were looked up; 0 without look-ups.
    pub looked_up: u64,
    /// Look-ups without an answer.
    pub unanswered: u64,
    /// The proposals, the most mail first.
    pub proposals: Vec<Proposal>,
    /// The proposals as a TOML table.
    pub toml: String,
    /// Domains without a proposal, by reason.
    pub undecided: Vec<Undecided>,
    /// The names that SES uses for the map's ISPs, where its tag was present.
    pub ses: Vec<SesNames>,
    /// Domains for which SES names another ISP than the map, the most mail first.
    pub disagreements: Vec<Disagreement>,
    /// What happened to the policy; null if it was not to be changed.
    pub change: Option<Change>,
}

/// A proposed entry of the policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proposal {
    /// The recipients' domain.
    pub domain: String,
    /// Mails to it.
    pub mails: u64,
    /// Their share of all mail to `other` domains, 0 to 1.
    pub share: f64,
    /// The ISP that receives them: the name of a built-in ISP.
    pub isp: &'static str,
    /// The evidence for it.
    pub evidence: Evidence,
    /// The first MX host of the lowest preference.
    pub mx_host: Option<String>,
    /// What servers said about themselves in bounces and delays; null if nothing.
    pub hints: Option<Hints>,
    /// What SES calls the ISP, the most frequent name first.
    pub ses: Vec<SesSays>,
}

/// The evidence for a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// MX records.
    Mx,
    /// What servers said in bounces and delays.
    Hints,
    /// What SES calls the ISP.
    Ses,
}

/// What servers said about themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hints {
    /// The ISP that most servers named.
    pub isp: &'static str,
    /// How often it was named.
    pub count: u64,
    /// How often any ISP was named.
    pub all: u64,
}

/// What SES calls the ISP of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SesSays {
    /// As SES writes it.
    pub name: String,
    /// Number of mails.
    pub mails: u64,
    /// Whether it may mean the same ISP; null if it says nothing.
    pub agrees: Option<bool>,
}

/// Domains without a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Undecided {
    /// The reason.
    pub reason: Reason,
    /// Number of domains; 0 for [`Reason::Overlooked`], where it is not known.
    pub domains: u64,
    /// Mails to them.
    pub mails: u64,
    /// Examples, the most mail first.
    pub examples: Vec<Example>,
}

/// A domain without a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The domain.
    pub domain: String,
    /// Mails to it.
    pub mails: u64,
    /// Its MX hosts with the lowest preference, or the resolver's answer.
    pub found: Option<String>,
}

/// Why there is no proposal for a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is no such domain.
    NoSuchDomain,
    /// The domain accepts no mail (RFC 7505).
    NullMx,
    /// The domain has no MX record.
    NoMx,
    /// Its MX hosts are its own.
    OwnServer,
    /// No operator of its MX hosts is in the table.
    UnknownHost,
    /// MX hosts of the lowest preference belong to different operators, or only some of them to a known one.
    HostsDisagree,
    /// There was no answer in time.
    TimedOut,
    /// The resolver answered with an error.
    Failed,
    /// The time for all look-ups was over before it was asked.
    NotAsked,
    /// It is not a domain that a policy can name.
    NotADomain,
    /// Without look-ups: neither servers nor SES said anything.
    NoEvidence,
    /// Without look-ups: servers named several ISPs, and none of them in more than half of the cases.
    HintsDisagree,
    /// Too few mails (`--min-mails`).
    FewMails,
    /// Others have more mail (`--top`).
    BeyondTop,
    /// Not kept while reading: there were too many domains.
    Overlooked,
}

impl Reason {
    /// The description of the reason.
    pub fn words(self) -> &'static str {
        match self {
            Reason::NoSuchDomain => "the domain does not exist: such addresses bounce",
            Reason::NullMx => "the domain accepts no mail (null MX): such addresses bounce",
            Reason::NoMx => "no MX record: mail goes to the domain's own address, if it has one",
            Reason::OwnServer => "the domain's own mail server",
            Reason::UnknownHost => "MX host of an operator that is not in the table",
            Reason::HostsDisagree => "MX hosts of different operators",
            Reason::TimedOut => "no answer in time",
            Reason::Failed => "the resolver answered with an error",
            Reason::NotAsked => "not looked up: the time for all look-ups was over (--seconds)",
            Reason::NotADomain => "not a domain that a policy can name",
            Reason::NoEvidence => "neither a hint from servers nor a name from SES",
            Reason::HintsDisagree => "hints name different ISPs",
            Reason::FewMails => "too few mails (--min-mails)",
            Reason::BeyondTop => "other domains have more mail (--top)",
            Reason::Overlooked => "more than 10,000 domains: later ones are only counted",
        }
    }
}

/// The names that SES uses for one of the map's ISPs, in mails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SesNames {
    /// The ISP of the map.
    pub isp: String,
    /// Mails for which SES names the same ISP.
    pub agree: u64,
    /// Mails for which SES names another one.
    pub differ: u64,
    /// Mails for which SES names no ISP, or an unknown one.
    pub unknown: u64,
    /// The names that SES uses, the most frequent first.
    pub names: Vec<String>,
}

/// A domain for which SES names another ISP than the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// The domain.
    pub domain: String,
    /// Its ISP in the map.
    pub isp: String,
    /// As SES writes it.
    pub ses: String,
    /// Number of mails.
    pub mails: u64,
}

/// What happened to a policy to which entries were to be added.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The file that was written; null for the policy of the stack.
    pub file: Option<String>,
    /// Entries that were added, or would have been: domain and ISP.
    pub added: Vec<(String, String)>,
    /// Entries that the policy already has, not changed: domain and its ISP in the policy.
    pub kept: Vec<(String, String)>,
    /// The outcome.
    pub done: Done,
    /// The push; null if nothing was pushed.
    pub push: Option<Push>,
}

/// The outcome for a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Pushed, and current now.
    Pushed,
    /// Written to the file.
    Written,
    /// Nothing, because there is nothing to add.
    NothingToAdd,
    /// Nothing, because the answer was not yes.
    Declined,
    /// Nothing, because another person pushed a policy meanwhile.
    Conflict,
}

/// Finds the ISPs that receive the domains which the map calls `other`. Without `lookup`, by hints and SES's names only.
pub async fn propose(
    gathered: Gathered,
    order: &Order,
    lookup: Option<&impl MxLookup>,
    progress: Progress<'_>,
) -> Proposed {
    let Gathered { source, policy, notes, book } = gathered;
    let hinted: BTreeMap<&str, Hinted<'_>> = book.hints().list(1).map(|hint| (hint.domain, hint)).collect();
    let (overlooked, overlooked_other) = book.overlooked();
    let mut undecided = Reasons::default();
    undecided.count(Reason::Overlooked, overlooked_other);
    let mut others: Vec<(&str, &DomainMail)> = book.domains().filter(|(_, known)| known.isp == Isp::OTHER).collect();
    others.sort_by_key(|(_, known)| std::cmp::Reverse(known.mails.count()));
    let total = |domains: &[(&str, &DomainMail)]| domains.iter().map(|(_, known)| known.mails.count()).sum::<u64>();
    let other_domains = others.len() as u64;
    let other_mails = total(&others) + overlooked_other;
    let all: Vec<(&str, &DomainMail)> = book.domains().collect();
    let candidates = candidates(&others, order, &mut undecided);

    let names: Vec<&str> = candidates.iter().map(|(domain, _)| *domain).collect();
    let mut answers: Vec<Option<MxAnswer>> = match lookup {
        Some(lookup) => look_up(lookup, &names, order.limits, progress).await.into_iter().map(Some).collect(),
        None => vec![None; names.len()],
    };
    // A resolver without access to the Internet says that no domain exists; and a domain whose server has answered does exist.
    let knows_some = answers.iter().flatten().any(|answer| !matches!(answer, MxAnswer::NoSuchDomain));
    for (answer, (domain, _)) in answers.iter_mut().zip(&candidates) {
        let denied = *answer == Some(MxAnswer::NoSuchDomain);
        let doubtful = hinted.contains_key(domain) || (!knows_some && names.len() > 1);
        if denied && doubtful {
            *answer = Some(MxAnswer::Failed("it says that the domain does not exist, which is doubtful".to_owned()));
        }
    }
    let looked_up = answers.iter().flatten().count() as u64;
    let unanswered =
        |answer: &&MxAnswer| matches!(answer, MxAnswer::TimedOut | MxAnswer::Failed(_) | MxAnswer::NotAsked);
    let unanswered = answers.iter().flatten().filter(unanswered).count() as u64;
    let mut proposals = Vec::new();
    for ((domain, known), answer) in candidates.into_iter().zip(&answers) {
        let hint = hinted.get(domain);
        let mails = known.mails.count();
        let decided = match answer {
            Some(answer) => by_mx(domain, answer),
            None => by_words(book.map(), known, hint),
        };
        match decided {
            Ok(found) => proposals.push(Proposal {
                domain: domain.to_owned(),
                mails,
                share: if other_mails == 0 { 0.0 } else { mails as f64 / other_mails as f64 },
                isp: found.isp,
                evidence: found.evidence,
                mx_host: found.mx_host,
                hints: hint.map(|hint| Hints { isp: hint.isp, count: hint.count, all: hint.hints }),
                ses: ses_says(book.map(), known, found.isp),
            }),
            Err((reason, found)) => undecided.add(reason, domain, mails, found),
        }
    }
    let (ses, disagreements) = ses_names(&book, &proposals);
    Proposed {
        source,
        policy,
        notes,
        mails: total(&all) + overlooked,
        other_mails,
        domains: all.len() as u64,
        other_domains,
        looked_up,
        unanswered,
        toml: entries::block(&proposals),
        proposals,
        undecided: undecided.into_list(),
        ses,
        disagreements,
        change: None,
    }
}

/// The domains to look at; for the others, the reason is recorded.
fn candidates<'a>(
    others: &[(&'a str, &'a DomainMail)],
    order: &Order,
    undecided: &mut Reasons,
) -> Vec<(&'a str, &'a DomainMail)> {
    let mut candidates = Vec::new();
    for (domain, known) in others {
        let mails = known.mails.count();
        if mails < order.min_mails {
            undecided.add(Reason::FewMails, domain, mails, None);
        } else if candidates.len() >= order.top {
            undecided.add(Reason::BeyondTop, domain, mails, None);
        } else if IspMap::with_entries([(*domain, "other")]).is_err() {
            undecided.add(Reason::NotADomain, domain, mails, None);
        } else {
            candidates.push((*domain, *known));
        }
    }
    candidates
}

/// The ISP that receives a domain.
struct Found {
    isp: &'static str,
    evidence: Evidence,
    mx_host: Option<String>,
}

/// By MX records: all hosts of the lowest preference must belong to one operator.
fn by_mx(domain: &str, answer: &MxAnswer) -> Result<Found, (Reason, Option<String>)> {
    let exchanges = match answer {
        MxAnswer::Exchanges(exchanges) => exchanges,
        MxAnswer::NoRecord => return Err((Reason::NoMx, None)),
        MxAnswer::NoSuchDomain => return Err((Reason::NoSuchDomain, None)),
        MxAnswer::TimedOut => return Err((Reason::TimedOut, None)),
        MxAnswer::Failed(words) => return Err((Reason::Failed, Some(words.clone()))),
        MxAnswer::NoDomainName => return Err((Reason::NotADomain, None)),
        MxAnswer::NotAsked => return Err((Reason::NotAsked, None)),
    };
    // The root stands for "no host": alone it means that no mail is accepted; with other hosts it is a mistake.
    let named = exchanges.iter().filter(|exchange| !exchange.host.is_empty());
    let Some(lowest) = named.clone().map(|exchange| exchange.preference).min() else {
        return Err((Reason::NullMx, None));
    };
    let mut hosts: Vec<&str> =
        named.filter(|exchange| exchange.preference == lowest).map(|exchange| exchange.host.as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let mut isps: Vec<Option<&'static str>> = hosts.iter().map(|host| isp_of_host(host)).collect();
    isps.dedup();
    match isps[..] {
        [Some(isp)] => Ok(Found { isp, evidence: Evidence::Mx, mx_host: hosts.first().map(|host| (*host).to_owned()) }),
        [None] if hosts.iter().all(|host| is_own(host, domain)) => Err((Reason::OwnServer, Some(hosts.join(" ")))),
        [None] => Err((Reason::UnknownHost, Some(hosts.join(" ")))),
        _ => Err((Reason::HostsDisagree, Some(hosts.join(" ")))),
    }
}

fn is_own(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// By what servers and SES said.
fn by_words(map: &IspMap, known: &DomainMail, hint: Option<&Hinted<'_>>) -> Result<Found, (Reason, Option<String>)> {
    if let Some(hint) = hint {
        if hint.count.saturating_mul(2) <= hint.hints {
            return Err((Reason::HintsDisagree, Some(hint.isp.to_owned())));
        }
        return Ok(Found { isp: hint.isp, evidence: Evidence::Hints, mx_host: None });
    }
    let isp = most_named(known).into_iter().find_map(|(name, _)| meaning(map, name).proposed());
    let found = isp.map(|isp| Found { isp, evidence: Evidence::Ses, mx_host: None });
    found.ok_or((Reason::NoEvidence, None))
}

/// SES's names for the ISP of a domain, the most frequent first.
fn most_named(known: &DomainMail) -> Vec<(&str, u64)> {
    let mut names: Vec<(&str, u64)> = known.ses.iter().map(|(name, mails)| (&**name, mails.count())).collect();
    names.sort_by_key(|(_, mails)| std::cmp::Reverse(*mails));
    names
}

fn ses_says(map: &IspMap, known: &DomainMail, isp: &str) -> Vec<SesSays> {
    let says =
        |(name, mails): (&str, u64)| SesSays { name: name.to_owned(), mails, agrees: meaning(map, name).agrees(isp) };
    most_named(known).into_iter().map(says).collect()
}

/// The names that SES uses for each ISP of the map, and the domains for which it names another ISP. A domain with a proposal
/// counts for the proposed ISP.
fn ses_names(book: &DomainBook, proposals: &[Proposal]) -> (Vec<SesNames>, Vec<Disagreement>) {
    let map = book.map();
    let proposed: BTreeMap<&str, &str> = proposals.iter().map(|known| (known.domain.as_str(), known.isp)).collect();
    let mut counted: BTreeMap<&str, (SesNames, BTreeMap<&str, u64>)> = BTreeMap::new();
    let mut disagreements = Vec::new();
    for (domain, known) in book.domains() {
        let isp = proposed.get(domain).copied().unwrap_or_else(|| map.name(known.isp));
        for (name, mails) in &known.ses {
            let mails = mails.count();
            let fresh = || SesNames { isp: isp.to_owned(), agree: 0, differ: 0, unknown: 0, names: Vec::new() };
            let (counted, names) = counted.entry(isp).or_insert_with(|| (fresh(), BTreeMap::new()));
            *names.entry(name).or_default() += mails;
            let means = meaning(map, name);
            // For a domain that is unknown here, a name from SES is new information, not a contradiction.
            let agrees = if isp == "other" && means != Meaning::Unknown { Some(false) } else { means.agrees(isp) };
            match agrees {
                Some(true) => counted.agree += mails,
                Some(false) => {
                    counted.differ += mails;
                    let (domain, isp, ses) = (domain.to_owned(), isp.to_owned(), name.to_string());
                    disagreements.push(Disagreement { domain, isp, ses, mails });
                }
                None => counted.unknown += mails,
            }
        }
    }
    disagreements.sort_by(|a, b| b.mails.cmp(&a.mails).then_with(|| a.domain.cmp(&b.domain)));
    disagreements.truncate(MAX_DISAGREEMENTS);
    let named = |(mut counted, names): (SesNames, BTreeMap<&str, u64>)| {
        let mut names: Vec<(&str, u64)> = names.into_iter().collect();
        names.sort_by_key(|(_, mails)| std::cmp::Reverse(*mails));
        counted.names = names.into_iter().map(|(name, _)| name.to_owned()).collect();
        counted
    };
    let mut counted: Vec<SesNames> = counted.into_values().map(named).collect();
    counted.sort_by_key(|names| std::cmp::Reverse(names.agree + names.differ + names.unknown));
    (counted, disagreements)
}

/// Domains without a proposal, collected.
#[derive(Debug, Default)]
struct Reasons(BTreeMap<Reason, Undecided>);

impl Reasons {
    /// Domains are added in the order of their mail, the most first.
    fn add(&mut self, reason: Reason, domain: &str, mails: u64, found: Option<String>) {
        let undecided = self.of(reason);
        undecided.domains += 1;
        undecided.mails = undecided.mails.saturating_add(mails);
        if undecided.examples.len() < MAX_EXAMPLES {
            undecided.examples.push(Example { domain: domain.to_owned(), mails, found });
        }
    }

    /// Mails to domains that were not kept by name.
    fn count(&mut self, reason: Reason, mails: u64) {
        if mails > 0 {
            self.of(reason).mails += mails;
        }
    }

    fn of(&mut self, reason: Reason) -> &mut Undecided {
        let fresh = || Undecided { reason, domains: 0, mails: 0, examples: Vec::new() };
        self.0.entry(reason).or_insert_with(fresh)
    }

    fn into_list(self) -> Vec<Undecided> {
        self.0.into_values().collect()
    }
}

impl Proposed {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match &self.change {
            Some(Change { done: Done::Declined | Done::Conflict, .. }) => Exit::No,
            Some(_) | None if self.looked_up > 0 && self.unanswered == self.looked_up => Exit::Refused,
            Some(_) | None => Exit::Done,
        }
    }
}

/// Shows what would be added to the policy of this name, and asks whether to go on.
pub type Ask<'a> = &'a dyn Fn(&str, &Change) -> bool;

/// Adds the proposals to the policy of a stack and pushes it, if the answer is yes. `current`: the policy as read before; if
/// another person pushed one since, nothing is pushed.
///
/// # Errors
///
/// The resulting policy is not valid, or AWS refuses.
pub async fn apply(
    access: &Access,
    current: Option<&StoredPolicy>,
    proposed: &mut Proposed,
    ask: Ask<'_>,
    now: Now,
) -> Result<(), Failure> {
    let before = current.map_or("", |current| current.toml.as_str());
    let name = current.map_or("the default policy".to_owned(), |current| format!("version {}", current.version));
    let edited = edit(&name, before, &proposed.proposals)?;
    let mut change =
        Change { file: None, added: edited.added, kept: edited.kept, done: Done::NothingToAdd, push: None };
    if !change.added.is_empty() {
        if ask(&name, &change) {
            let push =
                policies::push_onto(access, current, &format!("{name} with more ISPs"), &edited.toml, now).await?;
            change.done = match push.outcome {
                Outcome::Pushed | Outcome::Unchanged => Done::Pushed,
                Outcome::Conflict => Done::Conflict,
            };
            change.push = Some(push);
        } else {
            change.done = Done::Declined;
        }
    }
    proposed.change = Some(change);
    Ok(())
}

/// Adds the proposals to a policy in a file. Returns the new text of the file, if there is something to add.
///
/// # Errors
///
/// The policy is not valid, before or after the change.
pub fn write(file: &str, toml: &str, proposed: &mut Proposed) -> Result<Option<String>, InvalidPolicy> {
    let edited = edit(file, toml, &proposed.proposals)?;
    let done = if edited.added.is_empty() { Done::NothingToAdd } else { Done::Written };
    let (added, kept) = (edited.added, edited.kept);
    proposed.change = Some(Change { file: Some(file.to_owned()), added, kept, done, push: None });
    Ok((done == Done::Written).then_some(edited.toml))
}

fn edit(file: &str, before: &str, proposals: &[Proposal]) -> Result<entries::Edited, InvalidPolicy> {
    parsed(file, before)?;
    let edited = entries::edited(before, proposals);
    let edited = edited.map_err(|error| invalid(file, PolicyFault::from(error.to_string())))?;
    parsed(&format!("{file} with more ISPs"), &edited.toml)?;
    Ok(edited)
}
