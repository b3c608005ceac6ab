//! Who is at the other end: the networks and VTEPs this host knows.

use std::net::IpAddr;

use hashbrown::HashMap;
use thiserror::Error;
use vswitch_core::{PortId, VlanId, VlanSet};

use crate::decap::DecapDrop;
use crate::header::Vni;

/// An immutable snapshot of VLANs, VNIs and remotes; the daemon builds a new one when they change.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    by_vlan: HashMap<VlanId, Vni, foldhash::fast::RandomState>,
    by_vni: HashMap<Vni, VlanId, foldhash::fast::RandomState>,
    remotes: HashMap<IpAddr, Remote, foldhash::fast::RandomState>,
    by_port: HashMap<u16, IpAddr, foldhash::fast::RandomState>,
}

/// A VTEP we exchange frames with.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The switch's port that stands for it.
    pub port: PortId,
    /// The VLANs it may send in.
    pub vlans: VlanSet,
}

/// Why an entry is refused: every mapping is one to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DirectoryError {
    /// The VLAN has another VNI.
    #[error("VLAN {vlan} already has VNI {vni}: remove that first")]
    VlanTaken {
        /// The VLAN.
        vlan: VlanId,
        /// The VNI it has.
        vni: Vni,
    },
    /// The VNI belongs to another VLAN.
    #[error("VNI {vni} already belongs to VLAN {vlan}: choose another from 1 to 16777215")]
    VniTaken {
        /// The VNI.
        vni: Vni,
        /// The VLAN it belongs to.
        vlan: VlanId,
    },
    /// The address is that of another remote.
    #[error("remote {address} already is port {port}: name each VTEP once")]
    RemoteTaken {
        /// The address.
        address: IpAddr,
        /// The port that has it.
        port: PortId,
    },
    /// The port stands for another remote.
    #[error("port {port} already stands for remote {address}: each remote needs a port of its own")]
    PortTaken {
        /// The port.
        port: PortId,
        /// The remote it stands for.
        address: IpAddr,
    },
}

impl Directory {
    /// A directory that knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries `vlan` as network `vni`.
    ///
    /// # Errors
    /// Either already belongs to another.
    pub fn add_network(&mut self, vlan: VlanId, vni: Vni) -> Result<(), DirectoryError> {
        match (self.by_vlan.get(&vlan), self.by_vni.get(&vni)) {
            (Some(&other), _) if other != vni => Err(DirectoryError::VlanTaken { vlan, vni: other }),
            (_, Some(&other)) if other != vlan => Err(DirectoryError::VniTaken { vni, vlan: other }),
            _ => {
                self.by_vlan.insert(vlan, vni);
                self.by_vni.insert(vni, vlan);
                Ok(())
            }
        }
    }

    /// Lets the VTEP at `address`, which the switch knows as `port`, send in `vlans`.
    ///
    /// # Errors
    /// The address or the port already belongs to another.
    pub fn add_remote(&mut self, address: IpAddr, port: PortId, vlans: VlanSet) -> Result<(), DirectoryError> {
        let address = address.to_canonical();
        if let Some(other) = self.remotes.get(&address).filter(|other| other.port != port) {
            return Err(DirectoryError::RemoteTaken { address, port: other.port });
        }
        if let Some(&other) = self.by_port.get(&port.get()).filter(|other| **other != address) {
            return Err(DirectoryError::PortTaken { port, address: other });
        }
        self.by_port.insert(port.get(), address);
        self.remotes.insert(address, Remote { port, vlans });
        Ok(())
    }

    /// The network that carries `vlan`; `None` where the VLAN stays on this host.
    #[must_use]
    #[inline]
    pub fn vni(&self, vlan: VlanId) -> Option<Vni> {
        self.by_vlan.get(&vlan).copied()
    }

    /// The VLAN carried as `vni`.
    #[must_use]
    #[inline]
    pub fn vlan(&self, vni: Vni) -> Option<VlanId> {
        self.by_vni.get(&vni).copied()
    }

