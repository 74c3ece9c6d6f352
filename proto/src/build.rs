//! What a build of this crate is called: its version, and a fingerprint of its sources.
//!
//! A supervisor and a worker whose sources of the wire differ would misunderstand each other, version or no version: the
//! handshake compares this name, so that a binary left over from before a change is refused and not believed.

/// `0.1.0+89abcdef01234567`.
pub const BUILD: &str = match str::from_utf8(&NAME) {
    Ok(name) => name,
    Err(_) => panic!("a version and hexadecimal digits are ASCII"),
};

const VERSION: &[u8] = env!("CARGO_PKG_VERSION").as_bytes();
const DIGITS: usize = 16;
const NAME: [u8; VERSION.len() + 1 + DIGITS] = name();

/// Everything that decides what crosses the link or stands in the status page.
const SOURCES: [(&str, &[u8]); 7] = [
    ("build.rs", include_bytes!("build.rs")),
    ("codec.rs", include_bytes!("codec.rs")),
    ("frame.rs", include_bytes!("frame.rs")),
    ("lib.rs", include_bytes!("lib.rs")),
    ("limits.rs", include_bytes!("limits.rs")),
    ("message.rs", include_bytes!("message.rs")),
    ("status.rs", include_bytes!("status.rs")),
];

const fn name() -> [u8; VERSION.len() + 1 + DIGITS] {
    let mut name = [b'+'; VERSION.len() + 1 + DIGITS];
    let mut at = 0;
    while at < VERSION.len() {
        name[at] = VERSION[at];
        at += 1;
    }
    let fingerprint = fingerprint();
    let mut digit = 0;
    while digit < DIGITS {
        name[VERSION.len() + 1 + digit] = b"0123456789abcdef"[(fingerprint >> (60 - 4 * digit)) as usize & 0xf];
        digit += 1;
    }
    name
}

/// FNV-1a over all sources. Nobody attacks it: both ends are installed by the same hand.
const fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut file = 0;
    while file < SOURCES.len() {
        let bytes = SOURCES[file].1;
        let mut at = 0;
        while at < bytes.len() {
            hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        file += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_named_by_its_version_and_sixteen_digits() {
        let (version, digits) = BUILD.split_once('+').expect("two parts");
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        assert!(digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{digits}");
    }

    #[test]
    fn every_source_counts() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let listed = std::fs::read_dir(directory).expect("the sources are there");
        let mut names: Vec<_> = listed.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        assert_eq!(names, SOURCES.map(|(name, _)| name));
    }
}
