//! A lab: namespaces, processes, a run folder and a bpffs with one lifetime.
//!
//! Whatever way its owner ends, SIGKILL included, a lab comes down: a detached shell (`reaper.sh`)
//! waits for the end of a pipe that only the owner holds, and cleans up. Labs have names of their own, so
//! that several exist side by side, and everything of a lab is in its namespaces and its folder: nothing
//! else of the machine is touched.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};

use crate::netns::{self, Netns};

/// Run folders of all labs.
pub const FOLDER: &str = "/run/underpass-lab";
/// The name of a lab whose user gave none.
pub const DEFAULT_NAME: &str = "ref";
/// Begins the id of a named lab.
const NAMED: &str = "up-";
/// Lines of each log that are shown when a test fails.
const LOG_LINES: usize = 40;
/// What the file `owner` of a lab says that outlives the process that raised it.
const KEPT: &str = "kept";

/// A lab that comes down when it is dropped.
#[derive(Debug)]
pub struct Lab {
    id: String,
    dir: PathBuf,
    reaper: Option<Child>,
}

impl Lab {
    /// A lab with a name of its own, for tests. Takes leftovers of dead owners down first.
    ///
    /// # Errors
    /// Not root, or the folder, the bpffs or the reaper cannot be made.
    pub fn new() -> Result<Self> {
        static SWEEP: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::create(format!("up{}-{count}", std::process::id()))
    }

    /// A lab of that name, for people.
    ///
    /// # Errors
    /// As [`Lab::new`], or the lab exists.
    pub fn named(name: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 20 || !name.chars().all(plain) {
            bail!("a lab's name has 1 to 20 of a-z, 0-9 and -, not {name:?}");
        }
        sweep();
        Self::create(named_id(name))
    }

    fn create(id: String) -> Result<Self> {
        let dir = Path::new(FOLDER).join(&id);
        if dir.exists() {
            let name = id.strip_prefix(NAMED).unwrap_or(&id);
            bail!("lab {name} is up already; take it down first: `{} down`", command(name));
        }
        let making = Path::new(FOLDER).join(format!(".{id}"));
        fs::create_dir_all(making.join("bpf"))
            .with_context(|| format!("cannot create {}; labs need root", making.display()))?;
        fs::write(making.join("owner"), Owner::current()?.text()).context("cannot write the lab's owner")?;
        fs::write(making.join("netns"), "").context("cannot write the lab's namespaces")?;
        // Complete from the first moment that `sweep` sees it.
        fs::rename(&making, &dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let reaper = start_reaper(&dir)?;
        let lab = Self { id, dir, reaper: Some(reaper) };
        mount(Some("bpf"), &lab.bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount a bpffs at {}; labs need root", lab.bpffs().display()))?;
        Ok(lab)
    }

    /// Name of the lab and prefix of its namespaces.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The run folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The lab's own bpffs.
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// The run folder of one machine of the lab, made when it does not exist.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn machine_dir(&self, machine: &str) -> Result<PathBuf> {
        let dir = self.dir.join(machine);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }

    /// The namespace of a machine of the lab.
    pub fn netns(&self, machine: &str) -> Netns {
        Netns::named(format!("{}-{machine}", self.id))
    }

    /// Creates the namespaces of `machines`, with their loopback up.
    ///
    /// # Errors
    /// A namespace cannot be made.
    pub fn add_machines(&self, machines: &[&str]) -> Result<Vec<Netns>> {
        let all: Vec<_> = machines.iter().map(|machine| self.netns(machine)).collect();
        // Noted before they exist: the reaper must not miss one.
        let mut list = OpenOptions::new()
            .append(true)
            .open(self.dir.join("netns"))
            .context("cannot open the lab's namespaces")?;
        let (mut names, mut commands) = (String::new(), String::new());
        for ns in &all {
            let _ = writeln!(names, "{}", ns.name());
            let _ = writeln!(commands, "netns add {}", ns.name());
        }
        list.write_all(names.as_bytes()).context("cannot write the lab's namespaces")?;
        netns::ip(&commands)?;
        for ns in &all {
            ns.ip("link set lo up\n")?;
        }
        Ok(all)
    }

    /// Leaves the lab up after its owner has ended; [`down`] takes it down.
    ///
    /// # Errors
    /// The reaper is gone.
    pub fn keep(mut self) -> Result<()> {
        fs::write(self.dir.join("owner"), KEPT).context("cannot write the lab's owner")?;
        let mut reaper = self.reaper.take().context("the lab has no reaper")?;
        let mut stdin = reaper.stdin.take().context("the reaper has no input")?;
        stdin.write_all(b"keep\n").context("cannot tell the reaper")?;
        reaper.wait().context("cannot wait for the reaper")?;
        Ok(())
    }

    /// The last lines of every log of the lab.
    pub fn logs(&self) -> String {
        logs(&self.dir)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(mut reaper) = self.reaper.take() else { return };
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        drop(reaper.stdin.take());
        if let Err(error) = reaper.wait() {
            eprintln!("lab {}: cannot wait for its end: {error}", self.id);
        }
    }
}

/// The id of a named lab.
pub fn named_id(name: &str) -> String {
    format!("{NAMED}{name}")
}

/// What one types to have to do with a named lab, up to the subcommand.
pub fn command(name: &str) -> String {
    if name == DEFAULT_NAME { "cargo xtask lab".to_owned() } else { format!("cargo xtask lab --name {name}") }
}

/// The run folder of a named lab that is up.
///
/// # Errors
/// There is none of that name.
pub fn find(name: &str) -> Result<PathBuf> {
    let dir = Path::new(FOLDER).join(named_id(name));
    if !dir.is_dir() {
        bail!("lab {name} is not up; raise it with `{} up`", command(name));
    }
    Ok(dir)
}

/// Takes down the lab in run folder `dir`.
///
/// # Errors
/// The shell cannot be started, or the folder is still there.
pub fn down(dir: &Path) -> Result<()> {
    let mut reaper = start_reaper(dir)?;
    drop(reaper.stdin.take());
    reaper.wait().context("cannot wait for the reaper")?;
    if dir.exists() {
        bail!("{} is still there", dir.display());
    }
    Ok(())
}

/// Takes down labs whose owner is dead. Failures are printed: they are no reason not to start.
fn sweep() {
    let Ok(entries) = fs::read_dir(FOLDER) else { return };
    for dir in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let hidden = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let Ok(owner) = fs::read_to_string(dir.join("owner")) else { continue };
        if hidden || owner == KEPT || Owner::parse(&owner).is_some_and(|owner| owner.lives()) {
            continue;
        }
        if let Err(error) = down(&dir) {
            eprintln!("cannot take down the leftover lab {}: {error:#}", dir.display());
        }
    }
}

