"""The command: what is in its archive and its Debian package, and its use in an empty place."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import zipfile

from .. import binaries, command, common
from ..common import say
from . import emulated
from .report import ensure, need

# What every Windows has. `bcryptprimitives` is there since Windows 7.
WINDOWS_LIBRARIES = {"advapi32", "api-ms-win-core-synch-l1-2-0", "bcrypt", "bcryptprimitives", "kernel32", "msvcrt", "ntdll", "secur32",
                     "userenv", "ws2_32"}


# What every macOS has, and every FreeBSD in its base.
MACOS_LIBRARIES = re.compile(r"/usr/lib/lib(System\.B|charset\.1|iconv\.2|objc\.A)\.dylib|/System/Library/Frameworks/(CoreFoundation|SystemConfiguration)\.framework/.*")
MACOS = (13, 0)
FREEBSD_LIBRARIES = re.compile(r"(libc\.so\.7|libthr\.so\.3|libgcc_s\.so\.1|libm\.so\.5|librt\.so\.1|libutil\.so\.9|libexecinfo\.so\.1|libkvm\.so\.7"
                               r"|libmemstat\.so\.3|libprocstat\.so\.1|libdevstat\.so\.7)")


def check_command(report, out, version, system, place):
    name = f"command-{system.name}"
    if report.wants(name):
        with report.check(f"{name}: what is in it"):
            folder = unpacked(out / system.archive_name(version), place / system.name)
            check_archive(folder, version, system)
            check_binary(folder / system.program, system, static=True)
        if command.runner(system) is None:
            report.cannot(f"{name}: used", f"no program for {system.family} on {system.machine} runs here")
        else:
            with report.check(f"{name}: used in an empty {'chroot' if command.is_native(system) else 'folder'}"):
                use_in_empty_place(system, folder / system.program, version, place / f"{system.name}-root")
        if emulated.can_run(system):
            for words in ([], ["--lib"]):
                with report.check(f"{name}: the tests under qemu: {' '.join(['scripts/test', '--arch', system.machine, *words])}"):
                    common.run(common.ROOT / "scripts/test", "--arch", system.machine, *words, cwd=common.ROOT, quiet=True)
    if system.deb and report.wants(f"deb-{system.deb}"):
        deb = out / command.deb_name(version, system)
        with report.check(f"deb-{system.deb}: lintian has no errors"):
            lint(deb)
        with report.check(f"deb-{system.deb}: installed, used, removed"):
            install_deb(deb, system, version, place / f"deb-{system.deb}")


def unpacked(archive, folder):
    ensure(archive.exists(), f"{archive.name} is not there")
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            ensure(opened.testzip() is None, f"{archive.name} is damaged")
            opened.extractall(folder)
    else:
        with tarfile.open(archive) as opened:
            for entry in opened:
                ensure(entry.uname == "root" and entry.uid == 0, f"{entry.name} is not root's")
            opened.extractall(folder, filter="data")
    [inner] = folder.iterdir()
    return inner


def check_archive(folder, version, system):
    """Checks that the archive is complete, and that its pages and completions are of this version."""
    wanted = [system.program, "man/man1/tenure.1", "man/man1/tenure-run.1", "README.md", "CHANGELOG.md", "THIRD-PARTY-LICENSES", *common.LICENCES,
              *(f"completions/{name}" for name in command.COMPLETIONS.values())]
    missing = [name for name in wanted if not (folder / name).is_file() or not (folder / name).stat().st_size]
    ensure(not missing, f"{folder.name} lacks {', '.join(missing)}")
    # Python does not unpack the rights in a zip archive, which only a Unix needs.
    ensure(system.archive == "zip" or os.access(folder / system.program, os.X_OK), "the command is not executable")
    ensure(system.note in (folder / "README.md").read_text(), f"the README lacks the note for {system.name}")
    ensure(version in (folder / "man/man1/tenure.1").read_text(), "the manual page is of another version")
    texts = (folder / "THIRD-PARTY-LICENSES").read_text()
    for package in ("serde ", "jiff ", "clap "):
        ensure(package in texts, f"THIRD-PARTY-LICENSES does not name {package}")


def check_binary(path, system, static):
    """Checks that a binary is of its system, needs only what it may, names no path of the builder, and lists its packages."""
    content = path.read_bytes()
    ensure(binaries.kind(content) == (system.family, system.machine), f"{path.name} is of {binaries.kind(content)}, not {system.name}")
    check_paths(path)
    if system.family == "macos":
        check_mach_o(path.name, content)
    if system.family == "windows":
        strange = {name.removesuffix(".dll") for name in binaries.windows_libraries(path)} - WINDOWS_LIBRARIES
        ensure(not strange, f"{path.name} needs {', '.join(sorted(strange))}, which Windows does not have")
    if system.family == "freebsd":
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", common.output(need("readelf", "binutils"), "--wide", "--dynamic", path))
        strange = [name for name in needed if not FREEBSD_LIBRARIES.fullmatch(name)]
        ensure(needed and not strange, f"{path.name} needs {', '.join(strange) or 'no library'}")
    if not static:
        return
    if system.family == "linux":
        header = common.output(need("readelf", "binutils"), "--wide", "--program-headers", "--dynamic", path)
        ensure("INTERP" not in header and "(NEEDED)" not in header, f"{path.name} is not static")
    recorded = binaries.auditable(content)
    ensure(recorded, f"{path.name} has no section of cargo-auditable")
    names = {package["name"] for package in recorded["packages"]}
    ensure({"tenure", "tenure-cli", "rustls"} <= names, f"the audit section of {path.name} lists {len(names)} packages")


def check_mach_o(name, content):
    """Checks that a binary for macOS starts on the oldest supported one: its libraries, its version, and its signature."""
    strange = [library for library in binaries.macos_libraries(content) if not MACOS_LIBRARIES.fullmatch(library)]
    ensure(not strange, f"{name} needs {', '.join(strange)}, which macOS does not have")
    oldest = binaries.macos_version(content)
    ensure(oldest and oldest <= MACOS, f"{name} starts on macOS {oldest} only")
    right = binaries.signature_is_right(content)
    ensure(right or (right is None and binaries.kind(content)[1] == "x86_64"), f"{name} has no signature, or one with wrong sums")


def check_paths(path):
    """Checks that a file names no folder of the machine that built it."""
    content = path.read_bytes()
    for folder in {str(common.ROOT), str(pathlib.Path.home() / ".cargo"), str(common.target_folder())}:
        ensure(folder.encode() not in content, f"{path.name} has the path {folder} of the machine that built it")


def use_in_empty_place(system, binary, version, root):
    """Runs the command in a folder that has nothing else: no C library, no /proc, no shell. An emulator has no such chroot, so
    there the program runs beside the machine's own files."""
    (root / "data").mkdir(parents=True)
    shutil.copy(binary, root / system.program)
    (root / system.program).chmod(0o755)
    if command.is_native(system):
        ensure(os.geteuid() == 0, "chroot needs root")
        use([need("chroot", "coreutils"), root], [], f"/{system.program}", "/data/target", version)
    else:
        words = emulator(system)
        use(words, words if system.family == "linux" else [], root / system.program, root / "data/target", version)


