//! The program in front of doubles of SES and of the gate, over HTTP and SMTP: what reaches SES, and what callers are answered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod double;
mod submission;

use std::time::Duration;

use bytes::Bytes;
use double::{Double, Fate, Http, Program, http};
use http::Response;
use serde_json::{Value, json};

const V2: &str = "/v2/email/outbound-emails";
const BULK: &str = "/v2/email/outbound-bulk-emails";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

struct Fixture {
    double: Double,
    program: Program,
    http: Http,
}

impl Fixture {
    async fn start() -> Fixture {
        let double = Double::start().await;
        let program = Program::start(&double, "");
        Fixture { double, program, http: http() }
    }

    async fn v2(&self, path: &str, body: &Value) -> Response<Bytes> {
        self.program.post(&self.http, path, "application/json", body.to_string()).await
    }

    async fn v1(&self, body: &str) -> Response<Bytes> {
        self.program.post(&self.http, "/", FORM, body.to_owned()).await
    }

    /// The metric of a mail.
    async fn metrics(&self) -> String {
        let metrics = self.program.get(&self.http, "/metrics").await;
        String::from_utf8(metrics.into_body().to_vec()).unwrap()
    }
}

fn simple(to: &[&str]) -> Value {
    json!({
        "FromEmailAddress": "A <a@news.example>",
        "Destination": { "ToAddresses": to },
        "Content": { "Simple": { "Subject": { "Data": "s" } } },
        "ConfigurationSetName": "news",
    })
}

