//! Starts a command.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::windows::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::child::Child;
use super::signals::Signals;

/// Whether `run` works.
pub(crate) const RUNS_COMMANDS: bool = true;

/// Whether the command keeps the lock where this process is killed. On Windows a lock ends with the process that took it, and
/// the [job](super::ProcessTree) with this process.
pub(crate) const CHILDREN_KEEP_LOCKS: bool = false;

/// Starts `command` (`CreateProcessW`). From then on the console's events reach it.
pub(crate) fn spawn(mut command: Command, signals: &Signals) -> io::Result<Child> {
    let child = command.spawn()?;
    signals.command_has_started();
    Ok(Child::new(child))
}

/// Does nothing: every command is killed with this process.
pub(crate) fn kill_with_us(_command: &mut Command) {}

/// Returns the words that run a script by the command interpreter.
pub(crate) fn script(script: &OsStr) -> Vec<OsString> {
    let interpreter = std::env::var_os("COMSPEC").filter(|name| !name.is_empty()).unwrap_or_else(|| "cmd.exe".into());
    vec![interpreter, "/d".into(), "/s".into(), "/c".into(), script.to_owned()]
}

/// Returns the command of these words. The command interpreter reads a [script](script()) by rules of its own: it takes away
/// the first and the last quote, and no others.
pub(crate) fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    match words {
        [_, options @ .., text] if options == ["/d", "/s", "/c"] => {
            let mut quoted = OsString::from("\"");
            quoted.push(text);
            quoted.push("\"");
            command.args(options).raw_arg(quoted);
        }
        _ => {
            command.args(&words[1..]);
        }
    }
    command
}

/// Returns `false`: a script's program is not named in its first line.
pub(crate) fn is_not_executable_format(_error: &io::Error) -> bool {
    false
}

/// Returns the file that is run for the name of a command, if there is one.
pub(crate) fn find_program(name: &OsStr) -> Option<PathBuf> {
    let with_suffix = |path: PathBuf| {
        let mut program = path.clone().into_os_string();
        program.push(".exe");
        [path, program.into()].into_iter().find(|file| file.is_file())
    };
    if name.as_encoded_bytes().iter().any(|byte| matches!(byte, b'/' | b'\\')) {
        return with_suffix(PathBuf::from(name));
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find_map(with_suffix)
}
