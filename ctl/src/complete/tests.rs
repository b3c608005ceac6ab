use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use super::*;

/// What may stand at the end of `line`, which goes on after its last space.
fn proposed(line: &str) -> Vec<(String, String)> {
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    let mut out = Vec::new();
    propose(words.len() - 1, words, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines()
        .map(|line| line.split_once('\t').unwrap_or((line, "")))
        .map(|(value, help)| (value.to_owned(), help.to_owned()))
        .collect()
}

fn values(line: &str) -> Vec<String> {
    proposed(line).into_iter().map(|(value, _)| value).collect()
}

/// A daemon that answers each connection's request with the first of `answers` whose method it calls; ends with the
/// last of `asked` connections.
fn daemon(
    asked: usize,
    answers: &'static [(&'static str, &'static str)],
) -> (tempfile::TempDir, String, JoinHandle<()>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let serve = move || {
        for _ in 0..asked {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let (_, answer) =
                answers.iter().find(|(method, _)| line.contains(&format!("\"method\":\"{method}\""))).unwrap();
            let answer = answer.replace('\n', "");
            (&stream).write_all(format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{answer}}}\n").as_bytes()).unwrap();
        }
    };
    (folder, format!("vsctl --socket {}", path.display()), thread::spawn(serve))
}

const PORTS: &str = r#"[
    {"name": "web", "netns": "a", "ifname": "eth0", "mac": null, "addresses": ["10.0.0.2/24"], "mtu": 1500,
     "mode": "access", "vlan": 10, "vlans": [], "native": null, "state": "up", "offloads": []},
    {"name": "wiki", "netns": "b", "ifname": "eth0", "mac": null, "addresses": [], "mtu": 1500, "mode": "trunk",
     "vlan": null, "vlans": [10, 20], "native": null, "state": "lost", "offloads": []}]"#;
const VLANS: &str = r#"[
    {"vlan": 10, "vni": 5010, "name": "lab", "learning": true, "ports": ["web"], "peers": []},
    {"vlan": 12, "vni": null, "name": null, "learning": true, "ports": [], "peers": []},
    {"vlan": 200, "vni": null, "name": null, "learning": true, "ports": [], "peers": []}]"#;
const PEERS: &str =
    r#"[{"ip": "192.0.2.2", "all_vlans": true, "vlans": []}, {"ip": "fd00::2", "all_vlans": false, "vlans": [10]}]"#;
const FDB: &str = r#"[{"mac": "02:00:00:00:00:01", "vlan": 10, "kind": "static", "port": "web", "remote": null,
    "age_s": null, "flapping": null}]"#;
const FEW: &str = r#"{"fdb_used": 1000}"#;
const HEARD: &str =
    r#"[{"ip": "10.0.0.2", "mac": "02:00:00:00:00:01", "vlan": 10, "port": "web", "remote": null, "age_s": 3}]"#;
const STATS: &str = r#"{"ports": [], "reasons": {"queue_full": "The queue is full.", "too_big": "It does not fit."}}"#;
const ATTACHED: &str = r#"[{"network": "lab", "container": "c1", "ifname": "eth0", "port": "web", "netns": "a",
    "addresses": [], "delegated": false, "state": "up"}]"#;

#[test]
fn words_of_the_grammar() {
    let all = values("vsctl ");
    for word in ["port", "vlan", "status", "completions"] {
        assert!(all.iter().any(|other| other == word), "{word}: {all:?}");
    }
    for hidden in ["complete", "man"] {
        assert!(!all.iter().any(|other| other == hidden), "{hidden}: {all:?}");
    }
    assert_eq!(values("vsctl po"), ["port", "pool"]);
    assert_eq!(values("vsctl port s"), ["show", "set"]);
    assert_eq!(values("vsctl completions "), ["bash", "zsh", "fish", "elvish", "powershell"]);
    assert_eq!(values("vsctl port add --gat"), ["--gateway"]);
    let (word, help) = &proposed("vsctl port li")[0];
    assert_eq!((word.as_str(), help.as_str()), ("list", "List the ports"));
}

