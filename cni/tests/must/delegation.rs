//! Section 4: IPAM plugins.

use serde_json::json;

use crate::world::{World, attachment, with_attachments};

const IPAM: &str = r#""ipam":{"type":"fake","x":[1]},"later":{"y":null}"#;

/// Notes who was called for what: verb, container, interface, namespace, arguments.
const NOTES: &str = r#"cat > $WORLD/input
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME [$CNI_NETNS] [$CNI_ARGS]" >> $WORLD/calls"#;

fn plugin(rest: &str) -> String {
    format!("{NOTES}\n{rest}")
}

/// An answer to VERSION of one that knows STATUS and GC, or does not.
fn versions(recent: bool) -> String {
    let more = if recent { ",\"1.1.0\"" } else { "" };
    format!(
        "if [ $CNI_COMMAND = VERSION ]; then echo '{{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.0.0\"{more}]}}'; exit; fi"
    )
}

/// "The delegated plugin must receive all the same environment variables that were passed in to the CNI plugin", and is
/// "provided the complete network configuration".
#[test]
fn the_delegate_gets_environment_and_configuration_as_they_came() {
    let world = World::new(with_attachments(&[]));
    world.plugin("fake", &plugin(""));
    world.run("DEL", IPAM).silent();
    assert_eq!(world.file("calls"), "DEL c1 eth0 [/nonexistent/netns] [IgnoreUnknown=1]\n");
    let folder = world.path().display().to_string();
    let whole = format!(r#"{{"cniVersion":"1.1.0","name":"net","type":"vswitch-cni","socket":"{folder}/s",{IPAM}}}"#);
    assert_eq!(world.file("input"), whole, "byte by byte");
}

/// "Look up the plugin binary by searching the directories provided in CNI_PATH": a path would escape them
/// (CVE-2021-20206).
#[test]
fn the_delegate_is_a_name_in_cni_path() {
    let world = World::new(with_attachments(&[]));
    for (name, code) in [("other", 104), ("../fake", 7), ("/bin/true", 7), ("a\\\\b", 7), ("..", 7)] {
        let ran = world.run("DEL", &format!(r#""ipam":{{"type":"{name}"}}"#));
        assert_eq!(ran.code(), code, "{name}: {ran:?}");
    }
    // The port goes all the same.
    assert_eq!(world.removed().len(), 5);
}

/// "If a plugin is executed with CHECK, DEL, or GC, it must also execute any delegated plugins. If any of the delegated
/// plugins return error, error should be returned by the upper plugin."
#[test]
fn del_reaches_the_delegate_each_time() {
    let world = World::new(with_attachments(&[]));
    world.plugin(
        "fake",
        &plugin(r#"[ $(wc -l < $WORLD/calls) -lt 3 ] || { echo '{"code":9,"msg":"m","details":"d"}'; exit 1; }"#),
    );
    world.run("DEL", IPAM).silent();
    world.run("DEL", IPAM).silent();
    let ran = world.run("DEL", IPAM);
    assert_eq!(ran.code(), 9, "its own code");
    assert!(ran.details().contains("\"fake\" (DEL): d"), "{ran:?}");
    assert_eq!(world.file("calls").lines().count(), 3);
}

/// "If a plugin relies on a delegated plugin to service ADD requests, it must also execute a STATUS request to that
/// plugin. If the delegated plugin return an error result, the executing plugin should return an error result."
#[test]
fn status_is_asked_of_a_delegate_that_has_it() {
    for (recent, calls) in [(true, "VERSION STATUS"), (false, "VERSION")] {
        let world = World::new(with_attachments(&[]));
        let fails = r#"echo '{"code":50,"msg":"m","details":"full"}'; exit 1"#;
        world.plugin("fake", &plugin(&format!("{}\n{fails}", versions(recent))));
        let ran = world.run("STATUS", IPAM);
        if recent {
            assert_eq!(ran.code(), 50);
            assert!(ran.details().contains("full"), "{ran:?}");
        } else {
            ran.silent();
        }
        let called: Vec<_> =
            world.file("calls").lines().map(|call| call.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(called.join(" "), calls);
    }
}

/// "Plugins MUST, additionally, forward any GC calls to delegated plugins they are configured to use." One that is too old
/// to know GC is told of each attachment that is gone.
#[test]
fn gc_reaches_the_delegate() {
    let valid = r#""cni.dev/valid-attachments":[{"containerID":"c2","ifname":"eth0"}]"#;
    for recent in [true, false] {
        let world = World::new(with_attachments(&["c1", "c2", "c3"]));
        world.plugin("fake", &plugin(&versions(recent)));
        world.run("GC", &format!("{IPAM},{valid}")).silent();
        let calls = world.file("calls");
        let mut calls: Vec<_> = calls.lines().filter(|call| !call.starts_with("VERSION")).collect();
        let forwarded = calls.iter().position(|call| call.starts_with("GC "));
        assert_eq!(forwarded.is_some(), recent, "{calls:?}");
        forwarded.map(|place| calls.remove(place));
        assert_eq!(calls, ["DEL c1 eth0 [] []", "DEL c3 eth0 [] []"]);
        assert_eq!(world.removed(), ["c1", "c3"]);
    }
}

/// An address that could not be given back stays with a port that is lost, for the next GC. One that is up uses its
/// address, and goes first.
#[test]
fn gc_forgets_nothing_that_the_delegate_refused() {
    let world = World::new(Box::new(|method, params| match method {
        "attachment.list" => Ok(json!([attachment("c1", "lost"), attachment("c2", "lost"), attachment("c3", "up")])),
        other => with_attachments(&[])(other, params),
    }));
    let refuses = r#"[ $CNI_CONTAINERID = c2 ] || { echo '{"code":11,"msg":"busy"}'; exit 1; }"#;
    world.plugin("fake", &plugin(&format!("{}\n{refuses}", versions(false))));
    let ran = world.run("GC", &format!(r#"{IPAM},"cni.dev/valid-attachments":[]"#));
    assert_eq!(ran.code(), 106);
    assert_eq!(world.removed(), ["c2", "c3"]);
}

/// Ports remember which addresses are to be given back: where nobody can be told of them they stay.
#[test]
fn gc_without_its_delegate_forgets_no_address() {
    let own = |container: &str| {
        let mut own = attachment(container, "up");
        own["delegated"] = json!(false);
        own
    };
    let world = World::new(Box::new(move |method, params| match method {
        "attachment.list" => Ok(json!([attachment("c1", "up"), own("c2"), attachment("c3", "lost")])),
        other => with_attachments(&[])(other, params),
    }));
    let ran = world.run("GC", &format!(r#"{IPAM},"cni.dev/valid-attachments":[]"#));
    assert_eq!(ran.code(), 104);
    assert_eq!(world.removed(), ["c2"]);
}

/// DEL takes what it needs, and nothing that only ADD does.
#[test]
fn del_reaches_the_delegate_past_keys_that_are_wrong() {
    for keys in [r#""subnet":"10.0.0.0/33""#, r#""subnets":7"#, r#""ipMasq":true"#, r#""vlan":"x""#] {
        let world = World::new(with_attachments(&[]));
        world.plugin("fake", &plugin(""));
        world.run("DEL", &format!("{IPAM},{keys}")).silent();
        assert_eq!(world.file("calls").lines().count(), 1, "{keys}");
    }
}

/// A DHCP client says by the interface that it needs its address no more.
#[test]
fn what_speaks_by_the_interface_is_told_before_it_goes() {
    for (name, removed) in [("dhcp", 0), ("fake", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let heard = folder.path().join("heard");
        let script = format!("cat > /dev/null; [ ! -e {} ] || echo late > $WORLD/told", heard.display());
        let world = World::new(Box::new(move |method, params| {
            if method == "attachment.del" {
                std::fs::write(&heard, "x").unwrap();
            }
            with_attachments(&[])(method, params)
        }));
        world.plugin(name, &script);
        world.run("DEL", &format!(r#""ipam":{{"type":"{name}"}}"#)).silent();
        assert_eq!(world.file("told").lines().count(), removed, "{name}");
    }
}

/// "Ensure that the delegated plugin's stderr is output to the calling plugin's stderr."
#[test]
fn what_the_delegate_says_beside_is_passed_on() {
    let world = World::new(with_attachments(&[]));
    world.plugin("fake", "cat > /dev/null; echo for people >&2");
    let ran = world.run("DEL", IPAM);
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, "", "for people\n"));
}

/// "CNI runtimes, plugins, and network configurations may support multiple CNI specification versions independently": a
/// delegate that does not speak ours is asked in its own.
#[test]
fn an_older_delegate_is_asked_in_its_own_version() {
    let world = World::new(with_attachments(&[]));
    let old = r#"grep -q '"cniVersion":"1.0.0"' $WORLD/input || { echo '{"code":1,"msg":"incompatible"}'; exit 1; }"#;
    world.plugin("fake", &plugin(&format!("{}\n{old}", versions(false))));
    world.run("DEL", IPAM).silent();
    assert_eq!(world.file("calls").matches("DEL ").count(), 2);
    assert!(world.file("input").contains(r#""x":[1]"#), "all else is as it came: {}", world.file("input"));
    // What it refuses in its own version, too, is its answer.
    world.plugin("fake", &plugin(&format!("{}\necho '{{\"code\":1,\"msg\":\"never\"}}'; exit 1", versions(false))));
    assert_eq!(world.run("DEL", IPAM).code(), 1);
}
