//! Manual pages, made of the grammar: one for vsctl and one for each of its words.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::Cli;

/// Administration (man-pages(7)).
const SECTION: &str = "8";

/// Why pages cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the manual page {}: {error}", path.display())]
pub(crate) struct ManError {
    path: PathBuf,
    error: io::Error,
}

/// Writes all pages into `folder`, which is made where it is missing.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn write(folder: &Path) -> Result<(), ManError> {
    let fails = |path: &Path, error| ManError { path: path.to_owned(), error };
    fs::create_dir_all(folder).map_err(|error| fails(folder, error))?;
    for (name, page) in pages().map_err(|error| fails(folder, error))? {
        let path = folder.join(name);
        fs::write(&path, page).map_err(|error| fails(&path, error))?;
    }
    Ok(())
}

/// The names of the files and what is in them.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    collect(&command, None, &mut pages)?;
    Ok(pages)
}

/// The pages of `command`, a word of `parent`, and of the words below it.
fn collect(command: &Command, parent: Option<&str>, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    pages.push((format!("{name}.{SECTION}"), page(command, parent)?));
    for word in command.get_subcommands().filter(|word| !word.is_hide_set()) {
        collect(word, Some(&name), pages)?;
    }
    Ok(())
}

fn page(command: &Command, parent: Option<&str>) -> io::Result<Vec<u8>> {
    // No date: the same source makes the same page.
    let man = Man::new(command.clone())
        .section(SECTION)
        .source(concat!("vswitch ", env!("CARGO_PKG_VERSION")))
        .manual("vswitch");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.get_subcommands().any(|word| !word.is_hide_set()) {
        man.render_subcommands_section(&mut out)?;
    }
    // What help shows last: of vsctl the exit codes.
    if let Some(text) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        let text = text.to_string();
        match text.strip_prefix("Exit codes:\n") {
            Some(codes) => section("EXIT STATUS", codes, &mut out)?,
            None => section("NOTES", &text, &mut out)?,
        }
    }
    if parent.is_none() {
        section("ENVIRONMENT", ENVIRONMENT, &mut out)?;
        section("FILES", FILES, &mut out)?;
    }
    let also = parent.map_or_else(|| format!("vswitchd({SECTION})"), |parent| format!("{parent}({SECTION})"));
    section("SEE ALSO", &also, &mut out)?;
    Ok(out)
}

const ENVIRONMENT: &str = "\
VSWITCH_SOCKET   the daemon's socket, where --socket says nothing
NO_COLOR         no colours, whatever it is set to
CLICOLOR_FORCE   colours also where the output is no terminal, unless it is 0";

const FILES: &str = "\
/run/vswitch/vswitch.sock                    the daemon's socket
$XDG_RUNTIME_DIR/vswitch/vswitch.sock        the same of one that runs without root";

/// A section of `text` as it stands: lines are not filled.
fn section(title: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        let page = pages().unwrap().into_iter().find(|(file, _)| file == name).unwrap().1;
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn a_page_for_each_word() {
        let names: Vec<_> = pages().unwrap().into_iter().map(|(name, _)| name).collect();
        for name in ["vsctl.8", "vsctl-port.8", "vsctl-port-add.8", "vsctl-vtep-peer-del.8", "vsctl-status.8"] {
            assert!(names.iter().any(|other| other == name), "{name} is not among {names:?}");
        }
        for hidden in ["vsctl-man.8", "vsctl-complete.8", "vsctl-help.8"] {
            assert!(!names.iter().any(|other| other == hidden), "{hidden}");
        }
    }

    #[test]
    fn what_a_page_says() {
        let vsctl = text("vsctl.8");
        for part in [".TH vsctl 8", ".SH \"EXIT STATUS\"", "VSWITCH_SOCKET", "NO_COLOR", "vsctl\\-port(8)"] {
            assert!(vsctl.contains(part), "no {part} in {vsctl}");
        }
        let add = text("vsctl-port-add.8");
        for part in ["\\-\\-netns", "pid:N", "\\-\\-timeout", "vsctl\\-port(8)"] {
            assert!(add.contains(part), "no {part} in {add}");
        }
        assert!(text("vsctl-demo.8").contains(".SH NOTES"));
    }

    #[test]
    fn pages_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("share/man8");
        write(&below).unwrap();
        assert!(fs::read_to_string(below.join("vsctl.8")).unwrap().contains("vsctl"));
        let file = below.join("vsctl.8");
        let error = write(&file).unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
