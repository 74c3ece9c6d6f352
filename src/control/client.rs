//! The other side of the control socket: `rusmd ctl` finds the server of a manifest, tells it one command, and shows what it says.
//!
//! Blocks, with limits; it is a process of its own. `run` drives it.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::command::{Command, Reply};
use super::place::{User, default_places, with_this_user};
use super::render::{self, Look};
use crate::config::{self, Control};

/// How long the server may take to accept the connection and to take the command.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long it may take to answer what it can answer at once.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// How long it may take to compile components, start workers or start another supervisor.
const VERDICT_MAX: Duration = Duration::from_secs(15 * 60);

/// Most bytes of a reply.
const REPLY_BYTES_MAX: u64 = 64 << 20;

/// One use of `rusmd ctl`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Whose server is meant.
    pub manifest: PathBuf,
    /// The server's socket, whatever the manifest says.
    pub socket: Option<PathBuf>,
    pub command: Command,
    /// Show the server's reply as it is.
    pub json: bool,
}

/// What the server said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What belongs on the standard output.
    pub text: String,
    /// Why the command was not carried out.
    pub refused: Option<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    NotRunning {
        manifest: PathBuf,
        /// What is wrong with the manifest, if that may be the reason.
        unread: bool,
    },
    /// Nobody listens at the socket that was named.
    NobodyAt {
        path: PathBuf,
    },
    /// The manifest wants no control socket.
    Off {
        manifest: PathBuf,
    },
    Connect {
        path: PathBuf,
        source: io::Error,
    },
    Silent {
        path: PathBuf,
        source: io::Error,
    },
    /// The connection ended before the reply did.
    CutOff {
        path: PathBuf,
    },
    /// The reply is not one that this version knows.
    Foreign {
        path: PathBuf,
    },
}

/// Carries the order to the server.
///
/// # Errors
///
/// There is no server, or no answer. A server's refusal is an [`Outcome`].
pub fn carry_out(order: &Order, look: Look) -> Result<Outcome, ClientError> {
    let (path, mut stream) = connect(order)?;
    let silent = |source| ClientError::Silent { path: path.clone(), source };
    let patience = match order.command {
        Command::Status | Command::Workers | Command::Stop | Command::StopNow | Command::Reopen => ANSWER_MAX,
        Command::Reload | Command::Scale(_) | Command::Upgrade => VERDICT_MAX,
    };
    stream.set_read_timeout(Some(patience)).map_err(silent)?;
    // A server that turns an operator away does not wait for the command; what it says is worth more than the failure.
    let _ = stream.write_all(format!("{}\n", order.command).as_bytes());
    let mut line = String::new();
    match BufReader::new(stream).take(REPLY_BYTES_MAX).read_line(&mut line) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(ClientError::Foreign { path }),
        read => read.map_err(silent)?,
    };
    if !line.ends_with('\n') {
        return Err(ClientError::CutOff { path });
    }
    show(order, &line, look).ok_or(ClientError::Foreign { path })
}

/// What to print for a reply. `None` when it is none.
fn show(order: &Order, line: &str, look: Look) -> Option<Outcome> {
    /// All that is needed of a reply to pass it on.
    #[derive(serde::Deserialize)]
    struct Verdict {
        ok: bool,
        error: Option<String>,
    }
    let verdict: Verdict = serde_json::from_str(line).ok()?;
    let refused = (!verdict.ok).then(|| verdict.error.unwrap_or_else(|| "no reason given".to_owned()));
    if order.json {
        return Some(Outcome { text: line.to_owned(), refused });
    }
    let reply: Reply = serde_json::from_str(line).ok()?;
    let text = match (reply.status, reply.workers, reply.message) {
        (Some(status), _, _) => render::status(&status, look),
        (_, Some(workers), _) => render::workers(&workers, look),
        (_, _, Some(message)) => format!("{message}\n"),
        (None, None, None) => String::new(),
    };
    Some(Outcome { text, refused })
}

fn connect(order: &Order) -> Result<(PathBuf, Socket), ClientError> {
    let not_running = |unread| ClientError::NotRunning { manifest: order.manifest.clone(), unread };
    let (candidates, unread) = candidates(order)?;
    for path in candidates {
        match connect_to(&path) {
            Ok(stream) => return Ok((path, stream)),
            // Nobody has it open: a server that was killed left it behind, or none has ever made it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            Err(source) => return Err(ClientError::Connect { path, source }),
        }
    }
    match &order.socket {
        Some(path) => Err(ClientError::NobodyAt { path: path.clone() }),
        None => Err(not_running(unread)),
    }
}

/// Where the server's socket may be, and whether the manifest could not be asked.
fn candidates(order: &Order) -> Result<(Vec<PathBuf>, bool), ClientError> {
    if let Some(path) = &order.socket {
        return Ok((vec![path.clone()], false));
    }
    match config::load_control(&order.manifest) {
        Ok(Control::At(path)) => Ok((vec![path], false)),
        Ok(Control::Off) => Err(ClientError::Off { manifest: order.manifest.clone() }),
        Ok(Control::Default) => Ok((default_candidates(&order.manifest), false)),
        Err(_) => Ok((default_candidates(&order.manifest), true)),
    }
}

/// The places of this user's server, and then of root's, to be able to say that only root may speak to it.
fn default_candidates(manifest: &Path) -> Vec<PathBuf> {
    with_this_user(|user| {
        let users = [user, User { uid: 0, runtime_directory: None }];
        let places = users.into_iter().flat_map(|user| default_places(manifest, user).unwrap_or_default());
        places.filter(|place| place.check(user.uid).is_ok()).map(|place| place.path()).collect()
    })
}

/// The send timeout bounds the connect, too (socket(7)): a Unix socket whose backlog is full would else be waited for without end.
fn connect_to(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(CONNECT_MAX))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

