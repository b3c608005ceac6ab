//! VLANs and the own VTEP for people.

use vswitch_api::{Carried, VlanInfo, VtepInfo};

use super::{option, words};
use crate::table::{Table, fields};

pub(crate) fn vlans(vlans: &Vec<VlanInfo>, out: &mut String) {
    if vlans.is_empty() {
        out.push_str("no VLANs\n");
        return;
    }
    let mut table = Table::new([">VLAN", ">VNI", "NAME", "LEARNING", "PORTS", "PEERS"]);
    for vlan in vlans {
        table.row([
            vlan.vlan.to_string(),
            option(vlan.vni),
            option(vlan.name.as_ref()),
            if vlan.learning { "on" } else { "off" }.to_owned(),
            words(&vlan.ports),
            words(&vlan.peers),
        ]);
    }
    table.write(out);
}

pub(crate) fn vtep(vtep: &VtepInfo, out: &mut String) {
    fields(&vtep_fields(vtep), out);
}

fn vtep_fields(vtep: &VtepInfo) -> Vec<(&'static str, String)> {
    let Some(ip) = vtep.ip else {
        return vec![("vtep", "none: all VLANs are local (vswitchd --vtep-ip IP gives one)".to_owned())];
    };
    vec![
        ("vtep", format!("{ip}, UDP port {}", vtep.port)),
        ("carried by", option(vtep.underlay.map(carried))),
        ("underlay mtu", option(vtep.underlay_mtu)),
        ("container mtu", option(vtep.overlay_mtu)),
        ("peers", vtep.peers.to_string()),
    ]
}

fn carried(by: Carried) -> &'static str {
    match by {
        Carried::Udp => "udp: super-frames are cut here and merged there",
        Carried::Uplink => "uplink: super-frames leave and enter uncut",
    }
}

#[cfg(test)]
mod tests {
    use super::super::rendered;
    use super::*;
    use serde_json::json;

    #[test]
    fn vlans_and_peers() {
        let list = json!([
            {"vlan": 1, "vni": null, "name": null, "learning": true, "ports": ["a", "b"], "peers": []},
            {"vlan": 10, "vni": 5010, "name": "lab", "learning": false, "ports": [], "peers": ["192.0.2.2", "192.0.2.3"]},
        ]);
        let expected = "\
VLAN   VNI  NAME  LEARNING  PORTS  PEERS
   1     -  -     on        a b    -
  10  5010  lab   off       -      192.0.2.2 192.0.2.3
";
        assert_eq!(rendered(vlans, list), expected);

        let list = json!([
            {"ip": "192.0.2.2", "all_vlans": false, "vlans": [10, 11]},
            {"ip": "192.0.2.3", "all_vlans": true, "vlans": [10]},
            {"ip": "192.0.2.40", "all_vlans": true, "vlans": []},
        ]);
        let expected = "\
PEER        VLANS
192.0.2.2   10-11
192.0.2.3   all (10)
192.0.2.40  all (none has a VNI yet)
";
        assert_eq!(rendered(crate::health::peers, list), expected);
    }

    #[test]
    fn no_vtep() {
        let none =
            json!({"ip": null, "port": 4789, "underlay_mtu": null, "overlay_mtu": null, "underlay": null, "peers": 0});
        assert!(rendered(vtep, none).contains("none: all VLANs are local"));
    }
}
