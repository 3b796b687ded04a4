//! Clients that others wrote: Python's smtplib, swaks, curl and OpenSSL. One that is not installed is skipped, and named.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::kit::{Recorder, SECRET, ann};
use crate::tcp::{Running, certificate};

async fn run(program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("skipped: {program} cannot be run: {error}");
            return None;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    Some(child.wait_with_output().await.unwrap())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn smtplib(mode: &str) {
    let recorder = Recorder::new();
    let address = if mode == "open" { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let server = Running::start_on(address, &recorder, |settings| {
        settings.max_message_bytes = 2_000_000;
        settings.smtputf8 = true;
        settings.implicit_tls = mode == "implicit";
        if mode != "open" {
            settings.tls = Some(certificate().server);
            settings.users = vec![ann()];
        }
    })
    .await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp/smtplib_client.py");
    let port = server.port.to_string();
    let Some(output) = run("python3", &[script.to_str().unwrap(), &port, mode], "").await else { return };
    assert!(output.status.success(), "{}", text(&output));
    let contents = recorder.contents();
    assert!(contents[0].ends_with("\r\n\r\nHello\r\n.\r\n..dots\r\n"), "{}", contents[0]);
    let lines: Vec<&str> = contents[1].split("\r\n").collect();
    assert_eq!(lines.len(), 20_004);
    assert_eq!(lines[..6], ["Subject: dots", "", ".", "line 0 é", ".line 1 é", "..line 2 é"]);
    assert_eq!(lines[20_002..], ["....line 19999 é", ""]);
    assert_eq!(contents[2], "Subject: one\r\n\r\nx\r\n");
    let messages = recorder.messages.lock().unwrap();
    assert_eq!(
        (messages[3].from.as_str(), messages[3].recipients[0].as_str()),
        ("bjørn@example.com", "用户@例子.example")
    );
    assert_eq!(contents[4], "Subject: piped\r\n\r\n.\r\n");
    assert_eq!(contents.len(), if mode == "users" { 6 } else { 5 });
}

#[tokio::test]
async fn smtplib_submits_in_the_clear_on_this_machine() {
    smtplib("open").await;
}

#[tokio::test]
async fn smtplib_submits_after_starttls_and_login() {
    smtplib("users").await;
}

#[tokio::test]
async fn smtplib_submits_over_implicit_tls() {
    smtplib("implicit").await;
}

#[tokio::test]
async fn swaks_submits_after_starttls_with_each_mechanism() {
    for mechanism in ["PLAIN", "LOGIN"] {
        let recorder = Recorder::new();
        let server = Running::start_on(Ipv4Addr::UNSPECIFIED, &recorder, |settings| {
            settings.tls = Some(certificate().server);
            settings.users = vec![ann()];
        })
        .await;
        let port = server.port.to_string();
        let arguments = [
            "--server",
            "127.0.0.1",
            "--port",
            &port,
            "--tls",
            "--auth",
            mechanism,
            "--auth-user",
            "ann",
            "--auth-password",
            SECRET,
            "--from",
            "ann@example.com",
            "--to",
            "bob@example.org,cid@example.org",
            "--ehlo",
            "client.example",
            "--header",
            "Subject: swaks",
            "--body",
            "Hello\n.\n..dots",
            "--pipeline",
        ];
        let Some(output) = run("swaks", &arguments, "").await else { return };
        assert!(output.status.success(), "{}", text(&output));
        let messages = recorder.messages.lock().unwrap();
        assert_eq!(messages.len(), 1, "{}", text(&output));
        assert_eq!(messages[0].recipients, ["bob@example.org", "cid@example.org"]);
        let content = String::from_utf8_lossy(&messages[0].content);
        assert!(content.contains("\r\nHello\r\n.\r\n..dots\r\n"), "{content}");
    }
}

#[tokio::test]
async fn curl_submits_after_starttls_and_authentication() {
    let recorder = Recorder::new();
    let server = Running::start_on(Ipv4Addr::UNSPECIFIED, &recorder, |settings| {
        settings.tls = Some(certificate().server);
        settings.users = vec![ann()];
    })
    .await;
    let (url, user) = (format!("smtp://127.0.0.1:{}/client.example", server.port), format!("ann:{SECRET}"));
    let arguments = [
        "--silent",
        "--show-error",
        "--url",
        &url,
        "--ssl-reqd",
        "--insecure",
        "--user",
        &user,
        "--mail-from",
        "ann@example.com",
        "--mail-rcpt",
        "bob@example.org",
        "--upload-file",
        "-",
    ];
    let message = "Subject: curl\r\n\r\nHello\r\n.\r\n..dots\r\n";
    let Some(output) = run("curl", &arguments, message).await else { return };
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(recorder.contents(), [message]);
}

#[tokio::test]
async fn openssl_sees_tls_1_2_and_1_3() {
    let recorder = Recorder::new();
    let server = Running::start(&recorder, |settings| settings.tls = Some(certificate().server)).await;
    let address = format!("127.0.0.1:{}", server.port);
    for version in ["-tls1_2", "-tls1_3"] {
        let arguments = ["s_client", "-connect", &address, "-starttls", "smtp", "-crlf", "-quiet", version];
        let Some(output) = run("openssl", &arguments, "EHLO x\nQUIT\n").await else { return };
        assert!(text(&output).contains("221 2.0.0 Bye"), "{version}: {}", text(&output));
    }
}
