//! Which addresses a port may send from. What ARP, IPv4, IPv6 and neighbour discovery say of their sender counts as much as
//! the Ethernet source: all of them teach other hosts, or the switch, where somebody is.
//!
//! Nothing is let by for being odd. Where the port's IP addresses are guarded, a frame that might be IP and cannot be read
//! to where its sender stands is dropped: a second tag, IP in SNAP, a header cut short, an endless chain of extensions.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::port::PortId;
use crate::addr::MacAddr;
use crate::prefix::Prefix;
use crate::wire::ethernet::{Ethernet, HEADER_LEN};
use crate::wire::ipv6::Payload;
use crate::wire::neighbour::Message;
use crate::wire::vlan::TAG_LEN;
use crate::wire::{arp, ipv4, ipv6};

crate::drop_reasons! {
    /// Why a source is not believed.
    pub enum GuardDrop {
        /// The frame says it is from a MAC address that its port may not use: as its Ethernet source, in ARP or in IPv6
        /// neighbour discovery. Or the address is one that another port alone may use.
        SpoofedMac => "spoofed_mac",
            "Allow the address if it is meant (`vsctl port set NAME --allow-mac MAC...`): a bridge, macvlan or a \
             changed MAC in the container. Else somebody forges.",
        /// The frame says it is from an IP address that its port may not use, by IP, ARP or IPv6 neighbour discovery, or it
        /// could not be told which, or it says that its sender is a router.
        SpoofedIp => "spoofed_ip",
            "Allow the address if it is meant (`vsctl port set NAME --allow-ip CIDR...`): a router or a second \
             address in the container. Else somebody forges.",
    }
}

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const RARP: [u8; 2] = [0x80, 0x35];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Tags: 802.1Q, 802.1ad, and what came before that.
const TAGS: [[u8; 2]; 4] = [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00], [0x92, 0x00]];
/// Below it an EtherType is a length (IEEE 802.3-2022 3.2.6).
const LEAST_ETHERTYPE: u16 = 0x0600;
/// The head of a SNAP header (RFC 1042); an organisation of three octets and an EtherType follow.
const SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];

/// The addresses a port may send from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Guard {
    /// `None` allows all.
    macs: Option<Box<[MacAddr]>>,
    /// `None` allows all.
    prefixes: Option<Box<[Prefix]>>,
}

impl Guard {
    /// Allows `macs`, and IP addresses in `prefixes`; `None` allows all of them.
    ///
    /// With `prefixes`, allowed as well are the link-local addresses that hosts make of `macs`. So is who has no address
    /// yet: the unspecified address in DHCP, IGMP, ARP probes, duplicate address detection, router solicitation and MLD.
    /// Only who may send from all of IPv6 (`::/0`) may advertise itself as a router, since a router sends what others sent.
    #[must_use]
    pub fn new(macs: Option<Vec<MacAddr>>, prefixes: Option<Vec<Prefix>>) -> Self {
        let own = macs.iter().flatten().map(|&mac| Prefix::link_local(mac));
        let prefixes = prefixes.map(|prefixes| prefixes.into_iter().chain(own).collect());
        Self { macs: macs.map(Vec::into_boxed_slice), prefixes }
    }

