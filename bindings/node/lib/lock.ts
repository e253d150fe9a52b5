import { fileURLToPath } from "node:url";

import { unlessAborted } from "./abort.js";
import { native } from "./addon.js";
import { checkOptions, checkPath, oneOf, rule, type Rule } from "./check.js";
import { cleanUpAtExit } from "./cleanup.js";
import { unwrap } from "./errors.js";
import { emitOverrun, Guard } from "./guard.js";
import type {
  NativeGuard,
  NativeLock,
  NativeOptions,
  NativeOverrunListener,
  Status,
} from "./native.js";
import { giveUpAtExit, serverOf } from "./server.js";
import { currentTask, outsideOfTasks } from "./task.js";
import { finish as finishNative, type Started, WAIT, type WaitOptions } from "./wait.js";

export type { WaitOptions } from "./wait.js";

/**
 * The options of `new Lock()`. A lock on a server has no `style`, `record`, `stealAfter`, `createParents` and
 * `refreshInterval`: they are refused with `TENURE_UNSUPPORTED`. The options of servers (`ttl=`, `ca=` ..) are in the target.
 */
export interface LockOptions {
  /** A name for this holder, shown in the lock file, in errors and by `status`. */
  label?: string | undefined;
  /**
   * The intended maximum time of a hold, in milliseconds. After that, the guard emits `overrun`. With
   * `overrun: "revoke"` the lock is also released, and the guard is lost.
   */
  maxHold?: number | undefined;
  /** The action after `maxHold`. "report" by default. */
  overrun?: "report" | "revoke" | undefined;
  /**
   * Steals the lock from a live holder that has held it for this long, or for longer than its own `maxHold`, in
   * milliseconds. The stolen holder may still be working. By default, only a dead holder's lock is taken over.
   */
  stealAfter?: number | undefined;
  /**
   * Allows this process to acquire again while it holds the lock, which the last release frees. Tasks and worker threads
   * of the process then do not exclude each other. Off by default.
   */
  reentrant?: boolean | undefined;
  /**
   * Rejects with `TENURE_WOULD_DEADLOCK` where an acquire would wait for its own end: where its task holds the lock (see `task`),
   * where the wait would close a circle, and where the holder waits for this process, as `tenure run` does. On by default; turn
   * it off if guards are passed to other tasks, which release them.
   */
  deadlockCheck?: boolean | undefined;
  /**
   * "lock-file" (the default) creates `<path>.lock` while the lock is held, which also excludes programs that only know
   * lock files. "flock" locks the path itself, and excludes `flock(1)`.
   */
  style?: "lock-file" | "flock" | undefined;
  /** Acquires shared locks, which exclude exclusive locks but not each other. In flock style, or on a server. Off by default. */
  shared?: boolean | undefined;
  /** Keeps a record of the holder. Without, the lock is only the `flock` on the path. On by default. */
  record?: boolean | undefined;
  /** Creates missing parent folders. On by default. */
  createParents?: boolean | undefined;
  /**
   * The interval at which the lock file's date is updated while the lock is held, in milliseconds, for programs that detect
   * stale locks by age. Ten minutes by default. A thread of the library does it, so that a busy event loop does not delay it.
   */
  refreshInterval?: number | undefined;
  /**
   * Lets up to this many hold the lock at once, each with a slot of its own: `guard.slot`. At most as many hold as the
   * smallest number of all holders. A lock without slots is another lock.
   */
  slots?: number | undefined;
  /**
   * The action when the lock is busy. "skip" rejects as busy immediately. "queue-one" waits, but rejects with
   * `TENURE_SKIPPED` if another acquire with it waits already. "replace" asks the holder's process to end, by SIGTERM, and
   * after `grace` by SIGKILL. "wait" by default.
   */
  ifBusy?: "wait" | "skip" | "queue-one" | "replace" | undefined;
  /** The time that "replace" leaves the holder, in milliseconds. Five seconds by default. */
  grace?: number | undefined;
  /** Rejects with `TENURE_SKIPPED` if the last hold that called `markSuccessful()` began less than this ago, in milliseconds. */
  notMoreOftenThan?: number | undefined;
  /**
   * Keeps the last tenures of this lock, so many, and as many failed waits, for `history`. None by default, and 10,000 at most.
   */
  history?: number | undefined;
}

