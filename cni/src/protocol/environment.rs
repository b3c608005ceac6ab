//! What the runtime says by environment variables.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use vswitch_api::{ContainerId, IfName};

use super::error::{Code, Failure};

/// What the plugin is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Look whether it is attached as it should be.
    Check,
    /// Detach all but those listed.
    Gc,
    /// Say whether ADD would work.
    Status,
    /// Say which versions are spoken.
    Version,
}

const COMMANDS: [(Command, &str); 6] = [
    (Command::Add, "ADD"),
    (Command::Del, "DEL"),
    (Command::Check, "CHECK"),
    (Command::Gc, "GC"),
    (Command::Status, "STATUS"),
    (Command::Version, "VERSION"),
];

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(COMMANDS.iter().find(|(command, _)| command == self).map_or("", |(_, name)| name))
    }
}

/// Which attachment is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container: ContainerId,
    /// `CNI_IFNAME`.
    pub ifname: IfName,
    /// `CNI_NETNS`; DEL may come without.
    pub netns: Option<String>,
    /// `CNI_ARGS`, as it came.
    pub args: String,
}

/// The variables, checked as far as `CNI_COMMAND` needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// Of ADD, DEL and CHECK.
    pub attachment: Option<Attachment>,
    /// `CNI_PATH`: where other plugins are.
    pub path: Vec<PathBuf>,
}

impl Environment {
    /// Reads the variables; `None` where there is no `CNI_COMMAND`, so that no runtime calls.
    ///
    /// # Errors
    /// All variables that are missing or wrong, by name.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, Failure> {
        let mut wrong = Vec::new();
        // Empty is unset, as runtimes in Go leave it.
        let mut text = |name: &str| match variable(name).filter(|value| !value.is_empty()).map(OsString::into_string) {
            None => None,
            Some(Ok(text)) => Some(text),
            Some(Err(bytes)) => {
                wrong.push(format!("{name} is {bytes:?}, which is not UTF-8"));
                None
            }
        };
        let names = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"];
        let [command, container, ifname, netns, args] = names.map(&mut text);
        let Some(command) = command else {
            return if wrong.is_empty() { Ok(None) } else { Err(failure(&wrong)) };
        };
        let Some(&(command, _)) = COMMANDS.iter().find(|(_, name)| *name == command) else {
            let known = COMMANDS.map(|(_, name)| name).join(", ");
            return Err(failure(&[format!("CNI_COMMAND is {command:?}, not one of {known}")]));
        };
        let path = variable("CNI_PATH").filter(|value| !value.is_empty());
        let path: Vec<_> = path.map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        let attachment = match command {
            Command::Add | Command::Del | Command::Check => {
                let container = required("CNI_CONTAINERID", container, &mut wrong);
                let ifname = required("CNI_IFNAME", ifname, &mut wrong);
                match &netns {
                    None if command != Command::Del => wrong.push("CNI_NETNS is missing".to_owned()),
                    // A relative path would mean another file to vswitchd.
                    Some(path) if !path.starts_with('/') && command != Command::Del => {
                        wrong.push(format!("CNI_NETNS is {path:?}, not an absolute path"));
                    }
                    _ => {}
                }
                let args = args.unwrap_or_default();
                container.zip(ifname).map(|(container, ifname)| Attachment { container, ifname, netns, args })
            }
            Command::Gc => {
                if path.is_empty() {
                    wrong.push("CNI_PATH is missing".to_owned());
                }
                None
            }
            Command::Status | Command::Version => None,
        };
        if wrong.is_empty() || command == Command::Version {
            Ok(Some(Self { command, attachment, path }))
        } else {
            Err(failure(&wrong))
        }
    }
}

fn failure(wrong: &[String]) -> Failure {
    Failure::new(Code::Environment, wrong.join("; "))
}

/// The value of a variable that has to be there.
fn required<T>(name: &str, text: Option<String>, wrong: &mut Vec<String>) -> Option<T>
where
    T: std::str::FromStr<Err: fmt::Display>,
{
    let Some(text) = text else {
        wrong.push(format!("{name} is missing"));
        return None;
    };
    text.parse().map_err(|error| wrong.push(format!("{name}: {error}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn read(words: &str) -> Result<Option<Environment>, Failure> {
        Environment::read(|name| {
            let value = words.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.map(OsString::from)
        })
    }

    #[test]
    fn what_each_verb_needs() {
        let whole = "CNI_CONTAINERID=c CNI_IFNAME=eth0 CNI_NETNS=/run/netns/x CNI_PATH=/a:/b";
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
            let read = read(&format!("CNI_COMMAND={verb} {whole}")).unwrap().unwrap();
            assert_eq!(read.command.to_string(), verb);
            assert_eq!(read.path, ["/a", "/b"].map(PathBuf::from));
        }
        let table = [
            ("ADD", "CNI_CONTAINERID is missing; CNI_IFNAME is missing; CNI_NETNS is missing"),
            ("CHECK", "CNI_CONTAINERID is missing; CNI_IFNAME is missing; CNI_NETNS is missing"),
            ("DEL", "CNI_CONTAINERID is missing; CNI_IFNAME is missing"),
            ("GC", "CNI_PATH is missing"),
        ];
        for (verb, text) in table {
            let failure = read(&format!("CNI_COMMAND={verb}")).unwrap_err();
            assert_eq!((failure.code, failure.details.as_str()), (4, text));
        }
        for verb in ["STATUS", "VERSION"] {
            assert!(read(&format!("CNI_COMMAND={verb}")).unwrap().is_some());
        }
        assert_eq!(read("").unwrap(), None);
    }

    #[test]
    fn what_a_variable_may_be() {
        let table = [
            ("CNI_COMMAND=add", "CNI_COMMAND"),
            ("CNI_COMMAND=ADD CNI_CONTAINERID=-c CNI_IFNAME=eth0 CNI_NETNS=/n", "CNI_CONTAINERID"),
            ("CNI_COMMAND=ADD CNI_CONTAINERID=c/d CNI_IFNAME=eth0 CNI_NETNS=/n", "CNI_CONTAINERID"),
            ("CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_IFNAME=an-interface-name CNI_NETNS=/n", "CNI_IFNAME"),
            ("CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_IFNAME=a/b CNI_NETNS=/n", "CNI_IFNAME"),
            ("CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_IFNAME=.. CNI_NETNS=/n", "CNI_IFNAME"),
            ("CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_IFNAME=eth0 CNI_NETNS=n", "CNI_NETNS"),
        ];
        for (words, name) in table {
            let failure = read(words).unwrap_err();
            assert_eq!(failure.code, 4, "{words}");
            assert!(failure.details.starts_with(name), "{failure}");
        }
        let bytes = OsString::from_vec(vec![0xff]);
        let failure = Environment::read(|name| (name == "CNI_COMMAND").then(|| bytes.clone())).unwrap_err();
        assert!(failure.details.contains("CNI_COMMAND"), "{failure}");
    }
}
