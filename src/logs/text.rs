//! Owns how bytes from outside get into a line of a log: such that they can neither end it nor pass for another field, nor command a terminal.
//! Pure; the access log drives it.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends a number.
pub fn push_number(line: &mut Vec<u8>, number: u64) {
    push_padded(line, number, 1);
}

/// Appends a number with zeros before it, up to a width.
pub fn push_padded(line: &mut Vec<u8>, mut number: u64, width: usize) {
    /// Digits of `u64::MAX`.
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    line.extend_from_slice(&digits[at.min(DIGITS_MAX - width.min(DIGITS_MAX))..]);
}

/// Appends what stands between quotes in the combined format, as nginx writes it: `"`, `\` and all that is not printable ASCII as `\xHH`.
pub fn push_quoted(line: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped(line, bytes, |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
}

/// Appends a value that ends at the next space, with the same escapes.
pub fn push_word(line: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped(line, bytes, |byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'='));
}

fn push_escaped(line: &mut Vec<u8>, bytes: &[u8], is_plain: impl Fn(u8) -> bool) {
    for byte in bytes {
        if is_plain(*byte) {
            line.push(*byte);
        } else {
            let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
            line.extend_from_slice(&[b'\\', b'x', high, low]);
        }
    }
}

/// Appends a JSON string, quotes included. Bytes that are not UTF-8 become U+FFFD, for JSON has no way to write them.
pub fn push_json_string(line: &mut Vec<u8>, bytes: &[u8]) {
    line.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            push_json_char(line, char);
        }
        if !chunk.invalid().is_empty() {
            push_json_char(line, char::REPLACEMENT_CHARACTER);
        }
    }
    line.push(b'"');
}

fn push_json_char(line: &mut Vec<u8>, char: char) {
    match char {
        '"' | '\\' => line.extend_from_slice(&[b'\\', char as u8]),
        // Control characters of both kinds, the two that end a line in JavaScript, and what nobody sees, or what turns a line around in a terminal or an
        // editor.
        char if char.is_control() || is_invisible(char) => {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let digit = |shift: u32| DIGITS[usize::from(*unit >> shift) & 15];
                line.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            }
        }
        char => line.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Separators of lines, and format characters (Unicode's category Cf): bidirectional controls, joiners, marks, tags.
fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        push(&mut line);
        String::from_utf8(line).expect("it is ASCII or UTF-8")
    }

    #[test]
    fn numbers_of_all_lengths() {
        for number in [0, 7, 10, 99, 123_456, u64::MAX] {
            assert_eq!(text(|line| push_number(line, number)), number.to_string());
        }
        assert_eq!(text(|line| push_padded(line, 42, 6)), "000042");
        assert_eq!(text(|line| push_padded(line, 1_234_567, 6)), "1234567");
    }

    #[test]
    fn bytes_from_outside_can_neither_end_a_line_nor_a_field() {
        let hostile = b"a\" 200 1\r\n\x1b[2J\\x22\xff\x80 b=\x7f";
        assert_eq!(text(|line| push_quoted(line, hostile)), r"a\x22 200 1\x0d\x0a\x1b[2J\x5cx22\xff\x80 b=\x7f");
        assert_eq!(text(|line| push_word(line, b"a b=\"c\n")), r"a\x20b\x3d\x22c\x0a");
    }

    #[test]
    fn what_turns_a_line_around_or_is_not_seen_is_escaped_in_json() {
        let hostile = "a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{e0041}f\u{200a}é".as_bytes();
        assert_eq!(
            text(|line| push_json_string(line, hostile)),
            "\"a\\u202eb\\u2066c\\u200bd\\ufeffe\\udb40\\udc41f\u{200a}é\""
        );
    }

    #[test]
    fn json_strings_are_json_whatever_the_bytes() {
        let hostile = "a\"\\\n\0\u{1b}\u{9b}\u{2028}\u{7f}ü😀".as_bytes();
        let hostile = [hostile, b"\xff\xc3", b"z"].concat();
        assert_eq!(
            text(|line| push_json_string(line, &hostile)),
            "\"a\\\"\\\\\\u000a\\u0000\\u001b\\u009b\\u2028\\u007fü😀\u{fffd}\u{fffd}z\""
        );
    }
}
