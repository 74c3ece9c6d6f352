//! Tables of routes and requests.

use std::borrow::Cow;

use super::*;
use crate::http::target::normalise;

/// `(method, pattern)`, the method empty for any.
fn router(routes: &[(&'static str, &'static str)]) -> Router {
    let routes = routes.iter().map(|(method, pattern)| ((!method.is_empty()).then_some(*method), *pattern));
    Router::new(routes).expect("the routes of a test are good")
}

/// What became of a request, in a form that reads well in a table: `2 id=5`, `404`, `405 GET, HEAD`, `options GET`, `400`.
fn outcome(router: &Router, method: &str, path: &str) -> String {
    let Ok(path) = normalise(path) else { return "400".to_owned() };
    let mut params = Params::new();
    match router.resolve(method, &path, &mut params) {
        Resolution::Found(route) => {
            let params: String = params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("{}{params}", route.0)
        }
        Resolution::NotFound => "404".to_owned(),
        Resolution::MethodNotAllowed { allow } => format!("405 {allow}"),
        Resolution::Options { allow } => format!("options {allow}"),
        Resolution::BadPath(_) => "400".to_owned(),
    }
}

fn check(router: &Router, table: &[(&str, &str, &str)]) {
    for (method, path, expected) in table {
        assert_eq!(outcome(router, method, path), *expected, "{method} {path}");
    }
}

#[test]
fn literal_beats_param_beats_star_whatever_the_order_of_declaration() {
    let routes = [
        ("GET", "/users/*"),
        ("GET", "/users/:id"),
        ("GET", "/users/new"),
        ("GET", "/users/:id/posts"),
        ("GET", "/:any/new"),
        ("GET", "/"),
    ];
    let table = [
        ("GET", "/users/new", "2"),
        ("GET", "/users/5", "1 id=5"),
        ("GET", "/users/5/posts", "3 id=5"),
        ("GET", "/users/5/other", "0 *=5/other"),
        ("GET", "/users/new/x", "0 *=new/x"),
        ("GET", "/x/new", "4 any=x"),
        ("GET", "/users", "404"),
        ("GET", "/x", "404"),
        ("GET", "/", "5"),
    ];
    check(&router(&routes), &table);
    let mut reversed = routes;
    reversed.reverse();
    let number = |expected: &str| {
        let (route, rest) = expected.split_at(expected.find(' ').unwrap_or(expected.len()));
        if route == "404" {
            expected.to_owned()
        } else {
            format!("{}{rest}", 5 - route.parse::<u32>().expect("a number"))
        }
    };
    for (method, path, expected) in table {
        assert_eq!(outcome(&router(&reversed), method, path), number(expected), "{method} {path}");
    }
}

#[test]
fn the_walk_goes_back_where_a_better_branch_leads_nowhere() {
    let router = router(&[("GET", "/a/b/c"), ("GET", "/a/:x/d"), ("GET", "/:y/b/e"), ("GET", "/*")]);
    check(
        &router,
        &[
            ("GET", "/a/b/c", "0"),
            ("GET", "/a/b/d", "1 x=b"),
            ("GET", "/a/b/e", "2 y=a"),
            ("GET", "/a/b/f", "3 *=a/b/f"),
            ("GET", "/", "404"),
        ],
    );
}

#[test]
fn the_best_route_has_both_the_path_and_the_method() {
    let router =
        router(&[("GET", "/users/new"), ("POST", "/users/:id"), ("", "/users/:id/x"), ("PUT", "/users/:id/x")]);
    check(
        &router,
        &[
            ("POST", "/users/new", "1 id=new"),
            ("GET", "/users/5", "405 OPTIONS, POST"),
            ("DELETE", "/users/new", "405 GET, HEAD, OPTIONS, POST"),
            ("PUT", "/users/5/x", "3 id=5"),
            ("PATCH", "/users/5/x", "2 id=5"),
            ("OPTIONS", "/users/5/x", "2 id=5"),
        ],
    );
}

