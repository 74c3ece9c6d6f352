//! Runs one of the supervisor's stages a number of times, and nothing else: `instructions STAGE TIMES`. `tests/bench/instructions`
//! has callgrind count what that takes.

mod stages;

use std::process::ExitCode;

use stages::{Bench, Stage};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let stage = arguments.next().and_then(|name| Stage::ALL.into_iter().find(|stage| stage.name() == name));
    let times = arguments.next().and_then(|times| times.parse::<u32>().ok());
    let (Some(stage), Some(times)) = (stage, times) else {
        eprintln!("usage: instructions STAGE TIMES; stages: {}", Stage::ALL.map(Stage::name).join(", "));
        return ExitCode::from(2);
    };
    let mut bench = Bench::new();
    for _ in 0..times {
        bench.run(stage);
    }
    ExitCode::SUCCESS
}
