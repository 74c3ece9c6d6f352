//! Any bytes as a manifest: they make a configuration or diagnostics that can be shown, and nothing panics.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rusmd::config::{Diagnostics, Overrides, Purpose, Surroundings, parse};
use rusmd::sys::IdentityError;

fuzz_target!(|data: &[u8]| {
    let around = Surroundings {
        directory: Path::new("/app"),
        cpus: 4,
        variable: &|name| (name == "HOME").then(|| "/home/app".to_owned()),
        is_file: &|path| path.extension().is_some_and(|extension| extension == "wasm"),
        is_directory: &|path| path.starts_with("/app"),
        identity: &|_, _| Err(IdentityError::NoUser),
    };
    match parse(Path::new("rusm.toml"), data, &Overrides::default(), &around) {
        Ok(loaded) => {
            assert!(!loaded.diagnostics.has_errors(Purpose::Start));
            assert!(!loaded.config.serves.is_empty());
            show(&loaded.diagnostics);
        }
        Err(diagnostics) => {
            assert!(diagnostics.has_errors(Purpose::Start));
            show(&diagnostics);
        }
    }
});

fn show(diagnostics: &Diagnostics) {
    for purpose in [Purpose::Start, Purpose::Check] {
        let text = diagnostics.render(purpose, false);
        assert_eq!(text.is_empty(), diagnostics.is_empty());
    }
    assert!(diagnostics.lines().all(|(_, line)| !line.is_empty()));
}
