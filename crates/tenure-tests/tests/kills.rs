//! Kills just before and just after each system call that changes something: `tenure_tests::sweep`.

use tenure_tests::sweep::kills::{Moment, sweep};
use tenure_tests::sweep::scenes::{Deed, of};
use tenure_tests::sweep::{Depth, Report};
use tenure_tests::{folder, has, needs};

fn kill_in(deeds: &[Deed], links: bool) {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let mut all = Report::default();
    for scene in of(deeds, links) {
        let report = sweep(dir.path(), scene, Depth::Changing, &[Moment::Before, Moment::After]);
        println!("{scene}: {} kills, the next grant within {:?}", report.cases, report.worst);
        all.add(report);
    }
    assert!(all.cases > 5, "{all:?}");
}

#[test]
fn a_kill_at_any_call_of_an_acquire_or_a_takeover_is_recovered_from() {
    kill_in(&[Deed::Acquire], true);
}

#[test]
fn a_kill_at_any_call_of_an_acquire_or_a_takeover_without_hard_links_is_recovered_from() {
    kill_in(&[Deed::Acquire], false);
}

#[test]
fn a_kill_at_any_call_of_a_release_is_recovered_from() {
    kill_in(&[Deed::Release], true);
    kill_in(&[Deed::Release], false);
}

#[test]
fn a_kill_at_any_call_of_a_suspend_or_a_resume_is_recovered_from() {
    kill_in(&[Deed::Suspend, Deed::Resume], true);
    kill_in(&[Deed::Suspend, Deed::Resume], false);
}

#[test]
fn a_kill_at_any_call_of_a_clean_is_recovered_from() {
    kill_in(&[Deed::Clean], true);
    kill_in(&[Deed::Clean], false);
}

#[test]
fn a_kill_at_any_call_of_a_break_is_recovered_from() {
    kill_in(&[Deed::Break, Deed::Force], true);
    kill_in(&[Deed::Break, Deed::Force], false);
}
