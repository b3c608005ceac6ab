//! What is plugged into a switch: a smoltcp host with one TCP connection, or an ear that hears and says frames.

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use vswitch_core::{Instant, MacAddr};

const TCP_PORT: u16 = 5001;
const BUFFER: usize = 64 * 1024;

pub struct Host {
    pub mac: MacAddr,
    /// Every frame that arrived.
    pub heard: Vec<Vec<u8>>,
    wire: Wire,
    stack: Option<Stack>,
}

struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    task: Task,
}

/// What a host does with its connection. Neither side closes it: smoltcp 0.14 was seen to leave a lost FIN unrepeated.
enum Task {
    Send { data: Vec<u8>, sent: usize },
    Receive { data: Vec<u8> },
}

impl Host {
    /// A station without a stack, 02:00:00:00:00:`n`.
    pub fn ear(n: u8) -> Self {
        Self { mac: MacAddr([2, 0, 0, 0, 0, n]), heard: Vec::new(), wire: Wire::default(), stack: None }
    }

    /// The host 10.0.0.`n`, which sends `data` to 10.0.0.`to`.
    pub fn sender(n: u8, to: u8, data: Vec<u8>, seed: u64) -> Self {
        Self::sender_at(n, [v4(n), v4(to)], data, seed)
    }

    /// The host `ends[0]` with the MAC address of number `n`, which sends `data` to `ends[1]`.
    pub fn sender_at(n: u8, ends: [IpAddress; 2], data: Vec<u8>, seed: u64) -> Self {
        Self::with_task(n, ends[0], seed, Task::Send { data, sent: 0 }, |interface, socket| {
            socket.connect(interface.context(), (ends[1], TCP_PORT), 49_152).unwrap();
        })
    }

    /// The host 10.0.0.`n`, which takes what comes.
    pub fn receiver(n: u8, seed: u64) -> Self {
        Self::receiver_at(n, v4(n), seed)
    }

    /// The host `at` with the MAC address of number `n`, which takes what comes.
    pub fn receiver_at(n: u8, at: IpAddress, seed: u64) -> Self {
        let task = Task::Receive { data: Vec::new() };
        Self::with_task(n, at, seed, task, |_, socket| socket.listen(TCP_PORT).unwrap())
    }

    fn with_task(
        n: u8,
        at: IpAddress,
        seed: u64,
        task: Task,
        open: impl FnOnce(&mut Interface, &mut tcp::Socket<'static>),
    ) -> Self {
        let mut host = Self::ear(n);
        let mut config = Config::new(EthernetAddress(host.mac.0).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut host.wire, StackInstant::ZERO);
        let subnet = if matches!(at, IpAddress::Ipv4(_)) { 24 } else { 64 };
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(at, subnet)).unwrap());
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        open(&mut interface, &mut socket);
        let mut sockets = SocketSet::new(Vec::new());
        let tcp = sockets.add(socket);
        host.stack = Some(Stack { interface, sockets, tcp, task });
        host
    }

    /// Queues a frame to `to`.
    pub fn say(&mut self, to: MacAddr) {
        let mut bytes = [to.0, self.mac.0].concat();
        bytes.extend([0x88, 0xb5]); // for local experiments
        bytes.extend([0x5a; 46]);
        self.wire.outgoing.push_back(bytes);
    }

    /// The bytes received.
    pub fn received(&self) -> &[u8] {
        match self.stack.as_ref().map(|stack| &stack.task) {
            Some(Task::Receive { data }) => data,
            _ => &[],
        }
    }

    pub fn hear(&mut self, now: Instant, bytes: Vec<u8>) {
        self.heard.push(bytes.clone());
        if self.stack.is_some() {
            self.wire.incoming.push_back(bytes);
            self.poll(now);
        }
    }

    pub fn take_outgoing(&mut self) -> Option<Vec<u8>> {
        self.wire.outgoing.pop_front()
    }

    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let stack = self.stack.as_mut()?;
        let deadline = stack.interface.poll_at(stack_time(now), &stack.sockets)?;
        Some(Instant::from_nanos(u64::try_from(deadline.total_micros()).unwrap() * 1000))
    }

    pub fn poll(&mut self, now: Instant) {
        let Some(stack) = &mut self.stack else { return };
        loop {
            stack.interface.poll(stack_time(now), &mut self.wire, &mut stack.sockets);
            let socket = stack.sockets.get_mut::<tcp::Socket<'_>>(stack.tcp);
            if !stack.task.proceed(socket) {
                return;
            }
        }
    }
}

impl Task {
    /// Moves what the socket takes or has; returns whether that was anything.
    fn proceed(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        match self {
            Self::Send { data, sent } => {
                let moved = if socket.can_send() { socket.send_slice(&data[*sent..]).unwrap() } else { 0 };
                *sent += moved;
                moved > 0
            }
            Self::Receive { data } => {
                let take = |bytes: &mut [u8]| {
                    data.extend_from_slice(bytes);
                    (bytes.len(), bytes.len())
                };
                socket.can_recv() && socket.recv(take).unwrap() > 0
            }
        }
    }
}

/// 10.0.0.`n`.
pub fn v4(n: u8) -> IpAddress {
    IpAddress::v4(10, 0, 0, n)
}

/// fd00::`n`.
pub fn v6(n: u8) -> IpAddress {
    IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, n.into())
}

fn stack_time(now: Instant) -> StackInstant {
    StackInstant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap())
}

/// The host's side of its link.
#[derive(Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct Incoming(Vec<u8>);

struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Incoming, Outgoing<'_>)> {
        let bytes = self.incoming.pop_front()?;
        Some((Incoming(bytes), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}
