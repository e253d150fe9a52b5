//! The options of `ls` and `clean` that select which folders are searched.

use tenure::ListOptions;

#[derive(clap::Args, Clone, Copy)]
pub(crate) struct WalkOptions {
    /// Search the folders below it too; links are not followed
    #[arg(short, long)]
    pub(crate) recursive: bool,

    /// With --recursive, search other file systems too
    #[arg(long, requires = "recursive")]
    pub(crate) cross_file_systems: bool,
}

impl WalkOptions {
    /// Returns these options for the library's list.
    pub(crate) fn for_list(self) -> ListOptions {
        ListOptions::default().recursive(self.recursive).cross_file_systems(self.cross_file_systems)
    }
}
