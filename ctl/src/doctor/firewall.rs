//! Whether the host's packet filter lets VXLAN in and out.
//!
//! Rules are read as `nft -j list ruleset` tells them, which has those of iptables-nft too. Only what is plain is judged: a
//! rule that drops this port, and a chain that drops what no rule names. Where a rule asks more of a packet, or leads
//! elsewhere, it is said that one should look.

use std::io;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Check, Patient};

const NAME: &str = "firewall";

pub(super) fn checks(patient: &Patient) -> Vec<Check> {
    let (Some(ip), port) = patient.vtep() else { return Vec::new() };
    if patient.goes_by_uplink() {
        let text = "VXLAN goes by an uplink, past these rules";
        return vec![Check::note(NAME, text).mended("vswitchd --underlay udp has them apply")];
    }
    let listed = Command::new("nft").args(["-j", "list", "ruleset"]).stdin(Stdio::null()).output();
    let mut checks = vec![match listed {
        Ok(output) if output.status.success() => match serde_json::from_slice(&output.stdout) {
            Ok(ruleset) => judge(&ruleset, ip, port),
            Err(error) => untold(format!("nft says what is not understood: {error}")),
        },
        Ok(output) => untold(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => untold("nft is not installed".to_owned()),
        Err(error) => untold(error.to_string()),
    }];
    // Rules of the old kind, which nft does not see.
    if let Ok(output) = Command::new("iptables-legacy-save").stdin(Stdio::null()).stderr(Stdio::null()).output() {
        checks.extend(legacy(&String::from_utf8_lossy(&output.stdout), port));
    }
    checks
}

fn untold(why: String) -> Check {
    Check::note(NAME, format!("whether VXLAN passes cannot be told: {why}"))
        .mended("run it as root, with nftables installed, or look at the rules yourself")
}

/// What a rule does to datagrams of the port, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Drops,
    Accepts,
    /// It is about other packets.
    None,
    /// It may be about these: it asks for more than the port, or leads to another chain.
    Unclear,
}

