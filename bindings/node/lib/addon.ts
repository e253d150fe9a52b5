// The Rust half, loaded by the first call that needs it: a program for several systems may import the package on each.
import { readdirSync } from "node:fs";
import { join } from "node:path";

import { TenureError } from "./errors.js";
import type * as Native from "./native.js";

let loaded: typeof Native | undefined;

/** @internal */
export function native(): typeof Native {
  return (loaded ??= load());
}

function load(): typeof Native {
  const folder = typeof __dirname === "string" ? __dirname : "";
  const there = binaries(folder);
  const system = `${process.platform}-${process.arch}`;
  const failures: string[] = [];
  for (const name of there.filter((name) => name.startsWith(`tenure.${system}`))) {
    try {
      return require(join(folder, name));
    } catch (error) {
      failures.push(`${name} cannot be loaded: ${error instanceof Error ? error.message : error}`);
    }
  }
  const [message, hint] = why(system, there, failures);
  throw new TenureError({ code: "TENURE_UNSUPPORTED", message: `${message}; ${hint}`, path: folder, hint });
}

function binaries(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.startsWith("tenure.") && name.endsWith(".node"));
  } catch {
    return [];
  }
}

function why(system: string, there: string[], failures: string[]): [message: string, hint: string] {
  if (failures.length > 0) {
    const hint = "a binary is for one kind of system and one C library (gnu is glibc, musl is Alpine's): build it there";
    return [`tenure: ${failures.join("; ")}`, hint];
  }
  if (there.length === 0) {
    const hint = "where the program was bundled, keep tenure external: see Bundlers in its README";
    return [`tenure: its binary is not beside its code, which ran without it on ${system}`, hint];
  }
  const names = there.map((name) => name.slice("tenure.".length, -".node".length)).join(", ");
  return [`tenure: this package has no binary for ${system}, only for ${names}`, "build it there, or do not lock there"];
}
