//! `tenure clean`: removes what dead holders left.

use std::path::PathBuf;

use tenure::{CleanOptions, State};

use crate::exit::{self, Failure};
use crate::json::{self, CleanJson, CleanedJson};
use crate::ls::without_dot;
use crate::table::Table;
use crate::{report, terminal};

/// Remove what dead holders left in a folder, and prune idle anchors
///
/// Only what is proven dead goes, so this is safe beside live traffic. It is never needed: the next acquire takes a dead
/// holder's lock over. A `Cargo.lock` and the like are no locks and stay. So do lock files that name no process, such as the
/// empty ones of flock(1) and git: nothing but their age speaks against them. `--aged` removes those too.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure clean --dry-run
  tenure clean sessions --recursive
  tenure clean sessions --aged --dry-run
  tenure clean --json | jq '[.locks[] | select(.removed)] | length'

Exit codes:
  0       done (a missing folder has no locks)
  64      the call's words are off
  73      it is no folder
  74, 77  input or output failed; permission denied: also where one lock alone could not be removed")]
pub(crate) struct Args {
    /// The folder
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Also remove lock files that name no process, once they are old and nobody has them open
    ///
    /// Old is 5 seconds for what begins as OpenClaw's JSON, and 30 minutes for an empty file. Git and scripts have such
    /// files without keeping them open, so look with --dry-run first.
    #[arg(long)]
    aged: bool,

    /// Look below it too; links are not followed
    #[arg(short, long)]
    recursive: bool,

    /// Below it, look on other file systems too
    #[arg(long, requires = "recursive")]
    cross_file_systems: bool,

    /// Print one JSON object: {"locks": [..], "pruned": N}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let options = CleanOptions::default()
        .recursive(args.recursive)
        .cross_file_systems(args.cross_file_systems)
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
        }
        let verb = if args.dry_run { "would remove" } else { "removed" };
        let verb2 = if args.dry_run { "would prune" } else { "pruned" };
        text += &format!("{verb} {}, {verb2} {}\n", count(removed, "lock"), count(cleaned.pruned, "idle anchor"));
        if aged > 0 {
            text += &format!("left {}: only age speaks against it, --aged removes it\n", count(aged, "lock"));
        }
        report::print(&text)?;
    }
    let mut code = exit::OK;
    for error in cleaned.locks.iter().filter_map(|lock| lock.error.as_ref()) {
        report::say(&error.to_string());
        code = exit::of(error);
    }
    Ok(code)
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
