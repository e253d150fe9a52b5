// A program that is bundled into one file. The package stays external, as its binary cannot be part of that file.
import { strict as assert } from "node:assert";
import { spawnSync } from "node:child_process";
import { symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { test } from "node:test";

import { folder, peers } from "./helpers.mjs";

const esbuild = peers("esbuild");
const modules = dirname(dirname(createRequire(import.meta.url).resolve("tenure/package.json")));

const PROGRAM = `
import { lock } from "tenure";
import lockfile from "tenure/proper-lockfile";
import { acquireSessionWriteLock } from "tenure/session-write-lock/2026.6";
import { writeFileSync } from "node:fs";

const path = process.argv[2];
(async () => {
  const held = await lock(path, { timeout: 1000 });
  const error = await acquireSessionWriteLock({ sessionFile: path, timeoutMs: 10 }).catch((error) => error);
  await held.release();
  writeFileSync(path, "");
  await (await lockfile.lock(path))();
  console.log(error.code);
})().catch((error) => console.log(error.code, error.message));
`;

function bundled(t, options) {
  const dir = folder(t);
  symlinkSync(modules, `${dir}/node_modules`);
  writeFileSync(`${dir}/program.mjs`, PROGRAM);
  const outfile = `${dir}/bundle.${options.format === "esm" ? "mjs" : "cjs"}`;
  esbuild.buildSync({ entryPoints: [`${dir}/program.mjs`], bundle: true, platform: "node", outfile, logLevel: "error", ...options });
  const { stdout, stderr } = spawnSync(process.execPath, [outfile, `${dir}/t`], { encoding: "utf8" });
  return stdout + stderr;
}

for (const format of ["cjs", "esm"]) {
  test(`esbuild, ${format}, with tenure external`, (t) => {
    assert.equal(bundled(t, { format, external: ["tenure"] }), "OPENCLAW_SESSION_WRITE_LOCK_TIMEOUT\n");
  });
}

test("esbuild, with tenure inside: the error of the first lock has a remedy", (t) => {
  const said = bundled(t, { format: "cjs" });
  assert.match(said, /^TENURE_UNSUPPORTED .*if the program is bundled, keep tenure external/);
});
