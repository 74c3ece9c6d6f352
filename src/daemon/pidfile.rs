//! Owns the pidfile: locked as long as the process lives, so that a second start is refused and a file that a dead process has left is not believed.
//! The pid is in it once requests are served. Driven by the start, and by an upgrade, which hands the lock to the successor.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Everybody may read who runs.
const MODE: u32 = 0o644;

/// Attempts to lock a file that others remove at the same time.
const ATTEMPTS_MAX: u32 = 16;

/// Most bytes of what is taken for a pid.
const PID_BYTES_MAX: usize = 32;

/// A pidfile that is locked by this process, and until an upgrade is over by a second one that shares the descriptor. Removed on drop if it is still this process's.
#[derive(Debug)]
pub struct Pidfile {
    file: File,
    path: PathBuf,
}

/// Why a pidfile could not be had.
#[derive(Debug)]
pub enum PidfileError {
    /// A live process has it. Without a pid: one that does not serve yet.
    Held {
        path: PathBuf,
        pid: Option<u32>,
    },
    /// It has something in it that is no pid, and that must not be lost.
    NoPidfile {
        path: PathBuf,
    },
    System {
        path: PathBuf,
        source: io::Error,
    },
    /// The pid finds no room in it.
    Unwritable {
        path: PathBuf,
        source: io::Error,
    },
}

impl Pidfile {
    /// Makes the file, or takes over one that no process holds, and empties it.
    pub fn lock(path: &Path) -> Result<Pidfile, PidfileError> {
        let system = |source| PidfileError::System { path: path.to_owned(), source };
        for _ in 0..ATTEMPTS_MAX {
            let file = open(path).map_err(system)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = Content::read(&file).map_err(system)?.pid();
                    return Err(PidfileError::Held { path: path.to_owned(), pid });
                }
                Err(TryLockError::Error(source)) => return Err(system(source)),
            }
            // Its last holder may have removed it between the opening and the lock; then the lock is of no use.
            if !is_at(&file, path) {
                continue;
            }
            if matches!(Content::read(&file).map_err(system)?, Content::Other) {
                return Err(PidfileError::NoPidfile { path: path.to_owned() });
            }
            file.set_len(0).map_err(system)?;
            // The umask is for other files: this one is there to be read.
            file.set_permissions(Permissions::from_mode(MODE)).map_err(system)?;
            return Ok(Pidfile { file, path: path.to_owned() });
        }
        Err(system(io::ErrorKind::ResourceBusy.into()))
    }

    /// The same lock in a process that has inherited the descriptor. Both hold it until the last of them is gone.
    pub fn from_fd(fd: OwnedFd, path: PathBuf) -> Pidfile {
        Pidfile { file: File::from(fd), path }
    }

    /// Says whose it is.
    pub fn write(&self, pid: u32) -> Result<(), PidfileError> {
        let text = format!("{pid}\n");
        // One write at a time: whoever reads meanwhile finds one of the two pids, and perhaps the end of a longer one on a line of its own.
        let written = self.file.write_all_at(text.as_bytes(), 0).and_then(|()| self.file.set_len(text.len() as u64));
        written.map_err(|source| PidfileError::Unwritable { path: self.path.clone(), source })
    }

    /// Says so again, if somebody who shares the lock has said otherwise.
    pub fn reclaim(&self, pid: u32) -> Result<(), PidfileError> {
        match Content::read(&self.file) {
            Ok(Content::Pid(there)) if there == pid => Ok(()),
            Ok(Content::Pid(_) | Content::Empty | Content::Other) | Err(_) => self.write(pid),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_ours(&self) -> bool {
        let own = match Content::read(&self.file) {
            Ok(Content::Pid(pid)) => pid == std::process::id(),
            Ok(Content::Empty) => true,
            Ok(Content::Other) | Err(_) => false,
        };
        own && is_at(&self.file, &self.path)
    }
}

impl AsFd for Pidfile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if self.is_ours() {
            // A directory that has become read-only keeps it; the lock is gone with the process, and that is what counts.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What is in a pidfile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Empty,
    Pid(u32),
    Other,
}

impl Content {
    fn read(file: &File) -> io::Result<Content> {
        let mut bytes = [0; PID_BYTES_MAX];
        let count = file.read_at(&mut bytes, 0)?;
        let text = std::str::from_utf8(&bytes[..count]).unwrap_or("?");
        Ok(match text.lines().next().unwrap_or_default().trim() {
            "" => Content::Empty,
            line => line.parse().map_or(Content::Other, Content::Pid),
        })
    }

    fn pid(self) -> Option<u32> {
        match self {
            Content::Pid(pid) => Some(pid),
            Content::Empty | Content::Other => None,
        }
    }
}

/// Not through a symbolic link: in a directory that others write to, it could lead anywhere.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// The pid in a pidfile, for whoever wants to send it a signal.
pub fn read_pid(path: &Path) -> io::Result<Option<u32>> {
    let mut text = String::new();
    File::open(path)?.take(PID_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok(text.lines().next().and_then(|line| line.trim().parse().ok()))
}

impl fmt::Display for PidfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PidfileError::Held { path, pid: Some(pid) } => {
                write!(f, "rusmd runs already: process {pid} holds the pidfile {}", path.display())
            }
            PidfileError::Held { path, pid: None } => {
                write!(f, "another rusmd, which is still starting, holds the pidfile {}", path.display())
            }
            PidfileError::NoPidfile { path } => {
                write!(f, "{} has something else than a pid in it, and is left alone", path.display())
            }
            PidfileError::System { path, .. } => write!(f, "cannot make the pidfile {}", path.display()),
            PidfileError::Unwritable { path, .. } => write!(f, "cannot write the pid to {}", path.display()),
        }
    }
}

