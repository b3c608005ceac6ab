//! pcapng (draft-ietf-opsawg-pcapng), as far as a switch has something to say: an interface for each port, each frame with
//! its direction, and with the reason where it was dropped, as a comment.

use std::collections::BTreeMap;
use std::io::{self, Write};

use vswitch_api::record::{Direction, Record, Verdict};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
/// Reads as it is in the order of bytes that the file is written in.
const ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;
/// What readers take without a question (`MAXIMUM_SNAPLEN` of libpcap).
const SNAPLEN: u32 = 262_144;
/// Option: times count in 10 to the power of minus nine seconds.
const NANOSECONDS: u8 = 9;

const COMMENT: u16 = 1;
const USER_APPLICATION: u16 = 4;
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const RECEIVED: u16 = 4;
const DROPPED: u16 = 5;
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A capture that is being written.
#[derive(Debug)]
pub(super) struct Writer<W> {
    out: W,
    /// Ports by name: number, and what is known of it.
    interfaces: BTreeMap<String, Interface>,
    /// What ports are, by name.
    descriptions: BTreeMap<String, String>,
    /// What reasons mean, by name.
    reasons: BTreeMap<String, String>,
    /// The moment of the last frame.
    last: u64,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    number: u32,
    seen: u64,
    lost: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a capture.
    pub(super) fn new(
        out: W,
        descriptions: BTreeMap<String, String>,
        reasons: BTreeMap<String, String>,
    ) -> io::Result<Self> {
        let mut writer = Self { out, interfaces: BTreeMap::new(), descriptions, reasons, last: 0 };
        let mut body = Vec::new();
        body.extend_from_slice(&ORDER.to_le_bytes());
        body.extend_from_slice(&1_u16.to_le_bytes());
        body.extend_from_slice(&0_u16.to_le_bytes());
        body.extend_from_slice(&u64::MAX.to_le_bytes()); // its length is not known
        option(&mut body, USER_APPLICATION, concat!("vsctl ", env!("CARGO_PKG_VERSION")).as_bytes());
        end(&mut body);
        writer.block(SECTION, &body)?;
        Ok(writer)
    }

    /// Writes a frame.
    pub(super) fn record(&mut self, record: &Record) -> io::Result<()> {
        let interface = self.interface(&record.port)?;
        interface.seen += 1;
        let number = interface.number;
        self.last = record.at;
        let mut body = number.to_le_bytes().to_vec();
        time(&mut body, record.at);
        let known = u32::try_from(record.head.len()).unwrap_or(u32::MAX);
        body.extend_from_slice(&known.to_le_bytes());
        body.extend_from_slice(&record.len.to_le_bytes());
        padded(&mut body, &record.head);
        if let Verdict::Dropped(reason) = &record.verdict {
            let means = self.reasons.get(reason).map(|means| format!(": {means}")).unwrap_or_default();
            option(&mut body, COMMENT, format!("dropped: {reason}{means}").as_bytes());
        }
        let direction = match record.direction {
            Direction::In => INBOUND,
            Direction::Out => OUTBOUND,
        };
        option(&mut body, FLAGS, &direction.to_le_bytes());
        end(&mut body);
        self.block(PACKET, &body)
    }

    /// Notes frames that are not there.
    pub(super) fn lost(&mut self, port: &str, frames: u64) -> io::Result<()> {
        self.interface(port)?.lost += frames;
        Ok(())
    }

