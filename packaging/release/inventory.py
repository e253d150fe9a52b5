"""The contents of a binary: its packages, their licences' texts, and the SBOM (CycloneDX 1.6) that lists them."""

import datetime
import functools
import json
import pathlib
import re
import tomllib
import uuid

from . import common

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
TREE = re.compile(r"^(\d+)(\S+) v(\S+)")
# The end of a target, the C library that is linked into its programs, and that library's licence.
C_LIBRARIES = [("-musl", "musl", "MIT"), ("-windows-gnu", "mingw-w64", "ZPL-2.1")]
LICENCE_FILES = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


class Inventory:
    """The packages that cargo links into what it builds from one manifest, and which needs which."""

    def __init__(self, plan, manifest, package, target):
        """Reads the graph of `package` for `target`: without what only tests, build scripts and macros need."""
        self.plan = plan
        manifest = plan.source / manifest
        tree = common.output("cargo", "tree", "--locked", "--manifest-path", manifest, "--package", package, "--target", target,
                             "--edges", "normal,no-proc-macro", "--prefix", "depth", env=plan.environment())
        self.root, self.needs = read_tree(tree)
        lock = tomllib.loads((manifest.parent / "Cargo.lock").read_text())
        self.sums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}
        self.facts = facts(manifest)

    def packages(self):
        return sorted(key for key in self.needs if key != self.root)

    def licences(self, target=""):
        """Returns the text with the licences of everything that is linked in, each text once. `target`: with the C library of
        that target's programs, where they contain it."""
        texts = {}
        for key in self.packages():
            fact = self.facts[key]
            if fact["source"] is None:
                continue  # Ours, whose licences are files of their own.
            folder = pathlib.Path(fact["manifest_path"]).parent
            files = sorted(path for path in folder.iterdir() if path.is_file() and LICENCE_FILES.match(path.name))
            if not files:
                texts.setdefault(f"(The package has no file with it. Its licence: {fact['license']})", []).append(key)
            for path in files:
                texts.setdefault(path.read_text(errors="replace").strip(), []).append(key)
        parts = ["The programs and libraries that this binary contains, with their licences.\n"]
        parts += [f"{name} {version}: {self.facts[name, version]['license']}" for name, version in self.packages()
                  if self.facts[name, version]["source"]]
        parts.append("The Rust standard library: MIT OR Apache-2.0")
        for end, library, licence in C_LIBRARIES:
            if target.endswith(end):
                parts.append(f"{library}, the C library: {licence}")
                texts[(common.ROOT / f"packaging/{library}.COPYRIGHT").read_text().strip()] = [(library, "")]
        for text, keys in texts.items():
            names = ", ".join(sorted({f"{name} {version}".strip() for name, version in keys}))
            parts.append(f"\n{'=' * 100}\n{names}\n{'=' * 100}\n\n{text}")
        return "\n".join(parts) + "\n"

    def sbom(self, artifact, kind):
        """Returns the SBOM of a built file, which it names by its sum. `kind`: CycloneDX's type of the component."""
        name, version = self.root
        sha256 = common.digest(artifact)
        date = datetime.datetime.fromtimestamp(self.plan.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        main = {
            "type": kind, "bom-ref": purl(name, version), "name": name, "version": version,
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "hashes": [{"alg": "SHA-256", "content": sha256}],
            "properties": [{"name": "tenure:file", "value": artifact.name}, {"name": "tenure:commit", "value": self.plan.commit}],
        }
        bom = {
            "$schema": SCHEMA, "bomFormat": "CycloneDX", "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, artifact.name + sha256)}", "version": 1,
            "metadata": {
                "timestamp": date, "component": main,
                "tools": {"components": [
                    {"type": "application", "name": common.NAME, "version": self.plan.version},
                    {"type": "application", "name": "rustc", "version": rustc()},
                ]},
            },
            "components": [self.component(key) for key in self.packages()],
            "dependencies": [
                {"ref": purl(*key), "dependsOn": sorted(purl(*needed) for needed in needs)}
                for key, needs in sorted(self.needs.items())
            ],
        }
        return json.dumps(bom, indent=1) + "\n"

    def component(self, key):
        name, version = key
        fact = self.facts[key]
        component = {"type": "library", "bom-ref": purl(*key), "name": name, "version": version, "scope": "required"}
        if self.sums.get(key):
            component["hashes"] = [{"alg": "SHA-256", "content": self.sums[key]}]
        # Old packages separate the alternatives by a slash, which SPDX does not know.
        component["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", fact["license"])}]
        component["purl"] = purl(*key)
        if fact["repository"]:
            component["externalReferences"] = [{"type": "vcs", "url": fact["repository"]}]
        return component


@functools.cache
def facts(manifest):
    metadata = json.loads(common.output("cargo", "metadata", "--format-version", 1, "--locked", "--all-features",
                                        "--manifest-path", manifest))
    return {(p["name"], p["version"]): p for p in metadata["packages"]}


@functools.cache
def rustc():
    """Returns the compiler's version, which decides the bytes as the sources do."""
    return common.output("rustc", "--version").split()[1]


def read_tree(text):
    """Reads the lines of `cargo tree --prefix depth` into the root and a map from each package to those that it needs."""
    needs, path = {}, []
    for line in text.splitlines():
        found = TREE.match(line)
        if not found:
            continue
        key = (found[2], found[3])
        del path[int(found[1]):]
        if path:
            needs[path[-1]].add(key)
        path.append(key)
        needs.setdefault(key, set())
    return next(iter(needs)), needs


def purl(name, version):
    return f"pkg:cargo/{name}@{version}"


def sbom_path(artifact):
    return artifact.with_name(artifact.name + ".cdx.json")


def validate(paths):
    """Validates SBOMs against CycloneDX's own schema. Raises `Failure` with the first error."""
    program = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
for path in sys.argv[1:]:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(path).read())
    if error:
        sys.exit(f"{path}: {error}"[:2000])
"""
    common.run(common.tools("sbom") / "python", "-c", program, *paths, quiet=True)
