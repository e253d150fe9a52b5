//! Processes that work under a server's lock while everything fails: the holders, the waiters, the servers.
//!
//! A short run is part of the suite. The long one:
//!
//! ```text
//! TENURE_FENCED_SECONDS=600 TENURE_FENCED_BESIDE=1000 cargo test -p tenure-tests --test fenced -- --nocapture
//! ```
//!
//! Each process also holds other locks, with the same lease or in the same sessions. An operator deletes some of them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "tests")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tenure_tests::servers::Server;
use tenure_tests::servers::etcd::{self, Cluster};
use tenure_tests::servers::postgres::{self, Postgres};
use tenure_tests::witness::Witness;
use tenure_tests::{fenced_program, folder, signal};

const WORKERS: usize = 5;

/// A small generator: the random seed determines the faults, the machine their exact moments.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// When to resume a stopped process, and its pid.
type Later = (Instant, u32);

struct Crew {
    target: String,
    /// The target below which each worker holds other locks.
    above: String,
    file: PathBuf,
    workers: Vec<Server>,
    later: VecDeque<Later>,
    /// The minimum duration of a stop in milliseconds: about the time that the server takes to pass the lock on.
    shortest_stop: u64,
    kills: u32,
    stops: u32,
    breaks: u32,
}

impl Crew {
    fn start(target: String, above: String, file: &Path, shortest_stop: u64) -> Crew {
        let (file, workers, later) = (file.to_owned(), Vec::new(), VecDeque::new());
        let mut crew = Crew { target, above, file, workers, later, shortest_stop, kills: 0, stops: 0, breaks: 0 };
        for _ in 0..WORKERS {
            let worker = crew.worker();
            crew.workers.push(worker);
        }
        crew
    }

    fn worker(&self) -> Server {
        let mut worker = Command::new(fenced_program());
        worker.arg(&self.target).arg(&self.file).arg(&self.above).arg(beside().to_string());
        Server::start(&mut worker)
    }

    /// Returns the name of one of the other locks that a worker holds.
    fn name_beside(&mut self, random: &mut Random) -> String {
        self.breaks += 1;
        let worker = &self.workers[random.below(WORKERS as u64) as usize];
        format!("beside/{}/{}", worker.pid(), random.below(beside()))
    }

    fn kill(&mut self, at: usize) {
        let fresh = self.worker();
        std::mem::replace(&mut self.workers[at], fresh).kill();
        self.kills += 1;
    }

    /// Returns the index of the present holder if there is one, else of any worker.
    fn victim(&self, witness: &Witness, random: &mut Random) -> usize {
        let until = Instant::now() + Duration::from_millis(20);
        while random.below(8) > 0 && Instant::now() < until {
            let inside = witness.inside();
            if let Some(at) = self.workers.iter().position(|worker| worker.pid() == inside)
                && !self.is_stopped(inside)
            {
                return at;
            }
        }
        loop {
            let at = random.below(WORKERS as u64) as usize;
            if !self.is_stopped(self.workers[at].pid()) {
                return at;
            }
        }
    }

    /// Returns whether a worker is stopped already. It is left to resume, because it might then believe to hold.
    fn is_stopped(&self, pid: u32) -> bool {
        self.later.iter().any(|(_, stopped)| *stopped == pid)
    }

    /// Stops a worker for up to twice the lease, mostly for longer than the lease. Most workers keep running.
    fn stop(&mut self, at: usize, random: &mut Random) {
        if self.later.len() >= WORKERS / 2 {
            return;
        }
        let pid = self.workers[at].pid();
        signal(pid, libc::SIGSTOP);
        self.stops += 1;
        let until = Instant::now() + Duration::from_millis(self.shortest_stop + random.below(3000));
        self.later.push_back((until, pid));
    }

    fn due(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let due: VecDeque<Later> = due;
        due.into_iter().for_each(|(_, pid)| signal(pid, libc::SIGCONT));
    }

    /// Ends the pending stops and the workers.
    fn finish(mut self, witness: &Witness) {
        witness.stop();
        for (_, pid) in std::mem::take(&mut self.later) {
            signal(pid, libc::SIGCONT);
        }
        for worker in std::mem::take(&mut self.workers) {
            worker.end();
        }
        println!(
            "{} grants, {} writes, {} refused, {} kills, {} stops; up to {} locks beside, {} of them broken",
            witness.grants(),
            witness.writes(),
            witness.refused(),
            self.kills,
            self.stops,
            witness.most_beside(),
            self.breaks
        );
        assert_eq!(witness.double(), 0, "two processes believed to hold at once");
        assert_eq!(witness.wrongly_refused(), 0, "a holder's fence was older than another's");
        assert!(self.has_done_enough(witness), "hardly any work was done, or hardly any fault occurred");
    }

