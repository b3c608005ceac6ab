//! Completion: scripts for shells, and the words they ask `vsctl complete` for.
//!
//! The scripts know nothing but how their shell parts a line into words; what may stand there comes from the grammar
//! ([`crate::cli`]) and, for what has a name in the switch, from the daemon. So an old script serves a new vsctl.

pub(crate) mod names;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{CommandFactory, ValueEnum};
use clap_complete::engine::{self, CompletionCandidate};

use crate::cli::Cli;

/// A shell whose script can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    /// Without names that only the daemon knows.
    Elvish,
    /// Without names that only the daemon knows.
    #[value(name = "powershell")]
    PowerShell,
}

/// Writes the script for `shell`.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn script(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    let others = |shell: clap_complete::Shell, out: &mut dyn Write| {
        let mut script = Vec::new(); // the generator panics where it cannot write
        clap_complete::generate(shell, &mut Cli::command(), "vsctl", &mut script);
        out.write_all(&script)
    };
    match shell {
        Shell::Bash => out.write_all(include_bytes!("vsctl.bash")),
        Shell::Zsh => out.write_all(include_bytes!("vsctl.zsh")),
        Shell::Fish => out.write_all(include_bytes!("vsctl.fish")),
        Shell::Elvish => others(clap_complete::Shell::Elvish, out),
        Shell::PowerShell => others(clap_complete::Shell::PowerShell, out),
    }
}

/// Writes what word number `index` of `words` may be, a line each, with a tab before what it means. A script wants
/// nothing else, so nothing is said where nothing is known.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn propose(index: usize, mut words: Vec<OsString>, out: &mut dyn Write) -> io::Result<()> {
    // The engine takes the word in question among the others, empty if need be.
    words.truncate(index.saturating_add(1));
    if words.len() == index {
        words.push(OsString::new());
    }
    names::ask_at(&words);
    let asks_for_options = words.get(index).is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
    let folder = std::env::current_dir().ok();
    let mut candidates = engine::complete(&mut Cli::command(), words, index, folder.as_deref()).unwrap_or_default();
    // Options may stand anywhere, and would hide what is meant.
    let is_option = |candidate: &CompletionCandidate| candidate.get_value().as_encoded_bytes().starts_with(b"-");
    if !asks_for_options && !candidates.iter().all(is_option) {
        candidates.retain(|candidate| !is_option(candidate));
    }
    for candidate in candidates {
        out.write_all(&line(&candidate))?;
    }
    out.flush()
}

fn line(candidate: &CompletionCandidate) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.lines().next().unwrap_or_default();
    let mut line = candidate.get_value().as_bytes().to_vec();
    if line.iter().any(u8::is_ascii_control) {
        return Vec::new(); // a file's name may have anything in it
    }
    if !help.is_empty() {
        line.push(b'\t');
        line.extend(help.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().bytes());
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests;
