//! Messages between VTEPs, from anybody: read or refused, and no answer is longer than what asked for it.
//!
//! Input: a flag byte (1: with a header and magic of ours), then the datagram.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use vtep::oam::{Kind, Message, NETWORKS_MAX, SHORTEST, is_oam};
use vtep::{DecapDrop, parse};

const BEGIN: &[u8] = &[
    0x09, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x80, 0xc2, 0, 0, 0x0e, 0x02, 0, b'V', b'T', b'E', b'P', 0x88, 0xb5, b'v', b's',
    b'O', b'A', 1,
];

fuzz_target!(|data: &[u8]| {
    let Some((flag, data)) = data.split_first() else { return };
    let datagram = if flag & 1 == 1 { [BEGIN, data].concat() } else { data.to_vec() };
    if is_oam(&datagram) {
        assert!(parse(&datagram).is_err(), "it is no frame");
    }
    let Ok(read) = Message::read(&datagram) else { return };
    assert!(is_oam(&datagram) && datagram.len() >= SHORTEST);
    assert!(matches!(parse(&datagram), Err(DecapDrop::UnknownVni | DecapDrop::VxlanFlags)));
    assert!(read.message.networks.len() <= NETWORKS_MAX);
    assert!(!read.is_damaged || read.message.networks.is_empty());
    let sender = IpAddr::from([192, 0, 2, 1]);
    let answers = [read.answer(sender, 7, |_| false), read.answer(sender, 7, |_| true), read.refusal(sender, 7)];
    for (answer, is_stranger) in answers.into_iter().zip([false, false, true]) {
        let bytes = answer.write(0);
        assert!(bytes.len() <= datagram.len(), "an answer amplifies");
        let again = Message::read(&bytes).expect("what is written can be read");
        assert!(!again.is_damaged);
        assert_eq!(again.message, answer);
        assert_eq!(again.message.kind, Kind::Answer { was_damaged: read.is_damaged, is_stranger });
        assert_eq!(again.message.key, read.message.key);
    }
    if !read.is_damaged {
        // What is whole is what its own writer wrote, or has other bits where there is nothing to say.
        let again = Message::read(&read.message.write(datagram.len())).expect("what is written can be read");
        assert_eq!(again.message, read.message);
    }
});
