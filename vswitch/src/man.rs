//! The manual page, made of the command line's grammar.

use std::io::{self, Write};

use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::args::Args;

/// Daemons (man-pages(7)).
const SECTION: &str = "8";

const CONFIG: &str = "\
A config file is TOML. It has the options above under their names, without the dashes, and the tables [[vlan]], [[port]],
[[peer]] and [[fdb]], whose keys are the words of vsctl. An option on the command line wins over the file. The tables
count at the first start: from then on the state directory has what is wanted.

    vtep-ip = \"192.0.2.1\"

    [[vlan]]
    vlan = 10
    vni = 5010

    [[port]]
    name = \"web\"
    netns = \"blue\"
    access = 10
    address = [\"10.0.0.2/24\"]

    [[peer]]
    ip = \"192.0.2.2\"
    vlan = \"10\"";

const SIGNALS: &str = "\
SIGTERM, SIGINT   end; interfaces of containers stay, with addresses and routes
SIGHUP            start the program again, which may be a new version, and hand over to it: no frame is lost";

const EXIT: &str = "\
0  it was told to end, or another vswitchd has taken over
1  it cannot start or go on; the log says why
2  usage, or the config file is wrong";

const FILES: &str = "\
/var/lib/vswitch           what vsctl sets, over restarts
/run/vswitch/vswitch.sock  where it listens for vsctl";

const ALSO: &str = "vsctl(8)";

/// Writes the page.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn write(out: &mut dyn Write) -> io::Result<()> {
    // No date: the same source makes the same page.
    let man = Man::new(Args::command())
        .section(SECTION)
        .source(concat!("vswitch ", env!("CARGO_PKG_VERSION")))
        .manual("vswitch");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let sections =
        [("CONFIGURATION", CONFIG), ("SIGNALS", SIGNALS), ("EXIT STATUS", EXIT), ("FILES", FILES), ("SEE ALSO", ALSO)];
    for (title, text) in sections {
        let mut roff = Roff::new();
        roff.control("SH", [title]);
        roff.control("nf", []); // lines as they stand
        text.lines().for_each(|line| {
            roff.text([roman(line)]);
        });
        roff.control("fi", []);
        roff.to_writer(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_options_are_there() {
        let mut page = Vec::new();
        write(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap().replace('\\', "");
        assert!(page.contains("TH vswitchd 8"), "{page}");
        for option in Args::command().get_arguments() {
            let Some(name) = option.get_long() else { continue };
            assert_eq!(page.contains(&format!("--{name}")), !option.is_hide_set(), "--{name}");
        }
    }

    #[test]
    fn the_example_is_a_config_file() {
        let example: String =
            CONFIG.lines().filter_map(|line| line.strip_prefix("    ")).map(|l| format!("{l}\n")).collect();
        let config: vswitch_api::Config = toml::from_str(&example).unwrap();
        let desired = config.desired;
        assert_eq!((desired.vlans().count(), desired.ports().count(), desired.peers().count()), (1, 1, 1));
    }
}
