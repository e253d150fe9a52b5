//! `tenure metrics`: the locks of a folder for a collector.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::time::Instant;

use common::{PATIENCE, Running, Scratch, ends, kill};
use rustix::fs::Mode;
use rustix::process::Signal;

/// Reads the OpenMetrics text format, and refuses what its specification does: each family's lines together, metadata
/// before samples, no sample without a type, a unit at the end of the name, escaped labels, and `# EOF` at the end.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the end");
    let (mut samples, mut done, mut family) = (BTreeMap::new(), BTreeSet::new(), String::new());
    let mut metadata = BTreeSet::new();
    let mut has_samples = false;
    for line in body.lines() {
        if let Some(line) = line.strip_prefix("# ") {
            let [keyword, name, value]: [&str; 3] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
            if name != family {
                assert!(done.insert(name.to_owned()), "{name} twice");
                (family, has_samples) = (name.to_owned(), false);
                metadata.clear();
            }
            assert!(!has_samples && metadata.insert(keyword.to_owned()), "{line}");
            match keyword {
                "TYPE" => assert_eq!(value, "gauge"),
                "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{line}"),
                "HELP" => assert!(!value.is_empty()),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, rest) = line.split_once('{').unwrap();
        assert_eq!(name, family, "{line}");
        assert!(metadata.contains("TYPE"), "{line}");
        has_samples = true;
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        let mut escaped = false;
        let mut quotes = 0;
        for letter in labels.chars() {
            assert!(!escaped || "\\n\"".contains(letter), "{line}");
            quotes += usize::from(letter == '"' && !escaped);
            escaped = letter == '\\' && !escaped;
        }
        assert!(quotes > 0 && quotes % 2 == 0, "{line}");
        assert!(samples.insert(format!("{name}{{{labels}}}"), value.parse().unwrap()).is_none(), "{line} twice");
    }
    samples
}

fn metrics(scratch: &Scratch, words: &[&str]) -> BTreeMap<String, f64> {
    let done = scratch.done([&["metrics"], words].concat());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    parse(&done.stdout)
}

#[test]
fn an_empty_and_a_missing_folder() {
    let scratch = Scratch::new();
    for dir in [".", "none"] {
        let found = metrics(&scratch, &[dir]);
        let states = ["held", "stale", "unknown"];
        for state in states {
            assert_eq!(found[&format!("tenure_locks{{folder=\"{dir}\",state=\"{state}\"}}")], 0.0);
        }
        assert!(!found.keys().any(|name| name.contains("longest") || name.contains("past")), "{found:?}");
    }
    assert!(scratch.names().is_empty());
}

#[test]
fn held_stale_shared_slots_and_waiters() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut shared = scratch.hold(["--flock", "--shared", "s"]);
    let mut slot = scratch.hold(["--slots", "2", "pool"]);
    let mut dead = scratch.hold(["below/d"]);
    dead.signal(Signal::STOP);
    kill(dead.command, Signal::KILL);
    dead.signal(Signal::KILL);
    dead.wait();
    assert!(ends(dead.command));
    let waiter = Running::start(scratch.tenure(["run", "a", "--", "true"]));
    waiter.stderr.until("waiting for a");
    // A waiter is not in the kernel's queue all the time.
    let began = Instant::now();
    let found = loop {
        let found = metrics(&scratch, &["--recursive"]);
        if found["tenure_waiters{folder=\".\"}"] == 1.0 {
            break found;
        }
        assert!(began.elapsed() < PATIENCE, "no waiter: {found:?}");
    };
    let value = |name: &str| found[&name.replace('{', "{folder=\".\",").replace(",}", "}")];
    assert_eq!(value("tenure_locks{state=\"held\"}"), 3.0);
    assert_eq!(value("tenure_locks{state=\"stale\"}"), 1.0);
    assert_eq!(value("tenure_shared_locks{}"), 1.0);
    assert_eq!(value("tenure_slots{}"), 1.0);
    // The message above was printed after a second.
    assert!(value("tenure_longest_hold_seconds{}") >= 1.0, "{found:?}");
    let found = metrics(&scratch, &[]);
    assert_eq!(found["tenure_locks{folder=\".\",state=\"stale\"}"], 0.0, "the folder itself only");
    for holder in [&mut holder, &mut shared, &mut slot] {
        holder.finish();
    }
}

