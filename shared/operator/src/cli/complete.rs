//! Completion in a shell: its script calls the program back, so that names come from the stack.
//!
//! The protocol is that of clap's dynamic engine: the words so far after `--`, and the variable [`VARIABLE`] that names the
//! shell.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;
use terminal::manual::{Completions, Shell};

use super::arguments::{self, Cli};
use crate::Exit;
use crate::access::Route;
use crate::names::{self, Named};

/// Names the shell that asks. Not clap's own `COMPLETE`, which another program may have set for itself.
const VARIABLE: &str = "SES_BREAKER_COMPLETE";

/// Looks up names: what is named, and how it begins.
type LookUp = dyn Fn(Named, &str) -> Vec<String> + Send + Sync;

/// The script that makes a shell complete the words of `ses-breaker`.
pub(super) fn script(shell: Shell) -> io::Result<Completions> {
    let name = shell.to_string();
    let mut script = Vec::new();
    if let Some(completer) = Shells::builtins().completer(&name) {
        let program = "ses-breaker";
        completer.write_registration(VARIABLE, program, program, program, &mut script)?;
    }
    let script = String::from_utf8_lossy(&script).into_owned();
    // A program that is not there, or not any more, must not write between the words.
    let script = script.replace("\" -- \"${words[@]}\" \\\n    ) )", "\" -- \"${words[@]}\" 2>/dev/null \\\n    ) )");
    Ok(Completions { shell: name, script })
}

/// Answers a shell that asks for completions; `None` if none does. Nothing is printed about what fails.
pub fn completed(arguments: impl IntoIterator<Item = OsString>) -> Option<Exit> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (stack, route) = asked_about(&words);
    let look_up: Arc<LookUp> = Arc::new(move |named, written| names::looked_up(&stack, &route, named, written));
    let answer = CompleteEnv::with_factory(|| with_names(Cli::command(), &look_up)).var(VARIABLE);
    match answer.try_complete(arguments, std::env::current_dir().ok().as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(Exit::Done),
        Err(_) => Some(Exit::Usage),
    }
}

/// The command with completion of names in all its verbs.
fn with_names(command: Command, look_up: &Arc<LookUp>) -> Command {
    let verb = command.get_name().to_owned();
    let complete = |arg: Arg| {
        let named = match (arg.get_id().as_str(), verb.as_str()) {
            ("configuration_set", "quota" | "set" | "complete" | "reset") => Named::PlannedSet,
            ("configuration_sets", _) => Named::Set,
            ("subject" | "subjects", _) => Named::Subject,
            ("isp", _) => Named::Isp,
            _ => return arg,
        };
        let look_up = Arc::clone(look_up);
        arg.add(ArgValueCompleter::new(move |written: &OsStr| -> Vec<CompletionCandidate> {
            look_up(named, &written.to_string_lossy()).into_iter().map(CompletionCandidate::new).collect()
        }))
    };
    command.mut_args(complete).mut_subcommands(|verb| with_names(verb, look_up))
}

/// The stack that the words so far are about, and how to reach it.
fn asked_about(words: &[String]) -> (String, Route) {
    let option = |name: &str| {
        let after =
            words.iter().zip(words.iter().skip(1)).rev().find(|(word, _)| *word == name).map(|(_, value)| value);
        let joined = words.iter().rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        joined.map(str::to_owned).or(after.cloned())
    };
    let stack = option("--stack").or_else(|| std::env::var("SES_BREAKER_STACK").ok());
    let stack = stack.filter(|stack| arguments::stack(stack).is_ok()).unwrap_or_else(|| "ses-breaker".to_owned());
    let [profile, region, endpoint_url] = ["--profile", "--region", "--endpoint-url"].map(option);
    (stack, Route { profile, region, endpoint_url })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is offered for the last of these words.
    fn offered(line: &str) -> Vec<String> {
        let look_up: Arc<LookUp> = Arc::new(|named, written| vec![format!("<{named:?} {written}>")]);
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let last = words.len() - 1;
        let mut command = with_names(Cli::command(), &look_up);
        let candidates = clap_complete::engine::complete(&mut command, words, last, None).unwrap();
        candidates.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn each_argument_that_is_a_name_is_looked_up() {
        for (line, expected) in [
            ("ses-breaker stop ne", "<Subject ne>"),
            ("ses-breaker resume news sh", "<Subject sh>"),
            ("ses-breaker explain ", "<Subject >"),
            ("ses-breaker status ", "<Subject >"),
            ("ses-breaker --region eu-west-1 history ", "<Subject >"),
            ("ses-breaker release news --isp g", "<Isp g>"),
            ("ses-breaker explain news --isp=g", "--isp=<Isp g>"),
            ("ses-breaker connect ", "<Set >"),
            ("ses-breaker up a b", "<Set b>"),
            ("ses-breaker disconnect --dry-run n", "<Set n>"),
            ("ses-breaker quota ", "<PlannedSet >"),
            ("ses-breaker quota set ne", "<PlannedSet ne>"),
            ("ses-breaker quota reset news --isp g", "<Isp g>"),
        ] {
            let offered = offered(line);
            assert!(offered.iter().any(|value| value == expected), "{line}: {offered:?}");
        }
        assert_eq!(offered("ses-breaker completions ba"), ["bash"]);
        assert_eq!(offered("ses-breaker sta"), ["status"]);
    }

    #[test]
    fn the_stack_is_the_one_that_the_words_name() {
        let check = |line: &str, stack: &str, region: Option<&str>, profile: Option<&str>| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let (named, route) = asked_about(&words);
            assert_eq!((named.as_str(), route.region.as_deref(), route.profile.as_deref()), (stack, region, profile));
        };
        check("ses-breaker -- ses-breaker stop --stack mail --region=eu-west-1", "mail", Some("eu-west-1"), None);
        check("ses-breaker -- ses-breaker --stack=mail stop --profile work x", "mail", None, Some("work"));
        check("ses-breaker -- ses-breaker stop --stack a/b x", "ses-breaker", None, None);
        check("ses-breaker -- ses-breaker stop --region", "ses-breaker", None, None);
    }

    #[test]
    fn every_shell_has_a_script_that_calls_the_program_by_its_name() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let Completions { script, .. } = script(shell).unwrap();
            let calls = script.contains("ses-breaker --") || script.contains("\"ses-breaker\" --");
            assert!(script.contains(VARIABLE) && calls, "{shell}: {script}");
        }
        assert!(script(Shell::Bash).unwrap().script.contains("2>/dev/null \\\n    ) )"));
    }
}
