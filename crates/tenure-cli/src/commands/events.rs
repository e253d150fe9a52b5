//! `tenure events`: prints what happens to the locks in a folder, as it happens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tenure::{Holder, Status, escape};

use super::ls::without_dot;
use crate::options::WalkOptions;
use crate::output::json::{self, LockJson};
use crate::output::stream::{self, Reader};
use crate::output::{Failure, describe, exit};
use crate::sys::WakeUps;
use crate::watching::{Event, EventKind, Observer};

/// Print what happens to the locks in a folder, as it happens
///
/// First each lock that is held or stale is printed as it is (`state`), then `watching`, and from then on one line for
/// each event. It ends when its reader closes the pipe, and at Ctrl-C. `events` never creates a file, or disturbs a holder,
/// and sleeps while nothing happens: the file system reports changes (inotify).
#[derive(clap::Args)]
#[command(after_long_help = "\
Events:
  state           a lock that is held or stale at the beginning
  watching        the beginning is complete; also when a folder that was missing appears
  held            a tenure began
  released        a tenure ended by a release
  crashed         the holder died while it held; a `held` with the new holder follows a takeover
  broken          an operator broke the lock (`tenure break --force`)
  lost            a live holder's lock file, or its anchor, was removed
  ended           a tenure ended, and how is not known
  removed         a dead holder's lock is free: `tenure clean`, or a tenure that was not seen
  waiting         a process waits for the lock
  wait-ended      a process waits no more: it was granted the lock, or gave up
  missed          tenures of a lock that is free now, none of which was seen
  overflow        the system dropped events: all locks were looked at again
  folder-removed  the folder is gone; its return is waited for

What is not seen:
  After an event the lock is looked at, which takes about a millisecond. Of tenures that began and
  ended in between only the number is known: `missed`, by the lock files that came and went. Locks
  without a lock file (--flock) are not counted, and threads of one process that pass a lock to each
  other are not. A crash, a takeover and the release of the new holder between two looks appear as
  one release. A waiter changes no file, so it is seen within a second, and a shorter wait may not.

Examples:
  what happens to the locks below this folder:
    tenure events --recursive
  send a message for each crash:
    tenure events --json jobs | jq --unbuffered -r 'select(.event == \"crashed\").lock.target' |
      while read -r target; do ./alert.sh \"$target\"; done
  wait for the next holder of any lock here:
    tenure events --json | jq -n 'first(inputs | select(.event == \"held\"))'

Exit codes:
  0         the reader has closed the pipe
  64        usage error
  69        the system has no such events, or not enough of them; or DIR is on a server
  73        not a folder
  74, 77    input or output failed; permission denied
  130, 143  Ctrl-C, SIGTERM")]
pub(crate) struct Args {
    /// The folder. It need not exist yet
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    #[command(flatten)]
    walk: WalkOptions,

    /// Print each event as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let (mut observer, mut events) = Observer::begin("events", &args.dir, args.walk)?;
    let wake_ups = WakeUps { output_closed: true, ..WakeUps::default() };
    loop {
        let mut text = String::new();
        for mut event in events {
            if let Some(lock) = &mut event.lock {
                without_dot(&args.dir, lock);
            }
            text += &if args.json { json::line(&EventJson::from(&event))? } else { line(&args.dir, &event) };
        }
        if !text.is_empty() && stream::print_to_reader(&text)? == Reader::Gone {
            return Ok(exit::OK);
        }
        let woken;
        (events, woken) = observer.wait(wake_ups, Duration::MAX)?;
        if woken.output_closed {
            return Ok(exit::OK);
        }
    }
}

/// An event: the event's own names, and then those of the lock.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventJson<'a> {
    event: &'static str,
    at: Option<String>,
    pid: Option<i64>,
    granted: Option<bool>,
    waited_ms: Option<u64>,
    takeover: bool,
    missed: u64,
    lock: Option<LockJson<'a>>,
}

impl<'a> From<&'a Event> for EventJson<'a> {
    fn from(event: &'a Event) -> EventJson<'a> {
        EventJson {
            event: event.kind.as_str(),
            at: escape::date(event.at),
            pid: event.pid,
            granted: event.granted,
            waited_ms: event.waited.map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
            takeover: event.takeover,
            missed: event.missed,
            lock: event.lock.as_ref().map(LockJson::from),
        }
    }
}

/// Describes an event in one line: the date, the event, the target, and then what else is known.
fn line(dir: &Path, event: &Event) -> String {
    let at = escape::date(event.at).unwrap_or_default();
    let what = match &event.lock {
        Some(lock) => {
            let notes = notes(event, lock);
            let target = describe::path(&lock.target);
            if notes.is_empty() { target } else { format!("{target}  {}", notes.join("; ")) }
        }
        None => describe::path(dir),
    };
    format!("{at}  {:<14}  {what}\n", event.kind.as_str())
}

/// Describes what is known of an event beside its kind and its lock.
fn notes(event: &Event, lock: &Status) -> Vec<String> {
    let mut notes = Vec::new();
    let holder = lock.holder.as_ref();
    match (event.kind, event.pid) {
        (EventKind::Waiting, Some(pid)) => {
            notes.push(format!("pid {pid}"));
            notes.extend(holder.map(|holder| format!("held by {}", describe::holder(holder))));
        }
        (EventKind::WaitEnded, Some(pid)) => {
            let end = match event.granted {
                Some(true) => "was granted the lock",
                Some(false) => "gave up",
                None => "waits no more",
            };
            let waited = event.waited.map(|waited| format!(" after {}", escape::duration(waited))).unwrap_or_default();
            notes.push(format!("pid {pid} {end}{waited}"));
        }
        (_, Some(pid)) => notes.push(format!("shared by pid {pid}")),
        (EventKind::State, None) => notes.push(match holder {
            Some(holder) => format!("{}: {}", lock.state.as_str(), describe::holder(holder)),
            None => describe::held(lock),
        }),
        (_, None) => notes.extend(holder.map(describe::holder)),
    }
    let ends = [EventKind::Released, EventKind::Broken, EventKind::Lost, EventKind::Ended];
    if let Some(age) = holder.filter(|_| ends.contains(&event.kind) && event.pid.is_none()).and_then(Holder::age) {
        notes.push(format!("held {}", escape::duration(age)));
    }
    if event.takeover {
        notes.push("took the lock over".to_owned());
    }
    if event.missed > 0 {
        let tenures = if event.missed == 1 { "tenure" } else { "tenures" };
        let before = if event.kind == EventKind::Missed { "" } else { " before it" };
        notes.push(format!("{} {tenures}{before} not seen", event.missed));
    }
    notes
}
