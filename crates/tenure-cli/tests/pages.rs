//! `tenure completions` and `tenure man`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{Done, SUBCOMMANDS, Scratch};

#[test]
fn every_shell_has_its_script_with_every_subcommand() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = scratch.done(["completions", shell]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{shell}");
        for name in SUBCOMMANDS {
            assert!(done.stdout.contains(name), "{shell} does not know {name}");
        }
        assert!(done.stdout.contains("on-overrun"), "{shell}");
        assert!(!done.stdout.contains("worker"), "{shell} offers what is hidden");
    }
    for (shell, files) in [("zsh", "_files"), ("bash", "-o default")] {
        assert!(scratch.done(["completions", shell]).stdout.contains(files), "{shell} completes no paths");
    }
    let zsh = scratch.done(["completions", "zsh"]).stdout;
    for dir in zsh.lines().filter(|line| line.contains("::dir --")) {
        assert!(dir.contains(":_files -/'"), "folders only: {dir}");
    }
}

#[test]
fn bash_completes_subcommands_options_values_and_targets() {
    let scratch = Scratch::new();
    fs::write(scratch.join("main.jsonl"), "").unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_tenure")).parent().unwrap().display().to_string();
    // Completes as the shell does. Where the function returns nothing, `-o default` completes paths.
    let script = "
PATH=$1:$PATH; eval \"$(tenure completions bash)\" || exit 9
ask() {
    COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _tenure tenure \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
    if [ ${#COMPREPLY[@]} = 0 ]; then COMPREPLY=($(compgen -o default -- \"${COMP_WORDS[COMP_CWORD]}\")); fi
    echo \"${COMPREPLY[@]}\"
}
ask tenure st
ask tenure wait --until c
ask tenure break --fo
ask tenure run mai
ask tenure hold mai
ask tenure status mai
complete -p tenure
";
    let output = Command::new("bash")
        .args(["--norc", "-c", script, "bash", &program])
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let done = Done::from(output);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[..6], ["status", "changed", "--force", "main.jsonl", "main.jsonl", "main.jsonl"], "{done:?}");
    assert!(lines[6].contains("-o default"), "{done:?}");
}

#[test]
fn the_manual_has_a_page_for_each_subcommand() {
    let scratch = Scratch::new();
    let page = scratch.done(["man"]).stdout;
    assert!(page.contains(".TH tenure 1") && page.contains(".SH EXAMPLES") && page.contains(".SH \"EXIT CODES\""));
    let done = scratch.done(["man", "."]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
    let mut names: Vec<String> = SUBCOMMANDS.iter().map(|name| format!("tenure-{name}.1")).collect();
    names.push("tenure.1".to_owned());
    names.sort();
    assert_eq!(scratch.names(), names);
    assert_eq!(fs::read_to_string(scratch.join("tenure.1")).unwrap(), page);
    for name in SUBCOMMANDS {
        let page = fs::read_to_string(scratch.join(format!("tenure-{name}.1"))).unwrap();
        assert!(page.contains(&format!("tenure\\-{name}")) && page.contains(".SH EXAMPLES"), "{name}");
    }
    // A second call overwrites the pages.
    assert_eq!(scratch.done(["man", "."]).code, Some(0));
    let done = scratch.done(["man", "none"]);
    assert_eq!((done.code, done.stderr.contains("name a folder that exists")), (Some(73), true), "{done:?}");
}
