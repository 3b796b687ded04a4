//! Doubles of SES and of the gate behind one address, over real HTTP, and the program in front of them.

use std::collections::{BTreeMap, VecDeque};

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the doubles saw, and what they answer.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Requests to SES: path, headers, body.
    pub(crate) ses: Vec<(String, HeaderMap, Bytes)>,
    /// What SES answers next; if empty, it accepts.
    pub(crate) answers: VecDeque<Fate>,
    /// By ISP: mails that may still be granted.
    pub(crate) quotas: BTreeMap<&'static str, u64>,
    /// By ISP: the route, if it is not the set that was asked for.
    pub(crate) routes: BTreeMap<&'static str, &'static str>,
    /// Mails granted and given back.
    pub(crate) granted: u64,
    pub(crate) given_back: u64,
    /// Requests for permits.
    pub(crate) asked: Vec<Value>,
    /// The status of every answer of the gate, if it is not well.
    pub(crate) gate_fails: Option<(u16, Value)>,
}

/// What happens to a request to SES.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection breaks after the request was read.
    Broken,
    /// The answer comes after this time.
    Slow(Duration),
}

/// A running pair of doubles.
#[derive(Clone)]
pub(crate) struct Double {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) url: String,
}

/// The ISP of a domain.
fn isp_of(domain: &str) -> &'static str {
    match domain {
        "gmail.com" => "gmail",
        "outlook.com" => "microsoft",
        "yahoo.com" => "yahoo",
        _ => "other",
    }
}

impl Double {
    pub(crate) async fn start() -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let quotas = ["gmail", "microsoft", "yahoo", "other"].map(|isp| (isp, 1000)).into();
        let world = Arc::new(Mutex::new(World { quotas, ..World::default() }));
        let double = Double { world, url };
        let own = double.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let double = own.clone();
                let service = service_fn(move |request| {
                    let double = double.clone();
                    async move { double.answer(request).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        double
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let path = head.uri.path().to_owned();
        assert!(head.headers.contains_key("authorization"), "unsigned: {path}");
        if path.starts_with("/v1/") {
            let (status, answer) = self.world().gate(&path, &body);
            return Ok(Response::builder().status(status).body(Full::new(answer.to_string().into())).unwrap());
        }
        let fate = {
            let mut world = self.world();
            world.ses.push((path.clone(), head.headers, body.clone()));
            world.answers.pop_front()
        };
        match fate {
            Some(Fate::Broken) => return Err(std::io::Error::other("broken")),
            Some(Fate::Slow(time)) => tokio::time::sleep(time).await,
            Some(Fate::Answer(status, headers, body)) => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                return Ok(response.body(Full::new(body.into())).unwrap());
            }
            None => {}
        }
        Ok(accepted(&path, &body))
    }
}

/// As SES accepts mail.
fn accepted(path: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let response = Response::builder().header("x-amzn-requestid", "ses-1").header("x-odd", "kept");
    let (content_type, text) = match path {
        "/v2/email/outbound-emails" => ("application/json", "{ \"MessageId\" : \"m-1\" }".to_owned()),
        "/v2/email/outbound-bulk-emails" => {
            let request: Value = serde_json::from_slice(body).unwrap();
            let entries = request["BulkEmailEntries"].as_array().unwrap();
            let results = entries.iter().map(|entry| {
                let to = entry["Destination"]["ToAddresses"][0].as_str().unwrap();
                match to.starts_with("bad") {
                    true => json!({ "Status": "MESSAGE_REJECTED", "Error": "virus" }),
                    false => json!({ "Status": "SUCCESS", "MessageId": to }),
                }
            });
            ("application/json", json!({ "BulkEmailEntryResults": results.collect::<Vec<_>>() }).to_string())
        }
        _ => {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let entries = (1..).take_while(|n| text.contains(&format!("Destinations.member.{n}.Dest"))).count();
            let member = "<member><Status>Success</Status><MessageId>m</MessageId></member>";
            let inner = match entries {
                0 => "<SendEmailResponse><SendEmailResult><MessageId>m-1</MessageId></SendEmailResult></SendEmailResponse>".to_owned(),
                _ => format!("<SendBulkTemplatedEmailResponse><SendBulkTemplatedEmailResult><Status>{}</Status></SendBulkTemplatedEmailResult></SendBulkTemplatedEmailResponse>", member.repeat(entries)),
            };
            ("text/xml", inner)
        }
    };
    response.header("content-type", content_type).body(Full::new(text.into())).unwrap()
}

impl World {
    fn gate(&mut self, path: &str, body: &[u8]) -> (u16, Value) {
        if path == "/v1/health" {
            return (200, json!({ "status": "ok", "policyVersion": 1 }));
        }
        if let Some(failure) = &self.gate_fails {
            return failure.clone();
        }
        let request: Value = serde_json::from_slice(body).unwrap();
        if path.ends_with("/return") {
            let unused = request["unused"].as_u64().unwrap();
            self.given_back += unused;
            return (200, json!({ "returned": unused }));
        }
        self.asked.push(request.clone());
        let mut permits = Vec::new();
        for (domain, mails) in request["recipients"].as_object().unwrap() {
            let isp = isp_of(domain);
            let asked = mails.as_u64().unwrap();
            let quota = self.quotas.get_mut(isp).unwrap();
            let granted = asked.min(*quota);
            *quota -= granted;
            self.granted += granted;
            let route = self.routes.get(isp).map_or(request["configurationSet"].clone(), |route| json!(route));
            let mut permit = json!({
                "isp": isp, "domains": [domain], "asked": asked, "granted": granted, "overflow": 0, "deferred": asked - granted,
            });
            if granted > 0 {
                permit["route"] = route;
                permit["lease"] = json!(format!("{}-{isp}-{}", request["request"].as_str().unwrap(), self.asked.len()));
                permit["expiresInSeconds"] = json!(60);
            }
            if granted < asked {
                permit["retryAfterSeconds"] = json!(29);
                permit["limit"] = json!("quota");
                permit["reason"] = json!(format!("the quota of {isp} is used up"));
            }
            permits.push(permit);
        }
        (200, json!({ "configurationSet": request["configurationSet"], "permits": permits }))
    }
}

/// `ses-relay` as a process.
pub(crate) struct Program {
    child: Child,
    pub(crate) url: String,
    pub(crate) status: String,
    /// Where it listens for SMTP.
    smtp: Option<String>,
    output: Option<std::thread::JoinHandle<String>>,
}

pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn http() -> Http {
    Client::builder(TokioExecutor::new()).build(HttpConnector::new())
}

/// The program, with what it needs to find credentials.
pub(crate) fn command(double: &Double) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ses-relay"));
    command
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "eu-west-1")
        .env("SES_BREAKER_GATE_URL", &double.url);
    command
}

