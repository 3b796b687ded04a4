//! Enforcing: making wishes true at SES, keeping them true, and telling our doing from a person's.
//!
//! SES stores whether a configuration set, a tenant or the account may send, but not who said so, why, or when, and
//! has no compare-and-set. So beside each wish we keep what we were about to do ([`Wished::intent`], saved before the
//! call) and what we last made or saw true ([`Wished::made`]). What SES says then can be told apart: it is as we made
//! it, or a person has changed it since.
//!
//! **Invariant:** what a person stopped is never resumed by us; what a person resumed is accepted.
//! **Invariant:** a wish that is not true yet is tried again until it is; a failed call loses nothing.
//!
//! Gaps are left, because SES names no actor: a person who resumes what we paused and pauses it again between two rounds
//! has changed nothing that can be seen; and if we stop between saving that we are about to pause and doing so, and a
//! person pauses the same set before our next round, the pause is taken for ours.

use reputation::breaker::Input;
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::Now;

use crate::evaluate::tell;
use crate::notice::{Notice, Outbox};
use crate::ports::{PortError, Reputation, Saved};

/// Whether mail flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// SES accepts mail.
    Flowing,
    /// SES refuses mail.
    Stopped,
}

/// A wish about one target that SES can stop, and how far it is made true.
#[derive(Clone, Debug, PartialEq)]
pub struct Wished {
    /// A configuration set, a tenant, or the account.
    pub target: Subject,
    /// What the breaker wants.
    pub wish: Flow,
    /// Since when.
    pub at: Now,
    /// How far past its threshold the verdict was; 1 is just reached. The worst is stopped first.
    pub urgency: f64,
    /// Why.
    pub reason: String,
    /// What we were about to make true when this was saved; saved before the call.
    pub intent: Option<Flow>,
    /// What we last made or saw true.
    pub made: Option<Flow>,
    /// When SES was last asked.
    pub checked: Option<Now>,
    /// Grows by one with each save.
    pub version: u64,
}

impl Wished {
    /// Whether it was true when last looked at, and nothing is under way.
    pub fn is_true(&self) -> bool {
        self.made == Some(self.wish) && self.intent.is_none()
    }
}

/// Keeps wishes.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Wishes {
    /// All wishes.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn wishes(&mut self) -> Result<Vec<Wished>, PortError>;

    /// Saves how far a wish is made true, upon the version it was read under.
    ///
    /// # Errors
    ///
    /// It was saved or not: look again.
    async fn note(&mut self, wished: &Wished) -> Result<Saved, PortError>;

    /// Forgets the wish about a target that is gone.
    ///
    /// # Errors
    ///
    /// It was forgotten or not: do it again.
    async fn forget(&mut self, target: &Subject) -> Result<(), PortError>;
}

/// SES did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Too many calls, or SES is in trouble: the same call may work later, and other calls would fail now, too.
    #[error("SES is busy: {0}")]
    Busy(String),
    /// The target does not exist any more.
    #[error("SES does not know it")]
    Gone,
    /// We may not do this.
    #[error("SES denies it: {0}")]
    Denied(String),
}

/// Whether SES lets mail flow.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait SendingControl {
    /// Asks SES.
    ///
    /// # Errors
    ///
    /// See [`ControlError`].
    async fn flow(&mut self, target: &Subject) -> Result<Flow, ControlError>;

    /// Tells SES. Doing it again changes nothing more.
    ///
    /// # Errors
    ///
    /// See [`ControlError`]; the call may have been carried out all the same.
    async fn set_flow(&mut self, target: &Subject, flow: Flow) -> Result<(), ControlError>;
}

/// What is to be done about a wish, given what SES says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It is as it should be, and by our doing.
    Confirm,
    /// Make it so.
    Make(Flow),
    /// A person stopped it.
    PersonStopped,
    /// A person resumed it.
    PersonResumed,
}

