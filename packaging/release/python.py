"""Python's wheels, one for every version since 3.9, and the source distribution."""

import pathlib
import tempfile

from . import common
from .inventory import Inventory, sbom_path

MANIFEST = "bindings/python/Cargo.toml"


def make(plan, wanted):
    """Builds the wanted wheels and the sdist, each with its SBOM."""
    made = []
    folder = plan.source / "bindings/python"
    set_repository(folder / "Cargo.toml", common.repository(plan.source))
    if wanted("sdist"):
        inventory = Inventory(plan, MANIFEST, "tenure-python", "x86_64-unknown-linux-gnu")
        made += maturin(plan, inventory, plan.build_environment(), "sdist")
    for system in common.built_systems():
        for tag, target in system.wheels.items():
            if not wanted(f"wheel-{system.name}-{tag}"):
                continue
            inventory = Inventory(plan, MANIFEST, "tenure-python", common.rust_targets(target)[-1])
            # pyproject.toml has its pattern, so that it is in the wheel.
            text = folder / "THIRD-PARTY-LICENSES"
            common.write(text, inventory.licences())
            # The stable ABI needs no interpreter.
            env = dict(plan.build_environment(*common.link_flags(target, shared=True)), PYO3_NO_PYTHON="1")
            # Only Linux has such tags, and libraries to check for.
            words = ["--compatibility", tag, "--auditwheel", "check"] if system.family == "linux" else []
            made += maturin(plan, inventory, env, "build", "--release", "--locked", "--zig", "--target", target, *words)
            text.unlink()
    return made


def set_repository(manifest, address):
    """Adds the address to a manifest outside the workspace, which cannot inherit it. maturin shows it on PyPI."""
    common.write(manifest, manifest.read_text().replace("[package]\n", f'[package]\nrepository = "{address}"\n', 1))


def maturin(plan, inventory, env, *words):
    """Runs maturin, and returns the file that it wrote, with its SBOM."""
    with tempfile.TemporaryDirectory(dir=plan.build) as folder:
        common.run("maturin", *words, "--out", folder, cwd=plan.source / "bindings/python", env=env)
        [built] = pathlib.Path(folder).iterdir()
        made = plan.out / built.name
        common.write(made, built.read_bytes())
    bom = sbom_path(made)
    common.write(bom, inventory.sbom(made, "library"))
    return [made, bom]
