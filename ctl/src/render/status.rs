//! How the daemon is, for people.

use vswitch_api::{Carried, Sandbox, Status};

use super::duration;
use crate::condition::{Condition, Finding};
use crate::style::Tone;
use crate::table::fields_within;

/// Columns and rows of a terminal that nobody has made larger; the last row is the next prompt's.
const SCREEN: (usize, usize) = (80, 23);

pub(crate) fn condition(condition: &Condition, out: &mut String) {
    let Condition { status, healthy, findings } = condition;
    if *healthy {
        out.push_str(&Tone::Good.on("healthy"));
        out.push('\n');
        return fields_within(&status_fields(status), SCREEN.0, out);
    }
    // As many as leave room for the rest.
    let shown = (1..=findings.len()).rev().map(|shown| unhealthy(status, findings, shown));
    let text = shown.into_iter().find(|text| text.lines().count() <= SCREEN.1);
    out.push_str(&text.unwrap_or_else(|| unhealthy(status, findings, 0)));
}

/// So many of the findings, and the rest.
fn unhealthy(status: &Status, findings: &[Finding], shown: usize) -> String {
    const NAME: &str = "unhealthy";
    let line = |Finding { text, look, .. }: &Finding| (NAME, format!("{text} (`{look}`)"));
    let mut rows: Vec<_> = findings.iter().take(shown).map(line).collect();
    if let more @ 1.. = findings.len() - shown {
        rows.push((NAME, format!("and {more} more (`vsctl --json status`)")));
    }
    rows.extend(status_fields(status));
    let mut text = String::new();
    fields_within(&rows, SCREEN.0, &mut text);
    // Only names stand at the beginning of a line.
    let coloured = |line: &str| match line.strip_prefix(NAME) {
        Some(rest) => format!("{}{rest}\n", Tone::Bad.on(NAME)),
        None => format!("{line}\n"),
    };
    text.lines().map(coloured).collect()
}

fn status_fields(status: &Status) -> Vec<(&'static str, String)> {
    let Status { version, pid, uptime_s, workers, ports, ports_lost, fdb_used, fdb_limit, vtep, .. } = status;
    let Status { user, capabilities, sandbox, .. } = status;
    let Status { fdb_learned, fdb_moved, fdb_aged, fdb_evicted, fdb_limited, fdb_flapping, storm_limit, .. } = status;
    let capabilities = if capabilities.is_empty() { "no capability".to_owned() } else { capabilities.join(" ") };
    let mut history = format!("{fdb_learned} learned, {fdb_moved} moved, {fdb_aged} aged, {fdb_evicted} evicted");
    if *fdb_flapping > 0 {
        history.push_str(&format!(", {fdb_flapping} held for flapping"));
    }
    if *fdb_limited > 0 {
        history.push_str(&format!("; no room for the senders of {fdb_limited} frames"));
    }
    let storm = match storm_limit {
        0 => "none".to_owned(),
        limit => format!("{limit}/s and port of broadcasts, of multicasts, of unknown unicasts"),
    };
    let lost = if *ports_lost > 0 { format!(", {ports_lost} lost") } else { String::new() };
    let mut rows = vec![
        ("vswitchd", format!("{version}, process {pid}, up for {}", duration(*uptime_s))),
        ("runs as", format!("{user}, with {capabilities}")),
        ("sandbox", sandbox.map_or("none", confined).to_owned()),
        ("workers", format!("{workers}{}", busy(&status.workers_busy))),
        ("ports", format!("{ports}{lost}")),
        ("addresses", format!("{fdb_used} of {fdb_limit}")),
        ("history", history),
        ("storm limit", storm),
    ];
    let Some(ip) = vtep.ip else {
        rows.push(("vtep", "none: all VLANs are local (vswitchd --vtep-ip IP gives one)".to_owned()));
        return rows;
    };
    let by = match vtep.underlay {
        Some(Carried::Uplink) => ", by an uplink",
        Some(Carried::Udp) => ", by sockets",
        None => "",
    };
    rows.push(("vtep", format!("{ip}, UDP port {}, {} peers{by}", vtep.port, vtep.peers)));
    if let (Some(underlay), Some(overlay)) = (vtep.underlay_mtu, vtep.overlay_mtu) {
        rows.push(("mtu", format!("underlay {underlay}, containers {overlay}")));
    }
    rows
}

