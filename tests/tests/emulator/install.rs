//! From a wheel to a stack and back, as a new user does it: a Python environment in which nothing is but the wheel, and no
//! tool of Rust, SAM or AWS on the path.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use aws::invocation::now;
use e2e::emulator::{Call, Emulator, eventually, npm_packages, wheel};
use serde_json::Value;
use tempfile::TempDir;

use super::SOON;
use super::account::Account;

const SET: &str = "newsletter";

struct Installed {
    emulator: Emulator,
    account: Account,
    bin: PathBuf,
    /// What a person has in the environment instead of the account's root user.
    credentials: Vec<(&'static str, String)>,
    _home: TempDir,
}

impl Installed {
    async fn new() -> Installed {
        let home = tempfile::tempdir().unwrap();
        let wheel = wheel(home.path()).unwrap();
        let environment = home.path().join("venv");
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        let bin = environment.join("bin");
        // The wheel has everything: nothing is fetched.
        let began = Instant::now();
        let mut pip = Command::new(bin.join("pip"));
        succeed(pip.args(["install", "--quiet", "--no-index", "--disable-pip-version-check"]).arg(wheel));
        eprintln!("installed in {:.1?}", began.elapsed());
        has_its_manual(&environment);
        let emulator = Emulator::start().unwrap();
        let account = Account::new(&emulator.config().await);
        account.create_configuration_set(SET).await;
        account.create_configuration_set("receipts").await;
        Installed { emulator, account, bin, credentials: Vec::new(), _home: home }
    }

