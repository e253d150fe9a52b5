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

/// Resolves the ticket, and wakes its waiter.
fn resolve(ticket: &Number, outcome: WaitState<u32, ()>) -> bool {
    let mut woken = Vec::new();
    let settled = ticket.resolve(outcome, &mut woken);
    woken.into_iter().for_each(Waker::wake);
    settled
}

#[test]
fn a_sleeping_waiter_gets_its_grant() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || assert!(resolve(&theirs, WaitState::Granted(7))));
        assert_eq!(ticket.wait(None), Woken::Settled(Ok(7)));
        server.join().unwrap();
        assert!(!resolve(&ticket, WaitState::Granted(8)), "a ticket is resolved once");
    });
}

/// One thread notifies, another resolves: in no order does the waiter sleep for ever, which loom would report.
#[test]
fn a_notified_waiter_gets_its_grant_too() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let open = Arc::new(AtomicBool::new(false));
        let notifier = {
            let (ticket, open) = (Arc::clone(&ticket), Arc::clone(&open));
            thread::spawn(move || {
                open.store(true, Ordering::Release);
                ticket.notify();
            })
        };
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || assert!(resolve(&theirs, WaitState::Granted(7))));
        loop {
            match ticket.wait(None) {
                Woken::Notified => assert!(open.load(Ordering::Acquire)),
                Woken::Settled(outcome) => break assert_eq!(outcome, Ok(7)),
                Woken::Alerted | Woken::Late => panic!("not alerted, and without a deadline"),
            }
        }
        notifier.join().unwrap();
        server.join().unwrap();
        ticket.notify();
        assert_eq!((ticket.is_queued(), ticket.give_up()), (false, None));
    });
}

/// The thread that works for the waiter alerts it, and resolves later. The waiter spins or sleeps in between.
#[test]
fn an_alerted_waiter_gets_its_grant() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || {
            theirs.alert();
            assert!(resolve(&theirs, WaitState::Granted(7)));
        });
        loop {
            match ticket.wait(None) {
                Woken::Alerted => match ticket.look() {
                    Some(Woken::Settled(outcome)) => break assert_eq!(outcome, Ok(7)),
                    looked => assert_eq!(looked, None),
                },
                Woken::Settled(outcome) => break assert_eq!(outcome, Ok(7)),
                woken => panic!("{woken:?}"),
            }
        }
        server.join().unwrap();
        ticket.alert();
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
fn the_last_waker_is_woken() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || assert!(resolve(&theirs, WaitState::Failed(()))));
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
fn a_ticket_is_granted_or_given_up_never_both() {
    explore(|| {
        let ticket = Arc::new(Number::new());
        let theirs = Arc::clone(&ticket);
        let server = thread::spawn(move || resolve(&theirs, WaitState::Granted(7)));
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

/// As in `TargetQueue`: the thread that gives up and the thread that delivers have the queue's mutex. The system calls in
/// between are made without it.
#[test]
fn a_grant_goes_to_a_waiter_or_comes_back() {
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
                assert!(resolve(&head.0, WaitState::Granted(1)), "no waiter leaves without the mutex");
                line.left();
                granted += 1;
                break;
            }
        }
        let holding = leavers.map(|leaver| leaver.join().unwrap()).into_iter().filter(|holds| *holds).count();
        assert_eq!(holding, granted);
        let mut line = line.lock().unwrap();
        assert!(granted == 1 || line.is_empty(), "a grant came back although a waiter is queued");
    });
}

/// A gate that is opened once, and that threads wait for.
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

/// Each of two jobs waits for the other: on one thread, neither would end.
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
        // If a job is lost, this waits for ever, which loom reports.
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
            assert_eq!(global.get(|| panic!("the value exists")).load(Ordering::Acquire), 3);
            here
        };
        let parents = global.get(|| AtomicUsize::new(0));
        sys::fork();
        assert_ne!(ours(), std::ptr::from_ref(parents) as usize);
    });
}

/// A handler runs on one thread while another thread releases one lock and takes the next: the lock of the handler's entry is
/// held throughout, and no other thread changes the entry.
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
                assert!(theirs[lock].load(Ordering::Acquire), "it was released before");
                seen.push(lock);
                thread::yield_now();
                assert!(theirs[lock].load(Ordering::Acquire), "it was released meanwhile");
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
        table.take_each(|_| panic!("no lock is held"));
    });
}

/// A handler has finished with one entry, whose cell is then left while another thread enters the next.
#[test]
fn a_leave_removes_only_its_own_entry() {
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
