//! TLS: versions, names, resumption, renewal of certificates, clients with certificates, and ends that nobody can forge.

use std::sync::Arc;

use nix::sys::signal::Signal;
use rusmd_e2e::daemon::wait_until_gone;
use rusmd_e2e::{Authority, Certificate, Client, ClientError, Daemon, Server, Setup};
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use crate::common::HELLO;

const ROUTES: &[(&str, &str)] = &[
    ("GET /hello", "faults#hello"),
    ("/show", "faults#show"),
    ("POST /echo", "faults#echo"),
    ("/large", "faults#large"),
];

const ONE: &str = "tls = { cert = \"one.pem\", key = \"one.key\" }";

/// An authority, and a server with a certificate of its for `localhost`.
#[track_caller]
fn secured() -> (Authority, Setup) {
    let authority = Authority::new();
    let setup = Setup::new().routes(ROUTES).certificate("one", &authority.issue(&["localhost"]));
    (authority, setup)
}

#[track_caller]
fn connect(server: &Server, config: &Arc<ClientConfig>) -> Client {
    Client::connect_tls(server.address(), config.clone(), "localhost")
}

/// The certificate that the server has shown.
fn shown(client: &Client) -> Vec<u8> {
    let chain = client.session().peer_certificates().expect("the handshake is done");
    chain[0].as_ref().to_vec()
}

fn der(certificate: &Certificate) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    CertificateDer::from_pem_slice(certificate.cert.as_bytes()).expect("PEM").as_ref().to_vec()
}

#[track_caller]
fn reload(server: &Server, generation: u64) {
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&[&format!("reload: generation {generation} serves")]);
}

#[test]
fn both_versions_carry_requests_and_the_guest_learns_the_scheme() {
    let (authority, setup) = secured();
    let server = setup.listener_line(ONE).start();
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut client = connect(&server, &authority.client(&[version], None));
        for _ in 0..3 {
            client.get("/show");
            let text = client.response().text();
            assert!(text.starts_with("GET https://localhost/show\n"), "{text}");
        }
        assert_eq!(client.session().protocol_version(), Some(expected));
    }
}

#[test]
fn bodies_of_any_size_pass_both_ways() {
    let (authority, setup) = secured();
    let server = setup.listener_line(ONE).start();
    let mut client = connect(&server, &authority.client(&[&TLS13], None));
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    client.post("/echo", &body);
    assert!(client.response().body == body);
    client.get("/large?bytes=5000000");
    assert_eq!(client.response().body.len(), 5_000_000);
}

