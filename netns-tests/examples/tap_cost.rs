//! temporary
use std::time::Instant;
use vswitch_sys::*;
fn main() {
    let mut phases: Vec<Vec<f64>> = vec![vec![]; 6];
    let mut keep = Vec::new();
    for n in 0..200 {
        let ns = Netns::create().unwrap();
        let spec = InterfaceSpec {
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1450,
            addresses: vec!["10.0.0.2/24".parse().unwrap()],
            gateways: vec![],
            mark: "m".into(),
        };
        let t = |s: Instant| s.elapsed().as_secs_f64() * 1e3;
        let s = Instant::now();
        let nl = Netlink::open_in(&ns).unwrap();
        phases[0].push(t(s));
        let s = Instant::now();
        let _ = nl.link("eth0").unwrap();
        phases[1].push(t(s));
        if n % 2 == 0 {
            let s = Instant::now();
            let tap = Tap::open("eth0", 1, Some(&ns)).unwrap();
            phases[2].push(t(s));
            let s = Instant::now();
            nl.set_up(nl.link("eth0").unwrap().unwrap().index, true).unwrap();
            phases[3].push(t(s));
            keep.push(tap);
        } else {
            let s = Instant::now();
            let tap = spec.create_inside(&ns, 1).unwrap();
            phases[4].push(t(s));
            keep.push(tap);
        }
        std::mem::forget(ns);
    }
    for (name, p) in ["open_in", "link", "Tap::open moved", "set_up", "create_inside all", ""].iter().zip(&mut phases) {
        p.sort_by(f64::total_cmp);
        if !p.is_empty() {
            println!("{name}: p50 {:.2} p90 {:.2} max {:.2}", p[p.len() / 2], p[p.len() * 9 / 10], p[p.len() - 1]);
        }
    }
}
