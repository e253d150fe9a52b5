//! The laws of the parsers of the kernel's texts.

use crate::sys::texts::{
    ProcessState, Stat, command_text, counts_alike, lock_table, mount_device, mount_line, thread_group,
};

/// Checks the parsers of `/proc/<pid>`: no bytes make them panic, and no command's name changes the facts about its
/// process.
pub fn stat(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(stat) = Stat::parse(&text) {
        let behind = &text[text.rfind(')').expect("there is a name") + 1..];
        let fields: Vec<_> = behind.split_ascii_whitespace().collect();
        assert_eq!((fields[1].parse(), fields[19].parse()), (Ok(stat.parent), Ok(stat.start_time)));
        assert_eq!(stat.state.ended(), matches!(fields[0], "Z" | "X" | "x"));
    }
    let rest = "Z 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 200 18446744073709551615 0\n";
    let expected = Stat { state: ProcessState::Zombie, parent: 1, start_time: 123_456 };
    assert_eq!(Stat::parse(&format!("42 ({text}) {rest}")), Some(expected), "a command named {text:?}");
    // The kernel writes a name into `status` with its line ends and backslashes escaped.
    let name = text.replace('\\', "\\\\").replace('\n', "\\n");
    let status = format!("Name:\t{name}\nUmask:\t0022\nTgid:\t42\nPid:\t43\nNSpid:\t43\n");
    assert_eq!(thread_group(&status), Some(42), "a command named {text:?}");
    assert!(counts_alike(&status, 43) && !counts_alike(&status, 42));
    let _ = (thread_group(&text), counts_alike(&text, 43));
    if let Some(command) = command_text(bytes) {
        assert!(!command.is_empty() && command.len() <= 1024 && !command.contains('\0'));
    }
}

/// Checks the parser of `/proc/locks`: a line is found whatever comes before and after it, and a line that is read twice
/// counts once.
pub fn locks(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let twice = lock_table(&format!("{text}\n{text}"));
    let once = lock_table(&text);
    let (inode, device) = (7_919, (0xfd, 3));
    let table = format!(
        "{text}\n1: FLOCK  ADVISORY  WRITE 4242 fd:03:7919 0 EOF\n1: -> FLOCK  ADVISORY  READ 4243 fd:03:7919 0 EOF\n{text}"
    );
    let with_ours = lock_table(&table);
    assert!(with_ours.holders(inode, device).contains(&(4242, false)));
    assert!(with_ours.waiters(inode, device).contains(&4243));
    for (inode, device) in once.files().chain([(inode, device)]) {
        assert_eq!(twice.holders(inode, device), once.holders(inode, device));
        assert_eq!(twice.waiters(inode, device), once.waiters(inode, device));
        for (pid, _) in once.holders(inode, device) {
            assert!(text.contains(&pid.unsigned_abs().to_string()), "pid {pid} is in no line");
        }
    }
}

/// Checks the parser of `mountinfo`: the mount with a number is found, whatever the others are named.
pub fn mountinfo(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(line) = mount_line(&text, 27) {
        assert!(text.contains(line) && line.contains("27"));
    }
    for line in text.lines() {
        if let Some((major, minor)) = mount_device(line) {
            assert!(line.contains(&major.to_string()) && line.contains(&minor.to_string()));
        }
    }
    // The kernel escapes what ends a field or a line.
    let name: String = text
        .chars()
        .map(|c| if matches!(c, ' ' | '\t' | '\n' | '\\') { format!("\\{:03o}", c as u32) } else { c.to_string() })
        .collect();
    let ours = format!("27 1 254:3 / /{name} rw,relatime - ext4 /dev/{name} rw");
    let table =
        format!("26 1 254:0 / /{name} rw - ext4 /dev/{name} rw\n{ours}\n28 27 0:5 / /{name} rw - proc proc rw\n");
    let found = mount_line(&table, 27).expect("the mount is in the table");
    assert_eq!(found, ours.strip_suffix('\r').unwrap_or(&ours));
    assert_eq!(mount_device(found), Some((254, 3)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::tests::{corpus, hostile};

    #[test]
    fn the_corpus_of_stat_lines() {
        corpus("stat", stat);
    }

    #[test]
    fn the_corpus_of_lock_tables() {
        corpus("locks", locks);
    }

    #[test]
    fn the_corpus_of_mounts() {
        corpus("mountinfo", mountinfo);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_name_breaks_out_of_its_field(bytes in hostile()) {
            stat(&bytes);
            mountinfo(&bytes);
            locks(&bytes);
        }

        #[test]
        fn no_name_hides_its_process(name in hostile(), start_time: u64, state in 0..9usize) {
            let name = String::from_utf8_lossy(&name);
            let letter = char::from(b"RSDTtIZXx"[state]);
            let line = format!("42 ({name}) {letter} 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 {start_time} 1000");
            let stat = Stat::parse(&line);
            prop_assert_eq!(stat.map(|stat| stat.start_time), Some(start_time));
            prop_assert_eq!(stat.map(|stat| stat.state.ended()), Some("ZXx".contains(letter)));
        }
    }
}
