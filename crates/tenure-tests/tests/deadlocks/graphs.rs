//! Random waits of processes, threads and tasks, for locks and for slots, against a search of all sets of waits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tenure::{Guard, Lock, Task, Wait};
use tenure_tests::{Actor, folder, until};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::until_announced;

/// The number of locks without slots. The next one has slots.
const LOCKS: usize = 6;
const SLOTS: u32 = 2;

fn open(targets: &[PathBuf]) -> Vec<Lock> {
    let lock = |(at, target): (usize, &PathBuf)| match at {
        LOCKS => Lock::options().slots(SLOTS).open(target).unwrap(),
        _ => Lock::open(target).unwrap(),
    };
    targets.iter().enumerate().map(lock).collect()
}

/// A process, a thread or a task that acquires and releases on demand.
enum Agent {
    Process(Box<Actor>),
    Thread(mpsc::Sender<Order>, mpsc::Receiver<Answer>),
    Task(UnboundedSender<Order>, mpsc::Receiver<Answer>),
}

enum Order {
    Acquire(usize),
    Release(usize),
}

#[derive(Debug)]
enum Answer {
    /// With the number of the slot that was granted.
    Done(Option<u32>),
    /// The number of waits in the circle, and whether one of them is for a slot.
    Circle(usize, bool),
}

/// What an agent of this process does with its locks.
#[derive(Default)]
struct Held(BTreeMap<usize, Guard>);

impl Held {
    fn release(&mut self, lock: usize) -> Answer {
        self.0.remove(&lock).unwrap().release().unwrap();
        Answer::Done(None)
    }

    fn acquired(&mut self, lock: usize, outcome: tenure::Result<Guard>) -> Answer {
        match outcome {
            Ok(guard) => {
                let slot = guard.slot();
                self.0.insert(lock, guard);
                Answer::Done(slot)
            }
            // No circle has length 0: any other error fails the test, unless the test is over.
            Err(error) => error.circle().map_or(Answer::Circle(0, false), |circle| {
                Answer::Circle(circle.waits.len(), circle.waits.iter().any(|waiting| waiting.slots.is_some()))
            }),
        }
    }
}

impl Agent {
    fn thread(targets: &[PathBuf]) -> Agent {
        let (order, orders) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let locks = open(targets);
        std::thread::spawn(move || {
            let mut held = Held::default();
            for order in orders {
                let done = match order {
                    Order::Release(lock) => held.release(lock),
                    Order::Acquire(lock) => held.acquired(lock, locks[lock].acquire_with(Wait::Forever)),
                };
                if answer.send(done).is_err() {
                    return;
                }
            }
        });
        Agent::Thread(order, answers)
    }

