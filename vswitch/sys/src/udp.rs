//! UDP in trains: many datagrams of one size in one call, both ways (UDP_SEGMENT and UDP_GRO, udp(7)).

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::syscall::{check, get_option, set_option, uninterrupted};

/// Trains or datagrams handed to the kernel in one call.
pub const BATCH: usize = 64;

/// Most segments of one train (`UDP_MAX_SEGMENTS` in the kernel).
pub const SEGMENTS_MAX: usize = 128;

/// Hops a datagram of ours may take.
const HOPS: u32 = 64;

/// Why a UDP socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// The address is not ours.
    #[error("the address {} is not on this host; name one that `ip address` shows here, or add it first", .0.ip())]
    NotLocal(SocketAddr),
    /// The port is in use.
    #[error("UDP port {} of {} is in use; stop who holds it (`ss -ulnp`) or choose another port", .0.port(), .0.ip())]
    InUse(SocketAddr),
    /// The kernel refused.
    #[error("cannot {operation} the UDP socket for {local}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The address.
        local: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// How a socket is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpOptions {
    /// Let other sockets of this user share the port.
    pub reuse_port: bool,
    /// Receive datagrams of one flow and size as one train.
    pub gro: bool,
    /// Receive nothing: what arrives is dropped before it is queued, and no ICMP error answers it.
    pub send_only: bool,
    /// Bytes of the receive queue; above the system's limit where we may.
    pub receive_buffer: Option<usize>,
    /// Bytes of the send queue; above the system's limit where we may.
    pub send_buffer: Option<usize>,
}

/// Datagrams to one address: one, or as many of `segment` bytes as the pieces make (the last may be shorter).
#[derive(Clone, Copy, Debug)]
pub struct Train<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// The IP header's DSCP and ECN.
    pub tos: u8,
    /// Bytes of each datagram; `None`: all of it is one.
    pub segment: Option<NonZeroU16>,
    /// The bytes; at most 1024 pieces, 65,507 bytes and [`SEGMENTS_MAX`] datagrams.
    pub slices: &'a [IoSlice<'a>],
}

/// How far [`UdpEndpoint::send`] came.
#[derive(Debug)]
#[must_use]
pub struct Sent {
    /// Trains that went.
    pub sent: usize,
    /// Why the train after them did not. The caller may go on behind it, or later with it.
    pub error: Option<io::Error>,
}

/// What stands in one slot of an [`Inbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// From where.
    pub from: SocketAddr,
    /// The IP header's DSCP and ECN.
    pub tos: u8,
    /// Bytes of each datagram but the last, which may be shorter; equal to `len` for a single one.
    pub stride: usize,
    /// Bytes in all.
    pub len: usize,
    /// Whether the slot was too small and the rest is lost.
    pub truncated: bool,
}

/// Buffers to receive into, allocated once.
#[derive(Debug)]
pub struct Inbox {
    bytes: Box<[u8]>,
    each: usize,
    slots: usize,
    received: Vec<Received>,
}

impl Inbox {
    /// An inbox of `slots` buffers, 1 to [`BATCH`], of `each` bytes; 65,536 hold any train.
    #[must_use]
    pub fn new(slots: usize, each: usize) -> Self {
        let (slots, each) = (slots.clamp(1, BATCH), each.max(1));
        Self { bytes: vec![0; slots * each].into_boxed_slice(), each, slots, received: Vec::with_capacity(slots) }
    }

    /// How many slots the last receipt filled.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the last receipt brought nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// How many buffers there are.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// What the last receipt brought, slot by slot.
    #[must_use]
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// What slot `index` holds.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Received> {
        self.received.get(index).copied()
    }

    /// The bytes of slot `index`; none where it is not filled.
    #[must_use]
    pub fn bytes(&self, index: usize) -> &[u8] {
        self.received.get(index).map_or(&[], |received| &self.bytes[index * self.each..][..received.len])
    }

    /// The bytes of slot `index`, to change in place.
    pub fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        match self.received.get(index) {
            Some(received) => &mut self.bytes[index * self.each..][..received.len],
            None => &mut [],
        }
    }
}

/// A bound, unconnected, non-blocking UDP socket that never fragments.
#[derive(Debug)]
pub struct UdpEndpoint {
    socket: Socket,
    local: SocketAddr,
}

