//! Frames for tests: built field by field, and judged by a parser of another's making.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use vswitch_core::wire::vlan::ETHERTYPE;
use vswitch_core::{Checksum, Frame, Gso, GsoKind};

use crate::Segments;
use crate::checksum::Sum;
use crate::inner::{ETHERNET_LEN, MACS_LEN, TCP, UDP, Version, put};

/// A TCP or UDP frame, built field by field, judged by [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) version: Version,
    pub(crate) is_tcp: bool,
    pub(crate) hosts: (u8, u8),
    pub(crate) ports: (u16, u16),
    pub(crate) class: u8,
    pub(crate) ttl: u8,
    pub(crate) id: u16,
    pub(crate) df: bool,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Version {
    fn addresses(self, hosts: (u8, u8)) -> Vec<u8> {
        let address = |host| match self {
            Self::V4 => vec![10, 0, 0, host],
            Self::V6 => vec![0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host],
        };
        [address(hosts.0), address(hosts.1)].concat()
    }
}

impl Build {
    pub(crate) fn new(version: Version, is_tcp: bool) -> Self {
        Self {
            version,
            is_tcp,
            hosts: (1, 2),
            ports: (40_000, 80),
            class: 0,
            ttl: 64,
            id: 0xfffe,
            df: true,
            seq: 0xffff_f000,
            ack: 77,
            flags: 0x10,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload: Vec::new(),
        }
    }

    pub(crate) fn tcp4() -> Self {
        Self::new(Version::V4, true)
    }

    pub(crate) fn tcp6() -> Self {
        Self::new(Version::V6, true)
    }

    pub(crate) fn udp4() -> Self {
        Self::new(Version::V4, false)
    }

    pub(crate) fn udp6() -> Self {
        Self::new(Version::V6, false)
    }

    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    pub(crate) fn ports(mut self, from: u16, to: u16) -> Self {
        self.ports = (from, to);
        self
    }

    pub(crate) fn class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    pub(crate) fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) fn reversed(mut self) -> Self {
        self.hosts = (self.hosts.1, self.hosts.0);
        self.ports = (self.ports.1, self.ports.0);
        self
    }

    /// Bytes before the payload.
    pub(crate) fn header(&self) -> usize {
        let ip = if self.version == Version::V4 { 20 } else { 40 };
        ETHERNET_LEN + ip + if self.is_tcp { 20 + self.options.len() } else { 8 }
    }

    /// The frame, complete.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (mut frame, at) = self.without_checksum();
        let protocol = if self.is_tcp { TCP } else { UDP };
        let len = u16::try_from(frame.len() - at).unwrap();
        let sum = Sum::pseudo_header(&self.version.addresses(self.hosts), protocol, len).plus(Sum::of(&frame[at..]));
        if self.is_tcp {
            put(&mut frame, at + 16, sum.complete());
        } else {
            put(&mut frame, at + 6, sum.complete_nonzero());
        }
        frame
    }

    /// The frame as a kernel hands it over: a super-frame to be cut at `segment` where there is one, and a checksum
    /// yet to be summed.
    pub(crate) fn frame(&self, segment: Option<u16>) -> Frame {
        let (mut bytes, at) = self.without_checksum();
        let protocol = if self.is_tcp { TCP } else { UDP };
        let len = u16::try_from(bytes.len() - at).unwrap();
        let partial = Sum::pseudo_header(&self.version.addresses(self.hosts), protocol, len).partial();
        let offset = if self.is_tcp { 16 } else { 6 };
        put(&mut bytes, at + offset, partial);
        let mut frame = Frame::from_bytes(&bytes);
        let (start, offset) = (u16::try_from(at).unwrap(), u16::try_from(offset).unwrap());
        frame.offload.checksum = Checksum::Partial { start, offset };
        let kind = match (self.is_tcp, self.version) {
            (true, Version::V4) => GsoKind::TcpV4,
            (true, Version::V6) => GsoKind::TcpV6,
            (false, _) => GsoKind::Udp,
        };
        let header = u16::try_from(self.header()).unwrap();
        frame.offload.gso = segment.map(|segment| Gso { kind, segment, header, ecn: false });
        frame
    }

    /// What must come of it when it is cut at `segment` bytes of payload.
    pub(crate) fn cut(&self, segment: u16) -> Vec<Vec<u8>> {
        let chunks: Vec<&[u8]> = self.payload.chunks(usize::from(segment)).collect();
        let one = |(index, chunk): (usize, &&[u8])| {
            let mut build = self.clone().payload(chunk);
            let before = index * usize::from(segment);
            build.seq = self.seq.wrapping_add(u32::try_from(before).unwrap());
            build.id = self.id.wrapping_add(u16::try_from(index).unwrap());
            if index + 1 < chunks.len() {
                build.flags &= !0x09;
            }
            if index > 0 {
                build.flags &= !0x80;
            }
            build.bytes()
        };
        chunks.iter().enumerate().map(one).collect()
    }

    fn without_checksum(&self) -> (Vec<u8>, usize) {
        let (from, to) = self.ports;
        let mut transport = [from.to_be_bytes(), to.to_be_bytes()].concat();
        if self.is_tcp {
            transport.extend(self.seq.to_be_bytes());
            transport.extend(self.ack.to_be_bytes());
            let words = u8::try_from(5 + self.options.len() / 4).unwrap();
            transport.extend([words << 4, self.flags, 0x20, 0, 0, 0, 0, 0]);
            transport.extend(&self.options);
        } else {
            transport.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
            transport.extend([0, 0]);
        }
        transport.extend(&self.payload);

        let mut frame = vec![2, 0, 0, 0, 0, self.hosts.1, 2, 0, 0, 0, 0, self.hosts.0];
        let protocol = if self.is_tcp { TCP } else { UDP };
        let len = u16::try_from(transport.len()).unwrap();
        match self.version {
            Version::V4 => {
                frame.extend([0x08, 0x00, 0x45, self.class]);
                frame.extend((20 + len).to_be_bytes());
                frame.extend(self.id.to_be_bytes());
                frame.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
                frame.extend(self.version.addresses(self.hosts));
                let sum = Sum::of(&frame[14..]).complete();
                put(&mut frame, 24, sum);
            }
            Version::V6 => {
                frame.extend([0x86, 0xdd, 0x60 | self.class >> 4, self.class << 4, 0, 0]);
                frame.extend(len.to_be_bytes());
                frame.extend([protocol, self.ttl]);
                frame.extend(self.version.addresses(self.hosts));
            }
        }
        let at = frame.len();
        frame.extend(transport);
        (frame, at)
    }
}