#[test]
fn head_is_served_from_get_and_options_is_answered_unless_they_are_declared() {
    let plain = router(&[("GET", "/a"), ("POST", "/a"), ("POST", "/b")]);
    check(
        &plain,
        &[
            ("HEAD", "/a", "0"),
            ("HEAD", "/b", "405 OPTIONS, POST"),
            ("OPTIONS", "/a", "options GET, HEAD, OPTIONS, POST"),
            ("OPTIONS", "/c", "404"),
            ("get", "/a", "405 GET, HEAD, OPTIONS, POST"),
        ],
    );
    let declared = router(&[("GET", "/a"), ("HEAD", "/a"), ("OPTIONS", "/a"), ("", "/b"), ("GET", "/b")]);
    check(
        &declared,
        &[
            ("HEAD", "/a", "1"),
            ("OPTIONS", "/a", "2"),
            ("POST", "/a", "405 GET, HEAD, OPTIONS"),
            ("HEAD", "/b", "4"),
            ("POST", "/b", "3"),
        ],
    );
}

#[test]
fn trailing_and_doubled_slashes_do_not_matter_on_either_side() {
    let router = router(&[("GET", "/users/:id/"), ("GET", "//files//*")]);
    check(
        &router,
        &[
            ("GET", "/users/5", "0 id=5"),
            ("GET", "/users/5/", "0 id=5"),
            ("GET", "//users//5//", "0 id=5"),
            ("GET", "/files/a/b/", "1 *=a/b"),
            ("GET", "/files//a///b//", "1 *=a/b"),
            ("GET", "/files//", "404"),
        ],
    );
}

#[test]
fn segments_are_decoded_after_the_split() {
    let router = router(&[("GET", "/café/:name"), ("GET", "/a%2Fb"), ("GET", "/files/*")]);
    check(
        &router,
        &[
            ("GET", "/caf%C3%A9/J%c3%b6rg", "0 name=Jörg"),
            ("GET", "/café/a%2Fb", "0 name=a/b"),
            ("GET", "/%61%2fb", "1"),
            ("GET", "/a/b", "404"),
            ("GET", "/files/a%20b/c%2Fd", "2 *=a b/c/d"),
            ("GET", "/files/%25", "2 *=%"),
            ("GET", "/files/a+b", "2 *=a+b"),
        ],
    );
}

#[test]
fn a_literal_may_begin_with_a_colon_or_be_a_star_when_it_is_encoded() {
    let router = router(&[("GET", "/%3Aid"), ("GET", "/%2A")]);
    check(&router, &[("GET", "/:id", "0"), ("GET", "/*", "1"), ("GET", "/5", "404")]);
}

#[test]
fn dot_segments_are_resolved_before_routing_and_bad_paths_are_told() {
    let router = router(&[("GET", "/a/:x"), ("GET", "/*")]);
    check(
        &router,
        &[
            ("GET", "/b/../a/./5", "0 x=5"),
            ("GET", "/a/%2e%2e/c", "1 *=c"),
            ("GET", "/a/..%2fc", "0 x=../c"),
            ("GET", "/a//..//5", "0 x=5"),
            ("GET", "/..", "400"),
            ("GET", "/a/%00", "400"),
            ("GET", "/a/%zz", "400"),
            ("GET", "/a/%ff", "400"),
            ("GET", "*", "400"),
            ("GET", "", "400"),
        ],
    );
}

#[test]
fn routes_that_nothing_tells_apart_are_refused_and_all_of_them_are_told() {
    let routes = [
        (Some("GET"), "/users/:id"),
        (Some("GET"), "/users/:name"),
        (Some("POST"), "/users/:name"),
        (None, "/x"),
        (Some("GET"), "/x"),
        (None, "//x/"),
        (Some("GET"), "/f/*"),
        (Some("GET"), "/{id}"),
        (Some("GET"), "/f/*"),
        (Some("GET"), "/caf%c3%a9"),
        (Some("GET"), "/café"),
    ];
    let errors = Router::new(routes).expect_err("some conflict");
    let told: Vec<_> = errors
        .iter()
        .map(|error| match &error.cause {
            RouteErrorCause::Conflict { with } => (error.route.0, Some(with.0)),
            RouteErrorCause::Pattern(_) | RouteErrorCause::TooMany => (error.route.0, None),
        })
        .collect();
    assert_eq!(told, [(1, Some(0)), (5, Some(3)), (7, None), (8, Some(6)), (10, Some(9))]);
}

