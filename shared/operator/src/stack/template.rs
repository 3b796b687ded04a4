//! The template that is deployed: `infra/template.yaml`, with the functions' code in a bucket.

use std::fmt::Write as _;

/// The template of this release.
const TEMPLATE: &str = include_str!("../../../../infra/template.yaml");

/// The functions that it deploys.
pub const FUNCTIONS: [&str; 5] = ["ingest", "breaker", "enforcer", "warmup", "gate"];
/// The parameter that names the bucket of the functions' code.
pub const CODE_BUCKET: &str = "CodeBucket";
/// The parameter with what precedes `ingest.zip` in the key of an object.
pub const CODE_PREFIX: &str = "CodePrefix";
/// The parameter that chooses the processor architecture.
pub const ARCHITECTURE: &str = "Architecture";
/// The parameter that reserves the enforcer's concurrency.
pub const RESERVE_CONCURRENCY: &str = "ReserveConcurrency";
/// The parameter with the address for alerts.
pub const ALERT_EMAIL: &str = "AlertEmail";

const LOCAL_CODE: &str = "      CodeUri: ../target/lambda/";

/// The template as it is deployed without SAM's command line: the local folders of code are replaced with objects in a
/// bucket, which two more parameters name. SAM's transform runs in CloudFormation.
pub fn packaged() -> String {
    let mut packaged = String::with_capacity(TEMPLATE.len() + 1_000);
    for line in TEMPLATE.lines() {
        if let Some(folder) = line.strip_prefix(LOCAL_CODE) {
            let name = folder.trim_end_matches('/');
            let _ = writeln!(
                packaged,
                "      CodeUri: {{ Bucket: !Ref {CODE_BUCKET}, Key: !Sub \"${{{CODE_PREFIX}}}{name}.zip\" }}"
            );
            continue;
        }
        packaged.push_str(line);
        packaged.push('\n');
        if line == "Parameters:" {
            let _ = write!(
                packaged,
                "  {CODE_BUCKET}:\n    Description: The bucket that holds the code of the functions.\n    Type: String\n  \
                 {CODE_PREFIX}:\n    Description: What precedes NAME.zip in the keys of the code.\n    Type: String\n"
            );
        }
    }
    packaged
}

/// The names of the parameters of `infra/template.yaml`, which a person may set.
pub fn parameters() -> Vec<&'static str> {
    let below = TEMPLATE.lines().skip_while(|line| *line != "Parameters:").skip(1);
    let block = below.take_while(|line| line.is_empty() || line.starts_with(' '));
    block.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':').filter(|name| !name.starts_with(' '))).collect()
}

/// The beginning of its description, by which its stacks are recognised, whatever their release.
pub fn is_ours(description: &str) -> bool {
    description.starts_with("ses-breaker: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_code_comes_from_the_bucket() {
        let packaged = packaged();
        assert!(!packaged.contains("../target"), "a local path is left");
        for function in FUNCTIONS {
            let key = format!("Key: !Sub \"${{CodePrefix}}{function}.zip\"");
            assert_eq!(packaged.matches(&key).count(), 1, "{function}");
        }
        assert_eq!(packaged.matches("CodeUri:").count(), FUNCTIONS.len());
        let description = packaged.split_once("Description: >-\n").unwrap().1;
        assert!(is_ours(description.trim_start()));
    }

    #[test]
    fn the_parameters_are_those_of_the_template() {
        let parameters = parameters();
        for known in [ARCHITECTURE, RESERVE_CONCURRENCY, ALERT_EMAIL, "ProtectTables", "MayPauseAccount"] {
            assert!(parameters.contains(&known), "{parameters:?}");
        }
        // Each is described in the block of labels, too.
        for name in &parameters {
            assert!(TEMPLATE.contains(&format!("      {name}: {{ default: ")), "{name}");
        }
    }
}
