//! The options of a listener: addresses, sockets, proxies and TLS. What is wrong with them is told.

use super::tests::{titles, with};

#[test]
fn mistakes_in_a_listener_s_options_are_told() {
    let table: &[(&str, &[&str])] = &[
        ("tls = {}", &["error: the listener has no certificate"]),
        ("tls = { cert = \"a.pem\" }", &["error: the certificate has no `key`"]),
        ("tls = { key = \"a.pem\" }", &["error: the key has no `cert`"]),
        (
            "tls = { certificates = [{}] }",
            &["error: the listener has no certificate", "error: a certificate has `cert` and `key`"],
        ),
        ("tls = { cert = \"a\", key = \"b\", min-version = \"1.1\" }", &["error: `1.1` is not one of 1.2, 1.3"]),
        (
            "tls = { cert = \"a\", key = \"b\", client-auth = \"optional\" }",
            &["error: nothing says whose certificates clients must have"],
        ),
        ("tls = false", &[]),
        ("tls = { cert = \"a\", key = \"b\", client-ca = \"c\" }", &[]),
        ("protocol = \"https\"", &["error: the listener has no certificate"]),
        ("backlog = 65535\nreuse-port = true", &[]),
        ("backlog = 65536", &["error: `65536` is out of range"]),
        ("ipv6-only = true", &["error: this is not an IPv6 address"]),
        ("socket-mode = \"660\"", &["error: only a Unix socket has permissions"]),
        ("proxy-protocol = true", &["error: nobody is trusted to say whom a connection is from"]),
        ("proxy-protocol = true\ntrusted-proxies = [\"10.0.0.0/8\", \"unix\"]", &[]),
        ("compression = [\"br\", \"gzip\"]\ncompression-min-bytes = 0\ncompression-types = [\"text/*\"]", &[]),
        ("compression = [\"br\", \"br\"]", &["error: `br` is listed twice"]),
        ("compression = [\"deflate\"]", &["error: `deflate` is not one of zstd, br, gzip"]),
        ("compression = true", &["error: expected an array, found a boolean"]),
        ("compression-types = [\"text\"]", &["error: `text` is not a media type"]),
        ("server-header = \"rusmd\"\nheaders = { x-a = \"b\" }", &[]),
        ("server-header = \"\"", &["error: the Server header would be empty"]),
        ("server-header = true", &["error: expected a string, found a boolean"]),
        ("server-header = \"a\\nb\"", &["error: a header's value has no control characters and no blanks around it"]),
        ("server-header = \"a\"\nheaders = { Server = \"b\" }", &["error: `headers` has a Server header already"]),
        ("headers = { X-Request-Id = \"a\" }", &["error: the header `X-Request-Id` is the server's own"]),
        ("trusted-proxies = [\"10.0.0.1/8\"]", &["error: `10.0.0.1/8` is not a network"]),
    ];
    for (more, expected) in table {
        assert_eq!(titles(&with(more)), *expected, "{more}");
    }
}

#[test]
fn what_is_for_one_kind_of_address_is_a_mistake_of_another() {
    let serve = |listen: &str, more: &str| format!("[[serve]]\nlisten = {listen:?}\ncomponent = \"api\"\n{more}\n");
    let none: &[&str] = &[];
    assert_eq!(titles(&serve("unix:x", "socket-mode = \"666\"")), none);
    assert_eq!(titles(&serve("unix:x", "reuse-port = true")), ["error: a Unix socket has no port"]);
    assert_eq!(titles(&serve("unix:x", "ipv6-only = true")), ["error: this is not an IPv6 address"]);
    assert_eq!(titles(&serve("[::]:80", "ipv6-only = true")), none);
    let admin = titles("[server]\nadmin = \"unix:x\"\n");
    assert!(admin.contains(&"error: this is served over TCP alone".to_owned()), "{admin:?}");
}

#[test]
fn the_address_of_both_families_is_not_wanted_twice() {
    let two = |second: &str| {
        let serve = |listen: &str| format!("[[serve]]\nlisten = \"{listen}\"\ncomponent = \"api\"\n");
        titles(&format!("{}{}{second}", serve("0.0.0.0:80"), serve("[::]:80")))
    };
    assert_eq!(two(""), ["error: this address takes the connections of 0.0.0.0:80 too"]);
    assert_eq!(two("ipv6-only = true"), Vec::<String>::new());
}
