//! Maps each step to the function of the code that makes it, and to the system call.

use crate::foreign::ForeignPc;
use crate::model::Action;
use crate::native::{After, Helper, Native, Pc};
use crate::others::{BreakPc, PrunePc};
use crate::prepare::PreparePc;
use crate::state::State;

/// A step of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The file in `crates/tenure/src` or a folder of it, without its suffix.
    pub file: &'static str,
    /// The function in it.
    pub function: &'static str,
    /// The system call, as strace shows it.
    pub call: &'static str,
}

const fn step(file: &'static str, function: &'static str, call: &'static str) -> Step {
    Step { file, function, call }
}

/// Returns the next step of a native, or `None` after its end.
pub fn native(native: &Native) -> Option<Step> {
    Some(match native.pc {
        Pc::Open => step("anchor", "open_existing", "openat(anchor)"),
        Pc::Make => step("anchor", "create_anchor", "openat(anchor, O_CREAT|O_EXCL)"),
        Pc::MakeLook => step("anchor", "is_being_replaced", "openat(new)"),
        Pc::MakeLock => step("anchor", "is_being_replaced", "flock(new, LOCK_EX|LOCK_NB)"),
        Pc::MakeCompare => step("anchor", "is_being_replaced", "stat(new)"),
        Pc::MakeRename => step("anchor", "is_being_replaced", "renameat2(new, anchor, RENAME_NOREPLACE)"),
        Pc::MakeFolder => step("anchor_dir", "create_anchor_dir", "mkdirat(.tenure)"),
        Pc::ReclaimOpen => step("reclaim", "reclaim_foreign", "openat(lock file), flock(LOCK_EX|LOCK_NB)"),
        Pc::ReclaimJudge => step("reclaim", "remove_foreign", "F_SETLEASE, read(lock file)"),
        Pc::ReclaimSwap => step("reclaim", "remove_foreign", "stat(swap)"),
        Pc::ReclaimLink => step("reclaim", "remove_foreign", "linkat(open lock file, anchor)"),
        Pc::ReclaimWrite => step("reclaim", "remove_as_own", "pwrite(lock file)"),
        Pc::ReclaimCompare => step("reclaim", "remove_as_own", "stat(lock file)"),
        Pc::ReclaimUnlink => step("reclaim", "remove_as_own", "unlinkat(lock file)"),
        Pc::ReclaimRecord => step("reclaim", "remove_as_own", "pwrite(anchor, aborted)"),
        Pc::ReclaimUnlock => step("reclaim", "reclaim_foreign", "flock(anchor, LOCK_UN)"),
        Pc::TryLock if native.waits => step("kernel_wait", "lock_anchor", "flock(anchor, LOCK_EX|LOCK_NB)"),
        Pc::TryLock => step("acquire", "attempt_with_retries", "flock(anchor, LOCK_EX|LOCK_NB)"),
        Pc::CompareRefused => step("acquire", "attempt_with_retries", "stat(anchor)"),
        Pc::Queue => step("kernel_wait", "lock_anchor", "flock(anchor, LOCK_EX)"),
        Pc::Compare => step("anchor", "current", "stat(anchor)"),
        Pc::CarryOn => step("suspended", "carry_on", "fcntl(anchor, F_OFD_GETLK)"),
        Pc::GiveWayLook => step("existing", "find_blocker", "openat(lock file)"),
        Pc::GiveWay => step("acquire", "unlock_all", "flock(anchor, LOCK_UN)"),
        Pc::RecoverLook => step("takeover", "recover", "stat(swap)"),
        Pc::RecoverJudge => step("takeover", "judge_at", "openat(swap), flock or F_SETLEASE"),
        Pc::RecoverShown => step("takeover", "recover", "stat(lock file)"),
        Pc::RecoverExchange => step("takeover", "recover", "renameat2(swap, lock file, RENAME_EXCHANGE)"),
        Pc::RecoverRename => step("takeover", "recover", "renameat2(swap, lock file, RENAME_NOREPLACE)"),
        Pc::RecoverUnlink => step("takeover", "recover", "unlinkat(swap)"),
        Pc::ReplaceShown => step("anchor", "replace", "stat(lock file)"),
        Pc::ReplaceSeen => step("anchor", "replace", "stat(anchor)"),
        Pc::ReplaceUndo => step("anchor", "replace", "unlinkat(new)"),
        Pc::ReplaceRename => step("anchor", "replace", "renameat(new, anchor)"),
        Pc::ReplaceCompare => step("anchor", "replace", "stat(anchor)"),
        Pc::Visible => step("publish", "publish", "stat(lock file)"),
        Pc::Write => step("io", "write", "pwrite(anchor)"),
        Pc::CompareAgain => step("publish", "try_publish", "stat(anchor)"),
        Pc::Link => step("publish", "try_publish", "linkat(anchor, lock file)"),
        Pc::Prepare | Pc::ReplacePrepare => prepare(native.prepare.pc),
        Pc::RenameNew => step("copy", "publish_copy", "renameat2(new, lock file, RENAME_NOREPLACE)"),
        Pc::KeepName => step("copy", "keep_name", "CreateFile(lock file, without FILE_SHARE_DELETE)"),
        Pc::UnlinkNew => step("copy", "publish_copy", "unlinkat(new)"),
        Pc::Look => step("existing", "read_existing", "openat(lock file)"),
        Pc::Judge => step("existing", "judge_found", "read(lock file), flock or F_SETLEASE"),
        Pc::CompareBefore => step("publish", "try_publish", "stat(anchor)"),
        Pc::Mark => step("publish", "try_publish", "pwrite(anchor, aborted)"),
        Pc::RemoveJudged => step("takeover", "remove_judged", "funlinkat(lock file, judged), or a removal by handle"),
        Pc::LinkSwap => step("takeover", "prepare_swap", "linkat(anchor, swap)"),
        Pc::SwapSeen => step("takeover", "take_over", "stat(swap)"),
        Pc::RenameSwap => step("takeover", "prepare_swap", "renameat(new, swap)"),
        Pc::Exchange | Pc::ExchangeBack => step("takeover", "take_over", "renameat2(swap, lock file, RENAME_EXCHANGE)"),
        Pc::DropSwapGone | Pc::DropSwapAdopt | Pc::DropSwap | Pc::DropSwapBack => {
            step("takeover", "take_over", "unlinkat(swap)")
        }
        Pc::Out | Pc::OutAgain => step("takeover", "take_over", "stat(swap)"),
        Pc::Verify => step("takeover", "take_over", "stat(lock file)"),
        Pc::AdoptOpen => step("takeover", "adopt", "flock(lock file, LOCK_UN), openat(lock file)"),
        Pc::AdoptLock => step("takeover", "adopt", "flock(lock file, LOCK_EX|LOCK_NB)"),
        Pc::AdoptWrite => step("takeover", "adopt", "pwrite(lock file)"),
        Pc::AdoptVerify => step("takeover", "adopt", "stat(lock file)"),
        Pc::Unmark => step("publish", "finalize", "pwrite(anchor, held)"),
        Pc::VerifyLinks => step("visible", "has_names", "fstat(anchor)"),
        Pc::VerifyAnchor => step("visible", "verify_names", "stat(anchor)"),
        Pc::VerifyCopy => step("visible", "verify_names", "stat(lock file)"),
        Pc::RollBackWrite => step("unpublish", "roll_back", "pwrite(anchor)"),
        Pc::RollBackCompare | Pc::UnpublishCompare => step("unpublish", "unpublish", "stat(lock file)"),
        Pc::RollBackUnlink | Pc::UnpublishUnlink => step("unpublish", "unpublish", "unlinkat(lock file)"),
        Pc::RollBackUnlockCopy => step("publish", "publish", "close(lock file)"),
        Pc::Restore => step("unpublish", "restore", "pwrite(anchor)"),
        Pc::RestoreLost => step("unpublish", "restore", "pwrite(anchor)"),
        Pc::DeadCopy | Pc::DeadCopyAgain => {
            step("flock_style", "dead_native", "openat(lock file), flock(LOCK_EX|LOCK_NB)")
        }
        Pc::FlockCompare => step("flock_style", "remove", "stat(lock file)"),
        Pc::FlockUnlink => step("flock_style", "remove", "unlinkat(lock file)"),
        Pc::FlockGiveUp => step("flock_style", "restore_or_mark", "pwrite(anchor, aborted)"),
        Pc::FlockRelease => step("release", "unpublish_or_record", "pwrite(anchor)"),
        Pc::FlockEndCompare => step("release", "unpublish_or_record", "stat(anchor)"),
        Pc::DropAnchor => step("acquire", "drop_anchor", "flock(anchor, LOCK_UN)"),
        Pc::ReleaseAll => step("acquire", "unlock_all", "flock(anchor, LOCK_UN)"),
        Pc::FreeAnchor => step("kernel_wait", "unlock_anchor", "flock(anchor, LOCK_UN)"),
        Pc::WaitNative => step("kernel_wait", "wait_for_blocker", "flock(lock file, LOCK_EX)"),
        Pc::CloseWaited => step("kernel_wait", "wait_for_blocker", "close(lock file)"),
        Pc::WaitForeign => step("kernel_wait", "watch", "poll(inotify, pidfd)"),
        Pc::Hold => step("guard", "release", ""),
        Pc::PassWrite | Pc::PassWriteAtOnce => step("release", "hand_off", "pwrite(anchor)"),
        Pc::PassLinks => step("visible", "has_names", "fstat(anchor)"),
        Pc::PassAnchor => step("release", "hand_off", "stat(anchor)"),
        Pc::PassLock => step("release", "hand_off", "stat(lock file)"),
        Pc::SuspendWatch => step("suspension", "watch_name", "inotify_add_watch(folder)"),
        Pc::SuspendMark => step("suspended", "take", "openat(anchor), fcntl(F_OFD_SETLK)"),
        Pc::SuspendEnter => step("suspended", "enter", "pwrite(anchor)"),
        Pc::Suspended => step("suspended", "show_resumption", "fcntl(anchor, F_OFD_SETLK)"),
        Pc::End => step("tenure", "end", ""),
        Pc::UnlockCopy => step("release", "unlock", "flock(lock file, LOCK_UN)"),
        Pc::Unlock => step("release", "unlock", "flock(anchor, LOCK_UN)"),
        Pc::Believe => step("guard", "check", ""),
        Pc::Done | Pc::Failed | Pc::Dead => return None,
    })
}

