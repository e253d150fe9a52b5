"""Python's wheels and the source distribution, installed in environments of each CPython of this machine."""

import os
import pathlib
import re
import shutil
import subprocess
import zipfile

from .. import binaries, command, common
from . import emulated
from .commands import check_binary, check_mach_o, check_paths
from .report import ensure, need

# The stable ABI's first version and the newest that is released.
PYTHONS = [f"3.{minor}" for minor in range(9, 15)]
# What a glibc of 2014 has, as manylinux2014 asks.
GLIBC = (2, 17)
# A user's program.
EXAMPLE = common.ROOT / "bindings/python/tests/example.py"


def pythons():
    """Returns the CPythons of this machine by their version: those in PATH and pyenv's."""
    found = {}
    for version in PYTHONS:
        places = sorted(pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python3"))
        path = str(places[-1]) if places else shutil.which(f"python{version}")
        if path is None and shutil.which("python3"):
            path = shutil.which("python3")
        said = subprocess.run([path or "false", "-c", "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"], capture_output=True,
                              text=True, check=False).stdout.strip()
        if said == version:
            found[version] = path
    return found


def check_wheels(report, out, version, place):
    here = pythons()
    for system in common.built_systems():
        for tag, target in system.wheels.items():
            name = f"wheel-{system.name}-{tag}"
            if not report.wants(name):
                continue
            family = re.match(r"[a-z]+", tag)[0]
            with report.check(f"{name}: what is in it"):
                machine = "universal2" if target.startswith("universal2") else system.machine
                # A wheel may have several tags: one of macOS has that of each processor too.
                [wheel] = out.glob(f"tenure-{version}-cp39-abi3-*{family}*{machine}*.whl")
                check_wheel(wheel, system, family, place / name)
            if family == "musllinux":
                report.cannot(f"{name}: installed", "there is no CPython of musl here")
            elif emulated.can_run(system):
                with report.check(f"{name}: Debian's CPython under qemu, installed without a network and used"):
                    use_emulated(emulated.languages(system), wheel, f"{tag}_{system.machine}", here[max(here, key=number)], place / f"{name}-emulated")
            elif not command.is_native(system):
                report.cannot(f"{name}: installed", f"there is no CPython for {system.name} here")
            else:
                for python in PYTHONS:
                    if python not in here:
                        report.cannot(f"{name}: CPython {python}", "not on this machine")
                        continue
                    with report.check(f"{name}: CPython {python}, installed without a network and used"):
                        environment = place / f"{name}-{python}"
                        common.run(here[python], "-m", "venv", environment, quiet=True)
                        use_wheel(environment, "--no-index", wheel)
                report.cannot(f"{name}: free-threaded CPython", common.settings()["project"]["without"])
    if report.wants("sdist"):
        with report.check("sdist: built with Rust and used"):
            environment = place / "sdist"
            python = here[max(here, key=number)]
            common.run(python, "-m", "venv", environment, quiet=True)
            sdist = out / f"tenure-{version}.tar.gz"
            ensure(sdist.exists(), f"{sdist.name} is not there")
            use_wheel(environment, sdist)


def number(version):
    return int(version.split(".")[1])


def use_emulated(root, wheel, platform, python, site):
    """Installs a wheel of another processor by pip, which compares its tags, and uses it under qemu."""
    emulator = root.program("python3.*[0-9]")
    version = emulator[-1].name.removeprefix("python")
    common.run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--only-binary", ":all:", "--target",
               site, "--platform", platform, "--python-version", version, "--implementation", "cp", "--abi", "abi3", wheel, quiet=True)
    common.run(*emulator, EXAMPLE, env={"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}, quiet=True)


def use_wheel(environment, *words):
    bare = {"PATH": f"{environment}/bin:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}
    for name in ("CARGO_HOME", "RUSTUP_HOME"):
        if name in os.environ:
            bare[name] = os.environ[name]
    common.run(environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *words, env=bare, quiet=True)
    common.run(environment / "bin/python", EXAMPLE, env={"PATH": f"{environment}/bin"}, quiet=True)


def check_wheel(wheel, system, family, folder):
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(folder)
        names = opened.namelist()
    for wanted in ["tenure/__init__.py", "tenure/py.typed", "tenure/_tenure.pyi", "tenure/filelock/__init__.py"]:
        ensure(wanted in names, f"{wheel.name} lacks {wanted}")
    for licence in [*common.LICENCES, "THIRD-PARTY-LICENSES"]:
        ensure(any(name.endswith(f".dist-info/licenses/{licence}") for name in names), f"{wheel.name} lacks {licence}")
    for path in folder.rglob("*"):
        if path.is_file():
            check_paths(path)
    [about] = folder.glob("*.dist-info/METADATA")
    ensure(system.family == "linux" or "macOS" in about.read_text(), f"{wheel.name} does not describe macOS")
    [module] = folder.glob("tenure/_tenure*.so")
    if system.family == "linux":
        check_shared(module, system, family == "musllinux")
    else:
        check_universal(module)


def check_universal(path):
    """Checks that a library of macOS has both processors, each as `check_mach_o` wants it."""
    content = path.read_bytes()
    parts = {binaries.kind(part): part for part in binaries.slices(content)}
    ensure(set(parts) == {("macos", "x86_64"), ("macos", "aarch64")}, f"{path.name} is of {sorted(parts)}")
    for (_, machine), part in parts.items():
        check_mach_o(f"{path.name} for {machine}", part)


def check_shared(path, system, musl):
    """Checks that a shared library is for its machine and needs nothing newer than its tag says."""
    check_binary(path, system, static=False)
    dynamic = common.output(need("readelf", "binutils"), "--wide", "--dynamic", "--version-info", path)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    versions = {tuple(int(part) for part in found.split(".")) for found in re.findall(r"GLIBC_(\d+(?:\.\d+)+)", dynamic)}
    if musl:
        missing = emulated.missing_in_musl(system, path) if emulated.has_packages() else set()
        ensure(not missing, f"{path.name} needs {', '.join(sorted(missing))}, which musl does not have")
        ensure(not versions and needed <= {"libc.so", "libgcc_s.so.1"}, f"{path.name} needs {needed} {versions}")
    else:
        newest = max(versions, default=(2, 0))
        ensure(newest <= GLIBC, f"{path.name} needs glibc {newest}, and {GLIBC} is the limit")
        allowed = {"libc.so.6", "libpthread.so.0", "libdl.so.2", "libm.so.6", "libgcc_s.so.1", "librt.so.1"}
        ensure(all(name in allowed or name.startswith("ld-linux") for name in needed), f"{path.name} needs {needed}")
