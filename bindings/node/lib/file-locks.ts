// The file lock of OpenClaw's plugin SDK and of `@openclaw/fs-safe`, in all its versions.
import { resolve } from "node:path";

import { Entries } from "./entries.js";
import { TenureError } from "./errors.js";
import { normalized } from "./normalized.js";
import { type Retries, targetOf, total } from "./retries.js";

const STALE = 30_000;

/** The codes of a lock that stays busy, as OpenClaw's plugin SDK exports them. */
export const FILE_LOCK_TIMEOUT_ERROR_CODE = "file_lock_timeout";
export const FILE_LOCK_STALE_ERROR_CODE = "file_lock_stale";

/** `retries` and `stale` are the names of OpenClaw's plugin SDK, `retry` and `staleMs` those of `@openclaw/fs-safe`. */
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
  staleRecovery?: "fail-closed" | "remove-if-unchanged" | "remove-if-definitely-stale" | undefined;
  /** Called before the acquire, after it, and before the release, which it prevents by throwing. */
  assertResourceUnborrowed?: ((targetPath: string) => void) | undefined;
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

/** @internal `plugins`: do those who ask by the plugin SDK's names enter again what this thread holds? */
export async function acquire(path: string, options: FileLockOptions, plugins: boolean): Promise<FileLockHandle> {
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
  const giveBack = () =>
    entered.release((error) => {
      if (!onCompromised) process.emitWarning(`it was lost before its release: ${error.message}`, { code: error.code });
    });
  try {
    options.assertResourceUnborrowed?.(normalizedTargetPath);
  } catch (error) {
    await giveBack();
    throw error;
  }
  const release = async () => {
    options.assertResourceUnborrowed?.(normalizedTargetPath);
    await giveBack();
  };
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

/** @internal */
export async function within<T>(held: FileLockHandle, fn: () => Promise<T>): Promise<T> {
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

function validate(options: FileLockOptions): void {
  const { retries, retry, stale, staleMs, timeoutMs, compromiseCheckIntervalMs: interval } = options;
  const { lockRoot, retainOnExit } = options as { lockRoot?: unknown; retainOnExit?: unknown };
  for (const [name, value] of Object.entries({ lockRoot, retainOnExit })) {
    // What it promises would not be kept.
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
