//! SES over HTTP, without its SDK: requests are signed (Signature Version 4 as in "Create a signed AWS API request", IAM User
//! Guide) and sent as they are. What an SDK would do beyond that, retries first of all, the caller's SDK does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use tokio::sync::Mutex;

use crate::large;
use crate::ports::{Call, NotAnswered, Pending, Ses};

/// SES at an endpoint. Connections are kept for the next call.
#[derive(Debug)]
pub struct HttpSes {
    client: HttpClient,
    /// Without a slash at its end.
    base: String,
    signer: Signer,
    timeout: Duration,
}

/// Signs requests with the credentials and for the Region of a configuration.
#[derive(Debug)]
struct Signer {
    region: String,
    provider: SharedCredentialsProvider,
    credentials: Mutex<Option<(Credentials, SystemTime)>>,
    /// For its clock.
    config: SdkConfig,
}

/// Why SES cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Not the URL of an endpoint.
    #[error(
        "`{0}` is not the URL of an endpoint: it has a scheme (https, or http) and a host, like https://email.eu-west-1.amazonaws.com"
    )]
    Url(String),
    /// Requests are signed with credentials.
    #[error("no provider of credentials is configured")]
    NoCredentials,
    /// Without root certificates no server can be verified.
    #[error("the root certificates of this system cannot be read")]
    Certificates(#[source] std::io::Error),
}

#[derive(Debug)]
enum HttpClient {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// What SES is signed for.
pub(crate) const SES: &str = "ses";
/// The client closes idle connections before SES does.
const IDLE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// An answer about 50 entries has some 10 KB.
const MAX_ANSWER: usize = 4 << 20;
/// How long before their end credentials are renewed.
const BEFORE_END: Duration = Duration::from_secs(60);
/// How long credentials may take.
const MAX_PROVIDING: Duration = Duration::from_secs(10);
/// How long credentials without an end are used before they are renewed.
const DEFAULT_LIFE: Duration = Duration::from_secs(15 * 60);
const AGENT: &str = concat!("ses-breaker-relay/", env!("CARGO_PKG_VERSION"));

impl HttpSes {
    /// SES at an endpoint, called with the credentials of a configuration.
    ///
    /// # Errors
    ///
    /// See [`SetupError`].
    pub fn new(endpoint: &str, region: &str, config: &SdkConfig, timeout: Duration) -> Result<HttpSes, SetupError> {
        let wrong = || SetupError::Url(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
        let is_plain =
            uri.query().is_none() && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let client = match uri.scheme_str() {
            Some("https") if is_plain => HttpClient::tls()?,
            Some("http") if is_plain => HttpClient::plain(),
            Some(_) | None => return Err(wrong()),
        };
        let signer = Signer::new(region, config)?;
        Ok(HttpSes { client, base: endpoint.trim_end_matches('/').to_owned(), signer, timeout })
    }

    async fn post(&self, call: Call) -> Result<Response<Bytes>, NotAnswered> {
        let Call { path, content_type, body } = call;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, content_type)
            .body(body)
            .map_err(|error| NotAnswered::NotSent(error.to_string()))?;
        let answer = self.call(SES, request).await?;
        if answer.status() == 403 {
            // The credentials may have been replaced before their end.
            self.signer.forget().await;
        }
        Ok(answer)
    }

    /// Sends a request, signed for a service.
    pub(crate) async fn call(
        &self,
        service: &'static str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, NotAnswered> {
        let request = self.signer.signed(service, request).await.map_err(NotAnswered::NotSent)?;
        let answering = async {
            let answer = self.client.request(request).await.map_err(|error| {
                // Without a connection nothing was sent; after that, it is unknown.
                if error.is_connect() {
                    NotAnswered::NotSent(causes(&error))
                } else {
                    NotAnswered::Unclear(causes(&error))
                }
            })?;
            let (mut head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| NotAnswered::Unclear(format!("its answer broke off: {error}")))?.to_bytes();
            // Of this connection, and not of the answer.
            for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, HeaderName::from_static("keep-alive")]
            {
                head.headers.remove(name);
            }
            Ok(Response::from_parts(head, body))
        };
        match tokio::time::timeout(self.timeout, answering).await {
            Ok(answer) => answer,
            Err(_) => Err(NotAnswered::Unclear(format!("no answer within {} s", self.timeout.as_secs()))),
        }
    }

