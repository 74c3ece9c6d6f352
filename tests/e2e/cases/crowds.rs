//! More connections than there are places for: who is told so, and who is served all the same.

use std::net::SocketAddr;

use rusmd_e2e::{Client, Server, wait};

use crate::common::{Form, HELLO};

/// More than fits into one read, and less than is thrown away of a client that is turned away.
const SENT_BYTES: usize = 200_000;

/// More than the admin listener has places for.
const HALF_OPEN: usize = 100;

/// A request that is sent whole before anything is read.
fn long_request() -> Vec<u8> {
    let mut request = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {SENT_BYTES}\r\n\r\n").into_bytes();
    request.resize(request.len() + SENT_BYTES, b'x');
    request
}

fn expect_turned_away(server: &Server) {
    let mut refused = server.connect();
    refused.send_if_open(long_request());
    let response = refused.response();
    assert_eq!(response.status(), 503);
    assert!(response.header("retry-after").is_some(), "{:?}", response.head);
    refused.expect_close();
}

fn served(server: &Server) -> Client {
    let mut client = server.connect();
    client.get("/hello");
    client.response().assert(200, HELLO);
    client
}

fn expect_room_again(server: &Server) {
    wait::until("there is room again", || {
        let mut client = server.connect();
        client.send_if_open("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        client.try_response().is_ok_and(|response| response.status() == 200)
    });
}

#[test]
fn a_client_too_many_that_has_sent_its_request_already_reads_why_it_gets_nothing() {
    let server = Form::Handlers.setup().server("max-connections", 1).start();
    let kept = served(&server);
    for _ in 0..20 {
        expect_turned_away(&server);
    }
    drop(kept);
    expect_room_again(&server);
}

#[test]
fn an_address_with_too_many_connections_is_told_so_and_has_room_again_when_one_ends() {
    let server = Form::Handlers.setup().server("max-connections-per-address", 2).start();
    let first = served(&server);
    let _second = served(&server);
    expect_turned_away(&server);
    drop(first);
    expect_room_again(&server);
}

#[test]
fn half_open_connections_do_not_block_the_admin_listener() {
    let server = Form::Handlers.setup().server("admin", "\"127.0.0.1:0\"").start();
    let line = server.wait_for_log(&["admin listener on http://"]);
    let admin: SocketAddr = line.rsplit_once("http://").expect("a URL").1.trim().parse().expect("an address");
    let half_open: Vec<Client> = (0..HALF_OPEN)
        .map(|_| {
            let mut client = Client::connect(admin);
            client.send_if_open("GET /hea");
            client
        })
        .collect();
    let mut client = Client::connect(admin);
    client.get("/healthz");
    client.response().assert(200, "ok\n");
    drop(half_open);
}
