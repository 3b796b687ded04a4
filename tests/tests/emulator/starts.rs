//! A function without a required environment variable does not start, and names it.

use std::process::{Command, Output};

use e2e::emulator::functions;

const VARIABLES: [(&str, &[&str]); 5] = [
    ("ingest", &["LEDGER_TABLE", "REPUTATION_TABLE", "GATE_IN_USE"]),
    ("breaker", &["REPUTATION_TABLE", "GATE_IN_USE"]),
    (
        "enforcer",
        &[
            "REPUTATION_TABLE",
            "ALERT_TOPIC_ARN",
            "EVENT_BUS_NAME",
            "MAY_PAUSE_ACCOUNT",
            "MAY_PAUSE_TENANTS",
            "GATE_IN_USE",
        ],
    ),
    ("warmup", &["REPUTATION_TABLE"]),
    ("gate", &["REPUTATION_TABLE"]),
];

fn start(function: &str, variables: impl IntoIterator<Item = (&'static str, &'static str)>) -> Output {
    let bootstrap = functions().unwrap().join(function).join("bootstrap");
    // A port without a listener: the function must not get that far.
    let runtime = [
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "ses-breaker-test"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "test"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "test"),
        ("AWS_REGION", "eu-west-1"),
    ];
    Command::new(bootstrap).env_clear().envs(runtime).envs(variables).output().unwrap()
}

#[test]
fn a_variable_that_is_missing_or_wrong_is_named_at_the_start() {
    for (function, variables) in VARIABLES {
        for missing in variables {
            let others = variables.iter().filter(|name| *name != missing);
            let output = start(function, others.map(|name| (*name, "true")));
            let log = String::from_utf8_lossy(&output.stdout);
            let expected = format!("environment variable {missing} is not set; infra/template.yaml sets it");
            assert!(!output.status.success() && log.contains(&expected), "{function}: {output:?}");
        }
        if !variables.contains(&"GATE_IN_USE") {
            continue;
        }
        let all = variables.iter().map(|name| (*name, if *name == "GATE_IN_USE" { "yes" } else { "true" }));
        let output = start(function, all);
        let log = String::from_utf8_lossy(&output.stdout);
        let expected = "environment variable GATE_IN_USE is `yes`; allowed: true, false";
        assert!(!output.status.success() && log.contains(expected), "{function}: {output:?}");
    }
}
