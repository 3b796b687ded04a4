//! A person's command about subjects: stop, resume, bypass, shadow, release.
//!
//! It goes through the breaker, as at SES itself: the breaker remembers that a person said so, the wish is written in
//! the same transaction, and the enforcer makes it true, which is waited for ([`obey`]). Who said it and why is reported with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws::layout::StackParameters;
use pipeline::enforce::{DesiredState, DesiredStates as _, Flow, renew};
use pipeline::evaluate::apply_input;
use pipeline::fold::{Fold, Sequence, Shard};
use pipeline::notice::key_name;
use pipeline::ports::{Board, Change, Committed, Disposition, PortError, Relative, Reputation, Saved, SubjectState};
use replay::cli::suggest::suggest;
use replay::text::{TermStyle, sanitize};
use reputation::breaker::{Input, Override, State, StateName};
use reputation::isp::Isp;
use reputation::policy::{Mode, Policy};
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::timeline::Timeline;
use serde::Serialize;

use crate::connect::Progress;
use crate::failure::Failure;
use crate::obey::{self, Obeyed};
use crate::{Access, Answer, Exit, text};

/// What a person can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorCommand {
    /// Stop, until a person resumes it. `pause` in JSON, as it was called before.
    #[serde(rename = "pause")]
    Stop,
    /// Send again.
    Resume,
    /// Keep sending, whatever the verdict. `hold` in JSON, as it was called before.
    #[serde(rename = "hold")]
    Bypass,
    /// Decide and report, and do nothing.
    Shadow,
    /// As the breaker says again.
    Release,
}

impl OperatorCommand {
    fn input(self) -> Input<'static> {
        match self {
            OperatorCommand::Stop => Input::PersonStops,
            OperatorCommand::Resume => Input::PersonResumes,
            OperatorCommand::Bypass => Input::PersonBypasses,
            OperatorCommand::Shadow => Input::PersonShadows,
            OperatorCommand::Release => Input::PersonReleases,
        }
    }
}

/// A word, and how it is said.
#[derive(Clone, Debug)]
pub struct CommandRequest {
    /// How long to wait until SES has done it, at most.
    pub wait: Duration,
    /// What is said.
    pub word: OperatorCommand,
    /// Why.
    pub reason: Option<String>,
    /// Even about somebody who was never heard of.
    pub force: bool,
}

/// What a person answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// Do it.
    Yes,
    /// Leave it.
    No,
    /// There is nobody to ask.
    Nobody,
}

/// How a person is reached while a word is said.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Shown what is being done.
    pub progress: Progress<'a>,
    /// Asked before all mail is stopped.
    pub confirm: &'a dyn Fn(&str) -> Confirmed,
}

impl Asking<'_> {
    /// Nobody is there, and nobody watches.
    pub const NOBODY: Asking<'static> = Asking { progress: &|_, _, _| {}, confirm: &|_| Confirmed::Nobody };
    /// It was confirmed before.
    pub const CONFIRMED: Asking<'static> = Asking { progress: &|_, _, _| {}, confirm: &|_| Confirmed::Yes };
}

/// More of a reason does not fit an alert.
const MAX_REASON: usize = 500;

/// A reason as it is stored and told.
///
/// # Errors
///
/// There is none, or it is too long: says so.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    match text.chars().count() {
        _ if text.trim().is_empty() => Err("say why in some words".to_owned()),
        ..=MAX_REASON => Ok(text.trim().to_owned()),
        count => Err(format!("{count} characters; at most {MAX_REASON} fit an alert")),
    }
}

/// What a word changed.
#[derive(Clone, Debug, Serialize)]
pub struct CommandResult {
    /// Whose breaker.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// What was said.
    pub word: OperatorCommand,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// State of the breaker before.
    pub from: StateName,
    /// And after.
    pub to: StateName,
    /// Whether an application asks the gate.
    #[serde(skip)]
    pub gate: bool,
    /// Whether anything has changed.
    pub changed: bool,
    /// What SES is asked for: `flowing`, `stopped`, or null for nothing.
    pub ses: Option<&'static str>,
    /// What has come of that; null where SES is asked for nothing.
    pub obeyed: Option<Obeyed>,
    /// What follows from it, in words.
    pub outcome: Vec<String>,
}

