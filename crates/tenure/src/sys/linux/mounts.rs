//! `/proc/self/mountinfo`: the mounts and their devices (`proc_pid_mountinfo(5)`).

use crate::sys::unix::Dir;

/// Returns the device number of the mount that a folder is on (`proc_pid_mountinfo(5)`).
pub(super) fn device_of(dir: &Dir) -> Option<(u32, u32)> {
    let mount = dir.mount().ok()?;
    // The name of another mount need not be UTF-8.
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    device(line(&String::from_utf8_lossy(&mounts), mount)?)
}

/// Returns the line of the mount with this number (`proc_pid_mountinfo(5)`, field 1).
pub(crate) fn line(mounts: &str, id: u64) -> Option<&str> {
    mounts.lines().find(|line| line.split(' ').next().and_then(|first| first.parse().ok()) == Some(id))
}

/// Returns the device number in a line (`proc_pid_mountinfo(5)`, field 3).
pub(crate) fn device(line: &str) -> Option<(u32, u32)> {
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mounts_device() {
        let line = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw";
        assert_eq!(device(line), Some((254, 0)));
        assert_eq!(device("27 1 x"), None);
        assert_eq!(device(""), None);
    }
}
