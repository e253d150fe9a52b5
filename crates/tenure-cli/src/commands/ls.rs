//! `tenure ls`: lists the locks in a folder.

use std::path::{Path, PathBuf};

use tenure::Status;

use crate::options::WalkOptions;
use crate::output::json::{self, ListJson, LockJson};
use crate::output::table::Table;
use crate::output::{Failure, describe, exit, stream, terminal, tree};

/// List the locks in a folder that are held or stale
///
/// On a narrow terminal long commands, labels and names are cut, and less important columns are left out; --json prints
/// everything. `ls` never creates a file, waits, or disturbs a holder. It ignores files that are no locks, such as
/// `Cargo.lock`.
///
/// The locks of a server are shown as a tree of their names, in which a slash begins a branch. With --json each has its whole
/// target.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure ls                         the locks in the current folder
  tenure ls sessions --recursive    the locks in `sessions` and below
  tenure ls --json | jq -r '.locks[] | select(.state == \"stale\") | .target'
                                    the targets whose holder is dead
  tenure ls etcd://etcd-1/sessions  the locks below `sessions` on a server, as a tree

Exit codes:
  0       success (a missing folder has no locks)
  64      usage error
  69      no server answers
  73      not a folder
  74, 77  input or output failed; permission denied")]
pub(crate) struct Args {
    /// The folder, or a server: etcd://HOST/NAME, postgres://HOST/DATABASE?lock=NAME
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    #[command(flatten)]
    walk: WalkOptions,

    /// Print one JSON object: {"locks": [..]}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let mut locks = tenure::list(&args.dir, &args.walk.for_list())?;
    for lock in &mut locks {
        without_dot(&args.dir, lock);
    }
    if args.json {
        json::print(&ListJson { locks: locks.iter().map(LockJson::from).collect() })?;
    } else if locks.is_empty() {
        stream::message(&format!("no locks in {}", describe::path(&args.dir)));
    } else {
        let table = match tenure::server::scheme(&args.dir)? {
            Some(_) => tree::table(&args.dir, &locks),
            None => {
                let mut table = Table::new(&[]);
                locks.iter().for_each(|lock| table.add(lock, &[]));
                table
            }
        };
        stream::print(&table.render(terminal::output_width()))?;
        std::mem::forget(table);
    }
    // The process ends next. Freeing each text of ten thousand locks takes longer than printing them.
    std::mem::forget(locks);
    Ok(exit::OK)
}

/// Removes the `./` of names in the current folder, so that they read as the user would type them.
pub(crate) fn without_dot(dir: &Path, lock: &mut Status) {
    if dir == Path::new(".") {
        for path in [&mut lock.target, &mut lock.lock_file] {
            if let Ok(name) = path.strip_prefix(".") {
                *path = name.to_owned();
            }
        }
    }
}
