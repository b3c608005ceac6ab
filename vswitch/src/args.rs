//! How the daemon is told to run: the command line, then the config file, then defaults.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use nix::unistd::geteuid;
use thiserror::Error;
use vswitch_api::{Config, socket};

use crate::accounts::{self, Account, AccountError};
use crate::bounds::{BoundArgs, Bounds, OutOfBounds};
use crate::control::access::{Access, Group};
use crate::health::{ProbeInterval, WrongInterval};
use crate::observe::{NoRecorder, RecorderSpec};
use crate::port::carrier::UnderlayMode;
use crate::reference::Page;
use crate::worker::PollMode;

/// VXLAN's port (RFC 7348 8).
const VXLAN_PORT: u16 = 4789;

/// Where packages and `dist/install.sh` put the settings.
const CONFIG: &str = "/etc/vswitch/vswitchd.toml";

/// Workers there may be: more would be more than most hosts have cores, and a TAP device has 256 queues at most.
const WORKERS_MAX: u16 = 64;

/// Root and the owner, and a group.
const SOCKET_MODE: u32 = 0o660;

/// The daemon of a userspace virtual switch: connects containers on this host, and over VXLAN those on others.
#[derive(Debug, Parser)]
#[command(name = "vswitchd", version)]
pub(crate) struct Args {
    /// A TOML file with these settings (as `vtep-ip = "192.0.2.1"`) and with [[vlan]], [[port]], [[peer]], [[fdb]] tables; or
    /// `none` [default: /etc/vswitch/vswitchd.toml if it is there, for root without --state-dir]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen for vsctl [default: $VSWITCH_SOCKET, else /run/vswitch/vswitch.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A group whose members may change the switch; others who can connect may look [default: none]
    #[arg(long, value_name = "NAME|GID")]
    socket_group: Option<String>,
    /// The mode of the socket: who may connect, and so look [default: 0660]
    #[arg(long, value_name = "MODE")]
    socket_mode: Option<String>,
    /// Started as root, become this user once all is opened, with the capabilities that are still needed
    #[arg(long, value_name = "NAME|UID")]
    user: Option<String>,
    /// Give up the right to enter namespaces too: ports come by `vsctl port add --hand-over` alone
    #[arg(long)]
    no_enter_namespaces: bool,
    /// Do without Landlock, which keeps what serves away from files it does not need
    #[arg(long)]
    no_sandbox: bool,
    /// Where to keep what vsctl sets, over restarts [default: $STATE_DIRECTORY, as systemd says it, else
    /// /var/lib/vswitch, without root ~/.local/state/vswitch]
    #[arg(long, value_name = "PATH")]
    state_dir: Option<PathBuf>,
    /// The address of this host on the underlay; without it there is no VXLAN
    #[arg(long, value_name = "IP")]
    vtep_ip: Option<IpAddr>,
    /// The UDP port of VXLAN, here and at every peer [default: 4789]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    vtep_port: Option<u16>,
    /// Threads that move frames, 1 to 64: at most one for each core that is to be spent on them [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=WORKERS_MAX.into()))]
    workers: Option<u16>,
    /// How VXLAN goes: super-frames uncut by an uplink (uplink), by sockets (udp), or as host and kernel allow [default: auto]
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = true)]
    underlay: Option<UnderlayMode>,
    /// What to do when no frame waits: look again (busy), for 50 us after traffic (adaptive), or sleep [default: adaptive]
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = true)]
    poll: Option<PollMode>,
    #[command(flatten)]
    bounds: BoundArgs,
    /// Take over from the vswitchd that serves the socket: no frame is lost. Where none does, start as usual
    #[arg(long)]
    takeover: bool,
    /// Let ports that do not say otherwise send from their own MAC address and, where they were given some, their own IP
    /// addresses only
    #[arg(long)]
    source_guard: bool,
    /// Tell Prometheus, at http://ADDR:PORT/metrics, what vsctl tells; whoever reaches the address may ask [default: off]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_addr: Option<SocketAddr>,
    /// Print a page of the reference and end
    #[arg(long, hide = true, value_name = "PAGE", value_enum)]
    reference: Option<Page>,
    /// Print the manual page and end
    #[arg(long, hide = true)]
    man: bool,
    /// Remember the headers of the frames of the last SECONDS (1 to 3600) in SIZE of memory, 16M if not said, for `vsctl
    /// capture --last` [default: off]
    #[arg(long, value_name = "SECONDS[,SIZE]")]
    flight_recorder: Option<String>,
    /// Probe each peer so often, 100ms to 1h, such as 1s: round trip, loss, path MTU and what is wrong, in `vsctl vtep peer
    /// list` [default: off]
    #[arg(long, value_name = "INTERVAL")]
    probe_interval: Option<String>,
    /// What to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// How the daemon runs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) socket: PathBuf,
    pub(crate) access: Access,
    /// Whom to become.
    pub(crate) user: Option<Account>,
    pub(crate) enter_namespaces: bool,
    pub(crate) sandbox: bool,
    pub(crate) state_dir: PathBuf,
    pub(crate) vtep_ip: Option<IpAddr>,
    pub(crate) vtep_port: u16,
    pub(crate) underlay: UnderlayMode,
    pub(crate) workers: u16,
    pub(crate) poll: PollMode,
    pub(crate) bounds: Bounds,
    pub(crate) source_guard: bool,
    /// Where to answer for metrics.
    pub(crate) metrics_addr: Option<SocketAddr>,
    pub(crate) recorder: Option<RecorderSpec>,
    pub(crate) probe_interval: Option<ProbeInterval>,
    pub(crate) log: String,
    pub(crate) takeover: bool,
    /// Where `config` was read.
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) config: Option<Config>,
}

