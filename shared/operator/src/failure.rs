//! Reasons why a verb cannot answer, and what to do about each.

use std::io;
use std::path::PathBuf;

use pipeline::PortError;
use reputation::subject::Subject;
use reputation::time::Now;
use terminal::manual::PagesError;
use terminal::time::second_of;
use terminal::{ErrorKind, ErrorReport, Exit, InvalidPolicy, name, quoted};

use crate::prices::PricesError;
use crate::stack_failure::StackFailure;

/// Why a verb could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Arguments that cannot be parsed, with clap's message.
    #[error("{0}")]
    Usage(String),
    /// No Region is configured.
    #[error("no AWS Region is known")]
    NoRegion {
        /// The profile that was named.
        profile: Option<String>,
    },
    /// A subject that the stack has never seen.
    #[error("stack {stack} has never seen {subject}")]
    UnknownSubject {
        /// The subject as given.
        subject: String,
        /// The stack.
        stack: String,
        /// Similar known subjects.
        nearest: Vec<String>,
        /// Whether `--force` accepts it.
        forceable: bool,
    },
    /// The stack's template does not permit the enforcer to stop this subject.
    #[error("stack {stack} may not stop {subject} at SES, so nothing was changed")]
    NotPermitted {
        /// The subject to stop.
        subject: Subject,
        /// The stack.
        stack: String,
        /// The parameter that would permit it.
        parameter: &'static str,
    },
    /// Stopping the account needs a confirmation, and there is no terminal to ask on.
    #[error("this stops all mail of the account and asks first, but standard input is not a terminal")]
    Unconfirmed,
    /// A policy that ends the stack's shadow needs a confirmation, and there is no terminal to ask on.
    #[error("with this policy the stack begins to act, so this asks first, but standard input is not a terminal")]
    UnconfirmedPush,
    /// A drill needs a confirmation before it sends mail, and there is no terminal to ask on.
    #[error("a drill sends {mails} mails, so this asks first, but standard input is not a terminal")]
    UnconfirmedDrill {
        /// The number of mails, at least.
        mails: u32,
    },
    /// No verified identity covers the sender of a drill.
    #[error("SES in {region} has no verified identity for the address of --from")]
    NotVerified {
        /// The identity that would cover it but is not verified: a domain, or `the address`.
        unverified: Option<String>,
        /// The Region.
        region: String,
    },
    /// A policy under which a drill would stop nothing.
    #[error("under the policy in use, {most} hard bounces stop no configuration set, so a drill would prove nothing")]
    TooManyBounces {
        /// The most hard bounces that a drill sends.
        most: u32,
    },
    /// A confirmation was answered with no.
    #[error("nothing was changed")]
    Declined,
    /// A name that is not an ISP of the policy.
    #[error("`{name}` is not an ISP of the policy")]
    UnknownIsp {
        /// The name as given.
        name: String,
        /// Similar known names.
        nearest: Vec<String>,
    },
    /// A policy version that is not stored.
    #[error("stack {stack} has no policy version {version}")]
    UnknownVersion {
        /// The version as given.
        version: u64,
        /// The stack.
        stack: String,
        /// The current one; 0 if none was ever pushed.
        current: u64,
    },
    /// The Region has nothing to connect.
    #[error("there are no configuration sets in {region}")]
    NoConfigurationSets {
        /// The Region.
        region: String,
    },
    /// A configuration set without planned quotas.
    #[error("the policy plans no quotas for configuration set `{configuration_set}`")]
    NotPlanned {
        /// The name as given.
        configuration_set: String,
        /// Similar planned names.
        nearest: Vec<String>,
    },
    /// A quota that the policy does not allow.
    #[error(
        "a quota of {mails} is outside of what the policy allows for {configuration_set}: {least} to {most} mails a day"
    )]
    QuotaOutOfRange {
        /// The configuration set.
        configuration_set: String,
        /// The quota as given.
        mails: u64,
        /// The policy's minimum.
        least: u64,
        /// The target of the configuration set.
        most: u64,
    },
    /// A configuration set without quotas so far, and no ISP that is named.
    #[error("the gate was not asked about any ISP yet for configuration set `{configuration_set}`")]
    NoQuotas {
        /// The configuration set.
        configuration_set: String,
    },
    /// A stack that cannot be created, changed or deleted.
    #[error(transparent)]
    Stack(Box<StackFailure>),
    /// A time in the future, or older than the minutes that are kept.
    #[error("{at} cannot be judged")]
    NotJudgeable {
        /// The time.
        at: Now,
        /// The earliest time that can be judged.
        earliest: Now,
        /// The latest time that can be judged.
        now: Now,
        /// The subject.
        subject: String,
    },
    /// The dashboard's address cannot be bound.
    #[error("cannot listen on 127.0.0.1:{port}")]
    CannotListen {
        /// The port; 0 = any free port.
        port: u16,
        /// The cause.
        source: io::Error,
    },
    /// Standard output is not a terminal, or JSON was asked for.
    #[error("--watch needs a terminal, and standard output is not one or --format is json")]
    NoTerminal,
    /// A file or folder that cannot be written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// AWS refused, could not be reached, or returned what cannot be decoded.
    #[error("{error}")]
    Refused {
        /// The request, and why it failed.
        error: PortError,
        /// The stack.
        stack: String,
        /// The Region.
        region: String,
        /// The profile that was named.
        profile: Option<String>,
    },
    /// S3 refused, or could not be reached.
    #[error("{}", .0.error)]
    Bucket(Box<BucketRefusal>),
    /// No object key has the prefix.
    #[error("there is no object in {location}")]
    NoObjects {
        /// The place in S3.
        location: String,
    },
    /// The objects contain no events.
    #[error("no SES event in {lines} lines of the objects in {location}")]
    NoEvents {
        /// The place in S3.
        location: String,
        /// The number of documents.
        lines: u64,
    },
    /// An empty time range.
    #[error("--since {since} is not before --until {until}")]
    NoTime {
        /// The start.
        since: Now,
        /// The end.
        until: Now,
    },
    /// The ledger is empty.
    #[error("there is no unit in {table}")]
    NothingRecorded {
        /// The table.
        table: String,
        /// The stack.
        stack: String,
    },
    /// A policy that is not valid, where one is needed.
    #[error("{0}")]
    InvalidPolicy(Box<InvalidPolicy>),
    /// A price file that cannot be used.
    #[error("{file} is not a valid price file: {problem}")]
    Prices {
        /// Name of the file.
        file: String,
        /// What is wrong with it.
        problem: PricesError,
    },
    /// Events that cannot be read to the end.
    #[error("{0}")]
    Events(String),
    /// The input names no recipient domains.
    #[error("{source_name} names no recipient domain")]
    NoDomains {
        /// The input.
        source_name: String,
    },
    /// This machine has no DNS resolver configured.
    #[error("no DNS resolver is known: {problem}")]
    NoResolver {
        /// What is wrong with the configuration.
        problem: String,
    },
    /// A push needs a confirmation, and there is no terminal to ask on.
    #[error("--apply asks before it pushes, but standard input is not a terminal")]
    NobodyToAsk,
    /// The simulated stack of a demo failed.
    #[error("the demo cannot go on")]
    Demo(#[source] Box<local::DemoError>),
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(String),
}

