//! Network namespaces by name, and running things inside of them.
//!
//! A namespace is entered by one thread at a time (`setns`) or by a child (`nsenter`), never by
//! the whole process. `ip netns exec` is not used: it hides bpffs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use serde::de::DeserializeOwned;

/// Where `ip netns` keeps its namespaces.
pub const FOLDER: &str = "/run/netns";

/// A network namespace in [`FOLDER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// The namespace of that name, which need not exist yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name for `ip -n`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file to open for `setns`.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// `program`, to be run inside; add arguments and start it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a program inside and gives its standard output.
    ///
    /// # Errors
    /// It does not start or fails; the text has the command and its standard error.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        output(self.command(program).args(arguments))
    }

    /// Runs lines of `ip` commands inside, in one go.
    ///
    /// # Errors
    /// A command fails; the text has it.
    pub fn ip(&self, commands: &str) -> Result<()> {
        batch(Command::new("ip").args(["-n", &self.name]), commands)
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// The same for IPv6, where the family does not follow from an address: rules by port, for one.
    ///
    /// # Errors
    /// As [`Self::ip`].
    pub fn ip6(&self, commands: &str) -> Result<()> {
        batch(Command::new("ip").args(["-6", "-n", &self.name]), commands)
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Runs an `ip -json` command inside and reads its answer.
    ///
    /// # Errors
    /// The command fails or answers in another shape than `T`.
    pub fn ip_json<T: DeserializeOwned>(&self, arguments: &str) -> Result<T> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-json", "-details"]).args(arguments.split_whitespace());
        let text = output(&mut command)?;
        // No matches at all: some versions print nothing instead of an empty list.
        let text = if text.trim().is_empty() { "[]" } else { text.as_str() };
        serde_json::from_str(text).with_context(|| format!("unexpected answer of `ip {arguments}`: {text}"))
    }

    /// Sets sysctls below `net`, in order: `("ipv4.ip_forward", "1")`, `("ipv4.conf.all.rp_filter", "0")`.
    ///
    /// # Errors
    /// A key does not exist or refuses the value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in settings {
                let path = format!("/proc/sys/net/{}", key.replace('.', "/"));
                fs::write(&path, value).with_context(|| format!("cannot set {path} to {value}"))?;
            }
            Ok(())
        })?
    }

    /// Runs `work` in a thread that is inside, and waits for it.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.join().map(|()| work()));
            inside.join().map_err(|_| anyhow!("a thread in namespace {} panicked", self.name))?
        })
    }

    /// Starts `work` in a thread that is inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        let own = self.clone();
        thread::spawn(move || own.join().map(|()| work()))
    }

    /// Moves the calling thread inside, for good: use it in a thread of your own.
    ///
    /// # Errors
    /// The namespace does not exist, or the privilege is missing.
    pub fn join(&self) -> Result<()> {
        let file = File::open(self.path()).with_context(|| format!("cannot open namespace {}", self.name))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter namespace {}", self.name))
    }
}

/// Runs lines of `ip` commands in the caller's namespace, in one go. Labs use it for what only names
/// namespaces: `netns add`, `link add .. netns A .. peer .. netns B`.
///
/// # Errors
/// A command fails; the text has it.
pub fn ip(commands: &str) -> Result<()> {
    batch(&mut Command::new("ip"), commands)
}

/// Runs a command and gives its standard output.
///
/// # Errors
/// It does not start or fails; the text has the command and its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&succeed(command)?.stdout).into_owned())
}

/// As [`output`], with what it printed to standard error after it.
///
/// # Errors
/// As [`output`].
pub fn output_and_errors(command: &mut Command) -> Result<String> {
    let out = succeed(command)?;
    Ok(String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

fn succeed(command: &mut Command) -> Result<Output> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !out.status.success() {
        bail!("{command:?} failed ({}): {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(out)
}

/// `ip -batch`; an error names the line that failed.
fn batch(ip: &mut Command, commands: &str) -> Result<()> {
    let mut child = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `ip`; run `cargo xtask setup`")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A failure to write means that `ip` gave up; its own message is the better one.
        let _ = stdin.write_all(commands.as_bytes());
    }
    let out = child.wait_with_output().context("cannot wait for `ip`")?;
    if out.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&out.stderr);
    let line = stderr
        .lines()
        .find_map(|line| line.strip_prefix("Command failed -:"))
        .and_then(|number| number.trim().parse::<usize>().ok());
    let failed = line.and_then(|number| commands.lines().nth(number.saturating_sub(1)));
    match failed {
        Some(command) => bail!("`ip {}` failed: {}", command.trim(), stderr.trim()),
        None => bail!("a batch of ip commands failed: {}\n{commands}", stderr.trim()),
    }
}
