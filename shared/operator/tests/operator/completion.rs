//! Completion in a shell: the program as the shell's script calls it back, against the account of this process.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;

use crate::account::Account;
use crate::sender::troubled;

/// The account of [`troubled`].
fn account() -> Account {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { troubled().await.0 })
}

/// Serves the account over HTTP until the test ends, and returns its address.
fn served(account: &Account) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let account = account.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let answer = move |request: Request| answer(account.clone(), request);
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, Router::new().fallback(answer)).await.unwrap();
        });
    });
    address
}

async fn answer(account: Account, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let request = axum::http::Request::from_parts(head, SdkBody::from(bytes.to_vec()));
    let answer = account.call(HttpRequest::try_from(request).unwrap()).await.unwrap();
    let answer = answer.try_into_http1x().unwrap();
    answer.map(|body| Body::from(body.bytes().unwrap_or_default().to_vec()))
}

/// The program, with credentials and an endpoint.
fn program(folder: &Path, endpoint: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ses-breaker"));
    command.current_dir(folder).env_clear().env("HOME", folder).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_REGION", "eu-west-1");
    command.env("AWS_ENDPOINT_URL", endpoint);
    command
}

/// What is offered for the last of these words, as to bash.
fn asked(endpoint: &str, line: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.toml"), "").unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = program(folder.path(), endpoint);
    command.env("SES_BREAKER_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    command.arg("--").args(words).output().unwrap()
}

fn offered(endpoint: &str, line: &str) -> Vec<String> {
    let output = asked(endpoint, line);
    assert_eq!(output.status.code(), Some(0), "{line}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{line}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|value| !value.starts_with('-')).map(str::to_owned).collect()
}

#[test]
fn names_of_the_stack_are_offered_and_looking_them_up_changes_nothing() {
    let account = account();
    let endpoint = served(&account);
    let (writes, calls) = (account.cloud.state().writes, account.state().changed.clone());
    for (line, expected) in [
        ("ses-breaker stop --stack test ", &["news", "news.example", "shop", "shop.example"][..]),
        ("ses-breaker --stack=test resume news s", &["shop", "shop.example"]),
        ("ses-breaker --stack test explain configuration-set:", &["configuration-set:news", "configuration-set:shop"]),
        ("ses-breaker --stack test explain acc", &[]),
        ("ses-breaker --stack test stop news --isp gm", &["gmail", "gmx"]),
        ("ses-breaker --stack test connect ", &["news", "shop"]),
        ("ses-breaker --stack test quota ", &["set", "complete", "reset", "help"]),
        ("ses-breaker --stack test quota reset ", &[]),
        ("ses-breaker --stack other stop ", &[]),
        ("ses-breaker policy check ", &["my.toml"]),
        ("ses-breaker policy-of ", &["viewer", "operator", "deployer"]),
    ] {
        assert_eq!(offered(&endpoint, line), expected, "{line}");
    }
    assert_eq!((account.cloud.state().writes, account.state().changed.clone()), (writes, calls));
}

#[test]
fn without_an_answer_nothing_is_offered_and_nothing_is_said() {
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = format!("http://{}", silent.local_addr().unwrap());
    let account = account();
    account.state().refusals.push((400, "AccessDeniedException", "no"));
    for endpoint in [&silent_address, "http://127.0.0.1:1", &served(&account)] {
        assert_eq!(offered(endpoint, "ses-breaker --stack test stop "), [""; 0], "{endpoint}");
        // What is not looked up is offered.
        assert_eq!(offered(endpoint, "ses-breaker stat"), ["status"], "{endpoint}");
    }
}

#[test]
fn bash_completes_with_the_script_of_the_program() {
    let endpoint = served(&account());
    let folder = tempfile::tempdir().unwrap();
    let script = program(folder.path(), &endpoint).args(["completions", "bash"]).output().unwrap();
    fs::write(folder.path().join("script"), script.stdout).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_ses-breaker")).parent().unwrap();
    let completed = |path: &str, words: &str, written: &str| {
        let run = format!(
            "source ./script; COMP_WORDS=({words} '{written}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _clap_complete_ses_breaker ses-breaker '{written}' x; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        bash.current_dir(folder.path()).env_clear().env("HOME", folder.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        bash.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_REGION", "eu-west-1");
        bash.env("AWS_ENDPOINT_URL", &endpoint).env("SES_BREAKER_STACK", "test").env("PATH", path);
        let output = bash.args(["-c", &run]).output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{words}");
        String::from_utf8(output.stdout).unwrap()
    };
    let path = format!("{}:/usr/bin:/bin", programs.display());
    assert_eq!(completed(&path, "ses-breaker stop", "n"), "news\nnews.example\n");
    assert_eq!(completed(&path, "ses-breaker stop news --isp", "gma"), "gmail\n");
    // The words of `configuration-set:ne`, as bash takes them apart.
    assert_eq!(completed(&path, "ses-breaker stop configuration-set :", "ne"), "news\nnews.example\n");
    assert_eq!(completed("/usr/bin:/bin", "ses-breaker stop", "n"), "\n");
}
