//! What an operator wants: the daemon's settings and the desired state.
//!
//! The config file (TOML) and the state file (JSON) hold the words of `vsctl`: `[[vlan]]`, `[[port]]`, `[[peer]]` and
//! `[[fdb]]` tables. Unknown keys are errors.

mod attachment;
mod desired;
mod entry;
mod pool;
mod port;
mod settings;

pub(crate) use attachment::is_false;
pub use attachment::{Attach, Attachment, Sight};
pub use desired::Desired;
pub use entry::{Ageing, FdbTarget, PeerSpec, PeerVlans, StaticEntry, VlanSpec};
pub use pool::{Pool, PoolRange};
pub use port::{PortMode, PortSpec};
pub use settings::{Config, Settings};

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, SeqAccess, Visitor};

/// Reads a list that may be written as its only element.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or an array of texts")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(text.into_deserializer()).map(|one| vec![one])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(List(PhantomData))
}

#[cfg(test)]
mod tests;
