//! A call of a plugin, as a runtime does it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use netns_tests::{Context as _, Host, Result, ensure};
use serde_json::Value;

/// A plugin's program with its configuration.
#[derive(Debug)]
pub(crate) struct Plugin {
    program: PathBuf,
    /// Where it finds others.
    path: PathBuf,
    configuration: Vec<u8>,
}

impl Plugin {
    pub(crate) fn new(program: PathBuf, path: &Path, configuration: &Value) -> Result<Self> {
        Ok(Self { program, path: path.to_owned(), configuration: serde_json::to_vec(configuration)? })
    }

    /// Calls it on `host` for `container`; what it answered, and how long that took.
    pub(crate) fn call(&self, host: &Host, verb: &str, container: &str) -> Result<(Value, Duration)> {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", container).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", format!("/run/netns/{container}")).env("CNI_PATH", &self.path);
        let configuration = self.configuration.clone();
        // On the thread that lives on the host, so that the sample holds no change of threads.
        let (output, took) = host.call(move || timed(command, &configuration)).context(self.program.display())?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{verb} {container}: {}: {said} {complaint}", output.status);
        let answer = if said.trim().is_empty() { Value::Null } else { serde_json::from_str(&said)? };
        Ok((answer, took))
    }
}

fn timed(mut command: Command, input: &[u8]) -> io::Result<(Output, Duration)> {
    let start = Instant::now();
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let output = child.wait_with_output()?;
    Ok((output, start.elapsed()))
}
