//! Pausing and resuming at SES.
//!
//! **Invariant:** at most one call a second leaves here, the first at once. SES allows one request a second for an
//! account and Region over all of its control calls, and people at the console use up the same one ("Service quotas in
//! Amazon SES"). So keep one [`SesControl`] for the life of the process.
//! **Invariant:** only what SES keeps for the customer to switch is read as [`Flow`] and switched. What SES itself has
//! switched off is neither our stop nor that of a person, and is never lifted.
//! **Invariant:** a target is [`ControlError::Gone`] only where SES answered so by name; a 404 of anything else on the
//! way must not make us forget a desired state.
//! **Invariant:** of the tags of a configuration set only [`MARK_TAG`] is written, and none is ever removed.
//!
//! | target | is stopped when | is switched by |
//! |---|---|---|
//! | configuration set | `GetConfigurationSet`: `SendingOptions.SendingEnabled` is false | `PutConfigurationSetSendingOptions` |
//! | tenant | `GetReputationEntity`: `CustomerManagedStatus` is `DISABLED` | `UpdateReputationEntityCustomerManagedStatus` |
//! | account | `GetAccount`: `SendingEnabled` is false | `PutAccountSendingAttributes` |
//!
//! # The mark
//!
//! A configuration set that we stop carries the tag [`MARK_TAG`] with the name of our stack; we empty its value when we
//! resume the set. `GetConfigurationSet` answers with the tags, so reading the mark costs no call and needs no permission
//! of its own ("GetConfigurationSet", Amazon SES API v2). `TagResource` replaces the value of a key that is there, so
//! `UntagResource` is not needed either. Where SES denies the tag, or the set has 50 tags already, the set goes without
//! until this process ends: the mark is of use to other stacks only. Tenants and the account carry none; `GetReputationEntity`
//! and `GetAccount` do not answer with tags.
//!
//! # Tenants
//!
//! SES keeps two states of a tenant, one for the customer and one of its own, and lets mail flow if both do. We look at
//! the customer's alone. If SES's own counted, a stop of SES would look like that of a person, our own stop would not be
//! made, and mail would flow at once when SES lifts its own.
//!
//! A resume of ours writes `ENABLED` and never `REINSTATED`, which asks SES to overlook open findings: that is for a
//! person to answer for. A tenant that a person had `REINSTATED` before we stopped it comes back as `ENABLED`; if SES
//! stops it again for the old findings, the person has to reinstate it again.
//!
//! # The account
//!
//! `GetAccount` has one switch. While `EnforcementStatus` is `SHUTDOWN`, it cannot be seen whose doing it shows, and
//! `PutAccountSendingAttributes` cannot lift it; so we cannot lift it, and people are alerted, until AWS
//! lifts it. Nothing is sent meanwhile.
//!
//! # Dedicated IPs
//!
//! `GetDedicatedIp` says a `WarmupPercentage` from 0 to 100, and -1 of an IP that SES manages.
//! `PutDedicatedIpWarmupAttributes` sets it and puts the IP's warm-up in progress; 0 would begin it anew, and is never asked for.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::types::{ReputationEntityType, SendingStatus, Tag};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use pipeline::control::Flow;
use pipeline::ports::{ControlError, DedicatedIps, Disposition, Mark, SendingControl, Sight, WarmupPercentage};
use reputation::subject::Subject;
use tokio::time::{Instant, sleep_until};

use crate::clients::{Clients, disposition_of, reason};

/// From the answer to one call to the next call. More than the second that SES asks for, since people use SES, too.
/// Counted from the answer: a call that took long on its way would else arrive close to the next one.
pub const SPACING: Duration = Duration::from_millis(1_100);

/// The tag that says which stack stopped a configuration set; empty where its last change was another one.
pub const MARK_TAG: &str = "ses-breaker:stopped-by";

/// Codes, without the ending `Exception`, that say that we call too often.
const THROTTLED: [&str; 6] =
    ["RequestLimitExceeded", "RequestThrottled", "SlowDown", "Throttled", "Throttling", "TooManyRequests"];

