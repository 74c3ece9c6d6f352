//! `accept-encoding` (RFC 9110, section 12.5.3): which of the codings that are offered a client likes best.

use super::Coding;

/// A weight of 1 in thousandths (RFC 9110, section 12.4.2).
const WHOLE: u16 = 1000;

/// The coding for a client with these fields, or `None` for the body as it is. What is not well-formed in a field does not count.
pub(super) fn choose<'a>(fields: impl Iterator<Item = &'a [u8]>, offered: &[Coding]) -> Option<Coding> {
    let mut weights = [None::<u16>; Coding::ALL.len()];
    let (mut any, mut identity) = (None, None);
    for element in fields.flat_map(|field| field.split(|&byte| byte == b',')) {
        let Some((name, weight)) = element_of(element) else { continue };
        let slot = match name {
            b"*" => &mut any,
            _ if name.eq_ignore_ascii_case(b"identity") => &mut identity,
            _ => match Coding::ALL.iter().position(|coding| is_called(*coding, name)) {
                Some(at) => &mut weights[at],
                None => continue,
            },
        };
        // Of two for one coding the first counts.
        slot.get_or_insert(weight);
    }
    let weight_of = |coding: Coding| {
        let named = Coding::ALL.iter().position(|known| *known == coding).and_then(|at| weights[at]);
        named.or(any).unwrap_or(0)
    };
    let mut best = None;
    for coding in offered {
        let weight = weight_of(*coding);
        if weight > 0 && best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, *coding));
        }
    }
    // A client that says that it likes the plain body better is taken at its word.
    best.filter(|(weight, _)| identity.is_none_or(|plain| *weight >= plain)).map(|(_, coding)| coding)
}

/// `x-gzip` is another name of the same coding (RFC 9110, section 8.4.1.3).
fn is_called(coding: Coding, name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(coding.name().as_bytes())
        || (coding == Coding::Gzip && name.eq_ignore_ascii_case(b"x-gzip"))
}

fn element_of(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.splitn(2, |&byte| byte == b';');
    let name = parts.next()?.trim_ascii();
    let weight = match parts.next() {
        None => WHOLE,
        Some(parameter) => weight_of(parameter.trim_ascii())?,
    };
    (!name.is_empty()).then_some((name, weight))
}

/// `q=` and a number from 0 to 1 with at most three decimals.
fn weight_of(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', whole, rest @ ..] = parameter else { return None };
    let decimals = match rest {
        [] => &[],
        [b'.', decimals @ ..] if decimals.len() <= 3 && decimals.iter().all(u8::is_ascii_digit) => decimals,
        _ => return None,
    };
    let thousandths = (0..3).fold(0, |sum, at| sum * 10 + decimals.get(at).map_or(0, |digit| u16::from(digit - b'0')));
    match (whole, thousandths) {
        (b'0', _) => Some(thousandths),
        (b'1', 0) => Some(WHOLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(fields: &[&str]) -> Option<&'static str> {
        choose(fields.iter().map(|field| field.as_bytes()), &Coding::ALL).map(Coding::name)
    }

    #[test]
    fn the_clients_weights_decide_and_then_the_order_of_the_manifest() {
        let table: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&[""], None),
            (&["gzip"], Some("gzip")),
            (&["gzip, br"], Some("br")),
            (&["gzip, deflate, br, zstd"], Some("zstd")),
            (&["GZip ; Q=0.5"], Some("gzip")),
            (&["x-gzip"], Some("gzip")),
            (&["gzip;q=1.0, br;q=0.9, zstd;q=0"], Some("gzip")),
            (&["gzip;q=0"], None),
            (&["*"], Some("zstd")),
            (&["*;q=0"], None),
            (&["zstd;q=0, *"], Some("br")),
            (&["zstd;q=0", "br;q=0, gzip"], Some("gzip")),
            (&["identity"], None),
            (&["identity;q=1, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=0.5"], Some("gzip")),
            (&["identity;q=0"], None),
            (&["deflate"], None),
            (&["gzip;q=2"], None),
            (&["gzip;q=1.001"], None),
            (&["gzip;q=0.0001"], None),
            (&["gzip;q=-1, br;q=.5"], None),
            (&["gzip;level=9"], None),
            (&["gzip;q=0.001"], Some("gzip")),
            (&["gzip;q=0, gzip"], None),
            (&[",,;q=1,gzip,"], Some("gzip")),
        ];
        for (fields, expected) in table {
            assert_eq!(chosen(fields), *expected, "{fields:?}");
        }
    }

    #[test]
    fn only_what_is_offered_is_chosen() {
        let choose = |offered: &[Coding]| choose([&b"gzip, br, zstd"[..]].into_iter(), offered);
        assert_eq!(choose(&[Coding::Gzip, Coding::Brotli]), Some(Coding::Gzip));
        assert_eq!(choose(&[]), None);
    }
}
