//! A control group for each worker (cgroups(7), version 2), where this process has been given a part of the tree for itself: systemd's
//! `Delegate=yes` marks it. A worker that passes its ceiling is then ended by the kernel, it alone, whatever its memory is made of.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Where this process itself goes: a group with subgroups under control has no processes of its own.
const OWN: &str = "supervisor";

/// The controller that has to be there.
const CONTROLLER: &str = "memory";

/// The part of the tree that was delegated to this process.
#[derive(Debug)]
pub struct Cgroups {
    base: PathBuf,
    memory_bytes_max: u64,
}

impl Cgroups {
    /// Takes over what was delegated to this process, for workers with this ceiling. `None` where nothing was.
    ///
    /// # Errors
    ///
    /// Something was, and cannot be used.
    pub fn delegated(memory_bytes_max: u64) -> io::Result<Option<Cgroups>> {
        let Some(own) = own_group()? else { return Ok(None) };
        let base = match own.parent() {
            // Who takes over from another rusmd is in that one's group.
            Some(parent) if own.file_name().is_some_and(|name| name == OWN) && is_delegated(parent) => {
                parent.to_owned()
            }
            Some(_) | None if is_delegated(&own) => own,
            Some(_) | None => return Ok(None),
        };
        prepare(&base, CONTROLLER).map(|is_there| is_there.then_some(Cgroups { base, memory_bytes_max }))
    }

    /// Puts a process into a group of its own.
    pub fn enter(&self, name: &str, pid: i32) -> io::Result<()> {
        let group = self.base.join(name);
        make(&group)?;
        fs::write(group.join("memory.max"), self.memory_bytes_max.to_string())?;
        // Neither is there in every kernel, and without them the ceiling holds all the same.
        let _ = fs::write(group.join("memory.swap.max"), "0");
        let _ = fs::write(group.join("memory.oom.group"), "1");
        fs::write(group.join("cgroup.procs"), pid.to_string())
    }

    /// Removes the group of a process that is gone.
    pub fn leave(&self, name: &str) {
        // One that was never made is gone already; one that is still busy is used again by the next worker of its slot.
        let _ = fs::remove_dir(self.base.join(name));
    }
}

/// The directory of this process's group in the tree of version 2, if it is mounted.
fn own_group() -> io::Result<Option<PathBuf>> {
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let Some(path) = groups.lines().find_map(|line| line.strip_prefix("0::")) else { return Ok(None) };
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mount_point(&mounts, path).filter(|group| group.is_dir()))
}

/// Where `path` of the tree is in the file system (proc_pid_mountinfo(5)).
fn mount_point(mounts: &str, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let inside = if root == "/" { path } else { path.strip_prefix(root)? };
        kind.starts_with("cgroup2 ").then(|| Path::new(point).join(inside.trim_start_matches('/')))
    })
}

/// Whether the group was given to who runs in it: systemd says so in an extended attribute.
fn is_delegated(group: &Path) -> bool {
    let Ok(path) = CString::new(group.as_os_str().as_bytes()) else { return false };
    [c"user.delegate", c"trusted.delegate"].into_iter().any(|name| {
        let mut value = [0u8; 2];
        // SAFETY: both strings end with NUL, and getxattr(2) writes at most the two bytes of `value`.
        let count = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        count == 1 && value[0] == b'1'
    })
}

/// Moves this process into a subgroup, and lets the others have the controller. False where it is not to be had.
fn prepare(base: &Path, controller: &str) -> io::Result<bool> {
    let has = |file: &str| {
        let list = fs::read_to_string(base.join(file))?;
        Ok::<bool, io::Error>(list.split_whitespace().any(|known| known == controller))
    };
    if !has("cgroup.controllers")? {
        return Ok(false);
    }
    if !has("cgroup.subtree_control")? {
        make(&base.join(OWN))?;
        fs::write(base.join(OWN).join("cgroup.procs"), std::process::id().to_string())?;
        fs::write(base.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(true)
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_where_its_tree_is_mounted() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let expected = Some(PathBuf::from("/sys/fs/cgroup/unified/system.slice/rusmd.service"));
        assert_eq!(mount_point(mounts, "/system.slice/rusmd.service"), expected);
        assert_eq!(mount_point(mounts, "/"), Some(PathBuf::from("/sys/fs/cgroup/unified/")));
        let inside = "31 24 0:27 /machine /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(inside, "/machine/a"), Some(PathBuf::from("/sys/fs/cgroup/a")));
        assert_eq!(mount_point(inside, "/other"), None);
        assert_eq!(mount_point("", "/"), None);
    }

    #[test]
    fn what_was_not_delegated_is_left_alone() {
        let own = own_group().expect("/proc is readable");
        if own.as_deref().is_none_or(|own| !is_delegated(own)) {
            assert!(Cgroups::delegated(1 << 30).expect("nothing is tried").is_none());
        }
        assert!(!is_delegated(Path::new("/proc")) && !is_delegated(Path::new("/no/such/group")));
    }
}
