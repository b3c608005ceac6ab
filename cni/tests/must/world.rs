//! What is around the program: a daemon that answers as it is told, and IPAM plugins.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::runtime::{Ran, config, run_by};

/// What the daemon answers to a method with parameters: a result, or an error's code and message.
pub(crate) type Answers = dyn Fn(&str, &Value) -> Result<Value, (i64, &'static str)> + Send + Sync;

/// A folder with a daemon's socket and IPAM plugins.
pub(crate) struct World {
    folder: TempDir,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl World {
    /// One whose daemon answers so.
    pub(crate) fn new(answers: Box<Answers>) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap(), asked: Arc::default() };
        let listener = UnixListener::bind(world.folder.path().join("s")).unwrap();
        let (answers, asked) = (Arc::new(answers), world.asked.clone());
        // Both end with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, asked) = (answers.clone(), asked.clone());
                thread::spawn(move || serve(&stream, &**answers, &asked));
            }
        });
        world
    }

    /// Puts an IPAM plugin into the folder that CNI_PATH names: a shell script. It finds the folder in `$WORLD`.
    pub(crate) fn plugin(&self, name: &str, script: &str) {
        let path = self.folder.path().join(name);
        // Written by another process, lest a descriptor of ours keep it busy (ETXTBSY) in a child of another test.
        let mut writer = Command::new("sh");
        writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut child = writer.spawn().unwrap();
        let text = format!("#!/bin/sh\nWORLD={}\n{script}\n", self.folder.path().display());
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Runs a verb of version 1.1.0 with more keys.
    pub(crate) fn run(&self, verb: &str, keys: &str) -> Ran {
        self.run_in("1.1.0", verb, keys)
    }

    /// Runs a verb of `version` with more keys.
    pub(crate) fn run_in(&self, version: &str, verb: &str, keys: &str) -> Ran {
        self.run_all(&[], version, verb, keys)
    }

    /// As [`Self::run`], by another program.
    pub(crate) fn run_by(&self, by: &[&str], verb: &str, keys: &str) -> Ran {
        self.run_all(by, "1.1.0", verb, keys)
    }

    fn run_all(&self, by: &[&str], version: &str, verb: &str, keys: &str) -> Ran {
        let folder = self.folder.path().display();
        let variables = format!(
            "CNI_COMMAND={verb} CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/nonexistent/netns CNI_ARGS=IgnoreUnknown=1 \
             CNI_PATH=/nonexistent:{folder}"
        );
        let comma = if keys.is_empty() { "" } else { "," };
        run_by(by, &variables, config(version, &format!("\"socket\":\"{folder}/s\"{comma}{keys}")))
    }

    /// What a plugin wrote to a file of the folder; empty where it did not.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The requests so far: method and parameters.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }

    /// The containers whose ports were removed, in order.
    pub(crate) fn removed(&self) -> Vec<String> {
        let removals = self.asked().into_iter().filter(|(method, _)| method == "attachment.del");
        removals.map(|(_, params)| params["container"].as_str().unwrap().to_owned()).collect()
    }
}

fn serve(stream: &UnixStream, answers: &Answers, asked: &Mutex<Vec<(String, Value)>>) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let (method, params) = (request["method"].as_str().unwrap(), &request["params"]);
        asked.lock().unwrap().push((method.to_owned(), params.clone()));
        let mut answer = json!({"jsonrpc": "2.0", "id": request["id"]});
        match answers(method, params) {
            Ok(result) => answer["result"] = result,
            Err((code, message)) => answer["error"] = json!({"code": code, "message": message}),
        }
        let mut writer = stream;
        if writeln!(writer, "{answer}").is_err() {
            return;
        }
    }
}

/// A daemon that has these attachments of network `net`, each `eth0`, with addresses of an IPAM plugin.
pub(crate) fn with_attachments(containers: &'static [&'static str]) -> Box<Answers> {
    Box::new(move |method, _| match method {
        "attachment.list" => Ok(containers.iter().map(|container| attachment(container, "up")).collect()),
        "attachment.del" => Ok(json!({"port": null})),
        "status" => Ok(status()),
        "port.show" | "port.del" => Err((2, "there is no such port")),
        _ => Err((-32601, "there is no such method")),
    })
}

/// An attachment as `attachment.list` has it.
pub(crate) fn attachment(container: &str, state: &str) -> Value {
    json!({
        "network": "net", "container": container, "ifname": "eth0", "port": format!("{container}:eth0"),
        "netns": "/nonexistent/netns", "addresses": ["10.0.0.2/24"], "delegated": true, "state": state,
    })
}

/// How a daemon is that is well.
pub(crate) fn status() -> Value {
    json!({
        "version": "0", "pid": 1, "user": "root", "capabilities": [], "sandbox": null, "uptime_s": 1, "workers": 1,
        "ports": 0, "ports_lost": 0, "fdb_used": 0, "fdb_limit": 1, "fdb_limit_per_port": 1, "fdb_learned": 0,
        "fdb_moved": 0, "fdb_aged": 0, "fdb_evicted": 0, "fdb_limited": 0, "fdb_flapping": 0, "storm_limit": 0,
        "vtep": {"ip": null, "port": 4789, "underlay_mtu": null, "overlay_mtu": null, "underlay": null, "peers": 0},
    })
}
