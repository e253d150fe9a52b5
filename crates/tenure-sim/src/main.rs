//! Runs the library's own code on a simulated kernel.

use tenure_sim::sim::{Arena, Limits, by_name, exhaustive};

#[global_allocator]
static MEMORY: Arena = Arena;

fn main() {
    let report = exhaustive(by_name("two").unwrap(), Limits::default());
    println!("{report:?} {}", report.per_minute());
    if let Some(f) = report.failure {
        println!("{f}");
        println!("{:#?}", tenure_sim::sim::replay(by_name("two").unwrap(), &f.schedule));
    }
}
