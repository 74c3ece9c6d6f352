#[rusm_rs::json]
fn user() {}

fn main() {}
