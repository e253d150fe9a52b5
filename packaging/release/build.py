"""The artifacts of a release, and how they are built."""

import fnmatch
import shutil

from . import command, common, crates, node, python, templates
from .common import Plan


def artifacts():
    """Returns the name of each artifact that is built, in the order of building."""
    names = []
    for system in common.built_systems():
        names.append(f"command-{system.name}")
        if system.deb:
            names.append(f"deb-{system.deb}")
    names += ["crates", "sdist"]
    names += [f"wheel-{system.name}-{tag}" for system in common.built_systems() for tag in system.wheels]
    names += [f"node-{name}" for system in common.built_systems() for name in system.addons]
    return [*names, "node", "templates"]


def show():
    for name in artifacts():
        print(name)
    for line in [*common.notes(), *not_built()]:
        print(line)
    return 0


def not_built():
    """Returns a line for everything that is not built, with the reason."""
    lines = [f"not built: everything for {system.name}: {system.off}" for system in common.systems() if system.off]
    lines += [f"not built for {system.name}: {system.without}" for system in common.built_systems() if system.without]
    return [*lines, f"not built: {common.settings()['project']['without']}"]


def selection(patterns):
    """Returns a function that returns whether an artifact is wanted."""
    names = artifacts()
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise common.Failure(f"--only {pattern}: no artifact has that name; {common.NAME} --list prints them")
    return lambda name: not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def prepare(out, work, commit, fast):
    """Clones a commit into the folder `work`, and returns the plan of a build there.

    Refuses a commit with a release's tag while the repository's address is a placeholder, or the changelog has no day for it."""
    source = work / "source"
    commit = common.output("git", "rev-parse", "--verify", f"{commit}^{{commit}}", cwd=common.ROOT).strip()
    if common.output("git", "tag", "--points-at", commit, "v[0-9]*", cwd=common.ROOT).strip():
        if fast:
            raise common.Failure("a release is built without --fast")
        common.refuse_placeholder()
        common.refuse_undated(common.ROOT)
    if common.output("git", "status", "--porcelain", cwd=common.ROOT).strip():
        common.say("what is not committed is not in the release")
    shutil.rmtree(source, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    common.run("git", "clone", "--quiet", "--no-checkout", common.ROOT, source)
    common.run("git", "-c", "advice.detachedHead=false", "checkout", "--quiet", commit, cwd=source)
    epoch = int(common.output("git", "log", "-1", "--format=%ct", commit, cwd=source))
    return Plan(source, work / "build", out, common.version(source), commit, epoch, fast)


def everything(out, patterns, commit, fast):
    wanted = selection(patterns)
    work = common.target_folder() / "dist"
    if not patterns:
        # A part that is built alone keeps what cargo has built before.
        for folder in (out, work):
            shutil.rmtree(folder, ignore_errors=True)
    write_sums(out, build(prepare(out, work, commit, fast), wanted))
    for line in not_built():
        common.say(line)
    return 0


def again(out, patterns, commit, fast):
    """Builds what is in `out` a second time: from another clone, and from nothing. Compares the bytes.

    The clone has the first one's path. The packages for Python and Node are workspaces of their own, which have the library
    outside, and cargo names such a crate's symbols after its whole path."""
    wanted = selection(patterns)
    work = common.target_folder() / "dist"
    shutil.rmtree(work, ignore_errors=True)
    plan = prepare(work / "again", work, commit, fast)
    if wanted("templates") and not all(wanted(f"command-{system.name}") for system in templates.named_systems()):
        raise common.Failure("the templates need the archives that they name: --only both")
    different = []
    for path in build(plan, wanted):
        first = out / path.name
        if not first.exists():
            raise common.Failure(f"{first} is not there to compare with")
        same = common.digest(first) == common.digest(path)
        common.say(f"{'the same' if same else 'DIFFERS '} {common.digest(path)}  {path.name}")
        if not same:
            different.append(path.name)
    if different:
        raise common.Failure(f"{', '.join(different)}: other bytes in {plan.out} than in {out}")
    shutil.rmtree(work)
    return 0


def build(plan, wanted):
    """Builds the wanted artifacts and returns them."""
    for folder in (plan.out, plan.build):
        folder.mkdir(parents=True, exist_ok=True)
    install_targets(wanted)
    made = []
    for system in common.built_systems():
        if wanted(f"command-{system.name}") or (system.deb and wanted(f"deb-{system.deb}")):
            say_built(made, command.make(plan, system, wanted))
    if wanted("crates"):
        say_built(made, crates.make(plan))
    say_built(made, python.make(plan, wanted))
    say_built(made, node.make(plan, wanted))
    if wanted("templates"):
        say_built(made, templates.make(plan))
    if not made:
        raise common.Failure("nothing was built")
    common.say(f"{len(made)} files in {plan.out}")
    return made


def install_targets(wanted):
    """Installs Rust's targets for the wanted artifacts."""
    targets = set()
    for system in common.built_systems():
        if wanted(f"command-{system.name}") or (system.deb and wanted(f"deb-{system.deb}")):
            targets.add(system.command)
        for tag, target in system.wheels.items():
            if wanted(f"wheel-{system.name}-{tag}"):
                targets |= set(common.rust_targets(target))
        targets |= {target for name, target in system.addons.items() if wanted(f"node-{name}")}
    if targets:
        common.run(common.ROOT / "scripts/build-elsewhere", "--targets", *sorted(targets))


def say_built(made, paths):
    for path in paths:
        common.say(f"{path.name}: {path.stat().st_size} bytes")
    made += paths


def write_sums(out, made):
    """Writes SHA256SUMS of what one run made. What an earlier run left in the folder may be of another commit."""
    common.write(out / "SHA256SUMS", "".join(f"{common.digest(path)}  {path.name}\n" for path in sorted(made)))
