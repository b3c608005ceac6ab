//! The CNI plugin and the networks that name it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Check, Doctor};

const NAME: &str = "cni";
const PLUGIN: &str = "vswitch-cni";
/// The first version of the protocol with STATUS.
const WITH_STATUS: &str = "1.1.0";
/// What STATUS says where the daemon does not answer.
const NO_DAEMON: u64 = 51;

pub(super) fn checks(words: &Doctor, socket: &Path) -> Vec<Check> {
    let plugin = words.cni_bin_dir.join(PLUGIN);
    let networks = networks(&words.cni_conf_dir);
    let is_there = plugin.is_file();
    if networks.is_empty() {
        return match (is_there, words.cni_conf_dir.display()) {
            (true, folder) => {
                vec![Check::ok(NAME, format!("{} is there; no network in {folder} names it", plugin.display()))]
            }
            (false, _) => vec![Check::ok(NAME, "not in use")],
        };
    }
    if !is_there {
        let (file, _) = &networks[0];
        let text = format!("{} names {PLUGIN}, and there is no {}", file.display(), plugin.display());
        return vec![Check::wrong(NAME, text).mended(format!("install -m 755 {PLUGIN} {}", plugin.display()))];
    }
    networks.iter().map(|(file, network)| network_check(file, network, &plugin, socket)).collect()
}

/// The files that name the plugin, and what is in them. One that is no JSON is one that names it in its text.
fn networks(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_network =
        |path: &PathBuf| path.extension().is_some_and(|kind| kind == "conflist" || kind == "conf" || kind == "json");
    let mut networks: Vec<_> = entries
        .filter(is_network)
        .filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)))
        .filter(|(_, text)| text.contains(PLUGIN))
        .collect();
    networks.sort();
    networks
}

fn network_check(file: &Path, text: &str, plugin: &Path, socket: &Path) -> Check {
    let at = file.display();
    let network: Value = match serde_json::from_str(text) {
        Ok(network) => network,
        Err(error) => return Check::wrong(NAME, format!("{at} is no JSON: {error}")).mended(format!("mend {at}")),
    };
    let plugins = network["plugins"].as_array().cloned().unwrap_or_else(|| vec![network.clone()]);
    for mut config in plugins.into_iter().filter(|config| config["type"] == PLUGIN) {
        config["name"] = network["name"].clone();
        config["cniVersion"] = WITH_STATUS.into();
        if config.get("socket").is_none() {
            config["socket"] = socket.display().to_string().into();
        }
        match status(plugin, &config) {
            Ok(None) => {}
            Ok(Some(answer)) if answer["code"] == NO_DAEMON => {
                return Check::warning(NAME, format!("{at} is right, but the plugin reaches no vswitchd"))
                    .mended("systemctl start vswitchd");
            }
            Ok(Some(answer)) => {
                let said = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
                return Check::wrong(NAME, format!("{at}: {} ({})", said("msg"), said("details")))
                    .mended(format!("mend {at}"));
            }
            Err(why) => {
                return Check::wrong(NAME, format!("{} does not run: {why}", plugin.display()))
                    .mended(format!("chmod 755 {0}, or install it anew", plugin.display()));
            }
        }
    }
    Check::ok(NAME, format!("{at} is right, and {} would attach containers", plugin.display()))
}

/// What the plugin answers to STATUS: nothing where all is well, else its error.
fn status(plugin: &Path, config: &Value) -> Result<Option<Value>, String> {
    let folder = plugin.parent().unwrap_or(Path::new("/"));
    let mut child = Command::new(plugin)
        .env("CNI_COMMAND", "STATUS")
        .env("CNI_PATH", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends without reading says why in its answer.
        let _ = input.write_all(config.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(None);
    }
    serde_json::from_slice(&output.stdout).map(Some).map_err(|_| format!("it ended with {}", output.status))
}