/// A refusal by S3, and where it happened.
#[derive(Debug)]
pub struct BucketRefusal {
    /// The request, and why it failed.
    pub error: PortError,
    /// The error code of S3; empty if there was none.
    pub code: String,
    /// The permission that the request needs.
    pub action: &'static str,
    /// The bucket.
    pub bucket: String,
    /// The Region of the request.
    pub region: String,
}

impl From<PagesError> for Failure {
    fn from(PagesError { path, source }: PagesError) -> Failure {
        Failure::Unwritable { path, source }
    }
}

impl From<InvalidPolicy> for Failure {
    fn from(invalid: InvalidPolicy) -> Failure {
        Failure::InvalidPolicy(Box::new(invalid))
    }
}

impl From<StackFailure> for Failure {
    fn from(failure: StackFailure) -> Failure {
        Failure::Stack(Box::new(failure))
    }
}

impl Failure {
    /// The kind, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Failure::Stack(failure) => failure.kind(),
            Failure::Usage(_) => ErrorKind::Usage,
            Failure::NoRegion { .. } => ErrorKind::NoRegion,
            Failure::UnknownSubject { .. } => ErrorKind::UnknownSubject,
            Failure::UnknownIsp { .. } => ErrorKind::UnknownIsp,
            Failure::UnknownVersion { .. } => ErrorKind::UnknownVersion,
            Failure::NotPlanned { .. } => ErrorKind::UnknownSet,
            Failure::QuotaOutOfRange { .. } | Failure::NoQuotas { .. } => ErrorKind::Usage,
            Failure::NotJudgeable { .. } => ErrorKind::NotJudgeable,
            Failure::NoConfigurationSets { .. } => ErrorKind::NoConfigurationSets,
            Failure::InvalidPolicy(_) => ErrorKind::InvalidPolicy,
            Failure::Prices { .. } => ErrorKind::InvalidPrices,
            Failure::NothingRecorded { .. } => ErrorKind::NothingRecorded,
            Failure::NotPermitted { .. } => ErrorKind::NotPermitted,
            Failure::TooManyBounces { .. } => ErrorKind::NoDrill,
            Failure::Declined => ErrorKind::Declined,
            Failure::NoTerminal => ErrorKind::NoTerminal,
            Failure::Unconfirmed
            | Failure::UnconfirmedPush
            | Failure::UnconfirmedDrill { .. }
            | Failure::NobodyToAsk => ErrorKind::Unconfirmed,
            Failure::NotVerified { .. } => ErrorKind::NotVerified,
            Failure::CannotListen { .. } => ErrorKind::CannotListen,
            Failure::Unwritable { .. } => ErrorKind::Unwritable,
            Failure::Unreadable { .. } | Failure::Events(_) => ErrorKind::Unreadable,
            Failure::NoObjects { .. } => ErrorKind::NoObjects,
            Failure::NoTime { .. } => ErrorKind::NoTime,
            Failure::NoEvents { .. } => ErrorKind::NoEvents,
            Failure::NoDomains { .. } => ErrorKind::NoDomains,
            Failure::Output(_) => ErrorKind::Output,
            Failure::Bucket(refusal) if refusal.code == "NoSuchBucket" => ErrorKind::NoBucket,
            Failure::Bucket(_) | Failure::Refused { .. } => ErrorKind::Refused,
            Failure::NoResolver { .. } => ErrorKind::NoResolver,
            Failure::Demo(_) => ErrorKind::Fault,
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.kind().exit()
    }

    /// The failure as it is reported.
    pub fn report(&self) -> ErrorReport {
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        // The SDK prints lists over several lines.
        let message = format!("{self}{cause}").split_whitespace().collect::<Vec<_>>().join(" ");
        let report = ErrorReport::new(self.kind(), &message, &self.remedy());
        if let Failure::InvalidPolicy(invalid) = self { report.in_policy((**invalid).clone()) } else { report }
    }

    /// What to do about it, in a sentence or two; empty where the message is enough.
    pub fn remedy(&self) -> String {
        match self {
            Failure::Stack(failure) => failure.remedy(),
            Failure::NoRegion { profile: None } => {
                "Set it with --region, AWS_REGION, or in the profile (aws configure).".to_owned()
            }
            Failure::NoRegion { profile: Some(profile) } => format!(
                "Profile `{profile}` has no Region, or there is no such profile (aws configure list-profiles). Set it with \
                 --region or AWS_REGION."
            ),
            Failure::UnknownSubject { nearest, forceable, .. } => {
                let force = if *forceable { " If it has sent nothing yet, add --force." } else { "" };
                let nearest: Vec<String> = nearest.iter().map(|known| name(known)).collect();
                match nearest.is_empty() {
                    true => format!("It has seen no mail yet: see ses-breaker connect.{force}"),
                    false => format!("Did you mean {}?{force}", nearest.join(" or ")),
                }
            }
            Failure::NotPermitted { subject, parameter, .. } => {
                let by_hand = match subject {
                    Subject::Account => " By hand: aws sesv2 put-account-sending-attributes --no-sending-enabled",
                    Subject::ConfigurationSet(_) | Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..) => "",
                };
                format!("Deploy it with {parameter}=true, which gives the enforcer the permission.{by_hand}")
            }
            Failure::Unconfirmed | Failure::UnconfirmedDrill { .. } => "Add --yes.".to_owned(),
            Failure::NotVerified { unverified, region } => {
                let known = unverified.as_ref().map(|identity| format!("SES knows {}, but it is not verified. ", name(identity)));
                format!(
                    "{}List the identities of this Region: aws sesv2 list-email-identities --region {region}",
                    known.unwrap_or_default()
                )
            }
            Failure::UnconfirmedPush => {
                "Run it with --dry-run to see what it would act on, then add --yes.".to_owned()
            }
            Failure::TooManyBounces { .. } => {
                "See its [metrics.hard_bounce]: ses-breaker policy show".to_owned()
            }
            Failure::UnknownIsp { nearest, .. } => format!("Did you mean {}?", nearest.join(" or ")),
            Failure::UnknownVersion { current: 0, .. } => "No policy was ever pushed; the default is in use.".to_owned(),
            Failure::UnknownVersion { current, .. } => format!("The current one is {current}."),
            Failure::NoConfigurationSets { .. } => "If another Region sends your mail, name it with --region.".to_owned(),
            Failure::NotPlanned { nearest, .. } => {
                let nearest: Vec<String> = nearest.iter().map(|known| name(known)).collect();
                let plan = "To plan it, add it to [warmup.sets] of the policy.";
                match nearest.is_empty() {
                    true => plan.to_owned(),
                    false => format!("Did you mean {}? {plan}", nearest.join(" or ")),
                }
            }
            Failure::QuotaOutOfRange { mails, most, .. } if mails > most => {
                "To allow more, raise `target` in [warmup.sets] of the policy.".to_owned()
            }
            Failure::QuotaOutOfRange { .. } => "To allow less, lower `minimum` in [warmup.plan] of the policy.".to_owned(),
            Failure::NoQuotas { .. } => "Name one with --isp: its ramp begins with that.".to_owned(),
            Failure::NotJudgeable { at, now, .. } if at > now => "It is in the future.".to_owned(),
            Failure::NotJudgeable { earliest, subject, .. } => format!(
                "Counters by the minute are kept for 2 days: use {} UTC or later. For earlier notices: ses-breaker history {}. \
                 `replay explain` judges any time from event files.",
                second_of(*earliest),
                quoted(&name(subject)),
            ),
            Failure::CannotListen { .. } => {
                "Another program may use that port: choose another with --port, or leave it out.".to_owned()
            }
            Failure::Demo(_) => "This is a fault of ses-breaker: please report it with the seed.".to_owned(),
            Failure::NoTerminal => "To print the status once: ses-breaker status --format json".to_owned(),
            Failure::NoDomains { .. } => {
                "Check that these files contain SES events. For a list of domains or addresses: --domains FILE."
                    .to_owned()
            }
            Failure::NoResolver { .. } => {
                "Name one with --resolver ADDRESS, or skip MX records with --no-lookup.".to_owned()
            }
            Failure::NobodyToAsk => "Run it without --apply to see the proposals, then with --apply --yes.".to_owned(),
            Failure::InvalidPolicy(invalid) => invalid.fault.remedy(),
            Failure::Usage(_)
            | Failure::Declined
            | Failure::Unreadable { .. }
            | Failure::Unwritable { .. }
            | Failure::Events(_)
            | Failure::Output(_) => String::new(),
            Failure::Bucket(refusal) => of_bucket(refusal),
            Failure::NoObjects { .. } => {
                "A prefix must match the keys exactly: check it with `aws s3 ls`. Firehose adds YYYY/MM/DD/HH/ after its own prefix."
                    .to_owned()
            }
            Failure::Prices { .. } => {
                "Start from a copy of shared/operator/src/prices.toml; all of its keys are required.".to_owned()
            }
            Failure::NoTime { .. } => "Choose an earlier --since or a later --until.".to_owned(),
            Failure::NoEvents { .. } => "Check that these objects contain SES events.".to_owned(),
            Failure::NothingRecorded { stack, .. } => format!(
                "Stack {stack} has seen no mail, or all of it is older than 100 days: see ses-breaker connect. Or name the \
                 objects that Firehose writes: s3://bucket/prefix."
            ),
            Failure::Refused { error, stack, region, profile } => {
                of_refusal(&error.reason, stack, region, profile.as_deref())
            }
        }
    }
}

