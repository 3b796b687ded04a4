//! `deploy` and `down` against an emulated AWS: ended in the middle of each call, refused, and with the permissions that they
//! say they need.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws::clients::Clients;
use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_cloudformation::types::{Capability, ChangeSetType, OnStackFailure};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_runtime_api::shared::IntoShared as _;
use e2e::emulator::Emulator;
use operator::asking::{Asking, Confirmed};
use operator::stack::deploy::{Outcome, deploy};
use operator::stack::down::{Down, down};
use operator::stack::permissions::{Role, policy_of};
use operator::stack::template::FUNCTIONS;
use operator::stack::{Place, deploy as deploying, down as taking_down};
use operator::{Access, Exit, Failure};
use reputation::time::Now;
use tokio::sync::Notify;

const STACK: &str = "mail";

/// Where a program is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before the call arrives at AWS.
    Before,
    /// After AWS has done it, and before the answer arrives.
    After,
}

/// Passes calls on to AWS until the program is killed in one of them.
#[derive(Clone)]
struct Mortal {
    inner: SharedHttpClient,
    life: Arc<Life>,
}

struct Life {
    /// The number of calls that come through.
    calls: usize,
    moment: Moment,
    made: AtomicUsize,
    killed: Notify,
}

impl fmt::Debug for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mortal")
    }
}

impl HttpClient for Mortal {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(MortalConnector { inner, life: Arc::clone(&self.life) })
    }
}

#[derive(Clone)]
struct MortalConnector {
    inner: SharedHttpConnector,
    life: Arc<Life>,
}

impl fmt::Debug for MortalConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MortalConnector")
    }
}

impl HttpConnector for MortalConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let life = Arc::clone(&self.life);
        if life.made.fetch_add(1, Ordering::Relaxed) != life.calls {
            return self.inner.call(request);
        }
        let done = (life.moment == Moment::After).then(|| self.inner.call(request));
        HttpConnectorFuture::new(async move {
            if let Some(done) = done {
                let _ = done.await;
            }
            life.killed.notify_one();
            std::future::pending().await
        })
    }
}

pub(crate) struct Fixture {
    pub(crate) emulator: Emulator,
    pub(crate) config: SdkConfig,
    code: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Fixture {
        let emulator = Emulator::start().unwrap();
        // Time is virtual here, so that nobody waits for the pace of SES; so nothing may time out.
        let config = emulator.config().await.into_builder().timeout_config(TimeoutConfig::disabled());
        let config = config.stalled_stream_protection(StalledStreamProtectionConfig::disabled()).build();
        let code = tempfile::tempdir().unwrap();
        zips(code.path());
        Fixture { emulator, config, code }
    }

    fn access(&self, config: SdkConfig) -> Access {
        Access {
            stack: STACK.to_owned(),
            region: "eu-west-1".to_owned(),
            profile: None,
            clients: Clients::new(config),
            user: None,
        }
    }

    pub(crate) fn root(&self) -> Access {
        self.access(self.config.clone())
    }

    pub(crate) fn deploy_order(&self) -> deploying::Order {
        let (functions, pace) = (Some(self.code.path().to_owned()), Duration::from_millis(20));
        deploying::Order { functions, pace, ..deploying::Order::default() }
    }

    /// Does `work`; `None` if it was killed in the call after `calls` others.
    async fn mortal<T>(&self, calls: usize, moment: Moment, work: impl AsyncFnOnce(Access) -> T) -> Option<T> {
        let life = Arc::new(Life { calls, moment, made: AtomicUsize::new(0), killed: Notify::new() });
        let inner = aws_smithy_http_client::Builder::new().build_http();
        let http: SharedHttpClient = Mortal { inner, life: Arc::clone(&life) }.into_shared();
        let access = self.access(self.config.clone().into_builder().http_client(http).build());
        tokio::select! {
            biased;
            () = life.killed.notified() => None,
            done = work(access) => Some(done),
        }
    }

    async fn status(&self) -> Option<String> {
        let client = aws_sdk_cloudformation::Client::new(&self.config);
        let answer = client.describe_stacks().stack_name(STACK).send().await.ok()?;
        Some(answer.stacks()[0].stack_status()?.as_str().to_owned())
    }
}

