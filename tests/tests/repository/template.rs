//! Properties of the template that neither its linters nor the emulator check.

use std::fs;

/// The indentation of a line; `None` for lines without content.
fn indentation(line: &str) -> Option<usize> {
    let content = line.trim_start();
    (!content.is_empty() && !content.starts_with('#')).then(|| line.len() - content.len())
}

/// The blocks below each line of this content, each with the number of that line.
fn blocks<'t>(template: &'t str, heading: &str) -> Vec<(usize, Vec<&'t str>)> {
    let lines: Vec<&str> = template.lines().collect();
    let headings = (0..lines.len()).filter(|at| lines[*at].trim() == heading);
    let block = |at: usize| {
        let own = indentation(lines[at]);
        let below = lines[at + 1..].iter().filter(|line| indentation(line).is_some());
        (at + 1, below.take_while(|line| indentation(line) > own).map(|line| line.trim()).collect())
    };
    headings.map(block).collect()
}

/// Other accounts may put events on the default bus if its policy allows them, and those events keep their source.
#[test]
fn every_pattern_of_a_rule_names_this_account() {
    let template = fs::read_to_string("../infra/template.yaml").unwrap();
    let of_rules = blocks(&template, "EventPattern:");
    let of_functions = blocks(&template, "Pattern:");
    let count = |text: &str| template.matches(text).count();
    // A rule has a pattern or a schedule; a schedule matches no event.
    assert_eq!(of_rules.len(), count("Type: AWS::Events::Rule") - count("ScheduleExpression:"));
    assert_eq!(of_functions.len(), count("Type: EventBridgeRule") + count("Type: CloudWatchEvent"));
    assert!(of_rules.len() >= 2 && !of_functions.is_empty(), "the rules are not found");
    let nameless: Vec<usize> = of_rules
        .iter()
        .chain(&of_functions)
        .filter(|(_, block)| !block.contains(&"account: [!Ref AWS::AccountId]"))
        .map(|(line, _)| *line)
        .collect();
    assert!(nameless.is_empty(), "patterns of any account, in lines {nameless:?} of infra/template.yaml");
}

#[test]
fn the_template_names_the_release_that_it_is_of() {
    let template = fs::read_to_string("../infra/template.yaml").unwrap();
    let output = template.split_once("  Release:\n").unwrap().1;
    let value = output.lines().find_map(|line| line.trim().strip_prefix("Value: ")).unwrap();
    assert_eq!(value, format!("\"{}\"", env!("CARGO_PKG_VERSION")));
}
