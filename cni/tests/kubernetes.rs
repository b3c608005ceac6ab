//! The manifest for Kubernetes: held against the types that the API server has, and its scripts run.
//!
//! What a type does not know, it leaves out when it is written again. So a document that comes back whole has no field that
//! the API does not have, and no value of another type than it wants.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by these")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, PodSpec, ServiceAccount};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/kubernetes/vswitch.yaml");
const DOCKERFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/kubernetes/Dockerfile");

/// Fields whose keys are users' own.
const FREE: [&str; 7] = ["labels", "data", "matchLabels", "nodeSelector", "requests", "limits", "annotations"];

/// Fields that are text to the types, and few words to the API server.
const WORDS: [(&str, &[&str]); 9] = [
    ("pod-security.kubernetes.io/enforce", &["privileged", "baseline", "restricted"]),
    ("updateStrategy.type", &["RollingUpdate", "OnDelete"]),
    ("dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
    ("tolerations.operator", &["Exists", "Equal"]),
    ("imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("fieldPath", &["spec.nodeName", "status.hostIP"]),
    ("seccompProfile.type", &["RuntimeDefault", "Unconfined", "Localhost"]),
    ("mountPropagation", &["None", "HostToContainer", "Bidirectional"]),
    ("hostPath.type", &["Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice"]),
];

fn documents() -> Vec<Value> {
    let text = fs::read_to_string(MANIFEST).unwrap();
    serde_yaml_ng::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// The document, as the API server understands it.
fn understood(document: &Value) -> Result<Value, String> {
    fn of<T: DeserializeOwned + serde::Serialize>(document: &Value) -> Result<Value, String> {
        let object: T = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
        serde_json::to_value(object).map_err(|error| error.to_string())
    }
    match document["kind"].as_str() {
        Some("Namespace") => of::<Namespace>(document),
        Some("ServiceAccount") => of::<ServiceAccount>(document),
        Some("ConfigMap") => of::<ConfigMap>(document),
        Some("DaemonSet") => of::<DaemonSet>(document),
        kind => Err(format!("kind {kind:?}")),
    }
}

/// What the API server would refuse or ignore.
fn complaints(document: &Value) -> Vec<String> {
    match understood(document) {
        Err(error) => vec![error],
        Ok(understood) => {
            let mut complaints = Vec::new();
            compare("", document, Some(&understood), &mut complaints);
            complaints
        }
    }
}

fn compare(path: &str, written: &Value, understood: Option<&Value>, complaints: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Some(Value::Object(understood))) => {
            for (key, value) in written {
                compare(&format!("{path}.{key}"), value, understood.get(key), complaints);
            }
        }
        (Value::Array(written), Some(Value::Array(understood))) if written.len() == understood.len() => {
            for (value, understood) in written.iter().zip(understood) {
                compare(path, value, Some(understood), complaints);
            }
        }
        _ if Some(written) != understood => complaints.push(format!("{path}: {written} is not known")),
        (Value::String(word), _) => {
            let words = WORDS.iter().find(|(field, _)| path.ends_with(&format!(".{field}")));
            if let Some((_, words)) = words.filter(|(_, words)| !words.contains(&word.as_str())) {
                complaints.push(format!("{path}: {word} is none of {words:?}"));
            }
        }
        _ => {}
    }
}

#[test]
fn the_api_server_knows_every_field() {
    let documents = documents();
    assert_eq!(documents.len(), 4);
    for document in &documents {
        assert_eq!(complaints(document), Vec::<String>::new(), "{}", document["kind"]);
    }
}

/// Every word of [`WORDS`] is met, so that none is misspelt there.
#[test]
fn words_are_looked_at() {
    for (field, _) in WORDS {
        let mut documents = documents();
        let wrong = documents.iter_mut().map(|document| {
            replace("", document, field);
            complaints(document).len()
        });
        assert_ne!(wrong.sum::<usize>(), 0, "{field}");
    }
}

/// Puts a word that does not exist into `field`, wherever it is.
fn replace(path: &str, value: &mut Value, field: &str) {
    match value {
        Value::Object(object) => {
            object.iter_mut().for_each(|(key, value)| replace(&format!("{path}.{key}"), value, field))
        }
        Value::Array(list) => list.iter_mut().for_each(|value| replace(path, value, field)),
        Value::String(word) if path.ends_with(&format!(".{field}")) => *word = "Nonsense".to_owned(),
        _ => {}
    }
}

/// Each field, misspelt, is noticed.
#[test]
fn a_misspelt_field_is_noticed() {
    let mut tried = 0;
    for document in documents() {
        let fields = fields(&document);
        for place in 0..fields {
            let mut misspelt = document.clone();
            let mut left = place;
            let name = misspell(&mut misspelt, &mut left).unwrap();
            assert_ne!(complaints(&misspelt), Vec::<String>::new(), "{}: {name}", document["kind"]);
        }
        tried += fields;
    }
    assert!(tried > 150, "{tried} fields");
}

/// How many fields a value has whose names the API gives.
fn fields(value: &Value) -> usize {
    match value {
        Value::Object(object) => {
            let own = |(key, value): (&String, &Value)| if free(key) { 1 } else { 1 + fields(value) };
            object.iter().map(own).sum()
        }
        Value::Array(list) => list.iter().map(fields).sum(),
        _ => 0,
    }
}

fn free(key: &str) -> bool {
    FREE.contains(&key)
}

/// Misspells the field that has `left` before it, and says which that was.
fn misspell(value: &mut Value, left: &mut usize) -> Option<String> {
    match value {
        Value::Object(object) => {
            let keys: Vec<_> = object.keys().cloned().collect();
            keys.into_iter().find_map(|key| {
                if *left == 0 {
                    let value = object.remove(&key)?;
                    object.insert(format!("{key}x"), value);
                    return Some(key);
                }
                *left -= 1;
                if free(&key) { None } else { misspell(object.get_mut(&key)?, left) }
            })
        }
        Value::Array(list) => list.iter_mut().find_map(|value| misspell(value, left)),
        _ => None,
    }
}

#[test]
fn names_lead_somewhere() {
    let documents = documents();
    let named = |kind: &str| {
        let document = documents.iter().find(|document| document["kind"] == kind).unwrap();
        document["metadata"]["name"].as_str().unwrap().to_owned()
    };
    for document in &documents {
        let namespace = &document["metadata"]["namespace"];
        assert!(document["kind"] == "Namespace" || *namespace == named("Namespace"), "{namespace}");
    }
    let daemons = daemons();
    let spec = daemons.spec.unwrap();
    let labels = spec.template.metadata.unwrap().labels.unwrap();
    for (key, value) in spec.selector.match_labels.unwrap() {
        assert_eq!(labels.get(&key), Some(&value), "the selector finds the pods by {key}");
    }
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some(named("ServiceAccount").as_str()));
    let volumes = pod.volumes.clone().unwrap();
    let settings = volumes.iter().find_map(|volume| volume.config_map.clone()).unwrap();
    assert_eq!(settings.name, named("ConfigMap"));
    let mut mounted = Vec::new();
    for container in containers(&pod) {
        assert_eq!(container.image, pod.containers[0].image, "one image");
        for mount in container.volume_mounts.unwrap() {
            assert!(volumes.iter().any(|volume| volume.name == mount.name), "{} mounts {}", container.name, mount.name);
            mounted.push(mount.name);
        }
    }
    for volume in volumes {
        assert!(mounted.contains(&volume.name), "{} is mounted by nobody", volume.name);
    }
}

