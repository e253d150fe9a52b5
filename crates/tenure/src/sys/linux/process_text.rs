//! Parsers of the texts in `/proc/<pid>` (`proc_pid(5)`).

/// The fields that are used of `/proc/<pid>/stat` (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: ProcessState,
    /// Field 4.
    pub(crate) parent: u64,
    /// Field 22.
    pub(crate) start_time: u64,
}

/// The state of a thread, field 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    Running,
    /// `Z`: a first thread that has ended. Other threads may live.
    Zombie,
    /// `X`, `x`: gone.
    Dead,
}

impl Stat {
    /// Parses the line (`proc_pid_stat(5)`). `None` for a malformed one.
    ///
    /// It is split after the *last* `)`, because a command's name may hold spaces and parentheses.
    pub(crate) fn parse(line: &str) -> Option<Stat> {
        let (head, tail) = line.rsplit_once(')')?;
        let (pid, _name) = head.split_once(" (")?;
        number(pid)?;
        let mut fields = tail.strip_prefix(' ')?.split_ascii_whitespace();
        // A letter that this library does not know counts as a running thread.
        let state = match fields.next()? {
            "Z" => ProcessState::Zombie,
            "X" | "x" => ProcessState::Dead,
            letter if letter.len() == 1 && letter.as_bytes()[0].is_ascii_alphabetic() => ProcessState::Running,
            _ => return None,
        };
        let parent = number(fields.next()?)?;
        // Fields 5 to 21 lie between.
        let start_time = number(fields.nth(17)?)?;
        Some(Stat { state, parent, start_time })
    }
}

impl ProcessState {
    /// Returns whether the thread has ended.
    pub(crate) fn ended(self) -> bool {
        matches!(self, ProcessState::Zombie | ProcessState::Dead)
    }
}

/// Returns the process's pid from `/proc/<pid>/status` (`proc_pid_status(5)`). It differs from `<pid>` if that is a
/// thread's id.
pub(crate) fn thread_group(status: &str) -> Option<i64> {
    i64::try_from(number(field(status, "Tgid")?)?).ok()
}

/// Returns whether `/proc` has the same pids as this process, whose pid is `pid` and which read `/proc/self/status`
/// (`pid_namespaces(7)`).
///
/// A new pid namespace that kept the old mount (`unshare --pid --fork` without `--mount-proc`) has others: there,
/// `/proc/7` is another process than pid 7. `NSpid` has one number for each namespace, from the mount's down to the
/// reader's.
pub(crate) fn counts_alike(status: &str, pid: u32) -> bool {
    let same = field(status, "Pid").and_then(number) == Some(u64::from(pid));
    same && field(status, "NSpid").is_none_or(|pids| pids.split_ascii_whitespace().count() == 1)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// Returns the child of a process that has one child alone (`proc_tid_children(5)`).
pub(crate) fn only_child(children: &str) -> Option<i64> {
    let mut pids = children.split_ascii_whitespace();
    let child = i64::try_from(number(pids.next()?)?).ok()?;
    pids.next().is_none().then_some(child)
}

/// Parses digits and nothing else: `parse` alone would accept a `+`.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the fields from the third on, as a kernel writes them.
    fn tail(state: &str, start_time: &str) -> String {
        format!("{state} 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {start_time} 1000 200 18446744073709551615 0\n")
    }

    #[test]
    fn names_may_hold_anything() {
        let names = [
            "cat",
            "",
            " ",
            "My App (v2)",
            "(",
            ")",
            "((",
            "))",
            ") R 1 2",
            "a) S 1 (b",
            "(sd-pam)",
            "\n",
            "1 (x) Z 1",
            "käse",
            "\u{fffd}\u{fffd}",
        ];
        for name in names {
            let line = format!("42 ({name}) {}", tail("S", "123456"));
            let expected = Stat { state: ProcessState::Running, parent: 1, start_time: 123_456 };
            assert_eq!(Stat::parse(&line), Some(expected), "{line:?}");
        }
    }

    #[test]
    fn states() {
        for (letter, state) in [
            ("R", ProcessState::Running),
            ("S", ProcessState::Running),
            ("D", ProcessState::Running),
            ("T", ProcessState::Running),
            ("t", ProcessState::Running),
            ("I", ProcessState::Running),
            ("Z", ProcessState::Zombie),
            ("X", ProcessState::Dead),
            ("x", ProcessState::Dead),
        ] {
            let stat = Stat::parse(&format!("42 (a) {}", tail(letter, "7"))).unwrap();
            assert_eq!((stat.state, stat.start_time), (state, 7), "{letter}");
            assert_eq!(stat.state.ended(), state != ProcessState::Running);
        }
    }

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999999999999999999", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e3", None),
            ("0x10", None),
            ("NaN", None),
            ("١", None),
        ] {
            let stat = Stat::parse(&format!("42 (a) {}", tail("S", text)));
            assert_eq!(stat.map(|stat| stat.start_time), expected, "{text}");
        }
    }

    #[test]
    fn malformed() {
        let whole = format!("42 (a b) {}", tail("S", "123"));
        // Cut before the start time begins.
        let start = whole.find(" 123 ").unwrap();
        for end in 0..=start {
            assert_eq!(Stat::parse(&whole[..end]), None, "{:?}", &whole[..end]);
        }
        assert!(Stat::parse(whole[..start + 4].trim_end()).is_some(), "22 fields are enough");
        for line in [
            "",
            " ",
            "\n",
            ")",
            "()",
            "garbage",
            "42",
            "42 (a",
            "42 (a)",
            "42 (a) ",
            "42 a) S",
            "(a) S 1",
            "\0\0\0",
            "{\"pid\": 42}",
        ] {
            assert_eq!(Stat::parse(line), None, "{line:?}");
        }
        for state in ["", "SS", "1", "-", "é", "?"] {
            assert_eq!(Stat::parse(&format!("42 (a) {}", tail(state, "7"))), None, "{state:?}");
        }
        for pid in ["", "-42", "x", "+42", " 42"] {
            assert_eq!(Stat::parse(&format!("{pid} (a) {}", tail("S", "7"))), None, "{pid:?}");
        }
        assert_eq!(Stat::parse(&format!("42 (a){}", tail("S", "7"))), None, "no space after the name");
    }

    #[test]
    fn status() {
        let status = "Name:\tTgid: 7\nUmask:\t0022\nTgid:\t42\nNgid:\t0\nPid:\t43\nNSpid:\t43\n";
        assert_eq!(thread_group(status), Some(42));
        for status in ["", "Tgid", "Tgid:", "Tgid:\t-1", "Tgid:\tx", "XTgid:\t1", "Tgid:\t99999999999999999999"] {
            assert_eq!(thread_group(status), None, "{status:?}");
        }
    }

    #[test]
    fn children() {
        assert_eq!(only_child("42 "), Some(42));
        for children in ["", " ", "42 43 ", "x", "-42", "42 x"] {
            assert_eq!(only_child(children), None, "{children:?}");
        }
    }

    #[test]
    fn pids_of_another_namespace_are_noticed() {
        assert!(counts_alike("Pid:\t43\nNSpid:\t43\n", 43));
        assert!(counts_alike("Pid:\t43\n", 43), "a kernel without NSpid");
        assert!(!counts_alike("Pid:\t43\nNSpid:\t43\t1\n", 1), "the mount is an outer namespace's");
        assert!(!counts_alike("Pid:\t5\nNSpid:\t5\t5\n", 5), "even where the numbers happen to agree");
        assert!(!counts_alike("Pid:\t44\nNSpid:\t44\n", 43));
        assert!(!counts_alike("", 43));
    }
}
