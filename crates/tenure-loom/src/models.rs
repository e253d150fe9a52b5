//! The scenarios.

use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

use crate::sync::Mutex;
use crate::sys::table::Table;
use crate::sys::{self, Entry, ForkLocal};
use crate::thread_pool::Pool;
use crate::ticket::{Ticket, WaitState, Woken};
use crate::wait_queue::{WaitQueue, Waits};
use crate::{explore, explore_up_to};

type Number = Ticket<u32, ()>;

/// Settles it, and wakes whom that concerns.
fn settle(ticket: &Number, outcome: WaitState<u32, ()>) -> bool {
    let mut woken = Vec::new();
    let settled = ticket.resolve(outcome, &mut woken);
    woken.into_iter().for_each(Waker::wake);
    settled
}

#[test]
fn a_sleeper_hears_of_its_turn() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || assert!(settle(&theirs, WaitState::Granted(7))));
        assert_eq!(ticket.wait(None), Woken::Settled(Ok(7)));
        server.join().unwrap();
        assert!(!settle(&ticket, WaitState::Granted(8)), "it came once");
    });
}

/// Told by one, settled by another: it sleeps for ever in no order, which loom would report.
#[test]
fn who_is_told_to_look_hears_of_its_turn_too() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let open = Arc::new(AtomicBool::new(false));
        let teller = {
            let (ticket, open) = (Arc::clone(&ticket), Arc::clone(&open));
            thread::spawn(move || {
                open.store(true, Ordering::Release);
                ticket.notify();
            })
        };
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || assert!(settle(&theirs, WaitState::Granted(7))));
        loop {
            match ticket.wait(None) {
                Woken::Notified => assert!(open.load(Ordering::Acquire)),
                Woken::Settled(outcome) => break assert_eq!(outcome, Ok(7)),
                Woken::Late => panic!("it has all the time there is"),
            }
        }
        teller.join().unwrap();
        server.join().unwrap();
        ticket.notify();
        assert_eq!((ticket.is_queued(), ticket.give_up()), (false, None));
    });
}

struct Alarm(Notify);

impl Wake for Alarm {
    fn wake(self: StdArc<Alarm>) {
        self.0.notify();
    }
}

#[test]
fn whoever_polled_last_is_woken() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || assert!(settle(&theirs, WaitState::Failed(()))));
        // A future that moves from one task to another is polled with another waker.
        let [first, last] = [(); 2].map(|()| StdArc::new(Alarm(Notify::new())));
        let mut outcome = ticket.poll(&Waker::from(first));
        while outcome.is_none() {
            outcome = ticket.poll(&Waker::from(StdArc::clone(&last)));
            if outcome.is_none() {
                last.0.wait();
            }
        }
        assert_eq!(outcome, Some(Err(())));
        server.join().unwrap();
    });
}

#[test]
fn a_turn_comes_or_is_given_up_never_both() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || settle(&theirs, WaitState::Granted(7)));
        let outcome = ticket.give_up();
        let settled = server.join().unwrap();
        assert_eq!(outcome, settled.then_some(Ok(7)));
        assert_eq!((ticket.is_queued(), ticket.give_up()), (false, None));
    });
}

struct Waiter(Number);

impl Waits for Waiter {
    fn waits(&self) -> bool {
        self.0.is_queued()
    }
}

/// As the slot does: whoever gives up, and whoever delivers, has the queue's mutex; the system calls between are made
/// without it.
#[test]
fn a_grant_goes_to_one_that_waits_or_comes_back() {
    explore(|| {
        let waiters = [(); 2].map(|()| StdArc::new(Waiter(Number::new())));
        let mut line = WaitQueue::new();
        waiters.iter().for_each(|waiter| line.join(StdArc::clone(waiter)));
        let line = Arc::new(Mutex::new(line));
        let leavers = waiters.map(|waiter| {
            let line = Arc::clone(&line);
            thread::spawn(move || {
                let mut line = line.lock().unwrap();
                let outcome = waiter.0.give_up();
                if outcome.is_none() {
                    line.left();
                }
                outcome.is_some()
            })
        });
        let mut granted = 0;
        loop {
            let Some(head) = line.lock().unwrap().first().cloned() else { break };
            let mut line = line.lock().unwrap();
            if head.0.is_queued() {
                assert!(settle(&head.0, WaitState::Granted(1)), "nobody leaves without the mutex");
                line.left();
                granted += 1;
                break;
            }
        }
        let holding = leavers.map(|leaver| leaver.join().unwrap()).into_iter().filter(|holds| *holds).count();
        assert_eq!(holding, granted);
        let mut line = line.lock().unwrap();
        assert!(granted == 1 || line.is_empty(), "a grant came back although somebody waits");
    });
}

/// Opened once; whoever comes waits for that.
#[derive(Default)]
struct Gate(loom::sync::Mutex<bool>, loom::sync::Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.lock().unwrap();
        while !*open {
            open = self.1.wait(open).unwrap();
        }
    }
}

