//! A person's word about subjects: pause, resume, hold, shadow, release.
//!
//! It goes through the breaker, as at SES itself: the breaker remembers that a person said so, the wish is written in
//! the same transaction, and the enforcer makes it true. Who said it and why is told with it.

use std::sync::Arc;

use pipeline::enforce::{Flow, Wishes as _, renew};
use pipeline::evaluate::tell;
use pipeline::fold::{Fold, Sequence, Shard};
use pipeline::notice::key_name;
use pipeline::ports::{Board, Change, Committed, ControlKind, Disposition, Dossier, PortError, Reputation, Saved};
use replay::cli::nearest::nearest;
use replay::text::{Look, legible};
use reputation::breaker::{Hold, Input, State};
use reputation::isp::Isp;
use reputation::policy::{Mode, Policy};
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::timeline::Timeline;
use serde::Serialize;

use crate::failure::Failure;
use crate::{Access, Answer, Exit, text};

/// What a person can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Stop, until a person resumes it.
    Pause,
    /// Flow again.
    Resume,
    /// Flow, whatever the verdict.
    Hold,
    /// Decide and tell, and do nothing.
    Shadow,
    /// As the breaker says again.
    Release,
}

impl Word {
    fn input(self) -> Input<'static> {
        match self {
            Word::Pause => Input::PersonStops,
            Word::Resume => Input::PersonResumes,
            Word::Hold => Input::PersonHoldsClosed,
            Word::Shadow => Input::PersonShadows,
            Word::Release => Input::PersonReleases,
        }
    }
}

/// A word, and how it is said.
#[derive(Clone, Debug)]
pub struct Saying {
    /// What is said.
    pub word: Word,
    /// Why.
    pub reason: Option<String>,
    /// Even about somebody who was never heard of.
    pub force: bool,
}

/// More of a reason does not fit an alert.
const MOST_REASON: usize = 500;

/// A reason as it is stored and told.
///
/// # Errors
///
/// There is none, or it is too long: says so.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    match text.chars().count() {
        _ if text.trim().is_empty() => Err("say why in some words".to_owned()),
        ..=MOST_REASON => Ok(text.trim().to_owned()),
        count => Err(format!("{count} characters; at most {MOST_REASON} fit an alert")),
    }
}

/// What a word changed.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    /// Whose breaker.
    pub subject: String,
    /// At which ISP; null = at all.
    pub isp: Option<String>,
    /// What was said.
    pub word: Word,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// State of the breaker before.
    pub from: &'static str,
    /// And after.
    pub to: &'static str,
    /// Whether anything has changed.
    pub changed: bool,
    /// What SES will be told: `flowing`, `stopped`, or null for nothing.
    pub ses: Option<&'static str>,
    /// What follows from it, in words.
    pub outcome: Vec<String>,
}

/// Says a word about subjects, or about them at one ISP. In JSON, one document for each.
///
/// # Errors
///
/// Nobody ever heard of one of the subjects, or nothing is named like the ISP: nothing was changed. Or AWS refuses: it was said
/// about the subjects before, and about this one it was said, or not; saying it again is safe.
pub async fn say(
    access: &Access,
    subjects: &[Subject],
    isp: Option<&str>,
    saying: &Saying,
    now: Now,
    look: Look,
) -> Result<Answer, Failure> {
    let policy = access.policy().await?.policy;
    let isp = isp_named(&policy, isp)?;
    if !saying.force {
        let mut store = access.reputation(&policy);
        for subject in subjects {
            check_heard_of(access, &mut store, subject, saying.word == Word::Pause).await?;
        }
    }
    let by = access.who().await;
    let mut answer = Answer { text: String::new(), json: String::new(), exit: Exit::Done };
    for subject in subjects {
        let key = Key { subject: subject.clone(), isp };
        let said = say_about(access, &policy, &key, saying, &by, now, look).await?;
        answer.text.push_str(&said.text);
        answer.json.push_str(&said.json);
        if said.exit != Exit::Done {
            answer.exit = said.exit;
        }
    }
    Ok(answer)
}

