//! AWS in a process of its own: the real template deployed to it, and the functions run as Lambda runs them.
//!
//! `tests/cloud/emulator.py` is that process. It ends with the process that started it: its standard input is a pipe from
//! here. Everything that it needs is under `emulator` in the target folder, and is created the first time: a Python
//! environment, and the functions, which `cargo build` makes from the same builds of the dependencies as `cargo test`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

/// The functions that the template deploys.
pub const FUNCTIONS: [&str; 5] = ["ingest", "breaker", "enforcer", "warmup", "gate"];

/// The environment of the emulator.
const EMULATOR: &str = "emulator";

/// The interval at which [`eventually`] checks.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// An AWS account in a process of its own.
#[derive(Debug)]
pub struct Emulator {
    process: Child,
    /// The process ends when this is closed.
    input: Option<ChildStdin>,
    ready: Ready,
    places: Places,
    log: PathBuf,
    stacks: Vec<String>,
}

/// The first output of the process.
#[derive(Debug, Deserialize)]
struct Ready {
    endpoint: String,
    region: String,
    account: String,
}

/// A stack that has been deployed.
#[derive(Debug, Deserialize)]
pub struct Deployed {
    /// Its name.
    pub stack: String,
    /// The outputs of the template.
    pub outputs: BTreeMap<String, String>,
    /// What had to be changed in the template for the emulator, and why: these parts are not tested here.
    pub concessions: BTreeMap<String, String>,
}

/// A call as IAM sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Call {
    /// ARN of the caller.
    pub by: String,
    /// The action that it needs, such as `s3:PutObject`.
    pub action: String,
    /// ARN of the resource; `*` if the emulator knows none.
    pub resource: String,
    /// Whether the caller's policies allow it.
    pub allowed: bool,
}