/// Why it cannot run so.
#[derive(Debug, Error)]
pub(crate) enum ArgsError {
    #[error("cannot read the config file {}: {error}", .path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("the config file {} is wrong: {error}", .path.display())]
    Syntax { path: PathBuf, error: Box<toml::de::Error> },
    #[error("workers = {0} in the config file: say 1 to {WORKERS_MAX}")]
    Workers(usize),
    #[error("poll = {0:?} in the config file: say busy, adaptive or sleep")]
    Poll(String),
    #[error(
        "socket mode {0:?} is not one: say octal digits that let the owner read and write and nobody execute, such as \
         0660 (the group may look) or 0666 (everyone may)"
    )]
    SocketMode(String),
    #[error("only root can become user {0} (--user): start vswitchd as root, or as that user without --user")]
    NotRoot(String),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Recorder(#[from] NoRecorder),
    #[error(transparent)]
    Interval(#[from] WrongInterval),
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error("underlay = {0:?} in the config file: say auto, udp or uplink")]
    Underlay(String),
}

impl Args {
    /// The page of the reference that is asked for, instead of a daemon.
    pub(crate) const fn page(&self) -> Option<Page> {
        self.reference
    }

    /// Whether it is asked for the manual page, and for nothing else.
    pub(crate) const fn wants_manual(&self) -> bool {
        self.man
    }

    /// The file with the settings: `usual` is that of the system's daemon, which a daemon with a state of its own is not.
    fn config_file(&self, is_root: bool, usual: &Path) -> Option<PathBuf> {
        match &self.config {
            Some(none) if none.as_os_str() == "none" => None,
            Some(file) => Some(file.clone()),
            None => (is_root && self.state_dir.is_none() && usual.exists()).then(|| usual.to_owned()),
        }
    }

