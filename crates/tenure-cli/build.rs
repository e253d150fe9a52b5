//! Sets what `tenure --version` prints: the version, the commit where one is known, and the features. Links the unwinder
//! statically, and packs the relocations.

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
    if has_static_unwinder() {
        // The whole archive, because the linker would find the functions in the shared library before it needs the archive's.
        println!("cargo::rustc-link-lib=static:+whole-archive=gcc_eh");
    }
    if loads_packed_relocations() {
        // A linker that does not know this warns, and ignores it.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns whether the program is built for this machine's own glibc, which loads packed relocations (2.36 and later). The
/// dynamic linker reads all eleven thousand at each start: 280 KB unpacked, and a hundredth of that packed.
fn loads_packed_relocations() -> bool {
    is_for_own_glibc() && glibc().is_some_and(|version| version >= (2, 36))
}

/// Returns this machine's version of glibc: `getconf` prints `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Returns whether the program will be linked dynamically with the glibc of this machine.
fn is_for_own_glibc() -> bool {
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    let is_native = env::var_os("HOST") == env::var_os("TARGET");
    let is_gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    is_native && is_gnu && !features.split(',').any(|feature| feature == "crt-static")
}

/// Returns whether the linker has gcc's unwinder as an archive, beside the shared library `libgcc_s`. Loading that library
/// takes a twelfth of `tenure run T -- true`.
fn has_static_unwinder() -> bool {
    // A static program has it already. Another target has another compiler, whose archives are not looked for here.
    if !is_for_own_glibc() {
        return false;
    }
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    // A compiler without the archive prints the bare name. A linker that is no compiler fails, or prints another text.
    let output = Command::new(linker).arg("-print-file-name=libgcc_eh.a").output();
    output.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(path.trim_end()).is_absolute() && Path::new(path.trim_end()).exists()
    })
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
