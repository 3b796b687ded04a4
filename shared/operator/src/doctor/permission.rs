//! Whether a resource policy allows a service of AWS to do something.
//!
//! Covers only the part of the policy language that such policies use. Anything else is reported as unclear, neither allowed
//! nor denied ("Policy evaluation logic" and "IAM JSON policy elements: Condition operators", IAM User Guide).

use serde_json::Value;

/// A request of a service.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    /// Service principal, such as `sns.amazonaws.com`.
    pub(crate) service: &'a str,
    /// The action, such as `sqs:SendMessage`.
    pub(crate) action: &'a str,
    /// ARN of the resource that has the policy.
    pub(crate) resource: &'a str,
    /// ARN of the resource on whose behalf the service asks.
    pub(crate) source: &'a str,
    /// The account of that resource.
    pub(crate) account: &'a str,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is allowed.
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// A statement denies it.
    Denied {
        /// Its `Sid`, or its position if it has none.
        statement: String,
    },
    /// It depends on something that this module does not support.
    Unclear(String),
}

/// Evaluates a policy; `None` is no policy, which allows services nothing.
pub(crate) fn may(policy: Option<&str>, request: &Request<'_>) -> Answer {
    let Some(policy) = policy.filter(|policy| !policy.trim().is_empty()) else { return Answer::NotAllowed };
    let Ok(document) = serde_json::from_str::<Value>(policy) else {
        return Answer::Unclear("the policy is not JSON".to_owned());
    };
    let statements = several(&document["Statement"]);
    let (mut allowed, mut perhaps_allowed, mut perhaps_denied) = (false, None, None);
    for (place, statement) in statements.iter().enumerate() {
        let name = statement["Sid"].as_str().map_or_else(|| format!("statement {}", place + 1), str::to_owned);
        let denies = statement["Effect"] == "Deny";
        match (applies(statement, request), denies) {
            (Ok(false), _) => {}
            (Ok(true), true) => return Answer::Denied { statement: name },
            (Ok(true), false) => allowed = true,
            (Err(what), true) => perhaps_denied = Some(format!("{what} in {name}")),
            (Err(what), false) => perhaps_allowed = Some(format!("{what} in {name}")),
        }
    }
    // Unsupported statements may apply or not: only a result that is the same either way is certain.
    match (allowed, perhaps_allowed, perhaps_denied) {
        (true, _, None) => Answer::Allowed,
        (true, _, Some(what)) | (false, Some(what), _) => Answer::Unclear(what),
        (false, None, _) => Answer::NotAllowed,
    }
}

/// Whether a statement applies to a request.
fn applies(statement: &Value, request: &Request<'_>) -> Result<bool, String> {
    for unknown in ["NotPrincipal", "NotAction", "NotResource"] {
        if !statement[unknown].is_null() {
            return Err(unknown.to_owned());
        }
    }
    let principal = &statement["Principal"];
    let everybody = *principal == "*" || several(&principal["AWS"]).iter().any(|one| *one == "*");
    let named = several(&principal["Service"]).iter().any(|one| *one == request.service || *one == "*");
    // The case of actions does not matter.
    let action = several(&statement["Action"])
        .iter()
        .filter_map(Value::as_str)
        .any(|pattern| like(&pattern.to_ascii_lowercase(), &request.action.to_ascii_lowercase()));
    let resources = several(&statement["Resource"]);
    let resource =
        resources.is_empty() || resources.iter().any(|one| one.as_str().is_some_and(|p| like(p, request.resource)));
    if !(everybody || named) || !action || !resource {
        return Ok(false);
    }
    let mut holds = true;
    for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
        for (key, wanted) in keys.as_object().into_iter().flatten() {
            let known = match key.to_ascii_lowercase().as_str() {
                "aws:sourcearn" => request.source,
                "aws:sourceaccount" | "aws:sourceowner" => request.account,
                "aws:securetransport" | "aws:principalisawsservice" => "true",
                "aws:principalservicename" => request.service,
                // Services have no ARN to compare with.
                "aws:principalarn" => "",
                _ => return Err(format!("condition key {key}")),
            };
            let wanted: Vec<String> = several(wanted).iter().map(plain).collect();
            let any = |matches: &dyn Fn(&str) -> bool| wanted.iter().any(|wanted| matches(wanted));
            holds &= match operator.strip_suffix("IfExists").unwrap_or(operator) {
                "StringEquals" => any(&|wanted| wanted == known),
                "StringNotEquals" => !any(&|wanted| wanted == known),
                "Bool" | "StringEqualsIgnoreCase" => any(&|wanted| wanted.eq_ignore_ascii_case(known)),
                "StringLike" | "ArnLike" | "ArnEquals" => any(&|wanted| like(wanted, known)),
                "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => !any(&|wanted| like(wanted, known)),
                _ => return Err(format!("condition operator {operator}")),
            };
        }
    }
    Ok(holds)
}