    /// Whether everything is allowed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.macs.is_none() && self.prefixes.is_none()
    }

    /// The MAC addresses that live on this port, and nowhere else.
    pub(super) fn residents(&self) -> &[MacAddr] {
        self.macs.as_deref().unwrap_or_default()
    }

    pub(super) fn allows_mac(&self, mac: MacAddr) -> bool {
        self.macs.as_ref().is_none_or(|macs| macs.contains(&mac))
    }

    fn allows_v4(&self, ip: Ipv4Addr) -> bool {
        self.prefixes.as_ref().is_none_or(|prefixes| prefixes.iter().any(|prefix| prefix.contains_v4(ip)))
    }

    fn allows_v6(&self, ip: Ipv6Addr) -> bool {
        self.prefixes.as_ref().is_none_or(|prefixes| prefixes.iter().any(|prefix| prefix.contains_v6(ip)))
    }

    fn allows_routing(&self) -> bool {
        const ALL: Prefix = Prefix::V6 { first: 0, mask: 0 };
        self.prefixes.as_ref().is_none_or(|prefixes| prefixes.contains(&ALL))
    }

    /// Checks all that `frame`, which begins with `header`, says of its sender. The frame must be whole.
    pub(super) fn check(&self, header: &Ethernet, frame: &[u8]) -> Result<(), GuardDrop> {
        self.mac(header.source())?;
        let at = HEADER_LEN + if header.tag.is_some() { TAG_LEN } else { 0 };
        let (Some(ethertype), Some(packet)) = (frame.get(at - 2..at), frame.get(at..)) else { return Ok(()) };
        let ethertype = [ethertype[0], ethertype[1]];
        match ethertype {
            IPV4 => self.ipv4(packet),
            ARP | RARP => self.arp(packet),
            IPV6 => self.ipv6(packet),
            _ if self.prefixes.is_some() && (TAGS.contains(&ethertype) || is_ip_in_snap(ethertype, packet)) => {
                Err(GuardDrop::SpoofedIp)
            }
            _ => Ok(()),
        }
    }

    fn ipv4(&self, packet: &[u8]) -> Result<(), GuardDrop> {
        if self.prefixes.is_none() {
            return Ok(()); // it says nothing of MAC addresses
        }
        let sender = ipv4::Sender::parse(packet).ok_or(GuardDrop::SpoofedIp)?;
        // IGMP: RFC 3376 4.2.13.
        let speaks_without = sender.asks_dhcp || sender.is_igmp;
        require(self.allows_v4(sender.source) || sender.source.is_unspecified() && speaks_without)
    }

    fn arp(&self, packet: &[u8]) -> Result<(), GuardDrop> {
        let sender = arp::Sender::parse(packet).ok_or(self.unclear())?;
        self.mac(sender.mac)?;
        require(self.allows_v4(sender.ip) || sender.ip.is_unspecified() && sender.asks)
    }

    fn ipv6(&self, packet: &[u8]) -> Result<(), GuardDrop> {
        let sender = ipv6::Sender::parse(packet).ok_or(self.unclear())?;
        let message = match sender.payload {
            Payload::Icmp { message, is_fragment } => {
                let message = Message::parse(message).ok_or(self.unclear())?;
                if is_fragment && message.options().is_some() {
                    return Err(self.unclear()); // RFC 6980 5: to be ignored by all
                }
                message
            }
            Payload::Other => Message::Other,
        };
        if !message.options().is_none_or(|options| options.links_are(|mac| self.allows_mac(mac))) {
            return Err(if self.macs.is_some() { GuardDrop::SpoofedMac } else { GuardDrop::SpoofedIp });
        }
        let has_none = sender.source.is_unspecified();
        require(match message {
            Message::Solicitation { target, .. } if has_none => self.allows_v6(target),
            Message::RouterSolicitation { .. } | Message::ListenerReport if has_none => true,
            Message::Advertisement { target, .. } => self.allows_v6(sender.source) && self.allows_v6(target),
            Message::Router { .. } => self.allows_v6(sender.source) && self.allows_routing(),
            _ => self.allows_v6(sender.source),
        })
    }

    fn mac(&self, mac: MacAddr) -> Result<(), GuardDrop> {
        if self.allows_mac(mac) { Ok(()) } else { Err(GuardDrop::SpoofedMac) }
    }

    /// What is wrong with a packet whose sender cannot be told.
    const fn unclear(&self) -> GuardDrop {
        if self.prefixes.is_some() { GuardDrop::SpoofedIp } else { GuardDrop::SpoofedMac }
    }
}

fn require(is_allowed: bool) -> Result<(), GuardDrop> {
    if is_allowed { Ok(()) } else { Err(GuardDrop::SpoofedIp) }
}

/// Whether a frame of IEEE 802.3 carries IP or ARP, or a tag before it, by RFC 1042 or its kin. No stack sends it over
/// Ethernet, and some would take it.
fn is_ip_in_snap([hi, lo]: [u8; 2], packet: &[u8]) -> bool {
    let Some(&[a, b, c, _, _, _, type_hi, type_lo]) = packet.first_chunk() else { return false };
    let inside = [type_hi, type_lo];
    u16::from_be_bytes([hi, lo]) < LEAST_ETHERTYPE
        && [a, b, c] == SNAP
        && ([IPV4, ARP, RARP, IPV6].contains(&inside) || TAGS.contains(&inside))
}

/// The guards of a switch's ports.
#[derive(Clone, Debug, Default)]
pub(super) struct Guards {
    /// By port.
    ports: Vec<Option<Box<Guard>>>,
    /// MAC addresses with the ports they live on, in ascending order, each pair once.
    residents: Vec<(u64, PortId)>,
}

impl Guards {
    /// Whether [`Self::get`] has an answer.
    #[inline]
    pub(super) fn has(&self, port: PortId) -> bool {
        matches!(self.ports.get(port.index()), Some(Some(_)))
    }

    pub(super) fn get(&self, port: PortId) -> Option<&Guard> {
        self.ports.get(port.index())?.as_deref()
    }

    /// Gives `port` another guard.
    pub(super) fn set(&mut self, port: PortId, guard: Guard) {
        self.residents.retain(|&(_, home)| home != port);
        self.residents.extend(guard.residents().iter().map(|mac| (mac.to_u64(), port)));
        self.residents.sort_unstable();
        self.residents.dedup(); // named twice, it lives there once
        if port.index() >= self.ports.len() {
            self.ports.resize(port.index() + 1, None);
        }
        self.ports[port.index()] = (!guard.is_open()).then(|| Box::new(guard));
    }

    /// Whether no port has one.
    pub(super) fn are_none(&self) -> bool {
        self.ports.iter().all(Option::is_none)
    }

    /// Whether `mac` lives on `port`, there alone or not.
    pub(super) fn is_home(&self, port: PortId, mac: MacAddr) -> bool {
        self.homes(mac).any(|home| home == port)
    }

    /// Whether no MAC address lives anywhere.
    #[inline]
    pub(super) const fn have_no_residents(&self) -> bool {
        self.residents.is_empty()
    }

    /// The ports on which `mac` lives.
    pub(super) fn homes(&self, mac: MacAddr) -> impl Iterator<Item = PortId> + '_ {
        let mac = mac.to_u64();
        let from = self.residents.partition_point(|&(resident, _)| resident < mac);
        self.residents[from..].iter().take_while(move |&&(resident, _)| resident == mac).map(|&(_, port)| port)
    }
}

#[cfg(test)]
mod tests;
