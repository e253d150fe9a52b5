//! Runs the library's operations that arrive on standard input, one line each.
//!
//! | line | operation |
//! | --- | --- |
//! | `open L PATH [KEY=VALUE..]` | opens a lock under the name L; keys below |
//! | `acquire L G WAIT` | acquires into the guard G; WAIT: `never`, `forever`, milliseconds |
//! | `share L G WAIT` | a share |
//! | `begin L G WAIT` | acquires on a thread of its own: answers at once, and says `granted` or `refused` later |
//! | `begin-share L G WAIT` | as `begin`, a share |
//! | `apart` | starts an idle thread and answers with its number |
//! | `apart PATH WAIT` | that thread opens a lock and acquires it: answers at once, and says `granted` or `refused`
//! later |
//! | `async L G WAIT` | as `begin`, by `acquire_async` on a runtime of its own |
//! | `suspend G S` | suspends the guard |
//! | `resume S G WAIT` | resumes it into the guard G |
//! | `begin-resume S G WAIT`, `async-resume S G WAIT` | as `begin` and `async` |
//! | `give-up S` | drops the suspended lock |
//! | `check G`, `release G`, `drop G`, `forget G` | what the guard's methods do |
//! | `succeed G` | `mark_successful` |
//! | `lease G` | the milliseconds until a server's lock is lost, and until another process may acquire it |
//! | `record G` | the record's text |
//! | `holder G`, `label G TEXT`, `process G PID` | |
//! | `revoked G` | says `revoked` once `Guard::revoked` ends |
//! | `fork` | forks without exec: the child reports the state of each guard, tries each lock, and ends |
//! | `fork-stay` | forks a child that does nothing and stays until its input closes; answers with its pid |
//! | `cleanup` | `tenure::cleanup::install` |
//! | `inspect PATH`, `list DIR`, `clean DIR [idle_ms=N] [dry_run=1] [aged=1]`, `break PATH [force]` | |
//! | `threads` | how many threads this process has |
//! | `interrupts` | `tenure::interrupts::install`: the signal's number |
//! | `block SIGNAL` | blocks the signal in the thread that runs these lines |
//! | `blocked` | the signals that are blocked there |
//! | `chdir DIR` | changes the working directory |
//! | `put PATH AGE HEX` | writes a whole file; AGE: its age in milliseconds, `-1000` for a time in the future |
//! | `exec` | becomes a new actor under the same pid, which answers |
//! | `exit N`, `abort`, `leave` | ends: `exit(3)`, `abort(3)`, `_exit(2)` |
//! | `async-many L N` | N async acquires on one thread; answers once all wait, and says `all-granted` after the last
//! grant |
//! | `keep G PROGRAM ARGS..` | starts a child that inherits the lock; answers with its pid |
//! | `spawn PROGRAM ARGS..` | starts a child that does not inherit the lock; answers with its pid |
//! | `raw-fork` | as `fork`, by a `clone(2)` that bypasses libc |
//! | `fork-on` | forks; the child runs the next lines, and the parent continues after the child's end (`leave`) |
//! | `raw-fork-on` | the same, by `clone(2)` |
//! | `cleanup-over SIGNAL` | `tenure::cleanup::install`, before that signal's handler |
//! | `ender SIGNAL` | (a name, or a number) a handler that says `handled` and ends the program with code 9 |
//! | `handler SIGNAL` | a handler that says `handled`, and the program goes on |
//! | `ignore SIGNAL`, `default SIGNAL` | |
//! | `hammer L THREADS` | that many threads acquire and release without end |
//! | `hammered` | the number of these acquires |
//! | `count L PATH THREADS ROUNDS` | each thread adds 1 to the number in PATH, ROUNDS times; says `counted` with the
//! doubles |
//! | `slots PATH` | the status of each slot |
//! | `try-loop L ROUNDS` | acquires without waiting and releases, ROUNDS times: the number of refusals |
//!
//! Keys: `style=flock`, `label=`, `reentrant=1`, `max_hold_ms=`, `overrun=revoke`, `refresh_ms=`, `mode=` (octal),
//! `record=0`, `steal_after_ms=`, `grace_ms=`, `create_parents=0`, `deadlock_check=0`, `history=`, `slots=`,
//! `not_more_often_than_ms=`, `events=1` (says each event).
//! Paths contain no spaces; `%20` is a space.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test program")]

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tenure::cleanup::Handlers;
use tenure::{
    CleanOptions, Error, Event, Guard, Lock, Overrun, Previous, Resumed, StalePolicy, Status, Style, Suspended, Wait,
};

