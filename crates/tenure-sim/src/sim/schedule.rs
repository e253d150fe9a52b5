//! A schedule: the order of the threads' system calls, with deaths and failures.

use std::fmt;
use std::str::FromStr;

/// One choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This thread makes its call and continues to the next.
    Run(u8),
    /// This process dies before its next call.
    Die(u8),
    /// This thread's call returns this error.
    Fail(u8, i32),
}

/// All choices of a run. As text, `a12b3` is twelve calls of the thread `a` and three of `b`, `!a` is the death of the
/// process `a`, and `?b28` is a call of `b` that fails with error 28.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(pub Vec<Choice>);

fn letter(number: u8) -> char {
    char::from(b'a' + number)
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.chunk_by(|one, other| one == other && matches!(one, Choice::Run(_))) {
            match part[0] {
                Choice::Run(thread) if part.len() == 1 => write!(f, "{}", letter(thread))?,
                Choice::Run(thread) => write!(f, "{}{}", letter(thread), part.len())?,
                Choice::Die(process) => write!(f, "!{}", letter(process))?,
                Choice::Fail(thread, errno) => write!(f, "?{}{errno}", letter(thread))?,
            }
        }
        Ok(())
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Schedule, String> {
        let mut choices = Vec::new();
        let mut rest = text.trim().chars().peekable();
        while let Some(first) = rest.next() {
            let name = if matches!(first, '!' | '?') { rest.next() } else { Some(first) };
            let number = match name {
                Some(name @ 'a'..='z') => name as u8 - b'a',
                _ => return Err(format!("a letter from a to z is missing in {text:?}")),
            };
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let count = digits.parse::<i32>();
            match (first, count) {
                ('!', Err(_)) => choices.push(Choice::Die(number)),
                ('?', Ok(errno)) => choices.push(Choice::Fail(number, errno)),
                ('!' | '?', _) => return Err(format!("{first}{} in {text:?}", letter(number))),
                (_, Ok(count)) => choices.extend((0..count).map(|_| Choice::Run(number))),
                (_, Err(_)) => choices.push(Choice::Run(number)),
            }
        }
        Ok(Schedule(choices))
    }
}
