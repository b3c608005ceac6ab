//! Frames as the switch saw them, on their way from the daemon to who looks: a compact form, one item after the other.
//!
//! An item is its length (`u32`, little endian as all numbers), its kind (a byte) and its fields. Whoever reads needs
//! nothing but the bytes so far: [`Item::take`].

use std::io::Write as _;

use serde::{Deserialize, Serialize};

/// Bytes that an item has at most: the longest frame, and all about it.
pub const MAX_ITEM: usize = 1 << 18;

const RECORD: u8 = 1;
const LOST: u8 = 2;
const SKIPPED: u8 = 3;
const END: u8 = 4;

const OUT: u8 = 1;
const DROPPED: u8 = 2;
const HAS_VLAN: u8 = 4;

/// Which way a frame passes a port, seen from the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into the switch: from the container, or the remote.
    In,
    /// Out of it.
    Out,
}

impl Direction {
    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Passed {
        /// Where to, of a frame that came in: a port, `remote IP`, or to how many it is flooded. Empty for one that leaves.
        to: String,
    },
    /// It was dropped, for the reason of this name.
    Dropped(String),
}

/// A frame at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When, in nanoseconds since 1970 (UTC).
    pub at: u64,
    /// The port's name, `remote IP`, or `tunnel` for what did not become a frame of a remote.
    pub port: String,
    /// Which way it passes the port.
    pub direction: Direction,
    /// What became of it.
    pub verdict: Verdict,
    /// The VLAN it travels in, where that is known.
    pub vlan: Option<u16>,
    /// Its length in bytes.
    pub len: u32,
    /// Its first bytes; all of them where it was not cut.
    pub head: Vec<u8>,
}

/// What stands in a stream of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A frame.
    Record(Record),
    /// Frames that were wanted and are not here, for the reader was too slow.
    Lost {
        /// At which port.
        port: String,
        /// How many.
        frames: u64,
    },
    /// Frames that were wanted and are not here, for more came than were asked for a second.
    Skipped {
        /// How many.
        frames: u64,
    },
    /// Nothing more comes: why, or nothing where all is told.
    End(String),
}

/// What became of a frame, in words that live elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// See [`Verdict::Passed`].
    To(&'a str),
    /// To so many.
    Flooded(u32),
    /// See [`Verdict::Dropped`].
    Dropped(&'a str),
}

/// A [`Record`] but for its bytes, in words that live elsewhere: to write one without making it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting<'a> {
    /// See [`Record::at`].
    pub at: u64,
    /// See [`Record::port`].
    pub port: &'a str,
    /// See [`Record::direction`].
    pub direction: Direction,
    /// See [`Record::verdict`].
    pub fate: Fate<'a>,
    /// See [`Record::vlan`].
    pub vlan: Option<u16>,
    /// See [`Record::len`].
    pub len: u32,
}

impl Sighting<'_> {
    /// Appends it to `out`, with the first `most` bytes of the frame that lies in `pieces`.
    pub fn write<'a>(&self, out: &mut Vec<u8>, pieces: impl IntoIterator<Item = &'a [u8]>, most: usize) {
        item(out, RECORD, |out| {
            let Self { at, port, direction, fate, vlan, len } = *self;
            let flag = |is_set, flag| if is_set { flag } else { 0 };
            let dropped = flag(matches!(fate, Fate::Dropped(_)), DROPPED);
            out.push(flag(direction == Direction::Out, OUT) | dropped | flag(vlan.is_some(), HAS_VLAN));
            out.extend_from_slice(&at.to_le_bytes());
            out.extend_from_slice(&vlan.unwrap_or_default().to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            text(out, |out| out.extend_from_slice(port.as_bytes()));
            text(out, |out| match fate {
                Fate::To(text) | Fate::Dropped(text) => out.extend_from_slice(text.as_bytes()),
                // A vector takes all that is written.
                Fate::Flooded(copies) => write!(out, "flood to {copies}").unwrap_or_default(),
            });
            let mut left = most;
            for piece in pieces {
                let piece = &piece[..piece.len().min(left)];
                out.extend_from_slice(piece);
                left -= piece.len();
            }
        });
    }
}

impl Record {
    fn read(body: &mut &[u8]) -> Option<Self> {
        let flags = u8::from_le_bytes(chunk(body)?);
        let at = u64::from_le_bytes(chunk(body)?);
        let vlan = u16::from_le_bytes(chunk(body)?);
        let len = u32::from_le_bytes(chunk(body)?);
        let port = read_text(body)?;
        let about = read_text(body)?;
        let verdict = if flags & DROPPED == 0 { Verdict::Passed { to: about } } else { Verdict::Dropped(about) };
        let direction = if flags & OUT == 0 { Direction::In } else { Direction::Out };
        let vlan = (flags & HAS_VLAN != 0).then_some(vlan);
        Some(Self { at, port, direction, verdict, vlan, len, head: std::mem::take(body).to_vec() })
    }
}