// A misspelled timeout must not mean an endless wait. In the order in which an error names the options.
const LOCK = {
  label: rule.text,
  maxHold: rule.period,
  overrun: oneOf("report", "revoke"),
  stealAfter: rule.period,
  reentrant: rule.flag,
  deadlockCheck: rule.flag,
  style: oneOf("lock-file", "flock"),
  shared: rule.flag,
  record: rule.flag,
  createParents: rule.flag,
  refreshInterval: rule.period,
  slots: rule.slots,
  ifBusy: oneOf("wait", "skip", "queue-one", "replace"),
  grace: rule.period,
  notMoreOftenThan: rule.period,
  history: rule.count,
} satisfies Record<keyof LockOptions, Rule>;

/**
 * A path to lock: a string, its bytes, or a `file:` URL. Or a name on a server, as a string or a URL:
 * `etcd://etcd-1:2379,etcd-2:2379/sessions/main?ttl=10s`, `postgres://app@db/prod?lock=sessions/main`. The project's
 * docs/distributed.md describes these targets.
 */
export type Path = string | Uint8Array | URL;

/** @internal Converts a path for the native half. */
export function target(path: Path): string | Uint8Array {
  checkPath(path);
  if (!(path instanceof URL)) return path;
  return serverOf(path.href) === null ? fileURLToPath(path) : path.href;
}

let overrunListener: NativeOverrunListener | undefined;

/**
 * A lock that is opened once and acquired many times, which is faster than `lock`. Links in its folder are resolved when it
 * is opened.
 *
 * @example
 * const sessions = new Lock("sessions/main.jsonl", { label: "gateway" });
 * await using guard = await sessions.acquire({ timeout: 10_000 });
 */
export class Lock {
  readonly #native: NativeLock;
  readonly #isOnServer: boolean;

  constructor(path: Path, options: LockOptions = {}) {
    checkOptions("Lock", options, LOCK);
    const [where, ...rest] = opening(path, options);
    this.#native = unwrap<NativeLock>(native().NativeLock.open(where, ...rest));
    this.#isOnServer = serverOf(where) !== null;
  }

