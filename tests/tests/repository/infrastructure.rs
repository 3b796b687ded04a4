//! The Terraform module and the CDK construct know exactly the parameters and outputs of the template, with their types, ranges and
//! default values. What the construct makes of the template is tested where it is: `infra/cdk/test`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Parameters of the packaged template, which say where the code of the functions is.
const OF_THE_PACKAGE: [&str; 2] = ["CodeBucket", "CodePrefix"];

/// Variables of the module that are no parameters of the template.
const OF_THE_MODULE: [&str; 3] = ["package", "name", "tags"];

fn read(path: &str) -> String {
    fs::read_to_string(format!("../{path}")).unwrap()
}

/// The entries of a section of the template, each with its lines. Comments are left out.
fn section(template: &str, name: &str) -> BTreeMap<String, Vec<String>> {
    let lines = template.lines().skip_while(|line| *line != format!("{name}:")).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
    let mut entries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in lines.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(entry) if !entry.starts_with(' ') => last = entry.trim_end_matches(':').to_owned(),
            _ => entries.entry(last.clone()).or_default().push(line.trim().to_owned()),
        }
    }
    entries
}

/// A property of a parameter, without quotes. A list may begin on the next line.
fn property(lines: &[String], name: &str) -> Option<String> {
    let at = lines.iter().position(|line| line.split(':').next() == Some(name))?;
    let value = lines[at].split_once(':').unwrap().1.trim();
    let value = if value.is_empty() { &lines[at + 1] } else { value };
    Some(value.trim_matches('"').to_owned())
}

/// The items of a list in one line, without quotes.
fn items(list: &str) -> Vec<String> {
    list.trim_matches(['[', ']']).split(',').map(|item| item.trim().trim_matches('"').to_owned()).collect()
}

/// `MayPauseAccount` as `may_pause_account`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// `MayPauseAccount` as `mayPauseAccount`.
fn camel(name: &str) -> String {
    name[..1].to_lowercase() + &name[1..]
}

/// The blocks of a Terraform file of one kind, by their label.
fn blocks(file: &str, kind: &str) -> BTreeMap<String, String> {
    let text = format!("\n{file}");
    let beginning = format!("\n{kind} \"");
    let parts = text.split(&beginning).skip(1);
    let block = |part: &str| {
        let (label, rest) = part.split_once("\" {\n").unwrap();
        (label.to_owned(), rest.split("\n}").next().unwrap().to_owned())
    };
    parts.map(block).collect()
}

/// The value of an argument of a block.
fn argument<'b>(block: &'b str, name: &str) -> Option<&'b str> {
    let lines = block.lines().filter_map(|line| line.trim().split_once(" = "));
    lines.filter(|(known, _)| known.trim() == name).map(|(_, value)| value.trim()).next()
}

fn parameters() -> BTreeMap<String, Vec<String>> {
    let parameters = section(&read("infra/template.yaml"), "Parameters");
    assert!(parameters.len() > 10, "{parameters:?}");
    parameters.into_iter().filter(|(name, _)| !OF_THE_PACKAGE.contains(&name.as_str())).collect()
}

fn outputs() -> BTreeSet<String> {
    let outputs: BTreeSet<String> = section(&read("infra/template.yaml"), "Outputs").into_keys().collect();
    assert!(outputs.len() > 5, "{outputs:?}");
    outputs
}

