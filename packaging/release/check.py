"""Installs each artifact in an empty place and uses it."""

import contextlib
import fnmatch
import json
import os
import pathlib
import platform
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib

from . import build, command, common, crates, inventory, node, registry, templates
from .common import Failure, say

# The stable ABI's first version and the newest that is released.
PYTHONS = [f"3.{minor}" for minor in range(9, 15)]
# What a glibc of 2014 has, as manylinux2014 asks.
GLIBC = (2, 17)


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
        if system.machine != platform.machine():
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
    return 0


def everything(out, patterns):
    """Checks what is in `out`. An artifact that is listed and not there is a failure, unless --only leaves it out."""
    report = Report(patterns)
    ensure(out.is_dir(), f"there is no {out}; {common.NAME} builds it")
    install_programs()
    with report.check("sums"):
        check_sums(out)
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


def check_sums(out):
    lines = [line.split("  ") for line in (out / "SHA256SUMS").read_text().splitlines()]
    for sha256, name in lines:
        ensure(common.digest(out / name) == sha256, f"{name} has another sum than SHA256SUMS says")
    there = {path.name for path in out.iterdir()} - {"SHA256SUMS"}
    ensure(there == {name for _, name in lines}, f"SHA256SUMS and the folder differ: {there ^ {name for _, name in lines}}")


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


# The command.


def check_command(report, out, version, system, place):
    archive = out / f"{command.archive_name(version, system)}.tar.gz"
    name = f"command-{system.name}"
    if report.wants(name):
        with report.check(f"{name}: what is in it"):
            folder = unpacked(archive, place / system.name)
            check_archive(folder, version)
            check_binary(folder / "tenure", system, static=True)
        with report.check(f"{name}: used in an empty chroot"):
            use_in_chroot(system, folder / "tenure", version, place / f"{system.name}-root")
    if system.deb and report.wants(f"deb-{system.deb}"):
        deb = out / command.deb_name(version, system)
        with report.check(f"deb-{system.deb}: lintian has no errors"):
            lint(deb)
        with report.check(f"deb-{system.deb}: installed, used, removed"):
            install_deb(deb, system, version, place / f"deb-{system.deb}")


def unpacked(archive, folder):
    ensure(archive.exists(), f"{archive.name} is not there")
    with tarfile.open(archive) as opened:
        for entry in opened:
            ensure(entry.uname == "root" and entry.uid == 0, f"{entry.name} is not root's")
        opened.extractall(folder, filter="data")
    [inner] = folder.iterdir()
    return inner


def check_archive(folder, version):
    """Checks that the archive is complete, and that its pages and completions are of this version."""
    wanted = ["tenure", "man/man1/tenure.1", "man/man1/tenure-run.1", "README.md", "CHANGELOG.md", "THIRD-PARTY-LICENSES", *common.LICENCES,
              *(f"completions/{name}" for name in command.COMPLETIONS.values())]
    missing = [name for name in wanted if not (folder / name).is_file() or not (folder / name).stat().st_size]
    ensure(not missing, f"{folder.name} lacks {', '.join(missing)}")
    ensure(os.access(folder / "tenure", os.X_OK), "the command is not executable")
    ensure(version in (folder / "man/man1/tenure.1").read_text(), "the manual page is of another version")
    texts = (folder / "THIRD-PARTY-LICENSES").read_text()
    for package in ("serde ", "jiff ", "clap "):
        ensure(package in texts, f"THIRD-PARTY-LICENSES does not name {package}")


MACHINES = {"x86_64": "Advanced Micro Devices X86-64", "aarch64": "AArch64"}


def check_binary(path, system, static):
    """Checks that a binary is of its machine, needs only what it may, names no path of the builder, and lists its packages."""
    readelf = need("readelf", "binutils")
    header = common.output(readelf, "--wide", "--file-header", "--program-headers", "--dynamic", path)
    ensure(MACHINES[system.machine] in header, f"{path.name} is not for {system.machine}")
    if static:
        ensure("INTERP" not in header and "(NEEDED)" not in header, f"{path.name} is not static")
    check_paths(path)
    if static:
        names = {package["name"] for package in auditable(path)["packages"]}
        ensure({"tenure", "tenure-cli", "rustls"} <= names, f"the audit section of {path.name} lists {len(names)} packages")


def check_paths(path):
    """Checks that a file names no folder of the machine that built it."""
    content = path.read_bytes()
    for folder in {str(common.ROOT), str(pathlib.Path.home() / ".cargo"), str(common.target_folder())}:
        ensure(folder.encode() not in content, f"{path.name} has the path {folder} of the machine that built it")


