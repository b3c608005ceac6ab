//! Probes of other VTEPs answered, and answers to ours passed on. No frame comes here: it is all in the way of datagrams that
//! are none.
//!
//! Peers are answered, each so often, never with more bytes than it sent. A request that comes from a stranger and says
//! that a peer sent it was rewritten on the way (NAT): the peer is told, by what it is known as here. Any other stranger is
//! told now and then that it is no peer, and nothing else. All that is not answered is dropped for a reason.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crossbeam_channel::Sender;
use vswitch_core::{Instant, PortId};
use vtep::Directory;
use vtep::oam::{Kind, Message, Read};

use super::carrier::Carrier;
use crate::clock;
use crate::health::{Heard, Keys};
use crate::worker::AnswerRate;

/// How often the control thread is told that a peer asks.
const TELL: Duration = Duration::from_secs(1);
/// From one stranger that is told so to the next: who forges senders gets nobody flooded.
const REFUSE: Duration = Duration::from_millis(20);

vswitch_core::drop_reasons! {
    /// Why a peer's message between VTEPs is dropped; a stranger's is one of an unknown VTEP.
    pub(crate) enum OamDrop {
        /// A peer sent a datagram with the OAM flag in which there is no probe that this switch understands.
        Malformed => "oam_malformed",
            "Look what sends it: `vsctl capture drops --reason oam_malformed`. A peer of a newer version may speak in a way \
             that this switch does not know: update it.",
        /// A peer answered a probe that this daemon did not send.
        Unasked => "oam_unasked",
            "A few after a restart are harmless: they answer probes of the daemon before. More are forged, or repeated on \
             the way.",
        /// A peer sent more than 1,000 probes a second.
        RateLimited => "oam_rate_limited",
            "Probes of a vswitch are far fewer: look what sends them, `vsctl capture drops --reason oam_rate_limited`.",
    }
}

/// Whose message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Of a peer, the remote behind this port.
    Peer(PortId, OamDrop),
    Stranger,
}

/// Messages between VTEPs, as one worker counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OamCounters {
    /// Requests of peers, each answered.
    pub(crate) answered: u64,
    /// Answers to requests of ours.
    pub(crate) answers: u64,
    /// What is from nobody we know, not understood, or too much.
    pub(crate) ignored: u64,
}

impl OamCounters {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.answers += other.answers;
        self.ignored += other.ignored;
    }
}

/// Who answers.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Where answers to our requests go, once that is known.
    asker: Option<(Keys, Sender<Heard>)>,
    peers: HashMap<IpAddr, Known>,
    strangers: AnswerRate,
    /// When a stranger was last told that it is one.
    refused: Option<Instant>,
    counters: OamCounters,
    /// What leaves when all that came is read.
    answers: Vec<(IpAddr, Vec<u8>)>,
}

/// A peer that sent a message.
#[derive(Debug, Default)]
struct Known {
    rate: AnswerRate,
    told: Option<Instant>,
}

impl Desk {
    /// Passes what has a key of `keys` on to `heard`.
    pub(crate) fn pass_on(&mut self, keys: Keys, heard: Sender<Heard>) {
        self.asker = Some((keys, heard));
    }

    pub(crate) const fn counters(&self) -> OamCounters {
        self.counters
    }

    /// Forgets who is no peer any more.
    pub(super) fn retain(&mut self, directory: &Directory) {
        self.peers.retain(|ip, _| directory.remote(*ip).is_some());
    }

    /// Takes a message that `from` sent.
    #[cold]
    #[inline(never)]
    pub(super) fn take(&mut self, from: SocketAddr, datagram: &[u8], directory: &Directory) -> Result<(), Refused> {
        let taken = self.accept(from, datagram, directory);
        if taken.is_err() {
            self.counters.ignored += 1;
        }
        taken
    }

