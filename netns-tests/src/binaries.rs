//! The programs under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{Context, Result, ensure};

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The daemon.
    pub vswitchd: PathBuf,
    /// The command line.
    pub vsctl: PathBuf,
    /// The CNI plugin.
    pub cni: PathBuf,
}

/// The programs, built at the first call in the profile that the caller was built in.
///
/// # Errors
/// Where the build fails, or they are not where they belong.
pub fn binaries() -> Result<&'static Binaries> {
    static BUILT: OnceLock<std::result::Result<Binaries, String>> = OnceLock::new();
    BUILT.get_or_init(|| find().map_err(|failure| failure.to_string())).as_ref().map_err(|e| crate::Failure::new(e))
}

fn find() -> Result<Binaries> {
    let folder = match env::var_os("VSWITCH_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => build()?,
    };
    let program = |name: &str| {
        let path = folder.join(name);
        ensure!(path.is_file(), "there is no {}; VSWITCH_BIN_DIR says where {name} is", path.display());
        Ok(path)
    };
    Ok(Binaries { vswitchd: program("vswitchd")?, vsctl: program("vsctl")?, cni: program("vswitch-cni")? })
}

/// Builds them and says where cargo puts them: the folder above `deps`, in which tests and benches lie.
fn build() -> Result<PathBuf> {
    let exe = env::current_exe()?;
    let folder = exe.parent().and_then(Path::parent).context("this executable lies in no target folder")?;
    let target = folder.parent().context("this executable lies in no target folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "-p",
            "vswitch",
            "-p",
            "vsctl",
            "-p",
            "vswitch-cni",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()?;
    ensure!(status.success(), "cargo build of vswitchd, vsctl and vswitch-cni failed");
    Ok(folder.to_owned())
}
