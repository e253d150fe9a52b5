//! Runs every script in every order with one interruption, with a death as well, and in random orders. For longer runs:
//! `cargo run --release -p tenure-sim`.

use tenure_sim::sim::{
    Arena, Call, Face, Limits, Opening, Report, SCRIPTS, Script, UNSOUND, by_name, exhaustive, random, replay,
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
    assert!(report.schedules > 0 && report.steps > report.schedules, "no run was made: {report:?}");
}

/// Runs every `count`th script from `first` on, so that tests share the scripts.
fn scripts(first: usize, count: usize, run: impl Fn(&Script)) {
    for script in SCRIPTS.iter().skip(first).step_by(count) {
        run(script);
    }
}

/// Interrupts a thread that could continue once, which finds nearly all faults.
fn interrupted_once(first: usize) {
    scripts(first, 2, |script| {
        let calm = Script { preemptions: Some(1), deaths: 0, failures: 0, ..*script };
        let report = exhaustive(&calm, at_most(1_000_000));
        sound(&report);
        assert!(report.complete, "{}: not every order was run", script.name);
        // With more orders than that, the last choices of a run have been explored.
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
        assert_eq!(report.whole, 600, "a random run reaches its end");
        // The same seed gives the same runs, because only the choices decide.
        let again = random(&Script { preemptions: None, ..*script }, seed, at_most(600));
        assert_eq!(again.steps, report.steps, "{}: two runs of one seed differ", script.name);
    });
}

/// Fails each call with every error that its manual page lists, one in each run, without interruptions, and then in random
/// orders.
#[test]
fn any_call_fails() {
    scripts(0, 1, |script| {
        let failing = Script { failures: 1, every_error: true, ..*script };
        sound(&exhaustive(&Script { preemptions: Some(0), deaths: 0, ..failing }, at_most(3000)));
        sound(&random(&Script { preemptions: None, ..failing }, 1, at_most(100)));
    });
}

/// Fails two calls in one run without interruptions, for example a read, and then the write that would record a crash.
#[test]
fn any_two_calls_fail() {
    let fails_twice = |script: &Script, schedules| {
        let failing = Script { failures: 2, preemptions: Some(0), deaths: 0, ..*script };
        sound(&exhaustive(&failing, at_most(schedules)));
    };
    scripts(0, 1, |script| fails_twice(script, 1500));
    // A new folder that can neither be renamed nor removed: the next try does without it.
    fails_twice(by_name("users-dead-foreign").expect("the script exists"), 15_000);
}

/// Runs the scripts on another system: with an interruption, in random orders, and with one or two failing calls.
fn on_another_system(face: Face) {
    let mut ran = 0;
    for script in SCRIPTS.iter().filter_map(|script| script.on(face)) {
        sound(&exhaustive(&Script { preemptions: Some(1), ..script }, at_most(1500)));
        sound(&random(&Script { preemptions: None, ..script }, 1, at_most(150)));
        let failing = Script { failures: 1, preemptions: Some(0), deaths: 0, ..script };
        sound(&exhaustive(&Script { every_error: true, ..failing }, at_most(800)));
        sound(&exhaustive(&Script { failures: 2, ..failing }, at_most(300)));
        ran += 1;
    }
    assert!(ran >= 40, "{ran} scripts have a meaning on {face:?}");
}

#[test]
fn on_windows() {
    on_another_system(Face::Windows);
}

#[test]
fn on_freebsd() {
    on_another_system(Face::FreeBsd);
}

#[test]
fn on_macos() {
    on_another_system(Face::MacOs);
}

fn on(face: Face, name: &str) -> Script {
    by_name(name).and_then(|script| script.on(face)).expect("the script has a meaning there")
}

/// Without an exchange a dead holder's lock file is removed, and another program may have made its own since the judgement.
#[test]
fn a_takeover_by_removal_removes_only_the_judged_file() {
    for (face, name) in
        [(Face::FreeBsd, "dead-between"), (Face::Windows, "dead-between"), (Face::FreeBsd, "dead-between-two")]
    {
        let report = exhaustive(&Script { preemptions: Some(2), deaths: 0, ..on(face, name) }, at_most(30_000));
        sound(&report);
    }
}

/// The second step of an anchor's replacement fails, and so may the next call: the prepared file still has the crash report.
#[test]
fn an_anchor_that_is_half_replaced_forgets_no_crash() {
    let failing = Script { failures: 2, preemptions: Some(0), deaths: 0, ..on(Face::Windows, "dead-flock-native") };
    sound(&exhaustive(&failing, at_most(20_000)));
}

/// Only the holder can remove its lock file. Its removal after a break may fail, and is tried again.
#[test]
fn a_holder_that_keeps_its_lock_file_gives_it_up_after_a_break() {
    let breaking = Script { every_error: true, failures: 1, preemptions: Some(1), ..on(Face::Windows, "break-holder") };
    sound(&exhaustive(&breaking, at_most(30_000)));
}

/// A status has a shared lock on a dead native's lock file for a moment, which is no holder's.
#[test]
fn a_status_hides_no_crash() {
    for (name, face) in Face::ALL {
        let report = exhaustive(&Script { preemptions: Some(2), ..on(face, "bereft-flock-look") }, at_most(20_000));
        sound(&report);
        assert!(report.complete, "{name}: not every order was run");
    }
}

/// The holder publishes its lock file after the operator's check. The break must remove that file too: otherwise a waiter
/// would wait on it, as on a live native's, for as long as the holder stays, although no process holds.
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
    let script = by_name("break-holder").expect("the script exists");
    let report = exhaustive(&Script { opening, preemptions: Some(1), ..*script }, Limits::default());
    sound(&report);
    assert!(report.complete, "not every order was run");
}

/// A foreign program replaces a dead native's lock file between the check of that file and its removal.
#[test]
fn no_process_removes_a_live_lock_file() {
    for name in ["no-links-dead-flock", "bereft-flock", "no-links-nor-exchange-flock", "clean-dead-between"] {
        let script = by_name(name).expect("the script exists");
        let report = exhaustive(&Script { preemptions: Some(2), deaths: 0, ..*script }, Limits::default());
        sound(&report);
        assert!(report.complete, "{name}: not every order was run");
    }
}

/// The witness finds a violation, and its schedule repeats it.
#[test]
fn an_unsound_script_fails_and_its_schedule_repeats() {
    let failure = exhaustive(&UNSOUND, Limits::default()).failure.expect("two hold once both files are gone");
    assert!(failure.what.starts_with("two natives hold"), "{failure}");
    let text = failure.schedule.to_string();
    let (again, story) = replay(&UNSOUND, &text.parse().unwrap()).expect("the schedule fits this script");
    assert_eq!(again.expect("it fails again").what, failure.what);
    assert!(story.iter().any(|line| line.contains("unlink t.lock")), "{story:#?}");
    assert!(replay(&UNSOUND, &"zz".parse().unwrap()).is_err(), "the schedule names an unknown process");
}
