//! The help texts where a command behaves otherwise on Windows. The definitions in `commands` describe Linux.

use clap::{Arg, Command};

/// A passage of a text, and what is said in its place.
type Passage = (&'static str, &'static str);

/// The passages of the main help.
const MAIN: &[Passage] = &[
    ("./append.sh    run", r".\append.cmd   run"),
    ("./backup.sh              only", r".\backup.cmd             only"),
    (
        "  tenure doctor /mnt/share --stress 10s            test whether",
        "  tenure doctor D:\\data                            test whether",
    ),
    ("  tenure top --recursive                           show the locks in this folder as a live table\n", ""),
    ("  tenure events --recursive                        print what happens to the locks in this folder\n", ""),
    ("'etcd://etcd-1:2379/sessions/main' -- ./append.sh", "\"etcd://etcd-1:2379/sessions/main\" -- .\\append.cmd"),
    (
        "  128 + N   signal N ended the command",
        "  130, 149  Ctrl-C, Ctrl-Break
  137, 143  the command was ended because of --on-overrun
  255       the command's exit code is above 255",
    ),
];

/// The passages of the help of each subcommand.
const SUBCOMMANDS: &[(&str, &[Passage])] = &[
    (
        "run",
        &[
            ("even if the command leaves daemons.", "even if the command leaves other processes."),
            (
                "If `tenure` is killed, the lock stays held while the command works.",
                "If `tenure` is killed, Windows ends the command, so that it does not outlive the lock.",
            ),
            ("./append.sh", r".\append.cmd"),
            (
                "by a shell:\n    tenure run -n backup -c 'tar cf backup.tar data && mv backup.tar /mnt'",
                "by cmd.exe:\n    tenure run -n backup -c \"tar cf backup.tar data && move backup.tar D:\\\"",
            ),
            ("a job for cron, which succeeds", "a scheduled task, which succeeds"),
            ("./cron-job.sh", r".\task.cmd"),
            ("--label 'run 8f2c' a.jsonl b.jsonl -- ./merge.sh", "--label \"run 8f2c\" a.jsonl b.jsonl -- .\\merge.cmd"),
            (
                "exclude programs that use flock(1) too:\n    tenure run --flock /run/lock/backup -- ./backup.sh",
                "exclude programs that lock the target itself too:\n    tenure run --flock backup.lck -- .\\backup.cmd",
            ),
            ("./read.sh", r".\read.cmd"),
            ("./worker.sh", r".\worker.cmd"),
            (
                "each on a device of its own:\n    tenure run --slots 4 gpu -- sh -c 'CUDA_VISIBLE_DEVICES=$TENURE_SLOT ./train'",
                "each on the device that TENURE_SLOT numbers:\n    tenure run --slots 4 gpu -- .\\train.cmd",
            ),
            (
                "  run the newest version only, as a CI service does that cancels the run in progress:
    tenure run --if-busy replace --grace 30s deploy -- ./deploy.sh\n",
                "",
            ),
            ("sync -- ./sync.sh", r"sync -- .\sync.cmd"),
            ("  share a lock between users:\n    tenure run --mode 666 /tmp/shared -- ./job.sh\n", ""),
            (
                "set the timeout of every `tenure` in a script:\n    TENURE_TIMEOUT=10s ./all.sh",
                "set the timeout of every `tenure` that cmd.exe starts from now on:\n    set TENURE_TIMEOUT=10s",
            ),
            (
                "the exit code of the command; 128 + N if signal N ended it",
                "the exit code of the command; 255 if that is above 255
  130, 149  Ctrl-C, Ctrl-Break: see below
  137, 143  the command was ended because of --on-overrun kill, --on-overrun term",
            ),
            (
                "With --flock a missing target is created, empty. So name a file that may be empty, such as one that
serves as a lock only. An empty index breaks a new repository of git.",
                "With --flock a missing target is created, empty. Name a file that serves as a lock only: while it is
locked, no other program can read or write it.",
            ),
            (
                "started, at any depth, are ended too: by SIGTERM, and after 5 s, or sooner where a lease ends
sooner, by SIGKILL. Processes that another program started for the command, such as a service
manager, are not found and continue. Processes that the command leaves when it ends by itself
continue as well.",
                "started, at any depth, are ended too, at once: Windows has no signal by which they could end
themselves. Processes that another program started for the command, such as the task scheduler, are
not found and continue. Processes that the command leaves when it ends by itself continue as well.",
            ),
            (
                "If `tenure` alone is killed by SIGKILL, other users of Tenure are excluded until the command ends.
Programs that know only the lock file find a dead holder, and take over while the command continues.
With a target on a server, the kernel kills the command, but not what the command started.",
                "The command and all that it starts are in a job with `tenure`. If `tenure` is killed, they all end
with it, and the lock is free.",
            ),
            (
                "The command inherits signals as under nice(1): a signal that `tenure` inherited as ignored stays
ignored.

INT, TERM, HUP, QUIT, USR1, USR2, CONT, TSTP and WINCH are passed on to the command. While `tenure`
waits for the lock, these signals have their usual effect.",
                "Ctrl-C and Ctrl-Break reach every process of the console, so the command has them too. `tenure`
waits until the command has ended, and then releases the lock; a command that they have ended counts
as 130. While `tenure` waits for the lock, they end `tenure`, with 130 and 149. When the console is
closed, Windows ends all of them.",
            ),
        ],
    ),
    (
        "hold",
        &[
            (
                "which includes the death of the script, and at a signal.",
                "which includes the death of the script, and at Ctrl-C and Ctrl-Break.",
            ),
            ("and the lock stays held while the command works.", "and no command outlives the lock."),
            (
                "a script in bash that runs several commands under one lock:

    coproc LOCK { exec tenure hold --timeout 10s sessions/main.jsonl; }
    lock=$!
    read -r record <&\"${LOCK[0]}\" || { wait \"$lock\"; exit; }   # busy: 75
    ./append.sh
    ./compact.sh
    exec {LOCK[1]}>&-              # releases the lock
    wait \"$lock\" || exit           # 76: the lock was lost meanwhile

  the fencing token, by which a resource can refuse a past holder:

    fence=$(jq .tenure.fence <<<\"$record\")

  let others in while a model answers, and read again what they may have changed:

    echo suspend >&\"${LOCK[1]}\"; read -r answer <&\"${LOCK[0]}\"
    ./ask-the-model.sh
    echo resume >&\"${LOCK[1]}\"
    read -r answer <&\"${LOCK[0]}\" || { wait \"$lock\"; exit; }   # busy at the timeout: 75
    if jq -e .changed <<<\"$answer\" >/dev/null; then ./read-again.sh; fi

  by hand, until Ctrl-D:

    tenure hold --label 'repair by hand' sessions/main.jsonl",
                "a script in Python that takes several steps under one lock:

    import json
    from subprocess import Popen, PIPE
    lock = Popen(\"tenure hold --timeout 10s sessions/main.jsonl\", stdin=PIPE, stdout=PIPE, bufsize=0)
    record = lock.stdout.readline()     # empty: busy, and lock.wait() is 75
    ...
    lock.stdin.close()                  # releases the lock
    lock.wait()                         # 76: the lock was lost meanwhile

  let others in while a model answers, and read again what they may have changed:

    lock.stdin.write(b\"suspend\\n\"); lock.stdout.readline()
    ...
    lock.stdin.write(b\"resume\\n\")
    answer = lock.stdout.readline()     # empty: busy at the timeout, and lock.wait() is 75
    if json.loads(answer)[\"changed\"]: ...

  by hand, until Ctrl-Z and Enter:

    tenure hold --label \"repair by hand\" sessions/main.jsonl",
            ),
            (
                "  128 + N  signal N ended `tenure`, which released the lock first",
                "  130, 149 Ctrl-C, Ctrl-Break ended `tenure`, which released the lock first",
            ),
            (
                "If this process is killed by SIGKILL, the lock
is free while the script continues. With standard input from /dev/null the lock is released at once.",
                "If this process is killed, the lock is free
while the script continues. With standard input from NUL the lock is released at once.",
            ),
        ],
    ),
    (
        "status",
        &[
            ("\n  show the locks that a process holds and waits for:\n    tenure status --pid 4242", ""),
            ("\n  show the programs that wait for each other in a circle:\n    tenure status --deadlocks", ""),
            (
                "Deadlocks:
A wait that would close a circle (A holds x and waits for y, B holds y and waits for x) fails at
once, with exit code 75 and a message that names each program. So --deadlocks finds the circles of
programs that turned this check off. It reports only what is proven by the notes in which holders
say what they wait for: not the waits of flock(1) or of tasks, and no locks on a server.

",
                "",
            ),
            ("permission denied (--pid: another user's process)", "permission denied"),
        ],
    ),
    ("history", &[("backup -- ./backup.sh", r"backup -- .\backup.cmd")]),
    (
        "clean",
        &[("such as the empty ones of flock(1) and git, are kept", "such as the empty ones of git, are kept")],
    ),
    (
        "wait",
        &[
            ("&& tail sessions/main.jsonl", r"&& type sessions\main.jsonl"),
            ("|| echo 'still busy'", "|| echo still busy"),
            ("&& echo 'the build has begun'", "&& echo the build has begun"),
            (
                "\n  print the status after every change:\n    while tenure wait --until changed queue; do tenure status queue; done",
                "\n\nA lock that is acquired and released between two checks, at most a second apart, may be no change to
--until changed.",
            ),
        ],
    ),
    (
        "break",
        &[
            (
                "never does. Waiters continue within about a second.",
                "never does. The holder itself removes its lock file, which no other process can remove, within three seconds; \
                 if it does not, the break fails.",
            ),
            (
                "  kill 4242                                  better: end the holder, which releases the lock",
                "  taskkill /f /pid 4242                      better: end the holder, which frees the lock",
            ),
            (
                "the holder is a program with a flock(2) on the target, which cannot be broken: end the
          program;",
                "the holder is a program that has locked the target itself, which cannot be broken: end
          the program;",
            ),
        ],
    ),
    (
        "doctor",
        &[
            (
                " With --stress, several processes then compete for one lock, some of them are killed at random, and a \
                 witness outside the file system counts the processes that hold it.",
                "",
            ),
            (
                "  test a folder on a network, with processes that compete for a lock:
    tenure doctor /mnt/share --stress 10s
  repeat a stress run with the same choices:
    tenure doctor /mnt/share --stress 1m --processes 32 --seed 7
  test a server:
    tenure doctor 'etcd://etcd-1:2379/sessions?ttl=2s' --stress 30s",
                "  test a folder on a network:
    tenure doctor \\\\server\\share
  test a server:
    tenure doctor \"etcd://etcd-1:2379/sessions?ttl=2s\"",
            ),
            ("tenure doctor /mnt/share --report", r"tenure doctor \\server\share --report"),
            (
                "The stress run:
  Each process acquires and releases as fast as it can. Half of them are killed by SIGKILL again and
  again, mostly while they hold the lock, and restarted. `double holds` must be 0. `hand-off` is the
  time from a release to the next grant in another process that waited; `takeover` is the time from
  a kill to the next grant. --seed determines which process is killed when, but not which process
  holds the lock at that moment. All processes run on this machine, so the run cannot test what a
  second machine observes.

",
                "",
            ),
            (
                "   \"stress\": null | {\"processes\", \"seed\", \"durationMs\", \"grants\", \"doubleHolds\",
     \"handOff\": {\"count\", \"p50Us\", \"p99Us\", \"maxUs\"},
     \"fairness\": {\"processes\", \"least\", \"most\", \"longestWaitUs\"}, \"kills\",
     \"takeovers\": {\"count\", \"p50Us\", \"maxUs\"}, \"faults\": [..]}}
  Times are in microseconds. A time that was not measured is null.",
                "   \"stress\": null}",
            ),
            ("fit for use, and the stress run found no fault", "fit for use"),
            ("an essential feature is missing, or the stress run found a fault", "an essential feature is missing"),
        ],
    ),
    (
        "metrics",
        &[
            ("Prometheus' node_exporter", "Prometheus' windows_exporter"),
            ("For a count of every crash, read `tenure events --json`. ", ""),
            (
                "for node_exporter, every minute by cron:
    tenure metrics /srv/jobs --recursive --output /var/lib/node_exporter/textfile/tenure.prom",
                "for windows_exporter, by a task every minute:
    tenure metrics D:\\jobs --recursive --output D:\\textfile_inputs\\tenure.prom",
            ),
        ],
    ),
    (
        "completions",
        &[(
            "  this shell   source <(tenure completions bash)",
            "  this shell   tenure completions powershell | Out-String | Invoke-Expression",
        )],
    ),
    (
        "man",
        &[(
            "  tenure man | man -l -                                              read the page
  tenure man ~/.local/share/man/man1 && man tenure-run               install all pages",
            "  tenure man pages                                                   write all pages to a folder",
        )],
    ),
];

/// Makes the help of the whole command line true on Windows.
pub(crate) fn adapt_help(command: Command) -> Command {
    let command = SUBCOMMANDS.iter().fold(with(command, MAIN), |command, (name, passages)| {
        command.mut_subcommand(name, |subcommand| with(subcommand, passages))
    });
    let locks = |subcommand: Command| {
        subcommand
            .mut_arg("flock", |arg| {
                arg.help(
                    "Lock the target itself instead of creating a lock file, to exclude programs that lock it as Rust's \
                     `File::lock` does. Meanwhile no other program can read or write it",
                )
            })
            .mut_arg("mode", hidden)
            .mut_arg("if_busy", |arg| {
                arg.help(
                    "Action when the lock is busy: wait; do not wait at all; or wait, but leave where another `tenure` with \
                     this option waits already. No process can be asked to end on Windows, so `replace` fails there",
                )
            })
            .mut_arg("grace", hidden)
    };
    command
        .mut_subcommand("run", |run| {
            locks(run)
                .mut_arg("on_overrun", |arg| {
                    arg.help(
                        "Action when the command takes longer than --max-hold: report it, or end the command at once; \
                         `term` and `kill` differ in the exit code only",
                    )
                })
                .mut_arg("shell", |arg| {
                    arg.help("Run this script with %COMSPEC% (default: cmd.exe) instead of a command after `--`")
                })
                // No command keeps the lock, so the option changes nothing.
                .mut_arg("close", hidden)
        })
        .mut_subcommand("hold", locks)
        // These report that they have no port.
        .mut_subcommand("events", |events| events.hide(true))
        .mut_subcommand("top", |top| top.hide(true))
        .mut_subcommand("status", |status| {
            status.override_usage("tenure status [OPTIONS] TARGET").mut_arg("pid", hidden).mut_arg("deadlocks", hidden)
        })
        .mut_subcommand("doctor", |doctor| {
            doctor.mut_arg("stress", hidden).mut_arg("processes", hidden).mut_arg("seed", hidden)
        })
}

fn hidden(arg: Arg) -> Arg {
    arg.hide(true)
}

/// Replaces these passages in the texts that a (sub)command has before and after its options.
fn with(mut command: Command, passages: &[Passage]) -> Command {
    let replaced = |text: &clap::builder::StyledStr| {
        passages.iter().fold(text.to_string(), |text, (passage, instead)| text.replace(passage, instead))
    };
    if let Some(text) = command.get_long_about().map(replaced) {
        command = command.long_about(text);
    }
    if let Some(text) = command.get_after_long_help().map(replaced) {
        command = command.after_long_help(text);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_passage_is_in_the_help() {
        let command = crate::args::definition();
        let has = |command: &Command, passage: &str| {
            let texts = [command.get_long_about(), command.get_after_long_help()];
            texts.into_iter().flatten().any(|text| text.to_string().contains(passage))
        };
        for (passage, _) in MAIN {
            assert!(has(&command, passage), "{passage}");
        }
        for (name, passages) in SUBCOMMANDS {
            let subcommand = command.find_subcommand(name).unwrap();
            for (passage, _) in *passages {
                assert!(has(subcommand, passage), "{name}: {passage}");
            }
        }
    }
}
