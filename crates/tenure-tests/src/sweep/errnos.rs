//! Makes each system call of a scene fail with each errno that its manual page lists.
//!
//! After a failed call the operation must either recover or return an error that names the path, and a grant must be
//! exclusive. Some errnos report a state (the name is taken, the file is missing, another process has the lock), and an
//! injected one is false. The lock may then be reported as busy or lost, but two processes must never hold it, and a
//! sweep must be able to remove every leftover file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::scenes::{Before, Cast, Deed, FLOCK, SCENES, Scene};
use super::{Depth, HANG, Report, anchors, attach, handicap, insist, may_stay, names, rehearse, settled};
use crate::Actor;
use crate::strace::Call;

/// The errnos of each call (strace prints EAGAIN for EWOULDBLOCK): ERRORS in section 2 of the Linux manual pages 6.x,
/// each under the call's own name, and EIO, which any call on a file may return.
const ERRNOS: &[(&str, &str)] = &[
    (
        "openat",
        "EACCES EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE ENODEV \
         ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW EPERM EROFS ETXTBSY EAGAIN",
    ),
    ("newfstatat", "EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EOVERFLOW"),
    ("fstat", "EBADF EFAULT EIO ENOMEM EOVERFLOW"),
    ("flock", "EBADF EINTR EINVAL EIO ENOLCK EAGAIN"),
    ("pread64", "EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR ENXIO EOVERFLOW ESPIPE"),
    (
        "pwrite64",
        "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC ENXIO EOVERFLOW EPERM EPIPE ESPIPE",
    ),
    (
        "linkat",
        "EACCES EBADF EDQUOT EEXIST EFAULT EINVAL EIO ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM ENOSPC ENOTDIR EPERM \
         EROFS EXDEV",
    ),
    // unlink(2) and, for AT_REMOVEDIR, rmdir(2).
    (
        "unlinkat",
        "EACCES EBADF EBUSY EFAULT EINVAL EIO EISDIR ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR ENOTEMPTY EPERM EROFS",
    ),
    (
        "renameat2",
        "EACCES EBADF EBUSY EDQUOT EEXIST EFAULT EINVAL EIO EISDIR ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM ENOSPC \
         ENOTDIR ENOTEMPTY EPERM EROFS EXDEV",
    ),
    (
        "mkdirat",
        "EACCES EBADF EDQUOT EEXIST EFAULT EINVAL EIO ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM ENOSPC ENOTDIR EPERM \
         EROFS",
    ),
    ("fchmod", "EACCES EBADF EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM EROFS"),
    ("fchown", "EACCES EBADF EFAULT EINVAL EIO ENOMEM EPERM EROFS"),
    ("fgetxattr", "EACCES EBADF EIO ENOMEM EOPNOTSUPP EPERM"),
    // F_SETLEASE, F_SETSIG, F_DUPFD_CLOEXEC, F_SETFD.
    ("fcntl", "EACCES EAGAIN EBADF EBUSY EINVAL EMFILE ENOMEM EPERM"),
    ("getdents64", "EBADF EFAULT EINVAL EIO ENOENT ENOTDIR"),
    ("fstatfs", "EBADF EFAULT EINTR EIO ENOMEM ENOSYS EOVERFLOW"),
    ("faccessat2", "EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM EROFS ETXTBSY"),
    ("statx", "EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR"),
    ("pidfd_open", "EINVAL EMFILE ENFILE ENODEV ENOMEM ESRCH"),
    ("kill", "EINVAL EPERM ESRCH"),
    ("readlinkat", "EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR"),
    ("readlink", "EACCES EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR"),
    ("uname", "EFAULT"),
    ("fsync", "EBADF EDQUOT EINTR EINVAL EIO ENOSPC EROFS"),
];

/// The errnos that report a state. The others are failures, whose number an error must show.
const MEANINGFUL: &[&str] =
    &["EAGAIN", "EEXIST", "ENOENT", "EXDEV", "EPERM", "EOPNOTSUPP", "EINVAL", "ENOTDIR", "ELOOP", "EISDIR"];

