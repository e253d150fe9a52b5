//! Crashes in records: whether a record reports one, and how the report is kept for the next holder.

use crate::model::holder::Previous;
use crate::record::{PriorState, Record, RecordState, RecordStyle};
use crate::sys;

/// Returns the crash that a record reports by itself, when its kernel lock is free. In lock-file style the missing lock
/// file says that the lock was released; in flock style only the record does.
pub(crate) fn crash_of(style: RecordStyle, state: RecordState) -> Option<&'static str> {
    match (style, state) {
        (_, RecordState::Aborted) => Some("it was cut off while it held"),
        (RecordStyle::Flock, RecordState::Held) => Some("its kernel lock is free"),
        _ => None,
    }
}

/// Returns whether the state of an anchor whose kernel lock is free reports a crash by itself.
pub(crate) fn state_reports_crash(state: PriorState) -> bool {
    crash_of(state.style, state.state).is_some()
}

/// Returns whether the record of an anchor whose kernel lock is free reports a crash.
pub(crate) fn reports_crash(record: &Record) -> bool {
    record.native.as_ref().is_some_and(|native| crash_of(native.style, native.state).is_some())
}

/// Returns `record` with the crash report of `previous`, which no holder has received.
pub(crate) fn unreported_crash_record(previous: &Previous, mut record: Record) -> Record {
    let (Previous::Crashed(holder), Some(native)) = (previous, &mut record.native) else { return record };
    let identity = holder.identity.clone().unwrap_or_default();
    record.pid = Some(identity.pid).filter(|pid| *pid > 0);
    record.start_time = identity.start_time;
    record.created_at = holder.created_at.or(record.created_at);
    record.max_hold = holder.max_hold;
    // The fence stays that of `record`, because fences never decrease.
    native.state = RecordState::Aborted;
    native.acquired_at = holder.acquired_at;
    native.boot_id = identity.boot_id.map(Into::into);
    native.pid_namespace = identity.pid_namespace;
    native.pidfd_inode = identity.pidfd_inode;
    native.start_time = identity.start_time;
    native.host = holder.host.as_deref().map(Into::into);
    native.command = holder.command.as_deref().map(Into::into);
    let command = holder.command_identity.as_ref();
    native.command_pid = command.and_then(|command| u64::try_from(command.pid).ok());
    native.command_start_time = command.and_then(|command| command.start_time);
    native.slots = holder.slots.map(Into::into);
    native.label = holder.label.as_deref().map(Into::into);
    record
}

pub(crate) fn is_other_boot(record: &Record) -> bool {
    let recorded = record.native.as_ref().and_then(|native| native.boot_id.as_deref());
    recorded.is_some_and(|recorded| sys::boot_id().is_some_and(|own| own != recorded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Native;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_restart_shows_in_the_boot_id() {
        let of = |boot_id: Option<&str>| Record {
            native: Some(Native { boot_id: boot_id.map(Into::into), ..Native::bare(RecordState::Held) }),
            ..Record::default()
        };
        assert!(!is_other_boot(&of(sys::boot_id().as_deref())), "this one");
        // A system without such an id cannot tell.
        assert_eq!(is_other_boot(&of(Some("0b8a3f5e-0000-4000-8000-000000000000"))), sys::boot_id().is_some());
        assert!(!is_other_boot(&of(None)), "unknown");
        assert!(!is_other_boot(&Record::default()), "a foreign one has none");
    }
}