/// Code that is not run here.
fn zips(folder: &Path) {
    fs::write(folder.join("bootstrap"), "#!/bin/sh\n").unwrap();
    let first = folder.join("ingest.zip");
    let mut zip = Command::new("python3");
    zip.args(["-m", "zipfile", "-c"]).arg(&first).arg("bootstrap").current_dir(folder);
    assert!(zip.status().unwrap().success());
    for name in &FUNCTIONS[1..] {
        fs::copy(&first, folder.join(format!("{name}.zip"))).unwrap();
    }
}

/// Runs `work` again and again, killed one call later each time, until it gets through. So each call that changes something is
/// the last one of some run.
async fn killed_everywhere<T>(fixture: &Fixture, moment: Moment, work: impl AsyncFn(Access) -> T) -> (T, usize) {
    for calls in 0..500 {
        if let Some(done) = fixture.mortal(calls, moment, &work).await {
            return (done, calls);
        }
    }
    panic!("never finished");
}

#[tokio::test(start_paused = true)]
async fn the_same_command_finishes_what_was_killed_in_any_call() {
    let fixture = Fixture::new().await;
    let ses = aws_sdk_sesv2::Client::new(&fixture.config);
    ses.create_configuration_set().configuration_set_name("news").send().await.unwrap();
    for moment in [Moment::Before, Moment::After] {
        let (deployed, runs) = killed_everywhere(&fixture, moment, async |access| {
            deploy(&access, &fixture.deploy_order(), &Asking::CONFIRMED).await.unwrap()
        })
        .await;
        assert!(runs >= 18, "{runs}");
        eprintln!("deploy, {moment:?}: {runs} runs, {:?}", deployed.outcome);
        assert_eq!(fixture.status().await.as_deref(), Some("CREATE_COMPLETE"));
        let again = deploy(&fixture.root(), &fixture.deploy_order(), &Asking::NOBODY).await.unwrap();
        assert_eq!(again.outcome, Outcome::Unchanged, "{moment:?}");

        operator::connect::connect(
            &fixture.root(),
            &operator::connect::Order { all: true, ..operator::connect::Order::default() },
            &|_, _, _| {},
        )
        .await
        .unwrap();
        let (gone, runs) = killed_everywhere(&fixture, moment, async |access| {
            let order =
                taking_down::Order { purge: true, pace: Duration::from_millis(20), ..taking_down::Order::default() };
            down(&access, &order, Now(0), &Asking::CONFIRMED).await.unwrap()
        })
        .await;
        assert!(runs > 12, "{runs}");
        eprintln!("down, {moment:?}: {runs} runs");
        assert_eq!(gone.exit(), Exit::Done);
        nothing_is_left(&fixture, &gone).await;
    }
    fixture.emulator.stop().unwrap();
}

