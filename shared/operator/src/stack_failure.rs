//! Reasons why a stack cannot be created, changed or deleted, and what to do about each.

use std::io;
use std::path::PathBuf;

use terminal::ErrorKind;

/// Why a stack could not be created, changed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum StackFailure {
    /// The functions' code is nowhere to be found.
    #[error("there is no code of the functions for {architecture} in {}", list(looked))]
    NoCode {
        /// The folders that were looked into.
        looked: Vec<PathBuf>,
        /// The processor architecture.
        architecture: String,
    },
    /// One function's code is missing.
    #[error("the code of {function} is missing in {}", folder.display())]
    FunctionMissing {
        /// The folder with the code of the others.
        folder: PathBuf,
        /// The function.
        function: &'static str,
    },
    /// A file of code cannot be read.
    #[error("cannot read {}", path.display())]
    UnreadableCode {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file of code is not a zip file, or not all of one.
    #[error("{} is not a whole zip file", path.display())]
    NotAZip {
        /// The file.
        path: PathBuf,
    },
    /// A name that is too long for what is named after the stack.
    #[error("the name `{stack}` has {} characters, and a stack's name may have {most}", stack.len())]
    NameTooLong {
        /// The stack.
        stack: String,
        /// The longest.
        most: usize,
    },
    /// A parameter that the template does not have.
    #[error("the template has no parameter `{name}`")]
    UnknownParameter {
        /// The name as given.
        name: String,
        /// Similar names.
        nearest: Vec<String>,
    },
    /// A stack of this name belongs to another tool.
    #[error("stack {stack} in {region} was not created from the template of ses-breaker")]
    ForeignStack {
        /// The stack.
        stack: String,
        /// The Region.
        region: String,
    },
    /// Tables of an earlier stack have the names that the new one would give to its own.
    #[error("of an earlier stack {stack} in {region}, {} still exist", tables.join(" and "))]
    TablesRemain {
        /// The stack.
        stack: String,
        /// The Region.
        region: String,
        /// The tables.
        tables: Vec<String>,
    },
    /// The bucket is not the account's own, or may not be looked at.
    #[error("bucket {bucket} belongs to another account, or the caller may not use it")]
    ForeignBucket {
        /// The bucket.
        bucket: String,
        /// Whether it has the name that ses-breaker chooses.
        chosen: bool,
    },
    /// The bucket is in another Region, where Lambda cannot read it from.
    #[error("bucket {bucket} is not in {region}")]
    BucketElsewhere {
        /// The bucket.
        bucket: String,
        /// The Region of the stack.
        region: String,
    },
    /// The named bucket does not exist.
    #[error("there is no bucket {bucket}")]
    NoBucket {
        /// The bucket.
        bucket: String,
    },
    /// A stack that has to be repaired first, in a dry run.
    #[error("stack {stack} is {status}, so what would be changed is not known")]
    Broken {
        /// The stack.
        stack: String,
        /// Its status.
        status: String,
    },
    /// CloudFormation did not create the change set.
    #[error("CloudFormation refuses the changes to stack {stack}: {reason}")]
    ChangesRefused {
        /// The stack.
        stack: String,
        /// Why.
        reason: String,
    },
    /// CloudFormation could not finish.
    #[error("stack {stack} is {status}{}", reasons_of(reasons))]
    NotFinished {
        /// The stack.
        stack: String,
        /// Its status.
        status: String,
        /// Resources that failed, and why.
        reasons: Vec<(String, String)>,
    },
    /// Permissions that the caller lacks.
    #[error("the caller {caller} lacks {}", missing.join(", "))]
    Permissions {
        /// ARN of the caller.
        caller: String,
        /// Actions with their resources.
        missing: Vec<String>,
    },
    /// The stack is protected from deletion.
    #[error("{what} protected from deletion")]
    Protected {
        /// What, with its verb.
        what: String,
        /// The command that removes the protection.
        command: String,
    },
    /// A confirmation is needed, and there is no terminal to ask on.
    #[error("this asks before it {what}, but standard input is not a terminal")]
    Unconfirmed {
        /// What it does.
        what: &'static str,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if paths.is_empty() { "the folder of this program".to_owned() } else { paths.join(" or ") }
}

fn reasons_of(reasons: &[(String, String)]) -> String {
    reasons.iter().map(|(resource, reason)| format!("; {resource}: {reason}")).collect()
}

impl StackFailure {
    /// The kind, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StackFailure::NoCode { .. }
            | StackFailure::FunctionMissing { .. }
            | StackFailure::UnreadableCode { .. }
            | StackFailure::NotAZip { .. } => ErrorKind::NoCode,
            StackFailure::NameTooLong { .. } => ErrorKind::Usage,
            StackFailure::UnknownParameter { .. } => ErrorKind::UnknownParameter,
            StackFailure::ForeignStack { .. } => ErrorKind::ForeignStack,
            StackFailure::TablesRemain { .. } => ErrorKind::TablesRemain,
            StackFailure::ForeignBucket { .. } | StackFailure::BucketElsewhere { .. } => ErrorKind::ForeignBucket,
            StackFailure::NoBucket { .. } => ErrorKind::NoBucket,
            StackFailure::Broken { .. } => ErrorKind::BrokenStack,
            StackFailure::ChangesRefused { .. } => ErrorKind::ChangesRefused,
            StackFailure::NotFinished { .. } => ErrorKind::NotFinished,
            StackFailure::Permissions { .. } => ErrorKind::Permissions,
            StackFailure::Protected { .. } => ErrorKind::Protected,
            StackFailure::Unconfirmed { .. } => ErrorKind::Unconfirmed,
        }
    }

    /// What to do about it; empty where the message is enough.
    pub fn remedy(&self) -> String {
        match self {
            StackFailure::NoCode { .. } => "A release has it in share/ses-breaker/functions. After `cargo lambda build` \
                                            in a checkout, name the folder: --functions target/lambda"
                .to_owned(),
            StackFailure::FunctionMissing { .. }
            | StackFailure::UnreadableCode { .. }
            | StackFailure::NotAZip { .. } => "Install the release again, or build the functions again.".to_owned(),
            StackFailure::NameTooLong { .. } => {
                "Roles are named after it, and AWS allows 64 characters for those.".to_owned()
            }
            StackFailure::UnknownParameter { nearest, .. } => {
                let nearest = if nearest.is_empty() { String::new() } else { format!("Did you mean {}? ", nearest.join(" or ")) };
                format!("{nearest}All parameters: ses-breaker deploy --print-template")
            }
            StackFailure::ForeignStack { .. } => "It was left as it is. Choose another name with --stack.".to_owned(),
            StackFailure::TablesRemain { stack, .. } => format!(
                "They hold its history. To delete them and begin anew: ses-breaker down --purge --stack {stack}. To keep \
                 them, deploy under another name with --stack."
            ),
            StackFailure::ForeignBucket { chosen: true, .. } => {
                "Nothing was uploaded. Name a bucket of your own in this Region with --bucket, or allow the caller \
                 s3:ListBucket on it."
                    .to_owned()
            }
            StackFailure::ForeignBucket { chosen: false, .. } => {
                "Nothing was uploaded. Check its name, and that the caller may s3:ListBucket on it.".to_owned()
            }
            StackFailure::BucketElsewhere { .. } | StackFailure::NoBucket { .. } => {
                "Lambda reads code in its own Region only. Name a bucket there, or leave out --bucket and one is made.".to_owned()
            }
            StackFailure::ChangesRefused { .. } => String::new(),
            StackFailure::Broken { .. } => "Without --dry-run, it is repaired or deleted first, after a question.".to_owned(),
            StackFailure::NotFinished { status, .. } if status == "DELETE_FAILED" => {
                "Remove what blocks the deletion, then run the same command again.".to_owned()
            }
            StackFailure::NotFinished { reasons, .. } => {
                let says = |words: &str| reasons.iter().any(|(_, reason)| reason.contains(words));
                if says("UnreservedConcurrentExecution") {
                    "The account's concurrency limit is too low to reserve any: add --parameter ReserveConcurrency=false"
                        .to_owned()
                } else if says("not authorized") || says("AccessDenied") {
                    "Allow the caller what `ses-breaker policy-of deployer` prints, then run the same command again."
                        .to_owned()
                } else if reasons.is_empty() {
                    "Another change may be running. Run the same command again.".to_owned()
                } else {
                    "Nothing of it is left that blocks another try: fix the cause, then run the same command again."
                        .to_owned()
                }
            }
            StackFailure::Permissions { .. } => {
                "Nothing was created. What it needs, as a policy: ses-breaker policy-of deployer. IAM's simulator does not know \
                 every condition: where it is wrong, add --skip-permission-check"
                    .to_owned()
            }
            StackFailure::Protected { command, .. } => format!("To remove the protection: {command}"),
            StackFailure::Unconfirmed { .. } => "Add --yes.".to_owned(),
        }
    }
}
