//! Messages between VTEPs.

use std::net::IpAddr;

use vtep::Vni;
use vtep::oam::{Kind, Message};

use crate::Seeds;

pub(crate) fn oam() -> Seeds {
    let network = |number| Vni::new(number).expect("a VNI");
    let message = |kind, count: u32, asked: &str| Message {
        kind,
        key: 0x0123_4567_89ab_cdef,
        sequence: 7,
        time: 1_000_000,
        asked: asked.parse::<IpAddr>().expect("an address"),
        sender: IpAddr::from([192, 0, 2, 1]),
        port: 65_535,
        networks: (1..=count).map(network).collect(),
    };
    let answer = |was_damaged| Kind::Answer { was_damaged, is_stranger: false };
    let refusal = Kind::Answer { was_damaged: false, is_stranger: true };
    let all = [
        ("request", message(Kind::Request, 3, "192.0.2.2").write(0)),
        ("request-long", message(Kind::Request, 64, "fd00::2").write(1472)),
        ("answer", message(answer(false), 2, "192.0.2.2").write(0)),
        ("answer-damaged", message(answer(true), 0, "fd00::2").write(0)),
        ("refusal", message(refusal, 0, "192.0.2.2").write(0)),
    ];
    ("oam", all.map(|(name, bytes)| (name.to_owned(), [&[0], &bytes[..]].concat())).to_vec())
}