async fn nothing_is_left(fixture: &Fixture, gone: &Down) {
    assert_eq!(fixture.status().await, None);
    assert_eq!((gone.tables.len(), &gone.bucket), (0, &None), "{gone:?}");
    let dynamodb = aws_sdk_dynamodb::Client::new(&fixture.config);
    assert_eq!(dynamodb.list_tables().send().await.unwrap().table_names(), [""; 0]);
    let ses = aws_sdk_sesv2::Client::new(&fixture.config);
    let asked = ses.get_configuration_set_event_destinations().configuration_set_name("news").send().await.unwrap();
    assert!(asked.event_destinations().is_empty(), "{asked:?}");
    let kms = aws_sdk_kms::Client::new(&fixture.config);
    for key in kms.list_keys().send().await.unwrap().keys() {
        let known = kms.describe_key().key_id(key.key_id().unwrap()).send().await.unwrap();
        let state = known.key_metadata().and_then(|key| key.key_state()).map(|state| state.as_str().to_owned());
        assert_eq!(state.as_deref(), Some("PendingDeletion"), "{known:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_policy_of_a_deployer_allows_is_enough_and_what_is_missing_is_named_first() {
    let fixture = Fixture::new().await;
    let ses = aws_sdk_sesv2::Client::new(&fixture.config);
    ses.create_configuration_set().configuration_set_name("news").send().await.unwrap();
    let iam = aws_sdk_iam::Client::new(&fixture.config);
    iam.create_user().user_name("ann").send().await.unwrap();
    let key = iam.create_access_key().user_name("ann").send().await.unwrap().access_key.unwrap();
    let credentials = Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "test");
    let credentials = SharedCredentialsProvider::new(credentials);
    let ann =
        || fixture.access(fixture.config.clone().into_builder().credentials_provider(credentials.clone()).build());
    let place = Place::of_names("eu-west-1", fixture.emulator.account(), STACK);
    let allow = async |document: serde_json::Value| {
        let request = iam.put_user_policy().user_name("ann").policy_name("all");
        request.policy_document(document.to_string()).send().await.unwrap();
    };

    let whole = serde_json::to_value(policy_of(Role::Deployer, &place, None)).unwrap();
    let mut part = whole.clone();
    let statements = part["Statement"].as_array_mut().unwrap();
    for statement in statements.iter_mut() {
        let actions = statement["Action"].as_array_mut().unwrap();
        actions.retain(|action| action != "dynamodb:CreateTable" && action != "sns:Subscribe");
    }
    allow(part).await;
    let error = deploy(&ann(), &fixture.deploy_order(), &Asking::CONFIRMED).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("dynamodb:CreateTable on arn:aws:dynamodb:eu-west-1:123456789012:table/mail-ledger"),
        "{text}"
    );
    assert!(text.contains("sns:Subscribe on arn:aws:sns:eu-west-1:123456789012:mail-events"), "{text}");
    assert!(!text.contains("kms:") && error.remedy().contains("ses-breaker policy-of deployer"), "{text}");
    assert_eq!(fixture.status().await, None, "something was created");

    allow(whole).await;
    let deployed = deploy(&ann(), &fixture.deploy_order(), &Asking::CONFIRMED).await.unwrap();
    assert_eq!(deployed.outcome, Outcome::Created);
    let order = operator::connect::Order { all: true, ..operator::connect::Order::default() };
    assert_eq!(operator::connect::connect(&ann(), &order, &|_, _, _| {}).await.unwrap().exit(), Exit::Done);
    let mut order = fixture.deploy_order();
    order.parameters = vec![("LogLevel".to_owned(), "debug".to_owned())];
    let updated = deploy(&ann(), &order, &Asking::CONFIRMED).await.unwrap();
    assert_eq!(updated.outcome, Outcome::Updated);
    assert!(updated.changes.iter().all(|change| change.action == "change"), "{:?}", updated.changes);
    let order = taking_down::Order { purge: true, ..taking_down::Order::default() };
    let gone = down(&ann(), &order, Now(0), &Asking::CONFIRMED).await.unwrap();
    nothing_is_left(&fixture, &gone).await;
    fixture.emulator.stop().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_others_is_left_as_it_is() {
    let fixture = Fixture::new().await;
    let cloudformation = aws_sdk_cloudformation::Client::new(&fixture.config);
    let theirs = r#"{"Description":"their queue","Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}"#;
    let request = cloudformation.create_stack().stack_name(STACK).template_body(theirs);
    request.capabilities(Capability::CapabilityIam).send().await.unwrap();
    for outcome in [
        deploy(&fixture.root(), &fixture.deploy_order(), &Asking::CONFIRMED).await.map(|_| ()),
        down(&fixture.root(), &taking_down::Order::default(), Now(0), &Asking::CONFIRMED).await.map(|_| ()),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), "stack mail in eu-west-1 was not created from the template of ses-breaker");
        assert_eq!(error.exit(), Exit::Usage);
    }
    assert_eq!(fixture.status().await.as_deref(), Some("CREATE_COMPLETE"));
    cloudformation.delete_stack().stack_name(STACK).send().await.unwrap();

    // A stack that somebody has planned, and not yet created.
    let request = cloudformation.create_change_set().stack_name(STACK).change_set_name("release-42");
    let request = request.change_set_type(ChangeSetType::Create).template_body(theirs);
    request.send().await.unwrap();
    for outcome in [
        deploy(&fixture.root(), &fixture.deploy_order(), &Asking::CONFIRMED).await.map(|_| ()),
        down(&fixture.root(), &taking_down::Order::default(), Now(0), &Asking::CONFIRMED).await.map(|_| ()),
    ] {
        assert!(outcome.unwrap_err().to_string().contains("was not created from the template of ses-breaker"));
    }
    assert_eq!(fixture.status().await.as_deref(), Some("REVIEW_IN_PROGRESS"));
    cloudformation.delete_stack().stack_name(STACK).send().await.unwrap();

    // A no leaves nothing behind, and neither does a dry run.
    let asking = Asking { confirm: &|_| Confirmed::No, ..Asking::NOBODY };
    let error = deploy(&fixture.root(), &fixture.deploy_order(), &asking).await.unwrap_err();
    assert!(matches!(error, Failure::Declined), "{error}");
    assert_eq!(fixture.status().await, None);
    let order = deploying::Order { dry_run: true, ..fixture.deploy_order() };
    assert_eq!(deploy(&fixture.root(), &order, &Asking::NOBODY).await.unwrap().outcome, Outcome::Created);
    assert_eq!(fixture.status().await, None);

    let order = deploying::Order { bucket: Some("nowhere".to_owned()), ..fixture.deploy_order() };
    let error = deploy(&fixture.root(), &order, &Asking::CONFIRMED).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no bucket nowhere");
    fixture.emulator.stop().unwrap();
}

