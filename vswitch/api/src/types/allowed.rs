//! What a port may send from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::BadValue;

/// Values of one kind that a port may send from: MAC addresses, or prefixes of IP addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Allowed<T> {
    /// What the daemon's `--source-guard` says; written as `default`.
    #[default]
    Unsaid,
    /// All; written as `any`.
    Any,
    /// These, each once, in ascending order: 1 to [`Self::MOST`].
    Only(Vec<T>),
}

/// One of the words that [`Allowed`] is written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedWord<T> {
    /// `default`.
    Unsaid,
    /// `any`.
    Any,
    /// A value.
    Value(T),
}

impl<T> Allowed<T> {
    /// Values of one list at most: each frame is compared with them.
    pub const MOST: usize = 64;

    /// Whether nothing was said.
    pub const fn is_unsaid(&self) -> bool {
        matches!(self, Self::Unsaid)
    }
}

impl<T: Ord> Allowed<T> {
    /// What `words` mean together.
    ///
    /// # Errors
    /// Where there is none, `any` or `default` stands beside others, or they are too many.
    pub fn from_words(words: Vec<AllowedWord<T>>) -> Result<Self, BadValue> {
        let (count, mut values) = (words.len(), Vec::new());
        for word in words {
            match word {
                AllowedWord::Value(value) => values.push(value),
                AllowedWord::Any if count == 1 => return Ok(Self::Any),
                AllowedWord::Unsaid if count == 1 => return Ok(Self::Unsaid),
                AllowedWord::Any | AllowedWord::Unsaid => return Err(BadValue::AllowedNotAlone),
            }
        }
        values.sort_unstable();
        values.dedup();
        match values.len() {
            0 => Err(BadValue::NothingAllowed),
            1..=64 => Ok(Self::Only(values)),
            count => Err(BadValue::TooManyAllowed(count)),
        }
    }
}

impl<T: FromStr<Err = BadValue>> FromStr for AllowedWord<T> {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "any" => Ok(Self::Any),
            "default" => Ok(Self::Unsaid),
            _ => text.parse().map(Self::Value),
        }
    }
}

impl<'de, T: FromStr<Err = BadValue>> Deserialize<'de> for AllowedWord<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de, T: Ord + FromStr<Err = BadValue>> Deserialize<'de> for Allowed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_words(crate::config::one_or_many(deserializer)?).map_err(de::Error::custom)
    }
}

impl<T: Serialize> Serialize for Allowed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unsaid => serializer.serialize_str("default"),
            Self::Any => serializer.serialize_str("any"),
            Self::Only(values) => values.serialize(serializer),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Allowed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => f.write_str("default"),
            Self::Any => f.write_str("any"),
            Self::Only(values) => {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                f.write_str(&values.join(" "))
            }
        }
    }
}
