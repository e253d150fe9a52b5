//! Every script in every order with one interruption, with a death on top, and in random orders. More of it, for as long as
//! one likes: `cargo run --release -p tenure-sim`.

use tenure_sim::sim::{
    Arena, Call, Limits, Opening, Report, SCRIPTS, Script, UNSOUND, by_name, exhaustive, random, replay,
};

#[global_allocator]
static MEMORY: Arena = Arena;

fn at_most(schedules: u64) -> Limits {
    Limits { schedules: Some(schedules), ..Limits::default() }
}

fn sound(report: &Report) {
    if let Some(failure) = &report.failure {
        panic!("{failure}");
    }
    assert!(report.schedules > 0 && report.steps > report.schedules, "nothing was run: {report:?}");
}

/// Every `count`th script from `first` on, so that they run beside each other.
fn scripts(first: usize, count: usize, run: impl Fn(&Script)) {
    for script in SCRIPTS.iter().skip(first).step_by(count) {
        run(script);
    }
}

/// The bound that finds nearly everything: a process is interrupted once where it could go on.
fn interrupted_once(first: usize) {
    scripts(first, 2, |script| {
        let calm = Script { preemptions: Some(1), deaths: 0, failures: 0, ..*script };
        let report = exhaustive(&calm, at_most(1_000_000));
        sound(&report);
        assert!(report.complete, "{}: not every order was seen", script.name);
        // Where these are more, the last of a run's choices were gone through.
        sound(&exhaustive(&Script { preemptions: Some(1), ..*script }, at_most(6000)));
    });
}

#[test]
fn interrupted_once_even() {
    interrupted_once(0);
}

#[test]
fn interrupted_once_odd() {
    interrupted_once(1);
}

#[test]
fn random_orders() {
    scripts(0, 1, |script| {
        let seed = 1;
        let report = random(&Script { preemptions: None, ..*script }, seed, at_most(600));
        sound(&report);
        assert_eq!(report.whole, 600, "a random run goes to its end");
        // The same seed again: nothing but the choices decides what happens.
        let again = random(&Script { preemptions: None, ..*script }, seed, at_most(600));
        assert_eq!(again.steps, report.steps, "{}: two runs of one seed differ", script.name);
    });
}

/// Every call by every error that its manual page lists, one in each run, and nobody is interrupted. Then in random orders.
#[test]
fn any_call_fails() {
    scripts(0, 1, |script| {
        let failing = Script { failures: 1, every_error: true, ..*script };
        sound(&exhaustive(&Script { preemptions: Some(0), deaths: 0, ..failing }, at_most(3000)));
        sound(&random(&Script { preemptions: None, ..failing }, 1, at_most(100)));
    });
}

/// Two calls fail in one run, and nobody is interrupted: a look, say, and then what was to keep the word of a crash.
#[test]
fn any_two_calls_fail() {
    let fails_twice = |script: &Script, schedules| {
        let failing = Script { failures: 2, preemptions: Some(0), deaths: 0, ..*script };
        sound(&exhaustive(&failing, at_most(schedules)));
    };
    scripts(0, 1, |script| fails_twice(script, 1500));
    // A folder in the making that gets no name and cannot be removed either: the next try does without it.
    fails_twice(by_name("users-dead-foreign").expect("it is one of the scripts"), 15_000);
}

/// An operator has looked when the holder shows its lock file. The break takes that along: a waiter would queue on it, as on
/// one of a live native's, and for as long as that holder stays nobody could go on, though nobody held.
#[test]
fn a_break_takes_along_the_lock_file_that_was_just_shown() {
    const HOLDER: u8 = 0;
    const BREAK: u8 = 2;
    let opening = &[
        Opening::Until(HOLDER, Call::Link),
        Opening::Until(BREAK, Call::Create),
        Opening::Once(HOLDER),
        Opening::Until(BREAK, Call::Rename),
    ];
    let script = by_name("break-holder").expect("it is one of the scripts");
    let report = exhaustive(&Script { opening, preemptions: Some(1), ..*script }, Limits::default());
    sound(&report);
    assert!(report.complete, "not every order was seen");
}

/// A foreign program takes a dead native's place between the look at what that left and its removal.
#[test]
fn nobody_removes_a_live_lock_file() {
    for name in ["no-links-dead-flock", "bereft-flock", "no-links-nor-exchange-flock", "clean-dead-between"] {
        let script = by_name(name).expect("it is one of the scripts");
        let report = exhaustive(&Script { preemptions: Some(2), deaths: 0, ..*script }, Limits::default());
        sound(&report);
        assert!(report.complete, "{name}: not every order was seen");
    }
}

/// The witness sees what it is there for, and the schedule that shows it shows it again.
#[test]
fn what_cannot_be_kept_is_seen() {
    let failure = exhaustive(&UNSOUND, Limits::default()).failure.expect("two hold once both files are gone");
    assert!(failure.what.starts_with("two natives hold"), "{failure}");
    let text = failure.schedule.to_string();
    let (again, story) = replay(&UNSOUND, &text.parse().unwrap()).expect("it is a schedule of this script");
    assert_eq!(again.expect("it fails again").what, failure.what);
    assert!(story.iter().any(|line| line.contains("unlink t.lock")), "{story:#?}");
    assert!(replay(&UNSOUND, &"zz".parse().unwrap()).is_err(), "there is no such process");
}
