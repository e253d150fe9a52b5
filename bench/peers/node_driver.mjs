// Drives the Node packages for the benchmark: `N` in, the nanoseconds of N pairs out.
//
// usage: node_driver.mjs PACKAGE TARGET FOLDER            FOLDER: where the packages are installed
//        node_driver.mjs PACKAGE TARGET FOLDER holder     one byte in: a acquires, r releases; eight bytes out: when
import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [name, target, folder, role = "batch"] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(folder, "package.json")));
writeFileSync(target, "");

/** Returns a function that acquires and returns the function that releases. */
async function locker() {
  switch (name) {
    case "tenure": {
      const { lock } = require("tenure");
      return async () => {
        const held = await lock(target);
        return () => held.release();
      };
    }
    case "tenure, opened once": {
      const { Lock } = require("tenure");
      const opened = new Lock(target);
      return async () => {
        const held = await opened.acquire();
        return () => held.release();
      };
    }
    case "proper-lockfile": {
      const { lock } = require("proper-lockfile");
      // By default it does not wait, and its first pause is a second; this polls as often as the other package.
      const retries = { forever: true, factor: 1, minTimeout: 50, maxTimeout: 50 };
      return () => lock(target, { retries });
    }
    case "@openclaw/fs-safe": {
      const { acquireFileLock } = await import(pathToFileURL(require.resolve("@openclaw/fs-safe/file-lock")));
      const payload = () => ({ pid: process.pid, createdAt: new Date().toISOString() });
      return async () => {
        const held = await acquireFileLock(target, { staleMs: 1_800_000, payload });
        return () => held.release();
      };
    }
  }
  throw new Error(`no such package: ${name}`);
}

const acquire = await locker();
if (role === "batch") {
  for await (const line of createInterface({ input: process.stdin })) {
    const times = [];
    for (let left = Number(line); left > 0; left--) {
      const start = process.hrtime.bigint();
      await (await acquire())();
      times.push(process.hrtime.bigint() - start);
    }
    console.log(times.join(" "));
  }
} else {
  let release;
  for await (const words of process.stdin) {
    for (const word of words.toString("latin1")) {
      let at;
      if (word === "a") {
        release = await acquire();
        at = process.hrtime.bigint();
      } else {
        at = process.hrtime.bigint();
        await release();
      }
      const time = Buffer.alloc(8);
      time.writeBigUInt64LE(at);
      process.stdout.write(time);
    }
  }
}
