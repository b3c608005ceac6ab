//! What our VTEPs ask each other about the way between them: operations, administration, maintenance.
//!
//! A message travels as VXLAN does, to the same port, so that it meets what frames meet; and it is told from frames by the
//! O flag in the VXLAN header and VNI 0, which no network has. A VTEP of another make drops that, for the flag (Linux,
//! Open vSwitch) or for the VNI; one that does neither has an Ethernet frame to the nearest bridge, which no bridge
//! forwards (IEEE 802.1Q 8.6.3), with an EtherType for experiments (IEEE 802).
//!
//! Nothing that is sent here amplifies: an answer is never longer than its request, and repeats what proves that it was
//! asked for.

use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

use crate::header::{HEADER_LEN, Vni};

/// The flags of the VXLAN header: a valid VNI, and OAM as in the generic extension (draft-ietf-nvo3-vxlan-gpe 3.3).
const FLAGS: u8 = 0x08 | O_FLAG;
const O_FLAG: u8 = 0x01;
/// The Ethernet header inside: to the nearest bridge, from nobody's locally administered address, Local Experimental
/// EtherType 1.
const ETHERNET: [u8; 14] = [0x01, 0x80, 0xc2, 0, 0, 0x0e, 0x02, 0, b'V', b'T', b'E', b'P', 0x88, 0xb5];
const MAGIC: [u8; 4] = *b"vsOA";
const VERSION: u8 = 1;
/// Bytes before the message.
const BEFORE: usize = HEADER_LEN + ETHERNET.len();
/// Bytes of the message before its list.
const FIXED: usize = 72;
const CHECKSUM: usize = 12;
/// Networks in one message at most.
pub const NETWORKS_MAX: usize = 64;
/// Bytes of the shortest datagram.
pub const SHORTEST: usize = BEFORE + FIXED;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be answered.
    Request,
    /// The answer.
    Answer {
        /// The request came damaged, so that its list was not read.
        was_damaged: bool,
        /// Who asked is no peer of the one that answers, in any network.
        is_stranger: bool,
    },
}

/// A message between two of our VTEPs. Its numbers are the asker's, and the answer repeats them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which way.
    pub kind: Kind,
    /// Known to the asker and, by its request, to whom it asks: nobody else can answer.
    pub key: u64,
    /// Which of its requests.
    pub sequence: u64,
    /// When it was sent, in nanoseconds of the asker's clock.
    pub time: u64,
    /// Whom it asked.
    pub asked: IpAddr,
    /// The sender of the request: as it knows itself in a request, as it was seen in the answer.
    pub sender: IpAddr,
    /// Its UDP port, likewise.
    pub port: u16,
    /// The networks it asks for; in the answer those of them that the two share.
    pub networks: Vec<Vni>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The message; without a list where it is damaged.
    pub message: Message,
    /// Whether its checksum, or its length, is wrong: nothing in it can be relied on.
    pub is_damaged: bool,
}

/// Why something is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoMessage {
    /// Not from one of ours.
    #[error("no OAM message of a vswitch")]
    NotOurs,
    /// From one that is newer.
    #[error("OAM messages of version {0}, where this switch knows version 1: update it")]
    Version(u8),
}

/// Whether a datagram that is no frame may be a message.
#[must_use]
pub fn is_oam(datagram: &[u8]) -> bool {
    matches!(datagram, [flags, _, _, _, 0, 0, 0, _, ..] if flags & O_FLAG != 0)
}

impl Message {
    /// Bytes of the shortest datagram that holds it.
    #[must_use]
    pub fn len(&self) -> usize {
        SHORTEST + 4 * self.networks.len().min(NETWORKS_MAX)
    }