#[test]
fn routes_are_counted_up_to_their_limit() {
    let patterns: Vec<String> = (0..=ROUTES_MAX).map(|number| format!("/{number}")).collect();
    let routes = |count: usize| patterns.iter().take(count).map(|pattern| (None, pattern.as_str()));
    let full = Router::new(routes(ROUTES_MAX)).expect("the limit is allowed");
    assert_eq!(outcome(&full, "GET", "/9999"), "9999");
    let errors = Router::new(routes(ROUTES_MAX + 1)).expect_err("one past is not");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].cause, RouteErrorCause::TooMany);
}

#[test]
fn as_many_params_as_a_route_may_have_arrive() {
    let pattern: String = (0..PARAMS_PER_ROUTE_MAX - 1).map(|n| format!("/:p{n}")).collect::<String>() + "/*";
    let router = Router::new([(None, pattern.as_str())]).expect("a good route");
    let path: String = (0..PARAMS_PER_ROUTE_MAX + 3).map(|n| format!("/v{n}")).collect();
    let mut params = Params::new();
    assert_eq!(router.resolve("GET", &Cow::Borrowed(&path), &mut params), Resolution::Found(RouteIndex(0)));
    assert_eq!(params.len(), PARAMS_PER_ROUTE_MAX);
    assert_eq!(params.get("p14"), Some("v14"));
    assert_eq!(params.get("*"), Some("v15/v16/v17/v18"));
    assert_eq!(params.get("p15"), None);
}

#[test]
fn values_are_borrowed_where_nothing_is_decoded() {
    let router = router(&[("GET", "/u/:id/*")]);
    let mut params = Params::new();
    let path = "/u/5/a/b";
    assert_eq!(router.resolve("GET", &Cow::Borrowed(path), &mut params), Resolution::Found(RouteIndex(0)));
    let inside = |value: &str| path.as_bytes().as_ptr_range().contains(&value.as_ptr());
    assert!(params.iter().all(|(_, value)| inside(value)));
    // The same parameters are used again, and a miss leaves none behind.
    assert_eq!(router.resolve("GET", &Cow::Borrowed("/nowhere"), &mut params), Resolution::NotFound);
    assert!(params.is_empty());
}

/// A small generator, so that a failure replays.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn arbitrary_paths_and_patterns_never_panic_and_normalising_twice_changes_nothing() {
    let alphabet = [
        "/", "/", "a", "b", ":", ":x", "*", ".", "..", "%", "%2e", "%2F", "%00", "%c3", "%a9", "é", "?", "{", "\0", " ",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..20_000 {
        let mut text = || {
            let length = random(&mut seed) % 12;
            (0..length).map(|_| alphabet[random(&mut seed) as usize % alphabet.len()]).collect::<String>()
        };
        let (path, patterns) = (text(), [text(), text(), text()]);
        if let Ok(once) = normalise(&path) {
            assert_eq!(normalise(&once), Ok(Cow::Borrowed(&*once)), "{path:?}");
        }
        let good: Vec<_> = patterns.iter().filter(|pattern| Router::new([(None, pattern.as_str())]).is_ok()).collect();
        if let Ok(router) = Router::new(good.iter().map(|pattern| (Some("GET"), pattern.as_str()))) {
            let mut params = Params::new();
            let _ = router.resolve("GET", &Cow::Borrowed(&path), &mut params);
            let _ = router.resolve("PUT", &Cow::Owned(path.clone()), &mut params);
        }
    }
}
