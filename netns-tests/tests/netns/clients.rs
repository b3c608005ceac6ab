use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::traffic::{
    paced::{Paced, Trips},
    ping::ping,
};
use netns_tests::{
    Account, Context, Daemon, DaemonSpec, Failure, Host, Lab, Node, Random, Result, SOON, Underlay, ensure, ensure_eq,
    eventually, frames,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vswitch_sys::fdpass;

use crate::Tests;

pub(crate) const TESTS: Tests =
    &[("all_at_once", all_at_once), ("a_crowd_of_another_user", a_crowd_of_another_user), ("long_lists", long_lists)];

/// How long all of them are at it.
const WHILE: Duration = Duration::from_secs(5);
const IDLE: usize = 1_000;
/// Files beyond those at rest: 256 clients, 256 descriptors without the end of their line, one message in hand.
const FILES: usize = 256 + 256 + 253 + 16;
/// Memory beyond that at rest, in KiB: 64 MiB of answers that nobody reads and 256 halves of lines, each in room for
/// twice as much.
const MEMORY: u64 = (2 * (64 << 10)) + (256 * 2 * 80);
/// What may be left of it once they are gone: pieces that the allocator keeps.
const REMAINS: u64 = 8 << 10;

/// What the kernel says of a daemon: resident memory in KiB, and open files.
fn size(daemon: &Daemon) -> Result<(u64, usize)> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let files = fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count();
    Ok((resident.context("no VmRSS")?.trim().parse()?, files))
}

/// The socket of the daemon that is tried, and whether to go on.
struct Target<'a> {
    socket: &'a Path,
    over: &'a AtomicBool,
}

impl Target<'_> {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// A connection whose sender waits no longer than a moment: who does not read is not read from.
    fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(self.socket)?;
        stream.set_write_timeout(Some(Duration::from_millis(50)))?;
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(stream)
    }

    /// Connects again and again; `hold` says what to do with a connection until it breaks.
    fn again(&self, mut hold: impl FnMut(UnixStream)) -> usize {
        let mut times = 0;
        while self.goes_on() {
            if let Ok(stream) = self.connect() {
                times += 1;
                hold(stream);
            }
        }
        times
    }

    /// Each says a little, and then nothing for the rest of its time.
    fn idle(&self, says: &[u8]) -> usize {
        let crowd: Vec<_> = (0..IDLE / 2)
            .filter_map(|_| {
                let mut stream = self.connect().ok()?;
                stream.write_all(says).ok()?;
                Some(stream)
            })
            .collect();
        while self.goes_on() {
            thread::park_timeout(Duration::from_millis(10));
        }
        crowd.len()
    }

    fn endless_lines(&self) -> usize {
        let chunk = [b'x'; 1 << 16];
        self.again(|mut stream| while self.goes_on() && stream.write_all(&chunk).is_ok() {})
    }

    fn garbage(&self, mut random: Random) -> usize {
        self.again(|mut stream| {
            let mut answers = [0; 1 << 16];
            loop {
                let mut bytes: Vec<_> =
                    (0..1 + random.below(4096)).map(|_| random.next_u64().to_le_bytes()[0]).collect();
                bytes.push(b'\n');
                if !self.goes_on() || stream.write_all(&bytes).is_err() || matches!(stream.read(&mut answers), Ok(0)) {
                    break;
                }
            }
        })
    }

    /// Asks for what is long, and reads nothing of it.
    fn deaf(&self) -> usize {
        let ask = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats\"}\n".repeat(100);
        let mut crowd = Vec::new();
        while self.goes_on() {
            if crowd.len() < 100
                && let Ok(stream) = self.connect()
            {
                crowd.push(stream);
            }
            crowd.retain_mut(|stream| {
                let _ = stream.set_nonblocking(true);
                !matches!(stream.write(ask.as_bytes()), Err(error) if error.kind() != std::io::ErrorKind::WouldBlock)
            });
            thread::yield_now();
        }
        crowd.len()
    }

    fn descriptors(&self) -> usize {
        let Ok(null) = fs::File::open("/dev/null") else { return 0 };
        let many = [null.as_fd(); fdpass::FDS_MAX];
        self.again(|stream| {
            // One at a time, as many as are taken; then as many as fit into a message.
            while self.goes_on() && fdpass::send(&stream, b"x", &many[..1]).is_ok() {}
            if let Ok(stream) = self.connect() {
                while self.goes_on() && fdpass::send(&stream, b"x", &many).is_ok() {}
            }
        })
    }
}

