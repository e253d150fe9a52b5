//! What a cluster can do, as `servers -- only-limits` measured it on one machine.

use std::time::Duration;

/// The measurement that is part of the repository.
const MEASURED: &str = include_str!("../../../limits.json");

/// The costs of one member's processors, and the times of a call and of a failover.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The processors of each member. Each member has a machine of its own here.
    pub(crate) cores: usize,
    /// The work for a keep-alive and the confirmation of one key.
    pub(crate) keep_alive: Duration,
    /// The work for a transaction that confirms 128 keys.
    pub(crate) confirm: Duration,
    /// The work for an acquire, which is two transactions that write.
    pub(crate) acquire: Duration,
    /// The work for a hand-off: a release, the event of a watch, and an acquire that had waited.
    pub(crate) hand_off: Duration,
    /// The time of a call to an idle member, the work included.
    pub(crate) call: Duration,
    /// The time from a leader's death to the first acquire that succeeds.
    pub(crate) failover: Duration,
    /// The growth of the database, and of a member's memory, for each lock that is held.
    pub(crate) database_bytes: f64,
    pub(crate) memory_bytes: f64,
}

impl Limits {
    /// Reads the file, or the measurement of the repository.
    pub(crate) fn read(file: Option<&str>) -> Limits {
        let text = file.map_or_else(|| MEASURED.to_owned(), |file| std::fs::read_to_string(file).unwrap());
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let number = |name: &str| json[name].as_f64().unwrap_or_else(|| panic!("limits: no number {name}"));
        let micros = |name: &str| Duration::from_secs_f64(number(name) / 1e6);
        Limits {
            cores: number("cores") as usize,
            keep_alive: micros("keep_alive_us"),
            confirm: micros("confirm_us"),
            acquire: micros("acquire_us"),
            hand_off: micros("hand_off_us"),
            call: micros("call_us"),
            failover: micros("failover_us"),
            database_bytes: number("database_bytes_per_hold"),
            memory_bytes: number("memory_bytes_per_hold"),
        }
    }
}
