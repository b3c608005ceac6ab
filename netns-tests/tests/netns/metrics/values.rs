//! What is told, beside what `vsctl` tells.

use std::fs;

use netns_tests::traffic::ping::ping;
use netns_tests::{Context, Daemon, Lab, Node, Result, SOON, ensure, ensure_eq, eventually};

use super::{ADDR, Scene, asked, page, scrape, spec};

pub(super) fn values_are_those_of_vsctl(lab: &Lab) -> Result {
    let scene = Scene::new(lab, &["--workers", "2", "--fdb-limit", "1000", "--fdb-limit-per-port", "900"])?;
    let Scene { one, .. } = &scene;
    let series = eventually(SOON, "both tell the same", || {
        let (before, series, after) = (one.stats()?, scrape(&one.host)?, one.stats()?);
        ensure_eq!(before, after, "counters that move meanwhile");
        ensure_eq!(series.stats()?, before, "what is told");
        Ok(series)
    })?;
    ensure!(series.stats()?.count("a", "rx_frames") > 0, "nothing was counted");
    let is = |name: &str, value: f64| -> Result {
        ensure_eq!(series.value(name)?, value, "{name}");
        Ok(())
    };
    // All that came from the peer and went to it is the tunnel's, and more that was no VXLAN.
    let peer = scene.two.ip;
    let frames = |way: &str| series.value(&format!("vswitch_peer_{way}_frames_total{{peer=\"{peer}\"}}"));
    is("vswitch_tunnel_transmit_frames_total", frames("transmit")?)?;
    ensure!(frames("transmit")? > 0.0 && frames("receive")? > 0.0, "the peer's: {series:?}");
    is("vswitch_tunnel_receive_frames_total", frames("receive")? + 1.0)?;
    let fdb = one.fdb()?;
    let behind = |place: &str| fdb.iter().filter(|entry| entry.place.as_deref() == Some(place)).count();
    is("vswitch_fdb_entries", float(fdb.len()))?;
    is("vswitch_port_fdb_entries{port=\"a\"}", float(behind("a")))?;
    is(&format!("vswitch_peer_fdb_entries{{peer=\"{peer}\"}}"), float(behind(&peer.to_string())))?;
    is("vswitch_vlan_fdb_entries{vlan=\"10\"}", float(fdb.iter().filter(|entry| entry.vlan == 10).count()))?;
    for (name, value) in [
        ("vswitch_ports", 2.0),
        ("vswitch_ports_lost", 0.0),
        ("vswitch_peers", 1.0),
        ("vswitch_vlan_ports{vlan=\"10\"}", 1.0),
        ("vswitch_vlan_peers{vlan=\"10\"}", 1.0),
        ("vswitch_vlan_ports{vlan=\"99\"}", 1.0),
        ("vswitch_vlan_info{vlan=\"10\",vni=\"100\",name=\"\"}", 1.0),
        ("vswitch_fdb_limit_entries", 1000.0),
        ("vswitch_fdb_port_limit_entries", 900.0),
    ] {
        is(name, value)?;
    }
    let status = one.ok("status")?;
    is("vswitch_fdb_learned_total", status["fdb_learned"].as_f64().context("fdb_learned")?)?;
    is(&format!("vswitch_build_info{{version={}}}", status["version"]), 1.0)?;
    let shares = status["workers_busy"].as_array().context("workers_busy")?;
    ensure_eq!(shares.len(), 2, "shares of workers");
    ensure!(shares.iter().all(|share| share.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share))), "{shares:?}");
    // Every frame was read in a batch: those of ports that were read, and of the tunnel those that were frames.
    let read: f64 = series.of("vswitch_worker_batch_frames_sum{").map(|(_, frames)| frames).sum();
    let came: f64 = series.of("vswitch_port_receive_frames_total{").map(|(_, frames)| frames).sum();
    ensure_eq!(read, came + frames("receive")?, "frames in batches");
    for worker in 0..2 {
        let turns = series.value(&format!("vswitch_worker_turn_seconds_count{{worker=\"{worker}\"}}"))?;
        let busy = series.value(&format!("vswitch_worker_busy_seconds_total{{worker=\"{worker}\"}}"))?;
        let all = series.value(&format!("vswitch_worker_turn_seconds_bucket{{worker=\"{worker}\",le=\"+Inf\"}}"))?;
        ensure_eq!(all, turns, "turns of worker {worker}");
        ensure!(series.value(&format!("vswitch_worker_sleeps_total{{worker=\"{worker}\"}}"))? > 0.0, "no sleep");
        ensure!(busy >= 0.0 && (turns == 0.0 || busy > 0.0), "{busy} s in {turns} turns");
    }
    ensure!(series.value("process_open_fds").unwrap_or(10.0) >= 10.0, "descriptors");
    let resident = fs::read_to_string(format!("/proc/{}/status", one.daemon.pid()))?;
    let resident = resident.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let resident = resident.context("VmRSS")?.parse::<f64>()? * 1024.0;
    let told = series.value("process_resident_memory_bytes")?;
    ensure!((told / resident - 1.0).abs() < 0.2, "{told} bytes resident, not {resident}");
    ensure_eq!(page(&asked(&one.host, ADDR, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")?)?, "ok\n", "health");
    Ok(())
}

pub(super) fn series_come_and_go_with_ports(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &spec(&[]))?;
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let of_port = |port: &str| -> Result<Vec<(String, f64)>> {
        let label = format!("port=\"{port}\"");
        let all = scrape(&node.host)?.0.into_iter().filter(|(series, _)| series.contains(&label));
        Ok(all.collect())
    };
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, [10, 0, 0, 2].into(), 56)?;
    let series = eventually(SOON, "both ports are told", || {
        let (a, b) = (of_port("a")?, of_port("b")?);
        ensure!(!a.is_empty() && !b.is_empty(), "{a:?} {b:?}");
        Ok(a)
    })?;
    ensure!(series.iter().any(|(name, up)| name == "vswitch_port_up{port=\"a\"}" && *up == 1.0), "{series:?}");
    node.ok("port del b")?;
    eventually(SOON, "the series of b are gone", || {
        ensure_eq!(of_port("b")?, Vec::new(), "series of b");
        Ok(())
    })?;
    ensure!(!of_port("a")?.is_empty(), "those of a stay");
    // The last descriptor of the namespace goes with its host.
    drop((a, b));
    let frames = |series: &[(String, f64)]| {
        series.iter().find(|(name, _)| name.starts_with("vswitch_port_receive_frames_total")).map(|(_, frames)| *frames)
    };
    eventually(SOON, "port a is lost, and what it counted is not", || {
        let series = of_port("a")?;
        ensure!(series.iter().any(|(name, up)| name == "vswitch_port_up{port=\"a\"}" && *up == 0.0), "{series:?}");
        ensure!(frames(&series) >= Some(1.0), "{series:?}");
        ensure_eq!(scrape(&node.host)?.value("vswitch_ports_lost")?, 1.0, "ports lost");
        Ok(())
    })
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