/// Says a word about subjects, or about them at one ISP, and waits until SES has done it. In JSON, one document for each.
///
/// # Errors
///
/// Nobody ever heard of one of the subjects, nothing is named like the ISP, or the stack may not do it: nothing was changed.
/// Or AWS refuses: it was said about the subjects before, and about this one it was said, or not; saying it again is safe.
pub async fn say(
    access: &Access,
    subjects: &[Subject],
    isp: Option<&str>,
    saying: &CommandRequest,
    now: Now,
    look: TermStyle,
    asking: &Asking<'_>,
) -> Result<Answer, Failure> {
    let policy = access.policy().await?.policy;
    let isp = isp_named(&policy, isp)?;
    let mut store = access.reputation(&policy);
    for subject in subjects {
        if !saying.force {
            check_heard_of(access, &mut store, subject, saying.word == OperatorCommand::Stop).await?;
        }
        if saying.word == OperatorCommand::Stop && isp.is_none() && !policy.is_shadow(subject) {
            check_permitted(access, &store, subject).await?;
            if *subject == Subject::Account {
                check_confirmed(access, asking)?;
            }
        }
    }
    let by = access.who().await;
    let mut decided = Vec::new();
    for subject in subjects {
        let key = Key { subject: subject.clone(), isp };
        decided.push(decide(access, &policy, key, saying, &by, now).await?);
    }
    let wanted: Vec<(Subject, Flow)> =
        decided.iter().filter_map(|decided| Some((decided.key.subject.clone(), decided.ses?))).collect();
    let mut obeyed = obey::wait(access, &mut store, &wanted, saying.wait, asking.progress).await.into_iter();
    let mut answer = Answer { text: String::new(), json: String::new(), exit: Exit::Done };
    for decided in decided {
        let obeyed = if decided.ses.is_some() { obeyed.next() } else { None };
        let said = decided.said(&policy, saying, &by, obeyed, now, look);
        answer.text.push_str(&said.text);
        answer.json.push_str(&said.json);
        if said.exit != Exit::Done {
            answer.exit = said.exit;
        }
    }
    Ok(answer)
}

/// Resumes subjects, all before any is waited for; what came of each.
///
/// # Errors
///
/// AWS refuses: some were resumed, or not.
pub(crate) async fn resume_all(
    access: &Access,
    subjects: &[Subject],
    saying: &CommandRequest,
    now: Now,
    asking: &Asking<'_>,
) -> Result<Vec<Obeyed>, Failure> {
    let policy = access.policy().await?.policy;
    let by = access.who().await;
    for subject in subjects {
        decide(access, &policy, Key { subject: subject.clone(), isp: None }, saying, &by, now).await?;
    }
    let wanted: Vec<(Subject, Flow)> = subjects.iter().map(|subject| (subject.clone(), Flow::Flowing)).collect();
    Ok(obey::wait(access, &mut access.reputation(&policy), &wanted, saying.wait, asking.progress).await)
}

/// What a word has changed in the table.
struct Decided {
    key: Key,
    /// Nothing is done about the key, whatever is said about it.
    shadow: bool,
    from: State,
    to: State,
    changed: bool,
    /// The wish to stop it was missing, and is written anew.
    renewed: bool,
    /// What SES is asked for.
    ses: Option<Flow>,
}

