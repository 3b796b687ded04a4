//! Shell completions and manual pages, generated from a command line's definition.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
pub use clap_complete::Shell;
use serde::Serialize;

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

/// A folder or a page that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct PagesError {
    /// The folder or the page.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// The completions of a command for a shell.
pub fn completions(shell: Shell, mut command: Command) -> Completions {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    Completions { shell: shell.to_string(), script: String::from_utf8_lossy(&script).into_owned() }
}

/// Writes the manual pages of a command and its subcommands into a folder, which is created if it does not exist.
///
/// # Errors
///
/// The folder or a page in it cannot be written.
pub fn pages(folder: &Path, command: Command) -> Result<Pages, PagesError> {
    let unwritable = |path: &Path, source| PagesError { path: path.to_owned(), source };
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
