//! The page of the reference with every word there is, from the grammar of the command line.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use crate::cli::Cli;

/// `docs/reference/words.md`.
pub(crate) fn page() -> String {
    let mut root = Cli::command();
    root.build();
    let mut out = String::from(
        "# Words of vsctl\n\n\
         Every word of `vsctl`, as `vsctl WORD --help` tells it. This page is written by `docs/reference/write.sh`, from the\n\
         code; the options of the daemon are in [vswitchd](vswitchd.md).\n\n",
    );
    let mut all = Vec::new();
    leaves(&root, "vsctl", &mut all);
    for (name, command) in &all {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "- [`{name}`](#{}): {about}", name.replace(' ', "-"));
    }
    out.push_str("\n## Options for every command\n\n");
    table(root.get_arguments().filter(|arg| arg.is_global_set()), &mut out);
    if let Some(codes) = root.get_after_help() {
        let _ = writeln!(out, "\n```text\n{codes}\n```");
    }
    for (name, command) in all {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        let _ = writeln!(out, "\n## {name}\n\n{about}.\n\n```text\n{usage}\n```");
        let mut arguments = command.get_arguments().filter(|arg| !arg.is_global_set()).peekable();
        if arguments.peek().is_some() {
            out.push('\n');
            table(arguments, &mut out);
        }
        if let Some(more) = command.get_after_help() {
            let _ = writeln!(out, "\n```text\n{more}\n```");
        }
    }
    out
}

/// The commands that do something, by all their words.
fn leaves<'a>(command: &'a Command, name: &str, out: &mut Vec<(String, &'a Command)>) {
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    let mut children = command.get_subcommands().filter(shown).peekable();
    if children.peek().is_none() {
        out.push((name.to_owned(), command));
    }
    for child in children {
        leaves(child, &format!("{name} {}", child.get_name()), out);
    }
}

fn table<'a>(arguments: impl Iterator<Item = &'a Arg>, out: &mut String) {
    out.push_str("| word | what it says |\n|---|---|\n");
    // What asks for help is told everywhere.
    for argument in arguments.filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
    {
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values = argument.get_possible_values();
        if argument.get_action().takes_values() && !values.is_empty() && !argument.is_hide_possible_values_set() {
            let values: Vec<_> = values.iter().map(|value| value.get_name()).collect();
            let _ = write!(help, " [one of {}]", values.join(", "));
        }
        let defaults = argument.get_default_values();
        if argument.get_action().takes_values() && !defaults.is_empty() {
            let defaults: Vec<_> = defaults.iter().map(|value| value.to_string_lossy()).collect();
            let _ = write!(help, " [default: {}]", defaults.join(" "));
        }
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let short = argument.get_short().filter(|_| argument.get_long().is_some());
        let short = short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let _ = writeln!(out, "| {short}`{}` | {} |", cell(&argument.to_string()), cell(&help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_is_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/words.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(found, page(), "docs/reference/words.md is stale: run docs/reference/write.sh");
    }

    #[test]
    fn every_word_is_told() {
        let page = page();
        for word in
            ["## vsctl port add\n", "## vsctl vtep peer del\n", "| `--allow-mac <MAC>...` |", "| `-q`, `--quiet` |"]
        {
            assert!(page.contains(word), "{word} is not in {page}");
        }
        assert!(!page.contains("vsctl reference") && !page.contains("vsctl help"), "{page}");
    }
}