/// Returns the next step of making a new file.
pub fn prepare(pc: PreparePc) -> Step {
    match pc {
        PreparePc::Create => step("prepare", "prepare", "openat(new, O_CREAT|O_EXCL)"),
        PreparePc::Folder => step("anchor_dir", "create_anchor_dir", "mkdirat(.tenure)"),
        PreparePc::Lock => step("prepare", "prepare", "flock(new, LOCK_EX|LOCK_NB)"),
        PreparePc::Compare => step("prepare", "prepare", "stat(new)"),
        PreparePc::Write => step("prepare", "prepare", "pwrite(new)"),
        PreparePc::DropOpen => step("prepare", "remove_abandoned", "openat(new)"),
        PreparePc::DropLock => step("prepare", "remove_abandoned", "flock(new, LOCK_EX|LOCK_NB)"),
        PreparePc::DropCompare => step("prepare", "remove_abandoned", "stat(new)"),
        PreparePc::DropUnlink => step("prepare", "remove_abandoned", "unlinkat(new)"),
    }
}

/// Returns the next step of a break.
pub fn breaking(pc: BreakPc) -> Step {
    match pc {
        BreakPc::Idle => step("clean", "break_lock", ""),
        BreakPc::Look => step("break_lock", "replace_anchor", "openat(lock file)"),
        BreakPc::Read => step("break_lock", "replace_anchor", "openat(anchor)"),
        BreakPc::Prepare => step("prepare", "prepare", ""),
        BreakPc::Reopen => step("break_lock", "replace_anchor", "openat(anchor)"),
        BreakPc::TakeName => step("paths", "rename_to_anchor", "removal of the anchor by handle"),
        BreakPc::Rename => step("break_lock", "replace_anchor", "renameat(new, anchor)"),
        BreakPc::ReadAgain => step("break_lock", "replace_anchor", "pread(old anchor)"),
        BreakPc::Swap => step("break_lock", "replace_anchor", "stat(swap)"),
        BreakPc::WriteFence => step("break_lock", "replace_anchor", "pwrite(new anchor)"),
        BreakPc::Compare => step("break_lock", "replace_anchor", "stat(lock file)"),
        BreakPc::ReadCopy => step("break_lock", "is_copy_of", "openat(lock file)"),
        BreakPc::Unlink => step("break_lock", "replace_anchor", "unlinkat(lock file)"),
        BreakPc::Unlock => step("break_lock", "replace_anchor", "flock(new anchor, LOCK_UN)"),
    }
}