#[test]
fn histories_show_what_is_over() {
    let scratch = Scratch::new();
    let run = ["run", "--history", "10", "jobs/a", "--", "true"];
    assert_eq!(scratch.done(run).code, Some(0));
    assert_eq!(scratch.done(run).code, Some(0));
    let mut dead = scratch.hold(["--history", "10", "jobs/a"]);
    let busy = scratch.done(["run", "--history", "10", "--timeout", "1ms", "jobs/a", "--", "true"]);
    assert_eq!(busy.code, Some(75));
    dead.signal(Signal::STOP);
    kill(dead.command, Signal::KILL);
    dead.signal(Signal::KILL);
    dead.wait();
    assert!(ends(dead.command));
    // The next holder finds out.
    assert_eq!(scratch.done(run).code, Some(0));
    let found = metrics(&scratch, &["jobs"]);
    assert_eq!(found["tenure_past_tenures{folder=\"jobs\",ended=\"released\"}"], 3.0);
    assert_eq!(found["tenure_past_tenures{folder=\"jobs\",ended=\"crashed\"}"], 1.0);
    assert_eq!(found["tenure_past_waits{folder=\"jobs\",ended=\"busy\"}"], 1.0);
    assert!(found["tenure_last_crash_timestamp_seconds{folder=\"jobs\"}"] > 1.7e9);
    assert!(found.contains_key("tenure_longest_past_wait_seconds{folder=\"jobs\"}"));
    // Without --recursive, the histories below are passed over too.
    assert!(!metrics(&scratch, &[]).keys().any(|name| name.contains("past")));
    assert!(metrics(&scratch, &["-r"]).keys().any(|name| name.contains("past")));
}

#[test]
fn labels_are_escaped() {
    let scratch = Scratch::new();
    let name = "a \"b\" \\ c\nd";
    let found = metrics(&scratch, &[name]);
    assert_eq!(found["tenure_locks{folder=\"a \\\"b\\\" \\\\ c\\nd\",state=\"held\"}"], 0.0);
}

#[test]
fn the_output_is_replaced_in_one_step() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("out")).unwrap();
    let write = || scratch.done(["metrics", "jobs", "--output", "out/tenure.prom"]);
    let done = write();
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
    let path = scratch.join("out/tenure.prom");
    // A reader that has opened the old file reads all of it.
    let (old, inode) = (fs::File::open(&path).unwrap(), fs::metadata(&path).unwrap().ino());
    assert_eq!(write().code, Some(0));
    assert_ne!(fs::metadata(&path).unwrap().ino(), inode);
    for text in [std::io::read_to_string(old).unwrap(), fs::read_to_string(&path).unwrap()] {
        parse(&text);
    }
    assert_eq!(fs::read_dir(scratch.join("out")).unwrap().count(), 1, "no temporary file is left");
    let done = scratch.done(["metrics", "--output", "none/tenure.prom"]);
    assert!(done.code == Some(73) && done.stderr.contains("none/tenure.prom"), "{done:?}");
    let done = scratch.done(["metrics", "--output", "out"]);
    assert!(done.code == Some(73) && done.stderr.contains("out: cannot be replaced"), "{done:?}");
    assert_eq!(scratch.names(), ["out"], "no temporary file is left");
}

#[test]
fn the_output_goes_where_a_link_leads_and_into_what_is_no_file() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("files")).unwrap();
    symlink("files/found.prom", scratch.join("link")).unwrap();
    for _ in 0..2 {
        // The file is missing at first.
        assert_eq!(scratch.done(["metrics", "files", "--output", "link"]).code, Some(0));
        assert!(fs::symlink_metadata(scratch.join("link")).unwrap().is_symlink());
        parse(&fs::read_to_string(scratch.join("files/found.prom")).unwrap());
        assert_eq!(fs::read_dir(scratch.join("files")).unwrap().count(), 1);
    }
    let pipe = scratch.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    // Open for both, it waits for no writer and keeps what was written.
    let mut reader = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    assert_eq!(scratch.done(["metrics", "files", "--output", "pipe"]).code, Some(0));
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    let mut text = vec![0; 64 * 1024];
    let length = reader.read(&mut text).unwrap();
    parse(std::str::from_utf8(&text[..length]).unwrap());
}
