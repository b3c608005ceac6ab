//! A container to test with: a namespace with an interface that is up and has a peer.
#![allow(clippy::unwrap_used, reason = "so a test fails")]

use std::io::Write as _;
use std::time::Duration;

use vswitch_sys::{Netlink, Netns};

/// Returns from the test, and says so where no harness swallows it, if `missing` finds something.
#[macro_export]
macro_rules! require {
    ($missing:expr) => {
        if let Some(reason) = $missing {
            $crate::testing::skip(module_path!(), line!(), &reason);
            return;
        }
    };
}

/// Says past the harness, which would swallow it, that a test proves nothing here.
pub(crate) fn skip(module: &str, line: u32, reason: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {module}, line {line}: {reason}");
}

/// Why no namespace can be made here.
pub(crate) fn no_container() -> Option<String> {
    Netns::create().err().map(|error| error.to_string())
}

/// A namespace with `eth0`.
pub(crate) struct Container {
    pub(crate) netns: Netns,
    pub(crate) netlink: Netlink,
    pub(crate) index: u32,
    /// Where the other end of `eth0` is.
    pub(crate) peer: Netns,
}

impl Container {
    pub(crate) fn new(addresses: &[&str]) -> Self {
        let (netns, peer) = (Netns::create().unwrap(), Netns::create().unwrap());
        let netlink = Netlink::open_in(&netns).unwrap();
        netlink.add_veth("eth0", "eth0", Some(&peer)).unwrap();
        let far = Netlink::open_in(&peer).unwrap();
        far.set_up(far.link("eth0").unwrap().unwrap().index, true).unwrap();
        let index = netlink.link("eth0").unwrap().unwrap().index;
        for address in addresses {
            netlink.add_address(index, address.parse().unwrap()).unwrap();
        }
        netlink.set_up(index, true).unwrap();
        assert!(netlink.wait_running(index, Duration::from_secs(20)).unwrap());
        Self { netns, netlink, index, peer }
    }
}
