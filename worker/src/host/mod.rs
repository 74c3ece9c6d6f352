//! The host: what a guest finds around it, and how it is called.
//!
//! Owns the data of a store and the interfaces that guests import. May never touch the link; frames leave through the
//! outbox. `run` drives it.

pub mod handlers;
pub mod hooks;
pub mod limits;
pub mod load;
pub mod stdio;
pub mod wasi_http;

use std::fmt;
use std::path::PathBuf;

use rusmd_proto::limits::FAILURE_TEXT_BYTES_MAX;
use rusmd_proto::message::cut_text;
use rusmd_proto::{LogLevel, RequestId, StatusPage, ToSupervisor};
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::failure;
use crate::host::hooks::{Hooks, Reach};
use crate::host::limits::Limits;
use crate::host::stdio::{GuestLog, Stream};
use crate::link::Outbox;
use crate::sys::monotonic_ns;

/// Most resources (streams, bodies, sockets…) that one instance may hold at a time: some tens of bytes each. JavaScript engines leave one
/// behind for each 8 KiB of body.
const RESOURCES_MAX: usize = 1_000_000;

/// Most handles to them that the instance itself may hold.
const HANDLES_MAX: usize = 2_000_000;

/// What a component may use, as the manifest grants it.
#[derive(Debug)]
pub struct Grants {
    pub memory_bytes_max: u64,
    pub env: Vec<(String, String)>,
    pub preopens: Vec<Preopen>,
    pub reach: Reach,
}

/// A directory that a component may use.
#[derive(Debug)]
pub struct Preopen {
    pub host: PathBuf,
    pub guest: String,
    pub writable: bool,
}

/// What every store of this process needs beside the grants.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub status: &'static StatusPage,
    pub outbox: Outbox,
    pub log_level: Option<LogLevel>,
}

/// The data of a store: the host's side of one instance.
pub struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    limits: Limits,
    pub log: GuestLog,
    id: RequestId,
    /// Its code has had control. One that serves no request is not asked.
    has_started: bool,
    status: &'static StatusPage,
    outbox: Outbox,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("id", &self.id).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// A fresh store for one request, with everything that the component was granted and nothing else.
pub fn new_store(
    engine: &Engine,
    grants: &Grants,
    surroundings: &Surroundings,
    id: RequestId,
) -> wasmtime::Result<Store<Guest>> {
    let log = GuestLog::new(id, surroundings.log_level, surroundings.outbox.clone());
    let mut wasi = WasiCtx::builder();
    wasi.stdout(log.stream(Stream::Stdout)).stderr(log.stream(Stream::Stderr)).envs(&grants.env);
    for preopen in &grants.preopens {
        let permissions = if preopen.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(&preopen.host, &preopen.guest, permissions)
            .map_err(|error| error.context(format!("cannot open the granted directory {}", preopen.host.display())))?;
    }
    if grants.reach == Reach::Anywhere {
        wasi.inherit_network().allow_ip_name_lookup(true);
    }
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    let guest = Guest {
        table,
        wasi: wasi.build(),
        http: WasiHttpCtx::new(),
        hooks: Hooks { reach: grants.reach.clone() },
        limits: Limits::new(grants.memory_bytes_max),
        log,
        id,
        has_started: id == RequestId::NONE,
        status: surroundings.status,
        outbox: surroundings.outbox.clone(),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limits);
    store.set_max_component_handles(HANDLES_MAX);
    // The signal that moves the epoch may come late, for a request that has ended: only the status page says whom it meant. Before the
    // first request there is nobody else that it could mean. Anybody else makes way for a moment, so that what it has written can leave.
    // The deadline of the store of a request is past from the beginning: the first that any code of the guest's does is to come here, be it when the
    // instance is made or when it is called.
    store.epoch_deadline_callback(|mut store| {
        let guest = store.data_mut();
        let is_first = !std::mem::replace(&mut guest.has_started, true);
        if is_first {
            guest.status.store_started(guest.id, monotonic_ns());
        }
        let guest = store.data();
        if guest.status.interrupt() == guest.id {
            return Err(Interrupted.into());
        }
        if guest.id != RequestId::NONE && take_inspection(guest.status, guest.id) {
            let backtrace = failure::frames(&WasmBacktrace::force_capture(&store));
            let backtrace = cut_text(&backtrace, FAILURE_TEXT_BYTES_MAX);
            let pushed = guest.outbox.push_urgent(&ToSupervisor::Backtrace { id: guest.id, backtrace });
            debug_assert!(pushed.is_ok(), "a backtrace within its limit can be encoded");
        }
        Ok(if is_first { UpdateDeadline::Continue(1) } else { UpdateDeadline::Yield(1) })
    });
    store.set_epoch_deadline(u64::from(id == RequestId::NONE));
    Ok(store)
}

/// Whether the supervisor wants to see where this request's guest is. It is told once: whoever takes the wish answers it.
pub fn take_inspection(status: &StatusPage, id: RequestId) -> bool {
    let is_wanted = status.inspect() == id;
    if is_wanted {
        status.store_inspect(RequestId::NONE);
    }
    is_wanted
}

/// The supervisor wanted the request stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by the supervisor")
    }
}

impl std::error::Error for Interrupted {}
