//! A host or a container: a network namespace and what is done in it.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use vswitch_sys::{Link, Netlink, Netns, NetnsThread, PacketSocket, process};

use crate::lab::Journal;
use crate::{Context, Result};

/// A network namespace, with a thread that lives in it. It ends with this, and all of its interfaces too.
#[derive(Debug)]
pub struct Host {
    name: String,
    netns: Netns,
    netlink: Netlink,
    thread: NetnsThread,
    journal: Journal,
}

impl Host {
    pub(crate) fn new(name: &str, journal: Journal) -> Result<Self> {
        let netns = Netns::create()?;
        let netlink = Netlink::open_in(&netns)?;
        let thread = NetnsThread::spawn(&netns)?;
        let host = Self { name: name.to_owned(), netns, netlink, thread, journal };
        host.up("lo")?;
        // Addresses are given by the test, which knows that they are unique.
        host.netns.set_sysctl("ipv6/conf/default/accept_dad", "0")?;
        host.netns.set_sysctl("ipv6/conf/all/accept_dad", "0")?;
        // Who is root may ask by ICMP echo without a right, as everybody may where systemd starts a host.
        host.netns.set_sysctl("ipv4/ping_group_range", "0 0")?;
        Ok(host)
    }

    /// A namespace that somebody else made and set up.
    pub(crate) fn adopt(name: &str, netns: Netns, journal: Journal) -> Result<Self> {
        let (netlink, thread) = (Netlink::open_in(&netns)?, NetnsThread::spawn(&netns)?);
        Ok(Self { name: name.to_owned(), netns, netlink, thread, journal })
    }

    /// The same host under another name: for a second daemon on it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn twin(&self, name: &str) -> Result<Self> {
        Self::adopt(name, self.netns.try_clone()?, self.journal.clone())
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace.
    #[must_use]
    pub const fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The path by which other processes find the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.netns.path()
    }

    /// The namespace's network settings.
    #[must_use]
    pub const fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    pub(crate) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Runs `work` on the thread that lives here.
    pub fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.thread.call(work)
    }

    /// The interface called `name`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn link(&self, name: &str) -> Result<Link> {
        self.netlink.link(name)?.context(format_args!("{} has no interface {name}", self.name))
    }

    /// The Ethernet address of interface `name`.
    ///
    /// # Errors
    /// Where there is no such interface, or it has none.
    pub fn mac(&self, name: &str) -> Result<[u8; 6]> {
        self.link(name)?.mac.context(format_args!("{name} in {} has no address", self.name))
    }

    /// Sets interface `name` up.
    ///
    /// # Errors
    /// Where there is none.
    pub fn up(&self, name: &str) -> Result {
        Ok(self.netlink.set_up(self.link(name)?.index, true)?)
    }

    /// Gives interface `name` addresses.
    ///
    /// # Errors
    /// Where it has one already.
    pub fn address(&self, name: &str, addresses: &[IpNet]) -> Result {
        let index = self.link(name)?.index;
        for address in addresses {
            self.netlink.add_address(index, *address)?;
        }
        Ok(())
    }

    /// A socket of this namespace; it stays one wherever it is used.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn socket(&self, domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
        self.call(move || Socket::new(domain, kind, protocol))
    }

    /// A packet socket on interface `name` that sends, and sees what the interface receives, whoever it is for.
    ///
    /// # Errors
    /// Where there is no such interface.
    pub fn packet_socket(&self, name: &str) -> Result<PacketSocket> {
        let interface = name.to_owned();
        let socket = self.call(move || PacketSocket::open(&interface)).context(&self.name)?;
        socket.promiscuous()?;
        socket.ignore_outgoing()?;
        Ok(socket)
    }

    /// Starts a program here. It is killed when this host, or this process, ends.
    ///
    /// # Errors
    /// Where there is no such program.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.call(move || process::die_with_parent(&mut command).spawn())
    }

    /// Keeps the kernel's packet filter away from frames that only cross a bridge here.
    ///
    /// # Errors
    /// Where `/proc/sys` is read-only.
    pub fn bridge_without_netfilter(&self) -> Result {
        for key in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"] {
            match self.netns.set_sysctl(&format!("bridge/{key}"), "0") {
                // Without br_netfilter loaded there is nothing to keep away.
                Err(vswitch_sys::NetnsError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}
