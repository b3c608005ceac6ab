//! Pages of the manual that are walked through: every command of them is run as it stands, each on its host.
//!
//! A block of commands begins with ` ```sh `, or with ` ```sh HOST ` where a page is about several hosts. A block
//! ` ```text ` behind it shows of the answer what matters: each of its lines must be among those that came, whatever
//! the numbers.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Context, Host, Lab, Result, binaries::binaries, ensure, eventually};

/// What the slowest commands may take, on a machine that is busy with others.
const PATIENCE: Duration = Duration::from_secs(120);

/// The repository is in /mnt, with what was built.
const REPOSITORY: &str = "\
mount --bind . /mnt
mount --bind \"$PROGRAMS\" /mnt/target/release
";

/// Places that commands write to: empty, and gone with the shell.
const PLACES: &str = "\
for place in /run /opt /usr/local /var/lib /tmp; do mount -t tmpfs tmpfs $place; done
cp -a /etc /run/etc && mount --bind /run/etc /etc && rm -rf /etc/cni
cd /mnt
ip link set lo up
";

/// Does what systemd would with the unit that is installed.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
unit=/usr/local/lib/systemd/system/vswitchd.service
stop() {
  [ -e /run/main ] || return 0
  main=$(cat /run/main)
  kill "$main"
  while [ -e "/proc/$main" ]; do sleep 0.05; done
  rm /run/main
}
start() {
  VSWITCHD_OPTIONS=
  eval "set -- $(sed -n 's/^ExecStart=//p' $unit)"
  setsid "$@" </dev/null >>/run/journal 2>&1 &
  echo $! >/run/main
  until vsctl --quiet status 2>/dev/null; do
    [ -e "/proc/$(cat /run/main)" ] || { cat /run/journal >&2; exit 1; }
    sleep 0.05
  done
}
case $* in
  'enable --now vswitchd') start ;;
  'restart vswitchd') stop; start ;;
  'disable --now vswitchd vswitchd.socket') stop ;;
  daemon-reload) ;;
  *) echo "systemctl $*: nobody here knows these words" >&2; exit 1 ;;
esac
"#;

/// Commands, or what they answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// On which host; empty where the page is about one.
    pub host: String,
    /// The commands.
    pub commands: String,
    /// Lines of what they answer.
    pub answers: Vec<String>,
}

/// The blocks of commands of a page.
///
/// # Errors
/// Where an answer has no commands before it, or a block no end.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix("```") else { continue };
        let mut text = String::new();
        loop {
            let line = lines.next().context(format_args!("a block without end: {text}"))?;
            if line == "```" {
                break;
            }
            text.extend([line, "\n"]);
        }
        match head.split_once(' ').unwrap_or((head, "")) {
            ("sh", host) => {
                blocks.push(Block { host: host.to_owned(), commands: text, answers: Vec::new() });
            }
            ("text", _) => {
                let block = blocks.last_mut().context(format_args!("an answer to nothing: {text}"))?;
                block.answers.extend(text.lines().map(str::to_owned));
            }
            _ => {}
        }
    }
    Ok(blocks)
}

