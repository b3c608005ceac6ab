//! What a service manager does for a daemon (sd_notify(3), sd_listen_fds(3)): it is told when the daemon serves, hands in
//! the control socket, and keeps descriptors while no daemon runs. So queues stay attached, interfaces keep their carrier
//! and frames wait, over a crash as over a restart. Without a service manager all of this does nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vswitch_sys::{fdpass, listen, wait_readable};

use crate::takeover::{FORMAT, Kept, Name};

/// Bytes that the names of all kept descriptors may have: they come back as one text of the environment, which holds
/// 128 KiB (`MAX_ARG_STRLEN`). With more, the service could not be started at all.
const NAMES_MAX: usize = 120 * 1024;
/// How long the service manager may take to hear us.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager, where one started us and wants to be told.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// What it keeps: how many descriptors of each name.
    kept: BTreeMap<Name, usize>,
    /// Bytes of the names of them all, each with a mark behind.
    named: usize,
}

/// What it started us with.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    /// The control socket, whose file is the service manager's.
    pub(crate) control: Option<UnixListener>,
    /// What the daemon before left, where it ended in peace.
    pub(crate) left: Option<Kept>,
    pub(crate) descriptors: Vec<(Name, OwnedFd)>,
}

impl ServiceManager {
    /// The one that `$NOTIFY_SOCKET` names, and what it started us with. To be called before anything else opens
    /// descriptors.
    pub(crate) fn meet() -> (Self, Inheritance) {
        let inherited = listen::inherited();
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let socket = socket.and_then(|path| {
            connect(path.as_bytes())
                .inspect_err(|error| tracing::warn!(?path, %error, "the service manager cannot be told anything"))
                .ok()
        });
        let mut manager = Self { socket, ..Self::default() };
        let mut inheritance = Inheritance::default();
        for (name, descriptor) in inherited {
            match name.parse() {
                Ok(Name::Control) => inheritance.control = Some(descriptor.into()),
                Ok(Name::Kept) => {
                    inheritance.left = read(descriptor);
                    manager.note(&Name::Kept, 1);
                }
                Ok(name) => {
                    manager.note(&name, 1);
                    inheritance.descriptors.push((name, descriptor));
                }
                Err(error) => tracing::warn!(%error, "the service manager handed in a descriptor that is closed"),
            }
        }
        // It tells of a moment that is over as soon as a frame moves.
        manager.forget(&Name::Kept);
        (manager, inheritance)
    }

    /// Whether it keeps descriptors, so that closing ours is not the end of what they lead to.
    pub(crate) const fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Says that this process serves.
    pub(crate) fn ready(&self) {
        self.tell(&format!("READY=1\nMAINPID={}\n", std::process::id()), &[]);
    }

    /// Says that this process is about to end.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\n", &[]);
    }

    /// Has copies of `descriptors` kept, until [`Self::forget`].
    pub(crate) fn keep(&mut self, name: &Name, descriptors: &[BorrowedFd<'_>]) {
        if self.socket.is_none() || descriptors.is_empty() {
            return;
        }
        if self.named + marked(name) * descriptors.len() > NAMES_MAX {
            tracing::warn!(%name, "too many descriptors to be kept by the service manager; this one is not");
            return;
        }
        // Not polled: it would drop what has failed, and a socket has done so after any ICMP error.
        if self.tell(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}\n"), descriptors) {
            self.note(name, descriptors.len());
        }
    }

    /// Takes `names` for what it keeps, one descriptor each: another daemon of this service had them kept.
    pub(crate) fn assume(&mut self, names: &[Name]) {
        if self.socket.is_some() {
            names.iter().filter(|name| **name != Name::Control).for_each(|name| self.note(name, 1));
        }
    }

    fn note(&mut self, name: &Name, count: usize) {
        *self.kept.entry(name.clone()).or_default() += count;
        self.named += marked(name) * count;
    }

    /// Has nothing of that name kept any more.
    pub(crate) fn forget(&mut self, name: &Name) {
        if let Some(count) = self.kept.remove(name) {
            self.named -= marked(name) * count;
            self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[]);
        }
    }

    /// Has nothing kept any more that carries VXLAN, and waits until that is so.
    pub(crate) fn forget_vxlan(&mut self) {
        let names: Vec<_> = self.kept.keys().filter(|name| name.carries_vxlan()).cloned().collect();
        names.iter().for_each(|name| self.forget(name));
        self.settle();
    }

    /// Leaves `kept` to the next daemon.
    pub(crate) fn leave(&mut self, kept: &Kept) {
        let written = || -> io::Result<File> {
            let mut file = File::from(memfd_create(c"vswitch", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(&serde_json::to_vec(kept)?)?;
            Ok(file)
        };
        match written() {
            Ok(file) => self.keep(&Name::Kept, &[file.as_fd()]),
            Err(error) => tracing::warn!(%error, "what was learned and counted cannot be left to the next daemon"),
        }
    }

    /// Waits until it has heard all that was said.
    pub(crate) fn settle(&self) {
        if self.socket.is_none() {
            return;
        }
        let Ok((heard, ours)) = io::pipe() else { return };
        // It closes its copy, the last but ours, when it comes to it.
        if self.tell("BARRIER=1", &[ours.as_fd()]) {
            drop(ours);
            if !wait_readable(&heard, PATIENCE).unwrap_or(false) {
                tracing::warn!("the service manager has not answered in {PATIENCE:?}");
            }
        }
    }

    /// Whether it was told.
    fn tell(&self, words: &str, descriptors: &[BorrowedFd<'_>]) -> bool {
        let Some(socket) = &self.socket else { return false };
        let told = fdpass::send(socket, words.as_bytes(), descriptors);
        if let Err(error) = &told {
            tracing::warn!(%error, ?words, "the service manager could not be told");
        }
        told.is_ok()
    }
}

/// Bytes of a name with the mark behind it.
fn marked(name: &Name) -> usize {
    name.to_string().len() + 1
}

/// A socket to the address in `$NOTIFY_SOCKET`: a path, or a name in the abstract namespace.
fn connect(address: &[u8]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(std::ffi::OsStr::from_bytes(address))?,
    }
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// What the daemon before left; nothing where this one does not understand it.
fn read(descriptor: OwnedFd) -> Option<Kept> {
    let mut file = File::from(descriptor);
    let mut read = || -> io::Result<serde_json::Value> {
        let mut bytes = Vec::new();
        file.rewind()?; // whoever wrote it left the place at its end
        file.read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let understood = read().and_then(|value| {
        if value["snapshot"]["format"] != FORMAT {
            return Err(io::Error::other(format!("its form is {}, not {FORMAT}", value["snapshot"]["format"])));
        }
        Ok(serde_json::from_value(value)?)
    });
    understood
        .inspect_err(|error| tracing::warn!(%error, "what the daemon before left is not understood: it learns anew"))
        .ok()
}
