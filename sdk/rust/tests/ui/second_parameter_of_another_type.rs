#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub fn show(_req: Request, _id: String) -> Response {
        Response::text("string")
    }
}

fn main() {}
