//! One round: a team in a new folder, killed and stopped at random, then a last grant for all remaining members.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::phase::Phase;
use crate::pods::Pod;
use crate::site::line;
use crate::sum::{Breaks, Sum};
use crate::team::{Kind, Programs};
use crate::verdict;
use crate::witness::{SLOTS, Witness};

/// The longest time that a worker may take to start or end on a loaded machine, and the longest time without a grant
/// while a member waits.
const PATIENCE: Duration = Duration::from_secs(120);
/// The number of pid namespaces.
const PODS: usize = 3;

struct Member {
    kind: Kind,
    /// The pid namespace of the member.
    pod: Option<usize>,
    child: Option<Child>,
    input: Option<ChildStdin>,
    /// The number of this member's process: lines of an older one may still be in the pipe.
    life: u64,
    ready: bool,
    /// The pid inside its namespace.
    pid_inside: Option<u32>,
    /// The pid of a process that was killed inside, to be reused.
    recycle: Option<u32>,
    /// It was asked to end after one more grant.
    asked_to_end: bool,
    /// It has reported that last grant.
    last: bool,
    killed: bool,
    goes_on_at: Option<Instant>,
    starts_at: Instant,
}

enum Message {
    Line { member: usize, life: u64, line: String },
    End,
}

pub struct Round<'a> {
    programs: &'a Programs,
    folder: PathBuf,
    witness: PathBuf,
    slots: Witness,
    phase: Phase,
    seed: u64,
    chance: Chance,
    members: Vec<Member>,
    pods: Vec<Option<Pod>>,
    sum: Sum,
    breaks: Breaks,
    messages: Receiver<Message>,
    say: Sender<Message>,
    open_pipes: usize,
    /// Acknowledged lines of the transcript.
    acknowledged: HashSet<String>,
    granted_at: Instant,
}

