//! Owns the configuration: the manifest and the flags in, a valid [`Config`] out, or every mistake at once.
//!
//! Reads the manifest and the certificates that it names, opens the directories whose files it serves, looks whether files exist and who a user is; opens no socket, starts no process, loads no component. `main` calls [`load`] at start,
//! and the supervisor again at each reload. What cannot be known before a component is loaded (does it have that action?) is added to the
//! [`Diagnostics`] by whoever loads it, with the spans that the [`Config`] carries.

mod capability;
mod component;
mod compression;
mod diagnostic;
mod directory;
mod document;
mod listen;
mod log;
mod networks;
mod response_headers;
mod serve;
pub mod settings;
mod tls;

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ::log::LevelFilter;
use toml::de::DeTable;

pub use capability::{Grants, MEMORY_BYTES_DEFAULT, Network, Preopen};
pub use component::{Component, ComponentIndex, ComponentRef};
pub use diagnostic::{Diagnostic, Diagnostics, Purpose, Severity, Span};
pub use directory::Directory;
pub use listen::{Address, Listen, ListenError, SocketOptions};
pub use log::{AccessFormat, AccessPlace, LOG_LEVELS, Log};
pub use networks::{NETWORKS_MAX, Networks};
pub use serve::{RouteSpec, RouteTarget, Routes, SERVES_MAX, Serve, Target};
pub use settings::{Control, Server};
pub use tls::{CERTIFICATES_MAX, Tls};

use capability::Capabilities;
use component::Registry;
use diagnostic::Report;
use document::{Shape, span};

use crate::sys::{self, Identity, IdentityError};

/// The manifest when no other is named.
pub const MANIFEST: &str = "rusm.toml";

/// Most bytes of a manifest.
pub const MANIFEST_BYTES_MAX: usize = 512 * 1024;

const SHAPE: Shape =
    Shape { name: "the manifest", keys: &["serve", "components", "capabilities", "log", "server"], unsupported: &[] };

/// A manifest that has been read and found good, with the flags applied.
#[derive(Clone, Debug)]
pub struct Config {
    /// The manifest's path, as it was named.
    pub manifest: PathBuf,
    pub server: Server,
    /// At least one.
    pub serves: Vec<Serve>,
    pub components: Vec<Component>,
    pub log: Log,
    /// Where the worker's program is, when a flag says so.
    pub worker_bin: Option<PathBuf>,
}

/// What flags say. They go before the manifest.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Overrides {
    pub config: Option<PathBuf>,
    pub workers: Option<usize>,
    /// Take the place of the address of the sole `[[serve]]`.
    pub listen: Vec<Listen>,
    pub worker_bin: Option<PathBuf>,
    pub log_level: Option<LevelFilter>,
    pub pidfile: Option<PathBuf>,
}

impl Config {
    /// Whether a route has a directory.
    pub fn serves_files(&self) -> bool {
        let has_directory =
            |routes: &Routes| routes.list.iter().any(|route| matches!(route.target, RouteTarget::Directory(_)));
        self.serves.iter().any(|serve| matches!(&serve.target, Target::Routes(routes) if has_directory(routes)))
    }
}

impl Overrides {
    /// The same, whatever directory this process goes to.
    ///
    /// # Errors
    ///
    /// There is no working directory.
    pub fn absolute(&self) -> io::Result<Overrides> {
        let absolute = |path: &Option<PathBuf>| path.as_deref().map(std::path::absolute).transpose();
        Ok(Overrides {
            config: Some(std::path::absolute(self.config.as_deref().unwrap_or(Path::new(MANIFEST)))?),
            worker_bin: absolute(&self.worker_bin)?,
            pidfile: absolute(&self.pidfile)?,
            ..self.clone()
        })
    }
}

/// A good manifest, and what is worth telling about it nevertheless.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub diagnostics: Diagnostics,
}

