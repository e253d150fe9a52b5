// Loads the package by `require`, which shares its code with `import`.
import { strict as assert } from "node:assert";

import tenure = require("tenure");
import fileLock = require("tenure/file-lock");
import lockfile = require("tenure/proper-lockfile");
import session = require("tenure/session-write-lock");
import later = require("tenure/session-write-lock/2026.6");

const [path = ""] = process.argv.slice(2);

async function main(): Promise<void> {
  const held: tenure.Guard = await tenure.lock(path, { reentrant: true } satisfies tenure.LockOptions);
  const { lock } = await import("tenure");
  assert.equal(lock, tenure.lock);
  const again = await tenure.lock(path, { reentrant: true, timeout: 0 });
  assert.equal(again.fence, held.fence);
  await again.release();
  held.check();
  await held.release();
  assert.equal(session.resolveSessionLockMaxHoldFromTimeout({ timeoutMs: Infinity }), 2_147_000_000);
  assert.equal(later.isPidDefinitelyDead(process.pid), false);
  const options: lockfile.LockOptions = { realpath: false };
  lockfile.lockSync(path, options)();
  const handle: fileLock.FileLockHandle = await fileLock.acquireFileLock(path, {});
  await handle.release();
}

void main();