def auditable(path):
    """Returns what cargo-auditable recorded in a binary, of whichever machine."""
    content = path.read_bytes()
    # ELF of 64 bits, little-endian: the table of sections, its entries' size and number, and the section with the names.
    [table] = struct.unpack_from("<Q", content, 0x28)
    size, count, names = struct.unpack_from("<HHH", content, 0x3A)
    entries = [struct.unpack_from("<IIQQQQ", content, table + size * number) for number in range(count)]
    for name, _, _, _, offset, length in entries:
        start = entries[names][4] + name
        if content[start:content.index(b"\0", start)] == b".dep-v0":
            return json.loads(zlib.decompress(content[offset:offset + length]))
    raise Failure(f"{path.name} has no section of cargo-auditable")


def use_in_chroot(system, binary, version, root):
    """Runs the command in a folder that has nothing else: no C library, no /proc, no shell."""
    words = command.runner(system.machine)
    ensure(words is not None, f"needs qemu-{system.machine}: apt-get install qemu-user")
    (root / "data").mkdir(parents=True)
    shutil.copy(binary, root / "tenure")
    if words:
        # A static emulator could be in the folder; Debian's own is not, so the program runs beside it.
        prefix, tenure, target = words, root / "tenure", root / "data/target"
    else:
        prefix, tenure, target = [need("chroot", "coreutils"), root], "/tenure", "/data/target"
        ensure(os.geteuid() == 0, "chroot needs root")
    use(prefix, tenure, target, version)


def use(prefix, tenure, target, version):
    said = common.output(*prefix, tenure, "--version", env={})
    ensure(said.startswith(f"tenure {version} ("), f"--version: {said}")
    ensure(said.rstrip().endswith("+etcd +postgres"), f"--version has no servers: {said}")
    common.run(*prefix, tenure, "run", target, "--", tenure, "status", "--json", target, env={}, quiet=True)
    state = json.loads(common.output(*prefix, tenure, "run", target, "--", tenure, "status", "--json", target, env={}))
    ensure("held" in json.dumps(state), f"status while it is held: {state}")
    # A command's own exit code comes through.
    code = subprocess.run([str(word) for word in [*prefix, tenure, "run", target, "--", tenure, "no-such-command"]], env={},
                          capture_output=True, check=False).returncode
    ensure(code == 64, f"exit code {code} of a command that ends with 64")


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
    words = command.runner(system.machine)
    ensure(words is not None, f"needs qemu-{system.machine}: apt-get install qemu-user")
    if words:
        use(words, root / "usr/bin/tenure", root / "data/target", version)
    else:
        use([need("chroot", "coreutils"), root], "/usr/bin/tenure", "/data/target", version)
    common.run(*dpkg, "--purge", "tenure", quiet=True)
    left = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] == "usr"]
    ensure(not left, f"after its removal it leaves {left}")


# Python.


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
        for tag in system.wheels:
            name = f"wheel-{system.name}-{tag}"
            if not report.wants(name):
                continue
            family = re.match(r"[a-z]+", tag)[0]
            with report.check(f"{name}: what is in it"):
                [wheel] = out.glob(f"tenure-{version}-cp39-abi3-*{family}*{system.machine}.whl")
                check_wheel(wheel, system, family, place / name)
            if command.runner(system.machine) != []:
                report.cannot(f"{name}: installed", f"there is no CPython for {system.machine} here")
            elif family == "musllinux":
                report.cannot(f"{name}: installed", "there is no CPython of musl here")
            else:
                for python in PYTHONS:
                    if python not in here:
                        report.cannot(f"{name}: CPython {python}", "not on this machine")
                        continue
                    with report.check(f"{name}: CPython {python}, installed without a network and used"):
                        environment = place / f"{name}-{python}"
                        common.run(here[python], "-m", "venv", environment, quiet=True)
                        use_wheel(environment, "--no-index", wheel)
                report.cannot(f"{name}: free-threaded CPython", "the module uses the stable ABI, which it does not have yet")
    if report.wants("sdist"):
        with report.check("sdist: built with Rust and used"):
            environment = place / "sdist"
            python = here[max(here, key=lambda text: int(text.split(".")[1]))]
            common.run(python, "-m", "venv", environment, quiet=True)
            sdist = out / f"tenure-{version}.tar.gz"
            ensure(sdist.exists(), f"{sdist.name} is not there")
            use_wheel(environment, sdist)