/// What to do about a refusal by S3. Codes: "Error responses" of the Amazon S3 API reference.
fn of_bucket(refusal: &BucketRefusal) -> String {
    let BucketRefusal { error, code, action, bucket, region } = refusal;
    match code.as_str() {
        "NoSuchBucket" => format!("There is no bucket {bucket}: check its name with `aws s3 ls`, and check --profile."),
        "AccessDenied" | "AllAccessDisabled" => {
            let on = if *action == "s3:ListBucket" { "" } else { "/*" };
            format!(
                "Allow the caller {action} on arn:aws:s3:::{bucket}{on}; if the objects are encrypted with a KMS key, \
                 also kms:Decrypt on that key."
            )
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            format!(
                "Bucket {bucket} is not in {region}: name its Region with --region (aws s3api head-bucket prints it)."
            )
        }
        "NoSuchKey" => "It was deleted while this ran: try again.".to_owned(),
        "SlowDown" => "S3 limits the request rate: try again in a minute.".to_owned(),
        _ => of_refusal(&error.reason, "?", region, None),
    }
}

/// What to do about a refusal by AWS. Codes: "Common errors" and "Error handling with DynamoDB".
fn of_refusal(reason: &str, stack: &str, region: &str, profile: Option<&str>) -> String {
    let code = reason.split([':', ' ']).next().unwrap_or_default();
    let code = code.strip_suffix("Exception").unwrap_or(code);
    let says = |words: &[&str]| words.iter().any(|words| reason.contains(words));
    match code {
        "ResourceNotFound" | "TableNotFound" => format!(
            "Table {stack}-reputation does not exist in {region}, so there is no stack named {stack}. Name yours with --stack or \
             SES_BREAKER_STACK, its Region with --region, its account with --profile; or deploy it (see infra/INSTALL.md)."
        ),
        "AccessDenied" | "AuthorizationError" | "UnauthorizedOperation" | "KMSAccessDenied"
            if says(&["kms:", "KMS"]) =>
        {
            format!(
                "The tables are encrypted with the stack's own key: allow the caller kms:Decrypt on it (alias/{stack}) \
                 and the DynamoDB action."
            )
        }
        "AccessDenied" | "AuthorizationError" | "UnauthorizedOperation" => format!(
            "Allow the caller that action on that resource; the tables of {stack} also need kms:Decrypt on \
             its key (alias/{stack})."
        ),
        "KMSAccess" | "KMSDisabled" | "KMSInvalidState" | "KMSNotFound" => {
            format!("Check the stack's key: alias/{stack}. Without it, its tables cannot be read.")
        }
        "ExpiredToken" | "RequestExpired" => "The credentials have expired: sign in again (aws sso login).".to_owned(),
        "UnrecognizedClient" | "InvalidClientTokenId" | "InvalidSignature" | "SignatureDoesNotMatch" => {
            "AWS does not accept these credentials in this Region: check --profile, --region and \
             `aws sts get-caller-identity`."
                .to_owned()
        }
        "TooManyRequests" | "Throttling" | "ThrottlingError" | "ProvisionedThroughputExceeded" => {
            "AWS limits the request rate: try again in a minute.".to_owned()
        }
        "LimitExceeded" => {
            "SES allows ten event destinations for a configuration set: remove one that is not needed.".to_owned()
        }
        _ if says(&["item "]) && says(&["attribute"]) => {
            format!("A newer release or another program wrote to {stack}-reputation: update ses-breaker.")
        }
        _ if lacks_credentials(reason) => match profile {
            Some(profile) => format!(
                "Profile `{profile}` gives no credentials, or there is no such profile (aws configure list-profiles); \
                 you may need to sign in first (aws sso login --profile {profile})."
            ),
            None => "No credentials were found, or they cannot be loaded: choose a profile (--profile, AWS_PROFILE), \
                     sign in (aws sso login), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                .to_owned(),
        },
        _ if says(&["timeout", "timed out", "dispatch failure", "io error"]) => format!(
            "AWS did not answer in {region}: check the network, a proxy, --region and --endpoint-url, then try again."
        ),
        _ => String::new(),
    }
}

