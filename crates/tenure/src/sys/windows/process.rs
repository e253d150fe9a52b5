//! Facts about processes and the machine.

use std::io;

use windows_sys::Wdk::System::Threading::{
    NtQueryInformationProcess, ProcessBasicInformation, ProcessCommandLineInformation,
};
use windows_sys::Win32::Foundation::{FILETIME, UNICODE_STRING};
use windows_sys::Win32::System::SystemInformation::{ComputerNameDnsHostname, GetComputerNameExW};
use windows_sys::Win32::System::Threading::{GetProcessTimes, PROCESS_BASIC_INFORMATION};

use super::ident::{EPOCH, ticks};
use super::process_handle::ProcessHandle;
use crate::sys::types::ProcessFacts;

/// The sources of facts, for messages.
pub(crate) const BOOT_ID_SOURCE: &str = "the boot's id (Windows has none: a start time is a date there)";
pub(crate) const PID_NAMESPACE_SOURCE: &str = "the pid namespace (Windows has none)";

/// Pids are 32 bits wide.
pub(crate) const PID_LIMIT: i64 = u32::MAX as i64;

/// There are no pid namespaces.
pub(crate) const FIRST_PID_NAMESPACE: u64 = 0;

/// The longest command line that is read.
const COMMAND_LINE_BYTES: usize = 1024;

pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// Returns `None`: a start time on Windows is a date, which no other boot has.
pub(crate) fn boot_id() -> Option<String> {
    None
}

/// Returns `None`: a container's processes have pids of the whole machine.
pub(crate) fn pid_namespace() -> Option<u64> {
    None
}

/// Returns the machine's name (`GetComputerNameExW`).
pub(crate) fn host() -> Option<String> {
    let mut name = [0_u16; 256];
    let mut length = name.len() as u32;
    // SAFETY: GetComputerNameExW requires a buffer and a pointer to its length: both are on this stack.
    let done = unsafe { GetComputerNameExW(ComputerNameDnsHostname, name.as_mut_ptr(), &raw mut length) };
    let name = name.get(..length as usize).filter(|name| done != 0 && !name.is_empty())?;
    Some(String::from_utf16_lossy(name))
}

/// Returns the facts about a process (`GetProcessTimes`, `NtQueryInformationProcess`). `None` where there is none with this
/// pid, it has ended, or it is hidden.
pub(crate) fn process_facts(pid: i64) -> Option<ProcessFacts> {
    let process = ProcessHandle::open(pid).ok()?;
    let start_time = start_time(&process)?;
    // A process keeps the pid of its creator, which another process may have by now.
    let parent = parent(&process).filter(|parent| {
        let parent = i64::try_from(*parent).ok().and_then(|parent| ProcessHandle::open(parent).ok());
        parent.and_then(|parent| self::start_time(&parent)).is_some_and(|parent| parent <= start_time)
    });
    // Asked last, so that the facts are this process's.
    if process.exited().unwrap_or(false) {
        return None;
    }
    Some(ProcessFacts { parent: parent.unwrap_or(0), start_time, leader_ended: false })
}

/// Returns the process's creation time, in microseconds since 1970 (`GetProcessTimes`), which a JavaScript number can hold.
fn start_time(process: &ProcessHandle) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [made, ended, kernel, user] = &mut times;
    // SAFETY: GetProcessTimes requires a process's handle and pointers to four times: they are on this stack.
    let done = unsafe { GetProcessTimes(process.raw(), made, ended, kernel, user) };
    (done != 0).then(|| ticks(times[0]).saturating_sub(EPOCH) / 10)
}

/// Returns the pid of the process that created this one (`NtQueryInformationProcess`).
fn parent(process: &ProcessHandle) -> Option<u64> {
    let mut found = PROCESS_BASIC_INFORMATION::default();
    let size = size_of::<PROCESS_BASIC_INFORMATION>() as u32;
    // SAFETY: NtQueryInformationProcess requires a process's handle and a buffer of the class's type and size, which is on
    // this stack. The length that it returns is not wanted.
    let status = unsafe {
        NtQueryInformationProcess(
            process.raw(),
            ProcessBasicInformation,
            (&raw mut found).cast(),
            size,
            std::ptr::null_mut(),
        )
    };
    (status >= 0).then_some(found.InheritedFromUniqueProcessId as u64).filter(|pid| *pid > 0)
}

