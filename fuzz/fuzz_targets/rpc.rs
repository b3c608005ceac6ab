//! Lines on the control socket: a request read is a request that can be written, and every line has an answer under
//! its own id, of bounded length.
//!
//! Input: the line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use vswitch_api::rpc::{Id, read_answer, read_request, write_answer, write_request};

fuzz_target!(|line: &[u8]| {
    let id = expected_id(line);
    match read_request(line) {
        Ok((read, request)) => {
            assert_eq!(Some(&read), id.as_ref());
            let written = write_request(read.clone(), &request).expect("what was read can be written");
            assert!(written.len() <= 2 * line.len() + 512, "{} bytes became {}", line.len(), written.len());
            assert_eq!(written.iter().position(|byte| *byte == b'\n'), Some(written.len() - 1), "one line");
            assert_eq!(read_request(&written), Ok((read, request)));
        }
        Err((read, error)) => {
            assert_eq!(read, id.unwrap_or(Id::Null));
            assert!(!error.message.is_empty());
            let answer = write_answer::<()>(read.clone(), Err(error.clone())).expect("an error can be written");
            assert!(answer.len() <= 16 * line.len() + 1024, "{} bytes became {}", line.len(), answer.len());
            assert_eq!(answer.iter().position(|byte| *byte == b'\n'), Some(answer.len() - 1), "one line");
            assert_eq!(read_answer(&answer).expect("an answer can be read"), (read, Err(error)));
        }
    }
});

/// The id by which the line wants its answer, read another way.
fn expected_id(line: &[u8]) -> Option<Id> {
    let value: Value = serde_json::from_slice(line).ok()?;
    match value.get("id") {
        Some(Value::Number(number)) => Some(number.as_i64().map_or(Id::Null, Id::Number)),
        Some(Value::String(text)) => Some(Id::Text(text.clone())),
        _ => Some(Id::Null),
    }
}
