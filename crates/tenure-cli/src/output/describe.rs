//! Describes locks and their holders in words.
//!
//! Text that other programs wrote is escaped here, so that it cannot control the terminal.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tenure::process::Identity;
use tenure::{Holder, Status, escape};

use crate::sys;

/// Returns the name of a target for a sentence.
pub(crate) fn path(path: &Path) -> String {
    escape::path(path)
}

/// Describes a holder: `pid 4242 "node gateway.js" (run 8f2c)`, or with the command that it runs: `pid 4242, command pid
/// 4243 "node gateway.js" (run 8f2c)`.
pub(crate) fn holder(holder: &Holder) -> String {
    let mut words = match holder.pid() {
        Some(pid) => format!("pid {pid}"),
        None => "an unknown process".to_owned(),
    };
    if let Some(pid) = holder.command_pid() {
        words += &format!(", command pid {pid}");
    }
    if let Some(command) = &holder.command {
        words += &format!(" \"{}\"", escape::text(command));
    }
    if let Some(label) = &holder.label {
        words += &format!(" ({})", escape::text(label));
    }
    words
}

/// Describes a wait: `waiting for sessions/main.jsonl: held 3 min by pid 4242 "node gateway.js" (run 8f2c), alive; 2 wait
/// before you`.
pub(crate) fn waiting(target: &Path, found: &Status) -> String {
    let mut line = format!("waiting for {}: {}", path(target), held(found));
    if let Some(pid) = holding_ancestor(found) {
        line += &format!("; pid {pid} is an ancestor of this process: if it waits for this one, neither ends");
    }
    match waiters_before_us(found) {
        0 => line,
        1 => line + "; 1 waits before you",
        before => line + &format!("; {before} wait before you"),
    }
}

/// Returns the pid of a holder that this process descends from.
///
/// The holder may or may not wait for this process. Where the library can prove that it does, it returns an error instead
/// of waiting.
fn holding_ancestor(found: &Status) -> Option<i64> {
    // A server's holder may be a process of another machine, which the check of its identity rules out.
    let identity = found.holder.as_ref().and_then(|holder| holder.identity.as_ref());
    let holder = identity.filter(|identity| identity.verify().is_alive()).map(|identity| identity.pid);
    let own = std::process::id();
    let is_ancestor =
        |pid: &i64| u32::try_from(*pid).is_ok_and(|pid| pid != own && sys::descends_from(own.cast_signed(), pid));
    holder.into_iter().chain(found.open_by.iter().copied()).find(is_ancestor)
}

/// Returns how many processes wait for the lock before this one.
fn waiters_before_us(found: &Status) -> usize {
    let own = i64::from(std::process::id());
    match found.queue.iter().position(|pid| *pid == own) {
        Some(position) => position,
        None => found.waiters.unwrap_or(0).saturating_sub(1),
    }
}

/// Describes a held lock: `held 3 min by pid 4242 "node gateway.js" (run 8f2c), alive`.
pub(crate) fn held(found: &Status) -> String {
    match &found.holder {
        Some(owner) => {
            let mut line = "held".to_owned();
            if let Some(age) = owner.age() {
                line += &format!(" {}", escape::duration(age));
            }
            line += &format!(" by {}", holder(owner));
            // "An unknown process" says it already.
            if owner.pid().is_some() || !owner.liveness.is_unknown() {
                line += &format!(", {}", owner.liveness.name());
            }
            // Only the reason for "unknown" helps the reader.
            if owner.liveness.is_unknown() {
                line += &format!(" ({})", escape::text(owner.liveness.why()));
            }
            line
        }
        None if found.open_by.is_empty() => "held by others".to_owned(),
        None => format!("held by {}", pids(&found.open_by)),
    }
}

/// Lists pids: `pid 7`, or `pids 7, 8`.
pub(crate) fn pids(pids: &[i64]) -> String {
    let list: Vec<String> = pids.iter().map(i64::to_string).collect();
    format!("{} {}", if pids.len() == 1 { "pid" } else { "pids" }, list.join(", "))
}

/// Describes the takeover of a dead holder's lock.
pub(crate) fn takeover(target: &Path, dead: &Holder) -> String {
    let mut line = format!("took over {} from {}, which {}", path(target), holder(dead), end_of(dead));
    if let Some(since) = dead.acquired_at.or(dead.created_at).and_then(escape::date) {
        line += &format!(" (since {since})");
    }
    line + ": its last write may be half-written"
}

/// Describes how a holder ended that did not release: `died while it held the lock`.
///
/// A process may run on without its lock: for example ssh, which closed what it inherited from a `tenure` that was killed.
pub(crate) fn end_of(holder: &Holder) -> String {
    if holder.identity.as_ref().is_some_and(runs) {
        return "still runs, but no longer holds the lock".to_owned();
    }
    match running_process(holder) {
        Some(pid) => {
            format!("died while it held the lock; its command, pid {pid}, still runs, but no longer holds the lock")
        }
        None => "died while it held the lock".to_owned(),
    }
}

/// Returns the pid of a dead holder's process that is proven to run: its own, or its command's.
pub(crate) fn running_process(holder: &Holder) -> Option<i64> {
    let processes = [holder.identity.as_ref(), holder.command_identity.as_ref()];
    processes.into_iter().flatten().find(|identity| runs(identity)).map(|identity| identity.pid)
}

/// Returns whether the process is proven to run, and not another process with its pid.
fn runs(identity: &Identity) -> bool {
    let same = identity.start_time.is_some() && tenure::process::start_time(identity.pid) == identity.start_time;
    same && identity.verify().is_alive()
}

/// Describes an error, without its advice to users of the library, on which the command acts itself.
pub(crate) fn without_hint(error: &tenure::Error) -> String {
    let text = error.to_string();
    let advice = error.hint().map(|hint| format!("; {hint}"));
    advice.and_then(|advice| text.strip_suffix(&advice).map(ToOwned::to_owned)).unwrap_or(text)
}

/// Describes a failed update of the record's date.
pub(crate) fn refresh_failure(target: &Path, error: &tenure::Error) -> String {
    format!("programs that judge {} by its date may soon take it for stale: {error}", path(target))
}

/// Describes a date: `2026-03-02T10:00:00.000Z (3 min ago)`.
pub(crate) fn since(time: SystemTime) -> Option<String> {
    let age = SystemTime::now().duration_since(time).unwrap_or(Duration::ZERO);
    escape::date(time).map(|date| format!("{date} ({} ago)", escape::duration(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_in_words() {
        assert_eq!(pids(&[7]), "pid 7");
        assert_eq!(pids(&[7, 8]), "pids 7, 8");
    }
}
