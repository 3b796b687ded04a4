//! Where a stack is, and what would change in it: what questions and verbs share.

use serde::Serialize;

/// The account and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// The Region.
    pub region: String,
    /// Number of the account.
    pub account: String,
    /// Name of the stack.
    pub stack: String,
}

impl Place {
    /// A place by names that a person gives. The partition follows from the Region.
    pub fn of_names(region: &str, account: &str, stack: &str) -> Place {
        let partition = match region {
            china if china.starts_with("cn-") => "aws-cn",
            government if government.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        let [partition, region, account, stack] = [partition, region, account, stack].map(str::to_owned);
        Place { partition, region, account, stack }
    }
}

/// A resource that a change set would add, change or remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `add`, `change`, `replace` or `remove`.
    pub action: &'static str,
    /// Its name in the template.
    pub resource: String,
    /// Its type, such as `AWS::DynamoDB::Table`.
    pub kind: String,
    /// Whether CloudFormation says that it may be replaced, depending on values that it does not know yet.
    pub may_replace: bool,
}
