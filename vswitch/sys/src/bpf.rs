//! Small programs the kernel runs on packets: assembled here, attached by tcx links (Linux 6.6), which end with their
//! descriptors. Nothing is pinned, so nothing outlives the process, however it ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::syscall::{check, socklen};

/// Commands of bpf(2) and the constants they take (`linux/bpf.h`).
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
/// Helper functions.
const REDIRECT: i32 = 23;
const REDIRECT_NEIGH: i32 = 152;
/// `TCX_NEXT`: the packet goes on as if there were no program.
const GO_ON: i32 = -1;
/// Where `struct __sk_buff` says how long the packet is, and whether a VLAN tag was taken off it.
const LEN: i16 = 0;
const VLAN_PRESENT: i16 = 20;

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The kernel did not take the program.
    #[error(
        "the kernel refuses a program of {instructions} instructions: {source}; it takes CAP_BPF and CAP_NET_ADMIN"
    )]
    Load {
        /// How long it is.
        instructions: usize,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The program could not be attached.
    #[error("cannot attach a program to interface {index}: {source}; it takes Linux 6.6 and CAP_NET_ADMIN")]
    Attach {
        /// The interface.
        index: u32,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// A program at work on what an interface receives; dropping it takes it away.
#[derive(Debug)]
pub struct Ingress {
    link: OwnedFd,
}

impl Ingress {
    /// Sends UDP datagrams to `local` that interface `from` receives out of interface `to` instead of up the stack.
    /// Fragments, tagged packets and those with IP options go on as before.
    ///
    /// # Errors
    /// No privilege, or a kernel before 6.6.
    pub fn divert(from: u32, local: SocketAddr, to: u32) -> Result<Self, BpfError> {
        Self::attach(from, &divert(local, to))
    }

    /// Sends all that interface `from` receives to the next hop of its IP header, out of interface `to`: the kernel looks
    /// up route and neighbour and writes the Ethernet header. What has no next hop there is dropped.
    ///
    /// # Errors
    /// No privilege, or a kernel before 6.6.
    pub fn forward(from: u32, to: u32) -> Result<Self, BpfError> {
        let to = to.cast_signed();
        let program = [set(1, to), set(2, 0), set(3, 0), set(4, 0), call(REDIRECT_NEIGH), EXIT];
        Self::attach(from, &program)
    }

    /// Takes over a program at work, maybe started by another process, on what interface `index` receives.
    ///
    /// # Errors
    /// What is not the link of such a program, or its interface is gone.
    pub fn adopt(link: OwnedFd, index: u32) -> io::Result<Self> {
        const TCX: u32 = 11;
        // `struct bpf_link_info` of a tcx link: type, id, program, padding, interface, where.
        let [kind, _, _, _, on, at, ..] = link_info(&link)?;
        if (kind, on, at) != (TCX, index, BPF_TCX_INGRESS) {
            return Err(io::Error::other(format!("not a program on what interface {index} receives")));
        }
        Ok(Self { link })
    }

    /// Another descriptor of the same link.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.link.try_clone()
    }

    fn attach(index: u32, program: &[Instruction]) -> Result<Self, BpfError> {
        let program = load(program).map_err(|source| BpfError::Load { instructions: program.len(), source })?;
        let attributes =
            LinkAttributes { program: program.as_raw_fd().cast_unsigned(), index, at: BPF_TCX_INGRESS, flags: 0 };
        // SAFETY: BPF_LINK_CREATE reads `LinkAttributes` as the first fields of its attributes and takes those behind
        // the given size for zero.
        let link = unsafe { bpf(BPF_LINK_CREATE, &attributes) };
        Ok(Self { link: link.map_err(|source| BpfError::Attach { index, source })? })
    }
}

/// One instruction (RFC 9669 3).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };

/// `register = value`, extended by its sign.
const fn set(register: u8, value: i32) -> Instruction {
    Instruction { code: 0xb7, registers: register, offset: 0, immediate: value }
}

/// Calls helper `function`.
const fn call(function: i32) -> Instruction {
    Instruction { code: 0x85, registers: 0, offset: 0, immediate: function }
}

/// A look at the packet: where it must hold what for the program to go on.
#[derive(Clone, Copy, Debug)]
enum Test {
    /// The byte, 16 or 32 bits there must be this.
    Is8(i32, u8),
    Is16(i32, u16),
    Is32(i32, u32),
    /// None of these of the 16 bits there may be set.
    None16(i32, u16),
}

impl Test {
    /// Loads what is looked at into register 0 (RFC 9669 5.5, legacy packet access: offsets count from the Ethernet
    /// header, register 6 holds the context, and a packet too short ends the program), and jumps over `skip` instructions where
    /// the test fails.
    fn assemble(self, skip: i16) -> [Instruction; 2] {
        const JUMP_NOT_EQUAL_32: u8 = 0x56;
        const JUMP_ANY_SET: u8 = 0x45;
        let (load, at, jump, value) = match self {
            Self::Is8(at, value) => (0x30, at, JUMP_NOT_EQUAL_32, value.into()),
            Self::Is16(at, value) => (0x28, at, JUMP_NOT_EQUAL_32, value.into()),
            Self::Is32(at, value) => (0x20, at, JUMP_NOT_EQUAL_32, value.cast_signed()),
            Self::None16(at, bits) => (0x28, at, JUMP_ANY_SET, bits.into()),
        };
        [
            Instruction { code: load, registers: 0, offset: 0, immediate: at },
            Instruction { code: jump, registers: 0, offset: skip, immediate: value },
        ]
    }
}

/// The program of [`Ingress::divert`].
fn divert(local: SocketAddr, to: u32) -> Vec<Instruction> {
    const UDP: u8 = 17;
    let port = local.port();
    let tests = match local.ip() {
        IpAddr::V4(ip) => vec![
            Test::Is16(12, 0x0800),
            Test::Is8(14, 0x45), // no options
            Test::Is8(23, UDP),
            Test::None16(20, 0x3fff), // more fragments, or not the first
            Test::Is32(30, ip.to_bits()),
            Test::Is16(36, port),
        ],
        IpAddr::V6(ip) => {
            let words = ip.octets();
            let words = words.chunks_exact(4).map(|word| word.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)));
            let address = (38..).step_by(4).zip(words).map(|(at, word)| Test::Is32(at, word));
            let udp = [Test::Is16(12, 0x86dd), Test::Is8(20, UDP)];
            udp.into_iter().chain(address).chain([Test::Is16(56, port)]).collect()
        }
    };
    let least = match local {
        SocketAddr::V4(_) => 38,
        SocketAddr::V6(_) => 58,
    };
    let redirect = [set(1, to.cast_signed()), set(2, 0), call(REDIRECT), EXIT];
    // From a jump to behind the redirect: two for every test still to come, and the redirect.
    let skip = |left: usize| i16::try_from(left * 2 + redirect.len()).unwrap_or(0);
    // r0 = *(u32 *)(r6 + offset)
    let ask = |offset| Instruction { code: 0x61, registers: 0x60, offset, immediate: 0 };
    let mut program = vec![
        Instruction { code: 0xbf, registers: 0x16, offset: 0, immediate: 0 }, // r6 = r1
        // A stub: no load below may end the program, which would pass by those attached behind it.
        ask(LEN),
        Instruction { code: 0xa5, registers: 0, offset: skip(tests.len() + 1), immediate: least },
        ask(VLAN_PRESENT),
        Instruction { code: 0x55, registers: 0, offset: skip(tests.len()), immediate: 0 },
    ];
    for (done, test) in tests.iter().enumerate() {
        program.extend(test.assemble(skip(tests.len() - done - 1)));
    }
    program.extend(redirect);
    program.extend([set(0, GO_ON), EXIT]);
    program
}

