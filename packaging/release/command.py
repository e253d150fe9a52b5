"""The command: in an archive with its pages, completions and licences, and in a Debian package."""

import datetime
import email.utils
import functools
import hashlib
import os
import platform
import shutil

from . import common
from .inventory import Inventory, sbom_path

COMPLETIONS = {"bash": "tenure.bash", "zsh": "_tenure", "fish": "tenure.fish", "elvish": "tenure.elv", "powershell": "_tenure.ps1"}
DEBIAN_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/tenure",
    "zsh": "usr/share/zsh/vendor-completions/_tenure",
    "fish": "usr/share/fish/vendor_completions.d/tenure.fish",
}
SUMMARY = "lock between programs that knows its holder"


def build(plan, system):
    """Builds the command for a system and returns its path."""
    builder = "build" if system.family == "windows" else "zigbuild"
    env = plan.build_environment(*common.link_flags(system.command, shared=False))
    env["PATH"] = os.pathsep.join([str(common.cargo_auditable()), env["PATH"]])
    common.run("cargo", "auditable", builder, "--release", "--locked", "--package", "tenure-cli", "--target", system.command,
               cwd=plan.source, env=env)
    return plan.build / system.command / "release" / system.program


def runner(system):
    """Returns the words before a program of that system, with which it runs here. `None`: it cannot."""
    if system.family == "windows" and platform.machine() == system.machine:
        return [wine()]
    if system.family != "linux":
        return None
    if is_native(system):
        return []
    emulator = shutil.which(f"qemu-{system.machine}") or shutil.which(f"qemu-{system.machine}-static")
    return [emulator] if emulator else None


@functools.cache
def wine():
    """Returns the program that runs one of Windows, which it installs if it is missing."""
    return common.output(common.ROOT / "scripts/wine").strip()


def is_native(system):
    return system.family == "linux" and system.machine == platform.machine()


def native():
    """Returns the system that this machine is of."""
    return next(system for system in common.built_systems() if is_native(system))