impl Program {
    pub(crate) fn start(double: &Double, more: &str) -> Program {
        let folder = std::env::temp_dir().join(format!("ses-relay-{}-{}", std::process::id(), rand()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("relay.toml");
        let text = format!(
            "listen = \"127.0.0.1:0\"\ndefault_configuration_set = \"news\"\ndrain_secs = 5\n{more}\n[ses]\nendpoint = \"{}\"\n\
             timeout_secs = 2\n[status]\nlisten = \"127.0.0.1:0\"\n",
            double.url
        );
        std::fs::write(&config, text).unwrap();
        let mut child = command(double).arg("--config").arg(&config).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        let first: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no log: {line}"));
        let url = |key: &str| format!("http://{}", first[key].as_str().unwrap());
        let (url, status, smtp) = (url("address"), url("status"), first["smtp"].as_str().map(str::to_owned));
        let output = std::thread::spawn(move || {
            let mut text = line;
            std::io::Read::read_to_string(&mut output, &mut text).unwrap();
            text
        });
        Program { child, url, status, smtp, output: Some(output) }
    }

    pub(crate) async fn post(
        &self,
        http: &Http,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Response<Bytes> {
        let request = Request::post(format!("{}{path}", self.url))
            .header("content-type", content_type)
            .header("authorization", "AWS4-HMAC-SHA256 Credential=of/the/caller")
            .header("x-amz-security-token", "of the caller")
            .body(Full::new(body.into()))
            .unwrap();
        whole(http.request(request).await.unwrap()).await
    }

    pub(crate) async fn get(&self, http: &Http, path: &str) -> Response<Bytes> {
        let request = Request::get(format!("{}{path}", self.status)).body(Full::default()).unwrap();
        whole(http.request(request).await.unwrap()).await
    }

    /// The port for SMTP.
    pub(crate) fn smtp_port(&self) -> String {
        self.smtp.as_deref().unwrap().rsplit(':').next().unwrap().to_owned()
    }

    pub(crate) fn signal(&self) {
        self.send_signal("-TERM");
    }

    pub(crate) fn send_signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its exit code and its log.
    pub(crate) fn wait(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        let log = self.output.take().unwrap().join().unwrap();
        (status.code().unwrap(), log)
    }

    pub(crate) fn stop(self) -> (i32, String) {
        self.signal();
        self.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Only after a failed test; one that has ended is not found.
        let _ = self.child.kill();
    }
}

pub(crate) async fn whole(response: Response<Incoming>) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

fn rand() -> u64 {
    getrandom::u64().unwrap()
}
