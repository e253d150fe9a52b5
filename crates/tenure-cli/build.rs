//! Sets what `tenure --version` prints: the version, the commit where one is known, and the features.

#![allow(clippy::disallowed_methods, reason = "a build script is no part of the command")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The length of a shown commit. It is fixed, because git's own choice differs between clones.
const SHOWN: usize = 9;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut text = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    if let Some(commit) = packaged_commit(&folder).or_else(|| checked_out_commit(&folder)) {
        text += &format!(" ({commit})");
    }
    for feature in ["etcd", "postgres"] {
        let is_on = env::var_os(format!("CARGO_FEATURE_{}", feature.to_uppercase())).is_some();
        text += &format!(" {}{feature}", if is_on { '+' } else { '-' });
    }
    println!("cargo::rustc-env=TENURE_LONG_VERSION={text}");
}

/// Returns the commit that `cargo package` recorded in this package.
fn packaged_commit(folder: &Path) -> Option<String> {
    let info = fs::read_to_string(folder.join(".cargo_vcs_info.json")).ok()?;
    let (_, after) = info.split_once("\"sha1\"")?;
    after.split('"').nth(1)?.get(..SHOWN).map(str::to_owned)
}

/// Returns the commit that is checked out, and lets cargo run this script again when it changes. `None` outside a clone of
/// Tenure's own repository, and without git.
fn checked_out_commit(folder: &Path) -> Option<String> {
    // A copy of this crate in the repository of another project must not show that project's commit.
    if git(folder, &["rev-parse", "--show-prefix"])? != "crates/tenure-cli/" {
        return None;
    }
    let watch = |name: &str| {
        let path = git(folder, &["rev-parse", "--git-path", name]).map(|path| folder.join(path));
        // cargo would run this script at every build for a file that is missing.
        let found = path.filter(|path| path.exists());
        if let Some(path) = &found {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        found.is_some()
    };
    watch("HEAD");
    // The commit is in the branch's own file or, until the next commit, in `packed-refs`. The log shows that commit.
    let branch = git(folder, &["symbolic-ref", "--quiet", "HEAD"]);
    if branch.is_some_and(|branch| !watch(&branch)) {
        watch("packed-refs");
        watch("logs/HEAD");
    }
    git(folder, &["rev-parse", "HEAD"])?.get(..SHOWN).map(str::to_owned)
}

/// Returns what git prints, without the newline.
fn git(folder: &Path, words: &[&str]) -> Option<String> {
    // A hook of git sets these, and git then ignores the folder.
    let output = Command::new("git")
        .args(words)
        .current_dir(folder)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim_end().to_owned())
}
