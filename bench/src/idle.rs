//! Long waits: how often they wake the machine.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::candidate;
use crate::handoff;
use crate::row::Row;
use crate::setup::Setup;

pub(crate) const TOPIC: &str = "idle waiters";

pub(crate) fn measure(setup: &Setup) -> crate::Result<Vec<Row>> {
    let (waiters, time) = (setup.pick(16, 3), setup.pick(Duration::from_secs(10), Duration::from_secs(2)));
    let mut rows = Vec::new();
    for name in candidate::STYLES {
        let folder = tempfile::tempdir_in(setup.folder())?;
        let target = folder.path().join("target");
        let mut holder = candidate::open(name, &target)?;
        holder.acquire()?;
        let mut children = Vec::new();
        for _ in 0..waiters {
            let mut command = Command::new(std::env::current_exe()?);
            command.args([handoff::ROLE, name]).arg(&target).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = Waiter(command.spawn()?);
            child.0.stdin.as_mut().ok_or("no pipe")?.write_all(b"a")?;
            children.push(child);
        }
        std::thread::sleep(Duration::from_secs(1)); // Threads start, and some end.
        let count = || children.iter().map(|child| wake_ups(child.0.id())).sum::<crate::Result<u64>>();
        let before = count()?;
        std::thread::sleep(time);
        let each = (count()?.saturating_sub(before)) as f64 / waiters as f64 / time.as_secs_f64();
        rows.push(Row::new(TOPIC, format!("{waiters} processes"), name, &[("wakeUpsPerSecondEach", each)]));
        // Not one by one, because the order of their grants is unknown: they are killed while they wait.
        drop(children);
        holder.release()?;
    }
    Ok(rows)
}

struct Waiter(Child);

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns how often the process's threads were woken: the number of times that any has run (`proc_pid_status(5)`).
fn wake_ups(pid: u32) -> crate::Result<u64> {
    let mut all = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        all += line.ok_or("no count")?.trim().parse::<u64>()?;
    }
    Ok(all)
}
