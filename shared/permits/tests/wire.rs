//! The real transport, against a small server that checks requests as AWS would.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use permits::{BuildError, Class, ConnectError, Permit, Permits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

#[derive(Clone, Debug)]
struct Received {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        assert_eq!(values.next(), None, "{name} twice");
        value
    }
}

fn credentials(token: Option<&str>) -> Credentials {
    Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI", token.map(str::to_owned), None, "tests")
}

fn config(token: Option<&str>) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials(token)))
        .timeout_config(TimeoutConfig::builder().build())
        .build()
}

/// Answers each request on each connection with what `answer` says, and keeps it.
async fn serve(
    answer: impl Fn(&Received) -> (u16, Value) + Send + Sync + 'static,
) -> (std::net::SocketAddr, Arc<Mutex<Vec<Received>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let (kept, answer) = (Arc::clone(&received), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
            tokio::spawn(async move {
                while let Some(request) = read(&mut stream).await {
                    let (status, body) = answer(&request);
                    let body = body.to_string();
                    kept.lock().await.push(request);
                    let head = format!(
                        "HTTP/1.1 {status} Something\r\ndate: Sat, 21 Nov 2026 10:00:00 GMT\r\n\
                         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all((head + &body).as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, received)
}

async fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    while bytes.len() < head + 4 + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    Some(Received { line, headers, body: bytes[head + 4..].to_vec() })
}

/// Signs the received request again: the signature must be the same.
fn signature_again(received: &Received, token: Option<&str>) -> String {
    let date = received.header("x-amz-date");
    let parts = [&date[..4], "-", &date[4..6], "-", &date[6..11], ":", &date[11..13], ":", &date[13..]].concat();
    let time = SystemTime::try_from(DateTime::from_str(&parts, Format::DateTime).unwrap()).unwrap();
    let identity = credentials(token).into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name("lambda")
        .time(time)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let path = received.line.split(' ').nth(1).unwrap();
    let uri = format!("http://{}{path}", received.header("host"));
    let headers = [("host", received.header("host")), ("content-type", received.header("content-type"))];
    let request = SignableRequest::new("POST", uri, headers.into_iter(), SignableBody::Bytes(&received.body)).unwrap();
    sign(request, &params).unwrap().into_parts().1
}

fn granted(received: &Received) -> (u16, Value) {
    if received.line.contains("return") {
        let body: Value = serde_json::from_slice(&received.body).unwrap();
        return (200, json!({ "returned": body["unused"] }));
    }
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    let asked = &body["recipients"]["gmail.com"];
    let permit = json!({ "isp": "gmail", "domains": ["gmail.com"], "asked": asked, "granted": asked, "route": "news",
        "lease": "gmail/20778/00ab", "expiresAt": "2026-11-21T10:01:00.000Z", "overflow": 0, "deferred": 0 });
    (200, json!({ "configurationSet": "news", "day": "2026-11-21", "permits": [permit] }))
}

#[tokio::test]
async fn a_request_is_signed_for_lambda_as_it_is_sent() {
    for token in [None, Some("a/session+token==")] {
        let (address, received) = serve(granted).await;
        let permits = Permits::builder("news", "example.com").connect(&format!("http://{address}/"), &config(token));
        let permits = permits.unwrap();
        let Ok(Permit::Send(grant)) = permits.take("gmail.com", 5, Class::Bulk).await else { panic!("not sent") };
        assert!((50..60).contains(&grant.time_left().as_secs()), "{:?}", grant.time_left());
        grant.unused();
        assert_eq!(permits.close().await.given_back, 5);

        let received = received.lock().await;
        let lines: Vec<_> = received.iter().map(|request| request.line.as_str()).collect();
        assert_eq!(lines, ["POST /v1/permits HTTP/1.1", "POST /v1/leases/return HTTP/1.1"]);
        for request in received.iter() {
            assert_eq!(request.header("host"), address.to_string());
            assert_eq!(request.header("content-type"), "application/json");
            assert!(request.header("user-agent").starts_with("ses-breaker-permits/"));
            let date = request.header("x-amz-date");
            assert!(date.len() == 16 && &date[8..9] == "T" && date.ends_with('Z'), "{date}");
            let hash = request.header("x-amz-content-sha256");
            assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
            let signed = match token {
                None => "content-type;host;x-amz-content-sha256;x-amz-date",
                Some(token) => {
                    assert_eq!(request.header("x-amz-security-token"), token);
                    "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token"
                }
            };
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{}/eu-west-1/lambda/aws4_request, SignedHeaders={signed}, \
                 Signature={}",
                &date[..8],
                signature_again(request, token)
            );
            assert_eq!(request.header("authorization"), expected);
        }
    }
}

#[tokio::test]
async fn a_gate_behind_a_path_keeps_its_path() {
    let (address, received) = serve(granted).await;
    let url = format!("http://{address}/stage/");
    let permits = Permits::builder("news", "example.com").connect(&url, &config(None)).unwrap();
    drop(permits.take("gmail.com", 1, Class::Bulk).await.unwrap());
    assert_eq!(received.lock().await[0].line, "POST /stage/v1/permits HTTP/1.1");
}

#[tokio::test]
async fn a_request_that_aws_itself_refuses_says_what_is_missing() {
    let (address, _) = serve(|_| (403, json!({ "Message": "Forbidden" }))).await;
    let permits = Permits::builder("news", "example.com").connect(&format!("http://{address}"), &config(None)).unwrap();
    let error = permits.take("gmail.com", 1, Class::Bulk).await.unwrap_err().to_string();
    assert!(error.starts_with("the gate refused with HTTP 403: Forbidden; the caller needs lambda:Invoke"), "{error}");
}

#[tokio::test]
async fn a_gate_that_is_not_there_is_unreachable_and_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let permits = Permits::builder("news", "example.com")
        .attempts(1, Duration::from_secs(5))
        .connect(&format!("http://{address}"), &config(None))
        .unwrap();
    let Ok(Permit::Wait(wait)) = permits.take("gmail.com", 1, Class::Bulk).await else { panic!("not asked to wait") };
    assert!(wait.degraded && wait.reason.contains("refused"), "{wait:?}");
}

#[tokio::test]
async fn what_cannot_be_called_is_refused_before_the_first_mail() {
    let connect = |url: &str, config: &SdkConfig| match Permits::builder("news", "example.com").connect(url, config) {
        Err(BuildError::Connect(error)) => error.to_string(),
        other => panic!("{url}: {other:?}"),
    };
    for (url, expected) in [
        ("", "empty string"),
        ("gate", "its scheme is neither https nor http"),
        ("/v1", "it names no host"),
        ("ftp://example.com/", "its scheme is neither https nor http"),
        ("https://user@example.com/", "it has more than a scheme, a host and a path"),
        ("https://example.com/?a=b", "it has more than a scheme, a host and a path"),
    ] {
        let error = connect(url, &config(None));
        assert!(error.starts_with(&format!("`{url}` is not the URL of a gate: {expected}")), "{error}");
    }
    let bare = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    assert_eq!(connect("http://a", &bare), ConnectError::NoRegion.to_string());
    let bare = bare.to_builder().region(Region::from_static("eu-west-1")).build();
    assert_eq!(connect("http://a", &bare), ConnectError::NoCredentials.to_string());
    let https =
        Permits::builder("news", "example.com").connect("https://abc.lambda-url.eu-west-1.on.aws/", &config(None));
    assert!(matches!(https, Ok(_) | Err(BuildError::Connect(ConnectError::Certificates(_)))), "{https:?}");
}
