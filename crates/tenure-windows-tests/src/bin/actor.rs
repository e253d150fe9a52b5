//! A process that locks as its input says, one command a line, and answers each by a line.

#[cfg(windows)]
fn main() {
    windows::main();
}

#[cfg(not(windows))]
fn main() {}

#[cfg(windows)]
mod windows {
    use std::io::{BufRead, Write};
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use tenure::{Guard, Lock, Options, Previous, Style, Wait};
    use tenure_windows_tests::witness::{Entered, Witness};
    use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;

    pub(super) fn main() {
        let words: Vec<String> = std::env::args().skip(2).collect();
        match words.first().map(String::as_str) {
            Some("storm") => storm(&words[1], &words[2], words[3].parse().expect("seconds")),
            Some("pid") => {
                say(&std::process::id().to_string());
                // It is killed by its test, or ends by itself long after.
                std::thread::sleep(Duration::from_secs(120));
            }
            Some("console") => console(&words[1]),
            Some("cleanup") => {
                tenure::cleanup::install(tenure::cleanup::Handlers::Keep).expect("a handler can be set");
                let _guard = Lock::open("target").and_then(|lock| lock.acquire()).expect("the lock is free");
                say("ready");
                std::thread::sleep(Duration::from_secs(120));
            }
            _ => serve(words.first().map_or("target", String::as_str)),
        }
    }

    fn say(line: &str) {
        let mut out = std::io::stdout().lock();
        // A test that has ended reads no more.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Says "ready", and ends with the exit code 9 at Ctrl-C, when it says whether the lock file is there.
    fn console(lock_file: &str) {
        static LOCK_FILE: OnceLock<PathBuf> = OnceLock::new();
        unsafe extern "system" fn on_event(event: u32) -> windows_sys::core::BOOL {
            let there = LOCK_FILE.get().is_some_and(|path| path.exists());
            say(&format!("event {event}, locked {there}"));
            std::process::exit(9);
        }
        LOCK_FILE.set(lock_file.into()).expect("it is set once");
        // SAFETY: SetConsoleCtrlHandler requires a function that may run on any thread: this one uses a static only.
        assert!(unsafe { SetConsoleCtrlHandler(Some(on_event), 1) } != 0, "a handler can be set");
        say("ready");
        // It is ended by its test, or ends by itself long after.
        std::thread::sleep(Duration::from_secs(120));
    }

    fn options(word: &str) -> Options {
        let options = Lock::options();
        match word {
            "flock" => options.style(Style::Flock),
            "bare" => options.style(Style::Flock).record(false),
            "steal" => options.stale_policy(tenure::StalePolicy::StealAfter(Duration::from_millis(1))),
            _ => options,
        }
    }

    fn serve(target: &str) {
        let target = PathBuf::from(target);
        let mut guard: Option<Guard> = None;
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let words: Vec<&str> = line.split_whitespace().collect();
            let style = words.get(1).copied().unwrap_or_default();
            let milliseconds = words.get(2).and_then(|word| word.parse().ok()).map(Duration::from_millis);
            let wait = milliseconds.map_or(Wait::Forever, Wait::For);
            match words.first().copied().unwrap_or_default() {
                "acquire" | "shared" => {
                    say("asking");
                    let lock = options(style).open(&target);
                    let acquired = lock.and_then(|lock| match words[0] {
                        "shared" => lock.acquire_shared(wait),
                        _ => lock.acquire_with(wait),
                    });
                    match acquired {
                        Ok(acquired) => {
                            let crashed = match acquired.previous() {
                                Previous::Crashed(holder) => format!(" after {}", holder.pid().unwrap_or(0)),
                                _ => String::new(),
                            };
                            guard = Some(acquired);
                            say(&format!("held{crashed}"));
                        }
                        Err(error) => say(&format!("{:?}: {error}", error.kind())),
                    }
                }
                "release" => say(&match guard.take().map(Guard::release) {
                    None => "not held".to_owned(),
                    Some(Ok(())) => "released".to_owned(),
                    Some(Err(error)) => format!("{:?}: {error}", error.kind()),
                }),
                "check" => say(&match guard.as_ref().map(Guard::check) {
                    None => "not held".to_owned(),
                    Some(Ok(())) => "ok".to_owned(),
                    Some(Err(error)) => format!("{:?}: {error}", error.kind()),
                }),
                "cleanup" => say(&match tenure::cleanup::install(tenure::cleanup::Handlers::Keep) {
                    Ok(()) => "installed".to_owned(),
                    Err(error) => error.to_string(),
                }),
                "before-exit" => {
                    tenure::cleanup::before_exit();
                    say("cleaned");
                }
                "exit" => std::process::exit(7),
                "abort" => std::process::abort(),
                other => say(&format!("unknown: {other}")),
            }
        }
    }

    /// Acquires and releases for some seconds, under a witness. Says how often, now and then and at the end.
    fn storm(style: &str, name: &str, seconds: u64) {
        let witness = Witness::open(name);
        let lock = options(style).open("target").expect("the lock opens");
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut seed = u64::from(std::process::id());
        let (mut grants, mut kills, mut reports) = (0_u64, 0_u64, 0_u64);
        say("storm");
        while Instant::now() < end && !std::path::Path::new("stop").exists() {
            let guard = match lock.acquire_timeout(Duration::from_secs(120)) {
                Ok(guard) => guard,
                Err(error) => return say(&format!("error {error}")),
            };
            match witness.enter() {
                Entered::Alone => {}
                Entered::AfterKill => kills += 1,
                Entered::Double => return say("DOUBLE"),
            }
            reports += u64::from(guard.previous().is_crashed());
            grants += 1;
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Some actor is inside nearly always, so kills come inside too; a few stay for long.
            match seed >> 58 {
                0 => std::thread::sleep(Duration::from_millis(100)),
                1..=8 => std::thread::sleep(Duration::from_millis(3)),
                _ => {}
            }
            witness.leave();
            if let Err(error) = guard.release() {
                return say(&format!("error {error}"));
            }
            say(&format!("grants {grants} {kills} {reports}"));
            if seed >> 59 & 1 == 1 {
                std::thread::yield_now();
            }
        }
        say(&format!("grants {grants} {kills} {reports}"));
        say("done");
    }
}
