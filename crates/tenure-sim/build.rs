//! The library's sources are compiled here with the simulated kernel in place of the platform's.

fn main() {
    println!("cargo:rustc-cfg=tenure_sim");
    println!("cargo:rerun-if-changed=build.rs");
}
