//! The cache of compiled components: filled once, believed only when whole, and in nobody else's hands.
//!
//! Owns the tests that use a cache of their own; all others share one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread;

use rusmd_e2e::paths::Scratch;
use rusmd_e2e::{Setup, wait};

const COMPONENT: &str = "hello-wasi";

fn setup(cache: &Scratch) -> Setup {
    let directory = format!("{:?}", cache.path().join("cache").display().to_string());
    Setup::new().component(COMPONENT).server("cache-dir", directory)
}

/// The files of the cache, which are native code.
fn artifacts(cache: &Scratch) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.path().join("cache")).expect("the cache exists");
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

#[test]
fn a_cold_cache_is_filled_and_kept_private() {
    let cache = Scratch::new();
    setup(&cache).start().get("/").assert(200, "hello world\n");
    let mode = fs::metadata(cache.path().join("cache")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may enter the cache: {mode:o}");
    let before = artifacts(&cache);
    assert!(!before.is_empty());
    setup(&cache).start().get("/").assert(200, "hello world\n");
    assert_eq!(artifacts(&cache), before, "the second start compiles nothing");
}

#[test]
fn a_damaged_artifact_is_compiled_again() {
    let cache = Scratch::new();
    setup(&cache).start().get("/").assert(200, "hello world\n");
    let damages: [fn(&mut Vec<u8>); 3] = [truncate, Vec::clear, shift];
    for damage in damages {
        for path in artifacts(&cache) {
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
        }
        setup(&cache).start().get("/").assert(200, "hello world\n");
    }
}

fn truncate(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 2);
}

/// The length stays, half of the bytes do not.
fn shift(bytes: &mut Vec<u8>) {
    bytes.remove(bytes.len() / 2);
    bytes.push(0);
}

#[test]
fn a_cache_that_others_can_write_is_refused() {
    let cache = Scratch::new();
    let directory = cache.path().join("cache");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let (status, log) = setup(&cache).start_refused();
    assert!(!status.success());
    assert!(log.contains(directory.to_str().unwrap()), "{log}");
}

#[test]
fn two_servers_may_fill_one_cache_at_the_same_time() {
    let cache = Scratch::new();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| setup(&cache).start().get("/").assert(200, "hello world\n"));
        }
    });
}

#[test]
fn a_component_replaced_under_its_server_is_served_anew_after_a_restart() {
    let cache = Scratch::new();
    let source = cache.path().join("app.wasm");
    let serve = |name: &str| {
        fs::copy(rusmd_e2e::paths::guest_file(name), &source).expect("the guest is built");
        let directory = format!("{:?}", cache.path().join("cache").display().to_string());
        Setup::new().source("app", source.clone()).component("app").server("cache-dir", directory).start()
    };
    let first = serve(COMPONENT);
    first.get("/").assert(200, "hello world\n");
    let second = serve("wasi-faults");
    assert_eq!(second.get("/status/418").status(), 418);
    // The one that runs has what it loaded, also in workers that start later.
    wait::until("the first still serves what it began with", || first.get("/").text() == "hello world\n");
}
