//! Who is found behind trusted proxies, and that nothing else is believed. Tests only.

use super::*;

const PROXY: &str = "10.0.0.1:4000";

/// Proxies are in 10.0.0.0/8 and fd00::/8.
fn is_trusted(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.octets()[0] == 0xfd,
    }
}

fn connection() -> Origin<'static> {
    Origin { peer: Some(PROXY.parse().expect("an address")), scheme: Scheme::Http, authority: None }
}

fn find<'a>(fields: &[(&'a str, &'a str)]) -> Origin<'a> {
    let fields = fields.iter().map(|&(name, value)| (name, value.as_bytes()));
    Origin::find(fields, connection(), is_trusted)
}

/// As `address scheme authority`, without what the connection says.
fn told(origin: Origin<'_>) -> String {
    let peer = origin.peer.map(|peer| peer.to_string()).filter(|peer| peer != PROXY);
    let scheme = (origin.scheme == Scheme::Https).then(|| "https".to_owned());
    [peer, scheme, origin.authority.map(str::to_owned)].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[test]
fn forwarded_tells_who_asks_how_and_for_what() {
    for (value, expected) in [
        ("for=192.0.2.7", "192.0.2.7:0"),
        ("For=192.0.2.7;Proto=HTTPS;Host=a.example", "192.0.2.7:0 https a.example"),
        ("for=\"192.0.2.7:4711\";by=10.0.0.1", "192.0.2.7:4711"),
        ("for=\"[2001:db8::7]\"", "[2001:db8::7]:0"),
        ("for=\"[2001:db8::7]:4711\" ; proto=https", "[2001:db8::7]:4711 https"),
        ("for=\"192.0.2.7:_hidden\"", "192.0.2.7:0"),
        ("for=192.0.2.7;host=\"a.example:8443\"", "192.0.2.7:0 a.example:8443"),
        ("for=192.0.2.7;;", "192.0.2.7:0"),
        ("for=192.0.2.7;secret=\"a, b; \\\"c\\\"\"", "192.0.2.7:0"),
        (", for=192.0.2.7 ,, ", "192.0.2.7:0"),
        // Who is not told, or told in riddles, is not known; the rest is.
        ("for=unknown;proto=https", "https"),
        ("for=_SEVKISEK;proto=https;host=a", "https a"),
        ("for=\"_gazonk:4711\"", ""),
        ("for=\"unknown:4711\"", ""),
        ("proto=https", "https"),
        // Neither another scheme nor what is no host says anything.
        ("for=192.0.2.7;proto=ftp;host=\"a b\"", "192.0.2.7:0"),
        ("for=192.0.2.7;host=\"a,b\"", "192.0.2.7:0"),
    ] {
        assert_eq!(told(find(&[("forwarded", value)])), expected, "{value}");
    }
}

#[test]
fn what_is_malformed_says_nothing() {
    for value in [
        "for=2001:db8::7",
        "for=[2001:db8::7]",
        "for=\"2001:db8::7\"",
        "for=\"[2001:db8::7\"",
        "for=\"[192.0.2.7]\"",
        "for=\"192.0.2.7:\"",
        "for=\"192.0.2.7:65536\"",
        "for=\"192.0.2.7:123456\"",
        "for=\"192.0.2.7:+1\"",
        "for=192.0.2",
        "for=192.0.2.07",
        "for=192.0.2.7 proto=https",
        "for=192.0.2.7;proto",
        "for = 192.0.2.7",
        "for=",
        "for=\"\"",
        "for=\"192.0.2.7",
        "for=192.0.2.7\"",
        "for=\"192.0.2.7\\",
        "for=\"\\192.0.2.7\"",
        "for=192.0.2.7;for=192.0.2.8",
        "for=192.0.2.7;proto=https;proto=http",
        "for=_",
        "for=\"_a b\"",
        "192.0.2.7",
        "\u{e4}=1",
    ] {
        assert_eq!(told(find(&[("forwarded", value)])), "", "{value}");
    }
}

#[test]
fn the_first_address_from_the_right_that_is_no_proxy_is_the_client() {
    for (value, expected) in [
        ("for=203.0.113.1, for=192.0.2.7, for=10.0.0.2", "192.0.2.7:0"),
        ("for=203.0.113.1;proto=https, for=192.0.2.7", "192.0.2.7:0"),
        ("for=192.0.2.7;proto=https;host=a, for=10.0.0.2;proto=http;host=inner", "192.0.2.7:0 https a"),
        // The nearest proxy that says it.
        ("for=192.0.2.7, for=10.0.0.2;proto=https;host=a", "192.0.2.7:0 https a"),
        // Nobody but proxies: the farthest.
        ("for=10.0.0.3, for=10.0.0.2", "10.0.0.3:0"),
        ("for=\"[::ffff:10.0.0.3]\", for=\"[fd00::2]\"", "[::ffff:10.0.0.3]:0"),
        // The walk ends at the last good hop.
        ("for=192.0.2.7, for=nonsense, for=10.0.0.2;proto=https", "10.0.0.2:0 https"),
        ("for=192.0.2.7, for=unknown, for=10.0.0.2", "10.0.0.2:0"),
    ] {
        assert_eq!(told(find(&[("forwarded", value)])), expected, "{value}");
    }
}

#[test]
fn lines_of_one_field_are_one_list() {
    let one = find(&[("forwarded", "for=203.0.113.1"), ("forwarded", "for=192.0.2.7"), ("forwarded", "for=10.0.0.2")]);
    assert_eq!(told(one), "192.0.2.7:0");
    let other = find(&[
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "192.0.2.7, 10.0.0.2"),
        ("x-forwarded-proto", "https, http"),
    ]);
    assert_eq!(told(other), "192.0.2.7:0 https");
}

