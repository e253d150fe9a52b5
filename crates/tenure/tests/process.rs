//! Liveness and identity of real processes.
//!
//! Steps that need a process of their own (another user, a sandbox, a namespace) run in this test binary, started again
//! with `HELPER` set: see [`helper`].

#![cfg(target_os = "linux")]
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "forks, sandboxes and signals, in tests only")]
#![allow(clippy::disallowed_methods, reason = "tests look at the system past the library")]
#![allow(clippy::unwrap_used, reason = "helper functions of tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use tenure::process::{Identity, Liveness, is_alive, start_time};

const HELPER: &str = "TENURE_TEST_PROCESS_HELPER";

// ---- tools ----

/// A child that waits on its standard input, and is killed and reaped on drop.
struct Waiting(Child);

impl Waiting {
    fn start() -> Waiting {
        Waiting(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i64 {
        i64::from(self.0.id())
    }

    /// Kills the child and waits until it is a zombie, without reaping it.
    fn make_zombie(&mut self) {
        self.0.kill().unwrap();
        wait_for_zombie(self.pid());
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_zombie(pid: i64) {
    let mut info = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
    let id = libc::id_t::try_from(pid).unwrap();
    let result = unsafe { libc::waitid(libc::P_PID, id, &mut info, libc::WEXITED | libc::WNOWAIT) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// A child whose leader has ended while another thread runs.
struct ZombieLeader {
    pid: libc::pid_t,
    to_thread: io::PipeWriter,
}

impl ZombieLeader {
    fn start() -> ZombieLeader {
        extern "C" fn thread(fd: *mut libc::c_void) -> *mut libc::c_void {
            let mut byte = 0_u8;
            unsafe {
                libc::read(fd as libc::c_int, (&raw mut byte).cast(), 1);
                libc::_exit(0)
            }
        }

        let (from_test, to_thread) = io::pipe().unwrap();
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // Ends this thread alone; the new one gets the pipe's descriptor as its argument.
            unsafe {
                let fd = std::os::fd::IntoRawFd::into_raw_fd(from_test);
                let mut id = std::mem::zeroed();
                if libc::pthread_create(&mut id, std::ptr::null(), thread, fd as *mut libc::c_void) != 0 {
                    libc::_exit(1);
                }
                libc::syscall(libc::SYS_exit, 0);
            }
            unreachable!();
        }
        assert!(pid > 0);
        let leader = ZombieLeader { pid, to_thread };
        // No event reports that a leader ended before its threads, so it is polled.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ") {
            assert!(Instant::now() < deadline, "the leader does not end");
            thread::yield_now();
        }
        leader
    }

    /// Ends the last thread, after which the process is an unreaped zombie.
    fn end(&mut self) {
        self.to_thread.write_all(b"x").unwrap();
        wait_for_zombie(i64::from(self.pid));
    }
}

impl Drop for ZombieLeader {
    fn drop(&mut self) {
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// Runs `body` in a forked child and returns its output.
fn forked(body: impl FnOnce() -> String) -> String {
    let (mut reader, mut writer) = io::pipe().unwrap();
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // No unwinding past the fork: the child would continue as a second test run.
        let text = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_default();
        let done = writer.write_all(format!("{text}\n").as_bytes());
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    assert!(pid > 0, "{}", io::Error::last_os_error());
    drop(writer);
    // One line, not all of the output: a child that another test forks meanwhile keeps the pipe open.
    let mut line = String::new();
    BufReader::new(&mut reader).read_line(&mut line).unwrap();
    assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
    line.trim().to_owned()
}

fn to_line(identity: &Identity) -> String {
    format!(
        "{} {:?} {:?} {:?} {:?}",
        identity.pid, identity.start_time, identity.boot_id, identity.pid_namespace, identity.pidfd_inode
    )
    .replace('"', "")
}

fn from_line(line: &str) -> Identity {
    let words: Vec<&str> = line.split(' ').collect();
    let inner = |word: &str| Some(word.strip_prefix("Some(")?.strip_suffix(')')?.to_owned());
    let number = |word: &str| inner(word).map(|text| text.parse().unwrap());
    let mut identity = Identity::default();
    identity.pid = words[0].parse().unwrap();
    identity.start_time = number(words[1]);
    identity.boot_id = inner(words[2]);
    identity.pid_namespace = number(words[3]);
    identity.pidfd_inode = number(words[4]);
    identity
}

/// Returns a command that runs [`helper`] with this role, below `prefix` (`unshare ...`).
fn helper_command(prefix: &[&str], role: &str) -> Command {
    let exe = env::current_exe().unwrap();
    let mut command = match prefix {
        [] => Command::new(exe),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(exe);
            command
        }
    };
    command.args(["--exact", "helper", "--nocapture", "--test-threads=1"]).env(HELPER, role);
    command
}

fn run_helper(prefix: &[&str], role: &str) {
    let output = helper_command(prefix, role).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("@done"), "{role}: {}\n{out}\n{err}", output.status);
}

/// Starts a helper that prints its identity and waits for the end of its standard input.
fn start_identity(prefix: &[&str]) -> (Child, Identity) {
    let mut child = helper_command(prefix, "identity").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // libtest writes its own text on the same line.
    let line = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("@identity ")?.1.to_owned()));
    (child, from_line(&line.expect("the helper prints its identity")))
}

fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert_ne!(env::var("CI").as_deref(), Ok("true"), "nothing may be skipped in CI: {why}");
}

/// Returns whether commands below `prefix` work on this machine, and prints why not.
fn can_run(prefix: &[&str]) -> bool {
    let probe = Command::new(prefix[0]).args(&prefix[1..]).arg("true").stdin(Stdio::null()).output();
    let works = probe.as_ref().is_ok_and(|output| output.status.success());
    if !works {
        skip(&format!("{} does not work here: {probe:?}", prefix.join(" ")));
    }
    works
}

fn is_root() -> bool {
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        skip("only root can do this");
    }
    root
}

