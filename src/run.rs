//! From a command to an exit code: `rusmd` and `rusmd check`, step by step. Everything that only happens once is here.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::App;
use crate::bind::{self, BindError, Bound};
use crate::birth::Birth;
use crate::cli::{Command, Failure};
use crate::compile::{self, CompileError};
use crate::config::{self, Address, Config, Diagnostics, Loaded, Overrides, Purpose, Server};
use crate::control::render::Look;
use crate::control::{ClientError, Order, Reply, client};
use crate::daemon::{self, Daemon, Detached, Inherited, InheritedError, Notify, Pidfile, PidfileError};
use crate::handover::{self, Estate, Handover, Message};
use crate::logs::{Logs, LogsError};
use crate::reactor::{Footprint, Origin, Parts, Predecessor, Reactor, ReactorError, Settings, chain};
use crate::{check, sys};

/// Runs a command to its end.
pub fn run(command: Command) -> ExitCode {
    sys::keep_ended_children();
    if let Err(source) = sys::keep_descriptors_to_ourselves() {
        return conclude(Err(RunError::system("list the open descriptors", source)), |_, _| false);
    }
    match &command {
        Command::Serve(overrides) => start(overrides, false),
        Command::Daemon(overrides) => start(overrides, true),
        Command::Check(overrides) => conclude(check(overrides), |_, _| false),
        Command::Control(order) => conclude(control(order), |_, _| false),
    }
}

/// What was handed over is taken, and the daemon leaves its parent behind, before anything is opened.
fn start(overrides: &Overrides, as_daemon: bool) -> ExitCode {
    let inherited = match Inherited::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => return conclude(Err(RunError::Inherited(error)), |_, _| false),
    };
    let predecessor = match Handover::from_environment() {
        Ok(predecessor) => predecessor,
        Err(source) => return conclude(Err(RunError::system("take over from another rusmd", source)), |_, _| false),
    };
    // Who is told of a failure, even after the handover has gone its way.
    let to_tell = predecessor.as_ref().and_then(|predecessor| predecessor.try_clone().ok());
    // Who takes over from a daemon is one already.
    let leaves_parent = as_daemon && predecessor.is_none();
    let verdict = match leaves_parent.then(daemon::detach).transpose() {
        Ok(Some(Detached::Starter(starter))) => {
            return starter.wait().map_or(ExitCode::SUCCESS, ExitCode::from);
        }
        Ok(Some(Detached::Daemon(verdict))) => Some(verdict),
        Ok(None) => None,
        Err(source) => return conclude(Err(RunError::system("become a daemon", source)), |_, _| false),
    };
    let mut daemon = Daemon::new(verdict, as_daemon, Notify::from_environment());
    let result = serve(overrides, inherited, predecessor, &mut daemon);
    conclude(result, |error, failure| match &to_tell {
        Some(predecessor) => tell_reason(error, predecessor),
        None => daemon.handle_failure(&error.to_text(io::stderr().is_terminal()), failure),
    })
}

/// Tells a failure to whoever waits for the start, as `tell` does unless there is nobody, or else on the standard error.
fn conclude(result: Result<(), RunError>, tell: impl FnOnce(&RunError, Failure) -> bool) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let failure = error.failure();
    if !tell(&error, failure) {
        // A closed standard error leaves only the exit code to tell it by.
        let _ = io::stderr().write_all(error.to_text(io::stderr().is_terminal()).as_bytes());
    }
    failure.into()
}

/// Tells the process that this one was to take over from, which logs it; false if that is gone.
fn tell_reason(error: &RunError, predecessor: &Handover) -> bool {
    let text = error.to_text(false);
    let reason = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    predecessor.send(&Message::Failed(handover::cut(reason, handover::REASON_BYTES_MAX).to_owned()), &[]).is_ok()
}

