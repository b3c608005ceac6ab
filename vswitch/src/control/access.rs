//! Who may do what over the socket: who can connect may look, and a few may change.

use std::io;
use std::os::unix::net::UnixStream;

use vswitch_api::{Code, RpcError};
use vswitch_sys::fdpass;

/// A group of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) gid: u32,
    pub(crate) name: String,
}

/// The rights to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The user who runs the daemon; he and root may change.
    pub(crate) owner: u32,
    /// Its members may change too.
    pub(crate) group: Option<Group>,
    /// The mode of the socket's file: who may connect.
    pub(crate) mode: u32,
}

/// Who is at the other end of a connection, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) may_change: bool,
}

impl Access {
    /// Who is at the other end of `stream`, by what the kernel noted when the connection was made.
    pub(crate) fn peer(&self, stream: &UnixStream) -> io::Result<Peer> {
        let fdpass::Credentials { uid, gid, .. } = fdpass::peer_credentials(stream)?;
        let may_change = uid == 0
            || uid == self.owner
            || match &self.group {
                Some(group) => gid == group.gid || fdpass::peer_groups(stream)?.contains(&group.gid),
                None => false,
            };
        Ok(Peer { uid, may_change })
    }

    /// Refuses a takeover by anyone but the user who runs the daemon, and root: it hands out every descriptor there is.
    pub(crate) fn check_takeover(&self, peer: Peer) -> Result<(), RpcError> {
        if peer.uid == 0 || peer.uid == self.owner {
            return Ok(());
        }
        let message =
            format!("user {} may not take over: run vswitchd --takeover as user {} or root", peer.uid, self.owner);
        Err(RpcError::new(Code::Forbidden, message))
    }

    /// Refuses a change by one who may only look.
    pub(crate) fn check(&self, peer: Peer) -> Result<(), RpcError> {
        if peer.may_change {
            return Ok(());
        }
        let owner = match self.owner {
            0 => String::new(),
            owner => format!(", as user {owner}, who runs this vswitchd,"),
        };
        let group = match &self.group {
            Some(group) => format!(" or as a member of group {} ({})", group.name, group.gid),
            None => " (vswitchd --socket-group GROUP would let a group change too)".to_owned(),
        };
        let message = format!("user {} may look but not change: run vsctl as root{owner}{group}", peer.uid);
        Err(RpcError::new(Code::Forbidden, message))
    }
}
