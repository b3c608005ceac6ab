//! `vswitch-cni` as a container runtime runs it: environment, configuration on standard input, JSON on standard output.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::Journal;
use crate::{Context, Failure, Host, Result, binaries::binaries, ensure, eventually};

/// Where Debian keeps the plugins of containernetworking-plugins.
pub const STOCK: &str = "/usr/lib/cni";

/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A network, and the runtime that runs the plugin for it on one host.
#[derive(Clone, Debug)]
pub struct Cni<'a> {
    host: &'a Host,
    config: Value,
    path: String,
    journal: Journal,
}

/// An attachment: which interface of which container.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS`.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: String,
}

/// What one run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code; `None` where it was killed.
    pub code: Option<i32>,
    /// What it printed, as JSON; null for nothing.
    pub json: Value,
    /// What it said beside.
    pub stderr: String,
}

impl Attachment {
    /// Interface `eth0` of `container`, which is named as the host is.
    #[must_use]
    pub fn of(container: &Host) -> Self {
        Self::named(container.name(), "eth0", Some(container.path()))
    }

    /// Any.
    #[must_use]
    pub fn named(container: &str, ifname: &str, netns: Option<PathBuf>) -> Self {
        Self { container: container.to_owned(), ifname: ifname.to_owned(), netns, args: String::new() }
    }

    /// The same with `CNI_ARGS`.
    #[must_use]
    pub fn args(self, args: &str) -> Self {
        Self { args: args.to_owned(), ..self }
    }
}

impl<'a> Cni<'a> {
    /// The network called `name` on `host`, whose daemon listens at `socket`; `keys` are those of the plugin.
    #[must_use]
    pub fn new(host: &'a Host, socket: &Path, name: &str, keys: Value) -> Self {
        let mut config = json!({"cniVersion": "1.1.0", "name": name, "type": "vswitch-cni", "socket": socket});
        merge(&mut config, keys);
        Self { host, config, path: STOCK.to_owned(), journal: host.journal().clone() }
    }

    /// The same with other keys; null takes one away.
    #[must_use]
    pub fn with(&self, keys: Value) -> Self {
        let mut other = self.clone();
        merge(&mut other.config, keys);
        other
    }

    /// The same with IPAM plugins from `folders`, as in `CNI_PATH`.
    #[must_use]
    pub fn path(&self, folders: &str) -> Self {
        Self { path: folders.to_owned(), ..self.clone() }
    }

    /// The configuration, as the plugin gets it.
    #[must_use]
    pub const fn config(&self) -> &Value {
        &self.config
    }

