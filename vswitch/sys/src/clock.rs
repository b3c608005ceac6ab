//! What the kernel knows of its clock.

use std::io;
use std::mem;

/// Whether something keeps the clock of the day right (NTP, PTP), as that tells the kernel: adjtimex(2). It takes no
/// right.
///
/// # Errors
/// Where a sandbox forbids the call.
pub fn is_synchronized() -> io::Result<bool> {
    // SAFETY: a timex is integers; all zero is one, whose modes (none) change nothing.
    let mut answer: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: adjtimex reads and writes one timex, which `answer` is.
    let state = unsafe { libc::adjtimex(&raw mut answer) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(state != libc::TIME_ERROR && answer.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_asked() {
        is_synchronized().unwrap();
    }
}
