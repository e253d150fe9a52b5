/**
 * The interface of the package `proper-lockfile`. What differs, and what the two keep out of each other's way, is listed
 * in docs/from-proper-lockfile.md of the project.
 */
import { realpathSync, statSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { native } from "./addon.js";
import { TenureError } from "./errors.js";
import type { Held } from "./held.js";
import { Lock } from "./lock.js";

import { pauses, type Retries, targetOf, total } from "./retries.js";

namespace lockfile {
  export interface RetryOptions extends Retries {
    forever?: boolean | undefined;
    maxRetryTime?: number | undefined;
  }

  export interface CheckOptions {
    /** Accepted, and not used: whether a holder lives is known, not guessed. */
    stale?: number | undefined;
    /** Follow links? The file must exist then. On by default. */
    realpath?: boolean | undefined;
    /** The lock file; its name must end in `.lock`. */
    lockfilePath?: string | undefined;
    /** Not to be had here: an error. */
    fs?: undefined;
  }

  export type UnlockOptions = Pick<CheckOptions, "realpath" | "lockfilePath" | "fs">;

  export interface LockOptions extends CheckOptions {
    /** How often, in milliseconds, the lock file's date is made new. Half of `stale` by default. */
    update?: number | null | undefined;
    retries?: number | RetryOptions | undefined;
    /** Called with `ECOMPROMISED` if the lock is lost. By default it throws. */
    onCompromised?: ((error: Error & { code: "ECOMPROMISED" }) => void) | undefined;
  }
}

// What this thread holds, by the file's canonical path.
const owned = new Map<string, Held>();
const HELD = "Lock file is already being held";
/** As long as a timer can run. */
const LONGEST = 2 ** 31 - 1;

function failure(code: string, message: string, more: object = {}): Error {
  return Object.assign(new Error(message), { code, ...more });
}

function refuseFs({ fs }: { fs?: undefined }): void {
  if (fs) throw failure("ENOTSUP", "a file system of the caller's own cannot be locked");
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

/** With which path it is locked. What is given counts, also where it is `undefined`. */
function follows(options: lockfile.UnlockOptions): boolean {
  return Boolean({ realpath: true, ...options }.realpath);
}

/** Where its lock is, and how it is opened. */
function opened(file: string, options: lockfile.LockOptions): Lock {
  const stale = Math.max(options.stale === undefined ? 10_000 : options.stale || 0, 2000);
  const update = Math.max(Math.min(options.update == null ? stale / 2 : options.update || 0, stale / 2), 1000);
  return new Lock(targetFor(file, options), { refreshInterval: update, createParents: false });
}

function targetFor(file: string, options: lockfile.UnlockOptions): string {
  return options.lockfilePath ? targetOf(resolve(options.lockfilePath)) : file;
}

/** A lock that stays busy, as the package calls it: by a lock file, or by the directory that the package makes. */
function held(error: unknown, file: string, target: string): Error | undefined {
  if (!(error instanceof TenureError)) return undefined;
  const busy = error.code === "TENURE_BUSY" || (error.code === "TENURE_IN_THE_WAY" && isDirectory(`${target}.lock`));
  return busy ? failure("ELOCKED", HELD, { file, holder: error.holder, cause: error }) : undefined;
}

function isDirectory(path: string): boolean {
  // Gone again is as good: it was there.
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? true;
}

function own(file: string, tenure: Held, options: lockfile.LockOptions) {
  owned.set(file, tenure);
  const { onCompromised = (error: Error) => { throw error; } } = options;
  tenure.on("lost", (error: TenureError) => {
    if (owned.get(file) !== tenure) return;
    owned.delete(file);
    // What is left of it keeps nobody out any longer, not this process either.
    void tenure.release().catch(() => {});
    // Thrown by the caller's function, it is an uncaught exception.
    queueMicrotask(() => onCompromised(failure("ECOMPROMISED", error.message, { cause: error }) as never));
  });
  return () => {
    if (owned.get(file) !== tenure) throw failure("ERELEASED", "Lock is already released");
    giveUp(file, tenure);
  };
}

/** Where it was lost meanwhile, nobody is told but by a warning, as there is nothing left to release. */
function giveUp(file: string, tenure: Held): void {
  owned.delete(file);
  try {
    tenure.releaseSync();
  } catch (error) {
    if (!(error instanceof TenureError) || error.code !== "TENURE_LOST") throw error;
    process.emitWarning(`it was lost before its release: ${error.message}`, { code: error.code });
  }
}

async function lockfile(file: string, options: lockfile.LockOptions = {}): Promise<() => Promise<void>> {
  refuseFs(options);
  const canonical = follows(options) ? await realpath(file) : resolve(file);
  const retries = retriesOf(options);
  const end = performance.now() + Math.min(total(retries), retries.maxRetryTime);
  const lock = opened(canonical, options);
  const again = pauses(retries);
  for (;;) {
    try {
      const tenure = await lock.acquire({ timeout: Math.max(0, end - performance.now()) });
      const release = own(canonical, tenure, options);
      return async () => release();
    } catch (error) {
      const locked = held(error, canonical, targetFor(canonical, options));
      if (!locked) throw error;
      // A directory tells nobody when it goes.
      const pause = again.next();
      const left = end - performance.now();
      if (pause.done || left <= 0) throw locked;
      await sleep(Math.min(pause.value, left, LONGEST));
    }
  }
}

function lockSync(file: string, options: lockfile.LockOptions = {}): () => void {
  refuseFs(options);
  if (retriesOf(options).retries > 0) throw failure("ESYNC", "Cannot use retries with the sync api");
  const canonical = follows(options) ? realpathSync(file) : resolve(file);
  try {
    return own(canonical, opened(canonical, options).acquireSync(), options);
  } catch (error) {
    throw held(error, canonical, targetFor(canonical, options)) ?? error;
  }
}

async function unlock(file: string, options: lockfile.UnlockOptions = {}): Promise<void> {
  refuseFs(options);
  give(follows(options) ? await realpath(file) : resolve(file));
}

function unlockSync(file: string, options: lockfile.UnlockOptions = {}): void {
  refuseFs(options);
  give(follows(options) ? realpathSync(file) : resolve(file));
}

function give(file: string): void {
  const tenure = owned.get(file);
  if (!tenure) throw failure("ENOTACQUIRED", "Lock is not acquired/owned by you");
  giveUp(file, tenure);
}

async function check(file: string, options: lockfile.CheckOptions = {}): Promise<boolean> {
  refuseFs(options);
  return isHeld(targetFor(follows(options) ? await realpath(file) : resolve(file), options));
}

function checkSync(file: string, options: lockfile.CheckOptions = {}): boolean {
  refuseFs(options);
  return isHeld(targetFor(follows(options) ? realpathSync(file) : resolve(file), options));
}

function isHeld(target: string): boolean {
  const found = native().inspect(target);
  if ("state" in found) return found.state === "held" || found.state === "unknown";
  if (found.code === "TENURE_IN_THE_WAY" && isDirectory(`${target}.lock`)) return true;
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
