//! `tenure man`: the manual's pages.

use std::io;
use std::path::PathBuf;

use clap::{Command, ValueHint};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::exit::{self, Failure};
use crate::{report, sys};

/// Print the manual page, or write all pages into a folder
///
/// Without a folder tenure.1 goes to standard output; with one, a page for each subcommand is written too.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure man | man -l -
  tenure man ~/.local/share/man/man1 && man tenure-run")]
pub(crate) struct Args {
    /// The folder for the pages; it must exist
    #[arg(value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, words: Command) -> Result<u8, Failure> {
    let mut words = words.disable_help_subcommand(true);
    // Gives the subcommands their full names.
    words.build();
    let Some(dir) = &args.dir else {
        report::print(&String::from_utf8_lossy(&page(&words)?))?;
        return Ok(exit::OK);
    };
    for words in [&words].into_iter().chain(words.get_subcommands()) {
        let path = dir.join(Man::new(words.clone()).get_filename());
        sys::write_file(&path, &page(words)?).map_err(|error| {
            let mut failure = Failure::io(&report::path(&path), &error);
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                failure.code = exit::CANNOT_CREATE;
                failure.message += "; name a folder that exists";
            }
            failure
        })?;
    }
    Ok(exit::OK)
}

fn page(words: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    write_page(words, &mut page).map_err(|error| Failure::io("the manual page", &error))?;
    Ok(page)
}

fn write_page(words: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(words.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if words.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    if let Some(help) = words.get_after_long_help() {
        // The crate would fill these lines like a paragraph.
        sections(&help.to_string()).to_writer(page)?;
    }
    Ok(())
}

/// The help's last part as sections: `Examples:` and the lines below it, as they stand; what is in no section, as text.
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
