//! From a command to an exit code: `rusmd` and `rusmd check`, step by step. Everything that only happens once is here.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::App;
use crate::cli::{Command, Failure};
use crate::compile::{self, CompileError};
use crate::config::{self, Config, Diagnostics, Loaded, Overrides, Purpose};
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
    let result = match &command {
        Command::Serve(overrides) => serve(overrides),
        Command::Check(overrides) => check(overrides),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed standard error leaves only the exit code to tell it by.
            let _ = write!(io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

fn serve(overrides: &Overrides) -> Result<(), RunError> {
    sys::give_back_large_blocks();
    let held = sys::reserve_worker_descriptors().map_err(|source| RunError::system("open /dev/null", source))?;
    let loaded = load(overrides, Purpose::Start)?;
    let logs = start_logs(&loaded.config.log)?;
    let (app, worker_binary) = prepare(loaded)?;
    let bound = bind(app.config())?;
    let settings = settings(app.config(), worker_binary);
    let mut reactor = Reactor::new(app, bound, settings)?;
    reactor.run()?;
    drop((held, logs));
    Ok(())
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

fn bind(config: &Config) -> Result<Vec<Bound>, RunError> {
    let mut bound = Vec::new();
    for (serve, spec) in config.serves.iter().enumerate() {
        let addresses = spec
            .listen
            .addresses()
            .map_err(|source| RunError::Bind { address: format!("{:?}", spec.listen), source })?;
        for address in addresses {
            bound.push(bind_one(address, serve, spec.connections_max, config.server.backlog)?);
        }
    }
    Ok(bound)
}

fn bind_one(
    address: SocketAddr,
    serve: usize,
    connections_max: Option<usize>,
    backlog: usize,
) -> Result<Bound, RunError> {
    let blame = |source| RunError::Bind { address: address.to_string(), source };
    let socket = sys::bind_tcp(address, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(blame)?;
    let address = socket.local_addr().map_err(blame)?;
    Ok(Bound { socket, address, serve, connections_max })
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
    Logs(LogsError),
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

    fn exit_code(&self) -> ExitCode {
        match self {
            RunError::Manifest(_) => Failure::Config.into(),
            RunError::NoWorkerBinary { .. }
            | RunError::Logs(_)
            | RunError::Compile(_)
            | RunError::Bind { .. }
            | RunError::System { .. }
            | RunError::Reactor(_)
            | RunError::Check(_) => Failure::Runtime.into(),
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
            RunError::Manifest(_)
            | RunError::Logs(_)
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
