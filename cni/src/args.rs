//! `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`, what a user or the runtime adds for one attachment.

use crate::protocol::{Code, Failure};

/// What we understand of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Args {
    /// `MAC`.
    pub(crate) mac: Option<String>,
    /// `IP`: addresses, parted by commas.
    pub(crate) ips: Vec<String>,
    /// `K8S_POD_NAMESPACE` and `K8S_POD_NAME`.
    pub(crate) pod: Option<(String, String)>,
}

/// Keys that say nothing to us, and that every plugin has to accept.
const OTHERS: &[&str] = &["K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"];

impl Args {
    /// Reads the variable.
    ///
    /// # Errors
    /// A word without `=`, and keys that are not known, unless `IgnoreUnknown` is set.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        let mut args = Self::default();
        let (mut namespace, mut name, mut ignore, mut unknown) = (None, None, false, Vec::new());
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(text, &format!("{pair:?} is no pair KEY=VALUE")));
            };
            match key {
                "MAC" => args.mac = said(value),
                "IP" => args.ips = value.split(',').filter_map(said).collect(),
                "K8S_POD_NAMESPACE" => namespace = said(value),
                "K8S_POD_NAME" => name = said(value),
                "IgnoreUnknown" => {
                    ignore = match value.to_ascii_lowercase().as_str() {
                        "1" | "true" | "t" => true,
                        "0" | "false" | "f" | "" => false,
                        _ => return Err(wrong(text, &format!("IgnoreUnknown is {value:?}, neither true nor false"))),
                    }
                }
                _ if OTHERS.contains(&key) => {}
                _ => unknown.push(key),
            }
        }
        args.pod = namespace.zip(name);
        if unknown.is_empty() || ignore {
            return Ok(args);
        }
        let why = format!("{} not known: MAC and IP are; IgnoreUnknown=1 accepts others", unknown.join(", "));
        Err(wrong(text, &why))
    }
}

fn said(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn wrong(text: &str, why: &str) -> Failure {
    Failure::new(Code::Environment, format!("CNI_ARGS is {text:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        assert_eq!(Args::read("").unwrap(), Args::default());
        let args = Args::read("MAC=02:00:00:00:00:01;IP=10.0.0.5,fd00::5;").unwrap();
        assert_eq!(args.mac.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!(args.ips, ["10.0.0.5", "fd00::5"]);
        assert_eq!(Args::read("MAC=;IP=").unwrap(), Args::default());

        let kubelet = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c;X=1";
        assert_eq!(Args::read(kubelet).unwrap().pod, Some(("default".to_owned(), "web".to_owned())));
        assert_eq!(Args::read("IgnoreUnknown=True;FOO=BAR").unwrap(), Args::default());
    }

    #[test]
    fn what_is_refused() {
        for (text, why) in [
            ("FOO=BAR;ABC=1", "FOO, ABC not known"),
            ("IgnoreUnknown=0;FOO=BAR", "FOO not known"),
            ("MAC", "\"MAC\" is no pair"),
            ("IgnoreUnknown=maybe", "neither true nor false"),
        ] {
            let failure = Args::read(text).unwrap_err();
            assert_eq!(failure.code, 4, "{text}");
            assert!(failure.details.contains("CNI_ARGS") && failure.details.contains(why), "{failure}");
        }
    }
}
