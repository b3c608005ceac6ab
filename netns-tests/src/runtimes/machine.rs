//! A host with a file tree and processes of its own, for programs that keep theirs at fixed places.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use vswitch_sys::Netns;

use crate::lab::Journal;
use crate::{Context, Failure, Host, Lab, Result, SOON, ensure, eventually};

/// Where Debian has the stock CNI plugins.
pub(super) const STOCK_PLUGINS: &str = "/usr/lib/cni";
/// Seconds that a command of a runtime may take.
const PATIENCE: &str = "30";
/// What process 1 does.
const INIT: &str = include_str!("machine.sh");

/// A host with `/etc`, `/opt`, `/run`, `/var/lib` and processes of its own. The machine's own runtimes are not touched.
///
/// When it ends, all of its processes and mounts do, and the kernel sees to it even where the tests are killed: only empty
/// cgroups would stay.
#[derive(Debug)]
pub struct Machine {
    init: Child,
    name: String,
    cgroup: String,
    journal: Journal,
}

impl Machine {
    /// Makes `host` one, with the stock CNI plugins where runtimes look for them.
    ///
    /// # Errors
    /// Without root, overlayfs, or the programs `unshare` and `nsenter`.
    pub fn start(lab: &Lab, host: &Host) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let cgroup = format!("vsw-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let log = lab.folder(&format!("{}-machine", host.name()))?.join("log");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INIT]);
        command.env("PATH", path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let init = host.spawn(command).context("unshare")?;
        let mut machine = Self { init, name: host.name().to_owned(), cgroup, journal: host.journal().clone() };
        let stdout = machine.init.stdout.take().context("no pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "ready\n", "no machine: {}", fs::read_to_string(&log)?.trim());
        for entry in fs::read_dir(STOCK_PLUGINS).into_iter().flatten() {
            machine.install(&entry?.path())?;
        }
        Ok(machine)
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cgroup below which runtimes are to make theirs, a name without a slash. It is removed with this.
    #[must_use]
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// How this process finds the machine's `path`, which is absolute.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init.id()))
    }

    /// Writes a file, and the folders above it.
    ///
    /// # Errors
    /// Where the machine has ended.
    pub fn write(&self, path: &str, text: &str) -> Result {
        let file = self.file(path);
        fs::create_dir_all(file.parent().context(path)?)?;
        fs::write(file, text).context(path)
    }

    /// What is in folder `path`, in order of name; nothing where it does not exist.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.file(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Has runtimes find CNI plugin `program` under its name.
    ///
    /// # Errors
    /// Where there is no such program, or one of this name already.
    pub fn install(&self, program: &Path) -> Result {
        ensure!(program.is_file(), "there is no {}", program.display());
        let name = program.file_name().context("a program without a name")?;
        symlink(program, self.file("/opt/cni/bin").join(name)).context(program.display())
    }

    /// Has the plugin find the daemon's `socket` where it looks by default.
    ///
    /// # Errors
    /// Where there is one.
    pub fn serve(&self, socket: &Path) -> Result {
        symlink(socket, self.file("/run/vswitch/vswitch.sock")).context("link the socket")
    }

    /// The only network configuration, under `name`.
    ///
    /// # Errors
    /// Where the machine has ended.
    pub fn conflist(&self, name: &str, conflist: &Value) -> Result {
        let folder = "/etc/cni/net.d";
        for old in self.list(folder) {
            fs::remove_file(self.file(&format!("{folder}/{old}")))?;
        }
        self.write(&format!("{folder}/{name}"), &serde_json::to_string_pretty(conflist)?)
    }

    /// The same command, run in the machine. It is killed with whoever starts it.
    #[must_use]
    pub fn enter(&self, command: &Command) -> Command {
        let mut inside = self.nsenter();
        inside.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    fn nsenter(&self) -> Command {
        let namespaces = format!("/proc/{}/ns", self.init.id());
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={namespaces}/net")).arg(format!("--mount={namespaces}/mnt"));
        command.arg(format!("--pid={namespaces}/pid_for_children")).arg("--");
        command.env("PATH", path()).env("CONTAINERD_NAMESPACE", &self.cgroup);
        command
    }

    /// Starts a program that lives as long as the machine, with its log in the lab's folder `name`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn serve_with(&self, lab: &Lab, name: &str, words: &[&str]) -> Result<Child> {
        let log = File::create(lab.folder(&format!("{}-{name}", self.name))?.join("log"))?;
        let mut command = self.nsenter();
        command.args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.journal.note(format!("{}: {} started", self.name, words.join(" ")));
        Ok(command.spawn()?)
    }

    /// Runs a command, the words parted by spaces, and expects it to succeed; returns what it printed.
    ///
    /// # Errors
    /// Where it does not, or takes longer than half a minute.
    #[track_caller]
    pub fn ok(&self, words: &str) -> Result<String> {
        let outcome = self.run(&words.split_whitespace().collect::<Vec<_>>());
        match outcome? {
            (true, said) => Ok(said),
            (false, said) => Err(Failure::new(format!("{words}: {said}"))),
        }
    }

    /// Runs a command and expects it to fail; returns what it said.
    ///
    /// # Errors
    /// Where it succeeds.
    #[track_caller]
    pub fn refused(&self, words: &str) -> Result<String> {
        let outcome = self.run(&words.split_whitespace().collect::<Vec<_>>());
        match outcome? {
            (true, said) => Err(Failure::new(format!("{words} succeeded: {said}"))),
            (false, said) => Ok(said),
        }
    }

    /// Runs a command; whether it succeeded, and what it printed: its complaints where it did not.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn run<A: AsRef<OsStr>>(&self, words: &[A]) -> Result<(bool, String)> {
        let nsenter = self.nsenter();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", PATIENCE]).arg(nsenter.get_program()).args(nsenter.get_args()).args(words);
        command.envs(nsenter.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // Files, not pipes: what it leaves running may hold them open.
        let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let status = command.status()?;
        let said = if status.success() { text(&mut stdout)? } else { text(&mut stderr)? + &text(&mut stdout)? };
        let line: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        self.journal.note(format!("{}: {} -> {status}: {said}", self.name, line.join(" ")));
        let said = if status.success() { said } else { format!("{status}: {said}") };
        Ok((status.success(), said))
    }

    /// The container whose process the machine knows as `pid`. Its namespace lives as long as what is returned.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn container(&self, name: &str, pid: &str) -> Result<Host> {
        let netns = Netns::open_path(&self.file(&format!("/proc/{}/ns/net", pid.trim())))?;
        Host::adopt(name, netns, self.journal.clone())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The shell sees its end; the kernel waits for all other processes.
        drop(self.init.stdin.take());
        let init = &mut self.init;
        if eventually(SOON, "the machine ends", || init.try_wait()?.context("it runs")).is_err() {
            let _ = init.kill();
            let _ = init.wait();
        }
        // A cgroup is busy for a moment after its last process.
        let _ = eventually(SOON, "cgroups are removed", || {
            cgroups(&self.cgroup).iter().try_for_each(|folder| remove(folder))?;
            Ok(())
        });
    }
}

/// The folders of cgroup `name`: one a hierarchy.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies.chain([root.to_owned()]).map(|folder| folder.join(name)).filter(|folder| folder.is_dir()).collect()
}

/// Removes a cgroup and those below.
fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Where programs are looked for: runtimes are for root, whose programs lie in folders that not everyone's path has.
pub(super) fn path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin:/usr/bin:/bin");
    path
}
