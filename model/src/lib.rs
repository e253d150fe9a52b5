//! Tenure's protocol in a model checker.
//!
//! The model follows the code of `crates/tenure`, one system call a step, and explores every interleaving of natives,
//! foreign programs, `clean`, `break`, a watchdog, people who remove files, and deaths before any step. `names` maps each
//! step to its function, `properties` has the conditions for every state, and `config` the choices, with the guards of the
//! protocol that can be left out, so that the checker finds their purpose.
//!
//! Not modelled: shared locks, deadlines (but for the time for which a waiter gives way to a resumed tenure), several threads of one process except that a tenure is passed on, file systems that
//! two machines mount, errors of the system. Foreign programs and people take one step for each system call as well. The
//! kernel grants a lock to its waiters in any order.

mod anchor;
pub mod config;
pub mod explore;
pub mod foreign;
pub mod model;
pub mod names;
pub mod native;
pub mod others;
pub mod prepare;
mod process;
pub mod properties;
mod publish;
mod reclaim;
mod release;
pub mod state;
pub mod suspend;
pub mod table;
mod takeover;
