//! Masquerading: what leaves the host from a network's subnets leaves with the host's address.
//!
//! By the program `nft`: one table a network, in one transaction, so that it is there whole or not at all. Every rule bears
//! a digest of the whole table as its comment: a look tells whether the rules are ours and current, and costs a tenth of
//! what a transaction does (the kernel ends one with a grace period of RCU).

use std::fmt::Write as _;
use std::io;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::names;
use crate::process::converse;

/// How long `nft` may take: it waits for others' transactions.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where `nft` is looked for: container runtimes start plugins with a `PATH` of their own, often without `sbin`.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// Why packets are not masqueraded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MasqueradeError {
    /// There is no `nft`.
    #[error(
        "ipMasq needs the program nft, which is neither in PATH nor in /usr/sbin: install nftables, or set ipMasq to false \
         and let the network behind this host know the way back"
    )]
    NoProgram,
    /// It could not be run.
    #[error("cannot run nft: {0}")]
    Run(#[source] io::Error),
    /// It refused.
    #[error("nft refused to {doing} the table {table}: {said}")]
    Refused { doing: &'static str, table: String, said: String },
    /// CHECK found other rules.
    #[error(
        "the nftables table inet {0} is missing or altered (is the ruleset flushed by a firewall?): the next ADD of this \
         network makes it anew"
    )]
    Altered(String),
}

/// The masquerading of a network.
#[derive(Debug)]
pub(crate) struct Masquerade {
    table: String,
    /// What `nft -f` reads.
    script: String,
    /// What each rule bears.
    comment: String,
    rules: usize,
}

impl Masquerade {
    /// Of `network`, whose gateway is the host's interface `gateway`, and whose addresses are in `subnets`.
    pub(crate) fn new(network: &str, gateway: &str, subnets: &[IpNet]) -> Self {
        let rules = rules(gateway, subnets);
        let comment = format!("{:016x}", names::digest(&rules.join("\n")));
        let table = names::table(network);
        // Added, deleted and added: in one transaction, that replaces it, whether it was there or not.
        let mut script = format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
        script.push_str("chain postrouting {\ntype nat hook postrouting priority 100; policy accept;\n");
        for rule in &rules {
            // Writing to a String cannot fail.
            let _ = writeln!(script, "{rule} comment \"{comment}\"");
        }
        script.push_str("}\n}\n");
        Self { table, script, comment, rules: rules.len() }
    }

    /// Has the rules be there, and no others in their table.
    ///
    /// # Errors
    /// What `nft` says, and where there is none.
    pub(crate) fn ensure(&self) -> Result<(), MasqueradeError> {
        if self.is_there()? {
            return Ok(());
        }
        done("make", &self.table, &nft(&["-f", "-"], &self.script)?)
    }

    /// Looks whether the rules are there.
    ///
    /// # Errors
    /// Where they are not.
    pub(crate) fn check(&self) -> Result<(), MasqueradeError> {
        if self.is_there()? { Ok(()) } else { Err(MasqueradeError::Altered(self.table.clone())) }
    }

    fn is_there(&self) -> Result<bool, MasqueradeError> {
        let Some(listed) = list(&self.table)? else { return Ok(false) };
        Ok(listed.matches(&self.comment).count() == self.rules)
    }
}

/// Whether `nft` can be run.
///
/// # Errors
/// Where it cannot.
pub(crate) fn possible() -> Result<(), MasqueradeError> {
    nft(&["--version"], "").map(drop)
}

/// Removes the masquerading of `network`, where there is one. Where `nft` cannot even list it, there is none, unless the
/// network is `meant` to have one: who never masquerades needs no `nft` that works.
///
/// # Errors
/// What `nft` says. Without `nft` nothing was made that could be removed.
pub(crate) fn remove(network: &str, meant: bool) -> Result<(), MasqueradeError> {
    let table = names::table(network);
    match list(&table) {
        Ok(None) | Err(MasqueradeError::NoProgram) => Ok(()),
        Ok(Some(_)) => done("delete", &table, &nft(&["delete", "table", "inet", &table], "")?),
        Err(error) if meant => Err(error),
        Err(_) => Ok(()),
    }
}

/// The rules: what stays in the network, for neighbours or for a group, keeps its sender.
fn rules(gateway: &str, subnets: &[IpNet]) -> Vec<String> {
    let v4: Vec<_> =
        subnets.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(net.trunc()) } else { None }).collect();
    let v6: Vec<_> =
        subnets.iter().filter_map(|net| if let IpNet::V6(net) = net { Some(net.trunc()) } else { None }).collect();
    let mut rules = vec![format!("oifname \"{gateway}\" return")];
    // nft refuses sets whose elements overlap.
    let v4 = Ipv4Net::aggregate(&v4).iter().map(Ipv4Net::to_string).collect();
    let v6 = Ipv6Net::aggregate(&v6).iter().map(Ipv6Net::to_string).collect();
    rules.extend([rule("ip", v4, "224.0.0.0/4"), rule("ip6", v6, "ff00::/8")].into_iter().flatten());
    rules
}

fn rule(version: &str, subnets: Vec<String>, groups: &str) -> Option<String> {
    let subnets = subnets.join(", ");
    let rule = || format!("{version} saddr {{ {subnets} }} {version} daddr != {{ {subnets}, {groups} }} masquerade");
    (!subnets.is_empty()).then(rule)
}

/// The table as `nft` writes it; `None` where there is none.
fn list(table: &str) -> Result<Option<String>, MasqueradeError> {
    let output = nft(&["list", "table", "inet", table], "")?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    if String::from_utf8_lossy(&output.stderr).contains("No such file or directory") {
        return Ok(None);
    }
    done("list", table, &output).map(|()| None)
}