type Guards = Arc<Mutex<HashMap<String, Guard>>>;

static SUSPENDED: Mutex<Option<HashMap<String, Suspended>>> = Mutex::new(None);

fn take_suspended(name: &str) -> Suspended {
    SUSPENDED.lock().unwrap().as_mut().and_then(|all| all.remove(name)).expect("no such suspended lock")
}

fn suspend(guard: Guard, name: &str) -> Value {
    match guard.suspend() {
        Ok(suspended) => {
            let answer = json!({"ok": true, "fence": suspended.fence(), "first": suspended.goes_first()});
            SUSPENDED.lock().unwrap().get_or_insert_default().insert(name.to_owned(), suspended);
            answer
        }
        Err(error) => refusal(&error),
    }
}

fn keep_resumed(outcome: tenure::Result<Resumed>, name: &str, guards: &Guards) -> Value {
    match outcome {
        Ok(resumed) => {
            let (meanwhile, changed) = (resumed.meanwhile.as_str(), resumed.changed());
            let mut answer = keep(Ok(resumed.guard), name, guards);
            (answer["meanwhile"], answer["changed"]) = (meanwhile.into(), changed.into());
            answer
        }
        Err(error) => refusal(&error),
    }
}

fn resumed_later(outcome: tenure::Result<Resumed>, name: &str, guards: &Guards) {
    let mut answer = keep_resumed(outcome, name, guards);
    answer["event"] = if answer["ok"] == true { "granted" } else { "refused" }.into();
    answer["guard"] = name.into();
    say(&answer);
}

/// Blocks a signal in this thread.
fn block(signal: i32) -> Value {
    // SAFETY: sigemptyset(3) initialises the set, which is on this stack.
    let done = unsafe {
        let mut set = std::mem::MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut())
    };
    json!({"ok": done == 0})
}

/// Returns the signals that are blocked in this thread or pending for it, as `proc_pid_status(5)` writes the masks.
fn blocked() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let word = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    vec![word("SigBlk:"), word("SigPnd:")]
}

fn main() {
    let mut locks: HashMap<String, Lock> = HashMap::new();
    let guards: Guards = Arc::default();
    tenure_tests::install_interrupts_if_set();
    if std::env::var_os("ACTOR_EXECED").is_some() {
        say(&json!({"ok": true}));
    }
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let words: Vec<String> = line.split_whitespace().map(|word| word.replace("%20", " ")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Some(answer) = obey(&words, &mut locks, &guards) {
            say(&answer);
        }
    }
}

fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    // The test at the other end of the pipe may have ended.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

