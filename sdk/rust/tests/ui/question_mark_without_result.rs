#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub fn show(req: Request) -> Response {
        Response::text(req.text()?)
    }
}

fn main() {}
