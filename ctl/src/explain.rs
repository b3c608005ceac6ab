//! Journeys, reasons and neighbours for people.

use std::fmt::Write as _;

use vswitch_api::{ExplainStep, Journey, NeighbourInfo, OuterInfo, StepOutcome, TraceVerdict, Way, Why};

use crate::render::{duration, option};
use crate::style::Tone;
use crate::table::Table;

fn steps(steps: &[ExplainStep], out: &mut String) {
    let width = steps.iter().map(|step| step.stage.len()).max().unwrap_or(0);
    for ExplainStep { stage, outcome, text, reason, mend: _ } in steps {
        let mark = match outcome {
            StepOutcome::Ok => Tone::Good.on("ok  "),
            StepOutcome::Note => Tone::Odd.on("note"),
            StepOutcome::Stop => Tone::Bad.on("STOP"),
        };
        let reason = reason.as_ref().map(|reason| format!("{reason}: ")).unwrap_or_default();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{mark}  {stage:<width$}  {reason}{text}");
    }
}

pub(crate) fn journey(journey: &Journey, out: &mut String) {
    steps(&journey.steps, out);
    for Way { port, remote, vlan, tag, outer, packet, mtu, fits } in &journey.ways {
        let to = match (port, remote) {
            (Some(port), _) => format!("leaves on port {port}"),
            (None, Some(ip)) => format!("leaves for remote {ip}"),
            (None, None) => "leaves".to_owned(),
        };
        let tag = tag.map_or_else(|| "untagged".to_owned(), |tag| format!("tagged {tag}"));
        let outer = outer.as_ref().map(|OuterInfo { vni, source, destination, port, bytes }| {
            let vni =
                vni.map_or_else(|| "without a VNI (dropped as unknown_vni)".to_owned(), |vni| format!("in VNI {vni}"));
            format!(", {vni}, from {source} to {destination} UDP port {port}, {bytes} bytes")
        });
        let fit = if *fits {
            format!("a packet of {packet} of at most {mtu} bytes")
        } else {
            format!("DROPPED as too_big: a packet of {packet} bytes where {mtu} fit; its sender is told by ICMP")
        };
        let _ = writeln!(out, "      {to}, VLAN {vlan} {tag}{}: {fit}", outer.unwrap_or_default());
    }
    let mend = journey.steps.last().and_then(|step| step.mend.as_ref());
    let _ = match (journey.verdict, &journey.reason) {
        (TraceVerdict::Drop, Some(reason)) => writeln!(out, "dropped: {reason}{}", mended(mend)),
        (TraceVerdict::Drop, None) => writeln!(out, "dropped"),
        (TraceVerdict::Unicast, _) => writeln!(out, "forwarded"),
        (TraceVerdict::Flood, _) => writeln!(out, "flooded: {} copies", journey.ways.len()),
    };
}

fn mended(mend: Option<&String>) -> String {
    mend.map(|mend| format!("; this mends it: {mend}")).unwrap_or_default()
}

pub(crate) fn why(why: &Why, out: &mut String) {
    let Why { a, b, reachable, reason, answered, round_trip_us, mend, .. } = why;
    let _ = writeln!(out, "A: {a}\nB: {b}");
    steps(&why.steps, out);
    let asked = match answered.as_slice() {
        [] => String::new(),
        all => format!("{} answered, ", all.join(" and ")),
    };
    let last = why.steps.last().map(|step| format!(": {}", step.text)).unwrap_or_default();
    let _ = match (reachable, round_trip_us, reason) {
        (true, Some(micros), _) => writeln!(out, "{}: {asked}round trip {micros} us", Tone::Good.on("reachable")),
        (true, None, _) => writeln!(out, "reachable, as far as this switch can tell"),
        (false, _, Some(reason)) => {
            writeln!(out, "{}: {reason}{}", Tone::Bad.on("not reachable"), mended(mend.as_ref()))
        }
        (false, _, None) => writeln!(out, "not known{last}"),
    };
}

pub(crate) fn neighbours(neighbours: &Vec<NeighbourInfo>, out: &mut String) {
    if neighbours.is_empty() {
        out.push_str("nobody was heard yet\n");
        return;
    }
    let mut table = Table::new([">VLAN", "IP", "MAC", "BEHIND", ">HEARD"]);
    for NeighbourInfo { ip, mac, vlan, port, remote, age_s } in neighbours {
        let behind = match (port, remote) {
            (Some(port), _) => format!("port {port}"),
            (None, Some(ip)) => format!("remote {ip}"),
            (None, None) => String::new(),
        };
        let heard = age_s.map_or_else(|| "given".to_owned(), |age| option(Some(duration(age))));
        table.row([vlan.to_string(), ip.to_string(), mac.to_string(), behind, heard]);
    }
    table.write(out);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::render::rendered;

    #[test]
    fn a_journey_that_ends_and_one_that_goes_on() {
        let ok = json!({"stage": "port", "outcome": "ok", "text": "comes in on port a", "reason": null, "mend": null});
        let stop =
            json!({"stage": "guard", "outcome": "stop", "text": "No.", "reason": "spoofed_ip", "mend": "vsctl x"});
        let ended = json!({"steps": [ok, stop], "verdict": "drop", "reason": "spoofed_ip", "ways": []});
        let expected = "ok    port   comes in on port a\nSTOP  guard  spoofed_ip: No.\n\
                        dropped: spoofed_ip; this mends it: vsctl x\n";
        assert_eq!(rendered(journey, ended), expected);
        let outer = json!({"vni": 100, "source": "192.0.2.1", "destination": "192.0.2.2", "port": 4789, "bytes": 96});
        let ways = json!([
            {"port": "b", "remote": null, "vlan": 10, "tag": 10, "outer": null, "packet": 46, "mtu": 1450, "fits": true},
            {"port": null, "remote": "192.0.2.2", "vlan": 10, "tag": null, "outer": outer, "packet": 1500, "mtu": 1450,
             "fits": false},
        ]);
        let flooded = json!({"steps": [], "verdict": "flood", "reason": null, "ways": ways});
        let expected = "      leaves on port b, VLAN 10 tagged 10: a packet of 46 of at most 1450 bytes\n      \
                        leaves for remote 192.0.2.2, VLAN 10 untagged, in VNI 100, from 192.0.2.1 to 192.0.2.2 UDP port 4789, \
                        96 bytes: DROPPED as too_big: a packet of 1500 bytes where 1450 fit; its sender is told by ICMP\n\
                        flooded: 2 copies\n";
        assert_eq!(rendered(journey, flooded), expected);
    }

    #[test]
    fn why_ends_with_one_line() {
        let answer = |reachable: bool, reason: Value, micros: Value| {
            json!({"a": "port a", "b": "port b", "steps": [], "reachable": reachable, "reason": reason,
                "answered": ["ARP", "ICMP echo"], "round_trip_us": micros, "mend": "vsctl y", "pending": null})
        };
        let last = |value| rendered(why, value).lines().last().unwrap().to_owned();
        assert_eq!(
            last(answer(true, Value::Null, json!(120))),
            "reachable: ARP and ICMP echo answered, round trip 120 us"
        );
        assert_eq!(
            last(answer(false, json!("wrong_vlan"), Value::Null)),
            "not reachable: wrong_vlan; this mends it: vsctl y"
        );
    }
}
