//! The tunnel's sockets: one to receive on the VXLAN port, and a lane for each source port to send from.
//!
//! A pool of bound sockets is the cheap way to many source ports: only a socket's own port goes with `UDP_SEGMENT`.

use std::hash::BuildHasher;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use foldhash::fast::FixedState;
use thiserror::Error;
use vswitch_core::Frame;
use vswitch_sys::udp::{self, Inbox, UdpEndpoint, UdpError, UdpOptions};

use crate::encap::{Piece, Train, Trains};

/// Source ports, by RFC 6335 free for any use (RFC 7348 section 5).
const FIRST_PORT: u16 = 49_152;
const PORTS: u16 = 16_384;

/// How a tunnel is set up.
#[derive(Clone, Copy, Debug)]
pub struct TunnelOptions {
    /// The VTEP's own address.
    pub local: IpAddr,
    /// The UDP port of VXLAN: 4789 (IANA).
    pub port: u16,
    /// Source ports to spread flows over, at least one.
    pub lanes: usize,
    /// Let other sockets of this user share the ports: one tunnel for each worker, which all send from the same ones, so
    /// that a flow keeps its source port whoever sends it.
    pub reuse_port: bool,
    /// Bytes of the receive queue.
    pub receive_buffer: Option<usize>,
    /// Bytes of each lane's send queue.
    pub send_buffer: Option<usize>,
}

/// Why a tunnel could not be opened.
#[derive(Debug, Error)]
pub enum TunnelError {
    /// The receive port.
    #[error("cannot receive VXLAN: {0}")]
    Receive(#[source] UdpError),
    /// A source port.
    #[error("cannot send VXLAN: {0}")]
    Lane(#[source] UdpError),
    /// A descriptor leads to something else.
    #[error("what was handed over are no sockets of a VTEP: {0}")]
    NotOurs(#[source] io::Error),
    /// All source ports are taken.
    #[error("only {found} of {wanted} source ports in 49152-65535 are free on {local}: ask for fewer lanes")]
    Ports {
        /// Lanes asked for.
        wanted: usize,
        /// Ports found.
        found: usize,
        /// The address.
        local: IpAddr,
    },
}

impl TunnelError {
    /// Whether somebody else has the port.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::Receive(UdpError::InUse(_)))
    }
}

vswitch_core::drop_reasons! {
    /// Why datagrams did not leave.
    pub enum SendDrop {
        /// The underlay's path to the remote carries less than its device: the kernel knows a smaller MTU.
        PathMtu => "path_mtu",
            "Senders are told by ICMP and adapt. To end it, raise the MTU of the narrow hop, or give the ports a \
             smaller one: `vsctl port set NAME --mtu N`.",
        /// The underlay's queue is full.
        QueueFull => "underlay_queue_full",
            "The underlay's interface is slower than what is sent: limit ports (`vsctl port set NAME --rx-limit \
             RATE`), or look at its queue with `tc -s qdisc`.",
        /// There is no route to the remote, or its network does not answer.
        Unreachable => "underlay_unreachable",
            "Look at the route and the neighbour: `ip route get PEER`, `ping PEER`; a peer that no longer exists is \
             deleted by `vsctl vtep peer del IP`.",
        /// The kernel refused for another reason.
        Refused => "underlay_refused",
            "Look at the host's firewall (OUTPUT, UDP 4789) and at the daemon's log.",
    }
}

/// A frame of which a part did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its place in the batch.
    pub frame: usize,
    /// Where it was to go.
    pub to: SocketAddr,
    /// Why it did not.
    pub why: SendDrop,
}

/// A VTEP's sockets.
#[derive(Debug)]
pub struct Tunnel {
    receive: UdpEndpoint,
    lanes: Vec<UdpEndpoint>,
    /// Whether trains leave whole.
    trains: bool,
    // Empty between flushes: their memory is kept.
    slices: Vec<IoSlice<'static>>,
    ends: Vec<usize>,
    batch: Vec<udp::Train<'static>>,
}

impl Tunnel {
    /// Opens the sockets in the calling thread's network namespace.
    ///
    /// # Errors
    /// The address is not on this host, or a port is taken.
    pub fn open(options: &TunnelOptions) -> Result<Self, TunnelError> {
        let receive = UdpOptions {
            reuse_port: options.reuse_port,
            gro: true,
            send_only: false,
            receive_buffer: options.receive_buffer,
            send_buffer: None,
        };
        let local = SocketAddr::new(options.local, options.port);
        let receive = UdpEndpoint::open(local, &receive).map_err(TunnelError::Receive)?;
        Ok(Self::new(receive, open_lanes(options)?))
    }

