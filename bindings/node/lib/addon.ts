// The native half. The first call that needs it loads it, so that the package can be imported on any system.
import { readdirSync } from "node:fs";
import { join } from "node:path";

import { TenureError } from "./errors.js";
import type * as Native from "./native.js";

let loaded: typeof Native | undefined;

/** @internal Returns the native half. Throws `TENURE_UNSUPPORTED` on a system without it. */
export function native(): typeof Native {
  return (loaded ??= load());
}

function load(): typeof Native {
  const folder = typeof __dirname === "string" ? __dirname : "";
  const found = binaries(folder);
  const system = `${process.platform}-${process.arch}`;
  const failures: string[] = [];
  for (const name of found.filter((name) => name.startsWith(`tenure.${system}`))) {
    try {
      return require(join(folder, name));
    } catch (error) {
      failures.push(`${name} cannot be loaded: ${error instanceof Error ? error.message : error}`);
    }
  }
  const [message, hint] = explain(system, found, failures);
  throw new TenureError({ code: "TENURE_UNSUPPORTED", message: `${message}; ${hint}`, path: folder, hint });
}

function binaries(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.startsWith("tenure.") && name.endsWith(".node"));
  } catch {
    return [];
  }
}

function explain(system: string, found: string[], failures: string[]): [message: string, hint: string] {
  if (failures.length > 0) {
    const hint = "a binary is for one system and one C library (gnu is glibc, musl is Alpine's): build it there";
    return [`tenure: ${failures.join("; ")}`, hint];
  }
  if (found.length === 0) {
    const hint = "if the program is bundled, keep tenure external: see Bundlers in its README";
    return [`tenure: the binary for ${system} is not beside the package's code`, hint];
  }
  const names = found.map((name) => name.slice("tenure.".length, -".node".length)).join(", ");
  return [`tenure: this package has no binary for ${system}, only for ${names}`, "build it there, or do not lock there"];
}
