//! The lock file: what foreign programs and people see of a tenure.
//!
//! It appears by one `link(2)` of the anchor and goes by one `unlink(2)`, both under the anchor's kernel lock. What
//! stands at its place already is judged, and taken over only if it is proven dead: by an exchange of two names, after
//! which what came out is compared with what was judged. Nothing that was not judged is ever removed.
//!
//! | at the lock file's place | then |
//! | --- | --- |
//! | nothing | linked: held |
//! | our anchor's inode | the last native holder died (or could not remove it): held |
//! | a native's record on another inode | its kernel lock is tried: free means dead |
//! | our anchor on another inode, as each name is on sshfs | a dead native's, of whom the anchor told: written over in place |
//! | a foreign record | [`staleness`](crate::file::staleness): alive or unknown is waited for, dead is taken over |
//! | no lock at all | an error; it stays |

mod copy;
mod existing;
mod flock_style;
mod names;
mod publish;
mod takeover;
mod types;
mod unpublish;

pub(crate) use copy::must_copy;
pub(crate) use existing::{
    ExistingLockFile, judge_foreign, openclaw_reasons, read_existing, still_blocks, unreachable_machine,
};
pub(crate) use flock_style::{acquire_hidden, crash_still_reported};
pub(crate) use names::has_names;
pub(crate) use publish::publish;
pub(crate) use takeover::recover;
pub(crate) use types::{Blocker, LockFile, Published};
pub(crate) use unpublish::{record_crash, unpublish};
