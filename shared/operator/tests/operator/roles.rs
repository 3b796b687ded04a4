//! The policies of people.

use operator::stack::Place;
use operator::stack::permissions::{Role, policy_of};

/// `tests/cloud/permissions.py` compares it with what AWS says about its actions.
#[test]
fn what_a_deployer_may() {
    let place = Place::of_names("eu-west-1", "123456789012", "mail");
    let policy = serde_json::to_string_pretty(&policy_of(Role::Deployer, &place, None)).unwrap();
    insta::assert_snapshot!("deployer", policy);
}
