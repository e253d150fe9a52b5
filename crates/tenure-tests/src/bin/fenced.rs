//! Runs one process of the test `fenced`; see `tenure_tests::witness`.

fn main() {
    tenure_tests::witness::work();
}
