//! `tenure history`: what the command keeps, and how it shows that.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Running, Scratch, ends, kill};
use rustix::process::Signal;
use serde_json::Value;

fn history(scratch: &Scratch) -> Vec<Value> {
    scratch.json(["history", "--json", "a"])["history"].as_array().unwrap().clone()
}

#[test]
fn a_run_keeps_its_exit_code_and_its_command() {
    let scratch = Scratch::new();
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143)] {
        let done = scratch.done(["run", "--history", "2", "--label", "nightly", "a", "--", "sh", "-c", script]);
        assert_eq!(done.code, Some(code), "{done:?}");
    }
    let past = history(&scratch);
    assert_eq!(past.len(), 2, "{past:#?}");
    for (past, (script, code)) in past.iter().zip([("exit 3", 3), ("kill -TERM $$", 143)]) {
        assert_eq!(
            (&past["ended"], &past["exitCode"], &past["label"]),
            (&"released".into(), &code.into(), &"nightly".into())
        );
        assert_eq!(past["command"], format!("sh -c {script}"));
        assert_eq!(
            (&past["waitedMs"], &past["blockedByPid"], &past["shared"]),
            (&0.into(), &Value::Null, &false.into())
        );
    }
    // Two targets of one call: each has its own.
    let done = scratch.done(["run", "--history", "9", "a", "b", "--", "sh", "-c", "exit 5"]);
    assert_eq!(done.code, Some(5));
    for target in ["a", "b"] {
        let all = scratch.json(["history", "--json", target]);
        assert_eq!(all["history"].as_array().unwrap().last().unwrap()["exitCode"], 5, "{all}");
        assert_eq!((&all["target"], &all["now"]["state"]), (&target.into(), &"free".into()));
    }
}

#[test]
fn a_job_that_was_not_needed_is_shown_too() {
    let scratch = Scratch::new();
    let run = ["run", "--history", "9", "--not-more-often-than", "1h", "a", "--", "sh", "-c", "exit 0"];
    assert_eq!(scratch.done(run).code, Some(0));
    assert_eq!(scratch.done(run).code, Some(79));
    let holder = scratch.hold(["--label", "slow", "a"]);
    let skips = ["run", "--history", "9", "--if-busy", "skip", "a", "--", "true"];
    assert_eq!(scratch.done(skips).code, Some(75));
    let past = history(&scratch);
    let ended: Vec<_> = past.iter().map(|past| past["ended"].as_str().unwrap()).collect();
    assert_eq!(ended, ["released", "skipped", "busy"], "{past:#?}");
    assert_eq!(past[0]["exitCode"], 0);
    assert!(past[1]["why"].as_str().unwrap().contains("the last successful run"), "{past:#?}");
    assert_eq!(past[2]["blockedByPid"], holder.pid());
    assert!(scratch.done(["history", "a"]).stdout.contains("skipped"));
}

#[test]
fn a_job_that_did_not_run_is_shown_with_the_holder_at_that_time() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--history", "9", "--label", "slow", "a"]);
    for options in [&["-n"][..], &["--timeout", "20ms"], &["-n", "--quiet"]] {
        let words = [&["run", "--history", "9"][..], options, &["a", "--", "echo", "job"]].concat();
        assert_eq!(scratch.done(words).code, Some(75));
    }
    let past = history(&scratch);
    assert_eq!(past.len(), 3, "the first try of a wait is no entry: {past:#?}");
    for past in &past {
        assert_eq!((&past["ended"], &past["command"]), (&"busy".into(), &"echo job".into()));
        assert_eq!((&past["blockedByPid"], &past["blockedBy"]), (&holder.pid().into(), &"slow".into()));
    }
    // The present holder is a line of the table, and of the bars.
    let done = scratch.done(["history", "a"]);
    assert_eq!(done.stdout.lines().count(), 5, "{done:?}");
    assert!(done.stdout.contains("\nheld"), "{done:?}");
    assert!(done.stdout.contains(&format!("held by pid {}, slow", holder.pid())), "{done:?}");
    let bars = scratch.done(["history", "--timeline", "a"]);
    assert!(bars.stdout.contains('█') && bars.stdout.contains("! gave up"), "{bars:?}");
    let image = scratch.done(["history", "--svg", "a"]);
    assert!(image.stdout.starts_with("<svg ") && image.stdout.contains("slow: held"), "{image:?}");
    // A wait that succeeds has its length.
    let mut waiter = Running::start(scratch.tenure(["run", "--history", "9", "a", "--", "true"]));
    waiter.stderr.until("waiting for a");
    holder.say("");
    assert_eq!((holder.finish().code(), waiter.wait().code()), (Some(0), Some(0)));
    let last = history(&scratch).pop().unwrap();
    assert!(last["ended"] == "released" && last["waitedMs"].as_u64() > Some(0), "{last}");
}

