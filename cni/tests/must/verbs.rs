//! Section 2, verb by verb.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::runtime::{run, succeeds};
use crate::world::{World, attachment, status, with_attachments};

/// "Plugins must output a JSON object with the following keys upon a VERSION operation: cniVersion: The value of cniVersion
/// specified on input; supportedVersions".
#[test]
fn version_lists_what_is_spoken() {
    let supported = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    for (input, version) in [
        (r#"{"cniVersion":"1.1.0"}"#, "1.1.0"),
        (r#"{"cniVersion":"0.4.0","name":"x","type":"vswitch-cni"}"#, "0.4.0"),
        ("", "1.1.0"),
        ("{", "1.1.0"),
    ] {
        let ran = run("CNI_COMMAND=VERSION", input);
        assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{input}");
        assert_eq!(ran.json(), json!({"cniVersion": version, "supportedVersions": supported}));
    }
    // A runtime may leave whatever variables it has.
    assert_eq!(run("CNI_COMMAND=VERSION CNI_CONTAINERID=-- CNI_IFNAME=/ CNI_NETNS=x", "").exit, 0);
}

/// "Plugins MUST accept multiple DEL calls for the same pair, and return success if the interface in question, or any
/// modifications added, are missing." "Plugins should still return without error if prevResult is empty." The namespace
/// (`CNI_NETNS`) is optional, and may be gone.
#[test]
fn del_twice_and_without_anything() {
    let world = World::new(with_attachments(&[]));
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        for previous in ["", r#""prevResult":null"#, r#""prevResult":{}"#, r#""prevResult":{"ips":"nonsense"}"#] {
            world.run_in(version, "DEL", previous).silent();
        }
    }
    assert_eq!(world.removed().len(), 20);
    let socket = world.path().join("s");
    let config = format!(r#"{{"cniVersion":"1.1.0","name":"net","socket":{socket:?}}}"#);
    run("CNI_COMMAND=DEL CNI_CONTAINERID=c1 CNI_IFNAME=eth0", &config).silent();
    run("CNI_COMMAND=DEL CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=", &config).silent();
    // Nonsense where only ADD looks does not stop it.
    world.run("DEL", r#""vlan":"x","mac":7,"routes":false"#).silent();
    let removals: Vec<_> = world.asked().into_iter().filter(|(method, _)| method == "attachment.del").collect();
    assert_eq!(removals.last().unwrap().1, json!({"container": "c1", "ifname": "eth0", "network": "net"}));
}

/// "Plugins should generally complete a DEL action without error even if some resources are missing": an `nft` that does not
/// work concerns networks alone that masquerade.
#[test]
fn del_past_what_does_not_work() {
    let world = World::new(with_attachments(&[]));
    world.plugin("nft", "echo 'Operation not supported' >&2; exit 1");
    // A gateway was made since the host started.
    std::fs::write(world.path().join("cni-net.lock"), "").unwrap();
    let path = format!("PATH={}:/usr/bin:/bin", world.path().display());
    let with_path = ["env", &*path];
    world.run_by(&with_path, "DEL", "").silent();
    world.run_by(&with_path, "DEL", r#""isGateway":true"#).silent();
    let ran = world.run_by(&with_path, "DEL", r#""isGateway":true,"ipMasq":true"#);
    assert_eq!(ran.code(), 103);
    assert!(ran.details().contains("Operation not supported"), "{ran:?}");
}

/// "The plugin must consult the prevResult to determine the expected interfaces and addresses."
#[test]
fn check_without_what_add_answered() {
    let world = World::new(with_attachments(&["c1"]));
    assert_eq!(world.run("CHECK", "").code(), 7);
    for previous in ["{}", r#"{"interfaces":[{"name":"eth1","sandbox":"/nonexistent/netns"}]}"#] {
        let ran = world.run("CHECK", &format!(r#""prevResult":{previous}"#));
        assert_eq!(ran.code(), 105, "{ran:?}");
        assert!(ran.details().contains("prevResult has no interface eth0"), "{ran:?}");
    }
    assert_eq!(world.run("CHECK", r#""prevResult":{"ips":[{"address":"10.0.0.2"}]}"#).code(), 6);
}

/// "A plugin must exit with a zero (success) return code if the plugin is ready to service ADD requests. If the plugin
/// knows that it is not able to service ADD requests, it must exit with a non-zero return code and output an error on
/// standard out."
#[test]
fn status_says_whether_add_would_work() {
    let world = |free: u64| {
        World::new(Box::new(move |method, _| match method {
            "status" => Ok(status()),
            "pool.show" => Ok(
                json!([{"subnet": "10.0.0.0/24", "first": "10.0.0.1", "last": "10.0.0.254", "used": 1, "free": free}]),
            ),
            _ => Err((-32601, "there is no such method")),
        }))
    };
    world(1).run("STATUS", "").silent();
    world(1).run("STATUS", r#""subnet":"10.0.0.0/24""#).silent();
    let ran = world(0).run("STATUS", r#""subnet":"10.0.0.0/24""#);
    assert_eq!(ran.code(), 50);
    assert!(ran.details().contains("10.0.0.0/24"), "{ran:?}");
    // Frames pass the daemon: without it containers are cut off too.
    let ran = run("CNI_COMMAND=STATUS", r#"{"cniVersion":"1.1.0","name":"net","socket":"/nonexistent/s"}"#);
    assert_eq!(ran.code(), 51, "{ran:?}");
    assert_eq!(run("CNI_COMMAND=STATUS", r#"{"cniVersion":"1.1.0","name":"net","vlan":0}"#).code(), 7);
}

/// Masquerading is done by `nft`: without it no ADD of such a network succeeds.
#[test]
fn status_without_what_masquerades() {
    let world = World::new(with_attachments(&[]));
    let keys = r#""isGateway":true,"ipMasq":true"#;
    // A file system in which no folder for programs of the administrator has any.
    let bare = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
    let hides = "mount -t tmpfs none /usr/sbin && { [ -L /sbin ] || mount -t tmpfs none /sbin; }";
    if std::path::Path::new("/usr/bin/nft").exists() || !succeeds(&[&bare[..], &[hides]].concat()) {
        // Past the harness, which would swallow it.
        let reason = "nft cannot be hidden (needs unshare(1) and user namespaces)";
        let _ = writeln!(std::io::stderr(), "\nSKIPPED status_without_what_masquerades: {reason}");
        return;
    }
    let exec = format!("{hides} && exec \"$0\"");
    let within = [&bare[..], &[&*exec]].concat();
    let ran = world.run_by(&within, "STATUS", keys);
    assert_eq!(ran.code(), 50, "{ran:?}");
    assert!(ran.details().contains("ipMasq needs the program nft"), "{ran:?}");
    world.run_by(&within, "STATUS", r#""isGateway":true"#).silent();
}

/// "The network plugin may then remove any resources related to attachments that do not exist in this set."
#[test]
fn gc_keeps_what_is_listed_alone() {
    let list = |valid: &[&str]| {
        let valid: Vec<Value> = valid.iter().map(|c| json!({"containerID": c, "ifname": "eth0"})).collect();
        format!(r#""cni.dev/valid-attachments":{}"#, Value::from(valid))
    };
    for (valid, removed) in
        [(&["c1", "c2", "c3"][..], &[][..]), (&["c2", "c9"], &["c1", "c3"]), (&[], &["c1", "c2", "c3"])]
    {
        let world = World::new(with_attachments(&["c1", "c2", "c3"]));
        world.run("GC", &list(valid)).silent();
        assert_eq!(world.removed(), removed);
    }
    let world = World::new(with_attachments(&["c1"]));
    let other = r#""cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth1"}]"#;
    world.run("GC", other).silent();
    assert_eq!(world.removed(), ["c1"]);
    // No list is not an empty one.
    let world = World::new(with_attachments(&["c1"]));
    assert_eq!(world.run("GC", "").code(), 7);
    assert_eq!(world.run("GC", r#""cni.dev/valid-attachments":{}"#).code(), 7);
    assert_eq!(world.removed(), [""; 0]);
}

/// "If an error is encountered, a plugin should continue; removing as many resources as possible, and report the errors
/// back to the runtime."
#[test]
fn gc_goes_on_and_reports() {
    let world = World::new(Box::new(|method, params| match method {
        "attachment.list" => Ok(["c1", "c2", "c3"].iter().map(|container| attachment(container, "up")).collect()),
        "attachment.del" if params["container"] != "c3" => Err((3, "the host cannot")),
        "attachment.del" => Ok(json!({"port": null})),
        _ => Err((-32601, "there is no such method")),
    }));
    let ran = world.run("GC", r#""cni.dev/valid-attachments":[]"#);
    assert_eq!(ran.code(), 106);
    assert_eq!(ran.details().matches("the host cannot").count(), 2, "{ran:?}");
    assert_eq!(world.removed(), ["c1", "c2", "c3"]);
}

/// What vswitchd refuses for a moment is asked again; what it refuses for good is told.
#[test]
fn what_the_daemon_refuses() {
    let times = std::sync::atomic::AtomicUsize::new(0);
    let answers = with_attachments(&[]);
    let world =
        World::new(Box::new(move |method, params| match times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => Err((6, "a takeover is under way")),
            _ => answers(method, params),
        }));
    world.run("DEL", "").silent();
    assert_eq!(world.removed().len(), 3);
    let world = World::new(Box::new(|_, _| Err((4, "you may not"))));
    let ran = world.run("DEL", "");
    assert_eq!(ran.code(), 100);
    assert!(ran.details().contains("you may not"), "{ran:?}");
}