impl Emulator {
    /// Starts it, empty.
    ///
    /// # Errors
    ///
    /// Says what is missing on this machine and how to install it, or prints the output of the process.
    pub fn start() -> Result<Emulator> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let places = Places::find()?;
        let python = places.python(EMULATOR)?;
        let (process, started) = (std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let log = places.target.join(format!("emulator/log-{process}-{started}.txt"));
        let mut process = Command::new(&python)
            .arg(script())
            .args(["start".as_ref(), "--log".as_ref(), log.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not run", python.display()))?;
        let input = process.stdin.take();
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let ready = serde_json::from_str(&line).map_err(|_| anyhow!("the emulator did not start:\n{}", tail(&log)))?;
        Ok(Emulator { process, input, ready, places, log, stacks: Vec::new() })
    }

    /// Deploys the template, or updates the stack of this name.
    ///
    /// # Errors
    ///
    /// The compiler or CloudFormation reports an error.
    pub fn deploy(&mut self, stack: &str, parameters: &[(&str, &str)]) -> Result<Deployed> {
        let code = functions()?;
        let mut arguments = vec!["--code".to_owned(), code.display().to_string()];
        for (name, value) in parameters {
            arguments.extend(["--parameter".to_owned(), format!("{name}={value}")]);
        }
        let output = self.run("deploy", stack, &arguments)?;
        self.stacks.push(stack.to_owned());
        Ok(serde_json::from_str(&output)?)
    }

    /// Runs a function of a stack as a schedule would, and returns its answer.
    ///
    /// # Errors
    ///
    /// The function failed.
    pub fn invoke(&self, stack: &str, function: &str, input: &Value) -> Result<Value> {
        let input = input.to_string();
        let output = self.run("invoke", stack, &["--function", function, "--input", &input])?;
        Ok(serde_json::from_str(&output)?)
    }

    /// Deletes a stack.
    ///
    /// # Errors
    ///
    /// CloudFormation refuses.
    pub fn delete(&mut self, stack: &str) -> Result<()> {
        self.run("delete", stack, &[] as &[&str])?;
        self.stacks.retain(|known| known != stack);
        Ok(())
    }

    /// All log lines of a stack's functions, each after the name of its function and a tab.
    ///
    /// # Errors
    ///
    /// The emulator does not answer.
    pub fn logs(&self, stack: &str) -> Result<String> {
        self.run("logs", stack, &[] as &[&str])
    }

    /// All calls so far of callers that are not the root user, in order. What CloudFormation did for them is not among these.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let log = fs::read(&self.log)?;
        let log = String::from_utf8_lossy(&log);
        // The last line may not be whole yet.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .filter_map(|line| line.strip_prefix("call "))
            .map(|call| Ok(serde_json::from_str(call)?))
            .collect()
    }

    /// Stores the metrics that a stack's functions have printed, as CloudWatch does with its logs. Returns the number of
    /// values. Each call stores them again.
    ///
    /// # Errors
    ///
    /// The emulator does not answer, or CloudWatch cannot read a line.
    pub fn extract_metrics(&self, stack: &str) -> Result<usize> {
        Ok(self.run("extract", stack, &[] as &[&str])?.trim().parse()?)
    }

    /// Calls an operation of CloudWatch, named as in Python (`get_metric_data`), and returns its answer.
    ///
    /// # Errors
    ///
    /// CloudWatch refuses.
    pub fn cloudwatch(&self, operation: &str, input: &Value) -> Result<Value> {
        let mut command = Command::new(self.places.python(EMULATOR)?);
        let input = input.to_string();
        command.arg(script()).args(["cloudwatch", "--endpoint", &self.ready.endpoint, "--operation", operation]);
        let output = command.args(["--input", &input]).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{operation} failed: {}", output_of(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Kills some processes of functions, as if their host failed; `which` chooses. Returns their number.
    pub fn kill_functions(&self, which: usize) -> usize {
        let running = self.functions_running();
        if running.is_empty() {
            return 0;
        }
        let killed = Command::new("kill").args(["-KILL", &running[which % running.len()].to_string()]).output();
        usize::from(killed.is_ok_and(|output| output.status.success()))
    }

    /// The processes of functions that the emulator has started.
    fn functions_running(&self) -> Vec<u32> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_ours = |id: &u32| {
            // `ID (NAME) STATE PARENT ...`
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let Some((name, rest)) = stat.rsplit_once(')') else { return false };
            let parent = rest.split_whitespace().nth(1).and_then(|parent| parent.parse().ok());
            name.ends_with("(bootstrap") && parent == Some(self.process.id())
        };
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut ids: Vec<u32> = ids.filter(is_ours).collect();
        ids.sort_unstable();
        ids
    }

    /// The configuration that clients of this account share: they are its root user.
    pub async fn config(&self) -> SdkConfig {
        let Ready { endpoint, region, account } = &self.ready;
        aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(region.clone()))
            .credentials_provider(Credentials::new(account, "test", None, None, "emulator"))
            .load()
            .await
    }

    /// Its URL.
    pub fn endpoint(&self) -> &str {
        &self.ready.endpoint
    }

    /// Runs a program of the workspace, `ses-breaker` or `examples/send`, with the account's credentials. `input` is its
    /// standard input.
    ///
    /// # Errors
    ///
    /// It does not exist, or cannot run.
    pub fn program(&self, name: &str, arguments: &[&str], input: &str) -> Result<Output> {
        let mut process = self.begin(name, arguments)?;
        if let Some(mut to) = process.stdin.take() {
            to.write_all(input.as_bytes())?;
        }
        Ok(process.wait_with_output()?)
    }

    /// The same for a program that keeps running: its streams are pipes.
    ///
    /// # Errors
    ///
    /// It does not exist, or cannot run.
    pub fn begin(&self, name: &str, arguments: &[&str]) -> Result<Child> {
        let path = program(name)?;
        Command::new(&path)
            .args(arguments)
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not run", path.display()))
    }

