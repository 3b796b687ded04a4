//! Mail that Python's smtplib submits to the program: what reaches SES, and what the client is answered.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::double::{self, Double, Fate, Http, Program, http};

const SECRET: &str = "0123456789abcdef";
/// `printf %s 0123456789abcdef | sha256sum`
const DIGEST: &str = "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f";
const MAIL: &str = "From: \"A\" <a@news.example>\r\nTo: x@gmail.com\r\nSubject: s\r\n\r\n.dots\r\n..\r\n";

/// Runs `mail.py`.
fn submit(port: &str, to: &str, login: &[&str], message: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/submission/mail.py");
    let mut command = Command::new("python3");
    command.arg(script).args([port, "bounce@news.example", to]).args(login);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("python3 is installed");
    // It may end before it has read the message.
    let _ = child.stdin.take().unwrap().write_all(message.as_bytes());
    child.wait_with_output().unwrap()
}

/// The reply to a mail.
async fn reply(program: &Program, to: &str, login: &[&str], message: &str) -> String {
    let (port, to, message) = (program.smtp_port(), to.to_owned(), message.to_owned());
    let login: Vec<String> = login.iter().map(|&word| word.to_owned()).collect();
    let submitting = tokio::task::spawn_blocking(move || {
        let login: Vec<&str> = login.iter().map(String::as_str).collect();
        submit(&port, &to, &login, &message)
    });
    let output = submitting.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

struct Fixture {
    double: Double,
    program: Program,
    http: Http,
}

impl Fixture {
    async fn start() -> Fixture {
        let double = Double::start().await;
        let program = Program::start(&double, "[smtp]\nlisten = \"127.0.0.1:0\"");
        Fixture { double, program, http: http() }
    }

    async fn metrics(&self) -> String {
        String::from_utf8(self.program.get(&self.http, "/metrics").await.into_body().to_vec()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_reaches_ses_as_raw_mail_to_its_envelope_and_is_counted() {
    let fixture = Fixture::start().await;
    let mail = MAIL.replace("Subject", "X-SES-CONFIGURATION-SET: codes\r\nBcc: y@yahoo.com\r\nSubject");
    assert_eq!(reply(&fixture.program, "x@gmail.com,y@yahoo.com", &[], &mail).await, "250 2.0.0 Ok m-1");
    {
        let world = fixture.double.world();
        let (path, _, body) = &world.ses[0];
        assert_eq!(path, "/v2/email/outbound-emails");
        let expected = json!({
            "Content": { "Raw": { "Data": STANDARD.encode(MAIL) } },
            "Destination": { "BccAddresses": ["x@gmail.com", "y@yahoo.com"] },
            "ConfigurationSetName": "codes",
        });
        assert_eq!(serde_json::from_slice::<Value>(body).unwrap(), expected);
        assert_eq!((&world.asked[0]["identity"], world.ses.len()), (&json!("news.example"), 1));
    }
    let metrics = fixture.metrics().await;
    for line in [
        "ses_relay_mails_total{operation=\"smtp\",class=\"bulk\",isp=\"yahoo\",outcome=\"sent\"} 1",
        "ses_relay_smtp_connections_total 1",
        "ses_relay_smtp_messages_total 1",
        "ses_relay_smtp_refusals_total{reason=\"deferred\"} 0",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} is not in:\n{metrics}");
    }
    let (code, log) = fixture.program.stop();
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains('@') && !log.contains("gmail.com") && !log.contains("news.example"), "{log}");
    let world = fixture.double.world();
    assert_eq!(world.granted - world.given_back, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_may_not_go_now_is_for_the_mailer_to_keep_and_nothing_of_it_is_sent_or_used() {
    let fixture = Fixture::start().await;
    fixture.double.world().quotas.insert("gmail", 0);
    let reply = reply(&fixture.program, "y@yahoo.com,x@gmail.com", &[], MAIL).await;
    assert!(reply.starts_with("451 4.7.1 mail has to wait: the quota of gmail is used up"), "{reply}");
    let metrics = fixture.metrics().await;
    assert!(metrics.contains("ses_relay_smtp_refusals_total{reason=\"deferred\"} 1"), "{metrics}");
    assert_eq!(fixture.program.stop().0, 0);
    let world = fixture.double.world();
    assert!(world.ses.is_empty());
    assert_eq!(world.granted, world.given_back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ses_answers_says_whether_the_mailer_keeps_its_mail() {
    let fixture = Fixture::start().await;
    let answer = |status, kind: &str| {
        Fate::Answer(status, vec![("x-amzn-errortype", kind.to_owned())], "{\"message\": \"\"}".to_owned())
    };
    for (fate, expected) in [
        (answer(400, "SendingPausedException"), "451 4.7.1 SendingPausedException"),
        (answer(429, "TooManyRequestsException"), "454 4.7.0 Throttling failure: TooManyRequestsException"),
        (answer(400, "MessageRejected"), "554 5.0.0 Transaction failed: MessageRejected"),
        (Fate::Slow(Duration::from_secs(4)), "451 4.3.0 no answer came from SES: no answer within 2 s"),
    ] {
        fixture.double.world().answers = [fate].into();
        assert_eq!(reply(&fixture.program, "x@gmail.com", &[], MAIL).await, expected);
    }
    assert_eq!(fixture.program.stop().0, 0);
    let world = fixture.double.world();
    assert_eq!((world.ses.len(), world.granted - world.given_back), (4, 1), "only the unclear one counts as sent");
}

/// A certificate for 127.0.0.1, and its key.
fn certificate(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("ses-relay-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_machines_need_tls_and_a_user_and_a_certificate_is_renewed_by_a_signal() {
    let folder = Folder::new("tls");
    let first = certificate(&folder.0);
    let double = Double::start().await;
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let config = format!(
        "[smtp]\nlisten = \"0.0.0.0:0\"\ntls_certificate = {:?}\ntls_key = {:?}\n[smtp.users]\napp = \"{DIGEST}\"",
        path("certificate.pem"),
        path("key.pem")
    );
    let program = Program::start(&double, &config);
    let trusted = path("trusted.pem");
    std::fs::write(&trusted, &first).unwrap();
    assert!(reply(&program, "x@gmail.com", &[], MAIL).await.starts_with("530 5.7.0"));
    assert!(reply(&program, "x@gmail.com", &[&trusted, "app", "wrong but as long"], MAIL).await.starts_with("535 "));
    assert!(double.world().ses.is_empty());
    assert_eq!(reply(&program, "x@gmail.com", &[&trusted, "app", SECRET], MAIL).await, "250 2.0.0 Ok m-1");

    let second = certificate(&folder.0);
    std::fs::write(&trusted, second).unwrap();
    program.send_signal("-HUP");
    let port = program.smtp_port();
    let renewed = (0..100).map(|_| submit(&port, "x@gmail.com", &[&trusted, "app", SECRET], MAIL));
    let outputs: Vec<Output> = renewed.filter(|output| output.status.success()).take(1).collect();
    assert!(String::from_utf8_lossy(&outputs[0].stdout).starts_with("250 "), "{outputs:?}");
    let (code, log) = program.stop();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("the certificate was read again") && !log.contains("app"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_lets_a_message_under_way_finish() {
    let fixture = Fixture::start().await;
    fixture.double.world().answers = [Fate::Slow(Duration::from_secs(1))].into();
    let signal = async {
        while fixture.double.world().ses.is_empty() {
            tokio::task::yield_now().await;
        }
        fixture.program.signal();
    };
    let (reply, ()) = tokio::join!(reply(&fixture.program, "x@gmail.com", &[], MAIL), signal);
    assert_eq!(reply, "250 2.0.0 Ok m-1");
    let (code, log) = fixture.program.wait();
    assert_eq!(code, 0, "{log}");
    let world = fixture.double.world();
    assert_eq!(world.granted - world.given_back, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_others_reach_does_not_start_without_tls_and_a_check_names_it() {
    let folder = Folder::new("open");
    let double = Double::start().await;
    let path = folder.0.join("relay.toml");
    let run = |arguments: &[&str], listen: &str| {
        let (url, smtp) = (&double.url, format!("[smtp]\nlisten = \"{listen}\"\n"));
        std::fs::write(&path, format!("listen = \"127.0.0.1:0\"\n[ses]\nendpoint = \"{url}\"\n{smtp}")).unwrap();
        let mut command = double::command(&double);
        command.args(["--format", "json", "--config"]).arg(&path).args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let needs_tls = "SMTP on 0.0.0.0 needs TLS, because other machines reach this address: set a certificate, or listen on 127.0.0.1";
    let output = run(&[], "0.0.0.0:0").await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&error["error"], &error["message"]), (&json!("invalid_config"), &json!(needs_tls)));

    let good = "127.0.0.1:0; no TLS; no users: every program on this machine can send";
    for (listen, ok, detail) in [("127.0.0.1:0", true, good), ("0.0.0.0:0", false, needs_tls)] {
        let output = run(&["check"], listen).await.unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(!ok)), "{report:#}");
        assert_eq!(report["checks"][4], json!({ "what": "SMTP", "ok": ok, "detail": detail, "remedy": "" }));
    }
}
