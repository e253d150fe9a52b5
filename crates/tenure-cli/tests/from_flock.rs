//! Runs each block of `docs/from-flock.md`: the block with `tenure` must do the same as the one with `flock`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Done, Scratch};

/// Returns the shell blocks of a page: the program, and the text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("\n```sh ") {
        let (whose, after) = after.split_once('\n').unwrap();
        let (text, after) = after.split_once("\n```\n").unwrap();
        blocks.push((whose, text));
        rest = after;
    }
    blocks
}

fn program(scratch: &Scratch, name: &str, text: &str) {
    let path = scratch.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// Runs a block in a folder that has the files it uses.
fn run(text: &str) -> Done {
    let scratch = Scratch::new();
    program(&scratch, "work", "#!/bin/sh\necho worked\n");
    // The daemon outlives its parent, and ends when the folder is removed.
    program(&scratch, "daemon", "#!/bin/sh\nexec <&- >&- 2>&-\nwhile test -e work; do sleep 1; done\n");
    fs::write(scratch.join("in"), "line\n").unwrap();
    fs::create_dir(scratch.join("folder")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tenure"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut sh = Command::new("sh");
    sh.args(["-e", "-c", text]).current_dir(scratch.path()).env("PATH", path).env_remove("TENURE_TIMEOUT");
    sh.env_remove("TENURE_TARGET").stdin(Stdio::null());
    Done::from(sh.output().unwrap())
}

/// Removes the intended differences: the exit code for "busy", and the messages.
fn comparable(output: &str) -> String {
    output.replace("busy: 75", "busy: 1").lines().filter(|line| !line.starts_with("flock: ")).collect()
}

#[test]
fn each_block_does_the_same_as_its_block_with_flock() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/from-flock.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() > 20, "the blocks are found: {}", blocks.len());
    let mut flock = None;
    for (whose, text) in blocks {
        let done = run(text);
        assert_eq!(done.code, Some(0), "{text}\n{done:?}");
        match (whose, &flock) {
            ("flock", _) => flock = Some(done),
            ("tenure", Some(flock)) if !text.contains("tenure ls") => {
                assert_eq!(comparable(&done.stdout), comparable(&flock.stdout), "{text}");
            }
            ("tenure", _) => assert!(done.stdout.contains("held"), "{text}\n{done:?}"),
            _ => panic!("unknown program: {whose}"),
        }
    }
}
