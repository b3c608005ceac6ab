use super::*;
use std::fmt::Display;
use std::str::FromStr;

/// Asserts what `text` reads as: the text it is written back as, or parts of the refusal.
fn check<T: FromStr<Err = BadValue> + Display>(text: &str, expected: Result<&str, &[&str]>) {
    match (text.parse::<T>(), expected) {
        (Ok(value), Ok(written)) => assert_eq!(value.to_string(), written, "{text:?}"),
        (Err(error), Err(parts)) => {
            let message = error.to_string();
            for part in parts {
                assert!(message.contains(part), "{text:?}: {message:?} lacks {part:?}");
            }
        }
        (Ok(value), Err(_)) => panic!("{text:?} was taken as {value}"),
        (Err(error), Ok(_)) => panic!("{text:?} was refused: {error}"),
    }
}

#[test]
fn numbers() {
    for good in ["1", "10", "4094"] {
        check::<Vid>(good, Ok(good));
    }
    for bad in ["0", "4095", "4096", "65536", "99999999999999999999", "-1", "ten", "", "1.5", "0x10"] {
        check::<Vid>(bad, Err(&["VLAN", bad, "1 to 4094"]));
    }
    for good in ["1", "16777215"] {
        check::<Vni>(good, Ok(good));
    }
    for bad in ["0", "16777216", "-1", "vni"] {
        check::<Vni>(bad, Err(&["VNI", bad, "1 to 16777215"]));
    }
    for good in ["68", "1500", "65521"] {
        check::<Mtu>(good, Ok(good));
    }
    for bad in ["0", "67", "65522", "65536"] {
        check::<Mtu>(bad, Err(&["MTU", bad, "68 to 65521"]));
    }
}

#[test]
fn rates_and_bursts() {
    let same = ["1k", "10M", "1.5G", "1T", "2.125M", "10M,64k", "100M,1500", "1G,1.5M", "1.001k", "1234.567k"];
    for good in same {
        check::<RateLimit>(good, Ok(good));
    }
    for (other, written) in [
        ("1000", "1k"),
        ("10m", "10M"),
        ("10Mbit", "10M"),
        ("10000000,65536", "10M,64k"),
        ("0.5M,1K", "500k,1k"),
        ("1.5000G", "1.5G"),
        ("1.2345M", "1234.5k"),
        ("1001", "1.001k"),
        ("5M,4294967295", "5M,4294967295"),
    ] {
        check::<RateLimit>(other, Ok(written));
    }
    let bad_rates =
        ["", "0", "999", "1.1T", "2000G", "-1M", "+1M", "1.M", ".5M", "1.5", "10MB", "10M/s", "1e6", "99999999T"];
    for bad in bad_rates {
        check::<RateLimit>(bad, Err(&[&format!("{bad:?}"), "1k to 1T"]));
    }
    for bad in ["", "0", "4G", "-1", "64kB", "1.0001k", "1,2"] {
        check::<RateLimit>(&format!("10M,{bad}"), Err(&[&format!("{bad:?}"), "1 to 4294967295"]));
    }
    // A burst that was not given, and one that is too little for timers.
    let bursts = [("10M", 65_536), ("1G", 3_125_000), ("1T", 3_125_000_000), ("10M,3000", 3_000), ("1G,3000", 250_000)];
    for (limit, bytes) in bursts {
        assert_eq!(limit.parse::<RateLimit>().unwrap().burst_bytes(), bytes, "{limit}");
    }
    assert_eq!("none".parse(), Ok(LimitWord(None)));
    assert_eq!(String::from(LimitWord(None)), "none");
}

#[test]
fn mac_addresses() {
    check::<Mac>("02:00:00:00:00:0A", Ok("02:00:00:00:00:0a"));
    check::<Mac>("02-00-00-00-00-0a", Ok("02:00:00:00:00:0a"));
    check::<Mac>("01:00:5e:00:00:01", Err(&["01:00:5e:00:00:01", "multicast"]));
    check::<Mac>("ff:ff:ff:ff:ff:ff", Err(&["ff:ff:ff:ff:ff:ff", "multicast"]));
    check::<Mac>("00:00:00:00:00:00", Err(&["00:00:00:00:00:00"]));
    for bad in ["", "02:00:00:00:00", "02:00:00:00:00:00:01", "02:00:00:00:00:0g", "2:0:0:0:0:1", "+2:00:00:00:00:01"] {
        check::<Mac>(bad, Err(&["six pairs"]));
    }
}

