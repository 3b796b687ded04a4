//! The stack, and how to reach AWS.

use std::time::Duration;

use aws::clients::Clients;
use aws::policies::{Known, Policies, PolicyInUse};
use aws::quotas::DynamoQuotas;
use aws::reputation::DynamoReputation;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use pipeline::PortError;
use reputation::policy::Policy;

use crate::failure::Failure;

/// Longer than in a function: people can wait, and credentials may come from a program or a sign-in page.
const CONNECT: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(15);
const OPERATION: Duration = Duration::from_secs(40);
const ATTEMPTS: u32 = 4;
/// Short, because the caller's name is only recorded.
const WHO: Duration = Duration::from_secs(3);

/// How to reach AWS, where it differs from the environment.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Profile of the shared configuration files.
    pub profile: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Endpoint of every service.
    pub endpoint_url: Option<String>,
}

/// A stack, and the clients to reach it with.
#[derive(Clone, Debug)]
pub struct Access {
    /// Name of the stack.
    pub stack: String,
    /// Name of the Region.
    pub region: String,
    /// The profile that was named, if one was.
    pub profile: Option<String>,
    /// Clients of AWS.
    pub clients: Clients,
    /// The user name on this machine, for when AWS does not return the caller.
    pub user: Option<String>,
}

impl Access {
    /// Fills in what `route` leaves open as the AWS CLI does.
    ///
    /// # Errors
    ///
    /// No Region is configured. Missing credentials fail at the first call.
    pub async fn load(stack: &str, route: &Route) -> Result<Access, Failure> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(OPERATION)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts);
        if let Ok(name) = AppName::new("ses-breaker") {
            loader = loader.app_name(name);
        }
        if let Some(profile) = &route.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &route.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(url) = &route.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let mut config = loader.load().await;
        if let Some(profile) = &route.profile {
            // A named profile wins, as in the AWS CLI, and one that does not exist is an error. The SDK's chain would prefer
            // credentials from the environment, and fall back to those of the machine.
            let provider = ProfileFileCredentialsProvider::builder().profile_name(profile);
            let provider = provider.configure(&ProviderConfig::default().with_region(config.region().cloned())).build();
            config = config.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build();
        }
        let Some(region) = config.region().map(Region::to_string) else {
            return Err(Failure::NoRegion { profile: route.profile.clone() });
        };
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
        Ok(Access {
            stack: stack.to_owned(),
            region,
            profile: route.profile.clone(),
            clients: Clients::new(config),
            user,
        })
    }

    /// Name of the reputation table.
    pub fn table(&self) -> String {
        format!("{}-reputation", self.stack)
    }

    /// The failure for a refusal by AWS, with the stack and how it was reached.
    pub fn refused(&self, error: PortError) -> Failure {
        let (stack, region, profile) = (self.stack.clone(), self.region.clone(), self.profile.clone());
        Failure::Refused { error, stack, region, profile }
    }

    /// The policies of the stack.
    pub fn policies(&self) -> Policies {
        Policies::new(self.clients.dynamodb(), self.table())
    }

    /// The policy that the functions use. Whether the stack has a gate is what its enforcer has recorded; until then, what the
    /// policy says.
    ///
    /// # Errors
    ///
    /// The table does not answer.
    pub async fn policy(&self) -> Result<Known, Failure> {
        let store = self.reputation(&Policy::default());
        let parameters = store.parameters().await.map_err(|error| self.refused(error))?;
        let gate = parameters.and_then(|parameters| parameters.gate).unwrap_or(true);
        let mut in_use = PolicyInUse::new(self.policies(), gate);
        let known = in_use.get().await.map(|(known, _)| known.clone());
        known.map_err(|error| self.refused(error))
    }

    /// The quotas of the stack.
    pub fn quotas(&self, policy: &Policy) -> DynamoQuotas {
        DynamoQuotas::new(self.clients.dynamodb(), self.table(), policy.isp_map.clone())
    }

    /// The counters and breakers of the stack.
    pub fn reputation(&self, policy: &Policy) -> DynamoReputation {
        DynamoReputation::new(self.clients.dynamodb(), self.table(), policy)
    }

    /// The caller: its ARN, which needs no permission; otherwise the user name on this machine.
    pub async fn who(&self) -> String {
        let sts = aws_sdk_sts::Client::new(self.clients.config());
        let asked = tokio::time::timeout(WHO, sts.get_caller_identity().send()).await;
        let arn = asked.ok().and_then(Result::ok).and_then(|answer| answer.arn);
        arn.or_else(|| self.user.clone()).unwrap_or_else(|| "somebody".to_owned())
    }
}
