//! A host with our switch, and containers on it.

use std::net::IpAddr;

use serde_json::Value;

use crate::underlay::Vtep;
use crate::{Daemon, DaemonSpec, Host, Lab, Result, Stats, Underlay, Vsctl, ensure_eq};

/// A host on the underlay, with a daemon.
#[derive(Debug)]
pub struct Node {
    // Before the host: the daemon ends first.
    /// The daemon.
    pub daemon: Daemon,
    /// The host.
    pub host: Host,
    /// Where the other hosts find it.
    pub ip: IpAddr,
}

impl Node {
    /// A host on `underlay` whose VTEP has the IPv4 address.
    ///
    /// # Errors
    /// Where the daemon does not start.
    pub fn v4(lab: &Lab, underlay: &Underlay, name: &str) -> Result<Self> {
        Self::with(lab, underlay, name, |vtep| vtep.v4, DaemonSpec::default())
    }

    /// A host on `underlay` whose VTEP has the IPv6 address.
    ///
    /// # Errors
    /// Where the daemon does not start.
    pub fn v6(lab: &Lab, underlay: &Underlay, name: &str) -> Result<Self> {
        Self::with(lab, underlay, name, |vtep| vtep.v6, DaemonSpec::default())
    }

    /// A host on `underlay` whose daemon is started as `spec` says, with the VTEP address that `family` chooses.
    ///
    /// # Errors
    /// Where the daemon does not start.
    pub fn with(
        lab: &Lab,
        underlay: &Underlay,
        name: &str,
        family: fn(Vtep) -> IpAddr,
        spec: DaemonSpec,
    ) -> Result<Self> {
        let host = lab.host(name)?;
        let ip = family(underlay.join(&host)?);
        let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..spec })?;
        Ok(Self { daemon, host, ip })
    }

    /// Two hosts on an underlay of `mtu`, joined in VLAN 10, VNI 100, over IPv4.
    ///
    /// # Errors
    /// Where a daemon does not start.
    pub fn pair(lab: &Lab, mtu: u32) -> Result<(Underlay, Self, Self)> {
        Self::pair_with(lab, mtu, &DaemonSpec::default())
    }

    /// As [`Self::pair`], with daemons that are started as `spec` says.
    ///
    /// # Errors
    /// Where a daemon does not start.
    pub fn pair_with(lab: &Lab, mtu: u32, spec: &DaemonSpec) -> Result<(Underlay, Self, Self)> {
        let underlay = Underlay::new(lab, mtu)?;
        let node = |name| Self::with(lab, &underlay, name, |vtep| vtep.v4, spec.clone());
        let (a, b) = (node("h1")?, node("h2")?);
        a.join(10, 100, &[b.ip])?;
        b.join(10, 100, &[a.ip])?;
        Ok((underlay, a, b))
    }

    /// `vsctl` for its daemon.
    #[must_use]
    pub const fn vsctl(&self) -> &Vsctl {
        self.daemon.vsctl()
    }

    /// Runs `vsctl`, which is to succeed.
    ///
    /// # Errors
    /// Where it does not.
    #[track_caller]
    pub fn ok(&self, words: &str) -> Result<Value> {
        self.vsctl().ok(words)
    }

    /// Makes a VLAN with a VNI, shared with `peers`.
    ///
    /// # Errors
    /// Where the daemon refuses.
    pub fn join(&self, vlan: u16, vni: u32, peers: &[IpAddr]) -> Result {
        self.ok(&format!("vlan add {vlan} --vni {vni}"))?;
        for peer in peers {
            self.ok(&format!("vtep peer add {peer} --vlan {vlan}"))?;
        }
        Ok(())
    }

    /// Makes a container and a port to it. `words` go behind `vsctl port add NAME --netns PATH`.
    ///
    /// # Errors
    /// Where the daemon refuses.
    pub fn attach(&self, lab: &Lab, name: &str, words: &str) -> Result<Host> {
        self.attach_host(lab.host(name)?, words)
    }

    /// As [`Self::attach`]; the container's interface says nothing of its own accord.
    ///
    /// # Errors
    /// Where the daemon refuses.
    pub fn attach_quiet(&self, lab: &Lab, name: &str, words: &str) -> Result<Host> {
        self.attach_host(lab.quiet_host(name)?, words)
    }

    fn attach_host(&self, container: Host, words: &str) -> Result<Host> {
        self.ok(&format!("port add {} --netns {} {words}", container.name(), container.path().display()))?;
        let port = self.ok(&format!("port show {}", container.name()))?;
        ensure_eq!(port["state"], "up", "state of port {}", container.name());
        Ok(container)
    }

    /// All counters.
    ///
    /// # Errors
    /// Where they cannot be had.
    pub fn stats(&self) -> Result<Stats> {
        Stats::read(&self.ok("stats")?)
    }

    /// The FDB as `(vlan, mac, kind, port or remote)`.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn fdb(&self) -> Result<Vec<FdbEntry>> {
        let list = self.ok("fdb list")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let entry = |entry: &Value| FdbEntry {
            vlan: entry["vlan"].as_u64().unwrap_or(0),
            mac: text(&entry["mac"]).unwrap_or_default(),
            kind: text(&entry["kind"]).unwrap_or_default(),
            place: text(&entry["port"]).or_else(|| text(&entry["remote"])),
        };
        Ok(list.as_array().into_iter().flatten().map(entry).collect())
    }

    /// Where `mac` is in `vlan`: a port's name or a remote's address, and how it is known.
    ///
    /// # Errors
    /// Where the FDB cannot be had.
    pub fn place_of(&self, vlan: u64, mac: &str) -> Result<Option<(String, String)>> {
        let found = self.fdb()?.into_iter().find(|entry| entry.vlan == vlan && entry.mac == mac);
        Ok(found.map(|entry| (entry.place.unwrap_or_default(), entry.kind)))
    }
}

/// One line of the FDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The VLAN.
    pub vlan: u64,
    /// The address.
    pub mac: String,
    /// `static` or `learned`.
    pub kind: String,
    /// The port's name, or the remote's address.
    pub place: Option<String>,
}
