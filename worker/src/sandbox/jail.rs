//! The jail: a root directory with nothing in it but `/proc`, which forks need, and `/jail` with the granted directories at their own
//! paths. The template lives in the first, workers in the second.
//!
//! Owns the mounts. Every granted directory is a mount of its own, without devices, programs and set-user-id, and without the right to
//! write where that is not granted.
#![allow(unsafe_code, reason = "mount_setattr has no safe interface")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, mount_remount,
    move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, pivot_root};

use super::needs::{Directory, Needs};

/// Where the new root is put together. It has to exist; nobody needs what is in it while this covers it.
const BUILT_AT: &str = "/proc";

/// Where workers live, seen from the new root.
pub const JAIL: &str = "/jail";

/// What a resolver of names reads. Copied, since they are mostly replaced rather than rewritten, and often links into what is not there.
pub const RESOLVER_FILES: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

/// A larger file is not copied.
const RESOLVER_FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub enum JailError {
    /// Not allowed here, and nothing has changed.
    NotPossible(io::Error),
    /// It failed half-way: this process cannot go on.
    Broken(io::Error),
}

/// In the template: makes the new root and moves into it. The mounts must be this process's own.
pub fn build(needs: &Needs) -> Result<(), JailError> {
    assemble(needs).map_err(JailError::NotPossible)?;
    if let Err(error) = move_in() {
        // Whatever is mounted there is covered no longer.
        unmount(BUILT_AT, UnmountFlags::DETACH).map_err(|errno| JailError::Broken(errno.into()))?;
        return Err(JailError::NotPossible(error));
    }
    leave_the_old().map_err(JailError::Broken)
}

/// In a worker: nothing but granted directories can be named from here on.
pub fn enter() -> io::Result<()> {
    chroot(JAIL)?;
    Ok(chdir("/")?)
}

fn assemble(needs: &Needs) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Everything is picked up before it is covered.
    let process_files = pick_up(Path::new("/proc"))?;
    let mut granted = Vec::new();
    for directory in &needs.directories {
        match pick_up(&directory.path) {
            Ok(tree) => {
                restrict(&tree, directory)?;
                granted.push((tree, directory));
            }
            // One that does not exist is missed by the request that wants it.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", BUILT_AT, "tmpfs", flags, c"mode=0755,size=8m")?;
    let furnished = furnish(needs, &process_files, &granted);
    if furnished.is_err() {
        unmount(BUILT_AT, UnmountFlags::DETACH)?;
    }
    furnished
}

fn furnish(needs: &Needs, process_files: &OwnedFd, granted: &[(OwnedFd, &Directory)]) -> io::Result<()> {
    let root = Path::new(BUILT_AT);
    put_down(process_files, &root.join("proc"))?;
    fs::create_dir(root.join("old"))?;
    let jail = beneath(root, Path::new(JAIL));
    fs::create_dir(&jail)?;
    for (tree, directory) in granted {
        put_down(tree, &beneath(&jail, &directory.path))?;
    }
    if needs.network.is_granted() {
        fs::create_dir_all(jail.join("etc"))?;
        for file in RESOLVER_FILES {
            let target = beneath(&jail, Path::new(file));
            let is_small = fs::metadata(file).is_ok_and(|found| found.len() <= RESOLVER_FILE_BYTES_MAX);
            // A granted directory may have it already.
            if is_small && !target.exists() {
                fs::write(target, fs::read(file)?)?;
            }
        }
    }
    Ok(())
}

fn move_in() -> io::Result<()> {
    chdir(BUILT_AT)?;
    pivot_root(".", "old")?;
    Ok(chdir("/")?)
}

fn leave_the_old() -> io::Result<()> {
    unmount("/old", UnmountFlags::DETACH)?;
    fs::remove_dir("/old")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    Ok(mount_remount("/", flags, c"")?)
}

/// A copy of a tree of mounts that is not in anybody's file system.
fn pick_up(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
}

fn put_down(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    Ok(move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// `path` seen from `root` rather than from the root.
fn beneath(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// mount_setattr(2), on a whole tree.
fn restrict(tree: &OwnedFd, directory: &Directory) -> io::Result<()> {
    let read_only = if directory.writable { 0 } else { libc::MOUNT_ATTR_RDONLY };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC | read_only,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty C string, and the structure lives until the call returns and has the size that is told.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
