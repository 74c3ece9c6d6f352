//! A `rusmd` in the background: started by `--daemon`, by an init script, or with what a service manager hands over.
//!
//! Owns the scratch directory with its manifest, pidfile and log. The tests drive it; whatever they leave running is killed at the end.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;

use crate::client::{Client, Response};
use crate::manifest::Manifest;
use crate::paths::{self, Scratch};
use crate::process;
use crate::server::listening;
use crate::wait;

/// Runs a program with its standard input as descriptor 3, and says that it is for it, as a service manager does.
const HAND_OVER: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$@\"";

/// A place for a daemon, and the daemon that the pidfile there speaks of.
#[derive(Debug)]
pub struct Daemon {
    scratch: Scratch,
    listen: SocketAddr,
    /// Where it listens instead, if not there.
    elsewhere: Option<String>,
    manifest: Manifest,
    component: String,
    program: PathBuf,
}

impl Daemon {
    /// A place with a manifest of one component on a port that is free; its log is a file.
    pub fn new(component: &str) -> Daemon {
        let mut manifest = Manifest::new();
        manifest.add_component_listener(component);
        manifest.set_server("workers", "1");
        manifest.set_server("spare-workers", "0");
        manifest.set_log("file", "\"main.log\"");
        let (component, program) = (component.to_owned(), paths::binary("rusmd"));
        let daemon =
            Daemon { scratch: Scratch::new(), listen: free_address(), elsewhere: None, manifest, component, program };
        daemon.write()
    }

    /// A key of `[server]`, with its value in TOML.
    pub fn server(mut self, key: &str, value: &str) -> Daemon {
        self.manifest.set_server(key, value);
        self.write()
    }

    /// A key of `[log]`, with its value in TOML.
    pub fn log(mut self, key: &str, value: &str) -> Daemon {
        self.manifest.set_log(key, value);
        self.write()
    }

    /// A line of TOML for the listener added last.
    pub fn listener_line(mut self, toml: &str) -> Daemon {
        self.manifest.extend_listener(toml);
        self.write()
    }

    /// Has its first listener somewhere else than on a port.
    pub fn at(mut self, listen: &str) -> Daemon {
        self.elsewhere = Some(listen.to_owned());
        self.write()
    }

    /// Another listener, with the same component.
    pub fn also_at(mut self, listen: &str) -> Daemon {
        self.manifest.add_component_listener(&self.component);
        self.manifest.set_listen(listen);
        self.write()
    }

    /// A file beside the manifest.
    pub fn file(self, name: &str, contents: &str) -> Daemon {
        let path = self.scratch.write(name, contents);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        self
    }

    /// Gives it a program of its own, which can be replaced.
    #[track_caller]
    pub fn installed(mut self) -> Daemon {
        let worker = self.path("rusmd-worker");
        std::os::unix::fs::symlink(paths::binary("rusmd-worker"), worker).expect("a link can be made");
        let program = fs::read(&self.program).expect("the binary can be read");
        self.program = self.path("rusmd");
        self.replace_program(&program);
        self
    }

    /// Its program's file.
    pub fn program(&self) -> PathBuf {
        self.program.clone()
    }

    /// Puts another program in the place of the one that runs, as a package manager does: by a rename.
    #[track_caller]
    pub fn replace_program(&self, contents: &[u8]) {
        let (source, new) = (self.scratch.write("rusmd.source", contents), self.path("rusmd.new"));
        install(&source, &new);
        fs::rename(new, &self.program).expect("it can be renamed");
    }

    /// Gives it a component of its own, which can be replaced.
    #[track_caller]
    pub fn own_component(mut self) -> Daemon {
        fs::copy(paths::guest(&self.component), self.component()).expect("the component can be copied");
        self.manifest.set_source(&self.component, self.component());
        self.write()
    }

