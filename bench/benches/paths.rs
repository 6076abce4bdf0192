//! How long the parts of the path take.

#[path = "../workloads.rs"]
mod workloads;

use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for workload in workloads::all(1_000_000) {
        let mut group = criterion.benchmark_group(&workload.name);
        group.throughput(Throughput::Elements(workload.messages));
        // Made only where it is asked for.
        let mut call: Option<Box<dyn FnMut()>> = None;
        group.bench_function("time", |bencher| bencher.iter(call.get_or_insert_with(|| (workload.make)())));
        group.finish();
    }
    criterion.final_summary();
}
