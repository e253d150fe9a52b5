/**
 * The interface of the package `proper-lockfile`. The project's docs/from-proper-lockfile.md lists the differences, and how
 * the two packages exclude each other.
 *
 * @example
 * import lockfile from "tenure/proper-lockfile";
 * const release = await lockfile.lock("data.json", { retries: 5 });
 * await release();
 */
import { realpathSync, statSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { native } from "./addon.js";
import { TenureError, warnOfLoss } from "./errors.js";
import type { Guard } from "./guard.js";
import { Lock } from "./lock.js";
import { pauses, type Retries, targetOf, total } from "./retries.js";
import { refuseServer } from "./server.js";
import { LONGEST_TIMER } from "./timers.js";

namespace lockfile {
  export interface RetryOptions extends Retries {
    forever?: boolean | undefined;
    maxRetryTime?: number | undefined;
  }

  export interface CheckOptions {
    /** Accepted but not used, as Tenure knows whether a holder lives. */
    stale?: number | undefined;
    /** Follows links. The file must then exist. On by default. */
    realpath?: boolean | undefined;
    /** The path of the lock file, which must end in `.lock`. */
    lockfilePath?: string | undefined;
    /** Not supported. */
    fs?: undefined;
  }

  export type UnlockOptions = Pick<CheckOptions, "realpath" | "lockfilePath" | "fs">;

  export interface LockOptions extends CheckOptions {
    /** The interval at which the lock file's date is updated, in milliseconds. Half of `stale` by default. */
    update?: number | null | undefined;
    retries?: number | RetryOptions | undefined;
    /** A function that is called with `ECOMPROMISED` if the lock is lost. By default it throws. */
    onCompromised?: ((error: Error & { code: "ECOMPROMISED" }) => void) | undefined;
  }
}

// The locks of this thread, by the canonical path of the file.
const owned = new Map<string, Guard>();
const HELD = "Lock file is already being held";

function failure(code: string, message: string, more: object = {}): Error {
  return Object.assign(new Error(message), { code, ...more });
}

function refuse(file: string, { fs, lockfilePath }: lockfile.UnlockOptions): void {
  refuseServer("tenure/proper-lockfile", file, lockfilePath);
  if (fs) throw failure("ENOTSUP", "the option fs is not supported: only the files of the kernel can be locked");
}

function retriesOf(options: lockfile.LockOptions) {
  const given = options.retries || 0;
  if (Array.isArray(given)) throw new TypeError("retries must be a number or an object, not an array");
  const retry = typeof given === "number" ? { retries: given } : given;
  const { retries = 10, factor = 2, minTimeout = 1000, maxTimeout = Infinity, forever = false } = retry;
  const { maxRetryTime = Infinity, randomize = false } = retry;
  if (minTimeout > maxTimeout) throw new Error("minTimeout is greater than maxTimeout");
  return { retries, factor, minTimeout: Math.max(minTimeout, 1), maxTimeout, randomize, forever, maxRetryTime };
}

/** Returns whether links are followed. A `realpath` of `undefined` turns that off, as in the package. */
function follows(options: lockfile.UnlockOptions): boolean {
  return Boolean({ realpath: true, ...options }.realpath);
}

/** Opens the lock of a file. */
function opened(file: string, options: lockfile.LockOptions): Lock {
  const stale = Math.max(options.stale === undefined ? 10_000 : options.stale || 0, 2000);
  const update = Math.max(Math.min(options.update == null ? stale / 2 : options.update || 0, stale / 2), 1000);
  // Any task may unlock the file.
  return new Lock(targetFor(file, options), { refreshInterval: update, createParents: false, deadlockCheck: false });
}

function targetFor(file: string, options: lockfile.UnlockOptions): string {
  return options.lockfilePath ? targetOf(resolve(options.lockfilePath)) : file;
}

/** Returns the package's error for a busy lock: one with a lock file, or with the directory that the package makes. */
function lockedError(error: unknown, file: string, target: string): Error | undefined {
  if (!(error instanceof TenureError)) return undefined;
  const busy = error.code === "TENURE_BUSY" || (error.code === "TENURE_OBSTRUCTED" && isDirectory(`${target}.lock`));
  return busy ? failure("ELOCKED", HELD, { file, holder: error.holder, cause: error }) : undefined;
}

function isDirectory(path: string): boolean {
  // A directory that was removed meanwhile counts, as it was there.
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? true;
}

/** Registers a held lock, and returns its release. */
function own(file: string, guard: Guard, options: lockfile.LockOptions) {
  owned.set(file, guard);
  const { onCompromised = (error: Error) => { throw error; } } = options;
  guard.on("lost", (error: TenureError) => {
    if (owned.get(file) !== guard) return;
    owned.delete(file);
    // The release removes what is left of the lock, so that it can be acquired again.
    void guard.release().catch(() => {});
    // An error that the function throws becomes an uncaught exception.
    queueMicrotask(() => onCompromised(failure("ECOMPROMISED", error.message, { cause: error }) as never));
  });
  return () => {
    if (owned.get(file) !== guard) throw failure("ERELEASED", "Lock is already released");
    releaseOwned(file, guard);
  };
}

/** Releases a lock. Emits a warning if it had been lost, as there is nothing left to release. */
function releaseOwned(file: string, guard: Guard): void {
  owned.delete(file);
  try {
    guard.releaseSync();
  } catch (error) {
    if (!(error instanceof TenureError) || error.code !== "TENURE_LOST") throw error;
    warnOfLoss(error);
  }
}

async function lockfile(file: string, options: lockfile.LockOptions = {}): Promise<() => Promise<void>> {
  refuse(file, options);
  const canonical = follows(options) ? await realpath(file) : resolve(file);
  const retries = retriesOf(options);
  const end = performance.now() + Math.min(total(retries), retries.maxRetryTime);
  const lock = opened(canonical, options);
  const remaining = pauses(retries);
  for (;;) {
    try {
      const guard = await lock.acquire({ timeout: Math.max(0, end - performance.now()) });
      const release = own(canonical, guard, options);
      return async () => release();
    } catch (error) {
      const locked = lockedError(error, canonical, targetFor(canonical, options));
      if (!locked) throw error;
      // The removal of a directory wakes no waiter, so it is polled.
      const pause = remaining.next();
      const left = end - performance.now();
      if (pause.done || left <= 0) throw locked;
      await sleep(Math.min(pause.value, left, LONGEST_TIMER));
    }
  }
}

function lockSync(file: string, options: lockfile.LockOptions = {}): () => void {
  refuse(file, options);
  if (retriesOf(options).retries > 0) throw failure("ESYNC", "Cannot use retries with the sync api");
  const canonical = follows(options) ? realpathSync(file) : resolve(file);
  try {
    return own(canonical, opened(canonical, options).acquireSync(), options);
  } catch (error) {
    throw lockedError(error, canonical, targetFor(canonical, options)) ?? error;
  }
}

async function unlock(file: string, options: lockfile.UnlockOptions = {}): Promise<void> {
  refuse(file, options);
  releaseFile(follows(options) ? await realpath(file) : resolve(file));
}

function unlockSync(file: string, options: lockfile.UnlockOptions = {}): void {
  refuse(file, options);
  releaseFile(follows(options) ? realpathSync(file) : resolve(file));
}

function releaseFile(file: string): void {
  const guard = owned.get(file);
  if (!guard) throw failure("ENOTACQUIRED", "Lock is not acquired/owned by you");
  releaseOwned(file, guard);
}

async function check(file: string, options: lockfile.CheckOptions = {}): Promise<boolean> {
  refuse(file, options);
  return isHeld(targetFor(follows(options) ? await realpath(file) : resolve(file), options));
}

function checkSync(file: string, options: lockfile.CheckOptions = {}): boolean {
  refuse(file, options);
  return isHeld(targetFor(follows(options) ? realpathSync(file) : resolve(file), options));
}

function isHeld(target: string): boolean {
  const found = native().statusSync(target);
  if ("state" in found) return found.state === "held" || found.state === "unknown";
  if (found.code === "TENURE_OBSTRUCTED" && isDirectory(`${target}.lock`)) return true;
  throw new TenureError(found);
}

const all = Object.assign(lockfile, { lock: lockfile, lockSync, unlock, unlockSync, check, checkSync });
namespace all {
  export type RetryOptions = lockfile.RetryOptions;
  export type CheckOptions = lockfile.CheckOptions;
  export type UnlockOptions = lockfile.UnlockOptions;
  export type LockOptions = lockfile.LockOptions;
}
export = all;
