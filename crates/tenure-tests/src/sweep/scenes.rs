//! The scenes of a sweep: the initial state, the operation, and whether hard links exist.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{anchors, handicap, lock_file};
use crate::strace::Strace;
use crate::{Actor, Foreign};

/// The initial state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// An empty folder.
    Nothing,
    /// An empty folder that everyone may write to: `.tenure` gets its mode.
    Shared,
    /// A released lock.
    Idle,
    /// A lock that the actor under test holds.
    Held,
    /// A dead holder, with the options of its lock.
    Crashed(&'static str),
    /// A dead holder whose `.tenure` was removed.
    Bereft,
    /// A lock file of a dead foreign program.
    DeadForeign,
    /// The same, where a native has used the lock before.
    LaterForeign,
    /// A native that died in a takeover, between the exchange and the removal of the file that was exchanged.
    HalfTaken,
    /// The same, and a foreign program has removed the dead native's lock file.
    Stripped,
    /// A native that died after it created its anchor and before it named it.
    HalfMade,
    /// A native holder, with the options of its lock.
    Holder(&'static str),
    /// A foreign holder.
    ForeignHolder,
    /// A lock that another process has suspended, and means to resume, with the options of its lock.
    Suspender(&'static str),
    /// A lock that the actor under test has suspended, and that another process has held since.
    Carried,
}

/// The operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Acquire,
    Release,
    Suspend,
    /// Resumes what the actor under test has suspended.
    Resume,
    Clean,
    Break,
    /// Breaks a live holder's lock.
    Force,
}

#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub deed: Deed,
    /// The options of the lock to acquire.
    pub keys: &'static str,
    pub before: Before,
    /// Whether hard links exist.
    pub links: bool,
}

impl std::fmt::Display for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} ({:?}) after {:?}", self.deed, self.keys, self.before)?;
        if self.links { Ok(()) } else { write!(f, ", without hard links") }
    }
}

const fn scene(deed: Deed, keys: &'static str, before: Before) -> Scene {
    Scene { deed, keys, before, links: true }
}

const fn copied(deed: Deed, keys: &'static str, before: Before) -> Scene {
    Scene { deed, keys, before, links: false }
}

pub const FLOCK: &str = "style=flock";