    /// The remote at `address`; an IPv4 address in IPv6 clothes (::ffff:a.b.c.d) is the IPv4 one.
    #[must_use]
    #[inline]
    pub fn remote(&self, address: IpAddr) -> Option<&Remote> {
        self.remotes.get(&address.to_canonical())
    }

    /// The address of the remote behind `port`.
    #[must_use]
    #[inline]
    pub fn address(&self, port: PortId) -> Option<IpAddr> {
        self.by_port.get(&port.get()).copied()
    }

    /// The VLAN and ingress port of what `from` sends in network `vni`.
    ///
    /// # Errors
    /// No VLAN is carried as `vni`, or `from` is not among that VLAN's remotes.
    #[inline]
    pub fn admit(&self, vni: Vni, from: IpAddr) -> Result<(VlanId, PortId), DecapDrop> {
        let vlan = self.vlan(vni).ok_or(DecapDrop::UnknownVni)?;
        let remote = self.remote(from).filter(|remote| remote.vlans.contains(vlan)).ok_or(DecapDrop::UnknownVtep)?;
        Ok((vlan, remote.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vlan(id: u16) -> VlanId {
        VlanId::new(id).unwrap()
    }

    fn vni(id: u32) -> Vni {
        Vni::new(id).unwrap()
    }

    #[test]
    fn one_to_one() {
        let mut directory = Directory::new();
        assert_eq!(directory.add_network(vlan(10), vni(100)), Ok(()));
        assert_eq!(directory.add_network(vlan(10), vni(100)), Ok(()));
        let taken = DirectoryError::VlanTaken { vlan: vlan(10), vni: vni(100) };
        assert_eq!(directory.add_network(vlan(10), vni(200)), Err(taken));
        let taken = DirectoryError::VniTaken { vni: vni(100), vlan: vlan(10) };
        assert_eq!(directory.add_network(vlan(20), vni(100)), Err(taken));
        assert_eq!(taken.to_string(), "VNI 100 already belongs to VLAN 10: choose another from 1 to 16777215");
        assert_eq!((directory.vni(vlan(10)), directory.vlan(vni(100))), (Some(vni(100)), Some(vlan(10))));
        assert_eq!((directory.vni(vlan(20)), directory.vlan(vni(200))), (None, None));

        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert_eq!(directory.add_remote(a, PortId::new(7), VlanSet::all()), Ok(()));
        let taken = DirectoryError::RemoteTaken { address: a, port: PortId::new(7) };
        assert_eq!(directory.add_remote(a, PortId::new(8), VlanSet::all()), Err(taken));
        let taken = DirectoryError::PortTaken { port: PortId::new(7), address: a };
        assert_eq!(directory.add_remote(b, PortId::new(7), VlanSet::all()), Err(taken));
        assert_eq!(directory.address(PortId::new(7)), Some(a));
    }

    #[test]
    fn admission() {
        let mut directory = Directory::new();
        directory.add_network(vlan(10), vni(100)).unwrap();
        directory.add_network(vlan(20), vni(200)).unwrap();
        let (known, stranger) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 9]));
        directory.add_remote(known, PortId::new(7), [vlan(10)].into_iter().collect()).unwrap();
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]);
        let table = [
            (100, known, Ok((vlan(10), PortId::new(7)))),
            (100, mapped, Ok((vlan(10), PortId::new(7)))),
            (100, stranger, Err(DecapDrop::UnknownVtep)),
            (200, known, Err(DecapDrop::UnknownVtep)), // not among this VLAN's peers
            (300, known, Err(DecapDrop::UnknownVni)),
            (300, stranger, Err(DecapDrop::UnknownVni)),
        ];
        for (network, from, expected) in table {
            assert_eq!(directory.admit(vni(network), from), expected, "VNI {network} from {from}");
        }
    }
}
