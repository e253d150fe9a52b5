//! The header in `include/` is the one that this crate's sources make.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test uses files as any program does")]

use std::path::Path;

/// Compares the header with a new one. `TENURE_UPDATE_HEADER=1 cargo test` writes it.
#[test]
fn the_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    cbindgen::Builder::new().with_crate(root).with_config(config).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = root.join("include/tenure.h");
    if std::env::var_os("TENURE_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == made,
        "include/tenure.h is not what the sources make: run TENURE_UPDATE_HEADER=1 cargo test"
    );
}
