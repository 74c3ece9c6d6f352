#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub fn show<T: ToString>(_req: Request, value: T) -> Response {
        Response::text(value.to_string())
    }
}

fn main() {}