/// All scenes.
pub static SCENES: &[Scene] = &[
    scene(Deed::Acquire, "", Before::Nothing),
    scene(Deed::Acquire, "mode=666", Before::Nothing),
    scene(Deed::Acquire, FLOCK, Before::Nothing),
    scene(Deed::Acquire, "style=flock mode=666", Before::Nothing),
    copied(Deed::Acquire, "", Before::Nothing),
    scene(Deed::Acquire, "", Before::Shared),
    scene(Deed::Acquire, "", Before::Idle),
    scene(Deed::Acquire, FLOCK, Before::Idle),
    copied(Deed::Acquire, "", Before::Idle),
    scene(Deed::Release, "", Before::Held),
    scene(Deed::Release, FLOCK, Before::Held),
    copied(Deed::Release, "", Before::Held),
    scene(Deed::Suspend, "", Before::Held),
    scene(Deed::Suspend, FLOCK, Before::Held),
    scene(Deed::Suspend, "", Before::Suspender("")),
    copied(Deed::Suspend, "", Before::Held),
    scene(Deed::Resume, "", Before::Held),
    scene(Deed::Resume, FLOCK, Before::Held),
    scene(Deed::Resume, "", Before::Carried),
    scene(Deed::Resume, FLOCK, Before::Carried),
    scene(Deed::Resume, "", Before::Suspender("")),
    copied(Deed::Resume, "", Before::Carried),
    scene(Deed::Acquire, "", Before::Suspender("")),
    scene(Deed::Acquire, FLOCK, Before::Suspender("")),
    scene(Deed::Acquire, "", Before::Crashed("")),
    scene(Deed::Acquire, FLOCK, Before::Crashed("")),
    scene(Deed::Acquire, "", Before::Crashed(FLOCK)),
    scene(Deed::Acquire, FLOCK, Before::Crashed(FLOCK)),
    copied(Deed::Acquire, "", Before::Crashed("")),
    copied(Deed::Acquire, FLOCK, Before::Crashed("")),
    scene(Deed::Acquire, "", Before::Bereft),
    copied(Deed::Acquire, "", Before::Bereft),
    scene(Deed::Acquire, FLOCK, Before::Bereft),
    scene(Deed::Acquire, "", Before::DeadForeign),
    copied(Deed::Acquire, "", Before::DeadForeign),
    scene(Deed::Acquire, "", Before::HalfTaken),
    scene(Deed::Acquire, FLOCK, Before::HalfTaken),
    copied(Deed::Acquire, "", Before::HalfTaken),
    scene(Deed::Acquire, "", Before::Stripped),
    scene(Deed::Acquire, "mode=666", Before::HalfMade),
    scene(Deed::Clean, "", Before::Idle),
    scene(Deed::Clean, "", Before::Crashed("")),
    scene(Deed::Clean, "", Before::Crashed(FLOCK)),
    copied(Deed::Clean, "", Before::Crashed("")),
    scene(Deed::Clean, "", Before::Bereft),
    copied(Deed::Clean, "", Before::Bereft),
    scene(Deed::Clean, "", Before::DeadForeign),
    copied(Deed::Clean, "", Before::DeadForeign),
    scene(Deed::Clean, "", Before::LaterForeign),
    scene(Deed::Clean, "", Before::HalfTaken),
    copied(Deed::Clean, "", Before::HalfTaken),
    scene(Deed::Clean, "", Before::Stripped),
    scene(Deed::Clean, "", Before::HalfMade),
    scene(Deed::Break, "", Before::Crashed("")),
    scene(Deed::Break, "", Before::Crashed(FLOCK)),
    copied(Deed::Break, "", Before::Crashed("")),
    scene(Deed::Break, "", Before::Bereft),
    scene(Deed::Break, "", Before::DeadForeign),
    copied(Deed::Break, "", Before::DeadForeign),
    scene(Deed::Force, "", Before::Holder("")),
    scene(Deed::Force, "", Before::Holder(FLOCK)),
    copied(Deed::Force, "", Before::Holder("")),
    scene(Deed::Force, "", Before::ForeignHolder),
];

/// Returns the scenes with one of these deeds, with or without hard links.
pub fn of(deeds: &[Deed], links: bool) -> impl Iterator<Item = &'static Scene> {
    SCENES.iter().filter(move |scene| deeds.contains(&scene.deed) && scene.links == links)
}

/// The processes that hold during the scene.
#[derive(Default)]
pub struct Cast {
    pub native: Option<Actor>,
    pub foreign: Option<Foreign>,
    /// A process whose tenure is suspended as `s`.
    pub suspended: Option<Actor>,
}

impl Scene {
    /// Creates the initial state in `target`'s folder, and the folder itself.
    pub fn set(&self, target: &Path) -> Cast {
        fs::create_dir(target.parent().unwrap()).unwrap();
        self.fill(target)
    }