    /// Never: it has a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The datagram that carries it, padded to `len` bytes where it is shorter; at most [`NETWORKS_MAX`] of its networks.
    #[must_use]
    pub fn write(&self, len: usize) -> Vec<u8> {
        let len = len.clamp(self.len(), BEFORE + usize::from(u16::MAX));
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&[FLAGS, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&ETHERNET);
        bytes.extend_from_slice(&MAGIC);
        let (kind, flags) = match self.kind {
            Kind::Request => (1, 0),
            Kind::Answer { was_damaged, is_stranger } => (2, u8::from(was_damaged) | u8::from(is_stranger) << 1),
        };
        let networks = &self.networks[..self.networks.len().min(NETWORKS_MAX)];
        bytes.extend_from_slice(&[VERSION, kind, flags, u8::try_from(networks.len()).unwrap_or(0)]);
        bytes.extend_from_slice(&u16::try_from(len - BEFORE).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(&self.port.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]); // the checksum's place
        for number in [self.key, self.sequence, self.time] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for address in [self.asked, self.sender] {
            bytes.extend_from_slice(&wide(address).octets());
        }
        networks.iter().for_each(|vni| bytes.extend_from_slice(&vni.get().to_be_bytes()));
        bytes.resize(len, 0);
        let sum = crc32(&bytes[BEFORE..]);
        bytes[BEFORE + CHECKSUM..BEFORE + CHECKSUM + 4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The message in a datagram.
    ///
    /// # Errors
    /// It is none, or one that only a newer switch understands.
    pub fn read(datagram: &[u8]) -> Result<Read, NoMessage> {
        let body = datagram.get(BEFORE..).filter(|_| is_oam(datagram)).ok_or(NoMessage::NotOurs)?;
        let fixed: &[u8; FIXED] = body.first_chunk().filter(|fixed| fixed[..4] == MAGIC).ok_or(NoMessage::NotOurs)?;
        if fixed[4] != VERSION {
            return Err(NoMessage::Version(fixed[4]));
        }
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| fixed[at + byte]));
        let half = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let address = |at: usize| {
            let octets: [u8; 16] = std::array::from_fn(|byte| fixed[at + byte]);
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        };
        let kind = match fixed[5] {
            1 => Kind::Request,
            2 => Kind::Answer { was_damaged: fixed[6] & 1 != 0, is_stranger: fixed[6] & 2 != 0 },
            _ => return Err(NoMessage::NotOurs),
        };
        let count = usize::from(fixed[7]);
        let list = body.get(FIXED..FIXED + 4 * count).filter(|_| count <= NETWORKS_MAX);
        let is_damaged = usize::from(half(8)) != body.len() || list.is_none() || !is_intact(body);
        let networks = list.filter(|_| !is_damaged).unwrap_or_default();
        let networks =
            networks.chunks_exact(4).filter_map(|vni| Vni::new(u32::from_be_bytes([vni[0], vni[1], vni[2], vni[3]])));
        let message = Self {
            kind,
            key: word(16),
            sequence: word(24),
            time: word(32),
            asked: address(40),
            sender: address(56),
            port: half(10),
            networks: networks.collect(),
        };
        Ok(Read { message, is_damaged })
    }
}

impl Read {
    /// The answer to this request, which was seen to come from `sender` and `port`, by a VTEP that shares those of its
    /// networks for which `shares` says so.
    #[must_use]
    pub fn answer(&self, sender: IpAddr, port: u16, shares: impl Fn(Vni) -> bool) -> Message {
        let Message { key, sequence, time, asked, ref networks, .. } = self.message;
        let networks = networks.iter().copied().filter(|&vni| shares(vni)).collect();
        let kind = Kind::Answer { was_damaged: self.is_damaged, is_stranger: false };
        Message { kind, key, sequence, time, asked, sender: sender.to_canonical(), port, networks }
    }

    /// The answer to one who is no peer, which was seen to come from `sender` and `port`. Older switches read that they
    /// share none of the networks.
    #[must_use]
    pub fn refusal(&self, sender: IpAddr, port: u16) -> Message {
        let kind = Kind::Answer { was_damaged: self.is_damaged, is_stranger: true };
        Message { kind, ..self.answer(sender, port, |_| false) }
    }
}

fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Whether the checksum is that of `body`, counted with zeros in its own place.
fn is_intact(body: &[u8]) -> bool {
    let (before, rest) = body.split_at(CHECKSUM);
    let Some((sum, after)) = rest.split_first_chunk::<4>() else { return false };
    let crc = crc(crc(crc(!0, before), &[0; 4]), after);
    !crc == u32::from_be_bytes(*sum)
}

/// CRC-32 (IEEE 802.3 3.2.9): unlike the Internet's checksum, no single run of 32 damaged bits gets past it.
fn crc32(bytes: &[u8]) -> u32 {
    !crc(!0, bytes)
}

