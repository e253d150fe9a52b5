//! The command and all that it starts, as a job ("Job Objects").
//!
//! This process is in the job, so that the command is from its first instant, and so is everything that it starts. While the
//! command runs, the system kills the whole job once this process has ended in whatever way: on Windows no child can keep a
//! lock, so none may outlive it.

use std::cell::Cell;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectBasicProcessIdList, JobObjectExtendedLimitInformation,
    QueryInformationJobObject, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcess, PROCESS_TERMINATE, TerminateProcess};

use super::child::Child;
use super::numbers::{SIGKILL, SIGTERM};

/// The job. Processes that are in it when this is dropped continue.
pub(crate) struct ProcessTree {
    job: Option<OwnedHandle>,
    /// Whether this process could not enter the job, so that the command enters it once it runs.
    late: Cell<bool>,
}

/// The maximum number of processes of a job that are listed.
const MOST: usize = 4096;

/// The process ids of a job, as `QueryInformationJobObject` returns them.
#[repr(C)]
struct List {
    assigned: u32,
    listed: u32,
    ids: [usize; MOST],
}

impl ProcessTree {
    /// Creates the job, and enters it (`CreateJobObjectW`, `AssignProcessToJobObject`).
    pub(crate) fn adopt_orphans() -> ProcessTree {
        // SAFETY: CreateJobObjectW has no precondition: attributes and name may be null.
        let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if job.is_null() {
            return ProcessTree { job: None, late: Cell::new(false) };
        }
        // SAFETY: `from_raw_handle` requires a handle that nothing else closes: the successful call has just made it.
        let job = unsafe { OwnedHandle::from_raw_handle(job) };
        set_kill_on_close(&job, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE);
        // SAFETY: AssignProcessToJobObject requires handles of a job and a process: GetCurrentProcess has no precondition.
        let entered = unsafe { AssignProcessToJobObject(job.as_raw_handle(), GetCurrentProcess()) } != 0;
        ProcessTree { job: Some(job), late: Cell::new(!entered) }
    }

    /// Takes the command into the job, where this process could not enter it.
    pub(crate) fn reap(&self, command: &Child) {
        if self.late.take()
            && let Some(job) = &self.job
        {
            // SAFETY: AssignProcessToJobObject requires handles of a job and a process, which are borrowed.
            unsafe { AssignProcessToJobObject(job.as_raw_handle(), command.raw()) };
        }
    }

    /// Lists the processes of the job but for this one and the command (`QueryInformationJobObject`).
    pub(crate) fn descendants(&self, command: &Child) -> Vec<i32> {
        let Some(job) = &self.job else { return Vec::new() };
        let mut list = Box::new(List { assigned: 0, listed: 0, ids: [0; MOST] });
        // SAFETY: QueryInformationJobObject requires a job's handle and a buffer of the given size, which the box is. A list
        // that is too long is cut.
        unsafe {
            QueryInformationJobObject(
                job.as_raw_handle(),
                JobObjectBasicProcessIdList,
                (&raw mut *list).cast(),
                size_of::<List>() as u32,
                ptr::null_mut(),
            )
        };
        let own = [std::process::id() as usize, command.id() as usize];
        let ids = list.ids.iter().take(list.listed as usize).filter(|id| !own.contains(id));
        ids.map(|id| (*id as u32).cast_signed()).collect()
    }

    /// Ends the command and its descendants, if `signal` would end them on Unix (`TerminateProcess`). Returns those that
    /// this user may not end.
    pub(crate) fn signal(&self, command: &Child, signal: i32) -> Vec<i32> {
        command.signal(signal);
        if !matches!(signal, SIGKILL | SIGTERM) {
            return Vec::new();
        }
        let mut denied = Vec::new();
        for id in self.descendants(command) {
            // SAFETY: OpenProcess has no precondition.
            let process = unsafe { OpenProcess(PROCESS_TERMINATE, 0, id.cast_unsigned()) };
            if process.is_null() {
                if io::Error::last_os_error().kind() == io::ErrorKind::PermissionDenied {
                    denied.push(id);
                }
                continue;
            }
            // SAFETY: `from_raw_handle` requires a handle that nothing else closes: the successful call has just made it.
            let process = unsafe { OwnedHandle::from_raw_handle(process) };
            // SAFETY: TerminateProcess requires a process's handle, which was just opened.
            unsafe { TerminateProcess(process.as_raw_handle(), 128 + signal.cast_unsigned()) };
        }
        denied
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        // Processes that the command leaves when it ends by itself continue.
        if let Some(job) = &self.job {
            set_kill_on_close(job, 0);
        }
    }
}

/// Sets whether the system kills the job's processes when its last handle is closed (`SetInformationJobObject`).
fn set_kill_on_close(job: &OwnedHandle, flags: u32) {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = flags;
    // SAFETY: SetInformationJobObject requires a job's handle and a structure of the class's type and size.
    unsafe {
        SetInformationJobObject(
            job.as_raw_handle(),
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size_of_val(&limits) as u32,
        )
    };
}
