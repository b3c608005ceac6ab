//! `vsctl capture` at work, and what its files say: read by another's reader.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::{Context, Drops, Failure, Lab, Node, Result, SOON, Stats, ensure, eventually};

/// A `vsctl capture` that writes to a file. It is killed with this.
#[derive(Debug)]
pub struct Watching {
    child: Child,
    path: PathBuf,
    said: PathBuf,
}

/// How one ended.
#[derive(Debug)]
pub struct Watched {
    /// The exit code.
    pub code: Option<i32>,
    /// What it said.
    pub said: String,
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub frames: Vec<Seen>,
    /// By interface: frames that were there, and how many of them were lost.
    pub interfaces: BTreeMap<String, (u64, u64)>,
}

/// A frame in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Nanoseconds since 1970.
    pub at: u128,
    /// The interface's name.
    pub port: String,
    /// Whether it came in.
    pub is_in: bool,
    /// Why it was dropped.
    pub dropped: Option<String>,
    /// What is known of it.
    pub bytes: Vec<u8>,
    /// How long it was.
    pub len: u64,
}

impl Watching {
    /// Starts `vsctl capture WORDS` and waits until it captures.
    ///
    /// # Errors
    /// Where it does not.
    pub fn start(lab: &Lab, node: &Node, name: &str, words: &str) -> Result<Self> {
        let folder = lab.folder(name)?;
        let (path, said) = (folder.join("capture.pcapng"), folder.join("said"));
        let mut command = node.vsctl().command()?;
        command.arg("capture").args(words.split_whitespace()).arg("-w").arg(&path);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?).spawn()?;
        let mut watching = Self { child, path, said };
        // The file is made once the daemon has answered, and by then every worker knows.
        eventually(SOON, "vsctl captures", || {
            if let Some(status) = watching.child.try_wait()? {
                let said = fs::read_to_string(&watching.said)?;
                return Err(Failure::new(format!("it ended: {status}: {said}")));
            }
            ensure!(watching.path.exists(), "there is no file yet");
            Ok(())
        })?;
        Ok(watching)
    }

    /// The file it writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn signal(&self, signal: Signal) -> Result {
        let pid = i32::try_from(self.child.id()).context("a process number")?;
        kill(Pid::from_raw(pid), signal).context("signal to vsctl")
    }

    /// Ends it as Ctrl-C does; what there is to be read.
    ///
    /// # Errors
    /// Where it does not end, or its file is not whole.
    pub fn stop(self) -> Result<Watched> {
        self.signal(Signal::SIGINT)?;
        self.ended()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn ended(mut self) -> Result<Watched> {
        let status = eventually(SOON, "vsctl capture ends", || self.child.try_wait()?.context("it runs"))?;
        let (frames, interfaces) = read(&self.path)?;
        let said = fs::read_to_string(&self.said)?;
        Ok(Watched { code: status.code(), said, path: self.path.clone(), frames, interfaces })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watched {
    /// The drops it saw, under the names of ports' counters.
    #[must_use]
    pub fn drops(&self) -> Drops {
        let mut drops = Drops::new();
        for (port, reason) in self.frames.iter().filter_map(|seen| Some((counted(&seen.port), seen.dropped.clone()?))) {
            *drops.entry((port, reason)).or_default() += 1;
        }
        drops
    }

    /// What counters would have counted of the frames it saw: `rx_frames` and its like, by port.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(String, String), u64> {
        let mut counts = BTreeMap::new();
        for seen in &self.frames {
            // One that fits nowhere is seen twice at the port that it came from: when it came, and when that was found out.
            let is_late = seen.is_in && seen.dropped.as_deref() == Some("too_big");
            let name = match (seen.is_in, &seen.dropped) {
                (true, _) if !is_late => "rx",
                (false, None) => "tx",
                _ => continue,
            };
            let mut add =
                |what, count| *counts.entry((counted(&seen.port), format!("{name}_{what}"))).or_default() += count;
            add("frames", 1);
            add("bytes", seen.len);
        }
        counts
    }

    /// Compares it with what was counted meanwhile.
    ///
    /// # Errors
    /// Where it saw more, or less.
    pub fn is_what_was_counted(&self, before: &Stats, after: &Stats) -> Result {
        crate::ensure_eq!(self.drops(), after.drops_since(before), "drops that were captured");
        let mut counted = BTreeMap::new();
        for ((port, name), count) in &after.counts {
            let grown = count - before.count(port, name);
            if grown > 0 && !is_unlike(port, name) {
                counted.insert((port.clone(), name.clone()), grown);
            }
        }
        let mut seen = self.counts();
        seen.retain(|(port, name), _| !is_unlike(port, name));
        crate::ensure_eq!(seen, counted, "frames that were captured");
        Ok(())
    }
}

const TUNNEL: &str = "tunnel";

/// Where bytes that are counted are not those that are seen: datagrams that became no frame are counted without their
/// length, and frames between a trunk and the tunnel with or without the tag that they came with, not the one they leave with.
fn is_unlike(port: &str, name: &str) -> bool {
    [(TUNNEL, "rx_bytes"), (TUNNEL, "tx_bytes"), ("trunk", "tx_bytes")].contains(&(port, name))
}

/// The port under whose name an interface's frames are counted.
fn counted(interface: &str) -> String {
    if interface.starts_with("remote ") { TUNNEL.to_owned() } else { interface.to_owned() }
}

/// What the file at `path` holds.
///
/// # Errors
/// Where it is no pcapng.
#[allow(clippy::type_complexity, reason = "taken apart at once")]
pub fn read(path: &Path) -> Result<(Vec<Seen>, BTreeMap<String, (u64, u64)>)> {
    let mut reader = PcapNgReader::new(BufReader::new(File::open(path)?)).context("a pcapng file")?;
    let (mut names, mut frames, mut interfaces) = (Vec::new(), Vec::new(), BTreeMap::new());
    while let Some(block) = reader.next_block() {
        match block.context("a block of a pcapng file")? {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                names.push(name.context("an interface has a name")?);
            }
            Block::EnhancedPacket(packet) => {
                let number = usize::try_from(packet.interface_id).context("an interface")?;
                let (mut is_in, mut dropped) = (None, None);
                for option in &packet.options {
                    match option {
                        EnhancedPacketOption::Flags(flags) => is_in = Some(flags & 3 == 1),
                        EnhancedPacketOption::Comment(text) => {
                            let reason = text.strip_prefix("dropped: ").and_then(|text| text.split(':').next());
                            dropped = reason.map(str::to_owned);
                        }
                        _ => {}
                    }
                }
                frames.push(Seen {
                    at: packet.timestamp.as_nanos(),
                    port: names.get(number).context("an interface is described before it is used")?.clone(),
                    is_in: is_in.context("a frame has a direction")?,
                    dropped,
                    bytes: packet.data.to_vec(),
                    len: packet.original_len.into(),
                });
            }
            Block::InterfaceStatistics(statistics) => {
                let number = usize::try_from(statistics.interface_id).context("an interface")?;
                let (mut there, mut lost) = (0, 0);
                for option in &statistics.options {
                    match option {
                        InterfaceStatisticsOption::IsbIfRecv(count) => there = *count,
                        InterfaceStatisticsOption::IsbIfDrop(count) => lost = *count,
                        _ => {}
                    }
                }
                let name: &String = names.get(number).context("an interface is described before it is used")?;
                interfaces.insert(name.clone(), (there, lost));
            }
            _ => {}
        }
    }
    Ok((frames, interfaces))
}

/// Why `tcpdump` cannot be had here.
#[must_use]
pub fn no_tcpdump() -> Option<String> {
    let run = Command::new("tcpdump").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.err().map(|error| format!("tcpdump (Debian package tcpdump): {error}"))
}
