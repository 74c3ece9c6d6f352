//! Where a server listens: Unix sockets and their files, both families at one port, several servers at one port.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use nix::sys::signal::Signal;
use rusmd_e2e::daemon::wait_until_gone;
use rusmd_e2e::{Client, Daemon, Server, Setup, wait};

use crate::common::HELLO;

const ROUTES: &[(&str, &str)] = &[("GET /hello", "faults#hello"), ("/show", "faults#show")];

#[track_caller]
fn on_unix() -> Setup {
    Setup::new().routes(ROUTES).routes(ROUTES).listen("unix:x.sock")
}

#[track_caller]
fn assert_serves(server: &Server) {
    let mut client = Client::connect_unix(&server.scratch().join("x.sock"));
    for _ in 0..2 {
        client.get("/show");
        let text = client.response().text();
        assert!(text.contains("peer None\n"), "{text}");
    }
}

#[test]
fn a_unix_socket_serves_with_its_permissions_and_is_gone_afterwards() {
    let server = on_unix().listener_line("socket-mode = \"0660\"").log("access", "\"access.log\"").start();
    let path = server.scratch().join("x.sock");
    server.wait_for_log(&["listening on unix:", "x.sock"]);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o660);
    assert_serves(&server);
    wait::until("the log says where it came from", || server.read("access.log").starts_with("unix - - ["));
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: generation 2 serves"]);
    assert_serves(&server);
    server.signal(Signal::SIGTERM);
    wait::until("the file is gone", || !path.exists());
    server.expect_clean_exit();
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced_and_another_file_is_not() {
    let place = Setup::new().routes(ROUTES).start();
    let path = place.scratch().join("y.sock");
    let at = || Setup::new().routes(ROUTES).listen(&format!("unix:{}", path.display()));
    fs::write(&path, "precious").expect("the scratch directory is writable");
    let (status, log) = at().start_refused();
    assert!(!status.success() && log.contains("a file that is no socket is there"), "{log}");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
    fs::remove_file(&path).expect("it is there");
    let listener = UnixListener::bind(&path).expect("the scratch directory is writable");
    let (status, log) = at().start_refused();
    assert!(!status.success() && log.contains("another server answers there"), "{log}");
    drop(listener);
    let server = at().start();
    server.wait_for_log(&["listening on unix:"]);
    let mut client = Client::connect_unix(&path);
    client.get("/hello");
    assert_eq!(client.response().text(), HELLO);
}

#[test]
fn a_reload_opens_and_closes_unix_sockets() {
    let server = on_unix().start();
    let (path, manifest) = (server.scratch().join("x.sock"), server.read("rusm.toml"));
    server.write("rusm.toml", &manifest.replace("x.sock", "z.sock"));
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: generation 2 serves"]);
    assert!(!path.exists(), "the file of a listener that is gone is gone");
    let mut client = Client::connect_unix(&server.scratch().join("z.sock"));
    client.get("/hello");
    assert_eq!(client.response().text(), HELLO);
}

#[test]
fn the_address_of_both_families_takes_both_unless_it_is_for_ipv6_only() {
    let server = Setup::new().routes(ROUTES).listen("[::]:0").start();
    let port = server.address().port();
    let show = |address: SocketAddr| {
        let mut client = Client::connect(address);
        client.get("/hello");
        client.response().text()
    };
    assert_eq!(show((Ipv6Addr::LOCALHOST, port).into()), HELLO);
    assert_eq!(show((Ipv4Addr::LOCALHOST, port).into()), HELLO);
    let alone = Setup::new().routes(ROUTES).listen("[::]:0").listener_line("ipv6-only = true").start();
    let port = alone.address().port();
    assert_eq!(show((Ipv6Addr::LOCALHOST, port).into()), HELLO);
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok(), "IPv4 is free at that port");
}

#[test]
fn two_servers_share_a_port_when_both_say_so() {
    let first = Setup::new().routes(ROUTES).listener_line("reuse-port = true\nbacklog = 7").start();
    let address = first.address().to_string();
    let (status, log) = Setup::new().routes(ROUTES).listen(&address).start_refused();
    assert!(!status.success() && log.contains("cannot listen on"), "{log}");
    let second = Setup::new().routes(ROUTES).listen(&address).listener_line("reuse-port = true").start();
    first.stop_by(Signal::SIGTERM);
    assert_eq!(second.get("/hello").text(), HELLO);
}

#[test]
fn an_upgrade_keeps_a_unix_socket_and_its_idle_connections_and_the_last_process_removes_the_file() {
    let daemon = Daemon::new("wasi-faults").also_at("unix:x.sock");
    daemon.start();
    let path = daemon.path("x.sock");
    let mut idle = Client::connect_unix(&path);
    idle.get("/hello");
    assert_eq!(idle.response().status(), 200);
    let old = daemon.running_pid();
    daemon.signal(Signal::SIGUSR2);
    wait_until_gone(&[old]);
    assert!(path.exists(), "the successor has it");
    idle.get("/hello");
    assert_eq!(idle.response().status(), 200);
    let mut new = Client::connect_unix(&path);
    new.get("/hello");
    assert_eq!(new.response().status(), 200);
    daemon.stop_by(Signal::SIGTERM);
    assert!(!path.exists(), "the last process has removed it");
}

#[test]
fn a_successor_that_fails_leaves_the_unix_socket_alone() {
    let daemon = Daemon::new("wasi-faults").also_at("unix:x.sock").installed();
    daemon.start();
    daemon.replace_program(b"#!/bin/sh\nexit 1\n");
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_line("main.log", &["upgrade: refused, and nothing has changed"]);
    let mut client = Client::connect_unix(&daemon.path("x.sock"));
    client.get("/hello");
    assert_eq!(client.response().status(), 200);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_unix_socket_of_a_service_manager_is_served_and_left_to_it() {
    let daemon = Daemon::new("wasi-faults").at("unix:x.sock");
    let path = daemon.path("x.sock");
    let socket = UnixListener::bind(&path).expect("the scratch directory is writable");
    let mut server = daemon.command_with(socket).stdout(Stdio::null()).spawn().expect("it can be executed");
    let mut client = Client::connect_unix(&path);
    client.get("/hello");
    assert_eq!(client.response().status(), 200);
    daemon.stop_by(Signal::SIGTERM);
    assert!(server.wait().expect("it is a child").success() && path.exists());
}
