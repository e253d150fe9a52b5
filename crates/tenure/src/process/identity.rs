//! The identity of a process, which distinguishes it from every other.

/// The identity of a process. Each part is absent rather than wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Identity {
    /// The process id, in the pid namespace that `pid_namespace` names.
    pub pid: i64,
    /// The start time of the process, in clock ticks since boot (field 22 of `proc_pid_stat(5)`). On macOS and Windows in
    /// microseconds since 1970, on FreeBSD in microseconds since boot.
    pub start_time: Option<u64>,
    /// The id of the machine's boot (`random/boot_id` in `proc_sys_kernel(5)`; `kern.bootsessionuuid`, `kern.boot_id`).
    pub boot_id: Option<String>,
    /// The inode of the pid namespace that `pid` is counted in (`pid_namespaces(7)`). A process in a container has one
    /// pid in its own namespace and another in those around it. On FreeBSD it is the jail.
    pub pid_namespace: Option<u64>,
    /// The inode of the process's pidfd (`pidfd_open(2)`): unique for a boot, since Linux 6.9.
    pub pidfd_inode: Option<u64>,
}
