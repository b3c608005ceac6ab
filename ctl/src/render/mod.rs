//! Answers for people.

mod fdb;
mod network;
mod ports;
mod stats;
mod status;

use vswitch_api::{Vid, VlanList};

pub(crate) use fdb::fdb;
pub(crate) use network::{vlans, vtep};
pub(crate) use ports::{mode, port, ports};
pub(crate) use stats::stats;
pub(crate) use status::condition;

pub(crate) fn vlan_list(vlans: &[Vid]) -> String {
    option(VlanList::new(vlans.iter().copied()))
}

pub(crate) fn option<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn words<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Seconds as people say them, in the two greatest units that matter.
pub(crate) fn duration(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut left = seconds;
    let mut text = Vec::new();
    for (at, (unit, size)) in units.iter().enumerate().skip(first).take(2) {
        if left >= *size || at == first {
            text.push(format!("{} {unit}", left / size));
        }
        left %= size;
    }
    text.join(" ")
}

/// Bytes in binary units with one decimal; exact below 1 KiB.
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = "";
    // Tenths of the unit, so that no float is needed.
    let mut tenths = u128::from(count) * 10;
    for name in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = name;
    }
    if unit.is_empty() { format!("{count} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// What `render` makes of `value`, without colours.
#[cfg(test)]
pub(crate) fn rendered<T: serde::de::DeserializeOwned>(
    render: impl Fn(&T, &mut String),
    value: serde_json::Value,
) -> String {
    let mut out = String::new();
    render(&serde_json::from_value(value).unwrap(), &mut out);
    crate::style::plain(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes() {
        let spans = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (3_659, "1 h"),
            (90_000, "1 d 1 h"),
            (86_400 * 400, "400 d"),
        ];
        for (seconds, text) in spans {
            assert_eq!(duration(seconds), text);
        }
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (count, text) in sizes {
            assert_eq!(bytes(count), text);
        }
    }
}
