"""Node's packages, installed from a registry of this machine by each client."""

import json
import os
import re
import shutil
import subprocess
import tarfile

from .. import command, common, node, registry
from . import emulated
from .commands import check_binary
from .wheels import check_shared
from .report import ensure

# A user's program, which prints "held free".
EXAMPLE = common.ROOT / "bindings/node/tests/example.mjs"
NODE_FOR_WINDOWS = "20.20.2"
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
                family, cpu, *libc = name.split("-")
                said = [about.get(key) for key in ("name", "version", "os", "cpu", "libc")]
                libc = [{"gnu": "glibc"}.get(word, word) for word in libc] if family == "linux" else None
                wanted = [f"{node.PACKAGE}-{name}", version, [family], [cpu], libc]
                ensure(said == wanted, f"{packed.name} is for {said}")
                ensure(system.note in (folder / "README.md").read_text(), f"{packed.name} lacks the note for {system.name}")
                if system.family == "linux":
                    check_shared(folder / about["main"], system, name.endswith("musl"))
                else:
                    check_binary(folder / about["main"], system, static=False)
            if name.endswith("musl") or not (command.is_native(system) or emulated.can_run(system) or runs_in_wine(system)):
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
    if has_addon(report, command.native()):
        for client, words in INSTALL.items():
            with report.check(f"node: installed by {client} from a registry, bundled by esbuild, and used"):
                with registry.serving(archives) as address:
                    use_node(client, words, address, tools, place / f"app-{client}")
    for system in common.built_systems():
        if emulated.can_run(system) and has_addon(report, system):
            with report.check(f"node: installed by npm for {system.name}, and used by Debian's Node under qemu"):
                with registry.serving(archives) as address:
                    use_emulated(emulated.languages(system), system, address, tools, place / f"app-{system.name}")
        if runs_in_wine(system) and system.addons and has_addon(report, system):
            with report.check(f"node: installed by npm for {system.name}, and used by Node for Windows under wine"):
                with registry.serving(archives) as address:
                    use_in_wine(system, address, tools, place / f"app-{system.name}")
    with report.check("node: without its binary's package, the error names it"):
        with registry.serving([out / f"tenure-{version}.tgz"]) as address:
            app = place / "app-without"
            install_node("npm", INSTALL["npm"], address, tools, app)
            said = common.output("node", "-e", 'require("tenure").lock("t").catch((error) => console.log(error.code, error.message))', cwd=app)
            ensure(re.match(rf"TENURE_UNSUPPORTED .* is not installed: {node.PACKAGE}-linux-", said), f"it says: {said}")


def has_addon(report, system):
    """Returns whether the checked packages have a system's addon. Without it, the package is not used there, and the report says so."""
    if any(report.wants(f"node-{name}") for name in system.addons if not name.endswith("musl")):
        return True
    report.cannot(f"node: used on {system.name}", "--only leaves out its addon")
    return False


def runs_in_wine(system):
    return system.family == "windows" and command.runner(system) is not None


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


def use_emulated(root, system, address, tools, app):
    """Installs the package as npm does on another processor, and uses it under qemu."""
    cpu = next(iter(system.addons)).split("-")[1]
    env = install_node("npm", [*INSTALL["npm"], "--os=linux", f"--cpu={cpu}", "--libc=glibc"], address, tools, app)
    shutil.copy(EXAMPLE, app / "program.mjs")
    said = common.output(*root.program("node"), "program.mjs", app / "target", cwd=app, env=env).strip()
    ensure(said == "held free", f"it says: {said}")


def use_in_wine(system, address, tools, app):
    """Installs the package as npm does on Windows, and uses it under wine."""
    env = install_node("npm", [*INSTALL["npm"], "--os=win32", "--cpu=x64"], address, tools, app)
    shutil.copy(EXAMPLE, app / "program.mjs")
    node_exe = common.output(common.ROOT / "scripts/node-for-windows", "--node", NODE_FOR_WINDOWS).strip()
    # Under wine, Node can neither read nor write a pipe of Linux.
    with (app / "said").open("wb") as said:
        subprocess.run([*command.runner(system), node_exe, "program.mjs", "target"], cwd=app, env=env, stdin=subprocess.DEVNULL,
                       stdout=said, stderr=subprocess.STDOUT, check=False)
    text = (app / "said").read_text().strip()
    ensure(text == "held free", f"it says: {text}")


def use_node(client, words, address, tools, app):
    env = install_node(client, words, address, tools, app)
    shutil.copy(EXAMPLE, app / "program.mjs")
    for name in (["program.mjs"], ["bundle.cjs", "--format=cjs"], ["bundle.mjs", "--format=esm"]):
        if len(name) == 2:
            common.run(tools / "esbuild", "program.mjs", "--bundle", "--platform=node", "--external:tenure", name[1], f"--outfile={name[0]}",
                       "--log-level=error", cwd=app, env=env, quiet=True)
        said = common.output("node", name[0], app / "target", cwd=app, env=env).strip()
        ensure(said == "held free", f"{client}, {name[0]}: {said}")
