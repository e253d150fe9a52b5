//! The lines of several files as one history.

use super::line::Line;
use crate::model::history::{Ending, MOST, PastTenure};
use crate::sys;

/// The number of lines with one date that are compared with another one. More are no lines of ours.
const MOST_OF_ONE_DATE: usize = 64;

/// Returns the last lines of one file: as many tenures, failed waits and skipped runs as its newest line says.
pub(super) fn last_of_file(lines: Vec<Line>) -> Vec<Line> {
    let keep = number(&lines);
    last(lines, keep).into_iter().map(|past| Line { past, keep }).collect()
}

/// Returns the number that the newest line has. A line of the future does not decide for those of the present.
fn number(lines: &[Line]) -> Option<usize> {
    let now = sys::now();
    let present = lines.iter().filter(|line| line.keep.is_some() && line.past.until <= now);
    present.max_by_key(|line| line.past.until)?.keep
}

/// Returns the last tenures, as many failed waits and as many skipped runs, oldest first, without repetitions. Their number is
/// `keep`, or the one that the newest line with a number has.
pub(super) fn last(mut lines: Vec<Line>, keep: Option<usize>) -> Vec<PastTenure> {
    // Of tenures that began within one millisecond, the fences show the order.
    lines.sort_by_key(|line| (line.past.from, line.past.fence, line.past.pid, line.past.nth));
    let keep = keep.filter(|&keep| keep > 0).or_else(|| number(&lines)).unwrap_or(MOST).min(MOST);
    let mut merged: Vec<PastTenure> = Vec::with_capacity(lines.len());
    for Line { past, .. } in lines {
        // The lines of one tenure have one date, so they are beside each other, but for lines of other processes.
        let from = past.from;
        let beside = merged.iter_mut().rev().take_while(|other| other.from == from).take(MOST_OF_ONE_DATE);
        match beside.into_iter().find(|other| is_same(other, &past)) {
            Some(other) => merge(other, past),
            None => merged.push(past),
        }
    }
    let (mut held, mut failed, mut skipped) = (0, 0, 0);
    let mut kept: Vec<PastTenure> = merged
        .into_iter()
        .rev()
        .filter(|past| {
            let count = match past.ended {
                Ending::Skipped => &mut skipped,
                ended if ended.was_held() => &mut held,
                _ => &mut failed,
            };
            *count += 1;
            *count <= keep
        })
        .collect();
    kept.reverse();
    kept
}

/// Returns whether two lines with one date are about one tenure, or one wait. A crash that was reported late has the fence of
/// a later tenure.
fn is_same(one: &PastTenure, other: &PastTenure) -> bool {
    use Ending::Crashed;
    let crashed = one.ended == Crashed || other.ended == Crashed;
    one.pid == other.pid
        && match (one.ended.was_held(), other.ended.was_held()) {
            (true, true) => crashed || (one.fence.is_some() && one.fence == other.fence) || one == other,
            (false, false) => one == other,
            _ => false,
        }
}

fn merge(into: &mut PastTenure, other: PastTenure) {
    let (mut better, worse) = match other.ended.rank() > into.ended.rank() {
        true => (other, into.clone()),
        false => (into.clone(), other),
    };
    // What only the holder itself knew.
    better.waited = better.waited.or(worse.waited);
    better.exit_code = better.exit_code.or(worse.exit_code);
    better.last_sign = better.last_sign.or(worse.last_sign);
    better.shared |= worse.shared;
    better.why = better.why.or(worse.why);
    *into = better;
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn past(ended: Ending, pid: i64, from: u64, until: u64, fence: u64) -> Line {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let past = PastTenure {
            pid: Some(pid),
            fence: Some(fence).filter(|&fence| fence > 0),
            ..PastTenure::new(ended, at(from), at(until))
        };
        Line { past, keep: None }
    }

    fn ends(lines: Vec<Line>, keep: Option<usize>) -> Vec<(Ending, i64, u64)> {
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        last(lines, keep).into_iter().map(|past| (past.ended, past.pid.unwrap(), seconds(past.until))).collect()
    }

    #[test]
    fn of_two_lines_about_one_tenure_the_one_that_knows_more_counts() {
        use Ending::{Broken, Crashed, Lost, Released, Revoked};
        for (one, other, result) in [
            (past(Broken, 1, 10, 20, 5), past(Lost, 1, 10, 30, 5), (Broken, 1, 20)),
            (past(Released, 1, 10, 20, 5), past(Crashed, 1, 10, 30, 5), (Crashed, 1, 30)),
            (past(Revoked, 1, 10, 20, 5), past(Crashed, 1, 10, 30, 7), (Revoked, 1, 20)),
            (past(Crashed, 1, 10, 30, 5), past(Crashed, 1, 10, 40, 6), (Crashed, 1, 30)),
            (past(Released, 1, 10, 20, 5), past(Released, 1, 10, 20, 5), (Released, 1, 20)),
        ] {
            let clone = |line: &Line| Line { past: line.past.clone(), keep: line.keep };
            assert_eq!(ends(vec![clone(&one), clone(&other)], None), [result]);
            assert_eq!(ends(vec![other, one], None), [result]);
        }
    }

    #[test]
    fn what_only_the_holder_knew_stays() {
        let mut own = past(Ending::Lost, 1, 10, 30, 5);
        (own.past.exit_code, own.past.waited) = (Some(143), Some(Duration::from_secs(1)));
        let merged = last(vec![own, past(Ending::Broken, 1, 10, 20, 5)], None);
        assert_eq!((merged.len(), merged[0].exit_code, merged[0].ended), (1, Some(143), Ending::Broken));
        assert_eq!(merged[0].waited, Some(Duration::from_secs(1)));
    }

    #[test]
    fn tenures_of_one_moment_are_not_mixed_up() {
        use Ending::{Busy, Released};
        let lines = || {
            vec![
                past(Released, 1, 10, 10, 5),
                past(Released, 1, 10, 10, 6),
                past(Released, 2, 10, 10, 7),
                past(Busy, 1, 10, 10, 0),
                past(Released, 1, 10, 10, 5),
                past(Busy, 1, 10, 10, 0),
                past(Busy, 1, 10, 11, 0),
            ]
        };
        assert_eq!(last(lines(), None).len(), 5);
    }

    #[test]
    fn failed_waits_push_no_tenure_out() {
        use Ending::{Busy, Released};
        let mut lines: Vec<Line> = (0..5).map(|at| past(Released, 1, at, at, at + 1)).collect();
        lines.extend((10..100).map(|at| past(Busy, 2, at, at, 0)));
        assert_eq!(
            ends(lines, Some(3)),
            [(Released, 1, 2), (Released, 1, 3), (Released, 1, 4), (Busy, 2, 97), (Busy, 2, 98), (Busy, 2, 99)]
        );
        // The newest line says how many are kept.
        let mut lines: Vec<Line> = (0..5).map(|at| past(Released, 1, at, at, at + 1)).collect();
        (lines[1].keep, lines[4].keep) = (Some(4), Some(2));
        assert_eq!(ends(lines, None), [(Released, 1, 3), (Released, 1, 4)]);
    }
}
