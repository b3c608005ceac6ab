//! The envelope on the socket: JSON-RPC 2.0, one object a line, one request at a time.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Code, RpcError};
use crate::request::Request;

/// The longest line a daemon reads. A port with all it can have fits many times.
pub const MAX_REQUEST: usize = 64 * 1024;

/// Most descriptors that come with a request: a queue for each worker, and the namespace.
pub const MAX_DESCRIPTORS: usize = 65;

/// The longest line a client reads: an address table of a million entries fits.
pub const MAX_REPLY: usize = 256 * 1024 * 1024;

/// What a reply carries over from its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// The request's could not be read, or it had none.
    Null,
}

#[derive(Serialize, Deserialize)]
struct Call {
    jsonrpc: String,
    #[serde(default = "no_id")]
    id: Id,
    method: String,
    #[serde(default = "no_params")]
    params: Value,
}

const fn no_id() -> Id {
    Id::Null
}

fn no_params() -> Value {
    Value::Object(serde_json::Map::new())
}

#[derive(Serialize, Deserialize)]
struct Answer {
    jsonrpc: String,
    id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RpcError>,
}

const VERSION: &str = "2.0";

/// Reads one line as a request.
///
/// # Errors
/// The error to answer with, under the request's id where that could be read.
pub fn read_request(line: &[u8]) -> Result<(Id, Request), (Id, RpcError)> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| (Id::Null, RpcError::new(Code::Parse, format!("the line is no JSON: {error}"))))?;
    let id = value.get("id").and_then(|id| Id::deserialize(id).ok()).unwrap_or(Id::Null);
    let invalid = |why: String| {
        let message = format!("the line is no JSON-RPC 2.0 request ({why}): send jsonrpc, id, method and params");
        (id.clone(), RpcError::new(Code::InvalidRequest, message))
    };
    let call: Call = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
    if call.jsonrpc != VERSION {
        return Err(invalid(format!("its version is {:?}", call.jsonrpc)));
    }
    match Request::decode(&call.method, call.params) {
        Ok(request) => Ok((call.id, request)),
        Err(error) => Err((call.id, error)),
    }
}

/// Writes a request as one line, newline included.
///
/// # Errors
/// Where JSON cannot hold it.
pub fn write_request(id: Id, request: &Request) -> serde_json::Result<Vec<u8>> {
    let (method, params) = request.encode()?;
    line(&Call { jsonrpc: VERSION.to_owned(), id, method, params })
}

/// Writes an answer as one line, newline included.
///
/// # Errors
/// Where JSON cannot hold the result.
pub fn write_answer<T: Serialize>(id: Id, answer: Result<T, RpcError>) -> serde_json::Result<Vec<u8>> {
    let (result, error) = match answer {
        Ok(result) => (Some(serde_json::to_value(result)?), None),
        Err(error) => (None, Some(error)),
    };
    line(&Answer { jsonrpc: VERSION.to_owned(), id, result, error })
}

/// Reads one line as an answer: who is answered, and what.
///
/// # Errors
/// Where it is none.
pub fn read_answer(line: &[u8]) -> serde_json::Result<(Id, Result<Value, RpcError>)> {
    let Answer { id, result, error, .. } = serde_json::from_slice(line)?;
    Ok((id, error.map_or_else(|| Ok(result.unwrap_or(Value::Null)), Err)))
}

fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{EventKind, Listen};
    use crate::observe::{Capture, Filter, Last, Observe, Place};
    use crate::request::{Change, FdbFilter, Query, Takeover};

    fn read(line: &str) -> Result<(Id, Request), (Id, Code, String)> {
        read_request(line.as_bytes()).map_err(|(id, error)| (id, error.code, error.message))
    }

    #[test]
    fn lines_that_are_requests() {
        let table = [
            (r#"{"jsonrpc":"2.0","id":1,"method":"status"}"#, Request::Query(Query::Status {})),
            (r#"{"jsonrpc":"2.0","id":1,"method":"status","params":{}}"#, Request::Query(Query::Status {})),
            (r#"{"jsonrpc":"2.0","id":1,"method":"stats","params":{}}"#, Request::Query(Query::Stats { port: None })),
            (r#"{"jsonrpc":"2.0","id":1,"method":"monitor.start"}"#, Request::Query(Query::Monitor(Listen::default()))),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"monitor.start","params":{"vlan":7,"kinds":["fdb","drops"]}}"#,
                Request::Query(Query::Monitor(Listen {
                    vlan: Some("7".parse().unwrap()),
                    kinds: vec![EventKind::Fdb, EventKind::Drops],
                    port: None,
                })),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"fdb.list"}"#, Request::Query(Query::FdbList(FdbFilter::default()))),
            (r#"{"jsonrpc":"2.0","id":1,"method":"fdb.flush"}"#, Request::Flush(FdbFilter::default())),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"vlan.del","params":{"vlan":7}}"#,
                Request::Change(Change::VlanDel { vlan: "7".parse().unwrap() }),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"takeover.begin","params":{"format":1}}"#,
                Request::Takeover(Takeover::Begin { format: 1 }),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"takeover.pause"}"#, Request::Takeover(Takeover::Pause {})),
            (r#"{"jsonrpc":"2.0","id":1,"method":"capture.start"}"#, Observe::Start(Capture::default()).into()),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"capture.last","params":{"seconds":30,"filter":{"where":"drops"}}}"#,
                Observe::Last(Last { seconds: 30, filter: Filter { place: Place::Drops, ..Filter::default() } }).into(),
            ),
        ];
        for (line, request) in table {
            assert_eq!(read(line), Ok((Id::Number(1), request.clone())), "{line}");
            let written = write_request(Id::Text("x".to_owned()), &request).unwrap();
            assert_eq!(written.iter().filter(|&&byte| byte == b'\n').count(), 1);
            assert_eq!(read_request(&written).unwrap(), (Id::Text("x".to_owned()), request));
        }
    }

    #[test]
    fn lines_that_are_none() {
        let table = [
            ("", Id::Null, Code::Parse, "no JSON"),
            ("{\"jsonrpc\"", Id::Null, Code::Parse, "no JSON"),
            ("[]", Id::Null, Code::InvalidRequest, "jsonrpc"),
            (r#"{"id":3}"#, Id::Number(3), Code::InvalidRequest, "jsonrpc"),
            (r#"{"jsonrpc":"1.0","id":3,"method":"status"}"#, Id::Number(3), Code::InvalidRequest, "1.0"),
            (r#"{"jsonrpc":"2.0","id":[],"method":"status"}"#, Id::Null, Code::InvalidRequest, "id"),
            (r#"{"jsonrpc":"2.0","id":3,"method":"port.fly"}"#, Id::Number(3), Code::MethodNotFound, "port.add"),
            (r#"{"jsonrpc":"2.0","id":3,"method":"port.show"}"#, Id::Number(3), Code::InvalidParams, "name"),
            (r#"{"jsonrpc":"2.0","id":3,"method":"status","params":{"a":1}}"#, Id::Number(3), Code::InvalidParams, "a"),
            (r#"{"jsonrpc":"2.0","id":3,"method":"status","params":[]}"#, Id::Number(3), Code::InvalidParams, "status"),
            (
                r#"{"jsonrpc":"2.0","id":3,"method":"vlan.del","params":{"vlan":7,"vni":8}}"#,
                Id::Number(3),
                Code::InvalidParams,
                "vni",
            ),
        ];
        for (line, id, code, part) in table {
            let error = read(line).unwrap_err();
            assert_eq!((&error.0, error.1), (&id, code), "{line}: {error:?}");
            assert!(error.2.contains(part), "{line}: {error:?}");
        }
    }

    #[test]
    fn answers_come_back() {
        let refused = RpcError::new(Code::Conflict, "no");
        let line = write_answer::<()>(Id::Number(1), Err(refused.clone())).unwrap();
        assert_eq!(line, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"no\"}}\n");
        assert_eq!(read_answer(&line).unwrap(), (Id::Number(1), Err(refused)));
        let line = write_answer(Id::Null, Ok([1, 2])).unwrap();
        assert_eq!(read_answer(&line).unwrap(), (Id::Null, Ok(serde_json::json!([1, 2]))));
        assert!(read_answer(b"{}").is_err());
    }
}