    /// Whether there are credentials; an error says why not.
    pub(crate) async fn credentials(&self) -> Result<String, String> {
        let credentials = self.signer.credentials().await?;
        Ok(credentials.access_key_id().to_owned())
    }
}

impl Ses for HttpSes {
    fn send(&self, call: Call) -> Pending<'_, Result<Response<Bytes>, NotAnswered>> {
        Box::pin(self.post(call))
    }
}

impl Signer {
    fn new(region: &str, config: &SdkConfig) -> Result<Signer, SetupError> {
        let provider = config.credentials_provider().ok_or(SetupError::NoCredentials)?;
        Ok(Signer { region: region.to_owned(), provider, credentials: Mutex::default(), config: config.clone() })
    }

    async fn forget(&self) {
        *self.credentials.lock().await = None;
    }

    fn now(&self) -> SystemTime {
        self.config.time_source().unwrap_or_default().now()
    }

    async fn signed(&self, service: &'static str, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, String> {
        let credentials = self.credentials().await?;
        let (region, time, length) = (self.region.clone(), self.now(), request.body().len());
        let signing = large::on(length, move || signed(&region, service, credentials, time, request)).await;
        signing.unwrap_or_else(|| Err("the request could not be signed".to_owned()))
    }

    /// Cached, because each call of the provider may call another service.
    async fn credentials(&self) -> Result<Credentials, String> {
        let mut known = self.credentials.lock().await;
        let now = self.now();
        if let Some((credentials, _)) = known.as_ref().filter(|(_, until)| now < *until) {
            return Ok(credentials.clone());
        }
        // A provider may run a program, or ask a service, and have no limit of its own.
        let credentials = tokio::time::timeout(MAX_PROVIDING, self.provider.provide_credentials()).await;
        let credentials = credentials.map_err(|_| {
            format!("there are no credentials to sign with: none came within {} s", MAX_PROVIDING.as_secs())
        })?;
        let credentials =
            credentials.map_err(|error| format!("there are no credentials to sign with: {}", causes(&error)))?;
        let until = match credentials.expiry() {
            Some(end) => end.checked_sub(BEFORE_END).unwrap_or(end),
            None => now + DEFAULT_LIFE,
        };
        *known = Some((credentials.clone(), until));
        Ok(credentials)
    }
}

/// Signs host, type, time, hash of the body, and the session token if there is one.
fn signed(
    region: &str,
    service: &str,
    credentials: Credentials,
    time: SystemTime,
    request: Request<Bytes>,
) -> Result<Request<Full<Bytes>>, String> {
    let unsigned = |error: &dyn std::fmt::Display| format!("the request cannot be signed: {error}");
    let (mut head, body) = request.into_parts();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(settings)
        .build()
        .map_err(|error| unsigned(&error))?
        .into();
    let uri = head.uri.to_string();
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let headers = content_type.map(|content_type| (CONTENT_TYPE.as_str(), content_type));
    let signable = SignableRequest::new(head.method.as_str(), &uri, headers.into_iter(), SignableBody::Bytes(&body))
        .map_err(|error| unsigned(&error))?;
    let (instructions, _) = sign(signable, &params).map_err(|error| unsigned(&error))?.into_parts();
    let (signed, _) = instructions.into_parts();
    for header in signed {
        let name = HeaderName::from_bytes(header.name().as_bytes()).map_err(|error| unsigned(&error))?;
        let mut value = HeaderValue::from_str(header.value()).map_err(|error| unsigned(&error))?;
        value.set_sensitive(header.sensitive());
        head.headers.insert(name, value);
    }
    head.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    Ok(Request::from_parts(head, Full::new(body)))
}

impl HttpClient {
    fn connector() -> HttpConnector {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        connector
    }

    fn plain() -> HttpClient {
        HttpClient::Plain(HttpClient::builder().build(HttpClient::connector()))
    }

    fn tls() -> Result<HttpClient, SetupError> {
        let mut http = HttpClient::connector();
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(Arc::new(aws_lc_rs::default_provider()))
            .map_err(SetupError::Certificates)?
            .https_only()
            .enable_http1()
            .wrap_connector(http);
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
