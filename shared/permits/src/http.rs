//! The gate over HTTP: a Lambda Function URL with IAM authorisation, so each request is signed.
//!
//! Signature Version 4 as in "Create a signed AWS API request" (IAM User Guide), for the service `lambda`: the caller
//! needs `lambda:InvokeFunctionUrl` on the gate ("Control access to Lambda function URLs", Lambda Developer Guide).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use gate_api::JSON;
use http::header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use tokio::sync::Mutex;

use crate::gate::{Answer, Gate, NoAnswer, Reply};

/// Calls the gate over HTTPS, or plain HTTP for emulators, and signs each request. Connections are kept for the next
/// call.
#[derive(Debug)]
pub struct HttpGate {
    client: HttpClient,
    /// Without a slash at its end.
    base: String,
    region: String,
    provider: SharedCredentialsProvider,
    credentials: Mutex<Option<(Credentials, SystemTime)>>,
    /// For its clock, which tests can stop.
    config: SdkConfig,
}

/// Why the gate cannot be called over HTTP.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL cannot be called.
    #[error(
        "`{url}` is not the URL of a gate: {why}; it is the output GateUrl of the stack, like \
         https://ID.lambda-url.REGION.on.aws/"
    )]
    Url {
        /// The URL as it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Requests are signed for a Region.
    #[error("no Region is configured; set AWS_REGION, or `region` in the profile")]
    NoRegion,
    /// Requests are signed with credentials.
    #[error("no provider of credentials is configured; load the configuration with `aws_config::load_defaults`")]
    NoCredentials,
    /// Without root certificates no server can be verified.
    #[error("the root certificates of this system cannot be read")]
    Certificates(#[source] std::io::Error),
}

#[derive(Debug)]
enum HttpClient {
    /// It needs no certificates.
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// What a Function URL is signed for.
const SERVICE: &str = "lambda";
/// The client closes idle connections before the server does: a request on a connection that the server is closing is
/// lost.
const IDLE: Duration = Duration::from_secs(30);
/// An answer about 1000 domains has some 100 KB.
const MAX_BYTES: usize = 4 << 20;
/// How long before their end credentials are renewed.
const BEFORE_END: Duration = Duration::from_secs(60);
/// How long credentials without an end are used before they are renewed.
const DEFAULT_LIFE: Duration = Duration::from_secs(15 * 60);

impl HttpGate {
    /// For the Function URL of the gate, with credentials, Region and clock of a configuration; its other settings,
    /// including endpoints and retries, are ignored.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn new(gate_url: &str, config: &SdkConfig) -> Result<HttpGate, ConnectError> {
        let wrong = |why: &str| ConnectError::Url { url: gate_url.to_owned(), why: why.to_owned() };
        let uri: Uri = gate_url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("it has more than a scheme, a host and a path"));
        }
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(wrong("its scheme is neither https nor http")),
        };
        // A default port would be signed, but not sent.
        let port = uri.port_u16().filter(|port| *port != if secure { 443 } else { 80 });
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let scheme = if secure { "https" } else { "http" };
        Ok(HttpGate {
            client: if secure { HttpClient::tls()? } else { HttpClient::plain() },
            base: format!("{scheme}://{}{port}{}", host.to_ascii_lowercase(), uri.path().trim_end_matches('/')),
            region: config.region().ok_or(ConnectError::NoRegion)?.to_string(),
            provider: config.credentials_provider().ok_or(ConnectError::NoCredentials)?,
            credentials: Mutex::new(None),
            config: config.clone(),
        })
    }

    async fn send(&self, path: &str, body: Bytes) -> Result<Answer, NoAnswer> {
        let credentials = self.credentials().await?;
        let request = self.signed(path, body, &credentials)?;
        let response = self.client.request(request).await.map_err(|error| NoAnswer(causes(&error)))?;
        let status = response.status().as_u16();
        if status == 403 {
            // The credentials may have been replaced before their end.
            *self.credentials.lock().await = None;
        }
        let date = response.headers().get(DATE).and_then(|date| {
            let date = DateTime::from_str(date.to_str().ok()?, Format::HttpDate).ok()?;
            SystemTime::try_from(date).ok()
        });
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await
            .map_err(|error| NoAnswer(format!("its answer broke off: {error}")))?
            .to_bytes();
        Ok(Answer { status, date, body })
    }

    /// A request as SigV4 wants it: host, type, time, hash of the body, and the session token if there is one, are
    /// signed.
    fn signed(&self, path: &str, body: Bytes, credentials: &Credentials) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let unsigned = |error: &dyn std::fmt::Display| NoAnswer(format!("the request cannot be signed: {error}"));
        let uri = format!("{}{path}", self.base);
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(self.now())
            .settings(settings)
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let headers = [(CONTENT_TYPE.as_str(), JSON)];
        let signable = SignableRequest::new("POST", &uri, headers.into_iter(), SignableBody::Bytes(&body))
            .map_err(|error| unsigned(&error))?;
        let (instructions, _) = sign(signable, &params).map_err(|error| unsigned(&error))?.into_parts();

        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, JSON)
            .header(USER_AGENT, AGENT)
            .body(Full::new(body.clone()))
            .map_err(|error| unsigned(&error))?;
        // Not `apply_to_request_http1x`, which panics on a session token that is no header value.
        let (signed, _) = instructions.into_parts();
        for header in signed {
            let name = HeaderName::from_bytes(header.name().as_bytes()).map_err(|error| unsigned(&error))?;
            let mut value = HeaderValue::from_str(header.value()).map_err(|error| unsigned(&error))?;
            value.set_sensitive(header.sensitive());
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    fn now(&self) -> SystemTime {
        self.config.time_source().unwrap_or_default().now()
    }

    /// Cached, because each call of the provider may call another service.
    async fn credentials(&self) -> Result<Credentials, NoAnswer> {
        let mut known = self.credentials.lock().await;
        let now = self.now();
        if let Some((credentials, _)) = known.as_ref().filter(|(_, until)| now < *until) {
            return Ok(credentials.clone());
        }
        let credentials = self
            .provider
            .provide_credentials()
            .await
            .map_err(|error| NoAnswer(format!("there are no credentials to sign with: {}", causes(&error))))?;
        let until = match credentials.expiry() {
            Some(end) => end.checked_sub(BEFORE_END).unwrap_or(end),
            None => now + DEFAULT_LIFE,
        };
        *known = Some((credentials.clone(), until));
        Ok(credentials)
    }
}

const AGENT: &str = concat!("ses-breaker-permits/", env!("CARGO_PKG_VERSION"));

impl Gate for HttpGate {
    fn post<'a>(&'a self, path: &'static str, body: Bytes) -> Reply<'a> {
        Box::pin(self.send(path, body))
    }
}

impl HttpClient {
    fn plain() -> HttpClient {
        HttpClient::Plain(HttpClient::builder().build(HttpConnector::new()))
    }

    fn tls() -> Result<HttpClient, ConnectError> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(Arc::new(aws_lc_rs::default_provider()))
            .map_err(ConnectError::Certificates)?
            .https_only()
            .enable_http1()
            .build();
        Ok(HttpClient::Tls(HttpClient::builder().build(connector)))
    }

    fn builder() -> hyper_util::client::legacy::Builder {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        builder
    }

    fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match self {
            HttpClient::Plain(client) => client.request(request),
            HttpClient::Tls(client) => client.request(request),
        }
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
