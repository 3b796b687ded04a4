//! An operator's command about subjects: stop, resume, bypass, shadow, release.
//!
//! It goes through the breaker, as at SES itself: the breaker records the person's command, the desired state is written in
//! the same transaction, and the enforcer applies it, which the command waits for ([`obey`]). Who gave the command, and why, is
//! reported with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws::layout::StackParameters;
use pipeline::control::Flow;
use pipeline::enforce::renew;
use pipeline::evaluate::apply_input;
use pipeline::ports::{
    Board, Change, Committed, DesiredState, DesiredStates as _, Disposition, PortError, Relative, Reputation, Saved,
    SubjectState,
};
use pipeline::stream::{Fold, Sequence, Shard};
use pipeline::wording::key_name;
use reputation::breaker::{Input, Override, State, StateName};
use reputation::isp::Isp;
use reputation::policy::{Mode, Policy};
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::timeline::Timeline;
use serde::Serialize;
use terminal::{sanitize, suggest};

use crate::asking::{Asking, Confirmed, Question};
use crate::failure::Failure;
use crate::obey::{self, Obeyed};
use crate::{Access, Exit};

/// The commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorCommand {
    /// Stop until a person resumes. `pause` in JSON, its former name.
    #[serde(rename = "pause")]
    Stop,
    /// Resume sending.
    Resume,
    /// Keep sending, whatever the verdict. `hold` in JSON, its former name.
    #[serde(rename = "hold")]
    Bypass,
    /// Decide and report without acting.
    Shadow,
    /// Return to the breaker's decisions.
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

/// A command with its options.
#[derive(Clone, Debug)]
pub struct CommandRequest {
    /// How long to wait for SES, at most.
    pub wait: Duration,
    /// The command.
    pub command: OperatorCommand,
    /// Why.
    pub reason: Option<String>,
    /// Accept subjects that the stack has never seen.
    pub force: bool,
}

/// Longer reasons do not fit an alert.
const MAX_REASON: usize = 500;

/// A reason as it is stored and sent.
///
/// # Errors
///
/// It is empty or too long; the message says which.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    match text.chars().count() {
        _ if text.trim().is_empty() => Err("a reason must not be empty".to_owned()),
        ..=MAX_REASON => Ok(text.trim().to_owned()),
        count => Err(format!("a reason has at most {MAX_REASON} characters; this one has {count}")),
    }
}

/// What a command changed.
#[derive(Clone, Debug, Serialize)]
pub struct CommandResult {
    /// The subject.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// The command.
    #[serde(rename = "word")]
    pub command: OperatorCommand,
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// The state of the breaker before.
    pub from: StateName,
    /// The state of the breaker after.
    pub to: StateName,
    /// Whether an application asks the gate.
    #[serde(skip)]
    pub gate: bool,
    /// Whether the breaker changed.
    pub changed: bool,
    /// What SES is asked for: `flowing`, `stopped`, or null for nothing.
    pub ses: Option<&'static str>,
    /// The result at SES; null where SES is asked for nothing.
    pub obeyed: Option<Obeyed>,
    /// The consequences, in sentences.
    pub outcome: Vec<String>,
    /// The name of the key.
    #[serde(skip)]
    pub key: String,
    /// The exit code.
    #[serde(skip)]
    pub exit: Exit,
}