    /// Runs a command line as a person would; the path leads to the installed programs only.
    fn run(&self, command: &str) -> Output {
        let words: Vec<&str> = command.split(' ').collect();
        let mut program = Command::new(self.bin.join(words[0]));
        program.args(&words[1..]).env_clear().env("PATH", &self.bin).envs(self.emulator.environment());
        program.envs(self.credentials.iter().map(|(name, value)| (*name, value)));
        program.stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command line that must succeed. Returns its answer.
    fn succeed(&self, command: &str) -> String {
        let output = self.run(command);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {output:?}\n{error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.succeed(&format!("{command} --format json"))).unwrap()
    }

    /// From now on, programs run with a role that has the policy of a deployer as its only one. Returns the policy.
    async fn become_deployer(&mut self) -> Value {
        let account = self.emulator.account().to_owned();
        let printed = self.succeed(&format!("ses-breaker policy-of deployer --account {account} --region eu-west-1"));
        let config = self.emulator.config().await;
        let iam = aws_sdk_iam::Client::new(&config);
        let trust = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
        }]});
        let role = iam.create_role().role_name("deployer").assume_role_policy_document(trust.to_string());
        let role = role.send().await.unwrap().role.unwrap();
        let policy = iam.put_role_policy().role_name("deployer").policy_name("all").policy_document(&printed);
        policy.send().await.unwrap();
        let sts = aws_sdk_sts::Client::new(&config);
        let session = sts.assume_role().role_arn(role.arn).role_session_name("ann").send().await.unwrap();
        let session = session.credentials.unwrap();
        self.credentials = vec![
            ("AWS_ACCESS_KEY_ID", session.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", session.secret_access_key),
            ("AWS_SESSION_TOKEN", session.session_token),
        ];
        serde_json::from_str(&printed).unwrap()
    }

    /// The managed policies of the stack say what `policy-of` prints, with the key of the stack.
    async fn stack_has_the_policies_of_people(&self, outputs: &Value) {
        let iam = aws_sdk_iam::Client::new(&self.emulator.config().await);
        for (role, output) in [("viewer", "ViewerPolicyArn"), ("operator", "OperatorPolicyArn")] {
            let arn = outputs[output].as_str().unwrap();
            let version = iam.get_policy_version().policy_arn(arn).version_id("v1").send().await.unwrap();
            let document = version.policy_version.unwrap().document.unwrap();
            let (account, key) = (self.emulator.account(), outputs["KeyArn"].as_str().unwrap());
            let printed = self.succeed(&format!("ses-breaker policy-of {role}"));
            let printed = printed.replace(&format!("arn:aws:kms:eu-west-1:{account}:key/*"), key);
            let mut printed: Value = serde_json::from_str(&printed).unwrap();
            // One resource is a text here, and a list of one there.
            for statement in printed["Statement"].as_array_mut().unwrap() {
                if let [one] = &statement["Resource"].as_array().unwrap()[..] {
                    statement["Resource"] = one.clone();
                }
            }
            assert_eq!(serde_json::from_str::<Value>(&decoded(&document)).unwrap(), printed, "{role}");
        }
    }

    /// Publishes what SES publishes about this many mails, all of which bounce.
    async fn bounce(&self, mails: usize) {
        let topic = format!("arn:aws:sns:eu-west-1:{}:ses-breaker-events", self.emulator.account());
        let at = now().to_string();
        let events: Vec<String> = (0..mails).flat_map(|index| {
            let mail = format!(
                r#""mail":{{"timestamp":"{at}","messageId":"id-{index}","source":"a@news.example.com","destination":["u{index}@gmail.com"],"tags":{{"ses:configuration-set":["{SET}"],"ses:from-domain":["news.example.com"]}}}}"#
            );
            [
                format!(r#"{{"eventType":"Send",{mail},"send":{{}}}}"#),
                format!(
                    r#"{{"eventType":"Bounce",{mail},"bounce":{{"bounceType":"Permanent","bounceSubType":"General","timestamp":"{at}","feedbackId":"f-{index}","bouncedRecipients":[{{"emailAddress":"u{index}@gmail.com","action":"failed","status":"5.1.1"}}]}}}}"#
                ),
            ]
        }).collect();
        self.account.publish(&topic, &events).await;
    }

    async fn is_stopped(&self) {
        eventually("the set is stopped", SOON, async || match self.account.sending_enabled(SET).await {
            true => Err("it may send"),
            false => Ok(()),
        })
        .await;
    }
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a deployer is allowed and does not call in the whole life of a stack, with the reasons: see the file.
const UNCALLED: &str = include_str!("uncalled.txt");

/// The actions of [`UNCALLED`].
fn uncalled() -> BTreeSet<String> {
    let lines = UNCALLED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut actions = BTreeSet::new();
    for line in lines {
        let (service, names) = line.split_once(": ").unwrap();
        for name in names.split(' ') {
            assert!(actions.insert(format!("{service}:{name}")), "{service}:{name} is listed twice");
        }
    }
    actions
}

/// A text without percent encoding, in which IAM returns documents.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// Whether a policy allows an action on a resource. Actions are written out; in a resource, `*` is any text.
fn allows(policy: &Value, action: &str, resource: &str) -> bool {
    let matches = |pattern: &str| {
        let mut parts = pattern.split('*');
        let Some(mut rest) = resource.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    };
    policy["Statement"].as_array().unwrap().iter().any(|statement| {
        strings(&statement["Action"]).contains(&action)
            // The recording knows no resource of some actions.
            && (resource == "*" || strings(&statement["Resource"]).into_iter().any(matches))
    })
}

/// The calls of a deployer are what its policy allows, and its policy allows nothing else that has no reason.
fn calls_equal_the_policy(calls: &[Call], policy: &Value) {
    let refused: BTreeSet<&Call> =
        calls.iter().filter(|call| !call.allowed || !allows(policy, &call.action, &call.resource)).collect();
    assert!(refused.is_empty(), "the policy of a deployer does not allow {refused:#?}");
    let called: BTreeSet<String> = calls.iter().map(|call| call.action.clone()).collect();
    let statements = policy["Statement"].as_array().unwrap();
    let allowed: BTreeSet<String> =
        statements.iter().flat_map(|statement| strings(&statement["Action"])).map(str::to_owned).collect();
    let uncalled = uncalled();
    let differences = [
        ("allowed, neither called nor listed", allowed.difference(&(&called | &uncalled)).cloned().collect()),
        ("listed, and not allowed", uncalled.difference(&allowed).cloned().collect::<BTreeSet<_>>()),
    ];
    assert!(differences.iter().all(|(_, actions)| actions.is_empty()), "{differences:#?}");
    eprintln!("{} calls of {} actions; {} more are allowed", calls.len(), called.len(), uncalled.len());
}

/// The manual pages and completions lie where `man` and the shells look for them.
fn has_its_manual(prefix: &Path) {
    let text = |path: &str| fs::read_to_string(prefix.join("share").join(path)).unwrap_or_else(|_| panic!("no {path}"));
    for page in ["ses-breaker", "ses-breaker-status", "ses-breaker-policy-push", "replay", "replay-explain"] {
        assert!(text(&format!("man/man1/{page}.1")).contains(&format!(".TH {page} 1")), "{page}");
    }
    for program in ["ses-breaker", "replay"] {
        assert!(
            text(&format!("bash-completion/completions/{program}")).contains(&format!(" {program}\n")),
            "{program}"
        );
        let zsh = text(&format!("zsh/site-functions/_{program}"));
        assert!(zsh.starts_with(&format!("#compdef {program}\n")), "{zsh}");
        let fish = text(&format!("fish/vendor_completions.d/{program}.fish"));
        assert!(fish.lines().any(|line| line.starts_with("complete ") && line.contains(program)), "{fish}");
    }
}

#[test]
fn the_packages_for_npm_are_the_same_each_time_and_install_without_a_network() {
    if !Command::new("npm").arg("--version").output().is_ok_and(|answer| answer.status.success()) {
        eprintln!("skipped: npm is not installed");
        return;
    }
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let packages = homes.each_ref().map(|home| npm_packages(home.path()).unwrap());
    for (one, other) in packages[0].iter().zip(&packages[1]) {
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{} differs each time", one.display());
    }
    let home = homes[0].path();
    let mut npm = Command::new("npm");
    npm.args(["install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(home.join("app"));
    succeed(npm.args(&packages[0]).env("npm_config_cache", home.join("cache")).env("HOME", home));
    let run = |name: &str, argument: &str| {
        let output = Command::new(home.join("app/node_modules/.bin").join(name)).arg(argument).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for name in ["ses-breaker", "replay"] {
        let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run(name, "--version"), (Some(0), version));
        assert_eq!(run(name, "--nonsense"), (Some(2), String::new()));
    }
    let installed = fs::read_dir(home.join("app/node_modules")).unwrap().map(|entry| entry.unwrap().path());
    let of_machine = installed.into_iter().find(|path| path.join("bin/replay").exists()).unwrap();
    has_its_manual(&of_machine);
    let functions = format!("share/ses-breaker/functions/{}", e2e::emulator::lambda_architecture());
    assert!(of_machine.join(functions).join("gate.zip").exists());
}

#[test]
fn a_pattern_of_a_policy_allows_what_it_matches() {
    let policy = serde_json::json!({ "Statement": [
        { "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::code/mail/*"] },
        { "Action": ["sns:Subscribe"], "Resource": ["arn:aws:sns:eu-west-1:1:mail-events", "arn:*:x-*-y"] },
    ]});
    for (action, resource, allowed) in [
        ("s3:PutObject", "arn:aws:s3:::code/mail/a/b.zip", true),
        ("s3:PutObject", "arn:aws:s3:::code/other/b.zip", false),
        ("s3:GetObject", "arn:aws:s3:::code/mail/a", false),
        ("sns:Subscribe", "arn:aws:sns:eu-west-1:1:mail-events", true),
        ("sns:Subscribe", "arn:aws:sns:eu-west-1:1:mail-events-2", false),
        ("sns:Subscribe", "arn:z:x-1-y", true),
        ("sns:Subscribe", "arn:z:x-1-z", false),
        ("sns:Subscribe", "*", true),
    ] {
        assert_eq!(allows(&policy, action, resource), allowed, "{action} on {resource}");
    }
}

#[tokio::test]
async fn a_wheel_is_all_that_it_takes_to_go_up_act_and_come_down() {
    let mut fixture = Installed::new().await;
    let policy = fixture.become_deployer().await;
    let began = Instant::now();
    let up = fixture.succeed("ses-breaker up newsletter --act --yes --wait 0 --email you@example.com");
    let took = began.elapsed();
    eprintln!("{up}\nup in {took:.1?}");
    assert!(
        up.starts_with("stack ses-breaker: created, 7") && up.contains("newsletter  connected, and read back"),
        "{up}"
    );
    assert!(up.contains("Version 1") || up.contains("version 1"), "{up}");

    let again = fixture.json("ses-breaker up newsletter --act --yes --wait 0 --email you@example.com");
    assert_eq!(again["deployed"]["outcome"], "unchanged", "{again:#}");
    assert_eq!(again["connected"]["configuration_sets"][0]["result"], "unchanged", "{again:#}");
    assert_eq!((&again["shadow"], &again["acting"]["outcome"]), (&false.into(), &"unchanged".into()), "{again:#}");

    let upgraded = fixture.json("ses-breaker up newsletter --yes --wait 0 --parameter LogLevel=debug");
    assert_eq!(upgraded["deployed"]["outcome"], "updated", "{upgraded:#}");
    fixture.stack_has_the_policies_of_people(&upgraded["deployed"]["outputs"]).await;

    fixture.bounce(60).await;
    fixture.is_stopped().await;
    let status = fixture.succeed("ses-breaker status");
    assert!(status.contains("configuration-set:newsletter") && status.contains("stopped"), "{status}");

    let began = Instant::now();
    let down = fixture.json("ses-breaker down --purge --yes");
    eprintln!("{down:#}\ndown in {:.1?}", began.elapsed());
    assert_eq!((&down["deleted"], &down["tables"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(down["purged"]["keys"].as_array().unwrap().len(), 1, "{down:#}");
    assert!(fixture.account.sending_enabled(SET).await, "what it stopped may send again");
    let tables = fixture.account.dynamodb.list_tables().send().await.unwrap();
    assert_eq!(tables.table_names(), [""; 0]);
    for command in ["ses-breaker down", "ses-breaker down --purge"] {
        let nothing = fixture.succeed(command);
        assert!(nothing.starts_with("there is no stack ses-breaker in account"), "{nothing}");
    }
    let calls = fixture.emulator.calls().unwrap();
    let calls: Vec<Call> = calls.into_iter().filter(|call| call.by.contains("/deployer/")).collect();
    calls_equal_the_policy(&calls, &policy);
    fixture.emulator.stop().unwrap();
}

#[tokio::test]
async fn a_stack_that_was_deleted_by_other_means_leaves_nothing_stopped_after_down() {
    let mut fixture = Installed::new().await;
    fixture.succeed("ses-breaker up --all --act --yes --wait 0 --email you@example.com");
    fixture.bounce(60).await;
    fixture.is_stopped().await;
    // As `sam delete` does, without a word to ses-breaker.
    fixture.emulator.delete("ses-breaker").unwrap();
    let remaining = fixture.run("ses-breaker up --all --yes");
    let error = String::from_utf8_lossy(&remaining.stderr).into_owned();
    assert_eq!(remaining.status.code(), Some(1), "{error}");
    assert!(error.contains("table ses-breaker-ledger and table ses-breaker-reputation still exist"), "{error}");

    let down = fixture.json("ses-breaker down --yes");
    // On a busy machine a function that the emulator has not ended yet may be faster.
    let late = &down["resumed_late"];
    assert!([serde_json::json!(["configuration-set:newsletter"]), serde_json::json!([])].contains(late), "{down:#}");
    assert_eq!(down["not_resumed"], serde_json::json!([]), "{down:#}");
    assert!(fixture.account.sending_enabled(SET).await);
    assert_eq!(down["disconnected"]["subjects"][0]["deleted"], serde_json::json!(["ses-breaker"]), "{down:#}");

    // A person's stop, of which no function can tell the table any more.
    fixture.account.ses.put_configuration_set_sending_options().configuration_set_name(SET).send().await.unwrap();
    let asks = fixture.run("ses-breaker down");
    assert_eq!(asks.status.code(), Some(2), "it may change something at SES, so it asks");
    let down = fixture.json("ses-breaker down --yes --purge");
    assert_eq!(down["resumed_late"], serde_json::json!([]), "{down:#}");
    assert!(!fixture.account.sending_enabled(SET).await, "a person's stop was undone");
    fixture.succeed("ses-breaker deploy --yes");
    fixture.emulator.stop().unwrap();
}