fn obey(words: &[&str], locks: &mut HashMap<String, Lock>, guards: &Guards) -> Option<Value> {
    let guard_of = |name: &str| guards.lock().unwrap().remove(name).expect("no such guard");
    Some(match words {
        ["open", name, path, keys @ ..] => match open(path, keys) {
            Ok(lock) => {
                locks.insert((*name).to_owned(), lock);
                json!({"ok": true})
            }
            Err(error) => refusal(&error),
        },
        ["acquire", lock, guard, wait] => keep(locks[*lock].acquire_with(to_wait(wait)), guard, guards),
        ["share", lock, guard, wait] => keep(locks[*lock].acquire_shared(to_wait(wait)), guard, guards),
        ["begin", lock, guard, wait] => {
            let (lock, guard, wait) = (locks[*lock].clone(), (*guard).to_owned(), to_wait(wait));
            let guards = Arc::clone(guards);
            std::thread::spawn(move || later(lock.acquire_with(wait), &guard, &guards));
            json!({"ok": true})
        }
        ["apart"] => apart(guards),
        ["apart", path, wait] => {
            let path_and_wait = ((*path).to_owned(), to_wait(wait));
            json!({"ok": APART.lock().unwrap().as_ref().unwrap().send(path_and_wait).is_ok()})
        }
        ["begin-share", lock, guard, wait] => {
            let (lock, guard, wait) = (locks[*lock].clone(), (*guard).to_owned(), to_wait(wait));
            let guards = Arc::clone(guards);
            std::thread::spawn(move || later(lock.acquire_shared(wait), &guard, &guards));
            json!({"ok": true})
        }
        ["async", lock, guard, wait] => {
            let (lock, guard, wait) = (locks[*lock].clone(), (*guard).to_owned(), to_wait(wait));
            let guards = Arc::clone(guards);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                later(runtime.block_on(lock.acquire_async(wait)), &guard, &guards);
            });
            json!({"ok": true})
        }
        ["lease", guard] => {
            let lease = guards.lock().unwrap()[*guard].lease().unwrap();
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
            json!({"ok": true, "lostIn": millis(lease.lost_in), "freeIn": millis(lease.free_in)})
        }
        ["record", guard] => json!({"ok": true, "record": guards.lock().unwrap()[*guard].record_json()}),
        ["suspend", guard, suspended] => suspend(guard_of(guard), suspended),
        ["can-suspend", guard] => outcome(guards.lock().unwrap()[*guard].can_suspend()),
        ["resume", suspended, guard, wait] => {
            keep_resumed(take_suspended(suspended).resume(to_wait(wait)), guard, guards)
        }
        ["begin-resume", suspended, guard, wait] => {
            let (suspended, guard, wait) = (take_suspended(suspended), (*guard).to_owned(), to_wait(wait));
            let guards = Arc::clone(guards);
            std::thread::spawn(move || resumed_later(suspended.resume(wait), &guard, &guards));
            json!({"ok": true})
        }
        ["async-resume", suspended, guard, wait] => {
            let (suspended, guard, wait) = (take_suspended(suspended), (*guard).to_owned(), to_wait(wait));
            let guards = Arc::clone(guards);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                resumed_later(runtime.block_on(suspended.resume_async(wait)), &guard, &guards);
            });
            json!({"ok": true})
        }
        ["give-up", suspended] => {
            drop(take_suspended(suspended));
            json!({"ok": true})
        }
        ["check", guard] => outcome(guards.lock().unwrap()[*guard].check()),
        ["release", guard] => outcome(guard_of(guard).release()),
        ["drop", guard] => {
            drop(guard_of(guard));
            json!({"ok": true})
        }
        ["forget", guard] => {
            std::mem::forget(guard_of(guard));
            json!({"ok": true})
        }
        ["holder", guard] => json!({"ok": true, "holder": guards.lock().unwrap()[*guard].holder().to_string()}),
        ["succeed", guard] => outcome(guards.lock().unwrap()[*guard].mark_successful()),
        ["label", guard, text] => outcome(guards.lock().unwrap()[*guard].set_label(text)),
        ["command", guard, pid] => {
            outcome(guards.lock().unwrap()[*guard].set_command(pid.parse::<u32>().unwrap(), Some("another command")))
        }
        ["revoked", guard] => {
            let revoked = guards.lock().unwrap()[*guard].revoked();
            let guard = (*guard).to_owned();
            std::thread::spawn(move || {
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(revoked);
                say(&json!({"event": "revoked", "guard": guard}));
            });
            json!({"ok": true})
        }
        ["fork"] => fork(locks, guards),
        ["fork-stay"] => fork_stay(),
        ["cleanup"] => outcome(tenure::cleanup::install(Handlers::Keep)),
        ["cleanup-over", signal] => outcome(tenure::cleanup::install(Handlers::RunAfter(&[signal_number(signal)]))),
        ["ender", signal] => set_handler(signal, say_handled_and_end as extern "C" fn(i32) as usize),
        ["inspect", path] => match tenure::status(path) {
            Ok(found) => json!({"ok": true, "found": inspection(&found)}),
            Err(error) => refusal(&error),
        },
        ["slots", path] => match tenure::slots(path) {
            Ok(found) => json!({"ok": true, "slots": found.iter().map(inspection).collect::<Vec<_>>()}),
            Err(error) => refusal(&error),
        },
        ["list", dir] => match tenure::list(dir, &tenure::ListOptions::default()) {
            Ok(found) => json!({"ok": true, "locks": found.iter().map(inspection).collect::<Vec<_>>()}),
            Err(error) => refusal(&error),
        },
        ["clean", dir, keys @ ..] => clean(dir, keys),
        ["break", path, force @ ..] => {
            match tenure::break_lock(path, &tenure::BreakOptions::default().force(force == ["force"])) {
                Ok(broken) => json!({"ok": true, "broken": broken.broken, "found": inspection(&broken.found)}),
                Err(error) => refusal(&error),
            }
        }
        ["chdir", dir] => {
            std::env::set_current_dir(dir).unwrap();
            json!({"ok": true})
        }
        ["put", path, age, hex @ ..] => put(path, age.parse().unwrap(), hex.first().unwrap_or(&"")),
        ["exec"] => {
            use std::os::unix::process::CommandExt as _;
            let mut next = std::process::Command::new(std::env::current_exe().unwrap());
            panic!("{}", next.env("ACTOR_EXECED", "1").exec())
        }
        ["threads"] => json!({"ok": true, "threads": std::fs::read_dir("/proc/self/task").unwrap().count()}),
        ["interrupts"] => match tenure::interrupts::install() {
            Ok(signal) => json!({"ok": true, "signal": signal}),
            Err(error) => refusal(&error),
        },
        ["block", signal] => block(signal.parse().unwrap()),
        ["blocked"] => json!({"ok": true, "blocked": blocked()}),
        ["exit", code] => std::process::exit(code.parse().unwrap()),
        ["abort"] => std::process::abort(),
        // SAFETY: no precondition.
        ["leave"] => unsafe { libc::_exit(0) },
        ["async-many", lock, count] => async_many(&locks[*lock], count.parse().unwrap()),
        ["keep", guard, program, args @ ..] => {
            let mut command = quiet(program, args);
            match guards.lock().unwrap()[*guard].keep_for(&mut command) {
                Ok(()) => json!({"ok": true, "pid": command.spawn().unwrap().id()}),
                Err(error) => refusal(&error),
            }
        }
        ["spawn", program, args @ ..] => json!({"ok": true, "pid": quiet(program, args).spawn().unwrap().id()}),
        ["raw-fork"] => fork_by(raw_clone, locks, guards),
        ["fork-on"] => fork_on(|| {
            // SAFETY: as in `fork`.
            unsafe { libc::fork() }
        }),
        ["raw-fork-on"] => fork_on(raw_clone),
        ["handler", signal] => set_handler(signal, say_handled as extern "C" fn(i32) as usize),
        ["ignore", signal] => set_handler(signal, libc::SIG_IGN),
        ["default", signal] => set_handler(signal, libc::SIG_DFL),
        ["hammer", lock, threads] => {
            for _ in 0..threads.parse().unwrap() {
                let lock = locks[*lock].clone();
                std::thread::spawn(move || {
                    loop {
                        let guard = lock.acquire_with(Wait::Forever).unwrap();
                        HAMMERED.fetch_add(1, Ordering::Relaxed);
                        drop(guard);
                    }
                });
            }
            json!({"ok": true})
        }
        ["hammered"] => json!({"ok": true, "count": HAMMERED.load(Ordering::Relaxed)}),
        ["count", lock, path, threads, rounds] => {
            let (lock, path) = (locks[*lock].clone(), (*path).to_owned());
            let (threads, rounds) = (threads.parse().unwrap(), rounds.parse().unwrap());
            std::thread::spawn(move || count(&lock, &path, threads, rounds));
            json!({"ok": true})
        }
        ["try-loop", lock, rounds] => {
            let mut busy = Vec::new();
            for _ in 0..rounds.parse().unwrap() {
                match locks[*lock].acquire_with(Wait::Never) {
                    Ok(guard) => guard.release().unwrap(),
                    Err(error) => busy.push(error.to_string()),
                }
            }
            json!({"ok": true, "busy": busy.len(), "first": busy.first()})
        }
        [] => return None,
        other => panic!("not understood: {other:?}"),
    })
}