/// Controls sending at SES, in the account and Region of its client.
#[derive(Debug)]
pub struct SesControl {
    client: Client,
    pace: RateLimiter,
    /// ARNs of tenants, by name. They hold an id that the name does not tell, and asking costs a second.
    tenants: HashMap<Arc<str>, String>,
    signature: Option<Signature>,
    /// The sets of which SES has refused the mark.
    unmarkable: BTreeSet<Arc<str>>,
}

/// What marks are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    stack: String,
    /// ARN of a configuration set, up to its name.
    arn: String,
}

impl Signature {
    /// That of a stack, by its name and the ARN of something in the same partition, Region and account; `None` if one of
    /// them is not one.
    pub fn new(stack: &str, arn: &str) -> Option<Signature> {
        let mut parts = arn.split(':');
        let (Some("arn"), Some(partition), Some(_)) = (parts.next(), parts.next(), parts.next()) else { return None };
        let (region, account) = (parts.next()?, parts.next()?);
        let all = [stack, partition, region, account].iter().all(|part| !part.is_empty());
        let arn = format!("arn:{partition}:ses:{region}:{account}:configuration-set/");
        all.then(|| Signature { stack: stack.to_owned(), arn })
    }
}

impl SesControl {
    /// Controls sending with one of these clients. Without a [`Signature`] it leaves no marks.
    pub fn new(clients: &Clients) -> SesControl {
        SesControl {
            client: clients.ses(),
            pace: RateLimiter::default(),
            tenants: HashMap::new(),
            signature: None,
            unmarkable: BTreeSet::new(),
        }
    }

    /// The same, leaving marks.
    #[must_use]
    pub fn signing(self, signature: Option<Signature>) -> SesControl {
        SesControl { signature, ..self }
    }

    fn mark_of(&self, name: &str, tags: &[Tag]) -> Mark {
        let stack = tags.iter().find(|tag| tag.key() == MARK_TAG).map(Tag::value);
        match (&self.signature, stack) {
            (Some(ours), Some(stack)) if ours.stack == stack => Mark::Ours,
            (_, Some(stack)) if !stack.is_empty() => Mark::Other(stack.to_owned()),
            (Some(_), Some(_)) => Mark::Emptied,
            (Some(_), None) if !self.unmarkable.contains(name) => Mark::Absent,
            (Some(_), None) | (None, _) => Mark::Unsupported,
        }
    }

    async fn configuration_set_flow(&mut self, name: &str) -> Result<Sight, ControlError> {
        let call = || self.client.get_configuration_set().configuration_set_name(name).send();
        let answer = self.pace.call(call).await?;
        match answer.sending_options() {
            Some(options) => {
                Ok(Sight { flow: flow_of(options.sending_enabled()), mark: self.mark_of(name, answer.tags()) })
            }
            None => Err(ControlError::Denied(format!("GetConfigurationSet tells no SendingOptions of {name}"))),
        }
    }

    async fn account_flow(&mut self) -> Result<Flow, ControlError> {
        let account = self.pace.call(|| self.client.get_account().send()).await?;
        match account.enforcement_status() {
            Some("SHUTDOWN") => Err(ControlError::Denied(
                "AWS has paused sending of this account (EnforcementStatus SHUTDOWN), and only AWS lifts that"
                    .to_owned(),
            )),
            // HEALTHY, PROBATION, and what SES may come to say: the switch works.
            Some(_) | None => Ok(flow_of(account.sending_enabled())),
        }
    }

    async fn tenant_flow(&mut self, name: &Arc<str>) -> Result<Flow, ControlError> {
        // A tenant that was deleted and created again has another ARN.
        if self.tenants.contains_key(name) {
            match self.entity_flow(name).await {
                Err(ControlError::Gone) => self.tenants.remove(name),
                known => return known,
            };
        }
        match self.entity_flow(name).await {
            Err(ControlError::Gone) if self.tenants.contains_key(name) => Err(ControlError::Denied(format!(
                "GetReputationEntity does not know tenant {name}, which GetTenant knows"
            ))),
            known => known,
        }
    }