    /// The file of [`Daemon::own_component`].
    pub fn component(&self) -> PathBuf {
        self.path("own.wasm")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn manifest(&self) -> PathBuf {
        self.path("rusm.toml")
    }

    pub fn pidfile(&self) -> PathBuf {
        self.path("pid")
    }

    /// `rusmd` with its manifest and its pidfile.
    pub fn command(&self) -> Command {
        self.extend(Command::new(&self.program))
    }

    /// The same with more arguments, run by a shell that does something else before.
    pub fn command_in_shell(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(paths::binary("rusmd")).args(arguments);
        self.extend(command)
    }

    /// The same, with a listening socket handed over.
    pub fn command_with(&self, socket: impl Into<OwnedFd>) -> Command {
        let mut command = self.command_in_shell(HAND_OVER, &[]);
        command.stdin(Stdio::from(socket.into()));
        command
    }

    /// Starts it by `--daemon`. This returns when nobody holds the pipes to this process any more, so neither the daemon nor a worker does.
    #[track_caller]
    pub fn start(&self) -> Output {
        let output = run(self.command().arg("--daemon"));
        assert!(output.status.success(), "{}\n{}", printed(&output), self.read("main.log"));
        output
    }

    /// What the pidfile says.
    pub fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.pidfile()).ok()?.trim().parse().ok()
    }

    /// The pid of the daemon, which is serving.
    #[track_caller]
    pub fn running_pid(&self) -> i32 {
        self.pid().filter(|pid| process::is_alive(*pid)).expect("the pidfile has the pid of a live process")
    }

    pub fn is_running(&self) -> bool {
        self.pid().is_some_and(process::is_alive)
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        process::signal(self.running_pid(), signal);
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        let mut client = Client::connect(self.listen);
        client.get(path);
        client.response()
    }

    /// A file of the scratch directory as text; empty if it is not there.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// Waits until a file of the scratch directory has a line with all of these, and returns it.
    #[track_caller]
    pub fn wait_for_line(&self, name: &str, parts: &[&str]) -> String {
        self.wait_for_line_while(name, parts, || {})
    }

    /// As [`Daemon::wait_for_line`], doing something again and again meanwhile.
    #[track_caller]
    pub fn wait_for_line_while(&self, name: &str, parts: &[&str], mut meanwhile: impl FnMut()) -> String {
        let found = wait::poll(wait::SOON, || {
            meanwhile();
            let text = self.read(name);
            text.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        });
        found.unwrap_or_else(|| panic!("no line of {name} has all of {parts:?}:\n{}", self.read(name)))
    }

    /// Stops it by a signal, and checks that it leaves neither a process nor its pidfile behind.
    #[track_caller]
    pub fn stop_by(&self, signal: Signal) {
        let pid = self.running_pid();
        let all = family(pid);
        process::signal(pid, signal);
        wait_until_gone(&all);
        assert!(!self.pidfile().exists(), "the pidfile is left behind");
    }

    fn extend(&self, mut command: Command) -> Command {
        command.arg("--config").arg(self.manifest()).arg("--pidfile").arg(self.pidfile());
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    fn write(mut self) -> Daemon {
        let listen = self.elsewhere.clone().unwrap_or_else(|| self.listen.to_string());
        self.manifest.set_first_listen(&listen);
        self.scratch.write("rusm.toml", self.manifest.to_toml());
        self
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("main.log:\n{}", self.read("main.log"));
        }
        if let Some(pid) = self.pid().filter(|pid| process::is_named(*pid, "rusmd")) {
            for pid in family(pid) {
                process::signal(pid, Signal::SIGKILL);
            }
        }
    }
}

/// Makes a program of a file, in another process: a descriptor that writes to it here could be in a child of another test while it is to be run,
/// which is then "Text file busy" (execve(2)).
#[track_caller]
pub fn install(source: &Path, program: &Path) {
    let output = run(Command::new("install").args(["-m", "755"]).arg(source).arg(program));
    assert!(output.status.success(), "{}", printed(&output));
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    command.output().expect("it can be executed")
}

/// All that it has printed.
pub fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The addresses that a start says are served.
pub fn served(output: &Output) -> Vec<SocketAddr> {
    listening(&printed(output))
}

/// A process, its children, and theirs.
pub fn family(pid: i32) -> Vec<i32> {
    std::iter::once(pid).chain(process::children(pid).into_iter().flat_map(family)).collect()
}

#[track_caller]
pub fn wait_until_gone(pids: &[i32]) {
    wait::until("the processes are gone", || !pids.iter().any(|pid| process::is_alive(*pid)));
}

/// An address that nobody listens on. Somebody else could take it before it is used, which the system's order of ports makes unlikely.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    listener.local_addr().expect("it is bound")
}
