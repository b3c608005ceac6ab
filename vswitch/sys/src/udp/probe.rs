//! A socket to ask what a path carries, and to hear what the network says of it (ip(7), IP_RECVERR).

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::HOPS;
use super::message::{Name, empty_header};
use crate::syscall::{count, set_option, uninterrupted};

/// A UDP socket that sends and receives nothing. Datagrams leave unfragmented and of any size that the interface takes,
/// whatever the kernel believes of the path; what hosts on the way say of them is kept for [`Self::complaint`].
#[derive(Debug)]
pub struct ProbeSocket {
    socket: Socket,
    local: SocketAddr,
}

/// What was said of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where the datagram was to go.
    pub to: SocketAddr,
    /// Who says so; `None` where it is this host.
    pub by: Option<IpAddr>,
    /// What.
    pub what: Trouble,
}

/// What keeps a datagram from arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The host is there, and nobody listens on the port, or a firewall says so.
    PortUnreachable,
    /// A firewall forbids it.
    Prohibited,
    /// There is no such host, or no way to it.
    HostUnreachable,
    /// The path carries so many bytes only.
    TooBig(u32),
    /// Something else, by its errno.
    Other(i32),
}

impl ProbeSocket {
    /// Opens a socket at `local`; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// What the kernel answers, as where the address is not on this host.
    pub fn open(local: SocketAddr) -> io::Result<Self> {
        const ON: libc::c_int = 1;
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        match local {
            SocketAddr::V4(_) => {
                set_option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
                set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, ON)?;
                socket.set_ttl_v4(HOPS)?;
            }
            SocketAddr::V6(_) => {
                set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
                set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, ON)?;
                socket.set_only_v6(true)?;
                socket.set_unicast_hops_v6(HOPS)?;
            }
        }
        // "Accept 0 bytes": what comes to its port is none of its business.
        socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
        socket.bind(&local.into())?;
        let local = socket.local_addr()?.as_socket().unwrap_or(local);
        Ok(Self { socket, local })
    }

    /// The address it sends from.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// EMSGSIZE where the interface does not take so many bytes; no route; a full queue; a firewall here (EPERM). An error
    /// may be that of an earlier datagram, to another host: once what was said is read, it is told no more.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, &to.into()).map(drop)
    }

    /// What was said of a datagram, the oldest first; `None` where nothing was.
    ///
    /// # Errors
    /// None known but want of memory.
    pub fn complaint(&self) -> io::Result<Option<Complaint>> {
        let mut name = Name::ZERO;
        let mut control = MaybeUninit::<Room>::uninit();
        let mut header = libc::msghdr {
            msg_name: (&raw mut name).cast(),
            msg_namelen: Name::ROOM,
            msg_control: control.as_mut_ptr().cast(),
            msg_controllen: size_of::<Room>(),
            ..empty_header()
        };
        let read = uninterrupted(|| {
            // SAFETY: the header points to a name and to room for control messages, both alive until the call returns, with
            // the lengths beside them; it has no piece for data, which is then cut off.
            count(unsafe {
                libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
            })
        });
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        // SAFETY: the kernel has written well-formed control messages where msg_control points, msg_controllen bytes.
        let said = unsafe { extended_error(&header) };
        let Some((error, by)) = said else { return Ok(None) };
        let trouble = trouble(&error);
        Ok(Some(Complaint { to: name.get(), by, what: trouble }))
    }
}

/// Room for what comes with an error: the error, the address of who says so, and a TTL or two.
#[repr(C)]
union Room {
    bytes: [u8; 256],
    _align: libc::cmsghdr,
}