async fn say_about(
    access: &Access,
    policy: &Policy,
    key: &Key,
    saying: &Saying,
    by: &str,
    now: Now,
    look: Look,
) -> Result<Answer, Failure> {
    let isps = &policy.isp_map;
    let mut store = access.reputation(policy);
    let refused = |error| access.refused(error);
    let dossier = store.dossier(&key.subject, now).await.map_err(refused)?;
    if dossier.unreadable.contains(&key.isp) {
        let item = format!("{} / {}", key.subject, aws::layout::breaker_sk(key.isp, isps));
        let reason = format!(
            "this release does not understand the stored breaker (item {item}), so it stays as it is: use the release that wrote \
             it, or delete the item, which makes it closed"
        );
        return Err(refused(PortError { operation: "reading a breaker", reason, disposition: Disposition::Halt }));
    }
    let before = dossier.breaker(key.isp).breaker;
    let whole = if key.isp.is_some() { dossier.breaker(None).breaker.hold } else { Hold::None };
    let shadow = policy.is_shadow(&key.subject) || whole == Hold::Shadow;
    let word = pipeline::ports::Said { by: legible(by), why: saying.reason.as_deref().map(legible) };
    let mut signed = Signed { store, said: word };
    let changes = tell(policy, &mut signed, key, saying.word.input(), now).await.map_err(refused)?;
    let after = changes.first().map_or(&before, |change| &change.next);
    let ses = changes.iter().flat_map(|change| &change.controls).find_map(|control| flow(control.kind));
    // What is open already changes nothing; its wish may be lost all the same.
    let renewed = saying.word == Word::Pause
        && key.isp.is_none()
        && ses.is_none()
        && renew(&mut signed.store, &key.subject, now).await.map_err(|error| access.refused(error))?;
    let ses = if renewed { Some(Flow::Stopped) } else { ses };
    let (mut outcome, exit) = outcome(policy, key, (saying.word, shadow), before.state, !changes.is_empty(), ses, now);
    if renewed {
        outcome.push("Its wish was missing and is written again: the enforcer tells SES within seconds.".to_owned());
    }
    let said = Said {
        subject: key.subject.to_string(),
        isp: key.isp.map(|isp| isps.name(isp).to_owned()),
        word: saying.word,
        by: by.to_owned(),
        reason: saying.reason.clone(),
        from: before.state.name(),
        to: after.state.name(),
        changed: !changes.is_empty(),
        ses: ses.map(aws::layout::flow_name),
        outcome,
    };
    Ok(Answer::new(text::said(&said, &key_name(key, isps), look), &said, exit))
}

/// The ISP of this name, in any case.
pub(crate) fn isp_named(policy: &Policy, name: Option<&str>) -> Result<Option<Isp>, Failure> {
    let Some(name) = name else { return Ok(None) };
    let isps = &policy.isp_map;
    // Names of ISPs are in lower case.
    let lower = name.to_ascii_lowercase();
    let unknown = || Failure::UnknownIsp {
        name: name.to_owned(),
        nearest: owned(nearest(&lower, isps.isps().map(|isp| isps.name(isp)))),
    };
    isps.by_name(&lower).map(Some).ok_or_else(unknown)
}

pub(crate) fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// So that a slip of the pen pauses nobody: a subject that the stack knows of in some way.
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
    // One that was paused before its first mail.
    let wishes = store.wishes().await.map_err(|error| access.refused(error))?;
    if wishes.iter().any(|wished| wished.target == *subject) {
        return Ok(());
    }
    known.extend(wishes.iter().map(|wished| wished.target.to_string()));
    known.sort_unstable();
    known.dedup();
    let (subject, stack) = (subject.to_string(), access.stack.clone());
    let nearest = owned(nearest(&subject, known.iter().map(String::as_str)));
    Err(Failure::UnknownSubject { subject, stack, nearest, forceable })
}

/// What a control tells SES.
fn flow(kind: ControlKind) -> Option<Flow> {
    match kind {
        ControlKind::PauseConfigurationSet | ControlKind::PauseTenant | ControlKind::PauseAccount => {
            Some(Flow::Stopped)
        }
        ControlKind::ResumeConfigurationSet | ControlKind::ResumeTenant | ControlKind::ResumeAccount => {
            Some(Flow::Flowing)
        }
        ControlKind::SetQuotaFactor(_) | ControlKind::HoldIsp | ControlKind::ReleaseIsp => None,
    }
}

