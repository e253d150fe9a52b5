"""What an upload needs beside the binaries: sums, SBOMs, crates, and the templates of other package managers."""

import json
import pathlib
import re
import shutil
import tarfile
import tempfile

from .. import command, common, inventory, templates
from .report import ensure


def check_sums(out, whole):
    """Checks SHA256SUMS. `whole`: every file in the folder has to be in it."""
    lines = [line.split("  ") for line in (out / "SHA256SUMS").read_text().splitlines()]
    for sha256, name in lines:
        ensure(common.digest(out / name) == sha256, f"{name} has another sum than SHA256SUMS says")
    if not whole:
        return
    there = {path.name for path in out.iterdir()} - {"SHA256SUMS"}
    different = ", ".join(sorted(there ^ {name for _, name in lines}))
    ensure(not different, f"SHA256SUMS and the folder differ, as after a build with --only: {different}")


def check_sboms(out):
    """Each artifact but a template has an SBOM that is valid, that names its sum, and that lists something."""
    boms = sorted(out.glob("*.cdx.json"))
    ensure(boms, "there is none")
    artifacts = {path.name for path in out.iterdir()} - {"SHA256SUMS", *templates.TEMPLATES} - {path.name for path in boms}
    without = artifacts - {path.name.removesuffix(".cdx.json") for path in boms}
    ensure(not without, f"no SBOM for {', '.join(sorted(without))}")
    inventory.validate(boms)
    for path in boms:
        bom = json.loads(path.read_text())
        artifact = out / path.name.removesuffix(".cdx.json")
        ensure(bom["metadata"]["component"]["hashes"][0]["content"] == common.digest(artifact), f"{path.name}: another sum")
        names = {component["name"] for component in bom["components"]}
        ensure({"serde", "jiff"} <= names, f"{path.name} does not list serde and jiff")
        ensure("proptest" not in names and "tenure-sim" not in names, f"{path.name} lists what only the tests use")


def check_crate(crate, name):
    ensure(crate.exists(), f"{crate.name} is not there")
    with tarfile.open(crate) as opened:
        names = [entry.name.split("/", 1)[1] for entry in opened]
    for wanted in ["README.md", "Cargo.toml", *common.LICENCES]:
        ensure(wanted in names, f"{crate.name} lacks {wanted}")
    strange = [path for path in names if re.search(r"(^|/)(sim|simulation|loom|kernel)(/|\.rs$)|tenure-sim|^target/", path)]
    ensure(not strange, f"{crate.name} has {strange[:3]}")


def check_templates(report, out, version):
    with report.check("templates: each names archives that are there, with their sums"):
        for name, families in templates.TEMPLATES.items():
            text = (out / name).read_text()
            ensure(not templates.FIELD.search(text), f"{name} has a field that was not filled")
            for system in common.built_systems():
                if system.family not in families:
                    continue
                archive = out / system.archive_name(version)
                ensure(archive.name in text, f"{name} does not name {archive.name}")
                sums = common.digest(archive)
                ensure(sums in text or templates.sri(sums) in text, f"{name} has another sum of {archive.name}")
    with report.check("templates: PKGBUILD installs"):
        install_pkgbuild(out, version)
    for program, name in (("ruby", "tenure.rb"), ("nix", "flake.nix")):
        if shutil.which(program) is None:
            report.cannot(f"templates: {name} by {program}", f"there is no {program}")
        elif program == "ruby":
            with report.check("templates: tenure.rb is Ruby"):
                common.run("ruby", "-c", out / name, quiet=True)
        else:
            with report.check("templates: flake.nix is Nix"):
                common.run("nix-instantiate", "--parse", out / name, quiet=True)


def install_pkgbuild(out, version):
    """Runs package() of the PKGBUILD as makepkg does, in a folder with the unpacked archive."""
    system = command.native()
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        with tarfile.open(out / system.archive_name(version)) as opened:
            opened.extractall(place / "src", filter="data")
        script = f"set -eu; pkgdir={place}/pkg CARCH={system.machine}; . {out}/PKGBUILD; cd {place}/src; package"
        common.run("bash", "-c", script, quiet=True)
        for path in ["usr/bin/tenure", "usr/share/man/man1/tenure.1", "usr/share/licenses/tenure-bin/LICENSE-MIT"]:
            ensure((place / "pkg" / path).is_file(), f"package() does not install /{path}")