/// What `ruleset` does to UDP datagrams to `port` of `ip`.
pub(super) fn judge(ruleset: &Value, ip: IpAddr, port: u16) -> Check {
    let families = ["inet", if ip.is_ipv4() { "ip" } else { "ip6" }].map(Value::from);
    let objects = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let chains = objects.iter().filter_map(|object| object.get("chain"));
    let mut unclear = None;
    for chain in
        chains.filter(|chain| ["input", "output", "prerouting", "ingress"].map(Value::from).contains(&chain["hook"]))
    {
        if chain["type"] == "nat" || !families.contains(&chain["family"]) {
            continue;
        }
        let same = |rule: &&Value| {
            ["family", "table"].iter().all(|key| rule[key] == chain[key]) && rule["chain"] == chain["name"]
        };
        let rules: Vec<_> = objects.iter().filter_map(|object| object.get("rule")).filter(same).collect();
        let place = format!("{} {} {}", text(&chain["family"]), text(&chain["table"]), text(&chain["name"]));
        let mut decided = false;
        for rule in &rules {
            match verdict(&rule["expr"], port) {
                Verdict::Drops => {
                    let handle = &rule["handle"];
                    return Check::wrong(NAME, format!("a rule in chain {place} drops UDP port {port}"))
                        .mended(format!("nft delete rule {place} handle {handle}, or accept the port before it"));
                }
                Verdict::Accepts => {
                    decided = true;
                    break;
                }
                Verdict::Unclear => unclear = Some(place.clone()),
                Verdict::None => {}
            }
        }
        if !decided && chain["policy"] == "drop" {
            let mend = format!("nft insert rule {place} udp dport {port} accept");
            let text = format!("chain {place} drops what no rule accepts, and none plainly accepts UDP port {port}");
            // A rule that leads elsewhere may accept it.
            return if unclear.as_ref() == Some(&place) {
                Check::warning(NAME, text + "; one that asks for more than the port may").mended(mend)
            } else {
                Check::wrong(NAME, text).mended(mend)
            };
        }
    }
    match unclear {
        Some(place) => {
            Check::note(NAME, format!("no rule plainly drops UDP port {port}; those of chain {place} ask for more"))
        }
        None => Check::ok(NAME, format!("nothing drops UDP port {port}")),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn verdict(expressions: &Value, port: u16) -> Verdict {
    let (mut asks_more, mut is_partial, mut end) = (false, false, None);
    for expression in expressions.as_array().map(Vec::as_slice).unwrap_or_default() {
        let Some((kind, body)) = expression.as_object().and_then(|object| object.iter().next()) else { continue };
        match kind.as_str() {
            "match" => match of_port(body, port) {
                Some(true) => {}
                Some(false) => return Verdict::None,
                None => asks_more = true,
            },
            "drop" | "reject" => end = Some(Verdict::Drops),
            "accept" => end = Some(Verdict::Accepts),
            "jump" | "goto" | "vmap" | "queue" => end = Some(Verdict::Unclear),
            // A match of iptables' own, or a rate: what follows is done to some.
            "xt" | "limit" | "quota" => is_partial = true,
            _ => {}
        }
    }
    match (end, asks_more || is_partial) {
        (None, _) => Verdict::None,
        (Some(end), false) => end,
        // About an interface, an address, a state: some are accepted or dropped, which may be these.
        (Some(_), true) => Verdict::Unclear,
    }
}

/// Whether a match takes UDP datagrams to `port`; `None` where it looks at something else.
fn of_port(body: &Value, port: u16) -> Option<bool> {
    let (left, right) = (&body["left"], &body["right"]);
    let payload = &left["payload"];
    let is = |names: &[&str]| names.iter().any(|name| right == name || right == &Value::from(17));
    let result = if payload["field"] == "dport" && (payload["protocol"] == "udp" || payload["protocol"] == "th") {
        if right.as_str().is_some_and(|name| name.starts_with('@')) {
            return None; // a named set
        }
        contains(right, port.into())
    } else if payload["field"] == "dport" || payload["field"] == "sport" && payload["protocol"] == "tcp" {
        return Some(false);
    } else if left["meta"]["key"] == "l4proto" || (payload["field"] == "protocol" || payload["field"] == "nexthdr") {
        let listed = right["set"].as_array().is_some_and(|set| set.iter().any(|one| one == "udp"));
        is(&["udp"]) || listed
    } else {
        return None;
    };
    Some(if body["op"] == "!=" { !result } else { result })
}

/// Whether a number, range or set has `port` in it.
fn contains(value: &Value, port: u64) -> bool {
    match value {
        Value::Number(number) => number.as_u64() == Some(port),
        Value::Object(object) => {
            let range = object.get("range").and_then(Value::as_array);
            let in_range = range.is_some_and(|range| {
                let end = |at: usize| range.get(at).and_then(Value::as_u64);
                end(0).is_some_and(|first| first <= port) && end(1).is_some_and(|last| port <= last)
            });
            let set = object.get("set").and_then(Value::as_array);
            in_range || set.is_some_and(|set| set.iter().any(|one| contains(one, port)))
        }
        _ => false,
    }
}

/// A plain rule of iptables-legacy that drops the port.
fn legacy(rules: &str, port: u16) -> Option<Check> {
    let (ports, ends) = (format!("--dport {port}"), ["-j DROP", "-j REJECT"]);
    let drops = |line: &&str| {
        let is_chain = line.starts_with("-A INPUT ") || line.starts_with("-A OUTPUT ");
        is_chain && line.contains("-p udp") && line.contains(&ports) && ends.iter().any(|end| line.contains(end))
    };
    let rule = rules.lines().find(drops)?;
    let mend = format!("iptables-legacy {}", rule.replacen("-A", "-D", 1));
    Some(Check::wrong(NAME, format!("iptables drops UDP port {port}")).mended(mend))
}
