//! Counters for people.

use vswitch_api::{PortStats, Stats};

use super::bytes;
use crate::style::Tone;
use crate::table::Table;

pub(crate) fn stats(stats: &Stats, out: &mut String) {
    let mut table = Table::new(["PORT", ">RX FRAMES", ">RX BYTES", ">TX FRAMES", ">TX BYTES", ">DROPPED"]);
    let row = |port: &PortStats| {
        let dropped = port.drops.values().fold(0u64, |sum, count| sum.saturating_add(*count));
        [port.rx_frames, port.rx_bytes, port.tx_frames, port.tx_bytes, dropped]
    };
    let mut total = [0u64; 5];
    for port in &stats.ports {
        let counts = row(port);
        total = std::array::from_fn(|at| total[at].saturating_add(counts[at]));
        table.row(counters(&port.port, counts));
    }
    if stats.ports.len() != 1 {
        table.row(counters("total", total));
    }
    table.write(out);

    let mut drops = Table::new(["PORT", "REASON", ">FRAMES", "MEANING"]);
    let mut any = false;
    for port in &stats.ports {
        for (reason, count) in port.drops.iter().filter(|(_, count)| **count > 0) {
            any = true;
            let meaning = stats.reasons.get(reason).map_or("", |text| text.trim());
            drops.row([port.port.clone(), Tone::Odd.on(reason), count.to_string(), meaning.to_owned()]);
        }
    }
    if any {
        out.push('\n');
        drops.write(out);
    } else {
        out.push_str("\nno frame was dropped\n");
    }
}

fn counters(name: &str, [rx_frames, rx_bytes, tx_frames, tx_bytes, dropped]: [u64; 5]) -> [String; 6] {
    let [rx, tx, lost] = [rx_frames, tx_frames, dropped].map(|count| count.to_string());
    let lost = if dropped > 0 { Tone::Odd.on(lost) } else { lost };
    [name.to_owned(), rx, bytes(rx_bytes), tx, bytes(tx_bytes), lost]
}

#[cfg(test)]
mod tests {
    use super::super::rendered;
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn counters_with_drops_and_what_they_mean() {
        let counts = |port: &str, rx: u64, drops: Value| json!({"port": port, "rx_frames": rx, "rx_bytes": rx * 1000, "tx_frames": 1, "tx_bytes": 60, "drops": drops});
        let answer = json!({
            "ports": [
                counts("web", 2_000_000, json!({"vlan_not_allowed": 3, "bad_source": 0})),
                counts("tunnel", 7, json!({"unknown_vni": 40})),
            ],
            "reasons": {"vlan_not_allowed": " The port is not in that VLAN.", "bad_source": " Never shown."},
        });
        let expected = "\
PORT    RX FRAMES  RX BYTES  TX FRAMES  TX BYTES  DROPPED
web       2000000   1.8 GiB          1      60 B        3
tunnel          7   6.8 KiB          1      60 B       40
total     2000007   1.8 GiB          2     120 B       43

PORT    REASON            FRAMES  MEANING
web     vlan_not_allowed       3  The port is not in that VLAN.
tunnel  unknown_vni           40  -
";
        assert_eq!(rendered(stats, answer), expected);

        let quiet = json!({"ports": [counts("web", 0, json!({}))], "reasons": {}});
        let expected = "\
PORT  RX FRAMES  RX BYTES  TX FRAMES  TX BYTES  DROPPED
web           0       0 B          1      60 B        0

no frame was dropped
";
        assert_eq!(rendered(stats, quiet), expected);
    }
}