fn all_at_once(lab: &Lab) -> Result {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, DaemonSpec::default())?;
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    let (memory, files) = size(&node.daemon)?;
    let alone = beside(&a, &b, || {
        thread::sleep(WHILE / 5); // to compare with
        Ok(())
    })?;

    let over = AtomicBool::new(false);
    let target = Target { socket: node.daemon.socket(), over: &over };
    let (mut most_memory, mut most_files, mut answers) = (0, 0, 0);
    let mut tried = Vec::new();
    let crowded = beside(&a, &b, || {
        thread::scope(|scope| {
            let crowds = [
                ("idle", scope.spawn(|| target.idle(b""))),
                ("half a request", scope.spawn(|| target.idle(b"{\"jsonrpc\":\"2.0\","))),
                ("endless lines", scope.spawn(|| target.endless_lines())),
                ("garbage", scope.spawn(|| target.garbage(lab.random()))),
                ("deaf", scope.spawn(|| target.deaf())),
                ("descriptors", scope.spawn(|| target.descriptors())),
            ];
            let start = Instant::now();
            let outcome = (|| -> Result {
                while start.elapsed() < WHILE {
                    // Of the same user as the crowds: it may be let go for one of them, and comes again.
                    eventually(SOON, "vsctl is answered", || node.ok("status"))?;
                    answers += 1;
                    let (memory, files) = size(&node.daemon)?;
                    (most_memory, most_files) = (most_memory.max(memory), most_files.max(files));
                }
                Ok(())
            })();
            over.store(true, Ordering::Relaxed);
            for (what, crowd) in crowds {
                tried.push((what, crowd.join().map_err(|_| Failure::new(format!("{what} panicked")))?));
            }
            outcome
        })
    })?;
    eprintln!(
        "clients at once: {tried:?}; {answers} answers to vsctl; {}, alone {}; memory {memory} KiB, at most \
         {most_memory}; files {files}, at most {most_files}",
        slowest(&crowded),
        slowest(&alone),
    );
    for (what, times) in tried {
        ensure!(times > 0, "no client was {what}");
    }
    ensure!(most_files <= files + FILES, "{most_files} files were open, of {files} at rest");
    ensure!(most_memory <= memory + MEMORY, "{most_memory} KiB of memory, of {memory} at rest");
    eventually(SOON, "all comes back to what it was", || {
        let (memory_now, files_now) = size(&node.daemon)?;
        // At rest one more may have been counted: of a vsctl that had just ended.
        ensure!(files_now <= files, "{files_now} open files, of {files} before");
        ensure!(memory_now <= memory + REMAINS, "{memory_now} KiB of memory, of {memory} before");
        Ok(())
    })?;
    ping(&a, "10.0.0.2".parse()?, 56)
}

/// Sends a datagram from `a` to `b` and back every millisecond while `work` is done; none may be lost.
fn beside(a: &Host, b: &Host, work: impl FnOnce() -> Result) -> Result<Trips> {
    let paced = Paced::start((a, "10.0.0.1".parse()?), (b, "10.0.0.2".parse()?), Duration::from_millis(1))?;
    let outcome = work();
    let trips = paced.stop()?;
    outcome?;
    ensure_eq!(trips.lost, Vec::<usize>::new(), "lost of {} datagrams", trips.sent);
    ensure!(trips.sent > 100, "only {} datagrams", trips.sent);
    Ok(trips)
}

/// How long the slowest took.
fn slowest(trips: &Trips) -> String {
    format!("slowest of {} round trips {:.1} ms", trips.sent, trips.quantile(100).as_secs_f64() * 1e3)
}

/// The variable that makes this program a crowd: it connects to the socket named there, until its input ends.
const CROWD: &str = "VSWITCH_TEST_CROWD";

/// Is a crowd instead of tests, where the environment says so.
pub(crate) fn be_a_crowd() -> bool {
    let Some(socket) = std::env::var_os(CROWD).map(PathBuf::from) else { return false };
    let told = thread::spawn(|| std::io::stdin().read(&mut [0]));
    let mut crowd = std::collections::VecDeque::new();
    while !told.is_finished() {
        crowd.extend(UnixStream::connect(&socket));
        if crowd.len() > IDLE / 2 {
            crowd.pop_front();
        }
    }
    true
}

struct Crowd(Child);

impl Drop for Crowd {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who opens connections without end displaces his own, and nobody else's.
fn a_crowd_of_another_user(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let args = ["--socket-mode", "0666"].map(str::to_owned).to_vec();
    let daemon = Daemon::start(lab, &host, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let mut first = UnixStream::connect(daemon.socket())?;
    first.set_read_timeout(Some(SOON))?;
    let mut ask = || -> Result<usize> {
        first.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"port.list\"}\n")?;
        Ok(first.read(&mut [0; 4096])?)
    };
    ensure!(ask()? > 0, "no answer at first");
    let mut command = Account::user(54_321).command(std::env::current_exe()?);
    command.env(CROWD, daemon.socket()).stdin(Stdio::piped());
    let crowd = Crowd(host.spawn(command)?);
    eventually(SOON, "the crowd fills the room", || {
        let (_, files) = size(&daemon)?;
        ensure!(files > 256, "{files} open files");
        Ok(())
    })?;
    // Many times over: each connection of theirs makes the daemon choose whom to let go.
    for _ in 0..50 {
        daemon.vsctl().ok("status")?;
    }
    ensure!(ask()? > 0, "whoever was silent, of another user, was let go");
    drop(crowd);
    Ok(())
}

/// Addresses that are listed again and again.
const ADDRESSES: u64 = 16_000;

/// Who has all addresses listed without end takes no time from the datapath.
fn long_lists(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, DaemonSpec::default())?;
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    let (socket, to) = (b.packet_socket("eth0")?, a.mac("eth0")?);
    let mut next = 0_u32;
    eventually(SOON, "addresses are learned", || {
        for _ in 0..500 {
            let [x, y, z, w] = next.to_be_bytes();
            // No room in its queue: it comes again with the next look.
            if socket.send(&frames::probe(to, [2, 0xfd, x, y, z, w], None, 1)).is_ok() {
                next += 1;
            }
        }
        let known = node.ok("status")?["fdb_used"].as_u64().unwrap_or_default();
        ensure!(known >= ADDRESSES, "{known} addresses after {next}");
        Ok(())
    })?;
    let alone = beside(&a, &b, || {
        thread::sleep(WHILE / 5); // to compare with
        Ok(())
    })?;
    let mut lists = 0;
    let listing = beside(&a, &b, || {
        let start = Instant::now();
        while start.elapsed() < WHILE / 2 {
            let list = node.ok("fdb list")?;
            let known = list.as_array().map_or(0, Vec::len) as u64;
            ensure!(known >= ADDRESSES, "{known} addresses are listed");
            lists += 1;
        }
        Ok(())
    })?;
    eprintln!("{lists} lists of {ADDRESSES} addresses: {}, alone {}", slowest(&listing), slowest(&alone),);
    Ok(())
}