#[test]
fn customary_fields_tell_the_same() {
    for (list, scheme, host, expected) in [
        ("192.0.2.7", "https", "a.example", "192.0.2.7:0 https a.example"),
        ("192.0.2.7:4711", "", "", "192.0.2.7:4711"),
        ("2001:db8::7", "", "", "[2001:db8::7]:0"),
        ("[2001:db8::7]:4711", "", "", "[2001:db8::7]:4711"),
        ("203.0.113.1, 192.0.2.7", "http, https", "b, a", "192.0.2.7:0 https a"),
        ("203.0.113.1, 192.0.2.7, 10.0.0.2", "https", "a", "192.0.2.7:0 https a"),
        ("203.0.113.1, 192.0.2.7, 10.0.0.2", "http, https, http", "c, a, b", "192.0.2.7:0 https a"),
        ("unknown", "https", "", "https"),
        ("", "https", "a", "https a"),
        ("", "", "a, b", "b"),
        ("192.0.2.7", "wss", "a b", "192.0.2.7:0"),
        ("192.0.2.7, nonsense, 10.0.0.2", "", "", "10.0.0.2:0"),
        ("192.0.2.7, nonsense", "https", "a", ""),
        ("2001:db8::7:", "", "", ""),
        (" , ,192.0.2.7, ", "", "", "192.0.2.7:0"),
    ] {
        let fields = [("x-forwarded-for", list), ("x-forwarded-proto", scheme), ("x-forwarded-host", host)].to_vec();
        let fields: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        assert_eq!(told(find(&fields)), expected, "{fields:?}");
    }
}

#[test]
fn nothing_that_stands_left_of_the_client_changes_anything() {
    for ahead in [
        "\"",
        "for=\"",
        "for=9.9.9.9;x=\"",
        "\\",
        "x=\"\\",
        ";",
        "=",
        ",,,\"\\\"",
        "for=\"9.9.9.9",
        "a=\"b\\\"",
        "\u{e4}",
    ] {
        let element = "for=\"[2001:db8::7]:1\";proto=https;x=\"a,\\\\\", for=10.0.0.2";
        let value = format!("{ahead}, {element}");
        assert_eq!(told(find(&[("forwarded", &value)])), "[2001:db8::7]:1 https", "{value}");
        assert_eq!(told(find(&[("forwarded", ahead), ("forwarded", element)])), "[2001:db8::7]:1 https", "{value}");
        let value = format!("{ahead}, 192.0.2.7, 10.0.0.2");
        assert_eq!(told(find(&[("x-forwarded-for", &value)])), "192.0.2.7:0", "{value}");
    }
}

#[test]
fn a_client_s_own_forwarded_does_not_count_beside_what_its_proxy_appends_to() {
    let fields = [("forwarded", "for=9.9.9.9;proto=https;host=evil"), ("x-forwarded-for", "192.0.2.7")];
    assert_eq!(told(find(&fields)), "192.0.2.7:0");
}

#[test]
fn as_many_hops_are_walked_as_the_limit_says_and_not_one_more() {
    let behind = |proxies: usize| format!("192.0.2.7{}", ", 10.0.0.2".repeat(proxies));
    assert_eq!(told(find(&[("x-forwarded-for", &behind(HOPS_MAX - 1))])), "192.0.2.7:0");
    assert_eq!(told(find(&[("x-forwarded-for", &behind(HOPS_MAX))])), "10.0.0.2:0");
}

#[test]
fn who_comes_by_a_unix_socket_can_speak_for_others_too() {
    let unix = Origin { peer: None, ..connection() };
    let fields = [("x-forwarded-for", &b"192.0.2.7"[..])];
    assert_eq!(told(Origin::find(fields.into_iter(), unix, is_trusted)), "192.0.2.7:0");
    assert_eq!(Origin::find(std::iter::empty(), unix, is_trusted), unix);
}
