#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub async fn first(_req: Request) -> Response {
        Response::text("async")
    }

    pub fn second(_req: Request, _p: Params, _more: u32) -> Response {
        Response::text("three")
    }

    fn third(_req: Request) -> Response {
        Response::text("hidden")
    }
}

fn main() {}
