//! How many instructions a frame takes in memory: a number that, unlike time, does not depend on the machine and its load.
//!
//! The program runs itself under valgrind, once with so many frames and once with twice as many: the difference is
//! theirs alone.
#![allow(clippy::unwrap_used, reason = "constants that a type checks at run time")]

use std::env;
use std::hint::black_box;
use std::io;
use std::process::{Command, ExitCode, Stdio};

use benches::{least, station, stations, tunnel};
use vswitch_core::{Guard, Instant, PortId, Prefix};

/// How the program tells itself what to run: the number of a part, and how many rounds.
const ROUNDS: &str = "--rounds";

struct Part {
    name: &'static str,
    run: fn(u32),
    rounds: u32,
}

const PARTS: [Part; 7] = [
    Part { name: "a frame, known unicast, 1k addresses", run: |rounds| pipeline(1 << 10, rounds), rounds: 100_000 },
    Part { name: "a frame, known unicast, 1M addresses", run: |rounds| pipeline(1 << 20, rounds), rounds: 100_000 },
    Part { name: "a frame among 32, known unicast", run: |rounds| batches(None, rounds), rounds: 100_000 },
    Part { name: "the same, its MAC address guarded", run: |rounds| batches(Some(false), rounds), rounds: 100_000 },
    Part { name: "the same, its IPv4 address too", run: |rounds| batches(Some(true), rounds), rounds: 100_000 },
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
    let mut switch = stations::switch(entries);
    stations::learn(&mut switch, entries);
    // Made before, so that making them is not counted.
    let frames = stations::frames(entries, 0, 256);
    for frame in frames.iter().cycle().take(usize::try_from(rounds).unwrap()) {
        black_box(switch.ingress(Instant::default(), PortId::new(0), black_box(frame)));
    }
}

/// Two stations talk, 32 frames at a time. With a guard, the port may use one MAC address and, if `ip`, two prefixes.
fn batches(ip: Option<bool>, rounds: u32) {
    let (mut switch, port) = (stations::switch(1 << 10), PortId::new(0));
    let from = station(0);
    if let Some(ip) = ip {
        let prefixes = ["fd00::1", "10.0.0.1"].map(|ip| Prefix::host(ip.parse().unwrap()));
        switch.set_guard(port, Guard::new(Some(vec![from]), ip.then(|| prefixes.to_vec())));
    }
    switch.ingress(Instant::default(), PortId::new(1), &least(station(1), from));
    let mut frame = least(from, station(1));
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    for _ in 0..rounds.div_ceil(32) {
        let frames = (0..32).map(|_| &black_box(&frame)[..]);
        switch.ingress_batch(Instant::default(), port, frames, |_, _, verdict| {
            black_box(verdict);
        });
    }
}

fn cut(rounds: u32) {
    let (frame, mut trains) = (tunnel::frame(), tunnel::trains());
    for _ in 0..rounds {
        tunnel::cut(&mut trains, black_box(&frame));
        black_box(&trains);
    }
}

fn merge(rounds: u32) {
    let (frames, mut trains) = ([tunnel::frame()], tunnel::trains());
    tunnel::cut(&mut trains, &frames[0]);
    let (mut bytes, stride) = tunnel::on_the_wire(&trains, &frames);
    let (directory, mut batch) = (tunnel::directory(), tunnel::batch());
    for _ in 0..rounds {
        black_box(tunnel::merge(&mut batch, &directory, &mut bytes, stride));
    }
}
