//! Open files: kernel locks and their queues, reading, writing, leases.

use super::*;

impl Kernel {
    pub(in crate::kernel) fn duplicate(&mut self, open: usize) {
        self.opens[open].as_mut().expect("an open file").descriptors += 1;
    }

    /// Returns whether another process can notice the close of this open file.
    pub(in crate::kernel) fn close_shows(&self, open: usize) -> bool {
        let file = self.open_file(open);
        let inode = self.inode(file.inode);
        file.descriptors == 1
            && (file.access == Access::ReadWrite
                || inode.links == 0
                || inode.locks.iter().any(|(held, _)| *held == open)
                || inode.leases.iter().any(|(held, _)| *held == open)
                || inode.keepers.contains(&open)
                || inode.marks.iter().any(|(marked, _)| *marked == open))
    }

    pub(in crate::kernel) fn close(&mut self, open: usize) {
        let file = self.opens[open].as_mut().expect("an open file");
        file.descriptors -= 1;
        if file.descriptors > 0 {
            return;
        }
        let file = self.opens[open].take().expect("an open file");
        let inode = self.inodes[file.inode].as_mut().expect("an inode that is in use");
        let before = inode.locks.len() + inode.leases.len() + inode.keepers.len();
        inode.locks.retain(|(held, _)| *held != open);
        inode.leases.retain(|(held, _)| *held != open);
        inode.keepers.retain(|keeper| *keeper != open);
        let marks = inode.marks.len();
        inode.marks.retain(|(marked, _)| *marked != open);
        if marks != inode.marks.len() {
            self.changes += 1;
        }
        inode.opens -= 1;
        if file.access == Access::ReadWrite {
            inode.writers -= 1;
            inode.events += 1;
        }
        if file.access == Access::ReadWrite
            || before != inode.locks.len() + inode.leases.len() + inode.keepers.len()
            || inode.links == 0
        {
            self.changes += 1;
        }
        self.drop_if_unused(file.inode);
    }

    /// `fcntl(2)`, `F_OFD_SETLK` of a numbered byte, for reading.
    pub(in crate::kernel) fn mark(&mut self, open: usize, number: u64) {
        let inode = self.inode_of(open);
        let inode = self.inodes[inode].as_mut().expect("an inode that is in use");
        if !inode.marks.contains(&(open, number)) {
            inode.marks.push((open, number));
            self.changes += 1;
        }
    }

    /// `fcntl(2)`, `F_OFD_GETLK` of a numbered byte, for writing.
    pub(in crate::kernel) fn is_marked(&self, open: usize, number: u64) -> bool {
        let marks = &self.inode(self.inode_of(open)).marks;
        marks.iter().any(|(marked, byte)| *marked != open && *byte == number)
    }

    /// `flock(2)`, `LOCK_NB`. A lock of the other kind is released first, and stays released if the new one is refused.
    pub(in crate::kernel) fn try_lock(&mut self, open: usize, kind: LockKind) -> bool {
        let inode = self.inode_of(open);
        let inode = self.inodes[inode].as_mut().expect("an inode that is in use");
        if inode.locks.contains(&(open, kind)) {
            return true;
        }
        let before = inode.locks.len();
        inode.locks.retain(|(held, _)| *held != open);
        if before != inode.locks.len() {
            self.changes += 1;
        }
        if inode.locks.iter().any(|(_, held)| conflict(*held, kind)) {
            return false;
        }
        inode.locks.push((open, kind));
        self.changes += 1;
        true
    }

    /// Puts a thread into the queue for a lock that is taken.
    pub(in crate::kernel) fn queue_for_lock(&mut self, thread: usize, open: usize, kind: LockKind) {
        let inode = self.inode_of(open);
        self.inode_mut(inode).queue.push((thread, open, kind));
        self.changes += 1;
    }

