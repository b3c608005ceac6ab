//! What belongs to a network on the host, and what it is called: gateway port, its interface, nftables table, lock file.
//!
//! A network's name has up to 255 bytes of `A-Z a-z 0-9 _ . -` (CNI specification 1.1.0, section 1), all of which each of
//! these may contain; where it is too long for one, a digest stands for it or for its end.

/// Longest name of a port.
const PORT_MAX: usize = 128;
/// Longest name of an interface: the kernel's `IFNAMSIZ` less the final zero.
const INTERFACE_MAX: usize = 15;
/// Longest name of a table that leaves room for more: the kernel's `NFT_NAME_MAXLEN` is 256, a final zero included.
const TABLE_MAX: usize = 200;
/// Longest name of a file that leaves room for more: `NAME_MAX` is 255.
const FILE_MAX: usize = 200;

/// The gateway's port in the switch.
pub(crate) fn port(network: &str) -> String {
    bounded("gateway:", network, PORT_MAX)
}

/// The gateway's interface on the host.
pub(crate) fn interface(network: &str) -> String {
    let plain = format!("vsw-{network}");
    if plain.len() <= INTERFACE_MAX { plain } else { format!("vsw-{:011x}", digest(network) >> 20) }
}

/// The nftables table.
pub(crate) fn table(network: &str) -> String {
    bounded("vswitch-", network, TABLE_MAX)
}

/// The file whose lock keeps two plugins from changing the gateway at once.
pub(crate) fn lock_file(network: &str) -> String {
    format!("{}.lock", bounded("cni-", network, FILE_MAX))
}

/// The file whose lock keeps two plugins from giving back addresses of the dead while another gives some to the living.
pub(crate) fn sweep_file(network: &str) -> String {
    format!("{}.sweep", bounded("cni-", network, FILE_MAX))
}

/// `prefix` and `network`, of which the end gives way to a digest where both have more than `max` bytes.
fn bounded(prefix: &str, network: &str, max: usize) -> String {
    let plain = format!("{prefix}{network}");
    let digest = format!("-{:016x}", digest(network));
    match plain.get(..max - digest.len()) {
        Some(begin) if plain.len() > max => format!("{begin}{digest}"),
        _ => plain,
    }
}

/// FNV-1a, 64 bits: the same on every host and in every release, unlike the standard library's.
pub(crate) fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test values of draft-eastlake-fnv.
    #[test]
    fn the_digest_is_the_published_one() {
        for (text, value) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(digest(text), value, "{text:?}");
        }
    }

    #[test]
    fn names_fit_where_they_go() {
        let long = "n".repeat(255);
        for (network, own_port, own_interface, own_table, own_lock) in [
            ("lan", "gateway:lan", "vsw-lan", "vswitch-lan", "cni-lan.lock"),
            ("a.b_c-d", "gateway:a.b_c-d", "vsw-a.b_c-d", "vswitch-a.b_c-d", "cni-a.b_c-d.lock"),
            ("eleven-char", "gateway:eleven-char", "vsw-eleven-char", "vswitch-eleven-char", "cni-eleven-char.lock"),
        ] {
            assert_eq!((port(network), interface(network)), (own_port.into(), own_interface.into()));
            assert_eq!((table(network), lock_file(network)), (own_table.into(), own_lock.into()));
        }
        assert_eq!(interface("twelve-chars").len(), 15);
        assert_ne!(interface("twelve-chars"), interface("twelve-charz"));
        for (name, max) in [(port(&long), 128), (interface(&long), 15), (table(&long), 200), (lock_file(&long), 205)] {
            assert_eq!(name.len(), max, "{name}");
        }
        // One that differs in the last byte alone has others.
        let other = format!("{}m", &long[1..]);
        assert_ne!((port(&long), table(&long), lock_file(&long)), (port(&other), table(&other), lock_file(&other)));
    }
}
