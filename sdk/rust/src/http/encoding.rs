//! Percent-encoding and `application/x-www-form-urlencoded` (WHATWG URL, section 5.1).
//!
//! Owns the decoding of what a client wrote. Nothing here fails: as in a browser, what is no valid escape stands for itself,
//! and what is no UTF-8 becomes U+FFFD. `request` drives it.

/// Splits `a=1&b=two+words` into decoded pairs, in order. A name without `=` has an empty value.
pub(crate) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    text.split(|&byte| byte == b'&').filter(|piece| !piece.is_empty()).map(pair).collect()
}

fn pair(piece: &[u8]) -> (String, String) {
    match piece.iter().position(|&byte| byte == b'=') {
        Some(at) => (decode(&piece[..at]), decode(&piece[at + 1..])),
        None => (decode(piece), String::new()),
    }
}

fn decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => byte,
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_and_percent_are_decoded_in_names_and_values() {
        assert_eq!(
            pairs(b"a+b=c%20d&%C3%BC=%e2%82%AC"),
            [("a b".to_owned(), "c d".to_owned()), ("\u{fc}".to_owned(), "\u{20ac}".to_owned())]
        );
    }

    #[test]
    fn a_bad_escape_stands_for_itself() {
        for text in ["%", "%4", "%zz", "%%41"] {
            let expected = if text == "%%41" { "%A" } else { text };
            assert_eq!(pairs(text.as_bytes()), [(expected.to_owned(), String::new())]);
        }
    }

    #[test]
    fn what_is_no_utf8_becomes_the_replacement_character() {
        assert_eq!(pairs(b"x=%ff"), [("x".to_owned(), "\u{fffd}".to_owned())]);
    }

    #[test]
    fn empty_pieces_are_skipped_and_only_the_first_equals_sign_splits() {
        assert_eq!(pairs(b"&&a=b=c&=d&"), [("a".to_owned(), "b=c".to_owned()), (String::new(), "d".to_owned())]);
        assert!(pairs(b"").is_empty());
    }
}
