//! What the roles of people need, on which resources; and what the caller lacks of it.
//!
//! CloudFormation makes the resources in the name of the caller, so who deploys needs the permissions for each type of
//! resource: the handlers' permissions in CloudFormation's resource schemas, without those for properties that the template
//! does not use.

use std::collections::BTreeSet;

use aws::clients::port_error;
use aws_sdk_iam::types::{EvaluationResult, PolicyEvaluationDecisionType};
use serde::Serialize;

use super::{Caller, Place, StackFailure, bucket};
use crate::Access;
use crate::asking::Asking;
use crate::failure::Failure;

/// The role of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Looks: status, explain, history, quota, digest, dashboard
    Viewer,
    /// Also acts: stop, resume, bypass, shadow, release, connect, disconnect, policy, doctor, backtest, drill
    Operator,
    /// Also runs up, deploy and down
    Deployer,
}

/// A statement of a policy that allows something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// What it is for.
    pub sid: &'static str,
    /// Always `Allow`.
    pub effect: &'static str,
    /// The actions.
    pub action: Vec<&'static str>,
    /// ARNs, or `*` where the API knows no resource.
    pub resource: Vec<String>,
}

/// A policy as IAM reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyDocument {
    /// Version of the policy language.
    pub version: &'static str,
    /// What is allowed.
    pub statement: Vec<Statement>,
}

/// The policy of a role.
pub fn policy_of(role: Role, place: &Place, named_bucket: Option<&str>) -> PolicyDocument {
    PolicyDocument { version: "2012-10-17", statement: merged(statements_of(role, place, named_bucket)) }
}

/// What a role needs, by kind of resource.
fn statements_of(role: Role, place: &Place, named_bucket: Option<&str>) -> Vec<Statement> {
    let mut statements = viewer(place);
    if role != Role::Viewer {
        statements.extend(operator(place));
    }
    if role == Role::Deployer {
        statements.extend(deployer(place, named_bucket));
    }
    statements
}

/// The statements of a deployer about what the stack itself consists of, as one, and those about no resource. Each action of the
/// first knows one kind of resource, so it allows no more; and IAM's limits count characters.
fn merged(statements: Vec<Statement>) -> Vec<Statement> {
    let (own, others): (Vec<Statement>, Vec<Statement>) =
        statements.into_iter().partition(|statement| OF_STACK.contains(&statement.sid));
    if own.is_empty() {
        return others;
    }
    let (anywhere, mut others): (Vec<Statement>, Vec<Statement>) =
        others.into_iter().partition(|statement| statement.resource == everything());
    others.extend([as_one("Anywhere", anywhere), as_one("Stack", own)]);
    others
}

fn as_one(sid: &'static str, statements: Vec<Statement>) -> Statement {
    let actions: BTreeSet<&'static str> =
        statements.iter().flat_map(|statement| statement.action.iter().copied()).collect();
    let resources: BTreeSet<String> = statements.into_iter().flat_map(|statement| statement.resource).collect();
    let resource: Vec<String> = resources.into_iter().collect();
    allow(sid, &actions.into_iter().collect::<Vec<_>>(), &resource)
}

/// Statements of a deployer that are printed as one.
const OF_STACK: [&str; 16] = [
    "MakeBucket",
    "UploadCode",
    "ChangeStack",
    "Transform",
    "Tables",
    "Key",
    "KeyAlias",
    "Topics",
    "Subscriptions",
    "Queues",
    "Rules",
    "Functions",
    "Roles",
    "ManagedPolicies",
    "Logs",
    "Alarms",
];

fn allow(sid: &'static str, action: &[&'static str], resource: &[String]) -> Statement {
    Statement { sid, effect: "Allow", action: action.to_vec(), resource: resource.to_vec() }
}

/// ARNs of a stack's resources.
struct Arns<'a>(&'a Place);

impl Arns<'_> {
    fn of(&self, service: &str, name: &str) -> String {
        let Place { partition, region, account, .. } = self.0;
        format!("arn:{partition}:{service}:{region}:{account}:{name}")
    }

    /// With the stack's name before `-` and what follows.
    fn own(&self, service: &str, kind: &str, rest: &str) -> String {
        self.of(service, &format!("{kind}{}-{rest}", self.0.stack))
    }

    fn iam(&self, kind: &str) -> String {
        let Place { partition, account, stack, .. } = self.0;
        format!("arn:{partition}:iam::{account}:{kind}/{stack}-*")
    }
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

