/**
 * The file lock of OpenClaw and of `@openclaw/fs-safe`, under its own names. What differs is listed in
 * docs/from-openclaw.md of the project.
 */
import { mkdir, realpath } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { TenureError } from "./errors.js";
import type { Held } from "./held.js";
import { lock } from "./lock.js";
import { type Retries, targetOf, total } from "./retries.js";

const STALE = 30_000;

export interface FileLockOptions {
  /** How often to try again, and after which pauses: their sum is how long is waited. Without, as long as it takes. */
  retries?: Retries | undefined;
  /** The same, as `@openclaw/fs-safe` calls it. */
  retry?: Retries | undefined;
  /** From which age on, in milliseconds, a holder in the way is called stale (`file_lock_stale`). 30 s by default. */
  stale?: number | undefined;
  /** The same, as `@openclaw/fs-safe` calls it. */
  staleMs?: number | undefined;
  /** How long to wait at most, in milliseconds. */
  timeoutMs?: number | undefined;
  /** The lock file; its name must end in `.lock`. `<path>.lock` by default. */
  lockPath?: string | undefined;
  /** Called once if the lock is lost. */
  onCompromised?: ((info: { lockPath: string; normalizedTargetPath: string }) => void) | undefined;
  /** Accepted, and not used: the lock file says what Tenure's always does. */
  payload?: (() => unknown) | undefined;
  /** Accepted, and not used: only what is proven dead is ever removed. */
  staleRecovery?: "fail-closed" | "remove-if-unchanged" | undefined;
}

export interface FileLockHandle extends AsyncDisposable {
  lockPath: string;
  normalizedTargetPath: string;
  /** A number that is greater than that of every holder before. */
  fence: number;
  verifyStillHeld: () => Promise<boolean>;
  release: () => Promise<void>;
}

/** The lock stayed busy. `cause` says who holds it. */
export interface FileLockError extends Error {
  code: "file_lock_timeout" | "file_lock_stale";
  lockPath: string;
  normalizedTargetPath: string;
  cause: TenureError;
}

/** Acquires the lock of a file. */
export async function acquireFileLock(path: string, options: FileLockOptions = {}): Promise<FileLockHandle> {
  const stale = options.stale ?? options.staleMs ?? STALE;
  const normalizedTargetPath = await normalized(resolve(path));
  const target = options.lockPath === undefined ? normalizedTargetPath : targetOf(resolve(options.lockPath));
  const lockPath = `${target}.lock`;
  let held: Held;
  try {
    // Those who judge by age find it young, three times within what they call old.
    held = await lock(target, { timeout: timeout(options), refreshInterval: stale > 0 ? stale / 3 : undefined });
  } catch (error) {
    if (error instanceof TenureError && error.code === "TENURE_BUSY") {
      throw busy(error, stale, lockPath, normalizedTargetPath);
    }
    throw error;
  }
  const { onCompromised } = options;
  if (onCompromised) held.on("lost", () => onCompromised({ lockPath, normalizedTargetPath }));
  const release = () => held.release();
  const handle = {
    lockPath,
    normalizedTargetPath,
    fence: held.fence,
    verifyStillHeld: async () => {
      try {
        held.check();
        return true;
      } catch {
        return false;
      }
    },
    release,
  };
  return Object.assign(handle, Symbol.asyncDispose ? { [Symbol.asyncDispose]: release } : {}) as FileLockHandle;
}

/** Acquires, calls `fn`, and releases, whatever comes of it. */
export async function withFileLock<T>(path: string, options: FileLockOptions, fn: () => Promise<T>): Promise<T> {
  const held = await acquireFileLock(path, options);
  let result: T;
  try {
    result = await fn();
  } catch (error) {
    await held.release().catch(() => {});
    throw error;
  }
  await held.release();
  return result;
}

function timeout({ retries, retry, timeoutMs = Infinity }: FileLockOptions): number {
  const { retries: times = Infinity, factor = 1, minTimeout = 50, maxTimeout = 1000, randomize } = retries ?? retry ?? {};
  return Math.min(timeoutMs, total({ retries: times, factor, minTimeout, maxTimeout, randomize }));
}

async function normalized(target: string): Promise<string> {
  await mkdir(dirname(target), { recursive: true });
  return join(await realpath(dirname(target)), basename(target));
}

function busy(cause: TenureError, stale: number, lockPath: string, normalizedTargetPath: string): FileLockError {
  const { holder } = cause;
  const old = holder?.since !== undefined && Date.now() - holder.since > stale;
  const code = old ? "file_lock_stale" : "file_lock_timeout";
  const error = new Error(`file lock ${old ? "stale" : "timeout"} for ${normalizedTargetPath}`, { cause });
  return Object.assign(error, { code, lockPath, normalizedTargetPath, cause }) as FileLockError;
}
