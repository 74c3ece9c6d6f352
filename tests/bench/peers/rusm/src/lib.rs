//! The smallest component of actions for RUSM, by its own SDK: `hello` answers `hello world`, as ours does.

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod hello {
    use super::*;

    pub fn hello(_request: Request, _params: Params) -> Response {
        Response::new(200, b"hello world\n".to_vec()).header("content-type", "text/plain")
    }
}