/// What a manifest refers to outside itself, so that reading one can be tested without a disk.
pub struct Surroundings<'a> {
    /// The manifest's directory; relative paths in the manifest start there.
    pub directory: &'a Path,
    pub cpus: usize,
    /// A variable of the environment, when it is set and is text.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub is_file: &'a dyn Fn(&Path) -> bool,
    pub is_directory: &'a dyn Fn(&Path) -> bool,
    pub identity: &'a IdentityOf,
}

/// Looks up a user and a group, either of which may be left out.
pub type IdentityOf = dyn Fn(Option<&str>, Option<&str>) -> Result<Identity, IdentityError>;

/// Reads the manifest that the flags name, or `rusm.toml` in the working directory.
///
/// # Errors
///
/// All findings, when any of them is an error.
pub fn load(overrides: &Overrides) -> Result<Loaded, Diagnostics> {
    let path = overrides.config.as_deref().unwrap_or(Path::new(MANIFEST));
    let source = read_source(path).map_err(|error| unreadable(path, &error, overrides.config.is_some()))?;
    let around = Surroundings {
        directory: path.parent().unwrap_or(Path::new("")),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        variable: &|name| std::env::var(name).ok(),
        is_file: &Path::is_file,
        is_directory: &Path::is_dir,
        identity: &Identity::find,
    };
    let mut loaded = parse(path, &source, overrides, &around)?;
    for tls in loaded.config.serves.iter_mut().filter_map(|serve| serve.tls.as_mut()) {
        tls.load(&mut loaded.diagnostics);
    }
    let Config { serves, server, .. } = &mut loaded.config;
    directory::open(serves, server.identity.as_ref(), &mut loaded.diagnostics);
    if loaded.diagnostics.has_errors(Purpose::Start) { Err(loaded.diagnostics) } else { Ok(loaded) }
}

/// Only what a manifest says about the control socket: for those who want to ask a server, whatever has become of its manifest.
///
/// # Errors
///
/// It cannot be read, or not far enough.
pub fn load_control(path: &Path) -> Result<Control, Diagnostics> {
    let source = read_source(path).map_err(|error| unreadable(path, &error, true))?;
    let text = String::from_utf8_lossy(&source);
    let mut diagnostics = Diagnostics::new(path.to_string_lossy(), text.clone());
    let (document, errors) = DeTable::parse_recoverable(&text);
    let server = document.get_ref().get("server").and_then(|server| server.get_ref().as_table());
    match server.and_then(|server| server.get("control")) {
        Some(value) if let Some(text) = value.get_ref().as_str() => {
            Ok(Control::of(text, path.parent().unwrap_or(Path::new(""))))
        }
        None if errors.is_empty() => Ok(Control::Default),
        Some(_) | None => {
            errors.iter().for_each(|error| diagnostics.push(syntax_error(error)));
            Err(diagnostics)
        }
    }
}

/// Reads a manifest from its bytes.
///
/// # Errors
///
/// All findings, when any of them is an error.
pub fn parse(
    path: &Path,
    source: &[u8],
    overrides: &Overrides,
    around: &Surroundings<'_>,
) -> Result<Loaded, Diagnostics> {
    let file = path.to_string_lossy();
    let text = match std::str::from_utf8(source) {
        Ok(text) => text,
        Err(error) => return Err(not_utf8(&file, source, error.valid_up_to())),
    };
    let mut diagnostics = Diagnostics::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let syntax: Vec<_> = errors.iter().map(syntax_error).collect();
    let mut report = Report::default();
    let config = read_document(path, document.get_ref(), overrides, around, &mut report);
    report.finish(syntax, &mut diagnostics);
    if diagnostics.has_errors(Purpose::Start) { Err(diagnostics) } else { Ok(Loaded { config, diagnostics }) }
}