/// A line without what differs from run to run: numbers, MAC addresses, the width of columns.
fn plain(line: &str) -> String {
    let word = |word: &str| {
        let is_mac = word.len() == 17 && word.split(':').count() == 6;
        if is_mac { "MAC".to_owned() } else { word.split(|c: char| c.is_ascii_digit()).collect::<Vec<_>>().join("") }
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// A page that is walked through, and the shells on its hosts.
#[derive(Debug)]
pub struct Walk<'a> {
    lab: &'a Lab,
    shells: HashMap<String, Shell>,
}

impl<'a> Walk<'a> {
    /// Nobody is on it yet.
    #[must_use]
    pub fn new(lab: &'a Lab) -> Self {
        Self { lab, shells: HashMap::new() }
    }

    /// Puts a shell on `host`, for the blocks that name `label`. It has a /run, /etc, /tmp and so on of its own, and
    /// ends with this; a variable `folders` names leads to that folder.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn enter(&mut self, label: &str, host: &Host, folders: &[(&str, &Path)]) -> Result {
        let mut shell = Shell::start(self.lab, label, host)?;
        let bound = folders.iter().map(|(name, folder)| {
            let folder = folder.display();
            format!("mkdir /mnt/{name}\nmount --bind '{folder}' /mnt/{name}\nexport {name}=/mnt/{name}\n")
        });
        shell.run(&[REPOSITORY, &bound.collect::<String>(), PLACES].concat())?;
        self.shells.insert(label.to_owned(), shell);
        Ok(())
    }

    /// Runs `commands` in the shell for `label`; what they printed.
    ///
    /// # Errors
    /// Where one of them fails, or there is no such shell.
    pub fn run(&mut self, label: &str, commands: &str) -> Result<String> {
        let shell = self.shells.get_mut(label).context(format_args!("no host is called {label:?}"))?;
        shell.run(commands)
    }

    /// Runs all blocks, one after the other, and holds the answers against those that the page shows.
    ///
    /// # Errors
    /// Where a command fails, or its answer is another.
    pub fn through(&mut self, blocks: &[Block]) -> Result {
        ensure!(!blocks.is_empty(), "a page without commands");
        for Block { host, commands, answers } in blocks {
            let output = self.run(host, commands)?;
            self.lab.note(format!("on {host:?}:\n{commands}->\n{output}"));
            let came: Vec<_> = output.lines().map(plain).collect();
            for line in answers {
                ensure!(came.contains(&plain(line)), "the page shows {line:?} for\n{commands}but it was\n{output}");
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Shell {
    child: Child,
    folder: PathBuf,
    log: PathBuf,
    turn: u32,
}

impl Shell {
    fn start(lab: &Lab, label: &str, host: &Host) -> Result<Self> {
        let folder = lab.folder(&format!("on-{label}"))?;
        copy_repository(&folder)?;
        let tools = folder.join("tools");
        fs::create_dir_all(&tools)?;
        fs::write(tools.join("systemctl"), SYSTEMCTL)?;
        fs::set_permissions(tools.join("systemctl"), Permissions::from_mode(0o755))?;
        let programs = binaries()?.vsctl.parent().context("vsctl lies somewhere")?;
        let log = folder.join("log");
        let output = File::create(&log)?;
        let mut command = Command::new("unshare");
        // What it leaves running ends with its first process.
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-eu"]);
        command.current_dir(&folder).env_clear();
        command.env("PATH", "/mnt/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("PROGRAMS", programs).env("STRIP", "").env("HOME", "/root");
        command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        Ok(Self { child: host.spawn(command)?, folder, log, turn: 0 })
    }

    /// Runs `commands` from a file, so that none of them reads those behind it.
    fn run(&mut self, commands: &str) -> Result<String> {
        self.turn += 1;
        let before = fs::read(&self.log)?.len();
        let (name, mark) = (format!("commands-{}", self.turn), format!("done with commands-{}", self.turn));
        fs::write(self.folder.join(&name), commands)?;
        let stdin = self.child.stdin.as_mut().context("the shell listens")?;
        let told = writeln!(stdin, ". ./{name} </dev/null\necho '{mark}'");
        let said = || -> Result<String> {
            let all = fs::read(&self.log)?;
            Ok(String::from_utf8_lossy(&all[before..]).into_owned())
        };
        eventually(PATIENCE, "the commands end", || {
            let said = said()?;
            let is_done = said.lines().any(|line| line == mark);
            Ok(is_done || told.is_err() || self.child.try_wait()?.is_some()).and_then(|ended| {
                ensure!(ended, "so far they said {said}");
                Ok(())
            })
        })?;
        let said = said()?;
        let (answer, _) = said.split_once(&mark).context(format_args!("a command failed:\n{commands}->\n{said}"))?;
        Ok(answer.to_owned())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies what an installation takes of the repository.
fn copy_repository(folder: &Path) -> Result {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new("cp");
    command.arg("-a");
    for name in ["dist", "docs", "Cargo.toml", "README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        command.arg(repository.join(name));
    }
    let status = command.arg(folder).status()?;
    ensure!(status.success(), "cp: {status}");
    Ok(fs::create_dir_all(folder.join("target/release"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_page() {
        let page = "a\n```sh\nb\nc\n```\n```text\nd 1\n```\n```toml\nx\n```\n```sh first\ne\n```\n";
        let block = |host: &str, commands: &str, answers: &[&str]| Block {
            host: host.to_owned(),
            commands: commands.to_owned(),
            answers: answers.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(blocks(page).unwrap(), [block("", "b\nc\n", &["d 1"]), block("first", "e\n", &[])]);
        for page in ["```text\na\n```\n", "```sh\na\n"] {
            assert!(blocks(page).is_err(), "{page}");
        }
    }

    #[test]
    fn what_differs_from_run_to_run() {
        assert_eq!(plain("round  trip 12 us"), plain("round trip 9 us"));
        assert_eq!(plain("a 02:00:00:00:00:0a"), plain("a 06:11:22:33:44:5f"));
        assert_ne!(plain("reachable: 1"), plain("not reachable: 1"));
    }
}