    pub(in crate::kernel) fn leave_queue(&mut self, thread: usize, open: usize) {
        let inode = self.inode_of(open);
        self.inode_mut(inode).queue.retain(|waiting| (waiting.0, waiting.1) != (thread, open));
    }

    /// Returns whether this thread, which is in the queue, may try again. Only the first of those that exclude each other is
    /// woken. Until it has run, a newcomer can still take the lock before it.
    pub(in crate::kernel) fn is_woken(&self, thread: usize, open: usize) -> bool {
        let inode = self.inode(self.inode_of(open));
        let at = inode.queue.iter().position(|waiting| (waiting.0, waiting.1) == (thread, open));
        let at = at.expect("a thread in the queue");
        let kind = inode.queue[at].2;
        !inode.locks.iter().any(|(_, held)| conflict(*held, kind))
            && !inode.queue[..at].iter().any(|(_, _, earlier)| conflict(*earlier, kind))
    }

    pub(in crate::kernel) fn unlock(&mut self, open: usize) {
        let inode = self.inode_of(open);
        let inode = self.inodes[inode].as_mut().expect("an inode that is in use");
        let before = inode.locks.len();
        inode.locks.retain(|(held, _)| *held != open);
        if before != inode.locks.len() {
            self.changes += 1;
        }
    }

    pub(in crate::kernel) fn read(&self, open: usize, buffer: &mut [u8]) -> Result<usize, Errno> {
        let inode = self.inode(self.inode_of(open));
        if inode.kind == FileKind::Directory {
            return Err(libc::EISDIR);
        }
        let length = inode.data.len().min(buffer.len());
        buffer[..length].copy_from_slice(&inode.data[..length]);
        Ok(length)
    }

    pub(in crate::kernel) fn write(&mut self, open: usize, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        if self.open_file(open).access != Access::ReadWrite {
            return Err(libc::EBADF);
        }
        if i64::try_from(offset).is_err() {
            return Err(libc::EINVAL);
        }
        let (inode, clock, offset) = (self.inode_of(open), self.clock, offset as usize);
        let inode = self.inode_mut(inode);
        let end = offset + bytes.len();
        if inode.data.len() < end {
            inode.data.resize(end, 0);
        }
        inode.data[offset..end].copy_from_slice(bytes);
        inode.sum = mix_bytes(1, &inode.data);
        inode.modified = clock;
        inode.events += 1;
        let (shares, sum) = (inode.shares, inode.sum);
        let data = shares.map(|_| inode.data.clone()).unwrap_or_default();
        self.changes += 1;
        if shares.is_some() {
            for other in self.inodes.iter_mut().flatten().filter(|other| other.shares == shares) {
                (other.data, other.sum, other.modified) = (data.clone(), sum, clock);
            }
        }
        Ok(())
    }

    /// `F_SETLEASE`: `F_RDLCK` for a shared lease, `F_WRLCK` for an exclusive one.
    pub(in crate::kernel) fn take_lease(&mut self, process: usize, open: usize, kind: LockKind) -> LeaseOutcome {
        let (inode, user) = (self.inode_of(open), self.user(process));
        let (leases, face) = (self.fs.leases && self.fs.face.leases(kind), self.fs.face);
        let inode = self.inode_mut(inode);
        let may_ask = user == ROOT || user == inode.owner || face != Face::Linux;
        if !leases || !may_ask || inode.kind != FileKind::Regular {
            return LeaseOutcome::Unavailable;
        }
        let refused = match kind {
            LockKind::Shared => inode.writers > 0 || inode.leases.iter().any(|(_, other)| conflict(*other, kind)),
            LockKind::Exclusive => inode.opens > 1,
        };
        if refused {
            return LeaseOutcome::Refused;
        }
        inode.leases.push((open, kind));
        LeaseOutcome::Granted
    }

    pub(in crate::kernel) fn give_lease_back(&mut self, open: usize) {
        let inode = self.inode_of(open);
        self.inode_mut(inode).leases.retain(|(held, _)| *held != open);
        self.changes += 1;
    }
}