    /// What the command line and the config file come to.
    pub(crate) fn resolve(self) -> Result<Run, ArgsError> {
        let config_file = self.config_file(geteuid().is_root(), Path::new(CONFIG));
        let config = config_file.as_deref().map(read).transpose()?;
        let file = config.as_ref().map(|config| config.settings.clone()).unwrap_or_default();
        let workers = file.workers.map(|workers| {
            let few = u16::try_from(workers.get()).ok().filter(|workers| *workers <= WORKERS_MAX);
            few.ok_or(ArgsError::Workers(workers.get()))
        });
        let workers = workers.transpose()?;
        let bounds = self.bounds.resolve(&file)?;
        let poll = meant(file.poll, ArgsError::Poll)?;
        let underlay = meant(file.underlay, ArgsError::Underlay)?;
        let user = self.user.or(file.user).as_deref().map(accounts::user).transpose()?;
        let own = geteuid();
        if let Some(user) = user.as_ref().filter(|user| !own.is_root() && user.uid != own) {
            return Err(ArgsError::NotRoot(user.name.clone()));
        }
        let group = self.socket_group.or(file.socket_group).as_deref().map(accounts::group).transpose()?;
        let access = Access {
            owner: user.as_ref().map_or(own, |user| user.uid).as_raw(),
            group: group.map(|(name, gid)| Group { gid: gid.as_raw(), name }),
            mode: self.socket_mode.or(file.socket_mode).map_or(Ok(SOCKET_MODE), socket_mode)?,
        };
        Ok(Run {
            socket: socket::to_bind(self.socket.or(file.socket)),
            access,
            user,
            enter_namespaces: !self.no_enter_namespaces && file.enter_namespaces.unwrap_or(true),
            sandbox: !self.no_sandbox && file.sandbox.unwrap_or(true),
            state_dir: self
                .state_dir
                .or(file.state_dir)
                .unwrap_or_else(|| default_state_dir(own.is_root(), |name| std::env::var_os(name))),
            vtep_ip: self.vtep_ip.or(file.vtep_ip),
            vtep_port: self.vtep_port.or(file.vtep_port.map(Into::into)).unwrap_or(VXLAN_PORT),
            underlay: self.underlay.or(underlay).unwrap_or_default(),
            workers: self.workers.or(workers).unwrap_or(1),
            poll: self.poll.or(poll).unwrap_or_default(),
            bounds,
            probe_interval: match self.probe_interval.or(file.probe_interval) {
                Some(text) => ProbeInterval::parse(&text)?,
                None => None,
            },
            recorder: self.flight_recorder.or(file.flight_recorder).map(|text| text.parse()).transpose()?,
            source_guard: self.source_guard || file.source_guard.unwrap_or(false),
            metrics_addr: self.metrics_addr.or(file.metrics_addr),
            log: self.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
            takeover: self.takeover,
            config_file,
            config,
        })
    }
}

/// The mode that `text` writes. Its owner needs it, to see at a restart whether somebody listens.
fn socket_mode(text: String) -> Result<u32, ArgsError> {
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
    mode.ok_or(ArgsError::SocketMode(text))
}

/// What a word of the config file means, as it does on the command line.
fn meant<T: ValueEnum>(word: Option<String>, wrong: fn(String) -> ArgsError) -> Result<Option<T>, ArgsError> {
    word.map(|word| T::from_str(&word, false).map_err(|_| wrong(word))).transpose()
}

fn read(path: &Path) -> Result<Config, ArgsError> {
    let text = fs::read_to_string(path).map_err(|error| ArgsError::Read { path: path.to_owned(), error })?;
    toml::from_str(&text).map_err(|error| ArgsError::Syntax { path: path.to_owned(), error: Box::new(error) })
}