/// Returns the next step of a pruning.
pub fn pruning(pc: PrunePc) -> Step {
    match pc {
        PrunePc::Idle => step("clean", "prune", "stat(new)"),
        PrunePc::NewOpen => prepare(PreparePc::DropOpen),
        PrunePc::NewLock => prepare(PreparePc::DropLock),
        PrunePc::NewCompare => prepare(PreparePc::DropCompare),
        PrunePc::NewUnlink => prepare(PreparePc::DropUnlink),
        PrunePc::Open => step("clean", "prune", "openat(anchor)"),
        PrunePc::Lease => step("clean", "prune", "fcntl(anchor, F_SETLEASE)"),
        PrunePc::Lock => step("clean", "prune", "flock(anchor, LOCK_EX|LOCK_NB)"),
        PrunePc::Compare => step("clean", "prune", "stat(anchor)"),
        PrunePc::Shown => step("clean", "prune", "stat(lock file)"),
        // As in an acquire, a swap is recovered.
        PrunePc::Swap => step("takeover", "recover", "stat(swap)"),
        PrunePc::SwapJudge => step("takeover", "judge_at", "openat(swap), flock or F_SETLEASE"),
        PrunePc::SwapShown => step("takeover", "recover", "stat(lock file)"),
        PrunePc::SwapExchange => step("takeover", "recover", "renameat2(swap, lock file, RENAME_EXCHANGE)"),
        PrunePc::SwapRename => step("takeover", "recover", "renameat2(swap, lock file, RENAME_NOREPLACE)"),
        PrunePc::SwapUnlink => step("takeover", "recover", "unlinkat(swap)"),
        PrunePc::Unlink => step("clean", "prune", "unlinkat(anchor)"),
        PrunePc::Folder => step("clean", "remove_folder", "unlinkat(.tenure)"),
    }
}