#[test]
fn names_from_the_daemon() {
    type Row = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);
    let table: &[Row] = &[
        ("port show ", &[("port.list", PORTS)], &["web", "wiki"]),
        ("port del we", &[("port.list", PORTS)], &["web"]),
        ("stats t", &[("port.list", PORTS)], &["tunnel"]),
        ("fdb list --port wi", &[("port.list", PORTS)], &["wiki"]),
        ("fdb list --port=wi", &[("port.list", PORTS)], &["--port=wiki"]),
        ("port add x --access 1", &[("vlan.list", VLANS)], &["10", "12"]),
        ("port set x --trunk 10,1", &[("vlan.list", VLANS)], &["10,12"]),
        ("vlan del ", &[("vlan.list", VLANS)], &["10", "12", "200"]),
        ("vtep peer del ", &[("peer.list", PEERS)], &["192.0.2.2", "fd00::2"]),
        ("vtep peer del fd00::", &[("peer.list", PEERS)], &["fd00::2"]),
        ("fdb del 02:00:", &[("status", FEW), ("fdb.list", FDB)], &["02:00:00:00:00:01"]),
        ("fdb del 02:00:", &[("status", r#"{"fdb_used": 1001}"#)], &[]),
        ("capture --mac 02:", &[("status", FEW), ("fdb.list", FDB)], &["02:00:00:00:00:01"]),
        ("capture --ip 10", &[("neighbour.list", HEARD)], &["10.0.0.2"]),
        ("capture --reason t", &[("stats", STATS)], &["too_big"]),
        ("trace web --dst 02:", &[("status", FEW), ("fdb.list", FDB)], &["02:00:00:00:00:01"]),
        ("trace --live --match ", &[], &["port=", "mac=", "ip=", "vlan=", "reason=", "direction="]),
        ("trace --live --match po", &[], &["port="]),
        ("trace --live --match=ma", &[], &["--match=mac="]),
        ("trace --live --match vlan=10,r", &[], &["vlan=10,reason="]),
        ("trace --live --match port=w", &[("port.list", PORTS), ("peer.list", PEERS)], &["port=web", "port=wiki"]),
        ("trace --live --match port=t", &[("port.list", PORTS), ("peer.list", PEERS)], &["port=tunnel"]),
        ("trace --live --match port=web,vlan=1", &[("vlan.list", VLANS)], &["port=web,vlan=10", "port=web,vlan=12"]),
        ("trace --live --match vlan=10 mac=0", &[("status", FEW), ("fdb.list", FDB)], &["mac=02:00:00:00:00:01"]),
        ("trace --live --match ip=", &[("neighbour.list", HEARD)], &["ip=10.0.0.2"]),
        ("trace --live --match reason=", &[("stats", STATS)], &["reason=queue_full", "reason=too_big"]),
        ("trace --live --match direction=", &[], &["direction=in", "direction=out", "direction=both"]),
        ("trace --live --match colour=", &[], &[]),
        ("attachment list --network ", &[("attachment.list", ATTACHED)], &["lab"]),
        ("trace remote:f", &[("port.list", PORTS), ("peer.list", PEERS)], &["remote:fd00::2"]),
        ("capture w", &[("port.list", PORTS), ("peer.list", PEERS)], &["web", "wiki"]),
        ("why w", &[("port.list", PORTS), ("neighbour.list", "[]")], &["web", "wiki"]),
    ];
    for (line, answers, expected) in table {
        let (_folder, vsctl, daemon) = daemon(answers.len(), answers);
        assert_eq!(values(&format!("{vsctl} {line}")), *expected, "{line}");
        daemon.join().unwrap();
    }
    let (_folder, vsctl, daemon) = daemon(1, &[("port.list", PORTS)]);
    let said = proposed(&format!("{vsctl} port show "));
    daemon.join().unwrap();
    assert_eq!(said[0].1, "VLAN 10, 10.0.0.2/24");
    assert_eq!(said[1].1, "trunk, lost");
}

#[test]
fn nothing_is_said_where_nothing_is_known() {
    for line in ["vsctl --socket /nonexistent/s port show ", "vsctl port add "] {
        let values: Vec<_> = values(line).into_iter().filter(|value| !value.starts_with('-')).collect();
        assert!(values.is_empty(), "{line}: {values:?}");
    }
    // As scripts call it that count otherwise.
    for (index, words) in [(0, vec![]), (9, vec!["vsctl".into()]), (usize::MAX, vec!["vsctl".into()])] {
        propose(index, words, &mut io::sink()).unwrap();
    }
}

#[test]
fn a_word_is_one_line() {
    let odd = CompletionCandidate::new("a").help(Some("one\ttwo\nthree".into()));
    assert_eq!(line(&odd), b"a\tone two\n");
    assert_eq!(line(&CompletionCandidate::new("a\nb")), b"");
}

#[test]
fn scripts() {
    for shell in Shell::value_variants() {
        let mut text = Vec::new();
        script(*shell, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("vsctl"), "{shell:?}");
        let knows_words = text.contains("vtep");
        assert_eq!(!knows_words, matches!(shell, Shell::Bash | Shell::Zsh | Shell::Fish), "{shell:?}");
    }
}
