//! The socket's file: where it lies, whose it is, who may connect.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::unistd::geteuid;

use super::ServerError;
use crate::control::access::{Access, Group};

/// Everyone may pass: who may connect is what the socket itself says.
const DIRECTORY: u32 = 0o755;

/// Listens on `path`, where nobody else may listen.
pub(super) fn bind(path: &Path, access: &Access) -> Result<UnixListener, ServerError> {
    let failed = |error| ServerError::Listen { path: path.to_owned(), error };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
        DirBuilder::new().recursive(true).mode(DIRECTORY).create(dir).map_err(failed)?;
        // Whatever the umask is.
        fs::set_permissions(dir, fs::Permissions::from_mode(DIRECTORY)).map_err(failed)?;
        give(dir, access.owner, None)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => return Err(ServerError::Taken(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            // A file of another kind refuses as well, and is not ours to remove.
            if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
                return Err(ServerError::NotSocket(path.to_owned()));
            }
            fs::remove_file(path).map_err(failed)?; // left behind by a daemon that was killed
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // The group first: with the mode first, the old group could connect for a moment.
    give(path, access.owner, access.group.as_ref())?;
    fs::set_permissions(path, fs::Permissions::from_mode(access.mode)).map_err(failed)?;
    Ok(listener)
}

/// Gives `path` to `uid`, where that is another than we, and to `group`, where there is one.
fn give(path: &Path, uid: u32, group: Option<&Group>) -> Result<(), ServerError> {
    let (uid, gid) = (Some(uid).filter(|&uid| uid != geteuid().as_raw()), group.map(|group| group.gid));
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    chown(path, uid, gid).map_err(|error| ServerError::Owner { path: path.to_owned(), uid, gid, error })
}
