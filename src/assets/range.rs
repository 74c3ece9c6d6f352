//! Owns which part of a file a `Range` field asks for (RFC 9110, section 14). Pure. `super::reply` drives it.

use std::ops::Range;

/// What becomes of a `Range` field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// The field is as good as not there: 200.
    Whole,
    /// 206, never empty.
    Of(Range<u64>),
    /// The file has nothing there: 416.
    Unsatisfiable,
}

/// Reads the field for a file of this size.
///
/// A field that is not understood is ignored (section 14.2), and so are several ranges at once: a server may, and a client that asks for
/// them has to take the whole. That they could be many, small and overlapping is how one request costs a server a thousand times its size.
pub(super) fn part(field: &[u8], size: u64) -> Part {
    let Some(set) = std::str::from_utf8(field).ok().and_then(|text| text.split_once('=')) else { return Part::Whole };
    let (unit, set) = set;
    if !unit.eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    // Empty elements of a list are none (section 5.6.1.2).
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else { return Part::Whole };
    match spec.split_once('-') {
        Some(("", last)) => suffix(last, size),
        Some((first, last)) => positions(first, last, size),
        None => Part::Whole,
    }
}

/// `500-999`, or `500-` to the end.
fn positions(first: &str, last: &str, size: u64) -> Part {
    let Some(first) = number(first) else { return Part::Whole };
    let last = match last {
        "" => u64::MAX,
        digits => match number(digits) {
            Some(last) if last >= first => last,
            Some(_) | None => return Part::Whole,
        },
    };
    if first >= size { Part::Unsatisfiable } else { Part::Of(first..last.saturating_add(1).min(size)) }
}

/// `-500`: the last so many bytes, or all where there are fewer.
fn suffix(length: &str, size: u64) -> Part {
    match number(length) {
        None => Part::Whole,
        Some(0) => Part::Unsatisfiable,
        // Nothing is less than nothing, and 206 has no way to say so.
        Some(_) if size == 0 => Part::Whole,
        Some(length) => Part::Of(size.saturating_sub(length)..size),
    }
}

/// Digits; a number that is too large is beyond every file.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_range_means_what_the_rfc_says() {
        use Part::*;
        let table = [
            ("bytes=0-0", Of(0..1)),
            ("bytes=0-99", Of(0..100)),
            ("bytes=10-19", Of(10..20)),
            ("bytes=90-", Of(90..100)),
            ("bytes=90-1000", Of(90..100)),
            ("bytes=-10", Of(90..100)),
            ("bytes=-1000", Of(0..100)),
            ("Bytes=5-5", Of(5..6)),
            ("bytes= 5-5 ,, ", Of(5..6)),
            ("bytes=99-99999999999999999999999", Of(99..100)),
            ("bytes=-99999999999999999999999", Of(0..100)),
            ("bytes=100-", Unsatisfiable),
            ("bytes=100-200", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-4", Whole),
            ("bytes=5", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1 -2", Whole),
            ("bytes=--1", Whole),
            ("bytes 0-1", Whole),
            ("bytes =0-1", Whole),
            ("lines=0-1", Whole),
            ("bytes=0-1,3-4", Whole),
            ("", Whole),
        ];
        for (field, expected) in table {
            assert_eq!(part(field.as_bytes(), 100), expected, "{field:?}");
        }
    }

    #[test]
    fn an_empty_file_has_no_parts() {
        assert_eq!(part(b"bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(part(b"bytes=-1", 0), Part::Whole);
    }
}