/// The channel to the thread that `apart` started.
static APART: Mutex<Option<std::sync::mpsc::Sender<(String, Wait)>>> = Mutex::new(None);

fn apart(guards: &Guards) -> Value {
    let (sender, receiver) = std::sync::mpsc::channel::<(String, Wait)>();
    let (number_sender, number) = std::sync::mpsc::channel();
    let guards = Arc::clone(guards);
    std::thread::spawn(move || {
        // SAFETY: no precondition.
        number_sender.send(unsafe { libc::gettid() }).unwrap();
        for (path, wait) in receiver {
            later(open(&path, &[]).and_then(|lock| lock.acquire_with(wait)), "apart", &guards);
        }
    });
    *APART.lock().unwrap() = Some(sender);
    json!({"ok": true, "thread": number.recv().unwrap()})
}

fn open(path: &str, keys: &[&str]) -> tenure::Result<Lock> {
    let mut options = Lock::options();
    for key in keys {
        let (key, value) = key.split_once('=').expect("KEY=VALUE");
        let millis = || Duration::from_millis(value.parse().unwrap());
        options = match key {
            "style" => options.style(if value == "flock" { Style::Flock } else { Style::LockFile }),
            "label" => options.label(value),
            "reentrant" => options.reentrant(value == "1"),
            "deadlock_check" => options.deadlock_check(value == "1"),
            "max_hold_ms" => options.max_hold(millis()),
            "overrun" => options.overrun(if value == "revoke" { Overrun::Revoke } else { Overrun::Report }),
            "refresh_ms" => options.refresh_interval(millis()),
            "mode" => options.mode(u32::from_str_radix(value, 8).unwrap()),
            "record" => options.record(value == "1"),
            "not_more_often_than_ms" => options.not_more_often_than(millis()),
            "slots" => options.slots(value.parse().unwrap()),
            "history" => options.history(value.parse().unwrap()),
            "steal_after_ms" => options.stale_policy(StalePolicy::StealAfter(millis())),
            "stale_after_ms" => options.stale_after(millis()),
            "grace_ms" => options.malformed_grace(millis()),
            "create_parents" => options.create_parents(value == "1"),
            "events" if value == "1" => options.on_event(report_event),
            "events" => options,
            other => panic!("no key {other}"),
        };
    }
    options.open(path)
}

