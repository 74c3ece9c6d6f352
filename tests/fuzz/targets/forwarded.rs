//! Any fields of proxies: what is found is what somebody has written, and nothing that stands left of the client's address changes it.
//!
//! The input is one line for each field; its first byte says which.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use rusmd::http::{Header, Origin, Scheme};

const NAMES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

/// What a proxy adds, as each of its fields, for a client that is no proxy and one proxy between.
const ADDED: [(&str, &str); 2] = [
    ("forwarded", "for=\"[2001:db8::7]:4711\";proto=https;host=\"a.example:8443\";x=\"\\\",\", for=10.0.0.2"),
    ("x-forwarded-for", "[2001:db8::7]:4711, 10.0.0.2"),
];

fn is_proxy(address: IpAddr) -> bool {
    address.to_string().starts_with("10.")
}

fn find<'a>(fields: &[Header<'a>]) -> Origin<'a> {
    let peer = Some(SocketAddr::from(([10, 0, 0, 1], 4000)));
    Origin::find(fields.iter().copied(), Origin { peer, scheme: Scheme::Http, authority: None }, is_proxy)
}

fuzz_target!(|data: &[u8]| {
    let lines = data.split(|&byte| byte == b'\n').take(64);
    let fields: Vec<Header<'_>> = lines
        .filter_map(|line| line.split_first().map(|(first, rest)| (NAMES[usize::from(first % 4)], rest)))
        .collect();
    let origin = find(&fields);
    if let Some(authority) = origin.authority {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
        assert!(!authority.is_empty() && authority.bytes().all(legal), "{authority:?}");
    }
    assert!(origin.peer.is_some(), "somebody has asked");

    for (name, added) in ADDED {
        let ahead: Vec<Header<'_>> = fields.iter().filter(|field| field.0 == name).copied().collect();
        // On a line of its own, and on the line that the client has sent last.
        let mut apart = ahead.clone();
        apart.push((name, added.as_bytes()));
        let joined = ahead.last().map(|(_, value)| [value, &b", "[..], added.as_bytes()].concat());
        let mut together = ahead;
        if let (Some(last), Some(joined)) = (together.last_mut(), &joined) {
            last.1 = joined;
        } else {
            continue;
        }
        for fields in [apart, together] {
            let origin = find(&fields);
            assert_eq!(origin.peer.map(|peer| peer.to_string()).as_deref(), Some("[2001:db8::7]:4711"), "{fields:?}");
            if name == "forwarded" {
                assert_eq!((origin.scheme, origin.authority), (Scheme::Https, Some("a.example:8443")), "{fields:?}");
            }
        }
    }
});
