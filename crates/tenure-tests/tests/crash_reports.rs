//! A crash is reported to the next holder, once, despite any failure in between.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::io::{BufRead, BufReader};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};

use serde_json::Value;
use tenure::{Lock, Previous, Style, Wait};
use tenure_tests::{Actor, actor_program, folder, has, needs};

/// Polls once, with a waker that signals the next wake-up on a channel.
fn poll_once<F: Future>(future: Pin<&mut F>, woken: &Arc<Signal>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
}

struct Signal(Sender<()>);

impl Wake for Signal {
    fn wake(self: Arc<Signal>) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn a_crash_is_reported_to_the_next_holder_if_the_granted_future_was_dropped() {
    for style in [Style::LockFile, Style::Flock] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut dies = Actor::start();
        let pid = dies.pid();
        let fence = dies.hold(&target)["fence"].as_u64().unwrap();
        let lock = Lock::options().style(style).open(&target).unwrap();
        let (sender, woken_once) = channel();
        let woken = Arc::new(Signal(sender));
        let mut future = Box::pin(lock.acquire_async(Wait::Forever));
        assert!(poll_once(future.as_mut(), &woken).is_pending());
        dies.kill();
        // The lock is granted now, and dropped before the caller looks at it.
        woken_once.recv().unwrap();
        drop(future);
        assert!(!dir.path().join("t.lock").exists());
        let guard = lock.acquire_with(Wait::Never).unwrap();
        let Previous::Crashed(holder) = guard.previous() else { panic!("{style:?}: the crash was forgotten") };
        assert_eq!(holder.pid(), Some(pid.into()), "{style:?}");
        assert!(guard.fence().unwrap() > fence);
        guard.release().unwrap();
        // Reported once, and not again.
        assert_eq!(lock.acquire_with(Wait::Never).unwrap().previous(), &Previous::Clean);
    }
}

#[test]
fn a_crash_is_reported_to_the_next_waiter_of_the_process_if_the_granted_future_was_dropped() {
    for style in [Style::LockFile, Style::Flock] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut dies = Actor::start();
        let pid = dies.pid();
        dies.hold(&target);
        let lock = Lock::options().style(style).open(&target).unwrap();
        let (sender, woken_once) = channel();
        let (next_sender, next_woken_once) = channel();
        let (woken, next_woken) = (Arc::new(Signal(sender)), Arc::new(Signal(next_sender)));
        let mut future = Box::pin(lock.acquire_async(Wait::Forever));
        let mut next = Box::pin(lock.acquire_async(Wait::Forever));
        assert!(poll_once(future.as_mut(), &woken).is_pending());
        assert!(poll_once(next.as_mut(), &next_woken).is_pending());
        dies.kill();
        woken_once.recv().unwrap();
        drop(future);
        next_woken_once.recv().unwrap();
        let Poll::Ready(guard) = poll_once(next.as_mut(), &next_woken) else {
            panic!("{style:?}: it was woken without a grant")
        };
        let guard = guard.unwrap();
        let Previous::Crashed(holder) = guard.previous() else { panic!("{style:?}: the crash was forgotten") };
        assert_eq!(holder.pid(), Some(pid.into()), "{style:?}");
    }
}

/// The failed process does not hold: the record must name the crashed holder again, and not the failed process.
#[test]
fn a_failed_acquire_leaves_the_crash_report_unchanged() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut dies = tenure_tests::opened(&target, "style=flock");
    dies.must("acquire l g never");
    let dead = dies.pid();
    dies.kill();
    let record = || std::fs::read(dir.path().join(".tenure/t.lock")).unwrap().trim_ascii_end().to_vec();
    let before = record();
    std::fs::create_dir(dir.path().join("t.lock")).unwrap();
    let mut next = tenure_tests::opened(&target, "");
    next.must_fail("acquire l g never", "in-the-way");
    assert_eq!(record(), before);
    std::fs::remove_dir(dir.path().join("t.lock")).unwrap();
    assert_eq!(next.must("acquire l g never")["crashed"]["pid"], dead);
}

#[test]
fn a_takeover_is_reported_as_an_event() {
    for keys in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut dies = Actor::start();
        let pid = dies.pid();
        dies.hold(&target);
        dies.kill();
        let mut next = Actor::start();
        next.must(&format!("open l {} events=1 {keys}", target.display()));
        let (_, event) = next.must_and_receive("acquire l g never");
        assert_eq!((&event["event"], &event["pid"]), (&"taken-over".into(), &pid.into()), "{event}");
        next.must("release g");
        // There was no crash.
        next.must("acquire l g never");
        next.must("release g");
        next.assert_no_event();
    }
}

#[test]
fn a_crash_is_reported_although_the_next_holder_dies_in_any_call() {
    if !needs("strace", has("strace")) {
        return;
    }
    let styles = ["", " style=flock"];
    for (first, second, third) in styles.iter().flat_map(|a| styles.iter().flat_map(move |b| styles.map(|c| (a, b, c))))
    {
        let mut deaths = 0;
        // strace counts each call on its own.
        for call in ["pwrite64", "linkat", "unlinkat"] {
            for number in 1.. {
                let how = format!("{first:?}, then {second:?} that died in {call} {number}, then {third:?}");
                if !dies_in(call, number, [first, second, third], &how) {
                    break;
                }
                deaths += 1;
            }
        }
        assert!(deaths > 0, "{first:?}, {second:?}: no call of an acquire was met");
    }
}

/// Returns `false` if the second holder survived. The options are those of three successive holders of one lock.
fn dies_in(call: &str, number: u32, options: [&str; 3], how: &str) -> bool {
    let dir = folder();
    let open = |options: &str| format!("open l {}{options}", dir.path().join("t").display());
    let mut dies = Actor::start();
    dies.must(&open(options[0]));
    dies.must("acquire l g never");
    dies.kill();

    let inject = format!("inject={call}:signal=KILL:when={number}");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
    let mut dies = Actor::from(strace.arg(actor_program()));
    dies.must(&open(options[1]));
    if let Some(granted) = dies.ask_if_it_lives("acquire l g never") {
        assert_ne!(granted["crashed"], Value::Null, "{how}");
        return false;
    }
    let mut next = Actor::start();
    next.must(&open(options[2]));
    let granted = next.must("acquire l g never");
    assert_ne!(granted["crashed"], Value::Null, "{how}: the crash was forgotten");
    true
}

/// Holds a read lease on a file until a process opens it for writing, as a sweep does for a moment.
const LOOKER: &str = "
import fcntl, os, signal, sys
file = os.open(sys.argv[1], os.O_RDONLY)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
print('looks', flush=True)
signal.sigwait([signal.SIGIO])
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
print('looked', flush=True)
";

#[test]
fn a_read_lease_fails_no_acquire() {
    if !needs("python3", has("python3")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut first = Actor::start();
    first.hold(&target);
    first.must("release g");
    first.finish();
    let mut observer = Command::new("python3");
    observer.args(["-c", LOOKER]).arg(dir.path().join(".tenure/t.lock")).stdout(Stdio::piped());
    let mut observer = observer.spawn().unwrap();
    let mut said = BufReader::new(observer.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "looks");
    Actor::start().hold(&target);
    assert_eq!(said.next().unwrap().unwrap(), "looked");
    assert!(observer.wait().unwrap().success());
}