fn report_event(event: &Event<'_>) {
    say(&match event {
        Event::Overrun { fence, revoked, .. } => {
            json!({"event": "overrun", "fence": fence.unwrap_or(0), "revoked": revoked})
        }
        Event::Lost { error, .. } => json!({"event": "lost", "error": error.to_string()}),
        Event::RefreshFailed { error, .. } => json!({"event": "refresh-failed", "error": error.to_string()}),
        Event::HistoryFailed { error, .. } => json!({"event": "history-failed", "error": error.to_string()}),
        Event::TakenOver { holder, .. } => json!({"event": "taken-over", "pid": holder.pid()}),
        other => json!({"event": format!("{other:?}")}),
    });
}

fn to_wait(wait: &str) -> Wait {
    match wait {
        "never" => Wait::Never,
        "forever" => Wait::Forever,
        millis => Wait::For(Duration::from_millis(millis.parse().unwrap())),
    }
}

fn keep(outcome: tenure::Result<Guard>, name: &str, guards: &Guards) -> Value {
    match outcome {
        Ok(guard) => {
            let answer = granted(&guard);
            guards.lock().unwrap().insert(name.to_owned(), guard);
            answer
        }
        Err(error) => refusal(&error),
    }
}

fn later(outcome: tenure::Result<Guard>, name: &str, guards: &Guards) {
    let mut answer = keep(outcome, name, guards);
    answer["event"] = if answer["ok"] == true { "granted" } else { "refused" }.into();
    answer["guard"] = name.into();
    say(&answer);
}

fn granted(guard: &Guard) -> Value {
    let crashed = match guard.previous() {
        Previous::Crashed(holder) => {
            json!({"pid": holder.pid(), "liveness": holder.liveness.name(), "why": holder.liveness.why()})
        }
        Previous::Clean => Value::Null,
    };
    json!({"ok": true, "fence": guard.fence().unwrap_or(0), "slot": guard.slot(), "crashed": crashed})
}

