//! `docs/tour.md` shows what the commands print.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn the_tour_is_what_the_commands_print() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/tour");
    let check = Command::new("python3").arg(script).args(["--check", env!("CARGO_BIN_EXE_tenure")]).output().unwrap();
    assert!(
        check.status.success(),
        "{}{}",
        String::from_utf8_lossy(&check.stdout),
        String::from_utf8_lossy(&check.stderr)
    );
}
