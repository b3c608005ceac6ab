//! Pages of the reference in `docs/reference`, made from what is declared in the code.

use clap::{CommandFactory as _, ValueEnum};

use crate::args::Args;
use crate::{drops, metrics};

/// The config file that packages install: every key, commented out.
const CONFIG: &str = include_str!("../../dist/vswitchd.toml");

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Page {
    /// Every reason for a drop.
    DropReasons,
    /// Every metric.
    Metrics,
    /// Every option and every key of the config file.
    Vswitchd,
}

impl Page {
    /// The page, in Markdown.
    pub(crate) fn text(self) -> String {
        match self {
            Self::DropReasons => drops::reference(),
            Self::Metrics => metrics::reference(),
            Self::Vswitchd => vswitchd(),
        }
    }
}

/// What the daemon understands.
fn vswitchd() -> String {
    let mut out = String::from(
        "# vswitchd\n\n\
         Every option of the daemon, and every key of its config file. This page is written by `docs/reference/write.sh`, from\n\
         the code; the words of `vsctl` are in [words](words.md).\n\n\
         ## Options\n\n\
         An option on the command line goes before the key in the file, and that before the default.\n\n\
         | option | what it says |\n|---|---|\n",
    );
    for option in Args::command().get_arguments().filter(|option| !option.is_hide_set()) {
        let Some(name) = option.get_long() else { continue };
        let values = option.get_value_names().filter(|_| option.get_action().takes_values()).unwrap_or_default();
        let values: String = values.iter().map(|value| format!(" {value}")).collect();
        let help = option.get_long_help().or_else(|| option.get_help()).map(ToString::to_string).unwrap_or_default();
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        out.push_str(&format!("| `--{name}{}` | {} |\n", cell(&values), cell(&help)));
    }
    out.push_str("\n## Config file\n\n`vswitchd --config FILE`. As it is installed, in `/etc/vswitch/vswitchd.toml`:\n\n```toml\n");
    out.push_str(CONFIG);
    out.push_str("```\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_options_is_what_is_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/vswitchd.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, vswitchd(), "docs/reference/vswitchd.md is stale: run docs/reference/write.sh");
    }
}
