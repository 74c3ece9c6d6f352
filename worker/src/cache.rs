//! The cache of compiled components: `rusmd-worker compile` fills it, `rusmd-worker serve` maps what is in it.
//!
//! Owns the names and the integrity of the files in the cache directory. The files are native code, so the directory must
//! belong to this user and be writable by nobody else. Runs once per start or reload, never while requests are served.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use wasmtime::Engine;

use crate::engine::{self, Flavor};

/// A component at least this large is announced before it is compiled: it will take seconds.
const ANNOUNCE_BYTES_MIN: usize = 1 << 20;

/// Most bytes of a component's file name that are kept in its artifact's name.
const NAME_BYTES_MAX: usize = 64;

/// How much of a file is read at once: enough for the widest vectors, little enough to stay in the processor's cache.
const READ_BYTES: usize = 256 * 1024;

/// Ends every artifact: a truncated or overwritten file lacks it.
const TRAILER_MAGIC: &[u8; 8] = b"rusmd-c1";

/// Magic, and the hash of everything before it.
const TRAILER_BYTES: usize = TRAILER_MAGIC.len() + blake3::OUT_LEN;

/// What became of one file.
#[derive(Debug)]
pub struct Artifact {
    pub path: PathBuf,
    pub cached: bool,
}

/// A cache directory whose owner and permissions have been checked, and the compilers that fill it.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    engines: Vec<(Flavor, Engine)>,
}

impl Cache {
    /// Opens the directory, creating it for this user alone when it does not exist.
    pub fn open(directory: &Path) -> Result<Cache, CacheError> {
        let at = |error| CacheError::Io { path: directory.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at)?;
        let metadata = fs::metadata(directory).map_err(at)?;
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            return Err(CacheError::ForeignDirectory { path: directory.to_owned(), owner, user });
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(CacheError::WritableDirectory { path: directory.to_owned(), mode: metadata.mode() & 0o7777 });
        }
        let directory = directory.canonicalize().map_err(at)?;
        let engines = Flavor::ALL
            .into_iter()
            .map(|flavor| Ok((flavor, engine::compiler(flavor)?)))
            .collect::<wasmtime::Result<_>>()
            .map_err(|error| CacheError::Engine(one_line(&error)))?;
        Ok(Cache { directory, engines })
    }

    /// The artifact for the component at `source`: the one in the cache when it is intact, or a new one. `announce` is
    /// called before a compilation that will take long.
    pub fn artifact(&self, source: &Path, announce: &mut dyn FnMut(&str)) -> Result<Artifact, CacheError> {
        let io_error = |error| CacheError::Io { path: source.to_owned(), error };
        let mut content = blake3::Hasher::new();
        File::open(source).and_then(|mut file| hash(&mut file, &mut content)).map_err(io_error)?;
        if let Some(path) = self.paths(source, &content.finalize()).into_iter().find(|path| is_intact(path)) {
            return Ok(Artifact { path, cached: true });
        }
        let bytes = fs::read(source).map_err(io_error)?;
        check_is_component(&bytes)?;
        if bytes.len() >= ANNOUNCE_BYTES_MIN {
            announce(&format!("compiling {} ({:.1} MB) ...", source.display(), bytes.len() as f64 / 1e6));
        }
        let path = self.compile(&bytes, self.paths(source, &blake3::hash(&bytes)))?;
        Ok(Artifact { path, cached: false })
    }

    /// Compiles for the first flavor that accepts the component, and stores the result under the path for that flavor.
    fn compile(&self, bytes: &[u8], paths: Vec<PathBuf>) -> Result<PathBuf, CacheError> {
        let mut refused = None;
        for ((_, engine), path) in self.engines.iter().zip(paths) {
            match engine.precompile_component(bytes) {
                Ok(compiled) => {
                    store(&path, &compiled).map_err(|error| CacheError::Io { path: path.clone(), error })?;
                    return Ok(path);
                }
                Err(error) => refused = Some(error),
            }
        }
        // The last flavor allows the most, so its reason is the one that counts.
        Err(CacheError::Invalid(refused.map_or_else(String::new, |error| one_line(&error))))
    }

    /// Where the artifact would be, for each flavor.
    fn paths(&self, source: &Path, content: &blake3::Hash) -> Vec<PathBuf> {
        let stem = artifact_stem(source);
        self.engines.iter().map(|(flavor, engine)| self.path(&stem, content, *flavor, engine)).collect()
    }

    fn path(&self, stem: &str, content: &blake3::Hash, flavor: Flavor, engine: &Engine) -> PathBuf {
        let mut key = blake3::Hasher::new();
        // Covers the version of wasmtime, the settings that change code, and the features of this processor.
        let mut settings = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        key.update(&settings.finish().to_le_bytes());
        key.update(content.as_bytes());
        let key = key.finalize().to_hex();
        self.directory.join(format!("{stem}-{}.{}", &key.as_str()[..32], flavor.extension()))
    }
}

/// An error with its chain of causes, on one line without tabs.
pub fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Tells apart what people pass by mistake.
fn check_is_component(bytes: &[u8]) -> Result<(), CacheError> {
    const MAGIC: &[u8] = b"\0asm";
    const CORE_VERSION: &[u8] = &[1, 0, 0, 0];
    if bytes.starts_with(b"\x7fELF") {
        return Err(CacheError::AlreadyCompiled);
    }
    if bytes.trim_ascii_start().starts_with(b"(component") || bytes.trim_ascii_start().starts_with(b"(module") {
        return Err(CacheError::Text);
    }
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(CacheError::NotWasm);
    };
    if rest.starts_with(CORE_VERSION) {
        return Err(CacheError::CoreModule);
    }
    Ok(())
}

