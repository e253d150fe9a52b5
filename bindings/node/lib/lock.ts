import { fileURLToPath } from "node:url";

import { onAbort } from "./abort.js";
import { native } from "./addon.js";
import { checked } from "./check.js";
import { cleanUpAtExit } from "./cleanup.js";
import { must, TenureError } from "./errors.js";
import { Held, tellOverdue } from "./held.js";
import type { Failure, NativeGuard, NativeLock, NativeOptions, NativeTeller, NativeWait } from "./native.js";

export interface LockOptions {
  /** What this holder calls itself: others see it in the lock file, in errors and in `tenure status`. */
  label?: string | undefined;
  /**
   * How long a tenure is meant to last, in milliseconds. Then the handle emits `overdue`; with `overrun: "revoke"` the
   * lock is released as well, and the handle is lost.
   */
  maxHold?: number | undefined;
  /** What happens after `maxHold`. "report" by default: age alone never ends a live holder's lock. */
  overrun?: "report" | "revoke" | undefined;
  /**
   * May this process acquire again what it holds? The lock then ends with the last release. Off by default. Tasks and
   * worker threads of the process do not exclude each other then.
   */
  reentrant?: boolean | undefined;
  /**
   * "lock-file" (by default) shows `<path>.lock`: programs that know only such files are excluded and exclude us.
   * "flock" locks the path itself, as `flock(1)` does.
   */
  style?: "lock-file" | "flock" | undefined;
  /** Make missing parent folders? On by default. */
  createParents?: boolean | undefined;
  /**
   * How often, in milliseconds, the lock file's date is made new, so that programs that judge by age find a live holder
   * young. Ten minutes by default. A thread of the library does it, whatever the event loop is at.
   */
  refreshInterval?: number | undefined;
}

export interface WaitOptions {
  /** How long to wait, in milliseconds: `Infinity` by default, 0 is one try. */
  timeout?: number | undefined;
  /** Ends the wait at once: the promise is rejected with the signal's reason, and nothing is held. */
  signal?: AbortSignal | undefined;
}

/** What may be locked: a path, its bytes, or a `file:` URL. */
export type Path = string | Uint8Array | URL;

/** @internal A path as the Rust half takes it. */
export function target(path: Path): string | Uint8Array {
  checked.path(path);
  return path instanceof URL ? fileURLToPath(path) : path;
}

let teller: NativeTeller | undefined;

/** A lock that is opened once and acquired many times. Its folder is resolved when it is opened. */
export class Lock {
  readonly #native: NativeLock;

  constructor(path: Path, options: LockOptions = {}) {
    checked.opening(options);
    const where = target(path);
    const { NativeLock, NativeTeller } = native();
    cleanUpAtExit();
    // One for all: each would be a handle that libuv walks, for as long as its lock is there.
    if (options.maxHold !== undefined) teller ??= new NativeTeller(tellOverdue);
    this.#native = must<NativeLock>(NativeLock.open(where, known(options), options.maxHold === undefined ? null : teller));
  }

  /**
   * Acquires, waiting as the options say. Rejects with a `TenureError`: `TENURE_BUSY` once `timeout` is over, another
   * code where it cannot be locked at all; with the reason of `signal` where that is aborted.
   */
  async acquire(options: WaitOptions = {}): Promise<Held> {
    checked.waiting(options);
    const { signal, timeout = Infinity } = options;
    signal?.throwIfAborted();
    if (timeout <= 0) return this.acquireSync();
    const begun: NativeGuard | NativeWait | Failure = this.#native.begin();
    return new Held(begun instanceof native().NativeWait ? await wait(begun, timeout, signal) : must<NativeGuard>(begun));
  }

  /** One try, which does not wait: `TENURE_BUSY` is thrown where another holds. */
  acquireSync(): Held {
    return new Held(must<NativeGuard>(this.#native.tryAcquire()));
  }
}

/** As long as a timer can run. */
const LONGEST = 2 ** 31 - 1;

function wait(waiting: NativeWait, timeout: number, signal: AbortSignal | undefined): Promise<NativeGuard> {
  // What comes of it comes from the event loop, whose stack says nothing of the caller.
  const asked = new Error();
  Error.captureStackTrace(asked, wait);
  return new Promise((resolve, reject) => {
    const end = performance.now() + timeout;
    const { NativeGuard } = native();
    let timer: NodeJS.Timeout | undefined;
    let forget: (() => void) | undefined;
    let over = false;
    const leave = () => {
      over = true;
      clearTimeout(timer);
      forget?.();
    };
    const settle = (outcome: NativeGuard | Failure | null) => {
      if (outcome === null) return;
      leave();
      if (outcome instanceof NativeGuard) resolve(outcome);
      else reject(new TenureError(outcome).askedBy(asked));
    };
    const late = () => {
      const left = end - performance.now();
      if (left > 0) timer = setTimeout(late, Math.min(Math.ceil(left), LONGEST));
      else settle(waiting.giveUp());
    };
    // It listens before anything can end it: what ends it ends the listening, which keeps the process alive.
    waiting.listen(() => settle(waiting.poll()));
    settle(waiting.poll());
    if (over) return;
    if (signal) {
      forget = onAbort(signal, () => {
        waiting.cancel();
        leave();
        reject(signal.reason);
      });
    }
    if (timeout !== Infinity) late();
  });
}

/** Acquires the lock of `path`. Rejects as `Lock.acquire` does. */
export async function lock(path: Path, options: LockOptions & WaitOptions = {}): Promise<Held> {
  checked.both("lock", options);
  return begin(path, options);
}

function begin(path: Path, { timeout, signal, ...options }: LockOptions & WaitOptions): Promise<Held> {
  signal?.throwIfAborted();
  return new Lock(path, options).acquire({ timeout, signal });
}

/** Acquires, calls `fn`, and releases, whatever comes of it. */
export async function withLock<T>(path: Path, fn: (held: Held) => T | PromiseLike<T>): Promise<T>;
export async function withLock<T>(
  path: Path,
  options: LockOptions & WaitOptions,
  fn: (held: Held) => T | PromiseLike<T>,
): Promise<T>;
export async function withLock<T>(
  path: Path,
  ...rest: [unknown, unknown?]
): Promise<T> {
  const fn = rest.at(-1);
  const options = rest.length > 1 ? rest[0] : {};
  if (typeof fn !== "function" || rest.length > 2) {
    throw new TypeError("withLock(path, fn) or withLock(path, options, fn): the function comes last");
  }
  checked.both("withLock", options);
  const held = await begin(path, options as LockOptions & WaitOptions);
  let result: T;
  try {
    result = await fn(held);
  } catch (error) {
    // What went wrong first is what the caller should see.
    await held.release().catch(() => {});
    throw error;
  }
  await held.release();
  return result;
}

function known(options: LockOptions): NativeOptions {
  const native: NativeOptions = {};
  if (options.label !== undefined) native.label = options.label;
  if (options.style !== undefined) native.style = options.style;
  if (options.reentrant !== undefined) native.reentrant = options.reentrant;
  if (options.maxHold !== undefined) native.maxHold = options.maxHold;
  if (options.overrun !== undefined) native.revoke = options.overrun === "revoke";
  if (options.createParents !== undefined) native.createParents = options.createParents;
  if (options.refreshInterval !== undefined) native.refreshInterval = options.refreshInterval;
  return native;
}