fn without_inode(identity: &Identity) -> Identity {
    let mut identity = identity.clone();
    identity.pidfd_inode = None;
    identity
}

fn pid_max() -> i64 {
    fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap()
}

#[track_caller]
fn assert_alive(liveness: &Liveness) {
    assert!(liveness.is_alive(), "{liveness}");
}

#[track_caller]
fn assert_dead(liveness: &Liveness, why: &str) {
    assert!(liveness.is_dead() && liveness.why().contains(why), "{liveness}: expected {why:?}");
}

#[track_caller]
fn assert_unknown(liveness: &Liveness, why: &str) {
    assert!(liveness.is_unknown() && liveness.why().contains(why), "{liveness}: expected {why:?}");
}

// ---- tests ----

#[test]
fn this_process_is_alive() {
    let current = Identity::current();
    assert_eq!(current.pid, i64::from(process::id()));
    assert_eq!(current.start_time, start_time(process::id()));
    assert!(current.start_time.is_some() && current.boot_id.is_some() && current.pid_namespace.is_some());
    assert_alive(&current.verify());
    assert_eq!(Identity::of(process::id()), Some(current.clone()));
    assert_eq!(Identity::current(), current);
    assert!(is_alive(process::id()));
}

#[test]
fn a_killed_child_is_dead_before_and_after_it_is_reaped() {
    let mut child = Waiting::start();
    let identity = Identity::of(child.pid()).unwrap();
    assert_alive(&identity.verify());
    assert!(is_alive(child.pid()));

    child.make_zombie();
    assert_dead(&identity.verify(), "has ended");
    assert_dead(&without_inode(&identity).verify(), "has ended");
    assert!(!is_alive(child.pid()));
    assert_eq!(Identity::of(child.pid()), None);

    child.end();
    assert_dead(&identity.verify(), &format!("no process with pid {}", child.pid()));
    assert!(!is_alive(child.pid()));
    assert_eq!(Identity::of(child.pid()), None);
    assert_eq!(start_time(child.pid()), None);
}

#[test]
fn each_part_of_an_identity_counts() {
    let child = Waiting::start();
    let identity = Identity::of(child.pid()).unwrap();

    let mut other = without_inode(&identity);
    other.start_time = identity.start_time.map(|start_time| start_time + 1);
    assert_dead(&other.verify(), "was recycled: it started at tick");

    if identity.pidfd_inode.is_some() {
        let mut other = identity.clone();
        other.pidfd_inode = identity.pidfd_inode.map(|inode| inode + 1);
        assert_dead(&other.verify(), "was recycled: its pidfd");
    } else {
        skip("no pidfd inodes before Linux 6.9");
    }

    let mut other = identity.clone();
    other.boot_id = Some("00000000-0000-0000-0000-000000000000".into());
    assert_unknown(&other.verify(), "another machine or before a reboot");
    let mut other = identity.clone();
    other.pid_namespace = identity.pid_namespace.map(|inode| inode + 1);
    assert_unknown(&other.verify(), "another pid namespace");

    let mut bare = Identity::default();
    bare.pid = child.pid();
    assert_alive(&bare.verify());
}

