//! Clients of AWS, and what their errors mean to us.
//!
//! **Invariant:** nothing is asked over the network while a function starts; a connection is opened by the first call
//! that needs one. Each client is built only by the function that uses it.
//! **Invariant:** every error of the SDK leaves this crate as a [`Disposition`] and a reason in words. The reason names
//! the code, the message and the request, and never the body of a request or a response: those hold keyed hashes and
//! texts for people.

use std::error::Error;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_dynamodb::operation::RequestId;
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use pipeline::ports::{Disposition, PortError};

/// How long a connection may take, TLS included. Linux sends a lost SYN again after 1 s: less than that would give up on
/// every lost packet, and the 3.1 s of the SDK would use up a whole attempt.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one attempt may take, its connection included. A frozen function wakes up with connections that may be dead
/// without knowing it; the attempt that finds out ends here, and the next one opens a new connection.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a call may take with all its attempts. Far below the time limit of our functions, so that the code that
/// answers for the rest of the batch still runs.
const OPERATION: Duration = Duration::from_secs(10);
/// The same three for calls whose answer a client waits for: less than the three seconds that it waits, and still more than
/// the second after which a lost SYN is sent again.
const HURRIED_CONNECT: Duration = Duration::from_millis(1_200);
const HURRIED_ATTEMPT: Duration = Duration::from_millis(1_500);
const HURRIED_OPERATION: Duration = Duration::from_millis(2_500);
/// Pauses between attempts of such a call, at first and at most: one that is throttled each time ends within half a second.
const HURRIED_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));
/// Attempts of one call. Throttling is refused fast, so that all of them fit; more would only hold up what the event
/// source delivers again anyway.
const ATTEMPTS: u32 = 4;

/// Makes clients of AWS that share one configuration.
#[derive(Clone, Debug)]
pub struct Clients {
    config: SdkConfig,
}

impl Clients {
    /// Takes Region, credentials and endpoints from where the AWS CLI takes them: in Lambda, from the environment.
    /// `AWS_ENDPOINT_URL` and its variants for single services lead elsewhere, as they do there.
    ///
    /// A missing Region or missing credentials show at the first call.
    pub async fn load() -> Clients {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(retries())
            .timeout_config(timeouts())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Ok(name) = AppName::new("ses-breaker") {
            loader = loader.app_name(name);
        }
        Clients { config: loader.load().await }
    }

    /// With a configuration that was made elsewhere, its retries and timeouts included: people can choose a profile, and
    /// wait longer than a function.
    pub fn new(config: SdkConfig) -> Clients {
        Clients { config }
    }

    /// Talks to `http` instead of AWS, with a made-up Region (`eu-west-1`) and made-up credentials; the environment is
    /// not looked at. For tests.
    pub fn over(http: impl HttpClient + 'static) -> Clients {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "tests");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(IntoShared::<aws_sdk_dynamodb::config::SharedHttpClient>::into_shared(http))
            .retry_config(retries())
            .timeout_config(timeouts())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Clients { config }
    }

    /// The same for functions that a client waits for: a call gives up early, with an error that says so.
    pub fn hurried(&self) -> Clients {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(HURRIED_CONNECT)
            .operation_attempt_timeout(HURRIED_ATTEMPT)
            .operation_timeout(HURRIED_OPERATION)
            .build();
        let (first, most) = HURRIED_BACKOFF;
        let retries = retries().with_initial_backoff(first).with_max_backoff(most);
        Clients { config: self.config.clone().into_builder().timeout_config(timeouts).retry_config(retries).build() }
    }

    /// What all clients share; for clients that only the operator's command line needs.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// A client of DynamoDB.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config)
    }

    /// A client of SES that never calls twice by itself: SES counts calls, and [`crate::ses`] paces them.
    pub fn ses(&self) -> aws_sdk_sesv2::Client {
        let config = aws_sdk_sesv2::config::Builder::from(&self.config).retry_config(RetryConfig::disabled()).build();
        aws_sdk_sesv2::Client::from_conf(config)
    }

    /// A client of SNS.
    pub fn sns(&self) -> aws_sdk_sns::Client {
        aws_sdk_sns::Client::new(&self.config)
    }

    /// A client of EventBridge.
    pub fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.config)
    }
}

/// Standard and not adaptive: the adaptive mode holds calls back on its own, in each copy of a function apart, and would
/// hide from the event source that it should slow down. Standard waits with full jitter.
fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

/// Bodies are small and wholly in memory, so these limits cover them. Stalled stream protection is off for that reason:
/// it would watch each body for longer than a whole call may last.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build()
}

