#![allow(unused_imports)]

use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    pub fn show(req: Request) -> Result<Response, std::num::ParseIntError> {
        let number: u64 = req.query("n").unwrap_or_default().parse()?;
        Ok(Response::text(number.to_string()))
    }
}

fn main() {}
