/**
 * The file lock of `@openclaw/fs-safe`, and of OpenClaw's plugin SDK as it is from 2026.3 to 2026.7, under their own names. By
 * the SDK's names (`retries`, `stale`) a thread enters again what it holds, as there: its tasks do not exclude each other.
 * OpenClaw since 2026.8 has `tenure/file-lock/2026.8`. What differs is listed in docs/from-openclaw.md of the project.
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
  return acquire(path, options, true);
}

/** Acquires, calls `fn`, and releases, whatever comes of it. */
export async function withFileLock<T>(path: string, options: FileLockOptions, fn: () => Promise<T>): Promise<T> {
  return within(await acquireFileLock(path, options), fn);
}
