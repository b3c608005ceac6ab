//! What a container runtime says about a port.

use serde::{Deserialize, Serialize};

use super::{Pool, PortSpec};
use crate::types::{BootId, ContainerId, NetworkName, Vni};

/// Whose a port is, where a container runtime asked for it: container and interface name are those of no other port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The network, as its configuration calls it.
    pub network: NetworkName,
    /// The container.
    pub container: ContainerId,
    /// Whether its addresses are another's, who has to be told when the container is gone: the port stays until then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub delegated: bool,
    /// Whether the daemon saw the namespace under the port's name for it, so that a name that is gone says that the
    /// container is. Set by the daemon.
    #[serde(default, skip_serializing_if = "is_false")]
    pub seen: bool,
    /// When and where that was. Set by the daemon; unknown of what an older one made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sight: Option<Sight>,
}

/// When and where a daemon knew a container to be there, so that a later one can tell what it means that its name is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sight {
    /// The boot of the host: no container outlives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
    /// The folder with the name of the namespace, by device and inode: in another one, as in another mount namespace, the
    /// name never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<(u64, u64)>,
}

/// What `attachment.add` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The port. Where another has its name it gets `NAME-2`, or the next that is free; the addresses are those wished
    /// for.
    pub port: PortSpec,
    /// Where its addresses come from: one of each pool that has none of those wished for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
    /// What its VLAN is called on the underlay: a VLAN without VNI gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
}

// By reference: serde hands it over so.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) const fn is_false(flag: &bool) -> bool {
    !*flag
}