async fn decide(
    access: &Access,
    policy: &Policy,
    key: Key,
    saying: &CommandRequest,
    by: &str,
    now: Now,
) -> Result<Decided, Failure> {
    let isps = &policy.isp_map;
    let mut store = access.reputation(policy);
    let refused = |error| access.refused(error);
    let subject_state = store.subject_state(&key.subject, now).await.map_err(refused)?;
    if subject_state.unreadable.contains(&key.isp) {
        let item = format!("{} / {}", key.subject, aws::layout::breaker_sk(key.isp, isps));
        let reason = format!(
            "this release does not understand the stored breaker (item {item}), so it stays as it is: use the release that wrote \
             it, or delete the item, which makes it sending"
        );
        return Err(refused(PortError { operation: "reading a breaker", reason, disposition: Disposition::Halt }));
    }
    let before = subject_state.breaker(key.isp).breaker;
    let whole = if key.isp.is_some() { subject_state.breaker(None).breaker.overridden } else { Override::None };
    let shadow = policy.is_shadow(&key.subject) || whole == Override::Shadow;
    let word = pipeline::ports::PersonNote { by: sanitize(by), why: saying.reason.as_deref().map(sanitize) };
    let mut signed = Signed { store, said: word };
    let changes = apply_input(policy, &mut signed, &key, saying.word.input(), now).await.map_err(refused)?;
    let after = changes.first().map_or(&before, |change| &change.next);
    let ses = changes.iter().flat_map(|change| &change.controls).find_map(|control| control.kind.at_ses());
    let (from, to, changed) = (before.state, after.state, !changes.is_empty());
    let mut store = signed.store;
    // What is open already changes nothing; its wish may be lost all the same.
    let renewed = saying.word == OperatorCommand::Stop
        && key.isp.is_none()
        && ses.is_none()
        && renew(&mut store, &key.subject, now).await.map_err(refused)?;
    let ses = match ses {
        Some(flow) => Some(flow),
        None if renewed => Some(Flow::Stopped),
        None if !shadow && has_switch(&key) => {
            wished_before(&mut store, &key, saying.word, changed).await.map_err(refused)?
        }
        None => None,
    };
    Ok(Decided { key, shadow, from, to, changed, renewed, ses })
}

/// What SES was asked for before, where that is what the word asks for, too: what is open already is stopped already, and a
/// resume may be under way.
async fn wished_before(
    store: &mut aws::reputation::DynamoReputation,
    key: &Key,
    word: OperatorCommand,
    changed: bool,
) -> Result<Option<Flow>, PortError> {
    let is_asked = |wished: &&DesiredState| match (word, wished.wish) {
        (OperatorCommand::Stop, Flow::Stopped) => true,
        (OperatorCommand::Resume, Flow::Flowing) => !changed && !wished.is_true(),
        (
            OperatorCommand::Stop
            | OperatorCommand::Resume
            | OperatorCommand::Bypass
            | OperatorCommand::Shadow
            | OperatorCommand::Release,
            _,
        ) => false,
    };
    let wishes = store.wishes().await?;
    let wished = wishes.iter().filter(|wished| wished.target == key.subject).find(is_asked);
    Ok(wished.map(|wished| wished.wish))
}

impl Decided {
    fn said(
        self,
        policy: &Policy,
        saying: &CommandRequest,
        by: &str,
        obeyed: Option<Obeyed>,
        now: Now,
        look: TermStyle,
    ) -> Answer {
        let isps = &policy.isp_map;
        let (outcome, exit) = outcome(policy, &self, saying.word, obeyed.as_ref(), now);
        let said = CommandResult {
            subject: self.key.subject.to_string(),
            isp: self.key.isp.map(|isp| isps.name(isp).to_owned()),
            word: saying.word,
            by: by.to_owned(),
            reason: saying.reason.clone(),
            from: self.from.name(),
            to: self.to.name(),
            gate: policy.gate_in_use,
            changed: self.changed,
            ses: self.ses.map(aws::layout::flow_name),
            obeyed,
            outcome,
        };
        Answer::new(text::said(&said, &key_name(&self.key, isps), look), &said, exit)
    }
}

fn check_confirmed(access: &Access, asking: &Asking<'_>) -> Result<(), Failure> {
    let question = format!("This stops all mail of the account in {}. Stop it?", access.region);
    match (asking.confirm)(&question) {
        Confirmed::Yes => Ok(()),
        Confirmed::No => Err(Failure::Declined),
        Confirmed::Nobody => Err(Failure::Unconfirmed),
    }
}