impl<'a> Round<'a> {
    /// Prepares a round. `folder` is on the file system under test, `witness` elsewhere; both are new.
    pub fn new(
        programs: &'a Programs,
        folder: &Path,
        witness: &Path,
        phase: Phase,
        size: usize,
        seed: u64,
    ) -> Round<'a> {
        for made in [folder, witness] {
            std::fs::create_dir_all(made).unwrap();
        }
        Witness::create(&witness.join("bytes"));
        let (say, messages) = channel();
        let now = Instant::now();
        let pods: Vec<_> = (0..if phase.apart() { PODS } else { 0 }).map(|_| Some(Pod::new(programs))).collect();
        let team = programs.team(phase, size).into_iter().enumerate();
        let members = team.map(|(at, kind)| Member {
            kind,
            pod: phase.apart().then_some(at % PODS),
            child: None,
            input: None,
            life: 0,
            ready: false,
            pid_inside: None,
            recycle: None,
            asked_to_end: false,
            last: false,
            killed: false,
            goes_on_at: None,
            starts_at: now,
        });
        Round {
            programs,
            folder: folder.to_owned(),
            witness: witness.to_owned(),
            slots: Witness::open(&witness.join("bytes")),
            phase,
            seed,
            chance: Chance(seed),
            members: members.collect(),
            pods,
            sum: Sum::default(),
            breaks: Breaks::default(),
            messages,
            say,
            open_pipes: 0,
            acknowledged: HashSet::new(),
            granted_at: now,
        }
    }

    pub fn run(mut self, length: Duration) -> Sum {
        let end = Instant::now() + length;
        let mut next_blow = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end && self.sum.faults.is_empty() {
            self.tend();
            if Instant::now() >= next_blow {
                self.strike();
                next_blow = Instant::now() + self.chance.micros(60_000);
            }
            self.listen(Duration::from_millis(2));
            // No member holds, or is stopped, for longer than a tenth of a second.
            if self.granted_at.elapsed() > PATIENCE {
                self.stuck("no member was granted during the round", &[]);
            }
        }
        self.last_grants();
        self.judge();
        self.end_all();
        for fault in &mut self.sum.faults {
            fault.insert_str(0, &format!("{} round with random seed {}: ", self.phase.name(), self.seed));
        }
        self.sum
    }

    /// Starts members that are due, resumes stopped ones, and notices ended ones.
    fn tend(&mut self) {
        let now = Instant::now();
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            if member.goes_on_at.is_some_and(|then| now >= then) {
                member.goes_on_at = None;
                if let Some(child) = &member.child {
                    signal(child, libc::SIGCONT);
                }
            }
            match member.child.as_mut().map(|child| child.try_wait().unwrap()) {
                None if now >= member.starts_at && !member.asked_to_end => self.start(at),
                None | Some(None) => {}
                Some(Some(status)) => self.ended(at, status),
            }
        }
        // Commands whose `tenure` was killed are now our children. The members are waited for by their pids.
        self.reap_orphans();
    }

    fn ended(&mut self, at: usize, status: std::process::ExitStatus) {
        let member = &mut self.members[at];
        if !(member.killed || member.kind.once() || member.asked_to_end) {
            let how = status.signal().map_or(format!("{status}"), |signal| format!("signal {signal}"));
            self.sum.faults.push(format!("{} ended by itself: {how}", member.kind.name()));
        }
        if member.killed {
            member.recycle = member.pid_inside;
        }
        (member.child, member.input, member.goes_on_at, member.pid_inside) = (None, None, None, None);
        (member.ready, member.killed) = (false, false);
        let pause = if member.kind.once() { 2000 } else { 50_000 };
        member.starts_at = Instant::now() + self.chance.micros(pause);
    }

    fn reap_orphans(&self) {
        let known: HashSet<u32> = self.members.iter().filter_map(|member| Some(member.child.as_ref()?.id())).collect();
        reap_orphans(&known);
    }

    fn start(&mut self, at: usize) {
        let seed = self.chance.next().to_string();
        let member = &mut self.members[at];
        let mut command = self.programs.command(member.kind, at, &self.folder, &self.witness, self.phase, &seed);
        let started = match member.pod {
            Some(pod) => {
                let pod = self.pods[pod].get_or_insert_with(|| Pod::new(self.programs));
                pod.start(command, member.recycle.filter(|pid| *pid > 2))
            }
            None => command.spawn(),
        };
        let mut child = started.unwrap();
        member.life += 1;
        member.ready = member.kind.once();
        member.input = child.stdin.take();
        let (life, say) = (member.life, self.say.clone());
        let out = child.stdout.take().unwrap();
        member.child = Some(child);
        self.open_pipes += 1;
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = say.send(Message::Line { member: at, life, line });
            }
            let _ = say.send(Message::End);
        });
    }

    fn listen(&mut self, time: Duration) {
        let mut next = self.messages.recv_timeout(time).ok();
        while let Some(message) = next {
            match message {
                Message::Line { member, life, line } => self.receive(member, life, &line),
                Message::End => self.open_pipes -= 1,
            }
            next = self.messages.try_recv().ok();
        }
    }

    fn receive(&mut self, at: usize, life: u64, text: &str) {
        let member = &mut self.members[at];
        let name = member.kind.name();
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["ready", pid @ ..] => {
                if member.life == life {
                    member.ready = true;
                    member.pid_inside = pid.first().and_then(|pid| pid.parse().ok());
                    let recycled = member.recycle.is_some() && member.recycle == member.pid_inside;
                    self.sum.pids_recycled += u64::from(recycled);
                }
            }
            ["last"] => member.last |= member.life == life,
            ["busy"] => self.sum.busy += 1,
            ["pruned"] => self.sum.pruned += 1,
            ["child-killed"] => self.sum.kills += 1,
            ["shared"] => {
                self.sum.shares += 1;
                self.granted();
            }
            ["breaks"] => self.sum.breaks += 1,
            ["broke"] => {}
            ["kept", fence] => self.breaks.kept(fence.parse().unwrap()),
            ["lost", fence] => self.breaks.lost(fence.parse().unwrap()),
            ["overlap", older, younger] => self.breaks.overlap(older.parse().unwrap(), younger.parse().unwrap()),
            ["grant", kind, fence, pid, count, crashed] => {
                *self.sum.grants.entry(name.to_owned()).or_default() += 1;
                self.sum.takeovers += u64::from(*crashed == "1");
                if *kind == "N" || self.phase.shares_transcript() {
                    let number = |text: &str| text.parse::<u64>().unwrap();
                    self.acknowledged.insert(line(number(fence), number(pid) as u32, number(count)));
                }
                self.granted();
            }
            ["double", pair, ..] => {
                *self.sum.doubles.entry((*pair).to_owned()).or_default() += 1;
                // The pairs in a round with OpenClaw's whole protocol are that protocol's own, unless both are natives.
                if self.phase != Phase::OpenClaw || *pair == "native-native" {
                    self.sum.faults.push(format!("{name}: {text}"));
                }
            }
            _ => self.sum.faults.push(format!("{name}: {text}")),
        }
    }

    fn granted(&mut self) {
        self.sum.longest_gap = self.sum.longest_gap.max(self.granted_at.elapsed());
        self.granted_at = Instant::now();
    }

    /// Kills or stops a member or all members of a pid namespace, or removes the lock file.
    fn strike(&mut self) {
        if self.phase.spares_all() {
            return;
        }
        let blow = self.chance.below(100);
        if self.phase == Phase::OpenClaw && blow < 5 {
            let removed = std::fs::remove_file(self.folder.join("transcript.jsonl.lock"));
            self.sum.removed += u64::from(removed.is_ok());
            return;
        }
        if self.phase.apart() && blow < 3 {
            let pod = self.chance.below(PODS as u64) as usize;
            return self.kill_pod(pod);
        }
        let holder = match self.chance.below(3) {
            0 => None,
            _ => self.holder(),
        };
        let at = holder.unwrap_or_else(|| self.chance.below(self.members.len() as u64) as usize);
        // Members that start slowly are killed less often.
        if self.members[at].kind.foreign() && !self.chance.one_in(3) {
            return;
        }
        let member = &mut self.members[at];
        let Some(child) = member.child.as_mut().filter(|_| member.ready) else { return };
        if blow < 75 {
            if child.try_wait().unwrap().is_some() {
                return;
            }
            if member.kind.once() && blow.is_multiple_of(2) {
                // The command is killed too. Its leader is not reaped, so the group still belongs to this member.
                // SAFETY: no precondition.
                unsafe { libc::killpg(child.id() as i32, libc::SIGKILL) };
            } else {
                child.kill().unwrap();
            }
            member.killed = true;
            self.sum.kills += 1;
            self.sum.kills_of_holders += u64::from(holder.is_some());
        } else {
            signal(child, libc::SIGSTOP);
            member.goes_on_at = Some(Instant::now() + self.chance.micros(80_000));
            self.sum.stops += 1;
        }
    }

    /// Kills all members in a pid namespace with its init.
    fn kill_pod(&mut self, pod: usize) {
        let Some(dies) = self.pods[pod].take() else { return };
        dies.kill();
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            if member.pod != Some(pod) {
                continue;
            }
            if let Some(child) = &mut member.child {
                let status = child.wait().unwrap();
                member.killed = true;
                self.sum.kills += 1;
                self.ended(at, status);
            }
        }
        dies.end();
        self.sum.namespaces_killed += 1;
    }

    /// Returns the member that holds now, according to the witness.
    fn holder(&mut self) -> Option<usize> {
        let slot = self.slots.slot(SLOTS[self.chance.below(2) as usize]);
        let at = slot.split(' ').next()?.parse().ok()?;
        (at < self.members.len()).then_some(at)
    }

    /// Stops the kills: all remaining members must be granted once more, natives first, which remove stale locks.
    fn last_grants(&mut self) {
        let started = Instant::now();
        loop {
            for member in &mut self.members {
                if member.goes_on_at.is_some() {
                    member.goes_on_at = Some(Instant::now());
                }
                member.starts_at = Instant::now();
            }
            self.tend();
            self.listen(Duration::from_millis(2));
            let all = self
                .members
                .iter()
                .all(|member| member.kind.once() || (member.ready && member.goes_on_at.is_none() && !member.killed));
            if all || !self.sum.faults.is_empty() {
                break;
            }
            if started.elapsed() > PATIENCE {
                self.sum.faults.push("not every member started".into());
                return;
            }
        }
        // The operator ends first, so that it disturbs no other member.
        let helps = |kind: Kind| matches!(kind, Kind::Cleaner | Kind::Breaker);
        self.last_of(|kind| kind == Kind::Breaker);
        self.end_the_once();
        self.last_of(|kind| !helps(kind) && !kind.foreign() && !kind.once());
        self.last_of(|kind| kind == Kind::Cleaner);
        self.last_of(Kind::foreign);
        let started = Instant::now();
        while self.open_pipes > 0 && self.sum.faults.is_empty() {
            self.listen(Duration::from_millis(10));
            if started.elapsed() > PATIENCE {
                self.sum.faults.push("a member does not end".into());
            }
        }
    }

    fn last_of(&mut self, which: impl Fn(Kind) -> bool) {
        let mut waits = Vec::new();
        for (at, member) in self.members.iter_mut().enumerate().filter(|(_, member)| which(member.kind)) {
            if let Some(input) = &mut member.input {
                let _ = writeln!(input, "last");
            }
            member.asked_to_end = true;
            waits.push(at);
        }
        let started = Instant::now();
        while !waits.iter().all(|at| self.members[*at].last) && self.sum.faults.is_empty() {
            self.tend();
            self.listen(Duration::from_millis(2));
            if self.nothing_since(started) {
                return self.stuck("was not granted again", &waits);
            }
        }
    }

    /// Returns whether there was no grant for a long time since `started`.
    fn nothing_since(&self, started: Instant) -> bool {
        started.elapsed() > PATIENCE && self.granted_at.elapsed() > PATIENCE
    }

    /// A `run` has one grant for each process: the present processes end, and no more are started.
    fn end_the_once(&mut self) {
        let started = Instant::now();
        for member in self.members.iter_mut().filter(|member| member.kind.once()) {
            member.asked_to_end = true;
        }
        while self.members.iter().any(|member| member.kind.once() && !member.last) && self.sum.faults.is_empty() {
            for member in self.members.iter_mut().filter(|member| member.kind.once()) {
                match member.child.as_mut().map(|child| child.try_wait().unwrap()) {
                    None => member.last = true,
                    Some(Some(status)) => {
                        member.last = true;
                        if !status.success() && !member.killed {
                            self.sum.faults.push(format!("{} ended with {status}", member.kind.name()));
                        }
                    }
                    Some(None) => {}
                }
            }
            self.listen(Duration::from_millis(2));
            if self.nothing_since(started) {
                self.stuck("a `tenure run` waits for a free lock", &[]);
            }
        }
    }

    fn stuck(&mut self, what: &str, waits: &[usize]) {
        let found = tenure::status(self.folder.join("transcript.jsonl"));
        let late: Vec<_> = waits.iter().map(|at| &self.members[*at]).filter(|member| !member.last).collect();
        let late: Vec<_> = late.iter().map(|late| (late.kind.name(), late.child.as_ref().map(Child::id))).collect();
        self.sum.faults.push(format!("{what}: {late:?}: {found:?}; {}", kernel_locks()));
    }

    /// Checks the leftovers of the round. On a fault they stay, for inspection.
    fn judge(&mut self) {
        self.breaks.settle(&mut self.sum);
        if !self.sum.faults.is_empty() {
            return;
        }
        let target = self.folder.join("transcript.jsonl");
        self.sum.faults.extend(verdict::of_lock(&target));
        let text = std::fs::read_to_string(&target).unwrap_or_default();
        let foreign = self.phase.shares_transcript();
        self.sum.faults.extend(verdict::of_transcript(&text, foreign, &self.acknowledged));
    }

    fn end_all(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.reap_orphans();
        for pod in self.pods.drain(..).flatten() {
            pod.end();
        }
    }
}

/// Reaps the children of this thread that have ended, but for the known ones, which others wait for. Returns whether one
/// still runs.
pub fn reap_orphans(known: &HashSet<u32>) -> bool {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let pids = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
    let mut one_runs = false;
    for pid in pids.filter(|pid| !known.contains(pid)) {
        // SAFETY: no status is requested. A child that still runs is left alone.
        one_runs |= unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), libc::WNOHANG) } == 0;
    }
    one_runs
}

/// Returns the holders and waiters of kernel locks, and what each is doing.
fn kernel_locks() -> String {
    let table = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let line = |line: &str| {
        let pid = line.split_whitespace().find(|word| word.parse::<u32>().is_ok())?;
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
        let command = read("cmdline").replace('\0', " ");
        Some(format!("{} [{state} {} {}]", line.trim(), read("wchan"), &command[..command.len().min(60)]))
    };
    table.lines().filter(|line| line.contains("FLOCK")).filter_map(line).collect::<Vec<_>>().join("\n")
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: our own child, not reaped yet: its pid belongs to no other process.
    unsafe { libc::kill(child.id() as i32, signal) };
}
