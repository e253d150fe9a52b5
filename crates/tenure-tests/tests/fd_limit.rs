//! More locks than a process may have open files, in a process of its own because of the limit.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test panics where it fails, and looks at files")]

use tenure::{Lock, Style, Wait};

#[test]
fn a_process_uses_more_locks_than_it_may_open_files() {
    let limit_files = |rlim_cur| {
        // SAFETY: the kernel reads one rlimit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur, rlim_max: 2048 }) }, 0);
    };
    limit_files(256);
    let dir = tempfile::tempdir().unwrap();
    let open = |at: usize| {
        let style = if at.is_multiple_of(2) { Style::LockFile } else { Style::Flock };
        Lock::options().style(style).open(dir.path().join(at.to_string())).unwrap()
    };
    // Held locks keep their descriptors, whatever other locks are used.
    let held: Vec<_> = (0..50).map(|at| open(at).acquire_with(Wait::Never).unwrap()).collect();
    let locks: Vec<_> = (50..2_000).map(open).collect();
    let mut fences = vec![0; locks.len()];
    let mut use_each = || {
        for (lock, fence) in locks.iter().zip(&mut fences) {
            let guard = lock.acquire_with(Wait::Never).unwrap();
            assert!(guard.fence().unwrap() > *fence && guard.previous() == &tenure::Previous::Clean);
            *fence = guard.fence().unwrap();
            guard.release().unwrap();
        }
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    };
    use_each();
    // The 50 held locks have one descriptor each, or two in flock style, and so have 32 others; 32 more have one. The process
    // has some others.
    let files = use_each();
    assert!((155..178).contains(&files), "{files} files are open");
    // 128 locks keep everything where the limit is 1024 or more.
    limit_files(1024);
    use_each();
    let files = use_each();
    assert!((395..418).contains(&files), "{files} files are open");
    // The anchors of more locks stay open where the limit allows it: a quarter of it. Only 128 locks keep a target.
    limit_files(2048);
    use_each();
    let files = use_each();
    assert!((651..680).contains(&files), "{files} files are open");
    for guard in held {
        guard.check().unwrap();
        let again = Lock::open(guard.target()).unwrap();
        assert!(again.acquire_with(Wait::Never).unwrap_err().is_busy());
        guard.release().unwrap();
        again.acquire_with(Wait::Never).unwrap().release().unwrap();
    }
}
