//! The one image that containers are made of: busybox, in the archive format that `docker save` writes, which needs no
//! registry and no tool of any runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Context, Lab, Result, ensure};

/// Its name.
pub const IMAGE: &str = "localhost/busybox:latest";
/// The programs in it beside busybox itself.
const APPLETS: [&str; 6] = ["sh", "sleep", "ping", "cat", "ip", "true"];

/// Writes the archive into the lab; returns its path.
///
/// # Errors
/// Without busybox, `tar` and `sha256sum`.
pub(super) fn archive(lab: &Lab) -> Result<PathBuf> {
    let folder = lab.folder("image")?;
    let archive = folder.join("busybox.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let root = folder.join("root");
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    let busybox = super::find("busybox").context("no busybox")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for name in APPLETS {
        symlink("busybox", root.join("bin").join(name))?;
    }
    tar(&root, &folder.join("layer.tar"), &["."])?;
    let sum = run(Command::new("sha256sum").arg(folder.join("layer.tar")))?;
    let digest = sum.split_whitespace().next().context("sha256sum said nothing")?;
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Cmd": ["/bin/sleep", "100000"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    fs::write(folder.join("config.json"), config.to_string())?;
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    tar(&folder, &archive, &["manifest.json", "config.json", "layer.tar"])?;
    Ok(archive)
}

fn tar(folder: &Path, archive: &Path, what: &[&str]) -> Result {
    run(Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(archive).args(what)).map(drop)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context(format_args!("{:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