    fn accept(&mut self, from: SocketAddr, datagram: &[u8], directory: &Directory) -> Result<(), Refused> {
        let now = clock::now();
        let ip = from.ip().to_canonical();
        let remote = directory.remote(ip).map(|remote| remote.port);
        let refused = |why| remote.map_or(Refused::Stranger, |remote| Refused::Peer(remote, why));
        let rate = match remote {
            Some(_) => &mut self.peers.entry(ip).or_default().rate,
            None => &mut self.strangers,
        };
        // Before it is read: the checksum of a long one takes a while.
        if !rate.allows(now) {
            return Err(refused(OamDrop::RateLimited));
        }
        let read = Message::read(datagram).map_err(|_| refused(OamDrop::Malformed))?;
        if read.message.kind != Kind::Request {
            return self.pass(from, read, now).ok_or(refused(OamDrop::Unasked));
        }
        let Some(peer) = [ip, read.message.sender].into_iter().find(|ip| directory.remote(*ip).is_some()) else {
            self.refuse(from, &read, now);
            return Err(Refused::Stranger);
        };
        let known = self.peers.entry(peer).or_default();
        if peer != ip && !known.rate.allows(now) {
            return Err(refused(OamDrop::RateLimited));
        }
        let answer = read.answer(ip, from.port(), |vni| directory.admit(vni, peer).is_ok()).write(0);
        debug_assert!(answer.len() <= datagram.len());
        self.answers.push((peer, answer));
        self.counters.answered += 1;
        if let Some((_, heard)) = &self.asker
            && known.told.is_none_or(|told| now.since(told) >= TELL)
        {
            known.told = Some(now);
            let _ = heard.try_send(Heard { from: SocketAddr::new(peer, from.port()), read, at: now });
        }
        Ok(())
    }

    /// Passes an answer on, if it is one to us.
    fn pass(&mut self, from: SocketAddr, read: Read, now: Instant) -> Option<()> {
        let (keys, heard) = self.asker.as_ref()?;
        (keys.key(read.message.asked) == read.message.key).then_some(())?;
        self.counters.answers += 1;
        let _ = heard.try_send(Heard { from, read, at: now }); // one that is not taken counts as lost
        Some(())
    }

    /// Tells a stranger that it is one, if that may be: who sees no request cannot answer with its key, so who did not ask
    /// learns nothing, and is sent no more than was sent in its name.
    fn refuse(&mut self, from: SocketAddr, read: &Read, now: Instant) {
        let ip = from.ip().to_canonical();
        let is_due = self.refused.is_none_or(|at| now.since(at) >= REFUSE);
        if is_due && !read.is_damaged && read.message.sender == ip && !ip.is_multicast() && !ip.is_unspecified() {
            self.refused = Some(now);
            self.answers.push((ip, read.refusal(ip, from.port()).write(0)));
        }
    }

    /// Sends the answers.
    #[inline]
    pub(super) fn answer(&mut self, carrier: &mut dyn Carrier) {
        if !self.answers.is_empty() {
            self.answer_all(carrier);
        }
    }

