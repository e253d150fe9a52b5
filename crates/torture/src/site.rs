//! The resource that the lock protects: a transcript, to which each holder appends in two writes, so that a holder that
//! dies between them leaves a torn line. The next holder removes it, and must have got a crash report (`previous()`).

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chance::Chance;
use crate::phase::Phase;
use crate::witness::{FOREIGN, HOLDERS, SEEN_NATIVES, SLOTS, Witness};

/// The environment that every member gets.
pub const MEMBER: &str = "TORTURE_MEMBER";
pub const WITNESS: &str = "TORTURE_WITNESS";

/// The files on which a member works.
pub struct Site {
    pub target: PathBuf,
    pub witness: Witness,
    mark: PathBuf,
    pub phase: Phase,
    /// The member's number in the team.
    pub member: u64,
}

/// The circumstances of a grant.
#[derive(Clone, Copy)]
pub struct Entry {
    /// 0 without a fence: for flock(1).
    pub fence: u64,
    /// The answer of `previous()`, if the member can ask.
    pub crashed: Option<bool>,
    pub count: u64,
    /// Whether foreign programs can see it.
    pub visible: bool,
}

/// Whether a thread of this process is inside: record locks do not distinguish threads.
static INSIDE: AtomicBool = AtomicBool::new(false);

/// Prints a line by one write, so that a kill never leaves half of it in the pipe. The driver may have ended.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

impl Site {
    pub fn open(folder: &Path, phase: Phase) -> Site {
        let from = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the driver"));
        let witness = PathBuf::from(from(WITNESS));
        Site {
            target: folder.join("transcript.jsonl"),
            witness: Witness::open(&witness.join("bytes")),
            mark: witness.join("mark"),
            phase,
            member: from(MEMBER).parse().unwrap(),
        }
    }

    /// Marks this forked child's threads as outside.
    pub fn forked(&self) {
        INSIDE.store(false, Ordering::SeqCst);
    }

    /// Does the work of an exclusive holder.
    pub fn work(&self, chance: &mut Chance, entry: Entry) {
        let Entry { fence, visible, .. } = entry;
        let me = format!("pid {} fence {fence}", std::process::id());
        let alone = !INSIDE.swap(true, Ordering::SeqCst);
        if !alone {
            say(&format!("double native-native {me}: two of its threads hold"));
        }
        let mine = self.witness.take(HOLDERS);
        if mine {
            self.witness.write_slot(SLOTS[0], &format!("{} {me}", self.member));
        } else {
            let other = self.witness.slot(SLOTS[0]);
            // flock(1) has no fence.
            let pair = if fence == 0 || other.ends_with("fence 0") { "native-foreign" } else { "native-native" };
            say(&format!("double {pair} {me} entered while {other} held"));
        }
        if visible {
            self.witness.take(SEEN_NATIVES);
            if self.witness.taken(FOREIGN) {
                let other = self.witness.slot(SLOTS[1]);
                say(&format!("double native-foreign {me} entered while {other} held"));
            }
            if let Ok(text) = std::fs::read_to_string(&self.mark)
                && lives(&text)
            {
                say(&format!("double native-foreign {me} entered while node {text} held"));
            }
        }
        self.append(chance, entry);
        linger(chance);
        self.say_granted(entry);
        if visible {
            self.witness.leave(SEEN_NATIVES);
        }
        if mine {
            self.witness.leave(HOLDERS);
        }
        if alone {
            INSIDE.store(false, Ordering::SeqCst);
        }
    }

    fn say_granted(&self, entry: Entry) {
        let warned = u8::from(entry.crashed == Some(true));
        let kind = if entry.fence == 0 { "F" } else { "N" };
        say(&format!("grant {kind} {} {} {} {warned}", entry.fence, std::process::id(), entry.count));
    }

    /// Does the work of a sharer.
    pub fn look(&self, chance: &mut Chance) {
        if !self.witness.share(HOLDERS) {
            let other = self.witness.slot(SLOTS[0]);
            say(&format!("double native-native pid {} shares while {other} holds", std::process::id()));
        }
        linger(chance);
        say("shared");
        self.witness.leave(HOLDERS);
    }

    /// Does the work of a holder that may be broken meanwhile: another holder may then be inside, and only writes with
    /// its fence count. Prints the overlapping holders. Returns `false` if the transcript refused the write.
    pub fn work_beside(&self, chance: &mut Chance, fence: u64, count: u64) -> bool {
        let me = format!("pid {} fence {fence}", std::process::id());
        self.witness.write_slot(SLOTS[0], &format!("{} {me}", self.member));
        for other in self.witness.enter_beside(self.member, fence) {
            say(&format!("overlap {} {}", other.min(fence), other.max(fence)));
        }
        linger(chance);
        let entry = Entry { fence, crashed: None, count, visible: false };
        let written = self.witness.fenced(fence, || self.append(chance, entry));
        self.witness.leave_beside(self.member);
        written
    }

    fn append(&self, chance: &mut Chance, entry: Entry) {
        let Entry { fence, crashed, count, .. } = entry;
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.target).unwrap();
        let length = file.metadata().unwrap().len();
        let mut end = vec![0; length.min(256) as usize];
        file.read_exact_at(&mut end, length - length.min(256)).unwrap();
        if end.last().is_some_and(|byte| *byte != b'\n') {
            if self.phase.reports_crashes() && crashed == Some(false) {
                say(&format!("fault fence {fence} found a torn line, but without a crash report"));
            }
            let kept = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            file.set_len(length - (end.len() - kept) as u64).unwrap();
        }
        let line = line(fence, std::process::id(), count);
        // The death of a command is no crash of the holder, so a command leaves no torn line.
        let cut =
            if crashed.is_some() || self.phase == Phase::Broken { chance.below(line.len() as u64) as usize } else { 0 };
        let (first, second) = line.as_bytes().split_at(cut);
        if !first.is_empty() {
            file.write_all(first).unwrap();
            if chance.one_in(3) {
                std::thread::sleep(chance.micros(200));
            }
        }
        file.write_all(second).unwrap();
    }
}

/// Returns a line of the transcript. A foreign one has no fence.
pub fn line(fence: u64, pid: u32, count: u64) -> String {
    if fence == 0 { format!("F {pid} {count} .\n") } else { format!("N {fence} {pid} {count} .\n") }
}

fn linger(chance: &mut Chance) {
    match chance.below(100) {
        0..60 => {}
        60..90 => std::thread::sleep(chance.micros(500)),
        90..98 => std::thread::sleep(chance.micros(3000)),
        _ => std::thread::sleep(chance.micros(30_000)),
    }
}

/// Returns whether the pid is of a live process: of node, which is never in another pid namespace. An exiting process
/// (`PF_EXITING` of the flags, field 9) has released its kernel locks before it is a zombie.
fn lives(pid: &str) -> bool {
    const EXITING: u32 = 4;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let flags = fields.get(6).and_then(|flags| flags.parse::<u32>().ok());
    !matches!(fields.first(), None | Some(&("Z" | "X"))) && flags.is_some_and(|flags| flags & EXITING == 0)
}
