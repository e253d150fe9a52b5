//! `tenure completions`: prints completion scripts.

use clap::Command;
use clap_complete::Shell;

use crate::output::{Failure, exit, stream};

/// Print a completion script for a shell
///
/// The script completes subcommands, options and their values, and targets as paths.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  bash         tenure completions bash > ~/.local/share/bash-completion/completions/tenure
  zsh          tenure completions zsh > ~/.zfunc/_tenure    (with fpath+=~/.zfunc before compinit)
  fish         tenure completions fish > ~/.config/fish/completions/tenure.fish
  elvish       tenure completions elvish >> ~/.config/elvish/rc.elv
  powershell   tenure completions powershell >> $PROFILE
  this shell   source <(tenure completions bash)")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut command: Command) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "tenure", &mut script);
    stream::print(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}
