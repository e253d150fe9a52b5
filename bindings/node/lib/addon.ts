// The native half. The first call that needs it loads it, so that the package can be imported on any system.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { TenureError } from "./errors.js";
import type * as Native from "./native.js";

/** The packages with the binaries, up to the system's name. */
const PACKAGES = "@tenure/node-";

let loaded: typeof Native | undefined;

/** @internal Returns the native half. Throws `TENURE_UNSUPPORTED` on a system without it. */
export function native(): typeof Native {
  return (loaded ??= load());
}

function load(): typeof Native {
  const folder = typeof __dirname === "string" ? __dirname : "";
  const beside = binaries(folder);
  const packages = published(folder);
  const system = `${process.platform}-${process.arch}`;
  const suits = (name: string) => name === system || name.startsWith(`${system}-`);
  const failures: string[] = [];
  // A binary beside this file was built here; an installed package has the others.
  for (const name of beside.filter(suits)) {
    try {
      return require(join(folder, `tenure.${name}.node`));
    } catch (error) {
      failures.push(`tenure.${name}.node cannot be loaded: ${text(error)}`);
    }
  }
  const missing: string[] = [];
  for (const name of packages.filter(suits)) {
    const from = PACKAGES + name;
    try {
      return require(from);
    } catch (error) {
      // Not every package for this system is installed, as each is for one C library.
      const absent = (error as { code?: unknown } | undefined)?.code === "MODULE_NOT_FOUND";
      if (absent) missing.push(from);
      else failures.push(`${from} cannot be loaded: ${text(error)}`);
    }
  }
  const [message, hint] = explain(system, [...beside, ...packages], missing, failures);
  throw new TenureError({ code: "TENURE_UNSUPPORTED", message: `${message}; ${hint}`, path: folder, hint });
}

/** Returns the systems of the binaries beside this file. */
function binaries(folder: string): string[] {
  try {
    const found = readdirSync(folder).filter((name) => name.startsWith("tenure.") && name.endsWith(".node"));
    return found.map((name) => name.slice("tenure.".length, -".node".length));
  } catch {
    return [];
  }
}

/** Returns the systems that this version has a package for. A build from the sources has none. */
function published(folder: string): string[] {
  try {
    const about = JSON.parse(readFileSync(join(folder, "..", "package.json"), "utf8"));
    if (about.name !== "tenure") return [];
    const names = Object.keys(about.optionalDependencies ?? {}).filter((name) => name.startsWith(PACKAGES));
    return names.map((name) => name.slice(PACKAGES.length));
  } catch {
    return [];
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function explain(system: string, found: string[], missing: string[], failures: string[]): [message: string, hint: string] {
  if (failures.length > 0) {
    const hint = "a binary is for one system and one C library (gnu is glibc, musl is Alpine's): build it there";
    return [`tenure: ${failures.join("; ")}`, hint];
  }
  if (missing.length > 0) {
    const hint = "install without --omit=optional and --no-optional, on this system, with a lock file that names the package";
    return [`tenure: the binary for ${system} is not installed: ${missing.join(" or ")}`, hint];
  }
  if (found.length === 0) {
    const hint = "if the program is bundled, keep tenure external: see Bundlers in its README";
    return [`tenure: the binary for ${system} is not beside the package's code`, hint];
  }
  return [`tenure: this package has no binary for ${system}, only for ${found.join(", ")}`, "build it there, or do not lock there"];
}
