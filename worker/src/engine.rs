//! The engines: how components are compiled, and the pool that instances live in.
//!
//! Owns every setting of wasmtime. `compile` and `serve` must agree on all that changes machine code, so both take their
//! settings from here and from nowhere else. Touches no component and no request.

use std::num::NonZeroUsize;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// Address space set aside for each linear memory. With all 32-bit addresses reserved, code needs no bounds checks.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// Address space behind each linear memory, for the constant offsets of loads and stores.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// Most stack that a guest may use; beyond it, it traps.
const WASM_STACK_BYTES: usize = 1 << 20;

/// The stack that a guest and the host functions it calls share.
const ASYNC_STACK_BYTES: usize = 2 << 20;

/// Most frames in the backtrace of a trap.
const BACKTRACE_FRAMES_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Stack pages that stay with the pool between two requests.
const STACK_KEEP_BYTES: usize = 64 << 10;

/// Memory that stays with the pool between two requests for each linear memory, reset in place rather than unmapped.
const MEMORY_KEEP_BYTES: usize = 16 << 20;

/// The same for each table.
const TABLE_KEEP_BYTES: usize = 1 << 20;

/// Most core instances in one component: toolchains for scripting languages link dozens.
const CORE_INSTANCES_MAX: u32 = 256;

/// Most linear memories in the pool. More than one instance needs, so that each component finds its own image in place.
const MEMORIES_MAX: u32 = 64;

/// Most tables in the pool.
const TABLES_MAX: u32 = 128;

/// Most elements of one table; interpreters compiled to WebAssembly have more than ten thousand functions.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Instances that the pool has room for: the one that serves, and the one that is being dropped.
const INSTANCES_MAX: u32 = 4;

/// Fibers that the pool has room for.
const STACKS_MAX: u32 = 16;

/// Most bytes of the host's own structures for one core instance.
const CORE_INSTANCE_BYTES_MAX: usize = 4 << 20;

/// Which machinery a component needs. Calls are markedly cheaper without the concurrent one, so only those components
/// that use the component model's `async` get it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavor {
    /// `rusm:http`, `wasi:http` 0.2.
    Plain,
    /// `wasi:http` 0.3.
    Concurrent,
}

impl Flavor {
    pub const ALL: [Flavor; 2] = [Flavor::Plain, Flavor::Concurrent];

    /// The last extension of a compiled component's file name tells its flavor.
    pub const fn extension(self) -> &'static str {
        match self {
            Flavor::Plain => "cwasm",
            Flavor::Concurrent => "async-cwasm",
        }
    }

    /// The flavor of a compiled component, by its file name.
    pub fn of_artifact(path: &str) -> Option<Flavor> {
        let (_, extension) = path.rsplit_once('.')?;
        Flavor::ALL.into_iter().find(|flavor| flavor.extension() == extension)
    }
}

/// An engine that only compiles.
pub fn compiler(flavor: Flavor) -> wasmtime::Result<Engine> {
    Engine::new(&config(flavor))
}

/// An engine that only runs what [`compiler`] made, one instance at a time. `memory_bytes_max` is the most that one linear
/// memory of any component may have.
pub fn runtime(flavor: Flavor, memory_bytes_max: u64) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    let memory_bytes_max = memory_bytes_max.min(MEMORY_RESERVATION_BYTES) as usize;
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(CORE_INSTANCES_MAX)
        .total_memories(MEMORIES_MAX)
        .total_tables(TABLES_MAX)
        .total_stacks(STACKS_MAX)
        .total_gc_heaps(INSTANCES_MAX)
        .max_core_instance_size(CORE_INSTANCE_BYTES_MAX)
        .max_component_instance_size(CORE_INSTANCE_BYTES_MAX)
        .max_tables_per_module(16)
        .max_memories_per_module(16)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(memory_bytes_max.next_multiple_of(64 << 10))
        .decommit_batch_size(1);
    // Resetting pages in place pays only when the kernel can say which ones were written.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(MEMORY_KEEP_BYTES)
            .table_keep_resident(TABLE_KEEP_BYTES);
    }
    pool.async_stack_keep_resident(STACK_KEEP_BYTES);
    let mut config = config(flavor);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

fn config(flavor: Flavor) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        .wasm_component_model(true)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES_MAX));
    match flavor {
        Flavor::Plain => config.concurrency_support(false),
        Flavor::Concurrent => config.wasm_component_model_async(true),
    };
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash, Hasher};

    #[test]
    fn what_is_compiled_is_what_is_run() {
        for flavor in Flavor::ALL {
            let hash = |engine: Engine| {
                let mut hasher = DefaultHasher::new();
                engine.precompile_compatibility_hash().hash(&mut hasher);
                hasher.finish()
            };
            let compiler = hash(compiler(flavor).expect("the settings are valid"));
            let runtime = hash(runtime(flavor, 64 << 20).expect("the settings are valid"));
            assert_eq!(compiler, runtime);
        }
    }

    #[test]
    fn a_flavor_is_told_by_the_file_name() {
        for flavor in Flavor::ALL {
            let path = format!("/cache/api-0011.{}", flavor.extension());
            assert_eq!(Flavor::of_artifact(&path), Some(flavor));
        }
        assert_eq!(Flavor::of_artifact("/cache/api.wasm"), None);
        assert_eq!(Flavor::of_artifact("api"), None);
    }
}