    fn fill(&self, target: &Path) -> Cast {
        let mut cast = Cast::default();
        match self.before {
            Before::Nothing | Before::Held | Before::Carried => {}
            Before::Shared => fs::set_permissions(target.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap(),
            Before::Idle => {
                let (_strace, mut actor) = self.holder(target, "");
                actor.must("release g");
                actor.finish();
            }
            Before::Crashed(keys) => self.holder(target, keys).1.kill(),
            Before::Bereft => {
                self.holder(target, "").1.kill();
                fs::remove_dir_all(anchors(target)).unwrap();
            }
            Before::DeadForeign => dead_foreign(target),
            Before::LaterForeign => {
                Scene { before: Before::Idle, ..*self }.fill(target);
                dead_foreign(target);
            }
            Before::HalfTaken => {
                dead_foreign(target);
                // The first removal is that of the exchanged file, unless a copy was made in vain.
                let fault = if self.links { "unlinkat:signal=KILL:when=1" } else { "unlinkat:signal=KILL:when=2" };
                dies_in(target, "", self, fault);
                assert!(anchors(target).join("t.lock.swap").exists() && lock_file(target).exists());
            }
            Before::Stripped => {
                Scene { before: Before::HalfTaken, ..*self }.fill(target);
                fs::remove_file(lock_file(target)).unwrap();
            }
            Before::HalfMade => {
                dies_in(target, "mode=666", self, "renameat2:signal=KILL:when=1");
                assert!(anchors(target).join("t.lock.new").exists());
            }
            Before::Holder(keys) => cast.native = Some(self.holder(target, keys).1),
            Before::ForeignHolder => cast.foreign = Some(Foreign::hold("python", target)),
            Before::Suspender(keys) => {
                let (_strace, mut actor) = self.holder(target, keys);
                actor.must("suspend g s");
                cast.suspended = Some(actor);
            }
        }
        cast
    }

    /// Brings the actor under test to the state in which it can run the line.
    pub fn ready(&self, actor: &mut Actor, target: &Path) {
        if matches!(self.deed, Deed::Acquire | Deed::Release | Deed::Suspend | Deed::Resume) {
            actor.must(&format!("open l {} {}", target.display(), self.keys));
        }
        if matches!(self.deed, Deed::Release | Deed::Suspend | Deed::Resume) {
            let strace = handicap(actor, self);
            actor.must("acquire l g never");
            drop(strace);
        }
        if self.deed == Deed::Resume {
            actor.must("suspend g s");
        }
        if self.before == Before::Carried {
            let (_strace, mut other) = self.holder(target, self.keys);
            other.must("release g");
            other.finish();
        }
    }

    /// Returns the line for the actor under test.
    pub fn line(&self, target: &Path) -> String {
        match self.deed {
            Deed::Acquire => "acquire l g never".to_owned(),
            Deed::Release => "release g".to_owned(),
            Deed::Suspend => "suspend g s".to_owned(),
            Deed::Resume => "resume s g never".to_owned(),
            Deed::Clean => format!("clean {} idle_ms=0", target.parent().unwrap().display()),
            Deed::Break => format!("break {}", target.display()),
            Deed::Force => format!("break {} force", target.display()),
        }
    }

    /// Starts a native that holds.
    fn holder(&self, target: &Path, keys: &str) -> (Option<Strace>, Actor) {
        let mut actor = Actor::start();
        let strace = handicap(&actor, self);
        actor.must(&format!("open l {} {keys}", target.display()));
        actor.must("acquire l g never");
        (strace, actor)
    }
}

/// Starts a native that dies in the call of an acquire that the fault names.
fn dies_in(target: &Path, keys: &str, scene: &Scene, fault: &str) {
    let mut actor = Actor::start();
    actor.must(&format!("open l {} {keys}", target.display()));
    let faults: Vec<&str> = super::lasting(scene).iter().copied().chain([fault]).collect();
    let strace = Strace::inject(actor.pid(), &faults);
    assert_eq!(actor.ask_if_it_lives("acquire l g never"), None, "it never reached {fault}");
    drop(strace);
}

/// Creates a lock file of a dead foreign program.
pub fn dead_foreign(target: &Path) {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let text = format!("{{\n  \"pid\": {},\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\"\n}}", child.id());
    // Another process writes the file: the children of this process's threads would have it open for writing for a
    // moment, and such a lock file is a live one.
    let mut writer = Actor::start();
    // Not written into an existing file, which may be a holder's.
    let made = target.with_file_name("made");
    writer.must(&format!("put {} 0 {}", made.display(), crate::hex(text.as_bytes())));
    writer.finish();
    fs::rename(made, lock_file(target)).unwrap();
}
