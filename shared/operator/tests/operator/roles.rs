//! The policies of people: what `policy-of` prints and what the stack offers as managed policies are the same. With `UPDATE=1`
//! the template's two policies are written anew.

use std::fmt::Write as _;
use std::fs;

use operator::stack::Place;
use operator::stack::permissions::{Role, policy_of};

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/template.yaml");
/// The widest line of the template.
const WIDTH: usize = 120;

/// The stack, whatever its name, as CloudFormation's `Sub` names it.
fn any_place() -> Place {
    Place {
        partition: "${AWS::Partition}".to_owned(),
        region: "${AWS::Region}".to_owned(),
        account: "${AWS::AccountId}".to_owned(),
        stack: "${AWS::StackName}".to_owned(),
    }
}

/// A list in one line, if it fits in one.
fn list(name: &str, items: &[String]) -> String {
    let line = format!("            {name}: [{}]\n", items.join(", "));
    if line.len() <= WIDTH + 1 && !items.iter().any(|item| item.contains("!Sub")) {
        return line;
    }
    let mut lines = format!("            {name}:\n");
    for item in items {
        let _ = writeln!(lines, "              - {item}");
    }
    lines
}

/// The resource of the template that has the policy of a role. The stack knows its key, of which `policy-of` knows only that it
/// is one of the account's.
fn resource(name: &str, role: Role, does: &str) -> String {
    let mut text = format!(
        "  {name}:\n    Type: AWS::IAM::ManagedPolicy\n    Properties:\n      Description: !Sub \"Lets a person {does} the \
         ses-breaker stack ${{AWS::StackName}}\"\n      PolicyDocument:\n        Version: \"2012-10-17\"\n        Statement:\n"
    );
    let any_key = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/*";
    for statement in policy_of(role, &any_place(), None).statement {
        let _ = writeln!(text, "          - Sid: {}\n            Effect: {}", statement.sid, statement.effect);
        let action: Vec<String> = statement.action.iter().map(|action| (*action).to_owned()).collect();
        text.push_str(&list("Action", &action));
        let arns = statement.resource.iter().map(|arn| match arn.as_str() {
            "*" => "\"*\"".to_owned(),
            arn if arn == any_key => "!GetAtt Key.Arn".to_owned(),
            arn => format!("!Sub {arn}"),
        });
        let resource: Vec<String> = arns.collect();
        match &resource[..] {
            [one] => {
                let _ = writeln!(text, "            Resource: {one}");
            }
            several => text.push_str(&list("Resource", several)),
        }
    }
    text
}

/// `tests/cloud/permissions.py` compares it with what AWS says about its actions.
#[test]
fn what_a_deployer_may() {
    let place = Place::of_names("eu-west-1", "123456789012", "mail");
    let policy = serde_json::to_string_pretty(&policy_of(Role::Deployer, &place, None)).unwrap();
    insta::assert_snapshot!("deployer", policy);
}

#[test]
fn the_stack_offers_the_policies_that_policy_of_prints() {
    let mut template = fs::read_to_string(TEMPLATE).unwrap();
    for (name, role, does) in [("ViewerPolicy", Role::Viewer, "look at"), ("OperatorPolicy", Role::Operator, "operate")]
    {
        let expected = resource(name, role, does);
        let begin = template.find(&format!("\n  {name}:\n")).unwrap() + 1;
        let end = begin + template[begin..].find("\n\n").unwrap() + 1;
        if std::env::var_os("UPDATE").is_some() {
            template.replace_range(begin..end, &expected);
            fs::write(TEMPLATE, &template).unwrap();
        } else {
            let update = "UPDATE=1 cargo test -p ses-breaker roles:: writes it anew";
            assert_eq!(template[begin..end], expected, "{name} of infra/template.yaml: {update}");
        }
    }
}