/// The error in a message of the error queue, and who says so.
///
/// # Safety
/// The control part of `header` is as recvmsg left it.
unsafe fn extended_error(header: &libc::msghdr) -> Option<(libc::sock_extended_err, Option<IpAddr>)> {
    const ERROR: usize = size_of::<libc::sock_extended_err>();
    // SAFETY: the caller vouches for the control part, so the CMSG_ walk stays inside it; a value is read, unaligned, only
    // where the message is long enough for it.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            let len = (*at).cmsg_len - (data.addr() - at.addr());
            let is_error = matches!(
                ((*at).cmsg_level, (*at).cmsg_type),
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            );
            if is_error && len >= ERROR {
                let error = data.cast::<libc::sock_extended_err>().read_unaligned();
                // The address of the offender stands behind it (SO_EE_OFFENDER).
                let mut by = Name::ZERO;
                let rest = (len - ERROR).min(size_of::<Name>());
                std::ptr::copy_nonoverlapping(data.add(ERROR), (&raw mut by).cast::<u8>(), rest);
                let by = Some(by.get().ip()).filter(|by| !by.is_unspecified() && is_foreign(&error));
                return Some((error, by));
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    None
}

/// Whether another host said it.
fn is_foreign(error: &libc::sock_extended_err) -> bool {
    [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(&error.ee_origin)
}

fn trouble(error: &libc::sock_extended_err) -> Trouble {
    let errno = i32::try_from(error.ee_errno).unwrap_or(0);
    // ICMP destination unreachable (RFC 792, RFC 1812 5.2.7.1), ICMPv6 likewise (RFC 4443 3.1).
    let kind = (error.ee_origin, error.ee_type, error.ee_code);
    match kind {
        _ if errno == libc::EMSGSIZE => Trouble::TooBig(error.ee_info),
        (libc::SO_EE_ORIGIN_ICMP, 3, 3) | (libc::SO_EE_ORIGIN_ICMP6, 1, 4) => Trouble::PortUnreachable,
        (libc::SO_EE_ORIGIN_ICMP, 3, 9 | 10 | 13) | (libc::SO_EE_ORIGIN_ICMP6, 1, 1 | 5 | 6) => Trouble::Prohibited,
        (libc::SO_EE_ORIGIN_ICMP, 3, _) | (libc::SO_EE_ORIGIN_ICMP6, 1, _) => Trouble::HostUnreachable,
        _ => match errno {
            libc::ECONNREFUSED => Trouble::PortUnreachable,
            libc::EHOSTUNREACH | libc::ENETUNREACH => Trouble::HostUnreachable,
            libc::EACCES | libc::EPERM => Trouble::Prohibited,
            errno => Trouble::Other(errno),
        },
    }
}

/// Asks whether a host is there, by ICMP echo (ping(8)) without any right (icmp(7)).
#[derive(Debug)]
pub struct PingSocket {
    socket: Socket,
    v4: bool,
}

impl PingSocket {
    /// Opens a socket that sends from `local`.
    ///
    /// # Errors
    /// EACCES where the setting `net.ipv4.ping_group_range`, which is for IPv6 too, does not let this user's groups.
    pub fn open(local: IpAddr) -> io::Result<Self> {
        let (domain, protocol) = match local {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol))?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        Ok(Self { socket, v4: local.is_ipv4() })
    }

    /// Asks `host`; `sequence` tells the answer.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn ask(&self, host: IpAddr, sequence: u16) -> io::Result<()> {
        let [high, low] = sequence.to_be_bytes();
        // The kernel fills in identifier and checksum.
        let echo = [if self.v4 { 8 } else { 128 }, 0, 0, 0, 0, 0, high, low];
        self.socket.send_to(&echo, &SocketAddr::new(host, 0).into()).map(drop)
    }

    /// An answer, and to which question; `None` where there is none.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn answer(&self) -> io::Result<Option<(IpAddr, u16)>> {
        let mut bytes = [MaybeUninit::<u8>::uninit(); 8];
        let (len, from) = match uninterrupted(|| self.socket.recv_from(&mut bytes)) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if len < bytes.len() {
            return Ok(None);
        }
        // SAFETY: the kernel wrote `len` bytes, which is all of them.
        let bytes = bytes.map(|byte| unsafe { byte.assume_init() });
        let from = from.as_socket().map(|from| from.ip().to_canonical());
        Ok(from.filter(|_| [0, 129].contains(&bytes[0])).map(|from| (from, u16::from_be_bytes([bytes[6], bytes[7]]))))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::syscall::wait_readable;

    fn complaint(socket: &ProbeSocket) -> Complaint {
        for _ in 0..500 {
            if let Some(complaint) = socket.complaint().unwrap() {
                return complaint;
            }
            let _ = wait_readable(&socket.socket, Duration::from_millis(10));
        }
        panic!("nothing was said");
    }

    #[test]
    fn a_port_where_nobody_listens_says_so() {
        for local in ["127.0.0.1", "::1"] {
            let local: IpAddr = local.parse().unwrap();
            let closed = UdpSocket::bind((local, 0)).unwrap().local_addr().unwrap();
            let socket = ProbeSocket::open((local, 0).into()).unwrap();
            assert_eq!(socket.complaint().unwrap(), None);
            socket.send(closed, b"anybody there?").unwrap();
            assert_eq!(complaint(&socket), Complaint { to: closed, by: Some(local), what: Trouble::PortUnreachable });
            assert_eq!(socket.complaint().unwrap(), None);
            // It was read: the next datagram leaves.
            let open = UdpSocket::bind((local, 0)).unwrap();
            socket.send(open.local_addr().unwrap(), b"you?").unwrap();
            assert_eq!(open.recv_from(&mut [0; 9]).unwrap(), (4, socket.local_addr()));
        }
    }

    #[test]
    fn an_answer_to_its_port_is_not_received() {
        let socket = ProbeSocket::open(([127, 0, 0, 1], 0).into()).unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"x", socket.local_addr()).unwrap();
        assert!(!wait_readable(&socket.socket, Duration::from_millis(50)).unwrap());
    }
}
