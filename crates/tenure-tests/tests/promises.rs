//! Checks that the tests exist which `docs/reliability.md` names for its promises.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the text of a test file, or of all files of a test folder.
fn source_of(test: &str) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    match fs::read_dir(tests.join(test)) {
        Ok(entries) => entries.map(|entry| read(&entry.unwrap().path())).collect(),
        Err(_) => read(&tests.join(format!("{test}.rs"))),
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reliability.md"));
    let table = page.split("## What is promised").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() >= 12, "{rows:#?}");
    let mut sources: HashMap<&str, String> = HashMap::new();
    for row in rows {
        let shown_by = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        assert!(shown_by.starts_with('`'), "a promise that no test shows: {row}");
        for name in shown_by.split(", ") {
            let (file, test) = name.trim_matches('`').split_once("::").unwrap_or_else(|| panic!("no test: {name}"));
            let source = sources.entry(file).or_insert_with(|| source_of(file));
            let found = source.split("#[test]\n").skip(1).any(|rest| {
                let signature =
                    rest.lines().find(|line| !line.trim_start().starts_with(['#', '/'])).unwrap_or_default();
                signature == format!("fn {test}() {{")
            });
            assert!(found, "docs/reliability.md names a test that does not exist: {name}");
        }
    }
}
