//! Loading: from an artifact in the cache to something that can be instantiated at once.
//!
//! Owns the mapping of native code and the linking of imports, once for each component and before the first fork. No code of a
//! component runs here. A component that cannot be loaded takes nobody else down.

use std::fmt;

use rusmd_proto::{ComponentSpec, Network};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::cache::one_line;
use crate::engine::{self, Flavor};
use crate::host::handlers::{self, Handlers};
use crate::host::hooks::Reach;
use crate::host::{Grants, Guest, Preopen, wasi_http};
use crate::sandbox;
use crate::sys::signals;

/// A component and what it may use.
#[derive(Debug)]
pub struct Loaded {
    pub name: String,
    pub grants: Grants,
    pub program: Program,
}

/// What a component turned out to be.
pub enum Program {
    /// `actions` is `None` until the component has been asked.
    Handlers {
        engine: Engine,
        handlers: Handlers,
        actions: Option<Vec<String>>,
    },
    Http02 {
        engine: Engine,
        pre: ProxyPre<Guest>,
    },
    Http03 {
        engine: Engine,
        pre: ServicePre<Guest>,
    },
    Unloadable(String),
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Handlers { actions, .. } => f.debug_tuple("Handlers").field(actions).finish(),
            Program::Http02 { .. } => f.write_str("Http02"),
            Program::Http03 { .. } => f.write_str("Http03"),
            Program::Unloadable(reason) => f.debug_tuple("Unloadable").field(reason).finish(),
        }
    }
}

/// The engines and linkers that loading needs, each made when the first component asks for it.
pub struct Loader {
    memory_bytes_max: u64,
    plain: Option<(Engine, Linker<Guest>)>,
    concurrent: Option<(Engine, Linker<Guest>)>,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("memory_bytes_max", &self.memory_bytes_max).finish_non_exhaustive()
    }
}

impl Loader {
    pub fn new(specs: &[ComponentSpec<'_>]) -> Loader {
        let memory_bytes_max = specs.iter().map(|spec| spec.memory_bytes_max).max().unwrap_or(0);
        Loader { memory_bytes_max, plain: None, concurrent: None }
    }

    /// Loads one component. What is wrong with it becomes part of the result.
    pub fn load(&mut self, spec: &ComponentSpec<'_>) -> Loaded {
        let grants = Grants {
            memory_bytes_max: spec.memory_bytes_max,
            env: spec.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            preopens: spec
                .preopens
                .iter()
                .map(|preopen| Preopen {
                    host: sandbox::directory(preopen.host),
                    guest: preopen.guest.to_owned(),
                    writable: preopen.writable,
                })
                .collect(),
            reach: match &spec.network {
                Network::Denied => Reach::Nowhere,
                Network::Any => Reach::Anywhere,
                Network::Hosts(hosts) => Reach::Hosts(hosts.iter().map(|host| host.to_ascii_lowercase()).collect()),
            },
        };
        let program = self.program(spec.artifact).unwrap_or_else(Program::Unloadable);
        Loaded { name: spec.name.to_owned(), grants, program }
    }

    fn program(&mut self, artifact: &str) -> Result<Program, String> {
        let Some(flavor) = Flavor::of_artifact(artifact) else {
            return Err(format!("{artifact} is no file that `rusmd-worker compile` made"));
        };
        let (engine, linker) = self.parts(flavor).map_err(|error| one_line(&error))?;
        let component = map(engine, artifact).map_err(|error| load_message(&error))?;
        let exports: Vec<String> =
            component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect();
        let export = |prefix: &str| exports.iter().find(|name| name.starts_with(prefix));
        let pre = linker.instantiate_pre(&component).map_err(|error| link_message(&error))?;
        if let Some(export) = export(handlers::HANDLER) {
            let handlers = Handlers::find(&component, export, pre).map_err(|error| one_line(&error))?;
            Ok(Program::Handlers { engine: engine.clone(), handlers, actions: None })
        } else if export(wasi_http::INCOMING_HANDLER_02).is_some() {
            let pre = ProxyPre::new(pre).map_err(|error| one_line(&error))?;
            Ok(Program::Http02 { engine: engine.clone(), pre })
        } else if export(wasi_http::HANDLER_03).is_some() {
            if flavor == Flavor::Plain {
                return Err("it exports wasi:http/handler, but was compiled without async".to_owned());
            }
            let pre = ServicePre::new(pre).map_err(|error| one_line(&error))?;
            Ok(Program::Http03 { engine: engine.clone(), pre })
        } else {
            Err(no_handler_message(&exports))
        }
    }

    fn parts(&mut self, flavor: Flavor) -> wasmtime::Result<&(Engine, Linker<Guest>)> {
        let slot = match flavor {
            Flavor::Plain => &mut self.plain,
            Flavor::Concurrent => &mut self.concurrent,
        };
        match slot {
            Some(parts) => Ok(parts),
            None => {
                let engine = engine::runtime(flavor, self.memory_bytes_max)?;
                let linker = linker(&engine, flavor)?;
                signals::watch_engine(engine.clone()).map_err(wasmtime::Error::msg)?;
                Ok(slot.insert((engine, linker)))
            }
        }
    }
}

fn linker(engine: &Engine, flavor: Flavor) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    handlers::add_to_linker(&mut linker)?;
    if flavor == Flavor::Concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}

#[allow(unsafe_code, reason = "mapping native code has no safe interface")]
fn map(engine: &Engine, artifact: &str) -> wasmtime::Result<Component> {
    // SAFETY: the path comes from the supervisor, which got it from `rusmd-worker compile`: a file that wasmtime wrote, whole
    // by its hash at that time, replaced only by renaming, in a directory that this user alone can write. wasmtime itself
    // checks that version, settings and processor are those that it was compiled for.
    unsafe { Component::deserialize_file(engine, artifact) }
}

/// Says what to do about an artifact that this build cannot run.
fn load_message(error: &wasmtime::Error) -> String {
    let reason = one_line(error);
    if reason.contains("memory index") || reason.contains("minimum byte size") {
        return format!("it needs more memory at its start than `max-memory-mb` allows: {reason}");
    }
    format!("cannot be loaded: {reason}")
}

/// Names the import that nothing satisfies.
fn link_message(error: &wasmtime::Error) -> String {
    format!("cannot be linked: {}", one_line(error))
}

fn no_handler_message(exports: &[String]) -> String {
    let exported = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
    format!(
        "it exports {exported}; to be served, a component exports rusm:http/handler (written with \
         #[rusm_rs::handlers]), wasi:http/incoming-handler (0.2) or wasi:http/handler (0.3)"
    )
}
