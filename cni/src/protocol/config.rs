//! The network configuration, as it comes on standard input.
//!
//! It is read key by key, when a verb asks for the key: keys that we do not know are nobody's business, an IPAM plugin
//! gets the very bytes that came, and DEL works where a key that only ADD needs is wrong.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use vswitch_api::{ContainerId, IfName, NetworkName};

use super::error::{Code, Failure};
use super::{Success, Version};

/// Which attachments there are, for GC.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// A network configuration.
#[derive(Debug, Clone)]
pub struct Config {
    bytes: Vec<u8>,
    keys: Map<String, Value>,
}

/// An attachment as the runtime names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct ValidAttachment {
    /// `CNI_CONTAINERID` at its ADD.
    #[serde(rename = "containerID")]
    pub container: String,
    /// `CNI_IFNAME` at its ADD.
    pub ifname: String,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// What is no JSON object.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Failure> {
        let failure =
            |why: String| Failure::new(Code::Decode, format!("network configuration on standard input: {why}"));
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(keys)) => Ok(Self { bytes, keys }),
            Ok(_) => Err(failure("it is JSON, but no object".to_owned())),
            Err(_) if bytes.trim_ascii().is_empty() => Err(failure("it is empty".to_owned())),
            Err(error) => Err(failure(error.to_string())),
        }
    }

    /// All of it, as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same in the words of `version`, for a plugin that does not speak ours.
    ///
    /// # Errors
    /// Where `prevResult` is none.
    pub fn in_version(&self, version: Version) -> Result<Vec<u8>, Failure> {
        let mut keys = self.keys.clone();
        keys.insert("cniVersion".to_owned(), version.as_str().into());
        if let Some(result) = self.prev_result()? {
            keys.insert("prevResult".to_owned(), result.to_json(version)?);
        }
        serde_json::to_vec(&keys).map_err(|error| Failure::new(Code::Decode, error.to_string()))
    }

    /// The version that `cniVersion` asks for.
    ///
    /// # Errors
    /// One that we do not speak, or no text.
    pub fn version(&self) -> Result<Version, Failure> {
        match self.keys.get("cniVersion") {
            None | Some(Value::Null) => Version::parse(""),
            Some(Value::String(text)) => Version::parse(text),
            Some(other) => Err(Failure::new(Code::Decode, format!("cniVersion is {other}, no text"))),
        }
    }

    /// The network's name.
    ///
    /// # Errors
    /// None, or one that cannot be one.
    pub fn name(&self) -> Result<NetworkName, Failure> {
        self.get("name")?
            .ok_or_else(|| Failure::new(Code::Config, "the network has no name: give it one by the key \"name\""))
    }

    /// The value of `key`; null is as good as none.
    ///
    /// # Errors
    /// One of another kind, with the key in the text.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
        value(self.keys.get(key), key)
    }

    /// The value of `key` in the object `object`, as of `mac` in `runtimeConfig`.
    ///
    /// # Errors
    /// One of another kind, with both keys in the text.
    pub fn get_in<T: DeserializeOwned>(&self, object: &[&str], key: &str) -> Result<Option<T>, Failure> {
        let mut keys = &self.keys;
        for (depth, name) in object.iter().enumerate() {
            keys = match keys.get(*name) {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::Object(inner)) => inner,
                Some(_) => {
                    let name = object[..=depth].join(".");
                    return Err(Failure::new(Code::Config, format!("key {name:?} is no object")));
                }
            };
        }
        value(keys.get(key), &format!("{}.{key}", object.join(".")))
    }

    /// Whether `key` is there, and neither null nor an empty list.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|value| match value {
            Value::Null => false,
            Value::Array(list) => !list.is_empty(),
            _ => true,
        })
    }

    /// Whether `key` says no, in so many words.
    #[must_use]
    pub fn is_false(&self, key: &str) -> bool {
        self.keys.get(key) == Some(&Value::Bool(false))
    }

    /// Refuses `key`, since `why`.
    #[must_use]
    pub fn unsupported(&self, key: &str, why: &str) -> Failure {
        let value = self.keys.get(key).unwrap_or(&Value::Null);
        Failure::new(Code::UnsupportedField, format!("key {key:?} with value {value}: {why}"))
    }

    /// The IPAM plugin, where the configuration names one: a file's name, found by `CNI_PATH`.
    ///
    /// # Errors
    /// A path in place of a name, which would run any program whatever `CNI_PATH` allows (CVE-2021-20206).
    pub fn ipam(&self) -> Result<Option<String>, Failure> {
        let name: Option<String> = self.get_in(&["ipam"], "type")?;
        // An object without type is what libcni writes for no IPAM.
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        if name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
            let why = format!("key \"ipam.type\" is {name:?}: it is the name of a file in CNI_PATH, not a path");
            return Err(Failure::new(Code::Config, why));
        }
        Ok(Some(name))
    }

    /// The result of the plugins before us, or of ADD.
    ///
    /// # Errors
    /// One that is none.
    pub fn prev_result(&self) -> Result<Option<Success>, Failure> {
        match self.keys.get("prevResult") {
            None | Some(Value::Null) => Ok(None),
            Some(result) => Success::read(result.clone(), "prevResult").map(Some),
        }
    }

    /// The attachments that are still there, for GC.
    ///
    /// # Errors
    /// No list: taking that for an empty one would detach all.
    pub fn valid_attachments(&self) -> Result<Vec<ValidAttachment>, Failure> {
        match self.keys.get(VALID_ATTACHMENTS) {
            None => {
                let why = format!("key {VALID_ATTACHMENTS:?} is missing: GC needs the list of attachments to keep");
                Err(Failure::new(Code::Config, why))
            }
            list => Ok(value(list, VALID_ATTACHMENTS)?.unwrap_or_default()),
        }
    }
}

