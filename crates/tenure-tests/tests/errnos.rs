//! Makes each system call that changes something fail with each errno of its manual page: `tenure_tests::sweep`.

use tenure_tests::sweep::errnos::{Share, sweep};
use tenure_tests::sweep::scenes::{Deed, of};
use tenure_tests::sweep::{Depth, Report};
use tenure_tests::{folder, has, needs};

/// A quarter of all cases, spread over the calls and errnos of all scenes; `torture sweep` takes the rest.
const SHARE: Share = Share { of: 4, from: 0 };

fn fail_in(deeds: &[Deed], links: bool) {
    if !needs("strace and python3", has("strace") && has("python3")) {
        return;
    }
    let dir = folder();
    let mut all = Report::default();
    for scene in of(deeds, links) {
        let report = sweep(dir.path(), scene, Depth::Changing, SHARE);
        println!("{scene}: {} faults, the next grant within {:?}", report.cases, report.worst);
        all.add(report);
    }
    assert!(all.cases > 5, "{all:?}");
}

#[test]
fn any_call_of_an_acquire_or_a_takeover_may_fail() {
    fail_in(&[Deed::Acquire], true);
}

#[test]
fn any_call_of_an_acquire_or_a_takeover_may_fail_without_hard_links() {
    fail_in(&[Deed::Acquire], false);
}

#[test]
fn any_call_of_a_release_may_fail() {
    fail_in(&[Deed::Release], true);
    fail_in(&[Deed::Release], false);
}

#[test]
fn any_call_of_a_suspend_or_a_resume_may_fail() {
    fail_in(&[Deed::Suspend, Deed::Resume], true);
    fail_in(&[Deed::Suspend, Deed::Resume], false);
}

#[test]
fn any_call_of_a_clean_may_fail() {
    fail_in(&[Deed::Clean], true);
    fail_in(&[Deed::Clean], false);
}

#[test]
fn any_call_of_a_break_may_fail() {
    fail_in(&[Deed::Break, Deed::Force], true);
    fail_in(&[Deed::Break, Deed::Force], false);
}