fn serve(
    overrides: &Overrides,
    mut inherited: Inherited,
    predecessor: Option<Handover>,
    daemon: &mut Daemon,
) -> Result<(), RunError> {
    sys::give_back_large_blocks();
    let held = sys::reserve_worker_descriptors().map_err(|source| RunError::system("open /dev/null", source))?;
    let birth = Birth::of_this_process();
    let Birth { program, directory } =
        birth.map_err(|source| RunError::system("find the working directory and this program", source))?;
    let (loaded, overrides) = load_at_home(overrides)?;
    let mut logs = start_logs(&loaded.config.log)?;
    let is_successor = predecessor.is_some();
    let Estate { listeners, socket_files, pidfile, control, failings } = receive_estate(predecessor.as_ref())
        .map_err(|source| RunError::system("take over from another rusmd", source))?;
    let predecessor = predecessor.map(|link| Predecessor::new(link, failings));
    if is_successor {
        let named = listeners.into_iter().map(|(fd, address)| (fd, address.to_string()));
        inherited = Inherited::new(named).map_err(RunError::Inherited)?;
    }
    if let Some(path) = &loaded.config.server.pidfile {
        daemon.set_pidfile(match pidfile.filter(|(_, theirs)| theirs == path) {
            Some((fd, path)) => Pidfile::from_fd(fd, path),
            None => Pidfile::lock(path).map_err(RunError::Pidfile)?,
        });
    }
    let (app, worker_binary) = prepare(loaded, Some(&program))?;
    let (bound, admin) = bind_all(app.config(), &mut inherited, is_successor)?;
    let settings = Settings::of(app.config(), worker_binary.clone());
    let origin = Origin { overrides, worker_binary, program, directory };
    daemon.before_workers(&mut logs).map_err(|source| RunError::system("let go of the standard error", source))?;
    let mut reactor =
        Reactor::new(Parts { app, bound, admin, socket_files, settings, origin, predecessor, control, daemon, logs })?;
    reactor.run()?;
    drop(held);
    Ok(())
}

/// What a predecessor leaves, if there is one. It is told that all has come, for a program that is something else would wait for ever.
fn receive_estate(predecessor: Option<&Handover>) -> io::Result<Estate> {
    let Some(predecessor) = predecessor else { return Ok(Estate::default()) };
    let estate = predecessor.receive_estate()?;
    predecessor.send(&Message::Loading, &[])?;
    Ok(estate)
}

/// Loads the manifest, and makes of this process what it says a process of rusmd is: before it makes any file.
fn load_at_home(overrides: &Overrides) -> Result<(Loaded, Overrides), RunError> {
    let (mut loaded, mut overrides) = (load(overrides, Purpose::Start)?, overrides.clone());
    let Server { identity, umask, chdir, .. } = loaded.config.server.clone();
    if identity.is_some() && !sys::may_change_identity() {
        return Err(RunError::NotRoot);
    }
    if let Some(bits) = umask {
        sys::set_umask(bits);
    }
    if let Some(directory) = chdir {
        // Relative paths on the command line start where it was typed.
        overrides = overrides.absolute().map_err(|source| RunError::system("find the working directory", source))?;
        loaded = load(&overrides, Purpose::Start)?;
        sys::change_directory(&directory).map_err(|source| RunError::Directory { path: directory, source })?;
    }
    Ok((loaded, overrides))
}

fn check(overrides: &Overrides) -> Result<(), RunError> {
    let held = sys::reserve_worker_descriptors().map_err(|source| RunError::system("open /dev/null", source))?;
    let loaded = load(overrides, Purpose::Check)?;
    // What the manifest says of logs is for a server.
    let logs = start_logs(&config::Log { level: loaded.config.log.level, ..config::Log::default() })?;
    let (mut app, worker_binary) = prepare(loaded, None)?;
    let kinds = check::load_components(&mut app, &worker_binary).map_err(RunError::Check)?;
    drop((held, logs));
    // A closed standard output leaves the exit code.
    let told = format!("{}\n{}", check::describe(&app, &kinds), Footprint::of(app.config()));
    let _ = io::stdout().write_all(told.as_bytes());
    if app.diagnostics().has_errors(Purpose::Check) {
        return Err(RunError::manifest(app.diagnostics().clone(), Purpose::Check));
    }
    let warnings = app.diagnostics().render(Purpose::Check, io::stderr().is_terminal());
    let _ = io::stderr().write_all(warnings.as_bytes());
    Ok(())
}

