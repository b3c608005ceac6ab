//! One more implementation: Open vSwitch with its userspace datapath (`netdev`), the programs of the distribution.
//!
//! Database, daemon and sockets of each switch lie in the lab's folder; the machine's own Open vSwitch is not touched.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ipnet::IpNet;

use crate::{Context, Failure, Host, Lab, Result, SOON, UPLINK, ensure, eventually};

/// The bridge that holds the underlay's interface and bears its address: tunnels leave through a bridge only.
const UNDERLAY: &str = "br-phy";
/// The bridge with the containers.
const BRIDGE: &str = "br0";
const PROGRAMS: [&str; 4] = ["ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl"];

/// What the containers' kernels may leave undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperFrames {
    /// Nothing: checksums complete and every frame cut, by `ethtool`. The datapath takes it so by default.
    Cut,
    /// Checksums and segmentation, with `userspace-tso-enable`.
    Whole,
}

/// A host whose switch is Open vSwitch. Its processes end with this.
#[derive(Debug)]
pub struct OpenVswitch {
    // Before the host: the processes end first.
    switch: Process,
    _database: Process,
    host: Host,
    folder: PathBuf,
    super_frames: SuperFrames,
}

/// A process that is killed with this.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl OpenVswitch {
    /// Why there can be none here: the programs that are not installed.
    ///
    /// # Errors
    /// The names of what is missing, and of the packages that have it.
    pub fn installed(super_frames: SuperFrames) -> std::result::Result<(), String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let is_here = |name: &&str| env::split_paths(&path).any(|folder| folder.join(name).is_file());
        let needed = PROGRAMS.iter().chain((super_frames == SuperFrames::Cut).then_some(&"ethtool"));
        let missing: Vec<_> = needed.copied().filter(|name| !is_here(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("not installed: {} (Debian: openvswitch-switch, ethtool)", missing.join(", ")))
    }

    /// Makes `host` an empty switch.
    ///
    /// # Errors
    /// Where a program is missing or does not answer.
    pub fn start(lab: &Lab, host: Host, super_frames: SuperFrames) -> Result<Self> {
        Self::installed(super_frames).map_err(Failure::new)?;
        let folder = lab.folder(host.name())?;
        let log = File::create(folder.join("log"))?;
        let run = |program: &str| -> Result<Command> {
            let mut command = Command::new(program);
            command.args(["--no-chdir", "-vconsole:info", "-vsyslog:off", "-vfile:off"]);
            command.arg(format!("--pidfile={}", folder.join(format!("{program}.pid")).display()));
            command.arg(format!("--unixctl={}", folder.join(format!("{program}.ctl")).display()));
            for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
                command.env(variable, &folder);
            }
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
            Ok(command)
        };
        let (data, socket) = (folder.join("conf.db"), folder.join("db.sock"));
        finish(&host, "ovsdb-tool", [OsStr::new("create"), data.as_os_str()])?;
        let mut server = run("ovsdb-server")?;
        server.arg(&data).arg(format!("--remote=punix:{}", socket.display()));
        let database = Process(host.spawn(server)?);
        eventually(SOON, "ovsdb-server listens", || socket.exists().then_some(()).context("no socket"))?;
        vsctl(&host, &folder, "--no-wait init")?;
        if super_frames == SuperFrames::Whole {
            // Read once, when the daemon starts.
            vsctl(&host, &folder, "--no-wait set Open_vSwitch . other_config:userspace-tso-enable=true")?;
        }
        let mut daemon = run("ovs-vswitchd")?;
        daemon.arg(format!("unix:{}", socket.display()));
        let switch = Process(host.spawn(daemon)?);
        let all = Self { switch, _database: database, host, folder, super_frames };
        all.bridge(BRIDGE)?;
        Ok(all)
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The process that moves frames.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.switch.0.id()
    }

    /// Runs `ovs-vsctl`, the words parted by spaces; it waits until the daemon has done it.
    ///
    /// # Errors
    /// Where it refuses, or the daemon does not answer.
    pub fn vsctl(&self, words: &str) -> Result<String> {
        vsctl(&self.host, &self.folder, words).context(words)
    }

    fn bridge(&self, name: &str) -> Result {
        self.vsctl(&format!("add-br {name} -- set bridge {name} datapath_type=netdev")).map(drop)
    }

    /// A container on the switch, with an `eth0` of these addresses, whose packets have at most `mtu` bytes.
    ///
    /// # Errors
    /// What kernel and daemon answer.
    pub fn attach(&self, container: Host, addresses: &[IpNet], mtu: u32) -> Result<Host> {
        let name = container.name();
        self.host.netlink().add_veth(name, "eth0", Some(container.netns()))?;
        for (host, interface) in [(&self.host, name), (&container, "eth0")] {
            host.netlink().set_mtu(host.link(interface)?.index, mtu)?;
        }
        if self.super_frames == SuperFrames::Cut {
            complete_checksums(&container, "eth0")?;
        }
        self.vsctl(&format!("add-port {BRIDGE} {name}"))?;
        self.host.up(name)?;
        container.address("eth0", addresses)?;
        container.up("eth0")?;
        Ok(container)
    }

    /// Joins network `vni` of the switch at `remote`: [`UPLINK`], still without address, gets into a bridge of its own,
    /// which gets the address.
    ///
    /// # Errors
    /// What kernel and daemon answer.
    pub fn join(&self, local: IpNet, remote: IpAddr, vni: u32) -> Result {
        self.bridge(UNDERLAY)?;
        self.vsctl(&format!("add-port {UNDERLAY} {UPLINK}"))?;
        self.host.address(UNDERLAY, &[local])?;
        self.host.up(UNDERLAY)?;
        self.host.up(UPLINK)?;
        let options = format!("type=vxlan options:remote_ip={remote} options:key={vni}");
        self.vsctl(&format!("add-port {BRIDGE} vx0 -- set interface vx0 {options}")).map(drop)
    }
}

/// Has the kernel complete checksums and cut super-frames before they reach `interface`, as a datapath that reads them
/// without offload headers needs it.
///
/// # Errors
/// Where `ethtool` is missing or fails.
pub fn complete_checksums(host: &Host, interface: &str) -> Result {
    finish(host, "ethtool", ["-K", interface, "tx", "off"]).map(drop)
}

fn vsctl(host: &Host, folder: &Path, words: &str) -> Result<String> {
    let database = format!("--db=unix:{}", folder.join("db.sock").display());
    finish(host, "ovs-vsctl", ["--timeout=10", &database].into_iter().chain(words.split(' ')))
}

/// Runs a program in `host` to its end; what it printed.
fn finish<A: AsRef<OsStr>>(host: &Host, program: &str, words: impl IntoIterator<Item = A>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = host.spawn(command).context(program)?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {} {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