/// Tells our doing from a person's. Pure and total.
pub fn next_move(wished: &Wished, seen: Flow) -> Move {
    let ours = |flow| wished.made == Some(flow) || wished.intent == Some(flow);
    match (wished.wish, seen) {
        // We did not stop it last, and did not begin to: somebody else did.
        (Flow::Flowing | Flow::Stopped, Flow::Stopped) if !ours(Flow::Stopped) => Move::PersonStopped,
        (Flow::Stopped, Flow::Stopped) | (Flow::Flowing, Flow::Flowing) => Move::Confirm,
        (Flow::Flowing, Flow::Stopped) => Move::Make(Flow::Flowing),
        // We had stopped it, and nothing has been under way since: somebody else resumed it.
        (Flow::Stopped, Flow::Flowing) if wished.made == Some(Flow::Stopped) && wished.intent.is_none() => {
            Move::PersonResumed
        }
        (Flow::Stopped, Flow::Flowing) => Move::Make(Flow::Stopped),
    }
}

/// What became of one wish in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Enforced {
    /// Whom it was about.
    pub target: Subject,
    /// What became of it.
    pub outcome: EnforceOutcome,
}

/// See [`Enforced`].
#[derive(Clone, Debug, PartialEq)]
pub enum EnforceOutcome {
    /// Was true already.
    Confirmed,
    /// Has been made true.
    Made(Flow),
    /// A person stopped it: it stays stopped until a person resumes it.
    PersonStopped,
    /// A person resumed it: accepted, and re-armed.
    PersonResumed,
    /// It does not exist any more, and is forgotten.
    Gone,
    /// We may not do this: a person has to look.
    Denied(String),
    /// Not this time: try again soon.
    Later(String),
}

/// What one round of enforcing looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// At most so many calls of SES.
    pub calls: usize,
    /// Whether it also looks if wishes that were true before still are.
    pub reconcile: bool,
}

/// Makes wishes true: first those that are not true yet, stops before resumes and the worst before the others; then, in
/// a round that reconciles, looks whether the others are still true, those first that were looked at longest ago. A
/// target that is gone, and one that we may not touch, is told about.
///
/// # Errors
///
/// A store failed; what was done was done, and the next round goes on from there.
pub async fn enforce<S: Reputation + Wishes + Outbox, C: SendingControl>(
    policy: &Policy,
    store: &mut S,
    ses: &mut C,
    round: Round,
    now: Now,
) -> Result<Vec<Enforced>, PortError> {
    let mut wishes = store.wishes().await?;
    wishes.retain(|wished| round.reconcile || !wished.is_true());
    wishes.sort_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal));
    let mut left = round.calls;
    let mut done = Vec::new();
    for wished in wishes {
        let target = wished.target.clone();
        // One call to ask, and perhaps one to tell.
        if left < 2 {
            if !wished.is_true() {
                let outcome = EnforceOutcome::Later("no call is left for it in this round".to_owned());
                done.push(Enforced { target, outcome });
            }
            break;
        }
        let (outcome, used) = enforce_one(policy, store, ses, wished, now).await?;
        left -= used;
        let busy = matches!(outcome, EnforceOutcome::Later(_));
        done.push(Enforced { target, outcome });
        if busy {
            break;
        }
    }
    Ok(done)
}

/// Orders wishes: smaller is earlier.
fn rank(wished: &Wished) -> (u8, f64, i64) {
    match (wished.is_true(), wished.wish) {
        (false, Flow::Stopped) => (0, -wished.urgency, wished.at.0),
        (false, Flow::Flowing) => (1, 0.0, wished.at.0),
        (true, _) => (2, 0.0, wished.checked.map_or(i64::MIN, |checked| checked.0)),
    }
}