fn control(order: &Order) -> Result<(), RunError> {
    let is_terminal = io::stdout().is_terminal();
    let look = Look {
        columns: sys::terminal_columns().filter(|_| is_terminal).unwrap_or(Look::PLAIN.columns),
        // https://no-color.org
        colour: is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let outcome = client::carry_out(order, look).map_err(|error| {
        if order.json {
            // Who reads JSON reads why there is none of the server's, too.
            let _ = io::stdout().write_all(Reply::failed(chain(&error)).to_line().as_bytes());
        }
        RunError::Control(error)
    })?;
    // A closed standard output leaves the exit code.
    let _ = io::stdout().write_all(outcome.text.as_bytes());
    outcome.refused.map_or(Ok(()), |reason| Err(RunError::Refused { reason }))
}

fn load(overrides: &Overrides, purpose: Purpose) -> Result<Loaded, RunError> {
    config::load(overrides).map_err(|diagnostics| RunError::manifest(diagnostics, purpose))
}

/// The manifest's level holds for everything; `RUST_LOG` can say more or less for a part.
fn start_logs(config: &config::Log) -> Result<Logs, RunError> {
    Logs::start(config, std::env::var("RUST_LOG").ok()).map_err(RunError::Logs)
}

/// `program` is the path by which this program was started, if it matters.
fn prepare(loaded: Loaded, program: Option<&Path>) -> Result<(App, PathBuf), RunError> {
    let worker_binary = match &loaded.config.worker_bin {
        Some(path) => path.clone(),
        None => beside_this_program("rusmd-worker", program)?,
    };
    let sources = loaded.config.components.iter().map(|component| component.source.clone()).collect();
    let artifacts = compile::compile(&worker_binary, &loaded.config.server.cache_dir, sources)?;
    Ok((App::new(loaded, artifacts), worker_binary))
}

/// Beside this program's own file first, whatever links lead to it: after a link was switched, its new place has the worker of another release,
/// which is its successor's.
fn beside_this_program(name: &str, program: Option<&Path>) -> Result<PathBuf, RunError> {
    let here = std::env::current_exe().map_err(|source| RunError::system("find this program's file", source))?;
    let path = here.with_file_name(name);
    let places = std::iter::once(path.clone()).chain(program.map(|program| program.with_file_name(name)));
    places.into_iter().find(|path| path.is_file()).ok_or(RunError::NoWorkerBinary { path })
}

/// Listens on every address of the manifest, for clients and for administrators, on inherited sockets where there are any.
///
/// # Errors
///
/// An address cannot be bound; or a service manager has opened a socket that is not in the manifest. One of a predecessor that is not in
/// it any more is let go.
fn bind_all(
    config: &Config,
    inherited: &mut Inherited,
    is_successor: bool,
) -> Result<(Vec<Bound>, Vec<Bound>), RunError> {
    let wanted = bind::wanted(config)?;
    let mut sockets: Vec<Option<bind::Socket>> = wanted.iter().map(|_| None).collect();
    // A listener that takes any port must not get the socket of one that wants this port.
    for any_port in [false, true] {
        for (wanted, socket) in wanted.iter().zip(&mut sockets) {
            if matches!(wanted.address, Address::Tcp(address) if address.port() == 0) == any_port {
                *socket = inherited.take(&wanted.address);
            }
        }
    }
    let admin = bind::admin(config, |address| inherited.take(address))?;
    if !is_successor {
        inherited.left_over().map_err(RunError::Inherited)?;
    }
    let bound = wanted.into_iter().zip(sockets).map(|(wanted, socket)| bind::bind(wanted, socket));
    Ok((bound.collect::<Result<_, _>>()?, admin))
}

/// Why rusmd ends with a failure.
#[derive(Debug)]
enum RunError {
    Manifest {
        findings: Box<Diagnostics>,
        purpose: Purpose,
    },
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
    Bind(BindError),
    System {
        what: &'static str,
        source: io::Error,
    },
    Reactor(ReactorError),
    Check(check::CheckError),
    /// `rusmd ctl` has had no answer.
    Control(ClientError),
    /// The server has said no.
    Refused {
        reason: String,
    },
}

impl RunError {
    fn manifest(findings: Diagnostics, purpose: Purpose) -> RunError {
        RunError::Manifest { findings: Box::new(findings), purpose }
    }

    /// All that is to be told, with the next step.
    fn to_text(&self, is_styled: bool) -> String {
        match self {
            RunError::Manifest { findings, purpose } => findings.render(*purpose, is_styled),
            error => error.to_string(),
        }
    }

    fn system(what: &'static str, source: io::Error) -> RunError {
        RunError::System { what, source }
    }

    fn failure(&self) -> Failure {
        match self {
            RunError::Manifest { .. } => Failure::Config,
            RunError::NoWorkerBinary { .. }
            | RunError::NotRoot
            | RunError::Directory { .. }
            | RunError::Inherited(_)
            | RunError::Logs(_)
            | RunError::Pidfile(_)
            | RunError::Compile(_)
            | RunError::Bind(_)
            | RunError::System { .. }
            | RunError::Reactor(_)
            | RunError::Check(_)
            | RunError::Control(_)
            | RunError::Refused { .. } => Failure::Runtime,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            RunError::NoWorkerBinary { .. } => Some("install rusmd-worker beside rusmd, or name it with --worker-bin"),
            RunError::Compile(CompileError::NotRun { .. }) => Some("--worker-bin names the program rusmd-worker"),
            RunError::Bind(error) => error.hint(),
            RunError::NotRoot => {
                Some("start rusmd as root, or leave `user` and `group` out: workers then are who rusmd is")
            }
            RunError::Inherited(InheritedError::Unmatched { .. }) => {
                Some("the address in `listen` must be the socket's to the letter: one for [::] is not one for 0.0.0.0")
            }
            RunError::Pidfile(PidfileError::Held { .. }) => Some("stop that one first, or name another pidfile"),
            RunError::Control(error) => error.hint(),
            RunError::Manifest { .. }
            | RunError::Refused { .. }
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
            RunError::Manifest { findings, purpose } => return f.write_str(&findings.render(*purpose, false)),
            RunError::NoWorkerBinary { path } => write!(f, "error: there is no {}", path.display())?,
            RunError::NotRoot => f.write_str("error: only root can run workers as another user or group")?,
            RunError::Directory { path, source } => write!(f, "error: cannot go to {}: {source}", path.display())?,
            RunError::Inherited(error) => write!(f, "error: {}", chain(error))?,
            RunError::Pidfile(error) => write!(f, "error: {}", chain(error))?,
            RunError::Logs(error) => write!(f, "error: {}", chain(error))?,
            RunError::Compile(error) => write!(f, "error: {}", chain(error))?,
            RunError::Bind(error) => write!(f, "error: {}", chain(error))?,
            RunError::System { what, source } => write!(f, "error: cannot {what}: {source}")?,
            RunError::Reactor(error) => write!(f, "error: {}", chain(error))?,
            RunError::Check(error) => write!(f, "error: {}", chain(error))?,
            RunError::Control(error) => write!(f, "error: {}", chain(error))?,
            RunError::Refused { reason } => write!(f, "error: {reason}")?,
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

impl From<BindError> for RunError {
    fn from(error: BindError) -> RunError {
        RunError::Bind(error)
    }
}

impl From<ReactorError> for RunError {
    fn from(error: ReactorError) -> RunError {
        RunError::Reactor(error)
    }
}