    /// Takes over sockets that [`Self::open`] made, maybe in another process.
    ///
    /// # Errors
    /// What are no such sockets: their addresses differ, or there is no lane.
    pub fn adopt(receive: OwnedFd, lanes: Vec<OwnedFd>) -> Result<Self, TunnelError> {
        let receive = UdpEndpoint::adopt(receive).map_err(TunnelError::NotOurs)?;
        let mut lanes =
            lanes.into_iter().map(UdpEndpoint::adopt).collect::<io::Result<Vec<_>>>().map_err(TunnelError::NotOurs)?;
        let local = receive.local_addr().ip();
        if lanes.is_empty() || lanes.iter().any(|lane| lane.local_addr().ip() != local) {
            return Err(TunnelError::NotOurs(io::Error::other(format!("not the source ports of {local}"))));
        }
        in_order(&mut lanes);
        Ok(Self::new(receive, lanes))
    }

    fn new(receive: UdpEndpoint, lanes: Vec<UdpEndpoint>) -> Self {
        Self { receive, lanes, trains: udp::probe_gso(), slices: Vec::new(), ends: Vec::new(), batch: Vec::new() }
    }

    /// Other descriptors of what [`Self::adopt`] takes.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn try_clone(&self) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
        Ok((self.receive.try_clone()?, self.lanes.iter().map(UdpEndpoint::try_clone).collect::<io::Result<_>>()?))
    }

    /// The receive socket, to wait on.
    #[must_use]
    pub const fn endpoint(&self) -> &UdpEndpoint {
        &self.receive
    }

    /// How many lanes there are: as many as its [`Trains`] need.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The source port of each lane.
    pub fn lane_ports(&self) -> impl Iterator<Item = u16> {
        self.lanes.iter().map(|lane| lane.local_addr().port())
    }

    /// Receives what is there; returns how many slots of `inbox` were filled.
    ///
    /// # Errors
    /// What the kernel answers, but for "nothing is there".
    pub fn recv(&mut self, inbox: &mut Inbox) -> io::Result<usize> {
        self.receive.recv(inbox)
    }

    /// Sends one datagram to the VXLAN port of another VTEP, by the first lane.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn send(&mut self, to: IpAddr, datagram: &[u8]) -> io::Result<()> {
        let to = SocketAddr::new(to, self.receive.local_addr().port());
        let slices = [IoSlice::new(datagram)];
        let Some(lane) = self.lanes.first_mut() else { return Ok(()) };
        let udp::Sent { error, .. } = lane.send(&[udp::Train { to, tos: 0, segment: None, slices: &slices }]);
        error.map_or(Ok(()), Err)
    }

    /// Sends `trains`, whose payload lies in `frames`, and clears them. `failures` gets every frame of which a part did
    /// not leave, once for each remote.
    ///
    /// Returns whether the underlay's device has just refused trains, since it cannot checksum: datagrams leave one by
    /// one from now on. Said once.
    pub fn flush(&mut self, trains: &mut Trains, frames: &[Frame], failures: &mut Vec<Failure>) -> bool {
        let mut trains_refused = false;
        for (lane, endpoint) in self.lanes.iter_mut().enumerate() {
            let mut waiting = trains.lane(lane);
            while !waiting.is_empty() {
                let buffers = (&mut self.slices, &mut self.ends, &mut self.batch);
                let left = if self.trains {
                    let whole = waiting.iter().map(|train| (train, trains.pieces(lane, train), train.count));
                    send(endpoint, buffers, trains, frames, whole, failures)
                } else {
                    let single = waiting.iter().flat_map(|train| {
                        let pieces = trains.pieces(lane, train);
                        // Every datagram begins with the one head it has.
                        pieces.chunk_by(|_, next| !matches!(next, Piece::Head { .. })).map(move |one| (train, one, 1))
                    });
                    send(endpoint, buffers, trains, frames, single, failures)
                };
                // Trains are refused for good: what is left goes one by one.
                if left > 0 {
                    self.trains = false;
                    trains_refused = true;
                }
                waiting = &waiting[waiting.len() - left..];
            }
        }
        trains.clear();
        trains_refused
    }
}

