//! The page for applications quotes its examples as they are, so what it shows is what is tested.

use std::fs;
use std::path::Path;

const PAGE: &str = "../infra/APPLICATIONS.md";
const EXAMPLES: &str = "../infra/applications";

/// The examples' paths below their folder, sorted.
fn examples() -> Vec<String> {
    let mut examples = Vec::new();
    for folder in fs::read_dir(EXAMPLES).unwrap() {
        let folder = folder.unwrap().path();
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            examples.push(file.strip_prefix(EXAMPLES).unwrap().to_str().unwrap().to_owned());
        }
    }
    examples.sort();
    examples
}

/// What the page quotes: after a line with nothing but a link to an example, a blank line and a block of code.
fn quotations(page: &str) -> Vec<(String, String)> {
    let mut quotations = Vec::new();
    for part in page.split("\n[`applications/").skip(1) {
        let Some((path, rest)) = part.split_once("`](applications/") else { continue };
        let Some(block) = rest.strip_prefix(&format!("{path})\n\n```")) else { continue };
        let (_language, code) = block.split_once('\n').unwrap();
        quotations.push((path.to_owned(), code.split_inclusive('\n').take_while(|line| *line != "```\n").collect()));
    }
    quotations.sort();
    quotations
}

/// With `UPDATE=1` the page is written anew.
#[test]
fn the_page_quotes_every_example_as_it_is() {
    let mut page = fs::read_to_string(PAGE).unwrap();
    let quoted = quotations(&page);
    let paths: Vec<&String> = quoted.iter().map(|(path, _)| path).collect();
    assert_eq!(paths, examples().iter().collect::<Vec<_>>(), "each example is quoted once");
    assert!(paths.len() >= 10, "{paths:?}");
    for (path, code) in &quoted {
        let example = fs::read_to_string(Path::new(EXAMPLES).join(path)).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            page = page.replace(&format!("\n{code}```\n"), &format!("\n{example}```\n"));
        } else {
            assert_eq!(*code, example, "infra/APPLICATIONS.md quotes another {path}: UPDATE=1 writes it anew");
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(PAGE, page).unwrap();
    }
}

#[test]
fn a_quotation_is_found_with_its_code() {
    let page = "Text.\n\n[`applications/a/b.py`](applications/a/b.py)\n\n```python\nx = 1\n\ny = 2\n```\n\nMore.\n";
    assert_eq!(quotations(page), [("a/b.py".to_owned(), "x = 1\n\ny = 2\n".to_owned())]);
    assert_eq!(quotations("\n[`applications/a/b.py`](applications/a/b.py) is one.\n"), []);
}
