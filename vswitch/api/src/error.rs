//! Errors as they go over the socket.

use serde::{Deserialize, Serialize};

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// The kind, for programs.
    pub code: Code,
    /// What, why, and what to do: a sentence for people.
    pub message: String,
}

impl RpcError {
    /// An error of this kind.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Kinds of error: those of JSON-RPC 2.0 section 5.1, and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub enum Code {
    /// The line is no JSON.
    Parse,
    /// It is JSON, but no request.
    InvalidRequest,
    /// There is no such method.
    MethodNotFound,
    /// The method does not take these parameters, or no such value exists (VLAN 4095).
    InvalidParams,
    /// The daemon failed.
    Internal,
    /// It contradicts what is there, or itself.
    Conflict,
    /// What it names is not there.
    NotFound,
    /// The host cannot: no such namespace, interface name taken, underlay address not on the host, out of descriptors.
    Host,
    /// The caller may not.
    Forbidden,
    /// All addresses of a pool are taken.
    Exhausted,
    /// Not at the moment: a takeover is under way.
    Busy,
    /// One of a later version.
    Other(i64),
}

/// Ours lie below the range that JSON-RPC reserves.
const CODES: [(Code, i64); 11] = [
    (Code::Parse, -32700),
    (Code::InvalidRequest, -32600),
    (Code::MethodNotFound, -32601),
    (Code::InvalidParams, -32602),
    (Code::Internal, -32603),
    (Code::Conflict, 1),
    (Code::NotFound, 2),
    (Code::Host, 3),
    (Code::Forbidden, 4),
    (Code::Exhausted, 5),
    (Code::Busy, 6),
];

impl From<i64> for Code {
    fn from(number: i64) -> Self {
        CODES.iter().find(|(_, n)| *n == number).map_or(Self::Other(number), |(code, _)| *code)
    }
}

impl From<Code> for i64 {
    fn from(code: Code) -> Self {
        match code {
            Code::Other(number) => number,
            _ => CODES.iter().find(|(c, _)| *c == code).map_or(-32603, |(_, number)| *number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_one_number_each() {
        for (code, number) in CODES {
            assert_eq!((i64::from(code), Code::from(number)), (number, code));
        }
        assert_eq!(i64::from(Code::from(99)), 99);
    }
}
