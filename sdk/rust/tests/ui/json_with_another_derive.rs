#[rusm_rs::json(Debug)]
struct User {
    id: u64,
}

fn main() {}