  /**
   * Acquires the lock. Rejects with a `TenureError`, whose code is `TENURE_BUSY` after the timeout, or with the reason of
   * `signal` after its abort.
   *
   * @example
   * const guard = await sessions.acquire({ timeout: 10_000, signal: AbortSignal.timeout(5000) });
   */
  async acquire(options: WaitOptions = {}): Promise<Guard> {
    checkOptions("acquire", options, WAIT);
    const { signal, timeout = Infinity } = options;
    signal?.throwIfAborted();
    return finish(this.#native.start(timeout, currentTask()), signal);
  }

  /**
   * Makes one attempt to acquire, without waiting. Throws `TENURE_BUSY` if the lock is held. On a server it blocks the thread
   * until the server has answered, for five seconds at most; `acquire({ timeout: 0 })` does not.
   */
  acquireSync(): Guard {
    return new Guard(unwrap<NativeGuard>(this.#native.tryAcquire(currentTask())));
  }

  /** @internal Returns the indexes of locks in the order in which `acquireAll` acquires them. */
  static async orderOf(locks: Lock[], timeout: number): Promise<number[]> {
    const all = locks.map((lock) => lock.#native);
    // Where several are on servers, these may have to be asked.
    const mayAsk = locks.filter((lock) => lock.#isOnServer).length > 1;
    return unwrap<number[]>(mayAsk ? await native().orderOf(all, timeout) : native().orderOfSync(all, timeout));
  }

  /** Returns the state of the lock. Does not acquire or change anything. */
  async status(): Promise<Status> {
    return unwrap<Status>(await this.#native.status());
  }

  /** Returns the state of the lock, like `status()`. On a server it blocks the thread until the server has answered. */
  statusSync(): Status {
    return unwrap<Status>(this.#native.statusSync());
  }
}

/** Returns the guard of an acquire that has started, after the wait if it has to wait. */
function finish(started: Started, signal: AbortSignal | undefined): Guard | Promise<Guard> {
  const finished = finishNative(started, signal);
  return finished instanceof Promise ? finished.then((guard) => new Guard(guard)) : new Guard(finished);
}

/**
 * Acquires the lock of `path`. Rejects like `Lock.acquire`.
 *
 * @example
 * await using guard = await lock("sessions/main.jsonl", { timeout: 10_000, label: "gateway" });
 */
export async function lock(path: Path, options: LockOptions & WaitOptions = {}): Promise<Guard> {
  checkOptions("lock", options, { ...LOCK, ...WAIT });
  return acquire(path, options);
}

/** Acquires a lock whose options are checked. The result may be there at once. */
function acquire(path: Path, all: LockOptions & WaitOptions): Guard | Promise<Guard> {
  const { timeout = Infinity, signal, ...options } = all;
  signal?.throwIfAborted();
  return finish(native().NativeLock.openAndStart(...opening(path, options), timeout, currentTask()), signal);
}

/**
 * Acquires several locks, all or none: of files, of servers, or both. Resolves with their guards in the order of `locks`.
 *
 * All programs acquire in the same order, as `tenure run` with several targets does, whatever the order of `locks`. So they
 * never wait for each other in a circle. One timeout serves all of them. If one acquire fails, those before it are released.
 * Rejects like `Lock.acquire`; with `TENURE_INVALID_TARGET` if a lock is named twice, and with `TENURE_LOST` if the lease of one
 * was lost while another was waited for.
 *
 * Locks of one name on several servers are ordered by what these say of themselves. Each of them is asked first, by a thread of
 * libuv's pool, and has as long to answer as in `Lock.acquire`.
 *
 * @example
 * const [source, copy] = await acquireAll([new Lock("source"), new Lock("copy")], { timeout: 10_000 });
 */
export async function acquireAll(locks: Iterable<Lock>, options: WaitOptions = {}): Promise<Guard[]> {
  checkOptions("acquireAll", options, WAIT);
  const { timeout = Infinity, signal } = options;
  const [all, began, guards] = [[...locks], performance.now(), new Map<number, Guard>()];
  try {
    signal?.throwIfAborted();
    for (const at of await unlessAborted(Lock.orderOf(all, timeout), signal)) {
      const left = Math.max(0, timeout - (performance.now() - began));
      guards.set(at, await all[at]!.acquire({ timeout: left, signal }));
    }
    for (const guard of guards.values()) if (guard.lease) guard.check();
  } catch (error) {
    for (const guard of [...guards.values()].reverse()) await guard.release().catch(() => {});
    throw error;
  }
  return all.map((_, at) => guards.get(at)!);
}

/**
 * Acquires the lock of `path`, calls `fn`, and releases the lock, also if `fn` fails. An error of `fn` takes precedence over
 * one of the release.
 *
 * @example
 * const lines = await withLock("data", { timeout: 10_000 }, async (guard) => append(guard.fence));
 */
export async function withLock<T>(path: Path, fn: (guard: Guard) => T | PromiseLike<T>): Promise<T>;
export async function withLock<T>(
  path: Path,
  options: LockOptions & WaitOptions,
  fn: (guard: Guard) => T | PromiseLike<T>,
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
  checkOptions("withLock", options, { ...LOCK, ...WAIT });
  const guard = await acquire(path, options as LockOptions & WaitOptions);
  return releaseAfter(guard, () => fn(guard));
}

/** @internal Calls `fn`, and releases. An error of `fn` takes precedence over one of the release. */
export async function releaseAfter<T>(held: { release(): Promise<void> }, fn: () => T | PromiseLike<T>): Promise<T> {
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

/** Returns the arguments that open a lock. */
function opening(path: Path, options: LockOptions): [string | Uint8Array, NativeOptions | null, NativeOverrunListener | null] {
  const where = target(path);
  cleanUpAtExit();
  if (serverOf(where) !== null) giveUpAtExit();
  const { maxHold } = options;
  // One listener for all locks, as libuv walks each listener's handle while it exists.
  if (maxHold !== undefined) overrunListener ??= outsideOfTasks(() => new (native().NativeOverrunListener)(emitOverrun));
  return [where, nativeOptions(options), maxHold === undefined ? null : (overrunListener ?? null)];
}

/** Returns the options for the native half, which reads each one; `null` where none is set. */
function nativeOptions({ overrun, ...options }: LockOptions): NativeOptions | null {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  if (given.length === 0 && overrun === undefined) return null;
  return { ...(Object.fromEntries(given) as NativeOptions), revoke: overrun === "revoke" };
}
