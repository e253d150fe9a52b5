/**
 * The file lock of OpenClaw and of `@openclaw/fs-safe`, under its own names. What differs is listed in
 * docs/from-openclaw.md of the project.
 */
import { resolve } from "node:path";

import { Entries } from "./entries.js";
import { TenureError } from "./errors.js";
import { normalized } from "./normalized.js";
import { type Retries, targetOf, total } from "./retries.js";

const STALE = 30_000;

/** The codes of a lock that stays busy, as OpenClaw's plugin SDK exports them. */
export const FILE_LOCK_TIMEOUT_ERROR_CODE = "file_lock_timeout";
export const FILE_LOCK_STALE_ERROR_CODE = "file_lock_stale";

/**
 * `retries` and `stale` are the names of OpenClaw's plugin SDK: with either of them this thread may enter again what it
 * holds, as there. `retry` and `staleMs` are those of `@openclaw/fs-safe`: with them it may not, but for a `reentrantOwner`.
 */
export interface FileLockOptions {
  /** How often to try again, and after which pauses: their sum is how long is waited. Without, as long as it takes. */
  retries?: Retries | undefined;
  /** The same, as `@openclaw/fs-safe` calls it. */
  retry?: Retries | undefined;
  /** From which age on, in milliseconds, a busy lock's holder is called stale (`file_lock_stale`). 30 s by default. */
  stale?: number | undefined;
  /** The same, as `@openclaw/fs-safe` calls it. */
  staleMs?: number | undefined;
  /** How long to wait at most, in milliseconds. */
  timeoutMs?: number | undefined;
  /** The lock file; its name must end in `.lock`. `<path>.lock` by default. */
  lockPath?: string | undefined;
  /** Who acquires with the same word enters again what this thread holds; the last release ends it. */
  reentrantOwner?: string | undefined;
  /** Called once if the lock is lost. */
  onCompromised?: ((info: { lockPath: string; normalizedTargetPath: string }) => void) | undefined;
  /** Checked, and not used: a loss is noticed within about a second. */
  compromiseCheckIntervalMs?: number | undefined;
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

const entries = new Entries();
/** Whose tenures all who ask by the plugin SDK's names enter. */
const PLUGINS = Symbol("plugins");

/** Acquires the lock of a file. */
export async function acquireFileLock(path: string, options: FileLockOptions = {}): Promise<FileLockHandle> {
  validate(options);
  const stale = options.stale ?? options.staleMs ?? STALE;
  const normalizedTargetPath = await normalized(path);
  const target = options.lockPath === undefined ? normalizedTargetPath : await normalized(targetOf(resolve(options.lockPath)));
  const lockPath = `${target}.lock`;
  const isPlugin = options.retries !== undefined || options.stale !== undefined;
  const owner = isPlugin ? PLUGINS : options.reentrantOwner;
  const entered = await entries
    .enter(target, {
      owner,
      joins: owner === undefined ? undefined : (other) => other === owner,
      timeout: timeout(options),
      // Those who judge by age find it young, three times within what they call old.
      refreshInterval: stale > 0 && stale < Infinity ? stale / 3 : undefined,
    })
    .catch((error) => {
      const isBusy = error instanceof TenureError && error.code === "TENURE_BUSY";
      throw isBusy ? busy(error, stale, lockPath, normalizedTargetPath) : error;
    });
  const { held } = entered;
  const { onCompromised } = options;
  if (onCompromised) held.on("lost", () => onCompromised({ lockPath, normalizedTargetPath }));
  const release = () =>
    entered.release((error) => {
      if (!onCompromised) process.emitWarning(`it was lost before its release: ${error.message}`, { code: error.code });
    });
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

function validate({ retries, retry, stale, staleMs, timeoutMs, compromiseCheckIntervalMs: interval }: FileLockOptions): void {
  const { retries: times, factor, minTimeout, maxTimeout } = retries ?? retry ?? {};
  if (times !== undefined && (!Number.isSafeInteger(times) || times < 0)) {
    throw new RangeError("lock retry.retries must be a non-negative safe integer");
  }
  finite("retry.factor", factor);
  finite("retry.minTimeout", minTimeout);
  finite("retry.maxTimeout", maxTimeout);
  if (minTimeout !== undefined && maxTimeout !== undefined && minTimeout > maxTimeout) {
    throw new RangeError("lock retry.minTimeout must not exceed retry.maxTimeout");
  }
  if (timeoutMs !== Infinity) finite("timeoutMs", timeoutMs);
  for (const age of [stale, staleMs]) if (age !== Infinity) finite("staleMs", age);
  if (interval !== undefined && interval !== 0 && !(interval >= 1 && interval <= LONGEST)) {
    throw new RangeError(`lock compromiseCheckIntervalMs must be 0 or a finite number between 1 and ${LONGEST}`);
  }
}

/** As long as a timer of Node can run. */
const LONGEST = 2 ** 31 - 1;

function finite(name: string, value: number | undefined): void {
  if (value === undefined || (Number.isFinite(value) && value >= 0)) return;
  throw new RangeError(`lock ${name} must be a finite non-negative number`);
}

function timeout({ retries, retry, timeoutMs = Infinity }: FileLockOptions): number {
  const { retries: times = Infinity, factor = 1, minTimeout = 50, maxTimeout = 1000, randomize } = retries ?? retry ?? {};
  return Math.min(timeoutMs, total({ retries: times, factor, minTimeout, maxTimeout, randomize }));
}

function busy(cause: TenureError, stale: number, lockPath: string, normalizedTargetPath: string): FileLockError {
  const { holder } = cause;
  const old = holder?.since !== undefined && Date.now() - holder.since > stale;
  const code = old ? FILE_LOCK_STALE_ERROR_CODE : FILE_LOCK_TIMEOUT_ERROR_CODE;
  const error = new Error(`file lock ${old ? "stale" : "timeout"} for ${normalizedTargetPath}`, { cause });
  return Object.assign(error, { code, lockPath, normalizedTargetPath, cause }) as FileLockError;
}