/// What a failed call means to us: see [`Disposition`].
///
/// | Disposition | when |
/// |---|---|
/// | Retry | throttled, timed out, not reached, 5xx, lost against another writer, an answer that cannot be read |
/// | Halt | not allowed, invalid or expired credentials, no Region, a table, topic or bus that does not exist |
/// | Quarantine | refused for what it says: validation and the other 4xx |
///
/// Codes: "Common errors" and "Error handling with DynamoDB", and the API references of SNS, EventBridge and SES v2.
pub fn port_error<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    PortError { operation, reason: reason(error), disposition: disposition_of(error) }
}

/// Why a call failed: code, message and request, or the chain of causes where AWS did not answer.
pub(crate) fn reason<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    // Not `DisplayErrorContext`: its second half prints the response with its body.
    let Some(service) = error.as_service_error() else { return causes(error) };
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    if status < 300 {
        return format!("HTTP {status} that cannot be read: {}", causes(service));
    }
    let code = service.code().map_or_else(|| format!("HTTP {status}"), str::to_owned);
    let mut reason = match service.message() {
        Some(message) if !message.is_empty() => format!("{code}: {message}"),
        Some(_) | None => code,
    };
    if let Some(request) = service.meta().request_id() {
        reason.push_str(&format!(" (request {request})"));
    }
    reason
}

/// What a failed call means to us.
pub(crate) fn disposition_of<E>(error: &SdkError<E, HttpResponse>) -> Disposition
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    match error {
        SdkError::ConstructionFailure(_) => Disposition::Quarantine,
        SdkError::DispatchFailure(_) if lacks_configuration(&causes(error)) => Disposition::Halt,
        SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => Disposition::Retry,
        SdkError::ResponseError(_) => disposition(None, status),
        SdkError::ServiceError(failed) => match failed.err().code() {
            // Says in its message why each of its parts was refused.
            Some("TransactionCanceledException") if hopeless(failed.err().message()) => Disposition::Quarantine,
            code => disposition(code, status),
        },
        _ => Disposition::Retry,
    }
}

/// Codes of errors that may be gone the next time, without the ending `Exception`.
const RETRY: &[&str] = &[
    "ConcurrentModification",
    "ConditionalCheckFailed",
    "Conflict",
    "IdempotentParameterMismatch",
    "Internal",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "KMSThrottling",
    "LimitExceeded",
    "ProvisionedThroughputExceeded",
    "ReplicatedWriteConflict",
    // The clock of the machine is wrong: the SDK measures by how much, and signs better next time.
    "RequestExpired",
    "RequestInTheFuture",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "ServiceUnavailable",
    "Throttled",
    "Throttling",
    "ThrottlingError",
    "TooManyRequests",
    "TransactionCanceled",
    "TransactionConflict",
    "TransactionInProgress",
];

/// Codes of errors that stay until a person acts, whatever the piece of work, without the ending `Exception`.
const HALT: &[&str] = &[
    "AccessDenied",
    "AccountSuspended",
    "AuthorizationError",
    "ExpiredToken",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidAction",
    "InvalidClientTokenId",
    "InvalidEndpoint",
    "InvalidSecurity",
    "InvalidSignature",
    "KMSAccessDenied",
    "KMSDisabled",
    "KMSInvalidState",
    "KMSNotFound",
    "KMSOptInRequired",
    "MissingAuthenticationToken",
    "NotAuthorized",
    "NotAuthorizedForDetailType",
    "NotAuthorizedForSource",
    "NotFound",
    "OptInRequired",
    "ResourceNotFound",
    "SignatureDoesNotMatch",
    "SubscriptionRequired",
    "TableNotFound",
    "UnauthorizedOperation",
    "UnknownOperation",
    "UnrecognizedClient",
];

/// What an error code means, or, where it is unknown or missing, the HTTP status.
pub(crate) fn disposition(code: Option<&str>, status: Option<u16>) -> Disposition {
    let code = code.map(|code| code.strip_suffix("Exception").unwrap_or(code));
    match (code, status) {
        (Some(code), _) if RETRY.contains(&code) => Disposition::Retry,
        (Some(code), _) if HALT.contains(&code) => Disposition::Halt,
        // Below 300: an answer that cannot be read.
        (_, Some(..300 | 408 | 429 | 500..)) | (None, None) => Disposition::Retry,
        (_, Some(401 | 403 | 404)) => Disposition::Halt,
        (Some(_), None) | (_, Some(_)) => Disposition::Quarantine,
    }
}

/// Whether a cancelled transaction has a part that will be refused again.
fn hopeless(message: Option<&str>) -> bool {
    message.is_some_and(|text| text.contains("ValidationError") || text.contains("ItemCollectionSizeLimitExceeded"))
}

/// Whether nothing was sent because Region or credentials are missing. The SDK has no type for it that we can see; a
/// test holds its words fast.
fn lacks_configuration(causes: &str) -> bool {
    [
        "Invalid Configuration",
        "no identity resolver",
        "the credential provider was not enabled",
        "the credentials provider was not properly configured",
    ]
    .iter()
    .any(|words| causes.contains(words))
}

fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some wrappers print what they wrap.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::operation::get_item::GetItemError;
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    fn answered(status: u16, code: &str, message: &str) -> SdkError<GetItemError, HttpResponse> {
        let mut meta = ErrorMetadata::builder().message(message).custom("aws_request_id", "R1");
        if !code.is_empty() {
            meta = meta.code(code);
        }
        let response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from("the body"));
        SdkError::service_error(GetItemError::generic(meta.build()), response)
    }

    #[test]
    fn each_code_of_aws_has_one_disposition() {
        use Disposition::{Halt, Quarantine, Retry};
        for (status, code, expected) in [
            (400, "ThrottlingException", Retry),
            (400, "Throttling", Retry),
            (400, "ProvisionedThroughputExceededException", Retry),
            (400, "RequestLimitExceeded", Retry),
            (400, "LimitExceededException", Retry),
            (429, "TooManyRequestsException", Retry),
            (400, "TransactionConflictException", Retry),
            (400, "TransactionInProgressException", Retry),
            (400, "TransactionCanceledException", Retry),
            (400, "ConditionalCheckFailedException", Retry),
            (409, "ConflictException", Retry),
            (500, "ConcurrentModificationException", Retry),
            (500, "InternalServerError", Retry),
            (500, "InternalServiceErrorException", Retry),
            (500, "InternalFailure", Retry),
            (503, "ServiceUnavailable", Retry),
            (400, "KMSThrottlingException", Retry),
            (500, "NeverHeardOf", Retry),
            (429, "", Retry),
            (502, "", Retry),
            (400, "AccessDeniedException", Halt),
            (403, "AccessDenied", Halt),
            (403, "AuthorizationError", Halt),
            (400, "ResourceNotFoundException", Halt),
            (404, "NotFound", Halt),
            (400, "UnrecognizedClientException", Halt),
            (403, "InvalidClientTokenId", Halt),
            (400, "ExpiredTokenException", Halt),
            (403, "ExpiredToken", Halt),
            (403, "SignatureDoesNotMatch", Halt),
            (400, "MissingAuthenticationTokenException", Halt),
            (400, "KMSAccessDenied", Halt),
            (403, "NeverHeardOf", Halt),
            (404, "", Halt),
            (400, "ValidationException", Quarantine),
            (400, "ItemCollectionSizeLimitExceededException", Quarantine),
            (400, "InvalidParameter", Quarantine),
            (413, "RequestEntityTooLarge", Quarantine),
            (400, "BadRequestException", Quarantine),
            (400, "", Quarantine),
        ] {
            let error = port_error("get", &answered(status, code, "why"));
            assert_eq!(error.disposition, expected, "{status} {code}");
        }
    }

    #[test]
    fn a_cancelled_transaction_that_can_never_succeed_is_put_aside() {
        let cancelled = |reasons: &str| port_error("commit", &answered(400, "TransactionCanceledException", reasons));
        let words = "Transaction cancelled, please refer cancellation reasons for specific reasons";
        let conflict = cancelled(&format!("{words} [None, TransactionConflict]"));
        assert_eq!(conflict.disposition, Disposition::Retry);
        assert_eq!(cancelled(&format!("{words} [ValidationError, None]")).disposition, Disposition::Quarantine);
    }

    #[test]
    fn the_reason_names_code_message_and_request_and_no_body() {
        let text = |error| port_error("get", &error).to_string();
        assert_eq!(
            text(answered(400, "ThrottlingException", "Rate exceeded")),
            "get failed: ThrottlingException: Rate exceeded (request R1)"
        );
        assert_eq!(text(answered(502, "", "")), "get failed: HTTP 502 (request R1)");
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let unreached = SdkError::<GetItemError, _>::dispatch_failure(ConnectorError::io(refused.into()));
        assert_eq!(text(unreached), "get failed: dispatch failure: io error: connection refused");
        let response = HttpResponse::new(StatusCode::try_from(200).unwrap(), SdkBody::from("<the body>"));
        let unreadable = SdkError::<GetItemError, _>::response_error("unexpected `<`", response);
        assert_eq!(port_error("get", &unreadable).disposition, Disposition::Retry);
        assert!(!text(unreadable).contains("the body"));
    }

    #[test]
    fn what_does_not_reach_aws_is_tried_again() {
        let timeout = SdkError::<GetItemError, HttpResponse>::timeout_error("3 s");
        assert_eq!(port_error("get", &timeout).disposition, Disposition::Retry);
        let built = SdkError::<GetItemError, HttpResponse>::construction_failure("no table name");
        assert_eq!(port_error("get", &built).disposition, Disposition::Quarantine);
    }
}
