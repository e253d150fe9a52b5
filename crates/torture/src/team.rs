//! The members of a round, and the command that starts each.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tenure_tests::has;

use crate::phase::Phase;
use crate::site::{MEMBER, WITNESS};

/// The variable that names the command for workers.
pub const TENURE: &str = "TENURE_BIN";
/// The variable that names a Python with the package `tenure`.
const FROM_PYTHON: &str = "TORTURE_PYTHON";
/// The variable that names a folder in which the package `tenure` for Node is installed.
const FROM_NODE: &str = "TORTURE_NODE";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process of this program: `torture worker NAME`.
    Native(&'static str),
    /// `tenure run` and a command; one grant for each process.
    Run {
        flock: bool,
    },
    /// flock(1) and a command; one grant for each process.
    Flock,
    Python,
    Node,
    /// A native by the package for Python.
    FromPython,
    /// A native by the package for Node.
    FromNode,
    Cleaner,
    Breaker,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Native(name) => name,
            Kind::Run { flock: false } => "run",
            Kind::Run { flock: true } => "run --flock",
            Kind::Flock => "flock(1)",
            Kind::Python => "python",
            Kind::Node => "node",
            Kind::FromPython => "from python",
            Kind::FromNode => "from node",
            Kind::Cleaner => "cleaner",
            Kind::Breaker => "breaker",
        }
    }

    pub fn foreign(self) -> bool {
        matches!(self, Kind::Python | Kind::Node)
    }

    /// Returns whether it ends after one grant, without a request.
    pub fn once(self) -> bool {
        matches!(self, Kind::Run { .. } | Kind::Flock)
    }
}

/// The programs that members run.
pub struct Programs {
    torture: PathBuf,
    pub tenure: Option<PathBuf>,
    python: Option<PathBuf>,
    node: bool,
    from_python: Option<PathBuf>,
    from_node: bool,
    flock: bool,
    /// Whether pid namespaces can be created.
    pub namespaces: bool,
}

