//! Where things are: the binaries under test, the components, the compile cache, scratch directories.
//!
//! Owns names of files and the one-time compilation of components; starts no server. `server` drives it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Names the directory of the binaries under test when they are not beside the test's own.
const BINARIES_VARIABLE: &str = "RUSMD_E2E_BINARIES";

/// A directory that is removed at the end.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rusmd-e2e-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Scratch { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, contents).expect("the temporary directory is writable");
        path
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The binary `name` of the build that this test belongs to.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    let path = binaries().join(name);
    assert!(path.is_file(), "{} is missing: run cargo build --release --workspace", path.display());
    path
}

/// The component `name`, compiled into the shared cache.
#[track_caller]
pub fn guest(name: &str) -> PathBuf {
    let path = guest_file(name);
    assert!(path.is_file(), "{} is missing: run scripts/guests", path.display());
    compile_once(&path);
    path
}

/// Where `scripts/guests` puts the component `name`.
pub fn guest_file(name: &str) -> PathBuf {
    target().join("guests").join(format!("{name}.wasm"))
}

/// The compile cache that all tests share, so that a large component is compiled once.
pub fn cache() -> PathBuf {
    target().join("e2e-cache")
}

/// Serialised, because two compilations of one large component at the same time would take the machine twice as long.
#[track_caller]
fn compile_once(path: &Path) {
    static COMPILED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if compiled.contains(path) {
        return;
    }
    let output = Command::new(binary("rusmd-worker"))
        .arg("compile")
        .arg("--cache")
        .arg(cache())
        .arg(path)
        .output()
        .expect("the worker binary can be executed");
    // A component that cannot be compiled is for the test to meet, through the server.
    if output.status.success() {
        compiled.insert(path.to_owned());
    }
}

fn binaries() -> PathBuf {
    if let Some(directory) = std::env::var_os(BINARIES_VARIABLE) {
        return PathBuf::from(directory);
    }
    let own = std::env::current_exe().expect("a running test has an executable");
    let profile = own.parent().and_then(Path::parent).expect("cargo puts tests into PROFILE/deps");
    profile.to_owned()
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}
