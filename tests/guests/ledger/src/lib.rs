//! An action with a side effect that outlives its instance and its worker: it says in a file when it starts and when it ends.
//!
//! Owns the lines of that file. Each is appended by one write, so that those of several workers do not mix, and a worker's death
//! leaves a line whole or not there. The test that reads them compares them with what clients and logs say.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;

use rusm_rs::http::{Request, Response};

/// In the directory that the component is granted.
const LEDGER: &str = "/ledger/ledger";

#[rusm_rs::handlers]
pub mod ledger {
    use super::*;

    /// Appends `start ID`, uses the processor for `work` thousand turns of a loop, appends `end ID`, and answers with the id.
    pub fn record(req: Request) -> Response {
        let id = req.query("id").expect("a request has an id").to_owned();
        let work: u64 = req.query("work").map_or(0, |work| work.parse().expect("work is a number"));
        let mut ledger = File::options().append(true).create(true).open(LEDGER).expect("the ledger is granted");
        append(&mut ledger, &format!("start {id}\n"));
        let sum = (0..work * 1000).fold(0u64, |sum, turn| black_box(sum.wrapping_add(turn)));
        black_box(sum);
        append(&mut ledger, &format!("end {id}\n"));
        Response::text(id)
    }

    fn append(ledger: &mut File, line: &str) {
        let written = ledger.write(line.as_bytes()).expect("the disk takes a line");
        assert_eq!(written, line.len(), "a line is one write");
    }
}
