//! File systems other than the root's, and sandboxes.

use super::*;

/// The maximum duration of an event on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Polls until `what` is true, for states without an event.
fn until<T>(mut look: impl FnMut() -> T, what: impl Fn(&T) -> bool) -> T
where
    T: std::fmt::Debug,
{
    let started = Instant::now();
    loop {
        let found = look();
        if what(&found) {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "still {found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Creates and mounts a new file system in a file.
fn image(make: &str, megabytes: u64, kind: &str) -> Option<Mount> {
    let prepare = |folder: &Path| {
        let image = folder.join("image");
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        assert!(run(&[make.split(' ').collect(), vec![image.to_str().unwrap()]].concat()), "{make} failed");
    };
    mount(prepare, &format!("mount -t {kind} -o loop {{}}/image {{}}/mnt"))
}

fn known_to_the_kernel(kind: &str) -> bool {
    let _ = run(&["modprobe", kind]);
    let text = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    text.lines().any(|line| line.split_whitespace().next_back() == Some(kind))
}

/// Asserts what every file system must support: exclusion, waiting, the list of waiters, crashes, sweeps.
fn works_on(dir: &Path) {
    let target = dir.join("t");
    let (mut one, mut two, mut looks) = (Actor::start(), Actor::start(), Actor::start());
    exclude_each_other(&mut one, &target, &mut two, &target);
    assert_eq!(status(&mut looks, &target)["state"], "free");

    // Waiters are counted.
    one.must("acquire l g never");
    one.must("check g");
    assert!(dir.join("t.lock").exists());
    two.must("begin l g forever");
    let found = until(|| status(&mut looks, &target), |found| found["waiters"] == 1);
    assert_eq!((&found["state"], &found["pid"]), (&json!("held"), &json!(one.pid())), "{found}");

    // A death passes the lock on and is reported.
    let pid = one.pid();
    one.kill();
    let granted = two.receive();
    assert_eq!(granted["crashed"]["pid"], pid, "{granted}");
    two.must("check g");
    assert_eq!(status(&mut looks, &target)["waiters"], 0);
    let pid = two.pid();
    two.kill();
    let found = status(&mut looks, &target);
    assert_eq!((&found["state"], &found["pid"]), (&json!("stale"), &json!(pid)), "{found}");

    // Flock style beside lock-file style, and shares.
    let (mut one, mut two) = (Actor::start(), Actor::start());
    one.must(&format!("open l {} style=flock", target.display()));
    assert_eq!(one.must("acquire l g never")["crashed"]["pid"], pid);
    assert!(!dir.join("t.lock").exists());
    let found = status(&mut looks, &target);
    assert_eq!((&found["state"], &found["style"], &found["pid"]), (&json!("held"), &json!("flock"), &json!(one.pid())));
    two.must(&format!("open l {}", target.display()));
    two.must_fail("acquire l g never", "busy");
    one.must("release g");
    one.must("share l g never");
    two.must(&format!("open s {} style=flock", target.display()));
    two.must("share s s never");
    two.must_fail("acquire l g never", "busy");
    one.must("release g");
    two.must("release s");

    // A foreign holder is waited for; once dead, its lock is taken over.
    if needs("python3", has("python3")) {
        let mut holder = Foreign::hold(&target, |words| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec {words}")]);
            command
        });
        two.must_fail("acquire l g never", "busy");
        two.must("begin l g forever");
        holder.input.write_all(b"release\n").unwrap();
        holder.expect("released");
        assert_eq!(two.receive()["crashed"], Value::Null);
        two.must("release g");
    }

    // A sweep removes a dead holder's files, and nothing stays.
    one.hold(&target);
    one.kill();
    let cleaned = two.must(&format!("clean {} idle_ms=0", dir.display()));
    assert_eq!((&cleaned["locks"][0]["state"], &cleaned["locks"][0]["removed"]), (&json!("stale"), &json!(true)));
    assert_eq!(status(&mut looks, &target)["state"], "free");
    assert!(!dir.join("t.lock").exists());
}

fn takes_over_from_a_dead_foreign_program(dir: &Path) {
    if !needs("python3", has("python3")) {
        return;
    }
    let target = dir.join("foreign");
    let mut holder = Foreign::hold(&target, |words| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {words}")]);
        command
    });
    let mut native = Actor::start();
    native.must(&format!("open l {}", target.display()));
    native.must_fail("acquire l g never", "busy");
    native.must("begin l g forever");
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    assert_eq!(native.receive()["crashed"]["pid"], holder.child.id());
    native.must("check g");
    native.must("release g");
    assert!(!dir.join("foreign.lock").exists());
}

#[test]
fn tmpfs() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    works_on(dir.path());
    takes_over_from_a_dead_foreign_program(dir.path());
}

