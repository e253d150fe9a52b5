//! The configurations of the table in `docs/reliability.md`.

use crate::config::{Clock, Config, System, Way};

/// Returns all of them.
pub fn all() -> Vec<Config> {
    let sketch = Config::sketch;
    let advances = |config: Config| Config { clock: Clock::Advances, ..config };
    let on = |system, config: Config| Config { system, ..config };
    let copies = |config: Config| Config { way: Way::Copy, ..config };
    vec![
        // Only natives.
        sketch(3, 0, 2, 1, 0),
        Config { rounds: 2, pass: true, ..sketch(2, 0, 1, 1, 0) },
        Config { rounds: 2, ..sketch(2, 0, 2, 1, 1) },
        Config { cleaners: 1, ..sketch(2, 0, 2, 1, 0) },
        // Suspended tenures, which are resumed.
        Config { suspends: 1, ..sketch(3, 0, 1, 0, 0) },
        Config { suspends: 2, ..sketch(2, 0, 2, 1, 0) },
        Config { suspends: 2, overtakes: 1, ..sketch(2, 0, 1, 0, 0) },
        Config { suspends: 2, overtakes: 1, ..sketch(3, 0, 1, 0, 0) },
        Config { suspends: 1, ..sketch(2, 1, 1, 0, 0) },
        Config { suspends: 1, flock: 1, ..sketch(2, 0, 1, 0, 0) },
        Config { suspends: 1, cleaners: 1, ..sketch(2, 0, 1, 0, 0) },
        // Beside foreign programs.
        sketch(2, 2, 2, 0, 0),
        sketch(2, 2, 2, 0, 1),
        sketch(2, 3, 2, 0, 0),
        Config { cleaners: 1, ..sketch(1, 2, 2, 0, 1) },
        Config { cleaners: 2, ..sketch(1, 2, 2, 0, 0) },
        sketch(3, 1, 2, 1, 1),
        // Beside natives in flock style.
        Config { flock: 1, ..sketch(2, 0, 2, 1, 0) },
        Config { flock: 1, ..sketch(1, 1, 1, 0, 0) },
        Config { flock: 1, cut_off: true, ..sketch(2, 2, 1, 0, 0) },
        Config { flock: 2, cut_off: true, ..sketch(2, 2, 0, 0, 0) },
        // A broken lock.
        Config { breaks: 1, ..sketch(2, 0, 1, 0, 0) },
        Config { breaks: 1, ..advances(sketch(2, 1, 0, 0, 0)) },
        Config { breaks: 1, rounds: 2, pass: true, ..advances(sketch(2, 0, 0, 0, 0)) },
        // `.tenure` is removed.
        Config { wipes: 1, ..advances(sketch(2, 0, 1, 1, 0)) },
        Config { wipes: 1, ..advances(sketch(2, 1, 0, 0, 0)) },
        // Users that may only read each other's anchors.
        Config { users: true, ..sketch(3, 0, 2, 1, 0) },
        Config { users: true, cut_off: true, ..sketch(3, 2, 1, 0, 0) },
        Config { users: true, breaks: 1, ..sketch(2, 0, 1, 0, 0) },
        Config { users: true, flock: 1, ..sketch(2, 0, 2, 0, 0) },
        // Lock files that are copies.
        Config { rounds: 2, ..copies(sketch(2, 0, 1, 1, 0)) },
        Config { breaks: 1, ..advances(copies(sketch(2, 0, 0, 0, 0))) },
        Config { wipes: 1, ..copies(sketch(2, 0, 1, 0, 0)) },
        Config { flock: 1, ..copies(sketch(2, 2, 2, 0, 0)) },
        Config { flock: 1, way: Way::CopyInPlace, ..sketch(2, 1, 2, 0, 1) },
        // Windows: removal by handle, kept names, replacement in two steps.
        on(System::Windows, sketch(3, 0, 2, 1, 0)),
        on(System::Windows, sketch(2, 2, 2, 0, 1)),
        on(System::Windows, Config { flock: 1, ..sketch(1, 1, 2, 0, 0) }),
        on(System::Windows, Config { breaks: 1, ..advances(sketch(2, 0, 1, 0, 0)) }),
        on(System::Windows, Config { wipes: 1, ..advances(sketch(2, 0, 1, 0, 0)) }),
        // FreeBSD: removal while the name is the judged file's, no leases.
        on(System::FreeBsd, sketch(2, 3, 2, 0, 1)),
        on(System::FreeBsd, Config { flock: 1, ..sketch(2, 2, 2, 0, 0) }),
        on(System::FreeBsd, Config { users: true, ..sketch(3, 0, 2, 0, 0) }),
        on(System::FreeBsd, Config { breaks: 1, ..advances(sketch(2, 1, 0, 0, 0)) }),
        on(System::FreeBsd, Config { wipes: 1, ..advances(sketch(2, 1, 0, 0, 0)) }),
        // macOS: as Linux, without leases.
        on(System::MacOs, sketch(2, 3, 2, 0, 1)),
        on(System::MacOs, Config { flock: 1, cut_off: true, ..sketch(2, 2, 1, 0, 0) }),
        on(System::MacOs, Config { breaks: 1, ..advances(sketch(2, 1, 0, 0, 0)) }),
    ]
}
