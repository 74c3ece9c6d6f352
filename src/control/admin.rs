//! Owns what the admin listener answers: metrics, and whether the server lives and is ready. Pure; the reactor brings the requests from
//! `http` and sends the answers.

use super::metrics;
use super::status::{ServerState, Status};

const PLAIN: &str = "text/plain; charset=utf-8";

/// What an orchestrator asks for many times a minute: no process is looked at for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    pub state: ServerState,
    /// Workers of the current generation that can be given a request or have one.
    pub workers_ready: u64,
}

/// An answer, whole. A response to HEAD has its length and not its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminAnswer {
    pub status: u16,
    pub content_type: &'static str,
    /// The value of `Allow`, with 405.
    pub allow: Option<&'static str>,
    pub body: String,
}

/// Answers a request; `path` is without its query. The status is made only when it is needed.
pub fn answer(method: &str, path: &str, readiness: Readiness, status: impl FnOnce() -> Status) -> AdminAnswer {
    let is_known = matches!(path, "/metrics" | "/healthz" | "/readyz");
    if !is_known {
        return AdminAnswer::plain(404, "not found: there are /metrics, /healthz and /readyz\n");
    }
    if !matches!(method, "GET" | "HEAD") {
        return AdminAnswer { allow: Some("GET, HEAD"), ..AdminAnswer::plain(405, "method not allowed\n") };
    }
    match path {
        "/metrics" => AdminAnswer {
            status: 200,
            content_type: metrics::CONTENT_TYPE,
            allow: None,
            body: metrics::render(&status()),
        },
        "/readyz" => match readiness.problem() {
            None => AdminAnswer::plain(200, "ready\n"),
            Some(problem) => AdminAnswer::plain(503, &format!("not ready: {problem}\n")),
        },
        // That it is answered is the answer.
        _ => AdminAnswer::plain(200, "ok\n"),
    }
}

impl AdminAnswer {
    fn plain(status: u16, body: &str) -> AdminAnswer {
        AdminAnswer { status, content_type: PLAIN, allow: None, body: body.to_owned() }
    }
}

impl Readiness {
    /// Why no requests should be sent here.
    pub const fn problem(self) -> Option<&'static str> {
        match self.state {
            ServerState::Starting => Some("starting"),
            ServerState::Resting => Some("resting"),
            ServerState::Draining => Some("draining"),
            ServerState::Stopping => Some("stopping"),
            ServerState::Serving | ServerState::Reloading | ServerState::Upgrading if self.workers_ready == 0 => {
                Some("no worker is ready")
            }
            ServerState::Serving | ServerState::Reloading | ServerState::Upgrading => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    const READY: Readiness = Readiness { state: ServerState::Serving, workers_ready: 1 };

    fn cheap(method: &str, path: &str, readiness: Readiness) -> AdminAnswer {
        answer(method, path, readiness, || panic!("the whole status was made for {path}"))
    }

    #[test]
    fn metrics_are_made_when_they_are_asked_for() {
        for method in ["GET", "HEAD"] {
            let answer = answer(method, "/metrics", READY, sample::status);
            assert_eq!((answer.status, answer.content_type), (200, "text/plain; version=0.0.4; charset=utf-8"));
            assert_eq!(answer.body, metrics::render(&sample::status()));
        }
    }

    #[test]
    fn a_server_lives_while_it_answers() {
        for state in [ServerState::Starting, ServerState::Draining, ServerState::Stopping, ServerState::Serving] {
            assert_eq!(cheap("GET", "/healthz", Readiness { state, workers_ready: 0 }).status, 200);
        }
    }

    #[test]
    fn a_server_is_ready_while_it_serves_and_has_a_worker() {
        use ServerState::{Draining, Reloading, Resting, Serving, Starting, Stopping, Upgrading};
        let table = [
            (Serving, 1, 200, "ready\n"),
            (Reloading, 1, 200, "ready\n"),
            (Upgrading, 1, 200, "ready\n"),
            (Serving, 0, 503, "not ready: no worker is ready\n"),
            (Starting, 1, 503, "not ready: starting\n"),
            (Resting, 1, 503, "not ready: resting\n"),
            (Draining, 1, 503, "not ready: draining\n"),
            (Stopping, 1, 503, "not ready: stopping\n"),
        ];
        for (state, workers_ready, status, body) in table {
            let answer = cheap("GET", "/readyz", Readiness { state, workers_ready });
            assert_eq!((answer.status, answer.body.as_str()), (status, body));
        }
    }

    #[test]
    fn nothing_else_is_there_and_nothing_can_be_changed() {
        for path in ["/", "", "/metrics/", "/Metrics", "//metrics", "*", "/healthz/x"] {
            assert_eq!(cheap("GET", path, READY).status, 404, "{path}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
            let answer = cheap(method, "/metrics", READY);
            assert_eq!((answer.status, answer.allow), (405, Some("GET, HEAD")), "{method}");
        }
    }
}
