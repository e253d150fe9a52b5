//! `tenure metrics`: prints the locks of a folder as metrics, for a collector.

mod open_metrics;
mod survey;

use std::path::PathBuf;

use self::survey::Survey;
use crate::options::WalkOptions;
use crate::output::{Failure, describe, exit, stream};
use crate::sys;

/// Print the locks in a folder as metrics, in the OpenMetrics text format
///
/// The output is for the textfile collector of Prometheus' node_exporter, and for any other reader of that format. `metrics`
/// never creates a file beside the locks, waits, or disturbs a holder. What is not known is left out, and not 0.
#[derive(clap::Args)]
#[command(after_long_help = "\
Metrics, each with the label `folder`:
  tenure_locks{state}                  locks that are held, stale (their holder is dead), unknown
  tenure_shared_locks                  held locks that are shared
  tenure_slots                         held locks that are slots (`run --slots`)
  tenure_waiters                       processes in the queues of these locks
  tenure_longest_hold_seconds          the age of the oldest tenure
  tenure_past_tenures{ended}           tenures in the locks' histories, by how they ended:
                                       `released`, `crashed` and so on, as in `tenure history`
  tenure_past_waits{ended}             failed waits in them: `busy`, `deadlock`, `skipped`
  tenure_longest_past_wait_seconds     the longest wait in them
  tenure_last_crash_timestamp_seconds  when the last crash in them was found

Histories (`run --history N`) are the only source of what is over. They keep the last N tenures of a
lock, so these metrics are no counters: they fall when old lines are dropped. Without a history they
are left out. For a count of every crash, read `tenure events --json`. How long a process has been
waiting is not recorded anywhere, so there is no metric of present waits.

Examples:
  for node_exporter, every minute by cron:
    tenure metrics /srv/jobs --recursive --output /var/lib/node_exporter/textfile/tenure.prom
  an alert on jobs that died (PromQL):
    time() - tenure_last_crash_timestamp_seconds < 3600

Exit codes:
  0       success (a missing folder has no locks)
  64      usage error
  69      no server answers
  73      not a folder; the output cannot be created
  74, 77  input or output failed; permission denied")]
pub(crate) struct Args {
    /// The folder, or a server: etcd://HOST/NAME, postgres://HOST/DATABASE?lock=NAME
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    #[command(flatten)]
    walk: WalkOptions,

    /// Write the metrics to this file, in one step: a reader never finds half of them
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let survey = Survey::of(&args.dir, args.walk)?;
    let text = open_metrics::render(&args.dir.to_string_lossy(), &survey);
    match &args.output {
        None => stream::print(&text)?,
        Some(file) => sys::replace_file(file, text.as_bytes()).map_err(|error| {
            let name = describe::path(file);
            match error.kind() {
                std::io::ErrorKind::NotFound => Failure::new(
                    exit::CANNOT_CREATE,
                    format!("{name}: cannot be created: name a file in a folder that exists"),
                ),
                std::io::ErrorKind::IsADirectory | std::io::ErrorKind::InvalidInput => {
                    Failure::new(exit::CANNOT_CREATE, format!("{name}: cannot be replaced: it is a folder"))
                }
                std::io::ErrorKind::PermissionDenied => Failure::new(
                    exit::PERMISSION,
                    format!("{name}: cannot be created: {error}; name a file in a folder where this user may write"),
                ),
                _ => Failure::io(&name, &error),
            }
        })?,
    }
    Ok(exit::OK)
}