    /// A killed holder's lease must expire each time, so a short run has few grants.
    fn has_done_enough(&self, witness: &Witness) -> bool {
        let worked = witness.grants() > 2 && witness.writes() > 10 && witness.most_beside() > 0;
        worked && self.kills > 0 && self.stops > 0
    }
}

/// The duration of a run, which is longer where a slow machine has done hardly anything by then.
struct Span {
    began: Instant,
    seconds: u64,
}

impl Span {
    fn begin() -> Span {
        Span { began: Instant::now(), seconds: number("TENURE_FENCED_SECONDS", 12) }
    }

    fn is_over(&self, crew: &Crew, witness: &Witness) -> bool {
        let past = self.began.elapsed().as_secs();
        past >= self.seconds && (crew.has_done_enough(witness) || past >= self.seconds + 300)
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Returns how many other locks each worker holds.
fn beside() -> u64 {
    number("TENURE_FENCED_BESIDE", 20)
}

fn seed() -> Random {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    Random(seed)
}

#[test]
fn on_etcd() {
    if !etcd::there() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let folder = folder();
    let file = folder.path().join("words");
    let witness = Witness::of(&file);
    let mut random = seed();
    let mut crew = Crew::start(cluster.target("a", 2), cluster.target("beside", 2), &file, 2500);
    let span = Span::begin();
    let mut down: Option<(usize, Instant, bool)> = None;
    while !span.is_over(&crew, &witness) {
        std::thread::sleep(Duration::from_millis(50));
        crew.due();
        if let Some((member, until, stopped)) = down
            && Instant::now() >= until
        {
            if stopped {
                cluster.signal(member, libc::SIGCONT);
            } else {
                cluster.restart(member);
            }
            down = None;
        }
        match random.below(24) {
            0 => crew.kill(crew.victim(&witness, &mut random)),
            1..=4 => crew.stop(crew.victim(&witness, &mut random), &mut random),
            5 if down.is_none() => {
                let member = random.below(3) as usize;
                let stopped = random.below(2) == 0;
                if stopped {
                    cluster.signal(member, libc::SIGSTOP);
                } else {
                    cluster.kill(member);
                }
                down = Some((member, Instant::now() + Duration::from_millis(500 + random.below(2500)), stopped));
            }
            6 => {
                let name = crew.name_beside(&mut random);
                let mut del = cluster.etcdctl();
                // A member may be down.
                del.args([
                    "--dial-timeout",
                    "500ms",
                    "--command-timeout",
                    "500ms",
                    "del",
                    "--prefix",
                    &format!("{name}/"),
                ]);
                let _ = del.output();
            }
            _ => {}
        }
    }
    if let Some((member, _, true)) = down {
        cluster.signal(member, libc::SIGCONT);
    }
    crew.finish(&witness);
}

#[test]
fn on_postgres() {
    if !postgres::there() {
        return;
    }
    // Room for the locks of all workers.
    let mut server = Postgres::start_with(&["max_locks_per_transaction=256"]);
    let folder = folder();
    let file = folder.path().join("words");
    let witness = Witness::of(&file);
    let mut random = seed();
    let mut crew = Crew::start(server.target("a", 2), server.target("beside", 2), &file, 1500);
    let span = Span::begin();
    while !span.is_over(&crew, &witness) {
        std::thread::sleep(Duration::from_millis(50));
        crew.due();
        match random.below(24) {
            0 => crew.kill(crew.victim(&witness, &mut random)),
            1..=4 => crew.stop(crew.victim(&witness, &mut random), &mut random),
            5 => {
                let holders =
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted";
                let _ = server.psql().args(["-c", holders]).output();
            }
            6 if random.below(2) == 0 => {
                // As `break --force` does it: the holder gives the lock up.
                let target = server.target(&crew.name_beside(&mut random), 2);
                let options = tenure::BreakOptions::default().force(true);
                std::thread::spawn(move || tenure::break_lock(target, &options));
            }
            6 if random.below(3) == 0 => {
                if random.below(2) == 0 {
                    server.stop();
                } else {
                    server.kill();
                }
                server.run();
            }
            _ => {}
        }
    }
    crew.finish(&witness);
}