#[test]
fn overlayfs() {
    if !needs("root, for mounts", is_root()) {
        return;
    }
    let dead = |folder: &Path| {
        for name in ["lower", "upper", "work"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        // The image was built from a machine whose holder had died: a lock file and its anchor, one inode.
        let mut gone = Actor::start();
        gone.hold(&folder.join("lower/built"));
        gone.kill();
    };
    let options = "lowerdir={}/lower,upperdir={}/upper,workdir={}/work";
    let Some(mount) = mount(dead, &format!("mount -t overlay overlay -o {options} {{}}/mnt")) else {
        skip("needs overlay mounts");
        return;
    };
    // A file of the lower layer is copied up when it is opened, which turns one inode into two.
    let target = mount.at.join("built");
    let (mut one, mut other) = (Actor::start(), Actor::start());
    assert_eq!(status(&mut one, &target)["state"], "stale");
    assert_ne!(one.hold(&target)["crashed"], Value::Null);
    one.must("check g");
    other.must(&format!("open l {}", target.display()));
    other.must_fail("acquire l g never", "busy");
    one.must("release g");
    assert!(!mount.at.join("built.lock").exists());
    exclude_each_other(&mut one, &target, &mut other, &target);
    works_on(&mount.at);
    takes_over_from_a_dead_foreign_program(&mount.at);
}

#[test]
fn xfs() {
    if needs("root, for mounts", is_root()) && needs("mkfs.xfs (xfsprogs)", has("mkfs.xfs")) {
        on_image("mkfs.xfs -q", 320, "xfs");
    }
}

#[test]
fn btrfs() {
    if needs("root, for mounts", is_root()) && needs("mkfs.btrfs (btrfs-progs)", has("mkfs.btrfs")) {
        on_image("mkfs.btrfs -q", 128, "btrfs");
    }
}

fn on_image(make: &str, megabytes: u64, kind: &str) {
    if !known_to_the_kernel(kind) {
        // Nothing could be installed to change this, so it is no skip, which would fail a CI run.
        eprintln!("NOT TESTED HERE: this kernel has no {kind}");
        return;
    }
    let Some(mount) = image(make, megabytes, kind) else {
        skip(&format!("needs loop mounts of {kind}"));
        return;
    };
    works_on(&mount.at);
    takes_over_from_a_dead_foreign_program(&mount.at);
}

#[test]
fn vfat() {
    if !needs("root, for mounts", is_root()) || !needs("mkfs.vfat (dosfstools)", has("mkfs.vfat")) {
        return;
    }
    on_image("mkfs.vfat", 16, "vfat");
}

/// Asserts that a link that cannot be compared is removed: it would show a live holder although the lock is free.
fn a_link_that_cannot_be_compared_goes_again(dir: &Path) {
    if !needs("strace", has("strace")) {
        return;
    }
    let target = dir.join("compared");
    let opened = || {
        let mut actor = Actor::start();
        actor.must(&format!("open l {}", target.display()));
        actor
    };
    let mut first = opened();
    first.must("acquire l g never");
    first.must("release g");
    let mut rehearsal = opened();
    let strace = Strace::attach(rehearsal.pid(), &["-e", "trace=linkat,statx"]);
    rehearsal.must("acquire l g never");
    let calls = strace.calls();
    rehearsal.must("release g");
    let linked = calls.iter().position(|call| call.name == "linkat").unwrap();
    let compared = calls[linked + 1..].iter().find(|call| call.text.contains("compared.lock\"")).unwrap();
    assert_eq!(compared.name, "statx", "{calls:?}");
    let mut actor = opened();
    let strace = Strace::inject(actor.pid(), &[&format!("statx:error=EIO:when={}", compared.nth)]);
    let answer = actor.must_fail("acquire l g never", "io");
    drop(strace);
    assert!(answer["error"].as_str().unwrap().contains("cannot be compared with its anchor"), "{answer}");
    assert!(!dir.join("compared.lock").exists());
    assert_eq!(actor.must("acquire l g never")["crashed"], Value::Null);
    actor.must("release g");
}

#[test]
fn fuse() {
    if !needs("root, for mounts", is_root())
        || !needs("/dev/fuse", Path::new("/dev/fuse").exists())
        || !needs("bindfs", has("bindfs"))
    {
        return;
    }
    let source = |folder: &Path| std::fs::create_dir(folder.join("source")).unwrap();
    let Some(mount) = mount(source, "bindfs {}/source {}/mnt") else {
        skip("needs FUSE mounts");
        return;
    };
    works_on(&mount.at);
    a_link_that_cannot_be_compared_goes_again(&mount.at);
    // Another machine may have mounted the same storage: a foreign pid that is dead here proves nothing.
    let now = "2026-03-02T10:00:00.000Z";
    let text = format!(r#"{{"pid": 4194300, "createdAt": "{now}"}}"#);
    write_apart(&mount.at.join("far.lock"), text, Duration::ZERO);
    let mut native = Actor::start();
    let found = status(&mut native, &mount.at.join("far"));
    assert_eq!((&found["state"], &found["reasons"][0]), (&json!("unknown"), &json!("dead-pid")), "{found}");
    native.must(&format!("open l {}", mount.at.join("far").display()));
    native.must_fail("acquire l g never", "busy");
}

/// A sandbox may forbid links and renames between folders, with the errno of two file systems.
#[test]
fn a_sandbox_without_links_between_folders_is_reported_as_such() {
    if !landlock::is_there() {
        // Nothing could be installed to change this, so it is no skip, which would fail a CI run.
        eprintln!("NOT TESTED HERE: this kernel has no Landlock");
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let confined = |refer| Actor::from(landlock::confine(&mut Command::new(actor_program()), refer));
    let says = |error: &Value| {
        let text = error["error"].as_str().unwrap();
        assert!(text.contains("--flock") && text.contains("between this folder and `.tenure`"), "{text}");
        assert!(!text.contains("file system"), "{text}");
    };
    let mut inside = confined(false);
    inside.must(&format!("open l {}", target.display()));
    says(&inside.must_fail("acquire l g never", "unsupported"));
    assert!(!dir.path().join("t.lock").exists());
    inside.must(&format!("open f {} style=flock", target.display()));
    inside.must("acquire f g never");
    inside.must("check g");
    // Processes outside see the holder, and get the crash report if it dies.
    let mut outside = Actor::start();
    outside.must(&format!("open l {}", target.display()));
    outside.must_fail("acquire l g never", "busy");
    let pid = inside.pid();
    inside.kill();
    assert_eq!(outside.must("acquire l g never")["crashed"]["pid"], pid);
    // In the other direction: a dead holder's lock file needs no new link.
    let pid = outside.pid();
    outside.kill();
    let mut inside = confined(false);
    inside.must(&format!("open f {} style=flock", target.display()));
    assert_eq!(inside.must("acquire f g never")["crashed"]["pid"], pid);
    inside.must("release g");
    assert!(!dir.path().join("t.lock").exists());
    // A dead foreign program's file would have to be moved.
    let now = "2026-03-02T10:00:00.000Z";
    let text = format!(r#"{{"pid": 4194300, "createdAt": "{now}"}}"#);
    write_apart(&dir.path().join("t.lock"), text, Duration::ZERO);
    inside.must(&format!("open l {}", target.display()));
    says(&inside.must_fail("acquire l g never", "unsupported"));
    assert!(dir.path().join("t.lock").exists());
    // With that right, everything is as without a sandbox.
    let mut allowed = confined(true);
    assert_eq!(allowed.hold(&target)["crashed"]["pid"], 4_194_300);
    allowed.must("check g");
    allowed.must("release g");

    // The doctor tries the operations of a lock, and does not report an operation that it could not try.
    let doctor = |refer| {
        let mut command = Command::new(tenure_program());
        let done = landlock::confine(command.args(["doctor", "--json"]).arg(dir.path()), refer).output().unwrap();
        let found: Value = serde_json::from_slice(&done.stdout).unwrap();
        let answers = ["kernel-lock", "hard-link", "exclusive-rename", "exchange", "second-process"].map(|name| {
            let checks = found["checks"].as_array().unwrap();
            checks.iter().find(|check| check["name"] == name).unwrap()["answer"].as_str().unwrap().to_owned()
        });
        (answers, String::from_utf8(done.stdout).unwrap(), done.status.code())
    };
    let (answers, text, code) = doctor(false);
    assert_eq!(answers, ["yes", "no", "no", "no", "unknown"], "{text}");
    assert!(!text.contains("excludes no other process"), "{text}");
    assert_eq!(code, Some(1), "{text}");
    let (answers, text, code) = doctor(true);
    assert_eq!((answers, code), (["yes"; 5].map(str::to_owned), Some(0)), "{text}");
}

/// An sshfs mount, whose server runs here.
struct Sshfs {
    mount: Mount,
    programs: [Child; 2],
}

impl Sshfs {
    fn mount() -> Option<Sshfs> {
        let server = ["/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server"];
        let server = server.iter().find(|path| Path::new(path).exists());
        if !needs("root, for mounts", is_root())
            || !needs("/dev/fuse", Path::new("/dev/fuse").exists())
            || !needs("sshfs", has("sshfs"))
            || !needs("sftp-server (openssh-sftp-server)", server.is_some())
        {
            return None;
        }
        let folder = folder();
        let at = folder.path().join("mnt");
        let source = folder.path().join("source");
        std::fs::create_dir(&at).unwrap();
        std::fs::create_dir(&source).unwrap();
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let ends = |end: std::os::unix::net::UnixStream| {
            let input = std::os::fd::OwnedFd::from(end.try_clone().unwrap());
            (Stdio::from(input), Stdio::from(std::os::fd::OwnedFd::from(end)))
        };
        let (input, output) = ends(one);
        let server = Command::new(server?).stdin(input).stdout(output).spawn().unwrap();
        let (input, output) = ends(other);
        let mut client = Command::new("sshfs");
        client.args(["-f", "-o", "passive"]).arg(format!("here:{}", source.display())).arg(&at);
        let mut client = client.stdin(input).stdout(output).spawn().unwrap();
        let mounted = format!(" {} fuse", at.display());
        let there = || std::fs::read_to_string("/proc/mounts").unwrap().contains(&mounted);
        until(|| there() || client.try_wait().unwrap().is_some(), |settled| *settled);
        assert!(there(), "sshfs has ended without a mount");
        Some(Sshfs { mount: Mount { at, _folder: folder }, programs: [client, server] })
    }
}

impl Drop for Sshfs {
    fn drop(&mut self) {
        for program in &mut self.programs {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// On such a file system each name of a file has its own inode number, kernel lock and link count, so a link to the
/// anchor identifies no holder.
#[test]
fn a_link_is_no_lock_file_if_each_name_has_its_own_inode() {
    let Some(sshfs) = Sshfs::mount() else { return };
    let dir = &sshfs.mount.at;
    std::fs::write(dir.join("a"), "").unwrap();
    std::fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    assert_ne!(std::fs::metadata(dir.join("a")).unwrap().ino(), std::fs::metadata(dir.join("b")).unwrap().ino());
    let lock_files = |dir: &Path| {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".lock") || name.ends_with(".swap")).collect::<Vec<_>>()
    };
    let target = dir.join("t");
    for _ in 0..2 {
        let mut one = Actor::start();
        one.must(&format!("open l {}", target.display()));
        for _ in 0..2 {
            let error = one.must_fail("acquire l g never", "unsupported")["error"].as_str().unwrap().to_owned();
            assert!(error.contains("exclusive renames") && error.contains("--flock"), "{error}");
            assert_eq!(lock_files(dir), [""; 0]);
            assert_eq!(lock_files(&dir.join(".tenure")), ["t.lock"]);
        }
    }
    // Flock style needs no lock file.
    let (mut one, mut two) = (Actor::start(), Actor::start());
    one.must(&format!("open f {} style=flock", target.display()));
    two.must(&format!("open f {} style=flock", target.display()));
    one.must("acquire f g never");
    two.must_fail("acquire f g never", "busy");
    one.must("check g");
    let pid = one.pid();
    one.kill();
    // A native that took a link for its lock file left this: it is recognised and removed.
    std::fs::hard_link(dir.join(".tenure/t.lock"), dir.join("t.lock")).unwrap();
    assert_eq!(status(&mut two, &target)["state"], "stale");
    two.must(&format!("open l {}", target.display()));
    assert_eq!(two.must("acquire l g never")["crashed"]["pid"], pid);
    two.must("check g");
    two.must("release g");
    assert_eq!(lock_files(dir), [""; 0]);
    assert_eq!(lock_files(&dir.join(".tenure")), ["t.lock"]);
    // The same for a sweep.
    let mut three = Actor::start();
    three.must(&format!("open f {} style=flock", target.display()));
    three.must("acquire f g never");
    three.kill();
    std::fs::hard_link(dir.join(".tenure/t.lock"), dir.join("t.lock")).unwrap();
    let cleaned = two.must(&format!("clean {} idle_ms=86400000", dir.display()));
    assert_eq!((&cleaned["locks"][0]["state"], &cleaned["locks"][0]["removed"]), (&json!("stale"), &json!(true)));
    assert_eq!(lock_files(dir), [""; 0]);
}

/// File systems that cannot set group, mode or ACL, or that ignore such a request.
#[test]
fn rights_that_a_file_system_cannot_set_are_optional_or_reported() {
    if !needs("root, for mounts", is_root())
        || !needs("/dev/fuse", Path::new("/dev/fuse").exists())
        || !needs("bindfs", has("bindfs"))
    {
        return;
    }
    let source = |mode: u32| {
        move |folder: &Path| {
            use std::os::unix::fs::{PermissionsExt, chown};
            std::fs::create_dir(folder.join("source")).unwrap();
            chown(folder.join("source"), None, Some(65_520)).unwrap();
            std::fs::set_permissions(folder.join("source"), std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let ours = |dir: &Path| std::fs::metadata(dir.join(".tenure")).unwrap();
    // The maximum rights of `.tenure`, with group 65520 and with another group.
    for (options, mode, given, other) in [
        ("--chown-deny", 0o775, 0o775, 0o755),
        ("--chgrp-deny", 0o775, 0o775, 0o775),
        ("--chgrp-deny --xattr-none", 0o775, 0o775, 0o755),
        ("--chgrp-ignore --xattr-none", 0o775, 0o775, 0o755),
        ("--chmod-deny --xattr-none", 0o777, 0o777, 0o777),
        ("--chmod-ignore --chgrp-ignore --xattr-none", 0o775, 0o775, 0o755),
    ] {
        let Some(mount) = mount(source(mode), &format!("bindfs {options} {{}}/source {{}}/mnt")) else {
            skip("needs FUSE mounts");
            return;
        };
        let mut one = Actor::start();
        one.hold(&mount.at.join("t"));
        let made = ours(&mount.at);
        let most = if made.gid() == 65_520 { given } else { other };
        assert_eq!(made.mode() & 0o7777 & !most, 0, "{options}: {:o}", made.mode());
        one.must("check g");
        one.must("release g");
        // The lock has the requested mode, or an error reports that it has not, and nothing stays.
        one.must(&format!("open m {} mode=660", mount.at.join("m").display()));
        let error = one.must_fail("acquire m m never", "unsupported")["error"].as_str().unwrap().to_owned();
        assert!(error.contains("mode"), "{options}: {error}");
        let mut left: Vec<_> =
            std::fs::read_dir(mount.at.join(".tenure")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort_unstable();
        assert_eq!(left, [".gitignore", "t.lock"], "{options}");
    }
    // Without the sticky bit everybody could remove another user's file: that is an error.
    let mount = mount(source(0o1777), "bindfs --chmod-ignore {}/source {}/mnt").unwrap();
    let mut one = Actor::from(Command::new("sh").args(["-c", "umask 0; exec \"$0\""]).arg(actor_program()));
    one.must(&format!("open l {}", mount.at.join("t").display()));
    let error = one.must_fail("acquire l g never", "unsupported")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("cannot be given the rights") && error.contains("--no-record"), "{error}");
    assert_eq!(std::fs::read_dir(&mount.at).unwrap().count(), 0);
}

#[test]
fn a_file_system_without_hard_links_and_exclusive_renames_supports_flock_style_only() {
    if !needs("root, for mounts", is_root())
        || !needs("/dev/fuse", Path::new("/dev/fuse").exists())
        || !needs("mkfs.exfat (exfatprogs)", has("mkfs.exfat"))
        || !needs("mount.exfat-fuse (exfat-fuse)", has("mount.exfat-fuse"))
    {
        return;
    }
    let Some(mount) = image("mkfs.exfat", 16, "exfat-fuse") else {
        skip("needs loop mounts of exfat-fuse");
        return;
    };
    let target = mount.at.join("t");
    let (mut one, mut two) = (Actor::start(), Actor::start());
    one.must(&format!("open l {}", target.display()));
    let refused = one.must_fail("acquire l g never", "unsupported");
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("neither hard links nor exclusive renames") && error.contains("--flock"), "{error}");
    let left: Vec<_> = std::fs::read_dir(&mount.at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".tenure"]);
    assert!(!mount.at.join(".tenure/t.lock.swap").exists());

    one.must(&format!("open f {} style=flock", target.display()));
    two.must(&format!("open f {} style=flock", target.display()));
    one.must("acquire f g never");
    two.must_fail("acquire f g never", "busy");
    two.must("begin f g forever");
    let pid = one.pid();
    one.kill();
    assert_eq!(two.receive()["crashed"]["pid"], pid);
}