def use_wheel(environment, *words):
    bare = {"PATH": f"{environment}/bin:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}
    for name in ("CARGO_HOME", "RUSTUP_HOME"):
        if name in os.environ:
            bare[name] = os.environ[name]
    common.run(environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *words, env=bare, quiet=True)
    common.run(environment / "bin/python", common.ROOT / "bindings/python/tests/example.py", env={"PATH": f"{environment}/bin"}, quiet=True)


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
    [module] = folder.glob("tenure/_tenure*.so")
    check_shared(module, system, family == "musllinux")


def check_shared(path, system, musl):
    """Checks that a shared library is for its machine and needs nothing newer than its tag says."""
    check_binary(path, system, static=False)
    dynamic = common.output(need("readelf", "binutils"), "--wide", "--dynamic", "--version-info", path)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    versions = {tuple(int(part) for part in found.split(".")) for found in re.findall(r"GLIBC_(\d+(?:\.\d+)+)", dynamic)}
    if musl:
        ensure(not versions and needed <= {"libc.so", "libgcc_s.so.1"}, f"{path.name} needs {needed} {versions}")
    else:
        newest = max(versions, default=(2, 0))
        ensure(newest <= GLIBC, f"{path.name} needs glibc {newest}, and {GLIBC} is the limit")
        allowed = {"libc.so.6", "libpthread.so.0", "libdl.so.2", "libm.so.6", "libgcc_s.so.1", "librt.so.1"}
        ensure(all(name in allowed or name.startswith("ld-linux") for name in needed), f"{path.name} needs {needed}")


# Node.

PROGRAM = """
import { lock, status } from "tenure";
import lockfile from "tenure/proper-lockfile";
import { writeFileSync } from "node:fs";
const path = process.argv[2];
(async () => {
  const guard = await lock(path, { timeout: 1000 });
  const held = status(path).state;
  await guard.release();
  writeFileSync(path, "");
  await (await lockfile.lock(path))();
  console.log(held, status(path).state);
})();
"""
INSTALL = {
    "npm": ["npm", "install", "--no-audit", "--no-fund", "tenure"],
    "pnpm": ["pnpm", "add", "tenure"],
    "yarn": ["yarn", "add", "--no-progress", "tenure"],
}


def check_node(report, out, version, place):
    addons = {name: system for system in common.built_systems() for name in system.addons}
    for name, system in addons.items():
        if report.wants(f"node-{name}"):
            with report.check(f"node-{name}: what is in it"):
                packed = out / f"tenure-node-{name}-{version}.tgz"
                folder = unpacked_package(packed, place / f"node-{name}")
                for wanted in ["package.json", "README.md", "THIRD-PARTY-LICENSES", *common.LICENCES]:
                    ensure((folder / wanted).is_file(), f"{packed.name} lacks {wanted}")
                about = json.loads((folder / "package.json").read_text())
                libc = [{"gnu": "glibc"}.get(name.split("-")[2], name.split("-")[2])]
                said = [about[key] for key in ("name", "version", "os", "cpu", "libc")]
                ensure(said == [f"{node.PACKAGE}-{name}", version, ["linux"], [name.split("-")[1]], libc], f"{packed.name} is for {said}")
                check_shared(folder / about["main"], system, name.endswith("musl"))
            if command.runner(system.machine) != [] or name.endswith("musl"):
                report.cannot(f"node-{name}: installed", "there is no Node for it here")
    if not report.wants("node"):
        return
    with report.check("node: what is in it"):
        folder = unpacked_package(out / f"tenure-{version}.tgz", place / "node")
        about = json.loads((folder / "package.json").read_text())
        ensure(about["optionalDependencies"] == {f"{node.PACKAGE}-{name}": version for name in addons}, "other optionalDependencies")
        ensure(not any(key in about for key in ("os", "cpu", "libc")), "the package is for one system")
        ensure(not list(folder.rglob("*.node")), "the package has a binary")
        for wanted in ["dist/index.js", "dist/index.mjs", "dist/index.d.ts", "dist/native.d.ts", "README.md", *common.LICENCES]:
            ensure((folder / wanted).is_file(), f"the package lacks {wanted}")
    tools = node_tools()
    archives = [*out.glob(f"tenure-node-*-{version}.tgz"), out / f"tenure-{version}.tgz"]
    for client, words in INSTALL.items():
        with report.check(f"node: installed by {client} from a registry, bundled by esbuild, and used"):
            with registry.serving(archives) as address:
                use_node(client, words, address, tools, place / f"app-{client}")
    with report.check("node: without its binary's package, the error names it"):
        with registry.serving([out / f"tenure-{version}.tgz"]) as address:
            app = place / "app-without"
            install_node("npm", INSTALL["npm"], address, tools, app)
            said = common.output("node", "-e", 'require("tenure").lock("t").catch((error) => console.log(error.code, error.message))', cwd=app)
            ensure(re.match(rf"TENURE_UNSUPPORTED .* is not installed: {node.PACKAGE}-linux-", said), f"it says: {said}")


def unpacked_package(packed, folder):
    ensure(packed.exists(), f"{packed.name} is not there")
    with tarfile.open(packed) as opened:
        opened.extractall(folder, filter="data")
    return folder / "package"


def node_tools():
    """Installs the other clients and a bundler, pinned, and returns the folder with their programs."""
    folder = common.target_folder() / "tools/node"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(common.ROOT / "packaging/node-tools/package.json", folder)
    common.run("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", cwd=folder, quiet=True)
    return folder / "node_modules/.bin"


def install_node(client, words, address, tools, app):
    app.mkdir()
    (app / "package.json").write_text('{ "private": true }\n')
    home = app / ".home"
    env = {
        "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(home), "XDG_CACHE_HOME": str(home), "npm_config_cache": str(home / "npm"),
        "npm_config_registry": address, "YARN_REGISTRY": address, "YARN_CACHE_FOLDER": str(home / "yarn"),
        "npm_config_store_dir": str(home / "pnpm"), "npm_config_update_notifier": "false",
    }
    common.run(*words, cwd=app, env=env, quiet=True)
    return env


def use_node(client, words, address, tools, app):
    env = install_node(client, words, address, tools, app)
    (app / "program.mjs").write_text(PROGRAM)
    for name in (["program.mjs"], ["bundle.cjs", "--format=cjs"], ["bundle.mjs", "--format=esm"]):
        if len(name) == 2:
            common.run(tools / "esbuild", "program.mjs", "--bundle", "--platform=node", "--external:tenure", name[1], f"--outfile={name[0]}",
                       "--log-level=error", cwd=app, env=env, quiet=True)
        said = common.output("node", name[0], app / "target", cwd=app, env=env).strip()
        ensure(said == "held free", f"{client}, {name[0]}: {said}")


# Crates and templates.


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
        for name in templates.TEMPLATES:
            text = (out / name).read_text()
            ensure(not templates.FIELD.search(text), f"{name} has a field that was not filled")
            for system in common.built_systems():
                archive = out / f"{command.archive_name(version, system)}.tar.gz"
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
    system = next(system for system in common.built_systems() if command.runner(system.machine) == [])
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        with tarfile.open(out / f"{command.archive_name(version, system)}.tar.gz") as opened:
            opened.extractall(place / "src", filter="data")
        script = f"set -eu; pkgdir={place}/pkg CARCH={system.machine}; . {out}/PKGBUILD; cd {place}/src; package"
        common.run("bash", "-c", script, quiet=True)
        for path in ["usr/bin/tenure", "usr/share/man/man1/tenure.1", "usr/share/licenses/tenure-bin/LICENSE-MIT"]:
            ensure((place / "pkg" / path).is_file(), f"package() does not install /{path}")


# What needs no release build.


def quick(patterns):
    """Makes each package's layout out of a debug build, twice, and checks it."""
    report = Report(patterns)
    binary = common.target_folder() / "debug/tenure"
    if not binary.exists():
        common.run("cargo", "build", "--locked", "--all-features", "--package", "tenure-cli", cwd=common.ROOT)
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        system = next(system for system in common.built_systems() if command.runner(system.machine) == [])
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
            check_sums(out)
        with report.check("SBOMs"):
            check_sboms(out)
        with report.check("the archive"):
            check_archive(unpacked(out / f"{command.archive_name(common.version(), system)}.tar.gz", place / "archive"), common.version())
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
            standin = out / f"{command.archive_name(plan.version, other)}.tar.gz"
            common.write(standin, f"in place of the archive for {other.name}")
            contents.with_sbom(standin)
    crates.make(plan)
    templates.make(plan)
    build.write_sums(out)


def check_same(one, two):
    for path in sorted(one.iterdir()):
        ensure(path.read_bytes() == (two / path.name).read_bytes(), f"{path.name} differs between two runs")
