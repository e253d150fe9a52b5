//! The verdict on a round: the lock is free, no file is left over, and the transcript has every acknowledged line.

use std::collections::HashSet;
use std::path::Path;

use tenure::State;

/// Returns the faults of the lock at the end.
pub fn of_lock(target: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    match tenure::status(target) {
        Ok(found) if found.state == State::Free && found.waiters.unwrap_or(0) == 0 => {}
        other => faults.push(format!("the lock is not free at the end: {other:?}")),
    }
    let name = target.file_name().unwrap().to_string_lossy();
    let parent = target.parent().unwrap();
    if parent.join(format!("{name}.lock")).exists() || parent.join(format!(".tenure/{name}.lock.swap")).exists() {
        faults.push("a lock file or a swap remains".to_owned());
    }
    // A process that was killed while it created an anchor leaves it unfinished, until the next creation or a sweep.
    let options = tenure::CleanOptions::default().idle_anchor_age(std::time::Duration::ZERO);
    if let Err(error) = tenure::clean(parent, &options) {
        faults.push(format!("the sweep failed: {error}"));
    }
    for left in [format!("{name}.lock"), format!(".tenure/{name}.lock.swap"), format!(".tenure/{name}.lock.new")] {
        if parent.join(&left).exists() {
            faults.push(format!("remains after a sweep: {left}"));
        }
    }
    faults
}

/// Returns the faults of a transcript. `foreign`: it may contain lines without a fence.
pub fn of_transcript(text: &str, foreign: bool, acknowledged: &HashSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fence = 0;
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["N", now, _, _, "."] if now.parse::<u64>().is_ok() => {
                let now: u64 = now.parse().unwrap();
                if now <= fence {
                    faults.push(format!("line {}: fence {now} follows fence {fence}", number + 1));
                }
                fence = now;
            }
            ["F", _, _, "."] if foreign => {}
            _ => faults.push(format!("line {} is torn: {line:?}", number + 1)),
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        faults.push("the last line is torn".to_owned());
    }
    let lines: HashSet<&str> = text.lines().collect();
    for line in acknowledged.iter().filter(|line| !lines.contains(line.trim_end())) {
        faults.push(format!("lost although acknowledged: {line:?}"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str, foreign: bool, acknowledged: &[&str]) -> usize {
        of_transcript(text, foreign, &acknowledged.iter().map(|line| (*line).to_owned()).collect()).len()
    }

    #[test]
    fn a_good_transcript_has_no_fault() {
        assert_eq!(faults("N 3 40 1 .\nN 4 41 1 .\nF 50 1 .\n", true, &["N 4 41 1 .\n", "F 50 1 .\n"]), 0);
        assert_eq!(faults("", false, &[]), 0);
    }

    #[test]
    fn each_fault_is_found() {
        assert_eq!(faults("N 4 40 1 .\nN 3 41 1 .\n", false, &[]), 1, "a fence decreased");
        assert_eq!(faults("N 4 40 1 .\nN 4 41 1 .\n", false, &[]), 1, "a fence occurred twice");
        assert_eq!(faults("N 3 4N 4 41 1 .\n", false, &[]), 1, "a line is torn");
        assert_eq!(faults("N 3 40 1 .\nN 4 41", false, &[]), 2, "the last line is torn");
        assert_eq!(faults("F 50 1 .\n", false, &[]), 1, "a foreign line without a foreign program");
        assert_eq!(faults("N 3 40 1 .\n", false, &["N 4 41 1 .\n"]), 1, "an acknowledged line is lost");
    }
}
