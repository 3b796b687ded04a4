//! Creates or updates the stack.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aws::clients::port_error;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use terminal::suggest;

use super::bucket::{self, CodeBucket};
use super::cloudformation::{Change, CloudFormation, KnownStack, Wanted};
use super::package::Package;
use super::template::{self, ARCHITECTURE, CODE_BUCKET, CODE_PREFIX, RESERVE_CONCURRENCY};
use super::{PACE, Place, StackFailure, caller, permissions, purge};
use crate::asking::{Asking, Confirmed, Question};
use crate::failure::Failure;
use crate::{Access, VERSION};

/// Lambda keeps this much of an account's concurrency unreserved ("Configuring reserved concurrency", Lambda guide).
const UNRESERVED: i32 = 100;
/// IAM allows 64 characters for the name of a role. CloudFormation makes `STACK-EnforcerRole-` and 12 characters, and would cut
/// off the end of a longer stack's name, so that nobody could be permitted that role by the name of the stack.
const LONGEST_NAME: usize = 64 - "-EnforcerRole-123456789012".len();
/// Processor architectures, the cheaper first.
pub const ARCHITECTURES: [&str; 2] = ["arm64", "x86_64"];

/// What to deploy, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// The folder with the functions' code; where a release has it, if none is named.
    pub functions: Option<PathBuf>,
    /// The bucket for the code; one of our own, if none is named.
    pub bucket: Option<String>,
    /// Parameters of the template with their values.
    pub parameters: Vec<(String, String)>,
    /// Ask IAM first whether the caller has all permissions.
    pub check_permissions: bool,
    /// Change nothing of the stack.
    pub dry_run: bool,
    /// Interval between two looks at what CloudFormation does.
    pub pace: Duration,
}

impl Default for Order {
    fn default() -> Order {
        Order {
            functions: None,
            bucket: None,
            parameters: Vec::new(),
            check_permissions: true,
            dry_run: false,
            pace: PACE,
        }
    }
}

/// What happened to the stack; in a dry run, what would happen.
#[derive(Clone, Debug, Serialize)]
pub struct Deployed {
    /// The stack.
    pub stack: String,
    /// The Region.
    pub region: String,
    /// The account.
    pub account: String,
    /// See [`Outcome`].
    pub outcome: Outcome,
    /// Nothing of the stack was changed.
    pub dry_run: bool,
    /// The release that is deployed.
    pub version: String,
    /// The resources that were added, changed or removed.
    pub changes: Vec<Change>,
    /// What was chosen for this account, and why.
    pub choices: Vec<String>,
    /// The bucket with the code.
    pub bucket: String,
    /// The outputs of the stack.
    pub outputs: BTreeMap<String, String>,
}

/// What happened to a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was created.
    Created,
    /// It was changed.
    Updated,
    /// It was as it should be.
    Unchanged,
}

/// Creates or updates the stack.
///
/// # Errors
///
/// See [`StackFailure`]; or AWS refuses. Running it again continues from where it ended.
pub async fn deploy(access: &Access, order: &Order, asking: &Asking<'_>) -> Result<Deployed, Failure> {
    check_parameters(&order.parameters)?;
    if access.stack.len() > LONGEST_NAME {
        return Err(StackFailure::NameTooLong { stack: access.stack.clone(), most: LONGEST_NAME }.into());
    }
    let given: BTreeMap<String, String> = order.parameters.iter().cloned().collect();
    (asking.progress)(0, 0, "asking AWS");
    let caller = caller(access).await?;
    let place = &caller.place;
    let cloudformation = CloudFormation::new(access, order.pace);
    let known = working(&cloudformation, access, place, order.dry_run, asking).await?;
    // An upgrade leaves the code where it is.
    let chosen = bucket::name_of(place);
    let of_stack = known.as_ref().and_then(|known| known.parameters.get(CODE_BUCKET)).filter(|name| **name != chosen);
    let named = order.bucket.as_ref().or(of_stack).map(String::as_str);

    let package = read_package(order, given.get(ARCHITECTURE), known.as_ref())?;
    if order.check_permissions {
        (asking.progress)(0, 0, "checking permissions");
        permissions::check(access, &caller, named, asking).await?;
    }
    let mut choices = Vec::new();
    let reserve = reserve_concurrency(access, &given, known.as_ref(), &mut choices).await?;

    let bucket = CodeBucket::new(access, place, named);
    let (template_url, prefix) = upload(&bucket, place, &package, asking).await?;
    let mut parameters = given.clone();
    parameters.insert(CODE_BUCKET.to_owned(), bucket.name.clone());
    parameters.insert(CODE_PREFIX.to_owned(), prefix);
    parameters.insert(ARCHITECTURE.to_owned(), package.architecture.to_owned());
    parameters.extend(reserve.map(|value| (RESERVE_CONCURRENCY.to_owned(), value.to_owned())));
    let wanted = wanted(known.as_ref(), template_url, parameters);

    let deployed = |outcome: Outcome, changes: Vec<Change>, outputs: BTreeMap<String, String>| Deployed {
        stack: place.stack.clone(),
        region: place.region.clone(),
        account: place.account.clone(),
        outcome,
        dry_run: order.dry_run,
        version: VERSION.to_owned(),
        changes,
        choices,
        bucket: bucket.name.clone(),
        outputs,
    };
    let Some(changes) = cloudformation.plan(&wanted, asking).await? else {
        return Ok(deployed(Outcome::Unchanged, Vec::new(), known.map(|known| known.outputs).unwrap_or_default()));
    };
    let outcome = if wanted.create { Outcome::Created } else { Outcome::Updated };
    if order.dry_run {
        cloudformation.abandon(wanted.create, asking).await?;
        return Ok(deployed(outcome, changes, BTreeMap::new()));
    }
    let question = Question::Deploy { place, create: wanted.create, changes: &changes };
    match (asking.confirm)(&question) {
        Confirmed::Yes => {}
        Confirmed::No => {
            cloudformation.abandon(wanted.create, asking).await?;
            return Err(Failure::Declined);
        }
        Confirmed::Nobody => {
            cloudformation.abandon(wanted.create, asking).await?;
            return Err(StackFailure::Unconfirmed { what: "changes the stack" }.into());
        }
    }
    let known = cloudformation.execute(asking).await?;
    Ok(deployed(outcome, changes, known.outputs))
}