    async fn entity_flow(&mut self, name: &Arc<str>) -> Result<Flow, ControlError> {
        let arn = self.tenant_arn(name).await?;
        let call = || {
            let request = self.client.get_reputation_entity();
            request.reputation_entity_type(ReputationEntityType::Resource).reputation_entity_reference(&arn).send()
        };
        let answer = self.pace.call(call).await?;
        let entity = answer.reputation_entity();
        if let Some(own) = entity.and_then(|entity| entity.aws_ses_managed_status())
            && own.status() == Some(&SendingStatus::Disabled)
        {
            tracing::warn!(tenant = %name, cause = own.cause(), "SES itself has stopped this tenant; left to people");
        }
        match entity.and_then(|entity| entity.customer_managed_status()).and_then(|record| record.status()) {
            Some(SendingStatus::Disabled) => Ok(Flow::Stopped),
            Some(SendingStatus::Enabled | SendingStatus::Reinstated) | None => Ok(Flow::Flowing),
            Some(other) => Err(ControlError::Denied(format!(
                "tenant {name} has the customer-managed status `{other}`; known: {}",
                SendingStatus::values().join(", ")
            ))),
        }
    }

    async fn tenant_arn(&mut self, name: &Arc<str>) -> Result<String, ControlError> {
        if let Some(arn) = self.tenants.get(name) {
            return Ok(arn.clone());
        }
        let answer = self.pace.call(|| self.client.get_tenant().tenant_name(name.as_ref()).send()).await?;
        let Some(arn) = answer.tenant().and_then(|tenant| tenant.tenant_arn()) else {
            return Err(ControlError::Denied(format!("GetTenant tells no TenantArn of {name}")));
        };
        self.tenants.insert(Arc::clone(name), arn.to_owned());
        Ok(arn.to_owned())
    }

    async fn set_tenant_flow(&mut self, name: &Arc<str>, flow: Flow) -> Result<(), ControlError> {
        let arn = self.tenant_arn(name).await?;
        let status = match flow {
            Flow::Stopped => SendingStatus::Disabled,
            Flow::Flowing => SendingStatus::Enabled,
        };
        let call = || {
            let request = self.client.update_reputation_entity_customer_managed_status();
            request
                .reputation_entity_type(ReputationEntityType::Resource)
                .reputation_entity_reference(&arn)
                .sending_status(status.clone())
                .send()
        };
        match self.pace.call(call).await {
            Ok(_) => Ok(()),
            // Perhaps it lives on under another ARN: the next round asks for it.
            Err(ControlError::Gone) => {
                self.tenants.remove(name);
                Err(ControlError::Failed(format!("{arn} is not known any more")))
            }
            Err(error) => Err(error),
        }
    }
}

impl SendingControl for SesControl {
    async fn flow(&mut self, target: &Subject) -> Result<Sight, ControlError> {
        let without_mark = |flow| Sight { flow, mark: Mark::Unsupported };
        match target {
            Subject::ConfigurationSet(name) if &**name != Subject::UNTAGGED => self.configuration_set_flow(name).await,
            Subject::Tenant(name) => self.tenant_flow(name).await.map(without_mark),
            Subject::Account => self.account_flow().await.map(without_mark),
            Subject::ConfigurationSet(_) | Subject::Identity(_) | Subject::Tag(..) => Err(no_switch(target)),
        }
    }

    async fn set_flow(&mut self, target: &Subject, flow: Flow) -> Result<(), ControlError> {
        let enabled = flow == Flow::Flowing;
        match target {
            Subject::ConfigurationSet(name) if &**name != Subject::UNTAGGED => {
                let call = || {
                    let request = self.client.put_configuration_set_sending_options();
                    request.configuration_set_name(&**name).sending_enabled(enabled).send()
                };
                self.pace.call(call).await.map(drop)
            }
            Subject::Tenant(name) => self.set_tenant_flow(name, flow).await,
            Subject::Account => {
                let call = || self.client.put_account_sending_attributes().sending_enabled(enabled).send();
                self.pace.call(call).await.map(drop)
            }
            Subject::ConfigurationSet(_) | Subject::Identity(_) | Subject::Tag(..) => Err(no_switch(target)),
        }
    }

