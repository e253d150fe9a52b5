"""The shared parts of a release: messages, programs, the plan, and archives with the same bytes in every run."""

import dataclasses
import gzip
import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LICENCES = ["LICENSE-APACHE", "LICENSE-MIT"]
NAME = "scripts/release"
# The domain of an address that is not chosen yet.
PLACEHOLDER = "tenure.invalid"


# Variables by which a user changes what cargo and a C compiler make.
CHANGES_A_BUILD = re.compile(r"(CARGO_(BUILD|ENCODED|PROFILE|TARGET)_|RUST(C|FLAGS|_LOG)|(TARGET_|HOST_)?(CC|CXX|AR|C(XX|PP)?FLAGS|LDFLAGS)(_|$))")


class Failure(Exception):
    """An error whose text is all that a user needs."""


def say(*words):
    print(f"{NAME}:", *words, flush=True)


def run(*command, cwd=None, env=None, quiet=False):
    """Runs a program. Its output is shown, unless `quiet`: then only if it fails."""
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if quiet else {}
    result = subprocess.run([str(word) for word in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL, check=False, **kwargs)
    if result.returncode != 0:
        if quiet:
            sys.stderr.write(result.stdout)
        raise Failure(f"{' '.join(str(word) for word in command)}: exit code {result.returncode}")


def output(*command, cwd=None, env=None):
    """Returns what a program prints."""
    result = subprocess.run([str(word) for word in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL, check=False,
                            capture_output=True, text=True)
    if result.returncode != 0:
        raise Failure(f"{' '.join(str(word) for word in command)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def target_folder():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()


def tools(name):
    """Returns the folder with the programs of a list in packaging/requirements."""
    return pathlib.Path(output(ROOT / "scripts/tools", name).strip())


@dataclasses.dataclass
class System:
    """A row of packaging/targets.toml."""

    name: str
    machine: str
    command: str
    archive: str = "tar.gz"
    off: str = ""
    note: str = ""
    without: str = ""
    deb: str = ""
    wheels: dict = dataclasses.field(default_factory=dict)
    addons: dict = dataclasses.field(default_factory=dict)

    @property
    def family(self):
        """Returns the name without the machine: `linux`, `windows`, `macos`, `freebsd`."""
        return self.name.split("-")[0]

    @property
    def program(self):
        """Returns the name of the command's file."""
        return "tenure.exe" if self.family == "windows" else "tenure"

    def archive_name(self, version):
        return f"{self.folder_name(version)}.{self.archive}"

    def folder_name(self, version):
        """Returns the name of the folder in the archive."""
        return f"tenure-{version}-{self.name}"


def settings():
    return tomllib.loads((ROOT / "packaging/targets.toml").read_text())


def rust_targets(target):
    """Returns the targets of Rust that a target of maturin's stands for."""
    return ["x86_64-apple-darwin", "aarch64-apple-darwin"] if target == "universal2-apple-darwin" else [target]


def repository(root=ROOT):
    """Returns the repository's address, which Cargo.toml has for everything that is published."""
    return manifest(root)["repository"]


def maintainer():
    return settings()["project"]["maintainer"]


def notes():
    """Returns a line for each system whose port is less proved than Linux."""
    return [f"{system.name}: {system.note}" for system in built_systems() if system.note]


def link_flags(target, shared):
    """Returns rustc's flags for a target's programs, or for its `shared` libraries, and installs what their linker needs."""
    flags = []
    if target.endswith("-musl") and shared:
        # A module of musl's cannot be static.
        flags.append("-Ctarget-feature=-crt-static")
    elif target.endswith("-windows-gnu"):
        # As scripts/test --windows builds what it tests.
        run(ROOT / "scripts/wine", "--compiler")
        flags.append("-Clink-arg=-Wl,--no-insert-timestamp")
    elif target.endswith("-apple-darwin"):
        flags.append(f"-Clink-arg=-F{output(ROOT / 'scripts/build-elsewhere', '--frameworks').strip()}")
        # The linker makes LC_UUID from what it writes, to which debug symbols add the path of rustc's temporary folder. rustc
        # strips them later.
        flags.append("-Clink-arg=-Wl,-S")
    return flags


def refuse_placeholder():
    """Fails while the repository has no address: a registry keeps what was published with a placeholder."""
    addresses = {"`repository` of [workspace.package] in Cargo.toml": repository(), "`maintainer` in packaging/targets.toml": maintainer()}
    missing = [f"{place} ({address})" for place, address in addresses.items() if PLACEHOLDER in address]
    if missing:
        raise Failure(f"no release can be published before the repository has an address. Set {' and '.join(missing)}")


def refuse_undated(root):
    """Fails while the changelog has no day for the version."""
    heading = rf"^## \[{re.escape(version(root))}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (root / "CHANGELOG.md").read_text(), re.M):
        raise Failure(f"CHANGELOG.md has no heading of {version(root)} with a day")


def systems():
    return [System(**row) for row in settings()["system"]]


def built_systems():
    return [system for system in systems() if not system.off]


@dataclasses.dataclass
class Plan:
    """The plan of a build: its sources, its version, and where its results go."""

    source: pathlib.Path  # A clone of the commit.
    build: pathlib.Path  # cargo's target folder.
    out: pathlib.Path
    version: str
    commit: str
    epoch: int  # The commit's time, which every file gets.
    fast: bool = False  # Without optimisation.

    def environment(self, *flags):
        """Returns the variables of a build whose bytes depend on the sources and the tools alone."""
        env = {name: value for name, value in os.environ.items() if not CHANGES_A_BUILD.match(name)}
        cargo_home = pathlib.Path(env.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
        remapped = {self.source: "/tenure", self.build: "/build", cargo_home: "/cargo"}
        # The folder of a registry's sources has a hash of the registry's address, which a mirror changes.
        remapped.update({folder: "/cargo/registry" for folder in sorted(cargo_home.glob("registry/src/*"))})
        rustflags = [f"--remap-path-prefix={path}={name}" for path, name in remapped.items()]
        env["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join([*rustflags, *flags])
        env["CFLAGS"] = " ".join(f"-ffile-prefix-map={path}={name}" for path, name in remapped.items())
        env["CARGO_TARGET_DIR"] = str(self.build)
        env["CARGO_INCREMENTAL"] = "0"
        env["SOURCE_DATE_EPOCH"] = str(self.epoch)
        env["MACOSX_DEPLOYMENT_TARGET"] = "13.0"
        if self.fast:
            env.update(CARGO_PROFILE_RELEASE_OPT_LEVEL="0", CARGO_PROFILE_RELEASE_LTO="off", CARGO_PROFILE_RELEASE_CODEGEN_UNITS="16")
        env["LC_ALL"] = "C.UTF-8"
        env["TZ"] = "UTC"
        return env

    def build_environment(self, *flags):
        """Returns `environment` with the tools of a build, which are installed if they are missing."""
        env = self.environment(*flags)
        env["PATH"] = os.pathsep.join([str(tools("release")), env["PATH"]])
        return env


AUDITABLE = "0.7.7"


def cargo_auditable():
    """Installs cargo-auditable, once, and returns the folder with it."""
    folder = target_folder() / "tools" / f"cargo-auditable-{AUDITABLE}"
    if not (folder / "bin/cargo-auditable").exists():
        say(f"installing cargo-auditable {AUDITABLE}")
        run("cargo", "install", "--quiet", "--locked", "--root", folder, "--version", AUDITABLE, "cargo-auditable")
    return folder / "bin"


def manifest(root=ROOT):
    """Returns what all packages have in common."""
    return tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["package"]


def version(root=ROOT):
    return manifest(root)["version"]


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def write(path, content, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def gzipped(content):
    """Returns the bytes of a gzip file without a name and a date."""
    return gzip.compress(content, compresslevel=9, mtime=0)


def tar_gz(folder, name, epoch):
    """Returns the bytes of an archive of `folder`, which is called `name` in it: sorted, owned by root, and of one date."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in [folder, *sorted(folder.rglob("*"))]:
            inner = pathlib.PurePosixPath(name, path.relative_to(folder))
            entry = archive.gettarinfo(path, arcname=str(inner))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = epoch
            entry.mode = 0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644
            if path.is_file():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    return gzipped(buffer.getvalue())


def zipped(folder, name, epoch):
    """Returns the bytes of a zip archive as `tar_gz` makes one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(pathlib.PurePosixPath(name, path.relative_to(folder))), time.gmtime(epoch)[:6])
            entry.create_system = 3  # The rights are a Unix's, and other systems ignore them.
            entry.external_attr = (0o100755 if path.stat().st_mode & 0o100 else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()
