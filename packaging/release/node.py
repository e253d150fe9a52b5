"""Node's packages: `tenure` with the JavaScript half, and one with the binary for each system, as napi-rs lays them out."""

import json
import re
import shutil

from . import common
from .inventory import Inventory, sbom_path

PACKAGE = "@tenure/node"
# The oldest glibc on which the addons load, as with the wheels.
GLIBC = "2.17"


def make(plan, wanted):
    """Builds the wanted packages, each with its SBOM."""
    addons = {name: target for system in common.built_systems() for name, target in system.addons.items()}
    notes = {name: system.note for system in common.built_systems() for name in system.addons}
    chosen = {name: target for name, target in addons.items() if wanted(f"node-{name}")}
    if not chosen and not wanted("node"):
        return []
    folder = plan.source / "bindings/node"
    common.run("npm", "ci", "--silent", "--no-audit", "--no-fund", cwd=folder)
    configure(folder, addons, common.repository(plan.source))
    napi(folder, "create-npm-dirs")
    # The types come out of the first build, so the package with the JavaScript half needs one.
    for name, target in (chosen or dict([next(iter(addons.items()))])).items():
        build(plan, folder, target)
    made = []
    for name, target in chosen.items():
        inventory = Inventory(plan, "bindings/node/Cargo.toml", "tenure-node", target)
        package = folder / "npm" / name
        shutil.copy(folder / "dist" / f"tenure.{name}.node", package)
        furnish(plan, package, inventory, notes[name])
        made += pack(plan, package, inventory)
    if wanted("node"):
        make_javascript(folder)
        inventory = Inventory(plan, "bindings/node/Cargo.toml", "tenure-node", next(iter(addons.values())))
        for licence in common.LICENCES:
            shutil.copy(plan.source / licence, folder)
        made += pack(plan, folder, inventory)
    return made


def build(plan, folder, target):
    """Builds the addon for a target. zig links it, except for Windows, where mingw does so."""
    env = plan.build_environment(*common.link_flags(target, shared=True))
    words = ["--cross-compile", "--target", f"{target}.{GLIBC}" if target.endswith("-linux-gnu") else target]
    if target.endswith("-windows-gnu"):
        words = ["--target", target]
        env["LIBNODE_PATH"] = common.output(common.ROOT / "scripts/node-for-windows", "--library").strip()
    napi(folder, "build", "--release", "--platform", "--no-js", "--dts", "native.d.ts", "--output-dir", "dist", *words,
         "--target-dir", plan.build, "--", "--locked", env=env)


def configure(folder, addons, repository):
    """Lets package.json name the packages with the binaries, in place of the systems of the one beside it, and the repository."""
    path = folder / "package.json"
    about = json.loads(path.read_text())
    for key in ("os", "cpu", "libc"):
        about.pop(key, None)
    about["napi"] = {"binaryName": "tenure", "packageName": PACKAGE, "targets": list(addons.values())}
    about["optionalDependencies"] = {f"{PACKAGE}-{name}": about["version"] for name in addons}
    about["repository"] = {"type": "git", "url": repository}
    about["files"] = ["dist", "!dist/*.node", *common.LICENCES]
    path.write_text(json.dumps(about, indent=2) + "\n")


def make_javascript(folder):
    """Compiles the TypeScript half, as bindings/node/build does."""
    common.run("npx", "--no-install", "tsc", "-p", "tsconfig.json", cwd=folder)
    common.run("node", "modules.mjs", cwd=folder)


def furnish(plan, package, inventory, note):
    """Adds the licences, and a README that says what the package is for, with its system's note."""
    about = json.loads((package / "package.json").read_text())
    about["files"] += [*common.LICENCES, "THIRD-PARTY-LICENSES"]
    if about["os"] != ["linux"]:
        # napi takes the `gnu` of a target for glibc's, and npm refuses a package with a C library on every system but Linux.
        about.pop("libc", None)
    (package / "package.json").write_text(json.dumps(about, indent=2) + "\n")
    text = "The binary of the package `tenure` for one system. Install `tenure`."
    common.write(package / "README.md", f"# `{about['name']}`\n\n" + "\n\n".join(part for part in (text, note) if part) + "\n")
    for licence in common.LICENCES:
        shutil.copy(plan.source / licence, package)
    common.write(package / "THIRD-PARTY-LICENSES", inventory.licences())


def napi(folder, *words, env=None):
    common.run("npx", "--no-install", "napi", *words, cwd=folder, env=env, quiet=True)


def pack(plan, package, inventory):
    """Packs a package as npm does, which gives every file the same date, and returns it with its SBOM."""
    printed = json.loads(common.output("npm", "pack", "--json", "--pack-destination", plan.out, cwd=package))
    entry = printed[0] if isinstance(printed, list) else next(iter(printed.values()))
    made = plan.out / re.sub(r"[@/]", "-", entry["filename"]).lstrip("-")
    if not made.exists():
        (plan.out / entry["filename"]).rename(made)
    bom = sbom_path(made)
    common.write(bom, inventory.sbom(made, "library"))
    return [made, bom]
