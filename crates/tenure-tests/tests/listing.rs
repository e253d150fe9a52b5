//! Which folders a listing enters, and which not.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tenure_tests::{Actor, folder, has, hex, is_root, needs, tenure_program, write_apart};

const DEAD: &str = r#"{"pid": 999999999, "createdAt": "2026-03-02T10:00:00.000Z"}"#;

fn targets(output: &[u8]) -> Vec<String> {
    let found: serde_json::Value = serde_json::from_slice(output).unwrap();
    let locks = found["locks"].as_array().unwrap();
    locks.iter().map(|lock| lock["target"].as_str().unwrap().to_owned()).collect()
}

fn ls(dir: &Path, words: &[&str]) -> Vec<String> {
    let output = Command::new(tenure_program()).arg("ls").args(words).arg("--json").current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    targets(&output.stdout)
}

#[test]
fn links_are_not_followed_and_names_are_sorted() {
    let (inside, outside) = (folder(), folder());
    for dir in [inside.path(), outside.path()] {
        fs::create_dir(dir.join("sub")).unwrap();
        for name in ["b.lock", "a.lock", "sub/c.lock", "sub/a.lock"] {
            write_apart(&dir.join(name), DEAD, Duration::ZERO);
        }
    }
    symlink(outside.path(), inside.path().join("link")).unwrap();
    symlink(".", inside.path().join("sub/again")).unwrap();
    symlink(outside.path().join("a.lock"), inside.path().join("d.lock")).unwrap();
    assert_eq!(ls(inside.path(), &[]), ["a", "b"]);
    assert_eq!(ls(inside.path(), &["-r"]), ["a", "b", "sub/a", "sub/c"]);
    assert_eq!(ls(inside.path(), &["-r", "sub"]), ["sub/a", "sub/c"]);
    let whole = ls(inside.path(), &["-r", inside.path().to_str().unwrap()]);
    assert_eq!(whole[0], inside.path().join("a").to_str().unwrap());
    // The folder that is named may itself be a link.
    assert_eq!(ls(inside.path(), &["-r", "link"]), ["link/a", "link/b", "link/sub/a", "link/sub/c"]);
}

#[test]
fn several_threads_list_and_clean_very_many_locks_in_order() {
    let dir = folder();
    let live = format!(r#"{{"pid": {}, "createdAt": "2026-03-02T10:00:00.000Z"}}"#, std::process::id());
    let (mut all, mut alive) = (Vec::new(), Vec::new());
    // Not by this process: see `write_apart`.
    let mut writer = Actor::start();
    for at in 0..1500 {
        let target = format!("{at:04}");
        let path = dir.path().join(format!("{target}.lock"));
        let text = if at % 3 == 0 { &live } else { DEAD };
        writer.must(&format!("put {} 0 {}", path.display(), hex(text.as_bytes())));
        if at % 3 == 0 {
            alive.push(target.clone());
        }
        all.push(target);
    }
    assert_eq!(ls(dir.path(), &[]), all);
    let cleaned = Command::new(tenure_program()).args(["clean", "--json"]).current_dir(dir.path()).output().unwrap();
    let cleaned: serde_json::Value = serde_json::from_slice(&cleaned.stdout).unwrap();
    let removed = cleaned["locks"].as_array().unwrap().iter().map(|lock| {
        let target = lock["target"].as_str().unwrap().to_owned();
        (target, lock["removed"].as_bool().unwrap())
    });
    let expected = all.iter().map(|target| (target.clone(), !alive.contains(target)));
    assert_eq!(removed.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(ls(dir.path(), &[]), alive);
    for target in &all {
        assert_eq!(dir.path().join(format!("{target}.lock")).exists(), alive.contains(target), "{target}");
    }
}

#[test]
fn another_file_system_is_entered_only_on_request() {
    if !(needs("root, for a mount", is_root()) && needs("unshare", has("unshare"))) {
        return;
    }
    let dir = folder();
    fs::create_dir(dir.path().join("mounted")).unwrap();
    fs::write(dir.path().join("a.lock"), DEAD).unwrap();
    let run = |words: &str| {
        let script = format!(
            "mount -t tmpfs none mounted && echo '{DEAD}' > mounted/b.lock && exec '{}' {words} --json",
            tenure_program().display()
        );
        let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).current_dir(dir.path()).output();
        let output = output.unwrap();
        (output.status.success(), output)
    };
    let (mounted, output) = run("ls -r");
    if !needs("a mount of tmpfs", mounted) {
        return;
    }
    assert_eq!(targets(&output.stdout), ["a"]);
    assert_eq!(targets(&run("ls -r --cross-file-systems").1.stdout), ["a", "mounted/b"]);
    assert_eq!(targets(&run("ls mounted").1.stdout), ["mounted/b"]);
    assert_eq!(targets(&run("clean -r --cross-file-systems --dry-run").1.stdout), ["a", "mounted/b"]);
    assert_eq!(targets(&run("clean -r --dry-run").1.stdout), ["a"]);
    let (allowed, _) = run("ls --cross-file-systems");
    assert!(!allowed, "it is an error without --recursive");
}
