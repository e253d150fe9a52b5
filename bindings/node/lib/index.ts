/**
 * A lock between programs. The lock of a program that died never blocks others, and the holder is always known.
 */
import { native } from "./addon.js";
import { checkOptions, rule, type Rule } from "./check.js";
import { unwrap } from "./errors.js";
import { type Path, target } from "./lock.js";
import type { CircleWait, PastTenure, Status } from "./native.js";

export { TenureError, type TenureErrorCode } from "./errors.js";
export { Guard, type Previous } from "./guard.js";
export { acquireAll, Lock, lock, type LockOptions, type Path, type WaitOptions, withLock } from "./lock.js";
export type { CircleWait, Holder, LeaseLeft, Overrun, PastTenure, Status, SuspendedHolder } from "./native.js";
export { type Meanwhile, type Resumed, Suspended } from "./suspended.js";
export { task, type TaskOptions } from "./task.js";

/**
 * Returns the state of the lock of `path`. Does not acquire or change anything.
 *
 * @example
 * const { state, holder } = await status("sessions/main.jsonl");
 * if (state === "held") console.log(`held by ${holder?.text}`);
 */
export async function status(path: Path): Promise<Status> {
  return unwrap<Status>(await native().status(target(path)));
}

/** Returns the state of the lock of `path`, like `status`. On a server it blocks the thread until the server has answered. */
export function statusSync(path: Path): Status {
  return unwrap<Status>(native().statusSync(target(path)));
}

/** The options of `list`. */
export interface ListOptions {
  /** Also lists the locks in the folders below. Links are not followed. A name on a server always lists all below it. */
  recursive?: boolean | undefined;
}

const LIST = { recursive: rule.flag } satisfies Record<keyof ListOptions, Rule>;

/**
 * Returns the locks in a folder, or below a name on a server, that are held or stale, sorted by path. A missing folder has
 * none.
 *
 * @example
 * for (const { target, state } of await list("sessions", { recursive: true })) console.log(target, state);
 */
export async function list(folder: Path, options: ListOptions = {}): Promise<Status[]> {
  checkOptions("list", options, LIST);
  return unwrap<Status[]>(await native().list(target(folder), options.recursive === true));
}

/**
 * Returns the slots of `path` (the option `slots`) that are held or stale, in the order of their numbers. A slot is a lock of its
 * own: its `target` is `<path>.slot-0` and so on, which `status` and `breakLock` take.
 *
 * @example
 * for (const { target, state, holder } of await slots("gpu")) console.log(target, state, holder?.text);
 */
export async function slots(path: Path): Promise<Status[]> {
  return unwrap<Status[]>(await native().slots(target(path)));
}

/**
 * Returns the deadlocks in which a lock in a folder has a part: lists of programs, each of which holds a lock and waits for the
 * next one's.
 *
 * A wait that would close such a circle rejects with `TENURE_WOULD_DEADLOCK`, so these are of programs with `deadlockCheck: false`.
 * Only what is proven is reported: no waits outside of a `task`, and no programs that only know `flock(2)`.
 *
 * @example
 * for (const circle of await deadlocks("sessions", { recursive: true })) console.log(circle.map(({ text }) => text));
 */
export async function deadlocks(folder: Path, options: ListOptions = {}): Promise<CircleWait[][]> {
  checkOptions("deadlocks", options, LIST);
  return unwrap<CircleWait[][]>(await native().deadlocks(target(folder), options.recursive === true));
}

/** The options of `breakLock`. */
export interface BreakOptions {
  /**
   * Breaks the lock of a live holder too. The holder may still be working, its `check()` throws `TENURE_LOST` from then on,
   * and the next waiter acquires the lock.
   */
  force?: boolean | undefined;
}

const BREAK = { force: rule.flag } satisfies Record<keyof BreakOptions, Rule>;

/**
 * Breaks the lock of `path`, as an operator does when its holder hangs. Returns whether there was a lock to break. Rejects
 * with `TENURE_BUSY` for a holder that lives or may live, unless `force` is true.
 *
 * @example
 * if (await breakLock("sessions/main.jsonl", { force: true })) console.log("the lock is free");
 */
export async function breakLock(path: Path, options: BreakOptions = {}): Promise<boolean> {
  checkOptions("breakLock", options, BREAK);
  return unwrap<boolean>(await native().breakLock(target(path), options.force === true));
}

/**
 * Returns the last tenures of the lock of `path` and its last failed waits, oldest first, if its holders keep a history.
 *
 * @example
 * for (const { since, label, ended, exitCode } of await history("backup")) console.log(new Date(since), label, ended, exitCode);
 */
export async function history(path: Path): Promise<PastTenure[]> {
  return unwrap<PastTenure[]>(await native().history(target(path)));
}