    async fn mark(&mut self, target: &Subject, stopped: bool) -> Result<(), ControlError> {
        let (Subject::ConfigurationSet(name), Some(Signature { stack, arn })) = (target, &self.signature) else {
            return Ok(());
        };
        if self.unmarkable.contains(name) {
            return Ok(());
        }
        let value = if stopped { stack.as_str() } else { "" };
        let tag = Tag::builder().key(MARK_TAG).value(value).build();
        let tag = tag.map_err(|error| ControlError::Failed(format!("building a tag: {error}")))?;
        let call = || self.client.tag_resource().resource_arn(format!("{arn}{name}")).tags(tag.clone()).send();
        match self.pace.call(call).await {
            Err(ControlError::Denied(why)) => {
                tracing::warn!(%target, why, "SES denies the tag: other stacks cannot see whose stop it is");
                self.unmarkable.insert(Arc::clone(name));
                Ok(())
            }
            answered => answered.map(drop),
        }
    }
}

impl DedicatedIps for SesControl {
    async fn warmth(&mut self, ip: IpAddr) -> Result<WarmupPercentage, ControlError> {
        let ip = ip.to_string();
        let answer = self.pace.call(|| self.client.get_dedicated_ip().ip(&ip).send()).await?;
        let Some(known) = answer.dedicated_ip() else {
            return Err(ControlError::Denied(format!("GetDedicatedIp tells nothing of {ip}")));
        };
        let percent = known.warmup_percentage();
        Ok(u8::try_from(percent).map_or(WarmupPercentage::Managed, WarmupPercentage::Percent))
    }

    async fn set_warmth(&mut self, ip: IpAddr, percent: u8) -> Result<(), ControlError> {
        let ip = ip.to_string();
        let call = || {
            let request = self.client.put_dedicated_ip_warmup_attributes();
            request.ip(&ip).warmup_percentage(i32::from(percent)).send()
        };
        self.pace.call(call).await.map(drop)
    }
}

fn flow_of(sending_enabled: bool) -> Flow {
    if sending_enabled { Flow::Flowing } else { Flow::Stopped }
}

fn no_switch(target: &Subject) -> ControlError {
    ControlError::Denied(format!("{target} has no switch at SES; configuration sets, tenants and the account have one"))
}

/// Keeps calls apart.
#[derive(Debug, Default)]
struct RateLimiter {
    /// When the last call was answered, or begun if it never was.
    last: Option<Instant>,
}

impl RateLimiter {
    /// Calls SES when it is time to. A call that found its connection broken is made a second time, in its own turn: a
    /// function that was frozen wakes up with dead connections, and every call of ours may be repeated.
    async fn call<T, E, C, F>(&mut self, call: C) -> Result<T, ControlError>
    where
        E: ProvideErrorMetadata + Error + 'static,
        C: Fn() -> F,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        match self.turn(&call).await {
            Err(SdkError::DispatchFailure(failure)) if failure.is_io() => self.turn(&call).await,
            answered => answered,
        }
        .map_err(|error| control_error(&error))
    }

    async fn turn<T, C: Fn() -> F, F: Future<Output = T>>(&mut self, call: &C) -> T {
        if let Some(last) = self.last {
            sleep_until(last + SPACING).await;
        }
        // Noted before as well: who drops this future half-way may have called SES.
        self.last = Some(Instant::now());
        let answer = call().await;
        self.last = Some(Instant::now());
        answer
    }
}

/// What a failed call means for a desired state. Timed out and lost against another change (`ConflictException`) has failed; what
/// SES refuses for what it says (`BadRequestException`) is for a person to look at, as is what we may not do.
fn control_error<E>(error: &SdkError<E, HttpResponse>) -> ControlError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    if code == Some("NotFoundException") {
        return ControlError::Gone;
    }
    let too_often = error.raw_response().is_some_and(|response| response.status().as_u16() == 429);
    if too_often || code.is_some_and(|code| THROTTLED.contains(&code.strip_suffix("Exception").unwrap_or(code))) {
        return ControlError::Throttled(reason(error));
    }
    match disposition_of(error) {
        Disposition::Retry => ControlError::Failed(reason(error)),
        Disposition::Quarantine | Disposition::Halt => ControlError::Denied(reason(error)),
    }
}