/// Returns one line of a trace for this action.
pub fn line(state: &State, action: Action) -> String {
    let words = |step: Option<Step>| {
        step.map_or(String::new(), |step| format!("{}::{} {}", step.file, step.function, step.call))
    };
    match action {
        Action::Native(i) => {
            let native = &state.natives[i];
            let for_takeover = native.after == After::TakeOver && native.pc == Pc::Prepare;
            let end = match native.pc {
                Pc::ReplacePrepare => ", for the anchor",
                _ if for_takeover => ", for the swap",
                _ => "",
            };
            format!("native {i}: {}{end}", words(self::native(native)))
        }
        Action::Helper(i) => {
            let call = match state.natives[i].helper {
                Helper::Locked(_) => "close",
                _ => "flock(LOCK_EX)",
            };
            format!("native {i}, a detached helper: queue::help {call}")
        }
        Action::Recheck(i) => format!("native {i}, its watchdog: queue::recheck stat"),
        Action::GiveUpName(i) => format!("native {i}, its watchdog: release::give_up_name"),
        Action::Revoke(i) => format!("native {i}, its watchdog: queue::revoke"),
        Action::Suspend(i) => format!("native {i}: suspension::suspend"),
        Action::Overtake(i) => format!("native {i}: yielding::yielding, its time is over"),
        Action::PassAtOnce(i) => format!("native {i}: queue::pass, at once"),
        Action::Pass(i) => format!("native {i}: queue::pass"),
        Action::CrashNative(i) => format!("native {i}: dies before {}", words(self::native(&state.natives[i]))),
        Action::Foreign(i) => {
            let words = match state.foreign[i].pc {
                ForeignPc::Open if state.lock.is_some() => "finds a dead holder's lock file",
                ForeignPc::Open => "makes the lock file",
                ForeignPc::Write => "writes its record, and holds",
                ForeignPc::Remove => "removes the lock file, whatever it is by now",
                _ => "removes the lock file, and ends",
            };
            format!("foreign {i}: {words}")
        }
        Action::CrashForeign(i) => format!("foreign {i}: dies"),
        Action::Break if state.breaker.pc == BreakPc::Prepare => {
            format!("break: {}", words(Some(prepare(state.breaker.prepare.pc))))
        }
        Action::Break => format!("break: {}", words(Some(breaking(state.breaker.pc)))),
        Action::CrashBreak => "break: dies".to_owned(),
        Action::Prune => format!("prune: {}", words(Some(pruning(state.pruner.pc)))),
        Action::CrashPrune => "prune: dies".to_owned(),
        Action::Wipe(name) => {
            let words = if state.wiper.on { ["anchor", "swap", "new", "the folder"][name] } else { "begins" };
            format!("rm -r .tenure: {words}")
        }
        Action::UserRm => "a person: rm of the lock file".to_owned(),
    }
}