async fn enforce_one<S: Reputation + Wishes + Outbox, C: SendingControl>(
    policy: &Policy,
    store: &mut S,
    ses: &mut C,
    mut wished: Wished,
    now: Now,
) -> Result<(EnforceOutcome, usize), PortError> {
    let seen = match ses.flow(&wished.target).await {
        Ok(seen) => seen,
        Err(error) => return Ok((failed(store, &wished.target, error, now).await?, 1)),
    };
    let key = Key { subject: wished.target.clone(), isp: None };
    wished.checked = Some(now);
    match next_move(&wished, seen) {
        Move::Confirm => {
            (wished.made, wished.intent) = (Some(seen), None);
            // Who is faster has looked at a newer wish, which is looked at in the next round.
            let _ = store.note(&wished).await?;
            Ok((EnforceOutcome::Confirmed, 1))
        }
        Move::Make(flow) => {
            wished.intent = Some(flow);
            if store.note(&wished).await? == Saved::Conflict {
                return Ok((EnforceOutcome::Later("the wish has just changed".to_owned()), 1));
            }
            wished.version += 1;
            if let Err(error) = ses.set_flow(&wished.target, flow).await {
                return Ok((failed(store, &wished.target, error, now).await?, 2));
            }
            (wished.made, wished.intent) = (Some(flow), None);
            let _ = store.note(&wished).await?;
            Ok((EnforceOutcome::Made(flow), 2))
        }
        // Only who knows the newest wish can tell a person's doing from that of another copy of ours.
        Move::PersonStopped | Move::PersonResumed if store.note(&wished).await? == Saved::Conflict => {
            Ok((EnforceOutcome::Later("the wish has just changed".to_owned()), 1))
        }
        // The breaker is told first: if we stop in between, the next round sees the same and tells it again.
        Move::PersonStopped => {
            tell(policy, store, &key, Input::PersonStops, now).await?;
            settle(store, &wished, seen, now).await?;
            Ok((EnforceOutcome::PersonStopped, 1))
        }
        Move::PersonResumed => {
            tell(policy, store, &key, Input::PersonResumes, now).await?;
            settle(store, &wished, seen, now).await?;
            Ok((EnforceOutcome::PersonResumed, 1))
        }
    }
}

/// Notes what a person made true as what is and what is wished for. `wished` was noted just before, which made it one
/// version older than the one that is stored, unless telling the breaker has written another wish.
async fn settle<S: Wishes>(store: &mut S, wished: &Wished, seen: Flow, now: Now) -> Result<(), PortError> {
    let stored = store.wishes().await?.into_iter().find(|known| known.target == wished.target);
    // A wish against what the person did that is newer than theirs is the breaker's last word: for the next round.
    if let Some(mut known) = stored
        && (known.wish == seen || known.version == wished.version + 1)
    {
        (known.wish, known.made, known.intent, known.checked) = (seen, Some(seen), None, Some(now));
        let _ = store.note(&known).await?;
    }
    Ok(())
}

