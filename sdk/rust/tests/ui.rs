//! What an author sees: the samples that must compile, and the message for each mistake.
//!
//! Owns the list; each mistake is a file in `ui`, named for it, beside the message that it must give.
//! `TRYBUILD=overwrite cargo test -p rusm-rs --test ui` writes the messages anew.

#[test]
fn samples_compile_and_each_mistake_says_what_to_do() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/pass/*.rs");
    cases.compile_fail("tests/ui/*.rs");
}