/// Gives a command about subjects, or about them at one ISP, and waits until SES has done it. One result for each.
///
/// # Errors
///
/// Nothing was changed if the stack has never seen one of the subjects, the policy does not name the ISP, or the stack does not
/// permit the command. If AWS refuses, the subjects before were changed, and this one may have been; giving the command again
/// is safe.
pub async fn give(
    access: &Access,
    subjects: &[Subject],
    isp: Option<&str>,
    request: &CommandRequest,
    now: Now,
    asking: &Asking<'_>,
) -> Result<Vec<CommandResult>, Failure> {
    let policy = access.policy().await?.policy;
    let isp = isp_named(&policy, isp)?;
    let mut store = access.reputation(&policy);
    for subject in subjects {
        if !request.force {
            check_heard_of(access, &mut store, subject, request.command == OperatorCommand::Stop).await?;
        }
        if request.command == OperatorCommand::Stop && isp.is_none() && !policy.is_shadow(subject) {
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
        decided.push(decide(access, &policy, key, request, &by, now).await?);
    }
    let wanted: Vec<(Subject, Flow)> =
        decided.iter().filter_map(|decided| Some((decided.key.subject.clone(), decided.ses?))).collect();
    let mut obeyed = obey::wait(access, &mut store, &wanted, request.wait, asking.progress).await.into_iter();
    let result = |decided: Decided| {
        let obeyed = if decided.ses.is_some() { obeyed.next() } else { None };
        decided.result(&policy, request, &by, obeyed, now)
    };
    Ok(decided.into_iter().map(result).collect())
}

/// Resumes all of the subjects, then waits for each; returns their results.
///
/// # Errors
///
/// AWS refuses: some were resumed, and some may not have been.
pub(crate) async fn resume_all(
    access: &Access,
    subjects: &[Subject],
    request: &CommandRequest,
    now: Now,
    asking: &Asking<'_>,
) -> Result<Vec<Obeyed>, Failure> {
    let policy = access.policy().await?.policy;
    let by = access.who().await;
    for subject in subjects {
        decide(access, &policy, Key { subject: subject.clone(), isp: None }, request, &by, now).await?;
    }
    let wanted: Vec<(Subject, Flow)> = subjects.iter().map(|subject| (subject.clone(), Flow::Flowing)).collect();
    Ok(obey::wait(access, &mut access.reputation(&policy), &wanted, request.wait, asking.progress).await)
}

/// What a command has changed in the table.
struct Decided {
    key: Key,
    /// Nothing is done about the key, whatever the command.
    shadow: bool,
    from: State,
    to: State,
    changed: bool,
    /// The desired state "stopped" was missing, and was written again.
    renewed: bool,
    /// What SES is asked for.
    ses: Option<Flow>,
}

async fn decide(
    access: &Access,
    policy: &Policy,
    key: Key,
    request: &CommandRequest,
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
    let note = pipeline::transition::PersonNote { by: sanitize(by), why: request.reason.as_deref().map(sanitize) };
    let mut signed = Signed { store, note };
    let changes = apply_input(policy, &mut signed, &key, request.command.input(), now).await.map_err(refused)?;
    let after = changes.first().map_or(&before, |change| &change.next);
    let ses = changes.iter().flat_map(|change| &change.controls).find_map(|control| control.kind.at_ses());
    let (from, to, changed) = (before.state, after.state, !changes.is_empty());
    let mut store = signed.store;
    // A breaker that is open does not change; its desired state may be missing nevertheless.
    let renewed = request.command == OperatorCommand::Stop
        && key.isp.is_none()
        && ses.is_none()
        && renew(&mut store, &key.subject, now).await.map_err(refused)?;
    let ses = match ses {
        Some(flow) => Some(flow),
        None if renewed => Some(Flow::Stopped),
        None if !shadow && has_switch(&key) => {
            desired_before(&mut store, &key, request.command, changed).await.map_err(refused)?
        }
        None => None,
    };
    Ok(Decided { key, shadow, from, to, changed, renewed, ses })
}

/// What SES was already asked for, if the command asks for the same: an open breaker is already stopped, and a resume may be in
/// flight.
async fn desired_before(
    store: &mut aws::reputation::DynamoReputation,
    key: &Key,
    command: OperatorCommand,
    changed: bool,
) -> Result<Option<Flow>, PortError> {
    let is_asked = |desired: &&DesiredState| match (command, desired.flow) {
        (OperatorCommand::Stop, Flow::Stopped) => true,
        (OperatorCommand::Resume, Flow::Flowing) => !changed && !desired.is_true(),
        (
            OperatorCommand::Stop
            | OperatorCommand::Resume
            | OperatorCommand::Bypass
            | OperatorCommand::Shadow
            | OperatorCommand::Release,
            _,
        ) => false,
    };
    let stored = store.desired_states().await?;
    let desired = stored.iter().filter(|desired| desired.target == key.subject).find(is_asked);
    Ok(desired.map(|desired| desired.flow))
}

impl Decided {
    fn result(
        self,
        policy: &Policy,
        request: &CommandRequest,
        by: &str,
        obeyed: Option<Obeyed>,
        now: Now,
    ) -> CommandResult {
        let isps = &policy.isp_map;
        let (outcome, exit) = outcome(policy, &self, request.command, obeyed.as_ref(), now);
        CommandResult {
            subject: self.key.subject.to_string(),
            isp: self.key.isp.map(|isp| isps.name(isp).to_owned()),
            command: request.command,
            by: by.to_owned(),
            reason: request.reason.clone(),
            from: self.from.name(),
            to: self.to.name(),
            gate: policy.gate_in_use,
            changed: self.changed,
            ses: self.ses.map(aws::layout::flow_name),
            obeyed,
            outcome,
            key: key_name(&self.key, isps),
            exit,
        }
    }
}

fn check_confirmed(access: &Access, asking: &Asking<'_>) -> Result<(), Failure> {
    match (asking.confirm)(&Question::StopAccount { region: &access.region }) {
        Confirmed::Yes => Ok(()),
        Confirmed::No => Err(Failure::Declined),
        Confirmed::Nobody => Err(Failure::Unconfirmed),
    }
}

/// Checks that the enforcer may stop a subject at SES, as far as the enforcer has recorded its permissions.
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

/// The ISP with this name, in any case.
pub(crate) fn isp_named(policy: &Policy, name: Option<&str>) -> Result<Option<Isp>, Failure> {
    let Some(name) = name else { return Ok(None) };
    let isps = &policy.isp_map;
    // ISP names are in lower case.
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

/// Checks that the stack has seen the subject in some way, so that a typing error stops nothing.
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
    // A subject may be stopped before its first mail.
    let stored = store.desired_states().await.map_err(|error| access.refused(error))?;
    if stored.iter().any(|desired| desired.target == *subject) {
        return Ok(());
    }
    known.extend(stored.iter().map(|desired| desired.target.to_string()));
    known.sort_unstable();
    known.dedup();
    let (subject, stack) = (subject.to_string(), access.stack.clone());
    let nearest = owned(suggest(&subject, known.iter().map(String::as_str)));
    Err(Failure::UnknownSubject { subject, stack, nearest, forceable })
}

/// The consequences of a command, in sentences, and the exit code.
fn outcome(
    policy: &Policy,
    decided: &Decided,
    command: OperatorCommand,
    obeyed: Option<&Obeyed>,
    now: Now,
) -> (Vec<String>, Exit) {
    let Decided { key, shadow, from, changed, renewed, ses, .. } = decided;
    let subject = &key.subject;
    let mut sentences = Vec::new();
    let mut exit = Exit::Done;
    if !changed {
        sentences.push(match command {
            OperatorCommand::Stop if ses.is_some() => "It was already stopped by a person.".to_owned(),
            OperatorCommand::Stop => "It was already stopped by a person; nothing changes.".to_owned(),
            OperatorCommand::Resume => {
                "It was already sending, and no person's command was in force; nothing changes.".to_owned()
            }
            OperatorCommand::Bypass => "It was already bypassed; nothing changes.".to_owned(),
            OperatorCommand::Shadow => "It was already in shadow; nothing changes.".to_owned(),
            OperatorCommand::Release => "It was already left to its breaker; nothing changes.".to_owned(),
        });
        if let (OperatorCommand::Resume, Subject::ConfigurationSet(name), None, None) = (command, subject, key.isp, ses)
            && **name != *Subject::UNTAGGED
        {
            let name = terminal::quoted(name);
            sentences.push(format!(
                "If SES still refuses its mail, a person stopped it at SES: aws sesv2 \
                 put-configuration-set-sending-options --sending-enabled --configuration-set-name {name}"
            ));
        }
    }
    if *renewed {
        sentences.push("The request to stop it was missing, and was written again.".to_owned());
    }
    match command {
        OperatorCommand::Stop if ses.is_some() => {}
        OperatorCommand::Stop if *changed && asks_the_gate(policy, key) && !shadow => sentences.push(
            "From now on the gate grants it only the reserve for critical mail. Mail that is sent without asking \
             the gate still goes out: SES has no switch for it."
                .to_owned(),
        ),
        OperatorCommand::Stop if *changed || *shadow || !has_switch(key) => {
            sentences.push(nothing_stopped(policy, key, *shadow));
            exit = Exit::No;
        }
        OperatorCommand::Stop
        | OperatorCommand::Resume
        | OperatorCommand::Bypass
        | OperatorCommand::Shadow
        | OperatorCommand::Release => {
            if ses.is_none() && *shadow && *changed && matches!(from, State::Open { .. }) {
                sentences.push(format!("{} decides in shadow: SES is asked for nothing.", in_shadow(policy, key)));
            }
        }
    }
    if let (Some(flow), Some(obeyed)) = (ses, obeyed) {
        sentences.extend(of_ses(key, *flow, obeyed));
        if !obeyed.is_so() && *obeyed != Obeyed::NotWaited {
            exit = Exit::No;
        }
    }
    if command != OperatorCommand::Stop && *changed {
        let from = now.next_minute();
        let release = format!("ses-breaker release {}{}", quoted(subject), at_isp(policy, key));
        sentences.push(match command {
            OperatorCommand::Bypass => format!("Verdicts are only reported until: {release}"),
            OperatorCommand::Shadow => format!(
                "Only mail that SES accepts from {from} UTC on is judged. Decisions are only \
                 reported until: {release}"
            ),
            OperatorCommand::Stop | OperatorCommand::Resume | OperatorCommand::Release => {
                format!("Only mail that SES accepts from {from} UTC on is judged.")
            }
        });
    }
    if command == OperatorCommand::Stop && ses.is_some() {
        sentences.push(format!("Only a person can resume it: ses-breaker resume {}", quoted(subject)));
    }
    if obeyed.is_some_and(|obeyed| !obeyed.is_so()) {
        sentences.push(format!("To see the progress: ses-breaker status {}", quoted(subject)));
    }
    (sentences, exit)
}

/// What SES did about a request, in sentences.
fn of_ses(key: &Key, wanted: Flow, obeyed: &Obeyed) -> Vec<String> {
    let so = match wanted {
        Flow::Stopped => "SES accepts no more mail of it; mail that it accepted before still goes out",
        Flow::Flowing => "SES accepts its mail again",
    };
    let tries = "The enforcer keeps trying every few minutes.";
    match obeyed {
        Obeyed::Seen { seconds } => vec![format!("{so}: confirmed by SES after {seconds} s.")],
        Obeyed::Noted { seconds, reason } => vec![
            format!("{so}: recorded by the enforcer after {seconds} s."),
            format!("SES itself was not asked: {}", sanitize(reason)),
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
                    "The template gives the enforcer's role this permission; a service control policy or a permissions \
                     boundary may deny it."
                }
            };
            vec![format!("SES refuses it: {}", sanitize(reason)), format!("{remedy} {tries}")]
        }
        Obeyed::NotYet { seconds, reason } => {
            let why = reason.as_ref().map_or_else(String::new, |reason| format!(" ({})", sanitize(reason)));
            vec![format!("SES has not done it after {seconds} s{why}. {tries}")]
        }
        Obeyed::NotWaited => vec![
            "The enforcer asks SES within seconds, and checks again every 5 minutes until SES has done it.".to_owned(),
        ],
        Obeyed::Overruled => vec!["Meanwhile a person or the breaker asked SES for the opposite.".to_owned()],
        Obeyed::Gone => vec!["It does not exist at SES.".to_owned()],
        Obeyed::OtherStack { stack } => {
            vec![format!("The ses-breaker stack {} stopped it: resume it with that stack.", sanitize(stack))]
        }
    }
}

