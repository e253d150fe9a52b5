//! The locks of a server as a tree of their names, one line for each name, for people.

use std::collections::BTreeMap;
use std::path::Path;

use tenure::{Status, command, escape};

use super::describe;
use super::table::Table;

/// A name, and the names below it.
#[derive(Default)]
struct Node<'a> {
    lock: Option<&'a Status>,
    below: BTreeMap<String, Node<'a>>,
}

/// Returns a table of the locks below a server's target: its first row is the target, and each other row a part of a name.
pub(crate) fn table(target: &Path, locks: &[Status]) -> Table {
    let above = command::name_on_server(target).unwrap_or_default();
    let mut root = Node::default();
    for lock in locks {
        let name = command::name_on_server(&lock.target).unwrap_or_default();
        root.insert(below(&above, &name), lock);
    }
    let mut table = Table::of_tree();
    table.add_name(describe::path(target));
    root.add_below(&mut table, "");
    table
}

/// Returns the rest of a name below another.
fn below<'a>(above: &str, name: &'a str) -> &'a str {
    let above = above.trim_end_matches('/');
    match name.strip_prefix(above).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if !above.is_empty() => rest,
        _ => name,
    }
}

/// Splits the first part off a name. Slashes without a name before them belong to the part that follows.
fn split_first(name: &str) -> (&str, Option<&str>) {
    let begin = name.len() - name.trim_start_matches('/').len();
    match name[begin..].find('/') {
        Some(at) if begin + at + 1 < name.len() => (&name[..begin + at], Some(&name[begin + at + 1..])),
        _ => (name, None),
    }
}

impl<'a> Node<'a> {
    fn insert(&mut self, name: &str, lock: &'a Status) {
        let mut node = self;
        let mut rest = Some(name);
        while let Some(name) = rest {
            let (first, more) = split_first(name);
            node = node.below.entry(first.to_owned()).or_default();
            rest = more;
        }
        node.lock = Some(lock);
    }

    /// Adds a row for each name below this one. `indent` are the lines of the names above.
    fn add_below(&self, table: &mut Table, indent: &str) {
        for (at, (name, node)) in self.below.iter().enumerate() {
            let (branch, line) = if at + 1 == self.below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let shown = format!("{indent}{branch}{}", escape::text(name));
            match node.lock {
                Some(lock) => table.add_as(shown, lock, &[]),
                None => table.add_name(shown),
            }
            node.add_below(table, &format!("{indent}{line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_each_slash_and_none_is_lost() {
        let parts = |name: &str| {
            let (mut parts, mut rest) = (Vec::new(), Some(name.to_owned()));
            while let Some(name) = rest {
                let (first, more) = split_first(&name);
                parts.push(first.to_owned());
                rest = more.map(str::to_owned);
            }
            parts
        };
        assert_eq!(parts("a/b/c"), ["a", "b", "c"]);
        assert_eq!(parts("a//b"), ["a", "/b"]);
        assert_eq!(parts("/a"), ["/a"]);
        assert_eq!(parts("//"), ["//"]);
        assert_eq!(parts("a/"), ["a/"]);
    }

    #[test]
    fn names_are_shown_without_what_is_above() {
        assert_eq!(below("jobs", "jobs/a/b"), "a/b");
        assert_eq!(below("jobs/", "jobs/a"), "a");
        assert_eq!(below("", "jobs/a"), "jobs/a");
        assert_eq!(below("job", "jobs/a"), "jobs/a");
    }
}
