//! The lock file: what foreign programs and people see of a tenure.
//!
//! It is published by one `link(2)` of the anchor and removed by one `unlink(2)`, both under the anchor's kernel lock.
//! An existing lock file is judged, and taken over only if its holder is proven dead: two names are exchanged, and then
//! the file that came out is compared with the judged one. A file that was not judged is never removed.
//!
//! | at the lock file's path | result |
//! | --- | --- |
//! | no file | linked: held |
//! | the anchor's own inode | the last native holder died (or could not remove it): held |
//! | a native's record on another inode | its kernel lock is tried: free means dead |
//! | the anchor on another inode, as each name has on sshfs | a dead native's, named in the anchor: written over in place |
//! | a foreign record | [`staleness`](crate::file::staleness): alive or unknown is waited for, dead is taken over |
//! | not a lock file | an error; it stays |

mod copy;
mod existing;
mod flock_style;
mod publish;
mod takeover;
mod unpublish;
mod visible;

pub(crate) use existing::{
    Blocker, ExistingLockFile, find_blocker, judge_foreign, judge_unopened, openclaw_reasons, read_existing,
    read_listed, still_blocks, unreachable_machine,
};
pub(crate) use flock_style::{acquire_hidden, crash_still_reported};
pub(crate) use publish::{Published, publish};
pub(crate) use takeover::recover;
pub(crate) use unpublish::{record_crash, unpublish};
pub(crate) use visible::{LockFile, has_names};
