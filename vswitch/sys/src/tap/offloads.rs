//! What the kernel may leave undone on frames, and how it is asked.

/// What the kernel may leave to us on frames it sends to the TAP, as it granted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums left to be completed.
    pub checksum: bool,
    /// TCP super-frames over IPv4.
    pub tso4: bool,
    /// TCP super-frames over IPv6.
    pub tso6: bool,
    /// TCP super-frames whose first segment carries CWR.
    pub tso_ecn: bool,
    /// UDP super-frames over both IPs (Linux 6.2).
    pub uso: bool,
}

impl Offloads {
    /// What to ask for, most first. The kernel takes all of a request or refuses all of it.
    pub(crate) const STEPS: [Self; 4] = [
        Self { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true },
        Self { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: false },
        Self { checksum: true, tso4: false, tso6: false, tso_ecn: false, uso: false },
        Self { checksum: false, tso4: false, tso6: false, tso_ecn: false, uso: false },
    ];

    /// The first step that `ask` grants. The last, nothing at all, needs no grant: it is how a device starts.
    pub(super) fn negotiate(mut ask: impl FnMut(libc::c_uint) -> bool) -> Self {
        Self::STEPS.into_iter().find(|step| ask(step.bits())).unwrap_or_default()
    }

    /// As `TUNSETOFFLOAD` wants it.
    pub(crate) fn bits(self) -> libc::c_uint {
        [
            (self.checksum, libc::TUN_F_CSUM),
            (self.tso4, libc::TUN_F_TSO4),
            (self.tso6, libc::TUN_F_TSO6),
            (self.tso_ecn, libc::TUN_F_TSO_ECN),
            (self.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6),
        ]
        .into_iter()
        .filter_map(|(on, bit)| on.then_some(bit))
        .fold(0, |bits, bit| bits | bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_are_asked_for_in_steps() {
        let uso = libc::TUN_F_USO4 | libc::TUN_F_USO6;
        let tso = libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        type Kernel = fn(libc::c_uint) -> bool;
        let table: [(&str, Kernel, libc::c_uint); 4] = [
            ("6.2 and later", |_| true, 0x6f),
            ("before 6.2", |bits| bits & 0x60 == 0, 0x0f),
            ("checksums only", |bits| bits & !0x01 == 0, 0x01),
            ("nothing", |_| false, 0),
        ];
        assert_eq!((uso, tso), (0x60, 0x06));
        for (kernel, grants, bits) in table {
            assert_eq!(Offloads::negotiate(grants).bits(), bits, "{kernel}");
        }
    }
}
