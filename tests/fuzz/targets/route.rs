//! Any routes over a small alphabet and any path: the router finds what a slow and obvious search finds. And any text as a
//! path: it is resolved or refused, and resolving it again changes nothing.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use rusmd::http::target::normalise;
use rusmd::router::{Params, Resolution, Router};

const SEGMENTS: [&str; 5] = ["a", "b", ":x", ":y", "*"];
const METHODS: [Option<&str>; 3] = [None, Some("GET"), Some("POST")];

fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else { return };
    let (mut routes, mut rest) = (Vec::new(), rest);
    for _ in 0..count % 8 {
        let Some((route, after)) = take_route(rest) else { return };
        routes.push(route);
        rest = after;
    }
    let texts: Vec<String> = routes.iter().map(|route| format!("/{}", route.segments.join("/"))).collect();
    let pairs = routes.iter().zip(&texts).map(|(route, text)| (route.method, text.as_str()));
    let Ok(router) = Router::new(pairs) else { return };
    check_search(&router, &routes, rest);
    check_text(&router, rest);
});

struct Route {
    method: Option<&'static str>,
    segments: Vec<&'static str>,
}

/// A route: its method, the number of its segments, the segments. A `*` is made the last.
fn take_route(data: &[u8]) -> Option<(Route, &[u8])> {
    let (first, rest) = data.split_first()?;
    let method = METHODS[usize::from(first % 3)];
    let (bytes, rest) = rest.split_at_checked(usize::from(first / 3 % 5))?;
    let mut segments: Vec<&str> = bytes.iter().map(|byte| SEGMENTS[usize::from(byte % 5)]).collect();
    if let Some(star) = segments.iter().position(|segment| *segment == "*") {
        segments.truncate(star + 1);
    }
    Some((Route { method, segments }, rest))
}

fn check_search(router: &Router, routes: &[Route], data: &[u8]) {
    let path: Vec<&str> = data.iter().take(5).map(|byte| ["a", "b", "c"][usize::from(byte % 3)]).collect();
    let text = format!("/{}", path.join("/"));
    for method in ["GET", "POST", "PUT"] {
        let mut params = Params::new();
        let found = match router.resolve(method, &Cow::Borrowed(&text), &mut params) {
            Resolution::Found(route) => Some(route.index()),
            Resolution::NotFound | Resolution::MethodNotAllowed { .. } => None,
            other => panic!("{other:?} for {method} {text}"),
        };
        assert_eq!(found, search(routes, method, &path), "{method} {text}");
    }
}

/// The best of all routes that have the path and the method: by their segments from the left, then by a declared method.
fn search(routes: &[Route], method: &str, path: &[&str]) -> Option<usize> {
    let fitting = routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.method.is_none_or(|own| own == method) && has_path(&route.segments, path));
    fitting
        .min_by_key(|(_, route)| (route.segments.iter().map(rank).collect::<Vec<_>>(), route.method.is_none()))
        .map(|(index, _)| index)
}

fn rank(segment: &&str) -> u8 {
    match segment.as_bytes().first() {
        Some(b'*') => 2,
        Some(b':') => 1,
        _ => 0,
    }
}

fn has_path(segments: &[&str], path: &[&str]) -> bool {
    match (segments, path) {
        ([], []) => true,
        (["*"], [_, ..]) => true,
        ([segment, segments @ ..], [name, path @ ..]) => {
            (segment.starts_with(':') || segment == name) && has_path(segments, path)
        }
        _ => false,
    }
}

/// As a request's path comes to the router: visible ASCII, and resolved by `http` before.
fn check_text(router: &Router, data: &[u8]) {
    let visible = data.iter().filter(|byte| byte.is_ascii_graphic());
    let text: String = visible.map(|byte| char::from(*byte)).collect();
    let Ok(path) = normalise(&text) else { return };
    assert_eq!(normalise(&path).as_deref(), Ok(&*path), "resolving twice changes {text:?}");
    let mut params = Params::new();
    let _ = router.resolve("GET", &path, &mut params);
    for (_, value) in params.iter() {
        assert!(!value.contains('\0'));
    }
}
