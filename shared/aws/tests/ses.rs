//! `SesControl`: the real SDK against answers as SES documents them. Time stands still unless it is waited for, so that
//! the second between two calls costs nothing here.

mod recorded;

use std::time::Duration;

use aws::clients::Clients;
use aws::ses::{SesControl, Signature};
use pipeline::control::Flow;
use pipeline::ports::{ControlError, DedicatedIps as _, Mark, SendingControl, Sight, WarmupPercentage};
use recorded::{Answer, Recorded};
use reputation::subject::Subject;

const CONFIGURATION_SET: &str = include_str!("fixtures/ses/get-configuration-set.json");
const ACCOUNT: &str = include_str!("fixtures/ses/get-account.json");
const TENANT: &str = include_str!("fixtures/ses/get-tenant.json");

fn control(answers: impl IntoIterator<Item = Answer>) -> (SesControl, Recorded) {
    let ses = Recorded::new(answers);
    (SesControl::new(&Clients::over(ses.clone())), ses)
}

fn body(text: impl Into<String>) -> Answer {
    Answer::Body(text.into())
}

fn error(status: u16, code: &'static str) -> Answer {
    Answer::Error(status, code, r#"{"message":"why"}"#.to_owned())
}

/// Longer than anybody waits.
fn silent() -> Answer {
    Answer::After(Duration::from_secs(3_600), Box::new(body("{}")))
}

fn entity(customer: &str, aws: &str) -> Answer {
    let text = include_str!("fixtures/ses/get-reputation-entity.json");
    body(text.replace("{customer}", customer).replace("{aws}", aws))
}

fn news() -> Subject {
    Subject::ConfigurationSet("news".into())
}

fn shop() -> Subject {
    Subject::Tenant("shop".into())
}

/// Without a mark, and nothing to leave one with.
fn plain(flow: Flow) -> Result<Sight, ControlError> {
    Ok(Sight { flow, mark: Mark::Unsupported })
}

fn denied(words: &str, answer: Result<Sight, ControlError>) {
    assert!(matches!(&answer, Err(ControlError::Denied(why)) if why.contains(words)), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_set_says_whether_it_may_send() {
    for (text, expected) in [
        (CONFIGURATION_SET.to_owned(), Flow::Flowing),
        (CONFIGURATION_SET.replace(r#""SendingEnabled": true"#, r#""SendingEnabled": false"#), Flow::Stopped),
    ] {
        let (mut control, ses) = control([body(text)]);
        assert_eq!(control.flow(&news()).await, plain(expected));
        assert_eq!(ses.requests(), "GET /v2/email/configuration-sets/news");
        assert!(ses.header("authorization").is_some_and(|header| header.contains("/eu-west-1/ses/aws4_request")));
    }
    let (mut control, _) = control([body(r#"{"ConfigurationSetName":"news"}"#)]);
    denied("no SendingOptions of news", control.flow(&news()).await);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_set_is_stopped_and_resumed() {
    let (mut control, ses) = control([body("{}"), body("")]);
    assert_eq!(control.set_flow(&news(), Flow::Stopped).await, Ok(()));
    assert_eq!(control.set_flow(&news(), Flow::Flowing).await, Ok(()));
    insta::assert_snapshot!(ses.requests(), @r#"
    PUT /v2/email/configuration-sets/news/sending {"SendingEnabled":false}
    PUT /v2/email/configuration-sets/news/sending {"SendingEnabled":true}
    "#);
}

fn signing(answers: impl IntoIterator<Item = Answer>) -> (SesControl, Recorded) {
    let (control, ses) = control(answers);
    let signature = Signature::new("ses-breaker", "arn:aws:sns:eu-west-1:123456789012:ses-breaker-alerts");
    assert!(signature.is_some());
    (control.signing(signature), ses)
}

fn tagged(stack: &str) -> Answer {
    let team = r#"{ "Key": "team", "Value": "news" }"#;
    let ours = format!(r#"{team}, {{ "Key": "ses-breaker:stopped-by", "Value": "{stack}" }}"#);
    assert!(CONFIGURATION_SET.contains(team));
    body(CONFIGURATION_SET.replace(team, &ours))
}

#[tokio::test(start_paused = true)]
async fn the_mark_comes_with_the_look_and_names_the_stack() {
    for (stack, expected) in [
        ("ses-breaker", Mark::Ours),
        ("ses-breaker-test", Mark::Other("ses-breaker-test".to_owned())),
        ("", Mark::Emptied),
    ] {
        let (mut control, ses) = signing([tagged(stack)]);
        assert_eq!(control.flow(&news()).await, Ok(Sight { flow: Flow::Flowing, mark: expected }));
        assert_eq!(ses.requests(), "GET /v2/email/configuration-sets/news");
    }
    // A tag that was removed differs from one that a stack has emptied.
    let (mut signed, _) = signing([body(CONFIGURATION_SET)]);
    assert_eq!(signed.flow(&news()).await, Ok(Sight { flow: Flow::Flowing, mark: Mark::Absent }));
    // Also one that leaves none sees those of others.
    let (mut unsigned, _) = control([tagged("ses-breaker-test")]);
    let other = Mark::Other("ses-breaker-test".to_owned());
    assert_eq!(unsigned.flow(&news()).await, Ok(Sight { flow: Flow::Flowing, mark: other }));
}

#[tokio::test(start_paused = true)]
async fn a_configuration_set_is_marked_and_the_mark_is_emptied() {
    let (mut control, ses) = signing([body("{}"), body("{}")]);
    assert_eq!(control.mark(&news(), true).await, Ok(()));
    assert_eq!(control.mark(&news(), false).await, Ok(()));
    // What can carry none takes no call.
    assert_eq!(control.mark(&shop(), true).await, Ok(()));
    assert_eq!(control.mark(&Subject::Account, true).await, Ok(()));
    insta::assert_snapshot!(ses.requests(), @r#"
    POST /v2/email/tags {"ResourceArn":"arn:aws:ses:eu-west-1:123456789012:configuration-set/news","Tags":[{"Key":"ses-breaker:stopped-by","Value":"ses-breaker"}]}
    POST /v2/email/tags {"ResourceArn":"arn:aws:ses:eu-west-1:123456789012:configuration-set/news","Tags":[{"Key":"ses-breaker:stopped-by","Value":""}]}
    "#);
}

#[tokio::test(start_paused = true)]
async fn where_ses_denies_the_mark_it_is_done_without() {
    let (mut control, ses) = signing([
        error(429, "TooManyRequestsException"),
        error(403, "AccessDeniedException"),
        body(CONFIGURATION_SET),
        tagged("ses-breaker-test"),
    ]);
    assert!(matches!(control.mark(&news(), true).await, Err(ControlError::Throttled(_))));
    assert_eq!(control.mark(&news(), true).await, Ok(()));
    assert_eq!(control.mark(&news(), true).await, Ok(()));
    assert_eq!(control.flow(&news()).await, plain(Flow::Flowing));
    let other = Mark::Other("ses-breaker-test".to_owned());
    assert_eq!(control.flow(&news()).await, Ok(Sight { flow: Flow::Flowing, mark: other }));
    assert_eq!(ses.requests().lines().count(), 4);
}

#[test]
fn a_mark_is_signed_only_with_all_that_its_arn_takes() {
    let topic = "arn:aws-cn:sns:cn-north-1:123456789012:alerts";
    assert!(Signature::new("ses-breaker", topic).is_some());
    for (stack, arn) in [("", topic), ("ses-breaker", ""), ("ses-breaker", "alerts"), ("ses-breaker", "arn:aws:s3:::x")]
    {
        assert_eq!(Signature::new(stack, arn), None);
    }
}

#[tokio::test(start_paused = true)]
async fn the_account_is_looked_at_stopped_and_resumed() {
    let paused = ACCOUNT.replace(r#""SendingEnabled": true"#, r#""SendingEnabled": false"#);
    let (mut control, ses) = control([body(ACCOUNT), body("{}"), body(paused), body("{}")]);
    assert_eq!(control.flow(&Subject::Account).await, plain(Flow::Flowing));
    assert_eq!(control.set_flow(&Subject::Account, Flow::Stopped).await, Ok(()));
    assert_eq!(control.flow(&Subject::Account).await, plain(Flow::Stopped));
    assert_eq!(control.set_flow(&Subject::Account, Flow::Flowing).await, Ok(()));
    insta::assert_snapshot!(ses.requests(), @r#"
    GET /v2/email/account
    PUT /v2/email/account/sending {"SendingEnabled":false}
    GET /v2/email/account
    PUT /v2/email/account/sending {"SendingEnabled":true}
    "#);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_aws_has_paused_is_out_of_our_hands() {
    for sending in ["true", "false"] {
        let text = ACCOUNT.replace("HEALTHY", "SHUTDOWN");
        let text = text.replace(r#""SendingEnabled": true"#, &format!(r#""SendingEnabled": {sending}"#));
        let (mut control, _) = control([body(text)]);
        denied("only AWS lifts that", control.flow(&Subject::Account).await);
    }
    for status in ["PROBATION", "SOMETHING_NEW"] {
        let (mut control, _) = control([body(ACCOUNT.replace("HEALTHY", status))]);
        assert_eq!(control.flow(&Subject::Account).await, plain(Flow::Flowing));
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_customers_own_status_stops_a_tenant() {
    for (customer, aws, expected) in [
        ("ENABLED", "ENABLED", Flow::Flowing),
        ("DISABLED", "ENABLED", Flow::Stopped),
        ("ENABLED", "DISABLED", Flow::Flowing),
        ("DISABLED", "DISABLED", Flow::Stopped),
        ("REINSTATED", "ENABLED", Flow::Flowing),
        ("REINSTATED", "DISABLED", Flow::Flowing),
        ("ENABLED", "SOMETHING_NEW", Flow::Flowing),
    ] {
        let (mut control, _) = control([body(TENANT), entity(customer, aws)]);
        assert_eq!(control.flow(&shop()).await, plain(expected), "{customer} {aws}");
    }
    let (mut control, _) = control([body(TENANT), entity("FROZEN", "ENABLED")]);
    denied("status `FROZEN`; known: DISABLED, ENABLED, REINSTATED", control.flow(&shop()).await);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_nobody_ever_switched_flows() {
    let (mut control, _) = control([body(TENANT), body(r#"{"ReputationEntity":{"ReputationEntityType":"RESOURCE"}}"#)]);
    assert_eq!(control.flow(&shop()).await, plain(Flow::Flowing));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_stopped_and_resumed_and_its_arn_is_asked_for_once() {
    let answers = [body(TENANT), entity("ENABLED", "ENABLED"), body("{}"), entity("DISABLED", "ENABLED"), body("{}")];
    let (mut control, ses) = control(answers);
    assert_eq!(control.flow(&shop()).await, plain(Flow::Flowing));
    assert_eq!(control.set_flow(&shop(), Flow::Stopped).await, Ok(()));
    assert_eq!(control.flow(&shop()).await, plain(Flow::Stopped));
    assert_eq!(control.set_flow(&shop(), Flow::Flowing).await, Ok(()));
    insta::assert_snapshot!(ses.requests(), @r#"
    POST /v2/email/tenants/get {"TenantName":"shop"}
    GET /v2/email/reputation/entities/RESOURCE/arn%3Aaws%3Ases%3Aeu-west-1%3A123456789012%3Atenant%2Fshop%2Ftn-1f2e3d4c
    PUT /v2/email/reputation/entities/RESOURCE/arn%3Aaws%3Ases%3Aeu-west-1%3A123456789012%3Atenant%2Fshop%2Ftn-1f2e3d4c/customer-managed-status {"SendingStatus":"DISABLED"}
    GET /v2/email/reputation/entities/RESOURCE/arn%3Aaws%3Ases%3Aeu-west-1%3A123456789012%3Atenant%2Fshop%2Ftn-1f2e3d4c
    PUT /v2/email/reputation/entities/RESOURCE/arn%3Aaws%3Ases%3Aeu-west-1%3A123456789012%3Atenant%2Fshop%2Ftn-1f2e3d4c/customer-managed-status {"SendingStatus":"ENABLED"}
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_was_created_again_is_found_under_its_new_arn() {
    let again = TENANT.replace("tn-1f2e3d4c", "tn-99999999");
    let (mut control, ses) = control([
        body(TENANT),
        entity("ENABLED", "ENABLED"),
        error(404, "NotFoundException"),
        body(again),
        entity("ENABLED", "ENABLED"),
    ]);
    assert_eq!(control.flow(&shop()).await, plain(Flow::Flowing));
    assert_eq!(control.flow(&shop()).await, plain(Flow::Flowing));
    assert!(ses.requests().ends_with("tn-99999999"), "{}", ses.requests());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_gone_is_gone() {
    let (mut gone, _) = control([error(404, "NotFoundException")]);
    assert_eq!(gone.flow(&shop()).await, Err(ControlError::Gone));

    let answers = [body(TENANT), entity("ENABLED", "ENABLED")];
    let (mut deleted, _) = control(answers.into_iter().chain(vec![error(404, "NotFoundException"); 3]));
    assert_eq!(deleted.flow(&shop()).await, plain(Flow::Flowing));
    let stopped = deleted.set_flow(&shop(), Flow::Stopped).await;
    assert!(matches!(stopped, Err(ControlError::Failed(_))), "{stopped:?}");
    assert_eq!(deleted.flow(&shop()).await, Err(ControlError::Gone));

    let (mut unknown, _) = control([body(TENANT), error(404, "NotFoundException")]);
    denied("which GetTenant knows", unknown.flow(&shop()).await);
}

#[tokio::test(start_paused = true)]
async fn each_error_of_ses_has_one_meaning() {
    let mut lines = Vec::new();
    for answer in [
        error(404, "NotFoundException"),
        error(429, "TooManyRequestsException"),
        error(400, "ThrottlingException"),
        error(409, "ConflictException"),
        error(500, "ConcurrentModificationException"),
        error(500, "InternalServiceErrorException"),
        error(503, "ServiceUnavailable"),
        error(403, "AccessDeniedException"),
        error(403, "ExpiredTokenException"),
        error(400, "BadRequestException"),
        Answer::Error(404, "", "<html>no such page</html>".to_owned()),
        Answer::Error(502, "", "<html>bad gateway</html>".to_owned()),
        body("<html>"),
        silent(),
    ] {
        let (mut asked, _) = control([answer.clone()]);
        let flow = asked.flow(&news()).await.unwrap_err();
        let (mut reported, _) = control([answer]);
        let set = reported.set_flow(&news(), Flow::Stopped).await;
        // An answer to a PUT has nothing that could be unreadable.
        assert!(set == Err(flow.clone()) || set == Ok(()), "{set:?} {flow:?}");
        lines.push(flow.to_string());
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    SES does not know it
    SES throttles: TooManyRequestsException: why (request R1)
    SES throttles: ThrottlingException: why (request R1)
    SES fails: ConflictException: why (request R1)
    SES fails: ConcurrentModificationException: why (request R1)
    SES fails: InternalServiceErrorException: why (request R1)
    SES fails: ServiceUnavailable: why (request R1)
    SES denies it: AccessDeniedException: why (request R1)
    SES denies it: ExpiredTokenException: why (request R1)
    SES denies it: BadRequestException: why (request R1)
    SES denies it: HTTP 404
    SES fails: HTTP 502
    SES fails: HTTP 200 that cannot be read: unhandled error: Error at offset 0: unexpected token '<'. Expected one of '{', '[', '"', 'null', 'true', 'false', <number>
    SES fails: request has timed out: operation attempt timeout (single attempt) occurred after 3s
    "#);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_switch_is_denied_without_a_call() {
    for target in ["identity:example.com", "tag:campaign=spring", "configuration-set:(none)"] {
        let (mut control, ses) = control([]);
        let target: Subject = target.parse().unwrap();
        denied(&format!("{target} has no switch at SES"), control.flow(&target).await);
        assert!(matches!(control.set_flow(&target, Flow::Stopped).await, Err(ControlError::Denied(_))));
        assert_eq!(ses.requests(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_a_second_apart_and_the_first_goes_at_once() {
    let begun = tokio::time::Instant::now();
    let (mut control, ses) = control([
        body(CONFIGURATION_SET),
        error(429, "TooManyRequestsException"),
        Answer::After(Duration::from_millis(700), Box::new(body(TENANT))),
        entity("ENABLED", "ENABLED"),
        body("{}"),
    ]);
    assert!(control.flow(&news()).await.is_ok());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(control.flow(&news()).await.is_err());
    assert!(control.flow(&shop()).await.is_ok());
    assert!(control.set_flow(&shop(), Flow::Stopped).await.is_ok());
    assert_eq!(ses.times(), [0, 1_100, 2_200, 4_000, 5_100]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_tried_once_more_in_its_own_turn() {
    let (mut control, ses) = control([Answer::Broken, body(CONFIGURATION_SET), Answer::Broken, Answer::Broken]);
    assert_eq!(control.flow(&news()).await, plain(Flow::Flowing));
    let broken = control.flow(&news()).await;
    assert!(matches!(&broken, Err(ControlError::Failed(why)) if why.contains("connection reset")), "{broken:?}");
    assert_eq!(ses.times(), [0, 1_100, 2_200, 3_300]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_given_up_counts_as_a_call() {
    let (mut control, ses) = control([silent(), body(CONFIGURATION_SET)]);
    let given_up = tokio::time::timeout(Duration::from_millis(100), control.flow(&news())).await;
    assert!(given_up.is_err());
    assert!(control.flow(&news()).await.is_ok());
    assert_eq!(ses.times(), [0, 1_100]);
}

#[tokio::test(start_paused = true)]
async fn the_warmup_percentage_of_a_dedicated_ip_is_read_and_set() {
    let known = |percent: i32, status: &str| {
        body(format!(
            r#"{{"DedicatedIp":{{"Ip":"192.0.2.1","WarmupStatus":"{status}","WarmupPercentage":{percent},"PoolName":"news"}}}}"#
        ))
    };
    let gone = error(404, "NotFoundException");
    let (mut control, ses) = control([known(40, "IN_PROGRESS"), known(-1, "NOT_APPLICABLE"), body("{}"), gone]);
    let ip = "192.0.2.1".parse().unwrap();
    assert_eq!(control.warmth(ip).await, Ok(WarmupPercentage::Percent(40)));
    assert_eq!(control.warmth(ip).await, Ok(WarmupPercentage::Managed));
    assert_eq!(control.set_warmth(ip, 55).await, Ok(()));
    assert_eq!(control.warmth(ip).await, Err(ControlError::Gone));
    insta::assert_snapshot!(ses.requests(), @r#"
    GET /v2/email/dedicated-ips/192.0.2.1
    GET /v2/email/dedicated-ips/192.0.2.1
    PUT /v2/email/dedicated-ips/192.0.2.1/warmup {"WarmupPercentage":55}
    GET /v2/email/dedicated-ips/192.0.2.1
    "#);
}
