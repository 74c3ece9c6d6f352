#[rusm_rs::handlers]
pub struct Api;

fn main() {}
