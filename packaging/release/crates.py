"""The crates, as crates.io gets them."""

from . import common
from .inventory import Inventory, sbom_path

PUBLISHED = ["tenure", "tenure-cli"]


def make(plan):
    """Packs the crates from the clone, or in a quick check from the work tree. `.ci/run` has built what is in them."""
    env = plan.environment()
    packages = [word for name in PUBLISHED for word in ("--package", name)]
    common.run("cargo", "package", "--quiet", "--locked", "--no-verify", "--allow-dirty", *packages, cwd=plan.source, env=env)
    made = []
    for name in PUBLISHED:
        packed = plan.build / "package" / f"{name}-{plan.version}.crate"
        crate = plan.out / packed.name
        common.write(crate, packed.read_bytes())
        bom = sbom_path(crate)
        common.write(bom, Inventory(plan, "Cargo.toml", name, "x86_64-unknown-linux-gnu").sbom(crate, "library"))
        made += [crate, bom]
    return made
