//! Owns where the control socket is when the manifest does not say: one place for each manifest, so that `rusmd ctl` finds the server
//! that was started in the same directory.
//!
//! Looks at the environment and at directories, and makes one; opens no socket. `socket` and `client` drive it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// A place for the control socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    directory: PathBuf,
    name: String,
    trust: Trust,
}

/// What has to be true of the directory before a socket is made in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    /// Only the system writes there.
    System,
    /// It is this user's, and nobody else may enter it.
    Private,
    /// The same, and it is made if it is not there.
    PrivateMade,
}

/// Who asks, as far as it matters for the place.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    pub uid: u32,
    /// `$XDG_RUNTIME_DIR`, if it is set.
    pub runtime_directory: Option<&'a Path>,
}

/// Calls `ask` with the user that this process is.
pub fn with_this_user<T>(ask: impl FnOnce(User<'_>) -> T) -> T {
    let runtime_directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    ask(User { uid: nix::unistd::geteuid().as_raw(), runtime_directory: runtime_directory.as_deref() })
}

/// The places to try for a manifest, the best first.
///
/// Root has one, whatever its environment: a server that an init script has started is found from a login shell. Others have two, for
/// one that cron has started has no `$XDG_RUNTIME_DIR`.
///
/// # Errors
///
/// The manifest's directory cannot be found.
pub fn default_places(manifest: &Path, user: User<'_>) -> io::Result<Vec<Place>> {
    let name = format!("rusmd-{:016x}.sock", fnv1a(canonical(manifest)?.as_os_str().as_encoded_bytes()));
    let place = |directory: PathBuf, trust| Place { directory, name: name.clone(), trust };
    if user.uid == 0 {
        return Ok(vec![place("/run".into(), Trust::System)]);
    }
    let runtime = user.runtime_directory.filter(|path| path.is_absolute());
    let runtime = runtime.map(|path| place(path.to_owned(), Trust::Private));
    let temporary = place(format!("/tmp/rusmd-{}", user.uid).into(), Trust::PrivateMade);
    Ok(runtime.into_iter().chain([temporary]).collect())
}

impl Place {
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Makes the directory, where it is one that we make, and checks it.
    ///
    /// # Errors
    ///
    /// It cannot be made, or not be trusted.
    pub fn prepare(&self, uid: u32) -> io::Result<()> {
        if self.trust == Trust::PrivateMade {
            match DirBuilder::new().mode(0o700).create(&self.directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.check(uid)
    }

    /// Makes sure that nobody else can have put a socket there.
    ///
    /// # Errors
    ///
    /// Somebody can, or there is no such directory.
    pub fn check(&self, uid: u32) -> io::Result<()> {
        match self.trust {
            Trust::System => return Ok(()),
            Trust::Private | Trust::PrivateMade => {}
        }
        // Not followed: a link here was made by somebody else, and could be changed by somebody else.
        let found = self.directory.symlink_metadata()?;
        let problem = if !found.is_dir() {
            "is not a directory"
        } else if found.uid() != uid {
            "belongs to another user"
        } else if found.mode() & 0o077 != 0 {
            "can be entered by other users"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {problem}", self.directory.display())))
    }
}

/// The manifest's path as everybody names it. The file itself need not be there any more.
fn canonical(manifest: &Path) -> io::Result<PathBuf> {
    if let Ok(path) = manifest.canonicalize() {
        return Ok(path);
    }
    let directory = manifest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = manifest.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(directory.canonicalize()?.join(name))
}

/// FNV-1a, 64 bits: the same on every machine and in every version. It only tells manifests apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    const USER: User<'_> = User { uid: 1000, runtime_directory: None };

    fn paths(manifest: &Path, user: User<'_>) -> Vec<PathBuf> {
        default_places(manifest, user).expect("places").iter().map(Place::path).collect()
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!((fnv1a(b""), fnv1a(b"foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
    }

    #[test]
    fn a_manifest_has_one_place_however_it_is_named() {
        let directory = Scratch::new();
        let manifest = directory.join("rusm.toml");
        fs::write(&manifest, "").expect("written");
        let expected = paths(&manifest, USER);
        assert_eq!(paths(&directory.join(".").join("rusm.toml"), USER), expected);
        assert_ne!(paths(&directory.join("other.toml"), USER), expected);
        fs::remove_file(&manifest).expect("removed");
        assert_eq!(paths(&manifest, USER), expected, "one can ask for the status of a server whose manifest is gone");
        assert!(default_places(&directory.join("nowhere/rusm.toml"), USER).is_err());
    }

    #[test]
    fn the_place_is_the_user_s_own() {
        let directory = Scratch::new();
        let manifest = directory.join("rusm.toml");
        let directories = |user| -> Vec<PathBuf> {
            paths(&manifest, user).iter().filter_map(|path| path.parent()).map(Path::to_owned).collect()
        };
        let runtime = Some(Path::new("/run/user/1000"));
        assert_eq!(directories(USER), [Path::new("/tmp/rusmd-1000")]);
        assert_eq!(
            directories(User { runtime_directory: runtime, ..USER }),
            [Path::new("/run/user/1000"), Path::new("/tmp/rusmd-1000")]
        );
        assert_eq!(directories(User { runtime_directory: Some(Path::new("run")), ..USER }).len(), 1, "not absolute");
        assert_eq!(directories(User { uid: 0, runtime_directory: runtime }), [Path::new("/run")]);
    }

    #[test]
    fn a_directory_is_made_for_this_user_alone_and_not_trusted_otherwise() {
        let parent = Scratch::new();
        let place = |name: &str, trust| Place { directory: parent.join(name), name: "a.sock".to_owned(), trust };
        let uid = nix::unistd::geteuid().as_raw();
        let made = place("made", Trust::PrivateMade);
        made.prepare(uid).expect("made");
        assert_eq!(made.directory.metadata().expect("it is there").mode() & 0o777, 0o700);
        made.prepare(uid).expect("it is there already");
        let told = |place: &Place, uid| place.prepare(uid).expect_err("a refusal").to_string();
        assert!(told(&made, uid + 1).ends_with("belongs to another user"));
        fs::set_permissions(&made.directory, fs::Permissions::from_mode(0o750)).expect("changed");
        assert!(told(&made, uid).ends_with("can be entered by other users"));
        std::os::unix::fs::symlink(&*parent, parent.join("link")).expect("linked");
        assert!(told(&place("link", Trust::PrivateMade), uid).ends_with("is not a directory"));
        assert_eq!(
            place("absent", Trust::Private).prepare(uid).expect_err("a refusal").kind(),
            io::ErrorKind::NotFound
        );
    }
}
