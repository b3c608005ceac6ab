//! Sections 2 and 5: exit codes, error results, and what makes an error.

use std::process::{Command, Stdio};

use crate::runtime::{attachment, config, run};

const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

/// "A plugin must exit with a return code of 0 on success, and non-zero on failure."
/// "The error message must contain the names of invalid variables."
#[test]
fn missing_variables_are_error_4_and_named() {
    let table: [(&str, &[&str]); 10] = [
        ("", &["CNI_COMMAND"]),
        ("CNI_COMMAND=FLY", &["CNI_COMMAND"]),
        ("CNI_COMMAND=add", &["CNI_COMMAND"]),
        ("CNI_COMMAND=ADD", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"]),
        ("CNI_COMMAND=CHECK", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"]),
        ("CNI_COMMAND=DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
        ("CNI_COMMAND=GC", &["CNI_PATH"]),
        ("CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/n", &["CNI_IFNAME"]),
        ("CNI_COMMAND=DEL CNI_CONTAINERID=-c CNI_IFNAME=a/b", &["CNI_CONTAINERID", "CNI_IFNAME"]),
        ("CNI_COMMAND=DEL CNI_CONTAINERID= CNI_IFNAME=", &["CNI_CONTAINERID", "CNI_IFNAME"]),
    ];
    for (variables, names) in table {
        let ran = run(variables, config("1.1.0", ""));
        if variables.is_empty() {
            assert!(ran.err.contains("vswitch-cni") && ran.err.contains("/opt/cni/bin"), "{ran:?}");
            assert_eq!(ran.json()["code"], 4);
        } else {
            assert_eq!(ran.code(), 4, "{variables}: {ran:?}");
        }
        for name in names {
            assert!(ran.details().contains(name), "{variables}: {ran:?}");
        }
    }
}

/// "For example, failed to unmarshal network config from bytes": wherever standard input is cut short.
#[test]
fn a_configuration_cut_short_is_error_6() {
    let whole = config("1.1.0", r#""vlan":10,"dns":{"nameservers":["10.0.0.1"]}"#);
    for cut in [0, 1, 15, 31, whole.len() / 2, whole.len() - 1] {
        let ran = run(&attachment("ADD"), &whole[..cut]);
        assert_eq!(ran.code(), 6, "{:?}: {ran:?}", &whole[..cut]);
        assert!(ran.details().contains("standard input"), "{ran:?}");
    }
    for input in [&b"[]"[..], b"null", b"\xff\xfe", b"{} {}"] {
        assert_eq!(run(&attachment("DEL"), input).code(), 6, "{input:?}");
    }
}

/// "I/O failure. For example, failed to read network config bytes from stdin."
#[test]
fn standard_input_that_cannot_be_read_is_error_5() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch-cni"));
    command.env_clear().envs([("CNI_COMMAND", "STATUS")]);
    // A directory opens, and cannot be read.
    let output = command.stdin(std::fs::File::open("/").unwrap()).output().unwrap();
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &error["code"]), (Some(1), &5.into()));
    // Without an end.
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch-cni"));
    command.env_clear().envs([("CNI_COMMAND", "STATUS")]);
    let output = command.stdin(std::fs::File::open("/dev/zero").unwrap()).stderr(Stdio::null()).output().unwrap();
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["code"], 5);
}

