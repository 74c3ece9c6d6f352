#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub async fn show(_req: Request, _p: Params) -> Response {
        Response::text("later")
    }
}

fn main() {}