fn outcome(outcome: tenure::Result<()>) -> Value {
    match outcome {
        Ok(()) => json!({"ok": true}),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &Error) -> Value {
    let kinds = [
        ("busy", error.is_busy()),
        ("would-deadlock", error.is_would_deadlock()),
        ("skipped", error.is_skipped()),
        ("lost", error.is_lost()),
        ("unsupported", error.is_unsupported()),
        ("in-the-way", error.is_obstructed()),
        ("invalid-target", error.is_invalid_target()),
        ("permission-denied", error.is_permission_denied()),
        ("cannot-create", error.is_cannot_create()),
        ("unreachable", error.is_unreachable()),
    ];
    let kind = kinds.iter().find(|(_, is)| *is).map_or("io", |(name, _)| name);
    json!({
        "ok": false,
        "kind": kind,
        "error": error.to_string(),
        "holder": error.holder().and_then(|holder| holder.pid()),
        "waitedMs": error.waited().map(|waited| waited.as_millis() as u64),
        "circle": error.circle().map(|circle| &circle.waits),
    })
}

fn inspection(found: &Status) -> Value {
    json!({
        "target": found.target.to_string_lossy(),
        "style": if found.style == Style::Flock { "flock" } else { "lock-file" },
        "state": found.state.as_str(),
        "reasons": found.reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(),
        "pid": found.holder.as_ref().and_then(|holder| holder.pid()),
        "native": found.holder.as_ref().map(|holder| holder.kind == tenure::HolderKind::Native),
        "liveness": found.holder.as_ref().map(|holder| holder.liveness.name()),
        "why": found.holder.as_ref().map(|holder| holder.liveness.why().to_owned()),
        "label": found.holder.as_ref().and_then(|holder| holder.label.clone()),
        "command": found.holder.as_ref().and_then(|holder| holder.command.clone()),
        "fence": found.holder.as_ref().and_then(|holder| holder.fence),
        "waiters": found.waiters,
        "openBy": found.open_by,
        "suspended": found.suspended.iter().map(|suspended| suspended.pid).collect::<Vec<_>>(),
    })
}

fn clean(dir: &str, keys: &[&str]) -> Value {
    let mut options = CleanOptions::default();
    for key in keys {
        let (key, value) = key.split_once('=').expect("KEY=VALUE");
        options = match key {
            "idle_ms" => options.idle_anchor_age(Duration::from_millis(value.parse().unwrap())),
            "grace_ms" => options.malformed_grace(Duration::from_millis(value.parse().unwrap())),
            "dry_run" => options.dry_run(value == "1"),
            "aged" => options.aged(value == "1"),
            "recursive" => options.recursive(value == "1"),
            other => panic!("no key {other}"),
        };
    }
    match tenure::clean(dir, &options) {
        Ok(report) => {
            let locks: Vec<_> = report
                .locks
                .iter()
                .map(|cleaned| {
                    let mut value = inspection(&cleaned.found);
                    value["removed"] = cleaned.removed.into();
                    value["error"] = cleaned.error.as_ref().map(ToString::to_string).into();
                    value
                })
                .collect();
            json!({"ok": true, "locks": locks, "pruned": report.pruned})
        }
        Err(error) => refusal(&error),
    }
}

/// Forks a child that reports its view of the locks on one line and ends without running the parent's code.
fn fork(locks: &HashMap<String, Lock>, guards: &Guards) -> Value {
    // SAFETY: the child uses what the library promises for a forked child, and ends by _exit.
    fork_by(|| unsafe { libc::fork() }, locks, guards)
}

fn fork_by(fork: impl FnOnce() -> i32, locks: &HashMap<String, Lock>, guards: &Guards) -> Value {
    // No other thread may hold the map's mutex during the fork.
    let mut guards = guards.lock().unwrap();
    let pid = fork();
    if pid == 0 {
        let checks: serde_json::Map<String, Value> =
            guards.iter().map(|(name, guard)| (name.clone(), outcome(guard.check()))).collect();
        let tried: serde_json::Map<String, Value> = locks
            .iter()
            .map(|(name, lock)| {
                let answer = match lock.acquire_with(Wait::Never) {
                    Ok(guard) => {
                        let answer = granted(&guard);
                        drop(guard);
                        answer
                    }
                    Err(error) => refusal(&error),
                };
                (name.clone(), answer)
            })
            .collect();
        let dropped: Vec<String> = guards.keys().cloned().collect();
        // Both a dropped and a released guard must leave the parent's lock alone.
        for (at, name) in dropped.iter().enumerate() {
            let guard = guards.remove(name).unwrap();
            if at % 2 == 0 { drop(guard) } else { drop(guard.release()) }
        }
        say(&json!({"ok": true, "checks": checks, "tried": tried}));
        // SAFETY: no precondition.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is on this stack.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    // The child has written the answer.
    json!({"event": "forked", "status": status})
}

fn fork_stay() -> Value {
    // SAFETY: the child makes one system call and ends by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // Waits until the test kills it by its pid.
        loop {
            // SAFETY: no precondition.
            unsafe { libc::pause() };
        }
    }
    json!({"ok": true, "pid": pid})
}

/// Forks without libc: no `pthread_atfork` handler runs.
fn raw_clone() -> i32 {
    // SAFETY: no flags but the signal, no stack of its own: what fork(2) does.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    i32::try_from(pid).unwrap()
}

fn fork_on(fork: impl FnOnce() -> i32) -> Value {
    let pid = fork();
    if pid == 0 {
        return json!({"ok": true, "pid": std::process::id()});
    }
    let mut status = 0;
    // SAFETY: `status` is on this stack.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    json!({"event": "forked", "status": status})
}

/// Returns a command without our standard output: the test waits for the end of that pipe.
fn quiet(program: &str, args: &[&str]) -> std::process::Command {
    use std::process::Stdio;
    let mut command = std::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn signal_number(signal: &str) -> i32 {
    match signal {
        "INT" => libc::SIGINT,
        "TERM" => libc::SIGTERM,
        "HUP" => libc::SIGHUP,
        "QUIT" => libc::SIGQUIT,
        "ABRT" => libc::SIGABRT,
        number => number.parse().unwrap_or_else(|_| panic!("no signal {number}")),
    }
}

fn set_handler(signal: &str, handler: usize) -> Value {
    // SAFETY: the handler makes one write(2), and perhaps ends the process by _exit(2), or it is SIG_IGN.
    let before = unsafe { libc::signal(signal_number(signal), handler) };
    json!({"ok": before != libc::SIG_ERR})
}

extern "C" fn say_handled_and_end(signal: i32) {
    say_handled(signal);
    // SAFETY: _exit(2) is async-signal-safe.
    unsafe { libc::_exit(9) };
}

extern "C" fn say_handled(_signal: i32) {
    let line = b"{\"event\":\"handled\"}\n";
    // SAFETY: write(2) is async-signal-safe.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}

static HAMMERED: AtomicUsize = AtomicUsize::new(0);

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn async_many(lock: &Lock, count: usize) -> Value {
    let lock = lock.clone();
    let (all_wait_sender, all_wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let waiting = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async move {
            let before = resident_bytes();
            let tasks: Vec<_> = (0..count)
                .map(|_| {
                    let (lock, waiting) = (lock.clone(), Arc::clone(&waiting));
                    tokio::spawn(async move {
                        let mut acquiring = std::pin::pin!(lock.acquire_async(Wait::Forever));
                        let first =
                            std::future::poll_fn(|context| std::task::Poll::Ready(acquiring.as_mut().poll(context)));
                        let first = first.await;
                        waiting.fetch_add(1, Ordering::Relaxed);
                        let guard = match first {
                            std::task::Poll::Ready(guard) => guard,
                            std::task::Poll::Pending => acquiring.await,
                        };
                        drop(guard.unwrap());
                    })
                })
                .collect();
            while waiting.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
            all_wait_sender.send(resident_bytes().saturating_sub(before)).unwrap();
            for task in tasks {
                task.await.unwrap();
            }
        });
        say(&json!({"event": "all-granted", "count": count}));
    });
    json!({"ok": true, "bytes": all_wait.recv().unwrap()})
}

/// Adds to a number in a file that only the lock protects, and counts doubles independently of the lock.
fn count(lock: &Lock, path: &str, threads: usize, rounds: usize) {
    let doubles = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..rounds {
                    let guard = lock.acquire_with(Wait::Forever).unwrap();
                    let witness = format!("{path}.witness");
                    if std::fs::File::create_new(&witness).is_err() {
                        doubles.fetch_add(1, Ordering::Relaxed);
                    }
                    let number: u64 = std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
                    std::fs::write(path, (number + 1).to_string()).unwrap();
                    let _ = std::fs::remove_file(&witness);
                    guard.release().unwrap();
                }
            });
        }
    });
    say(&json!({"event": "counted", "doubles": doubles.into_inner()}));
}

/// Writes a file in the actor rather than in the test. The test's other threads fork, and a child between fork and exec
/// still has the file open for writing, which makes a lock file a live one.
fn put(path: &str, age: i64, hex: &str) -> Value {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&bytes).unwrap();
    let by = Duration::from_millis(age.unsigned_abs());
    let now = std::time::SystemTime::now();
    file.set_modified(if age < 0 { now + by } else { now - by }).unwrap();
    json!({"ok": true})
}
