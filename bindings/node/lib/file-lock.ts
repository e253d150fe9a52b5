/**
 * The file lock of `@openclaw/fs-safe`, and of OpenClaw's plugin SDK from 2026.3 to 2026.7. With the SDK's options (`retries`,
 * `stale`) it is reentrant within a thread, so that the thread's tasks do not exclude each other. The interface of OpenClaw
 * since 2026.8 is `tenure/file-lock/2026.8`. The project's docs/from-openclaw.md lists the differences.
 */
import { acquire, type FileLockHandle, type FileLockOptions } from "./file-locks.js";
import { releaseAfter } from "./lock.js";

export {
  FILE_LOCK_STALE_ERROR_CODE,
  FILE_LOCK_TIMEOUT_ERROR_CODE,
  type FileLockError,
  type FileLockHandle,
  type FileLockOptions,
} from "./file-locks.js";

/**
 * Acquires the lock of a file.
 *
 * @example
 * await using handle = await acquireFileLock("data.json", { timeoutMs: 10_000 });
 */
export async function acquireFileLock(path: string, options: FileLockOptions = {}): Promise<FileLockHandle> {
  return acquire(path, options, true);
}

/** Acquires the lock of a file, calls `fn`, and releases the lock, also if `fn` fails. */
export async function withFileLock<T>(path: string, options: FileLockOptions, fn: () => Promise<T>): Promise<T> {
  return releaseAfter(await acquireFileLock(path, options), fn);
}