    /// Starts tasks that share one thread.
    fn tasks(count: usize, targets: &[PathBuf]) -> Vec<Agent> {
        let (agents, ends): (Vec<Agent>, Vec<_>) = (0..count)
            .map(|_| {
                let (order, orders) = unbounded_channel();
                let (answer, answers) = mpsc::channel();
                (Agent::Task(order, answers), (orders, answer))
            })
            .unzip();
        let targets = targets.to_owned();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let tasks = ends.into_iter().map(|(orders, answer)| {
                runtime.spawn(Task::named("agent").scope(Agent::obey(open(&targets), orders, answer)))
            });
            let tasks: Vec<_> = tasks.collect();
            runtime.block_on(async {
                for task in tasks {
                    task.await.unwrap();
                }
            });
        });
        agents
    }

    async fn obey(locks: Vec<Lock>, mut orders: UnboundedReceiver<Order>, answer: mpsc::Sender<Answer>) {
        let mut held = Held::default();
        while let Some(order) = orders.recv().await {
            let done = match order {
                Order::Release(lock) => held.release(lock),
                Order::Acquire(lock) => held.acquired(lock, locks[lock].acquire_async(Wait::Forever).await),
            };
            if answer.send(done).is_err() {
                return;
            }
        }
    }

    fn process(targets: &[PathBuf]) -> Agent {
        let mut actor = Actor::start();
        for (at, target) in targets.iter().enumerate() {
            let keys = if at == LOCKS { format!("slots={SLOTS}") } else { String::new() };
            actor.must(&format!("open l{at} {} {keys}", target.display()));
        }
        Agent::Process(Box::new(actor))
    }

    fn send(&mut self, order: Order) {
        match self {
            Agent::Process(actor) => actor.send(&match order {
                Order::Acquire(lock) => format!("acquire l{lock} g{lock} forever"),
                Order::Release(lock) => format!("release g{lock}"),
            }),
            Agent::Thread(orders, _) => orders.send(order).unwrap(),
            Agent::Task(orders, _) => assert!(orders.send(order).is_ok()),
        }
    }

    /// Returns the answer, if it is there.
    fn look(&mut self) -> Option<Answer> {
        match self {
            Agent::Process(actor) => actor.has_answered().then(|| Agent::answer(&actor.receive())),
            Agent::Thread(_, answers) | Agent::Task(_, answers) => answers.try_recv().ok(),
        }
    }

    fn receive(&mut self) -> Answer {
        match self {
            Agent::Process(actor) => Agent::answer(&actor.receive()),
            Agent::Thread(_, answers) | Agent::Task(_, answers) => {
                answers.recv_timeout(Duration::from_secs(60)).unwrap()
            }
        }
    }

    fn answer(answer: &Value) -> Answer {
        match answer["circle"].as_array() {
            Some(circle) => Answer::Circle(circle.len(), circle.iter().any(|waiting| !waiting["slots"].is_null())),
            None => {
                assert_eq!(answer["ok"], true, "{answer}");
                Answer::Done(answer["slot"].as_u64().map(|slot| u32::try_from(slot).unwrap()))
            }
        }
    }
}

/// Numbers that look random, the same ones for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// The graph as the test knows it.
#[derive(Default)]
struct Graph {
    /// The agents that hold each lock, with the number of the slot.
    holders: BTreeMap<usize, Vec<(usize, Option<u32>)>>,
    /// The lock that each waiting agent waits for.
    waits: BTreeMap<usize, usize>,
}

impl Graph {
    fn has_room(&self, lock: usize) -> bool {
        let most = if lock == LOCKS { SLOTS as usize } else { 1 };
        self.holders.get(&lock).is_none_or(|holders| holders.len() < most)
    }

    /// Returns the size of the smallest set of waits with that of `agent` for `lock` of which each waits for all holders of a
    /// lock, all of them in the set. It looks at every set.
    fn smallest_deadlock(&self, agent: usize, lock: usize) -> Option<usize> {
        let waits: BTreeMap<usize, usize> =
            self.waits.iter().map(|(agent, lock)| (*agent, *lock)).chain([(agent, lock)]).collect();
        let agents: Vec<usize> = waits.keys().copied().collect();
        let sets = (1_u32..1 << agents.len()).map(|set| -> BTreeSet<usize> {
            agents.iter().enumerate().filter(|(at, _)| set & 1 << at != 0).map(|(_, agent)| *agent).collect()
        });
        let is_deadlock = |set: &BTreeSet<usize>| {
            set.contains(&agent)
                && set.iter().all(|member| {
                    let lock = waits[member];
                    !self.has_room(lock) && self.holders[&lock].iter().all(|(holder, _)| set.contains(holder))
                })
        };
        sets.filter(is_deadlock).map(|set| set.len()).min()
    }

    fn held_by(&self, agent: usize) -> Vec<(usize, Option<u32>)> {
        let own = |(lock, holders): (&usize, &Vec<(usize, Option<u32>)>)| {
            holders.iter().filter(|(holder, _)| *holder == agent).map(|(_, slot)| (*lock, *slot)).collect::<Vec<_>>()
        };
        self.holders.iter().flat_map(own).collect()
    }

    fn granted(&mut self, agent: usize, lock: usize, slot: Option<u32>) {
        self.holders.entry(lock).or_default().push((agent, slot));
    }
}

