//! The processes that share a lock.

use std::collections::HashSet;

use crate::record::Record;

/// Returns the pids of the holders of these records, each process once.
pub(super) fn pids(records: impl IntoIterator<Item = Record>) -> Vec<i64> {
    let mut seen = HashSet::new();
    let processes = records.into_iter().filter_map(|record| {
        // Processes of several machines may have one pid.
        let native = record.native.as_ref();
        let machine = native.and_then(|native| native.boot_id.clone());
        let pid = record.pid?;
        seen.insert((pid, machine, native.and_then(|native| native.pid_namespace))).then_some(pid)
    });
    processes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::Options;
    use crate::server::acquire::new_record;

    #[test]
    fn a_process_with_several_shares_is_named_once_and_one_pid_of_two_machines_twice() {
        let share = |pid: i64, machine: &str| {
            let mut record = new_record(&Options::default());
            record.pid = Some(pid);
            record.native.as_mut().unwrap().boot_id = Some(machine.into());
            record
        };
        let shares = [share(1, "a"), share(2, "a"), share(1, "a"), share(1, "b"), share(1, "b"), share(2, "a")];
        assert_eq!(pids(shares), [1, 2, 1]);
    }
}