/// Returns the command line of a process, at most 1024 bytes (`GetCommandLineW`, `NtQueryInformationProcess`). Another user
/// may have written it.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    if pid == self::pid() {
        let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        return cut(&words.join(" "));
    }
    let process = ProcessHandle::open(i64::from(pid)).ok()?;
    // Words, so that the string's head is aligned. A command line has at most 32,767 units.
    let mut buffer = vec![0_u64; 9 * 1024];
    let size = size_of_val(buffer.as_slice()) as u32;
    // SAFETY: NtQueryInformationProcess requires a process's handle and a buffer of the given size. The length that it
    // returns is not wanted.
    let status = unsafe {
        NtQueryInformationProcess(
            process.raw(),
            ProcessCommandLineInformation,
            buffer.as_mut_ptr().cast(),
            size,
            std::ptr::null_mut(),
        )
    };
    if status < 0 {
        return None;
    }
    // SAFETY: reading the head requires a `UNICODE_STRING`: the successful call has written one, whose letters follow it in
    // the buffer.
    let units = unsafe {
        let head = &*buffer.as_ptr().cast::<UNICODE_STRING>();
        if head.Buffer.is_null() {
            return None;
        }
        std::slice::from_raw_parts(head.Buffer, usize::from(head.Length) / 2)
    };
    cut(&String::from_utf16_lossy(units))
}

fn cut(text: &str) -> Option<String> {
    let text = text.trim_matches(|letter: char| letter == '\0' || letter.is_whitespace());
    let end = (0..=COMMAND_LINE_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at))?;
    (end > 0).then(|| text[..end].to_owned())
}

/// Returns `None`: a thread's number never opens a process.
pub(crate) fn process_of_thread(_id: i64) -> Option<i64> {
    None
}

/// Returns `None`: whether a process waits for a child is not shown.
pub(crate) fn awaited_child(_pid: i64) -> Option<i64> {
    None
}

/// Returns whether the process has ended (`WaitForSingleObject`).
pub(crate) fn all_threads_ended(pid: i64) -> bool {
    ProcessHandle::open(pid).and_then(|process| process.exited()).unwrap_or(false)
}

/// Returns `true`: a date reads the same for all.
pub(crate) fn reads_start_times_alike(_pid: i64) -> bool {
    true
}

/// Returns `true`. OpenClaw does not compare start times on Windows; a record that has one is no orphan of its own to it.
pub(crate) fn shows_its_start_time() -> bool {
    true
}

/// Returns whether the process exists, as far as this user may ask (`OpenProcess`).
pub(crate) fn signal_zero(pid: i64) -> io::Result<()> {
    ProcessHandle::open(pid).map(drop)
}

/// Returns 0: Windows does not number its users.
pub(crate) fn effective_user() -> u32 {
    0
}

/// Returns the usual limit of other systems: Windows has none that a program comes near to.
pub(crate) fn open_file_limit() -> usize {
    1024
}

/// Returns an empty list: Windows does not show which processes have a file open.
pub(crate) fn lock_keepers(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

/// Returns an empty list: a waiter's mark does not name its process.
pub(crate) fn marked_waiters(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

/// Returns an empty list: Windows does not show which processes have a file open.
pub(crate) fn openers(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_about_this_process() {
        let facts = process_facts(i64::from(pid())).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let age = u64::try_from(now.as_micros()).unwrap() - facts.start_time;
        assert!(age < 3_600_000_000, "it began within the last hour: {age}");
        assert!(host().is_some_and(|host| !host.is_empty()));
        let own = std::env::args().next().unwrap();
        let own = own.rsplit(['\\', '/']).next().unwrap().to_owned();
        assert!(command_line(pid()).is_some_and(|line| line.contains(&own)), "{:?}", command_line(pid()));
    }

    #[test]
    fn a_number_between_pids_is_no_process() {
        for more in 1..4 {
            let error = ProcessHandle::open(i64::from(pid()) + more).unwrap_err();
            assert!(super::super::process_handle::is_no_such_process(&error), "{more}");
        }
        for no in [0, -4, 1 << 32, i64::MAX] {
            assert!(ProcessHandle::open(no).is_err() && process_facts(no).is_none(), "{no}");
        }
    }
}
