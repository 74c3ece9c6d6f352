//! The bytes of each message, frozen: a change of the encoding that nobody meant fails here, and one that somebody meant
//! needs a new protocol version and a new directory beside `golden/v2`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p rusmd-proto --test golden` writes the files of the present version, and the seed corpora
//! of the fuzz targets with them.

mod samples;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rusmd_proto::limits::PROTOCOL_VERSION;
use rusmd_proto::{Frame, Kind};
use samples::Message;

#[test]
fn every_sample_encodes_to_its_golden_bytes_and_back() {
    let directory = golden_directory();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        update(&directory);
    }
    for (name, message) in samples::all() {
        let golden = read_hex(&directory.join(format!("{name}.hex")));
        assert_eq!(hex(&message.encode()), hex(&golden), "{name} does not encode to its golden bytes");
        let (frame, rest) = Frame::split(&golden).expect("a golden file is well formed").expect("and whole");
        assert_eq!(rest, b"", "{name} has bytes after its frame");
        assert_eq!(Message::decode(&frame), Ok(message), "{name} does not decode to what was encoded");
    }
}

#[test]
fn every_kind_of_frame_has_golden_bytes() {
    let samples = samples::all();
    for kind in Kind::ALL {
        assert!(
            samples.iter().any(|(_, message)| message.encode().get(4) == Some(&(kind as u8))),
            "{kind:?} has no sample"
        );
    }
}

#[test]
fn every_golden_file_belongs_to_a_sample() {
    let names: Vec<String> = samples::all().into_iter().map(|(name, _)| format!("{name}.hex")).collect();
    for entry in std::fs::read_dir(golden_directory()).expect("the golden directory is there") {
        let name = entry.expect("it can be listed").file_name().into_string().expect("its names are ASCII");
        assert!(names.contains(&name), "{name} is left over");
    }
}

fn golden_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{PROTOCOL_VERSION}"))
}

fn update(directory: &Path) {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    for (name, message) in samples::all() {
        let bytes = message.encode();
        write(&directory.join(format!("{name}.hex")), hex(&bytes).as_bytes());
        let target = match message {
            Message::ToWorker(_) => "to_worker",
            Message::ToSupervisor(_) => "to_supervisor",
        };
        write(&corpora.join(target).join(name), &bytes);
    }
    let bytes_per_read = 7;
    let mut stream = vec![bytes_per_read];
    stream.extend(samples::all().into_iter().flat_map(|(_, message)| message.encode()));
    write(&corpora.join("frame/every_sample"), &stream);
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("it can be made");
    std::fs::write(path, bytes).expect("it can be written");
}

/// Two digits a byte, the frame's header on a line of its own and then thirty-two bytes a line.
fn hex(bytes: &[u8]) -> String {
    let (header, payload) = bytes.split_at(bytes.len().min(16));
    let mut text = String::new();
    for line in std::iter::once(header).chain(payload.chunks(32)) {
        for byte in line {
            write!(text, "{byte:02x}").expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

fn read_hex(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("hexadecimal")).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
