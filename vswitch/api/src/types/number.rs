//! Numbers with a range.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BadValue;

/// Declares a number with its range; written and read as a number in JSON and TOML.
macro_rules! ranged {
    ($(#[$meta:meta])* $name:ident($repr:ty), $min:literal..=$max:literal, $bad:path) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $name($repr);

        impl $name {
            /// The least one.
            pub const MIN: Self = Self($min);
            /// The greatest one.
            pub const MAX: Self = Self($max);

            /// The value for `number`.
            ///
            /// # Errors
            /// Where it is out of range.
            pub fn new(number: $repr) -> Result<Self, BadValue> {
                if ($min..=$max).contains(&number) { Ok(Self(number)) } else { Err($bad(number.to_string())) }
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = BadValue;
            fn try_from(number: i64) -> Result<Self, BadValue> {
                <$repr>::try_from(number).map_err(|_| $bad(number.to_string())).and_then(Self::new)
            }
        }

        impl From<$name> for i64 {
            fn from(value: $name) -> Self {
                Self::from(value.0)
            }
        }

        impl FromStr for $name {
            type Err = BadValue;
            fn from_str(text: &str) -> Result<Self, BadValue> {
                text.parse().map_err(|_| $bad(text.to_owned())).and_then(Self::new)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

ranged! {
    /// A VLAN, 1 to 4094.
    Vid(u16), 1..=4094, BadValue::Vid
}

ranged! {
    /// A VXLAN network identifier, 1 to 16777215.
    Vni(u32), 1..=0xff_ffff, BadValue::Vni
}

ranged! {
    /// The MTU of a port. The kernel's TAP device takes 68 to 65535 less an Ethernet header.
    Mtu(u16), 68..=65521, BadValue::Mtu
}