fn read_document<'d>(
    path: &Path,
    document: &'d DeTable<'d>,
    overrides: &Overrides,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> Config {
    let mut server = Server::new(around.cpus, default_cache_dir(around));
    let mut log = Log::default();
    let (mut serves, mut components, mut capabilities) = (None, None, None);
    for (key, value) in document::entries(document) {
        let name: &str = key.get_ref();
        match name {
            "serve" => serves = Some(value),
            "components" => components = document::table(value, report),
            "capabilities" => capabilities = document::table(value, report),
            "log" => log.read(value, around.directory, report),
            "server" => {
                if let Some(table) = document::table(value, report) {
                    server.read(table, around, report);
                }
            }
            "node" => {
                let ignored = Diagnostic::warning(span(key), "`[node]` is ignored");
                report.push(ignored.hint("rusmd's own settings are in [server]; `rusmd --help` lists them"));
            }
            "routes" => {
                let found = Diagnostic::error(span(key), "routes belong to a listener");
                report.push(found.hint("put them into [serve.routes], after the `[[serve]]` that they are for"));
            }
            _ => document::unknown_key(key, value, &SHAPE, report),
        }
    }
    let capabilities = Capabilities::read(capabilities, around, report);
    let mut registry = Registry::read(components, capabilities, around, report);
    let serves = serve::read(serves, &overrides.listen, around, &mut registry, report);
    let components = registry.finish(report);
    if let Some(admin) = server.admin.as_ref().filter(|admin| !admin.is_any_port())
        && let Some(serve) = serves.iter().find(|serve| serve.listen == *admin)
    {
        report.push(Diagnostic::error(serve.span, "`admin` in [server] has the address of this listener"));
    }
    server.workers = overrides.workers.unwrap_or(server.workers);
    server.pidfile = overrides.pidfile.clone().or(server.pidfile);
    log.level = overrides.log_level.unwrap_or(log.level);
    Config { manifest: path.to_owned(), server, serves, components, log, worker_bin: overrides.worker_bin.clone() }
}

fn default_cache_dir(around: &Surroundings<'_>) -> PathBuf {
    let absolute = |name: &str| (around.variable)(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("rusmd")
}

fn syntax_error(error: &toml::de::Error) -> Diagnostic {
    let place = error.span().map(|range| Span { start: range.start, end: range.end });
    Diagnostic::error(place, format!("invalid TOML: {}", error.message()))
}

/// A manifest is read again at each reload: what may keep the reader waiting, such as a pipe, is none. It may grow, so it is read up to the limit
/// rather than measured.
fn read_source(path: &Path) -> io::Result<Vec<u8>> {
    let mut source = Vec::new();
    sys::open_regular(path)?.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut source)?;
    if source.len() > MANIFEST_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {MANIFEST_BYTES_MAX} bytes"),
        ));
    }
    Ok(source)
}

fn unreadable(path: &Path, error: &io::Error, named: bool) -> Diagnostics {
    let file = path.to_string_lossy();
    let mut diagnostics = Diagnostics::new(file.clone(), "");
    let found = Diagnostic::error(None, format!("cannot read the manifest {file}: {error}"));
    diagnostics.push(match error.kind() {
        io::ErrorKind::NotFound if !named => {
            found.hint("start rusmd where rusm.toml is, or name the manifest with --config FILE")
        }
        io::ErrorKind::NotFound => found.hint("--config takes a path relative to the working directory"),
        io::ErrorKind::IsADirectory => found.hint("--config names the file, not its directory"),
        _ => found,
    });
    diagnostics
}

fn not_utf8(file: &str, source: &[u8], at: usize) -> Diagnostics {
    let mut diagnostics = Diagnostics::new(file, String::from_utf8_lossy(source));
    let place = Span { start: at, end: at + char::REPLACEMENT_CHARACTER.len_utf8() };
    diagnostics.push(Diagnostic::error(Some(place), "the manifest is not UTF-8").label("these bytes are no text"));
    diagnostics
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("directory", &self.directory)
            .field("cpus", &self.cpus)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod listener_tests;
#[cfg(test)]
mod tests;