/// Each of two jobs waits for the other: were both put on one thread, neither would end.
#[test]
fn no_job_waits_behind_another() {
    explore_up_to(2, || {
        let pool: &'static Pool = Box::leak(Box::default());
        let gates = Arc::new([Gate::default(), Gate::default()]);
        // The thread of this job is idle by now, or about to be, or about to end.
        pool.run(|| ()).unwrap();
        for own in 0..2 {
            let gates = Arc::clone(&gates);
            pool.run(move || {
                gates[own].open();
                gates[1 - own].pass();
            })
            .unwrap();
        }
    });
}

#[test]
fn every_job_is_done_once() {
    explore(|| {
        let pool: &'static Pool = Box::leak(Box::default());
        let done = Arc::new((AtomicUsize::new(0), Gate::default()));
        for _ in 0..2 {
            let done = Arc::clone(&done);
            let job = move || {
                if done.0.fetch_add(1, Ordering::AcqRel) == 1 {
                    done.1.open();
                }
            };
            pool.run(job).unwrap();
        }
        // Waits for ever, which loom reports, if one is lost.
        done.1.pass();
        assert_eq!(done.0.load(Ordering::Acquire), 2);
    });
}

#[test]
fn a_process_has_one_of_each_global_and_a_forked_child_its_own() {
    explore(|| {
        let global: &'static ForkLocal<AtomicUsize> = Box::leak(Box::new(ForkLocal::new()));
        let ours = || {
            let get = || {
                let found = global.get(|| AtomicUsize::new(0));
                found.fetch_add(1, Ordering::AcqRel);
                std::ptr::from_ref(found) as usize
            };
            let others = [(); 2].map(|()| thread::spawn(get));
            let here = get();
            let there = others.map(|other| other.join().unwrap());
            assert_eq!(there, [here; 2]);
            assert_eq!(global.get(|| panic!("it is there")).load(Ordering::Acquire), 3);
            here
        };
        let parents = global.get(|| AtomicUsize::new(0));
        sys::fork();
        assert_ne!(ours(), std::ptr::from_ref(parents) as usize);
    });
}

/// A handler on one thread, while another releases one lock and takes the next: what the handler works with is held
/// throughout, and the fields are nobody else's.
#[test]
fn a_handler_works_only_with_what_is_held() {
    explore(|| {
        let table: &'static Table<Entry> = Box::leak(Box::new(Table::new()));
        let held = Arc::new([AtomicBool::new(true), AtomicBool::new(false)]);
        let entered = table.enter(Entry::empty, |entry| entry.fill(0));
        let theirs = Arc::clone(&held);
        let handler = thread::spawn(move || {
            let mut seen = Vec::new();
            table.take_each(|entry| {
                let lock = entry.lock();
                assert!(theirs[lock].load(Ordering::Acquire), "it was let go before");
                seen.push(lock);
                thread::yield_now();
                assert!(theirs[lock].load(Ordering::Acquire), "it was let go meanwhile");
                assert_eq!(entry.lock(), lock);
            });
            seen
        });
        entered.leave();
        held[0].store(false, Ordering::Release);
        held[1].store(true, Ordering::Release);
        let next = table.enter(Entry::empty, |entry| entry.fill(1));
        let seen = handler.join().unwrap();
        assert!(seen.len() <= 2);
        next.leave();
        table.take_each(|_| panic!("nothing is held"));
    });
}

/// A handler is through with one entry, and its cell is left, while another thread enters the next.
#[test]
fn nobody_leaves_what_another_entered() {
    explore(|| {
        let table: &'static Table<Entry> = Box::leak(Box::new(Table::new()));
        let first = table.enter(Entry::empty, |entry| entry.fill(0));
        let handle = move || {
            let mut seen = Vec::new();
            table.take_each(|entry| seen.push(entry.lock()));
            seen
        };
        let handler = thread::spawn(handle);
        let other = thread::spawn(move || table.enter(Entry::empty, |entry| entry.fill(1)));
        first.leave();
        let second = other.join().unwrap();
        let mut seen = handler.join().unwrap();
        seen.extend(handle());
        assert_eq!(seen.iter().filter(|lock| **lock == 1).count(), 1, "{seen:?}");
        second.leave();
    });
}

#[test]
fn two_handlers_never_work_with_one_entry() {
    explore(|| {
        let table: &'static Table<Entry> = Box::leak(Box::new(Table::new()));
        let entered = table.enter(Entry::empty, |entry| entry.fill(0));
        let handle = move || {
            let mut count = 0;
            table.take_each(|entry| count += entry.lock() + 1);
            count
        };
        let other = thread::spawn(handle);
        let here = handle();
        assert_eq!(here + other.join().unwrap(), 1);
        entered.leave();
    });
}

#[test]
fn two_threads_get_two_cells() {
    explore(|| {
        let table: &'static Table<Entry> = Box::leak(Box::new(Table::new()));
        table.take_each(|_| panic!("it is empty"));
        let other = thread::spawn(move || table.enter(Entry::empty, |entry| entry.fill(1)));
        let here = table.enter(Entry::empty, |entry| entry.fill(0));
        let there = other.join().unwrap();
        let mut seen = Vec::new();
        table.take_each(|entry| seen.push(entry.lock()));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
        here.leave();
        there.leave();
    });
}
