//! Peers, and how the way to them is, for people.

use std::fmt::Write as _;

use vswitch_api::{Finding, Health, HealthState, PeerInfo, Probe};

use crate::render::{duration, option, vlan_list};
use crate::table::{Table, fields};

pub(crate) fn peers(peers: &Vec<PeerInfo>, out: &mut String) {
    if peers.is_empty() {
        out.push_str("no peers\n");
        return;
    }
    if peers.iter().all(|peer| peer.health.is_none()) {
        let mut table = Table::new(["PEER", "VLANS"]);
        peers.iter().for_each(|peer| table.row([peer.ip.to_string(), vlans(peer)]));
        return table.write(out);
    }
    let mut table =
        Table::new(["PEER", "VLANS", "STATE", ">ROUND TRIP", ">P50", ">P99", ">JITTER", ">LOSS", ">PATH MTU"]);
    for peer in peers {
        let health = peer.health.as_ref();
        let trip = health.and_then(|health| health.round_trip_us);
        table.row([
            peer.ip.to_string(),
            vlans(peer),
            health.map_or_else(String::new, state),
            option(trip.map(|trip| time(trip.last))),
            option(trip.map(|trip| time(trip.p50))),
            option(trip.map(|trip| time(trip.p99))),
            option(health.and_then(|health| health.jitter_us).map(time)),
            option(health.and_then(|health| health.loss_share).map(|share| format!("{:.0} %", share * 100.0))),
            option(health.and_then(|health| health.path_mtu)),
        ]);
    }
    table.write(out);
    for (peer, Health { findings, asked_s, .. }) in peers.iter().filter_map(|peer| Some((peer, peer.health.as_ref()?)))
    {
        for found in findings {
            // Writing to a String cannot fail, here and below.
            let _ = write!(out, "{}{}: ", peer.ip, asked_s.map(ago).unwrap_or_default());
            finding(found, out);
        }
    }
}

/// In a word, and when that was so.
fn state(Health { state, asked_s, .. }: &Health) -> String {
    format!("{}{}", state.name(), asked_s.map(ago).unwrap_or_default())
}

fn ago(seconds: u64) -> String {
    format!(", {} ago", duration(seconds))
}

fn vlans(peer: &PeerInfo) -> String {
    match (peer.all_vlans, vlan_list(&peer.vlans)) {
        (false, vlans) => vlans,
        (true, vlans) if vlans.is_empty() => "all (none has a VNI yet)".to_owned(),
        (true, vlans) => format!("all ({vlans})"),
    }
}

fn finding(Finding { name, text, mend }: &Finding, out: &mut String) {
    let mend = mend.as_ref().map(|mend| format!("; this mends it: {mend}")).unwrap_or_default();
    let _ = writeln!(out, "{name}: {text}{mend}");
}

/// Microseconds as people read them.
fn time(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{micros} us"),
        _ => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
    }
}

pub(crate) fn probe(probe: &Probe, out: &mut String) {
    let Probe { ip, answered, round_trip_us, path_mtu, foreign: _, state, vnis, findings, pending: _ } = probe;
    let says = match (answered, state) {
        (true, _) => "its switch answers",
        (false, HealthState::Foreign) => "it is there, and its switch answers no probes",
        (false, _) => "nothing answers",
    };
    let mut rows = vec![("peer", ip.to_string()), ("state", format!("{}: {says}", state.name()))];
    rows.extend(round_trip_us.map(|trip| ("round trip", time(trip))));
    rows.extend(path_mtu.map(|mtu| ("path mtu", mtu.to_string())));
    let list = |vnis: &Vec<_>| vnis.iter().map(ToString::to_string).collect::<Vec<String>>().join(" ");
    rows.extend(
        vnis.as_ref().map(|vnis| ("shared vnis", if vnis.is_empty() { "none".to_owned() } else { list(vnis) })),
    );
    fields(&rows, out);
    findings.iter().for_each(|found| finding(found, out));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn health_shows_where_it_is_known() {
        let finding = json!({"name": "loss", "text": "lossy", "mend": null});
        let health = json!({
            "round_trip_us": {"last": 210, "p50": 200, "p99": 12_345}, "loss_share": 0.1, "jitter_us": 7,
            "path_mtu": 1500, "state": "degraded", "asked_s": null, "findings": [finding],
        });
        let list = json!([
            {"ip": "192.0.2.2", "all_vlans": false, "vlans": [10], "health": health},
            {"ip": "192.0.2.3", "all_vlans": true, "vlans": [], "health": null},
        ]);
        let mut out = String::new();
        peers(&serde_json::from_value(list).unwrap(), &mut out);
        let expected = "\
PEER       VLANS                     STATE     ROUND TRIP     P50      P99  JITTER  LOSS  PATH MTU
192.0.2.2  10                        degraded      210 us  200 us  12.3 ms    7 us  10 %      1500
192.0.2.3  all (none has a VNI yet)  -                  -       -        -       -     -         -
192.0.2.2: loss: lossy
";
        assert_eq!(crate::style::plain(&out), expected);
    }

    /// Asked once, it is told when; and what answers no probes by its nature loses none.
    #[test]
    fn what_was_asked_once_has_an_age() {
        let health = json!({
            "round_trip_us": null, "loss_share": null, "jitter_us": null, "path_mtu": null, "state": "foreign",
            "asked_s": 40, "findings": [{"name": "peer_silent", "text": "silent", "mend": null}],
        });
        let list = json!([{"ip": "192.0.2.2", "all_vlans": false, "vlans": [10], "health": health}]);
        let mut out = String::new();
        peers(&serde_json::from_value(list).unwrap(), &mut out);
        let out = crate::style::plain(&out);
        for line in ["foreign, 40 s ago", "192.0.2.2, 40 s ago: peer_silent: silent"] {
            assert!(out.contains(line), "{line}: {out}");
        }
        assert!(!out.contains('%'), "{out}");
    }

    #[test]
    fn a_probe_in_a_few_lines() {
        let value = json!({
            "ip": "192.0.2.2", "answered": true, "round_trip_us": 321, "path_mtu": 1400, "foreign": false,
            "state": "degraded", "vnis": [100, 200], "pending": null,
            "findings": [{"name": "mtu_smaller", "text": "small", "mend": "vsctl x"}],
        });
        let mut out = String::new();
        probe(&serde_json::from_value(value).unwrap(), &mut out);
        for line in
            ["degraded: its switch answers", "321 us", "1400", "100 200", "mtu_smaller: small; this mends it: vsctl x"]
        {
            assert!(out.contains(line), "{line}: {out}");
        }
    }
}