/// Returns the path by which a held lock has its notes.
fn own_target(target: &Path, slot: Option<u32>) -> PathBuf {
    match slot {
        None => target.to_owned(),
        Some(slot) => PathBuf::from(format!("{}.slot-{slot}", target.display())),
    }
}

/// A circle is found exactly when the graph has one.
#[test]
fn random_graphs_have_the_circles_that_are_found() {
    let (mut circles, mut through_slots, mut waits, mut waits_for_slots) = (0, 0, 0, 0);
    for seed in 1..=8_u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let dir = folder();
        let targets: Vec<PathBuf> = (0..=LOCKS).map(|at| dir.path().join(format!("t{at}"))).collect();
        let mut agents: Vec<Agent> = (0..2).map(|_| Agent::process(&targets)).collect();
        agents.extend((0..2).map(|_| Agent::thread(&targets)));
        agents.extend(Agent::tasks(3, &targets));
        let mut graph = Graph::default();
        for _ in 0..150 {
            // Some agent does not wait, because no circle lasts.
            let idle: Vec<usize> = (0..agents.len()).filter(|agent| !graph.waits.contains_key(agent)).collect();
            let agent = idle[numbers.below(idle.len())];
            let held = graph.held_by(agent);
            if !held.is_empty() && numbers.below(4) == 0 {
                let (lock, _) = held[numbers.below(held.len())];
                agents[agent].send(Order::Release(lock));
                assert!(matches!(agents[agent].receive(), Answer::Done(_)));
                graph.holders.get_mut(&lock).unwrap().retain(|(holder, _)| *holder != agent);
                let waiting: Vec<usize> =
                    graph.waits.iter().filter(|(_, waited)| **waited == lock).map(|(agent, _)| *agent).collect();
                if !waiting.is_empty() {
                    let mut granted = None;
                    until("a waiter is granted", || {
                        granted = waiting.iter().find_map(|agent| Some((*agent, agents[*agent].look()?)));
                        granted.is_some()
                    });
                    let (next, answer) = granted.unwrap();
                    let Answer::Done(slot) = answer else { panic!("seed {seed}: {answer:?}") };
                    graph.waits.remove(&next);
                    graph.granted(next, lock, slot);
                }
                continue;
            }
            let others: Vec<usize> =
                (0..targets.len()).filter(|lock| held.iter().all(|(held, _)| held != lock)).collect();
            // Half of the acquires are for a slot, where the agent has none.
            let lock = match others.get(numbers.below(others.len().max(1))) {
                Some(_) if others.contains(&LOCKS) && numbers.below(3) == 0 => LOCKS,
                Some(lock) => *lock,
                None => continue,
            };
            agents[agent].send(Order::Acquire(lock));
            if graph.has_room(lock) {
                let answer = agents[agent].receive();
                let Answer::Done(slot) = answer else { panic!("seed {seed}: {answer:?}") };
                graph.granted(agent, lock, slot);
            } else if let Some(least) = graph.smallest_deadlock(agent, lock) {
                let answer = agents[agent].receive();
                // An agent that holds several of the locks is named with each.
                let fits = |found: usize, slots: bool| if slots { found >= least } else { found == least };
                assert!(
                    matches!(answer, Answer::Circle(found, slots) if fits(found, slots)),
                    "seed {seed}: {answer:?}, not {least}"
                );
                circles += 1;
                through_slots += usize::from(matches!(answer, Answer::Circle(_, true)));
            } else {
                held.iter().for_each(|(lock, slot)| until_announced(&own_target(&targets[*lock], *slot)));
                graph.waits.insert(agent, lock);
                waits += 1;
                waits_for_slots += usize::from(lock == LOCKS);
            }
            let answered = graph.waits.keys().find_map(|agent| Some((*agent, agents[*agent].look()?)));
            assert!(answered.is_none(), "seed {seed}: {answered:?}");
        }
    }
    eprintln!("{circles} circles, {through_slots} through slots; {waits} waits, {waits_for_slots} for slots");
    assert!(circles > 40 && through_slots > 10, "{circles} circles, {through_slots} through slots");
    assert!(waits > 100 && waits_for_slots > 20, "{waits} waits, {waits_for_slots} for slots");
}