/// What the daemon may and sees is what it needs, see docs/privileges.md, and no container is privileged.
#[test]
fn rights() {
    let pod = daemons().spec.unwrap().template.spec.unwrap();
    assert_eq!((pod.host_network, pod.host_pid), (Some(true), Some(true)));
    for container in containers(&pod) {
        let context = container.security_context.unwrap();
        let capabilities = context.capabilities.unwrap();
        assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]), "{}", container.name);
        assert_eq!(context.privileged, None, "{}", container.name);
        let kept = ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "BPF"].map(str::to_owned).to_vec();
        let may = (container.name == "vswitchd").then_some(kept);
        assert_eq!(capabilities.add, may, "{}", container.name);
    }
    let daemon = pod.containers.iter().find(|container| container.name == "vswitchd").unwrap();
    let mounts = daemon.volume_mounts.clone().unwrap();
    let netns = mounts.iter().find(|mount| mount.mount_path == "/run/netns").unwrap();
    assert_eq!(netns.mount_propagation.as_deref(), Some("HostToContainer"));
    for (path, mount) in [("/run/vswitch", "run"), ("/var/lib/vswitch", "state"), ("/dev/net/tun", "tun")] {
        assert!(mounts.iter().any(|other| other.mount_path == path && other.name == mount), "{path}");
    }
}