/// The start of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
}

/// The start of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    index: u32,
    at: u32,
    flags: u32,
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instructions: u32::try_from(program.len()).unwrap_or(u32::MAX),
        program: program.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0 OR MIT".as_ptr().expose_provenance() as u64,
    };
    // SAFETY: BPF_PROG_LOAD reads `LoadAttributes` as the first fields of its attributes and takes those behind the
    // given size for zero. They point to as many instructions of 8 bytes as they say, and to a text with an end mark;
    // both outlive the call, and both are only read.
    unsafe { bpf(BPF_PROG_LOAD, &attributes) }
}

/// The start of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct InfoAttributes {
    object: u32,
    len: u32,
    info: u64,
}

/// What the kernel tells of `link`, as far as it has something to tell.
fn link_info(link: &OwnedFd) -> io::Result<[u32; 16]> {
    let mut info = [0; 16];
    let attributes = InfoAttributes {
        object: link.as_raw_fd().cast_unsigned(),
        len: socklen::<[u32; 16]>(),
        info: info.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: BPF_OBJ_GET_INFO_BY_FD reads `InfoAttributes` as the first fields of its attributes and takes those behind
    // the given size for zero. It writes at most `len` bytes to `info`, which are all integers, whatever the descriptor is.
    check(unsafe {
        let size = size_of::<InfoAttributes>();
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const attributes, size).try_into().unwrap_or(-1)
    })?;
    Ok(info)
}

