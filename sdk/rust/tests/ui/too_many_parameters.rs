#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub fn show(_req: Request, _p: Params, _more: u32) -> Response {
        Response::text("three")
    }
}

fn main() {}