impl ValidAttachment {
    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, container: &ContainerId, ifname: &IfName) -> bool {
        self.container == container.as_str() && self.ifname == ifname.as_str()
    }
}

fn value<T: DeserializeOwned>(value: Option<&Value>, key: &str) -> Result<Option<T>, Failure> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match T::deserialize(value) {
            Ok(read) => Ok(Some(read)),
            Err(error) => Err(Failure::new(Code::Config, format!("key {key:?}: {error}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::read(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_is_no_configuration() {
        for text in ["", " \n", "{", "{\"name\":\"a\"", "[]", "null", "7", "{\"a\":1}}", "\u{feff}{}"] {
            let failure = Config::read(text.as_bytes().to_vec()).unwrap_err();
            assert_eq!(failure.code, 6, "{text:?}: {failure}");
        }
        assert_eq!(Config::read(b"{\"a\":\"\xff\"}".to_vec()).unwrap_err().code, 6);
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert_eq!(Config::read(deep).unwrap_err().code, 6);
    }

    #[test]
    fn keys_are_read_when_they_are_asked_for() {
        let config = config(r#"{"name": "a", "n": 7, "none": null, "o": {"p": {"q": true}}, "x": "7"}"#);
        assert_eq!(config.get::<u32>("n").unwrap(), Some(7));
        assert_eq!(config.get::<u32>("none").unwrap(), None);
        assert_eq!(config.get::<u32>("other").unwrap(), None);
        assert_eq!(config.get_in::<bool>(&["o", "p"], "q").unwrap(), Some(true));
        assert_eq!(config.get_in::<bool>(&["o", "none"], "q").unwrap(), None);
        let failure = config.get::<u32>("x").unwrap_err();
        assert_eq!(failure.code, 7);
        assert!(failure.details.starts_with("key \"x\": "), "{failure}");
        assert!(config.get_in::<bool>(&["o", "p"], "q").is_ok());
        assert!(config.get_in::<bool>(&["n"], "q").unwrap_err().details.contains("key \"n\" is no object"));
        assert!(config.get_in::<u8>(&["o", "p"], "q").unwrap_err().details.contains("\"o.p.q\""));
    }

    #[test]
    fn in_the_words_of_an_older_version() {
        let text = r#"{"cniVersion":"1.1.0","x":{"y":null},"prevResult":{"ips":[{"address":"10.0.0.2/24"}]}}"#;
        let older: Value = serde_json::from_slice(&config(text).in_version(Version::V0_4_0).unwrap()).unwrap();
        assert_eq!((&older["cniVersion"], &older["x"]), (&"0.4.0".into(), &serde_json::json!({"y": null})));
        assert_eq!(
            (&older["prevResult"]["cniVersion"], &older["prevResult"]["ips"][0]["version"]),
            (&"0.4.0".into(), &"4".into())
        );
    }

    #[test]
    fn names_of_networks() {
        for good in ["a", "dbnet", "9", "a_b.c-d"] {
            assert_eq!(config(&format!("{{\"name\":\"{good}\"}}")).name().unwrap().as_str(), good);
        }
        for bad in
            ["{}", r#"{"name":""}"#, r#"{"name":"-a"}"#, r#"{"name":"a/b"}"#, r#"{"name":"a b"}"#, r#"{"name":7}"#]
        {
            assert_eq!(config(bad).name().unwrap_err().code, 7, "{bad}");
        }
    }

    #[test]
    fn an_ipam_plugin_is_a_name() {
        assert_eq!(config("{}").ipam().unwrap(), None);
        assert_eq!(config(r#"{"ipam":{}}"#).ipam().unwrap(), None);
        assert_eq!(config(r#"{"ipam":{"type":""}}"#).ipam().unwrap(), None);
        assert_eq!(config(r#"{"ipam":{"type":"host-local"}}"#).ipam().unwrap().unwrap(), "host-local");
        for bad in ["../x", "/bin/sh", "a/b", "a\\\\b", "..", "."] {
            let failure = config(&format!(r#"{{"ipam":{{"type":"{bad}"}}}}"#)).ipam().unwrap_err();
            assert_eq!(failure.code, 7, "{bad}");
        }
    }

    #[test]
    fn no_list_of_attachments_is_not_an_empty_one() {
        assert_eq!(config("{}").valid_attachments().unwrap_err().code, 7);
        assert_eq!(config(r#"{"cni.dev/valid-attachments":null}"#).valid_attachments().unwrap(), []);
        assert_eq!(config(r#"{"cni.dev/valid-attachments":[]}"#).valid_attachments().unwrap(), []);
        let one = config(r#"{"cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0","later":1}]}"#);
        let one = one.valid_attachments().unwrap();
        assert!(one[0].is(&"c".parse().unwrap(), &"eth0".parse().unwrap()));
        assert!(!one[0].is(&"c".parse().unwrap(), &"eth1".parse().unwrap()));
        let bad = config(r#"{"cni.dev/valid-attachments":[{"containerID":"c"}]}"#);
        assert_eq!(bad.valid_attachments().unwrap_err().code, 7);
    }
}