/// One value or a list of them.
pub(crate) fn several(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.clone(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => vec![value.clone()],
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a text matches a pattern with `*` and `?`.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // The position after the last star, and how much of the text the star has matched.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            Some(_) | None => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const QUEUE: &str = "arn:aws:sqs:eu-west-1:123456789012:mail-events";
    const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:mail-events";

    fn ask(statements: &Value) -> Answer {
        let request = Request {
            service: "sns.amazonaws.com",
            action: "sqs:SendMessage",
            resource: QUEUE,
            source: TOPIC,
            account: "123456789012",
        };
        may(Some(&json!({ "Statement": statements }).to_string()), &request)
    }

    fn allow(field: &str, value: Value) -> Value {
        let mut statement = json!({ "Sid": "A", "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage", "Resource": QUEUE, "Condition": { "ArnEquals": { "aws:SourceArn": TOPIC } } });
        if !field.is_empty() {
            statement[field] = value;
        }
        statement
    }

    #[test]
    fn what_a_statement_allows_hangs_on_all_its_parts() {
        let condition = |operator: &str, key: &str, value: Value| {
            let mut condition = json!({});
            condition[operator][key] = value;
            allow("Condition", condition)
        };
        for (statement, allowed) in [
            (allow("", Value::Null), true),
            (allow("Principal", json!("*")), true),
            (allow("Principal", json!({ "AWS": ["*"] })), true),
            (allow("Principal", json!({ "Service": ["ses.amazonaws.com", "sns.amazonaws.com"] })), true),
            (allow("Principal", json!({ "Service": "ses.amazonaws.com" })), false),
            (allow("Principal", json!({ "AWS": "arn:aws:iam::123456789012:root" })), false),
            (allow("Action", json!(["SQS:sendmessage"])), true),
            (allow("Action", json!("sqs:*")), true),
            (allow("Action", json!("sqs:ReceiveMessage")), false),
            (allow("Resource", json!("*")), true),
            (allow("Resource", json!("arn:aws:sqs:*:123456789012:mail-?vents")), true),
            (allow("Resource", json!("arn:aws:sqs:eu-west-1:123456789012:other")), false),
            (allow("Condition", Value::Null), true),
            (condition("ArnLike", "AWS:SourceArn", json!(["arn:x", "arn:aws:sns:*:*:mail-*"])), true),
            (condition("ArnEquals", "aws:SourceArn", json!("arn:aws:sns:eu-west-1:123456789012:old")), false),
            (condition("StringEquals", "aws:SourceAccount", json!("123456789012")), true),
            (condition("StringEquals", "aws:SourceAccount", json!(["999999999999"])), false),
            (condition("Bool", "aws:SecureTransport", json!("true")), true),
            (condition("Bool", "aws:SecureTransport", json!(false)), false),
            (condition("StringNotEquals", "aws:SourceAccount", json!("123456789012")), false),
        ] {
            let expected = if allowed { Answer::Allowed } else { Answer::NotAllowed };
            assert_eq!(ask(&json!([statement])), expected, "{statement}");
        }
    }

    #[test]
    fn a_denial_outweighs_what_is_allowed_wherever_it_stands() {
        let deny = |condition: Value| {
            json!({ "Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": QUEUE,
                "Condition": condition })
        };
        let denied = Answer::Denied { statement: "No".to_owned() };
        let everything = deny(json!({}));
        assert_eq!(ask(&json!([everything, allow("", Value::Null)])), denied);
        assert_eq!(ask(&json!([allow("", Value::Null), everything])), denied);
        let without_tls = deny(json!({ "Bool": { "aws:SecureTransport": "false" } }));
        assert_eq!(ask(&json!([allow("", Value::Null), without_tls])), Answer::Allowed);
        let strangers = deny(json!({ "Bool": { "aws:PrincipalIsAWSService": "false" } }));
        assert_eq!(ask(&json!([strangers, allow("", Value::Null)])), Answer::Allowed);
    }

    #[test]
    fn unsupported_conditions_are_unclear() {
        let of_org = json!({ "StringEquals": { "aws:PrincipalOrgID": "o-1" } });
        let unclear = Answer::Unclear("condition key aws:PrincipalOrgID in A".to_owned());
        assert_eq!(ask(&json!([allow("Condition", of_org.clone())])), unclear);
        // A statement without the condition allows it anyway.
        assert_eq!(ask(&json!([allow("Condition", of_org), allow("", Value::Null)])), Answer::Allowed);
        let deny = json!({ "Effect": "Deny", "Principal": "*", "Action": "sqs:*",
            "Condition": { "IpAddress": { "aws:SourceIp": "192.0.2.0/24" } } });
        let unclear = Answer::Unclear("condition key aws:SourceIp in statement 2".to_owned());
        assert_eq!(ask(&json!([allow("", Value::Null), deny])), unclear);
        assert!(matches!(may(Some("{"), &request()), Answer::Unclear(_)));
        assert_eq!(may(None, &request()), Answer::NotAllowed);
        assert_eq!(ask(&Value::Null), Answer::NotAllowed);
    }

    fn request() -> Request<'static> {
        Request { service: "s", action: "a:B", resource: "r", source: "x", account: "1" }
    }

    #[test]
    fn patterns_know_stars_and_question_marks() {
        for (pattern, text, expected) in
            [("*", "", true), ("a*c", "abbc", true), ("a*c", "abcd", false), ("*b*b", "abab", true), ("a?", "a", false)]
        {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
