//! The host's clock.

use std::io;

use super::Check;

/// Ages and limits go by a clock that never jumps; logs, events and captures by that of the day.
pub(super) fn synchronized(answer: io::Result<bool>) -> Check {
    const NAME: &str = "time";
    match answer {
        Ok(true) => Check::ok(NAME, "the clock is synchronized"),
        Ok(false) => {
            Check::note(NAME, "the clock is not synchronized: logs and captures of two hosts are hard to compare")
                .mended("systemctl enable --now systemd-timesyncd, or chrony")
        }
        Err(error) => Check::note(NAME, format!("the kernel does not say whether the clock is synchronized: {error}")),
    }
}