fn viewer(place: &Place) -> Vec<Statement> {
    let arns = Arns(place);
    vec![
        allow("ReadRates", &["dynamodb:GetItem", "dynamodb:Query"], &[arns.own("dynamodb", "table/", "reputation")]),
        allow("ReadTables", &["kms:Decrypt"], &[arns.of("kms", "key/*")]),
    ]
}

fn operator(place: &Place) -> Vec<Statement> {
    let arns = Arns(place);
    let table = |name: &str| arns.own("dynamodb", "table/", name);
    vec![
        allow(
            "GiveCommands",
            &["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"],
            &[table("reputation")],
        ),
        allow("WriteTables", &["kms:Encrypt", "kms:GenerateDataKey"], &[arns.of("kms", "key/*")]),
        allow("ExamineTable", &["dynamodb:DescribeTable"], &[table("reputation")]),
        allow("Backtest", &["dynamodb:Scan"], &[table("ledger")]),
        allow(
            "Connect",
            &[
                "ses:GetConfigurationSetEventDestinations",
                "ses:CreateConfigurationSetEventDestination",
                "ses:UpdateConfigurationSetEventDestination",
                "ses:DeleteConfigurationSetEventDestination",
                "ses:GetConfigurationSet",
            ],
            &[arns.of("ses", "configuration-set/*")],
        ),
        allow("LookAtTenants", &["ses:GetTenant", "ses:GetReputationEntity"], &[arns.of("ses", "tenant/*")]),
        allow(
            "ListSes",
            &["ses:GetAccount", "ses:GetDedicatedIp", "ses:ListConfigurationSets", "ses:ListEmailIdentities"],
            &everything(),
        ),
        allow("ExamineIdentities", &["ses:GetEmailIdentity"], &[arns.of("ses", "identity/*")]),
        allow(
            "MakeDrill",
            &["ses:CreateConfigurationSet", "ses:DeleteConfigurationSet"],
            &[arns.of("ses", "configuration-set/ses-breaker-drill-*")],
        ),
        allow(
            "SendDrill",
            &["ses:SendEmail"],
            &[arns.of("ses", "configuration-set/ses-breaker-drill-*"), arns.of("ses", "identity/*")],
        ),
        allow(
            "ExamineTopics",
            &["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:GetSubscriptionAttributes"],
            &[arns.of("sns", "*")],
        ),
        allow(
            "ExamineQueues",
            &["sqs:GetQueueUrl", "sqs:GetQueueAttributes"],
            &[arns.own("sqs", "", "events"), arns.own("sqs", "", "events-dead")],
        ),
        allow("ExamineSources", &["lambda:ListEventSourceMappings"], &everything()),
        allow("ExamineFunctions", &["lambda:GetFunctionConcurrency"], &[arns.of("lambda", "function:*")]),
        allow("ExamineRules", &["events:DescribeRule"], &[arns.own("events", "rule/", "*")]),
    ]
}

