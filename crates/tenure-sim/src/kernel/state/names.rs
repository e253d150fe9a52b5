//! Names: folders, links, renames, and the rights to change them.

use super::*;

impl Kernel {
    /// Returns the folder of the last part of a path, and that part.
    pub(super) fn parent<'a>(&self, folder: usize, path: &'a [u8], user: u32) -> Result<(usize, &'a [u8]), Errno> {
        let mut folder = folder;
        let mut rest = path;
        while let Some(slash) = rest.iter().position(|byte| *byte == b'/') {
            self.check_folder(folder, user)?;
            let mut next = self.entry(folder, &rest[..slash]).ok_or(libc::ENOENT)?;
            let mut links = 0;
            while self.inode(next).kind == FileKind::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Err(libc::ELOOP);
                }
                next = self.entry(folder, &self.inode(next).data).ok_or(libc::ENOENT)?;
            }
            folder = next;
            rest = &rest[slash + 1..];
        }
        self.check_folder(folder, user)?;
        Ok((folder, rest))
    }

    pub(super) fn check_folder(&self, folder: usize, user: u32) -> Result<(), Errno> {
        if self.inode(folder).kind != FileKind::Directory {
            return Err(libc::ENOTDIR);
        }
        self.check_mode(folder, user, 0o1)
    }

    pub(super) fn entry(&self, folder: usize, name: &[u8]) -> Option<usize> {
        self.inode(folder).names.iter().find(|(known, _)| known == name).map(|(_, inode)| *inode)
    }

    pub(super) fn set_entry(&mut self, folder: usize, name: &[u8], inode: usize) {
        self.changes += 1;
        let names = &mut self.inode_mut(folder).names;
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, there)) => *there = inode,
            None => names.push((name.to_vec(), inode)),
        }
    }

    pub(super) fn remove_entry(&mut self, folder: usize, name: &[u8]) {
        self.changes += 1;
        self.inode_mut(folder).names.retain(|(known, _)| known != name);
    }

    pub(super) fn check_mode(&self, inode: usize, user: u32, wanted: u32) -> Result<(), Errno> {
        let found = self.inode(inode);
        let bits = if user == found.owner { found.mode >> 6 } else { found.mode };
        if user == ROOT || bits & wanted == wanted { Ok(()) } else { Err(libc::EACCES) }
    }

    /// Checks the right to make names in this folder.
    pub(super) fn check_making(&self, folder: usize, user: u32) -> Result<(), Errno> {
        // A removed folder that is still open stays empty.
        if self.inode(folder).removed {
            return Err(libc::ENOENT);
        }
        self.check_mode(folder, user, 0o3)
    }

    /// Checks the right to remove this file's name from this folder.
    pub(super) fn check_removing(&self, folder: usize, inode: usize, user: u32) -> Result<(), Errno> {
        self.check_mode(folder, user, 0o3)?;
        let sticky = self.inode(folder).mode & 0o1000 != 0;
        let owners = [ROOT, self.inode(folder).owner, self.inode(inode).owner];
        if sticky && !owners.contains(&user) { Err(libc::EPERM) } else { Ok(()) }
    }

    pub(super) fn user(&self, process: usize) -> u32 {
        self.processes[process].user
    }

    pub(in crate::kernel) fn open_folder(
        &mut self,
        process: usize,
        folder: usize,
        path: &[u8],
    ) -> Result<usize, Errno> {
        let user = self.user(process);
        let (parent, name) = self.parent(folder, path, user)?;
        let inode = self.entry(parent, name).ok_or(libc::ENOENT)?;
        match self.inode(inode).kind {
            FileKind::Directory => {}
            // O_DIRECTORY with O_NOFOLLOW: a link is not a folder.
            _ => return Err(libc::ENOTDIR),
        }
        self.check_mode(inode, user, 0o4)?;
        Ok(self.opened(process, inode, Access::Read))
    }

    /// Makes this user the owner of the target's folder.
    pub(in crate::kernel) fn give_first_folder(&mut self, user: u32) {
        self.inode_mut(FOLDER).owner = user;
    }

    /// Opens the target's folder.
    pub(in crate::kernel) fn open_first_folder(&mut self, process: usize) -> usize {
        self.opened(process, FOLDER, Access::Read)
    }

    pub(in crate::kernel) fn unpin(&mut self, inode: usize) {
        self.inode_mut(inode).opens -= 1;
        self.drop_if_unused(inode);
    }

    pub(in crate::kernel) fn pin(&mut self, inode: usize) {
        self.inode_mut(inode).opens += 1;
    }

    pub(in crate::kernel) fn stat(&self, inode: usize) -> Stat {
        let found = self.inode(inode);
        Stat {
            id: FileId { device: DEVICE, inode: self.number(inode) },
            kind: found.kind,
            links: found.links,
            size: found.data.len() as u64,
            mode: found.mode,
            owner: found.owner,
            modified: SystemTime::UNIX_EPOCH + Duration::from_micros(found.modified),
        }
    }

    pub(in crate::kernel) fn stat_at(&self, process: usize, folder: usize, path: &[u8]) -> Result<Option<Stat>, Errno> {
        match self.parent(folder, path, self.user(process)) {
            Ok((folder, name)) => Ok(self.entry(folder, name).map(|inode| self.stat(inode))),
            Err(libc::ENOENT) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Returns the inode of this path if it has a lease, so that an open must wait.
    pub(in crate::kernel) fn is_leased(&self, process: usize, folder: usize, path: &[u8]) -> Option<usize> {
        let (folder, name) = self.parent(folder, path, self.user(process)).ok()?;
        self.entry(folder, name).filter(|inode| !self.inode(*inode).leases.is_empty())
    }

    pub(in crate::kernel) fn has_lease(&self, inode: usize) -> bool {
        self.inodes[inode].as_ref().is_some_and(|inode| !inode.leases.is_empty())
    }

    /// `O_NOFOLLOW`, `O_NONBLOCK`.
    pub(in crate::kernel) fn open(
        &mut self,
        process: usize,
        folder: usize,
        path: &[u8],
        access: Access,
    ) -> Result<usize, Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        let inode = self.entry(folder, name).ok_or(libc::ENOENT)?;
        let found = self.inode(inode);
        match found.kind {
            FileKind::Symlink => return Err(libc::ELOOP),
            FileKind::Directory if access == Access::ReadWrite => return Err(libc::EISDIR),
            _ => {}
        }
        self.check_mode(inode, user, if access == Access::ReadWrite { 0o6 } else { 0o4 })?;
        let conflicts = |kind: LockKind| access == Access::ReadWrite || kind == LockKind::Exclusive;
        if self.inode(inode).leases.iter().any(|(_, kind)| conflicts(*kind)) {
            return Err(libc::EAGAIN);
        }
        Ok(self.opened(process, inode, access))
    }

    pub(super) fn opened(&mut self, process: usize, inode: usize, access: Access) -> usize {
        self.inode_mut(inode).opens += 1;
        if access == Access::ReadWrite {
            self.inode_mut(inode).writers += 1;
            self.changes += 1;
        }
        // Each process has its own range of numbers, so that its numbers do not depend on other processes.
        let first = process * DESCRIPTORS;
        if self.opens.len() < first + DESCRIPTORS {
            self.opens.resize_with(first + DESCRIPTORS, || None);
        }
        let free = self.opens[first..first + DESCRIPTORS].iter().position(Option::is_none);
        let free = first + free.expect("a process that leaks descriptors");
        self.opens[free] = Some(Open { inode, access, process, descriptors: 1 });
        free
    }

    /// `O_CREAT | O_EXCL | O_RDWR`.
    pub(in crate::kernel) fn create(
        &mut self,
        process: usize,
        folder: usize,
        path: &[u8],
        mode: u32,
    ) -> Result<usize, Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        if self.entry(folder, name).is_some() {
            return Err(libc::EEXIST);
        }
        self.check_making(folder, user)?;
        let inode = self.make(FileKind::Regular, mode & !UMASK, user);
        self.inode_mut(inode).links = 1;
        self.set_entry(folder, name, inode);
        Ok(self.opened(process, inode, Access::ReadWrite))
    }

    pub(in crate::kernel) fn link(
        &mut self,
        process: usize,
        folder: usize,
        from: &[u8],
        to: &[u8],
    ) -> Result<(), Errno> {
        let user = self.user(process);
        let (from_folder, from) = self.parent(folder, from, user)?;
        let inode = self.entry(from_folder, from).ok_or(libc::ENOENT)?;
        self.link_inode(user, inode, folder, to)
    }

    /// `linkat(2)` with `AT_EMPTY_PATH`.
    pub(in crate::kernel) fn link_open(
        &mut self,
        process: usize,
        open: usize,
        folder: usize,
        to: &[u8],
    ) -> Result<(), Errno> {
        if self.fs.face != Face::Linux {
            return Err(libc::EOPNOTSUPP);
        }
        self.link_inode(self.user(process), self.inode_of(open), folder, to)
    }

    fn link_inode(&mut self, user: u32, inode: usize, folder: usize, to: &[u8]) -> Result<(), Errno> {
        let (to_folder, to) = self.parent(folder, to, user)?;
        if self.entry(to_folder, to).is_some() {
            return Err(libc::EEXIST);
        }
        self.check_making(to_folder, user)?;
        if self.inode(inode).kind == FileKind::Directory {
            return Err(libc::EPERM);
        }
        // The last name of an open file was removed.
        if self.inode(inode).links == 0 {
            return Err(libc::ENOENT);
        }
        if self.fs.face == Face::Windows {
            return Err(libc::EOPNOTSUPP);
        }
        self.fs.links?;
        // `protected_hardlinks` (`proc_sys_fs(5)`).
        let owner = self.inode(inode).owner;
        if user != ROOT && user != owner && self.check_mode(inode, user, 0o6).is_err() {
            return Err(libc::EPERM);
        }
        if self.fs.aliases {
            self.make_alias(inode, to_folder, to);
            return Ok(());
        }
        self.set_entry(to_folder, to, inode);
        let found = self.inode_mut(inode);
        found.links += 1;
        found.events += 1;
        Ok(())
    }

    fn make_alias(&mut self, inode: usize, folder: usize, name: &[u8]) {
        let (mode, owner) = (self.inode(inode).mode, self.inode(inode).owner);
        let alias = self.make(FileKind::Regular, mode, owner);
        // A number that no other group has.
        let group = self.inodes().filter_map(|other| self.inode(other).shares).max().map_or(0, |last| last + 1);
        let shares = Some(*self.inode_mut(inode).shares.get_or_insert(group));
        let (data, sum, modified) = (self.inode(inode).data.clone(), self.inode(inode).sum, self.inode(inode).modified);
        let made = self.inode_mut(alias);
        (made.links, made.shares, made.data, made.sum, made.modified) = (1, shares, data, sum, modified);
        self.set_entry(folder, name, alias);
    }

    pub(in crate::kernel) fn unlink(&mut self, process: usize, folder: usize, path: &[u8]) -> Result<(), Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        let inode = self.entry(folder, name).ok_or(libc::ENOENT)?;
        self.check_removing(folder, inode, user)?;
        if self.inode(inode).kind == FileKind::Directory {
            return Err(libc::EISDIR);
        }
        self.check_kept(inode, None)?;
        self.remove_entry(folder, name);
        self.lose_link(inode);
        Ok(())
    }

    /// Removes a name in one step, if it is that of the open file: `funlinkat(2)`, or a removal by handle. The file no
    /// longer keeps its name for itself.
    pub(in crate::kernel) fn unlink_same(
        &mut self,
        process: usize,
        folder: usize,
        path: &[u8],
        open: usize,
    ) -> Result<bool, Errno> {
        if !self.fs.face.removes_same() {
            return Err(libc::EOPNOTSUPP);
        }
        let (user, inode) = (self.user(process), self.inode_of(open));
        let found = match self.parent(folder, path, user) {
            Ok((folder, name)) => self.entry(folder, name).filter(|found| *found == inode).map(|_| (folder, name)),
            Err(libc::ENOENT) => None,
            Err(other) => return Err(other),
        };
        let Some((folder, name)) = found else { return Ok(false) };
        self.check_removing(folder, inode, user)?;
        self.check_kept(inode, Some(open))?;
        self.inode_mut(inode).keepers.retain(|keeper| *keeper != open);
        self.remove_entry(folder, name);
        self.lose_link(inode);
        Ok(true)
    }

    /// Keeps others from removing a name, by a handle without `FILE_SHARE_DELETE`.
    pub(in crate::kernel) fn keep_name(
        &mut self,
        process: usize,
        folder: usize,
        path: &[u8],
        open: usize,
    ) -> Result<(), Errno> {
        if !self.fs.face.keeps_names() {
            return Ok(());
        }
        let (user, inode) = (self.user(process), self.inode_of(open));
        let (folder, name) = self.parent(folder, path, user)?;
        if self.entry(folder, name) != Some(inode) {
            return Err(libc::ENOENT);
        }
        self.inode_mut(inode).keepers.push(open);
        self.changes += 1;
        Ok(())
    }

    /// Checks that no open file but `except` keeps this file's name.
    fn check_kept(&self, inode: usize, except: Option<usize>) -> Result<(), Errno> {
        let kept = self.inode(inode).keepers.iter().any(|keeper| Some(*keeper) != except);
        if kept { Err(IN_USE) } else { Ok(()) }
    }

    pub(super) fn lose_link(&mut self, inode: usize) {
        let found = self.inode_mut(inode);
        found.links -= 1;
        found.events += 1;
        self.drop_if_unused(inode);
    }

    pub(in crate::kernel) fn make_dir(
        &mut self,
        process: usize,
        folder: usize,
        path: &[u8],
        mode: u32,
    ) -> Result<(), Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        if self.entry(folder, name).is_some() {
            return Err(libc::EEXIST);
        }
        self.check_making(folder, user)?;
        let inode = self.make(FileKind::Directory, mode & !UMASK, user);
        self.inode_mut(inode).links = 1;
        self.set_entry(folder, name, inode);
        Ok(())
    }

    pub(in crate::kernel) fn remove_dir(&mut self, process: usize, folder: usize, path: &[u8]) -> Result<(), Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        let inode = self.entry(folder, name).ok_or(libc::ENOENT)?;
        self.check_removing(folder, inode, user)?;
        if self.inode(inode).kind != FileKind::Directory {
            return Err(libc::ENOTDIR);
        }
        if !self.inode(inode).names.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.inode_mut(inode).removed = true;
        self.remove_entry(folder, name);
        self.lose_link(inode);
        Ok(())
    }

    /// Makes a symbolic link.
    pub(in crate::kernel) fn make_symlink(&mut self, folder: usize, path: &[u8], target: &[u8]) {
        let inode = self.make(FileKind::Symlink, 0o777, ROOT);
        self.inode_mut(inode).links = 1;
        self.inode_mut(inode).data = target.to_vec();
        self.set_entry(folder, path, inode);
    }

    pub(in crate::kernel) fn rename(
        &mut self,
        process: usize,
        folder: usize,
        from: &[u8],
        to: &[u8],
        how: Rename,
    ) -> Result<(), Errno> {
        let user = self.user(process);
        let (from_folder, from) = self.parent(folder, from, user)?;
        let (to_folder, to) = self.parent(folder, to, user)?;
        let source = self.entry(from_folder, from).ok_or(libc::ENOENT)?;
        let target = self.entry(to_folder, to);
        match (how, target) {
            (Rename::New, Some(_)) => return Err(libc::EEXIST),
            (Rename::Exchange, None) => return Err(libc::ENOENT),
            _ => {}
        }
        // Neither may contain the other.
        if source == to_folder {
            return Err(libc::EINVAL);
        }
        if target == Some(from_folder) {
            return Err(if how == Rename::Exchange { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        let folder = |inode: usize| self.inode(inode).kind == FileKind::Directory;
        let is_folder = folder(source);
        if target == Some(source) {
            return Ok(());
        }
        self.check_removing(from_folder, source, user)?;
        match target {
            None => self.check_making(to_folder, user)?,
            Some(target) => self.check_removing(to_folder, target, user)?,
        }
        let face = self.fs.face;
        let has_exchange = self.fs.exchange && face.takeover_steps() == TakeoverSteps::Exchange;
        if how == Rename::Exchange && !has_exchange || how == Rename::New && face == Face::FreeBsd {
            return Err(libc::EINVAL);
        }
        self.check_kept(source, None)?;
        if let Some(target) = target.filter(|_| how == Rename::Over && face == Face::Windows)
            && self.inode(target).opens > 0
        {
            return Err(libc::EACCES);
        }
        if let (Rename::Over, Some(target)) = (how, target) {
            match (is_folder, folder(target)) {
                (false, true) => return Err(libc::EISDIR),
                (true, false) => return Err(libc::ENOTDIR),
                (true, true) if !self.inode(target).names.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            }
        }
        self.inode_mut(source).events += 1;
        self.set_entry(to_folder, to, source);
        match (how, target) {
            (Rename::Exchange, Some(target)) => {
                self.inode_mut(target).events += 1;
                self.set_entry(from_folder, from, target);
            }
            (_, target) => {
                self.remove_entry(from_folder, from);
                if let Some(target) = target {
                    self.inode_mut(target).removed = is_folder;
                    self.lose_link(target);
                }
            }
        }
        Ok(())
    }

    pub(in crate::kernel) fn entries(&self, folder: usize) -> Vec<(Vec<u8>, FileKind)> {
        let names = self.inode(folder).names.iter();
        let mut entries: Vec<_> = names.map(|(name, inode)| (name.clone(), self.inode(*inode).kind)).collect();
        entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        entries
    }

    /// Returns all names in the target's folder, and in the folders there.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, inode) in &self.inode(FOLDER).names {
            let name = String::from_utf8_lossy(name);
            for (below, _) in &self.inode(*inode).names {
                names.push(format!("{name}/{}", String::from_utf8_lossy(below)));
            }
            names.push(name.into_owned());
        }
        names
    }

    /// Returns the inode of a path in the target's folder.
    pub(crate) fn named(&self, path: &[u8]) -> Option<usize> {
        let (folder, name) = self.parent(FOLDER, path, ROOT).ok()?;
        self.entry(folder, name)
    }

    pub(in crate::kernel) fn chmod(&mut self, process: usize, inode: usize, mode: u32) -> Result<(), Errno> {
        let user = self.user(process);
        let found = self.inode_mut(inode);
        if user != ROOT && user != found.owner {
            return Err(libc::EPERM);
        }
        found.mode = mode;
        found.events += 1;
        self.changes += 1;
        Ok(())
    }
}
