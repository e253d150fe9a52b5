//! `tenure man`: prints or writes manual pages.

use std::io;
use std::path::PathBuf;

use clap::{Command, ValueHint};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::output::{Failure, describe, exit, stream};
use crate::sys;

/// Print the manual page, or write all pages into a folder
///
/// Without a folder, the page tenure.1 is printed. With a folder, that page and a page for each subcommand are written to
/// it.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure man | man -l -                                              read the page
  tenure man ~/.local/share/man/man1 && man tenure-run               install all pages")]
pub(crate) struct Args {
    /// The folder for the pages; it must exist
    #[arg(value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, command: Command) -> Result<u8, Failure> {
    let mut command = command.disable_help_subcommand(true);
    // Sets the full names of the subcommands.
    command.build();
    let Some(dir) = &args.dir else {
        stream::print(&String::from_utf8_lossy(&page(&command)?))?;
        return Ok(exit::OK);
    };
    for command in [&command].into_iter().chain(command.get_subcommands()) {
        let path = dir.join(Man::new(command.clone()).get_filename());
        sys::write_file(&path, &page(command)?).map_err(|error| {
            let mut failure = Failure::io(&describe::path(&path), &error);
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                failure.code = exit::CANNOT_CREATE;
                failure.message += "; name a folder that exists";
            }
            failure
        })?;
    }
    Ok(exit::OK)
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    write_page(command, &mut page).map_err(|error| Failure::io("the manual page", &error))?;
    Ok(page)
}

fn write_page(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    if let Some(help) = command.get_after_long_help() {
        // The crate would reflow these lines like a paragraph.
        sections(&help.to_string()).to_writer(page)?;
    }
    Ok(())
}

/// Renders the last part of the help. `Examples:` and similar lines become headings of preformatted sections; other text
/// becomes notes.
fn sections(help: &str) -> Roff {
    let mut roff = Roff::new();
    let mut lines = help.lines().peekable();
    while let Some(line) = lines.next() {
        let indented = |line: &&str| line.is_empty() || line.starts_with(' ');
        if line.is_empty() {
            continue;
        }
        match line.strip_suffix(':') {
            Some(title) => {
                roff.control("SH", [title.to_uppercase().as_str()]).control("nf", []);
                while let Some(line) = lines.next_if(indented) {
                    roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
                }
                roff.control("fi", []);
            }
            None => {
                roff.control("SH", ["NOTES"]).text([roman(line)]);
                while let Some(line) = lines.next_if(|line| !line.is_empty()) {
                    roff.text([roman(line)]);
                }
            }
        }
    }
    roff
}
