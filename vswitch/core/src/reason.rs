//! Names for drops: each stage declares its own beside the code that drops.

/// Declares the drop reasons of one stage: an enum with its counter's name and, from the doc comment, its explanation.
///
/// ```
/// vswitch_core::drop_reasons! {
///     /// Why this stage drops.
///     pub enum Drop {
///         /// The frame is too short.
///         Truncated => "truncated",
///     }
/// }
/// assert_eq!(Drop::Truncated.name(), "truncated");
/// assert_eq!(Drop::ALL.len(), 1);
/// ```
#[macro_export]
macro_rules! drop_reasons {
    ($(#[$meta:meta])* $vis:vis enum $stage:ident { $($(#[doc = $doc:literal])+ $reason:ident => $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $stage { $($(#[doc = $doc])+ $reason,)+ }

        impl $stage {
            /// Every reason of this stage, in the order declared; `index` is the place in it.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)+];

            /// The name of its counter: lower case, words joined by underscores; scripts rely on it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$reason => $name,)+ }
            }

            /// What it means, for people.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$reason => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// Its place among the stage's reasons.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}
