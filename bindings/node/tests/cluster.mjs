// The primary and three workers increment a counter in one file, and print the result.
import cluster from "node:cluster";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";

import { withLock } from "tenure";

const path = process.argv[2];

async function count() {
  for (let n = 0; n < 100; n++) {
    await withLock(path, async () => {
      const before = Number(readFileSync(path, "utf8"));
      await new Promise(setImmediate);
      writeFileSync(path, String(before + 1));
    });
  }
}

if (cluster.isPrimary) {
  writeFileSync(path, "0");
  const exits = Array.from({ length: 3 }, () => once(cluster.fork(), "exit"));
  await count();
  for (const [code] of await Promise.all(exits)) if (code !== 0) process.exit(1);
  console.log(readFileSync(path, "utf8"));
} else {
  await count();
  process.exit(0);
}
