//! The way to each remote: what it carries, and whether it leaves by the underlay's interface.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vswitch_core::Instant;
use vswitch_sys::{Netlink, NetlinkError};

use super::TunnelPort;

/// How long the way to a remote is believed where no error would tell of a change.
const WAY_LIFETIME: Duration = Duration::from_secs(1);
/// How long a path's MTU is believed, as long as the kernel does (`mtu_expires`, RFC 1191 6.3).
const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);

/// A remote VTEP as one worker sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) to: SocketAddr,
    /// What the path there was found to carry, where that is less than the underlay's MTU, and until when.
    path_mtu: Option<(u16, Instant)>,
    /// Whether the way there leaves by the underlay's interface, and until when that is believed.
    on_underlay: Option<(bool, Instant)>,
}

impl Remote {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, path_mtu: None, on_underlay: None }
    }
}

impl TunnelPort {
    /// Whether the way to `remote` leaves by the underlay's interface; asks the kernel where that was long ago.
    #[inline]
    pub(super) fn is_on_underlay(&mut self, now: Instant, remote: &mut Remote) -> bool {
        if let Some((known, until)) = remote.on_underlay
            && now < until
        {
            return known;
        }
        self.carrier.check();
        let index = self.learn_way(now, remote);
        let is_it = index == Some(self.underlay.index);
        remote.on_underlay = Some((is_it, now + WAY_LIFETIME));
        is_it
    }

    /// The largest packet inside that reaches `remote`.
    pub(crate) fn inner_mtu(&self, now: Instant, remote: &Remote) -> u16 {
        self.path_mtu(now, remote).saturating_sub(self.underlay.overhead())
    }

    #[inline]
    pub(super) fn path_mtu(&self, now: Instant, remote: &Remote) -> u16 {
        match remote.path_mtu {
            Some((mtu, until)) if now < until => mtu,
            _ => self.underlay.mtu,
        }
    }

    /// Asks the kernel which interface the way to `remote` leaves by and what the path carries, and believes that for a
    /// while.
    pub(crate) fn learn_way(&self, now: Instant, remote: &mut Remote) -> Option<u32> {
        match kernel_way(self.underlay.address, remote.to.ip()) {
            Ok((index, mtu)) => {
                let narrow = mtu.filter(|&mtu| mtu < self.underlay.mtu);
                if let Some(mtu) = narrow.filter(|&mtu| remote.path_mtu.is_none_or(|(known, _)| known != mtu)) {
                    let remote = remote.to.ip();
                    tracing::info!(%remote, mtu, "the path to a remote carries less than the underlay");
                }
                remote.path_mtu = narrow.map(|mtu| (mtu, now + PATH_MTU_LIFETIME));
                Some(index)
            }
            Err(error) => {
                tracing::debug!(remote = %remote.to.ip(), %error, "the way to a remote cannot be told");
                None
            }
        }
    }
}

/// What the kernel's routing knows: the interface, and a path MTU learned from ICMP, else the MTU of the interface.
fn kernel_way(from: IpAddr, to: IpAddr) -> Result<(u32, Option<u16>), NetlinkError> {
    let netlink = Netlink::open()?;
    let route = netlink.route_from(from, to)?;
    let mtu = match route.mtu {
        Some(mtu) => Some(mtu),
        None => netlink.link_by_index(route.index)?.map(|link| link.mtu),
    };
    Ok((route.index, mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX))))
}
