//! The functions' code, as a release or a build has it on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::StackFailure;
use super::template::FUNCTIONS;

/// The code of the functions for one processor architecture.
#[derive(Clone, Debug)]
pub struct Package {
    /// The folder that it was read from.
    pub folder: PathBuf,
    /// The processor architecture that it was built for.
    pub architecture: &'static str,
    /// One zip for each of [`FUNCTIONS`].
    pub zips: Vec<(&'static str, Vec<u8>)>,
    /// A digest of all of them, in hexadecimal: the same code has the same.
    pub digest: String,
}

impl Package {
    /// Reads the code from `folder` if one is named, otherwise from where a release has it: `share/ses-breaker/functions/`
    /// beside the folder of this program. A folder holds `NAME.zip`, or `NAME/bootstrap.zip` as cargo-lambda writes it.
    ///
    /// # Errors
    ///
    /// There is no such folder, or a function is missing in it.
    pub fn read(folder: Option<&Path>, architecture: &'static str) -> Result<Package, StackFailure> {
        let looked = match folder {
            Some(folder) => vec![folder.to_owned()],
            None => places(std::env::current_exe().ok().as_deref(), architecture),
        };
        let Some(found) = looked.iter().find(|folder| FUNCTIONS.iter().any(|name| zip(folder, name).is_some())) else {
            return Err(StackFailure::NoCode { looked, architecture: architecture.to_owned() });
        };
        let mut zips = Vec::new();
        let mut digest = Sha256::new();
        for name in FUNCTIONS {
            let Some(path) = zip(found, name) else {
                return Err(StackFailure::FunctionMissing { folder: found.clone(), function: name });
            };
            let bytes =
                fs::read(&path).map_err(|source| StackFailure::UnreadableCode { path: path.clone(), source })?;
            // The end of an archive may be missing on a full disk; the beginning tells only that it is one.
            if !bytes.starts_with(b"PK\x03\x04") || !has_end(&bytes) {
                return Err(StackFailure::NotAZip { path });
            }
            digest.update(name);
            digest.update(Sha256::digest(&bytes));
            zips.push((name, bytes));
        }
        let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Package { folder: found.clone(), architecture, zips, digest })
    }
}

/// Where a release has the code, from the path of its program.
fn places(program: Option<&Path>, architecture: &str) -> Vec<PathBuf> {
    // A link to the program is followed: pipx makes one.
    let program = program.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    let bin = program.as_deref().and_then(Path::parent);
    bin.and_then(Path::parent)
        .map(|prefix| prefix.join("share/ses-breaker/functions").join(architecture))
        .into_iter()
        .collect()
}

fn zip(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(format!("{name}.zip")), folder.join(name).join("bootstrap.zip")]
        .into_iter()
        .find(|path| path.is_file())
}

/// Whether the archive has the record that ends a zip file; a comment may follow it.
fn has_end(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(66_000)..];
    tail.windows(4).any(|window| window == b"PK\x05\x06")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"PK\x03\x04 and so on PK\x05\x06 and the rest";

    #[test]
    fn code_is_found_beside_the_program_and_in_the_layout_of_cargo_lambda() {
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join("bin");
        let functions = home.path().join("share/ses-breaker/functions/arm64");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&functions).unwrap();
        fs::write(bin.join("ses-breaker"), "").unwrap();
        let [place] = &places(Some(&bin.join("ses-breaker")), "arm64")[..] else { panic!() };
        assert_eq!(place, &functions.canonicalize().unwrap());
        for name in FUNCTIONS {
            fs::write(functions.join(format!("{name}.zip")), EMPTY).unwrap();
        }
        let flat = Package::read(Some(&functions), "arm64").unwrap();

        let lambda = home.path().join("lambda");
        for name in FUNCTIONS {
            fs::create_dir_all(lambda.join(name)).unwrap();
            fs::write(lambda.join(name).join("bootstrap.zip"), EMPTY).unwrap();
        }
        let nested = Package::read(Some(&lambda), "arm64").unwrap();
        assert_eq!((flat.digest.len(), &flat.digest), (64, &nested.digest));
        fs::write(lambda.join("gate/bootstrap.zip"), [EMPTY, b"!"].concat()).unwrap();
        assert_ne!(Package::read(Some(&lambda), "arm64").unwrap().digest, nested.digest);
    }

    #[test]
    fn what_is_missing_or_cut_off_is_named() {
        let home = tempfile::tempdir().unwrap();
        let error = |folder: &Path| Package::read(Some(folder), "arm64").unwrap_err().to_string();
        assert!(error(home.path()).starts_with("there is no code of the functions for arm64"));
        for name in FUNCTIONS {
            fs::write(home.path().join(format!("{name}.zip")), EMPTY).unwrap();
        }
        fs::write(home.path().join("warmup.zip"), &EMPTY[..16]).unwrap();
        assert!(error(home.path()).ends_with("warmup.zip is not a whole zip file"));
        fs::remove_file(home.path().join("warmup.zip")).unwrap();
        assert!(error(home.path()).starts_with("the code of warmup is missing"));
    }
}
