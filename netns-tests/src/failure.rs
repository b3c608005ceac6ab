//! Why a test failed, and where.

use std::error::Error;
use std::fmt;
use std::panic::Location;

/// What a step of a test comes to.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Why a test failed, with the line that noticed. Any error becomes one with `?`.
#[derive(Debug)]
pub struct Failure {
    message: String,
    at: &'static Location<'static>,
}

impl Failure {
    /// A failure at the caller's line.
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self::at(message.into(), Location::caller())
    }

    /// A failure at a line that somebody else noted.
    pub(crate) const fn at(message: String, at: &'static Location<'static>) -> Self {
        Self { message, at }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}:{}]", self.message, self.at.file(), self.at.line())
    }
}

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// Says what was tried when something goes wrong.
pub trait Context<T> {
    /// Puts `what` before the message, and the caller's line after it.
    ///
    /// # Errors
    /// The same one, with more words.
    #[track_caller]
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    #[track_caller]
    fn context(self, what: impl fmt::Display) -> Result<T> {
        let at = Location::caller();
        self.map_err(|error| Failure { message: format!("{what}: {error}"), at })
    }
}

impl<T> Context<T> for Option<T> {
    #[track_caller]
    fn context(self, what: impl fmt::Display) -> Result<T> {
        let at = Location::caller();
        self.ok_or_else(|| Failure { message: what.to_string(), at })
    }
}

/// Fails the test, with a message, where a condition does not hold.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::Failure::new(format!($($message)+)));
        }
    };
}

/// Fails the test, showing both values, where they differ.
#[macro_export]
macro_rules! ensure_eq {
    ($got:expr, $want:expr, $($message:tt)+) => {
        match (&$got, &$want) {
            (got, want) => {
                if *got != *want {
                    let what = format!($($message)+);
                    return Err($crate::Failure::new(format!("{what}: got {got:?}, expected {want:?}")));
                }
            }
        }
    };
}