/// That the enforcer may stop a subject at SES, as far as it has said what it may do.
async fn check_permitted(
    access: &Access,
    store: &aws::reputation::DynamoReputation,
    subject: &Subject,
) -> Result<(), Failure> {
    let of: (&str, fn(&StackParameters) -> bool) = match subject {
        Subject::Account => ("MayPauseAccount", |parameters| parameters.account),
        Subject::Tenant(_) => ("Tenants", |parameters| parameters.tenants),
        Subject::ConfigurationSet(_) | Subject::Identity(_) | Subject::Tag(..) => return Ok(()),
    };
    let (parameter, is_permitted) = of;
    let parameters = store.parameters().await.map_err(|error| access.refused(error))?;
    let may = parameters.as_ref().is_none_or(is_permitted);
    let (subject, stack) = (subject.clone(), access.stack.clone());
    if may { Ok(()) } else { Err(Failure::NotPermitted { subject, stack, parameter }) }
}

/// The ISP of this name, in any case.
pub(crate) fn isp_named(policy: &Policy, name: Option<&str>) -> Result<Option<Isp>, Failure> {
    let Some(name) = name else { return Ok(None) };
    let isps = &policy.isp_map;
    // Names of ISPs are in lower case.
    let lower = name.to_ascii_lowercase();
    let unknown = || Failure::UnknownIsp {
        name: name.to_owned(),
        nearest: owned(suggest(&lower, isps.isps().map(|isp| isps.name(isp)))),
    };
    isps.by_name(&lower).map(Some).ok_or_else(unknown)
}

pub(crate) fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// So that a typing error stops nothing: a subject that the stack knows of in some way.
pub(crate) async fn check_heard_of(
    access: &Access,
    store: &mut aws::reputation::DynamoReputation,
    subject: &Subject,
    forceable: bool,
) -> Result<(), Failure> {
    if *subject == Subject::Account {
        return Ok(());
    }
    let directory = store.directory().await.map_err(|error| access.refused(error))?;
    let mut known: Vec<String> = directory.keys().map(Subject::to_string).collect();
    if directory.contains_key(subject) {
        return Ok(());
    }
    // One that was stopped before its first mail.
    let wishes = store.wishes().await.map_err(|error| access.refused(error))?;
    if wishes.iter().any(|wished| wished.target == *subject) {
        return Ok(());
    }
    known.extend(wishes.iter().map(|wished| wished.target.to_string()));
    known.sort_unstable();
    known.dedup();
    let (subject, stack) = (subject.to_string(), access.stack.clone());
    let nearest = owned(suggest(&subject, known.iter().map(String::as_str)));
    Err(Failure::UnknownSubject { subject, stack, nearest, forceable })
}

