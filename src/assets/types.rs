//! Owns the types of files, by the extensions of their names. What is not in the table has no type that a browser would act on. Pure.

/// Sorted by extension. Text says that it is UTF-8; JSON and XML have rules of their own for that (RFC 8259, section 8.1; RFC 7303).
const TYPES: [(&str, &str); 52] = [
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("cjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("m4a", "audio/mp4"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mid", "audio/midi"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("rss", "application/rss+xml"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

/// RFC 2046, section 4.5.1.
const UNKNOWN: &str = "application/octet-stream";

/// Longer than the longest extension, so that none is compared in part.
const EXTENSION_BYTES_MAX: usize = 16;

/// The type of the file with this name.
pub(super) fn of(name: &str) -> &'static str {
    let file = name.rsplit('/').next().unwrap_or(name);
    let Some((_, extension)) = file.rsplit_once('.') else { return UNKNOWN };
    let mut lowercase = [0; EXTENSION_BYTES_MAX];
    let Some(lowercase) = lowercase.get_mut(..extension.len()) else { return UNKNOWN };
    lowercase.copy_from_slice(extension.as_bytes());
    lowercase.make_ascii_lowercase();
    match TYPES.binary_search_by(|(known, _)| known.as_bytes().cmp(lowercase)) {
        Ok(place) => TYPES.get(place).map_or(UNKNOWN, |(_, media_type)| media_type),
        Err(_) => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_extension() {
        for (extension, media_type) in TYPES {
            assert_eq!(of(&format!("a.b/c.{extension}")), media_type);
            assert_eq!(of(&format!("c.{}", extension.to_uppercase())), media_type);
        }
    }

    #[test]
    fn what_is_not_in_the_table_has_no_type_to_act_on() {
        for name in
            ["a", "css", "a.css/b", "a.", "a.exe", "a.cssx", &format!("a.{}", "x".repeat(EXTENSION_BYTES_MAX + 1))]
        {
            assert_eq!(of(name), UNKNOWN, "{name}");
        }
    }
}
