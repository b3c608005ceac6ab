//! What a frame still owes: a checksum not yet filled in, or a cut into segments.
//!
//! Inside a host these debts travel with the frame and the last device (or the tunnel) pays them, as in the kernel's
//! `sk_buff`. Offsets count from the first byte of the Ethernet header and move with a VLAN tag.

/// The debts of a frame. The default is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offload {
    /// State of the TCP or UDP checksum.
    pub checksum: Checksum,
    /// Set on a super-frame: one that must be cut into segments before it fits a wire.
    pub gso: Option<Gso>,
}

/// State of the transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checksum {
    /// The field is as the wire wants it; nobody has verified it.
    #[default]
    Complete,
    /// The field holds the pseudo-header's sum; who sends the frame out sums from `start` to the end and stores the
    /// result at `start + offset`. Both in bytes.
    Partial {
        /// First byte summed: the start of the TCP or UDP header.
        start: u16,
        /// Where the checksum field lies after `start`: 16 for TCP, 6 for UDP.
        offset: u16,
    },
}

/// How a super-frame is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// Which headers each segment gets.
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last, which may be shorter; at least 1.
    pub segment: u16,
    /// Bytes before the payload, from the Ethernet header to the end of the TCP or UDP header.
    pub header: u16,
    /// TCP only: CWR is set on the first segment alone (RFC 3168 6.1.2).
    pub ecn: bool,
}

/// The transport a super-frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GsoKind {
    /// TCP over IPv4 (TSO4).
    TcpV4,
    /// TCP over IPv6 (TSO6).
    TcpV6,
    /// UDP over either IP: each segment a datagram of its own (USO).
    Udp,
}

impl Gso {
    /// How many frames one of `len` bytes is cut to, at least 1.
    #[must_use]
    pub fn frames(&self, len: usize) -> u32 {
        let payload = len.saturating_sub(usize::from(self.header));
        u32::try_from(payload.div_ceil(usize::from(self.segment).max(1))).unwrap_or(u32::MAX).max(1)
    }
}

impl Offload {
    /// The same debts in a frame whose bytes behind the MAC addresses moved by `by` (a VLAN tag pushed or popped).
    /// `None` where an offset would leave the range of 16 bits, which no frame of ours reaches.
    #[must_use]
    pub fn shifted(self, by: i16) -> Option<Self> {
        let checksum = match self.checksum {
            Checksum::Complete => Checksum::Complete,
            Checksum::Partial { start, offset } => Checksum::Partial { start: start.checked_add_signed(by)?, offset },
        };
        let gso = match self.gso {
            None => None,
            Some(gso) => Some(Gso { header: gso.header.checked_add_signed(by)?, ..gso }),
        };
        Some(Self { checksum, gso })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_super_frame() {
        let gso = Gso { kind: GsoKind::TcpV4, segment: 1000, header: 66, ecn: false };
        for (len, frames) in [(0, 1), (66, 1), (67, 1), (1066, 1), (1067, 2), (65_535, 66)] {
            assert_eq!(gso.frames(len), frames, "{len}");
        }
        assert_eq!(Gso { segment: 0, ..gso }.frames(166), 100);
    }
}
