"""Programs and libraries of Debian for another processor or another C library. They are unpacked into a folder, and nothing is
installed; qemu runs the programs."""

import os
import re
import shutil

from .. import command, common
from .report import need


class Root:
    """A folder with packages of Debian, and what they depend on, for the machine of a system."""

    def __init__(self, system, packages):
        self.words = command.runner(system)
        self.folder = common.target_folder() / "tools" / f"debian-{system.deb}-{packages[0]}"
        done = self.folder / "packages"
        if not done.exists() or done.read_text().split() != packages:
            shutil.rmtree(self.folder, ignore_errors=True)
            unpack(system.deb, packages, self.folder)
            done.write_text(" ".join(packages))

    def program(self, pattern):
        """Returns the words that run a program of the folder."""
        [path] = (self.folder / "root/usr/bin").glob(pattern)
        return [*self.words, "-L", self.folder / "root", path]


def languages(system):
    """Returns the folder with CPython and Node."""
    return Root(system, ["python3", "nodejs"])


def can_run(system):
    """Returns whether such programs run here: for a Linux of another processor, on a Debian."""
    return bool(has_packages() and system.family == "linux" and not command.is_native(system) and command.runner(system))


def has_packages():
    return shutil.which("apt-get") is not None


def unpack(architecture, packages, folder):
    """Downloads packages and what they depend on, by an apt with lists of its own, and unpacks them."""
    for name in ("state/lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    settings = {
        "APT::Architecture": architecture, "APT::Architectures": architecture, "APT::Sandbox::User": "", "Debug::NoLocking": "1",
        "Dir::State": folder / "state", "Dir::State::status": folder / "status", "Dir::Cache": folder / "cache",
    }
    words = ["apt-get", "-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    common.run(*words, "update", env=env, quiet=True)
    common.run(*words, "-y", "--no-install-recommends", "--download-only", "install", *packages, env=env, quiet=True)
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        common.run("dpkg-deb", "--extract", package, folder / "root", quiet=True)
    shutil.rmtree(folder / "cache")


def symbols(path, undefined):
    """Returns the names that a shared library needs from others, or those that it defines. A weak need may stay unmet."""
    table = common.output(need("readelf", "binutils"), "--wide", "--dyn-syms", path)
    found = re.findall(r"^\s*\d+: \S+ +\S+ +\S+ +(\S+) +\S+ +(\S+) (\S+)", table, re.M)
    return {name.split("@")[0] for binding, section, name in found
            if (section == "UND") == undefined and not (undefined and binding == "WEAK")}


def missing_in_musl(system, path):
    """Returns the functions that a library for musl needs, and that neither musl nor the program which loads it has."""
    [musl] = (Root(system, ["musl"]).folder / "root/lib").glob("*/libc.so")
    known = symbols(musl, undefined=False)
    return {name for name in symbols(path, undefined=True) - known if not re.match(r"_?Py|napi_|_Unwind_", name)}