/// The parameters that the template does not have are refused before anything is asked.
fn check_parameters(given: &[(String, String)]) -> Result<(), StackFailure> {
    let known = template::parameters();
    let unknown = given.iter().find(|(name, _)| !known.contains(&name.as_str()));
    match unknown {
        None => Ok(()),
        Some((name, _)) => Err(StackFailure::UnknownParameter {
            name: name.clone(),
            nearest: suggest(name, known.iter().copied()).into_iter().map(str::to_owned).collect(),
        }),
    }
}

/// The stack, if it can be updated. One that never worked is deleted first: CloudFormation does nothing else with it.
async fn working(
    cloudformation: &CloudFormation<'_>,
    access: &Access,
    place: &Place,
    dry_run: bool,
    asking: &Asking<'_>,
) -> Result<Option<KnownStack>, Failure> {
    let known = cloudformation.settled(asking).await?;
    let known = match known {
        Some(known) if known.is_wreck() || known.status == "UPDATE_ROLLBACK_FAILED" => {
            repaired(cloudformation, known, place, dry_run, asking).await?
        }
        known => known.filter(|known| !known.is_only_planned()),
    };
    if known.is_none() {
        let tables = purge::tables_left(access, place).await?;
        if !tables.is_empty() {
            let (stack, region) = (place.stack.clone(), place.region.clone());
            let tables = tables.into_iter().map(|table| format!("table {}", table.name)).collect();
            return Err(StackFailure::TablesRemain { stack, region, tables }.into());
        }
    }
    Ok(known)
}

/// A stack that can be changed again, or none.
async fn repaired(
    cloudformation: &CloudFormation<'_>,
    known: KnownStack,
    place: &Place,
    dry_run: bool,
    asking: &Asking<'_>,
) -> Result<Option<KnownStack>, Failure> {
    let (stack, status) = (place.stack.clone(), known.status.clone());
    if dry_run {
        return Err(StackFailure::Broken { stack, status }.into());
    }
    // Nothing is in one that was undone.
    if !known.is_undone() {
        match (asking.confirm)(&Question::Repair { place, status: &status, delete: known.is_wreck() }) {
            Confirmed::Yes => {}
            Confirmed::No => return Err(Failure::Declined),
            Confirmed::Nobody => return Err(StackFailure::Unconfirmed { what: "repairs the stack" }.into()),
        }
    }
    if known.is_wreck() {
        (asking.line)(&format!("stack {stack} is {status}: deleting what is left of it"));
        cloudformation.delete_and_wait(&known, asking).await?;
        return Ok(None);
    }
    (asking.line)(&format!("stack {stack} is {status}: undoing its last update"));
    cloudformation.continue_rollback(&known, asking).await.map(Some)
}