/// A first deployment that fails is gone afterwards, and names its cause.
#[tokio::test(start_paused = true)]
async fn a_first_deployment_that_fails_does_not_block_the_second() {
    let fixture = Fixture::new().await;
    let good = fs::read(fixture.code.path().join("warmup.zip")).unwrap();
    // It looks whole, and is none.
    fs::write(fixture.code.path().join("warmup.zip"), [&b"PK\x03\x04"[..], &[0; 90], b"PK\x05\x06"].concat()).unwrap();
    let error = deploy(&fixture.root(), &fixture.deploy_order(), &Asking::CONFIRMED).await.unwrap_err();
    assert!(error.to_string().contains("; WarmupFunction: Could not unzip uploaded file"), "{error}");
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(fixture.status().await, None, "what has failed is deleted");
    fs::write(fixture.code.path().join("warmup.zip"), good).unwrap();
    let deployed = deploy(&fixture.root(), &fixture.deploy_order(), &Asking::CONFIRMED).await.unwrap();
    assert_eq!(deployed.outcome, Outcome::Created);
    fixture.emulator.stop().unwrap();
}

#[tokio::test]
async fn a_name_that_aws_would_refuse_later_is_refused_first() {
    let fixture = Fixture::new().await;
    let access = Access { stack: "a".repeat(39), ..fixture.root() };
    let error = deploy(&access, &fixture.deploy_order(), &Asking::NOBODY).await.unwrap_err();
    assert!(error.to_string().ends_with("has 39 characters, and a stack's name may have 38"), "{error}");
    fixture.emulator.stop().unwrap();
}

/// The code stays in the bucket that was named once, and only the code of this stack is deleted there.
#[tokio::test(start_paused = true)]
async fn an_upgrade_and_a_purge_know_the_bucket_that_was_named_at_first() {
    let fixture = Fixture::new().await;
    let s3 = aws_sdk_s3::Client::from_conf(
        aws_sdk_s3::config::Builder::from(&fixture.config).force_path_style(true).build(),
    );
    let place = aws_sdk_s3::types::CreateBucketConfiguration::builder();
    let place = place.location_constraint(aws_sdk_s3::types::BucketLocationConstraint::EuWest1).build();
    s3.create_bucket().bucket("corp-artifacts").create_bucket_configuration(place).send().await.unwrap();
    s3.put_object().bucket("corp-artifacts").key("theirs.zip").send().await.unwrap();
    let order = deploying::Order { bucket: Some("corp-artifacts".to_owned()), ..fixture.deploy_order() };
    assert_eq!(deploy(&fixture.root(), &order, &Asking::CONFIRMED).await.unwrap().bucket, "corp-artifacts");
    let again = deploy(&fixture.root(), &fixture.deploy_order(), &Asking::NOBODY).await.unwrap();
    assert_eq!((again.outcome, again.bucket.as_str()), (Outcome::Unchanged, "corp-artifacts"));
    // Killed anywhere, also when the stack and its tables are gone and only the code is left.
    let (gone, runs) = killed_everywhere(&fixture, Moment::After, async |access| {
        let order =
            taking_down::Order { purge: true, pace: Duration::from_millis(20), ..taking_down::Order::default() };
        down(&access, &order, Now(0), &Asking::CONFIRMED).await.unwrap()
    })
    .await;
    assert!(runs > 12, "{runs}");
    let purged = gone.purged.as_ref().unwrap();
    assert_eq!((purged.code.as_deref(), &purged.bucket), (Some("corp-artifacts"), &None));
    let left = s3.list_objects_v2().bucket("corp-artifacts").send().await.unwrap();
    assert_eq!(left.contents().iter().filter_map(|object| object.key()).collect::<Vec<_>>(), ["theirs.zip"]);
    fixture.emulator.stop().unwrap();
}

