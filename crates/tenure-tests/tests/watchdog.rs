//! The watchdog: overruns, refreshed dates, losses, and that it runs only when needed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::task::Context;
use std::time::{Duration, Instant};

use serde_json::Value;
use tenure::{Event, Lock, State, Wait, status};
use tenure_tests::wakes::counted;
use tenure_tests::{Actor, folder, opened, until};

fn record(target: &Path) -> Value {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    let mut record = None;
    // A reader may find a half-written record.
    until("the lock file parses", || {
        record = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        record.is_some()
    });
    record.unwrap()
}

fn has_watchdog(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.flatten().any(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "tenure-watchdog")
    })
}

#[test]
fn an_overrun_is_reported_and_the_lock_stays_held() {
    for style in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, &format!("max_hold_ms=100 events=1 {style}"));
        let start = Instant::now();
        actor.must("acquire l g never");
        let event = actor.receive();
        assert_eq!((&event["event"], &event["revoked"]), (&"overrun".into(), &false.into()), "{event}");
        assert!(start.elapsed() >= Duration::from_millis(100));
        actor.must("check g");
        opened(&target, style).must_fail("acquire l g never", "busy");
        // One report is enough.
        actor.must("release g");
        actor.must("threads");
        actor.assert_no_event();
    }
}

#[test]
fn a_revoked_tenure_is_lost_and_the_lock_is_free() {
    for style in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, &format!("max_hold_ms=300 overrun=revoke events=1 {style}"));
        let mut other = opened(&target, style);
        let fence = actor.must("acquire l g never")["fence"].clone();
        actor.must("revoked g");
        let mut events: Vec<Value> = vec![actor.receive(), actor.receive()];
        events.sort_by_key(|event| event["event"].to_string());
        assert_eq!((&events[0]["event"], &events[0]["revoked"]), (&"overrun".into(), &true.into()), "{events:?}");
        assert_eq!(events[0]["fence"], fence, "{events:?}");
        assert_eq!((&events[1]["event"], &events[1]["guard"]), (&"revoked".into(), &"g".into()), "{events:?}");
        let lost = actor.must_fail("check g", "lost");
        assert!(lost["error"].as_str().unwrap().contains("max_hold"), "{lost}");
        let later = other.must("acquire l g never");
        assert!(later["fence"].as_u64() > fence.as_u64(), "{later}");
        // The previous holder may still be writing.
        let before = &later["crashed"];
        assert_eq!((&before["pid"], &before["liveness"]), (&actor.pid().into(), &"alive".into()), "{later}");
        // The old holder's release takes nothing from the new holder.
        actor.must_fail("label g x", "lost");
        actor.must_fail("release g", "lost");
        other.must("check g");
        assert_eq!(status(&target).unwrap().holder.unwrap().pid(), Some(other.pid().into()));
        if style.is_empty() {
            assert_eq!(record(&target)["pid"], other.pid());
        }
        other.must("release g");
        assert!(actor.must("acquire l g never")["crashed"].is_null());
    }
}

#[test]
fn the_watchdog_covers_every_share() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = opened(&target, "style=flock max_hold_ms=200 overrun=revoke events=1");
    // The second share joins the first without the kernel.
    actor.must("share l s never");
    actor.send("share l t never");
    let mut said: Vec<Value> = (0..3).map(|_| actor.receive()).collect();
    said.retain(|line| !line["event"].is_null());
    assert_eq!(said.len(), 2, "{said:?}");
    for event in said {
        assert_eq!((&event["event"], &event["revoked"]), (&"overrun".into(), &true.into()), "{event}");
    }
    for share in ["s", "t"] {
        actor.must_fail(&format!("release {share}"), "lost");
    }
    opened(&target, "style=flock").must("acquire l g never");
}

#[test]
fn a_revoke_grants_the_processs_own_waiters() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = opened(&target, "max_hold_ms=200 overrun=revoke");
    actor.must("acquire l g never");
    actor.must("begin l h 60000");
    assert_eq!(actor.receive()["event"], "granted");
    actor.must_fail("check g", "lost");
    // The second tenure is revoked as well.
    until("free", || status(&target).unwrap().state == State::Free);
    actor.must_fail("release h", "lost");
}

#[test]
fn the_end_of_a_revoked_guard_keeps_the_next_guard_of_its_process() {
    for (keys, take) in [("", "acquire"), ("style=flock", "acquire"), ("style=flock", "share")] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, &format!("max_hold_ms=200 overrun=revoke {keys}"));
        actor.must(&format!("{take} l g never"));
        until("it is revoked", || actor.ask("check g")["kind"] == "lost");
        actor.must(&format!("open m {} {keys}", target.display()));
        actor.must(&format!("{take} m h 60000"));
        actor.must_fail("release g", "lost");
        actor.must("check h");
        let mut other = opened(&target, keys);
        other.must_fail("acquire l g never", "busy");
        actor.must("release h");
        other.must("acquire l g never");
    }
}

#[test]
fn the_date_is_refreshed_for_foreign_readers() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = opened(&target, "refresh_ms=50 label=here");
    actor.must("acquire l g never");
    let first = record(&target);
    let mut last = first["createdAt"].clone();
    for _ in 0..3 {
        until("a new date", || {
            let now = record(&target)["createdAt"].clone();
            let newer = now.is_string() && now.as_str() > last.as_str();
            if newer {
                last = now;
            }
            newer
        });
    }
    let mut now = record(&target);
    // Only the date changes.
    until("a whole record", || {
        now = record(&target);
        now["pid"].is_number()
    });
    for field in ["pid", "starttime", "tenure"] {
        assert_eq!(now[field], first[field], "{field}");
    }
    actor.must("check g");
}

