//! What a runtime may hand to the CNI plugin: environment and configuration never panic the parser, what is wrong is an
//! error of the specification, and a result that is read can be written in every version and read again.
//!
//! Input: the variables, each with a zero behind, then the configuration.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use libfuzzer_sys::fuzz_target;
use vswitch_cni::protocol::{Config, Environment, Failure, SUPPORTED, Success};

const NAMES: [&str; 6] = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS", "CNI_PATH"];

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(NAMES.len() + 1, |byte| *byte == 0);
    let values: Vec<_> = NAMES.iter().map(|_| parts.next().map(<[u8]>::to_vec)).collect();
    let variable = |name: &str| {
        let place = NAMES.iter().position(|other| *other == name)?;
        values[place].clone().map(OsString::from_vec)
    };
    judge(Environment::read(variable).map(drop));
    let Ok(config) = Config::read(parts.next().unwrap_or_default().to_vec()).inspect_err(well_formed) else {
        return;
    };
    judge(config.name().map(drop));
    judge(config.ipam().map(drop));
    judge(config.valid_attachments().map(drop));
    judge(config.version().and_then(|version| config.in_version(version)).map(drop));
    judge(vswitch_cni::asked_for(&config, variable("CNI_ARGS").and_then(|args| args.into_string().ok()).as_deref()));
    if let Ok(Some(result)) = config.prev_result() {
        for (version, _) in SUPPORTED {
            let written = result.to_json(version).expect("what was read can be written");
            let again = Success::read(written.clone(), "it").expect("what was written can be read");
            assert_eq!(again.to_json(version).expect("and written again"), written);
        }
    }
});

fn judge(outcome: Result<(), Failure>) {
    if let Err(failure) = outcome {
        well_formed(&failure);
    }
}

/// A code of the specification, and words.
fn well_formed(failure: &Failure) {
    assert!(matches!(failure.code, 1 | 2 | 4 | 6 | 7), "{failure}");
    assert!(!failure.message.is_empty() && !failure.details.is_empty());
}
