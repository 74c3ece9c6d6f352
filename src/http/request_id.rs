//! The id of a request that everybody sees: its client and its component as `X-Request-Id`, the operator in every log.
//!
//! Owns what such an id looks like and how one is made; knows nothing of who may give one. `connection` has ids for what is no request, the
//! reactor for all others. The ids by which supervisor and workers name requests to each other are counted, and tell nobody else how many
//! requests there are: they are hashed with a key, which std draws from the kernel, so that a public id can neither be guessed nor be counted.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;

/// The field of requests and responses that carries the id, which no RFC knows.
pub const REQUEST_ID_FIELD: &str = "x-request-id";

/// Most bytes of an id that a trusted proxy may give.
pub const GIVEN_BYTES_MAX: usize = 128;

/// Bytes of an id that is made here: 128 bits in lowercase hexadecimal digits.
pub const MADE_BYTES: usize = 32;

/// One request's id: visible ASCII that may stand in a field, a log line and a JSON string as it is.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicId {
    Made([u8; MADE_BYTES]),
    Given(Rc<str>),
}

impl PublicId {
    /// What a trusted proxy calls the request, if that is an id: `1*128( ALPHA / DIGIT / "." / "_" / "-" )`.
    pub fn given(value: &[u8]) -> Option<PublicId> {
        let is_id_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        let fits = (1..=GIVEN_BYTES_MAX).contains(&value.len()) && value.iter().all(is_id_byte);
        std::str::from_utf8(value).ok().filter(|_| fits).map(|text| PublicId::Given(text.into()))
    }

    pub fn as_str(&self) -> &str {
        match self {
            // Digits are always text.
            PublicId::Made(digits) => std::str::from_utf8(digits).unwrap_or_default(),
            PublicId::Given(text) => text,
        }
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes the ids of one process.
#[derive(Debug, Default)]
pub struct Ids {
    numbered: RandomState,
    unnumbered: RandomState,
    refusals: Cell<u64>,
}

impl Ids {
    /// For a request that has a number of its own. The same number gives the same id.
    pub fn of(&self, number: u64) -> PublicId {
        make(&self.numbered, number)
    }

    /// For what is refused before it is a request.
    pub fn next_unnumbered(&self) -> PublicId {
        let number = self.refusals.get();
        self.refusals.set(number.wrapping_add(1));
        make(&self.unnumbered, number)
    }
}

/// Two hashes, of a text and of the same with something after it, tell nothing of each other.
fn make(key: &RandomState, number: u64) -> PublicId {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hasher = key.build_hasher();
    hasher.write_u64(number);
    let high = hasher.finish();
    hasher.write_u64(number);
    let low = hasher.finish();
    let mut digits = [0; MADE_BYTES];
    let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
    PublicId::Made(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn made_ids_have_one_form_and_differ() {
        let ids = Ids::default();
        let mut seen = BTreeSet::new();
        for number in 0..1000 {
            for id in [ids.of(number), ids.next_unnumbered()] {
                assert_eq!(id.as_str().len(), MADE_BYTES);
                assert!(id.as_str().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
                assert!(seen.insert(id.to_string()), "{id} came twice");
            }
        }
    }

    #[test]
    fn a_number_has_one_id_in_a_process_and_another_in_the_next() {
        let (one, other) = (Ids::default(), Ids::default());
        assert_eq!(one.of(7), one.of(7));
        assert_ne!(one.of(7), other.of(7));
    }

    #[test]
    fn ids_are_taken_up_to_their_limit_and_of_harmless_bytes_alone() {
        let longest = "a".repeat(GIVEN_BYTES_MAX);
        for good in ["a", "0-9_A.z", "f47ac10b-58cc-4372-a567-0e02b2c3d479", &longest] {
            assert_eq!(PublicId::given(good.as_bytes()).map(|id| id.to_string()).as_deref(), Some(good));
        }
        let too_long = "a".repeat(GIVEN_BYTES_MAX + 1);
        for bad in ["", " a", "a b", "a,b", "a\"", "a=b", "a\\", "é", "a\t", "a\u{1b}[2J", &too_long] {
            assert_eq!(PublicId::given(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