def emulator(system):
    words = command.runner(system)
    ensure(words, f"needs qemu-{system.machine}: apt-get install qemu-user")
    return words


def use(prefix, inner, tenure, target, version):
    """Uses the command as a user does: a holder is shown, excludes others, and is taken over once it was killed.

    `prefix`: the words with which a program runs. `inner`: those by which it starts another program."""
    env = {}  # The emulators need none either.

    def words(*arguments):
        return [str(word) for word in [*prefix, tenure, *arguments]]

    def ran(*arguments):
        return subprocess.run(words(*arguments), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def printed(*arguments):
        result = ran(*arguments)
        ensure(result.returncode == 0, f"{' '.join(words(*arguments))}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout

    another = [*inner, tenure]
    said = printed("--version")
    ensure(said.startswith(f"tenure {version} ("), f"--version: {said}")
    ensure(said.rstrip().endswith("+etcd +postgres"), f"--version has no servers: {said}")
    state = json.loads(printed("run", target, "--", *another, "status", "--json", target))["state"]
    ensure(state == "held", f"status while it is held: {state}")
    # A command's own exit code comes through.
    code = ran("run", target, "--", *another, "no-such-command").returncode
    ensure(code == 64, f"exit code {code} of a command that ends with 64")

    with subprocess.Popen(words("hold", target), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            pid = json.loads(holder.stdout.readline())["pid"]
            ensure(json.loads(printed("status", "--json", target))["state"] == "held", "a holder is not shown")
            code = ran("run", "--no-wait", target, "--", *another, "--version").returncode
            ensure(code == 75, f"exit code {code} where another process holds the lock")
        finally:
            holder.kill()
    crashed = ran("run", "--timeout", "30s", target, "--", *another, "--version")
    ensure(crashed.returncode == 0, f"after a kill: exit code {crashed.returncode}: {crashed.stderr}")
    ensure(str(pid) in crashed.stderr, f"the next holder gets no report of the killed {pid}: {crashed.stderr}")
    state = json.loads(printed("status", "--json", target))["state"]
    ensure(state == "free", f"status of a free lock: {state}")


def lint(deb):
    ensure(deb.exists(), f"{deb.name} is not there")
    need("lintian", "lintian")
    result = subprocess.run(["lintian", "--fail-on", "error", "--info", deb], capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        if re.match(r"^[EWIP]:", line):
            say(f"lintian: {line}")
    ensure(result.returncode == 0, f"lintian: exit code {result.returncode}: {result.stdout}{result.stderr}")


def install_deb(deb, system, version, root):
    """Installs a package into an empty root by dpkg, uses it from there, and removes it."""
    admin = root / "var/lib/dpkg"
    admin.mkdir(parents=True)
    (root / "data").mkdir()
    for name in ("status", "available"):
        (admin / name).touch()
    (admin / "info").mkdir()
    (admin / "updates").mkdir()
    dpkg = [need("dpkg", "dpkg"), f"--root={root}", "--log=/dev/null", "--force-not-root", "--force-bad-path"]
    if system.deb != common.output("dpkg", "--print-architecture").strip():
        common.run(*dpkg, "--add-architecture", system.deb, quiet=True)
    common.run(*dpkg, "--install", deb, quiet=True)
    for path in ["usr/bin/tenure", "usr/share/man/man1/tenure.1.gz", "usr/share/man/man1/tenure-run.1.gz", "usr/share/doc/tenure/copyright",
                 "usr/share/doc/tenure/changelog.gz", *command.DEBIAN_COMPLETIONS.values()]:
        ensure((root / path).is_file(), f"it does not install /{path}")
    if command.is_native(system):
        use([need("chroot", "coreutils"), root], [], "/usr/bin/tenure", "/data/target", version)
    else:
        words = emulator(system)
        use(words, words, root / "usr/bin/tenure", root / "data/target", version)
    common.run(*dpkg, "--purge", "tenure", quiet=True)
    left = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] == "usr"]
    ensure(not left, f"after its removal it leaves {left}")
