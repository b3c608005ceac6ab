//! Lists of VLANs: `10-20,30`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::{BadValue, Vid};

/// One VLAN or more, written as numbers and ranges: `10-20,30`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanList(BTreeSet<Vid>);

impl VlanList {
    /// The list of these VLANs, or `None` where there is none.
    #[must_use]
    pub fn new(vlans: impl IntoIterator<Item = Vid>) -> Option<Self> {
        let vlans: BTreeSet<_> = vlans.into_iter().collect();
        (!vlans.is_empty()).then_some(Self(vlans))
    }

    /// Whether `vlan` is in it.
    #[must_use]
    pub fn contains(&self, vlan: Vid) -> bool {
        self.0.contains(&vlan)
    }

    /// The VLANs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Vid> + '_ {
        self.0.iter().copied()
    }

    /// This list and `other` together.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    /// This list less `vlan`, or `None` where nothing is left.
    #[must_use]
    pub fn without(&self, vlan: Vid) -> Option<Self> {
        Self::new(self.iter().filter(|&v| v != vlan))
    }
}

impl From<Vid> for VlanList {
    fn from(vlan: Vid) -> Self {
        Self(BTreeSet::from([vlan]))
    }
}

impl fmt::Display for VlanList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for vlan in self.iter().map(Vid::get) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == vlan => *last = vlan,
                _ => runs.push((vlan, vlan)),
            }
        }
        let words: Vec<_> = runs
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        f.pad(&words.join(","))
    }
}

impl FromStr for VlanList {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let mut vlans = BTreeSet::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (first, last): (Vid, Vid) = (first.trim().parse()?, last.trim().parse()?);
            if first > last {
                return Err(BadValue::VlanRange(word.to_owned()));
            }
            for vlan in first.get()..=last.get() {
                vlans.insert(Vid::new(vlan)?);
            }
        }
        Self::new(vlans).ok_or_else(|| BadValue::NoVlans(text.to_owned()))
    }
}

impl Serialize for VlanList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VlanList {
    /// From `"10-20,30"`, from `10`, or from an array of either.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = VlanList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("VLANs from 1 to 4094, like 10 or \"10-20,30\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<VlanList, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<VlanList, E> {
                Vid::try_from(number).map(VlanList::from).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<VlanList, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<VlanList, A::Error> {
                let mut vlans = BTreeSet::new();
                while let Some(VlanList(more)) = seq.next_element()? {
                    vlans.extend(more);
                }
                VlanList::new(vlans).ok_or_else(|| de::Error::custom(BadValue::NoVlans("[]".to_owned())))
            }
        }
        deserializer.deserialize_any(Words)
    }
}
