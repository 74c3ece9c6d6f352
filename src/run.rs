//! From a command to an exit code: `rusmd` and `rusmd check`, step by step. Everything that only happens once is here.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::App;
use crate::cli::{Command, Failure};
use crate::compile::{self, CompileError};
use crate::config::{self, Config, Diagnostics, Loaded, Overrides, Purpose, Server};
use crate::daemon::{self, Daemon, Detached, Inherited, InheritedError, Notify, Pidfile, PidfileError};
use crate::logs::{Logs, LogsError};
use crate::reactor::{Bound, Reactor, ReactorError, Settings};
use crate::{check, http, sys};

/// Descriptors kept for everything that is not a client.
const DESCRIPTORS_RESERVED: usize = 64;

/// Descriptors for each worker: its link and its pidfd, and as many again while one is replaced.
const DESCRIPTORS_PER_WORKER: usize = 4;

/// Runs a command to its end.
pub fn run(command: Command) -> ExitCode {
    sys::keep_ended_children();
    match &command {
        Command::Serve(overrides) => start(overrides, false),
        Command::Daemon(overrides) => start(overrides, true),
        Command::Check(overrides) => conclude(check(overrides), None),
    }
}

/// What was handed over is taken, and the daemon leaves its parent behind, before anything is opened.
fn start(overrides: &Overrides, as_daemon: bool) -> ExitCode {
    let inherited = match Inherited::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => return conclude(Err(RunError::Inherited(error)), None),
    };
    let verdict = match as_daemon.then(daemon::detach).transpose() {
        Ok(Some(Detached::Starter(starter))) => {
            return starter.wait().map_or(ExitCode::SUCCESS, ExitCode::from);
        }
        Ok(Some(Detached::Daemon(verdict))) => Some(verdict),
        Ok(None) => None,
        Err(source) => return conclude(Err(RunError::system("become a daemon", source)), None),
    };
    let mut daemon = Daemon::new(verdict, Notify::from_environment());
    let result = serve(overrides, inherited, &mut daemon);
    conclude(result, Some(&mut daemon))
}

/// Tells a failure to whoever waits for the start, or else on the standard error.
fn conclude(result: Result<(), RunError>, daemon: Option<&mut Daemon>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let failure = error.failure();
    let text = error.to_string();
    if !daemon.is_some_and(|daemon| daemon.handle_failure(&text, failure)) {
        // A closed standard error leaves only the exit code to tell it by.
        let _ = io::stderr().write_all(text.as_bytes());
    }
    failure.into()
}

fn serve(overrides: &Overrides, mut inherited: Inherited, daemon: &mut Daemon) -> Result<(), RunError> {
    sys::give_back_large_blocks();
    let held = sys::reserve_worker_descriptors().map_err(|source| RunError::system("open /dev/null", source))?;
    let loaded = load_at_home(overrides)?;
    let mut logs = start_logs(&loaded.config.log)?;
    if let Some(path) = &loaded.config.server.pidfile {
        daemon.set_pidfile(Pidfile::lock(path).map_err(RunError::Pidfile)?);
    }
    let (app, worker_binary) = prepare(loaded)?;
    let bound = bind(app.config(), &mut inherited)?;
    let settings = settings(app.config(), worker_binary);
    daemon.before_workers(&mut logs).map_err(|source| RunError::system("let go of the standard error", source))?;
    let mut reactor = Reactor::new(app, bound, settings)?;
    reactor.run()?;
    drop((held, logs));
    Ok(())
}

/// Loads the manifest, and makes of this process what it says a process of rusmd is: before it makes any file.
fn load_at_home(overrides: &Overrides) -> Result<Loaded, RunError> {
    let mut loaded = load(overrides, Purpose::Start)?;
    let Server { identity, umask, chdir, .. } = loaded.config.server.clone();
    if identity.is_some() && !sys::may_change_identity() {
        return Err(RunError::NotRoot);
    }
    if let Some(bits) = umask {
        sys::set_umask(bits);
    }
    if let Some(directory) = chdir {
        // Relative paths on the command line start where it was typed.
        let absolute = overrides.absolute().map_err(|source| RunError::system("find the working directory", source))?;
        loaded = load(&absolute, Purpose::Start)?;
        sys::change_directory(&directory).map_err(|source| RunError::Directory { path: directory, source })?;
    }
    Ok(loaded)
}