/// What follows from a word, in sentences, and how the program ends.
fn outcome(
    policy: &Policy,
    decided: &Decided,
    word: OperatorCommand,
    obeyed: Option<&Obeyed>,
    now: Now,
) -> (Vec<String>, Exit) {
    let Decided { key, shadow, from, changed, renewed, ses, .. } = decided;
    let subject = &key.subject;
    let mut said = Vec::new();
    let mut exit = Exit::Done;
    if !changed {
        said.push(match word {
            OperatorCommand::Stop if ses.is_some() => "A person had stopped it before.".to_owned(),
            OperatorCommand::Stop => "A person had stopped it before; nothing changes.".to_owned(),
            OperatorCommand::Resume => {
                "It was sending already, and no command of a person was in force; nothing changes.".to_owned()
            }
            OperatorCommand::Bypass => "It was bypassed before; nothing changes.".to_owned(),
            OperatorCommand::Shadow => "It was in shadow before; nothing changes.".to_owned(),
            OperatorCommand::Release => "It was left to its breaker before; nothing changes.".to_owned(),
        });
        if let (OperatorCommand::Resume, Subject::ConfigurationSet(name), None, None) = (word, subject, key.isp, ses)
            && **name != *Subject::UNTAGGED
        {
            let name = replay::text::quoted(name);
            said.push(format!(
                "Should SES refuse its mail all the same, a person stopped it there: aws sesv2 \
                 put-configuration-set-sending-options --sending-enabled --configuration-set-name {name}"
            ));
        }
    }
    if *renewed {
        said.push("The request to stop it was missing, and is written again.".to_owned());
    }
    match word {
        OperatorCommand::Stop if ses.is_some() => {}
        OperatorCommand::Stop if *changed && asks_the_gate(policy, key) && !shadow => said.push(
            "The gate grants it nothing from now on but the reserve for critical mail. Mail that is sent without asking \
             the gate goes out: SES has no switch for it."
                .to_owned(),
        ),
        OperatorCommand::Stop if *changed || *shadow || !has_switch(key) => {
            said.push(nothing_stopped(policy, key, *shadow));
            exit = Exit::No;
        }
        OperatorCommand::Stop | OperatorCommand::Resume | OperatorCommand::Bypass | OperatorCommand::Shadow | OperatorCommand::Release => {
            if ses.is_none() && *shadow && *changed && matches!(from, State::Open { .. }) {
                said.push(format!("{} decides in shadow: SES is asked for nothing.", in_shadow(policy, key)));
            }
        }
    }
    if let (Some(flow), Some(obeyed)) = (ses, obeyed) {
        said.extend(of_ses(key, *flow, obeyed));
        if !obeyed.is_so() && *obeyed != Obeyed::NotWaited {
            exit = Exit::No;
        }
    }
    if word != OperatorCommand::Stop && *changed {
        let from = text::minute_of(now.next_minute());
        let release = format!("ses-breaker release {}{}", quoted(subject), at_isp(policy, key));
        said.push(match word {
            OperatorCommand::Bypass => format!("Verdicts are reported, not acted on, until: {release}"),
            OperatorCommand::Shadow => format!(
                "Only mail that SES accepts from {from} UTC on is judged. What its breaker decides is reported, and nothing is \
                 done, until: {release}"
            ),
            OperatorCommand::Stop | OperatorCommand::Resume | OperatorCommand::Release => {
                format!("Only mail that SES accepts from {from} UTC on is judged.")
            }
        });
    }
    if word == OperatorCommand::Stop && ses.is_some() {
        said.push(format!("Only a person resumes it: ses-breaker resume {}", quoted(subject)));
    }
    if obeyed.is_some_and(|obeyed| !obeyed.is_so()) {
        said.push(format!("How far that is: ses-breaker status {}", quoted(subject)));
    }
    (said, exit)
}

/// What SES has made of a wish, in sentences.
fn of_ses(key: &Key, wanted: Flow, obeyed: &Obeyed) -> Vec<String> {
    let so = match wanted {
        Flow::Stopped => "SES accepts no more mail of it; mail that it has accepted before still goes out",
        Flow::Flowing => "SES accepts its mail again",
    };
    let tries = "The request stays, and the enforcer tries again every few minutes.";
    match obeyed {
        Obeyed::Seen { seconds } => vec![format!("{so}: seen after {seconds} s.")],
        Obeyed::Noted { seconds, reason } => vec![
            format!("{so}, as the enforcer noted after {seconds} s."),
            format!("SES itself was not looked at: {}", sanitize(reason)),
        ],
        Obeyed::Refused { reason } => {
            let remedy = match &key.subject {
                Subject::Account => {
                    "The role of the enforcer may do this only where the stack's parameter MayPauseAccount is true."
                }
                Subject::Tenant(_) => {
                    "The role of the enforcer may do this only where the stack's parameter Tenants is true."
                }
                Subject::ConfigurationSet(_) | Subject::Identity(_) | Subject::Tag(..) => {
                    "The template gives the enforcer's role what it needs; a service control policy or a permissions \
                     boundary may take it away."
                }
            };
            vec![format!("SES refuses it: {}", sanitize(reason)), format!("{remedy} {tries}")]
        }
        Obeyed::NotYet { seconds, reason } => {
            let why = reason.as_ref().map_or_else(String::new, |reason| format!(" ({})", sanitize(reason)));
            vec![format!("It is not so at SES after {seconds} s{why}. {tries}")]
        }
        Obeyed::NotWaited => vec![
            "The enforcer asks SES for it within seconds, and looks again every 5 minutes until it is so.".to_owned(),
        ],
        Obeyed::Overruled => vec!["A person or the breaker has asked SES for the opposite meanwhile.".to_owned()],
        Obeyed::Gone => vec!["SES does not know it.".to_owned()],
        Obeyed::OtherStack { stack } => vec![format!(
            "The ses-breaker stack {} has stopped it, and this stack leaves that to it: resume it there.",
            sanitize(stack)
        )],
    }
}