/// Whether no request was sent because credentials are missing, judged by the SDK's message.
fn lacks_credentials(reason: &str) -> bool {
    ["identity resolver", "credential", "SSO", "token", "profile"].iter().any(|word| reason.contains(word))
}

#[cfg(test)]
mod tests {
    use pipeline::Disposition;

    use super::*;

    fn remedy(reason: &str) -> String {
        let error = PortError { operation: "reading", reason: reason.to_owned(), disposition: Disposition::Halt };
        let failure =
            Failure::Refused { error, stack: "mail".to_owned(), region: "eu-west-1".to_owned(), profile: None };
        assert_eq!(failure.exit(), Exit::Refused);
        assert_eq!(failure.to_string(), format!("reading failed: {reason}"));
        failure.remedy()
    }

    #[test]
    fn a_refusal_comes_with_what_to_do_about_it() {
        let denied = "AccessDeniedException: User: arn:aws:iam::1:user/ann is not authorized to perform: ";
        for (reason, expected) in [
            ("ResourceNotFoundException: Requested resource not found (request R)", "--stack or SES_BREAKER_STACK"),
            (&format!("{denied}dynamodb:Query on resource: arn:x"), "Allow the caller that action on that resource"),
            (&format!("{denied}kms:Decrypt on resource: arn:x"), "kms:Decrypt on it (alias/mail)"),
            ("ExpiredTokenException: The security token included in the request is expired", "aws sso login"),
            ("UnrecognizedClientException: The security token included in the request is invalid", "--profile"),
            ("dispatch failure: other: the credential provider was not enabled", "AWS_PROFILE"),
            ("dispatch failure: timeout: error trying to connect: HTTP connect timeout", "--endpoint-url"),
            ("request has timed out", "--endpoint-url"),
            ("TooManyRequestsException: Too Many Requests", "try again"),
            ("item board / x: attribute `state` is missing, should be a string", "update ses-breaker"),
            ("ValidationException: no", ""),
        ] {
            let remedy = remedy(reason);
            assert!(remedy.contains(expected) && remedy.is_empty() == expected.is_empty(), "{reason}: {remedy}");
        }
    }
}