/// The frame with a tag of `bits`.
pub(crate) fn tagged(frame: &[u8], bits: u16) -> Vec<u8> {
    [&frame[..MACS_LEN], &ETHERTYPE, &bits.to_be_bytes(), &frame[MACS_LEN..]].concat()
}

/// Lets etherparse judge lengths and checksums of a TCP or UDP frame.
pub(crate) fn check(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    match (packet.net.unwrap(), packet.transport.unwrap()) {
        (NetSlice::Ipv4(ip), transport) => {
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            assert_eq!(usize::from(header.total_len()) + 14, frame.len());
            match transport {
                TransportSlice::Tcp(tcp) => {
                    let sum = tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap();
                    assert_eq!(tcp.checksum(), sum);
                }
                TransportSlice::Udp(udp) => {
                    assert_eq!(usize::from(udp.length()), udp.slice().len());
                    let header = udp.to_header();
                    let sum = header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap();
                    assert_eq!(udp.checksum(), sum);
                }
                other => panic!("{other:?}"),
            }
        }
        (NetSlice::Ipv6(ip), transport) => {
            let header = ip.header();
            assert_eq!(usize::from(header.payload_length()) + 54, frame.len());
            match transport {
                TransportSlice::Tcp(tcp) => {
                    let sum = tcp.calc_checksum_ipv6(header.source(), header.destination()).unwrap();
                    assert_eq!(tcp.checksum(), sum);
                }
                TransportSlice::Udp(udp) => {
                    assert_eq!(usize::from(udp.length()), udp.slice().len());
                    let sum = udp.to_header().calc_checksum_ipv6(&header.to_header(), udp.payload()).unwrap();
                    assert_eq!(udp.checksum(), sum);
                }
                other => panic!("{other:?}"),
            }
        }
        (other, _) => panic!("{other:?}"),
    }
}

/// The segments of super-frames, as another device would cut them.
pub(crate) fn cut(frames: &[Frame]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for frame in frames {
        let mut segments = Segments::new(frame).unwrap();
        let mut head = Vec::new();
        while let Some(payload) = segments.write_next(&mut head) {
            all.push([&head, &frame.bytes()[payload]].concat());
            head.clear();
        }
    }
    all
}