impl Item {
    /// Appends it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Record(Record { at, port, direction, verdict, vlan, len, head }) => {
                let fate = match verdict {
                    Verdict::Passed { to } => Fate::To(to),
                    Verdict::Dropped(reason) => Fate::Dropped(reason),
                };
                let sighting = Sighting { at: *at, port, direction: *direction, fate, vlan: *vlan, len: *len };
                sighting.write(out, [head.as_slice()], usize::MAX);
            }
            Self::Lost { port, frames } => item(out, LOST, |out| {
                out.extend_from_slice(&frames.to_le_bytes());
                text(out, |out| out.extend_from_slice(port.as_bytes()));
            }),
            Self::Skipped { frames } => item(out, SKIPPED, |out| out.extend_from_slice(&frames.to_le_bytes())),
            Self::End(why) => item(out, END, |out| text(out, |out| out.extend_from_slice(why.as_bytes()))),
        }
    }

    /// The first item in `bytes`, and how many bytes it has; `None` where it is not all there yet.
    ///
    /// # Errors
    /// Where these are no items, or those of another version.
    pub fn take(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadItem> {
        let Some((len, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        if !(1..=MAX_ITEM).contains(&len) {
            return Err(BadItem);
        }
        let Some(mut body) = rest.get(..len) else { return Ok(None) };
        let item = Self::read(&mut body).filter(|_| body.is_empty()).ok_or(BadItem)?;
        Ok(Some((item, 4 + len)))
    }

    fn read(body: &mut &[u8]) -> Option<Self> {
        Some(match u8::from_le_bytes(chunk(body)?) {
            RECORD => Self::Record(Record::read(body)?),
            LOST => {
                let frames = u64::from_le_bytes(chunk(body)?);
                Self::Lost { frames, port: read_text(body)? }
            }
            SKIPPED => Self::Skipped { frames: u64::from_le_bytes(chunk(body)?) },
            END => Self::End(read_text(body)?),
            _ => return None,
        })
    }
}

/// What came is no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon's stream of frames is not understood: are both of the same version?")]
pub struct BadItem;

/// Appends an item whose fields `write` writes.
fn item(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    write(out);
    let len = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// Appends what `write` writes, behind its length.
fn text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    write(out);
    out.truncate(at + 2 + usize::from(u16::MAX));
    let len = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    out[at..at + 2].copy_from_slice(&len.to_le_bytes());
}

fn chunk<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(*chunk)
}

fn read_text(body: &mut &[u8]) -> Option<String> {
    let len = usize::from(u16::from_le_bytes(chunk(body)?));
    let (text, rest) = body.split_at_checked(len)?;
    *body = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let record = Record {
            at: 1_700_000_000_123_456_789,
            port: "remote 192.0.2.2".to_owned(),
            direction: Direction::In,
            verdict: Verdict::Passed { to: "a".to_owned() },
            vlan: Some(10),
            len: 70_000,
            head: (0..=255).collect(),
        };
        let dropped = Record {
            direction: Direction::Out,
            verdict: Verdict::Dropped("queue_full".to_owned()),
            vlan: None,
            head: Vec::new(),
            ..record.clone()
        };
        vec![
            Item::Record(record),
            Item::Record(dropped),
            Item::Lost { port: "a".to_owned(), frames: 1 << 40 },
            Item::Skipped { frames: 7 },
            Item::End("another vswitchd has taken over".to_owned()),
        ]
    }

    #[test]
    fn items_come_back_from_any_pieces() {
        let mut bytes = Vec::new();
        items().iter().for_each(|item| item.write(&mut bytes));
        let (mut buffer, mut read) = (Vec::new(), Vec::new());
        for byte in bytes {
            buffer.push(byte);
            while let Some((item, len)) = Item::take(&buffer).unwrap() {
                read.push(item);
                buffer.drain(..len);
            }
        }
        assert_eq!(read, items());
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_sighting_is_a_record() {
        let sighting =
            Sighting { at: 1, port: "a", direction: Direction::In, fate: Fate::Flooded(3), vlan: None, len: 9 };
        let mut bytes = Vec::new();
        sighting.write(&mut bytes, [&[1, 2, 3][..], &[4, 5], &[6, 7, 8, 9]], 4);
        let (item, len) = Item::take(&bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        let Item::Record(record) = item else { panic!("{item:?}") };
        assert_eq!(record.verdict, Verdict::Passed { to: "flood to 3".to_owned() });
        assert_eq!((record.len, record.head), (9, vec![1, 2, 3, 4]));
    }

    #[test]
    fn what_is_no_item() {
        let mut bytes = Vec::new();
        Item::Skipped { frames: 7 }.write(&mut bytes);
        for (what, spoil) in [
            ("no kind", [0, 0, 0, 0, SKIPPED]),
            ("too long", [0, 0, 0, 1, SKIPPED]),
            ("a kind of tomorrow", [9, 0, 0, 0, 9]),
            ("bytes too many", [9, 0, 0, 0, END]),
        ] {
            let mut spoiled = bytes.clone();
            spoiled[..5].copy_from_slice(&spoil);
            assert_eq!(Item::take(&spoiled), Err(BadItem), "{what}");
        }
        assert_eq!(Item::take(&bytes[..3]), Ok(None));
        assert_eq!(Item::take(&bytes[..12]), Ok(None));
    }
}