/// Sends what `list` names; returns how many at its end are left because the device takes no trains.
fn send<'a>(
    endpoint: &mut UdpEndpoint,
    (slices, ends, batch): (&mut Vec<IoSlice<'static>>, &mut Vec<usize>, &mut Vec<udp::Train<'static>>),
    trains: &'a Trains,
    frames: &'a [Frame],
    list: impl Iterator<Item = (&'a Train, &'a [Piece], usize)> + Clone,
    failures: &mut Vec<Failure>,
) -> usize {
    let mut bytes = recycle(std::mem::take(slices));
    ends.clear();
    for (_, pieces, _) in list.clone() {
        bytes.extend(pieces.iter().map(|&piece| trains.resolve(piece, frames)));
        ends.push(bytes.len());
    }
    let mut messages = recycle(std::mem::take(batch));
    let mut from = 0;
    for ((train, _, count), &end) in list.clone().zip(ends.iter()) {
        let segment = train.segment().filter(|_| count > 1);
        messages.push(udp::Train { to: train.to, tos: train.tos, segment, slices: &bytes[from..end] });
        from = end;
    }

    let mut rest = list;
    let mut next = 0;
    let mut left = 0;
    while next < messages.len() {
        let udp::Sent { sent, error } = endpoint.send(&messages[next..]);
        rest.by_ref().take(sent).for_each(drop);
        next += sent;
        let Some(error) = error else { break };
        let is_train = messages.get(next).is_some_and(|message| message.segment.is_some());
        if udp::is_gso_refused(&error) && is_train {
            left = messages.len() - next;
            break;
        }
        let why = reason(&error, is_train);
        // A full queue is full for what follows too.
        let lost = if why == SendDrop::QueueFull { messages.len() - next } else { 1 };
        for (train, pieces, _) in rest.by_ref().take(lost) {
            report(train.to, why, pieces, failures);
        }
        next += lost;
    }
    *batch = recycle(messages);
    *slices = recycle(bytes);
    left
}

/// Names every frame of a train once.
fn report(to: SocketAddr, why: SendDrop, pieces: &[Piece], failures: &mut Vec<Failure>) {
    for piece in pieces {
        if let &Piece::Head { frame, .. } = piece
            && !failures.iter().rev().any(|known| (known.frame, known.to) == (frame, to))
        {
            failures.push(Failure { frame, to, why });
        }
    }
}

fn reason(error: &io::Error, is_train: bool) -> SendDrop {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => SendDrop::PathMtu,
        // A segment size above the path's MTU (udp_send_skb).
        Some(libc::EINVAL) if is_train => SendDrop::PathMtu,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => SendDrop::QueueFull,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::ECONNREFUSED) => SendDrop::Unreachable,
        _ => SendDrop::Refused,
    }
}

/// An empty vector with the memory of `used`, for values with another lifetime: collecting in place keeps it.
fn recycle<A, B>(mut used: Vec<A>) -> Vec<B> {
    used.clear();
    used.into_iter().filter_map(|_| None).collect()
}

/// By port: a flow keeps its source port whoever opened the sockets, and in whatever order they are handed on.
fn in_order(lanes: &mut [UdpEndpoint]) {
    lanes.sort_by_key(|lane| lane.local_addr().port());
}