fn crc(start: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut nibble = 0;
        while nibble < 16 {
            #[allow(clippy::cast_possible_truncation, reason = "below 16")]
            let mut value = nibble as u32;
            let mut bit = 0;
            while bit < 4 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[nibble] = value;
            nibble += 1;
        }
        table
    };
    let nibble = |crc: u32, nibble: u8| crc >> 4 ^ TABLE[usize::from((crc.to_le_bytes()[0] ^ nibble) & 0xf)];
    bytes.iter().fold(start, |crc, &byte| nibble(nibble(crc, byte), byte >> 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DecapDrop, parse};

    fn vni(number: u32) -> Vni {
        Vni::new(number).unwrap()
    }

    fn request() -> Message {
        Message {
            kind: Kind::Request,
            key: 0x0102_0304_0506_0708,
            sequence: 7,
            time: 123_456_789,
            asked: IpAddr::from([192, 0, 2, 2]),
            sender: IpAddr::from([192, 0, 2, 1]),
            port: 50_000,
            networks: vec![vni(100), vni(200), vni(300)],
        }
    }

    fn read(bytes: &[u8]) -> Read {
        Message::read(bytes).unwrap()
    }

    #[test]
    fn the_checksum_is_that_of_ethernet() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn what_is_written_is_read_and_answered() {
        for len in [0, SHORTEST, 114, 1472, 65_535 + BEFORE, usize::MAX] {
            let bytes = request().write(len);
            assert_eq!(bytes.len(), len.clamp(request().len(), 65_535 + BEFORE));
            assert_eq!(read(&bytes), Read { message: request(), is_damaged: false });
        }
        let seen = IpAddr::from([198, 51, 100, 9]);
        let answer = read(&request().write(0)).answer(seen, 40_000, |network| network != vni(200));
        let expected = Message {
            kind: Kind::Answer { was_damaged: false, is_stranger: false },
            sender: seen,
            port: 40_000,
            networks: vec![vni(100), vni(300)],
            ..request()
        };
        assert_eq!(answer, expected);
        assert_eq!(read(&answer.write(0)), Read { message: expected, is_damaged: false });
    }

    #[test]
    fn nobody_takes_it_for_a_frame() {
        let bytes = request().write(0);
        assert_eq!(parse(&bytes), Err(DecapDrop::UnknownVni)); // so did switches that knew no OAM
        assert!(is_oam(&bytes));
        assert_eq!(bytes[..8], [0x09, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[8..14], [0x01, 0x80, 0xc2, 0, 0, 0x0e]);
        assert_eq!(bytes[20..22], [0x88, 0xb5]);
    }

    /// As another program writes it: switches of different versions must understand each other.
    #[test]
    fn the_bytes_on_the_wire() {
        let answer = Message {
            kind: Kind::Answer { was_damaged: false, is_stranger: false },
            key: 0x0123_4567_89ab_cdef,
            sequence: 7,
            time: 1_000_000,
            port: 65_535,
            networks: vec![vni(1), vni(2)],
            ..request()
        };
        let hex: String = answer.write(0).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "09000000000000000180c200000e02005654455088b576734f41010200020050\
             ffff2286e7c30123456789abcdef000000000000000700000000000f42400000\
             0000000000000000ffffc000020200000000000000000000ffffc00002010000\
             000100000002"
        );
    }

    #[test]
    fn what_is_no_message() {
        let good = request().write(0);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Message::read(&bytes)
        };
        assert_eq!(with(0, 0x08), Err(NoMessage::NotOurs));
        assert_eq!(with(6, 1), Err(NoMessage::NotOurs)); // a VNI
        assert_eq!(with(BEFORE, b'w'), Err(NoMessage::NotOurs));
        assert_eq!(with(BEFORE + 4, 2), Err(NoMessage::Version(2)));
        assert_eq!(with(BEFORE + 5, 3), Err(NoMessage::NotOurs));
        for len in 0..SHORTEST {
            assert_eq!(Message::read(&good[..len]), Err(NoMessage::NotOurs), "{len}");
        }
    }

    #[test]
    fn damage_is_seen() {
        let good = request().write(300);
        for at in BEFORE + 6..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            let Read { message, is_damaged } = read(&bytes);
            assert!(is_damaged && message.networks.is_empty(), "byte {at}");
        }
        assert!(read(&good[..299]).is_damaged && read(&[&good[..], &[0]].concat()).is_damaged);
        let damaged = Read { message: request(), is_damaged: true };
        let answer = damaged.answer(request().sender, 1, |_| true);
        assert_eq!(answer.kind, Kind::Answer { was_damaged: true, is_stranger: false });
        let refusal = damaged.refusal(request().sender, 1);
        assert_eq!(refusal.kind, Kind::Answer { was_damaged: true, is_stranger: true });
        assert_eq!(read(&refusal.write(0)).message, Message { networks: Vec::new(), ..refusal });
    }

    proptest! {
        #[test]
        fn an_answer_is_never_longer_than_its_request(
            mut bytes in prop::collection::vec(any::<u8>(), 0..600),
            (count, pad) in (0_u32..100, 0_usize..600),
            from_ours in any::<bool>(),
        ) {
            if from_ours {
                let networks = (1..=count).map(vni).collect();
                bytes = Message { networks, ..request() }.write(pad);
            } else if bytes.len() > BEFORE + 6 {
                bytes[..8].copy_from_slice(&[FLAGS, 0, 0, 0, 0, 0, 0, 0]);
                bytes[BEFORE..BEFORE + 4].copy_from_slice(&MAGIC);
                bytes[BEFORE + 4..BEFORE + 6].copy_from_slice(&[VERSION, 1]);
            }
            if let Ok(read) = Message::read(&bytes) {
                let answer = read.answer(IpAddr::from([192, 0, 2, 1]), 1, |_| true).write(0);
                prop_assert!(answer.len() <= bytes.len());
                prop_assert!(read.message.networks.len() <= NETWORKS_MAX);
            }
        }
    }
}
