#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub fn show(_p: Params, _req: Request) -> Response {
        Response::text("order")
    }
}

fn main() {}
