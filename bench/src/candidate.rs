//! The kinds of lock that child processes of this program use: the library's, and their bare system calls.

use std::path::Path;

use tenure::{Guard, Lock, Style, Wait};

use crate::bare::{self, RECORD};

pub(crate) const FLOCK: &str = "bare: flock";
pub(crate) const LINK: &str = "bare: flock + record + link + unlink";
pub(crate) const LOCK_FILE: &str = "tenure, lock-file style";
pub(crate) const FLOCK_STYLE: &str = "tenure, flock style";
/// The end of a candidate's name, for a process that has called `tenure::interrupts::install()`.
pub(crate) const INTERRUPTS: &str = ", interrupts";
/// The same, after that call.
pub(crate) const LOCK_FILE_INTERRUPTS: &str = "tenure, lock-file style, interrupts";
pub(crate) const FLOCK_STYLE_INTERRUPTS: &str = "tenure, flock style, interrupts";
/// A program that knows only the lock file: exclusive create, write, remove.
pub(crate) const FOREIGN: &str = "foreign";

/// The library's locks, in each style.
pub(crate) const OURS: [&str; 4] = [LOCK_FILE, LOCK_FILE_INTERRUPTS, FLOCK_STYLE, FLOCK_STYLE_INTERRUPTS];
/// The library's locks, and the bare calls that do the same work.
pub(crate) const STYLES: [&str; 6] =
    [FLOCK, FLOCK_STYLE, FLOCK_STYLE_INTERRUPTS, LINK, LOCK_FILE, LOCK_FILE_INTERRUPTS];

/// Returns the bare calls with which a style is compared.
pub(crate) fn bare_of(candidate: &str) -> &'static str {
    if has_lock_file(candidate) { LINK } else { FLOCK }
}

fn has_lock_file(candidate: &str) -> bool {
    matches!(candidate, LOCK_FILE | LOCK_FILE_INTERRUPTS)
}

/// A lock that a process has open.
pub(crate) trait Locker {
    fn acquire(&mut self) -> crate::Result<()>;
    fn release(&mut self) -> crate::Result<()>;
}

pub(crate) fn open(candidate: &str, target: &Path) -> crate::Result<Box<dyn Locker>> {
    Ok(match candidate {
        FLOCK => Box::new(Bare { file: bare::open(&bare::c_path(target)?, CREATE)?, shown: None }),
        LINK => {
            let (folder, name) = (target.parent().ok_or("no folder")?, target.file_name().ok_or("no name")?);
            let shown = Shown {
                dir: bare::open(&bare::c_path(folder)?, libc::O_RDONLY | libc::O_DIRECTORY)?,
                name: bare::c_path(Path::new(name))?,
                lock: bare::c_path(Path::new(&format!("{}.lock", name.to_string_lossy())))?,
            };
            Box::new(Bare { file: bare::open(&bare::c_path(target)?, CREATE)?, shown: Some(shown) })
        }
        FOREIGN => Box::new(Foreign::new(target)?),
        LOCK_FILE | FLOCK_STYLE | LOCK_FILE_INTERRUPTS | FLOCK_STYLE_INTERRUPTS => {
            let style = if has_lock_file(candidate) { Style::LockFile } else { Style::Flock };
            if matches!(candidate, LOCK_FILE_INTERRUPTS | FLOCK_STYLE_INTERRUPTS) {
                tenure::interrupts::install()?;
            }
            Box::new(Native { lock: Lock::options().style(style).open(target)?, guard: None })
        }
        other => return Err(format!("no such candidate: {other}").into()),
    })
}

const CREATE: libc::c_int = libc::O_RDWR | libc::O_CREAT;

struct Bare {
    file: std::os::fd::OwnedFd,
    shown: Option<Shown>,
}

struct Shown {
    dir: std::os::fd::OwnedFd,
    name: std::ffi::CString,
    lock: std::ffi::CString,
}

impl Locker for Bare {
    fn acquire(&mut self) -> crate::Result<()> {
        bare::flock(&self.file, libc::LOCK_EX)?;
        if let Some(shown) = &self.shown {
            bare::write_at_start(&self.file, &RECORD)?;
            match bare::link_at(&shown.dir, &shown.name, &shown.lock) {
                // A killed holder's link remains.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn release(&mut self) -> crate::Result<()> {
        if let Some(shown) = &self.shown {
            bare::unlink_at(&shown.dir, &shown.lock)?;
        }
        Ok(bare::flock(&self.file, libc::LOCK_UN)?)
    }
}

struct Native {
    lock: Lock,
    guard: Option<Guard>,
}

impl Locker for Native {
    fn acquire(&mut self) -> crate::Result<()> {
        self.guard = Some(self.lock.acquire_with(Wait::Forever)?);
        Ok(())
    }

    fn release(&mut self) -> crate::Result<()> {
        Ok(self.guard.take().ok_or("not held")?.release()?)
    }
}

/// It never waits here, so it needs no polling.
struct Foreign {
    lock: std::ffi::CString,
    record: String,
    file: Option<std::os::fd::OwnedFd>,
}

impl Foreign {
    fn new(target: &Path) -> crate::Result<Foreign> {
        let mut path = target.as_os_str().to_owned();
        path.push(".lock");
        let pid = std::process::id();
        let start = tenure::process::start_time(pid).ok_or("no start time")?;
        let record = format!(
            "{{\n  \"pid\": {pid},\n  \"createdAt\": \"{}\",\n  \"starttime\": {start}\n}}",
            "2026-03-02T10:00:00.000Z", // Long ago: age alone must not matter.
        );
        Ok(Foreign { lock: bare::c_path(Path::new(&path))?, record, file: None })
    }
}

impl Locker for Foreign {
    fn acquire(&mut self) -> crate::Result<()> {
        let file = bare::open(&self.lock, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
        bare::write_at_start(&file, self.record.as_bytes())?;
        self.file = Some(file);
        Ok(())
    }

    fn release(&mut self) -> crate::Result<()> {
        self.file = None;
        Ok(bare::unlink(&self.lock)?)
    }
}
