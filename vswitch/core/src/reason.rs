//! Names for drops: each stage declares its own beside the code that drops.

/// Declares the drop reasons of one stage: an enum with its counter's name, what to do about it and, from the doc comment,
/// its explanation.
///
/// ```
/// vswitch_core::drop_reasons! {
///     /// Why this stage drops.
///     pub enum Drop {
///         /// The frame is too short.
///         Truncated => "truncated", "Look what sends it.",
///     }
/// }
/// assert_eq!(Drop::Truncated.name(), "truncated");
/// assert_eq!(Drop::Truncated.explanation(), "The frame is too short.");
/// assert_eq!(Drop::Truncated.advice(), "Look what sends it.");
/// assert_eq!(Drop::ALL.len(), 1);
/// ```
#[macro_export]
macro_rules! drop_reasons {
    ($(#[$meta:meta])* $vis:vis enum $stage:ident {
        $($(#[doc = $doc:literal])+ $reason:ident => $name:literal, $advice:literal,)+
    }) => {
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

            /// What to do about it, for people.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$reason => $advice,)+ }
            }

            /// Its place among the stage's reasons.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}
