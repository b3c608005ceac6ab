//! temporary
use netns_tests::*;
use serde_json::json;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};
use vswitch_api::{Client, Request};
use vswitch_sys::fdpass;
fn main() {
    if !nix::unistd::geteuid().is_root() {
        panic!()
    }
    let lab = Lab::new(0, None).unwrap();
    let host = lab.host("h1").unwrap();
    let workers = std::env::var("W").unwrap_or("1".into());
    let daemon =
        Daemon::start(&lab, &host, &DaemonSpec { config: format!("workers = {workers}\n"), ..DaemonSpec::default() })
            .unwrap();
    let mut client = Client::connect(daemon.socket(), Duration::from_secs(10)).unwrap();
    let all: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    println!("pid {}", daemon.pid());
    let mut hosts = Vec::new();
    let mut times = Vec::new();
    for n in 0..all {
        let own = std::env::var_os("ONE").is_none() || hosts.is_empty();
        if own {
            hosts.push(lab.quiet_host(&format!("c{n}")).unwrap());
        }
        let c = hosts.last().unwrap();
        let params = json!({"port": {"name": format!("c{n}:eth0"), "netns": c.path(), "ifname": format!("e{n}"), "access": 10,
            "attachment": {"network": "net", "container": format!("c{n}")}}, "pools": [{"subnet": "10.0.0.0/16"}]});
        let request = Request::decode("attachment.add", params).unwrap();
        let start = Instant::now();
        client.call_sending(&request, |s, b| fdpass::send(s, b, &[c.netns().as_fd()])).unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if (n + 1) % 100 == 0 {
            let mut last: Vec<f64> = times[n - 99..].to_vec();
            last.sort_by(f64::total_cmp);
            println!("{:5} ports: p50 {:.2} ms p90 {:.2} p99 {:.2}", n + 1, last[50], last[90], last[99]);
        }
    }
    if std::env::var_os("HOLD").is_some() {
        std::thread::sleep(Duration::from_secs(30));
    }
}