impl Programs {
    /// Finds the programs, and prints which are missing.
    pub fn find() -> Programs {
        let torture = std::env::current_exe().unwrap();
        let tenure = std::env::var_os(TENURE).map_or_else(|| built(&torture), PathBuf::from);
        let says = |command: &mut Command| {
            let out = command.stderr(Stdio::null()).output().ok()?;
            let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            (out.status.success() && !text.is_empty()).then_some(text)
        };
        // A shim in place of python would cost more than everything else at each restart.
        let python = says(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
        let programs = Programs {
            tenure: says(Command::new(&tenure).arg("--version")).map(|_| tenure),
            python: python.map(PathBuf::from),
            node: has("node"),
            from_python: std::env::var_os(FROM_PYTHON).map(PathBuf::from),
            from_node: std::env::var_os(FROM_NODE).is_some(),
            flock: has("flock"),
            namespaces: tenure_tests::is_root() && has("unshare"),
            torture,
        };
        for (what, there) in [
            ("tenure", programs.tenure.is_some()),
            ("python3", programs.python.is_some()),
            ("node", programs.node),
            ("the package for Python: TORTURE_PYTHON names a Python that has it", programs.from_python.is_some()),
            ("the package for Node: TORTURE_NODE names a folder that has it", programs.from_node),
            ("flock(1)", programs.flock),
            ("pid namespaces: they require root and unshare(1)", programs.namespaces),
        ] {
            if !there {
                println!("without {what}");
            }
        }
        programs
    }

    /// Returns the team of a phase, with `size` members if the phase is one of many.
    pub fn team(&self, phase: Phase, size: usize) -> Vec<Kind> {
        let natives = match phase {
            // A native in flock style and a program that knows only lock files do not see each other.
            Phase::Careful | Phase::CarefulApart => ["lock-file", "lock-file", "lock-file", "crowd"].as_slice(),
            Phase::Pruned => &["reopening", "reopening", "reopening"],
            Phase::Flock => &["flock", "sharer", "sharer", "flock", "sharer"],
            Phase::Broken => &["breakable", "breakable", "breakable", "breakable"],
            Phase::Natives => &["lock-file", "flock", "mixed", "mixed-crowd", "forker", "lock-file"],
            Phase::OpenClaw | Phase::Apart => &["lock-file", "lock-file", "flock", "flock", "mixed", "mixed-crowd"],
            Phase::Commands | Phase::Hot | Phase::Slots => &[],
        };
        let mut others = Vec::new();
        if self.tenure.is_some() && !matches!(phase, Phase::Pruned | Phase::Broken) {
            others.push(Kind::Run { flock: phase == Phase::Flock });
            // The same applies to `tenure run --flock`.
            let seen = matches!(phase, Phase::Careful | Phase::CarefulApart | Phase::Commands);
            others.push(Kind::Run { flock: !seen });
        }
        if self.flock && phase == Phase::Flock {
            others.extend([Kind::Flock, Kind::Flock]);
        }
        if self.python.is_some()
            && matches!(phase, Phase::Careful | Phase::CarefulApart | Phase::Commands | Phase::OpenClaw)
        {
            others.push(Kind::Python);
        }
        if self.node && matches!(phase, Phase::Careful | Phase::Commands | Phase::OpenClaw) {
            others.push(Kind::Node);
        }
        if self.from_python.is_some() && matches!(phase, Phase::Careful | Phase::Natives) {
            others.extend([Kind::FromPython, Kind::FromPython]);
        }
        if self.from_node && matches!(phase, Phase::Careful | Phase::Natives) {
            others.extend([Kind::FromNode, Kind::FromNode]);
        }
        if phase.cleaned() {
            others.push(Kind::Cleaner);
        }
        if phase == Phase::Broken {
            others.push(Kind::Breaker);
        }
        let mut team: Vec<Kind> = natives.iter().map(|name| Kind::Native(name)).chain(others).collect();
        // More of each, in turn, except cleaners and breakers.
        let many: Vec<Kind> =
            team.iter().copied().filter(|kind| !matches!(kind, Kind::Cleaner | Kind::Breaker)).collect();
        let more = many.iter().copied().cycle().take(size.saturating_sub(team.len()));
        team.extend(more.collect::<Vec<_>>());
        team
    }

    pub fn command(
        &self,
        kind: Kind,
        member: usize,
        folder: &Path,
        witness: &Path,
        phase: Phase,
        seed: &str,
    ) -> Command {
        let foreign = |at: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(at);
        let target = folder.join("transcript.jsonl");
        let mut command = match kind {
            Kind::Native(_) | Kind::Cleaner | Kind::Breaker => {
                let mut command = self.worker();
                command.args(["worker", kind.name()]);
                command
            }
            Kind::Run { flock } => {
                let mut command = Command::new(self.tenure.as_ref().unwrap());
                command.arg("run").args(flock.then_some("--flock")).arg(target);
                command.arg("--").arg(&self.torture).arg("inside");
                command.arg(if flock { "flock" } else { "lock-file" }).process_group(0);
                command
            }
            Kind::Flock => {
                let mut command = Command::new("flock");
                command.arg(target).arg(&self.torture).args(["inside", "flock"]).process_group(0);
                command
            }
            Kind::Python => {
                let mut command = Command::new(self.python.as_ref().unwrap());
                command.arg(foreign("foreign/torture.py")).env("TORTURE_OPENCLAW", foreign("../tenure-tests/foreign"));
                command
            }
            Kind::FromPython => {
                let mut command = Command::new(self.from_python.as_ref().unwrap());
                command.arg(foreign("bindings/torture.py"));
                command
            }
            Kind::FromNode => {
                let mut command = Command::new("node");
                command.arg(foreign("bindings/torture.mjs"));
                command
            }
            Kind::Node => {
                let mut command = Command::new("node");
                command.arg(foreign("foreign/torture.mjs"));
                command
            }
        };
        command.arg(folder).args([phase.name(), seed]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env(MEMBER, member.to_string()).env(WITNESS, witness);
        if let Some(tenure) = &self.tenure {
            command.env(TENURE, tenure);
        }
        if kind.once() {
            // It reports on standard error that it waits.
            command.stderr(Stdio::null());
        }
        end_with_us(&mut command);
        command
    }

    /// Returns a command that runs this program.
    pub fn worker(&self) -> Command {
        Command::new(&self.torture)
    }
}

/// Ends even a stopped process with the thread that started it.
pub fn end_with_us(command: &mut Command) {
    // SAFETY: prctl(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// Returns the command beside this program, rebuilt if cargo runs us, so that it is never outdated.
fn built(torture: &Path) -> PathBuf {
    let folder = torture.parent().unwrap();
    let folder = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--package", "tenure-cli", "--bin", "tenure"]);
        build.args((!cfg!(debug_assertions)).then_some("--release")).arg("--manifest-path");
        build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"));
        if !build.status().is_ok_and(|status| status.success()) {
            println!("`tenure` could not be built");
        }
    }
    folder.join("tenure")
}
