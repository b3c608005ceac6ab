//! Users and groups, by name or number.

use nix::unistd::{Gid, Group, Uid, User};
use thiserror::Error;

/// Why there is no such user or group.
#[derive(Debug, Error)]
pub(crate) enum AccountError {
    #[error("there is no user {0:?}: give a name or number that `getent passwd` knows (`useradd --system` makes one)")]
    NoUser(String),
    #[error("there is no group {0:?}: give a name or number that `getent group` knows (`groupadd --system` makes one)")]
    NoGroup(String),
    #[error("cannot look up {what}: {error}")]
    LookUp { what: String, error: nix::Error },
}

/// A user, as the system's account database knows him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

/// The user called, or numbered, `text`.
pub(crate) fn user(text: &str) -> Result<Account, AccountError> {
    let failed = |error| AccountError::LookUp { what: format!("user {text}"), error };
    let named = User::from_name(text).map_err(failed)?;
    let found = match (named, text.parse()) {
        (None, Ok(uid)) => User::from_uid(Uid::from_raw(uid)).map_err(failed)?,
        (named, _) => named,
    };
    let found = found.ok_or_else(|| AccountError::NoUser(text.to_owned()))?;
    Ok(Account { name: found.name, uid: found.uid, gid: found.gid })
}

/// The group called, or numbered, `text`.
pub(crate) fn group(text: &str) -> Result<(String, Gid), AccountError> {
    let failed = |error| AccountError::LookUp { what: format!("group {text}"), error };
    let named = Group::from_name(text).map_err(failed)?;
    let found = match (named, text.parse()) {
        (None, Ok(gid)) => Group::from_gid(Gid::from_raw(gid)).map_err(failed)?,
        (named, _) => named,
    };
    let found = found.ok_or_else(|| AccountError::NoGroup(text.to_owned()))?;
    Ok((found.name, found.gid))
}

/// The name of the user we are; the number where it has none, as in many containers.
pub(crate) fn own_name() -> String {
    let uid = nix::unistd::geteuid();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_by_number() {
        let root = user("root").unwrap();
        assert_eq!((root.name.as_str(), root.uid), ("root", Uid::from_raw(0)));
        assert_eq!(user("0").unwrap(), root);
        assert_eq!(group("0").unwrap(), group("root").unwrap());
        for nobody in ["", "-1", "no such user", "4294967296"] {
            let message = user(nobody).unwrap_err().to_string();
            assert!(message.contains(&format!("{nobody:?}")) && message.contains("useradd"), "{message}");
            assert!(group(nobody).unwrap_err().to_string().contains("groupadd"));
        }
    }
}