#[test]
fn the_module_has_a_variable_for_each_parameter_with_its_type_and_range() {
    let variables = blocks(&read("infra/terraform/variables.tf"), "variable");
    let parameters = parameters();
    let expected: BTreeSet<String> =
        parameters.keys().map(|name| snake(name)).chain(OF_THE_MODULE.map(str::to_owned)).collect();
    assert_eq!(variables.keys().cloned().collect::<BTreeSet<_>>(), expected);
    for (name, lines) in &parameters {
        let variable = &variables[&snake(name)];
        let allowed = property(lines, "AllowedValues").map(|list| items(&list));
        let is_bool = allowed.as_deref().is_some_and(|allowed| allowed == ["true", "false"]);
        let kind = match property(lines, "Type").unwrap().as_str() {
            "String" if is_bool => "bool",
            "String" => "string",
            "Number" => "number",
            other => panic!("{name} has the type {other}"),
        };
        assert_eq!(argument(variable, "type"), Some(kind), "{name}");
        // The architecture also chooses the code; any other default is the template's.
        let default = property(lines, "Default").unwrap();
        let expected = if name == "Architecture" { format!("\"{default}\"") } else { "null".to_owned() };
        assert_eq!(argument(variable, "default"), Some(expected.as_str()), "{name}");
        for (limit, sign) in [("MinValue", ">="), ("MaxValue", "<=")] {
            if let Some(limit) = property(lines, limit) {
                let condition = format!("var.{} {sign} {limit}", snake(name));
                let found = variable.lines().any(|line| {
                    let mut parts = line.match_indices(&condition).map(|(at, _)| &line[at + condition.len()..]);
                    parts.any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
                });
                assert!(found, "{name}: no validation says {condition}");
            }
        }
        if let Some(pattern) = property(lines, "AllowedPattern") {
            let condition = format!("regex(\"{}\"", pattern.replace('\\', "\\\\"));
            assert!(variable.contains(&condition), "{name}: no validation says {condition}");
        }
        if let Some(allowed) = allowed.filter(|_| !is_bool) {
            let quote = if kind == "number" { "" } else { "\"" };
            let list: Vec<String> = allowed.iter().map(|item| format!("{quote}{item}{quote}")).collect();
            let list = format!("[{}]", list.join(", "));
            assert!(variable.contains(&list), "{name}: no validation has {list}");
        }
    }
}

#[test]
fn the_module_passes_each_parameter_on_and_returns_each_output() {
    let locals = read("infra/terraform/locals.tf");
    for name in parameters().keys() {
        assert_eq!(argument(&locals, name), Some(format!("var.{}", snake(name)).as_str()), "infra/terraform/locals.tf");
    }
    let returned = blocks(&read("infra/terraform/outputs.tf"), "output");
    let outputs = outputs();
    assert_eq!(returned.keys().cloned().collect::<BTreeSet<_>>(), outputs.iter().map(|name| snake(name)).collect());
    for name in &outputs {
        let value = format!("aws_cloudformation_stack.ses_breaker.outputs[\"{name}\"]");
        assert_eq!(argument(&returned[&snake(name)], "value"), Some(value.as_str()));
    }
}

#[test]
fn the_construct_has_a_property_for_each_parameter_and_output() {
    let source = read("infra/cdk/lib/ses-breaker.ts");
    for (interface, names) in
        [("SesBreakerParameters", parameters().into_keys().collect()), ("SesBreakerOutputs", outputs())]
    {
        let body = source.split(&format!("export interface {interface} {{\n")).nth(1).unwrap();
        let lines = body.lines().take_while(|line| *line != "}");
        let properties = lines.filter_map(|line| line.trim().strip_prefix("readonly ")?.split([':', '?']).next());
        let properties: BTreeSet<String> = properties.map(str::to_owned).collect();
        assert_eq!(properties, names.iter().map(|name| camel(name)).collect(), "{interface}");
    }
}

#[test]
fn the_functions_of_the_module_are_those_of_the_template() {
    let template = read("infra/template.yaml");
    let of_template: Vec<&str> = template
        .lines()
        .filter_map(|line| line.trim().strip_prefix("CodeUri: ../target/lambda/"))
        .map(|name| name.trim_end_matches('/'))
        .collect();
    assert_eq!(of_template.len(), template.matches("Type: AWS::Serverless::Function").count());
    let locals = read("infra/terraform/locals.tf");
    assert_eq!(items(argument(&locals, "functions").unwrap()), of_template);
}

#[test]
fn parameters_are_read_as_they_are_written() {
    let template = "A: 1\nParameters:\n  # Why.\n  One:\n    Type: Number\n    MaxValue: 5\n\n  TwoWords:\n    Type: String\n    \
                    AllowedValues:\n      [a, \"b\"]\nConditions:\n  Three: x\n";
    let parameters = section(template, "Parameters");
    assert_eq!(parameters.keys().map(|name| snake(name)).collect::<Vec<_>>(), ["one", "two_words"]);
    assert_eq!(property(&parameters["One"], "MaxValue").as_deref(), Some("5"));
    assert_eq!(property(&parameters["One"], "Default"), None);
    assert_eq!(items(&property(&parameters["TwoWords"], "AllowedValues").unwrap()), ["a", "b"]);
    assert_eq!(argument("  type    = bool\n  default = null\n", "default"), Some("null"));
}