pub(crate) fn quoted(subject: &Subject) -> String {
    replay::text::quoted(&subject.to_string())
}

pub(crate) fn at_isp(policy: &Policy, key: &Key) -> String {
    key.isp.map(|isp| format!(" --isp {}", policy.isp_map.name(isp))).unwrap_or_default()
}

/// Whether the gate, as far as the policy tells, is asked about such mail: it knows sets, identities and ISPs.
fn asks_the_gate(policy: &Policy, key: &Key) -> bool {
    let known = match &key.subject {
        Subject::ConfigurationSet(name) => policy.warmup.sets.contains_key(&**name),
        Subject::Identity(_) | Subject::Account => !policy.warmup.sets.is_empty(),
        Subject::Tenant(_) | Subject::Tag(..) => false,
    };
    policy.gate_in_use && known
}

/// Whether SES can stop it.
pub(crate) fn has_switch(key: &Key) -> bool {
    key.isp.is_none()
        && match &key.subject {
            Subject::ConfigurationSet(name) => **name != *Subject::UNTAGGED,
            Subject::Tenant(_) | Subject::Account => true,
            Subject::Identity(_) | Subject::Tag(..) => false,
        }
}

fn in_shadow(policy: &Policy, key: &Key) -> String {
    match policy.mode {
        Mode::Shadow => "The policy".to_owned(),
        Mode::Act if policy.is_shadow(&key.subject) => format!("The policy, for {},", key.subject),
        Mode::Act => format!("A person put all of {} in shadow: it", key.subject),
    }
}

/// Why a stop has no effect at SES, and what would.
fn nothing_stopped(policy: &Policy, key: &Key, shadow: bool) -> String {
    let what = match (&key.subject, key.isp) {
        (Subject::Account, Some(_)) => "an ISP",
        (_, Some(_)) => "one ISP of a sender",
        (Subject::Identity(_), None) => "an identity",
        (Subject::Tag(..), None) => "a tag",
        (Subject::ConfigurationSet(_), None) => "mail without a configuration set",
        (Subject::Tenant(_), None) => "a tenant",
        (Subject::Account, None) => "the account",
    };
    if shadow && !has_switch(key) {
        return format!(
            "Nothing is stopped: {} decides in shadow, so the gate grants as before, and SES has no switch for {what}.",
            in_shadow(policy, key).to_lowercase()
        );
    }
    if shadow {
        let how = match &key.subject {
            Subject::ConfigurationSet(name) => format!(
                "aws sesv2 put-configuration-set-sending-options --no-sending-enabled --configuration-set-name {}",
                replay::text::quoted(name)
            ),
            Subject::Account | Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..) => {
                "stop it at SES, or push a policy that acts".to_owned()
            }
        };
        return format!(
            "Nothing is stopped: {} decides in shadow, so SES is not asked. To stop it all the same: {how}",
            in_shadow(policy, key).to_lowercase()
        );
    }
    format!(
        "SES has no switch for {what}: without the gate, nothing is stopped. The gate grants it nothing from now on, but \
         mail that is sent without asking it goes out. What SES can stop: ses-breaker stop configuration-set:NAME"
    )
}

/// A store that notes with every change who asked for it, and why.
struct Signed<R> {
    store: R,
    said: pipeline::ports::PersonNote,
}

impl<R: Reputation> Reputation for Signed<R> {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }

    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }

    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError> {
        self.store.subject_state(subject, now).await
    }

    async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError> {
        self.store.relatives(subjects).await
    }

    async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError> {
        self.store.board(now).await
    }

    async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError> {
        self.store.account(now).await
    }

    async fn active(&mut self, since: Minute, now: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        self.store.active(since, now).await
    }

    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        let mut changes = changes.to_vec();
        for change in &mut changes {
            change.transition.iter_mut().for_each(|transition| transition.said = Some(self.said.clone()));
            let signature = format!(" ({})", self.said);
            change.controls.iter_mut().for_each(|control| control.reason.push_str(&signature));
        }
        self.store.save(&changes).await
    }
}
