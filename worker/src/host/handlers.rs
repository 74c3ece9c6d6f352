//! The `rusm:http` world: components written with `#[rusm_rs::handlers]`.
//!
//! Owns the host's side of `proto/wit/rusm-http.wit`: the types as they cross the boundary, the `log` import, the calls of
//! the two exports. Strings and bytes of a request are lent to the guest straight from the frame they came in.
#![allow(unsafe_code, reason = "the derives of wasmtime's component types expand to unsafe implementations")]

use rusmd_proto::limits::{ACTION_BYTES_MAX, ACTIONS_MAX};
use rusmd_proto::{Header, LogLevel, RequestHead, RequestId, Scheme};
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower, TypedFunc,
};
use wasmtime::{Store, StoreContextMut};

use crate::host::Guest;
use crate::reply::Answer;

/// What the export's name begins with, whatever its patch version.
pub const HANDLER: &str = "rusm:http/handler@0.1.";

const TYPES: &str = "rusm:http/types@0.1.0";
const LOG: &str = "rusm:http/log@0.1.0";

/// The field by which the supervisor says what everybody calls a request: PROTOCOL.md.
const REQUEST_ID: &str = "x-request-id";

/// A loaded handlers component.
pub struct Handlers {
    pre: InstancePre<Guest>,
    actions: ComponentExportIndex,
    handle: ComponentExportIndex,
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").finish_non_exhaustive()
    }
}

type Handle<'a> = TypedFunc<(&'a str, &'a [(&'a str, &'a str)], Request<'a>), (Response,)>;

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
struct Request<'a> {
    id: &'a str,
    method: &'a str,
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a [Header<'a>],
    body: &'a [u8],
    peer: Option<&'a str>,
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

#[derive(ComponentType, Lift, Lower, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
    #[component(name = "trace")]
    Trace,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> LogLevel {
        match level {
            Level::Error => LogLevel::Error,
            Level::Warn => LogLevel::Warn,
            Level::Info => LogLevel::Info,
            Level::Debug => LogLevel::Debug,
            Level::Trace => LogLevel::Trace,
        }
    }
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Level {
        match level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug => Level::Debug,
            LogLevel::Trace => Level::Trace,
        }
    }
}

/// Defines what the world imports beside WASI.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance(TYPES)?;
    let mut log = linker.instance(LOG)?;
    log.func_wrap("log", |store: StoreContextMut<'_, Guest>, (level, target, message): (Level, String, String)| {
        store.data().log.line(level.into(), &target, &message);
        Ok(())
    })?;
    log.func_wrap("max-level", |store: StoreContextMut<'_, Guest>, (): ()| {
        Ok((store.data().log.shown().map(Level::from),))
    })
}

impl Handlers {
    /// Finds the exports.
    pub fn find(component: &Component, export: &str, pre: InstancePre<Guest>) -> wasmtime::Result<Handlers> {
        let interface = component.get_export_index(None, export);
        let find = |name: &str| {
            component
                .get_export_index(interface.as_ref(), name)
                .ok_or_else(|| wasmtime::format_err!("{export} has no function `{name}`"))
        };
        Ok(Handlers { actions: find("actions")?, handle: find("handle")?, pre })
    }

    /// Checks the types of the exports, on an instance that serves nothing else, and asks for the actions.
    pub async fn ask(&self, mut store: Store<Guest>) -> wasmtime::Result<Vec<String>> {
        let instance = self.pre.instantiate_async(&mut store).await?;
        let actions: TypedFunc<(), (Vec<String>,)> = instance.get_typed_func(&mut store, self.actions)?;
        let _: Handle<'_> = instance.get_typed_func(&mut store, self.handle)?;
        let (actions,) = actions.call_async(&mut store, ()).await?;
        if actions.len() > ACTIONS_MAX {
            wasmtime::bail!("the component has {} actions, more than {ACTIONS_MAX}", actions.len());
        }
        if let Some(long) = actions.iter().find(|action| action.len() > ACTION_BYTES_MAX) {
            wasmtime::bail!("the name of an action has {} bytes, more than {ACTION_BYTES_MAX}", long.len());
        }
        Ok(actions)
    }

    /// Runs one action on a fresh instance.
    pub async fn handle(
        &self,
        store: &mut Store<Guest>,
        id: RequestId,
        action: &str,
        head: &RequestHead<'_>,
        body: &[u8],
    ) -> wasmtime::Result<Answer> {
        // What everybody else calls the request; its number is between supervisor and worker.
        let number = id.to_string();
        let name = head.headers.iter().find(|(name, _)| *name == REQUEST_ID).map(|(_, value)| *value);
        let id = name.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or(&number);
        let peer = head.peer.map(|peer| peer.to_string());
        let request = Request {
            id,
            method: head.method,
            scheme: match head.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            },
            authority: head.authority,
            path: head.path,
            query: head.query,
            headers: &head.headers,
            body,
            peer: peer.as_deref(),
        };
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let handle: Handle<'_> = instance.get_typed_func(&mut *store, self.handle)?;
        let (response,) = handle.call_async(store, (action, &head.params, request)).await?;
        let Response { status, headers, body } = response;
        Ok(Answer::Whole { status, headers, body })
    }
}
