//! Shell completions and manual pages, generated from the command line's definition.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use serde::Serialize;

use crate::failure::Failure;

/// A completion script.
#[derive(Clone, Debug, Serialize)]
pub struct Completions {
    /// The shell.
    pub shell: String,
    /// The script.
    pub script: String,
}

/// Manual pages that were written.
#[derive(Clone, Debug, Serialize)]
pub struct Pages {
    /// Their paths.
    pub pages: Vec<String>,
}

/// The completions of a command for a shell.
pub(crate) fn completions(shell: Shell, mut command: Command) -> Completions {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        // The generator doubles the hyphen of a program's name in one place and not in the other (clap_complete 4.6), so
        // nothing after a verb would be completed.
        script = script.replace("ses__subcmd__breaker", "ses__breaker");
    }
    Completions { shell: shell.to_string(), script }
}

/// Writes the manual pages of a command and its subcommands into a folder, which is created if it does not exist.
///
/// # Errors
///
/// The folder or a page in it cannot be written.
pub(crate) fn pages(folder: &Path, command: Command) -> Result<Pages, Failure> {
    let unwritable = |path: &Path, source| Failure::Unwritable { path: path.to_owned(), source };
    fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
    let mut pages = Vec::new();
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|known| !known.is_hide_set()).cloned());
        let page = clap_mangen::Man::new(command);
        let path = folder.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text).map_err(|source| unwritable(&path, source))?;
        fs::write(&path, text).map_err(|source| unwritable(&path, source))?;
        pages.push(path.display().to_string());
    }
    pages.sort();
    Ok(Pages { pages })
}
