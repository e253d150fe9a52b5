// Checked with the module resolution of Node 10, which finds the subpaths without `exports`.
import { lock, type Guard } from "tenure";
import { acquireFileLock } from "tenure/file-lock";
import { withFileLock } from "tenure/file-lock/2026.8";
import { lock as properLock } from "tenure/proper-lockfile";
import { acquireSessionWriteLock } from "tenure/session-write-lock";
import { isPidDefinitelyDead, SessionWriteLockStaleError } from "tenure/session-write-lock/2026.6";

export const held: Promise<Guard> = lock("t", { timeout: 1 });
export const dead: boolean = isPidDefinitelyDead(1);
export const all = [acquireFileLock, withFileLock, properLock, acquireSessionWriteLock, SessionWriteLockStaleError];