#[test]
fn a_dead_pid_of_another_boot_or_namespace_is_unknown() {
    let mut child = Waiting::start();
    let identity = Identity::of(child.pid()).unwrap();
    child.end();
    let mut other = identity.clone();
    other.boot_id = Some("00000000-0000-0000-0000-000000000000".into());
    assert_unknown(&other.verify(), "reboot");
    let mut other = identity;
    other.pid_namespace = Some(1);
    assert_unknown(&other.verify(), "namespace");
    // Each pid namespace has its own `pid_max`: a pid above ours may exist in another namespace.
    other.pid = pid_max() + 1;
    if other.pid <= 4_194_304 {
        assert_unknown(&other.verify(), "namespace");
    }
}

#[test]
fn a_number_that_is_no_pid_is_never_alive() {
    let no_pids = [
        0,
        -1,
        -i64::from(process::id()),
        i64::from(i32::MIN),
        i64::MIN,
        4_194_305,
        i64::from(i32::MAX),
        i64::from(u32::MAX),
        (1 << 32) + i64::from(process::id()),
        i64::MAX,
    ];
    for pid in no_pids {
        let mut identity = Identity::default();
        identity.pid = pid;
        assert_dead(&identity.verify(), "no process can have pid");
        assert!(!is_alive(pid), "{pid}");
        assert_eq!(Identity::of(pid), None, "{pid}");
        assert_eq!(start_time(pid), None, "{pid}");
    }
    assert!(!is_alive(pid_max() + 1));
}

#[test]
fn a_zombie_leader_with_a_live_thread_is_alive() {
    let mut leader = ZombieLeader::start();
    let identity = Identity::of(leader.pid).unwrap();
    assert_alive(&identity.verify());
    assert_alive(&without_inode(&identity).verify());
    assert!(is_alive(leader.pid));
    leader.end();
    assert_dead(&identity.verify(), "has ended");
    assert!(!is_alive(leader.pid));
}

#[test]
fn a_thread_is_no_process() {
    let (sender, receiver) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        sender.send(i64::from(unsafe { libc::gettid() })).unwrap();
        let _ = ended.recv();
    });
    let tid = receiver.recv().unwrap();
    assert_ne!(tid, i64::from(process::id()));
    let mut identity = Identity::default();
    identity.pid = tid;
    assert_dead(&identity.verify(), &format!("names a thread of process {}", process::id()));
    assert!(!is_alive(tid));
    assert_eq!(Identity::of(tid), None);
    drop(end);
    other.join().unwrap();
}

#[test]
fn a_forked_child_has_its_own_identity() {
    let parent = Identity::current();
    let child = from_line(&forked(|| to_line(&Identity::current())));
    assert_ne!(child.pid, parent.pid);
    assert!(child.start_time >= parent.start_time);
    assert!(child.pidfd_inode.is_none() || child.pidfd_inode != parent.pidfd_inode);
    assert_eq!((&child.boot_id, child.pid_namespace), (&parent.boot_id, parent.pid_namespace));
    assert_dead(&child.verify(), "no process");
    assert_eq!(Identity::current(), parent);
}

#[test]
fn permission_denied_is_alive() {
    if is_root() {
        run_helper(&[], "other user");
    }
}

#[test]
fn without_pidfds_the_answers_are_the_same() {
    for errno in ["ENOSYS", "EPERM", "EMFILE", "EINVAL", "ENOENT"] {
        run_helper(&[], errno);
    }
}

#[test]
fn a_lack_of_descriptors_makes_no_live_process_dead() {
    run_helper(&[], "no descriptors");
}

#[test]
fn a_process_of_another_pid_namespace_is_unknown() {
    let prefix = ["unshare", "--pid", "--fork", "--mount-proc"];
    if !can_run(&prefix) {
        return;
    }
    let (mut child, identity) = start_identity(&prefix);
    assert_eq!(identity.pid, 1);
    assert_unknown(&identity.verify(), "pid 1 is of another pid namespace");
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_unknown(&identity.verify(), "pid 1 is of another pid namespace");
}

