"""The packages that name our archives with their sums: Homebrew's formula, Arch's PKGBUILD, Nix's flake."""

import base64
import re

from . import common
from .command import archive_name

TEMPLATES = ["tenure.rb", "PKGBUILD", "flake.nix"]
FIELD = re.compile(r"@([A-Z0-9_]+)@")


def make(plan):
    """Fills the templates. Every archive that they name must be there."""
    fields = values(plan)
    made = []
    for name in TEMPLATES:
        path = plan.out / name
        common.write(path, fill((common.ROOT / "packaging/templates" / name).read_text(), fields))
        made.append(path)
    return made


def values(plan):
    project = common.project()
    fields = {
        "VERSION": plan.version, "URL": project["url"], "ARCHIVES": project["archives"].format(version=plan.version),
        "MAINTAINER": project["maintainer"],
    }
    for system in common.built_systems():
        archive = plan.out / f"{archive_name(plan.version, system)}.tar.gz"
        if not archive.exists():
            raise common.Failure(f"the templates name {archive.name}, which was not built")
        key = system.name.upper().replace("-", "_")
        fields[f"ARCHIVE_{key}"] = archive.name
        fields[f"SHA256_{key}"] = common.digest(archive)
        fields[f"SRI_{key}"] = sri(fields[f"SHA256_{key}"])
    return fields


def sri(sha256):
    """Returns a sum as Nix writes it."""
    return "sha256-" + base64.b64encode(bytes.fromhex(sha256)).decode()


def fill(template, fields):
    def value(found):
        if found[1] not in fields:
            raise common.Failure(f"a template has @{found[1]}@, which is not known")
        return fields[found[1]]

    return FIELD.sub(value, template)