    /// Runs a script of `tests/cloud` with the account's credentials, and returns what it prints.
    ///
    /// # Errors
    ///
    /// What it finds wrong.
    pub fn script(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.places.python(EMULATOR)?);
        command.arg(root().join("tests/cloud").join(name)).args(arguments).env_clear().envs(self.environment());
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{name} failed: {}", output_of(&output));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The variables by which any program finds this account, as its root user.
    pub fn environment(&self) -> [(&'static str, &str); 4] {
        let Ready { endpoint, region, account } = &self.ready;
        [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", region),
            ("AWS_ACCESS_KEY_ID", account),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
    }

    /// Number of the account.
    pub fn account(&self) -> &str {
        &self.ready.account
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// It failed, or left a process of a function running.
    pub fn stop(mut self) -> Result<()> {
        let status = self.end()?;
        ensure!(status.success(), "the emulator ended with {status}:\n{}", tail(&self.log));
        let _ = fs::remove_file(&self.log);
        Ok(())
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        drop(self.input.take());
        self.process.wait()
    }

    fn run(&self, verb: &str, stack: &str, arguments: &[impl AsRef<OsStr>]) -> Result<String> {
        let mut command = Command::new(self.places.python(EMULATOR)?);
        command.arg(script()).args([verb, "--endpoint", &self.ready.endpoint, "--stack", stack]).args(arguments);
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{verb} failed: {}", output_of(&output));
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for stack in &self.stacks {
                let logs = self.logs(stack).unwrap_or_else(|error| error.to_string());
                let noise = |line: &&str| {
                    ["\tSTART ", "\tEND ", "\tREPORT ", r#""level":"DEBUG""#].iter().any(|word| line.contains(word))
                };
                let lines: Vec<&str> = logs.lines().filter(|line| !noise(line)).collect();
                eprintln!("--- what the functions of {stack} have logged\n{}", lines.join("\n"));
            }
            eprintln!("--- the end of {}\n{}", self.log.display(), tail(&self.log));
        }
        let _ = self.end();
    }
}

/// A folder with the functions as Lambda expects them, built for this machine: `ingest/bootstrap`, and so on. The variable
/// `SES_BREAKER_FUNCTIONS` names another one to use, such as `target/lambda` where cargo-lambda writes them.
///
/// # Errors
///
/// The compiler's error.
pub fn functions() -> Result<&'static Path> {
    // One build for all tests of a process.
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match std::env::var_os("SES_BREAKER_FUNCTIONS") {
        Some(folder) => Ok(root().join(folder)),
        None => Places::find().and_then(|places| places.build()).map_err(|error| format!("{error:#}")),
    });
    built.as_deref().map_err(|error| anyhow!("{error}"))
}

/// Checks repeatedly until there is something to return; for what other processes do in their own time.
///
/// # Panics
///
/// There is nothing at the deadline. Prints what was seen last.
pub async fn eventually<T, S, F>(what: &str, within: Duration, mut check: impl FnMut() -> F) -> T
where
    S: Debug,
    F: Future<Output = Result<T, S>>,
{
    let deadline = Instant::now() + within;
    loop {
        match check().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "not within {within:?}: {what}; last seen: {seen:#?}"),
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

/// Locations.
#[derive(Debug)]
struct Places {
    /// The target folder.
    target: PathBuf,
    /// The folder in it for builds with this test's profile: `debug`, unless another one was asked for.
    profile: String,
}

/// What Python must support: environments with pip in them.
const PYTHON_CHECK: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";

impl Places {
    /// The location of this test's own build: `target/debug/deps/emulator-…`.
    fn find() -> Result<Places> {
        let test = std::env::current_exe()?;
        let built = test.ancestors().nth(2).context("a test lies in the target folder")?;
        let target = built.parent().context("a test lies in the target folder")?.to_owned();
        let profile = built.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::create_dir_all(target.join("emulator"))?;
        Ok(Places { target, profile })
    }

    /// The Python of an environment with the packages of `tests/cloud/NAME-requirements.txt`; creates it if necessary.
    fn python(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join("emulator");
        let environment = folder.join(format!("venv-{name}"));
        let (python, done) = (environment.join("bin/python"), environment.join("installed.txt"));
        let requirements = root().join(format!("tests/cloud/{name}-requirements.txt"));
        let wanted = fs::read_to_string(&requirements)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        // Written last, so that a partial environment is not used.
        if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
            return Ok(python);
        }
        let able = Command::new("python3").args(["-c", PYTHON_CHECK]).output();
        if !able.is_ok_and(|able| able.status.success()) {
            bail!(
                "this test runs {name}.py, which needs Python packages, and `python3` is missing here, is older than \
                 3.10, or lacks the modules venv and ensurepip. Install it; on Debian and Ubuntu: \
                 apt-get install python3 python3-venv"
            );
        }
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        run(Command::new(&python).args(pip).arg(&requirements))?;
        fs::write(&done, wanted)?;
        Ok(python)
    }

    fn build(&self) -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // As `cargo test` builds: the whole workspace, with the profile and (examples need them) the dependencies of tests.
        // Otherwise features differ, and the SDK would be built a second time.
        let profile = if self.profile == "debug" { "test" } else { &self.profile };
        build.args(["build", "--workspace", "--bins", "--examples", "--locked", "--quiet", "--profile", profile]);
        run(build.arg("--target-dir").arg(&self.target).current_dir(root()))?;
        let code = self.target.join("emulator/code");
        let lock = File::create(self.target.join("emulator/lock"))?;
        lock.lock()?;
        let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
        for function in FUNCTIONS {
            let (built, folder) = (self.target.join(&self.profile).join(function), code.join(function));
            let known = changed(&folder.join("bootstrap"));
            if known.is_ok_and(|known| changed(&built).is_ok_and(|built| built < known)) {
                continue;
            }
            fs::create_dir_all(&folder)?;
            let new = folder.join("new");
            // Without debug information it is a third of the size; it is copied four times before it runs.
            let stripped = Command::new("strip").arg("-o").arg(&new).arg(&built).output();
            if !stripped.is_ok_and(|stripped| stripped.status.success()) {
                fs::copy(&built, &new).with_context(|| format!("{} is missing", built.display()))?;
            }
            // Another test may be running the existing one.
            fs::rename(new, folder.join("bootstrap"))?;
        }
        Ok(code)
    }
}

