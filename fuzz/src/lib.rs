//! What the fuzz targets share: inputs cut from bytes, and judges that know nothing of the code they judge.

mod input;
mod judge;
mod wire;

pub use input::{Datagrams, Read, directory, remote, remote_v6, stranger, tunnel_vlan, tunnel_vni};
pub use judge::{Offsets, checksum, is_correct, same_frames};
pub use wire::{assembled, cut, repair, tag_len, tagged, untagged};
