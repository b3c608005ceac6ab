//! State and config files: what loads can be saved and loads again as the same, and the changes that lead to it lead
//! there.
//!
//! Input: the file; JSON where it begins with a brace, TOML else.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use vswitch_api::{Change, Config, Desired};

fuzz_target!(|file: &[u8]| {
    let desired = if file.first() == Some(&b'{') {
        serde_json::from_slice(file).ok()
    } else {
        str::from_utf8(file).ok().and_then(|text| toml::from_str::<Config>(text).ok()).map(|config| config.desired)
    };
    let Some(desired) = desired else { return };

    let saved = serde_json::to_vec_pretty(&desired).expect("a state can be saved");
    assert_eq!(serde_json::from_slice::<Desired>(&saved).expect("what was saved loads"), desired);
    // A config file does not say where the search for addresses goes on.
    let fresh = desired.clone().with_cursors_of(&Desired::default());
    let saved = toml::to_string(&fresh).expect("a state can be a config file");
    assert_eq!(toml::from_str::<Config>(&saved).expect("what was saved loads").desired, fresh);

    // On a host that can reach all its peers, each change is taken, once and twice.
    let hosts = [None, Some([192, 0, 2, 254].into()), Some(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0xfffe]))];
    let Some(vtep) = hosts.into_iter().find(|vtep| desired.suits(*vtep).is_ok()) else { return };
    let mut built = Desired::default().with_ageing(desired.ageing()).with_cursors_of(&desired);
    for change in desired.additions() {
        let (next, outcome) = built.apply(&change, vtep).expect("an addition of a consistent state is taken");
        assert!(outcome.changed, "{change:?}");
        let (same, outcome) = next.apply(&change, vtep).expect("the same again is no error");
        assert!(!outcome.changed && same == next, "{change:?}");
        built = next;
    }
    assert_eq!(built, desired);

    // And each can be taken back.
    let statics: Vec<_> = built.statics().map(|entry| Change::FdbDel { mac: entry.mac, vlan: entry.vlan }).collect();
    let peers: Vec<_> = built.peers().map(|peer| Change::PeerDel { ip: peer.ip, vlan: None }).collect();
    let ports: Vec<_> = built.ports().map(|port| Change::PortDel { name: port.name.clone() }).collect();
    let vlans: Vec<_> = built.vlans().map(|vlan| Change::VlanDel { vlan: vlan.vlan }).collect();
    for change in statics.into_iter().chain(peers).chain(ports).chain(vlans) {
        (built, _) = built.apply(&change, vtep).expect("what is there can be removed");
    }
    assert_eq!(built, Desired::default().with_ageing(desired.ageing()).with_cursors_of(&desired));
});
