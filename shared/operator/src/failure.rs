//! What keeps a verb from answering, and what to do about it.

use std::io;
use std::path::PathBuf;

use pipeline::PortError;
use replay::text::{name, quoted};
use reputation::subject::Subject;
use reputation::time::Now;

use crate::Exit;
use crate::advise::prices::PricesError;
use crate::text::second_of;

/// A verb could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Arguments that cannot be understood, in the words of the help.
    #[error("{0}")]
    Usage(String),
    /// Nothing names a Region.
    #[error("no AWS Region is known")]
    NoRegion {
        /// The profile that was asked for.
        profile: Option<String>,
    },
    /// A subject that the stack has never heard of.
    #[error("stack {stack} has never heard of {subject}")]
    UnknownSubject {
        /// As it was written.
        subject: String,
        /// The stack.
        stack: String,
        /// What may have been meant.
        nearest: Vec<String>,
        /// Whether `--force` would do it all the same.
        forceable: bool,
    },
    /// What the stack's template does not let the enforcer do.
    #[error("stack {stack} may not stop {subject} at SES, so nothing was changed")]
    NotPermitted {
        /// What was to be stopped.
        subject: Subject,
        /// The stack.
        stack: String,
        /// The parameter that would permit it.
        parameter: &'static str,
    },
    /// The account was to be stopped, and nobody has confirmed it.
    #[error("all mail of the account would be stopped, so this asks first, and standard input is not a terminal")]
    Unconfirmed,
    /// A policy would end the shadow of the stack, and nobody has confirmed it.
    #[error("with this policy the stack begins to act, so this asks first, and standard input is not a terminal")]
    UnconfirmedPush,
    /// A drill was to send mail, and nobody has confirmed it.
    #[error("a drill sends {mails} mails, so this asks first, and standard input is not a terminal")]
    UnconfirmedDrill {
        /// How many, at least.
        mails: u32,
    },
    /// Nothing that SES has verified covers the sender of a drill.
    #[error("SES in {region} has verified no identity for the address of --from")]
    NotVerified {
        /// The identity that would cover it, and is not verified: a domain, or `the address`.
        unverified: Option<String>,
        /// The Region.
        region: String,
    },
    /// A policy under which a drill stops nothing.
    #[error("the policy in use stops no configuration set for {most} hard bounces, so a drill would prove nothing")]
    TooManyBounces {
        /// More are not sent.
        most: u32,
    },
    /// Something was asked first, and the answer was no.
    #[error("nothing was changed")]
    Declined,
    /// A name that is no ISP's.
    #[error("`{name}` names no ISP of the policy")]
    UnknownIsp {
        /// As it was written.
        name: String,
        /// What may have been meant.
        nearest: Vec<String>,
    },
    /// A policy version that is not stored.
    #[error("stack {stack} has no policy version {version}")]
    UnknownVersion {
        /// As it was written.
        version: u64,
        /// The stack.
        stack: String,
        /// The current one; 0 if none was ever pushed.
        current: u64,
    },
    /// There is nothing to connect.
    #[error("there are no configuration sets in {region}")]
    NoConfigurationSets {
        /// The Region.
        region: String,
    },
    /// A configuration set that the policy does not plan.
    #[error("the policy plans no quotas for configuration set `{configuration_set}`")]
    NotPlanned {
        /// As it was written.
        configuration_set: String,
        /// What may have been meant.
        nearest: Vec<String>,
    },
    /// A moment that is to come, or so long ago that its minutes are not kept.
    #[error("{at} cannot be judged")]
    NotJudgeable {
        /// The moment.
        at: Now,
        /// The first that can.
        earliest: Now,
        /// The last that can.
        now: Now,
        /// Whose mail.
        subject: String,
    },
    /// A dashboard that cannot be served.
    #[error("cannot listen on 127.0.0.1:{port}")]
    CannotListen {
        /// Its port; 0 = any.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// There is no terminal to draw on.
    #[error("--watch draws on a terminal, and standard output is none, or JSON is asked for")]
    NoTerminal,
    /// A file or folder that cannot be written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// AWS refused, could not be reached, or holds what cannot be understood.
    #[error("{error}")]
    Refused {
        /// What was asked, and why it failed.
        error: PortError,
        /// The stack.
        stack: String,
        /// The Region.
        region: String,
        /// The profile that was asked for.
        profile: Option<String>,
    },
    /// S3 refused, or could not be reached.
    #[error("{}", .0.error)]
    Bucket(Box<BucketRefusal>),
    /// No object has a key that begins so.
    #[error("there is no object in {location}")]
    NoObjects {
        /// A place in S3.
        location: String,
    },
    /// The objects hold no event.
    #[error("no SES event in {lines} lines of the objects in {location}")]
    NoEvents {
        /// A place in S3.
        location: String,
        /// How many documents there are.
        lines: u64,
    },
    /// A stretch of time that is none.
    #[error("no mail is accepted since {since} and before {until}")]
    NoTime {
        /// From when on.
        since: Now,
        /// Until when.
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
    /// A file of prices that is none.
    #[error("{file} holds no prices: {problem}")]
    Prices {
        /// Name of the file.
        file: String,
        /// What is wrong with it.
        problem: PricesError,
    },
    /// Events that cannot be read to their end.
    #[error("{0}")]
    Events(String),
    /// There is no mail to any domain.
    #[error("there is no mail to any domain in {source_name}")]
    NoDomains {
        /// Where it was looked for.
        source_name: String,
    },
    /// This machine names no resolver.
    #[error("no DNS resolver is known: {problem}")]
    NoResolver {
        /// What is wrong with its set-up.
        problem: String,
    },
    /// There is nobody to ask.
    #[error("--apply asks before it pushes, and standard input is not a terminal")]
    NobodyToAsk,
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(String),
}

/// What S3 refused, and where.
#[derive(Debug)]
pub struct BucketRefusal {
    /// What was asked, and why it failed.
    pub error: PortError,
    /// The code of S3; empty if there was none.
    pub code: String,
    /// The permission that it takes.
    pub action: &'static str,
    /// The bucket.
    pub bucket: String,
    /// The Region in which it was asked for.
    pub region: String,
}

impl Failure {
    /// How the program ends.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::NoConfigurationSets { .. }
            | Failure::NothingRecorded { .. }
            | Failure::NotPermitted { .. }
            | Failure::TooManyBounces { .. }
            | Failure::Declined => Exit::No,
            Failure::Usage(_)
            | Failure::NoRegion { .. }
            | Failure::UnknownSubject { .. }
            | Failure::UnknownIsp { .. }
            | Failure::UnknownVersion { .. }
            | Failure::NotPlanned { .. }
            | Failure::NotJudgeable { .. }
            | Failure::NoTerminal
            | Failure::Unconfirmed
            | Failure::UnconfirmedPush
            | Failure::UnconfirmedDrill { .. }
            | Failure::NotVerified { .. }
            | Failure::CannotListen { .. }
            | Failure::Unwritable { .. }
            | Failure::Unreadable { .. }
            | Failure::NoObjects { .. }
            | Failure::NoTime { .. }
            | Failure::Prices { .. }
            | Failure::NoEvents { .. }
            | Failure::Events(_)
            | Failure::NoDomains { .. }
            | Failure::NobodyToAsk
            | Failure::Output(_) => Exit::Usage,
            Failure::Bucket(refusal) if refusal.code == "NoSuchBucket" => Exit::Usage,
            Failure::Bucket(_) | Failure::Refused { .. } | Failure::NoResolver { .. } => Exit::Refused,
        }
    }

    /// What to do about it, in a sentence or two; empty where the message says it all.
    pub fn remedy(&self) -> String {
        match self {
            Failure::NoRegion { profile: None } => {
                "Say where the stack is: --region, AWS_REGION, or a Region in the profile (aws configure).".to_owned()
            }
            Failure::NoRegion { profile: Some(profile) } => format!(
                "Profile `{profile}` names none, or there is no such profile (aws configure list-profiles); else say \
                 --region or set AWS_REGION."
            ),
            Failure::UnknownSubject { nearest, forceable, .. } => {
                let force = if *forceable { " For one that has sent nothing yet, say --force." } else { "" };
                let nearest: Vec<String> = nearest.iter().map(|known| name(known)).collect();
                match nearest.is_empty() {
                    true => format!("It has heard of nobody yet: see ses-breaker connect.{force}"),
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
            Failure::Unconfirmed | Failure::UnconfirmedDrill { .. } => "Say --yes.".to_owned(),
            Failure::NotVerified { unverified, region } => {
                let known = unverified.as_ref().map(|identity| format!("SES knows {} and has not verified it. ", name(identity)));
                format!(
                    "{}What is verified in this Region: aws sesv2 list-email-identities --region {region}",
                    known.unwrap_or_default()
                )
            }
            Failure::UnconfirmedPush => {
                "Look at what it would act on with --dry-run, then say --yes.".to_owned()
            }
            Failure::TooManyBounces { .. } => {
                "Its [metrics.hard_bounce] says what it takes: ses-breaker policy show".to_owned()
            }
            Failure::UnknownIsp { nearest, .. } => format!("Did you mean {}?", nearest.join(" or ")),
            Failure::UnknownVersion { current: 0, .. } => "None was ever pushed; the default is in use.".to_owned(),
            Failure::UnknownVersion { current, .. } => format!("The current one is {current}."),
            Failure::NoConfigurationSets { .. } => "Is this the Region that sends? See --region.".to_owned(),
            Failure::NotPlanned { nearest, .. } => {
                let nearest: Vec<String> = nearest.iter().map(|known| name(known)).collect();
                let plan = "Name it in [warmup.sets] of the policy to have it planned.";
                match nearest.is_empty() {
                    true => plan.to_owned(),
                    false => format!("Did you mean {}? {plan}", nearest.join(" or ")),
                }
            }
            Failure::NotJudgeable { at, now, .. } if at > now => "It is yet to come.".to_owned(),
            Failure::NotJudgeable { earliest, subject, .. } => format!(
                "Counters by the minute are kept for 2 days: say {} UTC or later. What was told before: ses-breaker history {}. \
                 From event files, `replay explain` judges any moment.",
                second_of(*earliest),
                quoted(&name(subject)),
            ),
            Failure::CannotListen { .. } => {
                "Another program listens there: choose a port with --port, or leave it out.".to_owned()
            }
            Failure::NoTerminal => "Without it, the answer comes once: ses-breaker status --format json".to_owned(),
            Failure::NoDomains { .. } => {
                "Are these the files that SES events were sent to? For a list of domains or addresses: --domains FILE."
                    .to_owned()
            }
            Failure::NoResolver { .. } => {
                "Name one with --resolver ADDRESS, or leave MX records out with --no-lookup.".to_owned()
            }
            Failure::NobodyToAsk => "Look at the proposals without --apply first, then say --apply --yes.".to_owned(),
            Failure::Usage(_)
            | Failure::Declined
            | Failure::Unreadable { .. }
            | Failure::Unwritable { .. }
            | Failure::Events(_)
            | Failure::Output(_) => String::new(),
            Failure::Bucket(refusal) => of_bucket(refusal),
            Failure::NoObjects { .. } => {
                "A prefix is taken letter by letter: look at it with `aws s3 ls`. Firehose puts YYYY/MM/DD/HH/ behind its own."
                    .to_owned()
            }
            Failure::Prices { .. } => {
                "Begin with a copy of shared/operator/src/prices.toml; every key of it is needed.".to_owned()
            }
            Failure::NoTime { .. } => "Is --until before --since?".to_owned(),
            Failure::NoEvents { .. } => "Are these the objects that SES events were sent to?".to_owned(),
            Failure::NothingRecorded { stack, .. } => format!(
                "Nothing was heard of in {stack}, or all of it is older than 100 days: see ses-breaker connect; or give the \
                 objects that Firehose keeps: s3://bucket/prefix."
            ),
            Failure::Refused { error, stack, region, profile } => {
                of_refusal(&error.reason, stack, region, profile.as_deref())
            }
        }
    }
}

/// What to do about a refusal of S3. Codes: "Error responses" of the Amazon S3 API reference.
fn of_bucket(refusal: &BucketRefusal) -> String {
    let BucketRefusal { error, code, action, bucket, region } = refusal;
    match code.as_str() {
        "NoSuchBucket" => format!("There is no bucket {bucket}: look at its name with `aws s3 ls`, and at --profile."),
        "AccessDenied" | "AllAccessDisabled" => {
            let on = if *action == "s3:ListBucket" { "" } else { "/*" };
            format!(
                "Allow {action} on arn:aws:s3:::{bucket}{on} to the caller; if the objects are encrypted with a key of \
                 KMS, also kms:Decrypt on it."
            )
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            format!(
                "Bucket {bucket} is not in {region}: name its Region with --region (aws s3api head-bucket tells it)."
            )
        }
        "NoSuchKey" => "It was deleted meanwhile: try again.".to_owned(),
        "SlowDown" => "S3 has too much to do: try again in a minute.".to_owned(),
        _ => of_refusal(&error.reason, "?", region, None),
    }
}

/// What to do about a refusal of AWS. Codes: "Common errors" and "Error handling with DynamoDB".
fn of_refusal(reason: &str, stack: &str, region: &str, profile: Option<&str>) -> String {
    let code = reason.split([':', ' ']).next().unwrap_or_default();
    let code = code.strip_suffix("Exception").unwrap_or(code);
    let says = |words: &[&str]| words.iter().any(|words| reason.contains(words));
    match code {
        "ResourceNotFound" | "TableNotFound" => format!(
            "There is no table {stack}-reputation in {region}, so no stack named {stack}. Name yours with --stack or \
             SES_BREAKER_STACK, its Region with --region, its account with --profile; or deploy it (see infra/INSTALL.md)."
        ),
        "AccessDenied" | "AuthorizationError" | "UnauthorizedOperation" | "KMSAccessDenied"
            if says(&["kms:", "KMS"]) =>
        {
            format!(
                "The tables are encrypted with the stack's own key: allow kms:Decrypt on it (alias/{stack}) to the caller, \
                 and the DynamoDB action."
            )
        }
        "AccessDenied" | "AuthorizationError" | "UnauthorizedOperation" => format!(
            "Allow that action on that resource to the caller; the tables of {stack} also need kms:Decrypt on \
             its key (alias/{stack})."
        ),
        "KMSAccess" | "KMSDisabled" | "KMSInvalidState" | "KMSNotFound" => {
            format!("Look at the key of the stack: alias/{stack}. Without it, nothing in its tables can be read.")
        }
        "ExpiredToken" | "RequestExpired" => "The credentials have expired: sign in again (aws sso login).".to_owned(),
        "UnrecognizedClient" | "InvalidClientTokenId" | "InvalidSignature" | "SignatureDoesNotMatch" => {
            "AWS does not know these credentials in this Region: look at --profile, --region and \
             `aws sts get-caller-identity`."
                .to_owned()
        }
        "TooManyRequests" | "Throttling" | "ThrottlingError" | "ProvisionedThroughputExceeded" => {
            "AWS has too much to do: try again in a minute.".to_owned()
        }
        "LimitExceeded" => {
            "SES takes ten event destinations for a configuration set: remove one that is not needed.".to_owned()
        }
        _ if says(&["item "]) && says(&["attribute"]) => {
            format!("Something else wrote to {stack}-reputation, or a newer release did: update ses-breaker.")
        }
        _ if lacks_credentials(reason) => match profile {
            Some(profile) => format!(
                "Profile `{profile}` gives no credentials, or there is no such profile (aws configure list-profiles); \
                 perhaps sign in first (aws sso login --profile {profile})."
            ),
            None => "No credentials are known, or they cannot be loaded: choose a profile (--profile, AWS_PROFILE), \
                     sign in (aws sso login), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                .to_owned(),
        },
        _ if says(&["timeout", "timed out", "dispatch failure", "io error"]) => format!(
            "AWS did not answer in {region}: look at the network, a proxy, --region and --endpoint-url, then try again."
        ),
        _ => String::new(),
    }
}

/// Whether nothing was sent for want of credentials, in the words of the SDK.
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
            (&format!("{denied}dynamodb:Query on resource: arn:x"), "Allow that action on that resource"),
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
