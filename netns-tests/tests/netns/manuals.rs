//! What `docs/cni.md` and `dist` tell people to do, done: configurations are those of the files, commands are run as they
//! stand there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netns_tests::cni::{Attachment, Cni, addresses};
use netns_tests::traffic::ping::ping;
use netns_tests::{
    Context as _, Daemon, DaemonSpec, Lab, Node, Result, SOON, Underlay, binaries::binaries, ensure, ensure_eq,
    eventually,
};
use serde_json::{Value, json};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("lists_of_plugins", lists_of_plugins),
    ("kubernetes_peers", kubernetes_peers),
    ("kubernetes_peers_v6", kubernetes_peers_v6),
    ("by_hand", by_hand),
    ("install", install),
];

/// Those that need root and tools.
pub(crate) const WALKED: [&str; 2] = ["by_hand", "install"];

const LISTS: [&str; 3] = ["containerd", "podman", "kubernetes"];

/// Why [`WALKED`] cannot be walked here.
pub(crate) fn hindrance() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("the commands are root's".to_owned());
    }
    let there = |tool: &&str| {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_err()
    };
    let missing: Vec<_> = ["unshare", "ip", "ping", "install"].into_iter().filter(there).collect();
    (!missing.is_empty()).then(|| format!("needs {}", missing.join(", ")))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> Result<String> {
    let path = folder().join(path);
    fs::read_to_string(&path).context(path.display())
}

/// Every list in the manual is the file it names, and attaches two containers that reach each other and the gateway.
fn lists_of_plugins(lab: &Lab) -> Result {
    let manual = text("docs/cni.md")?;
    for name in LISTS {
        let file = text(&format!("dist/cni/{name}.conflist"))?;
        ensure!(
            manual.contains(&format!("```json\n{file}```\n")),
            "docs/cni.md shows dist/cni/{name}.conflist as it is"
        );
        attaches(lab, name, &serde_json::from_str(&file).context(name)?)?;
    }
    let manifest = text("dist/kubernetes/vswitch.yaml")?;
    let list = literal(&manifest, "conflist")?;
    let list = list.replace("@first@", "10.77.1.2").replace("@last@", "10.77.1.254").replace("@gateway@", "10.77.1.1");
    let list: Value = serde_json::from_str(&list).context("the list of the manifest")?;
    ensure_eq!(list, serde_json::from_str::<Value>(&text("dist/cni/kubernetes.conflist")?)?, "list of the manifest");
    attaches(lab, "manifest", &list)
}

/// A literal block of a YAML file, without its indentation.
fn literal(yaml: &str, key: &str) -> Result<String> {
    let start = format!("\n  {key}: |\n");
    let (_, behind) = yaml.split_once(&start).context(key)?;
    let lines = behind.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    Ok(lines.map(|line| line.get(4..).unwrap_or_default().to_owned() + "\n").collect())
}

/// Runs the verbs of `list`'s first plugin, which is ours, for two containers.
fn attaches(lab: &Lab, name: &str, list: &Value) -> Result {
    let host = lab.host(&format!("h-{name}"))?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { underlay: Some("udp"), ..DaemonSpec::default() })?;
    let plugin = list["plugins"][0].clone();
    ensure_eq!(plugin["type"], "vswitch-cni", "{name}: the first plugin");
    let network = list["name"].as_str().context("a list without a name")?;
    let cni = Cni::new(&host, daemon.socket(), network, plugin).with(json!({"cniVersion": list["cniVersion"]}));
    let versions = cni.ok("VERSION", None)?;
    let supported = versions["supportedVersions"].as_array().context("VERSION lists versions")?;
    ensure!(supported.contains(&list["cniVersion"]), "{name}: version {}", list["cniVersion"]);
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (first, second) = (Attachment::of(&a), Attachment::of(&b));
    let (one, two) = (cni.add(&first)?, cni.add(&second)?);
    ensure_eq!(addresses(&one)?, ["10.77.1.2".parse::<std::net::IpAddr>()?], "{name}: address of the first");
    ping(&a, addresses(&two)?[0], 0)?;
    ping(&a, "10.77.1.1".parse()?, 0)?;
    cni.check(&first, &one)?;
    cni.del(&first)?;
    cni.del(&second)?;
    ensure_eq!(daemon.vsctl().ok("port list")?, json!([]), "{name}: ports after DEL");
    Ok(())
}

