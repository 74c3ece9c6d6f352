#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    fn _helper() -> Response {
        Response::empty(204)
    }
}

fn main() {}
