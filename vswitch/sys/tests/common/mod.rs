//! A host of one's own for each test: nothing is shared, so tests run side by side.
#![allow(dead_code, reason = "every test binary uses its own part of this")]

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use vswitch_sys::{Netlink, Netns, NetnsThread, wait_readable};

/// Long enough for the busiest machine; only a failing test ever waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Returns from the test, and says so where no harness swallows it, if `missing` finds something.
#[macro_export]
macro_rules! require {
    ($missing:expr) => {
        if let Some(reason) = $missing {
            $crate::common::skip(module_path!(), line!(), &reason);
            return;
        }
    };
}

/// Says past the harness, which would swallow it, that a test proves nothing here.
pub(crate) fn skip(module: &str, line: u32, reason: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {module}, line {line}: {reason}");
}

/// Why no namespace can be made here.
pub(crate) fn no_netns() -> Option<String> {
    Netns::create().err().map(|error| error.to_string())
}

/// Why no TAP device can be made here.
pub(crate) fn no_tap() -> Option<String> {
    no_netns().or_else(|| {
        let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        opened.err().map(|error| format!("/dev/net/tun: {error}"))
    })
}

/// A namespace with loopback up, its settings, and a thread in it.
pub(crate) struct Host {
    pub(crate) netns: Netns,
    pub(crate) netlink: Netlink,
    pub(crate) thread: NetnsThread,
}

impl Host {
    pub(crate) fn new() -> Self {
        let netns = Netns::create().unwrap();
        let netlink = Netlink::open_in(&netns).unwrap();
        netlink.set_up(1, true).unwrap();
        let thread = NetnsThread::spawn(&netns).unwrap();
        Self { netns, netlink, thread }
    }

    /// The number of interface `name`.
    pub(crate) fn index(&self, name: &str) -> u32 {
        self.netlink.link(name).unwrap().unwrap_or_else(|| panic!("no interface {name}")).index
    }

    /// Sets `name` up with `addresses`, and without the chatter of IPv6 where none of them is of it.
    pub(crate) fn set_up(&self, name: &str, addresses: &[&str]) -> u32 {
        let index = self.index(name);
        if !addresses.iter().any(|address| address.contains(':')) {
            // Not there without IPv6, and then not needed.
            let _ = self.netns.set_sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
        }
        for address in addresses {
            self.netlink.add_address(index, address.parse().unwrap()).unwrap();
        }
        self.netlink.set_up(index, true).unwrap();
        index
    }
}

/// Two hosts joined by veth devices called `eth0` with these addresses, ready to carry.
pub(crate) fn joined(left: &[&str], right: &[&str]) -> (Host, Host) {
    let (a, b) = (Host::new(), Host::new());
    a.netlink.add_veth("eth0", "eth0", Some(&b.netns)).unwrap();
    let ends = [(&a, a.set_up("eth0", left)), (&b, b.set_up("eth0", right))];
    for (host, index) in ends {
        assert!(host.netlink.wait_running(index, PATIENCE).unwrap(), "eth0 does not run within {PATIENCE:?}");
    }
    (a, b)
}

/// Waits for `fd`; a test that waits in vain fails.
pub(crate) fn wait(fd: &impl AsFd) {
    assert!(wait_readable(fd, PATIENCE).unwrap(), "nothing came within {PATIENCE:?}");
}

/// Asks until `done` says yes, for what the kernel does in its own time and tells nobody.
pub(crate) fn eventually(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}
