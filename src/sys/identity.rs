//! Users and groups: what their names stand for, and what of it this process may take on. The names are looked up in the system's own way
//! (getpwnam_r(3), getgrnam_r(3)), which may ask a network: at a start or a reload, never for a request.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::path::Path;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// Who a process is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All groups, the first among them.
    pub groups: Vec<u32>,
}

/// Why a user and a group make no identity.
#[derive(Debug)]
pub enum IdentityError {
    NoUser,
    NoGroup,
    /// A number that no user has goes without a group of its own.
    GroupNeeded,
    System(io::Error),
}

impl Identity {
    /// Looks up a user, a group, or both; either by name or by number. Without a user it is the one of this process, without a group the
    /// user's own.
    pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Identity, IdentityError> {
        let gid = group.map(find_group).transpose()?;
        let Some(user) = user else {
            let gid = gid.unwrap_or_else(Gid::effective).as_raw();
            return Ok(Identity { uid: Uid::effective().as_raw(), gid, groups: vec![gid] });
        };
        match find_user(user)? {
            Found::User(user) => {
                let gid = gid.unwrap_or(user.gid);
                let name = CString::new(user.name).map_err(|_| IdentityError::NoUser)?;
                let groups = getgrouplist(&name, gid).map_err(|error| IdentityError::System(error.into()))?;
                let groups = groups.into_iter().map(Gid::as_raw).collect();
                Ok(Identity { uid: user.uid.as_raw(), gid: gid.as_raw(), groups })
            }
            Found::Number(uid) => {
                let gid = gid.ok_or(IdentityError::GroupNeeded)?.as_raw();
                Ok(Identity { uid, gid, groups: vec![gid] })
            }
        }
    }
}

enum Found {
    User(Box<User>),
    Number(u32),
}

fn find_user(name: &str) -> Result<Found, IdentityError> {
    let system = |error: nix::Error| IdentityError::System(error.into());
    if let Some(user) = User::from_name(name).map_err(system)? {
        return Ok(Found::User(Box::new(user)));
    }
    let number = number(name).ok_or(IdentityError::NoUser)?;
    let user = User::from_uid(Uid::from_raw(number)).map_err(system)?;
    Ok(user.map_or(Found::Number(number), |user| Found::User(Box::new(user))))
}

fn find_group(name: &str) -> Result<Gid, IdentityError> {
    if let Some(group) = Group::from_name(name).map_err(|error| IdentityError::System(error.into()))? {
        return Ok(group.gid);
    }
    number(name).map(Gid::from_raw).ok_or(IdentityError::NoGroup)
}

/// The last number means "leave it as it is" to setresuid(2), and is nobody's.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number != u32::MAX)
}

/// Whether this process may become somebody else.
pub fn may_change_identity() -> bool {
    Uid::effective().is_root()
}

/// Takes these bits from the mode of every file that is made from now on.
pub fn set_umask(bits: u32) {
    umask(Mode::from_bits_truncate(bits));
}

/// Goes to another directory.
pub fn change_directory(to: &Path) -> io::Result<()> {
    std::env::set_current_dir(to)
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::NoUser => f.write_str("there is no such user"),
            IdentityError::NoGroup => f.write_str("there is no such group"),
            IdentityError::GroupNeeded => f.write_str("no user has this number, so that a group must be named too"),
            IdentityError::System(_) => f.write_str("the name cannot be looked up"),
        }
    }
}

impl std::error::Error for IdentityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            IdentityError::System(error) => Some(error),
            IdentityError::NoUser | IdentityError::NoGroup | IdentityError::GroupNeeded => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same_user() {
        let by_name = Identity::find(Some("root"), None).expect("every system has it");
        assert_eq!((by_name.uid, by_name.gid), (0, 0));
        assert!(by_name.groups.contains(&0));
        assert_eq!(Identity::find(Some("0"), Some("0")).expect("a number"), by_name);
        assert_eq!(Identity::find(Some("0"), Some("root")).expect("a name of a group"), by_name);
    }

    #[test]
    fn a_number_that_nobody_has_needs_a_group() {
        assert!(matches!(Identity::find(Some("3999999999"), None), Err(IdentityError::GroupNeeded)));
        let expected = Identity { uid: 3_999_999_999, gid: 7, groups: vec![7] };
        assert_eq!(Identity::find(Some("3999999999"), Some("7")).expect("two numbers"), expected);
    }

    #[test]
    fn what_is_neither_a_name_nor_a_number_is_nobody() {
        for wrong in ["no such user", "", "-1", "+1", "4294967295", "0x0"] {
            assert!(matches!(Identity::find(Some(wrong), None), Err(IdentityError::NoUser)), "{wrong}");
            assert!(matches!(Identity::find(None, Some(wrong)), Err(IdentityError::NoGroup)), "{wrong}");
        }
    }

    #[test]
    fn without_a_user_it_is_this_one() {
        let found = Identity::find(None, Some("4711")).expect("a number");
        assert_eq!((found.uid, found.gid, found.groups), (Uid::effective().as_raw(), 4711, vec![4711]));
    }
}
