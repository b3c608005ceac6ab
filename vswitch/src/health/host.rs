//! Whether the host of a peer is there, where its VTEP does not answer.
//!
//! It is asked by ICMP echo, which many hosts do not answer. What is left is who has its address, ARP or ND, which all answer:
//! the kernel asks that when it sends, and seldom again. An entry that it trusts or has yet to prove (stale, delay, probe) may
//! be that of a host that went meanwhile; it is sure 5 s to a minute after the host went.

use std::time::Duration;

use vswitch_sys::Neighbour;

/// What is known of a peer's host beside its VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// It answers: to ICMP echo, or to who has its address.
    Answers,
    /// It does not.
    Silent,
    /// That could not be found out, or not yet, and why.
    Unknown(String),
}

impl Host {
    /// What it comes to that a host did not answer ICMP echo, or that there was no `echo`, where the kernel knows `neighbour`.
    /// `silent` is how long its VTEP has not answered, where it was asked all the time.
    pub(super) fn without_echo(
        echo: Result<(), String>,
        neighbour: Option<Neighbour>,
        silent: Option<Duration>,
    ) -> Self {
        match neighbour {
            Some(Neighbour::Silent) => Self::Silent,
            // It outlived the answers of its VTEP.
            Some(Neighbour::Reachable(ago) | Neighbour::Unproven(ago)) if silent.is_some_and(|silent| ago < silent) => {
                Self::Answers
            }
            Some(Neighbour::Reachable(_)) if silent.is_none() => Self::Answers,
            Some(Neighbour::Reachable(ago)) => Self::unknown_yet(ago, "a minute"),
            Some(Neighbour::Unproven(ago)) => Self::unknown_yet(ago, "10 s"),
            None => echo.map_or_else(Self::Unknown, |()| Self::Silent),
        }
    }

    fn unknown_yet(ago: Duration, within: &str) -> Self {
        let ago = ago.as_secs();
        Self::Unknown(format!(
            "as a neighbour on the link it last answered {ago} s ago, and the kernel asks it again within {within}; look again \
             then"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_answers_now_is_there() {
        let secs = Duration::from_secs;
        let table = [
            // Nothing is known but that echo is not answered, or was not asked for.
            (Ok(()), None, None, Some(Host::Silent)),
            (Err("no right"), None, None, Some(Host::Unknown("no right".to_owned()))),
            (Ok(()), Some(Neighbour::Silent), None, Some(Host::Silent)),
            (Err("no right"), Some(Neighbour::Silent), Some(secs(3)), Some(Host::Silent)),
            // Asked once: what the kernel trusts is trusted, and nothing else.
            (Ok(()), Some(Neighbour::Reachable(secs(30))), None, Some(Host::Answers)),
            (Err("no right"), Some(Neighbour::Reachable(secs(30))), None, Some(Host::Answers)),
            (Ok(()), Some(Neighbour::Unproven(secs(1))), None, None),
            (Err("no right"), Some(Neighbour::Unproven(secs(300))), None, None),
            // Asked all the time: since then it must have answered, whatever the kernel trusts.
            (Ok(()), Some(Neighbour::Reachable(secs(2))), Some(secs(3)), Some(Host::Answers)),
            (Ok(()), Some(Neighbour::Unproven(secs(20))), Some(secs(30)), Some(Host::Answers)),
            (Ok(()), Some(Neighbour::Reachable(secs(20))), Some(secs(3)), None),
            (Ok(()), Some(Neighbour::Unproven(secs(20))), Some(secs(3)), None),
        ];
        for (echo, neighbour, silent, expected) in table {
            let host = Host::without_echo(echo.map_err(str::to_owned), neighbour, silent);
            match expected {
                Some(expected) => assert_eq!(host, expected, "{echo:?} {neighbour:?} {silent:?}"),
                None => assert!(
                    matches!(&host, Host::Unknown(why) if why.contains("look again")),
                    "{echo:?} {neighbour:?} {silent:?}: {host:?}"
                ),
            }
        }
    }
}