/// How busy the workers are, behind their number.
fn busy(shares: &[f64]) -> String {
    let percent = |share: f64| format!("{:.0} % busy", share * 100.0);
    let most = shares.iter().copied().max_by(f64::total_cmp);
    match (shares, most) {
        (_, None) => String::new(),
        ([share], _) => format!(", {}", percent(*share)),
        (shares, Some(most)) => {
            let number = u32::try_from(shares.len()).unwrap_or(u32::MAX);
            let all = percent(shares.iter().sum::<f64>() / f64::from(number));
            format!(", {all} on average, the busiest {:.0} %", most * 100.0)
        }
    }
}

const fn confined(sandbox: Sandbox) -> &'static str {
    match sandbox {
        Sandbox::Daemon => "Landlock: it can write its state and no other file",
        Sandbox::Workers => "Landlock for the workers: they can open no file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::tests::status;
    use crate::style::plain;
    use serde_json::json;

    fn shown(status: Status, findings: Vec<Finding>) -> String {
        let mut out = String::new();
        condition(&Condition { status, healthy: findings.is_empty(), findings }, &mut out);
        out
    }

    #[test]
    fn healthy_and_not() {
        let expected = "\
healthy
vswitchd     0.1.0, process 42, up for 1 h 1 min
runs as      vswitch, with CAP_NET_ADMIN CAP_SYS_ADMIN
sandbox      Landlock for the workers: they can open no file
workers      1, 12 % busy
ports        3
addresses    12 of 131072
history      20 learned, 3 moved, 8 aged, 0 evicted, 2 held for flapping
storm limit  10000/s and port of broadcasts, of multicasts, of unknown unicasts
vtep         192.0.2.1, UDP port 4789, 2 peers, by an uplink
mtu          underlay 1500, containers 1450
";
        let healthy = shown(status(json!({})), Vec::new());
        assert_eq!(plain(&healthy), expected);
        assert!(healthy.starts_with(&Tone::Good.on("healthy")), "{healthy:?}");
        let lost = Finding {
            name: "port_lost",
            text: "1 of 3 ports lost: web".to_owned(),
            look: "vsctl port list".to_owned(),
        };
        let unhealthy = shown(status(json!({"ports_lost": 1})), vec![lost]);
        let first = "unhealthy    1 of 3 ports lost: web (`vsctl port list`)\nvswitchd     0.1.0";
        assert!(plain(&unhealthy).starts_with(first), "{unhealthy}");
        assert!(unhealthy.starts_with(&Tone::Bad.on("unhealthy")), "{unhealthy:?}");
    }

    #[test]
    fn at_its_worst_it_fits_a_screen() {
        let all = (0..40).map(|bit| format!("CAP_{bit}")).take(9).collect::<Vec<_>>();
        let most = u64::MAX;
        let worst = status(json!({
            "capabilities": all, "ports_lost": 4000, "fdb_learned": most, "fdb_moved": most, "fdb_aged": most,
            "fdb_evicted": most, "fdb_limited": most, "fdb_flapping": most, "workers": 64, "uptime_s": most,
            "workers_busy": vec![0.5; 64],
            "vtep": {"ip": "2001:db8:1111:2222:3333:4444:5555:6666", "port": 65535, "underlay_mtu": 65535,
                "overlay_mtu": 65465, "underlay": "uplink", "peers": 1000},
        }));
        let long = || Finding { name: "x", text: "word ".repeat(22), look: "vsctl stats tunnel".to_owned() };
        let text = plain(&shown(worst, (0..30).map(|_| long()).collect()));
        let (columns, rows) = SCREEN;
        assert!(text.lines().count() <= rows, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
        assert!(text.contains("and 28 more"), "{text}");
    }

    #[test]
    fn how_busy_workers_are() {
        for (shares, text) in [
            (vec![], ""),
            (vec![0.0], ", 0 % busy"),
            (vec![0.996], ", 100 % busy"),
            (vec![0.1, 0.9], ", 50 % busy on average, the busiest 90 %"),
        ] {
            assert_eq!(busy(&shares), text);
        }
    }
}
