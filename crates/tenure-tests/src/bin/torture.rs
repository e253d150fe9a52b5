//! The torture: see `tenure_tests::torture`.
//!
//! `cargo run -p tenure-tests --bin torture -- --for 10m [--seed N] [--dir D]`

fn main() {
    tenure_tests::torture::main();
}
