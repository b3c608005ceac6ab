//! Addresses for people.

use vswitch_api::{FdbInfo, FdbKind, FlappingInfo};

use super::{duration, option};
use crate::style::Tone;
use crate::table::Table;

pub(crate) fn fdb(entries: &Vec<FdbInfo>, out: &mut String) {
    if entries.is_empty() {
        out.push_str("no addresses\n");
        return;
    }
    let mut table = Table::new([">VLAN", "MAC", "KIND", "BEHIND", ">AGE", ">LEARNED", ">MOVES"]);
    for entry in entries {
        let behind = match (&entry.port, entry.remote) {
            (Some(port), _) => format!("port {port}"),
            (None, Some(ip)) => format!("remote {ip}"),
            (None, None) => String::new(),
        };
        let behind = match &entry.flapping {
            Some(FlappingInfo { port, remote, held_s }) => {
                let other = match (port, remote) {
                    (Some(port), _) => format!("port {port}"),
                    (None, Some(ip)) => format!("remote {ip}"),
                    (None, None) => "a port that is gone".to_owned(),
                };
                Tone::Bad.on(format!("{behind} (flaps to {other}; held for {})", duration(*held_s)))
            }
            None => behind,
        };
        let kind = match entry.kind {
            FdbKind::Static => "static",
            FdbKind::Learned => "learned",
        };
        let age = entry.age_s.map(duration);
        let moves = match &entry.moved_from {
            Some(from) => format!("{} (from {from})", entry.moves),
            None if entry.moves > 0 => entry.moves.to_string(),
            None => String::new(),
        };
        let learned = entry.learned_s.map(duration);
        let (age, learned) = (option(age), option(learned));
        table.row([entry.vlan.to_string(), entry.mac.to_string(), kind.to_owned(), behind, age, learned, moves]);
    }
    table.write(out);
}

#[cfg(test)]
mod tests {
    use super::super::rendered;
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn addresses_and_their_age() {
        let entry = |vlan: u16, kind: &str, port: Value, remote: Value, age: Value| json!({"mac": "02:00:00:00:00:01", "vlan": vlan, "kind": kind, "port": port, "remote": remote, "age_s": age, "flapping": null});
        let mut flapping = entry(20, "learned", json!("web"), json!(null), json!(0));
        flapping["flapping"] = json!({"port": "db", "remote": null, "held_s": 9});
        (flapping["moves"], flapping["moved_from"], flapping["learned_s"]) = (json!(5), json!("port db"), json!(60));
        let list = json!([
            entry(1, "learned", json!("web"), json!(null), json!(12)),
            entry(10, "learned", json!(null), json!("192.0.2.2"), json!(250)),
            entry(10, "static", json!("web"), json!(null), json!(null)),
            flapping,
        ]);
        let expected = "\
VLAN  MAC                KIND     BEHIND                                            AGE  LEARNED             MOVES
   1  02:00:00:00:00:01  learned  port web                                         12 s        -                 -
  10  02:00:00:00:00:01  learned  remote 192.0.2.2                           4 min 10 s        -                 -
  10  02:00:00:00:00:01  static   port web                                            -        -                 -
  20  02:00:00:00:00:01  learned  port web (flaps to port db; held for 9 s)         0 s    1 min  5 (from port db)
";
        assert_eq!(rendered(fdb, list), expected);
    }
}