/// The length of an object says nothing about its content.
#[tokio::test(start_paused = true)]
async fn what_lies_where_the_code_belongs_is_replaced_unless_it_is_the_code() {
    let fixture = Fixture::new().await;
    let s3 = aws_sdk_s3::Client::from_conf(
        aws_sdk_s3::config::Builder::from(&fixture.config).force_path_style(true).build(),
    );
    let bucket = deploy(&fixture.root(), &fixture.deploy_order(), &Asking::CONFIRMED).await.unwrap().bucket;
    let read = async |key: &str| {
        let object = s3.get_object().bucket(&bucket).key(key).send().await.unwrap();
        (object.body.collect().await.unwrap().to_vec(), object.last_modified.unwrap())
    };
    let listed = s3.list_objects_v2().bucket(&bucket).send().await.unwrap();
    let keys: Vec<&str> = listed.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(keys.len(), FUNCTIONS.len() + 1, "{keys:?}");
    let mut known = Vec::new();
    for key in &keys {
        known.push(read(key).await.0);
    }
    // One is of the right length, and one of no length.
    s3.put_object().bucket(&bucket).key(keys[0]).body(vec![0; known[0].len()].into()).send().await.unwrap();
    s3.put_object().bucket(&bucket).key(keys[1]).send().await.unwrap();
    let untouched = read(keys[2]).await;
    deploy(&fixture.root(), &fixture.deploy_order(), &Asking::NOBODY).await.unwrap();
    for (key, known) in keys.iter().zip(&known) {
        assert_eq!(read(key).await.0, *known, "{key}");
    }
    assert_eq!(read(keys[2]).await, untouched, "what was there was uploaded again");
    fixture.emulator.stop().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_failed_half_way_is_deleted_only_after_a_question() {
    let fixture = Fixture::new().await;
    let cloudformation = aws_sdk_cloudformation::Client::new(&fixture.config);
    // As a person leaves it who wants to look at what has failed.
    let broken = r#"{"Description":"ses-breaker: broken","Resources":{"F":{"Type":"AWS::Lambda::Function","Properties":
        {"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/r","Handler":"x","Runtime":"provided.al2023",
        "Code":{"S3Bucket":"nowhere","S3Key":"nothing"}}}}}"#;
    let request = cloudformation.create_change_set().stack_name(STACK).change_set_name("theirs").template_body(broken);
    let request = request.change_set_type(ChangeSetType::Create).on_stack_failure(OnStackFailure::DoNothing);
    request.send().await.unwrap();
    cloudformation.execute_change_set().stack_name(STACK).change_set_name("theirs").send().await.unwrap();
    while fixture.status().await.as_deref() != Some("CREATE_FAILED") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let order = deploying::Order { dry_run: true, ..fixture.deploy_order() };
    let error = deploy(&fixture.root(), &order, &Asking::CONFIRMED).await.unwrap_err();
    assert_eq!(error.to_string(), "stack mail is CREATE_FAILED, so what would be changed is not known");
    let error = deploy(&fixture.root(), &fixture.deploy_order(), &Asking::NOBODY).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage, "{error}");
    assert_eq!(fixture.status().await.as_deref(), Some("CREATE_FAILED"));
    assert_eq!(
        deploy(&fixture.root(), &fixture.deploy_order(), &Asking::CONFIRMED).await.unwrap().outcome,
        Outcome::Created
    );
    fixture.emulator.stop().unwrap();
}
