"""The packages that name our archives with their sums: Homebrew's formula, Arch's PKGBUILD, Nix's flake."""

import base64
import re

from . import common

# Each template, with the families of systems whose archives it names.
TEMPLATES = {"tenure.rb": ["linux", "macos"], "PKGBUILD": ["linux"], "flake.nix": ["linux", "macos"]}
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


def named_systems():
    """Returns the systems whose archives a template names."""
    families = {family for named in TEMPLATES.values() for family in named}
    return [system for system in common.built_systems() if system.family in families]


def values(plan):
    url = common.repository(plan.source)
    fields = {"VERSION": plan.version, "URL": url, "ARCHIVES": f"{url}/releases/download/v{plan.version}", "MAINTAINER": common.maintainer()}
    named = named_systems()
    for system in named:
        archive = plan.out / system.archive_name(plan.version)
        if not archive.exists():
            raise common.Failure(f"the templates name {archive.name}, which was not built")
        key = system.name.upper().replace("-", "_")
        fields[f"ARCHIVE_{key}"] = archive.name
        fields[f"SHA256_{key}"] = common.digest(archive)
    fields["BREW_SYSTEMS"] = brew_systems(named, fields)
    fields["BREW_CAVEATS"] = brew_caveats(named)
    fields["NIX_ARCHIVES"] = nix_archives(named, fields)
    return fields


def brew_systems(systems, fields):
    """Returns the part of the formula that names an archive for each system."""
    lines = []
    for family in ("macos", "linux"):
        machines = [system for system in systems if system.family == family]
        if not machines:
            reason = next(system.off for system in common.systems() if system.family == family)
            lines += [f"  # Not built for {family}: {reason}.", "  depends_on :linux", ""]
            continue
        lines.append(f"  on_{family} do")
        for system in machines:
            key = system.name.upper().replace("-", "_")
            lines += [f"    on_{'arm' if system.machine == 'aarch64' else 'intel'} do",
                      f"      url \"{fields['ARCHIVES']}/{fields[f'ARCHIVE_{key}']}\"",
                      f"      sha256 \"{fields[f'SHA256_{key}']}\"", "    end"]
        lines += ["  end", ""]
    return "\n".join(lines).rstrip()


def brew_caveats(systems):
    """Returns the formula's method that prints the note for macOS."""
    [note] = {system.note for system in systems if system.family == "macos"} or {""}
    if not note:
        return ""
    return f"""
  def caveats
    on_macos do
      "{note}"
    end
  end
"""


def nix_archives(systems, fields):
    """Returns the part of the flake that names an archive for each system."""
    lines = []
    for system in systems:
        key = system.name.upper().replace("-", "_")
        name = f"{system.machine}-{'darwin' if system.family == 'macos' else system.family}"
        lines += [f"        # {system.note}"] if system.note else []
        lines += [f"        {name} = {{", f"          url = \"{fields['ARCHIVES']}/{fields[f'ARCHIVE_{key}']}\";",
                  f"          hash = \"{sri(fields[f'SHA256_{key}'])}\";", "        };"]
    return "\n".join(lines)


def sri(sha256):
    """Returns a sum as Nix writes it."""
    return "sha256-" + base64.b64encode(bytes.fromhex(sha256)).decode()


def fill(template, fields):
    def value(found):
        if found[1] not in fields:
            raise common.Failure(f"a template has @{found[1]}@, which is not known")
        return fields[found[1]]

    return FIELD.sub(value, template)
