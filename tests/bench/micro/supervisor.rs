//! How long the supervisor's stages of one request take: `cargo bench --bench supervisor`.

mod stages;

use criterion::{Criterion, criterion_group, criterion_main};
use stages::{Bench, Stage};

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("supervisor");
    for stage in Stage::ALL {
        let mut bench = Bench::new();
        group.bench_function(stage.name(), |bencher| bencher.iter(|| bench.run(stage)));
    }
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
