//! All scripts, in groups.

mod cast;
mod file_systems;
mod natives;
mod operators;
mod removals;
mod users;
mod waiting;

use super::script::{Actor, Left, Removes, Script};

const GROUPS: [&[Script]; 6] =
    [natives::SCRIPTS, waiting::SCRIPTS, operators::SCRIPTS, users::SCRIPTS, file_systems::SCRIPTS, removals::SCRIPTS];

const COUNT: usize = {
    let (mut count, mut group) = (0, 0);
    while group < GROUPS.len() {
        count += GROUPS[group].len();
        group += 1;
    }
    count
};

const ALL: [Script; COUNT] = {
    let mut all = [cast::PLAIN; COUNT];
    let (mut at, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut inner = 0;
        while inner < GROUPS[group].len() {
            all[at] = GROUPS[group][inner];
            (at, inner) = (at + 1, inner + 1);
        }
        group += 1;
    }
    all
};

/// All scripts that must pass.
pub const SCRIPTS: &[Script] = &ALL;

/// A script that no lock can pass, to test the witness.
pub const UNSOUND: Script = Script {
    name: "removed-both",
    about: "a person removes `.tenure` and the lock file, beside two natives",
    left: &[Left::Anchor],
    actors: &[cast::LOCK_FILE, cast::LOCK_FILE, Actor::User(Removes::Both)],
    preemptions: Some(2),
    ..cast::PLAIN
};

/// Returns the script of that name.
pub fn by_name(name: &str) -> Option<&'static Script> {
    SCRIPTS.iter().chain([&UNSOUND]).find(|script| script.name == name)
}
