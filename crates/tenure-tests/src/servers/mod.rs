//! Real servers for the tests of server locks: started in temporary folders, on loopback addresses of their own, and
//! killed when their value is dropped, also by a panic.

pub mod clock;
pub mod etcd;
pub mod names;
pub mod network;
pub mod postgres;

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tenure::{BreakOptions, State, Status};

use crate::stepped::Stepped;
use crate::{Actor, until};

/// Starts an actor that has opened the target as `l`.
pub fn opened(target: &str) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {target}"));
    actor
}

/// Waits until that many waiters queue for the lock.
pub fn await_waiters(observer: &mut Actor, target: &str, count: u64) {
    until("waiters", || observer.must(&format!("inspect {target}"))["found"]["waiters"] == count);
}

/// Begins an acquire of a lock that is held, with a deadline of 20 s, or of 40 s where the machine is so slow that the wait ends
/// before it is seen. The actor has opened `target` as `l`, and no other process waits.
pub fn begin_with_a_deadline(actor: &mut Actor, guard: &str, observer: &mut Actor, target: &str) {
    for seconds in [20, 40] {
        actor.must(&format!("begin l {guard} {seconds}000"));
        let mut waits = false;
        until("it waits, or no longer", || {
            waits = observer.must(&format!("inspect {target}"))["found"]["waiters"] == 1;
            waits || actor.has_answered()
        });
        if waits {
            return;
        }
        assert_eq!(actor.receive()["kind"], "busy");
    }
    panic!("it was never seen to wait");
}

/// Returns a loopback address that no other test's server uses: all of 127/8 is this machine.
pub fn address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let [_, high, middle, low] = ((pid << 6) + count).to_be_bytes();
        let address = format!("127.{}.{middle}.{low}", high | 1);
        if (1..255).contains(&low)
            && [2379, 2380, 5432, 6432].iter().all(|port| TcpListener::bind((&*address, *port)).is_ok())
        {
            return address;
        }
    }
}

/// A server that never answers: the kernel accepts its connections, and no program reads from them.
pub struct Silent {
    address: String,
    _listener: TcpListener,
}