/// Calls bpf(2) for a command that answers with a descriptor.
///
/// # Safety
/// `T` must be how the attributes of `command` begin, without padding, and what it points to must be valid for what the
/// command does with it.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads size_of::<T>() bytes of `attributes`, which is borrowed for the call; the rest is the caller's word.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = check(libc::c_int::try_from(fd).unwrap_or(-1))?;
    // SAFETY: the kernel has just made this descriptor, close-on-exec as all of bpf(2)'s, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs what `divert` assembles, far enough to tell whether a packet is taken.
    fn takes(program: &[Instruction], packet: &[u8]) -> bool {
        let (mut at, mut r0) = (1, 0_u32);
        loop {
            let Instruction { code, offset, immediate, .. } = program[at];
            let from = usize::try_from(immediate).unwrap_or(0);
            let load =
                |len: usize| packet.get(from..from + len).map(|b| b.iter().fold(0, |n, &b| n << 8 | u32::from(b)));
            let jump = match code {
                0x30 | 0x28 | 0x20 => {
                    let len = match code {
                        0x30 => 1,
                        0x28 => 2,
                        _ => 4,
                    };
                    r0 = load(len).expect("a load behind the end");
                    false
                }
                0x61 => {
                    let is_len = offset == LEN;
                    r0 = if is_len { u32::try_from(packet.len()).unwrap() } else { 0 }; // no tag was taken off
                    false
                }
                0xa5 => r0 < immediate.cast_unsigned(),
                0x55 | 0x56 => r0 != immediate.cast_unsigned(),
                0x45 => r0 & immediate.cast_unsigned() != 0,
                0x85 => return true,
                0x95 => return false,
                _ => false,
            };
            at += 1 + if jump { usize::try_from(offset).unwrap() } else { 0 };
        }
    }

    #[test]
    fn only_whole_datagrams_to_the_port_are_diverted() {
        let v4 = divert("192.0.2.1:4789".parse().unwrap(), 7);
        let mut good = vec![0; 60];
        good[12..15].copy_from_slice(&[0x08, 0, 0x45]);
        good[20] = 0x40; // don't fragment
        good[23] = 17;
        good[30..34].copy_from_slice(&[192, 0, 2, 1]);
        good[36..38].copy_from_slice(&4789_u16.to_be_bytes());
        assert!(takes(&v4, &good));
        for (what, at, value) in [
            ("IPv6", 12, 0x86),
            ("options", 14, 0x46),
            ("more fragments", 20, 0x20),
            ("a later fragment", 21, 1),
            ("TCP", 23, 6),
            ("another address", 33, 2),
            ("another port", 37, 0),
        ] {
            let mut other = good.clone();
            other[at] = value;
            assert!(!takes(&v4, &other), "{what}");
        }
        assert!(!takes(&v4, &good[..37]), "a stub");

        let v6 = divert("[2001:db8::1]:4789".parse().unwrap(), 7);
        let mut good = vec![0; 80];
        good[12..14].copy_from_slice(&[0x86, 0xdd]);
        good[20] = 17;
        good[38..42].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        good[53] = 1;
        good[56..58].copy_from_slice(&4789_u16.to_be_bytes());
        assert!(takes(&v6, &good));
        for at in [12, 20, 38, 45, 53, 56] {
            let mut other = good.clone();
            other[at] ^= 1;
            assert!(!takes(&v6, &other), "{at}");
        }
    }
}