#[test]
fn start_times_of_another_time_namespace_prove_nothing() {
    let prefix = ["unshare", "--time", "--boottime", "100000", "--fork"];
    if !can_run(&prefix) {
        return;
    }
    let (mut child, identity) = start_identity(&prefix);
    assert_ne!(identity.start_time, start_time(identity.pid));
    assert_unknown(&without_inode(&identity).verify(), "another time namespace");
    if identity.pidfd_inode.is_some() {
        assert_alive(&identity.verify());
    }
    assert_alive(&Identity::of(identity.pid).unwrap().verify());
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_dead(&identity.verify(), "no process");
}

#[test]
fn a_recycled_pid_is_dead() {
    let prefix = ["unshare", "--pid", "--fork", "--mount-proc"];
    if is_root() && can_run(&prefix) {
        run_helper(&prefix, "recycle");
    }
}

#[test]
fn pids_are_not_looked_up_in_an_outer_namespaces_proc() {
    let prefix = ["unshare", "--pid", "--fork"];
    if can_run(&prefix) {
        run_helper(&prefix, "outer proc");
    }
}

/// An emulator generates the text of its guest's `/proc/self/stat`.
#[test]
fn an_emulated_process_and_others_agree_on_its_identity() {
    let emulator = format!("qemu-{}", env::consts::ARCH);
    if !can_run(&[&emulator, "/bin/true"]) {
        return;
    }
    let (mut child, identity) = start_identity(&[&emulator]);
    assert_eq!(identity.start_time, start_time(identity.pid));
    assert!(identity.start_time.is_some());
    assert_eq!(identity, Identity::of(identity.pid).unwrap());
    assert_alive(&without_inode(&identity).verify());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_forked_child_with_the_same_pid_has_its_own_identity() {
    let prefix = ["unshare", "--pid", "--fork"];
    if can_run(&prefix) {
        run_helper(&prefix, "pid 1 twice");
    }
}

#[test]
fn a_hidden_process_is_alive() {
    // In a new pid namespace: before Linux 5.8 the option applies to all mounts of the namespace.
    let script = "mount -t proc -o hidepid=2 proc /proc || exit 1; \"$@\"; exit $?";
    let prefix = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh"];
    if is_root() && can_run(&prefix) {
        run_helper(&prefix, "hidepid");
    }
}

// ---- the helper ----

/// Runs the part of another test that needs its own process.
#[test]
fn helper() {
    let Ok(role) = env::var(HELPER) else { return };
    match role.as_str() {
        "identity" => {
            println!("@identity {}", to_line(&Identity::current()));
            let _ = io::stdin().read_to_end(&mut Vec::new());
            // The test has closed the pipe.
            process::exit(0);
        }
        "other user" => other_user(),
        "no descriptors" => no_descriptors(),
        "recycle" => recycle(),
        "outer proc" => outer_proc(),
        "pid 1 twice" => pid_1_twice(),
        "hidepid" => hidepid(),
        "ENOSYS" => no_pidfds(libc::ENOSYS),
        "EPERM" => no_pidfds(libc::EPERM),
        "EMFILE" => no_pidfds(libc::EMFILE),
        "EINVAL" => no_pidfds(libc::EINVAL),
        "ENOENT" => no_pidfds(libc::ENOENT),
        role => panic!("no such role: {role}"),
    }
    println!("@done");
}

fn become_nobody() {
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
        assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
    }
}

/// Installs a seccomp filter for this thread and its children, as a sandbox does: `pidfd_open` fails with `errno`.
fn forbid_pidfd_open(errno: libc::c_int) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let mut filter = [
        // The number of the system call is at the start of `seccomp_data`.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(libc::SYS_pidfd_open).unwrap()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
        assert_eq!(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0), -1);
    }
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(errno));
}

fn other_user() {
    let mut root_zombie = Waiting::start();
    let root_process = Waiting::start();
    let identity = Identity::of(root_process.pid()).unwrap();
    let mut recycled = without_inode(&identity);
    recycled.start_time = Some(1);
    root_zombie.make_zombie();
    become_nobody();
    assert_eq!(unsafe { libc::kill(1, 0) }, -1, "no permission to signal pid 1");

    for pidfds in [true, false] {
        if !pidfds {
            forbid_pidfd_open(libc::ENOSYS);
            assert!(identity.verify().why().contains("was denied, so it lives"), "{}", identity.verify());
        }
        assert!(is_alive(1));
        assert_alive(&Identity::of(1).unwrap().verify());
        assert_alive(&identity.verify());
        assert_dead(&recycled.verify(), "started at tick");
        assert!(!is_alive(root_zombie.pid()), "a dead process stays dead despite the denied permission");
    }
}