fn errnos_of(call: &Call) -> impl Iterator<Item = &'static str> {
    let listed = ERRNOS.iter().find(|(name, _)| *name == call.name).map_or("", |(_, errnos)| errnos);
    // A debug build's standard library reads a descriptor's flags before it closes the descriptor, and aborts on EBADF.
    let aborts = cfg!(debug_assertions) && call.name == "fcntl";
    // Without O_CREAT the file cannot exist already, and no space is needed.
    let creates = call.name != "openat" || call.text.contains("O_CREAT");
    let listed = listed.split_whitespace().filter(move |errno| !(aborts && *errno == "EBADF"));
    listed.filter(move |errno| creates || !matches!(*errno, "EEXIST" | "EDQUOT" | "ENOSPC"))
}

/// Returns the number in an error's text: `(os error 5)`.
fn number(errno: &str) -> i32 {
    match errno {
        "EACCES" => libc::EACCES,
        "EAGAIN" => libc::EAGAIN,
        "EBADF" => libc::EBADF,
        "EBUSY" => libc::EBUSY,
        "EDESTADDRREQ" => libc::EDESTADDRREQ,
        "EDQUOT" => libc::EDQUOT,
        "EEXIST" => libc::EEXIST,
        "EFAULT" => libc::EFAULT,
        "EFBIG" => libc::EFBIG,
        "EINTR" => libc::EINTR,
        "EINVAL" => libc::EINVAL,
        "EIO" => libc::EIO,
        "EISDIR" => libc::EISDIR,
        "ELOOP" => libc::ELOOP,
        "EMFILE" => libc::EMFILE,
        "EMLINK" => libc::EMLINK,
        "ENAMETOOLONG" => libc::ENAMETOOLONG,
        "ENFILE" => libc::ENFILE,
        "ENODEV" => libc::ENODEV,
        "ENOENT" => libc::ENOENT,
        "ENOLCK" => libc::ENOLCK,
        "ENOMEM" => libc::ENOMEM,
        "ENOSPC" => libc::ENOSPC,
        "ENOSYS" => libc::ENOSYS,
        "ENOTDIR" => libc::ENOTDIR,
        "ENOTEMPTY" => libc::ENOTEMPTY,
        "ENXIO" => libc::ENXIO,
        "EOPNOTSUPP" => libc::EOPNOTSUPP,
        "EOVERFLOW" => libc::EOVERFLOW,
        "EPERM" => libc::EPERM,
        "EPIPE" => libc::EPIPE,
        "EROFS" => libc::EROFS,
        "ESPIPE" => libc::ESPIPE,
        "ESRCH" => libc::ESRCH,
        "ETXTBSY" => libc::ETXTBSY,
        "EXDEV" => libc::EXDEV,
        other => panic!("no number for {other}"),
    }
}

/// A fraction of the cases.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The denominator; that many sweeps, each with its own `from`, take all cases.
    pub of: usize,
    pub from: usize,
}

impl Share {
    pub const ALL: Share = Share { of: 1, from: 0 };
}

/// Makes each call of the scene that `depth` includes fail once with each of its errnos.
pub fn sweep(dir: &Path, scene: &Scene, depth: Depth, share: Share) -> Report {
    let number = SCENES.iter().position(|other| std::ptr::eq(other, scene)).unwrap();
    let dir = dir.join(format!("errnos-{number}"));
    std::fs::create_dir(&dir).unwrap();
    let mut stage = Stage { dir: &dir, scene, depth, actor: Actor::start(), other: Actor::start(), plays: 0 };
    // Calls that a process makes only once, such as those for its identity, are over after this.
    stage.rehearse();
    let calls = settled(|| stage.rehearse());
    let mut held = Vec::new();
    let mut cases = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let mut errnos: Vec<&str> = errnos_of(call).collect();
        if locks(&mut held, call) == Some(Again) {
            // A process cannot be refused a lock that it holds.
            errnos.retain(|errno| *errno != "EAGAIN");
        }
        // strace accepts only one fault for a call: not both for all its instances and for this one.
        if !super::lasting(scene).iter().any(|fault| fault.starts_with(&format!("{}:", call.name))) {
            cases.extend(errnos.into_iter().map(|errno| (at, errno)));
        }
    }
    let mut report = Report::default();
    for (at, errno) in cases.into_iter().skip((share.from + number) % share.of).step_by(share.of) {
        report.cases += 1;
        let stage = std::cell::RefCell::new(&mut stage);
        let play = |call: &Call| stage.borrow_mut().play(call, errno, &mut report).then_some(());
        let met = insist(&calls, at, || stage.borrow_mut().rehearse(), play).is_some();
        // The number of some calls varies with other activity; calls that change something always occur.
        assert!(met || !Depth::Changing.takes(&calls[at]), "{scene}: it never reached {}", calls[at].text);
    }
    report
}

