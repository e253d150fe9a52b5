//! `tenure clean`: removes stale locks and idle anchors.

use std::path::PathBuf;

use tenure::{CleanOptions, State};

use super::ls::without_dot;
use crate::options::WalkOptions;
use crate::output::json::{self, CleanJson, CleanedJson};
use crate::output::table::Table;
use crate::output::{Failure, exit, stream, terminal};

/// Remove stale locks in a folder, and prune idle anchors
///
/// A lock is removed only if its holder is proven dead, so `clean` is safe while other processes use the folder. It is never
/// required, because the next acquire takes over a dead holder's lock. Files that are no locks, such as `Cargo.lock`, are
/// kept. Lock files that name no process, such as the empty ones of flock(1) and git, are kept too, because only their age
/// suggests that they are stale; --aged removes them.
///
/// An anchor is the permanent file of a lock in `.tenure`. It is idle if no process has had it open for a day, and it keeps no
/// crash report and no history.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure clean --dry-run                    what would be removed from the current folder
  tenure clean sessions --recursive         in `sessions` and below
  tenure clean sessions --aged --dry-run    including lock files that name no process
  tenure clean --json | jq '[.locks[] | select(.removed)] | length'
                                            the number of removed locks

Exit codes:
  0       success (a missing folder has no locks)
  64      usage error
  73      not a folder
  74, 77  input or output failed; permission denied; also if a single lock could not be removed")]
pub(crate) struct Args {
    /// The folder
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    /// Report what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Also remove lock files that name no process, if they are old and no process has them open
    ///
    /// A file that begins as OpenClaw's JSON is old after 5 seconds, an empty file after 30 minutes. Git and scripts create
    /// such files without keeping them open, so check with --dry-run first.
    #[arg(long)]
    aged: bool,

    #[command(flatten)]
    walk: WalkOptions,

    /// Print one JSON object: {"locks": [..], "pruned": N}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let options = CleanOptions::default()
        .recursive(args.walk.recursive)
        .cross_file_systems(args.walk.cross_file_systems)
        .dry_run(args.dry_run)
        .aged(args.aged);
    let mut cleaned = tenure::clean(&args.dir, &options)?;
    for lock in &mut cleaned.locks {
        without_dot(&args.dir, &mut lock.found);
    }
    if args.json {
        let locks = cleaned.locks.iter().map(CleanedJson::from).collect();
        json::print(&CleanJson { locks, pruned: cleaned.pruned })?;
    } else {
        let mut text = String::new();
        let mut removed = 0;
        let aged = cleaned.locks.iter().filter(|lock| lock.only_aged).count();
        if !cleaned.locks.is_empty() {
            let mut table = Table::new(&["REMOVED"]);
            for lock in &cleaned.locks {
                let would = args.dry_run && lock.found.state == State::Stale && !lock.only_aged;
                removed += usize::from(lock.removed || would);
                let word = if would {
                    "would be"
                } else if lock.removed {
                    "yes"
                } else {
                    "no"
                };
                table.add(&lock.found, &[word.to_owned()]);
            }
            text = table.render(terminal::output_width());
            // See below.
            std::mem::forget(table);
        }
        let remove = if args.dry_run { "would remove" } else { "removed" };
        let prune = if args.dry_run { "would prune" } else { "pruned" };
        text += &format!("{remove} {}, {prune} {}\n", count(removed, "lock"), count(cleaned.pruned, "idle anchor"));
        if aged > 0 {
            text +=
                &format!("kept {}: only the age suggests that it is stale; --aged removes it\n", count(aged, "lock"));
        }
        stream::print(&text)?;
    }
    let mut code = exit::OK;
    for error in cleaned.locks.iter().filter_map(|lock| lock.error.as_ref()) {
        stream::message(&error.to_string());
        code = exit::of_error(error);
    }
    // The process ends next. Freeing each text of ten thousand locks takes longer than printing them.
    std::mem::forget(cleaned);
    Ok(code)
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
