//! What a terminal says of itself.

use std::mem;
use std::os::fd::{AsFd, AsRawFd as _};

use crate::syscall::check;

/// The columns and rows of the terminal behind `terminal`; `None` where there is none, or it does not know.
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    // SAFETY: a winsize is four integers; all zero is one.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is; the descriptor is open for the borrow's time.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_terminal_has_no_size() {
        assert_eq!(size(std::fs::File::open("/dev/null").unwrap()), None);
    }
}
