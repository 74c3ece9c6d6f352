#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub fn show(_id: u64) -> Response {
        Response::text("number")
    }
}

fn main() {}