/// Reads the code for the architecture that was asked for, or that the stack has; otherwise for the cheaper one that there is
/// code for.
fn read_package(order: &Order, asked: Option<&String>, known: Option<&KnownStack>) -> Result<Package, StackFailure> {
    let of_stack = known.and_then(|known| known.parameters.get(ARCHITECTURE));
    let wanted = asked.or(of_stack).and_then(|name| ARCHITECTURES.into_iter().find(|known| known == name));
    let read = |architecture| Package::read(order.functions.as_deref(), architecture);
    match wanted {
        Some(architecture) => read(architecture),
        None => {
            let [cheaper, other] = ARCHITECTURES;
            match read(cheaper) {
                // What is said about the first is what the person needs to know if there is neither.
                Err(error @ StackFailure::NoCode { .. }) => read(other).map_err(|_| error),
                read => read,
            }
        }
    }
}

/// Whether to reserve the enforcer's concurrency; `None` leaves it as it is.
async fn reserve_concurrency(
    access: &Access,
    given: &BTreeMap<String, String>,
    known: Option<&KnownStack>,
    choices: &mut Vec<String>,
) -> Result<Option<&'static str>, Failure> {
    if given.contains_key(RESERVE_CONCURRENCY) || known.is_some() {
        return Ok(None);
    }
    let lambda = aws_sdk_lambda::Client::new(access.clients.config());
    let asked = lambda.get_account_settings().send().await;
    let answer = asked.map_err(|error| access.refused(port_error("reading the limits of Lambda", &error)))?;
    let left = answer.account_limit().and_then(|limit| limit.unreserved_concurrent_executions()).unwrap_or(0);
    if left > UNRESERVED {
        return Ok(Some("true"));
    }
    choices.push(format!(
        "{RESERVE_CONCURRENCY}=false: {left} of the account's concurrency are not reserved, and Lambda keeps {UNRESERVED} so. \
         The enforcer then has no place of its own; ask AWS for more, and deploy again with {RESERVE_CONCURRENCY}=true"
    ));
    Ok(Some("false"))
}

/// Uploads the code and the template. Returns the address of the template, and the prefix of the code.
async fn upload(
    bucket: &CodeBucket<'_>,
    place: &Place,
    package: &Package,
    asking: &Asking<'_>,
) -> Result<(String, String), Failure> {
    bucket.ensure().await?;
    let prefix = format!("{}/{}/", place.stack, &package.digest[..16]);
    let all = package.zips.len() + 1;
    for (done, (name, bytes)) in package.zips.iter().enumerate() {
        (asking.progress)(done, all, &format!("uploading {name}"));
        bucket.upload(&format!("{prefix}{name}.zip"), bytes.clone()).await?;
    }
    (asking.progress)(all - 1, all, "uploading the template");
    let template = template::packaged();
    let digest = Sha256::digest(template.as_bytes());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let key = format!("{}/template-{digest}.yaml", place.stack);
    bucket.upload(&key, template.into_bytes()).await?;
    Ok((bucket.url(&key), prefix))
}

/// The change set. Parameters that an earlier deployment has set keep their values.
fn wanted(known: Option<&KnownStack>, template_url: String, parameters: BTreeMap<String, String>) -> Wanted {
    let has = template::parameters();
    let kept = known.iter().flat_map(|known| known.parameters.keys());
    let kept = kept.filter(|name| has.contains(&name.as_str()) && !parameters.contains_key(*name)).cloned().collect();
    Wanted { create: known.is_none(), template_url, parameters, kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(parameters: &[(&str, &str)]) -> KnownStack {
        KnownStack {
            id: "arn".to_owned(),
            status: "CREATE_COMPLETE".to_owned(),
            description: "ses-breaker: x".to_owned(),
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            outputs: BTreeMap::new(),
            protected: false,
        }
    }

    #[test]
    fn an_update_keeps_the_values_of_parameters_that_are_not_named() {
        let known = known(&[("AlertEmail", "a@b.example"), ("LogLevel", "debug"), ("GoneInThisRelease", "1")]);
        let given = BTreeMap::from([("LogLevel".to_owned(), "warn".to_owned())]);
        let wanted = wanted(Some(&known), "https://x".to_owned(), given);
        assert!(!wanted.create);
        assert_eq!(wanted.kept, ["AlertEmail"]);
    }

    #[test]
    fn a_parameter_that_does_not_exist_is_refused_with_the_nearest_one() {
        let error = check_parameters(&[("AlertMail".to_owned(), "x".to_owned())]).unwrap_err();
        assert_eq!(error.to_string(), "the template has no parameter `AlertMail`");
        assert!(error.remedy().starts_with("Did you mean AlertEmail?"), "{}", error.remedy());
        // They are chosen by the deployment itself.
        assert!(check_parameters(&[("CodeBucket".to_owned(), "x".to_owned())]).is_err());
        assert!(check_parameters(&[("AlertEmail".to_owned(), "x".to_owned())]).is_ok());
    }
}