#[test]
fn a_crash_is_seen_by_the_one_who_looks_and_entered_by_the_one_who_comes() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--history", "9", "--label", "\u{1b}[2Jdead", "a"]);
    holder.signal(Signal::KILL);
    holder.wait();
    kill(holder.command, Signal::KILL);
    assert!(ends(holder.command));
    assert!(history(&scratch).is_empty());
    let looks = |word: &str| {
        for words in [&["history", "a"][..], &["history", "--timeline", "a"], &["history", "--svg", "a"]] {
            let done = scratch.done(words);
            assert!(done.stdout.contains(word) && !done.stdout.contains('\u{1b}'), "{words:?}: {done:?}");
        }
    };
    looks("crashed");
    assert_eq!(scratch.done(["run", "--history", "9", "-q", "a", "--", "true"]).code, Some(0));
    looks("crashed");
    let past = history(&scratch);
    assert_eq!((past.len(), &past[0]["ended"], &past[1]["ended"]), (2, &"crashed".into(), &"released".into()));
    assert!(
        past[0]["why"].is_string() && past[0]["lastSign"].is_string() && past[0]["exitCode"].is_null(),
        "{past:#?}"
    );
    // What a person broke.
    let mut holder = scratch.hold(["--history", "9", "a"]);
    assert_eq!(scratch.done(["break", "--force", "--quiet", "a"]).code, Some(0));
    assert_eq!(holder.wait().code(), Some(76));
    let last = history(&scratch).pop().unwrap();
    assert_eq!((&last["ended"], &last["pid"]), (&"broken".into(), &holder.pid().into()));
    assert_eq!(history(&scratch).len(), 3);
}

#[test]
fn a_lock_without_a_history_says_how_to_keep_one() {
    let scratch = Scratch::new();
    for words in [&["history", "a b"][..], &["history", "--timeline", "a b"], &["history", "--svg", "a b"]] {
        let done = scratch.done(words);
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""));
        assert_eq!(done.stderr, "tenure: no history of a b: keep one by `tenure run --history 100 'a b' -- ..`\n");
    }
    let done = scratch.done(["run", "a", "--", "true"]);
    assert_eq!(done.code, Some(0));
    let left: Vec<_> = fs::read_dir(scratch.join(".tenure")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let done = scratch.done(["history", "etcd://127.0.0.1:1/a"]);
    assert_eq!(done.code, Some(69), "{done:?}");
    let done = scratch.done(["run", "--history", "9", "etcd://127.0.0.1:1/a", "--", "true"]);
    assert_eq!(done.code, Some(69), "{done:?}");
    // A history that cannot be written is said, and changes nothing else.
    fs::remove_dir_all(scratch.join(".tenure")).unwrap();
    fs::create_dir_all(scratch.join(".tenure").join(format!("a.lock.{}.history", rustix::process::geteuid().as_raw())))
        .unwrap();
    let done = scratch.done(["run", "--history", "9", "a", "--", "sh", "-c", "exit 4"]);
    assert!(done.code == Some(4) && done.stderr.contains("history cannot be written"), "{done:?}");
    assert!(scratch.done(["run", "-q", "--history", "9", "a", "--", "true"]).stderr.is_empty());
}
