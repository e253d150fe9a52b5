//! Linux: what `/proc` says of a process.

// This is where the command's system calls are made.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::OpenFile;

/// The files and folders that a process has open, with the locks on them. What it closes meanwhile is left out.
pub(crate) fn open_files(pid: u32) -> io::Result<Vec<OpenFile>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let mut files = Vec::new();
    for entry in fs::read_dir(process.join("fd"))? {
        let Ok(entry) = entry else { continue };
        // Through the link: the file itself, whatever has its name by now.
        let (Ok(path), Ok(metadata)) = (fs::read_link(entry.path()), fs::metadata(entry.path())) else { continue };
        if !metadata.is_file() && !metadata.is_dir() {
            continue;
        }
        let Ok(info) = fs::read_to_string(process.join("fdinfo").join(entry.file_name())) else { continue };
        let gone = metadata.nlink() == 0;
        let name = path.as_os_str().as_bytes();
        let path = match name.strip_suffix(b" (deleted)").filter(|_| gone) {
            Some(name) => PathBuf::from(std::ffi::OsStr::from_bytes(name)),
            None => path,
        };
        let visible = fs::symlink_metadata(&path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (metadata.dev(), metadata.ino()));
        let device = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
        files.push(OpenFile { path, device, inode: metadata.ino(), gone, visible, info });
    }
    Ok(files)
}

/// Is there such a process?
pub(crate) fn is_process(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).is_dir()
}

/// The kernel's table of locks (`proc_locks(5)`), twice: it comes a page at a time, and a line may be missed when other
/// locks come and go between two pages.
pub(crate) fn kernel_locks() -> io::Result<String> {
    let mut text = Vec::new();
    let mut page = [0; 16 * 1024];
    for _ in 0..2 {
        let mut table = fs::File::open("/proc/locks")?;
        loop {
            match table.read(&mut page)? {
                0 => break,
                count => text.extend_from_slice(&page[..count]),
            }
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A process's words; `None` for one that has none (a zombie, a kernel thread).
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    (!words.is_empty()).then_some(words)
}
