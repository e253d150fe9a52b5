"""Installs each artifact in an empty place and uses it."""

import pathlib
import re
import tempfile

from .. import build, command, common, crates, inventory, templates
from .commands import check_archive, check_command, unpacked
from .files import check_crate, check_sboms, check_sums, check_templates
from .npm import check_node
from .wheels import check_wheels
from .report import Report, ensure, install_programs, need

__all__ = ["everything", "install_programs", "quick"]


def everything(out, patterns):
    """Checks what is in `out`. An artifact that is listed and not there is a failure, unless --only leaves it out."""
    report = Report(patterns)
    ensure(out.is_dir(), f"there is no {out}; {common.NAME} builds it")
    install_programs()
    with report.check("sums"):
        check_sums(out, whole=not patterns)
    with report.check("SBOMs"):
        check_sboms(out)
    version = common.version()
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        for system in common.built_systems():
            check_command(report, out, version, system, place)
        check_wheels(report, out, version, place)
        check_node(report, out, version, place)
    if report.wants("crates"):
        with report.check("crates"):
            for name in ("tenure", "tenure-cli"):
                check_crate(out / f"{name}-{version}.crate", name)
    if report.wants("templates"):
        check_templates(report, out, version)
    for system in common.systems():
        if system.off:
            report.cannot(system.name, f"not built: {system.off}")
    return report.conclude()


def quick(patterns):
    """Makes each package's layout out of a debug build, twice, and checks it."""
    report = Report(patterns)
    binary = common.target_folder() / "debug/tenure"
    if not binary.exists():
        common.run("cargo", "build", "--locked", "--all-features", "--package", "tenure-cli", cwd=common.ROOT)
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        system = command.native()
        small = place / "tenure"
        common.run(need("strip", "binutils"), "-o", small, binary)
        outs = [place / "one", place / "two"]
        with report.check("the command's packages: laid out"):
            for out in outs:
                lay_out(out, place / f"{out.name}-build", system, small)
        out = outs[0]
        with report.check("the same bytes twice"):
            check_same(*outs)
        with report.check("sums"):
            check_sums(out, whole=True)
        with report.check("SBOMs"):
            check_sboms(out)
        with report.check("the archive"):
            check_archive(unpacked(out / system.archive_name(common.version()), place / "archive"), common.version(), system)
        with report.check("the Debian package"):
            contents = common.output("dpkg-deb", "--contents", out / command.deb_name(common.version(), system))
            for path in ["/usr/bin/tenure", "/usr/share/man/man1/tenure.1.gz", "/usr/share/doc/tenure/copyright"]:
                ensure(f".{path}\n" in contents, f"it lacks {path}")
            ensure(not re.search(r"^\S+ (?!root/root)", contents, re.M), "a file in it is not root's")
        with report.check("the crates"):
            for name in ("tenure", "tenure-cli"):
                check_crate(out / f"{name}-{common.version()}.crate", name)
        check_templates(report, out, common.version())
    return report.conclude()


def lay_out(out, work, system, binary):
    """Makes the packages with the command, the crates and the templates."""
    out.mkdir()
    work.mkdir()
    plan = common.Plan(common.ROOT, work, out, common.version(), common.output("git", "rev-parse", "HEAD", cwd=common.ROOT).strip(), 1_700_000_000)
    packages = inventory.Inventory(plan, "Cargo.toml", "tenure-cli", system.command)
    contents = command.Contents(plan, system, binary, packages)
    contents.archive()
    contents.deb()
    for other in common.built_systems():
        if other.name != system.name:
            # The templates name every archive.
            standin = out / other.archive_name(plan.version)
            common.write(standin, f"in place of the archive for {other.name}")
            contents.with_sbom(standin)
    crates.make(plan)
    templates.make(plan)
    build.write_sums(out, list(out.iterdir()))


def check_same(one, two):
    for path in sorted(one.iterdir()):
        ensure(path.read_bytes() == (two / path.name).read_bytes(), f"{path.name} differs between two runs")