#[test]
fn a_client_gets_the_certificate_with_the_name_that_it_asks_for() {
    let (authority, setup) = secured();
    let (two, wild) = (authority.issue(&["two.example"]), authority.issue(&["*.wild.example"]));
    let server = setup
        .certificate("two", &two)
        .certificate("wild", &wild)
        .listener_line(
            "tls = { cert = \"one.pem\", key = \"one.key\", certificates = [\
             { cert = \"two.pem\", key = \"two.key\" }, { cert = \"wild.pem\", key = \"wild.key\" }] }",
        )
        .start();
    let config = authority.client(&[&TLS13], None);
    for (name, expected) in [("two.example", &two), ("a.wild.example", &wild)] {
        let mut client = Client::connect_tls(server.address(), config.clone(), name);
        client.get("/hello");
        assert_eq!(client.response().text(), HELLO);
        assert!(shown(&client) == der(expected), "{name}");
    }
    // The first is for every other name, and this client does not accept it.
    let mut client = Client::connect_tls(server.address(), config, "a.b.wild.example");
    client.send_if_open("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(matches!(client.try_response(), Err(ClientError::Tls(_) | ClientError::TimedOut { .. })));
}

#[test]
fn sessions_are_resumed_also_after_a_reload() {
    let (authority, setup) = secured();
    let server = setup.listener_line(ONE).start();
    for (round, version) in [&TLS12, &TLS13].into_iter().enumerate() {
        let mut config = ClientConfig::clone(&authority.client(&[version], None));
        config.resumption = Resumption::in_memory_sessions(8);
        let config = Arc::new(config);
        let kind = || {
            let mut client = connect(&server, &config);
            client.get("/hello");
            assert_eq!(client.response().text(), HELLO);
            client.session().handshake_kind()
        };
        assert_eq!(kind(), Some(HandshakeKind::Full));
        assert_eq!(kind(), Some(HandshakeKind::Resumed));
        reload(&server, round as u64 + 2);
        assert_eq!(kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn a_reload_renews_the_certificate_and_drops_no_connection() {
    let (authority, setup) = secured();
    let mut server = setup.listener_line(ONE).start();
    let config = authority.client(&[&TLS13], None);
    let mut old = connect(&server, &config);
    old.get("/hello");
    assert_eq!(old.response().text(), HELLO);
    let next = authority.issue(&["localhost"]);
    server.write("one.pem", &next.cert);
    server.write("one.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    server.expect_error("reload: refused");
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: refused, and nothing has changed"]);
    server.write("one.key", &authority.issue(&["localhost"]).key);
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["the key is not that of the certificate"]);
    let mut unchanged = connect(&server, &config);
    unchanged.get("/hello");
    assert_eq!(unchanged.response().text(), HELLO);
    assert!(shown(&unchanged) == shown(&old));
    server.write("one.key", &next.key);
    reload(&server, 2);
    let mut new = connect(&server, &authority.client(&[&TLS13], None));
    new.get("/hello");
    assert_eq!(new.response().text(), HELLO);
    assert!(shown(&new) == der(&next) && shown(&old) != shown(&new));
    old.get("/hello");
    assert_eq!(old.response().text(), HELLO);
}

#[test]
fn a_connection_that_would_not_be_let_in_any_more_ends_with_a_reload() {
    let (authority, setup) = secured();
    let server = setup.file("ca.pem", &authority.cert()).start();
    let manifest = server.read("rusm.toml");
    let serve = |tls: &str, generation: u64| {
        let lines = format!("listen = \"127.0.0.1:0\"\n{tls}\n");
        server.write("rusm.toml", &manifest.replace("listen = \"127.0.0.1:0\"\n", &lines));
        reload(&server, generation);
    };
    let mut plain = server.connect();
    plain.get("/hello");
    assert_eq!(plain.response().text(), HELLO);
    serve(ONE, 2);
    assert!(plain.rest().is_ok_and(|rest| rest.is_empty()));
    let mut anonymous = connect(&server, &authority.client(&[&TLS13], None));
    anonymous.get("/hello");
    assert_eq!(anonymous.response().text(), HELLO);
    serve(&ONE.replace(" }", ", client-ca = \"ca.pem\" }"), 3);
    assert!(anonymous.rest().is_ok_and(|rest| rest.is_empty()));
}

#[test]
fn a_start_with_files_that_do_not_belong_together_is_refused_with_the_reason() {
    let authority = Authority::new();
    let mixed = Certificate { cert: authority.issue(&["localhost"]).cert, key: authority.issue(&["localhost"]).key };
    let (status, log) = Setup::new().routes(ROUTES).certificate("one", &mixed).listener_line(ONE).start_refused();
    assert_eq!(status.code(), Some(78), "{log}");
    assert!(log.contains("the key is not that of the certificate") && log.contains("one.key"), "{log}");
}

#[test]
fn clients_without_the_certificate_that_is_asked_for_are_turned_away() {
    let (authority, setup) = secured();
    let server = setup
        .file("ca.pem", &authority.cert())
        .listener_line("tls = { cert = \"one.pem\", key = \"one.key\", client-ca = \"ca.pem\" }")
        .routes(ROUTES)
        .listener_line(
            "tls = { cert = \"one.pem\", key = \"one.key\", client-ca = \"ca.pem\", client-auth = \"optional\" }",
        )
        .start();
    let stranger = Authority::new().issue(&["me"]);
    let known = authority.issue(&["me"]);
    // Who shows what to which listener, and whether it is served.
    let table = [
        (0, None, false),
        (0, Some(&stranger), false),
        (0, Some(&known), true),
        (1, None, true),
        (1, Some(&stranger), false),
    ];
    for (listener, own, served) in table {
        for version in [&TLS12, &TLS13] {
            let config = authority.client(&[version], own);
            let mut client = Client::connect_tls(server.addresses()[listener], config, "localhost");
            client.send_if_open("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
            match client.try_response() {
                Ok(response) => assert!(served && response.text() == HELLO, "{listener} {version:?}"),
                Err(error) => assert!(!served, "{listener} {version:?}: {error}"),
            }
        }
    }
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    let (_, setup) = secured();
    let server = setup.listener_line(ONE).start();
    for request in ["GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", "P"] {
        let mut client = server.connect();
        client.send(request);
        let response = client.response();
        assert_eq!(response.status(), 400);
        assert!(response.text().contains("this port speaks HTTPS"), "{}", response.text());
        assert!(client.rest().is_ok_and(|rest| rest.is_empty()));
    }
}

#[test]
fn garbage_and_half_a_handshake_end_with_the_time_for_a_head() {
    let (_, setup) = secured();
    let server = setup.listener_line(ONE).server("head-timeout-ms", 300).start();
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.send([0x16, 3, 1, 2]);
    let mut garbage = server.connect();
    garbage.send([0x17; 600]);
    // The alert that says why comes first; then nothing.
    assert!(matches!(garbage.rest(), Ok(_) | Err(ClientError::Reset)));
    for client in [&mut silent, &mut slow] {
        assert!(matches!(client.rest(), Ok(bytes) if bytes.is_empty()));
    }
}

#[test]
fn a_clean_end_is_said_in_tls_and_a_cut_is_not() {
    let authority = Authority::new();
    let setup = Setup::new().component("wasi-faults").certificate("one", &authority.issue(&["localhost"]));
    let server =
        setup.listener_line(ONE).expect_error("panicked").expect_error("trap").expect_error("backtrace").start();
    for version in [&TLS12, &TLS13] {
        let config = authority.client(&[version], None);
        let mut client = connect(&server, &config);
        client.send("GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(client.response().status(), 200);
        assert!(client.rest().is_ok_and(|rest| rest.is_empty()), "the end was said");
        // In HTTP/1.0 only the end of the connection ends a body that has no length: one that was broken off must not look whole.
        let mut cut = connect(&server, &config);
        cut.send("GET /panic-after-head HTTP/1.0\r\nHost: localhost\r\n\r\n");
        assert!(matches!(cut.rest(), Err(ClientError::Truncated { .. } | ClientError::Reset)));
    }
}

#[test]
fn a_stop_says_goodbye_to_idle_connections() {
    let (authority, setup) = secured();
    let server = setup.listener_line(ONE).start();
    let mut client = connect(&server, &authority.client(&[&TLS13], None));
    client.get("/hello");
    assert_eq!(client.response().text(), HELLO);
    server.signal(Signal::SIGTERM);
    assert!(client.rest().is_ok_and(|rest| rest.is_empty()), "the end was said");
    server.expect_clean_exit();
}

#[test]
fn an_upgrade_says_goodbye_to_idle_connections_and_the_successor_serves_the_next() {
    let authority = Authority::new();
    let own = authority.issue(&["localhost"]);
    let daemon = Daemon::new("wasi-faults").file("one.pem", &own.cert).file("one.key", &own.key).listener_line(ONE);
    daemon.start();
    let config = authority.client(&[&TLS13], None);
    let connect = || Client::connect_tls(daemon.address(), config.clone(), "localhost");
    let mut client = connect();
    client.get("/hello");
    assert_eq!(client.response().status(), 200);
    let old = daemon.running_pid();
    daemon.signal(Signal::SIGUSR2);
    assert!(client.rest().is_ok_and(|rest| rest.is_empty()), "the end was said");
    let mut next = connect();
    next.get("/hello");
    assert_eq!(next.response().status(), 200);
    wait_until_gone(&[old]);
    daemon.stop_by(Signal::SIGTERM);
}
