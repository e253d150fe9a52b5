//! Tenure's protocol in a model checker.
//!
//! The model follows the code of `crates/tenure`, one system call a step, and explores every interleaving of natives,
//! foreign programs, `clean`, `break`, a watchdog, people who remove files, and deaths before any step. `names` says which
//! function makes each step; `properties` what must hold in every state; `config` what can be chosen, and which guards of
//! the protocol can be left out, for the checker to find what they are for.
//!
//! What is not in it: `Style::Flock` and shared locks, deadlines, several threads of one process but for the passing on of
//! a tenure, another user's anchor, a file system that two machines mount, errors of the system. Foreign programs and
//! people take one step for each of their system calls as well. The kernel serves those who wait for a lock in any order.

pub mod config;
pub mod explore;
pub mod foreign;
pub mod model;
pub mod names;
pub mod native;
pub mod others;
pub mod prepare;
pub mod properties;
mod release;
pub mod state;
pub mod table;
mod takeover;
