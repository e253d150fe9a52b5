//! Words for people. Text that others wrote is escaped before it gets here or on the way.

use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use tenure::process::Identity;
use tenure::{Holder, State, Status, escape};

use crate::exit::{self, Failure};
use crate::json;
use crate::sys;

/// One line on standard error. That it may be closed is nobody's failure.
pub(crate) fn say(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "tenure: {line}");
}

/// Text on standard output, colours only where it is a terminal. A pipe that closed is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    // At once: a stream that takes colours out writes each line, and each part of it, by itself.
    let coloured = !has_colours() && text.contains('\x1b');
    let plain = coloured.then(|| anstream::adapter::strip_str(text).to_string());
    let text = plain.as_deref().unwrap_or(text);
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(exit::IO, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The name of a target, for a sentence.
pub(crate) fn path(path: &Path) -> String {
    escape::path(path)
}

/// `pid 4242 "node gateway.js" (run 8f2c)`; of a holder that runs a command, with both: `pid 4242, command pid 4243 "node
/// gateway.js" (run 8f2c)`.
pub(crate) fn who(holder: &Holder) -> String {
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

/// `waiting for sessions/main.jsonl: held 3 min by pid 4242 "node gateway.js" (run 8f2c), alive; 2 wait before you`.
pub(crate) fn waiting(target: &Path, found: &Status) -> String {
    let mut line = format!("waiting for {}: {}", path(target), held(found));
    if let Some(pid) = above_us(found) {
        line += &format!("; pid {pid} is an ancestor of this process: if it waits for this one, neither ends");
    }
    match before_us(found) {
        0 => line,
        1 => line + "; 1 waits before you",
        before => line + &format!("; {before} wait before you"),
    }
}

/// A holder that this process descends from. Whether it waits for this process cannot be told: where that is proven, the
/// library does not wait.
fn above_us(found: &Status) -> Option<i64> {
    // A server's holder may be a process of another machine.
    let identity = found.holder.as_ref().and_then(|holder| holder.identity.as_ref());
    let holder = identity.filter(|identity| identity.verify().is_alive()).map(|identity| identity.pid);
    let own = std::process::id().cast_signed();
    let is_above = |pid: &i64| u32::try_from(*pid).is_ok_and(|pid| sys::descends_from(own, pid));
    holder.into_iter().chain(found.open_by.iter().copied()).find(is_above)
}

/// How many processes wait for the lock before this one.
fn before_us(found: &Status) -> usize {
    let own = i64::from(std::process::id());
    match found.queue.iter().position(|pid| *pid == own) {
        Some(position) => position,
        None => found.waiters.unwrap_or(0).saturating_sub(1),
    }
}

/// `held 3 min by pid 4242 "node gateway.js" (run 8f2c), alive`.
pub(crate) fn held(found: &Status) -> String {
    match &found.holder {
        Some(holder) => {
            let mut line = "held".to_owned();
            if let Some(age) = holder.age() {
                line += &format!(" {}", escape::duration(age));
            }
            line += &format!(" by {}, {}", who(holder), holder.liveness.name());
            // Why it cannot be told is what the reader has to find out; the rest would be noise.
            if holder.liveness.is_unknown() {
                line += &format!(" ({})", escape::text(holder.liveness.why()));
            }
            line
        }
        None if found.open_by.is_empty() => "held by others".to_owned(),
        None => format!("held by {}", pids(&found.open_by)),
    }
}

/// `pid 7`, or `pids 7, 8`.
pub(crate) fn pids(pids: &[i64]) -> String {
    let list: Vec<String> = pids.iter().map(i64::to_string).collect();
    format!("{} {}", if pids.len() == 1 { "pid" } else { "pids" }, list.join(", "))
}

/// A lock that a dead holder left was taken over.
pub(crate) fn taken_over(target: &Path, holder: &Holder) -> String {
    let mut line = format!("took over {} from {}, which {}", path(target), who(holder), end_of(holder));
    if let Some(since) = holder.acquired_at.or(holder.created_at).and_then(json::date) {
        line += &format!(" (since {since})");
    }
    line + ": what it wrote last may be half-written"
}

/// How a tenure ended that was not released: `died while it held`. A process may run on without its lock: one that closed
/// what it inherited, as ssh does, under a `tenure` that was killed.
pub(crate) fn end_of(holder: &Holder) -> String {
    if holder.identity.as_ref().is_some_and(runs) {
        return "still runs, but no longer holds".to_owned();
    }
    match still_running(holder) {
        Some(pid) => format!("died while it held; its command, pid {pid}, still runs, but no longer holds"),
        None => "died while it held".to_owned(),
    }
}

/// The pid of a process of a dead tenure that is proven to run: the holder's, or its command's.
pub(crate) fn still_running(holder: &Holder) -> Option<i64> {
    let processes = [holder.identity.as_ref(), holder.command_identity.as_ref()];
    processes.into_iter().flatten().find(|identity| runs(identity)).map(|identity| identity.pid)
}

/// Is it proven to run? Another process with its pid is none.
fn runs(identity: &Identity) -> bool {
    let same = identity.start_time.is_some() && tenure::process::start_time(identity.pid) == identity.start_time;
    same && identity.verify().is_alive()
}

/// What happened, without the error's advice to whoever holds by the library: here it is for us to act.
pub(crate) fn lost(error: &tenure::Error) -> String {
    let text = error.to_string();
    let advice = error.hint().map(|hint| format!("; {hint}"));
    advice.and_then(|advice| text.strip_suffix(&advice).map(ToOwned::to_owned)).unwrap_or(text)
}

/// The date in the record of a lock that is held could not be made new.
pub(crate) fn not_refreshed(target: &Path, error: &tenure::Error) -> String {
    format!("programs that judge {} by its date may soon find it too old: {error}", path(target))
}

/// The colour of a state.
fn style(state: State) -> Style {
    let colour = match state {
        State::Free => AnsiColor::Green,
        State::Held => AnsiColor::Yellow,
        State::Stale => AnsiColor::Magenta,
        State::Unknown => AnsiColor::Red,
    };
    colour.on_default()
}

/// Does standard output take colours?
fn has_colours() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never)
}

/// `text`, for standard output: in the colour of `state` where that is a terminal.
pub(crate) fn coloured(state: State, text: &str) -> String {
    if !has_colours() {
        return text.to_owned();
    }
    let style = style(state);
    format!("{style}{text}{style:#}")
}

/// `2026-03-02T10:00:00.000Z (3 min ago)`.
pub(crate) fn since(time: SystemTime) -> Option<String> {
    let age = SystemTime::now().duration_since(time).unwrap_or(Duration::ZERO);
    json::date(time).map(|date| format!("{date} ({} ago)", escape::duration(age)))
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
