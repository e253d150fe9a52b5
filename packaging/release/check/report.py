"""The results of a check, and the programs that it needs."""

import contextlib
import fnmatch
import os
import platform
import shutil

from .. import common
from ..common import Failure, say


class Report:
    """The results: each check's name, and what was not checked with its reason."""

    def __init__(self, patterns):
        self.patterns, self.failed, self.unchecked, self.passed = patterns, [], [], 0

    def wants(self, name):
        return not self.patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)

    @contextlib.contextmanager
    def check(self, name):
        """Counts the block as passed, or its failure, so that one failure does not hide the next."""
        try:
            yield
        except (Failure, AssertionError, OSError, KeyError, ValueError, StopIteration) as error:
            self.failed.append(name)
            say(f"FAILED: {name}: {type(error).__name__ if not str(error) else error}")
        else:
            self.passed += 1
            say(f"passed: {name}")

    def cannot(self, name, reason):
        """Names a check that this machine cannot do, however it is set up."""
        self.unchecked.append(name)
        say(f"NOT CHECKED: {name}: {reason}")

    def conclude(self):
        say(f"{self.passed} checks passed, {len(self.failed)} failed, {len(self.unchecked)} not possible here")
        for name in self.failed:
            say(f"FAILED: {name}")
        return 1 if self.failed or not self.passed else 0


def need(program, package):
    """Returns the path of a program that the check cannot do without."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        raise Failure(f"needs {program}: apt-get install {package}")
    return path


def ensure(holds, message):
    if not holds:
        raise Failure(message)


# The programs of the checks, each with Debian's package.
PROGRAMS = {"lintian": "lintian", "readelf": "binutils", "dpkg": "dpkg", "dpkg-deb": "dpkg", "chroot": "coreutils"}


def install_programs():
    """Installs the missing programs, where it may. Elsewhere the check that needs one fails and names it.

    Returns 1 if one is still missing."""
    wanted = dict(PROGRAMS)
    for system in common.built_systems():
        if system.family == "linux" and system.machine != platform.machine():
            wanted[f"qemu-{system.machine}"] = "qemu-user"
    missing = sorted({package for program, package in wanted.items() if not shutil.which(program)})
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        say("installing with apt-get:", *missing)
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        common.run("apt-get", "update", "-qq", env=env, quiet=True)
        common.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing, env=env, quiet=True)
    elif missing:
        say("not installed, which root can do with apt-get:", *missing)
        return 1
    if any(system.family == "windows" and system.machine == platform.machine() for system in common.built_systems()):
        try:
            common.run(common.ROOT / "scripts/wine", "--packages")
        except Failure:  # The script has said what to install.
            return 1
    return 0