/// "Incompatible CNI version": all but those that VERSION lists, for each verb.
#[test]
fn other_versions_are_error_1() {
    for verb in VERBS {
        for version in ["0.1.0", "0.2.0", "1.1", "1.2.0", "2.0.0", "x", ""] {
            let ran = run(&attachment(verb), config(version, ""));
            assert_eq!(ran.code(), 1, "{verb} {version}: {ran:?}");
            assert!(ran.details().contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{ran:?}");
        }
        assert_eq!(run(&attachment(verb), r#"{"name":"net"}"#).code(), 1, "{verb} without cniVersion");
    }
    assert_eq!(run(&attachment("ADD"), r#"{"cniVersion":11,"name":"net"}"#).code(), 6);
}

/// CHECK came with 0.4.0, GC and STATUS with 1.1.0: what a version does not have is refused as incompatible.
#[test]
fn verbs_that_a_version_lacks_are_error_1() {
    for (version, lacking) in [
        ("0.3.0", &["CHECK", "GC", "STATUS"][..]),
        ("0.3.1", &["CHECK", "GC", "STATUS"]),
        ("0.4.0", &["GC", "STATUS"]),
        ("1.0.0", &["GC", "STATUS"]),
    ] {
        for verb in lacking {
            let ran = run(&attachment(verb), config(version, ""));
            assert_eq!(ran.code(), 1, "{verb} in {version}: {ran:?}");
            assert!(ran.details().contains(verb), "{ran:?}");
        }
    }
}

/// "cniVersion: The protocol version in use."
#[test]
fn an_error_has_the_version_in_use() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let ran = run(&attachment("ADD"), config(version, ""));
        assert_eq!(ran.code(), 3, "{ran:?}");
        assert_eq!(ran.json()["cniVersion"], version);
    }
    assert_eq!(run(&attachment("ADD"), "{").json()["cniVersion"], "1.1.0");
}

/// "Unsupported field in network configuration. The error message must contain the key and value of the unsupported
/// field."
#[test]
fn an_unsupported_field_is_error_2_with_key_and_value() {
    for (keys, key, value) in [
        (r#""vlan":10,"trunk":"11""#, "\"vlan\"", "10"),
        (r#""native":7"#, "\"native\"", "7"),
        (r#""trunk":"11-12","vni":77"#, "\"vni\"", "77"),
        (r#""subnet":"10.0.0.0/24","ipam":{"type":"static"}"#, "\"subnet\"", "\"10.0.0.0/24\""),
        (r#""subnet":"10.0.0.0/24","subnets":[{"subnet":"fd00::/64"}]"#, "\"subnet\"", "\"10.0.0.0/24\""),
        (r#""subnets":[{"subnet":"10.0.0.0/24"},{"subnet":"10.1.0.0/24"}]"#, "\"subnets\"", "10.1.0.0/24"),
        (r#""ipMasq":true"#, "\"ipMasq\"", "true"),
    ] {
        let ran = run(&attachment("ADD"), config("1.1.0", keys));
        assert_eq!(ran.code(), 2, "{keys}: {ran:?}");
        assert!(ran.details().contains(key) && ran.details().contains(value), "{keys}: {ran:?}");
    }
}

/// "Invalid network config. If some validations on network configs do not pass, this error will be raised."
#[test]
fn an_invalid_configuration_is_error_7() {
    for keys in [
        r#""vlan":4095"#,
        r#""vlan":"ten""#,
        r#""vni":0"#,
        r#""mtu":67"#,
        r#""mac":"02""#,
        r#""subnet":"10.0.0.1/24""#,
        r#""subnet":"10.0.0.0/24","gateway":"10.0.1.1""#,
        r#""routes":[{"gw":"10.0.0.1"}]"#,
        r#""dns":[]"#,
        r#""isGateway":"yes""#,
        r#""bandwidth":{"ingressRate":1}"#,
        r#""ipam":{"type":"../../bin/sh"}"#,
        r#""runtimeConfig":{"mac":"ff:ff:ff:ff:ff:ff"}"#,
        r#""runtimeConfig":[]"#,
    ] {
        let ran = run(&attachment("ADD"), config("1.1.0", keys));
        assert_eq!(ran.code(), 7, "{keys}: {ran:?}");
    }
    let ran = run(&attachment("DEL"), config("1.1.0", r#""socket":7"#));
    assert_eq!(ran.code(), 7, "{ran:?}");
    for name in [r#""name":"""#, r#""name":"-a""#, r#""name":"a/b""#, r#""x":1"#] {
        let ran = run(&attachment("ADD"), format!(r#"{{"cniVersion":"1.1.0",{name}}}"#));
        assert_eq!(ran.code(), 7, "{name}: {ran:?}");
    }
}

/// "Container unknown or does not exist."
#[test]
fn a_namespace_that_is_not_there_is_error_3() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in ["/nonexistent/netns", file.to_str().unwrap(), "/proc/4194304/ns/net"] {
        for (verb, keys) in [("ADD", ""), ("CHECK", &*previous(path))] {
            let variables = attachment(verb).replace("/nonexistent/netns", path);
            let ran = run(&variables, config("1.1.0", keys));
            assert_eq!(ran.code(), 3, "{verb} {path}: {ran:?}");
            assert!(ran.details().contains("CNI_NETNS"), "{ran:?}");
        }
    }
}

fn previous(sandbox: &str) -> String {
    format!(r#""prevResult":{{"interfaces":[{{"name":"eth0","sandbox":"{sandbox}"}}]}}"#)
}

/// In the plugin's own namespace the host's interfaces would be taken for the container's.
#[test]
fn the_plugins_own_namespace_is_error_4() {
    for path in ["/proc/self/ns/net", "/proc/thread-self/ns/net"] {
        let variables = attachment("ADD").replace("/nonexistent/netns", path);
        let ran = run(&variables, config("1.1.0", ""));
        assert_eq!(ran.code(), 4, "{path}: {ran:?}");
        assert!(ran.details().contains("CNI_NETNS"), "{ran:?}");
    }
}

/// "Alphanumeric key-value pairs separated by semicolons"; keys that nobody knows only where they are to be ignored.
#[test]
fn arguments_that_are_not_understood_are_error_4() {
    for args in ["FOO=BAR", "MAC", "IgnoreUnknown=2"] {
        let ran = run(&format!("{} CNI_ARGS={args}", attachment("ADD")), config("1.1.0", ""));
        assert_eq!(ran.code(), 4, "{args}: {ran:?}");
        assert!(ran.details().contains("CNI_ARGS"), "{ran:?}");
    }
    let ran = run(&format!("{} CNI_ARGS=IgnoreUnknown=1;FOO=BAR", attachment("ADD")), config("1.1.0", ""));
    assert_eq!(ran.code(), 3, "{ran:?}");
}

/// "Try again later": vswitchd is not there at the moment.
#[test]
fn a_daemon_that_is_not_there_is_error_11() {
    let ran = run(&attachment("DEL"), config("1.1.0", r#""socket":"/nonexistent/s""#));
    assert_eq!(ran.code(), 11, "{ran:?}");
    assert!(ran.details().contains("/nonexistent/s") && ran.details().contains("is vswitchd running"), "{ran:?}");
}

/// "Plugin configuration objects may contain additional fields beyond the ones defined here."
#[test]
fn unknown_keys_are_tolerated() {
    let keys = r#""bridge":"cni0","keyA":["some more",{"x":null}],"cni.dev/later":1,"capabilities":{"mac":true},
        "runtimeConfig":{"portMappings":[{"hostPort":80}],"later":7},"args":{"org":{"x":1}}"#;
    let ran = run(&attachment("ADD"), config("1.1.0", keys));
    assert_eq!(ran.code(), 3, "all is read, and the namespace is not there: {ran:?}");
}