fn check(overrides: &Overrides) -> Result<(), RunError> {
    let held = sys::reserve_worker_descriptors().map_err(|source| RunError::system("open /dev/null", source))?;
    let loaded = load(overrides, Purpose::Check)?;
    // What the manifest says of logs is for a server.
    let logs = start_logs(&config::Log { level: loaded.config.log.level, ..config::Log::default() })?;
    let (mut app, worker_binary) = prepare(loaded)?;
    let kinds = check::load_components(&mut app, &worker_binary).map_err(RunError::Check)?;
    drop((held, logs));
    // A closed standard output leaves the exit code.
    let _ = io::stdout().write_all(check::describe(&app, &kinds).as_bytes());
    if app.diagnostics().has_errors(Purpose::Check) {
        return Err(RunError::manifest(app.diagnostics(), Purpose::Check));
    }
    let _ = io::stderr().write_all(render(app.diagnostics(), Purpose::Check).as_bytes());
    Ok(())
}

fn load(overrides: &Overrides, purpose: Purpose) -> Result<Loaded, RunError> {
    config::load(overrides).map_err(|diagnostics| RunError::manifest(&diagnostics, purpose))
}

/// The manifest's level holds for everything; `RUST_LOG` can say more or less for a part.
fn start_logs(config: &config::Log) -> Result<Logs, RunError> {
    Logs::start(config, std::env::var("RUST_LOG").ok()).map_err(RunError::Logs)
}

fn prepare(loaded: Loaded) -> Result<(App, PathBuf), RunError> {
    let worker_binary = match &loaded.config.worker_bin {
        Some(path) => path.clone(),
        None => beside_this_program("rusmd-worker")?,
    };
    let sources: Vec<&Path> = loaded.config.components.iter().map(|component| component.source.as_path()).collect();
    let artifacts = compile::compile(&worker_binary, &loaded.config.server.cache_dir, &sources)?;
    Ok((App::new(loaded, artifacts), worker_binary))
}

fn beside_this_program(name: &str) -> Result<PathBuf, RunError> {
    let here = std::env::current_exe().map_err(|source| RunError::system("find this program's file", source))?;
    let path = here.with_file_name(name);
    if path.is_file() { Ok(path) } else { Err(RunError::NoWorkerBinary { path }) }
}

/// Listens on every address of the manifest, on inherited sockets where there are any.
fn bind(config: &Config, inherited: &mut Inherited) -> Result<Vec<Bound>, RunError> {
    let mut wanted = Vec::new();
    for (serve, spec) in config.serves.iter().enumerate() {
        let addresses = spec
            .listen
            .addresses()
            .map_err(|source| RunError::Bind { address: format!("{:?}", spec.listen), source })?;
        wanted.extend(addresses.into_iter().map(|address| (serve, address)));
    }
    let mut sockets: Vec<Option<TcpListener>> = wanted.iter().map(|_| None).collect();
    // A listener that takes any port must not get the socket of one that wants this port.
    for any_port in [false, true] {
        for ((_, address), socket) in wanted.iter().zip(&mut sockets) {
            if (address.port() == 0) == any_port {
                *socket = inherited.take(*address);
            }
        }
    }
    inherited.left_over().map_err(RunError::Inherited)?;
    let bound = wanted.into_iter().zip(sockets).map(|((serve, address), socket)| {
        let connections_max = config.serves.get(serve).and_then(|spec| spec.connections_max);
        bind_one(address, socket, config.server.backlog).map(|(socket, address)| Bound {
            socket,
            address,
            serve,
            connections_max,
        })
    });
    bound.collect()
}

