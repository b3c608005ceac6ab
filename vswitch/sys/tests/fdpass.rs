//! Descriptors and credentials over Unix sockets.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use vswitch_sys::fdpass;

#[test]
fn descriptors_come_with_the_first_byte() {
    let (near, far) = UnixStream::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    assert_eq!(fdpass::send(&near, b"{}\n", &[writer.as_fd()]).unwrap(), 3);
    drop(writer);

    let mut bytes = [0; 2];
    let (len, fds) = fdpass::recv(&far, &mut bytes).unwrap();
    assert_eq!((len, &bytes, fds.len()), (2, b"{}", 1));
    let (len, more) = fdpass::recv(&far, &mut bytes).unwrap();
    assert_eq!((len, bytes[0], more.len()), (1, b'\n', 0));

    for fd in fds {
        File::from(fd).write_all(b"through").unwrap();
    }
    let mut text = String::new();
    // Ends only because no copy of the writer is left: none leaked here.
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");

    drop(near);
    assert_eq!(fdpass::recv(&far, &mut bytes).unwrap().0, 0);
}

#[test]
fn as_many_as_the_kernel_takes() {
    let (near, far) = UnixStream::pair().unwrap();
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let many = vec![null.as_fd(); fdpass::FDS_MAX];
    assert_eq!(fdpass::send(&near, b"x", &many).unwrap(), 1);
    let (len, fds) = fdpass::recv(&far, &mut [0; 8]).unwrap();
    assert_eq!((len, fds.len()), (1, fdpass::FDS_MAX));

    let more = vec![null.as_fd(); fdpass::FDS_MAX + 1];
    assert_eq!(fdpass::send(&near, b"x", &more).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(fdpass::send(&near, b"", &[null.as_fd()]).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn received_descriptors_are_not_inherited() {
    let (near, far) = UnixStream::pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    fdpass::send(&near, b"x", &[writer.as_fd()]).unwrap();
    drop(writer);
    let (_, fds) = fdpass::recv(&far, &mut [0; 8]).unwrap();
    let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    drop(fds);
    // The child lives: had it a copy of the writer, this would wait for its end.
    assert!(vswitch_sys::wait_readable(&reader, std::time::Duration::from_secs(20)).unwrap());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn the_kernel_vouches_for_the_peer() {
    let (near, _far) = UnixStream::pair().unwrap();
    let peer = fdpass::peer_credentials(&near).unwrap();
    assert_eq!(peer.pid, Some(std::process::id()));
    assert_eq!((peer.uid, peer.gid), (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
}