/// Where the state is, unless said. What systemd made for the service (systemd.exec(5), `StateDirectory=`) is found by any
/// user it runs as: no port is lost by `User=`.
fn default_state_dir(is_root: bool, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let said = |name| variable(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    if let Some(folder) = said("STATE_DIRECTORY").and_then(|folders| std::env::split_paths(&folders).next()) {
        return folder;
    }
    if is_root {
        return PathBuf::from("/var/lib/vswitch");
    }
    let state = said("XDG_STATE_HOME").or_else(|| Some(said("HOME")?.join(".local/state")));
    state.unwrap_or_else(|| PathBuf::from(".")).join("vswitch")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: &[&str]) -> Result<Run, String> {
        // What this machine's daemon is told is none of our business.
        let none: &[_] = if args.contains(&"--config") { &[] } else { &["--config", "none"] };
        let args = Args::try_parse_from([&["vswitchd"], none, args].concat()).map_err(|error| error.to_string())?;
        args.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn the_state_is_where_systemd_says_else_where_users_have_it() {
        type Case = (bool, &'static [(&'static str, &'static str)], &'static str);
        let table: [Case; 6] = [
            (true, &[("HOME", "/root")], "/var/lib/vswitch"),
            (true, &[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")], "/var/lib/a"),
            (false, &[("STATE_DIRECTORY", "/var/lib/vswitch"), ("HOME", "/var/lib/vswitch")], "/var/lib/vswitch"),
            (false, &[("STATE_DIRECTORY", ""), ("HOME", "/home/a")], "/home/a/.local/state/vswitch"),
            (false, &[("XDG_STATE_HOME", "/b"), ("HOME", "/home/a")], "/b/vswitch"),
            (false, &[], "./vswitch"),
        ];
        for (is_root, said, expected) in table {
            let variable = |name: &str| said.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
            assert_eq!(default_state_dir(is_root, variable), Path::new(expected), "{said:?}");
        }
    }

    #[test]
    fn the_file_of_the_systems_daemon_is_read_unless_said_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let usual = dir.path().join("vswitchd.toml");
        let file = |args: &[&str], is_root| {
            let args = Args::try_parse_from([&["vswitchd"], args].concat()).unwrap();
            args.config_file(is_root, &usual)
        };
        assert_eq!(file(&[], true), None, "where it is not there");
        fs::write(&usual, "").unwrap();
        assert_eq!(file(&[], true).as_ref(), Some(&usual));
        assert_eq!(file(&["--vtep-ip", "192.0.2.1", "--takeover"], true).as_ref(), Some(&usual));
        assert_eq!(file(&[], false), None);
        assert_eq!(file(&["--state-dir", "/a"], true), None);
        assert_eq!(file(&["--config", "none"], true), None);
        assert_eq!(file(&["--config", "/b", "--state-dir", "/a"], false), Some("/b".into()));
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let text = "vtep-ip = \"192.0.2.1\"\nvtep-port = 8472\nsocket = \"/file\"\nworkers = 3\nsource-guard = true\n[[vlan]]\nvlan = 10\n";
        fs::write(&path, text).unwrap();
        let config = path.to_str().unwrap();
        let run = resolve(&["--config", config, "--socket", "/line"]).unwrap();
        assert_eq!((run.socket, run.vtep_port), (PathBuf::from("/line"), 8472));
        assert_eq!(run.vtep_ip, Some("192.0.2.1".parse().unwrap()));
        assert_eq!((run.config.unwrap().desired.vlans().count(), run.workers), (1, 3));
        let guard = |args: &[&str]| resolve(args).unwrap().source_guard;
        assert!(guard(&["--config", config]) && guard(&["--source-guard"]) && !guard(&[]));
        let workers = |args: &[&str]| resolve(args).unwrap().workers;
        assert_eq!((workers(&["--config", config, "--workers", "64"]), workers(&[])), (64, 1));
    }

    #[test]
    fn who_may_connect_and_whom_to_become() {
        let run = resolve(&[]).unwrap();
        assert_eq!((run.access.mode, run.access.group, run.user), (0o660, None, None));
        assert_eq!(run.access.owner, geteuid().as_raw());
        assert!(run.enter_namespaces && run.sandbox);
        let run =
            resolve(&["--socket-mode", "666", "--socket-group", "0", "--no-enter-namespaces", "--no-sandbox"]).unwrap();
        assert_eq!((run.access.mode, run.access.group.unwrap().gid), (0o666, 0));
        assert!(!run.enter_namespaces && !run.sandbox);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "socket-mode = \"0600\"\nenter-namespaces = false\nsandbox = false\n").unwrap();
        let run = resolve(&["--config", path.to_str().unwrap()]).unwrap();
        assert_eq!((run.access.mode, run.enter_namespaces, run.sandbox), (0o600, false, false));
    }

    #[test]
    fn bounds_have_defaults_and_can_be_lifted() {
        let bounds = |args: &[&str]| {
            let Bounds { fdb, storm } = resolve(args).unwrap().bounds;
            (fdb.entries, fdb.per_port, storm.map_or(0, std::num::NonZeroU32::get))
        };
        assert_eq!(bounds(&[]), (131_072, 16_384, 10_000));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "storm-limit = 0\nfdb-limit = 500\nfdb-limit-per-port = 50\n").unwrap();
        let config = path.to_str().unwrap();
        assert_eq!(bounds(&["--config", config]), (500, 50, 0));
        let line = ["--config", config, "--storm-limit", "7", "--fdb-limit", "1", "--fdb-limit-per-port", "2"];
        assert_eq!(bounds(&line), (1, 2, 7));
    }

    #[test]
    fn metrics_are_off_unless_asked_for() {
        assert_eq!(resolve(&[]).unwrap().metrics_addr, None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "metrics-addr = \"127.0.0.1:9475\"\n").unwrap();
        let config = path.to_str().unwrap();
        let addr = |args: &[&str]| resolve(args).unwrap().metrics_addr.unwrap().to_string();
        assert_eq!(addr(&["--config", config]), "127.0.0.1:9475");
        assert_eq!(addr(&["--config", config, "--metrics-addr", "[fd00::1]:80"]), "[fd00::1]:80");
    }

    #[test]
    fn the_flight_recorder_is_off_until_asked_for() {
        let recorder = |args: &[&str]| resolve(args).unwrap().recorder;
        assert_eq!(recorder(&[]), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "flight-recorder = \"60\"\n").unwrap();
        let config = path.to_str().unwrap();
        assert_eq!(recorder(&["--config", config]).map(|spec| spec.seconds), Some(60));
        let line = recorder(&["--config", config, "--flight-recorder", "30,1M"]);
        assert_eq!(line, Some(RecorderSpec { seconds: 30, size: 1 << 20 }));
    }

    /// Of `dist/vswitchd.toml`, what is there once every key is set.
    fn uncommented() -> String {
        let file = include_str!("../../dist/vswitchd.toml");
        let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
        file.lines().filter(is_key).map(|line| line[1..].to_owned() + "\n").collect()
    }

    /// The keys that serde knows at the end of `text`.
    fn known(text: &str) -> Vec<String> {
        let error = toml::from_str::<Config>(&format!("{text}no-such-key = 1\n")).unwrap_err().to_string();
        let (_, known) = error.split_once("expected one of ").unwrap();
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_file_that_is_installed_changes_nothing() {
        let file: Config = toml::from_str(include_str!("../../dist/vswitchd.toml")).unwrap();
        assert_eq!(file, Config::default());
    }

    #[test]
    fn the_file_that_is_installed_has_every_key() {
        let text = uncommented();
        toml::from_str::<Config>(&text).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        // Only the daemon itself writes these, into its state.
        let own = ["attachment", "gateway-of"];
        let settings = known("");
        assert!(settings.len() > 20, "{settings:?}");
        for key in settings.iter().filter(|key| !own.contains(&key.as_str())) {
            assert!(table.contains_key(key), "dist/vswitchd.toml does not have {key}");
        }
        for (tables, head) in [
            ("vlan", "[[vlan]]\nvlan = 1\n"),
            ("peer", "[[peer]]\n"),
            ("port", "[[port]]\nname = \"a\"\nnetns = \"a\"\n"),
            ("fdb", "[[fdb]]\n"),
        ] {
            let all = table[tables].as_array().unwrap();
            for key in known(head).iter().filter(|key| !own.contains(&key.as_str())) {
                let has = all.iter().any(|table| table.as_table().unwrap().contains_key(key));
                assert!(has, "dist/vswitchd.toml has no {key} in any [[{tables}]]");
            }
        }
    }

    #[test]
    fn the_file_that_is_installed_tells_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        // Without default; or their own elsewhere than under systemd, as root.
        let examples = ["vtep-ip", "metrics-addr", "flight-recorder", "user", "socket-group", "socket", "state-dir"];
        let text = uncommented();
        let (settings, _) = text.split_once("[[").unwrap();
        let is_example = |line: &str| examples.iter().any(|key| line.starts_with(&format!("{key} =")));
        let text: String = settings.lines().filter(|line| !is_example(line)).map(|line| format!("{line}\n")).collect();
        fs::write(&path, &text).unwrap();
        let mut said = resolve(&["--config", path.to_str().unwrap()]).unwrap();
        let config = said.config.take().unwrap();
        assert!(said.config_file.take().is_some());
        assert_eq!(format!("{said:?}"), format!("{:?}", resolve(&[]).unwrap()), "{text}");
        assert_eq!(config.settings.ageing, Some(vswitch_api::Ageing::default()));
    }

    #[test]
    fn probes_are_off_until_asked_for() {
        let interval =
            |args: &[&str]| resolve(args).unwrap().probe_interval.map(|ProbeInterval(interval)| interval.as_millis());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "probe-interval = \"5s\"\n").unwrap();
        let config = path.to_str().unwrap();
        assert_eq!(interval(&[]), None);
        assert_eq!(interval(&["--config", config]), Some(5000));
        assert_eq!(interval(&["--config", config, "--probe-interval", "200ms"]), Some(200));
        assert_eq!(interval(&["--config", config, "--probe-interval", "off"]), None);
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for (text, said) in [
            ("vtep-ip = \"192.0.2.1\"\nvtep-prot = 1\n", "line 2"),
            ("[[vlan]]\nvlan = 4095\n", "4095"),
            ("[[port]]\nname = \"a\"\nnetns = \"a\"\ncolour = 1\n", "colour"),
            ("workers = 65\n", "workers = 65"),
            ("poll = \"eager\"\n", "adaptive"),
            ("underlay = \"tcp\"\n", "uplink"),
            ("socket-mode = \"0777\"\n", "0660"),
            ("socket-mode = \"0066\"\n", "0660"),
            ("socket-group = \"no such group\"\n", "groupadd"),
            ("user = \"no such user\"\n", "useradd"),
            ("sandbox = 1\n", "line 1"),
            ("storm-limit = 10000001\n", "0 to 10000000"),
            ("storm-limit = -1\n", "line 1"),
            ("metrics-addr = \"127.0.0.1\"\n", "line 1"),
            ("flight-recorder = \"1d\"\n", "say how many seconds it looks back"),
            ("fdb-limit = 0\n", "fdb-limit = 0 in the config file: say 1 to 16777216"),
            ("fdb-limit-per-port = 16777217\n", "16777217"),
        ] {
            fs::write(&path, text).unwrap();
            let message = resolve(&["--config", path.to_str().unwrap()]).unwrap_err();
            assert!(message.contains(said), "{text}: {message}");
        }
        let message = resolve(&["--config", "/nowhere.toml"]).unwrap_err();
        assert!(message.contains("/nowhere.toml"), "{message}");
    }

    #[test]
    fn wrong_options_are_refused() {
        for args in [
            ["--vtep-port", "0"],
            ["--vtep-ip", "nine"],
            ["--workers", "0"],
            ["--workers", "65"],
            ["--poll", "eager"],
            ["--underlay", "tcp"],
            ["--socket-mode", "rw"],
            ["--socket-mode", "1660"],
            ["--socket-group", "no such group"],
            ["--user", "no such user"],
            ["--storm-limit", "10000001"],
            ["--storm-limit", "-1"],
            ["--fdb-limit", "0"],
            ["--fdb-limit-per-port", "16777217"],
            ["--metrics-addr", "9475"],
            ["--metrics-addr", "localhost:9475"],
            ["--flight-recorder", "0"],
            ["--probe-interval", "1"],
            ["--probe-interval", "99ms"],
            ["--flight-recorder", "30,1k"],
        ] {
            assert!(resolve(&args).is_err(), "{args:?}");
        }
    }
}