impl Silent {
    pub fn at(port: u16) -> Silent {
        let address = address();
        let listener = TcpListener::bind((&*address, port)).unwrap();
        Silent { address, _listener: listener }
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A server's process, killed on drop, or by the kernel if the test's thread ends without a drop.
pub struct Server(Child);

impl Server {
    pub fn start(command: &mut Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("TENURE_SERVER_LOG").is_none() {
            command.stderr(Stdio::null());
        }
        // SAFETY: between fork and exec this makes one system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Server(command.spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: i32) {
        super::signal(self.pid(), signal);
    }

    /// Waits for the server's end.
    pub fn end(mut self) {
        self.0.wait().unwrap();
    }

    /// Kills the server by SIGKILL and reaps it.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command that must succeed, and returns its standard output.
pub fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Creates a certificate authority, and certificates of a server at `address` and of a client: `ca.pem`, `server.pem`,
/// `server.key`, `client.pem`, `client.key`.
fn make_certificates(dir: &std::path::Path, address: &str) {
    let config = format!("subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth,clientAuth\n");
    std::fs::write(dir.join("ext"), config).unwrap();
    let openssl = |words: &str| output(Command::new("openssl").args(words.split_whitespace()).current_dir(dir));
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2");
    for name in ["server", "client"] {
        openssl(&format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile ext"
        ));
    }
}

/// Stops the thread of an actor that renews its leases, until the value is dropped.
pub fn stop_io_thread(actor: &Actor) -> Stepped {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", actor.pid())).unwrap();
    let named = |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).unwrap().trim() == "tenure-io";
    let thread = tasks.map(|task| task.unwrap().path()).find(|path| named(path)).unwrap();
    Stepped::stop(thread.file_name().unwrap().to_str().unwrap().parse().unwrap())
}

/// Waits for one more renewal of the lease of guard `g`.
pub fn await_renewal(actor: &mut Actor) {
    let left = |actor: &mut Actor| actor.must("lease g")["lostIn"].as_u64().unwrap();
    let mut last = left(actor);
    until("a renewal", || {
        let now = left(actor);
        assert!(now > 0, "lost meanwhile: {}", actor.ask("check g"));
        let renewed = now > last;
        last = now;
        renewed
    });
}

/// Sends a line and returns its answer, which must arrive without further input.
pub fn soon(actor: &mut Actor, line: &str) -> Value {
    actor.send(line);
    receive_soon(actor, line)
}

/// Returns an actor's next line, which must arrive without further input.
pub fn receive_soon(actor: &mut Actor, what: &str) -> Value {
    assert!(actor.answers_within(60), "it still waits: {what}");
    actor.receive()
}

/// Returns the text of an error.
pub fn said(answer: &Value) -> &str {
    answer["error"].as_str().unwrap()
}

/// Returns the status of a target as an actor sees it.
pub fn found(observer: &mut Actor, target: &str) -> Value {
    observer.must(&format!("inspect {target}"))["found"].clone()
}

/// Asserts that the actor's pending acquire has no outcome yet.
pub fn assert_waits(actor: &mut Actor) {
    assert!(!actor.has_answered(), "{}", actor.receive());
}

/// Asserts that shares of `target` hold together, and that readers and a writer are granted the lock in their order. `listed`
/// asserts how a list shows the status that it gets, `shared` and `free` what the server keeps with two readers and at the end.
pub fn assert_shares_keep_the_order(
    target: &str,
    listed: impl FnOnce(&mut Actor, &Value),
    shared: impl FnOnce(),
    free: impl FnOnce(),
) {
    let [mut one, mut two, mut writer, mut late] = [(); 4].map(|()| opened(target));
    let mut observer = Actor::start();
    for reader in [&mut one, &mut two] {
        let granted = reader.must("share l g never");
        assert_eq!((&granted["fence"], &granted["crashed"]), (&0.into(), &Value::Null), "{granted}");
        assert_eq!(reader.must("record g")["record"], "{}");
    }
    let shown = found(&mut observer, target);
    assert_eq!((&shown["state"], &shown["pid"], &shown["waiters"]), (&"held".into(), &Value::Null, &0.into()));
    assert_eq!(shown["openBy"], serde_json::json!([one.pid(), two.pid()]));
    listed(&mut observer, &shown);

    // A share that begins after a waiting writer waits for it.
    writer.must_fail("acquire l g never", "busy");
    writer.must("begin l g forever");
    await_waiters(&mut observer, target, 1);
    late.must_fail("share l g never", "busy");
    late.must("begin-share l g forever");
    await_waiters(&mut observer, target, 2);
    one.must("release g");
    two.must("check g");
    assert_waits(&mut writer);
    two.must("release g");
    let granted = receive_soon(&mut writer, "the writer");
    assert!(granted["event"] == "granted" && granted["fence"].as_u64() > Some(0), "{granted}");
    one.must_fail("share l g never", "busy");
    assert_waits(&mut late);
    let shown = found(&mut observer, target);
    assert_eq!((&shown["pid"], &shown["waiters"]), (&writer.pid().into(), &1.into()), "{shown}");

    // All shares behind a writer are granted at once.
    one.must("begin-share l g forever");
    await_waiters(&mut observer, target, 2);
    writer.must("release g");
    for reader in [&mut one, &mut late] {
        assert_eq!(receive_soon(reader, "a reader")["event"], "granted");
        reader.must("check g");
    }
    writer.must_fail("acquire l g never", "busy");
    shared();
    one.must("release g");
    late.must("drop g");
    assert_eq!(found(&mut observer, target)["state"], "free");
    free();
    let after = writer.must("acquire l g never");
    assert!(after["fence"].as_u64() > granted["fence"].as_u64(), "{after}");
}

/// Asserts that a break ends only the tenure that its status shows: a stale one, an exclusive one, or shares. `brief` is the target
/// `target` with a short lease.
pub fn assert_a_break_ends_only_what_was_seen(brief: &str, target: &str) {
    let breaks = |seen: &Status| {
        let options = BreakOptions::default().only(seen.clone()).force(true);
        tenure::break_lock(target, &options).unwrap().broken
    };
    let (mut one, mut two, mut dies) = (opened(target), opened(target), opened(brief));
    dies.must("acquire l g never");
    dies.kill();
    until("the lock is stale", || tenure::status(target).unwrap().state == State::Stale);
    let mut seen = tenure::status(target).unwrap();
    for (verb, ends) in [("acquire", false), ("acquire", true), ("share", false), ("share", true)] {
        one.must(&format!("{verb} l g 60000"));
        assert!(!breaks(&seen), "{verb}: {seen:?}");
        one.must("check g");
        seen = tenure::status(target).unwrap();
        if ends {
            assert!(breaks(&seen), "{verb}: {seen:?}");
            until("the loss", || one.ask("check g")["ok"] == false);
            until("the lock is free", || tenure::status(target).unwrap().state == State::Free);
        } else {
            one.must("release g");
        }
        std::mem::swap(&mut one, &mut two);
    }
}

/// Asserts that the error of an open names the file of TLS that cannot be used. `path` returns the path of a file beside the
/// certificates.
pub fn assert_unusable_tls_files_are_named(target: impl Fn(&str) -> String, path: impl Fn(&str) -> PathBuf) {
    std::fs::write(path("bad.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (ca, key, named) in [
        ("bad.pem", "client.key", "of ca= cannot be used"),
        ("ca.pem", "server.key", "with the key of key= cannot be used"),
        ("ca.pem", "ca.pem", "there is no private key in"),
    ] {
        let [ca, certificate, key] = [ca, "client.pem", key].map(|name| path(name).display().to_string());
        let target = target(&format!("&ca={ca}&cert={certificate}&key={key}"));
        let refused = Actor::start().must_fail(&format!("open l {target}"), "invalid-target");
        assert!(said(&refused).contains(named), "{named}: {refused}");
    }
}