/// The path of a program of the workspace, built.
///
/// # Errors
///
/// The compiler's error.
pub fn program(name: &str) -> Result<PathBuf> {
    // Programs are built with the functions.
    functions()?;
    let places = Places::find()?;
    Ok(places.target.join(places.profile).join(name))
}

/// Makes a wheel of the programs and functions of this build in `folder`, as `.ci/dist` makes one of a release. Returns its path.
///
/// # Errors
///
/// The script's error.
pub fn wheel(folder: &Path) -> Result<PathBuf> {
    dist("wheel", folder)?.pop().context("dist made no wheel")
}

/// The same as packages for npm: the one with the programs, and the one that starts them.
///
/// # Errors
///
/// The script's error.
pub fn npm_packages(folder: &Path) -> Result<Vec<PathBuf>> {
    dist("npm", folder)
}

/// Puts together the programs and functions of this build.
fn dist(what: &str, folder: &Path) -> Result<Vec<PathBuf>> {
    let programs = folder.join("programs");
    fs::create_dir_all(&programs)?;
    for name in ["ses-breaker", "replay"] {
        run(Command::new("strip").arg("-o").arg(programs.join(name)).arg(program(name)?))?;
    }
    let functions = format!("{}={}", lambda_architecture(), functions()?.display());
    let mut dist = Command::new("python3");
    dist.arg(root().join(".ci/dist")).args([what, "--level", "1", "--functions", &functions]).arg("--programs");
    dist.arg(&programs).arg("--out").arg(folder);
    let output = dist.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "dist failed: {}", output_of(&output));
    Ok(String::from_utf8(output.stdout)?.lines().map(PathBuf::from).collect())
}

/// This machine's architecture, as Lambda names it.
pub fn lambda_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

/// Runs `tests/cloud/browser.py`, which checks pages in a browser.
///
/// # Errors
///
/// What it finds wrong, or what is missing on this machine.
pub fn browser(arguments: &[&OsStr]) -> Result<String> {
    let python = Places::find()?.python("browser")?;
    let output = Command::new(python)
        .arg(root().join("tests/cloud/browser.py"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "the browser test failed: {}", output_of(&output));
    Ok(String::from_utf8(output.stdout)?)
}

/// The workspace.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn script() -> PathBuf {
    root().join("tests/cloud/emulator.py")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?} does not run"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output_of(&output));
    Ok(())
}

fn output_of(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    format!("{}\n{text}", output.status)
}

/// The end of a file, for people.
fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(4_000)..]).into_owned()
}
