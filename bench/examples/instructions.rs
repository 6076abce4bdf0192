//! Runs a part of the path so often, for `bench/check` to count its instructions. Without arguments it lists the parts.

#[path = "../workloads.rs"]
mod workloads;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next();
    let times: u64 = arguments.next().and_then(|times| times.parse().ok()).unwrap_or(0);
    for workload in workloads::all(10_000) {
        match &wanted {
            None => println!("{}", workload.name),
            Some(name) if *name == workload.name => {
                let mut call = (workload.make)();
                (0..times.div_ceil(workload.messages)).for_each(|_| call());
            }
            Some(_) => {}
        }
    }
}
