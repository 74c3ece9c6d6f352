//! The smallest component of actions, for the benchmark: `hello` answers `hello world`.

use rusm_rs::http::Response;

#[rusm_rs::handlers]
pub mod hello {
    use super::*;

    pub fn hello() -> Response {
        Response::text("hello world\n")
    }
}