impl ClientError {
    /// The next step.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ClientError::NotRunning { unread: true, .. } => {
                Some("the manifest cannot be read, and so its `control` is not known; --socket PATH names a socket")
            }
            ClientError::NotRunning { unread: false, .. } => {
                Some("--config FILE names the manifest of another server, --socket PATH its socket")
            }
            ClientError::NobodyAt { .. } => Some("without --socket, the socket is that of the manifest"),
            ClientError::Off { .. } => Some("remove `control = \"\"` from [server], or use signals"),
            ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("only root and the user of the server may control it")
            }
            ClientError::Foreign { .. } => Some("the server may be of another version; --json shows its reply"),
            ClientError::Connect { .. } | ClientError::Silent { .. } | ClientError::CutOff { .. } => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NotRunning { manifest, .. } => write!(f, "no server runs for {}", manifest.display()),
            ClientError::NobodyAt { path } => write!(f, "no server listens at {}", path.display()),
            ClientError::Off { manifest } => write!(f, "the server of {} has no control socket", manifest.display()),
            ClientError::Connect { path, .. } => write!(f, "cannot connect to {}", path.display()),
            ClientError::Silent { path, .. } => write!(f, "no answer from {}", path.display()),
            ClientError::CutOff { path } => {
                write!(f, "{} closed the connection before it had answered", path.display())
            }
            ClientError::Foreign { path } => write!(f, "the answer from {} makes no sense", path.display()),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Connect { source, .. } | ClientError::Silent { source, .. } => Some(source),
            ClientError::NotRunning { .. }
            | ClientError::NobodyAt { .. }
            | ClientError::Off { .. }
            | ClientError::CutOff { .. }
            | ClientError::Foreign { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::scratch::Scratch;
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    /// A server that gives this answer to one command, and says what the command was.
    fn serve(scratch: &Scratch, answer: String) -> (Order, JoinHandle<String>) {
        let path = scratch.join("a.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("connected");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a command");
            (&stream).write_all(answer.as_bytes()).expect("answered");
            line
        });
        let manifest = scratch.join("rusm.toml");
        (Order { manifest, socket: Some(path), command: Command::Scale(3), json: false }, server)
    }

    #[test]
    fn a_command_is_said_and_its_answer_shown() {
        let scratch = Scratch::new();
        let (order, server) = serve(&scratch, Reply::done("3 workers").to_line());
        let outcome = carry_out(&order, Look::PLAIN).expect("an answer");
        assert_eq!(outcome, Outcome { text: "3 workers\n".to_owned(), refused: None });
        assert_eq!(server.join().expect("served"), "scale 3\n");
    }

    #[test]
    fn a_refusal_is_told_in_words_and_as_json() {
        for json in [false, true] {
            let scratch = Scratch::new();
            let line = Reply::failed("no memory").to_line();
            let (order, server) = serve(&scratch, line.clone());
            let outcome = carry_out(&Order { json, ..order }, Look::PLAIN).expect("an answer");
            assert_eq!(outcome.refused.as_deref(), Some("no memory"));
            assert_eq!(outcome.text, if json { line } else { String::new() });
            server.join().expect("served");
        }
    }

    #[test]
    fn a_status_is_rendered_or_passed_on_as_it_is() {
        let scratch = Scratch::new();
        let line = Reply::status(sample::status()).to_line();
        let (order, server) = serve(&scratch, line.clone());
        let outcome = carry_out(&order, Look::PLAIN).expect("an answer");
        assert_eq!(outcome.text, render::status(&sample::status(), Look::PLAIN));
        server.join().expect("served");
        let json = Order { json: true, ..order };
        assert_eq!(show(&json, &line, Look::PLAIN).expect("JSON").text, line);
        let news = "{\"ok\":true,\"status\":{\"state\":\"dreaming\"}}\n";
        assert!(show(&json, news, Look::PLAIN).is_some(), "what a later version says is passed on");
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        let answers = ["hello\n", "{\"ok\":true", "{}\n", "{\"ok\":true,\"status\":{\"state\":\"dreaming\"}}\n", ""];
        for answer in answers {
            let scratch = Scratch::new();
            let (order, server) = serve(&scratch, answer.to_owned());
            let error = carry_out(&order, Look::PLAIN).expect_err("an error");
            assert_eq!(matches!(error, ClientError::CutOff { .. }), !answer.ends_with('\n'), "{answer}: {error}");
            server.join().expect("served");
        }
    }

    #[test]
    fn without_a_server_the_error_says_what_to_do() {
        let scratch = Scratch::new();
        let manifest = scratch.join("rusm.toml");
        let order = Order { manifest: manifest.clone(), socket: None, command: Command::Status, json: false };
        let told = |manifest_text: &str| {
            std::fs::write(&manifest, manifest_text).expect("written");
            let error = carry_out(&order, Look::PLAIN).expect_err("an error");
            (error.to_string(), error.hint().unwrap_or_default().to_owned())
        };
        let (error, hint) = told("");
        assert_eq!(error, format!("no server runs for {}", manifest.display()));
        assert!(hint.starts_with("--config FILE"), "{hint}");
        assert!(told("[[").1.contains("cannot be read"));
        assert!(told("[server]\ncontrol = ''").0.ends_with("has no control socket"));
        assert_eq!(told("[server]\ncontrol = 'a.sock'").0, error);
        let stale = scratch.join("a.sock");
        drop(UnixListener::bind(&stale).expect("bound"));
        assert_eq!(told("[server]\ncontrol = 'a.sock'").0, error, "a killed server has left its socket");
        assert!(told("[server]\ncontrol = 'rusm.toml'").0.starts_with("no server runs"), "a file is not a server");
    }
}