fn deployer(place: &Place, named_bucket: Option<&str>) -> Vec<Statement> {
    let arns = Arns(place);
    let partition = &place.partition;
    let bucket = named_bucket.map_or_else(|| bucket::name_of(place), str::to_owned);
    let stack = arns.of("cloudformation", &format!("stack/{}/*", place.stack));
    let serverless = format!("arn:{partition}:cloudformation:{}:aws:transform/Serverless-2016-10-31", place.region);
    let mut bucket_actions = vec!["s3:ListBucket"];
    if named_bucket.is_none() {
        bucket_actions.extend(["s3:CreateBucket", "s3:DeleteBucket", "s3:PutBucketPublicAccessBlock"]);
    }
    vec![
        allow(
            "ResumeSets",
            &["ses:PutConfigurationSetSendingOptions", "ses:TagResource"],
            &[arns.of("ses", "configuration-set/*")],
        ),
        allow("ResumeTenants", &["ses:UpdateReputationEntityCustomerManagedStatus"], &[arns.of("ses", "tenant/*")]),
        allow("ReadLimits", &["lambda:GetAccountSettings"], &everything()),
        allow("ResumeAccount", &["ses:PutAccountSendingAttributes"], &everything()),
        allow(
            "AskWhoMayWhat",
            &["iam:GetRole", "iam:SimulatePrincipalPolicy"],
            &[format!("arn:{partition}:iam::{}:*", place.account)],
        ),
        allow("MakeBucket", &bucket_actions, &[format!("arn:{partition}:s3:::{bucket}")]),
        allow(
            "UploadCode",
            &["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            &[format!("arn:{partition}:s3:::{bucket}/{}/*", place.stack)],
        ),
        allow(
            "ChangeStack",
            &[
                "cloudformation:ContinueUpdateRollback",
                "cloudformation:CreateChangeSet",
                "cloudformation:DeleteChangeSet",
                "cloudformation:DeleteStack",
                "cloudformation:DescribeChangeSet",
                "cloudformation:DescribeStackEvents",
                "cloudformation:DescribeStacks",
                "cloudformation:ExecuteChangeSet",
                "cloudformation:ListChangeSets",
            ],
            &[stack],
        ),
        allow("Transform", &["cloudformation:CreateChangeSet"], &[serverless]),
        // With HoldMail=true. A statement of its own: merged with that of the code, it would allow to read the mail.
        allow(
            "HeldMail",
            &[
                "s3:CreateBucket",
                "s3:DeleteBucket",
                "s3:DeleteBucketPolicy",
                "s3:GetBucketPolicy",
                "s3:PutBucketOwnershipControls",
                "s3:PutBucketPolicy",
                "s3:PutBucketPublicAccessBlock",
                "s3:PutEncryptionConfiguration",
                "s3:PutLifecycleConfiguration",
            ],
            &[format!("arn:{partition}:s3:::{}-heldmailbucket-*", place.stack.to_lowercase())],
        ),
        allow("FindDeletedStack", &["cloudformation:ListStacks"], &everything()),
        allow(
            "Tables",
            &[
                "dynamodb:CreateTable",
                "dynamodb:DeleteTable",
                "dynamodb:DescribeContinuousBackups",
                "dynamodb:DescribeContributorInsights",
                "dynamodb:DescribeKinesisStreamingDestination",
                "dynamodb:DescribeTable",
                "dynamodb:DescribeTimeToLive",
                "dynamodb:GetResourcePolicy",
                "dynamodb:ListTagsOfResource",
                "dynamodb:TagResource",
                "dynamodb:UntagResource",
                "dynamodb:UpdateContinuousBackups",
                "dynamodb:UpdateTable",
                "dynamodb:UpdateTimeToLive",
            ],
            &[arns.own("dynamodb", "table/", "ledger"), arns.own("dynamodb", "table/", "reputation")],
        ),
        allow("MakeKey", &["kms:CreateKey", "kms:ListAliases"], &everything()),
        allow(
            "Key",
            &[
                "kms:CreateGrant",
                "kms:DescribeKey",
                "kms:EnableKeyRotation",
                "kms:GetKeyPolicy",
                "kms:GetKeyRotationStatus",
                "kms:ListResourceTags",
                "kms:PutKeyPolicy",
                "kms:ScheduleKeyDeletion",
                "kms:TagResource",
                "kms:UntagResource",
                "kms:UpdateKeyDescription",
            ],
            &[arns.of("kms", "key/*")],
        ),
        allow(
            "KeyAlias",
            &["kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias"],
            &[arns.of("kms", &format!("alias/{}", place.stack)), arns.of("kms", "key/*")],
        ),
        allow(
            "Topics",
            &[
                "sns:CreateTopic",
                "sns:DeleteTopic",
                "sns:GetDataProtectionPolicy",
                "sns:GetTopicAttributes",
                "sns:ListSubscriptionsByTopic",
                "sns:ListTagsForResource",
                "sns:SetTopicAttributes",
                "sns:Subscribe",
                "sns:TagResource",
                "sns:UntagResource",
            ],
            // The others are alerts, chat and held-mail: named one by one, the policy is longer than IAM allows.
            &[arns.own("sns", "", "events"), arns.own("sns", "", "*")],
        ),
        allow(
            "Subscriptions",
            &["sns:GetSubscriptionAttributes", "sns:SetSubscriptionAttributes", "sns:Unsubscribe"],
            &[arns.own("sns", "", "*")],
        ),
        allow(
            "Queues",
            &[
                "sqs:CreateQueue",
                "sqs:DeleteQueue",
                "sqs:GetQueueAttributes",
                "sqs:GetQueueUrl",
                "sqs:ListQueueTags",
                "sqs:SetQueueAttributes",
                "sqs:TagQueue",
                "sqs:UntagQueue",
            ],
            &[arns.own("sqs", "", "events"), arns.own("sqs", "", "events-dead")],
        ),
        allow(
            "Rules",
            &[
                "events:DeleteRule",
                "events:DescribeRule",
                "events:ListTagsForResource",
                "events:ListTargetsByRule",
                "events:PutRule",
                "events:PutTargets",
                "events:RemoveTargets",
                "events:TagResource",
                "events:UntagResource",
            ],
            &[arns.own("events", "rule/", "*")],
        ),
        allow(
            "Functions",
            &[
                "lambda:AddPermission",
                "lambda:CreateFunction",
                "lambda:CreateFunctionUrlConfig",
                "lambda:DeleteFunction",
                "lambda:DeleteFunctionConcurrency",
                "lambda:DeleteFunctionEventInvokeConfig",
                "lambda:DeleteFunctionUrlConfig",
                "lambda:GetFunction",
                "lambda:GetFunctionCodeSigningConfig",
                "lambda:GetFunctionEventInvokeConfig",
                "lambda:GetFunctionRecursionConfig",
                "lambda:GetFunctionScalingConfig",
                "lambda:GetFunctionUrlConfig",
                "lambda:GetPolicy",
                "lambda:GetRuntimeManagementConfig",
                "lambda:ListTags",
                "lambda:PutFunctionConcurrency",
                "lambda:PutFunctionEventInvokeConfig",
                "lambda:RemovePermission",
                "lambda:TagResource",
                "lambda:UntagResource",
                "lambda:UpdateFunctionCode",
                "lambda:UpdateFunctionConfiguration",
                "lambda:UpdateFunctionEventInvokeConfig",
                "lambda:UpdateFunctionUrlConfig",
            ],
            &[arns.own("lambda", "function:", "*")],
        ),
        allow("MakeEventSources", &["lambda:CreateEventSourceMapping"], &everything()),
        allow(
            "EventSources",
            &[
                "lambda:DeleteEventSourceMapping",
                "lambda:GetEventSourceMapping",
                "lambda:ListTags",
                "lambda:TagResource",
                "lambda:UntagResource",
                "lambda:UpdateEventSourceMapping",
            ],
            &[arns.of("lambda", "event-source-mapping:*")],
        ),
        allow(
            "Roles",
            &[
                "iam:AttachRolePolicy",
                "iam:CreateRole",
                "iam:DeleteRole",
                "iam:DeleteRolePolicy",
                "iam:DetachRolePolicy",
                "iam:GetRole",
                "iam:GetRolePolicy",
                "iam:ListAttachedRolePolicies",
                "iam:ListRolePolicies",
                "iam:PassRole",
                "iam:PutRolePolicy",
                "iam:TagRole",
                "iam:UntagRole",
                "iam:UpdateAssumeRolePolicy",
                "iam:UpdateRole",
                "iam:UpdateRoleDescription",
            ],
            &[arns.iam("role")],
        ),
        allow(
            "ManagedPolicies",
            &[
                "iam:CreatePolicy",
                "iam:CreatePolicyVersion",
                "iam:DeletePolicy",
                "iam:DeletePolicyVersion",
                "iam:GetPolicy",
                "iam:GetPolicyVersion",
                "iam:ListEntitiesForPolicy",
                "iam:ListPolicyVersions",
            ],
            &[arns.iam("policy")],
        ),
        allow(
            "ListLogs",
            &["logs:DescribeLogGroups", "logs:DescribeIndexPolicies", "logs:DescribeResourcePolicies"],
            &everything(),
        ),
        allow(
            "Logs",
            &[
                "logs:CreateLogGroup",
                "logs:DeleteLogGroup",
                "logs:DeleteRetentionPolicy",
                "logs:GetDataProtectionPolicy",
                "logs:ListTagsForResource",
                "logs:PutRetentionPolicy",
                "logs:TagResource",
                "logs:UntagResource",
            ],
            &[arns.own("logs", "log-group:/aws/lambda/", "*")],
        ),
        allow(
            "Alarms",
            &[
                "cloudwatch:DeleteAlarms",
                "cloudwatch:DescribeAlarms",
                "cloudwatch:ListTagsForResource",
                "cloudwatch:PutMetricAlarm",
                "cloudwatch:TagResource",
                "cloudwatch:UntagResource",
            ],
            &[arns.own("cloudwatch", "alarm:", "*")],
        ),
        allow(
            "Dashboard",
            &["cloudwatch:DeleteDashboards", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard"],
            &[format!("arn:{partition}:cloudwatch::{}:dashboard/{}-*", place.account, place.stack)],
        ),
    ]
}

/// Checks that the caller has what a deployment needs, before anything is created, as far as IAM can tell. The account's root
/// user has everything. Says so if nothing can be checked: who may not ask may still deploy.
pub(crate) async fn check(
    access: &Access,
    caller: &Caller,
    named_bucket: Option<&str>,
    asking: &Asking<'_>,
) -> Result<(), Failure> {
    let place = &caller.place;
    let iam = aws_sdk_iam::Client::new(access.clients.config());
    let unchecked = |why: &str| (asking.line)(&format!("permissions could not be checked first: {why}"));
    let principal = match principal(&iam, &caller.arn).await {
        Principal::Known(arn) => arn,
        Principal::Root => return Ok(()),
        Principal::Unknown(why) => {
            unchecked(&why);
            return Ok(());
        }
    };
    let mut missing = BTreeSet::new();
    for statement in statements_of(Role::Deployer, place, named_bucket) {
        let actions = statement.action.iter().map(|action| (*action).to_owned()).collect();
        let request = iam.simulate_principal_policy().policy_source_arn(&principal).set_action_names(Some(actions));
        // A pattern is a resource, too, for the simulator.
        let mut pages = request.set_resource_arns(Some(statement.resource.clone())).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) if is_denied(&error) => {
                    unchecked("the caller lacks iam:SimulatePrincipalPolicy");
                    return Ok(());
                }
                Err(error) => return Err(access.refused(port_error("checking permissions", &error))),
            };
            missing.extend(page.evaluation_results().iter().flat_map(denied));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(StackFailure::Permissions { caller: caller.arn.clone(), missing: missing.into_iter().collect() }.into())
}

/// What one action is denied on. A result is about all resources that were asked about, and has one more for each of them.
fn denied(result: &EvaluationResult) -> Vec<String> {
    let of = |resource: &str| format!("{} on {resource}", result.eval_action_name());
    let by_resource = result.resource_specific_results();
    if !by_resource.is_empty() {
        let denied =
            by_resource.iter().filter(|one| *one.eval_resource_decision() != PolicyEvaluationDecisionType::Allowed);
        return denied.map(|one| of(one.eval_resource_name())).collect();
    }
    match *result.eval_decision() == PolicyEvaluationDecisionType::Allowed {
        true => Vec::new(),
        false => vec![of(result.eval_resource_name().unwrap_or("*"))],
    }
}

fn is_denied<E: aws_sdk_iam::error::ProvideErrorMetadata>(
    error: &aws_sdk_iam::error::SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
) -> bool {
    error.as_service_error().and_then(|error| error.code()).is_some_and(|code| code.starts_with("AccessDenied"))
}

/// Whose policies count.
enum Principal {
    /// A user or a role.
    Known(String),
    /// The root user, whom nothing can be denied here.
    Root,
    /// It cannot be looked up, and why.
    Unknown(String),
}

async fn principal(iam: &aws_sdk_iam::Client, arn: &str) -> Principal {
    let resource = arn.rsplit_once(':').map_or("", |(_, resource)| resource);
    if resource == "root" {
        return Principal::Root;
    }
    if resource.starts_with("user/") {
        return Principal::Known(arn.to_owned());
    }
    let Some(role) = resource.strip_prefix("assumed-role/").and_then(|session| session.split('/').next()) else {
        return Principal::Unknown(format!("{arn} is neither a user nor a role"));
    };
    // The ARN of a session leaves out the path of its role.
    match iam.get_role().role_name(role).send().await {
        Ok(answer) => {
            answer.role.map_or_else(|| Principal::Unknown(format!("no role {role}")), |role| Principal::Known(role.arn))
        }
        Err(error) => Principal::Unknown(port_error("looking for the role", &error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            partition: "aws".to_owned(),
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
            stack: "mail".to_owned(),
        }
    }

    /// A type that is added to the template needs its permissions here.
    #[test]
    fn a_deployer_may_handle_each_type_of_the_template() {
        let template = super::super::template::packaged();
        let types: BTreeSet<&str> = template.lines().filter_map(|line| line.strip_prefix("    Type: AWS::")).collect();
        let known = [
            ("CloudWatch::Alarm", "cloudwatch:PutMetricAlarm"),
            ("CloudWatch::Dashboard", "cloudwatch:PutDashboard"),
            ("DynamoDB::Table", "dynamodb:CreateTable"),
            ("Events::Rule", "events:PutRule"),
            ("IAM::ManagedPolicy", "iam:CreatePolicy"),
            ("IAM::Role", "iam:CreateRole"),
            ("KMS::Alias", "kms:CreateAlias"),
            ("KMS::Key", "kms:CreateKey"),
            ("Logs::LogGroup", "logs:CreateLogGroup"),
            ("S3::Bucket", "s3:CreateBucket"),
            ("S3::BucketPolicy", "s3:PutBucketPolicy"),
            ("SNS::Subscription", "sns:Subscribe"),
            ("SNS::Topic", "sns:CreateTopic"),
            ("SNS::TopicPolicy", "sns:SetTopicAttributes"),
            ("SQS::Queue", "sqs:CreateQueue"),
            ("SQS::QueuePolicy", "sqs:SetQueueAttributes"),
            ("Serverless::Function", "lambda:CreateFunction"),
        ];
        assert_eq!(types.into_iter().collect::<Vec<_>>(), known.map(|(kind, _)| kind));
        let policy = policy_of(Role::Deployer, &place(), None);
        let actions: BTreeSet<&str> = policy.statement.iter().flat_map(|statement| statement.action.clone()).collect();
        assert!(known.iter().all(|(_, action)| actions.contains(action)));
    }

    #[test]
    fn resources_are_named_as_exactly_as_aws_allows() {
        // The longest names, and one more Region in use than the shortest.
        let long = Place::of_names("ap-southeast-2", "123456789012", &"a".repeat(38));
        let government = Place::of_names("us-gov-west-1", "123456789012", &"a".repeat(38));
        for (role, place) in [Role::Viewer, Role::Operator, Role::Deployer]
            .into_iter()
            .flat_map(|role| [place(), long.clone(), government.clone()].map(|place| (role, place)))
        {
            for statement in statements_of(role, &place, None) {
                let by_all = statement.resource == ["*"];
                // None of them knows a resource ("Service Authorization Reference"), or the resource has no name yet.
                let known = [
                    "ListSes",
                    "ExamineSources",
                    "ReadLimits",
                    "ResumeAccount",
                    "MakeKey",
                    "MakeEventSources",
                    "ListLogs",
                    "FindDeletedStack",
                ];
                assert_eq!(by_all, known.contains(&statement.sid), "{}", statement.sid);
                assert!(statement.action.iter().all(|action| !action.contains('*')), "{}", statement.sid);
            }
            let policy = policy_of(role, &place, None);
            let sids: BTreeSet<&str> = policy.statement.iter().map(|statement| statement.sid).collect();
            assert_eq!(sids.len(), policy.statement.len(), "a Sid occurs once in a policy");
            // A managed policy has at most 6,144 characters; a longer one is put inline in a role, up to 10,240 in all.
            let size = serde_json::to_string(&policy).unwrap().len();
            let most = if role == Role::Deployer { 10_240 } else { 6_144 };
            assert!(size <= most, "{role:?}: {size}");
        }
    }

    /// Merging must not widen anything: of two statements that are merged, no action may be of a service of the other's
    /// resources, unless both are about the same resources.
    #[test]
    fn what_is_merged_allows_no_more() {
        let statements = statements_of(Role::Deployer, &place(), None);
        let own: Vec<&Statement> = statements.iter().filter(|statement| OF_STACK.contains(&statement.sid)).collect();
        assert_eq!(own.len(), OF_STACK.len(), "a name of a statement has changed");
        let same_service_other_kind = [
            // Actions on buckets and on objects, on stacks and on the transform, on keys and aliases, on topics and
            // subscriptions, on roles and policies: each knows its kind only.
            "MakeBucket",
            "UploadCode",
            "ChangeStack",
            "Transform",
            "Key",
            "KeyAlias",
            "Topics",
            "Subscriptions",
            "Roles",
            "ManagedPolicies",
        ];
        for (place, one) in own.iter().enumerate() {
            for other in &own[place + 1..] {
                let services = |statement: &Statement| -> BTreeSet<String> {
                    statement.resource.iter().filter_map(|arn| arn.split(':').nth(2).map(str::to_owned)).collect()
                };
                let known = |sid: &str| same_service_other_kind.contains(&sid);
                let apart = services(one).is_disjoint(&services(other));
                assert!(apart || (known(one.sid) && known(other.sid)), "{} and {}", one.sid, other.sid);
            }
        }
    }
}
