//! `tenure status --deadlocks`: shows the circles of programs that wait for each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tenure::{Circle, ListOptions, Waiting, escape};

use super::process::Format;
use crate::output::json::{self, DeadlocksJson};
use crate::output::{Failure, describe, exit, stream};
use crate::sys;

pub(super) fn run(dir: Option<&Path>, format: Format) -> Result<u8, Failure> {
    let found = match dir {
        Some(dir) => tenure::deadlocks(dir, &ListOptions::default().recursive(true))?,
        None => on_this_machine()?,
    };
    if format == Format::Json {
        json::print(&DeadlocksJson { deadlocks: &found })?;
    } else if found.is_empty() {
        let place = dir.map_or_else(
            || "on this machine, as far as this user can see".to_owned(),
            |dir| format!("in {}", describe::path(dir)),
        );
        stream::message(&format!("no deadlocks {place}"));
    } else {
        stream::print(&found.iter().map(text).collect::<String>())?;
    }
    Ok(exit::OK)
}

/// Finds the circles in the folders of the locks whose holders wait: such a holder has its note open.
fn on_this_machine() -> Result<Vec<Circle>, Failure> {
    let notes = sys::open_wait_notes().map_err(|error| Failure::io("the processes", &error))?;
    // `FOLDER/.tenure/NAME`.
    let folders: BTreeSet<PathBuf> =
        notes.iter().filter_map(|note| note.parent()?.parent().map(Path::to_owned)).collect();
    let mut found: Vec<Circle> = Vec::new();
    for folder in folders {
        // A folder of another mount namespace, or one that was removed meanwhile.
        let Ok(circles) = tenure::deadlocks(&folder, &ListOptions::default()) else { continue };
        for circle in circles {
            if !found.contains(&circle) {
                found.push(circle);
            }
        }
    }
    Ok(found)
}

/// Describes a circle in lines of text.
fn text(circle: &Circle) -> String {
    let mut text = format!("deadlock of {}:\n", circle.waits.len());
    for waiting in &circle.waits {
        text += &format!("  {}\n", line(waiting));
    }
    text
}

fn line(waiting: &Waiting) -> String {
    match waiting.since.and_then(|since| std::time::SystemTime::now().duration_since(since).ok()) {
        Some(age) => format!("{waiting}, for {}", escape::duration(age)),
        None => waiting.to_string(),
    }
}