    #[cold]
    #[inline(never)]
    fn answer_all(&mut self, carrier: &mut dyn Carrier) {
        for (to, answer) in self.answers.drain(..) {
            if let Err(error) = carrier.send(to, &answer) {
                tracing::debug!(%to, %error, "a probe cannot be answered");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, bounded};
    use vswitch_core::VlanId;
    use vtep::Vni;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// The peer .2 in VLAN 10, VNI 100; VNI 200 is that of VLAN 20, where it is none.
    fn directory() -> Directory {
        let mut directory = Directory::new();
        for (vlan, vni) in [(10, 100), (20, 200)] {
            directory.add_network(VlanId::new(vlan).unwrap(), Vni::new(vni).unwrap()).unwrap();
        }
        directory.add_remote(ip(2), PortId::new(3), [VlanId::new(10).unwrap()].into_iter().collect()).unwrap();
        directory
    }

    fn desk() -> (Desk, Keys, Receiver<Heard>) {
        let (sender, receiver) = bounded(1000);
        let (mut desk, keys) = (Desk::default(), Keys::default());
        desk.pass_on(keys.clone(), sender);
        (desk, keys, receiver)
    }

    fn request(sender: IpAddr) -> Message {
        let networks = [100, 200, 300].map(|vni| Vni::new(vni).unwrap()).to_vec();
        Message { kind: Kind::Request, key: 1, sequence: 2, time: 3, asked: ip(1), sender, port: 50_000, networks }
    }

    #[test]
    fn peers_are_answered_and_nobody_else() {
        let (mut desk, _, heard) = desk();
        // Who sends, who it says it is, who is answered.
        let table = [
            (ip(2), ip(2), Some(ip(2))),
            (ip(9), ip(8), None), // rewritten, and no peer of ours
            (ip(9), ip(2), Some(ip(2))),
            (ip(2), ip(9), Some(ip(2))),
        ];
        for (from, sender, answered) in table {
            let ignored = desk.counters.ignored;
            let bytes = request(sender).write(0);
            let taken = desk.take((from, 40_000).into(), &bytes, &directory());
            assert_eq!(taken, if answered.is_some() { Ok(()) } else { Err(Refused::Stranger) });
            let answers: Vec<_> = desk.answers.drain(..).collect();
            assert_eq!(answers.first().map(|(to, _)| *to), answered, "from {from} as {sender}");
            assert_eq!(desk.counters.ignored - ignored, u64::from(answered.is_none()));
            let Some((_, answer)) = answers.first() else { continue };
            assert!(answer.len() <= bytes.len());
            let Read { message, is_damaged } = Message::read(answer).unwrap();
            assert!(!is_damaged);
            assert_eq!((message.sender, message.port, message.key), (from, 40_000, 1), "as it was seen");
            assert_eq!(message.networks, [Vni::new(100).unwrap()], "what they share");
        }
        assert_eq!(heard.try_iter().count(), 1, "told once a second");
    }

    #[test]
    fn a_stranger_is_told_so_now_and_then() {
        let (mut desk, _, heard) = desk();
        let bytes = request(ip(9)).write(0);
        for _ in 0..50 {
            assert_eq!(desk.take((ip(9), 40_000).into(), &bytes, &directory()), Err(Refused::Stranger));
        }
        let answers: Vec<_> = desk.answers.drain(..).collect();
        assert!((1..50).contains(&answers.len()), "{} answers", answers.len());
        for (to, answer) in answers {
            assert!(to == ip(9) && answer.len() <= bytes.len());
            let Read { message, is_damaged } = Message::read(&answer).unwrap();
            assert_eq!((message.kind, is_damaged), (Kind::Answer { was_damaged: false, is_stranger: true }, false));
            assert_eq!((message.key, message.networks.len()), (1, 0));
        }
        assert!(heard.is_empty(), "nobody is told of it");
    }

    #[test]
    fn what_is_dropped_has_a_reason() {
        let (mut desk, keys, _) = desk();
        let junk = [&[9, 0, 0, 0, 0, 0, 0, 0][..], &[0; 100]].concat();
        let kind = Kind::Answer { was_damaged: false, is_stranger: false };
        let answer = |key| Message { kind, key, asked: ip(2), ..request(ip(1)) }.write(0);
        let peer = PortId::new(3);
        let table = [
            (junk.clone(), Err(Refused::Peer(peer, OamDrop::Malformed)), Err(Refused::Stranger)),
            (answer(0), Err(Refused::Peer(peer, OamDrop::Unasked)), Err(Refused::Stranger)),
            (answer(keys.key(ip(2))), Ok(()), Ok(())),
        ];
        for (bytes, of_peer, of_stranger) in table {
            for (from, expected) in [(ip(2), of_peer), (ip(9), of_stranger)] {
                assert_eq!(desk.take((from, 1).into(), &bytes, &directory()), expected);
            }
        }
        let last = (0..1000).map(|_| desk.take((ip(2), 1).into(), &junk, &directory())).last();
        assert_eq!(last, Some(Err(Refused::Peer(peer, OamDrop::RateLimited))));
    }

    #[test]
    fn a_peer_is_answered_so_often_and_no_more() {
        let (mut desk, _, _) = desk();
        let start = clock::now();
        for _ in 0..5000 {
            let _ = desk.take((ip(2), 40_000).into(), &request(ip(2)).write(0), &directory());
        }
        let allowed = 100 + u64::try_from(clock::now().since(start).as_millis()).unwrap() + 1;
        assert!(desk.counters.answered <= allowed, "{} of {allowed}", desk.counters.answered);
        assert_eq!(desk.counters.answered + desk.counters.ignored, 5000);
    }

    #[test]
    fn an_answer_needs_the_key_of_whom_was_asked() {
        let (mut desk, keys, heard) = desk();
        let answer = |key: u64, asked: IpAddr| Message {
            kind: Kind::Answer { was_damaged: false, is_stranger: false },
            key,
            asked,
            ..request(ip(1))
        };
        for (key, asked, passes) in [
            (keys.key(ip(2)), ip(2), true),
            (keys.key(ip(2)), ip(3), false),
            (0, ip(2), false),
            (keys.key(ip(3)), ip(3), true),
        ] {
            let taken = desk.take((ip(2), 1).into(), &answer(key, asked).write(0), &directory());
            assert_eq!(taken.is_ok(), passes, "key {key} of {asked}");
            assert_eq!(heard.try_recv().is_ok(), passes, "key {key} of {asked}");
        }
        assert!(desk.answers.is_empty());
        assert_eq!((desk.counters.answers, desk.counters.ignored), (2, 2));
    }
}
