// Drives the Node packages for the benchmark: `N` in, the nanoseconds of N pairs out.
//
// usage: node_driver.mjs PACKAGE TARGET FOLDER      FOLDER: where the packages are installed
import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [name, target, folder] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(folder, "package.json")));
writeFileSync(target, "");

async function pair() {
  switch (name) {
    case "proper-lockfile": {
      const { lock } = require("proper-lockfile");
      return async () => await (await lock(target))();
    }
    case "@openclaw/fs-safe": {
      const { acquireFileLock } = await import(pathToFileURL(require.resolve("@openclaw/fs-safe/file-lock")));
      const payload = () => ({ pid: process.pid, createdAt: new Date().toISOString() });
      return async () => await (await acquireFileLock(target, { staleMs: 1_800_000, payload })).release();
    }
  }
  throw new Error(`no such package: ${name}`);
}

const once = await pair();
for await (const line of createInterface({ input: process.stdin })) {
  const times = [];
  for (let left = Number(line); left > 0; left--) {
    const start = process.hrtime.bigint();
    await once();
    times.push(process.hrtime.bigint() - start);
  }
  console.log(times.join(" "));
}