fn text(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_reaches_ses_as_it_came_signed_anew_and_the_answer_comes_back_as_it_is() {
    let fixture = Fixture::start().await;
    let answer = fixture.v2(V2, &simple(&["x@gmail.com"])).await;
    assert_eq!((answer.status().as_u16(), text(&answer).as_str()), (200, "{ \"MessageId\" : \"m-1\" }"));
    assert_eq!((header(&answer, "x-amzn-requestid"), header(&answer, "x-odd")), ("ses-1", "kept"));
    let answer = fixture
        .v1("Action=SendEmail&Source=a%40news.example&Destination.ToAddresses.member.1=x%40gmail.com&Version=2010-12-01")
        .await;
    assert!(text(&answer).contains("<MessageId>m-1</MessageId>"));
    {
        let world = fixture.double.world();
        let (path, headers, body) = &world.ses[0];
        assert_eq!((path.as_str(), body), (V2, &Bytes::from(simple(&["x@gmail.com"]).to_string())));
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(authorization.contains("Credential=AKIDEXAMPLE/") && authorization.contains("/eu-west-1/ses/"));
        assert!(!headers.contains_key("x-amz-security-token"), "that of the caller");
        let (path, headers, body) = &world.ses[1];
        assert_eq!((path.as_str(), headers["content-type"].to_str().unwrap()), ("/", FORM));
        assert!(body.ends_with(b"&Version=2010-12-01&ConfigurationSetName=news"));
        assert_eq!(world.asked[0]["identity"], "news.example");
    }
    let (code, log) = fixture.program.stop();
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains('@') && !log.contains("gmail.com") && !log.contains("news.example"), "{log}");
    let world = fixture.double.world();
    assert_eq!(world.granted - world.given_back, 2, "what was not used is given back at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_may_not_go_is_throttled_as_a_whole_and_nothing_of_it_is_sent_or_used() {
    let fixture = Fixture::start().await;
    fixture.double.world().quotas.insert("gmail", 0);
    let answer = fixture.v2(V2, &simple(&["x@yahoo.com", "y@gmail.com"])).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "x-amzn-errortype")), (429, "TooManyRequestsException"));
    assert!(["28", "29"].contains(&header(&answer, "retry-after")), "{answer:?}");
    let message = json_of(&answer)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the quota of gmail is used up; ask again in 2") && !message.contains('@'), "{message}");
    let answer =
        fixture.v1("Action=SendEmail&Source=a@news.example&Destination.ToAddresses.member.1=x@gmail.com").await;
    assert_eq!(answer.status().as_u16(), 400);
    assert!(text(&answer).contains("<Code>Throttling</Code>"), "{}", text(&answer));
    let metrics = fixture.metrics().await;
    let deferred =
        "ses_relay_mails_total{operation=\"v2 SendEmail\",class=\"bulk\",isp=\"yahoo\",outcome=\"deferred\"} 1";
    assert!(metrics.contains(deferred), "{metrics}");
    assert_eq!(fixture.program.stop().0, 0);
    let world = fixture.double.world();
    assert!(world.ses.is_empty());
    assert_eq!(world.granted, world.given_back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ses_refuses_is_passed_on_and_put_back_and_what_is_unclear_counts_as_sent() {
    let fixture = Fixture::start().await;
    let paused = || {
        let headers =
            vec![("x-amzn-errortype", "SendingPausedException".to_owned()), ("x-amzn-requestid", "r".to_owned())];
        Fate::Answer(400, headers, "{\"message\": \"paused\"}".to_owned())
    };
    let failing = Fate::Answer(500, Vec::new(), "oops".to_owned());
    fixture.double.world().answers = [paused(), failing, Fate::Broken, Fate::Slow(Duration::from_secs(4))].into();
    let mut answers = Vec::new();
    for _ in 0..4 {
        let answer = fixture.v2(V2, &simple(&["x@gmail.com"])).await;
        answers.push((answer.status().as_u16(), header(&answer, "x-amzn-errortype").to_owned()));
    }
    let expected =
        [(400, "SendingPausedException"), (500, ""), (503, "ServiceUnavailable"), (503, "ServiceUnavailable")];
    assert_eq!(answers, expected.map(|(status, kind)| (status, kind.to_owned())));
    let metrics = fixture.metrics().await;
    for line in ["outcome=\"refused\"} 1", "outcome=\"unclear\"} 3"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert_eq!(fixture.program.stop().0, 0);
    let world = fixture.double.world();
    assert_eq!(world.ses.len(), 4, "the relay itself never tries again");
    assert_eq!(world.granted - world.given_back, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_of_the_gate_is_followed_and_one_mail_takes_one_route() {
    let fixture = Fixture::start().await;
    fixture.double.world().routes.insert("gmail", "shared");
    let answer = fixture.v2(V2, &simple(&["x@gmail.com", "y@yahoo.com"])).await;
    assert_eq!(answer.status().as_u16(), 200);
    {
        let world = fixture.double.world();
        let sent: Value = serde_json::from_slice(&world.ses[0].2).unwrap();
        assert_eq!(sent["ConfigurationSetName"], "shared");
    }
    assert_eq!(fixture.program.stop().0, 0);
    let world = fixture.double.world();
    assert_eq!(world.granted - world.given_back, 1, "that of yahoo's own quota is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_a_bulk_call_go_or_wait_one_by_one_in_their_order() {
    let fixture = Fixture::start().await;
    fixture.double.world().quotas.insert("gmail", 1);
    fixture.double.world().routes.insert("yahoo", "shared");
    let to = ["a@gmail.com", "b@yahoo.com", "c@gmail.com", "bad@outlook.com", "d@yahoo.com"];
    let entries: Vec<Value> = to.iter().map(|to| json!({ "Destination": { "ToAddresses": [to] } })).collect();
    let body = json!({ "FromEmailAddress": "a@news.example", "BulkEmailEntries": entries, "DefaultContent": {} });
    let answer = json_of(&fixture.v2(BULK, &body).await);
    let results: Vec<(&str, &str)> = answer["BulkEmailEntryResults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (result["Status"].as_str().unwrap(), result["MessageId"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        results,
        [
            ("SUCCESS", "a@gmail.com"),
            ("SUCCESS", "b@yahoo.com"),
            ("ACCOUNT_THROTTLED", ""),
            ("MESSAGE_REJECTED", ""),
            ("SUCCESS", "d@yahoo.com"),
        ]
    );
    {
        let world = fixture.double.world();
        let mut sets: Vec<_> = world
            .ses
            .iter()
            .map(|(_, _, body)| serde_json::from_slice::<Value>(body).unwrap())
            .map(|body| (body["ConfigurationSetName"].to_string(), body["BulkEmailEntries"].as_array().unwrap().len()))
            .collect();
        sets.sort();
        assert_eq!(sets, [("\"news\"".to_owned(), 2), ("\"shared\"".to_owned(), 2)]);
    }
    // Of those, two were sent by the routes, one was refused.
    let form = |to: &[&str]| {
        let entries: Vec<String> = to
            .iter()
            .enumerate()
            .map(|(n, to)| format!("Destinations.member.{}.Destination.ToAddresses.member.1={to}", n + 1))
            .collect();
        format!("Action=SendBulkTemplatedEmail&Source=a@news.example&Template=t&{}", entries.join("&"))
    };
    let answer = text(&fixture.v1(&form(&["a@gmail.com", "b@outlook.com"])).await);
    let statuses: Vec<&str> =
        answer.split("<member><Status>").skip(1).map(|part| part.split_once('<').unwrap().0).collect();
    assert_eq!(statuses, ["AccountThrottled", "Success"], "{answer}");
    // A caller that looks at the status only must not take this for a success.
    let answer = fixture.v1(&form(&["a@gmail.com", "b@gmail.com"])).await;
    assert_eq!(answer.status().as_u16(), 400);
    let before = text(&answer);
    assert!(before.contains("<Code>Throttling</Code>"), "{before}");
    // All of it to one route: as SES answers.
    let answer = fixture.v1(&form(&["a@outlook.com", "b@outlook.com"])).await;
    assert!(text(&answer).starts_with("<SendBulkTemplatedEmailResponse><"), "{}", text(&answer));
    assert_eq!(fixture.program.stop().0, 0);
    let world = fixture.double.world();
    assert_eq!(world.granted - world.given_back, 3 + 1 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_relayed_is_answered_in_the_shape_of_ses_and_never_forwarded() {
    let fixture = Fixture::start().await;
    let many: Vec<String> = (0..51).map(|number| format!("r{number}@gmail.com")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (path, body, status, kind) in [
        (V2, json!(["x"]), 400, "BadRequestException"),
        (V2, simple(&many), 400, "BadRequestException"),
        (V2, simple(&["x@gmail.com\r\nBcc: y@gmail.com"]), 400, "BadRequestException"),
        (V2, json!({ "Content": { "Raw": { "Data": "?" } } }), 400, "BadRequestException"),
        ("/v2/email/identities", json!({}), 404, "UnknownOperationException"),
    ] {
        let answer = fixture.v2(path, &body).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-amzn-errortype")), (status, kind), "{body}");
        assert!(json_of(&answer)["message"].is_string());
    }
    for (body, code) in [
        ("Action=VerifyEmailIdentity", "InvalidAction"),
        ("Action=SendEmail&Source=a@b.example&Destination.ToAddresses.member.1=secret", "InvalidParameterValue"),
        ("Action=SendEmail&A=%ff%fe&%zz", "InvalidParameterValue"),
    ] {
        let answer = fixture.v1(body).await;
        assert_eq!(answer.status().as_u16(), 400);
        let text = text(&answer);
        assert!(text.contains(&format!("<Code>{code}</Code>")) && !text.contains("secret"), "{text}");
    }
    let large = vec![b' '; (56 << 20) + 1];
    let answer = fixture.program.post(&fixture.http, V2, "application/json", large).await;
    assert_eq!(answer.status().as_u16(), 413);
    assert!(fixture.double.world().ses.is_empty() && fixture.double.world().asked.is_empty());
    assert!(
        fixture
            .metrics()
            .await
            .contains("ses_relay_rejected_requests_total{operation=\"v2 SendEmail\",reason=\"malformed\"} 4")
    );
    assert_eq!(fixture.program.stop().0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_gate_fails_bulk_mail_waits_critical_mail_goes_and_a_set_that_it_does_not_know_is_named() {
    let fixture = Fixture::start().await;
    let problem = json!({ "type": "about:blank", "title": "unknown", "status": 404, "code": "unknown-configuration-set",
        "detail": "configuration set `news` is not planned" });
    fixture.double.world().gate_fails = Some((503, json!({})));
    let critical = |to: &str| {
        let mut mail = simple(&[to]);
        mail["EmailTags"] = json!([{ "Name": "ses-breaker-class", "Value": "critical" }]);
        mail
    };
    assert_eq!(fixture.v2(V2, &simple(&["x@gmail.com"])).await.status().as_u16(), 429);
    assert_eq!(fixture.v2(V2, &critical("x@gmail.com")).await.status().as_u16(), 200);
    assert_eq!(fixture.program.stop().0, 0);

    let fixture = Fixture::start().await;
    fixture.double.world().gate_fails = Some((403, json!({ "Message": "Forbidden" })));
    let answer = fixture.v2(V2, &simple(&["x@gmail.com"])).await;
    assert_eq!(answer.status().as_u16(), 503, "{}", text(&answer));
    fixture.double.world().gate_fails = Some((404, problem));
    let answer = fixture.v2(V2, &simple(&["y@gmail.com"])).await;
    assert!(answer.status().is_client_error() || answer.status().as_u16() == 503, "{}", text(&answer));
    assert_eq!(fixture.program.stop().0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_lets_what_is_under_way_finish_and_takes_nothing_new() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.program.get(&fixture.http, "/healthz").await.status().as_u16(), 200);
    assert_eq!(fixture.program.get(&fixture.http, "/readyz").await.status().as_u16(), 200);
    fixture.double.world().answers = [Fate::Slow(Duration::from_secs(1))].into();
    let mail = simple(&["x@gmail.com"]);
    let slow = fixture.v2(V2, &mail);
    let signal = async {
        while fixture.double.world().ses.is_empty() {
            tokio::task::yield_now().await;
        }
        fixture.program.signal();
    };
    let (answer, ()) = tokio::join!(slow, signal);
    assert_eq!(answer.status().as_u16(), 200);
    let (code, log) = fixture.program.wait();
    assert_eq!(code, 0, "{log}");
    let world = fixture.double.world();
    assert_eq!(world.granted - world.given_back, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_works_and_its_exit_code_says_whether_all_does() {
    let double = Double::start().await;
    let config = std::env::temp_dir().join(format!("ses-relay-check-{}.toml", std::process::id()));
    let run = |text: &str, gate: &str| {
        std::fs::write(&config, text).unwrap();
        let mut command = double::command(&double);
        let config = config.clone();
        command.args(["check", "--format", "json", "--config"]).arg(config).env("SES_BREAKER_GATE_URL", gate);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let good = format!("[ses]\nendpoint = \"{}\"\n", double.url);
    double.world().answers =
        [Fate::Answer(403, vec![("x-amzn-errortype", "AccessDeniedException".to_owned())], "{}".to_owned())].into();
    let output = run(&good, &double.url).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|check| check["what"].as_str().unwrap()).collect();
    assert_eq!(checks, ["configuration", "credentials", "gate", "SES"]);
    let output = run(&good, "http://127.0.0.1:9/").await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = run("lissten = 1", &double.url).await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(
        (error["error"].as_str(), error["remedy"].as_str()),
        (Some("invalid_config"), Some("Did you mean `listen`?"))
    );
    assert!(error["message"].as_str().unwrap().contains("line 1, column 1"), "{error}");
    std::fs::remove_file(&config).unwrap();
}

/// Writes bytes as they are, and returns what comes back until the connection ends.
fn raw(url: &str, pieces: &[&str], ends: bool) -> String {
    use std::io::{Read as _, Write as _};
    let mut connection = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    for piece in pieces {
        connection.write_all(piece.as_bytes()).unwrap();
    }
    if ends {
        connection.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer);
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_slow_breaks_off_or_is_not_http_takes_nothing_and_reaches_nobody() {
    let double = Double::start().await;
    let program = Program::start(&double, "[limits]\nread_secs = 1\nin_flight_mib = 64");
    let head = |length: usize| {
        format!("POST {V2} HTTP/1.1\r\nHost: relay\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    let answer = raw(&program.url, &[&head(100), "{"], false);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("RequestTimeout"), "{answer}");
    raw(&program.url, &[&head(100), "{"], true);
    assert!(raw(&program.url, &["\u{1}\u{2}\r\n\r\n"], false).starts_with("HTTP/1.1 400"));
    let long = format!("POST / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    assert!(raw(&program.url, &[&long], false).starts_with("HTTP/1.1 431"));
    // Two that reserve nearly all memory do not keep it.
    for _ in 0..3 {
        let answer = raw(&program.url, &[&head(50 << 20)], false);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let http = http();
    let answer = program.post(&http, V2, "application/json", simple(&["x@gmail.com"]).to_string()).await;
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(double.world().ses.len(), 1);
    assert_eq!(program.stop().0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_a_browser_cannot_send_mail() {
    let fixture = Fixture::start().await;
    let form =
        "Action=SendEmail&Source=a@news.example&Destination.ToAddresses.member.1=x@gmail.com&Message.Subject.Data=x";
    let signed = "Authorization: AWS4-HMAC-SHA256 Credential=of/the/caller\r\n";
    for headers in ["", "Authorization: Basic YTpi\r\n", &format!("{signed}Origin: https://page.example\r\n")] {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: relay\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n",
            form.len()
        );
        let answer = raw(&fixture.program.url, &[&head, form], false);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("not signed"), "{answer}");
    }
    assert_eq!(fixture.double.world().ses.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_raw_mail_arrives_whole_with_the_route_in_both_places() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let fixture = Fixture::start().await;
    fixture.double.world().routes.insert("gmail", "shared");
    let mail = |set: &str| {
        let body = "text ".repeat(1_000_000);
        format!("From: a@news.example\r\nX-SES-CONFIGURATION-SET: {set}\r\nTo: x@gmail.com\r\n\r\n{body}")
    };
    let body = json!({ "Content": { "Raw": { "Data": STANDARD.encode(mail("news")) } } });
    let answer = fixture.v2(V2, &body).await;
    assert_eq!(answer.status().as_u16(), 200, "{}", text(&answer));
    {
        let world = fixture.double.world();
        let sent: Value = serde_json::from_slice(&world.ses[0].2).unwrap();
        assert_eq!(sent["ConfigurationSetName"], "shared");
        let sent = STANDARD.decode(sent["Content"]["Raw"]["Data"].as_str().unwrap()).unwrap();
        assert!(sent == mail("shared").into_bytes(), "{} bytes", sent.len());
    }
    assert_eq!(fixture.program.stop().0, 0);
}
