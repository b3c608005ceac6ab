//! Hosts, wires, daemons and traffic to test the switch with: real packets, in network namespaces.
//!
//! # Running
//!
//! ```text
//! cargo test -p netns-tests                        # builds the programs in the same profile, runs everything
//! cargo test -p netns-tests -- kernel_vxlan::      # the tests whose name contains this
//! cargo test -p netns-tests -- --list
//! ```
//!
//! It needs root, or a system that lets ordinary users make user namespaces and open `/dev/net/tun`; without either every
//! test is reported as ignored, with the reason. No tool (`ip`, `tcpdump`, `iperf3`) has to be installed; the area
//! `openvswitch` needs Open vSwitch and `ethtool`, the area `privileges` root and setpriv (util-linux), the area `gateway`
//! `nft` (nftables), the area `book` root, iproute2, ping and, for the package, busybox, dpkg and systemd, most of the area
//! `top` tmux,
//! tests of the areas `comfort` and `doctor` tmux, zsh, fish, groff and `nft`,
//! the area `runtimes` root, containerd and Podman ([`runtimes`]), and each is ignored, with the reason, where these are
//! missing. Every namespace is unnamed and held by descriptors only, so tests run in parallel, and nothing is left behind
//! whatever way they end: the kernel removes the namespaces and kills the daemons with the process.
//!
//! | variable | what it does |
//! |---|---|
//! | `VSWITCH_BIN_DIR` | takes `vswitchd`, `vsctl` and `vswitch-cni` from this folder and builds nothing |
//! | `VSWITCH_TEST_LOG` | the daemons' `--log` (default `info`) |
//! | `VSWITCH_TEST_SEED` | the seed of all random numbers; a failing test prints the one it had |
//! | `VSWITCH_TEST_KEEP` | keeps every test's folder, not only that of a failing one |
//!
//! # A failing test
//!
//! prints where it failed, its journal (each command of `vsctl` with its answer, each daemon's start and end) and the last
//! lines of its daemons' logs. The folder with the whole logs and the state files stays; its path is in the message.
//!
//! # Writing one
//!
//! A test is a function from [`Lab`] to [`Result`], listed in `tests/netns.rs`. It makes [`Host`]s, joins them by an
//! [`Underlay`], runs a [`Node`] (host and daemon) on some and the kernel's own VXLAN ([`KernelSwitch`]) on others, and
//! attaches containers. What takes time is waited for with [`eventually`], never slept for.

mod account;
pub mod binaries;
pub mod capture;
pub mod cni;
mod daemon;
mod failure;
pub mod frames;
mod host;
mod kernel;
mod lab;
mod monitoring;
mod node;
pub mod openvswitch;
pub mod page;
mod random;
pub mod runtimes;
mod service_manager;
mod stats;
pub mod tmux;
pub mod traffic;
mod underlay;
mod vsctl;
mod wait;
pub mod watching;

pub use account::Account;
pub use capture::{Capture, Station};
pub use daemon::{Daemon, DaemonSpec, Ended};
pub use failure::{Context, Failure, Result};
pub use host::Host;
pub use kernel::KernelSwitch;
pub use lab::Lab;
pub use monitoring::{Monitored, Monitoring};
pub use node::{FdbEntry, Node};
pub use openvswitch::{OpenVswitch, SuperFrames};
pub use random::Random;
pub use service_manager::ServiceManager;
pub use stats::{Drops, Stats, drops};
pub use underlay::{UPLINK, Underlay, Vtep};
pub use vsctl::{Answer, Vsctl};
pub use wait::{SOON, eventually};
pub use watching::{Watched, Watching};
