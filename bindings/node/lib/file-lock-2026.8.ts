/**
 * The file lock of OpenClaw's plugin SDK since 2026.8, under its own names: who asks with the same `reentrantOwner` enters
 * again what its thread holds, and nobody else. What differs is listed in docs/from-openclaw.md of the project.
 */
import { acquire, type FileLockHandle, type FileLockOptions, within } from "./file-locks.js";

export {
  FILE_LOCK_STALE_ERROR_CODE,
  FILE_LOCK_TIMEOUT_ERROR_CODE,
  type FileLockError,
  type FileLockHandle,
  type FileLockOptions,
} from "./file-locks.js";

/** Acquires the lock of a file. */
export async function acquireFileLock(path: string, options: FileLockOptions = {}): Promise<FileLockHandle> {
  return acquire(path, options, false);
}

/** Acquires, calls `fn`, and releases, whatever comes of it. */
export async function withFileLock<T>(path: string, options: FileLockOptions, fn: () => Promise<T>): Promise<T> {
  return within(await acquireFileLock(path, options), fn);
}
