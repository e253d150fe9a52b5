import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";

import { must, TenureError } from "./errors.js";
import { Held } from "./held.js";
import {
  type Failure,
  installCleanup,
  NativeGuard,
  NativeLock,
  type NativeOptions,
  NativeWait,
  type Overdue,
} from "./native.js";

export interface LockOptions {
  /** What this holder calls itself: others see it in the lock file, in errors and in `tenure status`. */
  label?: string | undefined;
  /**
   * How long a tenure is meant to last, in milliseconds. Then the handle emits `overdue`; with `overrun: "revoke"` the
   * lock is released as well, and the handle is lost.
   */
  maxHold?: number | undefined;
  /** What happens after `maxHold`. "report" by default: a live holder is never robbed for its age. */
  overrun?: "report" | "revoke" | undefined;
  /** May this process acquire again what it holds? The lock then ends with the last release. Off by default. */
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

type Path = string | Uint8Array | URL;

/** A lock that is opened once and acquired many times. Its folder is resolved when it is opened. */
export class Lock {
  readonly #native: NativeLock;
  #held: Held | undefined;

  constructor(path: Path, options: LockOptions = {}) {
    cleanUpAtExit();
    const target = path instanceof URL ? fileURLToPath(path) : path;
    const overdue = (event: Overdue) => void this.#held?.emit("overdue", event);
    const native = NativeLock.open(target, known(options), options.maxHold === undefined ? null : overdue);
    this.#native = must<NativeLock>(native);
  }

  /** Acquires, waiting as the options say. */
  async acquire(options: WaitOptions = {}): Promise<Held> {
    const { signal, timeout = Infinity } = options;
    if (Number.isNaN(timeout)) throw new TypeError("timeout is not a number");
    signal?.throwIfAborted();
    if (timeout <= 0) return this.acquireSync();
    const begun: NativeGuard | NativeWait | Failure = this.#native.begin();
    return this.#grant(begun instanceof NativeWait ? await wait(begun, timeout, signal) : must<NativeGuard>(begun));
  }

  /** One try, which does not wait: `TENURE_BUSY` is thrown where another holds. */
  acquireSync(): Held {
    return this.#grant(must<NativeGuard>(this.#native.tryAcquire()));
  }

  #grant(guard: NativeGuard): Held {
    return (this.#held = new Held(guard));
  }
}

/** As long as a timer can run. */
const LONGEST = 2 ** 31 - 1;

function wait(waiting: NativeWait, timeout: number, signal: AbortSignal | undefined): Promise<NativeGuard> {
  return new Promise((resolve, reject) => {
    const end = performance.now() + timeout;
    let timer: NodeJS.Timeout | undefined;
    const settle = (outcome: NativeGuard | Failure | null) => {
      if (outcome === null) return;
      leave();
      if (outcome instanceof NativeGuard) resolve(outcome);
      else reject(new TenureError(outcome));
    };
    const leave = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    };
    const abort = () => {
      waiting.cancel();
      leave();
      reject(signal?.reason);
    };
    const late = () => {
      const left = end - performance.now();
      if (left > 0) timer = setTimeout(late, Math.min(Math.ceil(left), LONGEST));
      else settle(waiting.giveUp());
    };
    signal?.addEventListener("abort", abort, { once: true });
    if (timeout !== Infinity) late();
    waiting.listen(() => settle(waiting.poll()));
    settle(waiting.poll());
  });
}

/** Acquires the lock of `path`. */
export async function lock(path: Path, options: LockOptions & WaitOptions = {}): Promise<Held> {
  options.signal?.throwIfAborted();
  return new Lock(path, options).acquire(options);
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
  second: (LockOptions & WaitOptions) | ((held: Held) => T | PromiseLike<T>),
  third?: (held: Held) => T | PromiseLike<T>,
): Promise<T> {
  const [options, fn] = typeof second === "function" ? [{}, second] : [second, third];
  if (typeof fn !== "function") throw new TypeError("withLock wants a function");
  const held = await lock(path, options);
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

let installed = false;

/** Lock files go at `process.exit()` and when a signal ends the process. */
function cleanUpAtExit() {
  if (installed) return;
  installed = true;
  // Of these two Node has a handler that ends the process, as long as the program listens to neither. A worker cannot
  // tell whether it does.
  const ending = (["SIGINT", "SIGTERM"] as const).filter((name) => isMainThread && !process.listenerCount(name));
  installCleanup(ending.map((name) => constants.signals[name]));
}