impl UdpEndpoint {
    /// Opens a socket at `local`; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// An address that is not on this host, a port in use, options the kernel refuses.
    pub fn open(local: SocketAddr, options: &UdpOptions) -> Result<Self, UdpError> {
        let failed = |operation| move |source| UdpError::System { operation, local, source };
        // socket2 opens it close-on-exec.
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), Some(Protocol::UDP))
            .map_err(failed("open"))?;
        // Before bind: between the two, packets would already be queued.
        set_up(&socket, local, options).map_err(failed("set options of"))?;
        socket.bind(&local.into()).map_err(|source| match source.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => UdpError::NotLocal(local),
            Some(libc::EADDRINUSE) => UdpError::InUse(local),
            _ => failed("bind")(source),
        })?;
        let bound = socket.local_addr().map_err(failed("ask the address of"))?.as_socket().unwrap_or(local);
        Ok(Self { socket, local: bound })
    }

    /// The address it is bound to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many datagrams the kernel has dropped because the receive queue was full, or a filter said so.
    ///
    /// # Errors
    /// None known; the kernel is asked.
    pub fn dropped(&self) -> io::Result<u32> {
        const SK_MEMINFO_VARS: usize = 9;
        const SK_MEMINFO_DROPS: usize = 8;
        let info: [u32; SK_MEMINFO_VARS] = get_option(&self.socket, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
        Ok(info[SK_MEMINFO_DROPS])
    }

    /// Sends `trains` in order until one fails. Allocates nothing.
    ///
    /// Errors that concern one train only: EMSGSIZE (larger than the path's MTU or than a train may be), EINVAL (too
    /// many segments), no route; EAGAIN and ENOBUFS: queues are full; see [`is_gso_refused`] for EIO.
    pub fn send(&mut self, trains: &[Train<'_>]) -> Sent {
        let mut sent = 0;
        while sent < trains.len() {
            match uninterrupted(|| self.send_batch(&trains[sent..])) {
                // The kernel reports an error only for the first train of a call; the next round meets it there.
                Ok(count) => sent += count,
                Err(error) => return Sent { sent, error: Some(error) },
            }
        }
        Sent { sent, error: None }
    }

    /// Sends up to [`BATCH`] trains in one call; at least one, or an error.
    fn send_batch(&self, trains: &[Train<'_>]) -> io::Result<usize> {
        // On the stack and filled as far as used: nothing points to it between calls, so the endpoint may move.
        let mut names = [const { MaybeUninit::<Name>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        let mut filled: libc::c_uint = 0;
        for (((train, name), control), message) in trains.iter().zip(&mut names).zip(&mut controls).zip(&mut messages) {
            let header = libc::msghdr {
                msg_name: std::ptr::from_mut(name.write(Name::new(train.to))).cast(),
                msg_namelen: Name::len(train.to),
                // IoSlice has the layout of iovec (its documentation); sendmmsg reads only.
                msg_iov: train.slices.as_ptr().cast_mut().cast(),
                msg_iovlen: train.slices.len(),
                ..empty_header()
            };
            let header = control.write(Control::new()).attach(header, train);
            message.write(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
            filled += 1;
        }
        // SAFETY: the first `filled` messages are initialised. Each points to a name and a control part in the arrays
        // above and to the train's slices, all alive until the call returns; it reads them, and writes msg_len only.
        let sent = check(unsafe {
            libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr().cast(), filled, libc::MSG_NOSIGNAL)
        })?;
        usize::try_from(sent).map_err(io::Error::other)
    }

    /// Receives what is there into `inbox`, replacing what it held; returns how many slots were filled, 0 where
    /// nothing is there. Allocates nothing.
    ///
    /// # Errors
    /// What the kernel answers, but for "nothing is there".
    pub fn recv(&mut self, inbox: &mut Inbox) -> io::Result<usize> {
        inbox.received.clear();
        let mut names = [const { MaybeUninit::<Name>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
        let mut pieces = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        let mut slots: libc::c_uint = 0;
        for ((((buffer, name), control), piece), message) in inbox
            .bytes
            .chunks_exact_mut(inbox.each)
            .zip(&mut names)
            .zip(&mut controls)
            .zip(&mut pieces)
            .zip(&mut messages)
        {
            let header = libc::msghdr {
                // Zero, not uninitialised: read back below even where the kernel should write no name.
                msg_name: std::ptr::from_mut(name.write(Name::ZERO)).cast(),
                msg_namelen: Name::ROOM,
                msg_iov: piece.write(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }),
                msg_iovlen: 1,
                msg_control: control.as_mut_ptr().cast(),
                msg_controllen: size_of::<Control>(),
                ..empty_header()
            };
            message.write(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
            slots += 1;
        }
        let filled = uninterrupted(|| {
            // SAFETY: the first `slots` messages are initialised. Each points to a name, a control part, and a piece in the
            // arrays above, and the piece to a slot of `inbox`, which is borrowed exclusively; no two share memory, all
            // live until the call returns, and the lengths beside them bound what it writes. An interrupted call has
            // received nothing and changed nothing.
            check(unsafe {
                libc::recvmmsg(
                    self.socket.as_raw_fd(),
                    messages.as_mut_ptr().cast(),
                    slots,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            })
        });
        let filled = match filled {
            Ok(filled) => usize::try_from(filled).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        for (message, name) in messages.iter().zip(&names).take(filled) {
            // SAFETY: the kernel filled no more messages than `slots`, and those were all initialised above, names too.
            let (message, name) = unsafe { (message.assume_init_ref(), name.assume_init_ref()) };
            // SAFETY: the kernel has written well-formed control messages where msg_control points, msg_controllen bytes.
            let (stride, tos) = unsafe { read_control(&message.msg_hdr) };
            let len = usize::try_from(message.msg_len).unwrap_or(inbox.each).min(inbox.each);
            inbox.received.push(Received {
                from: name.get(),
                tos,
                stride: stride.unwrap_or(len).clamp(1, len.max(1)),
                len,
                truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(filled)
    }
}

impl AsFd for UdpEndpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpEndpoint {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Whether this kernel knows UDP_SEGMENT (Linux 4.18). The device may still refuse: [`is_gso_refused`].
#[must_use]
pub fn probe_gso() -> bool {
    Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
        .and_then(|socket| get_option::<libc::c_int>(&socket, libc::SOL_UDP, libc::UDP_SEGMENT))
        .is_ok()
}

/// Whether a train failed because the device it would leave by cannot checksum: send it without UDP_SEGMENT.
#[must_use]
pub fn is_gso_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Sets everything that must stand before the socket is bound.
fn set_up(socket: &Socket, local: SocketAddr, options: &UdpOptions) -> io::Result<()> {
    const ON: libc::c_int = 1;
    match local {
        SocketAddr::V4(_) => {
            set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
            socket.set_ttl_v4(HOPS)?;
            socket.set_recv_tos_v4(!options.send_only)?;
        }
        SocketAddr::V6(_) => {
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(HOPS)?;
            socket.set_recv_tclass_v6(!options.send_only)?;
        }
    }
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if options.gro {
        set_option(socket, libc::SOL_UDP, libc::UDP_GRO, ON)?;
    }
    if options.send_only {
        // One instruction, "accept 0 bytes": classic BPF, BPF_RET | BPF_K.
        socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
    }
    for (size, forced, plain) in [
        (options.receive_buffer, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (options.send_buffer, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        let Some(size) = size else { continue };
        // The kernel doubles what it is told to make room for its own bookkeeping.
        let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX / 2);
        set_option(socket, libc::SOL_SOCKET, forced, size)
            .or_else(|_| set_option(socket, libc::SOL_SOCKET, plain, size))?;
    }
    Ok(())
}

/// A socket address as the kernel has it, of either family.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

#[allow(clippy::cast_possible_truncation, reason = "AF_INET is 2, AF_INET6 10; sizes are 16 and 28")]
impl Name {
    const V4: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
    const V6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;
    const ROOM: libc::socklen_t = size_of::<Self>() as libc::socklen_t;
    // SAFETY: all members are integers and arrays of them; all zero is a value of each.
    const ZERO: Self = unsafe { mem::zeroed() };

    /// Writes `address` down.
    fn new(address: SocketAddr) -> Self {
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
    const fn len(address: SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(_) => size_of::<libc::sockaddr_in>() as libc::socklen_t,
            SocketAddr::V6(_) => size_of::<libc::sockaddr_in6>() as libc::socklen_t,
        }
    }

    /// Reads what the kernel wrote over [`Self::ZERO`].
    fn get(&self) -> SocketAddr {
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
union Control {
    bytes: [u8; CONTROL_LEN],
    _align: libc::cmsghdr,
}

/// One integer each: segment size and TOS.
#[allow(clippy::cast_possible_truncation, reason = "4")]
const CONTROL_LEN: usize =
    // SAFETY: CMSG_SPACE only computes.
    unsafe { 2 * libc::CMSG_SPACE(size_of::<libc::c_int>() as libc::c_uint) as usize };

impl Control {
    const fn new() -> Self {
        Self { bytes: [0; CONTROL_LEN] }
    }

    /// Writes what `train` needs and makes `header` point to it.
    fn attach(&mut self, mut header: libc::msghdr, train: &Train<'_>) -> libc::msghdr {
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
unsafe fn read_control(header: &libc::msghdr) -> (Option<usize>, u8) {
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
const fn empty_header() -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers; all zero is one.
    unsafe { mem::zeroed() }
}