    /// Starts the plugin in the host's namespace, with the configuration written to it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, verb: &str, attachment: Option<&Attachment>) -> Result<Child> {
        let mut command = Command::new(&binaries()?.cni);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("CNI_COMMAND", verb).env("CNI_PATH", &self.path);
        if let Some(Attachment { container, ifname, netns, args }) = attachment {
            command.env("CNI_CONTAINERID", container).env("CNI_IFNAME", ifname).env("CNI_ARGS", args);
            if let Some(netns) = netns {
                command.env("CNI_NETNS", netns);
            }
        }
        self.spawn(command, self.config.to_string().into_bytes())
    }

    /// Starts any program of the host's with `input`.
    fn spawn(&self, mut command: Command, input: Vec<u8>) -> Result<Child> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.host.spawn(command)?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // One that does not read it all is the test's to judge.
        let _ = stdin.write_all(&input);
        Ok(child)
    }

    /// Runs a verb to its end.
    ///
    /// # Errors
    /// Where it does not end, or prints what is no JSON; not where it fails.
    pub fn run(&self, verb: &str, attachment: Option<&Attachment>) -> Result<Outcome> {
        let child = self.start(verb, attachment)?;
        let outcome = finish(child)?;
        let what = attachment.map_or_else(String::new, |a| format!(" {}:{}", a.container, a.ifname));
        let Outcome { code, json, stderr } = &outcome;
        self.journal.note(format!("{}: vswitch-cni {verb}{what} -> {code:?} {json} {stderr}", self.host.name()));
        Ok(outcome)
    }

    /// Runs a verb that is to succeed; what it printed.
    ///
    /// # Errors
    /// Where it fails.
    #[track_caller]
    pub fn ok(&self, verb: &str, attachment: Option<&Attachment>) -> Result<Value> {
        let Outcome { code, json, stderr } = self.run(verb, attachment)?;
        if code == Some(0) {
            return Ok(json);
        }
        Err(Failure::new(format!("vswitch-cni {verb}: exit code {code:?}: {json} {stderr}")))
    }

    /// Runs a verb that is to fail with the CNI's error `code`; its details.
    ///
    /// # Errors
    /// Where it succeeds, or fails with another code.
    #[track_caller]
    pub fn refused(&self, code: u32, verb: &str, attachment: Option<&Attachment>) -> Result<String> {
        let outcome = self.run(verb, attachment)?;
        if outcome.code == Some(0) || outcome.json["code"] != code {
            let Outcome { code: exit, json, stderr } = outcome;
            let message = format!("vswitch-cni {verb}: not error {code}: exit code {exit:?}: {json} {stderr}");
            return Err(Failure::new(message));
        }
        Ok(outcome.json["details"].as_str().unwrap_or_default().to_owned())
    }

    /// ADD, which is to succeed; the result.
    ///
    /// # Errors
    /// Where it fails.
    #[track_caller]
    pub fn add(&self, attachment: &Attachment) -> Result<Value> {
        self.ok("ADD", Some(attachment))
    }

    /// DEL, which is to succeed.
    ///
    /// # Errors
    /// Where it fails.
    #[track_caller]
    pub fn del(&self, attachment: &Attachment) -> Result {
        self.ok("DEL", Some(attachment)).map(drop)
    }

    /// CHECK against what ADD answered, which is to succeed.
    ///
    /// # Errors
    /// Where it fails.
    #[track_caller]
    pub fn check(&self, attachment: &Attachment, result: &Value) -> Result {
        self.with(json!({"prevResult": result})).ok("CHECK", Some(attachment)).map(drop)
    }

    /// GC, which keeps `valid` alone; it is to succeed.
    ///
    /// # Errors
    /// Where it fails.
    #[track_caller]
    pub fn gc(&self, valid: &[&Attachment]) -> Result {
        let list: Vec<_> = valid.iter().map(|a| json!({"containerID": a.container, "ifname": a.ifname})).collect();
        self.with(json!({"cni.dev/valid-attachments": list})).ok("GC", None).map(drop)
    }
}

/// Waits for the end of a plugin.
///
/// # Errors
/// Where it does not end, or prints what is no JSON.
pub fn finish(mut child: Child) -> Result<Outcome> {
    // What it prints fits a pipe.
    let ended = eventually(PATIENCE, "vswitch-cni ends", || child.try_wait()?.context("it runs"));
    if ended.is_err() {
        let _ = child.kill();
    }
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    ended?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    let (stdout, stderr) = (text(stdout), text(stderr));
    let json = if stdout.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&stdout).context(format_args!("vswitch-cni printed no JSON: {stdout:?}"))?
    };
    Ok(Outcome { code: status.code(), json, stderr })
}

/// The addresses in the result of ADD, without their lengths.
///
/// # Errors
/// Where there is none.
pub fn addresses(result: &Value) -> Result<Vec<std::net::IpAddr>> {
    let ips = result["ips"].as_array().context("the result has no ips")?;
    let address = |ip: &Value| {
        let text = ip["address"].as_str().unwrap_or_default();
        Ok(text.parse::<ipnet::IpNet>().context(format_args!("ips of {result}"))?.addr())
    };
    let addresses: Vec<_> = ips.iter().map(address).collect::<Result<_>>()?;
    ensure!(!addresses.is_empty(), "the result has no address: {result}");
    Ok(addresses)
}

/// Puts the keys of `keys` into `config`; null takes one out.
fn merge(config: &mut Value, keys: Value) {
    let (Some(config), Value::Object(keys)) = (config.as_object_mut(), keys) else { return };
    for (key, value) in keys {
        if value.is_null() {
            config.remove(&key);
        } else {
            config.insert(key, value);
        }
    }
}
