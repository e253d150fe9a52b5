//! The numbers and names of signals: Unix's, for the events of the console that mean the same.

pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
/// Ctrl-Break, by the number that C's library on Windows has for it.
pub(super) const SIGBREAK: i32 = 21;
pub(crate) const SIGCHLD: i32 = -1;
pub(crate) const SIGCONT: i32 = -2;
pub(crate) const SIGTSTP: i32 = -3;
pub(crate) const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGBREAK];

pub(crate) fn signal_name(signal: i32) -> String {
    match signal {
        SIGINT => "Ctrl-C".to_owned(),
        SIGBREAK => "Ctrl-Break".to_owned(),
        SIGTERM => "the end of the console".to_owned(),
        _ => format!("signal {signal}"),
    }
}