/// What follows from a word, in sentences, and how the program ends. `shadow`: nothing is done about the key, whatever is said
/// about it.
fn outcome(
    policy: &Policy,
    key: &Key,
    (word, shadow): (Word, bool),
    before: State,
    changed: bool,
    ses: Option<Flow>,
    now: Now,
) -> (Vec<String>, Exit) {
    let subject = &key.subject;
    let mut said = Vec::new();
    if !changed {
        said.push(match word {
            Word::Pause => "It was paused by a person before; nothing changes.".to_owned(),
            Word::Resume => "It was neither paused nor throttled nor held; nothing changes.".to_owned(),
            Word::Hold => "It was held closed before; nothing changes.".to_owned(),
            Word::Shadow => "It was in shadow before; nothing changes.".to_owned(),
            Word::Release => "It was left to its breaker before; nothing changes.".to_owned(),
        });
        if let (Word::Resume, Subject::ConfigurationSet(name), None) = (word, subject, key.isp)
            && **name != *Subject::UNTAGGED
        {
            let name = replay::text::quoted(name);
            said.push(format!(
                "Should SES refuse its mail all the same, a person stopped it there: aws sesv2 \
                 put-configuration-set-sending-options --sending-enabled --configuration-set-name {name}"
            ));
        }
        let exit = if word == Word::Pause && (shadow || !has_switch(key)) { Exit::No } else { Exit::Done };
        if exit == Exit::No {
            said.push(nothing_stopped(policy, key, shadow));
        }
        return (said, exit);
    }
    let mut exit = Exit::Done;
    match (word, ses) {
        (Word::Pause, Some(_)) => {
            said.push(
                "The enforcer tells SES within seconds, and looks again every 5 minutes until it is so. SES then \
                 accepts no more mail of it; mail that it has accepted still goes out."
                    .to_owned(),
            );
            match subject {
                Subject::Account => said
                    .push("The enforcer may do this only if the stack's parameter MayPauseAccount is true.".to_owned()),
                Subject::Tenant(_) => {
                    said.push("The enforcer may do this only if the stack's parameter Tenants is true.".to_owned());
                }
                Subject::ConfigurationSet(_) | Subject::Identity(_) | Subject::Tag(..) => {}
            }
            said.push(format!("Only a person resumes it: ses-breaker resume {}", quoted(subject)));
        }
        (Word::Pause, None) if asks_the_gate(policy, key) && !shadow => {
            said.push(
                "The gate grants it nothing from now on but the reserve for critical mail. Mail that is sent without asking \
                 the gate flows: SES has no switch for it."
                    .to_owned(),
            );
            said.push(format!(
                "Only a person resumes it: ses-breaker resume {}{}",
                quoted(subject),
                at_isp(policy, key)
            ));
        }
        (Word::Pause, None) => {
            said.push(nothing_stopped(policy, key, shadow));
            exit = Exit::No;
        }
        (Word::Resume | Word::Hold | Word::Shadow | Word::Release, ses) => {
            let from = text::minute_of(now.next_minute());
            if ses.is_some() {
                said.push(
                    "The enforcer tells SES within seconds, and looks again every 5 minutes until it is so.".to_owned(),
                );
            } else if shadow && matches!(before, State::Open { .. }) {
                said.push(format!("{} decides in shadow: SES is told nothing.", in_shadow(policy, key)));
            }
            said.push(match word {
                Word::Hold => format!(
                    "Verdicts are told, not acted on, until: ses-breaker release {}{}",
                    quoted(subject),
                    at_isp(policy, key)
                ),
                Word::Shadow => format!(
                    "It is judged anew, by mail that SES accepts from {from} UTC on. What its breaker decides is told, and \
                     nothing is done, until: ses-breaker release {}{}",
                    quoted(subject),
                    at_isp(policy, key)
                ),
                Word::Pause | Word::Resume | Word::Release => {
                    format!("It is judged anew, by mail that SES accepts from {from} UTC on.")
                }
            });
        }
    }
    if ses.is_some() {
        said.push(format!("How far that is: ses-breaker status {}", quoted(subject)));
    }
    (said, exit)
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

/// Why a pause stops nothing at SES, and what would.
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
            "Nothing is stopped: {} decides in shadow, so SES is told nothing. To stop it all the same: {how}",
            in_shadow(policy, key).to_lowercase()
        );
    }
    format!(
        "SES has no switch for {what}: without the gate, nothing is stopped. The gate grants it nothing from now on, but \
         mail that is sent without asking it flows. What SES can stop: ses-breaker pause configuration-set:NAME"
    )
}

/// A store that notes with every change who asked for it, and why.
struct Signed<R> {
    store: R,
    said: pipeline::ports::Said,
}

impl<R: Reputation> Reputation for Signed<R> {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }

    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }

    async fn dossier(&mut self, subject: &Subject, now: Now) -> Result<&mut Dossier, PortError> {
        self.store.dossier(subject, now).await
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
            change.transition.iter_mut().for_each(|told| told.said = Some(self.said.clone()));
            let signature = format!(" ({})", self.said);
            change.controls.iter_mut().for_each(|control| control.reason.push_str(&signature));
        }
        self.store.save(&changes).await
    }
}
