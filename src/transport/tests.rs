//! TLS over sockets that stand still at the wrong moments: counts of written bytes, ends, and what comes first.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::testing::Scratch;
use crate::tls::{CertificateFiles, MinVersion, Spec};

/// A client of a transport with TLS: both ends are driven by the test, in turns.
struct Peer {
    session: ClientConnection,
    socket: UnixStream,
}

fn sockets() -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).and_then(|()| theirs.set_nonblocking(true)).expect("sockets have this option");
    (Socket::unix(ours.into()), theirs)
}

fn acceptor() -> (Acceptor, ClientConfig) {
    let scratch = Scratch::new();
    let key = KeyPair::generate().expect("there is randomness");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a legal name");
    let cert = params.self_signed(&key).expect("it can be signed");
    let files = CertificateFiles { cert: scratch.path().join("cert"), key: scratch.path().join("key") };
    std::fs::write(&files.cert, cert.pem()).expect("the directory is writable");
    std::fs::write(&files.key, key.serialize_pem()).expect("the directory is writable");
    let spec = Spec { certificates: vec![files], min_version: MinVersion::Tls12, client_auth: None, http2: true };
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a certificate");
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Acceptor::load(&spec).expect("a pair").0, client)
}

/// A transport and its client, with the handshake behind them.
fn opened() -> (Transport, Peer) {
    let (acceptor, client) = acceptor();
    let (socket, theirs) = sockets();
    let mut transport = Transport::new(socket, false, Some(acceptor)).expect("a session");
    let name = ServerName::try_from("localhost").expect("a legal name");
    let session = ClientConnection::new(Arc::new(client), name).expect("a session");
    let mut peer = Peer { session, socket: theirs };
    assert!(matches!(transport.open(), Opening::Waits));
    for _ in 0..8 {
        peer.step();
        transport.open();
    }
    assert!(!transport.is_opening() && transport.is_secure() && !peer.session.is_handshaking());
    (transport, peer)
}

impl Peer {
    /// Exchanges what can be exchanged now.
    fn step(&mut self) {
        while self.session.wants_write() && self.session.write_tls(&mut self.socket).is_ok() {}
        while self.session.read_tls(&mut self.socket).is_ok_and(|count| count > 0) {
            self.session.process_new_packets().expect("the server speaks TLS");
        }
    }

    /// The plaintext that has come, and whether its end was said.
    fn received(&mut self) -> (Vec<u8>, bool) {
        let mut plaintext = Vec::new();
        loop {
            // A session takes no more records than it has room for what is in them.
            self.step();
            let before = plaintext.len();
            let ended = self.session.reader().read_to_end(&mut plaintext).is_ok();
            if ended || plaintext.len() == before {
                return (plaintext, ended);
            }
        }
    }
}

fn kind(result: io::Result<usize>) -> io::ErrorKind {
    result.expect_err("an error").kind()
}

#[test]
fn bytes_count_as_written_when_the_socket_has_them() {
    let (mut transport, mut peer) = opened();
    let body: Vec<u8> = (0..2_000_000_u32).map(|number| number as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    while sent < body.len() {
        match transport.write(&body[sent..]) {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                // Nothing has moved, however often it is asked.
                assert_eq!(kind(transport.write(&body[sent..])), io::ErrorKind::WouldBlock);
                received.extend(peer.received().0);
            }
        }
    }
    received.extend(peer.received().0);
    assert!(received == body);
}

#[test]
fn an_end_is_one_only_when_it_is_said() {
    let (mut transport, mut peer) = opened();
    let mut buffer = [0; 64];
    peer.session.writer().write_all(b"GET").expect("there is room");
    peer.session.send_close_notify();
    peer.step();
    assert_eq!(transport.read(&mut buffer).ok(), Some(3));
    assert_eq!(transport.read(&mut buffer).ok(), Some(0));
    transport.finish();
    assert_eq!(peer.received(), (Vec::new(), true));

    let (mut transport, peer) = opened();
    drop(peer);
    assert_eq!(kind(transport.read(&mut buffer)), io::ErrorKind::UnexpectedEof);

    let (transport, mut peer) = opened();
    drop(transport);
    assert_eq!(peer.received(), (Vec::new(), false));
}

