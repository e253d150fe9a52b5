//! `tenure completions`: the shell learns the words.

use clap::Command;
use clap_complete::Shell;

use crate::exit::{self, Failure};
use crate::report;

/// Print a completion script for a shell
///
/// Subcommands, options and their values complete; targets complete as paths.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  bash         tenure completions bash > ~/.local/share/bash-completion/completions/tenure
  zsh          tenure completions zsh > ~/.zfunc/_tenure    (with fpath+=~/.zfunc before compinit)
  fish         tenure completions fish > ~/.config/fish/completions/tenure.fish
  elvish       tenure completions elvish >> ~/.config/elvish/rc.elv
  powershell   tenure completions powershell >> $PROFILE
  for now      source <(tenure completions bash)")]
pub(crate) struct Args {
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut words: Command) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut words, "tenure", &mut script);
    report::print(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}