/// The loop beside the daemon: peers of the table come, those that are no more in it go, a table without the node itself
/// changes nothing.
fn kubernetes_peers(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v4(lab, &underlay, "h1")?;
    let settings = lab.folder("settings")?;
    let table = |lines: &str| -> Result {
        // As the kubelet does it: the file is another one, at once.
        fs::write(settings.join("new"), lines)?;
        Ok(fs::rename(settings.join("new"), settings.join("nodes"))?)
    };
    let peers = || -> Result<Vec<Value>> {
        let list = node.ok("vtep peer list")?;
        Ok(list.as_array().into_iter().flatten().map(|peer| peer["ip"].clone()).collect())
    };
    let own = format!("node-1 {} 10.77.1.2 10.77.1.254 10.77.1.1\n", node.ip);
    table(&format!("# a table\n\n{own}node-2 198.51.100.2 x y z\nnode-3 198.51.100.3 x y z\n"))?;
    let script = literal(&text("dist/kubernetes/vswitch.yaml")?, "peers.sh")?;
    let script = script.replace("/etc/vswitch", &settings.display().to_string());
    let programs = binaries()?.vsctl.parent().context("vsctl lies somewhere")?.to_owned();
    // Its pauses are short, and leave a trace.
    let (tools, turns) = (lab.folder("tools")?, lab.folder("tools")?.join("turns"));
    fs::write(tools.join("sleep"), format!("#!/bin/sh\necho >> {}\nexec /bin/sleep 0.05\n", turns.display()))?;
    fs::set_permissions(tools.join("sleep"), Permissions::from_mode(0o755))?;
    let turns = || Ok::<_, io::Error>(fs::read(&turns)?.len());
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("NODE_NAME", "node-1").env("VSWITCH_SOCKET", node.daemon.socket());
    command.env("PATH", format!("{}:{}:/usr/bin:/bin", tools.display(), programs.display())).stderr(Stdio::null());
    let mut running = node.host.spawn(command)?;
    let becomes = |what: &str, expected: &[&str]| {
        eventually(SOON, what, || {
            let peers = peers()?;
            ensure_eq!(peers, expected, "peers");
            Ok(())
        })
    };
    let outcome = (|| {
        becomes("peers of the table come", &["198.51.100.2", "198.51.100.3"])?;
        table(&format!("{own}node-3 198.51.100.3 x y z\nnode-4 198.51.100.4 x y z\n"))?;
        becomes("one goes and one comes", &["198.51.100.3", "198.51.100.4"])?;
        table("node-9 198.51.100.9 x y z\n")?;
        let before = turns()?;
        eventually(SOON, "the loop has come round", || {
            ensure!(turns()? > before + 1, "still the turn before");
            Ok(())
        })?;
        becomes("a table without this node is not believed", &["198.51.100.3", "198.51.100.4"])?;
        table(&own)?;
        becomes("the last ones go", &[])
    })();
    running.kill()?;
    running.wait()?;
    outcome
}

/// Nodes that the table names by another form of their address than `vsctl` prints are not cut off at each turn.
fn kubernetes_peers_v6(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v6(lab, &underlay, "h1")?;
    let (settings, tools) = (lab.folder("settings")?, lab.folder("tools")?);
    fs::write(settings.join("nodes"), format!("node-1 {} x y z\nnode-2 2001:DB8:0:0::00aa x y z\n", node.ip))?;
    let script = literal(&text("dist/kubernetes/vswitch.yaml")?, "peers.sh")?;
    let script = script.replace("/etc/vswitch", &settings.display().to_string());
    let words = tools.join("words");
    let noting =
        format!("#!/bin/sh\necho \"$*\" >> {}\nexec {} \"$@\"\n", words.display(), binaries()?.vsctl.display());
    for (name, text) in [("vsctl", noting.as_str()), ("sleep", "#!/bin/sh\nexec /bin/sleep 0.05\n")] {
        fs::write(tools.join(name), text)?;
        fs::set_permissions(tools.join(name), Permissions::from_mode(0o755))?;
    }
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("NODE_NAME", "node-1").env("VSWITCH_SOCKET", node.daemon.socket());
    command.env("PATH", format!("{}:/usr/bin:/bin", tools.display())).stderr(Stdio::null());
    let mut running = node.host.spawn(command)?;
    let outcome = eventually(SOON, "the loop has come round", || {
        let said = fs::read_to_string(&words)?;
        ensure!(said.matches("peer list").count() >= 3, "it said {said}");
        Ok(said)
    });
    running.kill()?;
    running.wait()?;
    ensure!(!outcome?.contains("peer del"), "a peer of the table was removed");
    ensure_eq!(node.ok("vtep peer list")?[0]["ip"], "2001:db8::aa", "the peer");
    Ok(())
}