fn open_lanes(options: &TunnelOptions) -> Result<Vec<UdpEndpoint>, TunnelError> {
    let TunnelOptions { reuse_port, send_buffer, .. } = *options;
    let setup = UdpOptions { send_only: true, reuse_port, send_buffer, ..UdpOptions::default() };
    let wanted = options.lanes.clamp(1, usize::from(PORTS));
    let mut lanes = Vec::with_capacity(wanted);
    // Spread over the range, from a place that depends on the address; an odd step meets every port once.
    let first = FixedState::with_seed(0).hash_one(options.local) % u64::from(PORTS);
    for turn in 0..u64::from(PORTS) {
        let place = (first + turn * 0x1f35) % u64::from(PORTS);
        let port = FIRST_PORT + u16::try_from(place).unwrap_or(0);
        match UdpEndpoint::open(SocketAddr::new(options.local, port), &setup) {
            Ok(lane) => lanes.push(lane),
            Err(UdpError::InUse(_)) => continue,
            Err(error) => return Err(TunnelError::Lane(error)),
        }
        if lanes.len() == wanted {
            in_order(&mut lanes);
            return Ok(lanes);
        }
    }
    Err(TunnelError::Ports { wanted, found: lanes.len(), local: options.local })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Build;
    use crate::{Vni, encode};
    use std::net::UdpSocket;
    use std::time::Duration;

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn open(lanes: usize) -> Tunnel {
        let options = TunnelOptions {
            local: LOCALHOST,
            port: 0,
            lanes,
            reuse_port: false,
            receive_buffer: None,
            send_buffer: None,
        };
        Tunnel::open(&options).unwrap()
    }

    #[test]
    fn recycling_keeps_the_memory() {
        let mut slices: Vec<IoSlice<'static>> = Vec::with_capacity(100);
        let at = slices.as_ptr().addr();
        for _ in 0..3 {
            let bytes = [1, 2, 3];
            let mut used: Vec<IoSlice<'_>> = recycle(std::mem::take(&mut slices));
            assert_eq!((used.capacity(), used.as_ptr().addr()), (100, at));
            used.push(IoSlice::new(&bytes));
            slices = recycle(used);
        }
    }

    #[test]
    fn lanes_have_ports_of_their_own() {
        let (one, other) = (open(8), open(8));
        let ports = |tunnel: &Tunnel| tunnel.lanes.iter().map(|lane| lane.local_addr().port()).collect::<Vec<_>>();
        let mut all = [ports(&one), ports(&other)].concat();
        assert!(all.iter().all(|&port| port >= FIRST_PORT), "{all:?}");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 16);
    }

    #[test]
    fn sockets_go_on_in_other_hands() {
        let tunnel = open(5);
        let ports: Vec<_> = tunnel.lane_ports().collect();
        assert!(ports.is_sorted());
        let (receive, mut lanes) = tunnel.try_clone().unwrap();
        lanes.rotate_left(2); // a lane is the same whatever the order they come in
        let again = Tunnel::adopt(receive, lanes).unwrap();
        assert_eq!(again.lane_ports().collect::<Vec<_>>(), ports);
        assert_eq!(again.endpoint().local_addr(), tunnel.endpoint().local_addr());

        let (receive, _) = tunnel.try_clone().unwrap();
        assert!(Tunnel::adopt(receive, Vec::new()).is_err(), "no lanes");
        let (receive, mut lanes) = tunnel.try_clone().unwrap();
        lanes.push(UdpSocket::bind("[::1]:0").unwrap().into());
        assert!(Tunnel::adopt(receive, lanes).is_err(), "a lane at another address");
        let (_, lanes) = tunnel.try_clone().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Tunnel::adopt(file.into(), lanes).is_err(), "a file");
    }

    #[test]
    fn whole_and_one_by_one_the_same_datagrams_arrive() {
        let receiver = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let to = receiver.local_addr().unwrap();
        let build = Build::tcp4().payload(&[9; 10_000]);
        let frames = [build.frame(Some(1000)), Frame::from_bytes(&Build::udp4().payload(b"small").bytes())];
        let vni = Vni::new(7).unwrap();
        let mut expected: Vec<Vec<u8>> = build.cut(1000);
        expected.push(frames[1].bytes().to_vec());
        let mut expected: Vec<_> = expected.into_iter().map(|frame| [&encode(vni)[..], &frame].concat()).collect();
        expected.sort();

        let (mut tunnel, mut trains) = (open(4), Trains::new(4, false));
        for whole in [true, false] {
            tunnel.trains = whole;
            for (index, frame) in frames.iter().enumerate() {
                trains.push(index, frame, vni, to, 1500).unwrap();
            }
            assert_eq!(trains.waiting(), 11);
            let mut failures = Vec::new();
            assert!(!tunnel.flush(&mut trains, &frames, &mut failures));
            assert_eq!(failures, []);
            assert_eq!(trains.waiting(), 0);
            let mut buffer = [0; 2000];
            let mut received: Vec<_> = (0..11)
                .map(|_| {
                    let (len, from) = receiver.recv_from(&mut buffer).unwrap();
                    assert!(from.port() >= FIRST_PORT);
                    buffer[..len].to_vec()
                })
                .collect();
            received.sort();
            assert_eq!(received, expected);
        }
    }

    #[test]
    fn a_failure_names_its_frames_and_spares_the_rest() {
        let receiver = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        let to = receiver.local_addr().unwrap();
        let small = |port| Frame::from_bytes(&Build::udp4().ports(port, 1).payload(b"small").bytes());
        // A UDP datagram of that size does not exist.
        let frames = [small(1), Frame::from_bytes(&vec![0; 65_520]), small(2)];
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (mut tunnel, mut trains) = (open(1), Trains::new(1, false));
        for (index, frame) in frames.iter().enumerate() {
            trains.push(index, frame, Vni::new(7).unwrap(), to, 1 << 20).unwrap();
        }
        let mut failures = Vec::new();
        tunnel.flush(&mut trains, &frames, &mut failures);
        assert_eq!(failures, [Failure { frame: 1, to, why: SendDrop::PathMtu }]);
        for _ in 0..2 {
            receiver.recv(&mut [0; 2000]).unwrap();
        }
    }

    #[test]
    fn reasons_of_the_kernel() {
        let table = [
            (libc::EMSGSIZE, false, SendDrop::PathMtu),
            (libc::EINVAL, true, SendDrop::PathMtu),
            (libc::EINVAL, false, SendDrop::Refused), // an address that cannot be sent to
            (libc::EAGAIN, true, SendDrop::QueueFull),
            (libc::ENOBUFS, false, SendDrop::QueueFull),
            (libc::ENETUNREACH, false, SendDrop::Unreachable),
            (libc::EHOSTUNREACH, false, SendDrop::Unreachable),
            (libc::EPERM, false, SendDrop::Refused),
        ];
        for (errno, is_train, expected) in table {
            assert_eq!(reason(&io::Error::from_raw_os_error(errno), is_train), expected);
        }
    }
}
