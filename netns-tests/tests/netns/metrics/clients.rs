//! Who asks, whatever the daemon is going through: clients that mean no good, a sandbox, a takeover.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::traffic::paced::Paced;
use netns_tests::traffic::ping::ping;
use netns_tests::{Context, Daemon, DaemonSpec, Failure, Lab, Node, Result, SOON, ensure, ensure_eq, eventually};

use super::{ADDR, GET, Scene, Series, asked, page, scrape, spec};

pub(super) fn malformed_http(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &spec(&[]))?;
    daemon.vsctl().ok("status")?; // it listens for vsctl first
    let mut random = lab.random();
    let noise: Vec<u8> = (0..64 << 10).map(|_| random.next_u64().to_le_bytes()[0] | 0x80).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("404", b"GET /../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        ("405", b"DELETE /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nxxxx".to_vec()),
        ("400", b"GET /metrics HTTP/1.1\r\n\r\n".to_vec()),
        ("400", b"GET /metrics\r\n\r\n".to_vec()),
        ("400", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("400", noise),
        ("431", [b"GET /".as_slice(), &vec![b'a'; 1 << 20]].concat()),
        ("431", [b"GET /metrics HTTP/1.1\r\n".as_slice(), &b"x: y\r\n".repeat(1 << 16)].concat()),
        ("505", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ];
    for (status, request) in cases {
        let start = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        // What sends on and on may hear of nothing but a reset.
        match asked(&host, ADDR, request.clone()) {
            Ok(answer) => ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{start:?}: {answer}"),
            Err(failure) => ensure!(request.len() > 8 << 10, "{start:?}: {failure}"),
        }
        scrape(&host).context(start)?;
    }
    ensure!(!daemon.log()?.contains("ERROR"), "{}", daemon.log()?);
    Ok(())
}

pub(super) fn slow_clients_are_felt_by_nobody(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &spec(&[]))?;
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, [10, 0, 0, 2].into(), 56)?;
    scrape(&node.host)?;
    let files = || Ok::<_, Failure>(fs::read_dir(format!("/proc/{}/fd", node.daemon.pid()))?.count());
    let before = files()?;
    let paced = Paced::start((&a, [10, 0, 0, 1].into()), (&b, [10, 0, 0, 2].into()), Duration::from_millis(1))?;
    let crowd = node.host.call(|| {
        let says: [&[u8]; 3] = [b"", b"GET /metrics HTTP/1.1\r\nHost", GET.as_bytes()];
        (0..CROWD)
            .map(|number| {
                let mut stream = TcpStream::connect(ADDR)?;
                stream.write_all(says[number % 3])?;
                Ok(stream)
            })
            .collect::<std::io::Result<Vec<_>>>()
    })?;
    let (start, mut scrapes) = (Instant::now(), 0_u32);
    let mut most = before;
    while start.elapsed() < Duration::from_secs(6) {
        let begun = Instant::now();
        scrape(&node.host)?;
        node.ok("status")?;
        ensure!(begun.elapsed() < Duration::from_secs(5), "a page took {:?}", begun.elapsed());
        most = most.max(files()?);
        scrapes += 1;
    }
    // By now those that are slow were let go.
    eventually(SOON, "the slow are gone", || {
        let now = files()?;
        ensure!(now <= before + 2, "{now} descriptors, {before} before");
        Ok(())
    })?;
    let trips = paced.stop()?;
    lab.note(format!("{scrapes} pages; {} round trips, half within {:?}", trips.sent, trips.quantile(50)));
    ensure!(most <= before + 64 + 4, "{most} descriptors, {before} before");
    ensure!(trips.sent > 1_000, "{} datagrams are too few to prove anything", trips.sent);
    ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
    drop(crowd);
    Ok(())
}

/// With a port that root alone may listen on, and nothing that it may open.
pub(super) fn by_a_user_in_a_sandbox(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let low = "127.0.0.1:475";
    let words = ["--user", "nobody", "--no-enter-namespaces", "--metrics-addr", low];
    let args = words.iter().map(|word| (*word).to_owned()).collect();
    let daemon = Daemon::start(lab, &host, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let status = daemon.vsctl().ok("status")?;
    ensure_eq!((&status["user"], status["capabilities"].as_array().map(Vec::len)), (&"nobody".into(), Some(0)), "who");
    let series = Series::read(page(&asked(&host, low, GET)?)?)?;
    ensure!(series.value("process_resident_memory_bytes")? > 0.0, "memory");
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let thread = fs::read_to_string(task?.path().join("status"))?;
        if thread.starts_with("Name:\tmetrics\n") {
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                ensure!(thread.contains(&format!("{set}:\t0000000000000000")), "{thread}");
            }
            return Ok(());
        }
    }
    Err(Failure::new("no thread is called metrics"))
}

/// Nobody is refused, and no counter runs backwards.
pub(super) fn over_a_takeover(lab: &Lab) -> Result {
    let Scene { one, a, two: _two, _b, alone: _alone, _underlay } = Scene::new(lab, &[])?;
    let Node { mut daemon, host, ip } = one;
    let spec = DaemonSpec { vtep_ip: Some(ip), ..spec(&[]) };
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut grows = |series: &Series| -> Result {
        for (name, value) in series.0.iter().filter(|(name, _)| name.starts_with("vswitch_port_receive_")) {
            let before = last.insert(name.clone(), *value).unwrap_or(0.0);
            ensure!(*value >= before, "{name} ran from {before} to {value}");
        }
        Ok(())
    };
    for _ in 0..3 {
        grows(&scrape(&host)?)?;
        let old = daemon.pid();
        let asking = host.twin("asking")?;
        let (over, hear) = std::sync::mpsc::channel::<()>();
        let others = thread::spawn(move || -> std::result::Result<(usize, usize), String> {
            let (mut pages, mut busy) = (0, 0);
            loop {
                match asked(&asking, ADDR, GET).map_err(|failure| failure.to_string())? {
                    answer if answer.starts_with("HTTP/1.1 200 ") => pages += 1,
                    answer if answer.starts_with("HTTP/1.1 503 ") => busy += 1,
                    answer => return Err(answer),
                }
                if hear.try_recv().is_ok() {
                    return Ok((pages, busy));
                }
            }
        });
        daemon = daemon.taken_over(lab, &host, &spec)?;
        ping(&a, [10, 0, 0, 2].into(), 56)?;
        let _ = over.send(()); // it has ended where it failed
        let (pages, busy) = others.join().map_err(|_| Failure::new("who asks panicked"))?.map_err(Failure::new)?;
        lab.note(format!("{pages} pages, {busy} times told to come again"));
        ensure!(pages > 0 && daemon.pid() != old, "{pages} pages");
        eventually(SOON, "the new one counts on", || grows(&scrape(&host)?))?;
    }
    // Another address is another listener.
    let args = vec!["--metrics-addr".to_owned(), "127.0.0.1:9476".to_owned()];
    let daemon = daemon.taken_over(lab, &host, &DaemonSpec { args, ..spec })?;
    page(&asked(&host, "127.0.0.1:9476", GET)?)?;
    ensure!(asked(&host, ADDR, GET).is_err(), "somebody listens there still");
    drop(daemon);
    Ok(())
}

/// Slow clients; more than the daemon has places for.
const CROWD: usize = 100;
