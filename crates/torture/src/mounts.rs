//! File systems to run on, mounted for this process alone, in a mount namespace that ends with it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use tenure_tests::{has, is_root, until};

use crate::team::end_with_us;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Tmpfs,
    Overlayfs,
    Xfs,
    Btrfs,
    /// bindfs, which forwards everything to a folder.
    Fuse,
}

impl FileSystem {
    pub const ALL: [FileSystem; 6] = [
        FileSystem::Ext4,
        FileSystem::Tmpfs,
        FileSystem::Overlayfs,
        FileSystem::Xfs,
        FileSystem::Btrfs,
        FileSystem::Fuse,
    ];

    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Tmpfs => "tmpfs",
            FileSystem::Overlayfs => "overlayfs",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
            FileSystem::Fuse => "fuse",
        }
    }

    /// Returns whether two machines might have mounted it. Then a foreign pid that is dead here proves nothing. It does
    /// not exchange names either.
    pub fn is_shared(self) -> bool {
        self == FileSystem::Fuse
    }

    /// Returns the program that it needs besides root.
    fn program(self) -> Option<&'static str> {
        match self {
            FileSystem::Ext4 => Some("mkfs.ext4"),
            FileSystem::Xfs => Some("mkfs.xfs"),
            FileSystem::Btrfs => Some("mkfs.btrfs"),
            FileSystem::Fuse => Some("bindfs"),
            FileSystem::Tmpfs | FileSystem::Overlayfs => None,
        }
    }
}

impl FromStr for FileSystem {
    type Err = String;

    fn from_str(name: &str) -> Result<FileSystem, String> {
        let names = || FileSystem::ALL.map(FileSystem::name).join(", ");
        FileSystem::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("all, or of {}", names()))
    }
}

/// A folder on which a round may run.
pub struct Ground {
    pub kind: Option<FileSystem>,
    pub folder: PathBuf,
    server: Option<Child>,
}

impl Ground {
    /// Uses a folder as it is.
    pub fn here(folder: &Path) -> Ground {
        Ground { kind: None, folder: folder.to_owned(), server: None }
    }

    pub fn name(&self) -> &'static str {
        self.kind.map_or("here", FileSystem::name)
    }

    pub fn is_shared(&self) -> bool {
        self.kind.is_some_and(FileSystem::is_shared)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.kind.is_some() {
            // So that the folder below can be removed; a process that is still in it keeps the file system.
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        }
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Hides later mounts of this thread and its children from other processes. It must be called before there are threads.
pub fn alone() {
    assert!(is_root(), "mounts take root");
    // SAFETY: no precondition.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(left, 0, "{}", std::io::Error::last_os_error());
    must("mount --make-rprivate /");
}

/// Mounts a file system below `base`; returns `None`, with a message, if this machine lacks it.
pub fn mount(kind: FileSystem, base: &Path) -> Option<Ground> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let wanted = match kind {
        FileSystem::Overlayfs => "overlay",
        other => other.name(),
    };
    let missing = kind.program().filter(|program| !has(program)).map(str::to_owned);
    let missing = missing.or_else(|| {
        let there = known.lines().any(|line| line.split_whitespace().last() == Some(wanted)) || loads(wanted);
        (!there).then(|| format!("{wanted} in the kernel"))
    });
    if let Some(missing) = missing {
        println!("without {}: there is no {missing}", kind.name());
        return None;
    }
    let at = base.join(kind.name());
    let on = at.join("on");
    std::fs::create_dir_all(&on).unwrap();
    let (at, on_text) = (at.display(), on.display());
    let mut server = None;
    match kind {
        FileSystem::Tmpfs => must(&format!("mount -t tmpfs none {on_text}")),
        FileSystem::Overlayfs => {
            must(&format!("mkdir {at}/lower {at}/upper {at}/work"));
            let layers = format!("lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work");
            must(&format!("mount -t overlay none -o {layers} {on_text}"));
        }
        FileSystem::Ext4 => image(&format!("{at}"), 256, "mkfs.ext4 -q -F", "ext4"),
        FileSystem::Xfs => image(&format!("{at}"), 400, "mkfs.xfs -q", "xfs"),
        FileSystem::Btrfs => image(&format!("{at}"), 256, "mkfs.btrfs -q", "btrfs"),
        FileSystem::Fuse => {
            must(&format!("mkdir {at}/source"));
            let mut command = Command::new("bindfs");
            command.arg("-f").arg(format!("{at}/source")).arg(&on).stdin(Stdio::null()).process_group(0);
            end_with_us(&mut command);
            server = Some(command.spawn().unwrap());
            let mounted = format!(" {on_text} fuse");
            until("bindfs has mounted", || std::fs::read_to_string("/proc/mounts").unwrap().contains(&mounted));
        }
    }
    Some(Ground { kind: Some(kind), folder: on, server })
}

/// Loads a file system's module, and reports whether the kernel supports the file system.
fn loads(kind: &str) -> bool {
    let _ = Command::new("modprobe").arg(kind).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some(kind))
}

fn image(at: &str, megabytes: u64, make: &str, kind: &str) {
    must(&format!(
        "truncate -s {megabytes}M {at}/image && {make} {at}/image && mount -t {kind} -o loop {at}/image {at}/on"
    ));
}

fn must(line: &str) {
    let ended = Command::new("sh").args(["-c", line]).env("PATH", path()).status().unwrap();
    assert!(ended.success(), "{line}: {ended}");
}

/// Returns a `PATH` with mkfs, which is not on every user's path.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