/// What containers run is what the image has.
#[test]
fn programs_are_in_the_image() {
    let dockerfile = fs::read_to_string(DOCKERFILE).unwrap();
    let copied = dockerfile.lines().find(|line| line.starts_with("COPY --from=build")).unwrap();
    for name in ["vswitchd", "vsctl", "vswitch-cni"] {
        assert!(copied.contains(&format!("/release/{name} ")), "{name}");
        let package = if name == "vswitchd" { "vswitch" } else { name };
        assert!(dockerfile.contains(&format!("-p {package}")), "{package}");
    }
    let pod = daemons().spec.unwrap().template.spec.unwrap();
    let programs: Vec<_> = containers(&pod).map(|container| container.command.unwrap()[0].clone()).collect();
    assert_eq!(programs, ["sh", "vswitchd", "sh"]);
    let image = pod.containers[0].image.clone().unwrap();
    assert!(dockerfile.contains(&format!("-t {image} ")), "{image}");
}

/// The script of the init container: on a node of the table, on one that is not there, and over an older version.
#[test]
fn install() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["settings", "bin", "net.d"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("plugin"), "new").unwrap();
    let settings = settings();
    settings.iter().for_each(|(name, text)| fs::write(at("settings").join(name), text.as_str().unwrap()).unwrap());
    let stranger = script(folder.path(), "install.sh", "node-3");
    assert!(!stranger.status.success());
    let complaint = String::from_utf8(stranger.stderr).unwrap();
    assert!(complaint.contains("no line for node-3"), "{complaint}");
    assert_eq!(names(&at("bin")), [""; 0]);
    assert_eq!(names(&at("net.d")), [""; 0]);
    fs::write(at("bin/vswitch-cni"), "old").unwrap();
    // What runs the old program, or reads it, keeps the old one whole.
    let running = fs::hard_link(at("bin/vswitch-cni"), at("old"));
    running.unwrap();
    let done = script(folder.path(), "install.sh", "node-2");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read_to_string(at("bin/vswitch-cni")).unwrap(), "new");
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "old");
    assert_eq!(names(&at("bin")), ["vswitch-cni"]);
    assert_eq!(names(&at("net.d")), ["10-vswitch.conflist"]);
    let list: Value = serde_json::from_slice(&fs::read(at("net.d/10-vswitch.conflist")).unwrap()).unwrap();
    let plugin = &list["plugins"][0];
    assert_eq!(plugin["type"], "vswitch-cni");
    assert_eq!(plugin["rangeStart"], "10.77.2.2");
    assert_eq!(plugin["rangeEnd"], "10.77.2.254");
    assert_eq!(plugin["gateway"], "10.77.2.1");
}

/// Runs a script of the manifest on node `node`, with its paths in `folder`.
fn script(folder: &Path, name: &str, node: &str) -> Output {
    let text = settings()[name].as_str().unwrap().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    let text = text.replace("/etc/vswitch", &path("settings")).replace("/host/", &format!("{}/", folder.display()));
    let text = text.replace("/usr/local/bin/vswitch-cni", &path("plugin"));
    Command::new("sh").args(["-c", &text]).env("NODE_NAME", node).output().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn settings() -> Map<String, Value> {
    let map = documents().into_iter().find(|document| document["kind"] == "ConfigMap").unwrap();
    map["data"].as_object().unwrap().clone()
}

fn daemons() -> DaemonSet {
    let document = documents().into_iter().find(|document| document["kind"] == "DaemonSet").unwrap();
    serde_json::from_value(document).unwrap()
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = Container> {
    pod.init_containers.clone().unwrap_or_default().into_iter().chain(pod.containers.clone())
}