/// Runs `nft`, which reads `input`.
fn nft(arguments: &[&str], input: &str) -> Result<Output, MasqueradeError> {
    first_of(&PROGRAMS, arguments, input)
}

/// Runs the first of `programs` that is there.
fn first_of(programs: &[&str], arguments: &[&str], input: &str) -> Result<Output, MasqueradeError> {
    for program in programs {
        let mut command = Command::new(program);
        // Its complaints in English: one of them is looked for.
        command.args(arguments).env("LC_ALL", "C").stderr(Stdio::piped());
        match converse(command, input.as_bytes(), PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome.map_err(MasqueradeError::Run),
        }
    }
    Err(MasqueradeError::NoProgram)
}

fn done(doing: &'static str, table: &str, output: &Output) -> Result<(), MasqueradeError> {
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    // The lines below the first repeat the script.
    let said = match complaint.lines().next() {
        Some(line) => line.trim().to_owned(),
        None => output.status.to_string(),
    };
    Err(MasqueradeError::Refused { doing, table: table.to_owned(), said })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "so a test fails")]
mod tests {
    use super::*;
    use crate::testing::{Container, no_container};

    #[test]
    fn the_rules_of_two_subnets() {
        let nets = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<IpNet>>();
        let stays = "oifname \"vsw-lan\" return".to_owned();
        for (subnets, more) in [
            (
                &["10.1.0.1/24"][..],
                &["ip saddr { 10.1.0.0/24 } ip daddr != { 10.1.0.0/24, 224.0.0.0/4 } masquerade"][..],
            ),
            (&["fd00::1/64"], &["ip6 saddr { fd00::/64 } ip6 daddr != { fd00::/64, ff00::/8 } masquerade"]),
            (
                // A set takes no element that lies in another.
                &["10.1.0.1/24", "10.1.0.129/25", "fd00::1/64", "10.9.0.1/16"],
                &[
                    "ip saddr { 10.1.0.0/24, 10.9.0.0/16 } ip daddr != { 10.1.0.0/24, 10.9.0.0/16, 224.0.0.0/4 } masquerade",
                    "ip6 saddr { fd00::/64 } ip6 daddr != { fd00::/64, ff00::/8 } masquerade",
                ],
            ),
            (&[], &[]),
        ] {
            let expected: Vec<_> = [stays.as_str()].iter().chain(more).map(|rule| (*rule).to_owned()).collect();
            assert_eq!(rules("vsw-lan", &nets(subnets)), expected);
        }
    }

    /// Why no rules can be made here.
    fn no_nft() -> Option<String> {
        no_container().or_else(|| nft(&["--version"], "").err().map(|error| error.to_string()))
    }

    #[test]
    fn rules_come_and_go_whole() {
        crate::require!(no_nft());
        let host = Container::new(&[]);
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let one = Masquerade::new("a.b_c-d", "vsw-a", &nets(&["10.1.0.1/24", "fd00::1/64"]));
        let wider = Masquerade::new("a.b_c-d", "vsw-a", &nets(&["10.1.0.1/24", "10.1.0.1/16", "fd00::1/64"]));
        let other = Masquerade::new("b", "vsw-b", &nets(&["10.2.0.1/24"]));
        let run = |words: &str| nft(&words.split(' ').collect::<Vec<_>>(), "").unwrap();
        host.netns
            .run(|| {
                let missing = one.check().unwrap_err().to_string();
                assert!(missing.starts_with("the nftables table inet vswitch-a.b_c-d is missing"), "{missing}");
                remove("a.b_c-d", true).unwrap();
                one.ensure().unwrap();
                let first = list(&one.table).unwrap();
                one.ensure().unwrap();
                assert_eq!(list(&one.table).unwrap(), first);
                other.ensure().unwrap();
                wider.ensure().unwrap();
                wider.check().unwrap();
                assert!(one.check().is_err(), "the rules are others now");
                // What a firewall's reload does, and what a careless hand may do.
                for words in ["flush ruleset", "flush table inet vswitch-a.b_c-d"] {
                    assert!(run(words).status.success(), "{words}");
                    assert!(wider.check().is_err(), "{words}");
                    wider.ensure().unwrap();
                    wider.check().unwrap();
                }
                other.ensure().unwrap();
                remove("a.b_c-d", true).unwrap();
                remove("a.b_c-d", true).unwrap();
                assert_eq!(list(&one.table).unwrap(), None);
                other.check().unwrap();
            })
            .unwrap();
    }

    #[test]
    fn a_program_that_is_not_in_path_is_looked_for() {
        assert!(first_of(&["nowhere/nft", "/bin/true"], &[], "").unwrap().status.success());
        let said = first_of(&["nowhere/nft", "/nowhere/nft"], &[], "").unwrap_err().to_string();
        assert!(said.contains("install nftables, or set ipMasq to false"), "{said}");
    }

    #[test]
    fn what_nft_refuses_is_said() {
        crate::require!(no_nft());
        let host = Container::new(&[]);
        let wrong = Masquerade { script: "table inet x { nonsense }".to_owned(), ..Masquerade::new("x", "vsw-x", &[]) };
        let said = host.netns.run(|| wrong.ensure()).unwrap().unwrap_err().to_string();
        assert!(
            said.starts_with("nft refused to make the table vswitch-x: ") && said.contains("syntax error"),
            "{said}"
        );
    }

    #[test]
    fn a_digest_stands_for_the_rules() {
        let one = Masquerade::new("lan", "vsw-lan", &[]);
        let other = Masquerade::new("lan", "vsw-lam", &[]);
        assert_ne!(one.comment, other.comment);
        assert_eq!(one.script.matches(&one.comment).count(), one.rules);
    }
}
