// The file lock of OpenClaw's plugin SDK and of `@openclaw/fs-safe`, for all versions.
import { resolve } from "node:path";

import { Entries } from "./entries.js";
import { TenureError, warnOfLoss } from "./errors.js";
import { normalized } from "./normalized.js";
import { type Retries, targetOf, total } from "./retries.js";
import { refuseServer } from "./server.js";
import { LONGEST_TIMER } from "./timers.js";

const STALE = 30_000;

/** The codes of a `FileLockError`, as OpenClaw's plugin SDK exports them. */
export const FILE_LOCK_TIMEOUT_ERROR_CODE = "file_lock_timeout";
export const FILE_LOCK_STALE_ERROR_CODE = "file_lock_stale";

/** The options of OpenClaw's plugin SDK (`retries`, `stale`) and of `@openclaw/fs-safe` (`retry`, `staleMs`). */
export interface FileLockOptions {
  /** The retries, whose sum of pauses is the timeout. By default, the wait has no limit. */
  retries?: Retries | undefined;
  /** The name of `retries` in `@openclaw/fs-safe`. */
  retry?: Retries | undefined;
  /** The age in milliseconds at which a busy lock is reported as `file_lock_stale`. 30 s by default. */
  stale?: number | undefined;
  /** The name of `stale` in `@openclaw/fs-safe`. */
  staleMs?: number | undefined;
  /** The longest wait, in milliseconds. */
  timeoutMs?: number | undefined;
  /** The path of the lock file, which must end in `.lock`. `<path>.lock` by default. */
  lockPath?: string | undefined;
  /** Acquires of this thread with the same owner share the lock, which the last release frees. */
  reentrantOwner?: string | undefined;
  /** A function that is called once if the lock is lost. */
  onCompromised?: ((info: { lockPath: string; normalizedTargetPath: string }) => void) | undefined;
  /** Checked but not used, as a loss is always detected within about a second. */
  compromiseCheckIntervalMs?: number | undefined;
  /** Accepted but not used, as the lock file has Tenure's record. */
  payload?: (() => unknown) | undefined;
  /** Accepted but not used, as only the lock of a dead holder is removed. */
  staleRecovery?: "fail-closed" | "remove-if-unchanged" | "remove-if-definitely-stale" | undefined;
  /** A function that is called before and after the acquire and before the release, and prevents them by throwing. */
  assertResourceUnborrowed?: ((targetPath: string) => void) | undefined;
}

/** A held lock. */
export interface FileLockHandle extends AsyncDisposable {
  lockPath: string;
  normalizedTargetPath: string;
  /** The fencing token, greater than that of every earlier holder. */
  fence: number;
  verifyStillHeld: () => Promise<boolean>;
  release: () => Promise<void>;
}

/** The lock stayed held by another holder, which `cause` describes. */
export interface FileLockError extends Error {
  code: "file_lock_timeout" | "file_lock_stale";
  lockPath: string;
  normalizedTargetPath: string;
  cause: TenureError;
}

const entries = new Entries();
/** The owner of all acquires with the plugin SDK's options. */
const PLUGINS = Symbol("plugins");

/** @internal Acquires. With `plugins`, acquires with the plugin SDK's options are reentrant within a thread. */
export async function acquire(path: string, options: FileLockOptions, plugins: boolean): Promise<FileLockHandle> {
  refuseServer("tenure/file-lock", path, options.lockPath);
  validate(options);
  options.assertResourceUnborrowed?.(path);
  const stale = options.stale ?? options.staleMs ?? STALE;
  const normalizedTargetPath = await normalized(path);
  const target = options.lockPath === undefined ? normalizedTargetPath : await normalized(targetOf(resolve(options.lockPath)));
  const lockPath = `${target}.lock`;
  const isPlugin = plugins && (options.retries !== undefined || options.stale !== undefined);
  const owner = options.reentrantOwner ?? (isPlugin ? PLUGINS : undefined);
  const entered = await entries
    .enter(target, {
      owner,
      joins: owner === undefined ? undefined : (other) => other === owner,
      timeout: timeout(options),
      // Three updates within the age at which other programs consider the lock file stale.
      refreshInterval: stale > 0 && stale < Infinity ? stale / 3 : undefined,
    })
    .catch((error) => {
      const isBusy = error instanceof TenureError && error.code === "TENURE_BUSY";
      throw isBusy ? busy(error, stale, lockPath, normalizedTargetPath) : error;
    });
  const { guard } = entered;
  const { onCompromised } = options;
  if (onCompromised) guard.on("lost", () => onCompromised({ lockPath, normalizedTargetPath }));
  const releaseEntry = () =>
    entered.release((error) => {
      if (!onCompromised) warnOfLoss(error);
    });
  try {
    options.assertResourceUnborrowed?.(normalizedTargetPath);
  } catch (error) {
    await releaseEntry();
    throw error;
  }
  const release = async () => {
    options.assertResourceUnborrowed?.(normalizedTargetPath);
    await releaseEntry();
  };
  const handle = {
    lockPath,
    normalizedTargetPath,
    fence: entered.fence,
    verifyStillHeld: async () => {
      try {
        guard.check();
        return true;
      } catch {
        return false;
      }
    },
    release,
  };
  return Object.assign(handle, Symbol.asyncDispose ? { [Symbol.asyncDispose]: release } : {}) as FileLockHandle;
}

function validate(options: FileLockOptions): void {
  const { retries, retry, stale, staleMs, timeoutMs, compromiseCheckIntervalMs: interval } = options;
  const { lockRoot, retainOnExit } = options as { lockRoot?: unknown; retainOnExit?: unknown };
  for (const [name, value] of Object.entries({ lockRoot, retainOnExit })) {
    // These options promise a behaviour that this package does not have.
    if (value) throw Object.assign(new Error(`${name} is not supported by tenure/file-lock`), { code: "ENOTSUP" });
  }
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
  if (interval !== undefined && interval !== 0 && !(interval >= 1 && interval <= LONGEST_TIMER)) {
    throw new RangeError(`lock compromiseCheckIntervalMs must be 0 or a finite number between 1 and ${LONGEST_TIMER}`);
  }
}

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
