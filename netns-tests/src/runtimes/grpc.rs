//! Just enough gRPC to speak as the kubelet does: `curl` carries it (HTTP/2 over a unix socket, trailers), the messages
//! (protocol buffers) are put together here. Debian has no `crictl`, and a Rust client would bring sixty crates for seven
//! calls.

use std::fs;
use std::process::Command;

use crate::runtimes::Machine;
use crate::{Context, Failure, Result, ensure};

/// Seconds that a call may take.
const PATIENCE: &str = "30";

/// A message, field by field. Fields that are not asked for may stay away: that is the format's way.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a string.
    pub(super) fn text(self, field: u8, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// Adds a message.
    pub(super) fn message(self, field: u8, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// Adds an entry of a map of strings.
    pub(super) fn entry(self, field: u8, key: &str, value: &str) -> Self {
        self.message(field, &Self::new().text(1, key).text(2, value))
    }

    /// Adds a number.
    pub(super) fn number(mut self, field: u8, number: u64) -> Self {
        self.0.push(field << 3);
        varint(&mut self.0, number);
        self
    }

    fn bytes(mut self, field: u8, bytes: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// All values of the strings and messages in `field`, in their order.
    pub(super) fn all(&self, field: u8) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        self.each(|number, value| {
            if let (true, Value::Bytes(bytes)) = (number == u64::from(field), value) {
                found.push(Self(bytes.to_vec()));
            }
        })?;
        Ok(found)
    }

    /// The message in `field`, empty where there is none.
    pub(super) fn get(&self, field: u8) -> Result<Self> {
        Ok(self.all(field)?.into_iter().next().unwrap_or_default())
    }

    /// The number in `field`, 0 where there is none.
    pub(super) fn get_number(&self, field: u8) -> Result<u64> {
        let mut found = 0;
        self.each(|number, value| {
            if let (true, Value::Number(value)) = (number == u64::from(field), value) {
                found = value;
            }
        })?;
        Ok(found)
    }

    /// This, as text.
    pub(super) fn into_text(self) -> Result<String> {
        Ok(String::from_utf8(self.0)?)
    }

    fn each(&self, mut visit: impl FnMut(u64, Value<'_>)) -> Result {
        let mut rest = &*self.0;
        while !rest.is_empty() {
            let key = read_varint(&mut rest)?;
            let value = match key & 7 {
                0 => Value::Number(read_varint(&mut rest)?),
                2 => {
                    let len = usize::try_from(read_varint(&mut rest)?)?;
                    let (bytes, after) = rest.split_at_checked(len).context("a message is cut short")?;
                    rest = after;
                    Value::Bytes(bytes)
                }
                other => return Err(Failure::new(format!("a field of wire type {other}"))),
            };
            visit(key >> 3, value);
        }
        Ok(())
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn read_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().context("a number is cut short")?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Failure::new("a number of more than 64 bits"))
}

/// Calls `method` (`package.Service/Name`) at the machine's `socket`.
///
/// # Errors
/// The status that is answered, where it is not OK.
pub(super) fn call(machine: &Machine, socket: &str, method: &str, request: &Message) -> Result<Message> {
    let folder = tempfile::tempdir()?;
    let (question, answer) = (folder.path().join("question"), folder.path().join("answer"));
    // Not compressed, and the length (gRPC over HTTP/2, "Length-Prefixed-Message").
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(request.0.len())?.to_be_bytes());
    framed.extend_from_slice(&request.0);
    fs::write(&question, framed)?;
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", PATIENCE, "--unix-socket"])
        .arg(machine.file(socket))
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "--dump-header", "-", "--output"])
        .arg(&answer)
        .arg("--data-binary")
        .arg(format!("@{}", question.display()))
        .arg(format!("http://localhost/{method}"))
        .output()
        .context("curl")?;
    ensure!(output.status.success(), "{method}: {}", String::from_utf8_lossy(&output.stderr).trim());
    let heads = String::from_utf8_lossy(&output.stdout);
    let head = |name: &str| heads.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (status, said) = (head("grpc-status:"), head("grpc-message:").unwrap_or_default());
    ensure!(status == Some("0"), "{method}: status {}: {said}", status.unwrap_or("none"));
    let framed = fs::read(&answer)?;
    let (_, message) = framed.split_at_checked(5).context("an answer without a message")?;
    Ok(Message(message.to_vec()))
}