    /// Writes what is still on the way.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Ends the capture: how many frames were seen at each port, and how many of them are not there.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for Interface { number, seen, lost } in self.interfaces.clone().into_values() {
            let mut body = number.to_le_bytes().to_vec();
            time(&mut body, self.last);
            option(&mut body, RECEIVED, &(seen + lost).to_le_bytes());
            option(&mut body, DROPPED, &lost.to_le_bytes());
            end(&mut body);
            self.block(STATISTICS, &body)?;
        }
        self.out.flush()
    }

    /// The interface that stands for `port`.
    fn interface(&mut self, port: &str) -> io::Result<&mut Interface> {
        if !self.interfaces.contains_key(port) {
            let number = u32::try_from(self.interfaces.len()).map_err(io::Error::other)?;
            let mut body = ETHERNET.to_le_bytes().to_vec();
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&SNAPLEN.to_le_bytes());
            option(&mut body, NAME, port.as_bytes());
            if let Some(description) = self.descriptions.get(port) {
                option(&mut body, DESCRIPTION, description.as_bytes());
            }
            option(&mut body, RESOLUTION, &[NANOSECONDS]);
            end(&mut body);
            self.block(INTERFACE, &body)?;
            self.interfaces.insert(port.to_owned(), Interface { number, seen: 0, lost: 0 });
        }
        self.interfaces.get_mut(port).ok_or_else(|| io::Error::other("it was put there just now"))
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(12 + body.len()).map_err(io::Error::other)?.to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&len)?;
        self.out.write_all(body)?;
        self.out.write_all(&len)
    }
}

/// Half a word first, as the format has it.
fn time(body: &mut Vec<u8>, at: u64) {
    body.extend_from_slice(&(at >> 32).to_le_bytes()[..4]);
    body.extend_from_slice(&at.to_le_bytes()[..4]);
}

/// Whole words of 32 bits.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    debug_assert_eq!(body.len() % 4, 0);
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(body, value);
}

fn end(body: &mut Vec<u8>) {
    body.extend_from_slice(&[0; 4]);
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
    use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    #[test]
    fn another_reader_reads_it() {
        let mut file = Vec::new();
        let text = |text: &str| text.to_owned();
        let descriptions = [(text("a"), text("VLAN 10"))].into_iter().collect();
        let reasons = [(text("queue_full"), text("Nobody reads."))].into_iter().collect();
        let mut writer = Writer::new(&mut file, descriptions, reasons).unwrap();
        let frame = Record {
            at: 1_700_000_000_123_456_789,
            port: text("a"),
            direction: Direction::In,
            verdict: Verdict::Passed { to: text("b") },
            vlan: None,
            len: 100,
            head: vec![7; 61],
        };
        writer.record(&frame).unwrap();
        let verdict = Verdict::Dropped(text("queue_full"));
        writer.record(&Record { port: text("b"), direction: Direction::Out, verdict, ..frame }).unwrap();
        writer.lost("b", 5).unwrap();
        writer.finish().unwrap();

        let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
        let mut said = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => {
                    said.push(format!("interface {:?} {}", interface.linktype, interface.snaplen));
                    for option in interface.options {
                        match option {
                            InterfaceDescriptionOption::IfName(name) => said.push(format!("name {name}")),
                            InterfaceDescriptionOption::IfDescription(text) => said.push(format!("described {text}")),
                            InterfaceDescriptionOption::IfTsResol(exponent) => said.push(format!("10^-{exponent}")),
                            _ => {}
                        }
                    }
                }
                Block::EnhancedPacket(packet) => {
                    let (known, len) = (packet.data.len(), packet.original_len);
                    said.push(format!("{} {known}/{len} {}", packet.interface_id, packet.timestamp.as_nanos()));
                    for option in packet.options {
                        match option {
                            EnhancedPacketOption::Comment(text) => said.push(format!("comment {text}")),
                            EnhancedPacketOption::Flags(flags) => said.push(format!("flags {flags}")),
                            _ => {}
                        }
                    }
                }
                Block::InterfaceStatistics(statistics) => {
                    said.push(format!("statistics of {}", statistics.interface_id));
                    for option in statistics.options {
                        match option {
                            InterfaceStatisticsOption::IsbIfRecv(count) => said.push(format!("seen {count}")),
                            InterfaceStatisticsOption::IsbIfDrop(count) => said.push(format!("lost {count}")),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let expected = [
            "interface ETHERNET 262144",
            "name a",
            "described VLAN 10",
            "10^-9",
            "0 61/100 1700000000123456789",
            "flags 1",
            "interface ETHERNET 262144",
            "name b",
            "10^-9",
            "1 61/100 1700000000123456789",
            "comment dropped: queue_full: Nobody reads.",
            "flags 2",
            "statistics of 0",
            "seen 1",
            "lost 0",
            "statistics of 1",
            "seen 6",
            "lost 5",
        ];
        assert_eq!(said, expected);
    }
}
