//! UDP in trains: many datagrams of one size in one call, both ways (UDP_SEGMENT and UDP_GRO, udp(7)).

mod inbox;
mod message;
mod probe;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use message::{Control, Name, empty_header, read_control};

use crate::syscall::{check, get_option, set_option, uninterrupted};

pub use inbox::{Inbox, Received};
pub use probe::{Complaint, PingSocket, ProbeSocket, Trouble};

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

    /// Takes over a socket that [`Self::open`] made, maybe in another process. What it was set up with stays.
    ///
    /// # Errors
    /// What is no UDP socket with an address.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(fd);
        let local = socket.local_addr()?.as_socket();
        let is_udp = socket.protocol()? == Some(Protocol::UDP);
        let local = local.filter(|_| is_udp).ok_or_else(|| io::Error::other("not a UDP socket"))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, local })
    }

    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(Into::into)
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
                at: 0,
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
            // RFC 7348 5: a VXLAN datagram may come with a zero checksum; without this the kernel drops it (RFC 6936).
            set_option(socket, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, ON)?;
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
