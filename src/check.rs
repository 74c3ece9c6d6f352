//! `rusmd check`: has one worker load every component, and describes what a server with this manifest would do.

use std::fmt;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use rusmd_proto::{ComponentInfo, ComponentKind, FrameBuffer, ToSupervisor, ToWorker};

use crate::app::{App, WrongComponents};
use crate::config::{ComponentRef, RouteTarget, Target};
use crate::pool::START_TIMEOUT;
use crate::sys::{self, SpawnError};

/// How long one wait for the worker's bytes may take.
const READ_TIMEOUT: Duration = START_TIMEOUT;

/// What kind each component is, in words, by its place on the wire.
pub type Kinds = Vec<String>;

/// Starts a worker, lets it load the components, and takes in what it found.
///
/// # Errors
///
/// There is no usable worker.
pub fn load_components(app: &mut App, worker_binary: &Path) -> Result<Kinds, CheckError> {
    let spawned = sys::spawn_template(worker_binary).map_err(CheckError::Spawn)?;
    let mut link = spawned.ends.link;
    link.set_nonblocking(false).and_then(|()| link.set_read_timeout(Some(READ_TIMEOUT))).map_err(CheckError::Link)?;
    let mut hello = Vec::new();
    ToWorker::Hello(app.hello(&[])).encode(&mut hello).map_err(|error| CheckError::Protocol(error.to_string()))?;
    link.write_all(&hello).map_err(CheckError::Link)?;
    let kinds = await_ready(app, &mut link);
    // The end of its link ends a worker; it is reaped by init once this process is gone.
    drop(link);
    kinds
}

fn await_ready(app: &mut App, link: &mut impl io::Read) -> Result<Kinds, CheckError> {
    let mut buffer = FrameBuffer::default();
    let mut scratch = vec![0; 1 << 16];
    loop {
        if let Some(frame) = buffer.peek().map_err(|error| CheckError::Protocol(error.to_string()))? {
            let header = frame.header;
            match ToSupervisor::decode(&frame).map_err(|error| CheckError::Protocol(error.to_string()))? {
                ToSupervisor::Ready(ready) if ready.build != rusmd_proto::BUILD => {
                    return Err(CheckError::OtherBuild(ready.build.to_owned()));
                }
                ToSupervisor::Ready(ready) => {
                    app.settle(&ready, &[])
                        .map_err(|WrongComponents| CheckError::Protocol("an unexpected list".to_owned()))?;
                    return Ok(ready.components.iter().map(kind).collect());
                }
                ToSupervisor::Refused(refused) => return Err(CheckError::Refused(refused.message.to_owned())),
                _ => {}
            }
            buffer.consume(header);
            continue;
        }
        match link.read(&mut scratch).map_err(CheckError::Link)? {
            0 => return Err(CheckError::Link(io::ErrorKind::UnexpectedEof.into())),
            count => buffer.extend(&scratch[..count]),
        }
    }
}

fn kind(info: &ComponentInfo<'_>) -> String {
    match &info.kind {
        ComponentKind::Handlers(actions) => format!("handlers: {}", actions.join(", ")),
        ComponentKind::WasiHttp02 => "wasi:http 0.2".to_owned(),
        ComponentKind::WasiHttp03 => "wasi:http 0.3".to_owned(),
        ComponentKind::Unloadable(_) => "cannot be loaded".to_owned(),
    }
}

/// The components and the route table, as text.
pub fn describe(app: &App, kinds: &Kinds) -> String {
    let mut text = String::new();
    let config = app.config();
    for (index, component) in config.components.iter().enumerate() {
        let kind = app.place_of(index).and_then(|place| kinds.get(usize::from(place)));
        let kind = kind.map_or("cannot be compiled", String::as_str);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "component {:<20} {kind}", component.name);
    }
    for serve in &config.serves {
        let marks = [(serve.tls.is_some(), " (TLS)"), (serve.proxy_protocol, " (PROXY protocol)")];
        let marks: String = marks.into_iter().filter(|(is_on, _)| *is_on).map(|(_, mark)| mark).collect();
        let _ = writeln!(text, "\nlisten {}{marks}", serve.listen);
        let name = |component: &ComponentRef| match component {
            ComponentRef::Registered(index) => {
                config.components.get(index.index()).map_or_else(String::new, |component| component.name.clone())
            }
            ComponentRef::Unregistered(name) => format!("{name} (not there)"),
        };
        match &serve.target {
            Target::Component(component) => {
                let _ = writeln!(text, "  {:<8}{:<32}{}", "any", "/*", name(component));
            }
            Target::Routes(routes) => {
                for route in &routes.list {
                    let method = route.method.as_deref().unwrap_or("any");
                    let target = match &route.target {
                        RouteTarget::Component { component, action: None } => name(component),
                        RouteTarget::Component { component, action: Some(action) } => {
                            format!("{}#{action}", name(component))
                        }
                        RouteTarget::Directory(directory) => format!("dir:{}", directory.name),
                    };
                    let _ = writeln!(text, "  {method:<8}{:<32}{target}", route.pattern);
                }
            }
        }
    }
    text
}

/// The components could not be examined.
#[derive(Debug)]
pub enum CheckError {
    Spawn(SpawnError),
    Link(io::Error),
    Protocol(String),
    Refused(String),
    /// The worker belongs to another build of rusmd.
    OtherBuild(String),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::Spawn(_) => f.write_str("cannot load the components"),
            CheckError::Link(_) => f.write_str("the worker ended while it loaded the components"),
            CheckError::Protocol(reason) => write!(f, "the worker answered with {reason}"),
            CheckError::Refused(reason) => write!(f, "the worker cannot serve: {reason}"),
            CheckError::OtherBuild(theirs) => {
                write!(f, "the worker is of build {theirs:?}, and this is {}", rusmd_proto::BUILD)
            }
        }
    }
}

impl std::error::Error for CheckError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CheckError::Spawn(error) => Some(error),
            CheckError::Link(error) => Some(error),
            CheckError::Protocol(_) | CheckError::Refused(_) | CheckError::OtherBuild(_) => None,
        }
    }
}