class Contents:
    """The files beside a built command, which the command itself prints. Where it cannot run, this machine's own prints them."""

    def __init__(self, plan, system, binary, inventory):
        self.plan, self.system, self.binary, self.inventory = plan, system, binary, inventory
        words = runner(system)
        printer = binary
        if words is None and system.family == "linux":
            raise common.Failure(f"the pages of {system.name} are printed by its command: needs qemu-{system.machine} (qemu-user)")
        if words is None:
            words, printer = [], build(plan, native())
        self.folder = plan.build / "contents" / system.name
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "man").mkdir(parents=True)
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}
        common.run(*words, printer, "man", self.folder / "man", env=env)
        self.completions = {shell: common.output(*words, printer, "completions", shell, env=env) for shell in COMPLETIONS}
        self.pages = sorted((self.folder / "man").iterdir())
        self.third_party = inventory.licences(system.command)

    def archive(self):
        """Writes the archive and its SBOM, and returns both."""
        name = self.system.folder_name(self.plan.version)
        folder = self.folder / name
        common.write(folder / self.system.program, self.binary.read_bytes(), 0o755)
        for page in self.pages:
            common.write(folder / "man/man1" / page.name, page.read_bytes())
        for shell, text in self.completions.items():
            common.write(folder / "completions" / COMPLETIONS[shell], text)
        for licence in common.LICENCES:
            common.write(folder / licence, (self.plan.source / licence).read_bytes())
        common.write(folder / "THIRD-PARTY-LICENSES", self.third_party)
        common.write(folder / "README.md", with_note((self.plan.source / "README.md").read_text(), self.system))
        common.write(folder / "CHANGELOG.md", (self.plan.source / "CHANGELOG.md").read_bytes())
        made = self.plan.out / self.system.archive_name(self.plan.version)
        pack = {"tar.gz": common.tar_gz, "zip": common.zipped}[self.system.archive]
        common.write(made, pack(folder, name, self.plan.epoch))
        return self.with_sbom(made)

    def deb(self):
        """Writes the Debian package and its SBOM, and returns both."""
        folder = self.folder / "deb"
        doc = folder / "usr/share/doc/tenure"
        common.write(folder / "usr/bin/tenure", self.binary.read_bytes(), 0o755)
        for page in self.pages:
            common.write(folder / "usr/share/man/man1" / f"{page.name}.gz", common.gzipped(page.read_bytes()))
        for shell, path in DEBIAN_COMPLETIONS.items():
            common.write(folder / path, self.completions[shell])
        mit = (self.plan.source / "LICENSE-MIT").read_text()
        common.write(doc / "copyright", debian_copyright(mit))
        common.write(doc / "THIRD-PARTY-LICENSES.gz", common.gzipped(self.third_party.encode()))
        common.write(doc / "changelog.Debian.gz", common.gzipped(debian_changelog(self.plan).encode()))
        common.write(doc / "changelog.gz", common.gzipped((self.plan.source / "CHANGELOG.md").read_bytes()))
        common.write(folder / "usr/share/lintian/overrides/tenure", LINTIAN_OVERRIDES)
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        size = sum((path.stat().st_size + 1023) // 1024 if path.is_file() else 1 for path in folder.rglob("*"))
        control = CONTROL.format(version=debian_version(self.plan.version), arch=self.system.deb, size=size, summary=SUMMARY,
                                 maintainer=common.maintainer(), homepage=common.repository(self.plan.source))
        common.write(folder / "DEBIAN/control", control)
        sums = [f"{md5(path)}  {path.relative_to(folder)}\n" for path in sorted(folder.rglob("*"))
                if path.is_file() and "DEBIAN" not in path.relative_to(folder).parts]
        common.write(folder / "DEBIAN/md5sums", "".join(sums))
        (folder / "DEBIAN").chmod(0o755)
        folder.chmod(0o755)
        # Dates later than the epoch are set to it, and all of these are.
        made = self.plan.out / deb_name(self.plan.version, self.system)
        env = dict(os.environ, SOURCE_DATE_EPOCH=str(self.plan.epoch))
        common.run("dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zxz", "--build", folder, made, env=env, quiet=True)
        return self.with_sbom(made)

    def with_sbom(self, made):
        bom = sbom_path(made)
        common.write(bom, self.inventory.sbom(made, "application"))
        return [made, bom]


def with_note(readme, system):
    """Returns a README with the system's note below its title."""
    title, rest = readme.split("\n", 1)
    return f"{title}\n\n> **{system.name}.** {system.note}\n{rest}" if system.note else readme


def debian_version(version):
    """Returns the version with Debian's revision: the package has a changelog of its own."""
    return f"{version}-1"


def deb_name(version, system):
    return f"tenure_{debian_version(version)}_{system.deb}.deb"


def make(plan, system, wanted):
    """Builds the wanted artifacts of a system's command."""
    binary = build(plan, system)
    contents = Contents(plan, system, binary, Inventory(plan, "Cargo.toml", "tenure-cli", system.command))
    made = []
    if wanted(f"command-{system.name}"):
        made += contents.archive()
    if system.deb and wanted(f"deb-{system.deb}"):
        made += contents.deb()
    return made


def md5(path):
    # dpkg's list of sums is of MD5: it finds damage, not attacks.
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def debian_copyright(mit):
    """Returns Debian's machine-readable copyright file. Apache's text is on every Debian."""
    text = "\n".join(f" {line}" if line.strip() else " ." for line in mit.strip().splitlines())
    notice = next(line for line in mit.splitlines() if line.lower().startswith("copyright"))
    return f"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tenure
Comment: The command is static. THIRD-PARTY-LICENSES.gz beside this file has the licences of the packages in it.

Files: *
Copyright: {notice.split(None, 1)[1]}
License: Expat or Apache-2.0

License: Expat
{text}

License: Apache-2.0
 On Debian systems, the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.
"""


def debian_changelog(plan):
    date = email.utils.format_datetime(datetime.datetime.fromtimestamp(plan.epoch, datetime.timezone.utc))
    return f"""tenure ({debian_version(plan.version)}) unstable; urgency=medium

  * Release {plan.version}; changelog.gz says what changed.

 -- {common.maintainer()}  {date}
"""


# One binary for every Debian and every Ubuntu, whatever their C library's version.
LINTIAN_OVERRIDES = """# One binary serves every release of Debian; TLS and DNS are Rust's own, so that nothing is loaded at run time.
tenure: statically-linked-binary [usr/bin/tenure]
"""

CONTROL = """Package: tenure
Version: {version}
Architecture: {arch}
Maintainer: {maintainer}
Installed-Size: {size}
Section: utils
Priority: optional
Homepage: {homepage}
Description: {summary}
 Tenure locks files, and names on etcd and PostgreSQL, between programs. Two
 programs never hold a lock at once, it is free as soon as its holder is dead,
 and it always knows its holder.
 .
 It excludes programs that use flock(1), and programs that know only lock
 files. "tenure run" runs a command while it holds a lock; "tenure status"
 shows the holder.
"""