fn no_pidfds(errno: libc::c_int) {
    forbid_pidfd_open(errno);
    let own = Identity::current();
    assert_eq!(own.pidfd_inode, None);
    assert!(own.start_time.is_some());
    this_process_is_alive();
    a_killed_child_is_dead_before_and_after_it_is_reaped();
    a_zombie_leader_with_a_live_thread_is_alive();
    a_thread_is_no_process();
    a_number_that_is_no_pid_is_never_alive();
    let mut other = own;
    other.start_time = Some(1);
    assert_dead(&other.verify(), "was recycled: it started at tick");
}

fn no_descriptors() {
    let mut dead = Waiting::start();
    dead.end();
    let own = Identity::of(process::id()).unwrap();
    let limit = |soft| {
        let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limits), 0);
            let before = limits.rlim_cur;
            limits.rlim_cur = soft;
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limits), 0);
            before
        }
    };
    let before = limit(0);
    assert!(fs::File::open("/dev/null").is_err());
    assert!(is_alive(process::id()));
    assert!(!is_alive(dead.pid()));
    assert_alive(&own.verify());
    assert_eq!(Identity::current().start_time, None);
    limit(before);
    assert_eq!(Identity::current(), own, "a failed read is repeated later");
}

fn recycle() {
    // In this namespace no other process takes pids, apart from the threads of this process.
    for _ in 0..50 {
        let mut first = Waiting::start();
        let identity = Identity::of(first.pid()).unwrap();
        first.end();
        // Start times count in ticks of 10 ms: two processes of one tick have the same.
        thread::sleep(Duration::from_millis(25));
        fs::write("/proc/sys/kernel/ns_last_pid", (first.pid() - 1).to_string()).unwrap();
        let second = Waiting::start();
        if second.pid() != identity.pid {
            continue;
        }
        assert_ne!(Identity::of(second.pid()).unwrap(), identity);
        assert_alive(&Identity::of(second.pid()).unwrap().verify());
        assert_dead(&identity.verify(), "was recycled");
        assert_dead(&without_inode(&identity).verify(), "was recycled: it started at tick");
        assert!(is_alive(identity.pid), "the pid alone proves nothing");
        return;
    }
    panic!("the pid was never reused");
}

fn outer_proc() {
    assert_eq!(process::id(), 1);
    let own = Identity::current();
    assert!(own.start_time.is_some(), "the process's own folder is found under any name");
    assert_alive(&own.verify());

    let mut child = Waiting::start();
    assert!(fs::exists(format!("/proc/{}", child.pid())).unwrap(), "some process of the outer namespace");
    assert_eq!(start_time(child.pid()), None);
    let mut identity = Identity::of(child.pid()).unwrap();
    assert_alive(&identity.verify());
    identity.pidfd_inode = None;
    identity.start_time = Some(1);
    assert_alive(&identity.verify());
    child.make_zombie();
    assert_dead(&identity.verify(), "has ended");
    child.end();
    assert_dead(&identity.verify(), "no process");
}

fn pid_1_twice() {
    assert_eq!(process::id(), 1);
    let parent = Identity::current();
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
    let child = from_line(&forked(|| to_line(&Identity::current())));
    assert_eq!(child.pid, parent.pid);
    assert_ne!(child.pid_namespace, parent.pid_namespace);
    assert!(child.pidfd_inode.is_none() || child.pidfd_inode != parent.pidfd_inode);
    assert_unknown(&child.verify(), "another pid namespace");
    assert_eq!(Identity::current(), parent);
}

fn hidepid() {
    become_nobody();
    assert!(!fs::exists("/proc/1").unwrap(), "hidden");
    let mut identity = Identity::of(1).unwrap();
    assert_eq!(identity.start_time, None);
    identity.pidfd_inode = None;
    identity.start_time = Some(1);
    for pidfds in [true, false] {
        if !pidfds {
            forbid_pidfd_open(libc::ENOSYS);
        }
        assert_alive(&identity.verify());
        assert!(is_alive(1));
    }
}
