//! One meaning a word, to the public: mail is sending, slowed, stopped or testing; a person stops, resumes, bypasses, shadows or
//! releases; the ISP is held. What people read is searched for the words that meant the same before.
//!
//! Closed, throttled, open and probing are for engineers: they are allowed in code spans, in a paragraph that says that it is for
//! engineers, about JSON or in code, and in parentheses behind the public word, as `explain` prints them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What people read, from the root of the repository. The comments of the arguments are the help of both programs, and the texts
/// of the page are its strings.
const PUBLIC: [&str; 16] = [
    "README.md",
    "SECURITY.md",
    "infra/INSTALL.md",
    "infra/GATE.md",
    "infra/LIMITS.md",
    "infra/RUNBOOK.md",
    "infra/POLICY.md",
    "infra/THREAT-MODEL.md",
    "infra/policy.toml",
    "shared/operator/README.md",
    "shared/replay/README.md",
    "events/README.md",
    "shared/operator/src/cli/arguments.rs",
    "shared/replay/src/cli/arguments.rs",
    "shared/replay/src/page/page.html",
    "shared/replay/src/page/page.js",
];

/// What people read who change the code. The words of engineers are at home there.
const FOR_ENGINEERS: [&str; 4] =
    ["ARCHITECTURE.md", "CONTRIBUTING.md", "shared/README.md", "shared/reputation/HOW-IT-DECIDES.md"];

/// Commands of earlier releases.
const OLD_COMMANDS: [&str; 3] = ["ses-breaker pause", "ses-breaker hold", "resume --hold"];

/// Words for what has another name now.
const OLD_WORDS: [&str; 12] = [
    "closed",
    "closes",
    "throttled",
    "throttles",
    "open",
    "opens",
    "opened",
    "probing",
    "probed",
    "hold",
    "holds",
    "held",
];

/// Words that read as translated when they come often; here they do not come.
const ACCENT: [&str; 7] = ["whoever", "whomever", "upon", "mend", "mended", "lest", "thereof"];

/// Where an old word has another meaning, in full.
const ALLOWED: [&str; 22] = [
    // Of an ISP.
    "isp is held",
    "*held*",
    "**held**",
    "`[held]`",
    "isp cannot be held",
    "isps that were held",
    "gate can hold the isp",
    "the isp is held again",
    "hold `gmail` for all senders",
    "mail to gmail would have been held for all senders",
    // What somebody opens.
    "open the ses console",
    "the address to open",
    "opens and clicks",
    "case that it opened",
    // What an ISP or a service does, in its own words.
    "listed or throttled",
    "address is throttled",
    "or throttles",
    "errors, throttles",
    "errors and throttles",
    "*throttles*",
    "refuses or throttles",
    "providers throttle",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new("..").join(path)).unwrap()
}

/// What people read of a file, by paragraph, in lower case and with blanks for line ends.
fn paragraphs(path: &str) -> Vec<String> {
    let text = read(path);
    let public = match path.rsplit('.').next().unwrap() {
        "rs" => help(&text),
        "js" => strings(&text),
        "toml" => text
            .lines()
            .map(|line| line.split_once('#').map_or("", |(_, comment)| comment.trim()).to_owned() + "\n")
            .collect(),
        // What is in a block of code is read, too; only the marks of the block are not.
        _ => text.lines().map(|line| if line.starts_with("```") { "" } else { line }.to_owned() + " \n").collect(),
    };
    let paragraphs = public.split("\n\n").flat_map(|part| part.split("\n| ")).flat_map(|part| part.split("\n- "));
    paragraphs.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()).collect()
}

/// The help text of arguments: their doc comments and string literals, up to the tests.
fn help(text: &str) -> String {
    let shown = text.split("#[cfg(test)]").next().unwrap();
    let lines =
        shown.lines().filter(|line| !line.trim_start().starts_with("// ") && !line.trim_start().starts_with("//!"));
    let is_code = |line: &str| {
        line.contains("#[arg(")
            || line.contains("#[command(alias")
            || line.contains("pub(crate)")
            || line.contains("pub(super)")
    };
    lines
        .filter(|line| !is_code(line))
        .map(|line| line.trim_start().trim_start_matches("///").to_owned() + "\n")
        .collect()
}

