// Checked by `tsc --strict` against the installed package, and run.
import { strict as assert } from "node:assert";

import { type Guard, type Holder, Lock, lock, type LockOptions, type LeaseLeft, type Overrun, type Status, breakLock, list, slots, status, statusSync, task, TenureError, withLock } from "tenure";
import { acquireFileLock, type FileLockError, withFileLock } from "tenure/file-lock";
import { withFileLock as withOwnedLock } from "tenure/file-lock/2026.8";
import lockfile, { check, type LockOptions as ProperOptions, unlock } from "tenure/proper-lockfile";
import { acquireSessionWriteLock, cleanStaleLockFiles, isPidAlive } from "tenure/session-write-lock";

import {
  acquireSessionWriteLock as acquireLater,
  resolveSessionWriteLockOptions,
  type SessionWriteLock,
  SessionWriteLockTimeoutError,
} from "tenure/session-write-lock/2026.6";

const [path = ""] = process.argv.slice(2);

const options: LockOptions = { label: "typed", maxHold: 60_000, style: "lock-file", stealAfter: 3_600_000 };
const held: Guard = await lock(path, { ...options, timeout: 1000, signal: AbortSignal.timeout(5000) });
held.on("lost", (error) => console.error(error.hint satisfies string | undefined));
held.on("overrun", ({ heldFor }: Overrun) => console.error(heldFor.toFixed()));
assert.equal(held.lease satisfies LeaseLeft | null, null);
assert.equal((await status(path)).server satisfies "etcd" | "postgres" | undefined, undefined);
const fence: number | null = held.fence;
assert(fence !== null);
const before: Holder | undefined = held.previous.holder;
assert.equal(before, undefined);
held.check();
const lost: Promise<TenureError> = held.lost;
void lost;
await held.release();

const locks: Status[] = await list(path, { recursive: true });
const inSlots: Status[] = await slots(path);
const broken: boolean = await breakLock(path, { force: false });
assert.deepEqual([locks, inSlots, broken], [[], [], false]);

const opened = new Lock(new URL(`file://${path}`));
{
  const again = opened.acquireSync();
  assert(again.fence !== null && again.fence > fence);
  const found: Status = opened.statusSync();
  assert.equal(found.holder?.commandPid satisfies number | undefined, undefined);
  assert.equal(statusSync(path).state, "held");
  again.releaseSync();
}

const inTask: number = await task(async () => withLock(path, { deadlockCheck: true }, async (one) => one.path.length), { name: "typed" });
assert.equal(inTask, path.length);
const answer: number = await withLock(path, async () => 42);
assert.equal(answer, 42);
const length: number = await withLock(path, { timeout: 0 }, (one) => one.path.length);
assert.equal(length, path.length);

try {
  await withLock(path, async () => lock(path, { timeout: 0 }));
  assert.fail("it is held");
} catch (error) {
  if (!(error instanceof TenureError)) throw error;
  assert.equal(error.code, "TENURE_BUSY");
  assert.equal(error.circle?.[0]?.taskName satisfies string | undefined, undefined);
  const pid: number | undefined = error.holder?.pid;
  assert.equal(pid, process.pid);
}

const session = await acquireSessionWriteLock({ sessionFile: path, timeoutMs: 1000 });
assert(isPidAlive(process.pid));
await session.release();
const { cleaned } = await cleanStaleLockFiles({ sessionsDir: new URL(".", `file://${path}`).pathname });
assert.deepEqual(cleaned, []);

const file = await acquireFileLock(path, { retries: { retries: 3, factor: 2, minTimeout: 10 }, stale: 1000 });
await acquireFileLock(path, { timeoutMs: 0 }).catch((error: FileLockError) => {
  assert.equal(error.code, "file_lock_timeout");
});
await file.release();
assert.equal(await withFileLock(path, {}, async () => "done"), "done");

await opened.acquire().then((one) => one.release());
const proper: ProperOptions = { realpath: false, retries: { retries: 2, minTimeout: 10 } };
const release: () => Promise<void> = await lockfile.lock(path, proper);
assert.equal(await check(path, { realpath: false }), true);
await release();
await lockfile(path, proper);
await unlock(path, { realpath: false });

const { timeoutMs }: { timeoutMs: number } = resolveSessionWriteLockOptions({ session: { writeLock: {} } }, { env: {} });
assert.equal(timeoutMs, 60_000);
const later: SessionWriteLock = await acquireLater({ sessionFile: path });
await acquireLater({ sessionFile: path, timeoutMs: 10 }).catch((error: unknown) => {
  assert(error instanceof SessionWriteLockTimeoutError);
  const owner: string = error.owner;
  assert.match(owner, /^pid=/);
});
await later.release();
assert.equal(await withOwnedLock(path, { reentrantOwner: "typed" }, async () => 1), 1);