async fn failed<S: Wishes + Outbox>(
    store: &mut S,
    target: &Subject,
    error: ControlError,
    now: Now,
) -> Result<EnforceOutcome, PortError> {
    Ok(match error {
        ControlError::Busy(why) => EnforceOutcome::Later(why),
        ControlError::Gone => {
            // Told first: once it is forgotten, nobody knows that it has to be told.
            store.put(&Notice::gone(target, now)).await?;
            store.forget(target).await?;
            EnforceOutcome::Gone
        }
        ControlError::Denied(why) => {
            store.put(&Notice::denied(target, &why, now)).await?;
            EnforceOutcome::Denied(why)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use reputation::detect::{Level, Rule, Verdict};
    use reputation::judge::Judgement;
    use reputation::time::Minute;
    use reputation::{IspMap, Metric, Tally};

    use super::*;
    use crate::memory::MemoryReputation;

    #[test]
    fn our_doing_is_told_from_a_persons() {
        use Flow::{Flowing, Stopped};
        let mut lines = Vec::new();
        for wish in [Flowing, Stopped] {
            for made in [None, Some(Flowing), Some(Stopped)] {
                for intent in [None, Some(Flowing), Some(Stopped)] {
                    let wished = Wished { wish, made, intent, ..wished("a", wish, 1.0) };
                    let moves = [Flowing, Stopped].map(|seen| format!("{:?}", next_move(&wished, seen)));
                    let name = |flow: Option<Flow>| flow.map_or("–".to_owned(), |flow| format!("{flow:?}"));
                    let (made, intent) = (name(made), name(intent));
                    lines.push(format!("{wish:?} | {made:7} | {intent:7} | {:14} | {}", moves[0], moves[1]));
                }
            }
        }
        let table = format!("wish | made | intent | SES says Flowing | SES says Stopped\n{}", lines.join("\n"));
        insta::assert_snapshot!(table, @r"
        wish | made | intent | SES says Flowing | SES says Stopped
        Flowing | –       | –       | Confirm        | PersonStopped
        Flowing | –       | Flowing | Confirm        | PersonStopped
        Flowing | –       | Stopped | Confirm        | Make(Flowing)
        Flowing | Flowing | –       | Confirm        | PersonStopped
        Flowing | Flowing | Flowing | Confirm        | PersonStopped
        Flowing | Flowing | Stopped | Confirm        | Make(Flowing)
        Flowing | Stopped | –       | Confirm        | Make(Flowing)
        Flowing | Stopped | Flowing | Confirm        | Make(Flowing)
        Flowing | Stopped | Stopped | Confirm        | Make(Flowing)
        Stopped | –       | –       | Make(Stopped)  | PersonStopped
        Stopped | –       | Flowing | Make(Stopped)  | PersonStopped
        Stopped | –       | Stopped | Make(Stopped)  | Confirm
        Stopped | Flowing | –       | Make(Stopped)  | PersonStopped
        Stopped | Flowing | Flowing | Make(Stopped)  | PersonStopped
        Stopped | Flowing | Stopped | Make(Stopped)  | Confirm
        Stopped | Stopped | –       | PersonResumed  | Confirm
        Stopped | Stopped | Flowing | Make(Stopped)  | Confirm
        Stopped | Stopped | Stopped | Make(Stopped)  | Confirm
        ");
    }

    fn wished(name: &str, wish: Flow, urgency: f64) -> Wished {
        Wished {
            target: Subject::ConfigurationSet(name.into()),
            wish,
            at: Now(0),
            urgency,
            reason: String::new(),
            intent: None,
            made: None,
            checked: None,
            version: 1,
        }
    }

    #[test]
    fn stops_come_before_resumes_and_the_worst_first() {
        let is_true = Wished { made: Some(Flow::Stopped), ..wished("true", Flow::Stopped, 9.0) };
        let mut wishes = [
            is_true,
            wished("resume", Flow::Flowing, 5.0),
            wished("bad", Flow::Stopped, 1.1),
            wished("worse", Flow::Stopped, 3.0),
        ];
        wishes.sort_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap());
        let order: Vec<String> = wishes.iter().map(|wished| wished.target.to_string()).collect();
        assert_eq!(
            order.join(" "),
            "configuration-set:worse configuration-set:bad configuration-set:resume configuration-set:true"
        );
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Who {
        Us,
        Person,
    }

    /// SES with people at its console, on a bad line.
    #[derive(Default)]
    struct Ses {
        stopped_by: BTreeMap<Subject, Who>,
        /// The next calls that fail, and whether they are carried out all the same.
        failures: Vec<Option<bool>>,
        /// A person has changed something that we have not seen yet.
        unseen: bool,
    }

    impl Ses {
        fn fails(&mut self) -> Option<bool> {
            self.failures.pop().flatten()
        }
    }

    impl SendingControl for Ses {
        async fn flow(&mut self, target: &Subject) -> Result<Flow, ControlError> {
            if self.fails().is_some() {
                return Err(ControlError::Busy("429".into()));
            }
            self.unseen = false;
            Ok(if self.stopped_by.contains_key(target) { Flow::Stopped } else { Flow::Flowing })
        }

        async fn set_flow(&mut self, target: &Subject, flow: Flow) -> Result<(), ControlError> {
            let fails = self.fails();
            if fails != Some(false) {
                match flow {
                    Flow::Stopped => _ = self.stopped_by.entry(target.clone()).or_insert(Who::Us),
                    Flow::Flowing => {
                        assert_ne!(self.stopped_by.remove(target), Some(Who::Person), "resumed what a person stopped");
                    }
                }
            }
            if fails.is_some() { Err(ControlError::Busy("500".into())) } else { Ok(()) }
        }
    }

    #[derive(Clone, Debug)]
    enum Happening {
        BreakerPauses,
        MinutesPass(u32),
        PersonStopsAtSes,
        PersonResumesAtSes,
        Round(Vec<Option<bool>>),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let failure = prop::option::weighted(0.4, any::<bool>());
        prop_oneof![
            Just(Happening::BreakerPauses),
            (1u32..90).prop_map(Happening::MinutesPass),
            Just(Happening::PersonStopsAtSes),
            Just(Happening::PersonResumesAtSes),
            prop::collection::vec(failure, 0..3).prop_map(Happening::Round),
        ]
    }

    proptest! {
        /// Whatever breakers, people and failing calls do: nothing of a person's is undone by us, and once calls work
        /// again, what SES does is what the breaker wants.
        #[test]
        fn no_pause_is_lost_and_nothing_of_a_persons_is_undone(happenings in prop::collection::vec(happening(), 1..60)) {
            let policy = Policy::default();
            let mut store = MemoryReputation::new(&IspMap::builtin());
            let mut ses = Ses::default();
            let mut now = Now(1_791_273_600_000);
            let target = Subject::ConfigurationSet("news".into());
            let key = Key { subject: target.clone(), isp: None };
            let verdict = Verdict {
                level: Level::Pause,
                metric: Metric::HardBounce,
                rule: Rule::Cusum { limit: 0.05, evidence: 12.0, threshold: 10.0 },
                from: Minute(1),
                until: Minute(2),
                tally: Tally { population: 50, bad: 20 },
            };
            let round = Round { calls: 10, reconcile: true };
            pollster::block_on(async {
                for happening in happenings {
                    // What cannot be seen cannot be respected: see the gaps above.
                    let wishes = store.wishes().await.unwrap();
                    let pending = ses.unseen || wishes.iter().any(|wished| wished.intent.is_some());
                    match happening {
                        Happening::BreakerPauses => {
                            let judgement = Judgement { pause: Some(verdict), ..Judgement::default() };
                            tell(&policy, &mut store, &key, Input::Judged(&judgement), now).await.unwrap();
                        }
                        Happening::MinutesPass(minutes) => {
                            now = now.plus_minutes(minutes);
                            tell(&policy, &mut store, &key, Input::Judged(&Judgement::default()), now).await.unwrap();
                        }
                        Happening::PersonStopsAtSes if !pending => {
                            ses.stopped_by.entry(target.clone()).or_insert(Who::Person);
                            ses.unseen = true;
                        }
                        Happening::PersonResumesAtSes if !pending => {
                            ses.stopped_by.remove(&target);
                            ses.unseen = true;
                        }
                        Happening::PersonStopsAtSes | Happening::PersonResumesAtSes => {}
                        Happening::Round(failures) => {
                            ses.failures = failures;
                            enforce(&policy, &mut store, &mut ses, round, now).await.unwrap();
                        }
                    }
                }
                ses.failures.clear();
                for _ in 0..3 {
                    enforce(&policy, &mut store, &mut ses, round, now).await.unwrap();
                }
                let wished = store.wishes().await.unwrap();
                let seen = ses.flow(&target).await.unwrap();
                for wished in &wished {
                    assert_eq!((wished.wish, wished.made, wished.intent), (seen, Some(seen), None));
                }
                let open = matches!(store.dossier(&target, now).await.unwrap().breaker(None).breaker.state, reputation::State::Open { .. });
                assert!(wished.is_empty() || open == (seen == Flow::Stopped), "breaker open: {open}, SES: {seen:?}");
            });
        }
    }
}