/// The commands of the manual's section "By hand".
fn by_hand(lab: &Lab) -> Result {
    let commands = commands("## By hand")?;
    ensure!(commands.contains("CNI_COMMAND=ADD") && commands.contains("ping"), "the section attaches and pings");
    let output = walk(lab, &commands)?;
    ensure!(output.contains("10.77.0.2/24") && output.contains("10.77.0.3/24"), "two results: {output}");
    ensure!(output.contains("1 received") || output.contains("1 packets received"), "the ping arrives: {output}");
    Ok(())
}

/// The commands that install, with a program already built.
fn install(lab: &Lab) -> Result {
    let all = commands("## Install")?;
    let (build, commands) = all.split_once('\n').context("more than one command")?;
    ensure!(
        build.starts_with("cargo build --release") && build.contains("-p vswitch-cni"),
        "first it is built: {build}"
    );
    let lists =
        LISTS.map(|name| format!("install -D -m 0644 dist/cni/{name}.conflist /etc/cni/net.d/10-vswitch.conflist"));
    let manual = text("docs/cni.md")?;
    let built = lab.folder("target")?.join("release");
    fs::create_dir_all(&built)?;
    fs::copy(&binaries()?.cni, built.join("vswitch-cni"))?;
    std::os::unix::fs::symlink(folder().join("dist").canonicalize()?, lab.folder("")?.join("dist"))?;
    let mut script = commands.to_owned();
    for list in lists {
        ensure!(manual.contains(&format!("\n{list}\n")), "the manual says: {list}");
        script.push_str(&list);
        script.push('\n');
    }
    let output =
        walk(lab, &format!("{script}ls -A /opt/cni/bin /etc/cni/net.d\n/opt/cni/bin/vswitch-cni 2>&1 || true\n"))?;
    ensure!(output.contains("/opt/cni/bin:\nvswitch-cni\n"), "the plugin alone is there: {output}");
    ensure!(output.contains("/etc/cni/net.d:\n10-vswitch.conflist\n"), "and its list: {output}");
    ensure!(output.contains("CNI"), "it runs: {output}");
    Ok(())
}

/// The first commands below a heading of the manual.
fn commands(heading: &str) -> Result<String> {
    let manual = text("docs/cni.md")?;
    let (_, section) = manual.split_once(&format!("\n{heading}\n")).context(heading)?;
    let (_, block) = section.split_once("```sh\n").context("commands")?;
    Ok(block.split_once("```").context("an end of the commands")?.0.to_owned())
}

/// Runs `script` in a folder of its own, with namespaces of its own: the places it writes to are empty, and go with it. Its
/// output, where every command of it succeeds.
fn walk(lab: &Lab, script: &str) -> Result<String> {
    let places = "for place in /run /opt /var/lib; do mount -t tmpfs tmpfs $place; done\n\
                  cp -a /etc /run/etc && mount --bind /run/etc /etc && rm -rf /etc/cni";
    let script = format!("set -eu\n{places}\nip link set lo up\n{script}");
    let programs = binaries()?.vsctl.parent().context("vsctl lies somewhere")?.to_owned();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
    let mut command = Command::new("unshare");
    // What it leaves running ends with its first process.
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]);
    let output = command.current_dir(lab.folder("")?).env("PATH", path).stdin(Stdio::null()).output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    lab.note(format!("{script}\n-> {}\n{stdout}\n{stderr}", output.status));
    ensure!(output.status.success(), "{}: {stdout} {stderr}", output.status);
    Ok(stdout)
}