#[test]
fn the_watchdog_ends_when_it_has_nothing_to_watch() {
    let dir = folder();
    let mut actor = opened(&dir.path().join("t"), "");
    let before = actor.must("threads")["threads"].clone();
    actor.must("acquire l g never");
    // A thread gets its name a moment after its start.
    until("it watches", || has_watchdog(actor.pid()));
    actor.must("release g");
    until("it has ended", || actor.must("threads")["threads"] == before);
    // It starts again.
    actor.must("acquire l g never");
    until("it watches again", || has_watchdog(actor.pid()));
}

#[test]
fn flock_style_needs_no_watchdog() {
    let dir = folder();
    let mut actor = opened(&dir.path().join("t"), "style=flock");
    let before = actor.must("threads")["threads"].clone();
    actor.must("acquire l g never");
    assert_eq!(actor.must("threads")["threads"], before);
    // Unless a caller listens for a loss.
    actor.must("revoked g");
    until("it watches", || has_watchdog(actor.pid()));
}

#[test]
fn a_panicking_callback_stops_nothing() {
    let dir = folder();
    let target = |n: usize| dir.path().join(n.to_string());
    let (sender, receiver) = mpsc::channel();
    let panics = Lock::options().max_hold(Duration::from_millis(50)).on_event(|_| panic!("on purpose"));
    let tells = Lock::options().max_hold(Duration::from_millis(400)).on_event(move |event| {
        if let Event::Overrun { target, .. } = event {
            sender.send(target.to_path_buf()).unwrap();
        }
    });
    let held: Vec<_> = (0..4)
        .map(|n| {
            let options = if n % 2 == 0 { &panics } else { &tells };
            options.open(target(n)).unwrap().acquire_with(Wait::Never).unwrap()
        })
        .collect();
    let mut reported: Vec<_> = (0..2).map(|_| receiver.recv_timeout(Duration::from_secs(120)).unwrap()).collect();
    reported.sort();
    assert_eq!(reported, [target(1), target(3)]);
    for guard in held {
        guard.release().unwrap();
    }
}

#[test]
fn a_loss_is_reported() {
    for style in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, &format!("events=1 {style}"));
        actor.must("acquire l g never");
        actor.must("revoked g");
        tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
        let mut events = [actor.receive()["event"].to_string(), actor.receive()["event"].to_string()];
        events.sort();
        assert_eq!(events, ["\"lost\"", "\"revoked\""]);
        actor.must_fail("check g", "lost");
    }
}

#[test]
fn a_loss_is_reported_once() {
    let dir = folder();
    let mut actor = Actor::start();
    for name in ["a", "b", "c"] {
        actor.must(&format!("open {name} {} events=1", dir.path().join(name).display()));
        actor.must(&format!("acquire {name} {name} never"));
    }
    // Losses are checked in the order of their guards. So "a" is found by a later check, just before "b" is checked
    // again.
    for name in ["b", "a", "c"] {
        std::fs::remove_file(dir.path().join(format!("{name}.lock"))).unwrap();
        let event = actor.receive();
        let error = event["error"].as_str().unwrap();
        assert!(event["event"] == "lost" && error.contains(&format!("/{name}: ")), "{event}");
    }
}

#[test]
fn a_listener_that_polls_again_for_a_loss_is_woken_once() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::open(&target).unwrap();
    let guard = lock.acquire_with(Wait::Never).unwrap();
    let (woken, waker) = counted();
    let mut revoked = pin!(guard.revoked());
    for _ in 0..3 {
        assert!(revoked.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
    // The kept waker is dropped as it is woken.
    until("it is woken", || Arc::strong_count(&woken) == 2);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_removed_lock_file_is_reported_as_a_loss() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = opened(&target, "events=1");
    actor.must("acquire l g never");
    std::fs::remove_file(dir.path().join("t.lock")).unwrap();
    assert_eq!(actor.receive()["event"], "lost");
    // Natives are excluded all the same.
    opened(&target, "").must_fail("acquire l g never", "busy");
    actor.must_fail("release g", "lost");
    opened(&target, "").must("acquire l g never");
}

#[test]
fn a_forked_child_has_its_own_watchdog() {
    let dir = folder();
    let (target, own) = (dir.path().join("t"), dir.path().join("own"));
    let mut actor = opened(&target, "refresh_ms=20 events=1");
    actor.must("acquire l g never");
    actor.must(&format!("open c {} max_hold_ms=100 overrun=revoke events=1", own.display()));
    let child = u32::try_from(actor.must("fork-on")["pid"].as_u64().unwrap()).unwrap();
    assert!(!has_watchdog(child));
    actor.must("acquire c h never");
    let event = actor.receive();
    assert_eq!((&event["event"], &event["revoked"]), (&"overrun".into(), &true.into()), "{event}");
    actor.must_fail("check h", "lost");
    assert_eq!(status(&own).unwrap().state, State::Free);
    actor.send("leave");
    assert_eq!(actor.receive()["event"], "forked");
    // The parent's watchdog continues.
    let date = record(&target)["createdAt"].clone();
    until("a new date", || record(&target)["createdAt"] != date);
    actor.must("check g");
}
