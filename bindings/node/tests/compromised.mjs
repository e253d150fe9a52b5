// Acquires by the package that the first argument names, without a handler for a loss, and removes the lock file.
import { rmSync } from "node:fs";

import ours from "tenure/proper-lockfile";

import { peers } from "./helpers.mjs";

const [name, path] = process.argv.slice(2);
const { lock } = name.startsWith("tenure") ? ours : peers(name);
setInterval(() => {}, 1000);
await lock(path, { stale: 2000, update: 1000 });
rmSync(`${path}.lock`, { recursive: true });
