//! One meaning for each public word: mail is sending, slowed, stopped or testing; a person stops, resumes, bypasses, shadows or
//! releases; the ISP is held, and so is mail that a relay keeps. Public texts may not contain their former names, nor words and phrases that read as translated.
//!
//! Closed, throttled, open and probing are for engineers: they are allowed in code spans, in a paragraph for engineers, about JSON
//! or in code, and in parentheses after the public word, as `explain` prints them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Texts for users, from the root of the repository. The comments of the arguments are the help of both programs, and the texts of
/// the page are its strings.
const PUBLIC: [&str; 20] = [
    "README.md",
    "SECURITY.md",
    "infra/INSTALL.md",
    "infra/APPLICATIONS.md",
    "infra/cdk/README.md",
    "infra/terraform/README.md",
    "infra/GATE.md",
    "infra/RELAY.md",
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

/// Texts for engineers, who may use their own words for the states.
const FOR_ENGINEERS: [&str; 4] =
    ["ARCHITECTURE.md", "CONTRIBUTING.md", "shared/README.md", "shared/reputation/HOW-IT-DECIDES.md"];

/// Folders with snapshots of alerts and of the programs' outputs.
const OUTPUTS: [&str; 3] = [
    "shared/pipeline/tests/pipeline/snapshots",
    "shared/operator/tests/operator/snapshots",
    "shared/replay/tests/replay/snapshots",
];

/// Commands of earlier releases.
const OLD_COMMANDS: [&str; 3] = ["ses-breaker pause", "ses-breaker hold", "resume --hold"];

/// Former names.
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

/// Words that read as translated.
const ACCENT: [&str; 8] = ["told", "whoever", "whomever", "upon", "mend", "mended", "lest", "thereof"];

/// Phrases that read as translated, except after "there" and in "no longer": "X is no Y" instead of "X is not a Y".
const ACCENT_PHRASES: [&str; 2] = ["is no ", "are no "];

/// Texts in which mail is held: by a relay, until it may go.
const OF_MAIL: [&str; 2] = ["infra/RELAY.md", "infra/THREAT-MODEL.md"];

/// Phrases in which an old word has another meaning.
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
    // Things that people open.
    "open the ses console",
    "the address to open",
    "opens and clicks",
    "case that it opened",
    // The words of ISPs and services.
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

/// The public text of a file, by paragraph, in lower case and with blanks for line ends.
fn paragraphs(path: &str) -> Vec<String> {
    let text = read(path);
    let public = match path.rsplit('.').next().unwrap() {
        "rs" => help(&text),
        "js" => strings(&text),
        "toml" => text
            .lines()
            .map(|line| line.split_once('#').map_or("", |(_, comment)| comment.trim()).to_owned() + "\n")
            .collect(),
        // Code blocks are included, without their fences.
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

/// The strings of a script that contain several words, each a paragraph. Quotes within templates end a string too early, which
/// does not matter here.
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

/// A template without its expressions.
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

/// Whether a noun may begin here, and not "longer" or a parenthesis.
fn is_a_noun(text: &str) -> bool {
    text.starts_with(char::is_alphabetic) && !text.starts_with("longer")
}

/// The translated words and phrases of a text.
fn accents(prose: &str) -> Vec<String> {
    let found = words(prose);
    let mut wrong: Vec<String> =
        ACCENT.iter().filter(|word| found.contains(**word)).map(|word| (*word).to_owned()).collect();
    for phrase in ACCENT_PHRASES {
        let at = prose.match_indices(phrase).filter(|(at, _)| is_a_noun(&prose[at + phrase.len()..]));
        let at = at.map(|(at, _)| &prose[..at]);
        let starts_a_word = |before: &&str| before.is_empty() || before.ends_with([' ', '(']);
        let accented = at.filter(starts_a_word).filter(|before| !before.ends_with("there ")).count();
        wrong.extend(std::iter::repeat_n(phrase.to_owned(), accented));
    }
    wrong
}

/// The wrong words and phrases of a paragraph.
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
    let left = self::prose(&left);
    wrong.extend(accents(&left));
    let prose = words(&left);
    let is_for_engineers = ["engineers", "json", "in code"].iter().any(|mark| paragraph.contains(mark));
    if !is_for_engineers {
        wrong.extend(OLD_WORDS.iter().filter(|word| prose.contains(**word)).map(|word| (*word).to_owned()));
    }
    wrong
}

#[test]
fn public_texts_have_one_vocabulary() {
    let mut wrong = Vec::new();
    for path in PUBLIC {
        for paragraph in paragraphs(path) {
            for word in old_senses(&paragraph) {
                if OF_MAIL.contains(&path) && ["hold", "holds", "held"].contains(&word.as_str()) {
                    continue;
                }
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

/// The output of a snapshot: without its header, and without the numbers of its lines.
fn output(snapshot: &str) -> String {
    let text = snapshot.splitn(3, "---\n").nth(2).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[test]
fn alerts_and_outputs_read_like_the_documents() {
    let mut wrong = Vec::new();
    for folder in OUTPUTS {
        for entry in fs::read_dir(Path::new("..").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let found = accents(&prose(&output(&fs::read_to_string(&path).unwrap())));
            wrong.extend(found.into_iter().map(|word| format!("{}: `{word}`", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{} outputs read as translated:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn old_senses_are_found_and_those_for_engineers_are_not() {
    for (text, expected) in [
        ("the breaker is open", &["open"][..]),
        ("`ses-breaker hold configuration-set:news`", &["ses-breaker hold"]),
        ("to undo it: ses-breaker pause account", &["ses-breaker pause"]),
        ("a person holds it closed", &["closed", "holds"]),
        ("it was mended, whoever did it", &["whoever", "mended"]),
        ("people are told", &["told"]),
        ("this is no mail, but there is no other", &["is no "]),
        ("there are no domains, and it is no longer there", &[]),
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
