//! The options of `ls` and `clean` that select which folders are searched.

#[derive(clap::Args)]
pub(crate) struct WalkOptions {
    /// Search the folders below it too; links are not followed
    #[arg(short, long)]
    pub(crate) recursive: bool,

    /// With --recursive, search other file systems too
    #[arg(long, requires = "recursive")]
    pub(crate) cross_file_systems: bool,
}