fn bind_one(
    address: SocketAddr,
    inherited: Option<TcpListener>,
    backlog: usize,
) -> Result<(TcpListener, SocketAddr), RunError> {
    let blame = |source| RunError::Bind { address: address.to_string(), source };
    let socket = match inherited {
        Some(socket) => socket,
        None => sys::bind_tcp(address, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(blame)?,
    };
    let address = socket.local_addr().map_err(blame)?;
    Ok((socket, address))
}

fn settings(config: &Config, worker_binary: PathBuf) -> Settings {
    let server = &config.server;
    Settings {
        workers: server.workers,
        spare_workers: server.spare_workers,
        worker_binary,
        connections_max: connections_max(server),
        queue_length: server.queue_length,
        queue_timeout: server.queue_timeout,
        request_timeout: server.request_timeout,
        kill_grace: server.kill_grace,
        shutdown_timeout: server.shutdown_timeout,
        limits: http::Limits {
            head_bytes_max: server.head_bytes_max,
            headers_max: server.headers_max,
            body_bytes_max: if server.body_bytes_max == 0 { u64::MAX } else { server.body_bytes_max },
            ..http::Limits::default()
        },
        timeouts: http::Timeouts {
            head: server.head_timeout,
            body: server.body_timeout,
            write: server.write_timeout,
            keep_alive: server.keep_alive_timeout,
            ..http::Timeouts::default()
        },
    }
}

/// As many as the manifest says, and no more than there are descriptors for.
fn connections_max(server: &config::Server) -> usize {
    let workers = (server.workers + server.spare_workers) * DESCRIPTORS_PER_WORKER;
    let descriptors = sys::open_descriptors_max().map_or(1024, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let left = descriptors.saturating_sub(workers + DESCRIPTORS_RESERVED).max(1);
    if left < server.connections_max {
        log::warn!(
            "max-connections is {}, but the limit of open files (ulimit -n) leaves {left}",
            server.connections_max
        );
    }
    server.connections_max.min(left)
}

fn render(diagnostics: &Diagnostics, purpose: Purpose) -> String {
    diagnostics.render(purpose, io::stderr().is_terminal())
}

/// Why rusmd ends with a failure.
#[derive(Debug)]
enum RunError {
    /// The findings, rendered.
    Manifest(String),
    NoWorkerBinary {
        path: PathBuf,
    },
    /// `user` or `group` without the right to become them.
    NotRoot,
    Directory {
        path: PathBuf,
        source: io::Error,
    },
    Inherited(InheritedError),
    Logs(LogsError),
    Pidfile(PidfileError),
    Compile(CompileError),
    Bind {
        address: String,
        source: io::Error,
    },
    System {
        what: &'static str,
        source: io::Error,
    },
    Reactor(ReactorError),
    Check(check::CheckError),
}

impl RunError {
    fn manifest(diagnostics: &Diagnostics, purpose: Purpose) -> RunError {
        RunError::Manifest(render(diagnostics, purpose))
    }

    fn system(what: &'static str, source: io::Error) -> RunError {
        RunError::System { what, source }
    }

    fn failure(&self) -> Failure {
        match self {
            RunError::Manifest(_) => Failure::Config,
            RunError::NoWorkerBinary { .. }
            | RunError::NotRoot
            | RunError::Directory { .. }
            | RunError::Inherited(_)
            | RunError::Logs(_)
            | RunError::Pidfile(_)
            | RunError::Compile(_)
            | RunError::Bind { .. }
            | RunError::System { .. }
            | RunError::Reactor(_)
            | RunError::Check(_) => Failure::Runtime,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            RunError::NoWorkerBinary { .. } => Some("install rusmd-worker beside rusmd, or name it with --worker-bin"),
            RunError::Compile(CompileError::NotRun { .. }) => Some("--worker-bin names the program rusmd-worker"),
            RunError::Bind { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => Some("another program has this address; stop it, or listen elsewhere"),
                io::ErrorKind::PermissionDenied => Some("ports below 1024 need root or CAP_NET_BIND_SERVICE"),
                io::ErrorKind::AddrNotAvailable => Some("this machine does not have that address"),
                _ => None,
            },
            RunError::NotRoot => {
                Some("start rusmd as root, or leave `user` and `group` out: workers then are who rusmd is")
            }
            RunError::Inherited(InheritedError::Unmatched { .. }) => {
                Some("the address in `listen` must be the socket's to the letter: one for [::] is not one for 0.0.0.0")
            }
            RunError::Pidfile(PidfileError::Held { .. }) => Some("stop that one first, or name another pidfile"),
            RunError::Manifest(_)
            | RunError::Directory { .. }
            | RunError::Inherited(_)
            | RunError::Logs(_)
            | RunError::Pidfile(_)
            | RunError::Compile(CompileError::Failed { .. })
            | RunError::System { .. }
            | RunError::Reactor(_)
            | RunError::Check(_) => None,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = crate::reactor::chain;
        match self {
            RunError::Manifest(findings) => return f.write_str(findings),
            RunError::NoWorkerBinary { path } => write!(f, "error: there is no {}", path.display())?,
            RunError::NotRoot => f.write_str("error: only root can run workers as another user or group")?,
            RunError::Directory { path, source } => write!(f, "error: cannot go to {}: {source}", path.display())?,
            RunError::Inherited(error) => write!(f, "error: {}", chain(error))?,
            RunError::Pidfile(error) => write!(f, "error: {}", chain(error))?,
            RunError::Logs(error) => write!(f, "error: {}", chain(error))?,
            RunError::Compile(error) => write!(f, "error: {}", chain(error))?,
            RunError::Bind { address, source } => write!(f, "error: cannot listen on {address}: {source}")?,
            RunError::System { what, source } => write!(f, "error: cannot {what}: {source}")?,
            RunError::Reactor(error) => write!(f, "error: {}", chain(error))?,
            RunError::Check(error) => write!(f, "error: {}", chain(error))?,
        }
        match self.hint() {
            Some(hint) => writeln!(f, "\nhint: {hint}"),
            None => writeln!(f),
        }
    }
}

impl From<CompileError> for RunError {
    fn from(error: CompileError) -> RunError {
        RunError::Compile(error)
    }
}

impl From<ReactorError> for RunError {
    fn from(error: ReactorError) -> RunError {
        RunError::Reactor(error)
    }
}
