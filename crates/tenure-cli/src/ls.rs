//! `tenure ls`: every lock in a folder.

use std::path::{Path, PathBuf};

use tenure::{ListOptions, Status};

use crate::exit::{self, Failure};
use crate::json::{self, ListJson, LockJson};
use crate::table::Table;
use crate::{report, terminal};

/// List every lock in a folder that is held or left behind
///
/// On a narrow terminal long commands, labels and names are cut, and the columns that matter least give way; --json
/// has everything. Looking never creates a file, waits, or disturbs a holder. A `Cargo.lock` and the like are no locks
/// and are passed over.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure ls
  tenure ls sessions --recursive
  tenure ls --json | jq -r '.locks[] | select(.state == \"stale\") | .target'

Exit codes:
  0       done (a missing folder has no locks)
  64      the call's words are off
  69      no server answers
  73      it is no folder
  74, 77  input or output failed; permission denied")]
pub(crate) struct Args {
    /// The folder; or a server: etcd://HOST/NAME, postgres://HOST/DATABASE?lock=NAME
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    /// Look below it too; links are not followed
    #[arg(short, long)]
    recursive: bool,

    /// Below it, look on other file systems too
    #[arg(long, requires = "recursive")]
    cross_file_systems: bool,

    /// Print one JSON object: {"locks": [..]}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let options = ListOptions::default().recursive(args.recursive).cross_file_systems(args.cross_file_systems);
    let mut locks = tenure::list(&args.dir, &options)?;
    for lock in &mut locks {
        without_dot(&args.dir, lock);
    }
    if args.json {
        json::print(&ListJson { locks: locks.iter().map(LockJson::from).collect() })?;
    } else if locks.is_empty() {
        report::say(&format!("no locks in {}", report::path(&args.dir)));
    } else {
        let mut table = Table::new(&[]);
        for lock in &locks {
            table.add(lock, &[]);
        }
        report::print(&table.render(terminal::output_width()))?;
    }
    Ok(exit::OK)
}

/// The names as they would be written here: `a`, not `./a`.
pub(crate) fn without_dot(dir: &Path, lock: &mut Status) {
    if dir == Path::new(".") {
        for path in [&mut lock.target, &mut lock.lock_file] {
            if let Ok(name) = path.strip_prefix(".") {
                *path = name.to_owned();
            }
        }
    }
}