#[derive(PartialEq)]
struct Again;

/// Tracks the descriptors with an exclusive kernel lock; returns `Some` if this call locks such a descriptor again.
fn locks(held: &mut Vec<String>, call: &Call) -> Option<Again> {
    let (_, rest) = call.text.split_once('(')?;
    let fd = if call.name == "openat" { call.text.rsplit("= ").next()? } else { rest.split(&[',', ')'][..]).next()? };
    let had = held.iter().any(|held| held == fd);
    match call.name.as_str() {
        // A number that is returned again was closed before.
        "openat" => held.retain(|held| held != fd),
        "flock" if rest.contains("LOCK_UN") => held.retain(|held| held != fd),
        "flock" if had => return Some(Again),
        "flock" if call.text.ends_with("= 0") => held.push(fd.to_owned()),
        _ => {}
    }
    None
}

/// The folder in which two actors repeat a scene.
struct Stage<'a> {
    dir: &'a Path,
    scene: &'a Scene,
    depth: Depth,
    /// The actor under test.
    actor: Actor,
    other: Actor,
    plays: usize,
}

impl Stage<'_> {
    fn set(&mut self) -> (PathBuf, Cast) {
        self.plays += 1;
        let target = self.dir.join(self.plays.to_string()).join("t");
        let cast = self.scene.set(&target);
        self.scene.ready(&mut self.actor, &target);
        (target, cast)
    }

    fn rehearse(&mut self) -> Vec<Call> {
        let (target, cast) = self.set();
        let calls = rehearse(&mut self.actor, &self.scene.line(&target), self.scene, self.depth);
        self.clear(&target, cast);
        calls
    }

    /// Ends the repetition: all holders release.
    fn clear(&mut self, target: &Path, cast: Cast) {
        match self.scene.deed {
            Deed::Acquire | Deed::Resume => drop(self.actor.must("release g")),
            Deed::Suspend => drop(self.actor.must("give-up s")),
            _ => {}
        }
        drop(cast);
        std::fs::remove_dir_all(target.parent().unwrap()).unwrap();
    }

    /// Returns `false` if the actor did not reach that call.
    fn play(&mut self, call: &Call, errno: &str, report: &mut Report) -> bool {
        let (target, cast) = self.set();
        let (scene, parent) = (self.scene, target.parent().unwrap());
        let fault = format!("{}:error={errno}:when={}", call.name, call.nth);
        let strace = attach(&self.actor, scene, self.depth, &[&fault]);
        let answer = self.actor.ask(&scene.line(&target));
        let trace = strace.detach();
        if !trace.iter().any(|line| line.contains("(INJECTED)")) {
            self.clear(&target, cast);
            return false;
        }
        let what = format!("{scene}: {errno} at {}: {answer}", call.text);
        let ok = answer["ok"] == true;
        assert!(errno != "EINTR" || ok, "an interruption is not an error: {what}");
        // A break whose first look fails cannot determine the holder, so it reports that and breaks nothing.
        let refuses = matches!(scene.deed, Deed::Break | Deed::Force)
            && matches!(answer["kind"].as_str(), Some("busy" | "unsupported"));
        if !ok && !refuses {
            assert_names_path_and_errno(&answer, parent, errno, &what);
        }
        let lie = matches!(errno, "EAGAIN" | "ENOENT");
        let took = self.verify_afterwards(&target, cast, ok, lie, &what);
        report.worst = report.worst.max(took);
        std::fs::remove_dir_all(parent).unwrap();
        true
    }

    /// Verifies that a grant is exclusive and that the lock works afterwards. `lie`: an injected errno reported a false
    /// state.
    fn verify_afterwards(&mut self, target: &Path, cast: Cast, ok: bool, lie: bool, what: &str) -> Duration {
        let (actor, other, scene) = (&mut self.actor, &mut self.other, self.scene);
        other.must(&format!("open l {} {}", target.display(), scene.keys));
        if ok && scene.deed == Deed::Suspend {
            let resumed = actor.must(&format!("resume s g {}", HANG.as_millis()));
            // Its own file, which was reported missing, looks like a crashed holder's.
            let is_own = lie && resumed["crashed"]["pid"] == actor.pid();
            assert!(is_own || resumed["crashed"].is_null(), "{what}; then: {resumed}");
        }
        if ok && matches!(scene.deed, Deed::Acquire | Deed::Suspend | Deed::Resume) {
            let busy = other.must_fail("acquire l g never", "busy");
            // A dead holder that was reported alive, or missing, was left in place, and is reported in place of the
            // actor.
            assert!(lie || busy["holder"] == actor.pid(), "{what}; then: {busy}");
            actor.must("check g");
            actor.must("release g");
        }
        if let Some(mut holder) = cast.native {
            if holder.ask("check g")["ok"] == true {
                let busy = other.must_fail("acquire l g never", "busy");
                assert_eq!(busy["holder"], holder.pid(), "{what}; then: {busy}");
                holder.must("release g");
            } else {
                // The break failed half-way: the holder has lost the lock, and its release removes the leftover file.
                holder.ask("release g");
            }
            holder.finish();
        }
        if let Some(holder) = cast.foreign {
            holder.kill();
        }

        if let Some(mut suspended) = cast.suspended {
            let resumed = suspended.must(&format!("resume s g {}", HANG.as_millis()));
            // The actor under test has held meanwhile, but for an acquire that failed.
            let others = ok || scene.deed != Deed::Acquire;
            assert!(!others || resumed["meanwhile"] == "others", "{what}; then: {resumed}");
            suspended.must("release g");
            suspended.finish();
        }

        // Nothing is held, although the actor under test still runs.
        let started = Instant::now();
        let next = other.ask(&format!("acquire l g {}", HANG.as_millis()));
        let took = started.elapsed();
        assert_eq!(next["ok"], true, "{what}; then: {next}");
        other.must("check g");
        actor.must(&format!("open m {} {}", target.display(), scene.keys));
        actor.must_fail("acquire m h never", "busy");
        other.must("release g");
        // The actor under test can acquire as well.
        let strace = handicap(actor, scene);
        let next = actor.ask("acquire m g never");
        assert_eq!(next["ok"], true, "{what}; then: {next}");
        actor.must("check g");
        actor.must("release g");
        drop(strace);

        let parent = target.parent().unwrap();
        // Flock style ignores lock files: a dead foreign program's file stays until a sweep. A dead native's copy also
        // stays if the look for it fails, because the copy blocks nothing.
        let foreign = matches!(scene.before, Before::DeadForeign | Before::LaterForeign | Before::HalfTaken);
        let stays = scene.keys == FLOCK && (lie || foreign || !scene.links);
        let left = names(parent);
        assert!(left.iter().all(|name| may_stay(name, stays)), "{what}; then there is {left:?}");
        // Closes the lock, because an anchor that a process has open is not pruned.
        let away = format!("open {{}} {}/away", self.dir.display());
        for actor in [&mut *actor, &mut *other] {
            for name in ["l", "m"] {
                actor.must(&away.replace("{}", name));
            }
        }
        // The next holder gets the crash report of a lock that a sweep removes, so its anchor stays; it is pruned once
        // the crash is reported and the lock idle.
        let sweep = format!("clean {} idle_ms=0", parent.display());
        other.must(&sweep);
        other.must(&format!("open l {} {}", target.display(), scene.keys));
        other.must("acquire l g never");
        other.must("release g");
        other.must(&away.replace("{}", "l"));
        other.must(&sweep);
        let left = names(parent);
        assert_eq!(left, [""; 0], "{what}; then there is {:?}", names(&anchors(target)));
        took
    }
}

/// Asserts that the error names the path, and the errno if that does not report a state.
fn assert_names_path_and_errno(answer: &Value, parent: &Path, errno: &str, what: &str) {
    let text = answer["error"].as_str().unwrap_or_default();
    assert!(text.contains(&parent.display().to_string()), "{what}");
    let shown = text.contains(&format!("os error {})", number(errno)));
    assert!(shown || MEANINGFUL.contains(&errno), "{what}");
}