/// The part of an artifact's name that is for people: the source's name without its extension.
fn artifact_stem(source: &Path) -> String {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .take(NAME_BYTES_MAX)
        .collect();
    if stem.is_empty() { "component".to_owned() } else { stem }
}

/// Whether the file is there, whole, and what was written.
fn is_intact(path: &Path) -> bool {
    fn check(path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let Some(body_bytes) = file.metadata()?.len().checked_sub(TRAILER_BYTES as u64) else {
            return Ok(false);
        };
        let mut hasher = blake3::Hasher::new();
        hash(&mut (&mut file).take(body_bytes), &mut hasher)?;
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        file.read_to_end(&mut trailer)?;
        Ok(trailer == self::trailer(&hasher))
    }
    check(path).unwrap_or(false)
}

fn hash(reader: &mut impl Read, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut piece = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => hasher.update(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
    }
}

fn trailer(body: &blake3::Hasher) -> Vec<u8> {
    [TRAILER_MAGIC.as_slice(), body.finalize().as_bytes()].concat()
}

/// Writes beside the final name and renames, so that no process ever maps half a file.
fn store(path: &Path, compiled: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(compiled)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(compiled);
        file.write_all(&trailer(&hasher))?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Why there is no artifact. The blame is the file's, or the cache directory's.
#[derive(Debug)]
pub enum CacheError {
    Io { path: PathBuf, error: io::Error },
    ForeignDirectory { path: PathBuf, owner: u32, user: u32 },
    WritableDirectory { path: PathBuf, mode: u32 },
    Engine(String),
    NotWasm,
    Text,
    AlreadyCompiled,
    CoreModule,
    Invalid(String),
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            CacheError::ForeignDirectory { path, owner, user } => write!(
                f,
                "cache directory {} belongs to user {owner}, not to user {user}; native code is loaded from it, so choose \
                 a directory of your own",
                path.display()
            ),
            CacheError::WritableDirectory { path, mode } => write!(
                f,
                "cache directory {} can be written by others (mode {mode:04o}); native code is loaded from it, so run \
                 `chmod go-w` on it",
                path.display()
            ),
            CacheError::Engine(reason) => write!(f, "cannot prepare the compiler: {reason}"),
            CacheError::NotWasm => write!(f, "not WebAssembly: the file does not begin with \"\\0asm\""),
            CacheError::Text => {
                write!(f, "WebAssembly text, not a binary component; convert it with `wasm-tools parse`")
            }
            CacheError::AlreadyCompiled => {
                write!(f, "native code, not WebAssembly; name the component that it was compiled from")
            }
            CacheError::CoreModule => write!(
                f,
                "a core WebAssembly module, not a component; build it for the target wasm32-wasip2, or convert it with \
                 `wasm-tools component new`"
            ),
            CacheError::Invalid(reason) => write!(f, "not a valid component: {reason}"),
        }
    }
}

impl std::error::Error for CacheError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, bytes).expect("a temporary file can be written");
        path
    }

    /// A directory that vanishes.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("rusmd-worker-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a temporary directory");
            Scratch(path)
        }

        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn cache(name: &str) -> (Scratch, Cache) {
        let directory = Scratch::new(name);
        let cache = Cache::open(&directory.path().join("cache")).expect("a fresh cache opens");
        (directory, cache)
    }

    #[test]
    fn a_component_is_compiled_once() {
        let (directory, cache) = cache("once");
        let source = write(directory.path(), "my app.wasm", &wat::parse_str("(component)").expect("valid text"));
        let first = cache.artifact(&source, &mut |_| ()).expect("compiles");
        let second = cache.artifact(&source, &mut |_| ()).expect("is cached");
        assert!(!first.cached && second.cached);
        assert_eq!(first.path, second.path);
        assert!(first.path.to_string_lossy().contains("/my-app-"));
    }

    #[test]
    fn a_truncated_or_altered_artifact_is_compiled_again() {
        let (directory, cache) = cache("altered");
        let source = write(directory.path(), "app.wasm", &wat::parse_str("(component)").expect("valid text"));
        let path = cache.artifact(&source, &mut |_| ()).expect("compiles").path;
        let whole = fs::read(&path).expect("the artifact is there");
        let mut altered = whole.clone();
        altered[whole.len() / 2] ^= 1;
        for damaged in [&whole[..whole.len() - 1], &whole[..10], &[], &altered] {
            fs::write(&path, damaged).expect("the artifact can be damaged");
            assert!(!cache.artifact(&source, &mut |_| ()).expect("compiles").cached);
            assert_eq!(fs::read(&path).expect("the artifact is back"), whole);
        }
    }

    #[test]
    fn what_is_no_component_is_refused_with_the_reason() {
        let (directory, cache) = cache("refused");
        let module = wat::parse_str("(module)").expect("valid text");
        for (bytes, expected) in [
            (module.as_slice(), "wasm-tools component new"),
            (b"(component)", "wasm-tools parse"),
            (b"hello", "not WebAssembly"),
            (b"", "not WebAssembly"),
            (b"\x7fELF...", "native code"),
            (b"\0asm\x0d\0\x01\0garbage", "not a valid component"),
        ] {
            let source = write(directory.path(), "app.wasm", bytes);
            let message = cache.artifact(&source, &mut |_| ()).expect_err("is refused").to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains(['\n', '\t']), "{message}");
        }
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let directory = Scratch::new("modes");
        for (mode, allowed) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false)] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).expect("chmod");
            assert_eq!(Cache::open(directory.path()).is_ok(), allowed, "{mode:o}");
        }
    }
}
