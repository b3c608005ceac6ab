//! What container runtimes asked for: their ports, and the pools of addresses. Words and answers.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use vswitch_api::{AttachmentInfo, Net, NetworkName, Pool, PoolInfo, PortState, Query, Vid};

use crate::complete::names;
use crate::repeat::Watch;
use crate::table::Table;
use crate::value::ip;

/// `vsctl attachment`.
#[derive(Debug, Subcommand)]
pub(crate) enum Attachments {
    /// List them
    List {
        /// Only those of this network
        #[arg(long, value_name = "NAME", add = names::networks())]
        network: Option<NetworkName>,
        #[command(flatten)]
        watch: Watch,
    },
}

/// `vsctl pool`.
#[derive(Debug, Subcommand)]
pub(crate) enum Pools {
    /// Show how many addresses of a subnet ports have, and how many are free
    Show(PoolShow),
}

/// `vsctl pool show`.
#[derive(Debug, Args)]
pub(crate) struct PoolShow {
    /// The subnet, as in the plugin's configuration
    subnet: Net,
    /// The VLAN whose ports have its addresses
    #[arg(long, value_name = "VID", add = names::vlans())]
    vlan: Vid,
    /// The first address given [default: the subnet's first]
    #[arg(long, value_name = "IP", value_parser = ip)]
    first: Option<IpAddr>,
    /// The last address given [default: the subnet's last]
    #[arg(long, value_name = "IP", value_parser = ip)]
    last: Option<IpAddr>,
    /// The router's, which no port is given [default: the subnet's first]
    #[arg(long, value_name = "IP", value_parser = ip)]
    gateway: Option<IpAddr>,
}

impl From<Pools> for Query {
    fn from(words: Pools) -> Self {
        let Pools::Show(PoolShow { subnet, vlan, first, last, gateway }) = words;
        Self::PoolShow { vlan, pools: vec![Pool { subnet, first, last, gateway }] }
    }
}

/// `attachment list`.
pub(crate) fn list(attachments: &Vec<AttachmentInfo>, out: &mut String) {
    if attachments.is_empty() {
        out.push_str("no attachments: no container runtime asked for such a port\n");
        return;
    }
    let mut table = Table::new(["NETWORK", "CONTAINER", "IFNAME", "PORT", "ADDRESSES", "ADDRESSES BY", "STATE"]);
    for AttachmentInfo { network, container, ifname, port, addresses, delegated, state, netns: _ } in attachments {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        table.row([
            network.to_string(),
            // In full, for it is what the runtime is asked for.
            container.to_string(),
            ifname.to_string(),
            port.to_string(),
            addresses.join(" "),
            if *delegated { "IPAM plugin" } else { "vswitchd" }.to_owned(),
            match state {
                PortState::Up => "up",
                PortState::Lost => "lost",
            }
            .to_owned(),
        ]);
    }
    table.write(out);
}

/// `pool show`.
pub(crate) fn pools(pools: &Vec<PoolInfo>, out: &mut String) {
    let mut table = Table::new(["SUBNET", "FIRST", "LAST", ">USED", ">FREE"]);
    for PoolInfo { subnet, first, last, used, free } in pools {
        // As many as there are numbers for are more.
        let free = if *free == u64::MAX { "more than 10^19".to_owned() } else { free.to_string() };
        table.row([subnet.to_string(), first.to_string(), last.to_string(), used.to_string(), free]);
    }
    table.write(out);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::render::rendered;

    #[test]
    fn attachments_in_a_table() {
        let attachment = |port: &str, addresses: Value, delegated: bool, state: &str| {
            json!({"network": "net", "container": "c1", "ifname": "eth0", "port": port, "netns": "/run/netns/x",
                "addresses": addresses, "delegated": delegated, "state": state})
        };
        let value = json!([
            attachment("net-c1", json!(["10.0.0.2/24", "fd00::2/64"]), false, "up"),
            attachment("net-c2", json!([]), true, "lost"),
        ]);
        let expected = "\
NETWORK  CONTAINER  IFNAME  PORT    ADDRESSES               ADDRESSES BY  STATE
net      c1         eth0    net-c1  10.0.0.2/24 fd00::2/64  vswitchd      up
net      c1         eth0    net-c2  -                       IPAM plugin   lost
";
        assert_eq!(rendered(list, value), expected);
        assert_eq!(rendered(list, json!([])), "no attachments: no container runtime asked for such a port\n");
    }

    #[test]
    fn pools_in_a_table() {
        let value = json!([
            {"subnet": "10.0.0.0/24", "first": "10.0.0.1", "last": "10.0.0.254", "used": 3, "free": 250},
            {"subnet": "fd00::/64", "first": "fd00::1", "last": "fd00::ffff:ffff:ffff:ffff", "used": 0, "free": u64::MAX},
        ]);
        let expected = "\
SUBNET       FIRST     LAST                       USED             FREE
10.0.0.0/24  10.0.0.1  10.0.0.254                    3              250
fd00::/64    fd00::1   fd00::ffff:ffff:ffff:ffff     0  more than 10^19
";
        assert_eq!(rendered(pools, value), expected);
    }
}
