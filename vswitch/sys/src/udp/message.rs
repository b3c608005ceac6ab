//! Messages as sendmmsg and recvmmsg know them: addresses and control parts (cmsg(3)).

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::Train;

/// A socket address as the kernel has it, of either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

#[allow(clippy::cast_possible_truncation, reason = "AF_INET is 2, AF_INET6 10; sizes are 16 and 28")]
impl Name {
    const V4: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
    const V6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;
    /// Bytes of the larger member.
    pub(super) const ROOM: libc::socklen_t = size_of::<Self>() as libc::socklen_t;
    /// No address yet.
    // SAFETY: all members are integers and arrays of them; all zero is a value of each.
    pub(super) const ZERO: Self = unsafe { mem::zeroed() };

    /// Writes `address` down.
    pub(super) fn new(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self {
                v4: libc::sockaddr_in {
                    sin_family: Self::V4,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(address) => Self {
                v6: libc::sockaddr_in6 {
                    sin6_family: Self::V6,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                },
            },
        }
    }

    /// Bytes of the member that holds `address`.
    pub(super) const fn len(address: SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(_) => size_of::<libc::sockaddr_in>() as libc::socklen_t,
            SocketAddr::V6(_) => size_of::<libc::sockaddr_in6>() as libc::socklen_t,
        }
    }

    /// Reads what the kernel wrote over [`Self::ZERO`].
    pub(super) fn get(&self) -> SocketAddr {
        // SAFETY: every byte is initialised, as the union starts as ZERO or with a whole member over it, and all members
        // are integers, for which any bytes are a value.
        unsafe {
            if self.family == Self::V6 {
                let port = u16::from_be(self.v6.sin6_port);
                let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                SocketAddrV6::new(ip, port, self.v6.sin6_flowinfo, self.v6.sin6_scope_id).into()
            } else {
                let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port)).into()
            }
        }
    }
}

/// Room for the two control messages of a train, aligned as their headers must be.
#[repr(C)]
pub(super) union Control {
    bytes: [u8; CONTROL_LEN],
    _align: libc::cmsghdr,
}

/// One integer each: segment size and TOS.
#[allow(clippy::cast_possible_truncation, reason = "4")]
const CONTROL_LEN: usize =
    // SAFETY: CMSG_SPACE only computes.
    unsafe { 2 * libc::CMSG_SPACE(size_of::<libc::c_int>() as libc::c_uint) as usize };

impl Control {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; CONTROL_LEN] }
    }

    /// Writes what `train` needs and makes `header` point to it.
    pub(super) fn attach(&mut self, mut header: libc::msghdr, train: &Train<'_>) -> libc::msghdr {
        if train.segment.is_none() && train.tos == 0 {
            return header;
        }
        header.msg_control = std::ptr::from_mut(self).cast();
        header.msg_controllen = CONTROL_LEN;
        // SAFETY: `self` is zeroed, aligned for a cmsghdr and CONTROL_LEN bytes long, so the first header is at its start,
        // there is room for it and an int, and behind that, CMSG_SPACE further on, for a second pair. The values are
        // written unaligned, as CMSG_DATA promises no alignment to Rust, and are no longer than an int.
        unsafe {
            let mut used = 0;
            let mut at = libc::CMSG_FIRSTHDR(&raw const header);
            if let Some(segment) = train.segment {
                used += put(at, libc::SOL_UDP, libc::UDP_SEGMENT, segment.get());
                at = libc::CMSG_NXTHDR(&raw const header, at);
            }
            if train.tos != 0 {
                let (level, kind) = match train.to {
                    SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
                    SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
                };
                used += put(at, level, kind, libc::c_int::from(train.tos));
            }
            header.msg_controllen = used;
        }
        header
    }
}

/// Writes one control message; returns the room it takes.
///
/// # Safety
/// `at` is aligned for a header, with room for it and `value` behind it.
unsafe fn put<T: Copy>(at: *mut libc::cmsghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let payload = crate::syscall::socklen::<T>();
    // SAFETY: the caller vouches for the room; the two length macros only compute.
    unsafe {
        (*at).cmsg_level = level;
        (*at).cmsg_type = kind;
        (*at).cmsg_len = libc::CMSG_LEN(payload) as usize;
        libc::CMSG_DATA(at).cast::<T>().write_unaligned(value);
        libc::CMSG_SPACE(payload) as usize
    }
}

/// Segment size, if the message is a train, and TOS, 0 where the kernel tells none.
///
/// # Safety
/// The control part of `header` is as recvmsg left it.
pub(super) unsafe fn read_control(header: &libc::msghdr) -> (Option<usize>, u8) {
    let (mut stride, mut tos) = (None, 0);
    // SAFETY: the caller vouches for the control part, so the CMSG_ walk stays inside it; each value is as long as udp(7),
    // ip(7) and ipv6(7) say for its level and type, and is read unaligned.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    stride = usize::try_from(data.cast::<libc::c_int>().read_unaligned()).ok();
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => tos = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    tos = u8::try_from(data.cast::<libc::c_int>().read_unaligned()).unwrap_or(0);
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    (stride, tos)
}

/// A message header that points nowhere.
pub(super) const fn empty_header() -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers; all zero is one.
    unsafe { mem::zeroed() }
}
