//! Three members, each with processors that serve one request after the other, and a leader that may die.

use std::time::Duration;

/// A moment of virtual time, in nanoseconds.
pub(crate) type Time = u64;

pub(crate) const MEMBERS: usize = 3;

pub(crate) fn nanos(duration: Duration) -> Time {
    u64::try_from(duration.as_nanos()).unwrap()
}

struct Member {
    /// When each processor has done what it was given.
    free: Vec<Time>,
    busy: Time,
    down_until: Time,
}

pub(crate) struct Cluster {
    members: [Member; MEMBERS],
    /// Writes are applied one after the other.
    writer: Time,
    /// The cluster answers nothing until then.
    leaderless_until: Time,
    /// When each leader but the first was elected.
    elections: Vec<Time>,
}

/// What a member has to do.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Read(Time),
    Write(Time),
}

impl Cluster {
    pub(crate) fn new(cores: usize) -> Cluster {
        let member = || Member { free: vec![0; cores], busy: 0, down_until: 0 };
        let members = std::array::from_fn(|_| member());
        Cluster { members, writer: 0, leaderless_until: 0, elections: Vec::new() }
    }

    /// Returns when a member has done the work that arrives then; `None` if it is down.
    pub(crate) fn serve(&mut self, at: usize, arrival: Time, work: Work) -> Option<Time> {
        let member = &mut self.members[at];
        if arrival < member.down_until {
            return None;
        }
        let (Work::Read(cost) | Work::Write(cost)) = work;
        let ready = arrival.max(self.leaderless_until);
        let core = member.free.iter_mut().min().unwrap();
        *core = ready.max(*core) + cost;
        member.busy += cost;
        let mut done = *core;
        if let Work::Write(cost) = work {
            // A write that waits for others takes no processor meanwhile.
            self.writer = ready.max(self.writer) + cost;
            done = done.max(self.writer);
        }
        Some(done)
    }

    /// Kills a member that leads. The cluster has another leader at `until`, and the member is back at `back`.
    pub(crate) fn fail_over(&mut self, at: usize, now: Time, until: Time, back: Time) {
        self.leaderless_until = until;
        self.elections.push(until);
        for member in &mut self.members {
            for core in member.free.iter_mut().filter(|core| **core > now) {
                *core += until - now;
            }
        }
        self.members[at].down_until = back;
        self.members[at].free.fill(back);
    }

    /// Returns the term of the leader at that time.
    pub(crate) fn term(&self, at: Time) -> usize {
        self.elections.iter().filter(|elected| **elected <= at).count()
    }

    /// Returns the part of its time that the busiest member has worked.
    pub(crate) fn busy(&self, of: Time) -> f64 {
        let busiest = self.members.iter().map(|member| member.busy).max().unwrap();
        busiest as f64 / (of as f64 * self.members[0].free.len() as f64)
    }

    /// Forgets the work that was done so far.
    pub(crate) fn reset_busy(&mut self) {
        self.members.iter_mut().for_each(|member| member.busy = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_use_all_processors_and_writes_wait_for_each_other() {
        let mut cluster = Cluster::new(2);
        let served: Vec<_> = (0..3).map(|_| cluster.serve(0, 10, Work::Read(100))).collect();
        assert_eq!(served, [Some(110), Some(110), Some(210)]);
        let mut cluster = Cluster::new(2);
        let served: Vec<_> = (0..3).map(|at| cluster.serve(at, 10, Work::Write(100))).collect();
        assert_eq!(served, [Some(110), Some(210), Some(310)]);
    }

    #[test]
    fn a_failover_stops_all_and_begins_a_term() {
        let mut cluster = Cluster::new(1);
        assert_eq!(cluster.serve(1, 0, Work::Read(100)), Some(100));
        cluster.fail_over(0, 50, 1000, 5000);
        // What was under way at another member ends after the failover.
        assert_eq!(cluster.serve(1, 60, Work::Read(10)), Some(1060));
        assert_eq!(cluster.serve(0, 60, Work::Read(10)), None);
        assert_eq!(cluster.serve(0, 5000, Work::Read(10)), Some(5010));
        assert_eq!((cluster.term(999), cluster.term(1000)), (0, 1));
    }
}
