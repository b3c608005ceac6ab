//! Every metric there is, declared once: what is told, the reference and the checks of dashboard and alerts come from here.
//!
//! Names are those of Prometheus' conventions: base units, `_total` behind what only grows. One that is removed or renamed
//! breaks somebody's dashboard.

use std::fmt::Write as _;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, and begins again with the daemon where it says nothing else.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often a value was so great.
    Histogram,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric, and what tells its series from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(super) const $id: Metric =
            Metric { name: $name, kind: Kind::$kind, help: $help, labels: &[$($label),*] };)+
        /// All of them, in the order they are told.
        pub(super) const ALL: &[Metric] = &[$($id),+];
    };
}

metrics! {
    BUILD = Gauge "vswitch_build_info" ["version"]
        "1, with the version that runs.";
    PORTS = Gauge "vswitch_ports" []
        "Ports there are, lost ones among them.";
    PORTS_LOST = Gauge "vswitch_ports_lost" []
        "Ports whose interface or namespace is gone, or could not be made yet.";
    PORT_INFO = Gauge "vswitch_port_info" ["port", "netns", "ifname", "mode", "vlan", "network", "container"]
        "1, with what is known of a port; vlan is that of untagged frames, network and container are empty for a port that no container runtime asked for.";
    PORT_UP = Gauge "vswitch_port_up" ["port"]
        "1 where frames can pass the port, 0 where it is lost.";
    PORT_RX_FRAMES = Counter "vswitch_port_receive_frames_total" ["port"]
        "Frames that came from the port's container; a super-frame counts as one, as in the kernel's own counters. Goes on over a takeover.";
    PORT_RX_BYTES = Counter "vswitch_port_receive_bytes_total" ["port"]
        "Their bytes.";
    PORT_TX_FRAMES = Counter "vswitch_port_transmit_frames_total" ["port"]
        "Frames that went to the port's container. Goes on over a takeover.";
    PORT_TX_BYTES = Counter "vswitch_port_transmit_bytes_total" ["port"]
        "Their bytes.";
    PORT_DROPS = Counter "vswitch_port_drops_total" ["port", "reason"]
        "Frames dropped on the way in or out, by reason; a reason shows once it occurred.";
    PORT_FDB = Gauge "vswitch_port_fdb_entries" ["port"]
        "Addresses behind the port, learned and static.";
    TUNNEL_RX_FRAMES = Counter "vswitch_tunnel_receive_frames_total" []
        "Frames that came out of VXLAN, from all peers and from others. Goes on over a takeover.";
    TUNNEL_RX_BYTES = Counter "vswitch_tunnel_receive_bytes_total" []
        "Their bytes.";
    TUNNEL_TX_FRAMES = Counter "vswitch_tunnel_transmit_frames_total" []
        "Frames that left in VXLAN, to all peers. Goes on over a takeover.";
    TUNNEL_TX_BYTES = Counter "vswitch_tunnel_transmit_bytes_total" []
        "Their bytes.";
    TUNNEL_DROPS = Counter "vswitch_tunnel_drops_total" ["reason"]
        "Frames of the VXLAN side dropped, by reason; a reason shows once it occurred.";
    PEERS = Gauge "vswitch_peers" []
        "Remote VTEPs there are.";
    PEER_RX_FRAMES = Counter "vswitch_peer_receive_frames_total" ["peer"]
        "Frames that came from the remote VTEP.";
    PEER_RX_BYTES = Counter "vswitch_peer_receive_bytes_total" ["peer"]
        "Their bytes.";
    PEER_TX_FRAMES = Counter "vswitch_peer_transmit_frames_total" ["peer"]
        "Frames that went to the remote VTEP.";
    PEER_TX_BYTES = Counter "vswitch_peer_transmit_bytes_total" ["peer"]
        "Their bytes.";
    PEER_DROPS = Counter "vswitch_peer_drops_total" ["peer", "reason"]
        "Frames from or to the remote VTEP dropped, by reason; they are among those of the VXLAN side.";
    PEER_FDB = Gauge "vswitch_peer_fdb_entries" ["peer"]
        "Addresses behind the remote VTEP, learned and static.";
    PEER_HEALTH = Gauge "vswitch_peer_health" ["peer", "state"]
        "1 for the state in which the way to the remote VTEP is (healthy, degraded, unreachable, foreign), 0 for the others; shows where it is probed (--probe-interval, vtep peer probe), as what follows.";
    PEER_FINDING = Gauge "vswitch_peer_finding" ["peer", "finding"]
        "1 where something is wrong with the way there, by name; vsctl vtep peer list says what it means and what mends it.";
    PEER_TRIP = Gauge "vswitch_peer_round_trip_seconds" ["peer", "statistic"]
        "Time from a probe to its answer: the last, and the median (p50) and 99th percentile (p99) of the latest hundred.";
    PEER_JITTER = Gauge "vswitch_peer_jitter_seconds" ["peer"]
        "By how much round trips differ from one to the next, smoothed (RFC 3550).";
    PEER_LOSS = Gauge "vswitch_peer_probe_loss_ratio" ["peer"]
        "The part of the latest hundred probes that stayed unanswered, 0 to 1.";
    PEER_PATH_MTU = Gauge "vswitch_peer_path_mtu_bytes" ["peer"]
        "The largest outer packet that gets there.";
    PROBES_SENT = Counter "vswitch_probes_sent_total" []
        "Probes sent to remote VTEPs. They are no frames, and counted here only, as what follows; begins again with a takeover.";
    PROBE_ANSWERS = Counter "vswitch_probe_answers_total" []
        "Answers to them.";
    PROBES_ANSWERED = Counter "vswitch_probes_answered_total" []
        "Probes of remote VTEPs that were answered.";
    PROBES_IGNORED = Counter "vswitch_probes_ignored_total" []
        "Probes and answers that were ignored: not from a remote VTEP, too many, or not understood.";
    VLAN_INFO = Gauge "vswitch_vlan_info" ["vlan", "vni", "name"]
        "1, with the VLAN's VNI and name, which are empty where it has none.";
    VLAN_PORTS = Gauge "vswitch_vlan_ports" ["vlan"]
        "Ports in the VLAN. It shows where it has settings, or is a port's VLAN of untagged frames.";
    VLAN_PEERS = Gauge "vswitch_vlan_peers" ["vlan"]
        "Remote VTEPs in the VLAN.";
    VLAN_FDB = Gauge "vswitch_vlan_fdb_entries" ["vlan"]
        "Addresses in the VLAN, learned and static.";
    FDB = Gauge "vswitch_fdb_entries" []
        "Addresses in the forwarding table, learned and static.";
    FDB_LIMIT = Gauge "vswitch_fdb_limit_entries" []
        "Addresses that the forwarding table may hold (--fdb-limit).";
    FDB_PORT_LIMIT = Gauge "vswitch_fdb_port_limit_entries" []
        "Learned addresses that one port or peer may have (--fdb-limit-per-port).";
    FDB_HELD = Gauge "vswitch_fdb_held_entries" []
        "Addresses that are held where they are for now, for they moved to and fro.";
    FDB_LEARNED = Counter "vswitch_fdb_learned_total" []
        "Addresses learned. Goes on over a takeover, as what follows.";
    FDB_MOVED = Counter "vswitch_fdb_moved_total" []
        "Times an address showed up elsewhere than before.";
    FDB_AGED = Counter "vswitch_fdb_aged_total" []
        "Addresses forgotten for their silence.";
    FDB_EVICTED = Counter "vswitch_fdb_evicted_total" []
        "Addresses that made room for others.";
    FDB_UNLEARNED = Counter "vswitch_fdb_unlearned_frames_total" []
        "Frames whose source could not be learned, for want of room.";
    FDB_FLAPS = Counter "vswitch_fdb_flaps_total" []
        "Times an address moved to and fro so often that it was held.";
    STORM_LIMIT = Gauge "vswitch_storm_limit_frames" []
        "Broadcasts, multicasts and frames to unknown stations that a port may bring in a second, of each (--storm-limit); 0 is no limit. What exceeds it is dropped for the reasons storm_broadcast, storm_multicast and storm_unknown_unicast.";
    ATTACHMENTS = Gauge "vswitch_attachments" ["network"]
        "Ports that a container runtime asked for, by its network.";
    WORKER_BUSY = Counter "vswitch_worker_busy_seconds_total" ["worker"]
        "Time in which the worker moved frames: a rate of 1 is a worker that is saturated.";
    WORKER_SLEEPS = Counter "vswitch_worker_sleeps_total" ["worker"]
        "Times the worker went to sleep for want of frames.";
    WORKER_TURN = Histogram "vswitch_worker_turn_seconds" ["worker"]
        "What a turn of the worker took that found frames: what a frame waits at most, beside the queues.";
    WORKER_BATCH = Histogram "vswitch_worker_batch_frames" ["worker"]
        "Frames read at once from one port, or from the tunnel.";
    CPU = Counter "process_cpu_seconds_total" []
        "CPU time of the daemon, user and system.";
    OPEN_FDS = Gauge "process_open_fds" []
        "Open descriptors; shows from Linux 6.2 on.";
    MAX_FDS = Gauge "process_max_fds" []
        "Descriptors there may be.";
    RESIDENT = Gauge "process_resident_memory_bytes" []
        "Memory that is resident.";
    VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Addresses that are mapped.";
    STARTED = Gauge "process_start_time_seconds" []
        "When the daemon started, in seconds since 1970.";
}

/// The reference, as a page.
pub(crate) fn reference() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         What `vswitchd --metrics-addr ADDR:PORT` tells at `http://ADDR:PORT/metrics`. This page is written by\n\
         `docs/reference/write.sh`, from the code; how to use it is in [monitoring](../monitoring/README.md). What the label\n\
         `reason` may say is in [drop reasons](drop-reasons.md).\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for Metric { name, kind, help, labels } in ALL {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(out, "| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for (place, Metric { name, kind, help, labels }) in ALL.iter().enumerate() {
            assert!(name.starts_with("vswitch_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '|', '\\', '"']), "{name}: {help}");
            assert!(ALL[..place].iter().all(|other| other.name != *name), "{name} is there twice");
            assert!(!labels.contains(&"le"), "{name}");
        }
    }

    /// The page of the reference in the repository is this one.
    #[test]
    fn the_reference_is_what_is_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, reference(), "docs/reference/metrics.md is stale: run docs/reference/write.sh");
    }
}