impl std::error::Error for PidfileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PidfileError::System { source, .. } | PidfileError::Unwritable { source, .. } => Some(source),
            PidfileError::Held { .. } | PidfileError::NoPidfile { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::Scratch;

    fn content(path: &Path) -> String {
        fs::read_to_string(path).expect("the pidfile is there")
    }

    #[test]
    fn the_pid_is_in_it_only_when_it_is_written_and_it_is_gone_at_the_end() {
        let scratch = Scratch::new();
        let path = scratch.path().join("pid");
        let pidfile = Pidfile::lock(&path).expect("nobody has it");
        assert_eq!(content(&path), "");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, MODE);
        let own = std::process::id();
        pidfile.write(own).expect("there is room");
        assert_eq!((content(&path), read_pid(&path).expect("it is there")), (format!("{own}\n"), Some(own)));
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_holder_is_named_by_its_pid() {
        let scratch = Scratch::new();
        let path = scratch.path().join("pid");
        let first = Pidfile::lock(&path).expect("nobody has it");
        let error = Pidfile::lock(&path).expect_err("somebody has it");
        assert!(error.to_string().contains("still starting"), "{error}");
        first.write(4_000_000_000).expect("there is room");
        let error = Pidfile::lock(&path).expect_err("somebody has it");
        assert!(error.to_string().starts_with("rusmd runs already: process 4000000000 holds"), "{error}");
        assert_eq!(content(&path), "4000000000\n");
    }

    #[test]
    fn a_file_that_a_dead_process_has_left_is_taken_over() {
        let scratch = Scratch::new();
        let path = scratch.path().join("pid");
        fs::write(&path, "1\n").expect("the directory is writable");
        let pidfile = Pidfile::lock(&path).expect("nobody holds it");
        assert_eq!(content(&path), "");
        pidfile.write(std::process::id()).expect("there is room");
    }

    #[test]
    fn a_file_that_is_no_pidfile_is_left_alone() {
        let scratch = Scratch::new();
        let path = scratch.path().join("important");
        fs::write(&path, "root:x:0:0\n").expect("the directory is writable");
        assert!(matches!(Pidfile::lock(&path), Err(PidfileError::NoPidfile { .. })));
        assert_eq!(content(&path), "root:x:0:0\n");
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(scratch.path().join("elsewhere"), &link).expect("links can be made here");
        assert!(matches!(Pidfile::lock(&link), Err(PidfileError::System { .. })));
    }

    #[test]
    fn a_successor_shares_the_lock_and_its_predecessor_leaves_the_file_to_it() {
        let scratch = Scratch::new();
        let path = scratch.path().join("pid");
        let old = Pidfile::lock(&path).expect("nobody has it");
        old.write(std::process::id()).expect("there is room");
        let handed = old.as_fd().try_clone_to_owned().expect("descriptors are not exhausted");
        let new = Pidfile::from_fd(handed, path.clone());
        // Stands for the pid of the successor, which is another process.
        new.write(4_000_000_000).expect("there is room");
        old.reclaim(std::process::id()).expect("there is room");
        assert_eq!(content(&path), format!("{}\n", std::process::id()), "a successor that has failed leaves it");
        new.write(4_000_000_000).expect("there is room");
        drop(old);
        assert_eq!(content(&path), "4000000000\n");
        assert!(matches!(Pidfile::lock(&path), Err(PidfileError::Held { pid: Some(4_000_000_000), .. })));
        drop(new);
        drop(Pidfile::lock(&path).expect("nobody holds it any more"));
    }

    #[test]
    fn a_file_that_another_has_put_in_its_place_is_not_removed() {
        let scratch = Scratch::new();
        let path = scratch.path().join("pid");
        let pidfile = Pidfile::lock(&path).expect("nobody has it");
        pidfile.write(std::process::id()).expect("there is room");
        fs::remove_file(&path).expect("it can be removed");
        let other = Pidfile::lock(&path).expect("it is another file");
        other.write(4_000_000_000).expect("there is room");
        drop(pidfile);
        assert_eq!(content(&path), "4000000000\n");
    }
}