/// The strings of a script in which there are words, each a paragraph. Quotes within templates end a string too early, which does
/// no harm here.
fn strings(text: &str) -> String {
    let mut found = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for quote in ['"', '`'] {
            for part in line.split(quote).skip(1).step_by(2).filter(|part| part.contains(' ')) {
                found.push_str(&format!("{}\n\n", without_expressions(part)));
            }
        }
    }
    found
}

/// A template without what is computed in it.
fn without_expressions(template: &str) -> String {
    let mut parts = template.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.split_once('}').map_or("", |(_, rest)| rest)).collect::<String>()
}

/// Without its code spans.
fn prose(paragraph: &str) -> String {
    paragraph.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').map(str::to_owned).collect()
}

/// What is wrong in a paragraph.
fn old_senses(paragraph: &str) -> Vec<String> {
    let mut wrong: Vec<String> =
        OLD_COMMANDS.iter().filter(|old| paragraph.contains(**old)).map(|old| (*old).to_owned()).collect();
    let mut left = paragraph.to_owned();
    for allowed in ALLOWED {
        left = left.replace(allowed, "");
    }
    for state in ["closed", "throttled", "open", "probing"] {
        left = left.replace(&format!("({state})"), "");
    }
    let prose = words(&prose(&left));
    wrong.extend(ACCENT.iter().filter(|word| prose.contains(**word)).map(|word| (*word).to_owned()));
    let is_for_engineers = ["engineers", "json", "in code"].iter().any(|mark| paragraph.contains(mark));
    if !is_for_engineers {
        wrong.extend(OLD_WORDS.iter().filter(|word| prose.contains(**word)).map(|word| (*word).to_owned()));
    }
    wrong
}

#[test]
fn what_people_read_has_one_vocabulary() {
    let mut wrong = Vec::new();
    for path in PUBLIC {
        for paragraph in paragraphs(path) {
            for word in old_senses(&paragraph) {
                wrong.push(format!("{path}: `{word}` in: {paragraph}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} places use a word in an old sense:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn documents_for_engineers_read_like_the_others() {
    for path in FOR_ENGINEERS {
        for paragraph in paragraphs(path) {
            let found = words(&prose(&paragraph));
            let wrong: Vec<&&str> = ACCENT.iter().filter(|word| found.contains(**word)).collect();
            let old: Vec<&&str> = OLD_COMMANDS.iter().filter(|old| paragraph.contains(**old)).collect();
            assert!(wrong.is_empty() && old.is_empty(), "{path}: {wrong:?} {old:?} in: {paragraph}");
        }
    }
}

#[test]
fn old_senses_are_found_and_those_for_engineers_are_not() {
    for (text, expected) in [
        ("the breaker is open", &["open"][..]),
        ("`ses-breaker hold configuration-set:news`", &["ses-breaker hold"]),
        ("to undo it: ses-breaker pause account", &["ses-breaker pause"]),
        ("a person holds it closed", &["closed", "holds"]),
        ("it was mended, whoever did it", &["whoever", "mended"]),
        ("for engineers: closed, throttled, open, probing", &[]),
        ("in json, the state is open", &[]),
        ("breaker: stopped (open) since 09:00", &[]),
        ("the isp is held, and mail is slowed", &[]),
        ("set `breaker.open_minutes` and `hold_minutes`", &[]),
    ] {
        let found = old_senses(text);
        assert_eq!(
            found.iter().collect::<BTreeSet<_>>(),
            expected.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>().iter().collect(),
            "{text}"
        );
    }
}

#[test]
fn no_exception_is_left_over() {
    let all: String = PUBLIC.iter().flat_map(|path| paragraphs(path)).collect::<Vec<_>>().join("\n");
    let unused: Vec<&str> = ALLOWED.into_iter().filter(|allowed| !all.contains(allowed)).collect();
    assert!(unused.is_empty(), "no text has {unused:?}");
}
