#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub fn show(self, _req: Request) -> Response {
        Response::text("method")
    }
}

fn main() {}