pub(crate) fn quoted(subject: &Subject) -> String {
    terminal::quoted(&subject.to_string())
}

pub(crate) fn at_isp(policy: &Policy, key: &Key) -> String {
    key.isp.map(|isp| format!(" --isp {}", policy.isp_map.name(isp))).unwrap_or_default()
}

/// Whether the policy's gate is asked about such mail: the gate knows sets, identities and ISPs.
fn asks_the_gate(policy: &Policy, key: &Key) -> bool {
    let known = match &key.subject {
        Subject::ConfigurationSet(name) => policy.warmup.sets.contains_key(&**name),
        Subject::Identity(_) | Subject::Account => !policy.warmup.sets.is_empty(),
        Subject::Tenant(_) | Subject::Tag(..) => false,
    };
    policy.gate_in_use && known
}

/// Whether SES has a switch for it.
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

/// Why a stop has no effect at SES, and what would have one.
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
                terminal::quoted(name)
            ),
            Subject::Account | Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..) => {
                "stop it at SES, or push a policy with mode = \"act\"".to_owned()
            }
        };
        return format!(
            "Nothing is stopped: {} decides in shadow, so SES is not asked. To stop it anyway: {how}",
            in_shadow(policy, key).to_lowercase()
        );
    }
    format!(
        "SES has no switch for {what}, so without the gate nothing is stopped. From now on the gate grants it nothing, but \
         mail that is sent without asking still goes out. SES can stop: ses-breaker stop configuration-set:NAME"
    )
}

/// A store that records with every change who asked for it, and why.
struct Signed<R> {
    store: R,
    note: pipeline::transition::PersonNote,
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
            change.transition.iter_mut().for_each(|transition| transition.said = Some(self.note.clone()));
            let signature = format!(" ({})", self.note);
            change.controls.iter_mut().for_each(|control| control.reason.push_str(&signature));
        }
        self.store.save(&changes).await
    }
}