#[test]
fn a_farewell_waits_for_room() {
    let (mut transport, mut peer) = opened();
    while transport.write(&[0; 4096]).is_ok() {}
    assert_eq!(transport.shutdown_write().expect_err("no room").kind(), io::ErrorKind::WouldBlock);
    let mut ended = false;
    for _ in 0..64 {
        ended |= peer.received().1;
        if transport.shutdown_write().is_ok() {
            break;
        }
    }
    assert!(ended || peer.received().1);
}

#[test]
fn records_without_content_give_way_to_other_clients() {
    let (mut transport, mut peer) = opened();
    for _ in 0..64 {
        peer.session.refresh_traffic_keys().expect("the handshake is done");
        peer.step();
    }
    let mut buffer = [0; 64];
    let kinds: Vec<_> = (0..64).map(|_| kind(transport.read(&mut buffer))).collect();
    let legal = [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock, io::ErrorKind::InvalidData];
    assert!(kinds.iter().all(|kind| legal.contains(kind)), "{kinds:?}");
}

#[test]
fn http_where_tls_is_expected_leaves_a_plain_transport_with_every_byte() {
    let (acceptor, _) = acceptor();
    let (socket, mut theirs) = sockets();
    let mut transport = Transport::new(socket, false, Some(acceptor)).expect("a session");
    theirs.write_all(b"GET /").expect("there is room");
    assert!(matches!(transport.open(), Opening::PlainHttp));
    let mut buffer = [0; 64];
    assert_eq!(transport.read(&mut buffer).ok(), Some(5));
    assert!(transport.is_plain() && !transport.is_opening());
}

#[test]
fn what_is_neither_http_nor_tls_gets_an_alert() {
    let (acceptor, _) = acceptor();
    let (socket, mut theirs) = sockets();
    let mut transport = Transport::new(socket, false, Some(acceptor)).expect("a session");
    theirs.write_all(&[0x17; 32]).expect("there is room");
    assert!(matches!(transport.open(), Opening::Failed(OpeningError::Handshake(_))));
    let mut alert = [0; 7];
    theirs.read_exact(&mut alert).expect("it is there");
    assert_eq!(alert[0], 21);
}

#[test]
fn a_header_of_the_proxy_protocol_is_taken_to_its_last_byte_and_not_past_it() {
    let (socket, mut theirs) = sockets();
    let mut transport = Transport::new(socket, true, None).expect("nothing to begin");
    for part in [&b"PROXY TCP4 192.0.2.7 192.0.2.1 47"[..], b"11 80\r"] {
        theirs.write_all(part).expect("there is room");
        assert!(transport.is_opening() && matches!(transport.open(), Opening::Waits));
    }
    theirs.write_all(b"\nGET /").expect("there is room");
    assert!(matches!(transport.open(), Opening::Announced(peer) if peer.to_string() == "192.0.2.7:4711"));
    let mut buffer = [0; 64];
    assert!(!transport.is_opening());
    assert_eq!(transport.read(&mut buffer).ok().map(|count| buffer[..count].to_vec()), Some(b"GET /".to_vec()));
}

#[test]
fn a_header_that_is_none_or_never_comes_is_a_failure() {
    let (socket, mut theirs) = sockets();
    let mut transport = Transport::new(socket, true, None).expect("nothing to begin");
    theirs.write_all(b"GET / HTTP/1.1").expect("there is room");
    assert!(matches!(transport.open(), Opening::Failed(OpeningError::Announcement(Malformed::NoHeader))));
    let (socket, theirs) = sockets();
    let mut transport = Transport::new(socket, true, None).expect("nothing to begin");
    drop(theirs);
    assert!(matches!(transport.open(), Opening::Failed(OpeningError::Gone)));
}