#[test]
fn prefixes() {
    for good in ["10.0.0.0/24", "10.0.0.5/32", "0.0.0.0/0", "fd00::/64", "::/0", "fe80::1/128"] {
        check::<Net>(good, Ok(good));
    }
    check::<Net>("10.0.0.5", Ok("10.0.0.5/32"));
    check::<Net>("fd00::5", Ok("fd00::5/128"));
    check::<Net>("10.0.0.5/24", Err(&["10.0.0.5/24", "10.0.0.0/24", "10.0.0.5 for that address"]));
    check::<Net>("fd00::5/64", Err(&["fd00::5/64", "fd00::/64"]));
    for bad in ["", "10.0.0.0/33", "10.0.0", "web", "fd00::/129"] {
        check::<Net>(bad, Err(&["prefix", "10.0.0.0/24"]));
    }
}

#[test]
fn lists_of_what_is_allowed() {
    let read = |text: &str| serde_json::from_str::<Allowed<Mac>>(text).map_err(|error| error.to_string());
    let [one, two] = [1, 2].map(|n| Mac::new([2, 0, 0, 0, 0, n]).unwrap());
    let table = [
        (r#""any""#, Ok(Allowed::Any)),
        (r#"["any"]"#, Ok(Allowed::Any)),
        (r#""default""#, Ok(Allowed::Unsaid)),
        (r#""02:00:00:00:00:01""#, Ok(Allowed::Only(vec![one]))),
        (r#"["02:00:00:00:00:02", "02:00:00:00:00:01", "02:00:00:00:00:02"]"#, Ok(Allowed::Only(vec![one, two]))),
        (r#"["any", "02:00:00:00:00:01"]"#, Err("stand alone")),
        (r#"["default", "default"]"#, Err("stand alone")),
        ("[]", Err("1 to 64")),
        (r#""01:00:00:00:00:01""#, Err("multicast")),
        (r#""all""#, Err("six pairs")),
    ];
    for (text, expected) in table {
        match (read(text), expected) {
            (Ok(allowed), Ok(expected)) => {
                assert_eq!(allowed, expected, "{text}");
                assert_eq!(read(&serde_json::to_string(&allowed).unwrap()), Ok(allowed), "{text}");
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (read, _) => panic!("{text}: {read:?}"),
        }
    }
    let many = |count: u8| (0..count).map(|n| format!("\"02:00:00:00:00:{n:02x}\"")).collect::<Vec<_>>().join(",");
    assert!(read(&format!("[{}]", many(64))).is_ok());
    assert!(read(&format!("[{}]", many(65))).unwrap_err().contains("65 values"));
}

#[test]
fn names() {
    let longest = "a".repeat(128);
    for good in ["web", "a", "0", "default.web_1-eth0:x", longest.as_str()] {
        check::<PortName>(good, Ok(good));
    }
    let too_long = "a".repeat(129);
    for bad in ["", "-web", ".web", "we b", "web\n", "wéb", "a/b", too_long.as_str()] {
        check::<PortName>(bad, Err(&["port name", "1 to 128"]));
    }
    check::<PortName>("tunnel", Err(&["tunnel"]));

    for good in ["eth0", "abcdefghijklmno", "a.b@c"] {
        check::<IfName>(good, Ok(good));
    }
    check::<IfName>("abcdefghijklmnop", Err(&["abcdefghijklmnop", "too long", "16", "1 to 15"]));
    for bad in ["", ".", "..", "a b", "a/b", "a:b", "eth%d", "a\tb", "é"] {
        check::<IfName>(bad, Err(&["interface name", "1 to 15"]));
    }

    for good in ["podman", "a", "0", "c-1_x.y", "a".repeat(255).as_str()] {
        check::<NetworkName>(good, Ok(good));
        check::<ContainerId>(good, Ok(good));
    }
    for bad in ["", "-a", ".a", "_a", "a b", "a/b", "a:b", "a\n", "é", "a".repeat(256).as_str()] {
        check::<NetworkName>(bad, Err(&["name of a network", "1 to 255"]));
        check::<ContainerId>(bad, Err(&["ID of a container", "1 to 255"]));
    }

    check::<VlanName>("Büro 3", Ok("Büro 3"));
    for bad in ["", "a\nb", "x".repeat(65).as_str()] {
        check::<VlanName>(bad, Err(&["VLAN name", "1 to 64"]));
    }
}

#[test]
fn namespaces() {
    for good in ["blue", "/proc/1/ns/net", "pid:1", "pid:4194304"] {
        check::<NetnsRef>(good, Ok(good));
    }
    for bad in ["", ".", "..", "a/b", "./a", "pid:", "pid:0", "pid:-1", "pid:4194305", "a\0b", "a\nb"] {
        check::<NetnsRef>(bad, Err(&["network namespace", "absolute path", "1 to 4194304"]));
    }
    let paths = [
        ("blue", "/run/netns/blue"),
        ("/run/netns/blue", "/run/netns/blue"),
        ("/var/run/netns/blue", "/run/netns/blue"),
        ("pid:7", "/proc/7/ns/net"),
    ];
    for (text, path) in paths {
        assert_eq!(text.parse::<NetnsRef>().unwrap().path(), std::path::Path::new(path), "{text}");
    }
}

#[test]
fn addresses() {
    for good in ["10.0.0.2/24", "10.0.0.0/31", "10.0.0.1/31", "10.0.0.0/32", "fd00::2/64", "fe80::1/64"] {
        check::<Cidr>(good, Ok(good));
    }
    check::<Cidr>("10.0.0.2", Err(&["10.0.0.2", "no prefix length", "10.0.0.2/24", "0 to 32"]));
    check::<Cidr>("fd00::2", Err(&["fd00::2/64", "0 to 128"]));
    for bad in ["", "10.0.0/24", "10.0.0.1/33", "fd00::1/129", "10.0.0.1/", "web/24"] {
        check::<Cidr>(bad, Err(&[bad, "is not an address", "10.0.0.2/24"]));
    }
    check::<Cidr>("10.0.0.0/24", Err(&["10.0.0.0/24", "the address of its subnet"]));
    check::<Cidr>("10.0.0.255/24", Err(&["broadcast"]));
    check::<Cidr>("224.0.0.1/24", Err(&["multicast"]));
    check::<Cidr>("ff02::1/64", Err(&["multicast"]));
    check::<Cidr>("0.0.0.0/0", Err(&["unspecified"]));
    check::<Cidr>("::/64", Err(&["unspecified"]));
}

#[test]
fn vlan_lists() {
    let table = [
        ("10", "10"),
        ("10-20,30", "10-20,30"),
        ("30,10-19,20", "10-20,30"),
        ("1,2", "1-2"),
        (" 5 , 7 - 8 ,", "5,7-8"),
        ("1-4094", "1-4094"),
        ("9,9", "9"),
    ];
    for (text, written) in table {
        check::<VlanList>(text, Ok(written));
    }
    check::<VlanList>("20-10", Err(&["20-10", "backwards"]));
    check::<VlanList>("", Err(&["names no VLAN", "1 to 4094"]));
    for bad in ["0", "1-4095", "10-x", "10-20-30", "-5", "5-"] {
        check::<VlanList>(bad, Err(&["VLAN", "1 to 4094"]));
    }
}

#[test]
fn json_reads_what_it_writes() {
    fn both<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
        json: &str,
        written: &str,
    ) {
        let value: T = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), written);
        assert_eq!(serde_json::from_str::<T>(written).unwrap(), value);
    }
    both::<Vid>("10", "10");
    both::<Mac>(r#""02:00:00:00:00:0A""#, r#""02:00:00:00:00:0a""#);
    both::<Cidr>(r#""10.0.0.2/24""#, r#""10.0.0.2/24""#);
    both::<NetnsRef>(r#""pid:7""#, r#""pid:7""#);
    for list in ["\"10-12\"", "[10, 11, 12]", "[\"10-11\", 12]"] {
        both::<VlanList>(list, r#""10-12""#);
    }
    both::<VlanList>("10", r#""10""#);
    for bad in ["[]", "0", "4095", "-1", "18446744073709551615", "true", "{}"] {
        let error = serde_json::from_str::<VlanList>(bad).unwrap_err().to_string();
        assert!(error.contains("1 to 4094"), "{bad}: {error}");
    }
    for bad in ["0", "4095", "-1"] {
        let error = serde_json::from_str::<Vid>(bad).unwrap_err().to_string();
        assert!(error.contains(bad) && error.contains("1 to 4094"), "{bad}: {error}");
    }
}

#[test]
fn boots() {
    let good = "0a1b2c3d-0000-4000-8000-00000000000f";
    check::<BootId>(good, Ok(good));
    for bad in
        ["", "0", "0A1B2C3D-0000-4000-8000-00000000000F", "0a1b2c3d00004000800000000000000f", &format!("{good}0")]
    {
        check::<BootId>(bad, Err(&["ID of a boot", "boot_id"]));
    }
}