fn start_reaper(dir: &Path) -> Result<Child> {
    Command::new("sh")
        .args(["-c", include_str!("reaper.sh"), "underpass-lab-reaper"])
        .arg(dir)
        .arg(std::process::id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Not in the terminal's group: Ctrl-C ends the owner, and the reaper cleans up after it.
        .process_group(0)
        .spawn()
        .context("cannot start `sh`")
}

/// A process that cannot be mistaken for a later one of the same pid.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks after boot.
    started: String,
}

impl Owner {
    fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field may have spaces; it ends with the last parenthesis.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        Ok(Self { pid, started: rest.split(' ').nth(19).unwrap_or_default().to_owned() })
    }

    fn current() -> Result<Self> {
        Self::of(std::process::id()).context("cannot read our own start time from /proc")
    }

    fn text(&self) -> String {
        format!("{} {}", self.pid, self.started)
    }

    fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.to_owned() })
    }

    fn lives(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
    }
}

fn logs(dir: &Path) -> String {
    let mut text = String::new();
    let Ok(machines) = fs::read_dir(dir) else { return text };
    let mut files: Vec<_> = machines
        .filter_map(Result::ok)
        .filter_map(|machine| fs::read_dir(machine.path()).ok())
        .flat_map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    for file in files {
        let Ok(content) = fs::read_to_string(&file) else { continue };
        let lines: Vec<_> = content.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        let _ = writeln!(text, "--- {} (last {} lines)", file.display(), lines.len() - from);
        for line in &lines[from..] {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_its_pid_and_its_start() {
        let own = Owner::current().expect("/proc is there");
        assert_eq!(Owner::parse(&own.text()).as_ref(), Some(&own));
        assert!(own.lives());
        let successor = Owner { pid: own.pid, started: "1".to_owned() };
        assert!(!successor.lives(), "another process with the same pid is not the owner");
        assert_eq!(Owner::parse("garbage"), None);
    }
}
