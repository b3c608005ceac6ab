//! Writes the seed corpus: what devices, remotes, `vsctl` and operators really say.
//!
//! `cargo run --example seeds` in this folder. Seeds have names; what a fuzzer found and somebody kept has a hash, and
//! is left alone.

mod cni;
mod frames;
mod oam;
mod texts;

use std::path::Path;
use std::{fs, io};

/// A target and its seeds: each with a name.
type Seeds = (&'static str, Vec<(String, Vec<u8>)>);

fn main() -> io::Result<()> {
    let all = [
        frames::ethernet(),
        frames::vnet(),
        frames::vxlan(),
        frames::cut(),
        frames::uplink(),
        oam::oam(),
        frames::switch(),
        texts::rpc(),
        texts::state(),
        cni::cni(),
    ];
    for (target, seeds) in all {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
