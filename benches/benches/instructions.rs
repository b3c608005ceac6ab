//! How many instructions a frame takes in memory: a number that, unlike time, does not depend on the machine and its load.
//!
//! The program runs itself under valgrind, once with so many frames and once with twice as many: the difference is
//! theirs alone.
#![allow(clippy::unwrap_used, reason = "constants that a type checks at run time")]

use std::env;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, ExitCode, Stdio};

use benches::{least, station, super_frame};
use vswitch_core::{Frame, Instant, Limits, Offload, PortId, PortMode, Switch, VlanId};
use vtep::{DatagramTrain, Directory, Merge, Trains, Vni, largest_inner_frame};

/// How the program tells itself what to run: the number of a part, and how many rounds.
const ROUNDS: &str = "--rounds";
const UNDERLAY_MTU: usize = 1500;
/// Payload of a full segment in an underlay of 1500 bytes.
const SEGMENT: u16 = 1398;
const SEGMENTS: u16 = 43;
/// Steps through numbers below a power of two so that each comes once and neighbours are far apart.
const STRIDE: u32 = 0x9e37_79b1;

struct Part {
    name: &'static str,
    run: fn(u32),
    rounds: u32,
}

const PARTS: [Part; 4] = [
    Part { name: "a frame, known unicast, 1k addresses", run: |rounds| pipeline(1 << 10, rounds), rounds: 100_000 },
    Part { name: "a frame, known unicast, 1M addresses", run: |rounds| pipeline(1 << 20, rounds), rounds: 100_000 },
    Part { name: "cut and encapsulate a super-frame of 43 segments", run: cut, rounds: 1_000 },
    Part { name: "verify and merge its 43 datagrams", run: merge, rounds: 500 },
];

fn main() -> ExitCode {
    let words: Vec<_> = env::args().collect();
    if let [_, word, part, rounds] = words.as_slice()
        && word == ROUNDS
    {
        let Part { run, .. } = PARTS[part.parse::<usize>().unwrap()];
        run(rounds.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if !words.iter().any(|word| word == "--bench") {
        // `cargo test --all-targets` starts benches too, and has no minute to spare.
        println!("instructions are counted with `cargo bench -p benches --bench instructions`");
        return ExitCode::SUCCESS;
    }
    println!("| part | instructions |\n|---|---|");
    for (number, part) in PARTS.iter().enumerate() {
        match count(number, part.rounds) {
            Ok(each) => println!("| {} | {each:.1} |", part.name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                println!("\nskipped: valgrind is not installed");
                return ExitCode::SUCCESS;
            }
            Err(error) => {
                eprintln!("instructions: {}: {error}", part.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Instructions a round.
fn count(part: usize, rounds: u32) -> io::Result<f64> {
    let once = total(part, rounds)?;
    let twice = total(part, rounds * 2)?;
    let more = u32::try_from(twice.saturating_sub(once)).map_err(io::Error::other)?;
    Ok(f64::from(more) / f64::from(rounds))
}

/// Instructions of a whole run.
fn total(part: usize, rounds: u32) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([ROUNDS, &part.to_string(), &rounds.to_string()])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    counted.ok_or_else(|| io::Error::other(format!("{}: no count in: {said}", output.status)))
}

/// Pairs of stations talk, each a frame in turn, as many pairs as a switch that knows `entries` addresses has on two ports.
fn pipeline(entries: u32, rounds: u32) {
    let mut switch = Switch::new(Limits { entries, per_port: entries }, 7);
    let vlan = VlanId::new(1).unwrap();
    for port in 0..4 {
        switch.add_port(PortId::new(port), PortMode::Access(vlan));
    }
    for number in 0..entries {
        let port = PortId::new(u16::from(number.to_le_bytes()[0] & 3));
        switch.ingress(Instant::default(), port, &least(station(number), station(number ^ 1)));
    }
    let frame = |flow: u32| {
        // Stations of a multiple of four are on port 0, the one behind each on port 1.
        let from = (flow.wrapping_mul(STRIDE) & (entries / 4 - 1)) * 4;
        least(station(from), station(from | 1))
    };
    // Made before, so that making them is not counted.
    let frames: Vec<_> = (0..256).map(frame).collect();
    for frame in frames.iter().cycle().take(usize::try_from(rounds).unwrap()) {
        black_box(switch.ingress(Instant::default(), PortId::new(0), black_box(frame)));
    }
}

fn remote() -> IpAddr {
    IpAddr::from([192, 0, 2, 2])
}

fn train(trains: &mut Trains, frame: &Frame) {
    trains.clear();
    trains.push(0, black_box(frame), Vni::new(100).unwrap(), SocketAddr::new(remote(), 4789), UNDERLAY_MTU).unwrap();
}

fn cut(rounds: u32) {
    let (frame, mut trains) = (super_frame(SEGMENTS * SEGMENT, SEGMENT), Trains::new(8, false));
    for _ in 0..rounds {
        train(&mut trains, &frame);
        black_box(&trains);
    }
}

fn merge(rounds: u32) {
    let vlan = VlanId::new(1).unwrap();
    let mut directory = Directory::new();
    directory.add_network(vlan, Vni::new(100).unwrap()).unwrap();
    directory.add_remote(remote(), PortId::new(9), [vlan].into_iter().collect()).unwrap();
    let (frames, mut trains) = ([super_frame(SEGMENTS * SEGMENT, SEGMENT)], Trains::new(8, false));
    train(&mut trains, &frames[0]);
    let (lane, train) = (0..trains.lanes()).find_map(|lane| Some((lane, trains.lane(lane).first()?))).unwrap();
    let pieces = trains.pieces(lane, train);
    let mut bytes: Vec<_> = pieces.iter().flat_map(|&piece| trains.resolve(piece, &frames).to_vec()).collect();
    let mut merge = Merge::new(largest_inner_frame(remote(), UNDERLAY_MTU));
    for _ in 0..rounds {
        merge.clear();
        let (bytes, debts) = (&mut bytes[..], Offload::default());
        let mut train = DatagramTrain { bytes, stride: train.stride, from: remote(), tos: 0, debts };
        merge.receive(0, &mut train, &directory, |reason| unreachable!("{reason:?}"));
        assert_eq!(black_box(merge.finish()).len(), 1);
    }
}
